//! Mutation: a scenario that once showed a bug, changed here and there, because where there was one bug there are more.
//!
//! The list of scenarios is part of the program, so that a seed means the same wherever it runs. Each change keeps what
//! `Scenario::check` asks for: nodes that exist, operations in order of time, followers behind what they follow.

use crate::fault::directories::{Directory, Replacement};
use crate::fault::{Fault, Kind, Trigger};
use crate::generator::{faults, room};
use crate::rng::Rng;
use crate::scenario::Scenario;

/// Scenarios of the corpus with their names.
macro_rules! corpus {
    ($($name:literal,)*) => {
        [$(($name, include_str!(concat!("../../corpus/", $name, ".json"))),)*]
    };
}

/// Values larger than this are heavy, in bytes.
const HEAVY_BYTES: u32 = 512 << 10;

/// All of them, sorted by name, but for one that takes seconds (`little-memory-on-a-stalled-disk`).
const CORPUS: &[(&str, &str)] = &corpus![
    "a-compacted-file-looks-empty",
    "a-delete-without-what-it-deleted",
    "a-fallback-and-its-disk",
    "a-get-over-a-change-of-layouts",
    "a-get-while-two-of-three-owners-are-new",
    "a-hint-where-there-is-none",
    "a-jump-is-not-kept",
    "a-later-attempt-at-a-fallback",
    "a-misdirected-read-of-the-file-of-boots",
    "a-newcomer-is-told-the-newer-layout",
    "a-purge-beside-what-a-fallback-owes",
    "a-table-that-is-cut",
    "a-vote-that-nobody-can-know",
    "actors-fill-a-clock",
    "addresses-change",
    "again-before-the-mark",
    "all-addresses-change",
    "all-after-a-fast-clock",
    "all-asks-all",
    "all-below-quorum",
    "an-owner-is-silent-while-others-purge",
    "back-behind-a-live-layout",
    "bad-request-after-another-key",
    "beside-a-delete",
    "chain-of-own-tokens",
    "clock-back-over-a-restart",
    "clone-and-the-node-returns",
    "clone-beside",
    "copy-that-became-the-newest",
    "crash-in-maintenance",
    "cut-then-failed",
    "dead-actor",
    "dead-actor-on-a-full-disk",
    "empty-log-on-a-full-disk",
    "end-of-a-durable-batch",
    "failed-answer-in-a-query",
    "failed-sync-believed",
    "file-lost",
    "flipped-length",
    "forward-twice",
    "forwards-after-a-restart",
    "forwards-one-way",
    "found-attempt",
    "found-with-another-context",
    "given-away-before-the-dot",
    "half-a-log",
    "handed-over-under-an-older-layout",
    "hint-rots-on-its-way",
    "id-used-again",
    "identity-lost",
    "impatient-second-attempt",
    "late-forward",
    "left-for-an-owner-and-taken-on",
    "live-copy-beside",
    "live-copy-put-back",
    "lost-merge-at-all",
    "many-files-noted",
    "many-lives",
    "mark-in-an-older-log",
    "merge-ends-in-zeroes",
    "merge-waits-at-rest",
    "old-copy",
    "old-copy-alone",
    "old-copy-apart",
    "old-copy-in-place",
    "old-copy-killed",
    "old-copy-of-earlier-life",
    "old-copy-of-one-replica",
    "old-copy-remembers",
    "one-id-many-requests",
    "one-of-four-is-gone-and-one-leaves",
    "only-the-hint-is-left",
    "outside-before-its-answer",
    "overtaken-cold-read",
    "overwritten-before-it-is-tried-again",
    "own-record-unreadable",
    "own-tokens",
    "record-elsewhere",
    "refused-after-it-wrote",
    "refused-but-cut",
    "refused-but-written",
    "rot-and-too-few-others",
    "rot-before-a-start",
    "rot-takes-an-unheard-dot",
    "rot-that-lasts",
    "seen-after-the-start",
    "set-right-after-a-jump",
    "siblings-of-all-coordinators",
    "slow-disk-while-merging",
    "stall-of-all-disks",
    "start-of-the-log-gone",
    "stop-on-a-full-disk",
    "torn-mark",
    "two-layouts-behind",
    "what-a-fallback-took-is-owed",
    "wiped-node",
    "writes-fill-small-files",
];

