//! What a Galera node or its arbitrator `garbd` says: changes of state, components, views, state
//! transfers, as `event.action` and `galera.*`. Source: `gcs/src` and `gcomm/src` of Galera 4.

use memchr::{memchr, memmem};

use crate::document::Document;

use super::scan::Scanner;
use super::{Context, address};

/// Members of a view that are named; no cluster has more.
const MEMBERS_MAX: usize = 64;

/// Writes what a message tells, its head `WSREP: ` taken off; nothing if it tells nothing of the cluster.
pub(super) fn write(text: &[u8], _context: &Context, to: &mut Document) {
    let first = &text[..memchr(b'\n', text).unwrap_or(text.len())];
    let _ = change(first, to)
        .or_else(|| component(first, to))
        .or_else(|| quorum(text, to))
        .or_else(|| view(text, to))
        .or_else(|| transfer(first, to))
        .or_else(|| member(first, to))
        .or_else(|| other(first, to));
}

fn event(to: &mut Document, action: &str) {
    to.word("event.action", action);
}

/// `Shifting JOINED -> SYNCED (TO: 6)`, `Server status change joined -> synced`
fn change(text: &[u8], to: &mut Document) -> Option<()> {
    let mut scanner = Scanner::new(text);
    let is_shift = scanner.skip(b"Shifting ");
    if !is_shift && !scanner.skip(b"Server status change ") {
        return None;
    }
    let from = scanner.until_text(b" -> ")?;
    let state = scanner.word();
    event(to, if is_shift { "state_change" } else { "server_state_change" });
    to.text("galera.state.from", from);
    to.text("galera.state.to", state);
    if scanner.skip(b"(TO: ")
        && let Some(seqno) = scanner.signed().filter(|seqno| *seqno >= 0)
    {
        to.long("galera.seqno", seqno);
    }
    Some(())
}

/// `New COMPONENT: primary = yes, bootstrap = no, my_idx = 0, memb_num = 3`
fn component(text: &[u8], to: &mut Document) -> Option<()> {
    let mut scanner = Scanner::new(text);
    scanner.literal(b"New COMPONENT: primary = ")?;
    let is_primary = scanner.until_or_end(b',') == b"yes";
    event(to, if is_primary { "component" } else { "quorum_lost" });
    to.flag("galera.primary", is_primary);
    if scanner.until_text(b"my_idx = ").is_some()
        && let Some(index) = scanner.number()
    {
        to.long("galera.index", index);
    }
    if scanner.until_text(b"memb_num = ").is_some()
        && let Some(count) = scanner.number()
    {
        to.long("galera.members_count", count);
    }
    Some(())
}

/// `Quorum results:` and its lines
fn quorum(text: &[u8], to: &mut Document) -> Option<()> {
    text.strip_prefix(b"Quorum results:")?;
    event(to, "quorum");
    let of = |name: &[u8]| {
        let mut scanner = Scanner::new(text);
        scanner.until_text(name)?;
        scanner.until_text(b"= ")?;
        Some(scanner.take_while(|byte| byte != b'\n' && byte != b','))
    };
    if let Some(component) = of(b"component ") {
        to.flag("galera.primary", component == b"PRIMARY");
    }
    if let Some(members) = of(b"members ") {
        let mut scanner = Scanner::new(members);
        if let Some(joined) = scanner.number() {
            to.long("galera.members_joined", joined);
        }
        if scanner.skip(b"/")
            && let Some(count) = scanner.number()
        {
            to.long("galera.members_count", count);
        }
    }
    if let Some(seqno) = of(b"act_id ").and_then(|text| Scanner::new(text).number()) {
        to.long("galera.seqno", seqno);
    }
    to.text_of("galera.cluster.uuid", of(b"group UUID "));
    Some(())
}

