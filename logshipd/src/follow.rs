//! All log files that are followed: found by patterns, told apart by identity and content, kept through rotation.
//!
//! Events wake, state decides: a scan looks at what is there and compares it with what is known. A file that
//! was renamed is read on through its descriptor; one that was truncated or lost while we were down is looked
//! for among its rotated siblings, compressed ones too, by what it begins with and what stood before the offset.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::checkpoint::{Checkpoint, Record, WINDOW_BYTES_MAX};
use crate::identity::{Generation, HEAD_BYTES_MAX, Identity, Print};
use crate::input::Input;
use crate::life::{Life, Place};
use crate::paths::{Pattern, is_packed, is_rotated, siblings};

/// A rotated or deleted file is let go when nothing came for so long.
const LET_GO_AFTER: Duration = Duration::from_mins(1);
/// A life without a file is looked for this long.
const HOMELESS_MAX: Duration = Duration::from_mins(10);

/// Which files belong to a source.
#[derive(Clone, Debug)]
pub struct Watched {
    /// What is matched.
    pub patterns: Vec<Pattern>,
    /// Folders where rotated files go, besides their own.
    pub rotated_dirs: Vec<PathBuf>,
}

/// All lives, and how to tell them.
#[derive(Debug)]
pub struct Follow {
    host: String,
    sources: Vec<Watched>,
    /// By a number that is never used again.
    pub lives: BTreeMap<u32, Life>,
    next: u32,
    families: HashMap<PathBuf, usize>,
    /// Siblings that are too short to be told, with the size seen.
    short: HashMap<Identity, u64>,
    /// What was shipped is not known: everything may be in the store already.
    is_amnesic: bool,
    /// Something must be on disk before anything is sent.
    pub is_unsaved: bool,
    /// Bytes of files that went before they were read.
    pub lost_bytes: u64,
    /// Files that cannot be read, and why.
    pub troubles: BTreeMap<PathBuf, String>,
}

impl Follow {
    /// Goes on from a checkpoint. `is_amnesic` if there was one that could not be used.
    pub fn new(
        host: &str,
        sources: Vec<Watched>,
        checkpoint: Checkpoint,
        is_amnesic: bool,
    ) -> Self {
        let mut follow = Self {
            host: host.to_owned(),
            sources,
            lives: BTreeMap::new(),
            next: 0,
            families: checkpoint.families.into_iter().map(|base| (base, usize::MAX)).collect(),
            short: HashMap::new(),
            is_amnesic,
            is_unsaved: false,
            lost_bytes: 0,
            troubles: BTreeMap::new(),
        };
        let now = Instant::now();
        for mut record in checkpoint.records {
            record.uncertain = record.uncertain.max(record.offset + WINDOW_BYTES_MAX);
            follow.add(Life::new(record, usize::MAX, Place::Homeless, None, now));
        }
        follow
    }

    fn add(&mut self, life: Life) -> u32 {
        self.next += 1;
        self.lives.insert(self.next, life);
        self.next
    }

    /// What is to be remembered.
    pub fn checkpoint(&self) -> Checkpoint {
        let mut families: Vec<_> = self.families.keys().cloned().collect();
        families.sort();
        let records = self.lives.values().map(|life| life.record.clone()).collect();
        Checkpoint { records, families, streams: BTreeMap::new() }
    }

    /// Looks at what is there.
    pub fn scan(&mut self, now: Instant) {
        let mut live: HashMap<PathBuf, Identity> = HashMap::new();
        for source in 0..self.sources.len() {
            let found: Vec<PathBuf> =
                self.sources[source].patterns.iter().flat_map(Pattern::find).collect();
            let names: HashSet<&Path> = found.iter().map(PathBuf::as_path).collect();
            for path in &found {
                if !is_packed(path) && !is_rotated_of_any(path, &names) && !live.contains_key(path)
                {
                    self.see(path, source, &mut live, now);
                }
            }
        }
        self.displace(&live);
        let bases: Vec<(PathBuf, usize)> =
            self.families.iter().map(|(base, source)| (base.clone(), *source)).collect();
        for (base, source) in bases {
            self.see_siblings(&base, source, now);
        }
        self.is_amnesic = false;
        self.let_go(now);
    }

