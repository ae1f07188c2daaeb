//! A set of numbers as sorted intervals that neither touch nor overlap.

use std::fmt;

use super::number;

/// Numbers from 1 on. Both ends of an interval belong to it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Intervals(Vec<(u64, u64)>);

impl Intervals {
    /// The numbers from `first` to `last`; none if `last` is before `first`.
    pub fn of(first: u64, last: u64) -> Self {
        Self(if first <= last { vec![(first, last)] } else { Vec::new() })
    }

    /// The intervals, in order.
    pub fn iter(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        self.0.iter().copied()
    }

    /// How many intervals there are.
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// Whether there is no number.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The smallest number.
    pub fn first(&self) -> Option<u64> {
        self.0.first().map(|interval| interval.0)
    }

    /// The greatest number.
    pub fn last(&self) -> Option<u64> {
        self.0.last().map(|interval| interval.1)
    }

    /// How many numbers there are.
    pub fn size(&self) -> u64 {
        self.iter().fold(0, |sum, (first, last)| sum.saturating_add(last - first).saturating_add(1))
    }

    /// Whether a number is in it.
    pub fn contains(&self, number: u64) -> bool {
        let at = self.0.partition_point(|interval| interval.1 < number);
        self.0.get(at).is_some_and(|interval| interval.0 <= number)
    }

    /// Whether all of `other` is in it.
    pub fn contains_all(&self, other: &Self) -> bool {
        other.iter().all(|(first, last)| {
            let at = self.0.partition_point(|interval| interval.1 < first);
            self.0.get(at).is_some_and(|interval| interval.0 <= first && last <= interval.1)
        })
    }

    /// Adds the numbers from `first` to `last`.
    pub fn insert(&mut self, first: u64, last: u64) {
        if first > last {
            return;
        }
        // Those that touch or overlap become one with it.
        let from = self.0.partition_point(|interval| interval.1 < first.saturating_sub(1));
        let to = self.0.partition_point(|interval| interval.0 <= last.saturating_add(1));
        let merged = self.0[from..to]
            .iter()
            .fold((first, last), |sum, interval| (sum.0.min(interval.0), sum.1.max(interval.1)));
        self.0.splice(from..to, [merged]);
    }

    /// All numbers of both.
    pub fn union(&self, other: &Self) -> Self {
        let mut sum = self.clone();
        other.iter().for_each(|(first, last)| sum.insert(first, last));
        sum
    }

    /// The numbers that are not in `other`.
    pub fn subtract(&self, other: &Self) -> Self {
        let mut rest = Vec::new();
        for (mut first, last) in self.iter() {
            let at = other.0.partition_point(|interval| interval.1 < first);
            let mut is_left = true;
            for (from, to) in other.0[at..].iter().copied().take_while(|(from, _)| *from <= last) {
                if first < from {
                    rest.push((first, from - 1));
                }
                if to >= last {
                    is_left = false;
                    break;
                }
                first = to + 1;
            }
            if is_left {
                rest.push((first, last));
            }
        }
        Self(rest)
    }

    /// The numbers that are in both.
    pub fn intersect(&self, other: &Self) -> Self {
        self.subtract(&self.subtract(other))
    }

    /// The numbers that are missing between the first and the last.
    pub fn gaps(&self) -> Self {
        Self(self.0.windows(2).map(|pair| (pair[0].1 + 1, pair[1].0 - 1)).collect())
    }

    /// Reads `1-5:7`, with `separator` in place of the colon.
    pub fn parse(text: &str, separator: char) -> Option<Self> {
        let mut intervals = Self::default();
        for part in text.split(separator) {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let (first, last) = (number(first)?, number(last)?);
            if first == 0 || last < first {
                return None;
            }
            intervals.insert(first, last);
        }
        Some(intervals)
    }

    /// Writes `1-5:7`, with `separator` in place of the colon.
    pub fn to_text(&self, separator: &str) -> String {
        let part = |(first, last)| {
            if first == last { format!("{first}") } else { format!("{first}-{last}") }
        };
        self.iter().map(part).collect::<Vec<_>>().join(separator)
    }
}

impl fmt::Display for Intervals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_text(":"))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    type Model = BTreeSet<u64>;

    fn model(intervals: &Intervals) -> Model {
        intervals.iter().flat_map(|(first, last)| first..=last).collect()
    }

    fn is_proper(intervals: &Intervals) -> bool {
        intervals.iter().all(|(first, last)| first <= last)
            && intervals.0.windows(2).all(|pair| pair[0].1 + 1 < pair[1].0)
    }

    prop_compose! {
        fn some_intervals()(parts in prop::collection::vec((1_u64..60, 0_u64..9), 0..8))
            -> Intervals {
            let mut intervals = Intervals::default();
            for (first, more) in parts {
                intervals.insert(first, first + more);
            }
            intervals
        }
    }

    proptest! {
        #[test]
        fn operations_are_those_of_sets(
            a in some_intervals(), b in some_intervals(), n in 1_u64..70
        ) {
            let (x, y) = (model(&a), model(&b));
            let union = a.union(&b);
            let difference = a.subtract(&b);
            let both = a.intersect(&b);
            prop_assert!([&a, &union, &difference, &both].into_iter().all(is_proper));
            prop_assert_eq!(model(&union), x.union(&y).copied().collect::<Model>());
            prop_assert_eq!(model(&difference), x.difference(&y).copied().collect::<Model>());
            prop_assert_eq!(model(&both), x.intersection(&y).copied().collect::<Model>());
            prop_assert_eq!(a.contains(n), x.contains(&n));
            prop_assert_eq!(a.contains_all(&b), x.is_superset(&y));
            prop_assert_eq!(a.size(), x.len() as u64);
            if let (Some(first), Some(last)) = (a.first(), a.last()) {
                let all: Model = (first..=last).collect();
                prop_assert_eq!(model(&a.gaps()), all.difference(&x).copied().collect::<Model>());
                prop_assert_eq!(Intervals::parse(&a.to_string(), ':'), Some(a));
            }
        }
    }

    #[test]
    fn the_greatest_number_is_a_number_too() {
        let mut all = Intervals::of(1, u64::MAX);
        all.insert(u64::MAX, u64::MAX);
        assert_eq!(all, Intervals::of(1, u64::MAX));
        assert_eq!(
            all.subtract(&Intervals::of(u64::MAX, u64::MAX)),
            Intervals::of(1, u64::MAX - 1)
        );
        assert!(all.subtract(&all).is_empty());
    }

    #[test]
    fn odd_texts_are_refused() {
        for text in ["", "0", "0-1", "2-1", "1-", "-1", "1::2", "a", "1-2-3"] {
            assert_eq!(Intervals::parse(text, ':'), None, "{text}");
        }
    }
}
