//! The directory store: the contract, a full disk, odd things in the folder.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use chassis::durable::{NewFile, TEMP_PREFIX};
use depot::store::{Body, Store, StoreError};
use tests::servers::process::run;

use crate::contract::{self, noise, open};

fn store_in(path: &Path) -> Store {
    open(&format!("[directory]\npath = '{}'", path.display()))
}

#[test]
fn directory_keeps_the_contract() {
    let dir = tempfile::tempdir().unwrap();
    contract::check_all_of_keeper(&store_in(&dir.path().join("made-by-init")));
}

#[test]
fn memory_keeps_the_contract() {
    contract::check_all_of_keeper(&Store::Memory(depot::store::memory::MemoryStore::default()));
}

#[test]
fn what_is_not_an_object_is_not_listed_or_read() {
    let dir = tempfile::tempdir().unwrap();
    let store = store_in(dir.path());
    store.create("object", Body::Bytes(b"x")).unwrap();
    fs::create_dir(dir.path().join("folder")).unwrap();
    symlink("/etc/passwd", dir.path().join("link")).unwrap();
    fs::write(dir.path().join(".hidden"), "x").unwrap();
    fs::write(dir.path().join("odd name"), "x").unwrap();
    rustix::fs::mkfifoat(rustix::fs::CWD, dir.path().join("pipe"), 0o600.into()).unwrap();
    let unfinished = NewFile::create(dir.path(), 0o600).unwrap();
    let names: Vec<String> = store.list("").unwrap().into_iter().map(|o| o.name).collect();
    assert_eq!(names, ["object"]);
    for name in ["folder", "link", "pipe"] {
        assert_eq!(store.stat(name).unwrap(), None, "{name}");
        assert!(matches!(store.read(name), Err(StoreError::Missing { .. })), "{name}");
        contract::assert_exists(store.create(name, Body::Bytes(b"x")));
    }
    drop(unfinished);
    assert_eq!(store.remove_leftovers("").unwrap(), 0);
}

#[test]
fn a_full_disk_is_reported_and_nothing_is_left_behind() {
    let disk = SmallDisk::mount();
    let store = store_in(disk.path());
    store.make_folder("pack").unwrap();
    store.create("pack/fits", Body::Bytes(&noise(1 << 20, 1))).unwrap();
    let outcome = store.create("pack/too-large", Body::Bytes(&noise(8 << 20, 2)));
    assert!(matches!(outcome, Err(StoreError::Full { .. })), "{outcome:?}");
    let left: Vec<_> = fs::read_dir(disk.path().join("pack")).unwrap().flatten().collect();
    assert_eq!(left.len(), 1, "{left:?}");
    assert!(
        fs::read_dir(disk.path().join("pack"))
            .unwrap()
            .flatten()
            .all(|entry| { !entry.file_name().to_string_lossy().starts_with(TEMP_PREFIX) })
    );
    let free = store.free_bytes().unwrap().unwrap();
    assert!((1 << 20..4 << 20).contains(&free), "{free}");
    store.create("pack/fits-too", Body::Bytes(&noise(1 << 20, 3))).unwrap();
}

#[test]
fn a_depot_that_is_not_mounted_is_missing() {
    let dir = tempfile::tempdir().unwrap();
    let store = store_in(&dir.path().join("not-mounted"));
    let outcome = store.create("pack/x", Body::Bytes(b"x"));
    assert!(matches!(outcome, Err(StoreError::Missing { .. })), "{outcome:?}");
    assert!(store.list("pack").is_err() && store.free_bytes().is_err());
    for outcome in [store.create("depot.toml", Body::Bytes(b"x")), store.list("").map(drop)] {
        assert!(outcome.unwrap_err().hint().unwrap().contains("mounted"));
    }
    let deep = store_in(&dir.path().join("neither/this"));
    assert!(deep.make_folder("pack").is_err(), "only the last folder of the path is made");
}

#[test]
fn a_read_only_file_system_says_what_to_do() {
    let disk = SmallDisk::mount();
    let store = store_in(disk.path());
    store.create("object", Body::Bytes(b"x")).unwrap();
    disk.remount_read_only();
    let error = store.create("other", Body::Bytes(b"x")).unwrap_err();
    assert!(error.hint().unwrap().contains("ReadWritePaths="), "{error:?}");
    assert_eq!(store.read("object").unwrap(), b"x");
}

#[test]
fn the_upload_limit_holds_over_all_threads() {
    let dir = tempfile::tempdir().unwrap();
    let text = "upload-limit = \"4MiB\"\n[directory]\npath = ";
    let store = open(&format!("{text}'{}'", dir.path().display()));
    let started = std::time::Instant::now();
    let (store, bytes) = (&store, &noise(1 << 20, 1));
    std::thread::scope(|scope| {
        for name in ["a", "b"] {
            scope.spawn(move || store.create(name, Body::Bytes(bytes)).unwrap());
        }
    });
    let took = started.elapsed().as_millis();
    // The last piece of a quarter of a second is not waited for.
    assert!((245..2000).contains(&took), "2 MiB at 4 MiB/s took {took} ms");
}

/// A file system of 4 MiB, unmounted on drop. Needs root.
pub struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    pub fn mount() -> Self {
        let dir = tempfile::tempdir().unwrap();
        Self::mount_at(dir.path());
        Self(dir)
    }

    fn mount_at(path: &Path) {
        let mut command = std::process::Command::new("mount");
        command.args(["-t", "tmpfs", "-o", "size=4m", "tmpfs"]).arg(path);
        run(&mut command, "").unwrap();
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }

    fn remount_read_only(&self) {
        let mut command = std::process::Command::new("mount");
        command.args(["-o", "remount,ro"]).arg(self.path());
        run(&mut command, "").unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        drop(run(std::process::Command::new("umount").arg("--lazy").arg(self.path()), ""));
    }
}
