//! The host keys that we know, in the file format of OpenSSH, and the check of the one that a
//! server shows.
//!
//! Strict: an unknown key is refused, a changed one loudly. Host names may be plain, patterns (`*`,
//! `?`, `!`), or hashed; on a port other than 22 they are `[host]:port`, as OpenSSH writes them.
//! `@revoked` keys are refused. Certificates (`@cert-authority`) are not used.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::prelude::{BASE64_STANDARD, BASE64_STANDARD_NO_PAD};
use sha2::{Digest, Sha256};
use ssh2::{CheckResult, KnownHostFileKind, Session};

use super::{SftpConfig, StoreError};

const SYSTEM_FILE: &str = "/etc/ssh/ssh_known_hosts";

/// Host key algorithms by key type, most wanted first. RSA with SHA-1 is not among them.
const ALGORITHMS: [(&str, &str); 5] = [
    ("ssh-ed25519", "ssh-ed25519"),
    ("ecdsa-sha2-nistp256", "ecdsa-sha2-nistp256"),
    ("ecdsa-sha2-nistp384", "ecdsa-sha2-nistp384"),
    ("ecdsa-sha2-nistp521", "ecdsa-sha2-nistp521"),
    ("ssh-rsa", "rsa-sha2-512,rsa-sha2-256"),
];

/// What the files say about one host.
#[derive(Debug)]
pub(super) struct KnownKeys {
    keys: Vec<KnownKey>,
    files: Vec<PathBuf>,
}

#[derive(Debug)]
struct KnownKey {
    kind: String,
    key: Vec<u8>,
    is_revoked: bool,
    place: String,
}

/// All that can be negotiated, for a host of which no key is known.
pub(super) fn all_algorithms() -> String {
    ALGORITHMS.map(|(_, algorithms)| algorithms).join(",")
}

impl KnownKeys {
    /// Reads the files anew: they may have been amended since the last connection.
    pub fn load(config: &SftpConfig) -> Result<Self, StoreError> {
        let files = match &config.known_hosts {
            Some(file) => vec![file.clone()],
            None => default_files(),
        };
        let host = marked_host(config);
        let mut keys = Vec::new();
        for file in &files {
            let text = match fs::read_to_string(file) {
                Ok(text) => text,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => {
                    return Err(StoreError::setup(
                        format!("read known hosts {}: {error}", file.display()),
                        "let known-hosts name a readable text file",
                    ));
                }
            };
            keys.extend(keys_of(&text, &host, file));
        }
        Ok(Self { keys, files })
    }

    fn trusted(&self) -> impl Iterator<Item = &KnownKey> {
        self.keys.iter().filter(|key| !key.is_revoked)
    }

    pub fn is_empty(&self) -> bool {
        self.trusted().next().is_none()
    }

    /// What to negotiate: only the kinds of keys that we can check, else the server would choose
    /// another one, and it would look changed.
    pub fn algorithms(&self) -> String {
        let is_known = |kind: &str| self.trusted().any(|key| key.kind == kind);
        let known: Vec<&str> = ALGORITHMS
            .iter()
            .filter(|(kind, _)| is_known(kind))
            .map(|(_, algorithms)| *algorithms)
            .collect();
        if known.is_empty() { all_algorithms() } else { known.join(",") }
    }

    /// Checks the key that the server has proven to hold.
    pub fn check(&self, config: &SftpConfig, session: &Session) -> Result<(), StoreError> {
        let Some((shown, _)) = session.host_key() else {
            return Err(StoreError::other(format!("{} shows no host key", config.host)));
        };
        let host = marked_host(config);
        if let Some(revoked) = self.keys.iter().find(|key| key.is_revoked && key.key == shown) {
            return Err(StoreError::refused(
                format!("the host key of {host} is revoked in {}", revoked.place),
                "do not use this server until its administrator has explained it",
            ));
        }
        if self.trusted().any(|known| known.key == shown) {
            return Ok(());
        }
        match self.trusted().next() {
            Some(known) => Err(self.changed(&host, known, shown)),
            None => Err(self.unknown(config, &host, shown)),
        }
    }

