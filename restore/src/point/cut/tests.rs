//! The plan against a model: a history whose times go back now and then, cut into pieces by two
//! sources on two timelines, with some of them lost. A replay is a walk over the pieces that the plan
//! names, and nothing is promised that the walk does not come to.

use depot::log::{Catalog, Kind, Listing, LogName, LogObject};
use depot::names::Sha256;
use proptest::prelude::*;

use super::*;

/// A piece: from one transaction to another, as a tail or not, of one of two sources, on one of two
/// timelines.
type Piece = (usize, usize, bool, u8, u32);

/// What is asked for: a time, up to a transaction, before one, or all.
type Asked = (u8, usize);

fn gtid(place: usize) -> Gtid {
    Gtid::MariaDb { domain: 0, server: 1, number: place as u64 + 1 }
}

fn set(places: std::ops::Range<usize>) -> GtidSet {
    let mut set = GtidSet::default();
    places.for_each(|place| set.insert(&gtid(place)));
    set
}

fn micros(second: usize) -> u64 {
    second as u64 * 1_000_000
}

fn object(times: &[usize], &(from, to, is_tail, source, timeline): &Piece) -> LogObject {
    let of_piece = &times[from..=to];
    let (least, greatest) = (of_piece.iter().min(), of_piece.iter().max());
    let name = LogName::new(
        format!("shop.{timeline}").parse().unwrap(),
        format!("db{source}").parse().unwrap(),
        if is_tail { Kind::Tail } else { Kind::Segment },
        set(from..to + 1),
        (micros(*least.unwrap()), micros(*greatest.unwrap())),
        (7, Sha256::of(&[from as u8, to as u8, source])),
    );
    LogObject { stored: name.object(), name, arrived: DateTime::default() }
}

fn summary(place: usize, second: usize) -> Summary {
    Summary {
        gtid: gtid(place),
        committed: micros(second),
        committed_first: micros(second),
        tables: Vec::new(),
        has_more: false,
        text: None,
        is_prepared: false,
        is_atomic: true,
        events: 1,
        bytes: 1,
        sum: 0,
    }
}

fn goal(&(kind, at): &Asked, transactions: usize) -> Goal {
    match kind {
        0 => Goal::Time(time_of(micros(at))),
        1 => Goal::To(gtid(at.min(transactions))),
        2 => Goal::Before(gtid(at.min(transactions))),
        _ => Goal::Latest,
    }
}

/// How many transactions a goal means in the whole history, if it is one that can be told from
/// `there` of them.
fn meant(goal: &Goal, times: &[usize], there: usize) -> Option<usize> {
    match goal {
        Goal::Time(time) => times[..there].iter().position(|at| time_of(micros(*at)) > *time),
        Goal::To(gtid) => Some(gtid.number() as usize).filter(|count| *count <= there),
        Goal::Before(gtid) => Some(gtid.number() as usize - 1).filter(|count| *count < there),
        Goal::Latest => Some(there),
    }
}

/// Replays what a plan names: each piece must come right behind what is there.
fn replay(base: usize, chain: &Chain) -> usize {
    let mut have = base;
    for link in &chain.links {
        assert!(link.object.name.set.contains_all(&link.take), "{link:?}");
        let count = link.take.size() as usize;
        assert_eq!(link.take, set(have..have + count), "{link:?} behind {have}");
        have += count;
    }
    have
}

prop_compose! {
    fn scene()(
        steps in prop::collection::vec(0_usize..6, 1..30),
        pieces in prop::collection::vec(
            (0_usize..30, 0_usize..10, any::<bool>(), 1_u8..3, 1_u32..3), 0..16),
        base in 0_usize..30,
        asked in (0_u8..4, 0_usize..70),
    ) -> (Vec<usize>, Vec<Piece>, usize, Asked) {
        // Two seconds on, on the whole; some steps go back.
        let mut now = 3;
        let next = |step: &usize| { now = (now + step).max(3) - 1; now };
        let times: Vec<usize> = steps.iter().map(next).collect();
        let last = times.len() - 1;
        let within = |piece: Piece| {
            let from = piece.0.min(last);
            (from, (from + piece.1).min(last), piece.2, piece.3, piece.4)
        };
        (times, pieces.into_iter().map(within).collect(), base.min(last), asked)
    }
}

/// What is found on a timeline.
fn search(archive: &Archive, goal: &Goal, base: usize, times: &[usize]) -> Found {
    let found = find(goal, archive, &set(0..base), |link, window| {
        let taken = times.iter().enumerate().filter(|(place, _)| link.take.contains(&gtid(*place)));
        for (place, second) in taken {
            if !window.add(&summary(place, *second)) {
                break;
            }
        }
        Ok(())
    });
    found.unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn a_plan_leads_exactly_to_the_point_or_names_what_is_missing(
        (times, pieces, base, asked) in scene()
    ) {
        let objects = pieces.iter().map(|piece| object(&times, piece)).collect();
        let catalog = Catalog::of(&Listing { pieces: objects, ..Listing::default() });
        let goal = goal(&asked, times.len());
        for (timeline, archive) in &catalog.archives {
            let of_timeline: Vec<_> =
                pieces.iter().filter(|piece| piece.4 == timeline.number).collect();
            let is_there = |place: &usize| {
                of_timeline.iter().any(|piece| (piece.0..=piece.1).contains(place))
            };
            let there = base + (base..times.len()).take_while(is_there).count();
            let has_later = (there..times.len()).any(|place| is_there(&place));
            match search(archive, &goal, base, &times) {
                Ok((cut, chain)) => {
                    let reached = replay(base, &chain);
                    prop_assert!(reached <= there, "{reached} of {there}");
                    prop_assert_eq!(&cut.upto, &set(0..reached));
                    // The end of all that is there, if the time is not later than that.
                    let wanted = meant(&goal, &times[base..], there - base);
                    let wanted = match &goal {
                        Goal::Time(_) => base + wanted.unwrap_or(there - base),
                        _ => meant(&goal, &times, there).unwrap(),
                    };
                    prop_assert_eq!(reached, wanted);
                    prop_assert!(cut.inside.iter().all(|one| cut.upto.contains(&one.gtid)));
                    prop_assert!(!cut.outside.iter().any(|one| cut.upto.contains(&one.gtid)));
                }
                Err(Unreachable::Hole(missing, _)) => {
                    prop_assert!(has_later, "{missing} of nothing that goes on");
                    prop_assert!(missing.contains(&gtid(there)), "{missing} without {there}");
                    if !matches!(goal, Goal::Latest | Goal::Time(_)) {
                        prop_assert!(meant(&goal, &times, there).is_none());
                    }
                }
                Err(Unreachable::Order) => prop_assert!(false, "one stream has one order"),
                Err(Unreachable::InBackup) => {
                    let (Goal::To(one) | Goal::Before(one)) = &goal else { panic!("{goal}") };
                    prop_assert!(one.number() as usize <= base);
                }
                Err(Unreachable::After(_)) => {
                    let Goal::Time(time) = goal else { panic!("{goal}") };
                    let is_later = |at: &usize| time_of(micros(*at)) < time;
                    prop_assert!(times[base..there].iter().all(is_later));
                }
                Err(Unreachable::Unknown) => {
                    let (Goal::To(one) | Goal::Before(one)) = &goal else { panic!("{goal}") };
                    let number = one.number() as usize;
                    prop_assert!(number > there && !is_there(&(number - 1)));
                }
            }
        }
    }
}
