//! Encryption to public keys, by the `age` crate. Writers hold recipients only; identities are read
//! where something is restored or proven, never on an agent.

use std::io::{BufRead, Read, Write};
use std::path::{Path, PathBuf};

use age::secrecy::ExposeSecret;
use anyhow::{Context, Result, ensure};
use chassis::failure::{Exit, Failure};

/// An open age file that is being read.
pub type PlainReader<R> = age::stream::StreamReader<R>;

#[derive(Clone)]
enum PublicKey {
    X25519(age::x25519::Recipient),
    Ssh(age::ssh::Recipient),
}

/// To whom backups are encrypted: at least one public key.
#[derive(Clone)]
pub struct Recipients {
    keys: Vec<PublicKey>,
    texts: Vec<String>,
}

impl std::fmt::Debug for Recipients {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(&self.texts).finish()
    }
}

fn parse_public(text: &str) -> Result<PublicKey, Failure> {
    let failure = |message: String, hint: &str| Failure::new(Exit::Usage, message).hint(hint);
    if text.starts_with("age1") {
        return text.parse().map(PublicKey::X25519).map_err(|what: &str| {
            failure(
                format!("recipient `{text}` is not valid: {what}"),
                "check it for typing errors",
            )
        });
    }
    if text.starts_with("ssh-ed25519 ") {
        return text.parse().map(PublicKey::Ssh).map_err(|_| {
            failure(format!("recipient `{text}` is not a valid ssh key"), "copy the whole line")
        });
    }
    if text.starts_with("AGE-SECRET-KEY") || text.contains("PRIVATE KEY") {
        let hint =
            "keep the secret key off this host and give its public key: `backupctl keys show`";
        return Err(failure("a recipient is a secret key".into(), hint));
    }
    Err(failure(
        format!("recipient `{text}` is of an unknown kind"),
        "recipients are `age1...` or `ssh-ed25519 ...`; make a pair with `backupctl keys generate`",
    ))
}

impl Recipients {
    /// Parses public keys, `age1...` or `ssh-ed25519 ...`.
    pub fn parse(texts: &[String]) -> Result<Self> {
        let texts: Vec<String> = texts.iter().map(|t| t.trim().to_owned()).collect();
        let keys = texts.iter().map(|text| parse_public(text)).collect::<Result<Vec<_>, _>>()?;
        if keys.is_empty() {
            return Err(Failure::new(Exit::Usage, "there are no recipients")
                .hint("make a key pair with `backupctl keys generate` and name its public key")
                .into());
        }
        Ok(Self { keys, texts })
    }

    /// Reads them from a file, one a line; lines beginning with `#` are comments.
    pub fn from_file(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("read recipients from `{}`", path.display()))?;
        let lines = text.lines().map(str::trim).filter(|l| !l.is_empty() && !l.starts_with('#'));
        Self::parse(&lines.map(str::to_owned).collect::<Vec<_>>())
    }

    /// The public keys as they were given.
    pub fn texts(&self) -> &[String] {
        &self.texts
    }

    /// Begins an age file on `output`; it must be ended with `finish()`.
    pub fn encrypt<W: Write>(&self, output: W) -> Result<age::stream::StreamWriter<W>> {
        let recipients = self.keys.iter().map(|key| match key {
            PublicKey::X25519(key) => key as &dyn age::Recipient,
            PublicKey::Ssh(key) => key as &dyn age::Recipient,
        });
        let encryptor = age::Encryptor::with_recipients(recipients).context("encrypt")?;
        encryptor.wrap_output(output).context("write age header")
    }
}

#[derive(Clone)]
enum SecretKey {
    X25519(age::x25519::Identity),
    Ssh(age::ssh::Identity),
}

/// The keys that open backups.
#[derive(Clone, Default)]
pub struct Identities {
    keys: Vec<SecretKey>,
}

impl std::fmt::Debug for Identities {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "[{} identities]", self.keys.len())
    }
}

fn parse_secrets(text: &str, path: &Path) -> Result<Vec<SecretKey>> {
    let name = path.display();
    if text.contains("PRIVATE KEY-----") {
        let identity = age::ssh::Identity::from_buffer(text.as_bytes(), Some(name.to_string()))
            .with_context(|| format!("parse ssh key `{name}`"))?;
        let usable = matches!(identity, age::ssh::Identity::Unencrypted(_));
        if !usable {
            return Err(Failure::new(Exit::Usage, format!("ssh key `{name}` cannot be used"))
                .hint("it must be an ed25519 key without passphrase: `ssh-keygen -p` on a copy")
                .into());
        }
        return Ok(vec![SecretKey::Ssh(identity)]);
    }
    let lines = text.lines().map(str::trim).filter(|l| !l.is_empty() && !l.starts_with('#'));
    lines
        .map(|line| {
            let parsed: Result<age::x25519::Identity, _> = line.parse();
            parsed.map(SecretKey::X25519).map_err(|what| {
                Failure::new(Exit::Usage, format!("`{name}` is not an identity file: {what}"))
                    .hint("an identity is a line `AGE-SECRET-KEY-1...`, or an OpenSSH private key")
                    .into()
            })
        })
        .collect()
}