    fn unknown(&self, config: &SftpConfig, host: &str, shown: &[u8]) -> StoreError {
        let SftpConfig { host: name, port, .. } = config;
        let file = self.files.first().map_or("known_hosts".into(), |file| file.to_string_lossy());
        StoreError::refused(
            format!("the host key of {host} is unknown: {} {}", kind_of(shown), fingerprint(shown)),
            format!(
                "ask the administrator whether this fingerprint is right; if so, run \
                 `ssh-keyscan -p {port} {name} >> {file}` and check it with `ssh-keygen -lf {file}`"
            ),
        )
    }

    fn changed(&self, host: &str, known: &KnownKey, shown: &[u8]) -> StoreError {
        let file = self.files.first().map_or("known_hosts".into(), |file| file.to_string_lossy());
        StoreError::refused(
            format!(
                "THE HOST KEY OF {host} HAS CHANGED: {} holds {} {}, the server shows {} {}; \
                 nothing was sent, somebody may be in between",
                known.place,
                known.kind,
                fingerprint(&known.key),
                kind_of(shown),
                fingerprint(shown),
            ),
            format!(
                "ask the administrator; only if he changed the key, run \
                 `ssh-keygen -R '{host}' -f {file}` and add the new one"
            ),
        )
    }
}

fn default_files() -> Vec<PathBuf> {
    let own = super::super::home_path(".ssh/known_hosts");
    own.into_iter().chain([PathBuf::from(SYSTEM_FILE)]).collect()
}

/// The host as known_hosts names it.
fn marked_host(config: &SftpConfig) -> String {
    let host = config.host.to_ascii_lowercase();
    if config.port == 22 { host } else { format!("[{host}]:{}", config.port) }
}

fn fingerprint(key: &[u8]) -> String {
    format!("SHA256:{}", BASE64_STANDARD_NO_PAD.encode(Sha256::digest(key)))
}

/// The type that a key in wire format begins with.
fn kind_of(key: &[u8]) -> String {
    let length = key.first_chunk().map_or(0, |length| u32::from_be_bytes(*length) as usize);
    key.get(4..4 + length).map_or("?".into(), |kind| String::from_utf8_lossy(kind).into_owned())
}

/// The keys of one host in the text of a file. Lines that cannot be read are passed over, as
/// OpenSSH does.
fn keys_of(text: &str, host: &str, file: &Path) -> Vec<KnownKey> {
    let mut keys = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let mut words = line.split_ascii_whitespace().peekable();
        let marker = words.next_if(|word| word.starts_with('@'));
        let is_revoked = marker == Some("@revoked");
        if marker.is_some() && !is_revoked {
            continue;
        }
        let (Some(names), Some(kind), Some(key)) = (words.next(), words.next(), words.next())
        else {
            continue;
        };
        let Ok(key) = BASE64_STANDARD.decode(key) else { continue };
        if names.starts_with('#') || !is_named(names, kind, &key, host) {
            continue;
        }
        let place = format!("{}:{}", file.display(), number + 1);
        keys.push(KnownKey { kind: kind.to_owned(), key, is_revoked, place });
    }
    keys
}

fn is_named(names: &str, kind: &str, key: &[u8], host: &str) -> bool {
    if names.starts_with("|1|") {
        return is_hash_of(names, kind, key, host);
    }
    let names = names.to_ascii_lowercase();
    let (against, names): (Vec<&str>, Vec<&str>) =
        names.split(',').partition(|name| name.starts_with('!'));
    let excluded = against.iter().any(|name| fits(&name.as_bytes()[1..], host.as_bytes()));
    !excluded && names.iter().any(|name| fits(name.as_bytes(), host.as_bytes()))
}

