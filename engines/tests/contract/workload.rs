//! What is done to an engine: steps, drawn at random or chosen, and the keys and values in them.

use bytes::Bytes;
use proptest::prelude::{Just, Strategy, any, prop_oneof};
use proptest::test_runner::FileFailurePersistence;
use rondo_core::engine::Change;

pub(crate) const KEYS: u8 = 12;

/// One step of a workload.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    /// Each key with the length of its value, or `None` to delete it.
    Write(Vec<(u8, Option<u16>)>),
    Flush,
    /// Starts a sync, when none is under way.
    StartSync,
    /// Ends the sync that is under way.
    EndSync,
    Maintain(u64),
    Scan(u8, usize),
    /// One step of deleting the keys from one to another, at most so many.
    DeleteRange(u8, u8, usize),
    /// Deletes the first key if it has its head, or one that it never has, and writes the second with it.
    DeleteIfEqual(u8, bool, u8),
    /// Replays the last writes, so many, in pages of so many bytes.
    Replay(u64, u64),
    /// Closes and opens again.
    Reopen,
    /// The process ends; the operating system lives on.
    Kill,
}

pub(crate) fn steps(max: usize) -> impl Strategy<Value = Vec<Step>> {
    let change = (0..KEYS, proptest::option::weighted(0.7, 0_u16..400));
    let step = prop_oneof![
        8 => proptest::collection::vec(change, 1..4).prop_map(Step::Write),
        2 => Just(Step::Flush),
        3 => Just(Step::StartSync),
        3 => Just(Step::EndSync),
        6 => prop_oneof![Just(1_u64), Just(200), Just(100_000)].prop_map(Step::Maintain),
        1 => (0..KEYS, 1_usize..5).prop_map(|(key, limit)| Step::Scan(key, limit)),
        1 => (0..KEYS, 0..KEYS, 1_usize..5).prop_map(|(from, to, limit)| Step::DeleteRange(from, to, limit)),
        1 => (0..KEYS, any::<bool>(), 0..KEYS).prop_map(|(key, is_equal, with)| Step::DeleteIfEqual(key, is_equal, with)),
        1 => (0_u64..40, prop_oneof![Just(0_u64), Just(500), Just(1 << 20)])
            .prop_map(|(back, bytes)| Step::Replay(back, bytes)),
        1 => Just(Step::Reopen),
        1 => Just(Step::Kill),
    ];
    proptest::collection::vec(step, 1..max)
}

/// Cases that failed once are kept here, and are run first.
pub(crate) const FAILURES: FileFailurePersistence =
    FileFailurePersistence::Direct("tests/contract/regressions");

pub(crate) fn key(n: u8) -> Bytes {
    // Some are of a node's own records.
    let own = if n.is_multiple_of(5) { "\0" } else { "" };
    Bytes::from(format!("{own}key-{n:02}"))
}

/// A value that names its key and the write it comes from.
pub(crate) fn change(serial: u64, n: u8, len: Option<u16>) -> Change {
    // Some say nothing to whoever replays them.
    let delta = if serial.is_multiple_of(3) { 0 } else { !serial };
    match len {
        None => Change::Delete { key: key(n), delta },
        Some(len) => {
            let first = Bytes::from(format!("{serial}:{n}:"));
            let rest = Bytes::from(vec![b'a' + (serial % 26) as u8; usize::from(len)]);
            let head = Bytes::from(format!("head {serial}"));
            Change::Put { key: key(n), head, body: [first, rest].into_iter().collect(), delta }
        }
    }
}

/// Overwrites, deletions, atomic batches, group commit, rotation, compactions.
pub(crate) fn busy_workload() -> Vec<Step> {
    let mut steps = Vec::new();
    for round in 0..6_u8 {
        for n in 0..4_u8 {
            let a = (n + round) % KEYS;
            let deleted = if (n + round) % 3 == 0 { None } else { Some(150) };
            steps.push(Step::Write(vec![(a, Some(120)), ((a + 5) % KEYS, deleted)]));
            if n == 1 {
                steps.push(Step::StartSync);
            }
        }
        steps.push(Step::EndSync);
        steps.push(Step::StartSync);
        steps.push(Step::Maintain(400));
        steps.push(Step::EndSync);
        for _ in 0..8 {
            steps.push(Step::Maintain(100_000));
        }
    }
    steps
}
