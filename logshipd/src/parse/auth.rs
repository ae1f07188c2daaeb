//! What `sshd`, `sudo` and the modules of PAM say of who came in. Source: OpenSSH 8.4 to 10, sudo 1.9,
//! Linux-PAM 1.5.

use memchr::memmem;

use crate::document::Document;

use super::cluster::number_behind;
use super::scan::Scanner;
use super::{Context, address};

/// Writes what a message of a program tells; the message itself is written by the caller.
pub(super) fn write(program: &[u8], text: &[u8], context: &Context, to: &mut Document) {
    if program == b"sudo" && memmem::find(text, b" COMMAND=").is_some() {
        return sudo(text, to);
    }
    if text.starts_with(b"pam_") {
        return session(text, to);
    }
    if program.starts_with(b"sshd") {
        ssh(text, context, to);
    }
}

fn ssh(text: &[u8], context: &Context, to: &mut Document) {
    let mut scanner = Scanner::new(text);
    let (action, outcome) = if scanner.skip(b"Accepted ") {
        ("ssh_login", "success")
    } else if scanner.skip(b"Failed ") {
        ("ssh_login", "failure")
    } else if scanner.skip(b"Invalid user ") {
        ("ssh_invalid_user", "failure")
    } else if text.starts_with(b"Disconnected from ") || text.starts_with(b"Received disconnect") {
        ("ssh_disconnect", "success")
    } else if text.starts_with(b"Connection closed by ")
        || text.starts_with(b"Connection reset by ")
    {
        ("ssh_connection_closed", "success")
    } else if text.starts_with(b"Server listening on ") {
        to.word("event.action", "ssh_listening");
        return;
    } else {
        return;
    };
    to.word("event.action", action);
    if action != "ssh_disconnect" && action != "ssh_connection_closed" {
        to.word("event.outcome", outcome);
        to.texts("event.category", [&b"authentication"[..]]);
    }
    user_and_method(action, scanner, text, to);
    let from = [&b" from "[..], b" by ", b" user "].iter().find_map(|mark| {
        let at = memmem::rfind(text, mark)?;
        let words = text[at + mark.len()..].split(|&byte| byte == b' ').take(3);
        words.into_iter().find(|word| address::ip(word).is_some())
    });
    if let Some(source) = from {
        address::source(to, source, context.privacy);
    }
    if let Some(port) = number_behind(text, b" port ").filter(|port| (1..=65_535).contains(port)) {
        to.long("source.port", port);
    }
}

fn user_and_method(action: &str, mut scanner: Scanner, text: &[u8], to: &mut Document) {
    match action {
        "ssh_login" => {
            to.text("ssh.method", scanner.word());
            if scanner.skip(b"for invalid user ") || scanner.skip(b"for ") {
                to.text_of("user.name", scanner.until_text(b" from ").filter(|n| !n.is_empty()));
            }
            if let Some(at) = memmem::find(text, b" SHA256:") {
                to.text("ssh.signature", Scanner::new(&text[at + 1..]).word());
            }
        }
        "ssh_invalid_user" => {
            to.text_of("user.name", scanner.until_text(b" from ").filter(|n| !n.is_empty()));
        }
        _ => {
            for mark in [&b"authenticating user "[..], b"invalid user ", b" user "] {
                if let Some(at) = memmem::find(text, mark) {
                    let name = Scanner::new(&text[at + mark.len()..]).word();
                    if !name.is_empty() {
                        return to.text("user.name", name);
                    }
                }
            }
        }
    }
}

/// `pam_unix(sshd:session): session opened for user root(uid=0) by (uid=0)`
fn session(text: &[u8], to: &mut Document) {
    let mut scanner = Scanner::new(text);
    let (action, outcome) = if scanner.until_text(b"session opened for user ").is_some() {
        ("session_opened", "success")
    } else if scanner.until_text(b"session closed for user ").is_some() {
        ("session_closed", "success")
    } else if memmem::find(text, b"authentication failure").is_some() {
        scanner.until_text(b" user=");
        ("authentication_failure", "failure")
    } else {
        return;
    };
    to.word("event.action", action);
    to.word("event.outcome", outcome);
    let name = scanner.take_while(|byte| !matches!(byte, b'(' | b' '));
    if !name.is_empty() && !name.starts_with(b"pam_") {
        to.text("user.name", name);
    }
}

/// `alice : TTY=pts/0 ; PWD=/home/alice ; USER=root ; COMMAND=/usr/bin/id`
fn sudo(text: &[u8], to: &mut Document) {
    let mut scanner = Scanner::new(text.trim_ascii_start());
    to.word("event.action", "sudo");
    to.text("user.name", scanner.word());
    let has_failed = [&b"NOT in sudoers"[..], b"incorrect password", b"command not allowed"]
        .iter()
        .any(|mark| memmem::find(text, mark).is_some());
    to.word("event.outcome", if has_failed { "failure" } else { "success" });
    let of = |mark: &[u8]| {
        let at = memmem::find(text, mark)?;
        let value = &text[at + mark.len()..];
        Some(&value[..memmem::find(value, b" ; ").unwrap_or(value.len())])
    };
    to.text_of("user.effective.name", of(b" USER="));
    to.text_of("process.working_directory", of(b" PWD="));
    to.text_of("process.command_line", of(b" COMMAND="));
}
