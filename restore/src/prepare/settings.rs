//! The settings that a backup of a database brings along, before a tool or a server reads them as root.

use std::io::{self, Read, Write};
use std::path::Path;

use anyhow::{Context, Result};
use database::settings::{SETTINGS_FILE, SETTINGS_LENGTH_MAX, Settings};

use crate::beneath::Beneath;
use crate::plan::place_of;
use crate::report::Report;

/// Writes the settings of so many links anew with what is believed of them, and tells what was dropped.
pub fn sift(target: &Beneath, links: usize, report: &mut Report) -> Result<()> {
    let mut dropped = Vec::new();
    for link in 0..links {
        let path = place_of(link).join(SETTINGS_FILE);
        let Some(settings) = read(target, &path)? else { continue };
        // Not written over: it may have another name.
        let written = target
            .remove(&path)
            .and_then(|()| target.create(&path)?.write_all(settings.text.as_bytes()));
        written.with_context(|| format!("write {}", target.full(&path).display()))?;
        dropped.extend(settings.dropped);
    }
    if !dropped.is_empty() {
        let names = join(dropped);
        tracing::warn!("{SETTINGS_FILE} of the backup sets {names}, which no tool writes there");
        report.notices.push(format!(
            "{SETTINGS_FILE} has lost settings that are not about the layout of files: {names}"
        ));
    }
    Ok(())
}

/// Tells what the settings have that is not believed, for who goes on by hand.
pub fn look(target: &Beneath, links: usize, report: &mut Report) -> Result<()> {
    let mut dropped = Vec::new();
    for link in 0..links {
        let settings = read(target, &place_of(link).join(SETTINGS_FILE))?;
        dropped.extend(settings.unwrap_or_default().dropped);
    }
    if !dropped.is_empty() {
        report.notices.push(format!(
            "{SETTINGS_FILE} sets {}: look at it before a tool or a server reads it",
            join(dropped)
        ));
    }
    Ok(())
}

fn read(target: &Beneath, path: &Path) -> Result<Option<Settings>> {
    let mut text = Vec::new();
    let read = target.read(path).and_then(|file| {
        file.take(SETTINGS_LENGTH_MAX).read_to_end(&mut text)?;
        Ok(())
    });
    match read {
        Ok(()) => Ok(Some(Settings::sift(&String::from_utf8_lossy(&text)))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("read {}", target.full(path).display())),
    }
}

fn join(mut names: Vec<String>) -> String {
    names.sort_unstable();
    names.dedup();
    names.join(", ")
}
