//! A depot with backups made by the writer alone, and the program run on it.

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use chassis::progress::Progress;
use chassis::retry::Stop;
use chrono::{DateTime, TimeDelta, Utc};
use depot::block::BlockKey;
use depot::crypt::{Recipients, generate_identity};
use depot::depot::Depot;
use depot::manifest::{Attributes, Entry, EntryKind, EntryPath, SnapshotKind};
use depot::names::SnapshotId;
use depot::store::StoreConfig;
use depot::store::directory::DirectoryConfig;
use depot::writer::{SnapshotWriter, Stamp, Tuning, WriterOptions};
use rustix::fs::{SeekFrom, lgetxattr, llistxattr, seek};
use tempfile::TempDir;
use tests::program::{Said, program};

/// A directory depot, a key pair, and room for targets.
pub struct Lab {
    scratch: TempDir,
    pub depot: Arc<Depot>,
    recipients: Recipients,
    key: BlockKey,
    /// When the last backup began, by the clock of its host.
    pub time: DateTime<Utc>,
}

impl Lab {
    pub fn new() -> Self {
        // Not in /tmp: it may be a file system without extended attributes.
        Self::below(Path::new(env!("CARGO_TARGET_TMPDIR")))
    }

    /// One in a directory that other users can reach, too.
    pub fn below(directory: &Path) -> Self {
        let scratch = tempfile::tempdir_in(directory).unwrap();
        let directory = Some(DirectoryConfig { path: scratch.path().join("depot") });
        let config = StoreConfig { directory, ..StoreConfig::default() };
        let depot = Depot::init("lab", &config).unwrap();
        let (secret, public) = generate_identity();
        fs::write(scratch.path().join("key.txt"), format!("{}\n", secret.expose())).unwrap();
        fs::create_dir(scratch.path().join("tree")).unwrap();
        Self {
            scratch,
            depot: Arc::new(depot),
            recipients: Recipients::parse(&[public]).unwrap(),
            key: BlockKey::generate(),
            time: "2025-11-23T02:00:00Z".parse().unwrap(),
        }
    }

    /// A path in the scratch directory.
    pub fn path(&self, name: &str) -> PathBuf {
        self.scratch.path().join(name)
    }

    /// The tree that [`Self::back_up`] backs up.
    pub fn tree(&self) -> PathBuf {
        self.path("tree")
    }

    /// A writer for the next backup of a job, an hour after the last one.
    pub fn writer(
        &mut self,
        job: &str,
        kind: SnapshotKind,
        parent: Option<SnapshotId>,
    ) -> SnapshotWriter {
        self.time += TimeDelta::hours(1);
        let options = WriterOptions {
            id: SnapshotId::new(job.parse().unwrap(), self.time, "web1".parse().unwrap()),
            kind,
            root: "/srv/tree".into(),
            program: "tests".into(),
            key: self.key.clone(),
            recipients: self.recipients.clone(),
            parent,
            state_dir: self.path(&format!("state-{job}")),
            tuning: Tuning { pack_bytes: 1 << 20, ..Tuning::default() },
            stop: Stop::never(),
            progress: Arc::new(Progress::default()),
        };
        SnapshotWriter::start(options, vec![self.depot.clone()]).unwrap()
    }

    /// Backs up the tree under the job `site`.
    pub fn back_up(&mut self) -> SnapshotId {
        let root = self.tree();
        self.back_up_with(|writer| put_tree(writer, &root))
    }

    /// Backs up what `put` puts.
    pub fn back_up_with(&mut self, put: impl FnOnce(&mut SnapshotWriter)) -> SnapshotId {
        let mut writer = self.writer("site", SnapshotKind::Files, None);
        put(&mut writer);
        writer.finish(None).unwrap().id
    }

    /// The program with depot and key, and more arguments.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(program("restore"));
        command.arg("--depot").arg(self.path("depot"));
        command.arg("--identity").arg(self.path("key.txt"));
        command.args(arguments).current_dir(self.scratch.path());
        command
    }

    pub fn run(&self, arguments: &[&str]) -> Said {
        Said::of(&self.command(arguments).output().unwrap())
    }

    /// The files of all packs, sorted.
    pub fn packs(&self) -> Vec<PathBuf> {
        let folders = fs::read_dir(self.path("depot/pack")).unwrap();
        let files = |folder: fs::DirEntry| fs::read_dir(folder.path()).unwrap();
        let mut packs: Vec<PathBuf> =
            folders.flat_map(|f| files(f.unwrap())).map(|f| f.unwrap().path()).collect();
        packs.sort();
        packs
    }
}

