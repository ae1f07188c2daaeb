//! From the server into the spool.
//!
//! It connects, checks that the server's history is the one that is archived, and goes on with the
//! transaction after the last one that is here. The last one is asked for again and compared: a
//! server that was restored may have another transaction under the same id.

use std::io;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use chrono::{DateTime, Utc};
use database::binlog::{EventKind, Splitter, Step, Summary, flags};
use database::gtid::{Gtid, GtidSet};
use database::options::OptionFile;
use database::replica::{self, Have, Received, Replica, ReplicaError};
use database::server::ServerState;
use database::version::Flavour;
use depot::log::LogName;

use super::piece::OpenPiece;
use super::spool::{Last, Piece, Place};
use super::timeline::server_has;
use super::{Archiver, lock};

/// A piece is closed when it has grown to this, whatever its age.
const PIECE_BYTES_MAX: u64 = 16 << 20;
/// How often to look whether the spool has room again.
const FULL_POLL: Duration = Duration::from_secs(1);

/// A connection's worth of work.
struct Intake<'a> {
    archiver: &'a Archiver,
    server: ServerState,
    place: Place,
    splitter: Splitter,
    /// None until the first format description.
    piece: Option<OpenPiece>,
    have: Have,
    /// The last whole transaction, its checksum, and what was there before it.
    last: Option<(Gtid, u32, Have)>,
    /// The next transaction is one that is here, to be compared.
    expects: Option<Last>,
    options: &'a OptionFile,
    /// What was here when the server was last found to have more than it sends.
    stuck_at: Option<Have>,
}

impl Archiver {
    /// Receives until it is stopped.
    pub(super) fn receive(&self) {
        let mut failures = 0;
        while !self.stop.is_stopped() {
            let began = Instant::now();
            let Err(error) = self.receive_once() else { continue };
            if self.stop.is_stopped() {
                break;
            }
            // A connection that lived for a while was a good one.
            failures = if began.elapsed() > Duration::from_mins(1) { 1 } else { failures + 1 };
            tracing::warn!(job = %self.name, "the log does not come in: {error:#}");
            self.tell(|status| {
                status.connected = false;
                status.open_since = None;
                status.error = Some(format!("{error:#}"));
            });
            self.wait_after(failures);
        }
        self.tell(|status| status.connected = false);
    }

    fn receive_once(&self) -> Result<()> {
        let options = OptionFile::read(&self.config.option_file, self.config.tool)?;
        let server = ServerState::read(&options).context("ask the server")?;
        let known = lock(&self.place).clone();
        let place = match known {
            Some(place) => place,
            None => self.join_timeline(&options, &server)?,
        };
        let (replica, place, expects) = self.connect(&options, &server, place)?;
        let have = Have::parse(server.flavour, &place.upto)?;
        self.tell(|status| {
            status.connected = true;
            status.error = None;
            status.timeline = Some(place.timeline.to_string());
            status.heard = Some(Utc::now());
        });
        tracing::info!(job = %self.name, timeline = %place.timeline, after = %have, "the log comes in");
        let splitter = Splitter::default();
        let mut intake = Intake {
            archiver: self,
            server,
            place,
            splitter,
            piece: None,
            have,
            last: None,
            expects,
            options: &options,
            stuck_at: None,
        };
        match intake.run(replica) {
            Err(error) if is_divergence(&error) => {
                let why = format!("{error:#}");
                self.leave_timeline(&options, &intake.server, &why)
            }
            other => other,
        }
    }

