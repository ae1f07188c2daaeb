//! Feeds every target with its corpus: the seeds, and whatever was found once. The memory that is
//! counted is that of the process, so one input is tried at a time.

use std::fs;
use std::path::{Path, PathBuf};

use fuzz::TARGETS;

fn corpus() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus")
}

#[test]
fn the_corpus_breaks_no_target() {
    for target in TARGETS {
        let folder = corpus().join(target.name);
        let mut count = 0;
        for entry in fs::read_dir(&folder).expect("every target has a corpus") {
            let path = entry.unwrap().path();
            let input = fs::read(&path).unwrap();
            let outcome = std::panic::catch_unwind(|| (target.run)(&input));
            assert!(outcome.is_ok(), "{} breaks {}", path.display(), target.name);
            count += 1;
        }
        assert!(count > 0, "{} is empty", folder.display());
    }
    let folders = fs::read_dir(corpus()).unwrap().count();
    assert_eq!(folders, TARGETS.len(), "a corpus without a target");
}
