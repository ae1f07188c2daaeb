//! The two backup tools, `mariadb-backup` and `xtrabackup`: one code path, with what differs as
//! data.
//!
//! Everything about MariaDB's tool was tried with 10.11; what is said of Percona's comes from its
//! documentation and source, because it cannot be installed from a package registry
//! (`docs/databases.md` tells which is which). Commands are built here and run elsewhere. They
//! carry no password: the tool reads the option file.

mod messages;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::Context;
use chassis::failure::{Exit, Failure};
use serde::{Deserialize, Serialize};

pub use self::messages::{advice, is_complete, skipped_tablespace};
use crate::version::{Flavour, Version};

/// Which tool takes a backup and prepares it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum BackupTool {
    /// `mariadb-backup` of MariaDB, once called `mariabackup`.
    #[serde(rename = "mariadb-backup")]
    MariaDb,
    /// `xtrabackup` of Percona, for MySQL, Percona Server and Percona XtraDB Cluster.
    #[serde(rename = "xtrabackup")]
    Percona,
}

/// What differs between the tools.
#[derive(Debug)]
pub struct Facts {
    /// Names of the program, the one to try first at the front.
    pub programs: &'static [&'static str],
    /// The program that unpacks a stream by hand.
    pub unpacker: &'static str,
    /// The package that has the program.
    pub package: &'static str,
    /// The option that leaves a prepared backup open for further increments; MariaDB needs none.
    pub apply_log_only: Option<&'static str>,
    /// The oldest version whose files are understood here.
    pub version_min: Version,
    /// Option groups that any client reads its credentials from.
    pub client_groups: &'static [&'static str],
    /// Option groups of the tool itself. What they say counts more, wherever they stand in the file.
    pub own_groups: &'static [&'static str],
}

const MARIADB: Facts = Facts {
    programs: &["mariadb-backup", "mariabackup"],
    unpacker: "mbstream",
    package: "mariadb-backup",
    apply_log_only: None,
    version_min: Version::of(10, 3, 0),
    client_groups: &["client", "client-server", "client-mariadb"],
    own_groups: &["xtrabackup", "mariabackup", "mariadb-backup"],
};

const PERCONA: Facts = Facts {
    programs: &["xtrabackup"],
    unpacker: "xbstream",
    package: "percona-xtrabackup-80",
    apply_log_only: Some("--apply-log-only"),
    version_min: Version::of(2, 4, 0),
    client_groups: &["client"],
    own_groups: &["xtrabackup"],
};

/// Options of the tools that a site may not set, nor any that begins so, because the run depends on
/// them or they would show a secret.
const OPTIONS_RESERVED: &[&str] = &[
    "password",
    "defaults",
    "no-defaults",
    "print-defaults",
    "login-path",
    "backup",
    "prepare",
    "target-dir",
    "stream",
    "parallel",
    "throttle",
    "incremental",
    "galera-info",
    "socket",
    "compress",
    "encrypt",
    "export",
    "copy-back",
    "move-back",
    "apply-log-only",
    "history",
    "extra-lsndir",
    "fifo",
    "transition-key",
];

/// What may stand before the name of any option: the tools understand it as part of the value.
const OPTION_PREFIXES: &[&str] = &["loose-", "skip-", "disable-", "enable-", "maximum-"];

impl BackupTool {
    /// The tool for a server.
    pub fn for_flavour(flavour: Flavour) -> Self {
        match flavour {
            Flavour::MariaDb => Self::MariaDb,
            Flavour::MySql | Flavour::Percona => Self::Percona,
        }
    }

    /// What is special about the tool.
    pub fn facts(self) -> &'static Facts {
        match self {
            Self::MariaDb => &MARIADB,
            Self::Percona => &PERCONA,
        }
    }
}

impl std::fmt::Display for BackupTool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.facts().programs[0])
    }
}

/// A tool that was found and answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ToolAt {
    /// Which it is.
    pub tool: BackupTool,
    /// The program, as it is to be called; a bare name is looked up in `PATH`.
    pub path: PathBuf,
    /// Its own version.
    pub version: Version,
    /// The server that it was built from; it reads what that server writes, and older servers of
    /// the same series.
    pub server: Version,
}