    /// Connects where the archive ends, one transaction before if that can be. A history that does
    /// not continue it opens a new timeline; what was purged is a hole.
    fn connect(
        &self,
        options: &OptionFile,
        server: &ServerState,
        place: Place,
    ) -> Result<(Replica, Place, Option<Last>)> {
        let have = Have::parse(server.flavour, &place.upto)?;
        // A server that has not even what is archived was reset or restored.
        if !server_has(server, &have)? {
            let why = "the server does not have what was archived from it";
            self.leave_timeline(options, server, why)?;
            anyhow::bail!("{why}");
        }
        let before = place.last.as_ref().map(|last| Have::parse(server.flavour, &last.before));
        if let (Some(last), Some(before)) = (&place.last, before.transpose()?) {
            match self.try_connect(options, &before) {
                Ok(replica) => return Ok((replica, place.clone(), Some(last.clone()))),
                Err(ReplicaError::Purged(_)) => {}
                Err(error) => return self.not_connected(options, server, error),
            }
        }
        match self.try_connect(options, &have) {
            Ok(replica) => Ok((replica, place, None)),
            Err(ReplicaError::Purged(why)) => {
                let place = self.skip_purged(options, server, place, &why)?;
                let have = Have::parse(server.flavour, &place.upto)?;
                let replica = self.try_connect(options, &have).context("go on behind the hole")?;
                Ok((replica, place, None))
            }
            Err(error) => self.not_connected(options, server, error),
        }
    }

    fn not_connected<T>(
        &self,
        options: &OptionFile,
        server: &ServerState,
        error: ReplicaError,
    ) -> Result<T> {
        if let ReplicaError::Diverged(why) = &error {
            self.leave_timeline(options, server, why)?;
        }
        Err(error).context("ask for the log")
    }

    /// The server refuses with its first packet, so one is waited for.
    fn try_connect(&self, options: &OptionFile, have: &Have) -> Result<Replica, ReplicaError> {
        let mut replica = Replica::connect(options, self.server_id, have)?;
        replica.wait_for_first(&|| self.stop.is_stopped())?;
        Ok(replica)
    }

    /// Goes on with the oldest log that the server has. What lies between is missing, and said so.
    fn skip_purged(
        &self,
        options: &OptionFile,
        server: &ServerState,
        place: Place,
        why: &str,
    ) -> Result<Place> {
        let oldest = super::timeline::oldest(options, server.flavour)?;
        let missing = oldest.to_set().subtract(&Have::parse(server.flavour, &place.upto)?.to_set());
        tracing::error!(
            job = %self.name, %missing,
            "HOLE in the archive: the server has purged log that was not archived ({why}); \
             another source may still have it, otherwise take a new backup"
        );
        self.tell(|status| status.holes.push(missing.to_string()));
        let place = Place { upto: oldest.to_string(), last: None, ..place };
        self.spool.set_place(&place)?;
        *lock(&self.place) = Some(place.clone());
        Ok(place)
    }
}

fn is_divergence(error: &anyhow::Error) -> bool {
    error
        .chain()
        .filter_map(|cause| cause.downcast_ref::<ReplicaError>())
        .any(|error| matches!(error, ReplicaError::Diverged(_)))
}

