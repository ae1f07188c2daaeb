//! Option files (`my.cnf`) as far as they say how to reach a server.
//!
//! The same file is given to the backup tool, so it is read as the tool reads it: groups by name,
//! the last value in the file wins, `!include` and `!includedir`, quotes, escapes, `_` for `-`.
//! Passwords are never printed nor serialized.

pub(crate) mod syntax;

use std::fmt;
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::Context;
use chassis::config::{Secret, check_private};
use chassis::failure::{Exit, Failure};

use self::syntax::Line;
use crate::tls::Tls;
use crate::tool::BackupTool;

/// How deep `!include` may nest.
pub const INCLUDE_DEPTH_MAX: u32 = 10;
/// The longest option file that is read, in bytes.
pub const FILE_LENGTH_MAX: u64 = 1 << 20;

/// How often files are read because of one: each is read twice, and again wherever it is included.
pub const FILES_MAX: u32 = 1000;

const SOCKET_DEFAULT: &str = "/run/mysqld/mysqld.sock";
const PORT_DEFAULT: u16 = 3306;

/// Where a server listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// A unix socket.
    Socket(PathBuf),
    /// A host and port.
    Tcp(String, u16),
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Socket(path) => write!(f, "socket {}", path.display()),
            Self::Tcp(host, port) => write!(f, "{host}:{port}"),
        }
    }
}

/// What an option file says about reaching a server.
#[derive(Clone, Debug, Default)]
pub struct OptionFile {
    /// The file that was read, absolute.
    pub path: PathBuf,
    /// The user; without one the server is told the name of the system user who runs us.
    pub user: Option<String>,
    /// The password; none for accounts that are known by their system user.
    pub password: Option<Secret>,
    /// The server's socket.
    pub socket: Option<PathBuf>,
    /// The server's host.
    pub host: Option<String>,
    /// The server's TCP port.
    pub port: Option<u16>,
    /// `tcp` or `socket`, where both could be meant.
    pub protocol: Option<String>,
    /// Whether and how the connection is encrypted; never over the socket.
    pub tls: Tls,
    /// Whether others than the owner and group may read the file.
    pub is_world_readable: bool,
    /// How many files were read for it.
    pub(crate) files_read: u32,
}

impl OptionFile {
    /// Reads the groups that `tool` takes its credentials from.
    ///
    /// Fails with [`Exit::Usage`], naming file and line, but never the text of a line.
    pub fn read(path: &Path, tool: BackupTool) -> anyhow::Result<Self> {
        let path = std::path::absolute(path).context("make path of option file absolute")?;
        let mut options = Self { path: path.clone(), ..Self::default() };
        options.read_file(&path, tool.facts().client_groups, 0)?;
        options.read_file(&path, tool.facts().own_groups, 0)?;
        Ok(options)
    }

    /// Refuses a file that others may read, if there is a password in it or in one that it includes.
    pub fn check_private(&self) -> anyhow::Result<()> {
        if self.password.is_none() {
            return Ok(());
        }
        check_private(&self.path)?;
        if self.is_world_readable {
            let path = self.path.display();
            let message = format!("a file that {path} includes can be read by everybody");
            return Err(Failure::new(Exit::Usage, message).hint("chmod 600 it").into());
        }
        Ok(())
    }

    /// Where to connect to: TCP if a host other than `localhost` or the protocol says so, else the
    /// socket.
    pub fn endpoint(&self) -> Endpoint {
        let host = self.host.as_deref().filter(|host| *host != "localhost");
        let is_tcp = match self.protocol.as_deref() {
            Some(protocol) => protocol.eq_ignore_ascii_case("tcp"),
            None => host.is_some(),
        };
        if is_tcp {
            let host = self.host.clone().unwrap_or_else(|| "127.0.0.1".to_owned());
            return Endpoint::Tcp(host, self.port.unwrap_or(PORT_DEFAULT));
        }
        Endpoint::Socket(self.socket.clone().unwrap_or_else(|| SOCKET_DEFAULT.into()))
    }