impl ToolAt {
    /// Whether it can back up, and prepare backups of, a server of this version.
    pub fn fits(&self, server: Version) -> bool {
        match self.tool {
            BackupTool::MariaDb => self.server.same_series(server),
            // Version 2.4 is built from 5.7 and reads 5.6 too; from 8.0 on each series has its own
            // tool, not older than it.
            BackupTool::Percona if self.server.major < 8 => {
                matches!((server.major, server.minor), (5, 6 | 7))
            }
            BackupTool::Percona => self.server.same_series(server) && self.server >= server,
        }
    }
}

/// Finds a tool by asking the programs of its names for their version.
///
/// Fails with [`Exit::Failed`] and the package to install if none can be run, or if it is too old.
pub fn find(tool: BackupTool) -> anyhow::Result<ToolAt> {
    let facts = tool.facts();
    let hint = format!("install the package {}", facts.package);
    for program in facts.programs {
        let outcome = Command::new(program).arg("--version").stdin(Stdio::null()).output();
        let output = match outcome {
            Ok(output) => output,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error).with_context(|| format!("run {program} --version")),
        };
        // MariaDB's tool tells its version on standard error.
        let text = [output.stdout, output.stderr].concat();
        let text = String::from_utf8_lossy(&text);
        let (version, server) = parse_version(tool, &text)
            .with_context(|| format!("read version of {program} from {:?}", text.trim()))?;
        if version < facts.version_min {
            let message = format!("{program} {version} is older than {}", facts.version_min);
            return Err(Failure::new(Exit::Failed, message).hint(hint).into());
        }
        return Ok(ToolAt { tool, path: PathBuf::from(program), version, server });
    }
    Err(Failure::new(Exit::Failed, format!("there is no {tool} in PATH")).hint(hint).into())
}

/// `mariadb-backup based on MariaDB server 10.11.19-MariaDB debian-linux-gnu (x86_64)` or
/// `xtrabackup version 8.0.35-31 based on MySQL server 8.0.35 Linux (x86_64) (revision id:
/// 55ec21d7)`.
fn parse_version(tool: BackupTool, text: &str) -> Option<(Version, Version)> {
    let after = |mark: &str| -> Option<Version> {
        text.split_once(mark)?.1.split_whitespace().next()?.parse().ok()
    };
    match tool {
        BackupTool::MariaDb => after("MariaDB server ").map(|version| (version, version)),
        BackupTool::Percona => Some((after("xtrabackup version ")?, after("MySQL server ")?)),
    }
}

/// What a backup is to be.
#[derive(Clone, Debug, Default)]
pub struct BackupRequest {
    /// The option file with the credentials. Not a symbolic link: `xtrabackup` refuses those.
    pub option_file: PathBuf,
    /// The server's socket, if the option file does not name it or names it relatively.
    pub socket: Option<PathBuf>,
    /// An empty directory of our own, 0700, on any disk: in a stream nothing large is written
    /// there.
    pub target_dir: PathBuf,
    /// Copy threads; 0 for the tool's default of 1.
    pub parallel: u32,
    /// Limits reading to so many pieces a second (of 1 MiB with MariaDB, of 10 MiB with Percona).
    pub throttle: Option<u32>,
    /// Copy only pages that changed since this log sequence number: `to_lsn` of the parent.
    pub incremental_lsn: Option<u64>,
    /// Record the state of a Galera node.
    pub galera_info: bool,
    /// Further options of the site, as they are; checked by [`check_extra`].
    pub extra: Vec<String>,
}

/// The command that writes a backup as a stream to its standard output and its log to standard
/// error.
///
/// All paths are made absolute, because `mariadb-backup` changes into the data directory.
pub fn backup_command(at: &ToolAt, request: &BackupRequest) -> anyhow::Result<Command> {
    check_extra(&request.extra)?;
    let mut command = Command::new(&at.path);
    // The option file must be the first option, or it is ignored without a word.
    command.arg(option("--defaults-file=", &absolute(&request.option_file)?));
    command.args(["--backup", "--stream=xbstream"]);
    command.arg(option("--target-dir=", &absolute(&request.target_dir)?));
    if let Some(socket) = &request.socket {
        command.arg(option("--socket=", &absolute(socket)?));
    }
    if request.parallel > 0 {
        command.arg(format!("--parallel={}", request.parallel));
    }
    if let Some(throttle) = request.throttle {
        command.arg(format!("--throttle={throttle}"));
    }
    if let Some(lsn) = request.incremental_lsn {
        command.arg(format!("--incremental-lsn={lsn}"));
    }
    if request.galera_info {
        command.arg("--galera-info");
    }
    command.args(&request.extra);
    command.env("LC_ALL", "C").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    Ok(command)
}

