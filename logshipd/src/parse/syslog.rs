//! The header that syslog puts before a message, of each notation, and what the message is by the
//! program that sent it; the same for entries of the journal.
//!
//! - `<134>Nov 23 13:05:15 lb1 haproxy[61]: text` (RFC 3164), the number missing in files
//! - `2026-11-23T13:05:15.647804+00:00 lb1 haproxy[61]: text`: rsyslog of Debian since bookworm
//! - `<134>1 2026-11-23T13:05:15.647804Z lb1 haproxy 61 - - text` (RFC 5424)
//! - `<134>haproxy[61]: text`: HAProxy's `format short` and the like

mod header;
mod journal;

use std::borrow::Cow;

use header::Header;

use crate::document::Document;

use super::haproxy::Formats;
use super::{Context, Dataset, Joint, Unparsed, auth, cluster, error_log, php, start_if};

/// What stands behind the headers of syslog on a host.
#[derive(Clone, Debug, Default)]
pub struct Syslog {
    /// The formats of its HAProxy.
    pub haproxy: Formats,
}

/// A program whose messages are known.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Program {
    Haproxy,
    Keepalived,
    Database,
    Arbitrator,
    Lsyncd,
    Proxysql,
    PhpFpm,
    Authentication,
    Other,
}

impl Program {
    fn of(name: &[u8]) -> Self {
        match name {
            b"haproxy" => Self::Haproxy,
            b"keepalived" | b"Keepalived" | b"Keepalived_vrrp" | b"Keepalived_healthcheckers" => {
                Self::Keepalived
            }
            b"mariadbd" | b"mysqld" | b"mysqld_safe" => Self::Database,
            b"garbd" | b"garb" | b"garb-systemd" => Self::Arbitrator,
            b"lsyncd" => Self::Lsyncd,
            b"proxysql" => Self::Proxysql,
            b"sshd" | b"sshd-session" | b"sudo" | b"su" | b"login" | b"systemd-logind"
            | b"passwd" | b"useradd" | b"usermod" | b"groupadd" | b"polkitd" => {
                Self::Authentication
            }
            name if name.starts_with(b"php-fpm") => Self::PhpFpm,
            _ => Self::Other,
        }
    }
}

impl Syslog {
    /// Lines of the same process, of which the second has no head of its own kind, are one entry.
    pub(super) fn joint(line: &[u8], open: &[u8], context: &Context) -> Joint {
        let Some(here) = Header::read(line, context) else {
            return if open.is_empty() { Joint::Start } else { Joint::Continue };
        };
        let program = Program::of(here.program);
        let joint = match program {
            Program::Database => error_log::joint(here.message),
            Program::Arbitrator => cluster::garbd_joint(here.message),
            _ => return Joint::Whole,
        };
        if joint != Joint::Continue {
            return joint;
        }
        let before = Header::read(open, context);
        start_if(
            before.is_none_or(|before| {
                before.program != here.program || before.process != here.process
            }),
        )
    }

    /// Writes the fields of an entry.
    pub(super) fn parse(
        &self,
        entry: &[u8],
        context: &Context,
        to: &mut Document,
    ) -> Result<Dataset, Unparsed> {
        let header = Header::read(entry, context).ok_or(Unparsed("no header of syslog"))?;
        let at = header.at(context, to);
        let context = Context { read_at: at, ..context.clone() };
        if let Some(priority) = header.priority {
            to.long("log.syslog.priority", priority);
            to.long("log.syslog.severity.code", priority % 8);
        }
        to.text_of("log.syslog.hostname", header.host);
        let message = joined(header.message, &context);
        self.dispatch(header.program, header.process, &message, &context, to)
    }

    fn dispatch(
        &self,
        program: &[u8],
        process: Option<&[u8]>,
        message: &[u8],
        context: &Context,
        to: &mut Document,
    ) -> Result<Dataset, Unparsed> {
        if !program.is_empty() {
            to.text("log.syslog.appname", program);
        }
        to.text_of("log.syslog.procid", process);
        let mark = to.mark();
        let timestamp = |to: &mut Document| {
            to.roll_back(mark);
            to.at(context.read_at);
            to.text("message", message);
        };
        Ok(match Program::of(program) {
            Program::Haproxy => {
                self.haproxy.parse(message, context, to)?;
                Dataset::Haproxy
            }
            Program::Keepalived => {
                cluster::keepalived(message, context, to);
                Dataset::Keepalived
            }
            Program::Database => {
                if error_log::parse(message, context, to).is_err() {
                    timestamp(to);
                }
                Dataset::MysqlError
            }
            Program::Arbitrator => {
                if cluster::garbd(message, context, to).is_err() {
                    timestamp(to);
                }
                Dataset::MysqlError
            }
            Program::Lsyncd => {
                to.at(context.read_at);
                cluster::lsyncd_message(message, to);
                Dataset::Lsyncd
            }
            Program::Proxysql => {
                if cluster::proxysql(message, context, to).is_err() {
                    timestamp(to);
                }
                Dataset::Proxysql
            }
            Program::PhpFpm => {
                if php::fpm(message, context, to).is_err() {
                    timestamp(to);
                }
                Dataset::PhpFpm
            }
            Program::Authentication => {
                timestamp(to);
                auth::write(program, message, context, to);
                Dataset::Auth
            }
            Program::Other => {
                timestamp(to);
                Dataset::Syslog
            }
        })
    }
}

/// A message of several lines without the headers that stand before each but the first.
fn joined<'a>(message: &'a [u8], context: &Context) -> Cow<'a, [u8]> {
    if memchr::memchr(b'\n', message).is_none() {
        return Cow::Borrowed(message);
    }
    let mut text = Vec::with_capacity(message.len());
    for (index, line) in message.split(|&byte| byte == b'\n').enumerate() {
        if index > 0 {
            text.push(b'\n');
        }
        let inner = if index == 0 { None } else { Header::read(line, context) };
        text.extend_from_slice(inner.map_or(line, |header| header.message));
    }
    Cow::Owned(text)
}