    fn read_file(&mut self, path: &Path, groups: &[&str], depth: u32) -> anyhow::Result<()> {
        if depth > INCLUDE_DEPTH_MAX {
            return Err(fault(path, None, "includes nest too deep").into());
        }
        self.files_read += 1;
        if self.files_read > FILES_MAX {
            return Err(
                fault(path, None, "is one of too many files that include one another").into()
            );
        }
        let bytes = self.read_bytes(path)?;
        let text = String::from_utf8_lossy(&bytes);
        let mut is_ours = false;
        for (index, line) in text.lines().enumerate() {
            match syntax::parse(line) {
                Some(Line::Group(name)) => is_ours = groups.contains(&name),
                Some(Line::Include(included)) => {
                    self.read_file(&beside(path, included), groups, depth + 1)?;
                }
                Some(Line::IncludeDir(directory)) => {
                    self.read_dir(&beside(path, directory), groups, depth + 1)?;
                }
                Some(Line::Setting(key, value)) if is_ours => {
                    self.set(&key, value).map_err(|what| fault(path, Some(index + 1), what))?;
                }
                Some(Line::Setting(..)) | None => {}
            }
        }
        Ok(())
    }

    /// A pipe or a device would be read for ever.
    fn read_bytes(&mut self, path: &Path) -> anyhow::Result<Vec<u8>> {
        let cannot = |error| fault(path, None, "cannot be read").because(error);
        let metadata = std::fs::metadata(path).map_err(cannot)?;
        if !metadata.is_file() {
            return Err(fault(path, None, "is not a file").into());
        }
        self.is_world_readable |= metadata.permissions().mode() & 0o004 != 0;
        let mut bytes = Vec::new();
        let file = File::open(path).map_err(cannot)?;
        file.take(FILE_LENGTH_MAX + 1).read_to_end(&mut bytes).map_err(cannot)?;
        if bytes.len() as u64 > FILE_LENGTH_MAX {
            return Err(fault(path, None, "is too long for an option file").into());
        }
        Ok(bytes)
    }

    fn read_dir(&mut self, directory: &Path, groups: &[&str], depth: u32) -> anyhow::Result<()> {
        let cannot = |error| fault(directory, None, "cannot be listed").because(error);
        let mut files = Vec::new();
        for entry in std::fs::read_dir(directory).map_err(cannot)? {
            let path = entry.map_err(cannot)?.path();
            if path.extension().is_some_and(|extension| extension == "cnf") {
                files.push(path);
            }
        }
        files.sort();
        files.iter().try_for_each(|file| self.read_file(file, groups, depth))
    }

    fn set(&mut self, key: &str, value: String) -> Result<(), &'static str> {
        match key {
            "user" => self.user = Some(value),
            "password" => self.password = Some(Secret::new(value)),
            "socket" => self.socket = Some(PathBuf::from(value)),
            "host" => self.host = Some(value),
            "protocol" => self.protocol = Some(value),
            "port" => {
                self.port = Some(value.parse().map_err(|_| "port is not a number up to 65535")?);
            }
            _ => self.tls.set(key, &value)?,
        }
        Ok(())
    }
}

fn beside(file: &Path, other: &str) -> PathBuf {
    file.parent().unwrap_or(Path::new("/")).join(other)
}

