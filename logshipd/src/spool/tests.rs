//! A spool against a model, through crashes at any byte.

use proptest::prelude::*;

use super::*;

const LIMITS: Limits = Limits { bytes: 1 << 20, segment_bytes: 300 };

fn open(dir: &Path) -> (Spool, Damage) {
    Spool::open(dir, LIMITS, 77).unwrap()
}

fn read_all(spool: &mut Spool) -> Vec<(u64, Vec<u8>)> {
    let mut found = Vec::new();
    while spool
        .read(500, &mut |record| found.push((record.sequence, record.message.to_vec())))
        .unwrap()
        > 0
    {}
    found
}

fn last_segment(dir: &Path) -> PathBuf {
    let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    entries.filter(|path| path.to_str().unwrap().contains("segment-")).max().unwrap()
}

#[derive(Clone, Debug)]
enum Act {
    Append(usize),
    Sync,
    Read,
    Acknowledge(usize),
    Reopen,
    /// The last segment ends after a share of its bytes.
    Tear(u64),
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let act = prop_oneof![
        5 => (0..200usize).prop_map(Act::Append),
        3 => Just(Act::Sync),
        2 => Just(Act::Read),
        1 => (0..9usize).prop_map(Act::Acknowledge),
        1 => Just(Act::Reopen),
        1 => (0..1000u64).prop_map(Act::Tear),
    ];
    prop::collection::vec(act, 1..60)
}

/// What must be readable, with every number that was ever given.
#[derive(Default)]
struct Model {
    durable: Vec<(u64, Vec<u8>)>,
    pending: Vec<(u64, Vec<u8>)>,
    given: std::collections::BTreeMap<u64, Vec<u8>>,
    unread: usize,
}

impl Model {
    fn append(&mut self, spool: &mut Spool, length: usize) {
        let sequence = spool.next;
        let message = format!("{sequence}-{}", self.given.len()).into_bytes();
        let message = message.into_iter().cycle().take(length).collect::<Vec<_>>();
        assert!(spool.append(5, 0, &message).unwrap());
        self.pending.push((sequence, message));
    }

    fn sync(&mut self, spool: &mut Spool) {
        spool.sync().unwrap();
        for (sequence, message) in self.pending.drain(..) {
            let before = self.given.insert(sequence, message.clone());
            assert!(before.is_none(), "{sequence} is given twice");
            self.durable.push((sequence, message));
        }
    }

    fn read(&mut self, spool: &mut Spool) {
        let found = read_all(spool);
        assert_eq!(found, self.durable[self.unread..]);
        self.unread = self.durable.len();
    }

