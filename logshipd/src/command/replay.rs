//! `logshipd replay`: sends again what was set aside, under the same ids, and keeps what is refused again.

use std::fmt::Write as _;
use std::fs;
use std::io::Write;

use anyhow::{Context as _, Result};
use chassis::failure::Exit;

use super::print;
use crate::aside::{FILE_NAME, Refused};
use crate::client::Client;
use crate::config::Config;
use crate::deliver::said;
use crate::verdict::{self, Answer, Verdict};

/// Documents in one request.
const DOCUMENTS: usize = 500;

/// Sends all of them once. What stays is written back before anything is forgotten.
pub(super) fn run(config: &Config, json: bool) -> Result<Exit> {
    let path = config.state_dir.join(FILE_NAME);
    let replayed = path.with_extension("replaying");
    take(&path, &replayed)?;
    let Ok(text) = fs::read_to_string(&replayed) else {
        return report(0, 0, json);
    };
    let client = Client::new(&config.store)?;
    let lines: Vec<&str> = text.lines().collect();
    let mut left = String::new();
    let mut delivered = 0;
    for part in lines.chunks(DOCUMENTS) {
        let refused: Vec<Refused> = part
            .iter()
            .map(|line| serde_json::from_str(line).context("read what was set aside"))
            .collect::<Result<_>>()?;
        for (line, verdict) in part.iter().zip(send(&client, &refused)?) {
            match verdict {
                Verdict::Delivered { .. } => delivered += 1,
                Verdict::Again(_) | Verdict::Refused(_) => writeln!(left, "{line}")?,
            }
        }
    }
    let kept = left.lines().count();
    if kept == 0 {
        fs::remove_file(&replayed).context("forget what is delivered")?;
    } else {
        chassis::durable::write_replace(&replayed, left.as_bytes(), 0o600)?;
    }
    report(delivered, kept, json)
}

/// Takes the file from the daemon, which begins a new one. What an earlier replay left goes first.
#[expect(
    clippy::disallowed_methods,
    reason = "both names are on disk already; the content stays as it is"
)]
fn take(path: &std::path::Path, replayed: &std::path::Path) -> Result<()> {
    if replayed.exists() || !path.exists() {
        return Ok(());
    }
    fs::rename(path, replayed).context("take the file of what was set aside")?;
    chassis::durable::sync_dir(path.parent().unwrap_or(path))?;
    Ok(())
}

fn send(client: &Client, refused: &[Refused]) -> Result<Vec<Verdict>> {
    let mut body = Vec::new();
    for one in refused {
        let mut action = serde_json::json!({"create": {"_index": one.stream}});
        if let Some(id) = &one.id {
            action["create"]["_id"] = id.as_str().into();
        }
        writeln!(body, "{action}").context("build the request")?;
        writeln!(body, "{}", one.document.get()).context("build the request")?;
    }
    let (status, answer) = client.call("POST", "/_bulk", Some(&body), false)?;
    anyhow::ensure!(status == 200, "the store answers {status}: {}", said(&answer));
    Ok(match verdict::read(&answer, refused.len())? {
        Answer::Each(each) => each.into_iter().map(|(verdict, _)| verdict).collect(),
        Answer::AllCreated(_) => {
            let created = Verdict::Delivered { was_there: false, in_failure_store: false };
            vec![created; refused.len()]
        }
    })
}

fn report(delivered: usize, kept: usize, json: bool) -> Result<Exit> {
    print(|out| {
        if json {
            return out.json(&serde_json::json!({"delivered": delivered, "kept": kept}));
        }
        writeln!(out, "{delivered} delivered, {kept} refused again and kept")
            .context("write standard output")
    })?;
    Ok(if kept > 0 { Exit::Partial } else { Exit::Done })
}
