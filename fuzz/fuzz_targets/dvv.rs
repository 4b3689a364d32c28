//! Dotted version vector sets against a model: sets of dots.
//!
//! An arbitrary history of clients and three replicas is played on both. A replica of the model knows
//! which dots it has seen and which of them live; merging two keeps a dot that lives on both sides, or
//! lives on one and was never seen on the other. Checked after each step: versions, clocks, digests and
//! the laws of merge, also for arbitrary states that no history need have made.

#![no_main]

use std::collections::BTreeSet;

use arbitrary::Arbitrary;
use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use rondo_core::id::{ActorId, RequestId};
use rondo_core::version::dvv::{VersionVector, Dot, Entry, Version, VersionSet};
use rondo_core::version::hlc::Hlc;
use rondo_core::version::runs::{Run, Runs};

const REPLICAS: usize = 3;
const CLIENTS: usize = 3;

#[derive(Arbitrary, Debug)]
enum Input {
    History(Vec<Step>),
    States([Vec<(u8, u64, u8)>; 3]),
}

#[derive(Arbitrary, Debug)]
enum Step {
    Read {
        client: u8,
        replica: u8,
    },
    Put {
        client: u8,
        replica: u8,
    },
    BlindPut {
        replica: u8,
    },
    /// A put after which another replica gets the state.
    Replicated {
        client: u8,
        replica: u8,
        to: u8,
    },
    Merge {
        from: u8,
        to: u8,
    },
}

fuzz_target!(|input: Input| {
    match input {
        Input::History(steps) => history(&steps),
        Input::States(states) => laws(states.map(|entries| state(&entries))),
    }
});

#[derive(Clone, Default)]
struct Model {
    seen: BTreeSet<Dot>,
    live: BTreeSet<Dot>,
}

impl Model {
    fn merge(&mut self, other: &Model) {
        let live = self.live.union(&other.live).copied().filter(|dot| {
            (self.live.contains(dot) || !self.seen.contains(dot))
                && (other.live.contains(dot) || !other.seen.contains(dot))
        });
        self.live = live.collect();
        self.seen.extend(&other.seen);
    }

    fn put(&mut self, context: &BTreeSet<Dot>, dot: Dot) {
        self.live.retain(|live| !context.contains(live));
        self.seen.extend(context);
        self.seen.insert(dot);
        self.live.insert(dot);
    }
}

/// Everything about a version follows from its dot, so that no two writes share one.
fn version(dot: Dot) -> Version {
    let hlc = Hlc(dot.n.wrapping_mul(1000).wrapping_add(dot.actor.0));
    let request = RequestId(u128::from(dot.n) << 64 | u128::from(dot.actor.0));
    if dot.n % 3 == 0 {
        return Version::tombstone(hlc, request);
    }
    Version::value(hlc, request, Bytes::new(), Bytes::copy_from_slice(&dot.n.to_le_bytes()))
}

fn history(steps: &[Step]) {
    let mut sets = vec![VersionSet::default(); REPLICAS];
    let mut models = vec![Model::default(); REPLICAS];
    let mut contexts = vec![(VersionVector::default(), BTreeSet::new()); CLIENTS];
    for step in steps.iter().take(100) {
        match *step {
            Step::Read { client, replica } => {
                let (c, r) = (usize::from(client) % CLIENTS, usize::from(replica) % REPLICAS);
                contexts[c] = (sets[r].clock(), models[r].seen.clone());
            }
            Step::Put { client, replica } | Step::Replicated { client, replica, .. } => {
                let (c, r) = (usize::from(client) % CLIENTS, usize::from(replica) % REPLICAS);
                let (clock, seen) = contexts[c].clone();
                let dot = put(r, &clock, &seen, &mut sets, &mut models);
                contexts[c] = token(&sets[r], &models[r], &clock, &seen, dot);
                if let Step::Replicated { to, .. } = *step {
                    let to = usize::from(to) % REPLICAS;
                    let (theirs, model) = (sets[r].clone(), models[r].clone());
                    sets[to].merge(&theirs);
                    models[to].merge(&model);
                }
            }
            Step::BlindPut { replica } => {
                let r = usize::from(replica) % REPLICAS;
                put(r, &VersionVector::default(), &BTreeSet::new(), &mut sets, &mut models);
            }
            Step::Merge { from, to } => {
                let (from, to) = (usize::from(from) % REPLICAS, usize::from(to) % REPLICAS);
                let (theirs, model) = (sets[from].clone(), models[from].clone());
                sets[to].merge(&theirs);
                models[to].merge(&model);
            }
        }
        sets.iter().zip(&models).for_each(|(set, model)| same(set, model));
    }
    let [a, b, c] = sets.try_into().expect("three replicas");
    laws([a, b, c]);
}

