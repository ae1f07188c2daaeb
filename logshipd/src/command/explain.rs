//! `logshipd explain`: how an entry would be taken apart, and what would be sent of it.

use std::io::{Read, Write};
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use chassis::failure::{Exit, Failure};
use clap::Args;

use super::print;
use crate::compose::Shape;
use crate::config::FormatName;
use crate::document::Document;
use crate::life::Entry;
use crate::parse::{Context, Privacy};

/// What is read from standard input at most.
const INPUT_BYTES_MAX: u64 = 8 << 20;

/// Which entry, and what it is.
#[derive(Debug, Args)]
pub struct ExplainArguments {
    /// The entry; `-` reads it from standard input, with all its lines
    pub entry: String,
    /// What it is: a name as in `format` of the configuration
    #[arg(long, default_value = "plain")]
    pub format: String,
    /// The file that it would be from
    #[arg(long, default_value = "/var/log/example.log")]
    pub file: PathBuf,
}

/// Prints the data stream and the document.
pub(super) fn run(arguments: &ExplainArguments, json: bool) -> Result<Exit> {
    let name =
        serde_json::from_value::<FormatName>(arguments.format.clone().into()).map_err(|error| {
            Failure::new(Exit::Usage, format!("`{}` is no format", arguments.format))
                .hint(error.to_string())
        })?;
    let mut text = Vec::new();
    if arguments.entry == "-" {
        std::io::stdin()
            .take(INPUT_BYTES_MAX)
            .read_to_end(&mut text)
            .context("read standard input")?;
    } else {
        text.extend_from_slice(arguments.entry.as_bytes());
    }
    let bytes = text.strip_suffix(b"\n").unwrap_or(&text);
    let read_at = chrono::Utc::now().timestamp_nanos_opt().unwrap_or_default();
    let context =
        Context { read_at, zone: chassis::clock::local_zone(), privacy: Privacy::default() };
    let mut shape = Shape::new(name.format(), None, "default", "this-host");
    let mut document = Document::default();
    let entry = Entry { offset: 0, bytes, end: bytes.len() as u64, cut: 0, before: bytes };
    let (stream, is_parsed) = shape.compose(&entry, &arguments.file, &context, &mut document);
    let value: serde_json::Value =
        serde_json::from_slice(document.finish()).context("read our own JSON")?;
    print(|out| {
        if json {
            return out.json(
                &serde_json::json!({"stream": &*stream, "parsed": is_parsed, "document": value}),
            );
        }
        writeln!(out, "{stream}").context("write standard output")?;
        for (key, value) in value.as_object().into_iter().flatten() {
            writeln!(out, "  {key}: {value}").context("write standard output")?;
        }
        Ok(())
    })?;
    Ok(if is_parsed { Exit::Done } else { Exit::Partial })
}
