//! What is missing or damaged is found before anything is written, and named; what another source has
//! is taken from there.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use depot::crypt::{Identities, Recipients};
use depot::log::{LogObject, seal};
use depot::store::Body;

use super::scene::Scene;

impl Scene {
    fn pieces(&self) -> Vec<LogObject> {
        self.depot().logs().unwrap().pieces
    }

    fn file(&self, piece: &LogObject) -> PathBuf {
        self.lab.path("depot").join(&piece.stored)
    }

    /// One row, in a piece of its own.
    fn piece(&self, id: u32) -> LogObject {
        let known = self.pieces();
        self.sql(&format!("INSERT INTO shop.t VALUES ({id}, 'x')"));
        self.archive();
        let new = self.pieces().into_iter().find(|piece| !known.contains(piece));
        new.unwrap()
    }
}

/// Changes a byte of an object.
fn damage(path: &PathBuf) {
    let mut bytes = fs::read(path).unwrap();
    let at = bytes.len() - 20;
    bytes[at] ^= 1;
    fs::set_permissions(path, PermissionsExt::from_mode(0o600)).unwrap();
    fs::write(path, bytes).unwrap();
}

/// Puts a piece once more, as an agent of another host has it.
fn put_of_other_host(scene: &Scene, piece: &LogObject) {
    let (depot, file) = (scene.depot(), scene.lab.path("identity"));
    let identities = Identities::from_file(&file).unwrap();
    let (mut head, log) = depot.open_log(piece, &identities).unwrap();
    head.source = "db2".parse().unwrap();
    let recipients = Recipients::parse(&identities.public()).unwrap();
    let mut bytes = Vec::new();
    let sealed = seal(&head, log, &recipients, &mut bytes).unwrap();
    depot.put_log(&sealed, Body::Bytes(&bytes)).unwrap();
}

#[test]
fn a_hole_is_refused_and_named_and_what_comes_before_it_can_be_restored() {
    let scene = Scene::new();
    scene.back_up();
    scene.piece(1);
    let before = scene.gtid();
    let missing = scene.piece(2);
    let lost = scene.gtid();
    scene.piece(3);
    let behind = scene.gtid();
    fs::remove_file(scene.file(&missing)).unwrap();
    let hole = format!("the archive has a hole: {} is missing", missing.name.set);
    for point in [vec!["--to-latest"], vec!["--to-gtid", &behind], vec!["--to-gtid", &lost]] {
        let said = scene.restore("never", &point).expect(1);
        said.expect_error(&hole).expect_error("hint: what comes before can be restored");
        let plan = scene.lab.restore(&[&["--plan"], &point[..]].concat()).expect(1);
        plan.expect_error(&hole);
    }
    assert!(!scene.target("never").exists());
    scene.restore("before", &["--to-gtid", &before]).expect(0);
    assert_eq!(scene.look("before", "SELECT GROUP_CONCAT(id) FROM shop.t"), "1");
    // A backup that was taken behind the hole does not need it.
    scene.back_up();
    scene.restore("behind", &["--to-latest"]).expect(0);
    assert_eq!(scene.look("behind", "SELECT GROUP_CONCAT(id) FROM shop.t"), "1,2,3");
}

#[test]
fn a_damaged_piece_is_named_and_what_comes_before_it_can_be_restored() {
    let scene = Scene::new();
    scene.back_up();
    scene.piece(1);
    let first = scene.gtid();
    let second = scene.piece(2);
    scene.piece(3);
    damage(&scene.file(&second));
    let said = scene.restore("never", &["--to-latest"]).expect(1);
    let said = said.expect_error(&format!("`{}` is damaged", second.stored));
    let said = said.expect_error(&format!("hole: {} is missing", second.name.set));
    // What it advises works.
    let hint = said.stderr.split("`--point-in-time ").nth(1).unwrap();
    let time = hint.split('`').next().unwrap();
    scene.restore("before", &["--point-in-time", time]).expect(0);
    assert_eq!(scene.look("before", "SELECT @@gtid_slave_pos"), first);
}

#[test]
fn what_one_source_has_lost_or_damaged_is_taken_from_another() {
    let scene = Scene::new();
    scene.back_up();
    let pieces = [1, 2, 3, 4].map(|id| scene.piece(id));
    pieces.iter().skip(1).for_each(|piece| put_of_other_host(&scene, piece));
    fs::remove_file(scene.file(&pieces[1])).unwrap();
    damage(&scene.file(&pieces[2]));
    let said = scene.restore("x", &["--to-latest"]).expect(0);
    drop(said);
    assert_eq!(scene.look("x", "SELECT GROUP_CONCAT(id) FROM shop.t"), "1,2,3,4");
}
