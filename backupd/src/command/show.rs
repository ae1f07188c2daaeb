//! `backupctl show`: what is known of one backup. Without a key that is its plain list; with one, its manifest.

use std::io::Write;
use std::path::PathBuf;

use anyhow::Result;
use chassis::failure::Exit;
use chassis::units::ByteSize;
use chrono::{DateTime, Utc};
use clap::Args;
use depot::crypt::Identities;
use depot::depot::Depot;
use depot::manifest::{Entry, EntryKind, Head};
use depot::needs::Needs;
use depot::reader::SnapshotReader;
use serde_json::{Value, json};

use super::list::{kind_word, state_word};
use super::output::{escaped, print, print_json, with_stdout};
use super::survey::{depot_names, report_silent, survey};
use super::{Context, DepotName, Id};

/// Which backup, and how much of it.
#[derive(Debug, Args)]
pub struct ShowArguments {
    /// The backup, as `backupctl list` names it
    id: Id,
    /// A file with a secret key, to read what is encrypted
    #[arg(short, long, value_name = "FILE")]
    identity: Vec<PathBuf>,
    /// List its files too, one a line
    #[arg(long, requires = "identity")]
    files: bool,
    /// Read it from this depot
    #[arg(long)]
    depot: Option<DepotName>,
}

pub(super) fn run(context: &Context, arguments: &ShowArguments) -> Result<Exit> {
    let config = context.config()?;
    let surveyed = survey(&config, &depot_names(&config, arguments.depot.as_slice())?);
    let exit = report_silent(&surveyed)?;
    let holders: Vec<_> = surveyed
        .iter()
        .filter_map(|depot| {
            let (open, found) = depot.result.as_ref().ok()?;
            Some((&depot.name, open, found.get(&arguments.id)?.arrived))
        })
        .collect();
    let Some((_, depot, _)) = holders.first() else {
        return Err(super::survey::no_such(&arguments.id));
    };
    let copies: Vec<_> = holders.iter().map(|(name, _, arrived)| (*name, *arrived)).collect();
    let needs = depot.needs(&arguments.id)?;
    if arguments.identity.is_empty() {
        show_needs(context, &arguments.id, &needs, &copies)?;
    } else {
        let identities = Identities::from_files(&arguments.identity)?;
        show_manifest(context, arguments, depot, &needs, &copies, &identities)?;
    }
    Ok(exit)
}

type Copies<'a> = [(&'a DepotName, DateTime<Utc>)];

fn show_needs(context: &Context, id: &Id, needs: &Needs, copies: &Copies<'_>) -> Result<()> {
    let facts = needs_json(id, needs, copies);
    if context.json { print_json(&facts) } else { print(&needs_text(id, needs, copies).join("\n")) }
}

fn needs_json(id: &Id, needs: &Needs, copies: &Copies<'_>) -> Value {
    let copies: Vec<Value> =
        copies.iter().map(|(name, arrived)| json!({ "name": name, "arrived": arrived })).collect();
    json!({
        "id": id, "kind": needs.kind, "state": needs.state, "parent": needs.parent,
        "bytes": needs.bytes, "stored": needs.stored, "packs": needs.packs.len(),
        "pack_bytes": pack_bytes(needs), "manifest_bytes": needs.manifest.1, "depots": copies,
    })
}

fn pack_bytes(needs: &Needs) -> u64 {
    needs.packs.iter().map(|pack| pack.size).sum()
}

fn needs_text(id: &Id, needs: &Needs, copies: &Copies<'_>) -> Vec<String> {
    let mut lines = vec![
        format!("id:       {id}"),
        format!(
            "kind:     {}, {}",
            kind_word(Some(needs.kind), needs.parent.is_some()),
            state_word(Some(needs.state))
        ),
        format!("size:     {}", ByteSize(needs.bytes)),
        format!(
            "stored:   {} new; {} in {} packs to restore it",
            ByteSize(needs.stored),
            ByteSize(pack_bytes(needs)),
            needs.packs.len()
        ),
    ];
    lines.extend(needs.parent.as_ref().map(|parent| format!("parent:   {parent}")));
    lines.extend(copies.iter().map(|(name, arrived)| {
        format!("depot:    {name}, arrived {}", arrived.format("%Y-%m-%d %H:%M:%S UTC"))
    }));
    lines
}

fn show_manifest(
    context: &Context,
    arguments: &ShowArguments,
    depot: &Depot,
    needs: &Needs,
    copies: &Copies<'_>,
    identities: &Identities,
) -> Result<()> {
    let mut reader = SnapshotReader::open(depot, &arguments.id, identities)?;
    if context.json {
        let mut facts = needs_json(&arguments.id, needs, copies);
        facts["head"] = serde_json::to_value(reader.head())?;
        // Whoever reads the output of this command is not given the key of the blocks' names.
        facts["head"]["key"] = Value::Null;
        print(&facts.to_string())?;
    } else {
        let mut lines = needs_text(&arguments.id, needs, copies);
        lines.extend(head_text(reader.head()));
        print(&lines.join("\n"))?;
    }
    if arguments.files { print_files(context, &mut reader) } else { Ok(()) }
}

fn print_files(context: &Context, reader: &mut SnapshotReader<'_>) -> Result<()> {
    with_stdout(|out| {
        while let Some(entry) = reader.next_entry()? {
            if context.json {
                writeln!(out, "{}", entry_json(&entry))?;
            } else {
                writeln!(out, "{}", entry_text(&entry))?;
            }
        }
        Ok(())
    })
}

fn head_text(head: &Head) -> Vec<String> {
    let mut lines = vec![
        format!("source:   {}", escaped(&head.root)),
        format!("taken:    {} to {}", head.started.format("%F %T"), head.ended.format("%F %T UTC")),
        format!("program:  {}", escaped(&head.program)),
    ];
    if let Some(Value::Object(positions)) = &head.positions {
        let known = positions.iter().filter(|(_, value)| !value.is_null());
        lines.extend(known.map(|(name, value)| match value {
            Value::String(text) => format!("{}: {}", escaped(name), escaped(text)),
            other => format!("{}: {other}", escaped(name)),
        }));
    }
    lines.extend(head.problems.iter().map(|problem| {
        format!("problem:  {}: {}", escaped(&problem.path), escaped(&problem.what))
    }));
    lines
}

fn kind_letter(kind: EntryKind) -> char {
    match kind {
        EntryKind::File => '-',
        EntryKind::Dir => 'd',
        EntryKind::Symlink => 'l',
        EntryKind::Hardlink => 'h',
    }
}

fn entry_text(entry: &Entry) -> String {
    let owner = entry.attributes.as_ref().map_or_else(String::new, |attributes| {
        format!("{:04o} {}:{} ", attributes.mode, attributes.uid, attributes.gid)
    });
    let target = entry.target.as_ref().map_or_else(String::new, |target| {
        format!(" -> {}", String::from_utf8_lossy(target).escape_debug())
    });
    let letter = kind_letter(entry.kind);
    format!("{letter} {owner}{:>12} {}{target}", entry.size, entry.path.lossy().escape_debug())
}

fn entry_json(entry: &Entry) -> Value {
    let attributes = entry.attributes.as_ref();
    json!({
        "path": entry.path.lossy(), "type": entry.kind, "size": entry.size,
        "mode": attributes.map(|a| a.mode), "uid": attributes.map(|a| a.uid),
        "gid": attributes.map(|a| a.gid), "mtime": attributes.map(|a| a.mtime),
        "target": entry.target.as_ref().map(|target| String::from_utf8_lossy(target)),
    })
}