/// `view(view_id(PRIM,1f8df1e5-9e51,4) memb {` and a line a member; `View:` of the replicator
fn view(text: &[u8], to: &mut Document) -> Option<()> {
    let mut scanner = Scanner::new(text);
    if scanner.skip(b"====") {
        return replicator_view(text, to);
    }
    scanner.literal(b"view(view_id(")?;
    let kind = scanner.until(b',')?;
    let is_primary = kind == b"PRIM";
    event(to, if is_primary { "view" } else { "quorum_lost" });
    to.flag("galera.primary", is_primary);
    for (end, key) in [
        (&b"} joined {"[..], "galera.members"),
        (b"} left {", "galera.members_joined_now"),
        (b"} partitioned {", "galera.members_left"),
        (b"})", "galera.members_partitioned"),
    ] {
        // The first block follows `memb {`, each other one the end of the block before it.
        if key == "galera.members" {
            scanner.until_text(b"memb {")?;
        }
        let Some(block) = scanner.until_text(end) else { break };
        let members = block.split(|&byte| byte == b'\n').filter_map(|line| {
            let line = line.trim_ascii();
            let member = &line[..memchr(b',', line).unwrap_or(line.len())];
            (!member.is_empty()).then_some(member)
        });
        to.texts(key, members.take(MEMBERS_MAX));
    }
    Some(())
}

/// The block between lines of `=`: `View:`, `id:`, `status: primary`, `members(3):`, `0: uuid, name`
fn replicator_view(text: &[u8], to: &mut Document) -> Option<()> {
    let behind = |mark: &[u8]| memmem::find(text, mark).map(|at| &text[at + mark.len()..]);
    let status = Scanner::new(behind(b"status: ")?).until_or_end(b'\n').trim_ascii();
    let is_primary = status == b"primary";
    event(to, if is_primary { "view" } else { "quorum_lost" });
    to.flag("galera.primary", is_primary);
    if let Some(mut id) = behind(b"id: ").map(Scanner::new)
        && let Some(uuid) = id.until(b':')
    {
        to.text("galera.cluster.uuid", uuid);
        if let Some(seqno) = id.number() {
            to.long("galera.seqno", seqno);
        }
    }
    let mut members = Scanner::new(behind(b"members(")?);
    if let Some(count) = members.number() {
        to.long("galera.members_count", count);
    }
    members.until(b'\n');
    let names = members.rest.split(|&byte| byte == b'\n').map_while(|line| {
        let mut line = Scanner::new(line.trim_ascii());
        line.number()?;
        line.literal(b": ")?;
        line.until_text(b", ")?;
        Some(line.rest)
    });
    to.texts("galera.members", names.take(MEMBERS_MAX));
    Some(())
}

/// `0.0 (db1): State transfer to 1.0 (db2) complete.`, `State transfer required:`, `IST received: ..`
fn transfer(text: &[u8], to: &mut Document) -> Option<()> {
    let mut scanner = Scanner::new(text);
    if let Some(name) = peer(&mut scanner)
        && scanner.skip(b": State transfer ")
    {
        let is_to = scanner.skip(b"to ");
        let is_from = !is_to && scanner.skip(b"from ");
        let other = peer(&mut scanner);
        let is_failed = memmem::find(scanner.rest, b"failed").is_some();
        event(to, if is_failed { "sst_failed" } else { "sst_done" });
        let (donor, joiner) = if is_from { (other, Some(name)) } else { (Some(name), other) };
        to.text_of("galera.donor", donor);
        to.text_of("galera.joiner", joiner);
        return Some(());
    }
    let mut scanner = Scanner::new(text);
    if scanner.skip(b"Member ")
        && let Some(joiner) = peer(&mut scanner)
        && scanner.rest.starts_with(b" requested state transfer")
    {
        event(to, "sst_requested");
        to.text("galera.joiner", joiner);
        if scanner.until_text(b"Selected ").is_some() {
            to.text_of("galera.donor", peer(&mut scanner));
        }
        return Some(());
    }
    let (mark, action) = TRANSFERS.iter().find(|(mark, _)| text.starts_with(mark))?;
    event(to, action);
    let seqno = text[mark.len()..].rsplit(|&byte| byte == b':').next();
    if let Some(seqno) = seqno.and_then(super::scan::number) {
        to.long("galera.seqno", seqno);
    }
    Some(())
}