fn put(
    replica: usize,
    clock: &VersionVector,
    seen: &BTreeSet<Dot>,
    sets: &mut [VersionSet],
    models: &mut [Model],
) -> Dot {
    let actor = ActorId(replica as u64 + 1);
    // The owner of an actor has issued all its dots, so no context knows more of them than it does.
    let dot = Dot { actor, n: sets[replica].highest(actor) + 1 };
    assert_eq!(sets[replica].put(clock, actor, version(dot)), dot);
    models[replica].put(seen, dot);
    dot
}

/// What the writer is given: what it had seen, its own dot, and nothing else that is there.
fn token(
    set: &VersionSet,
    model: &Model,
    clock: &VersionVector,
    seen: &BTreeSet<Dot>,
    dot: Dot,
) -> (VersionVector, BTreeSet<Dot>) {
    let token = set.known_to_writer(clock, dot);
    let mine = |other: &Dot| *other == dot || seen.contains(other);
    for other in &model.seen {
        assert!(!mine(other) || token.covers(*other), "it forgot {other:?}");
        let may = mine(other) || !model.live.contains(other);
        assert!(may || !token.covers(*other), "it was not told of {other:?}");
    }
    let all = model.seen.iter().copied().filter(|other| token.covers(*other));
    let all: BTreeSet<Dot> = all.chain(seen.iter().copied()).collect();
    (token, all)
}

fn same(set: &VersionSet, model: &Model) {
    let live: Vec<Dot> = set.versions().map(|(dot, _)| dot).collect();
    let live = live.into_iter().collect::<BTreeSet<_>>();
    assert_eq!(live, model.live, "the versions differ");
    assert!(set.versions().all(|(dot, found)| *found == version(dot)), "a version has changed");
    let mut clock = VersionVector::default();
    model.seen.iter().for_each(|&dot| clock.add(dot));
    assert_eq!(set.clock(), clock, "the clocks differ");
    assert_eq!(VersionSet::from_entries(set.entries().into()).as_ref(), Some(set));
}

/// Any state whose versions follow from their dots. The numbers stay below what a cluster could reach.
fn state(entries: &[(u8, u64, u8)]) -> VersionSet {
    let mut entries = entries.to_vec();
    entries.sort_unstable();
    entries.dedup_by_key(|entry| entry.0 % 8);
    let entries = entries.iter().map(|&(actor, n, len)| {
        let (actor, n) = (ActorId(u64::from(actor % 8)), n % (1 << 47) + 1);
        let live = u64::from(len % 5).min(n);
        let versions = (0..live).map(|at| (n - at, version(Dot { actor, n: n - at }))).collect();
        let mut known = Runs::default();
        // With and without a gap below.
        let gap = if len % 2 == 0 { 0 } else { (n - live.max(1)) / 2 };
        known.add(Run { from: 1, to: gap / 2 });
        known.add(Run { from: gap + 1, to: n });
        Entry { actor, known, versions }
    });
    let mut entries: Vec<Entry> = entries.collect();
    entries.sort_by_key(|entry| entry.actor);
    entries.dedup_by_key(|entry| entry.actor);
    VersionSet::from_entries(entries.into()).expect("sorted and sound")
}

fn merged(a: &VersionSet, b: &VersionSet) -> VersionSet {
    let mut out = a.clone();
    out.merge(b);
    out
}

fn laws([a, b, c]: [VersionSet; 3]) {
    assert_eq!(merged(&a, &a), a, "idempotent");
    assert_eq!(merged(&a, &b), merged(&b, &a), "commutative");
    assert_eq!(merged(&merged(&a, &b), &c), merged(&a, &merged(&b, &c)), "associative");
    let both = merged(&a, &b);
    assert!(both.clock().dominates(&a.clock()) && both.clock().dominates(&b.clock()));
    assert_eq!(merged(&both, &a), both, "absorbed");
    assert_eq!(a == b, a.digest() == b.digest(), "digests tell states apart");
    for entry in a.entries() {
        let after = both.entry(entry.actor).expect("an actor is never forgotten");
        assert!(after.known.has_all(&entry.known), "what is known stays known");
        let gone = entry.versions.iter().filter(|(n, _)| b.clock().covers(Dot { actor: entry.actor, n: *n }));
        let gone = gone.filter(|(n, _)| b.entry(entry.actor).is_none_or(|b| !b.holds(*n)));
        assert!(gone.into_iter().all(|(n, _)| !after.holds(*n)), "what is gone stays gone");
    }
    let winner = both.winner().map(|(dot, _)| dot);
    assert_eq!(winner.is_none(), both.versions().next().is_none());
    assert!(both.versions().all(|(_, version)| version.hlc <= both.highest_hlc()));

    let mut discarded = both.clone();
    discarded.discard(&a.clock());
    assert!(discarded.versions().all(|(dot, _)| !a.clock().covers(dot)));
}
