//! A backup that the tests took: run, kept in memory, unpacked.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use database::info::{self, Positions};
use database::tool::{self, BackupRequest, BackupTool, PrepareRequest, ToolAt};
use database::xbstream::{Kind, Reader, StreamError, is_removed_by};
use tests::servers::mariadb::MariaDb;

/// A run of `mariadb-backup`.
pub struct Taken {
    /// Its standard output.
    pub stream: Vec<u8>,
    /// Its standard error.
    pub log: String,
    /// Whether its exit code was zero.
    pub is_success: bool,
}

pub fn mariadb_backup() -> ToolAt {
    tool::find(BackupTool::MariaDb).unwrap()
}

pub fn request(option_file: &Path, target_dir: &Path) -> BackupRequest {
    BackupRequest {
        option_file: option_file.into(),
        target_dir: target_dir.into(),
        parallel: 2,
        ..BackupRequest::default()
    }
}

/// Runs a backup as it is asked for; `on_line` sees every line of the log while the run goes on.
pub fn run(request: &BackupRequest, mut on_line: impl FnMut(&str)) -> Taken {
    let mut child = tool::backup_command(&mariadb_backup(), request).unwrap().spawn().unwrap();
    let mut stdout = child.stdout.take().unwrap();
    let reader = std::thread::spawn(move || {
        let mut stream = Vec::new();
        stdout.read_to_end(&mut stream).unwrap();
        stream
    });
    let mut log = String::new();
    for line in BufReader::new(child.stderr.take().unwrap()).lines() {
        let line = line.unwrap();
        on_line(&line);
        log.push_str(&line);
        log.push('\n');
    }
    let is_success = child.wait().unwrap().success();
    Taken { stream: reader.join().unwrap(), log, is_success }
}

/// A backup of a whole server that worked.
pub fn take(server: &MariaDb, incremental_lsn: Option<u64>) -> Taken {
    let target = tempfile::tempdir().unwrap();
    let option_file = server.option_file().unwrap();
    let request = BackupRequest { incremental_lsn, ..request(&option_file, target.path()) };
    let taken = run(&request, |_| ());
    assert!(taken.is_success && tool::is_complete(&taken.log), "{}", taken.log);
    let left: Vec<_> = fs::read_dir(target.path()).unwrap().collect();
    assert!(left.is_empty(), "a stream leaves nothing on disk: {left:?}");
    taken
}

/// What was seen besides files.
#[derive(Debug, Default)]
pub struct Seen {
    /// Paths as they are at the end of the stream.
    pub files: BTreeSet<PathBuf>,
    /// Removals, renames, files that came again, and payloads behind the end of their file.
    pub removed: usize,
    pub renamed: usize,
    pub rewritten: usize,
    pub overwritten: usize,
}

/// Unpacks a stream with our reader into a directory. Only files that `wanted` accepts are written.
pub fn unpack(
    stream: impl Read,
    target: &Path,
    wanted: impl Fn(&Path) -> bool,
) -> Result<Seen, StreamError> {
    let mut reader = Reader::new(stream, BackupTool::MariaDb);
    let (mut seen, mut payload) = (Seen::default(), Vec::new());
    let mut sizes: BTreeMap<PathBuf, u64> = BTreeMap::new();
    while let Some(chunk) = reader.next(&mut payload)? {
        let path = target.join(&chunk.path);
        if chunk.first {
            let is_new = seen.files.insert(chunk.path.to_path_buf());
            assert!(is_new || chunk.rewrite, "{} came twice", path.display());
            seen.rewritten += usize::from(chunk.rewrite);
            sizes.insert(chunk.path.to_path_buf(), 0);
            if wanted(&chunk.path) {
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(&path, b"").unwrap();
            }
        }
        for (offset, piece) in chunk.pieces(&payload) {
            let size = sizes.get_mut(&*chunk.path).unwrap();
            seen.overwritten += usize::from(offset < *size);
            *size = (*size).max(offset + piece.len() as u64);
            if wanted(&chunk.path) {
                let file = fs::File::options().write(true).open(&path).unwrap();
                file.write_all_at(piece, offset).unwrap();
            }
        }
        match &chunk.kind {
            Kind::Remove => {
                seen.removed += 1;
                let gone: Vec<_> = seen
                    .files
                    .iter()
                    .filter(|file| is_removed_by(&chunk.path, file))
                    .cloned()
                    .collect();
                for file in gone {
                    seen.files.remove(&file);
                    drop(fs::remove_file(target.join(file)));
                }
            }
            Kind::Rename { to } => {
                seen.renamed += 1;
                if seen.files.remove(&*chunk.path) {
                    seen.files.insert(to.to_path_buf());
                    fs::copy(&path, target.join(to)).unwrap();
                    fs::remove_file(&path).unwrap();
                }
            }
            Kind::End { size } => assert_eq!(*size, sizes[&*chunk.path], "{}", path.display()),
            Kind::Payload { .. } | Kind::Sparse { .. } => {}
        }
    }
    Ok(seen)
}

/// Unpacks with the tool that MariaDB brings.
pub fn unpack_with_mbstream(stream: &[u8], target: &Path) {
    let mut command = Command::new(BackupTool::MariaDb.facts().unpacker);
    command.args(["-x", "-C"]).arg(target).stdin(Stdio::piped());
    let mut child = command.spawn().unwrap();
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), stream).unwrap();
    assert!(child.wait().unwrap().success());
}

/// All files below a directory, with their contents.
pub fn tree(top: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let (mut files, mut open) = (BTreeMap::new(), vec![top.to_path_buf()]);
    while let Some(directory) = open.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else {
                files.insert(
                    path.strip_prefix(top).unwrap().to_path_buf(),
                    fs::read(&path).unwrap(),
                );
            }
        }
    }
    files
}

/// The positions of an unpacked backup.
pub fn positions(directory: &Path) -> Positions {
    let names = info::Metadata::ALL.into_iter().flat_map(info::Metadata::names);
    let files = names.filter_map(|n| Some(((*n).to_owned(), fs::read(directory.join(n)).ok()?)));
    let files = files.filter(|(_, bytes)| bytes.len() < info::METADATA_LENGTH_MAX).collect();
    Positions::parse(BackupTool::MariaDb, &files).unwrap()
}

/// Prepares an unpacked backup; every step must say that it worked.
pub fn prepare(full: &Path, increments: &[&Path], export: bool) {
    let request = PrepareRequest {
        full: full.into(),
        increments: increments.iter().map(|path| path.to_path_buf()).collect(),
        export,
        memory_bytes: 64 << 20,
    };
    for mut command in tool::prepare_commands(&mariadb_backup(), &request).unwrap() {
        let output = command.output().unwrap();
        let log = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && tool::is_complete(&log), "{command:?}: {log}");
    }
}