/// Changes a read-only object of the depot, as only a broken disk would.
pub fn spoil(object: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = fs::read(object).unwrap();
    change(&mut bytes);
    fs::set_permissions(object, PermissionsExt::from_mode(0o600)).unwrap();
    fs::write(object, bytes).unwrap();
}

/// A path of a manifest.
pub fn entry_path(path: &[u8]) -> EntryPath {
    EntryPath::new(path).unwrap()
}

/// An entry without content and without attributes.
pub fn entry(path: &str, kind: EntryKind, target: Option<&str>) -> Entry {
    Entry {
        path: entry_path(path.as_bytes()),
        kind,
        target: target.map(|target| target.as_bytes().to_vec()),
        size: 0,
        attributes: None,
        sparse: false,
        file: None,
        blocks: Vec::new(),
    }
}

/// A file with this content and without attributes.
pub fn put_file(writer: &mut SnapshotWriter, path: &str, content: &[u8]) {
    let file = writer.open(entry_path(path.as_bytes())).unwrap();
    writer.write(file, content).unwrap();
    writer.close(file, None, false, Stamp::default()).unwrap();
}

/// A tree with everything about it.
pub fn put_tree(writer: &mut SnapshotWriter, root: &Path) {
    let mut names = HashMap::new();
    put_entry(writer, root, b".".to_vec(), &mut names);
}

fn put_entry(
    writer: &mut SnapshotWriter,
    path: &Path,
    relative: Vec<u8>,
    names: &mut HashMap<u64, Vec<u8>>,
) {
    let metadata = fs::symlink_metadata(path).unwrap();
    let kind = match metadata.file_type() {
        kind if kind.is_dir() => EntryKind::Dir,
        kind if kind.is_symlink() => EntryKind::Symlink,
        kind if !kind.is_file() => return,
        _ if names.contains_key(&metadata.ino()) => EntryKind::Hardlink,
        _ => EntryKind::File,
    };
    let target = match kind {
        EntryKind::Symlink => Some(fs::read_link(path).unwrap().as_os_str().as_bytes().to_vec()),
        EntryKind::Hardlink => Some(names[&metadata.ino()].clone()),
        _ => None,
    };
    let attributes = Some(attributes(path, &metadata));
    if kind == EntryKind::File {
        names.insert(metadata.ino(), relative.clone());
        put_content(writer, path, &relative, &metadata, attributes);
        return;
    }
    let entry = Entry { target, attributes, ..entry(".", kind, None) };
    writer.add(Entry { path: entry_path(&relative), ..entry }).unwrap();
    if kind != EntryKind::Dir {
        return;
    }
    for child in fs::read_dir(path).unwrap() {
        let name = child.unwrap().file_name();
        let mut below = if relative == b"." { Vec::new() } else { [&relative, &b"/"[..]].concat() };
        below.extend_from_slice(name.as_bytes());
        put_entry(writer, &path.join(&name), below, names);
    }
}

fn attributes(path: &Path, metadata: &fs::Metadata) -> Attributes {
    let (mut names, mut value) = (vec![0; 65_536], vec![0; 65_536]);
    let length = llistxattr(path, &mut names).unwrap_or_default();
    let mut xattrs = BTreeMap::new();
    for name in names[..length].split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        let length = lgetxattr(path, name, &mut value).unwrap();
        xattrs.insert(String::from_utf8(name.to_vec()).unwrap(), value[..length].to_vec());
    }
    Attributes {
        mode: metadata.mode() & 0o7777,
        uid: metadata.uid(),
        gid: metadata.gid(),
        user: None,
        group: None,
        mtime: (metadata.mtime(), metadata.mtime_nsec() as u32),
        xattrs,
    }
}

fn put_content(
    writer: &mut SnapshotWriter,
    path: &Path,
    relative: &[u8],
    metadata: &fs::Metadata,
    attributes: Option<Attributes>,
) {
    let source = File::open(path).unwrap();
    let file = writer.open(entry_path(relative)).unwrap();
    let mut at = 0;
    let mut sparse = false;
    while at < metadata.size() {
        let data = seek(&source, SeekFrom::Data(at)).unwrap_or(metadata.size());
        let end = seek(&source, SeekFrom::Hole(data)).unwrap_or(metadata.size());
        sparse |= data > at;
        writer.skip(file, data - at).unwrap();
        let mut content = vec![0; (end - data) as usize];
        source.read_exact_at(&mut content, data).unwrap();
        writer.write(file, &content).unwrap();
        at = end;
    }
    writer.close(file, attributes, sparse, Stamp::default()).unwrap();
}
