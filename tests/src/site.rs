//! A host whose jobs go to three depots at once: a directory, the append-only account of a real SSH server, and a
//! real S3 server, the last two over lines that can be broken. Needs root.
//!
//! The keeper of all three looks past the lines, as one on the depots' own hosts does.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;
use chassis::retry::Stop;
use depot::crypt::Identities;
use depot::depot::Depot;
use depot::names::SnapshotId;
use depot::store::StoreConfig;
use depot::store::directory::DirectoryConfig;

use crate::lab::{Daemon, Lab, ctl, ctl_command};
use crate::program::Said;
use crate::servers::line::Line;
use crate::servers::sshd::{Account, Login, Sshd};
use crate::servers::versitygw::VersityGw;
use crate::small_disk::SmallDisk;

/// The names of the depots: a directory, SFTP, S3.
pub const DEPOTS: [&str; 3] = ["vault", "sftp", "s3"];

/// The keeper's rule.
pub const KEEP_LAST: usize = 3;

/// How large the disks are where the host keeps its state and the directory depot is.
const DISK_MEGABYTES: u32 = 256;

/// The host, and the hosts of its depots.
#[derive(Debug)]
pub struct Site {
    // Dropped in this order: who uses something before it.
    daemon: Option<Daemon>,
    /// The disks of the state directory, and of the depots in a directory and over SFTP.
    pub disks: Option<[SmallDisk; 3]>,
    /// The host.
    pub lab: Lab,
    /// The line to the SSH server.
    pub sftp_line: Line,
    /// The line to the S3 server.
    pub s3_line: Line,
    /// The SSH server.
    pub sshd: Sshd,
    /// The S3 server.
    pub s3: VersityGw,
    jobs: String,
}

impl Site {
    /// With empty depots and without a job.
    pub fn new() -> Result<Self> {
        Self::build(false)
    }

    /// The same on disks that can be filled; `disks` is none where mounting is not permitted.
    pub fn with_small_disks() -> Result<Self> {
        Self::build(true)
    }

    fn build(wants_disks: bool) -> Result<Self> {
        let (sshd, s3) = (Sshd::start()?, VersityGw::start()?);
        let mut site = Self {
            daemon: None,
            disks: None,
            lab: Lab::new(""),
            sftp_line: Line::to(sshd.address())?,
            s3_line: Line::to(s3.address())?,
            sshd,
            s3,
            jobs: String::new(),
        };
        if wants_disks {
            site.disks = site.mount().inspect_err(tell_of_no_disks).ok();
        }
        fs::write(site.path("keeper.toml"), site.keeper())?;
        fs::write(site.path("auditor.toml"), site.on_disks(&DEPOTS))?;
        ctl(&site.path("keeper.toml"), &["depot", "init"]).expect(0);
        site.sshd.open_depot(Account::AppendOnly)?;
        site.configure("")?;
        Ok(site)
    }

    fn mount(&self) -> Result<[SmallDisk; 3]> {
        let sftp = self.sshd.folder(Account::AppendOnly);
        fs::create_dir(self.path("state"))?;
        let mount = |path: &Path| SmallDisk::mount(path, DISK_MEGABYTES);
        Ok([mount(&self.path("state"))?, mount(&self.path("depot"))?, mount(&sftp)?])
    }

    /// What the keeper and the auditor both are told.
    fn on_disks(&self, names: &[&str]) -> String {
        let tables = names.iter().map(|name| {
            let path = self.disk_of(name);
            format!("[depots.{name}.directory]\npath = '{}'\n", path.display())
        });
        format!("host = 'log1'\n{}", tables.collect::<String>())
    }

    fn keeper(&self) -> String {
        let s3 = self.s3.table(self.s3.address());
        let disks = self.on_disks(&["vault", "sftp"]);
        format!("{disks}[depots.s3.s3]\n{s3}[keeper.default]\nkeep-last = {KEEP_LAST}\n")
    }