/// Refuses options of a site that the run depends on, or that would show a password to everybody.
pub fn check_extra(extra: &[String]) -> Result<(), Failure> {
    for given in extra {
        if !is_free(given) {
            // Only the name: what follows may be a secret.
            let name = given.split('=').next().unwrap_or_default();
            let name = if name.starts_with("--") { name } else { "-…" };
            return Err(Failure::new(Exit::Usage, format!("option {name} cannot be passed on"))
                .hint("only long options that neither change where the backup goes nor hold a secret can be"));
        }
    }
    Ok(())
}

/// Whether an option is none of the reserved ones: not under a prefix, not cut short (the tools take every
/// beginning of a name that is unique).
fn is_free(given: &str) -> bool {
    let Some(long) = given.strip_prefix("--") else { return false };
    let name = long.split('=').next().unwrap_or_default().replace('_', "-");
    let mut name = name.as_str();
    while let Some(rest) = OPTION_PREFIXES.iter().find_map(|prefix| name.strip_prefix(prefix)) {
        name = rest;
    }
    !OPTIONS_RESERVED
        .iter()
        .any(|reserved| name.starts_with(reserved) || reserved.starts_with(name))
}

/// How a backup is made ready for a server to start on.
#[derive(Clone, Debug, Default)]
pub struct PrepareRequest {
    /// The unpacked full backup; it is changed in place.
    pub full: PathBuf,
    /// Unpacked increments in the order in which they were taken. The tool takes out of them what it has
    /// applied: after a step that failed they have to be restored anew, as has the full backup.
    pub increments: Vec<PathBuf>,
    /// Make single tables ready for `IMPORT TABLESPACE`.
    pub export: bool,
    /// Memory for applying the log, in bytes; 0 for the tool's default of 96 to 128 MiB.
    pub memory_bytes: u64,
}

/// The commands that prepare a backup, to be run one after another; each must end as
/// [`is_complete`] says.
pub fn prepare_commands(at: &ToolAt, request: &PrepareRequest) -> anyhow::Result<Vec<Command>> {
    let steps = std::iter::once(None).chain(request.increments.iter().map(Some));
    let last = request.increments.len();
    let mut commands = Vec::with_capacity(last + 1);
    for (step, increment) in steps.enumerate() {
        commands.push(prepare_command(at, request, increment, step == last)?);
    }
    Ok(commands)
}

fn prepare_command(
    at: &ToolAt,
    request: &PrepareRequest,
    increment: Option<&PathBuf>,
    is_last: bool,
) -> anyhow::Result<Command> {
    let full = absolute(&request.full)?;
    let mut command = Command::new(&at.path);
    // The backup's own settings, not those of whatever server is installed here.
    command.arg(option("--defaults-file=", &full.join("backup-my.cnf")));
    command.arg("--prepare").arg(option("--target-dir=", &full));
    if let Some(increment) = increment {
        command.arg(option("--incremental-dir=", &absolute(increment)?));
    }
    match at.tool.facts().apply_log_only {
        Some(apply_log_only) if !is_last => drop(command.arg(apply_log_only)),
        _ => {}
    }
    if request.export && is_last {
        command.arg("--export");
    }
    if request.memory_bytes > 0 {
        command.arg(format!("--use-memory={}", request.memory_bytes));
    }
    // With `--export` the tool starts a server inside, and a server that starts removes the temporary tables of all
    // servers in its directory for temporary files, which would be /tmp.
    command.env("TMPDIR", &full);
    command.env("LC_ALL", "C").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    Ok(command)
}

fn option(name: &str, value: &Path) -> OsString {
    let mut option = OsString::from(name);
    option.push(value);
    option
}

