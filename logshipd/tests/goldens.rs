//! Lines that real servers wrote, each with the document that it becomes.
//!
//! `goldens/NAME.log` holds lines as they were in the file, `goldens/NAME.json` one line for each entry: its dataset
//! and its document, or the reason why it is none. `UPDATE_GOLDENS=1 cargo test -p logshipd --test goldens` writes the
//! latter anew; read the difference before you keep it.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use logshipd::document::Document;
use logshipd::parse::{Context, Dataset, Format, Joint, Privacy};
use logshipd::setup::datasets::{DATASETS, Module};
use logshipd::setup::fields;
use serde_json::{Value, json};

/// As many as the project wants at least.
const ENTRIES_MIN: usize = 300;
/// 2026-11-24, the day after the lines were written.
const READ_AT: i64 = 1_795_478_400_000_000_000;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens")
}

fn format(name: &str) -> Format {
    match name {
        "garbd" => Format::Garbd,
        "lsyncd" => Format::Lsyncd,
        "mysql-error" => Format::MysqlError,
        "mysql-slow" => Format::MysqlSlow,
        "nginx-access" => Format::nginx_access(),
        "nginx-error" => Format::NginxError,
        "php-access" => Format::PhpAccess,
        "php-fpm" => Format::PhpFpm,
        "php-slow" => Format::PhpSlow,
        name if name.starts_with("syslog") => Format::syslog(),
        name => panic!("{name} is no format"),
    }
}

/// The entries of a file, put together line by line as the reader does it.
fn entries(format: &Format, text: &[u8]) -> Vec<Vec<u8>> {
    let (mut done, mut open) = (Vec::new(), Vec::new());
    let text = text.strip_suffix(b"\n").unwrap_or(text);
    for line in text.split(|&byte| byte == b'\n') {
        let joint = format.joint(line, &open);
        if joint == Joint::Continue && !open.is_empty() {
            open.push(b'\n');
            open.extend_from_slice(line);
            continue;
        }
        if !open.is_empty() {
            done.push(std::mem::take(&mut open));
        }
        open.extend_from_slice(line);
        if joint == Joint::Whole {
            done.push(std::mem::take(&mut open));
        }
    }
    if !open.is_empty() {
        done.push(open);
    }
    done
}

fn parsed(format: &Format, entry: &[u8]) -> Value {
    let privacy = Privacy::default();
    let context = Context { read_at: READ_AT, zone: chrono_tz::Tz::UTC, privacy };
    let mut document = Document::default();
    match format.parse(entry, &context, &mut document) {
        Ok(dataset) => {
            let text = std::str::from_utf8(document.finish()).expect("it is text").to_owned();
            let value: Value = serde_json::from_str(&text).expect("it is JSON");
            assert_written_once(&text, &value);
            json!({"dataset": dataset.as_str(), "document": value})
        }
        Err(problem) => json!({"unparsed": problem.to_string()}),
    }
}

/// A key that is there twice is lost when JSON is read, and so is its text.
fn assert_written_once(text: &str, value: &Value) {
    for key in value.as_object().expect("an object").keys() {
        assert_eq!(text.matches(&format!("\"{key}\":")).count(), 1, "{key}: {text}");
    }
}

fn files() -> Vec<(String, Format, Vec<Vec<u8>>)> {
    let mut names: Vec<PathBuf> = std::fs::read_dir(folder())
        .expect("the folder")
        .map(|entry| entry.expect("a file").path())
        .collect();
    names.retain(|path| path.extension().is_some_and(|extension| extension == "log"));
    names.sort();
    let of = |path: PathBuf| {
        let name = path.file_stem().and_then(|name| name.to_str()).expect("a name").to_owned();
        let format = format(&name);
        let found = entries(&format, &std::fs::read(&path).expect("a file"));
        (name, format, found)
    };
    names.into_iter().map(of).collect()
}

#[test]
fn real_lines_become_the_documents_that_are_written_down() {
    let mut count = 0;
    for (name, format, entries) in files() {
        let path = folder().join(format!("{name}.json"));
        let made: Vec<String> =
            entries.iter().map(|entry| parsed(&format, entry).to_string()).collect();
        if std::env::var_os("UPDATE_GOLDENS").is_some() {
            std::fs::write(&path, made.join("\n") + "\n").unwrap();
        }
        let expected = std::fs::read_to_string(&path).unwrap();
        let expected: Vec<&str> = expected.lines().collect();
        assert_eq!(made.len(), expected.len(), "{name}");
        for ((made, expected), entry) in made.iter().zip(expected).zip(&entries) {
            assert_eq!(made, expected, "{name}: {}", String::from_utf8_lossy(entry));
        }
        count += made.len();
    }
    assert!(count >= ENTRIES_MIN, "only {count}");
}

#[test]
fn every_key_of_a_document_is_a_mapped_field_of_its_dataset() {
    for (name, format, entries) in files() {
        for entry in &entries {
            let made = parsed(&format, entry);
            let Some(dataset) = made["dataset"].as_str() else { continue };
            let module = DATASETS.iter().find(|known| known.name == dataset).unwrap().module;
            let lists = fields::of(module).iter().chain([&fields::BASE]);
            let known: BTreeSet<&str> =
                lists.flat_map(|list| list.iter().map(|(name, _)| *name)).collect();
            for key in made["document"].as_object().unwrap().keys() {
                // The templates of a dataset say what it is.
                let is_constant = key == "event.category";
                assert!(is_constant || known.contains(key.as_str()), "{name}: {key} of {dataset}");
            }
        }
    }
}

/// Large entries, made of what formats look for, and pieces of real lines in any order.
#[test]
fn no_entry_takes_long() {
    const ENTRY_BYTES: usize = 64 << 10;
    const TIME_MAX: std::time::Duration = std::time::Duration::from_secs(5);
    let pieces =
        ["\"", "\\", "[", "{", "(", "a ", "# ", "/*", "'", "\n", "<", "%", ":", ", ", "\0", "-"];
    for (name, format, entries) in files() {
        let heads = entries.iter().step_by(entries.len().div_ceil(2)).map(|e| &e[..e.len() / 2]);
        for head in heads.chain([&b""[..]]) {
            for piece in pieces {
                let mut entry = head.to_vec();
                entry.extend(piece.as_bytes().iter().cycle().take(ENTRY_BYTES));
                let started = std::time::Instant::now();
                format.joint(&entry, head);
                parsed(&format, &entry);
                let took = started.elapsed();
                assert!(took < TIME_MAX, "{name}: {piece:?} takes {took:?}");
            }
        }
    }
}

#[test]
fn every_dataset_of_a_parser_has_a_template() {
    for dataset in Dataset::ALL {
        let known = DATASETS.iter().find(|known| known.name == dataset.as_str());
        assert!(known.is_some(), "{dataset:?}");
    }
    for known in DATASETS {
        let is_parsed = Dataset::ALL.iter().any(|dataset| dataset.as_str() == known.name);
        let is_plain =
            known.module == Module::Services && ["journald.log", "generic"].contains(&known.name);
        assert!(is_parsed || is_plain, "{}", known.name);
    }
}
