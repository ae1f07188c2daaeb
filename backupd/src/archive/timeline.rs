//! Which history the server goes on with: the one that is archived, that of the other nodes of its
//! cluster, or a new one.
//!
//! Two histories that are mixed are worse than one that is cut in two. So a timeline is joined only
//! where there is a reason: the memory of having archived it, the UUID of a Galera cluster, or a
//! setting. In doubt a new one begins.

use anyhow::{Context, Result, bail};
use chassis::durable;
use chrono::Utc;
use database::options::OptionFile;
use database::replica::{self, Have};
use database::server::ServerState;
use database::version::Flavour;
use depot::depot::{Depot, explain};
use depot::log::{Begin, Catalog, Listing, Timeline};
use depot::store::{Body, StoreError};

use super::receive::flavour_text;
use super::spool::Place;
use super::{Archiver, lock};

/// What the oldest log that a server has follows on.
pub(super) fn oldest(options: &OptionFile, flavour: Flavour) -> Result<Have> {
    replica::oldest(options, flavour).context("ask for the server's oldest log")
}

/// Whether the server has all that is archived, by the numbers of its transactions.
pub(super) fn server_has(server: &ServerState, have: &Have) -> Result<bool> {
    let theirs = Have::parse(server.flavour, server.gtid.as_deref().unwrap_or_default())?;
    Ok(theirs.to_set().contains_all(&have.to_set()))
}

impl Archiver {
    /// The timeline for an agent that remembers none.
    pub(super) fn join_timeline(
        &self,
        options: &OptionFile,
        server: &ServerState,
    ) -> Result<Place> {
        let (depot, listing) = self.any_depot()?;
        let newest = listing.timelines(self.name.as_str()).last().cloned();
        match newest {
            Some(newest) if self.may_join(&depot, &listing, &newest, server)? => {
                tracing::info!(job = %self.name, timeline = %newest, "joining a timeline");
                self.start_at(options, server, newest)
            }
            Some(newest) => {
                let why = "this agent remembers no archive of this server";
                self.open_timeline(&depot, options, server, newest.number + 1, why)
            }
            None => self.open_timeline(&depot, options, server, 1, "the archive begins"),
        }
    }

    /// Goes on with another history than before.
    pub(super) fn leave_timeline(
        &self,
        options: &OptionFile,
        server: &ServerState,
        why: &str,
    ) -> Result<()> {
        let mine = lock(&self.place).as_ref().map_or(0, |place| place.timeline.number);
        let (depot, listing) = self.any_depot()?;
        let newest = listing.timelines(self.name.as_str()).last().cloned();
        let place = match newest {
            Some(newest)
                if newest.number > mine && self.may_join(&depot, &listing, &newest, server)? =>
            {
                tracing::warn!(job = %self.name, timeline = %newest, "joining a newer timeline: {why}");
                self.start_at(options, server, newest)?
            }
            newest => {
                let number = newest.map_or(0, |newest| newest.number).max(mine) + 1;
                self.open_timeline(&depot, options, server, number, why)?
            }
        };
        bail!("timeline {} begins: {why}", place.timeline)
    }

    fn any_depot(&self) -> Result<(Depot, Listing)> {
        let mut problem = anyhow::anyhow!("there is no depot");
        for (name, store) in &self.depots {
            let opened = Depot::open(name.as_str(), store, &self.stop);
            match opened.and_then(|depot| depot.logs().map(|listing| (depot, listing))) {
                Ok(found) => return Ok(found),
                Err(error) => problem = error,
            }
        }
        Err(problem).context("look for timelines")
    }

    fn may_join(
        &self,
        depot: &Depot,
        listing: &Listing,
        timeline: &Timeline,
        server: &ServerState,
    ) -> Result<bool> {
        let Some(begin) = depot.log_begin(&listing.begins[timeline])? else { return Ok(false) };
        if begin.flavour != flavour_text(server.flavour) {
            return Ok(false);
        }
        let archived = Catalog::of(listing).archives[timeline].union.clone();
        let theirs = Have::parse(server.flavour, server.gtid.as_deref().unwrap_or_default())?;
        let cluster = server.galera.as_ref().map(|galera| &galera.cluster_uuid);
        let is_same = match (&begin.cluster, cluster) {
            (Some(theirs), Some(ours)) => theirs == ours,
            _ => self.config.join,
        };
        Ok(is_same && theirs.to_set().contains_all(&archived))
    }

    /// Begins with the oldest log that the server has: whatever is archived already does no harm.
    fn start_at(
        &self,
        options: &OptionFile,
        server: &ServerState,
        timeline: Timeline,
    ) -> Result<Place> {
        let upto = oldest(options, server.flavour)?.to_string();
        let number = lock(&self.place).as_ref().map_or(0, |place| place.number);
        let place = Place { timeline, number, upto, last: None };
        self.spool.set_place(&place)?;
        *lock(&self.place) = Some(place.clone());
        Ok(place)
    }

    fn open_timeline(
        &self,
        depot: &Depot,
        options: &OptionFile,
        server: &ServerState,
        number: u32,
        why: &str,
    ) -> Result<Place> {
        let timeline = Timeline { job: self.name.clone(), number };
        let begin = Begin {
            began: Utc::now(),
            source: self.host.clone(),
            flavour: flavour_text(server.flavour).to_owned(),
            cluster: server.galera.as_ref().map(|galera| galera.cluster_uuid.clone()),
            after: oldest(options, server.flavour)?.to_string(),
            why: why.replace('\n', " "),
        };
        let text = begin.to_text();
        match depot.store().create(&timeline.begin_object(), Body::Bytes(text.as_bytes())) {
            Ok(()) => {}
            Err(StoreError::Exists { .. }) => bail!("another agent has just opened {timeline}"),
            Err(error) => return Err(explain(error)).context("open timeline"),
        }
        let path = self.spool.dir().join(format!("{timeline}.begin"));
        durable::write_replace(&path, text.as_bytes(), 0o600)?;
        tracing::warn!(job = %self.name, %timeline, "a timeline begins: {why}");
        self.start_at(options, server, timeline)
    }
}
