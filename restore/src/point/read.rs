//! Reading pieces of the log: their heads, and the transactions in them.

use std::io::sink;

use anyhow::{Context, Result, ensure};
use chassis::failure::{Exit, Failure};
use chassis::retry::Stop;
use database::binlog::{EventReader, Splitter, Step, Summary};
use database::gtid::GtidSet;
use database::replica::Have;
use database::version::{Flavour, Version};
use depot::crypt::Identities;
use depot::depot::Depot;
use depot::log::{Chain, Head, Link, LogObject};

use crate::share::{check_stop, share};

/// Reads the transactions of a piece that are to be taken from it, in the order of commits, until
/// `each` has enough.
pub fn transactions(
    depot: &Depot,
    identities: &Identities,
    link: &Link,
    stop: &Stop,
    each: &mut impl FnMut(&Summary) -> bool,
) -> Result<()> {
    let mut read = || -> Result<()> {
        let (head, log) = depot.open_log(&link.object, identities)?;
        check_head(&head, &link.object)?;
        let mut reader = EventReader::of_file(log)?;
        let mut splitter = Splitter::default();
        while let Some(event) = reader.next(&mut sink())? {
            if let Step::End(summary) = splitter.step(&event)?
                && link.take.contains(&summary.gtid)
            {
                check_stop(stop)?;
                if !each(&summary) {
                    break;
                }
            }
        }
        Ok(())
    };
    read().with_context(|| format!("read `{}`", link.object.stored))
}

/// What is inside must be what the name says: the name is not encrypted.
pub fn check_head(head: &Head, object: &LogObject) -> Result<()> {
    let name = &object.name;
    let is_same = head.timeline == name.timeline && head.set == name.set && head.kind == name.kind;
    ensure!(
        is_same,
        Failure::new(
            Exit::Failed,
            format!("`{}` holds another piece than its name says", object.stored)
        )
        .hint(
            "somebody renamed it, or the depot is not what it was; move it away to go on without it"
        )
    );
    Ok(())
}

/// Reads the heads of all pieces of a chain and checks each against what is there before it.
pub fn check_chain(
    depot: &Depot,
    identities: &Identities,
    chain: &Chain,
    base: &GtidSet,
    server: (Flavour, &str),
    workers: usize,
    stop: &Stop,
) -> Result<Vec<Head>> {
    let heads = share(
        workers,
        &chain.links,
        stop,
        || Ok(()),
        |(), link| {
            let head = depot.log_head(&link.object, identities)?;
            check_head(&head, &link.object)?;
            Ok(head)
        },
    )?;
    let mut state = base.clone();
    for (link, head) in chain.links.iter().zip(&heads) {
        check_server(head, server)?;
        check_follows(head, server.0, link, &state)?;
        state.add(&link.take);
    }
    Ok(heads)
}

/// Checks that all is there that a piece comes after.
pub fn check_follows(head: &Head, flavour: Flavour, link: &Link, state: &GtidSet) -> Result<()> {
    let after = Have::parse(flavour, &head.after).context("read head of log")?.to_set();
    if Link::follows(&after, state) {
        return Ok(());
    }
    let missing = after.subtract(state);
    let message = format!(
        "the archive has a hole: {missing} came before {}, of {}, and is not there",
        head.first,
        super::shown(link.object.name.from)
    );
    Err(Failure::new(Exit::Failed, message)
        .hint(format!("what was there until then can be restored: `--before-gtid {}`", head.first))
        .into())
}

/// The log of another series of the server is not for the applier of this one.
fn check_server(head: &Head, (flavour, version): (Flavour, &str)) -> Result<()> {
    let theirs = Flavour::of(&head.server, "");
    let is_same = (theirs == Flavour::MariaDb) == (flavour == Flavour::MariaDb);
    let (base, piece) = (version.parse::<Version>(), head.server.parse::<Version>());
    let is_series = match (base, piece) {
        (Ok(base), Ok(piece)) => base.same_series(piece),
        _ => false,
    };
    if is_same && is_series {
        return Ok(());
    }
    let message = format!(
        "the server was replaced on the way: the backup is of {version}, and {} was written by {}",
        head.first, head.server
    );
    Err(Failure::new(Exit::Failed, message)
        .hint(format!(
            "restore up to there with `--before-gtid {}`, or from a backup that was taken after it",
            head.first
        ))
        .into())
}