fn absolute(path: &Path) -> anyhow::Result<PathBuf> {
    std::path::absolute(path).with_context(|| format!("make path {} absolute", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(tool: BackupTool) -> ToolAt {
        let version = Version::of(8, 0, 35);
        ToolAt { tool, path: tool.facts().programs[0].into(), version, server: version }
    }

    fn line(command: &Command) -> String {
        let words = std::iter::once(command.get_program()).chain(command.get_args());
        words.map(|word| word.to_str().unwrap()).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn versions_of_both_tools_are_read() {
        let mariadb =
            "mariadb-backup based on MariaDB server 10.11.19-MariaDB debian-linux-gnu (x86_64)\n";
        let version = Version::of(10, 11, 19);
        assert_eq!(parse_version(BackupTool::MariaDb, mariadb), Some((version, version)));
        let percona = "2024-01-01T10:00:00.1-00:00 0 [Note] [MY-011825] [Xtrabackup] recognized server arguments:\n\
            xtrabackup version 8.0.35-31 based on MySQL server 8.0.36 Linux (x86_64) (revision id: 55ec21d7)\n";
        let expected = Some((Version::of(8, 0, 35), Version::of(8, 0, 36)));
        assert_eq!(parse_version(BackupTool::Percona, percona), expected);
        assert_eq!(parse_version(BackupTool::Percona, "command not understood"), None);
    }

    #[test]
    fn a_backup_command_starts_with_the_option_file_and_has_absolute_paths() {
        let request = BackupRequest {
            option_file: "/etc/holdfast/my.cnf".into(),
            socket: Some("/run/mysqld/mysqld.sock".into()),
            target_dir: "/tmp/x".into(),
            parallel: 2,
            throttle: Some(40),
            incremental_lsn: Some(44404),
            galera_info: true,
            extra: vec!["--lock-ddl=REDUCED".into()],
        };
        let expected = "xtrabackup --defaults-file=/etc/holdfast/my.cnf --backup --stream=xbstream --target-dir=/tmp/x \
            --socket=/run/mysqld/mysqld.sock --parallel=2 --throttle=40 --incremental-lsn=44404 \
            --galera-info --lock-ddl=REDUCED";
        assert_eq!(line(&backup_command(&at(BackupTool::Percona), &request).unwrap()), expected);
        let relative = BackupRequest {
            option_file: "my.cnf".into(),
            target_dir: "x".into(),
            ..BackupRequest::default()
        };
        let command = backup_command(&at(BackupTool::MariaDb), &relative).unwrap();
        let here = std::env::current_dir().unwrap();
        let expected = format!(
            "mariadb-backup --defaults-file={0}/my.cnf --backup --stream=xbstream --target-dir={0}/x",
            here.display()
        );
        assert_eq!(line(&command), expected);
    }

    #[test]
    fn an_option_that_is_reserved_is_refused_without_its_value() {
        for option in [
            "--password=secret",
            "-psecret",
            "--stream=tar",
            "--defaults_file=x",
            "secret",
            "--",
            "--passwor=secret",
            "--pass=secret",
            "--loose-password=secret",
            "--loose_skip-password=secret",
            "--transition-key=secret",
            "--targ=/tmp/secret",
        ] {
            let error = check_extra(&[option.to_owned()]).expect_err(option);
            assert!(!error.to_string().contains("secret"), "{error}");
        }
        for option in ["--lock-ddl-timeout=30", "--skip-ssl", "--open-files-limit=9000"] {
            assert!(check_extra(&[option.to_owned()]).is_ok(), "{option}");
        }
    }

    #[test]
    fn increments_are_applied_in_order_and_the_last_step_closes_the_backup() {
        let request = PrepareRequest {
            full: "/r/full".into(),
            increments: vec!["/r/1".into(), "/r/2".into()],
            export: true,
            memory_bytes: 1 << 30,
        };
        let lines = |tool| -> Vec<String> {
            prepare_commands(&at(tool), &request).unwrap().iter().map(line).collect()
        };
        let start = "--defaults-file=/r/full/backup-my.cnf --prepare --target-dir=/r/full";
        let memory = "--use-memory=1073741824";
        assert_eq!(
            lines(BackupTool::MariaDb),
            [
                format!("mariadb-backup {start} {memory}"),
                format!("mariadb-backup {start} --incremental-dir=/r/1 {memory}"),
                format!("mariadb-backup {start} --incremental-dir=/r/2 --export {memory}"),
            ]
        );
        assert_eq!(
            lines(BackupTool::Percona),
            [
                format!("xtrabackup {start} --apply-log-only {memory}"),
                format!("xtrabackup {start} --incremental-dir=/r/1 --apply-log-only {memory}"),
                format!("xtrabackup {start} --incremental-dir=/r/2 --export {memory}"),
            ]
        );
    }
}