const TRANSFERS: &[(&[u8], &str)] = &[
    (b"State transfer required:", "state_transfer_required"),
    (b"Requesting state transfer: success", "sst_requested"),
    (b"Running: 'wsrep_sst_", "sst_start"),
    (b"SST received", "sst_done"),
    (b"SST succeeded for position", "sst_done"),
    (b"SST sent", "sst_sent"),
    (b"SST failed", "sst_failed"),
    (b"SST request failed", "sst_failed"),
    (b"Failed to prepare for ", "sst_failed"),
    (b"IST received", "ist"),
    (b"IST receiver ", "ist"),
    (b"IST sender ", "ist"),
    (b"Receiving IST", "ist"),
    (b"Prepared IST receiver", "ist"),
    (b"async IST sender", "ist"),
    (b"Installed new state from SST", "sst_done"),
];

/// `Member 2.0 (name) synced with group.`
fn member(text: &[u8], to: &mut Document) -> Option<()> {
    let mut scanner = Scanner::new(text);
    if scanner.skip(b"Server ") {
        let name = scanner.until_text(b" synced with group")?;
        event(to, "member_synced");
        to.text("galera.peer.name", name);
        return Some(());
    }
    scanner.literal(b"Member ")?;
    let name = peer(&mut scanner)?;
    let action = match scanner.rest {
        rest if rest.starts_with(b" synced with group") => "member_synced",
        rest if rest.starts_with(b" desyncs itself") => "member_desynced",
        rest if rest.starts_with(b" resyncs itself") => "member_resynced",
        rest if memmem::find(rest, b"initiates vote").is_some() => "inconsistency_vote",
        _ => "member",
    };
    event(to, action);
    to.text("galera.peer.name", name);
    Some(())
}

/// `1.0 (db2)`
fn peer<'a>(scanner: &mut Scanner<'a>) -> Option<&'a [u8]> {
    scanner.number()?;
    scanner.literal(b".")?;
    scanner.number()?;
    scanner.literal(b" (")?;
    scanner.until(b')')
}

fn other(text: &[u8], to: &mut Document) -> Option<()> {
    let mut scanner = Scanner::new(text);
    if scanner.skip(b"declaring ") || scanner.skip(b"forgetting ") {
        let is_lost = text.starts_with(b"forgetting");
        to.text("galera.peer.id", scanner.until(b' ')?);
        event(to, if is_lost { "peer_lost" } else { "peer_stable" });
        if scanner.until_text(b"://").is_some() {
            let address = scanner.take_while(|byte| byte != b' ' && byte != b')');
            if let Some((address, Some(port))) = address::with_port(address) {
                to.text("server.address", address);
                to.long("server.port", port);
            }
        }
        return Some(());
    }
    let (_, action) = OTHERS.iter().find(|(mark, _)| memmem::find(text, mark).is_some())?;
    event(to, action);
    if *action == "quorum_lost" {
        to.flag("galera.primary", false);
    }
    Some(())
}

const OTHERS: &[(&[u8], &str)] = &[
    (b"Received NON-PRIMARY", "quorum_lost"),
    (b"Non-primary view", "quorum_lost"),
    (b"Flow-control interval", "flow_control"),
    (b"Synchronized with group", "synced"),
    (b"may not be safe to bootstrap", "unsafe_bootstrap"),
    (b"suspected node", "peer_suspected"),
    (b"nonlive peers", "peer_unreachable"),
    (b"Failed to establish connection", "peer_unreachable"),
    (b"Inconsistency detected", "inconsistency"),
    (b"inconsistent with group", "inconsistency"),
    (b"cluster conflict due to", "conflict"),
    (b"BF-BF", "conflict"),
    (b"Node consistency compromised", "inconsistency"),
    (b"provider is ready", "provider_ready"),
];