    /// A file under a name that is written to.
    fn see(
        &mut self,
        path: &Path,
        source: usize,
        live: &mut HashMap<PathBuf, Identity>,
        now: Instant,
    ) {
        let identity = match fs::metadata(path) {
            Ok(metadata) => Identity::of(&metadata),
            Err(error) => return self.trouble(path, &error),
        };
        live.insert(path.to_owned(), identity);
        let is_new_family = self.families.insert(path.to_owned(), source).is_none();
        if let Some(life) = self.life_with(identity, false) {
            path.clone_into(&mut life.record.path);
            (life.place, life.source) = (Place::Live, source);
        } else {
            self.open(path, path, source, Place::Live, now);
        }
        if is_new_family {
            self.is_unsaved = true;
            self.establish(path, source, now);
        }
    }

    /// An open life of a file; with `closed`, also one that is closed.
    fn life_with(&mut self, identity: Identity, closed: bool) -> Option<&mut Life> {
        let is_it = |life: &&mut Life| {
            life.record.identity == identity
                && (life.input.is_some() || closed && life.record.closed)
        };
        self.lives.values_mut().rev().find(is_it)
    }

    /// Opens a file that no open life has: one that is remembered, or a new life.
    fn open(&mut self, path: &Path, base: &Path, source: usize, place: Place, now: Instant) {
        let opened = Input::open(path).and_then(|input| Ok((input.metadata()?, input)));
        let (metadata, mut input) = match opened {
            Ok(opened) => opened,
            Err(error) => return self.trouble(path, &error),
        };
        self.troubles.remove(path);
        let identity = Identity::of(&metadata);
        let remembered = self.lives.iter().rev().find_map(|(key, life)| {
            let is_it = life.input.is_none() && life.record.identity == identity;
            (is_it && fits(&life.record, &mut input)).then_some(*key)
        });
        if let Some(life) = remembered.and_then(|key| self.lives.get_mut(&key)) {
            path.clone_into(&mut life.record.path);
            (life.input, life.place, life.source) = (Some(input), place, source);
            life.record.closed = false;
            life.quiet_since = now;
            return;
        }
        let record = Record {
            path: path.to_owned(),
            base: base.to_owned(),
            identity,
            copies: Vec::new(),
            generation: None,
            head: Print::default(),
            offset: 0,
            tail: Print::default(),
            size: 0,
            cuts: Vec::new(),
            uncertain: if self.is_amnesic { metadata.len() } else { 0 },
            closed: false,
        };
        self.add(Life::new(record, source, place, Some(input), now));
        self.is_unsaved = true;
    }

    /// Gives a life its generation as soon as its first line is there. Returns whether it has one.
    pub fn name(&mut self, key: u32) -> bool {
        let Some(life) = self.lives.get_mut(&key) else { return false };
        if life.record.generation.is_some() {
            return true;
        }
        let Ok(Some(first)) = life.first_line() else { return false };
        let is_content_only = life.input.as_ref().is_some_and(Input::is_packed);
        let identity = (!is_content_only).then_some(life.record.identity);
        let base = life.record.base.clone();
        let known: HashSet<Generation> =
            self.lives.values().filter_map(|life| life.record.generation).collect();
        let mut epochs =
            (0..).map(|epoch| Generation::new(&self.host, &base, identity, &first, epoch));
        let generation = epochs.find(|generation| !known.contains(generation));
        if let Some(life) = self.lives.get_mut(&key) {
            life.record.generation = generation;
        }
        self.is_unsaved = true;
        true
    }

