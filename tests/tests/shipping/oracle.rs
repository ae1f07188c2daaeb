//! The oracle finds what it is there to find: a lost line, a doubled one, one that is not whole.

use anyhow::Result;
use serde_json::json;
use tests::servers::search_store::{ENGINES, SearchStore, Secured};
use tests::shipping::{Schedule, Stage, differences, read_index};

const SEED: u64 = 1128;

/// A stage that went through a schedule without a shipper; nothing that would be destroyed is.
fn stage(folder: &std::path::Path) -> Stage {
    let mut stage = Stage::new(folder, SEED).unwrap();
    for step in Schedule::make(SEED, 80).steps {
        stage.act(&step, |_| Ok(false)).unwrap();
    }
    stage.finish().unwrap();
    stage
}

fn put(store: &SearchStore, index: &str, lines: &[(String, String)]) -> Result<()> {
    for lines in lines.chunks(5000) {
        let lines = lines.iter().map(|(id, message)| {
            let document = json!({"@timestamp": 0, "message": message});
            format!("{}\n{document}\n", json!({"create": {"_id": id}}))
        });
        let answer = store.ask("POST", &format!("/{index}/_bulk"), &lines.collect::<String>())?;
        anyhow::ensure!(answer["errors"] == false, "{answer}");
    }
    Ok(())
}

/// What is in files, plain and compressed, is what the model says.
#[test]
fn the_model_is_what_the_files_hold() {
    use std::io::Read;
    let dir = tempfile::tempdir().unwrap();
    let stage = stage(dir.path());
    let mut lines = Vec::new();
    for entry in std::fs::read_dir(dir.path()).unwrap() {
        let path = entry.unwrap().path();
        let mut file = std::fs::File::open(&path).unwrap();
        let mut text = String::new();
        if path.extension().unwrap() == "gz" {
            flate2::read::GzDecoder::new(file).read_to_string(&mut text).unwrap();
        } else {
            file.read_to_string(&mut text).unwrap();
        }
        assert!(text.is_empty() || text.ends_with('\n'), "{}", path.display());
        lines.extend(text.lines().map(|line| tests::shipping::Line::parse(line).unwrap()));
    }
    lines.sort();
    let expected: Vec<_> = stage.written().keys().copied().collect();
    assert!(expected.len() > 100, "{}", expected.len());
    assert_eq!(lines, expected);
}

#[test]
fn lost_doubled_and_torn_lines_are_found_in_real_stores() {
    let dir = tempfile::tempdir().unwrap();
    let stage = stage(dir.path());
    let lines: Vec<_> = stage.written().keys().copied().collect();
    let texts: Vec<_> = lines.iter().map(|line| (line.to_string(), line.text(SEED))).collect();
    for engine in ENGINES {
        let store = SearchStore::shared(engine, Secured::No).unwrap();
        let check = |index: &str, texts: &[(String, String)]| {
            put(store, index, texts).unwrap();
            differences(&stage, &read_index(store, index).unwrap())
        };
        assert_eq!(check("oracle-whole", &texts), "", "{engine:?}");

        let (last, most) = texts.split_last().unwrap();
        let told = check("oracle-lost", most);
        let line = lines.last().unwrap();
        assert!(told.starts_with(&format!("1 lost, first:\n  {line}: written by step")), "{told}");
        assert!(told.contains("Write {"), "{told}");

        let told = check("oracle-whole", &[("again".to_owned(), last.1.clone())]);
        assert!(told.starts_with(&format!("1 doubled, first:\n  {line}: ")), "{told}");
        assert!(told.contains("oracle-whole/again"), "{told}");

        let mut torn = texts.clone();
        torn[3].1.pop();
        let told = check("oracle-torn", &torn);
        assert!(told.contains("1 lost") && told.contains("1 not as they were"), "{told}");
    }
}