/// A hashed name is HMAC-SHA1 of the host: libssh2 computes it, as a check of the line's own key.
fn is_hash_of(names: &str, kind: &str, key: &[u8], host: &str) -> bool {
    let check = || -> Result<CheckResult, ssh2::Error> {
        let mut hosts = Session::new()?.known_hosts()?;
        let line = format!("{names} {kind} {}", BASE64_STANDARD.encode(key));
        hosts.read_str(&line, KnownHostFileKind::OpenSSH)?;
        Ok(hosts.check(host, key))
    };
    // An error is a kind of key or hash that libssh2 does not know: nothing that it could
    // negotiate.
    matches!(check(), Ok(CheckResult::Match))
}

/// Whether a pattern of `*` and `?` fits all of a text.
fn fits(pattern: &[u8], text: &[u8]) -> bool {
    match (pattern.split_first(), text.split_first()) {
        (None, None) => true,
        (Some((b'*', rest)), _) => {
            fits(rest, text) || text.split_first().is_some_and(|(_, text)| fits(pattern, text))
        }
        (Some((b'?', rest)), Some((_, text))) => fits(rest, text),
        (Some((wanted, rest)), Some((found, text))) => wanted == found && fits(rest, text),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A public key in wire format needs only its type here.
    fn key(kind: &str, tail: &str) -> Vec<u8> {
        let mut key = (kind.len() as u32).to_be_bytes().to_vec();
        key.extend_from_slice(kind.as_bytes());
        key.extend_from_slice(tail.as_bytes());
        key
    }

    fn kinds(text: &str, host: &str) -> Vec<String> {
        let keys = keys_of(text, host, Path::new("known_hosts"));
        keys.into_iter().map(|key| key.kind).collect()
    }

    #[test]
    fn the_keys_of_a_host_are_found_under_every_kind_of_name() {
        let key = BASE64_STANDARD.encode(key("ssh-ed25519", "x"));
        let check = |names: &str, host: &str, expected: bool| {
            let text = format!("# {host} ssh-ed25519 {key}\n\n{names} ssh-ed25519 {key} comment\n");
            assert_eq!(!kinds(&text, host).is_empty(), expected, "{names} {host}");
        };
        check("log1", "log1", true);
        check("LOG1", "log1", true);
        check("log1", "log2", false);
        check("web1,log1,10.0.0.1", "log1", true);
        check("log1", "[log1]:2222", false);
        check("[log1]:2222", "[log1]:2222", true);
        check("*.example.org", "log1.example.org", true);
        check("*.example.org,!log1.*", "log1.example.org", false);
        check("log?", "log1", true);
        check("@cert-authority log1", "log1", false);
        let hashed = "|1|AAECAwQFBgcICQoLDA0ODxAREhM=|80D7YGwld0LYAOmnVN5N92AmHUw=";
        check(hashed, "log1", true);
        check(hashed, "log2", false);
    }

    #[test]
    fn only_kinds_that_can_be_checked_are_negotiated() {
        let rsa = BASE64_STANDARD.encode(key("ssh-rsa", "x"));
        let text = format!("log1 ssh-rsa {rsa}\n@revoked log1 ssh-ed25519 {rsa}\n");
        let keys = keys_of(&text, "log1", Path::new("known_hosts"));
        let known = KnownKeys { keys, files: Vec::new() };
        assert_eq!(known.algorithms(), "rsa-sha2-512,rsa-sha2-256");
        let known = KnownKeys { keys: Vec::new(), files: Vec::new() };
        assert_eq!(known.algorithms(), all_algorithms());
    }

    #[test]
    fn a_key_says_its_kind() {
        assert_eq!(kind_of(&key("ssh-rsa", "")), "ssh-rsa");
        assert_eq!(kind_of(&[0, 0, 0, 9, b'x']), "?");
        assert_eq!(kind_of(&[]), "?");
    }
}