impl Identities {
    /// Reads an age identity file or an unencrypted ed25519 key of OpenSSH.
    pub fn from_file(path: &Path) -> Result<Self> {
        Self::from_files(&[path.to_owned()])
    }

    /// Reads several; any of them may open what is read.
    pub fn from_files(paths: &[PathBuf]) -> Result<Self> {
        let mut keys = Vec::new();
        for path in paths {
            let text = std::fs::read_to_string(path).map_err(|error| {
                Failure::new(Exit::Usage, format!("read identity `{}`", path.display()))
                    .hint("name the file that `backupctl keys generate` made with --identity")
                    .because(error)
            })?;
            keys.append(&mut parse_secrets(&text, path)?);
        }
        ensure!(
            !keys.is_empty(),
            Failure::new(Exit::Usage, "there is no identity in the files given")
        );
        Ok(Self { keys })
    }

    /// The public keys of the X25519 identities among them.
    pub fn public(&self) -> Vec<String> {
        let public = |key: &SecretKey| match key {
            SecretKey::X25519(key) => Some(key.to_public().to_string()),
            SecretKey::Ssh(_) => None,
        };
        self.keys.iter().filter_map(public).collect()
    }

    /// Opens an age file.
    pub fn decrypt<R: BufRead>(&self, input: R) -> Result<PlainReader<R>> {
        let decryptor = age::Decryptor::new_buffered(input).context("read age header")?;
        let identities = self.keys.iter().map(|key| match key {
            SecretKey::X25519(key) => key as &dyn age::Identity,
            SecretKey::Ssh(key) => key as &dyn age::Identity,
        });
        decryptor.decrypt(identities).map_err(|error| match error {
            age::DecryptError::NoMatchingKeys => {
                Failure::new(Exit::Failed, "none of the identities opens this backup")
                    .hint("it was encrypted to other recipients: use the identity of that time")
                    .into()
            }
            other => anyhow::Error::new(other).context("decrypt"),
        })
    }

    /// Decrypts a whole object in memory.
    pub fn decrypt_bytes(&self, stored: &[u8]) -> Result<Vec<u8>> {
        let mut plain = Vec::new();
        self.decrypt_into(stored, &mut plain)?;
        Ok(plain)
    }

    /// As [`Self::decrypt_bytes`], into a buffer that is used again.
    pub fn decrypt_into(&self, stored: &[u8], plain: &mut Vec<u8>) -> Result<()> {
        plain.clear();
        plain.reserve(stored.len());
        self.decrypt(stored)?.read_to_end(plain).context("decrypt")?;
        Ok(())
    }
}

/// A new key pair: the secret key and the public one.
pub fn generate_identity() -> (chassis::config::Secret, String) {
    let identity = age::x25519::Identity::generate();
    let secret = chassis::config::Secret::new(identity.to_string().expose_secret());
    (secret, identity.to_public().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(dir: &Path, name: &str) -> (Identities, Recipients) {
        let (secret, public) = generate_identity();
        let path = dir.join(name);
        std::fs::write(&path, format!("# a comment\n{}\n", secret.expose())).expect("write");
        let recipients = Recipients::parse(&[public]).expect("own key is valid");
        (Identities::from_file(&path).expect("own key is valid"), recipients)
    }

    #[test]
    fn only_the_right_identity_opens() {
        let dir = tempfile::tempdir().expect("scratch");
        let (mine, recipients) = pair(dir.path(), "mine");
        let (other, _) = pair(dir.path(), "other");
        let mut writer = recipients.encrypt(Vec::new()).expect("encrypt");
        writer.write_all(b"secret").expect("write");
        let stored = writer.finish().expect("finish");
        assert_eq!(mine.decrypt_bytes(&stored).expect("opens"), b"secret");
        let error = other.decrypt_bytes(&stored).expect_err("must not open");
        assert!(chassis::failure::hint_of(&error).is_some());
        for cut in 0..stored.len() {
            assert!(mine.decrypt_bytes(&stored[..cut]).is_err(), "cut at {cut}");
        }
    }

    #[test]
    fn recipients_of_unknown_kinds_are_refused() {
        for bad in ["", "age1xyz", "ssh-rsa AAAA", "AGE-SECRET-KEY-1ABC", "hello"] {
            assert!(Recipients::parse(&[bad.to_owned()]).is_err(), "{bad}");
        }
        assert!(Recipients::parse(&[]).is_err());
    }
}