fn fault(path: &Path, line: Option<usize>, what: &str) -> Failure {
    let place = line.map(|line| format!(":{line}")).unwrap_or_default();
    Failure::new(Exit::Usage, format!("option file {}{place}: {what}", path.display())).hint(
        "it needs a group [client] with user, password and socket, as for the command mariadb",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(files: &[(&str, &str)]) -> anyhow::Result<OptionFile> {
        let directory = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = directory.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        OptionFile::read(&directory.path().join(files[0].0), BackupTool::MariaDb)
    }

    #[test]
    fn the_groups_of_the_tool_win_over_those_of_any_client() {
        let text = "[mysqld]\nuser=mysql\n[client]\nuser = backup # who\npassword=\"a#b\\s\\\"c\"\n[mysql]\nuser=me\n\
            [mariadb-backup]\nuser='other'\nsocket=/run/x.sock\nport=3307\n\
            [client-server]\nuser=late\n";
        let options = read(&[("my.cnf", text)]).unwrap();
        assert_eq!(options.user.as_deref(), Some("other"));
        assert_eq!(options.password.as_ref().map(Secret::expose), Some("a#b \"c"));
        assert_eq!(options.endpoint(), Endpoint::Socket("/run/x.sock".into()));
        assert!(!format!("{options:?}").contains("a#b"), "{options:?}");
    }

    #[test]
    fn included_files_are_read_where_they_are_named() {
        let files = [
            ("my.cnf", "[client]\nuser=a\n!include sub/one.cnf\n!includedir sub/dir\n"),
            ("sub/one.cnf", "[client]\nhost=db1\nuser=b\n"),
            ("sub/dir/z.cnf", "[client-server]\nport=3310\n"),
            ("sub/dir/skip.txt", "[client]\nuser=no\n"),
        ];
        let options = read(&files).unwrap();
        assert_eq!(options.user.as_deref(), Some("b"));
        assert_eq!(options.endpoint(), Endpoint::Tcp("db1".into(), 3310));
    }

    #[test]
    fn the_endpoint_follows_host_and_protocol() {
        let check = |text: &str, expected: Endpoint| {
            let text = format!("[client]\n{text}");
            assert_eq!(read(&[("my.cnf", &text)]).unwrap().endpoint(), expected, "{text}");
        };
        let socket = || Endpoint::Socket(SOCKET_DEFAULT.into());
        check("", socket());
        check("host=localhost\nport=3307", socket());
        check("host=localhost\nport=3307\nprotocol=TCP", Endpoint::Tcp("localhost".into(), 3307));
        check("host=10.0.0.1", Endpoint::Tcp("10.0.0.1".into(), 3306));
        check("host=10.0.0.1\nprotocol=socket", socket());
    }

    #[test]
    fn a_password_that_others_may_read_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("my.cnf");
        let check = |text: &str, mode: u32, expected: bool| {
            std::fs::write(&path, text).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            let options = OptionFile::read(&path, BackupTool::MariaDb).unwrap();
            assert_eq!(options.check_private().is_ok(), expected, "{text} {mode:o}");
        };
        let included = directory.path().join("more.cnf");
        std::fs::write(&included, "[client]\npassword=x\n").unwrap();
        std::fs::set_permissions(&included, std::fs::Permissions::from_mode(0o644)).unwrap();
        check("[client]\npassword=x\n", 0o600, true);
        check("[client]\npassword=x\n", 0o640, false);
        check("[client]\npassword=x\n", 0o604, false);
        check("[client]\nuser=x\n", 0o644, true);
        check("!include more.cnf\n", 0o600, false);
    }

    #[test]
    fn faults_name_the_place_and_never_the_text() {
        let check = |files: &[(&str, &str)], expected: &str| {
            let error = read(files).expect_err(expected);
            assert!(error.to_string().contains(expected), "{error}");
            assert!(!format!("{error:#}").contains("secret"), "{error:#}");
            assert_eq!(chassis::failure::exit_of(&error), Exit::Usage);
        };
        check(&[("my.cnf", "[client]\nuser=a\nport=secret\n")], "my.cnf:3: port is not a number");
        check(&[("my.cnf", "!include my.cnf\n")], "includes nest too deep");
        check(&[("my.cnf", "!include none.cnf\n")], "none.cnf: cannot be read");
        check(&[("my.cnf", "!include /dev/zero\n")], "/dev/zero: is not a file");
        check(&[("my.cnf", "!include .\n")], "is not a file");
        let twice = |next: &str| format!("!include {next}\n").repeat(100);
        let (first, second) = (twice("b.cnf"), twice("c.cnf"));
        let chain = [("my.cnf", &*first), ("b.cnf", &*second), ("c.cnf", "")];
        check(&chain, "too many files that include one another");
    }
}
