//! The catalog against a model: one history of transactions, cut into pieces by several sources,
//! with some of them lost. A point is a number of transactions from the beginning.

use chrono::DateTime;
use gtid::Gtid;
use proptest::prelude::*;

use super::*;
use crate::log::LogName;
use crate::names::Sha256;

/// A run of the history: from one transaction to another, as `kind`, by one of two sources.
type Cut = (usize, usize, bool, u8);

/// The history: each transaction's stream; its time is its place.
fn gtids(streams: &[u8]) -> Vec<Gtid> {
    let mut numbers = [0; 3];
    let next = |stream: &u8| {
        let number = &mut numbers[usize::from(*stream)];
        *number += 1;
        Gtid::MariaDb { domain: u32::from(*stream), server: 1, number: *number }
    };
    streams.iter().map(next).collect()
}

fn set(gtids: &[Gtid]) -> GtidSet {
    let mut set = GtidSet::default();
    for gtid in gtids {
        set.insert(gtid);
    }
    set
}

fn piece(timeline: &str, history: &[Gtid], &(from, to, is_tail, source): &Cut) -> LogObject {
    let name = LogName::new(
        timeline.parse().unwrap(),
        format!("db{source}").parse().unwrap(),
        if is_tail { Kind::Tail } else { Kind::Segment },
        set(&history[from..=to]),
        (from as u64 * 1_000_000, to as u64 * 1_000_000),
        (7, Sha256::of(&[from as u8, to as u8, source])),
    );
    LogObject { stored: name.object(), name, arrived: DateTime::default() }
}

fn catalog(pieces: Vec<LogObject>) -> Catalog {
    Catalog::of(&Listing { pieces, ..Listing::default() })
}

prop_compose! {
    fn some_history(streams: u8)(
        streams in prop::collection::vec(0..streams, 1..40),
        cuts in prop::collection::vec((0_usize..40, 0_usize..12, any::<bool>(), 1_u8..3), 0..14),
        base in 0_usize..40,
    ) -> (Vec<Gtid>, Vec<Cut>, usize) {
        let history = gtids(&streams);
        let last = history.len() - 1;
        let cuts = cuts.into_iter().map(|(from, more, is_tail, source)| {
            let from = from.min(last);
            (from, (from + more).min(last), is_tail, source)
        });
        (history, cuts.collect(), base.min(last))
    }
}

/// How many transactions a replay that begins with `base` of them can reach.
fn reachable(history: &[Gtid], cuts: &[Cut], base: usize) -> usize {
    let is_there = |place: &usize| cuts.iter().any(|cut| (cut.0..=cut.1).contains(place));
    base + (base..history.len()).take_while(is_there).count()
}

/// Replays a chain: every transaction must come right after those before it in its stream, once.
fn replay(base: &GtidSet, chain: &Chain) -> GtidSet {
    let mut state = base.clone();
    for link in &chain.links {
        assert!(link.object.name.set.contains_all(&link.take), "{link:?}");
        for (stream, numbers) in link.take.iter() {
            let next = state.of(stream).and_then(Intervals::last).unwrap_or_default() + 1;
            assert_eq!(numbers.first(), Some(next), "{link:?} after {state}");
            assert_eq!(numbers.count(), 1, "{link:?}");
        }
        state.add(&link.take);
    }
    state
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, ..ProptestConfig::default() })]

    #[test]
    fn with_one_stream_exactly_what_is_there_is_promised((history, cuts, base) in some_history(1)) {
        let catalog = catalog(cuts.iter().map(|cut| piece("shop.1", &history, cut)).collect());
        let none = Archive::default();
        let archive = catalog.newest("shop").map_or(&none, |(_, archive)| archive);
        let start = set(&history[..base]);
        let reach = archive.reach(&start);
        let furthest = reachable(&history, &cuts, base);
        prop_assert_eq!(&reach.set, &set(&history[..furthest]));
        for point in base..=history.len() {
            let upto = set(&history[..point]);
            match archive.chain(&start, &upto) {
                Ok(chain) => {
                    prop_assert!(point <= furthest, "promised {point} of {furthest}");
                    prop_assert_eq!(replay(&start, &chain), upto);
                }
                Err(Broken::Hole { missing }) => {
                    prop_assert!(point > furthest);
                    prop_assert!(missing.contains(&history[furthest]), "{missing}");
                }
                Err(Broken::Order) => prop_assert!(false, "one stream has one order"),
            }
        }
    }

    #[test]
    fn with_several_streams_nothing_more_than_what_is_there_is_promised(
        (history, cuts, base) in some_history(3)
    ) {
        let catalog = catalog(cuts.iter().map(|cut| piece("shop.1", &history, cut)).collect());
        let none = Archive::default();
        let archive = catalog.newest("shop").map_or(&none, |(_, archive)| archive);
        let start = set(&history[..base]);
        let known = start.union(&archive.union);
        // What names cannot tell is not asked here: the end of a stream that nobody has.
        let ends = |gtid: &&Gtid| {
            !history.iter().any(|other| {
                other.stream() == gtid.stream() && other.number() > gtid.number()
            })
        };
        if !history.iter().filter(ends).all(|gtid| known.contains(gtid)) {
            return Ok(());
        }
        let reach = archive.reach(&start);
        let furthest = reachable(&history, &cuts, base);
        let real = set(&history[..furthest]);
        prop_assert!(real.contains_all(&reach.set), "promised {} of {real}", reach.set);
        prop_assert!(reach.set.contains_all(&start));
        if reach.holes.is_empty() {
            prop_assert_eq!(&reach.set, &start.union(&archive.union));
        }
        if let Ok(chain) = archive.chain(&start, &reach.set) {
            prop_assert_eq!(replay(&start, &chain), reach.set);
        }
    }

    #[test]
    fn timelines_do_not_help_one_another((history, cuts, base) in some_history(1)) {
        let (ours, theirs): (Vec<_>, Vec<_>) = cuts.iter().copied().partition(|cut| cut.3 == 1);
        let pieces = ours.iter().map(|cut| piece("shop.2", &history, cut));
        let pieces = pieces.chain(theirs.iter().map(|cut| piece("shop.1", &history, cut)));
        let catalog = catalog(pieces.collect());
        let furthest = |cuts: &[Cut]| set(&history[..reachable(&history, cuts, base)]);
        for (timeline, archive) in &catalog.archives {
            let cuts = if timeline.number == 2 { &ours } else { &theirs };
            prop_assert_eq!(archive.reach(&set(&history[..base])).set, furthest(cuts));
        }
    }

    #[test]
    fn a_tail_that_goes_takes_nothing_with_it((history, cuts, base) in some_history(3)) {
        let pieces: Vec<_> = cuts.iter().map(|cut| piece("shop.1", &history, cut)).collect();
        let whole = catalog(pieces.clone());
        let Some((timeline, archive)) = whole.newest("shop") else { return Ok(()) };
        let gone: Vec<_> = archive.covered_tails().into_iter().cloned().collect();
        let rest = catalog(pieces.into_iter().filter(|piece| !gone.contains(piece)).collect());
        prop_assert_eq!(&rest.archives[timeline].union, &archive.union);
        // The point is what holds for one stream; with several a promise may become smaller.
        if archive.union.iter().count() == 1 {
            let start = set(&history[..base]);
            prop_assert_eq!(rest.archives[timeline].reach(&start), archive.reach(&start));
        }
    }
}