    fn reopened(&mut self) {
        self.pending.clear();
        self.unread = 0;
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 200,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn what_is_durable_is_read_once_in_order_through_any_crash(acts in acts()) {
        let dir = tempfile::tempdir().unwrap();
        let mut spool = Some(open(dir.path()).0);
        let mut model = Model::default();
        for act in acts {
            let current = spool.as_mut().unwrap();
            match act {
                Act::Append(length) => model.append(current, length),
                Act::Sync => model.sync(current),
                Act::Read => model.read(current),
                Act::Acknowledge(count) => {
                    let taken = &model.durable[..count.min(model.unread)];
                    if let Some((sequence, _)) = taken.last() {
                        current.acknowledge(*sequence).unwrap();
                        let acknowledged = *sequence;
                        let before = model.durable.len();
                        model.durable.retain(|(sequence, _)| *sequence > acknowledged);
                        model.unread -= before - model.durable.len();
                    }
                }
                Act::Reopen => {
                    drop(spool.take());
                    model.reopened();
                    spool = Some(open(dir.path()).0);
                }
                Act::Tear(share) => {
                    drop(spool.take());
                    model.reopened();
                    if fs::read_dir(dir.path()).unwrap().count() > 1 {
                        let path = last_segment(dir.path());
                        let whole = fs::read(&path).unwrap();
                        let length = whole.len() * share as usize / 1000;
                        fs::write(&path, &whole[..length]).unwrap();
                        let kept = segment::scan(&whole[..length]).unwrap();
                        let all = segment::scan(&whole).unwrap();
                        prop_assert!(kept.bytes <= length as u64);
                        let lost = kept.next.max(all.first)..all.next;
                        model.durable.retain(|(sequence, _)| !lost.contains(sequence));
                    }
                    spool = Some(open(dir.path()).0);
                }
            }
        }
        let spool = spool.as_mut().unwrap();
        model.sync(spool);
        spool.rewind();
        model.unread = 0;
        model.read(spool);
    }
}

#[test]
fn a_full_spool_takes_nothing_until_something_is_acknowledged() {
    let dir = tempfile::tempdir().unwrap();
    let limits = Limits { bytes: 2000, segment_bytes: 300 };
    let (mut spool, _) = Spool::open(dir.path(), limits, 1).unwrap();
    let mut count = 0;
    while spool.append(0, 0, &[b'x'; 100]).unwrap() {
        count += 1;
        spool.sync().unwrap();
    }
    assert!((10..20).contains(&count), "{count}");
    assert!(spool.bytes() <= 2000 && spool.is_full_for(100));
    assert_eq!(read_all(&mut spool).len(), count);
    spool.acknowledge((1 << RUN_BITS) + 5).unwrap();
    assert!(spool.append(0, 0, &[b'x'; 100]).unwrap());
    spool.sync().unwrap();
    assert_eq!(read_all(&mut spool).len(), 1);
}

#[test]
fn what_is_not_durable_cannot_be_read() {
    let dir = tempfile::tempdir().unwrap();
    let (mut spool, _) = open(dir.path());
    assert!(spool.append(0, 0, b"one").unwrap());
    assert!(read_all(&mut spool).is_empty());
    spool.sync().unwrap();
    assert_eq!(read_all(&mut spool), [(1 << RUN_BITS, b"one".to_vec())]);
}

#[test]
fn any_flipped_bit_costs_no_record_before_it_and_makes_no_wrong_one() {
    let dir = tempfile::tempdir().unwrap();
    let (mut spool, _) = open(dir.path());
    let messages: Vec<_> = (0..4).map(|number| format!("message {number}").into_bytes()).collect();
    for message in &messages {
        assert!(spool.append(9, 0, message).unwrap());
    }
    spool.sync().unwrap();
    drop(spool);
    let path = last_segment(dir.path());
    let whole = fs::read(&path).unwrap();
    for at in record::SEGMENT_HEAD_BYTES..whole.len() {
        let mut bad = whole.clone();
        bad[at] ^= 1;
        fs::write(&path, &bad).unwrap();
        let (mut spool, damage) = open(dir.path());
        let found = read_all(&mut spool);
        let good = (at - record::SEGMENT_HEAD_BYTES) / (record::HEAD_BYTES + 9);
        let texts: Vec<_> = found.into_iter().map(|(_, message)| message).collect();
        assert_eq!(texts, messages[..good], "byte {at}");
        assert!(damage.torn_bytes > 0, "byte {at}: {damage:?}");
    }
}

#[test]
fn a_newer_version_is_refused_and_stays_whole() {
    let dir = tempfile::tempdir().unwrap();
    drop(open(dir.path()));
    let mut head = record::segment_head(1);
    head[8] = 2;
    let path = dir.path().join("segment-0000000000000001");
    fs::write(&path, head).unwrap();
    let error = format!("{:#}", Spool::open(dir.path(), LIMITS, 1).unwrap_err());
    assert!(error.contains("version 2 is newer"), "{error}");
    assert_eq!(fs::read(&path).unwrap(), head);
    assert!(parse_state("logshipd-spool 2 0 0 0").unwrap_err().to_string().contains("newer"));
}

#[test]
fn identity_and_position_outlive_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let (mut spool, _) = open(dir.path());
    (0..3).for_each(|_| assert!(spool.append(0, 0, b"x").unwrap()));
    spool.sync().unwrap();
    let last = (1 << RUN_BITS) + 2;
    spool.acknowledge(last).unwrap();
    drop(spool);
    let (mut spool, damage) = Spool::open(dir.path(), LIMITS, 99).unwrap();
    assert_eq!((spool.identity(), damage), (77, Damage::default()));
    assert_eq!(spool.state, State { identity: 77, run: 2, acknowledged: last });
    assert!(spool.append(0, 7, b"y").unwrap());
    spool.sync().unwrap();
    assert_eq!(read_all(&mut spool), [(2 << RUN_BITS, b"y".to_vec())]);
}