    /// Where a depot is on the disk of its host.
    pub fn disk_of(&self, depot: &str) -> PathBuf {
        match depot {
            "vault" => self.path("depot"),
            "sftp" => self.sshd.folder(Account::AppendOnly),
            _ => self.s3.bucket_path(),
        }
    }

    /// A path on the host.
    pub fn path(&self, name: &str) -> PathBuf {
        self.lab.path(name)
    }

    /// Writes the host's configuration with these jobs.
    pub fn configure(&mut self, jobs: &str) -> Result<()> {
        jobs.clone_into(&mut self.jobs);
        let login = Login::Password;
        let sftp = self.sshd.table(Account::AppendOnly, login, self.sftp_line.address())?;
        let s3 = self.s3.table(self.s3_line.address());
        self.lab.configure(&format!("[depots.sftp.sftp]\n{sftp}[depots.s3.s3]\n{s3}{jobs}"));
        Ok(())
    }

    /// Starts the daemon, instead of the one that runs.
    pub fn start(&mut self) {
        self.daemon = None;
        self.daemon = Some(self.lab.start());
    }

    /// The daemon, which was started.
    #[track_caller]
    pub fn daemon(&self) -> &Daemon {
        self.daemon.as_ref().expect("the daemon was started")
    }

    /// `backupctl` on the keeper.
    pub fn keeper_command(&self, arguments: &[&str]) -> Command {
        ctl_command(&self.path("keeper.toml"), arguments)
    }

    /// Runs it.
    pub fn keeper_ctl(&self, arguments: &[&str]) -> Said {
        ctl(&self.path("keeper.toml"), arguments)
    }

    /// Runs `backupctl` on the disks of all depots: it sees what is stored there and not what a server says.
    pub fn auditor_ctl(&self, arguments: &[&str]) -> Said {
        self.complete_bucket().expect("the bucket's disk can be written");
        ctl(&self.path("auditor.toml"), arguments)
    }

    /// Opens a depot on its disk.
    pub fn depot(&self, name: &str) -> Result<Depot> {
        self.complete_bucket()?;
        let directory = Some(DirectoryConfig { path: self.disk_of(name) });
        let config = StoreConfig { directory, ..StoreConfig::default() };
        Depot::open(name, &config, &Stop::never())
    }

    /// The S3 server has folders on its disk only where objects are.
    fn complete_bucket(&self) -> Result<()> {
        let bucket = self.s3.bucket_path();
        let packs = (0..=255).map(|number| format!("pack/{number:02x}"));
        for folder in packs.chain(["snapshot", "condemned", "keep"].map(str::to_owned)) {
            fs::create_dir_all(bucket.join(folder))?;
        }
        Ok(())
    }

    /// What opens the backups.
    pub fn identities(&self) -> Result<Identities> {
        Identities::from_file(Path::new(&self.lab.identity()))
    }

    /// The backups that were committed to a depot.
    pub fn committed(&self, name: &str) -> Result<BTreeSet<SnapshotId>> {
        let depot = self.depot(name)?;
        let ids = depot.snapshots()?.into_iter().map(|info| info.id);
        Ok(ids.filter(|id| depot.needs(id).is_ok()).collect())
    }

    /// Restores a backup with the program, through the line of its depot, into a directory below that of the host.
    pub fn restore(&self, depot: &str, id: &SnapshotId, target: &str, more: &[&str]) -> Said {
        let (id, target) = (id.to_string(), self.path(target));
        let target = target.to_str().expect("scratch paths are UTF-8");
        let arguments = ["--depot", depot, "--snapshot", &id, "--target", target];
        self.lab.restore(&[&arguments, more].concat())
    }
}

/// A test without full disks is better than none, if it is said.
#[expect(clippy::print_stderr, reason = "who reads the test's output must know")]
fn tell_of_no_disks(error: &anyhow::Error) {
    eprintln!("SKIPPED: full disks: {error:#}");
}