impl Intake<'_> {
    fn run(&mut self, mut replica: Replica) -> Result<()> {
        loop {
            if self.archiver.stop.is_stopped() {
                return self.close_if_any();
            }
            self.wait_for_room();
            self.take_next(&mut replica)?;
            if self.is_due() {
                self.cut()?;
            }
        }
    }

    /// What is held back while the spool is full is the server's to keep.
    fn wait_for_room(&self) {
        let archiver = self.archiver;
        let limit = archiver.config.spool_limit.0;
        if archiver.spool.bytes() < limit {
            return;
        }
        tracing::error!(job = %archiver.name, limit, "the spool is full: nothing is read until depots take it");
        archiver.tell(|status| status.is_full = true);
        while archiver.spool.bytes() >= limit {
            if archiver.stop.wait_timeout(FULL_POLL) {
                break;
            }
        }
        archiver.tell(|status| status.is_full = false);
    }

    /// Takes one event, or waits for one for a moment.
    fn take_next(&mut self, replica: &mut Replica) -> Result<()> {
        let mut before_format = Vec::new();
        let from = match &mut self.piece {
            Some(piece) => {
                piece.make_room().context("write spool")?;
                piece.length()
            }
            None => 0,
        };
        let received = match &mut self.piece {
            Some(piece) => replica.next(piece)?,
            None => replica.next(&mut before_format)?,
        };
        let Received::Event(event) = received else { return Ok(()) };
        let header = event.header;
        let is_format = header.kind == EventKind::FORMAT_DESCRIPTION;
        let step = self.splitter.step(&event)?;
        self.archiver.tell(|status| status.heard = Some(Utc::now()));
        match step {
            Step::Inside | Step::Begin { abandoned: false } => {}
            Step::Heartbeat => {
                self.take_back(from)?;
                self.check_server()?;
            }
            Step::Begin { abandoned: true } => {
                anyhow::bail!("the server sent a transaction without an end");
            }
            Step::Outside { abandoned } => {
                anyhow::ensure!(
                    header.kind != EventKind::INCIDENT,
                    "the server says that its log has lost something: take a new backup"
                );
                let bytes = match &self.piece {
                    Some(piece) if is_format => piece.since(from).to_vec(),
                    _ => before_format,
                };
                self.take_back(from)?;
                if abandoned && let Some(piece) = &mut self.piece {
                    piece.take_back_rest().context("write spool")?;
                }
                if is_format {
                    self.begin_format(bytes)?;
                }
            }
            Step::End(summary) => self.end(&summary)?,
        }
        Ok(())
    }

    /// A server that was reset goes on as if it had nothing to say, so where it is silent it is asked
    /// what it has.
    fn check_server(&mut self) -> Result<()> {
        let theirs = replica::written(self.options, self.server.flavour)?.to_set();
        let ours = self.have.to_set();
        if !theirs.contains_all(&ours) {
            let lost = ours.subtract(&theirs);
            let why = format!("the server does not have {lost} any more");
            return Err(ReplicaError::Diverged(why).into());
        }
        if theirs == ours {
            self.stuck_at = None;
            return Ok(());
        }
        // Something may have been written just now; not if nothing has come until the next time.
        let is_stuck = self.stuck_at.as_ref() == Some(&self.have);
        anyhow::ensure!(!is_stuck, "the server does not send what it has");
        self.stuck_at = Some(self.have.clone());
        Ok(())
    }

    fn take_back(&mut self, to: u64) -> Result<()> {
        match &mut self.piece {
            Some(piece) => piece.take_back(to).context("write spool"),
            None => Ok(()),
        }
    }

    /// A format description heads every piece; a new one begins a new piece.
    fn begin_format(&mut self, mut format: Vec<u8>) -> Result<()> {
        // Flags: the file is not in use here, and the event is not made up.
        format[17] &= !((flags::IN_USE | flags::ARTIFICIAL) as u8);
        // The time of the server's start is for its own temporary tables; here it only differs.
        format[19 + 2 + 50..][..4].fill(0);
        format[..4].fill(0);
        let end = 4 + format.len() as u32;
        format[13..17].copy_from_slice(&end.to_le_bytes());
        database::binlog::seal(&mut format);
        let mut head = database::binlog::MAGIC.to_vec();
        head.append(&mut format);
        match &self.piece {
            Some(piece) if piece.head == head => return Ok(()),
            Some(piece) if piece.content.is_some() => self.cut()?,
            _ => {}
        }
        let number = self.place.number + 1;
        let path = self.archiver.spool.path(number);
        self.piece = Some(OpenPiece::create(path, number, &head, self.have.clone())?);
        Ok(())
    }

    fn end(&mut self, summary: &Summary) -> Result<()> {
        if let Some(last) = self.expects.take() {
            return self.compare(&last, summary);
        }
        let set = self.set_with(&summary.gtid);
        if !self.fits(&set) {
            self.cut()?;
        }
        let set = self.set_with(&summary.gtid);
        let before = self.have.clone();
        self.have.advance(&summary.gtid);
        let piece = self.piece.as_mut().context("a transaction before any format")?;
        piece.count(summary, set);
        self.last = Some((summary.gtid.clone(), summary.sum, before));
        let seconds = i64::try_from(summary.committed).unwrap_or_default();
        self.archiver.tell(|status| {
            status.last_commit = DateTime::from_timestamp_micros(seconds);
            status.open_since = status.open_since.or_else(|| Some(Utc::now()));
        });
        Ok(())
    }

    /// The transaction that is here already: the same, or the histories differ.
    fn compare(&mut self, last: &Last, summary: &Summary) -> Result<()> {
        if let Some(piece) = &mut self.piece {
            piece.take_back_rest().context("write spool")?;
        }
        if summary.gtid == last.gtid && summary.sum == last.sum {
            return Ok(());
        }
        let found = &summary.gtid;
        let why = format!("in place of {} there is another transaction, {found}", last.gtid);
        Err(ReplicaError::Diverged(why).into())
    }

    /// The set of the open piece with one more transaction. Of MariaDB all numbers since the last
    /// one count.
    fn set_with(&self, gtid: &Gtid) -> GtidSet {
        let content = self.piece.as_ref().and_then(|piece| piece.content.as_ref());
        let mut set = content.map(|content| content.set.clone()).unwrap_or_default();
        match &self.have {
            Have::Position(position) => {
                let Gtid::MariaDb { domain, number, .. } = *gtid else { return set };
                let before = position.0.get(&domain).map_or(0, |last| last.1);
                set.insert_range(gtid.stream(), before + 1, number);
            }
            Have::Set(_) => set.insert(gtid),
        }
        set
    }

    /// Whether a set fits into the name of a piece.
    fn fits(&self, set: &GtidSet) -> bool {
        let archiver = self.archiver;
        let room = LogName::set_bytes_max(&self.place.timeline, &archiver.host);
        set.interval_count() <= 1 || LogName::set_text(set).len() <= room
    }

    /// Whether the open piece is old or large enough. Half of the time is for what comes after.
    fn is_due(&self) -> bool {
        let Some(piece) = &self.piece else { return false };
        let Some(content) = &piece.content else { return false };
        let age = content.received.1.elapsed();
        age >= self.archiver.config.max_lag.0 / 2 || piece.length() >= PIECE_BYTES_MAX
    }

    fn close_if_any(&mut self) -> Result<()> {
        let has_some = self.piece.as_ref().is_some_and(|piece| piece.content.is_some());
        if has_some { self.cut() } else { Ok(()) }
    }

    /// Closes the open piece; what is behind its last whole transaction goes on in the next.
    fn cut(&mut self) -> Result<()> {
        let Some(piece) = self.piece.take() else { return Ok(()) };
        let Some(content) = piece.content.clone() else {
            self.piece = Some(piece);
            return Ok(());
        };
        let (number, head) = (piece.number, piece.head.clone());
        let after = piece.after.to_string();
        let next = self.archiver.spool.path(number + 1);
        let (bytes, following) = piece.split(next, self.have.clone())?;
        self.piece = Some(following);
        self.place.number = number;
        self.place.upto = self.have.to_string();
        if let Some((gtid, sum, before)) = &self.last {
            let before = before.to_string();
            self.place.last = Some(Last { gtid: gtid.clone(), sum: *sum, before });
        }
        let closed = Piece {
            number,
            timeline: self.place.timeline.clone(),
            flavour: self.server.flavour,
            server: self.server.version_text.clone(),
            server_id: self.server.server_id,
            after,
            upto: self.place.upto.clone(),
            set: content.set,
            first: content.first,
            last: content.last,
            committed: content.committed,
            transactions: content.transactions,
            bytes,
            head,
            received: content.received.0,
        };
        self.archiver.spool.add(closed, &self.place)?;
        *lock(&self.archiver.place) = Some(self.place.clone());
        let spool_bytes = self.archiver.spool.bytes();
        self.archiver.tell(|status| {
            status.upto.clone_from(&self.place.upto);
            status.spool_bytes = spool_bytes;
            status.open_since = None;
        });
        Ok(())
    }
}

/// A flavour as the format names it.
pub(super) fn flavour_text(flavour: Flavour) -> &'static str {
    match flavour {
        Flavour::MariaDb => "mariadb",
        Flavour::MySql | Flavour::Percona => "mysql",
    }
}

/// What is not there is no error when a file is removed.
pub(super) fn ignore_missing(error: io::Error) -> io::Result<()> {
    if error.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(error) }
}