    /// What was read of a file is not there any more: this life goes on in a copy, if there is one, and another
    /// one begins.
    pub fn replaced(&mut self, key: u32, now: Instant) {
        let Some(life) = self.lives.get_mut(&key) else { return };
        let (path, base) = (life.record.path.clone(), life.record.base.clone());
        let (source, place) = (life.source, life.place);
        (life.input, life.place, life.quiet_since) = (None, Place::Homeless, now);
        self.is_unsaved = true;
        if place == Place::Live {
            self.open(&path, &base, source, Place::Live, now);
            self.see_siblings(&base, source, now);
        }
    }

    /// Lives that do not have their name any more.
    fn displace(&mut self, live: &HashMap<PathBuf, Identity>) {
        for life in self.lives.values_mut() {
            let Some(input) = &life.input else { continue };
            if live.get(&life.record.path) == Some(&life.record.identity) {
                continue;
            }
            use std::os::unix::fs::MetadataExt;
            let is_unlinked = input.metadata().is_ok_and(|metadata| metadata.nlink() == 0);
            life.place = if is_unlinked { Place::Unlinked } else { Place::Rotated };
        }
    }

    /// The first sight of a log file: what was rotated before is not ours to ship, but is remembered.
    fn establish(&mut self, base: &Path, source: usize, now: Instant) {
        if self.is_amnesic {
            return;
        }
        for path in self.siblings_of(base, source) {
            let Ok(mut input) = Input::open(&path) else { continue };
            let Ok(metadata) = input.metadata() else { continue };
            let identity = Identity::of(&metadata);
            if self.lives.values().any(|life| life.record.identity == identity) {
                continue;
            }
            let Ok(head) = head_of(&mut input) else { continue };
            let size = if input.is_packed() { 0 } else { metadata.len() };
            let record = Record {
                path,
                base: base.to_owned(),
                identity,
                copies: Vec::new(),
                generation: None,
                head,
                offset: size,
                tail: Print::default(),
                size,
                cuts: Vec::new(),
                uncertain: 0,
                closed: true,
            };
            self.add(Life::new(record, source, Place::Homeless, None, now));
        }
    }

    fn siblings_of(&self, base: &Path, source: usize) -> Vec<PathBuf> {
        let others = self.sources.get(source).map_or(&[][..], |source| &source.rotated_dirs[..]);
        siblings(base, others)
    }

    /// Rotated files of a log file: known ones have new names; unknown ones are copies, or came while we were away.
    fn see_siblings(&mut self, base: &Path, source: usize, now: Instant) {
        for path in self.siblings_of(base, source) {
            let Ok(metadata) = fs::metadata(&path) else { continue };
            let identity = Identity::of(&metadata);
            if let Some(life) = self.life_with(identity, true) {
                life.record.path.clone_from(&path);
                let has_grown =
                    life.record.closed && !is_packed(&path) && metadata.len() > life.record.size;
                if has_grown {
                    self.open(&path, base, source, Place::Rotated, now);
                }
                continue;
            }
            let copy_of_homeless = self.lives.values().any(|life| {
                life.place == Place::Homeless && !life.record.closed && life.record.base == base
            });
            let is_copy = self.lives.values().any(|life| life.record.copies.contains(&identity));
            if !is_copy || copy_of_homeless {
                self.tell(&path, base, source, identity, is_copy, now);
            }
        }
    }