/// One of the scenarios, changed by the seed's dice.
pub(super) fn scenario(seed: u64) -> Scenario {
    let mut rng = Rng::new(seed, 7);
    let (name, text) = rng.pick(CORPUS);
    let mut made = Scenario::from_json(text).expect("the corpus is checked by a test");
    made.seed = seed;
    made.story = format!("made by the generator: mutation of {name}");
    for _ in 0..rng.between(1, 6) {
        change(&mut rng, &mut made);
    }
    keep_copies_in_reach(&mut made.faults);
    made.sort_operations();
    made
}

fn change(rng: &mut Rng, made: &mut Scenario) {
    let count = made.faults.len() as u64;
    match rng.below(8) {
        0 if count > 0 => made.remove_fault(rng.below(count) as usize),
        1 if count > 0 => {
            let mut copy = rng.pick(&made.faults);
            copy.when = move_by(rng, copy.when);
            // Twice at one moment it would be another fault: a disk that reads astray ever again looks empty to whoever asks twice.
            if !made.faults.contains(&copy) {
                made.faults.push(copy);
            }
        }
        2 if count > 0 => {
            let at = rng.below(count) as usize;
            made.faults[at].when = move_by(rng, made.faults[at].when);
        }
        3 => shift_operations(rng, made),
        4 => made.cluster.deadline_ms = rng.log(300, 2_500),
        5 => made.cluster.hedge_ms = rng.log(5, 100),
        6 => {
            // Megabytes over a stream with a window take many times its delay: no client waits for that.
            let is_heavy = made.operations.iter().any(|operation| operation.bytes > HEAVY_BYTES);
            made.links.delay_mean_us = rng.log(200, if is_heavy { 1_000 } else { 12_000 });
        }
        _ => {
            let window_ms = made.heal_at_ms / 5..made.heal_at_ms.max(2) - 1;
            let room = room(&made.cluster, made.operations.len(), window_ms);
            made.faults.extend(faults::another(rng, &room));
        }
    }
}

/// A copy in the very place of the newest directory is told by those who knew the later life, and by nobody while it reaches none of
/// them (`docs/consistency.md`): where links may fail it lies elsewhere, which it notices by itself.
fn keep_copies_in_reach(faults: &mut [Fault]) {
    let of_links = |fault: &Fault| {
        let what = &fault.what;
        matches!(what, Kind::Cut(_) | Kind::Links(_) | Kind::Reset(_) | Kind::HalfOpen(_))
    };
    if !faults.iter().any(of_links) {
        return;
    }
    for fault in faults {
        if let Kind::Directory(Directory { what: Replacement::OldCopy { in_place, .. }, .. }) =
            &mut fault.what
        {
            *in_place = false;
        }
    }
}

/// The same trigger a little earlier or later.
fn move_by(rng: &mut Rng, when: Trigger) -> Trigger {
    let mut near = |n: u64, by: u64| (n + rng.between(0, 2 * by)).saturating_sub(by).max(1);
    match when {
        Trigger::At { ms } => Trigger::At { ms: near(ms, 500) },
        Trigger::OnAck { n } => Trigger::OnAck { n: near(n, 4) },
        Trigger::OnSyncPending { node, n } => Trigger::OnSyncPending { node, n: near(n, 4) },
        Trigger::OnMessage { kind, from, to, n } => {
            Trigger::OnMessage { kind, from, to, n: near(n, 4) }
        }
        Trigger::After { fault, ms } => Trigger::After { fault, ms: near(ms, 50) },
        Trigger::OnBoot { node, n, ops } => Trigger::OnBoot { node, n, ops: near(ops, 8) },
        Trigger::OnMaintenance { node, ops } => Trigger::OnMaintenance { node, ops: near(ops, 8) },
    }
}

/// Some of the operations come earlier or later, by up to 20 ms.
fn shift_operations(rng: &mut Rng, made: &mut Scenario) {
    for operation in &mut made.operations {
        if rng.percent(20) {
            operation.at_us = (operation.at_us + rng.below(40_000)).saturating_sub(20_000);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mutants_keep_the_bounds_and_differ() {
        assert!(CORPUS.is_sorted_by_key(|(name, _)| *name));
        let there = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/corpus"));
        assert_eq!(there.expect("the corpus").count(), CORPUS.len() + 1, "none is forgotten");
        for (name, text) in CORPUS {
            Scenario::from_json(text).unwrap_or_else(|error| panic!("{name}: {error}"));
        }
        for seed in 0..500 {
            let made = scenario(seed);
            made.check().unwrap_or_else(|error| panic!("seed {seed}: {error}"));
            assert!(made.faults.len() < 30 && made == scenario(seed));
        }
        let changed = (0..100).filter(|&seed| scenario(seed).faults != scenario(seed + 100).faults);
        assert!(changed.count() > 80);
    }
}