    /// Tells what an unknown sibling is.
    fn tell(
        &mut self,
        path: &Path,
        base: &Path,
        source: usize,
        identity: Identity,
        is_copy: bool,
        now: Instant,
    ) {
        let opened = Input::open(path).and_then(|mut input| Ok((head_of(&mut input)?, input)));
        let (head, mut input) = match opened {
            Ok(opened) => opened,
            Err(error) => return self.trouble(path, &error),
        };
        let mut order: Vec<u32> = self.lives.keys().copied().collect();
        order.sort_by_key(|key| {
            self.lives[key].record.closed || self.lives[key].place != Place::Homeless
        });
        let size = fs::metadata(path).map_or(0, |metadata| metadata.len());
        for key in order {
            let Some(life) = self.lives.get_mut(&key).filter(|life| life.record.base == base)
            else {
                continue;
            };
            let mut position = life.record.clone();
            if !life.record.closed {
                (position.offset, position.tail) = (life.read, life.read_tail);
            }
            if life.record.head.bytes == 0 || !fits(&position, &mut input) {
                continue;
            }
            let is_home = life.place == Place::Homeless && !life.record.closed;
            if !life.record.copies.contains(&identity) {
                life.record.copies.push(identity);
            }
            if is_home {
                path.clone_into(&mut life.record.path);
                (life.input, life.place, life.source) = (Some(input), Place::Rotated, source);
                life.quiet_since = now;
            }
            self.is_unsaved = true;
            return;
        }
        let is_short = (head.bytes as usize) < HEAD_BYTES_MAX;
        let is_settled = self.short.insert(identity, size) == Some(size);
        if is_copy || is_short && !is_settled {
            return;
        }
        self.short.remove(&identity);
        if !(self.is_amnesic && input.is_packed()) {
            self.open(path, base, source, Place::Rotated, now);
        }
    }

    fn let_go(&mut self, now: Instant) {
        let mut is_changed = false;
        for life in self.lives.values_mut().filter(|life| !life.record.closed) {
            let quiet = now - life.quiet_since;
            let is_over = match life.place {
                Place::Live => false,
                Place::Homeless => quiet > HOMELESS_MAX,
                Place::Rotated | Place::Unlinked => {
                    let is_packed = life.input.as_ref().is_some_and(Input::is_packed);
                    let is_read = if is_packed {
                        life.input.as_ref().is_some_and(|input| input.is_complete_at(life.read))
                    } else {
                        life.read >= life.record.size
                    };
                    life.is_settled() && is_read && quiet > LET_GO_AFTER
                }
            };
            if !is_over {
                continue;
            }
            if life.place == Place::Homeless && life.record.size > life.read {
                self.lost_bytes += life.record.size - life.read;
                tracing::warn!(
                    file = %life.record.path.display(), bytes = life.record.size - life.read,
                    "it went before its end was read, and no copy was found"
                );
            }
            (life.input, life.record.closed, is_changed) = (None, true, true);
        }
        if is_changed {
            self.is_unsaved = true;
            self.forget();
        }
    }

    /// Closed lives whose files are gone.
    fn forget(&mut self) {
        let gone = |life: &Life| life.record.closed && !life.record.path.exists();
        self.lives.retain(|_, life| !gone(life));
    }

    fn trouble(&mut self, path: &Path, error: &std::io::Error) {
        let text = error.to_string();
        if self.troubles.get(path) != Some(&text) {
            tracing::warn!(file = %path.display(), "cannot be read, going on with the others: {text}");
            self.troubles.insert(path.to_owned(), text);
        }
    }
}

fn is_rotated_of_any(path: &Path, names: &HashSet<&Path>) -> bool {
    let Some(name) = path.file_name().and_then(|name| name.to_str()) else { return true };
    names.iter().any(|other| {
        other.parent() == path.parent()
            && other
                .file_name()
                .and_then(|other| other.to_str())
                .is_some_and(|base| is_rotated(base, name))
    })
}

fn head_of(input: &mut Input) -> std::io::Result<Print> {
    let mut head = [0; HEAD_BYTES_MAX];
    let filled = input.read_at(&mut head, 0)?;
    Ok(Print::of_head(&head[..filled]))
}

/// Whether a file is what is remembered: it begins so, it is long enough, and before the offset stands what stood there.
fn fits(record: &Record, input: &mut Input) -> bool {
    let reads = |input: &mut Input, print: &Print, at: u64| {
        let mut bytes = vec![0; print.bytes as usize];
        input.read_at(&mut bytes, at).is_ok_and(|filled| filled == bytes.len())
            && print.fits(&bytes)
    };
    if !input.is_packed() && !input.metadata().is_ok_and(|metadata| metadata.len() >= record.offset)
    {
        return false;
    }
    reads(input, &record.head, 0)
        && reads(input, &record.tail, record.offset.saturating_sub(u64::from(record.tail.bytes)))
}
