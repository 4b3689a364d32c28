//! An actor over many lives, against plain sets of dots: no number is issued twice, and nothing that was acknowledged is
//! gone unless a write covered it. Replicas lose what they have not synced when they are killed, messages come late or never.
//!
//! The plain counter that begins at boot * 2^32 instead of runs fails this: see `a_plain_counter_swallows_an_acknowledged_dot`.

use std::collections::BTreeSet;

use bytes::Bytes;
use proptest::prelude::{prop, prop_assert, proptest};
use rondo_core::config::LIFE_DOTS;
use rondo_core::id::{ActorId, RequestId};
use rondo_core::replica::actors::Own;
use rondo_core::version::dvv::{Dot, Version, VersionSet, VersionVector};
use rondo_core::version::hlc::Hlc;

const ACTOR: ActorId = ActorId(1);
const REPLICAS: usize = 3;

/// A replica: what it knows, and of that what it would know after a kill.
#[derive(Clone, Default)]
struct Copy {
    state: VersionSet,
    durable: VersionSet,
    /// The latest life of the owner that it has answered.
    counted: u64,
}

/// Replica 0 owns the actor.
#[derive(Default)]
struct Model {
    copies: [Copy; REPLICAS],
    boot: u64,
    /// Deltas on their way: to whom, of which life, and the number issued.
    mail: Vec<(usize, u64, u64, VersionSet)>,
    issued: BTreeSet<u64>,
    acknowledged: BTreeSet<u64>,
    covered: BTreeSet<u64>,
}

fn version(n: u64) -> Version {
    Version::value(Hlc(n), RequestId(n.into()), Bytes::new(), Bytes::new())
}

fn held(state: &VersionSet) -> BTreeSet<u64> {
    state.versions().map(|(dot, _)| dot.n).collect()
}

impl Model {
    fn base(&self) -> u64 {
        if self.boot == 1 { 0 } else { self.boot * LIFE_DOTS }
    }

    /// A put that hears these replicas; it overwrites what `covers` says of what it has heard.
    fn put(&mut self, hears: [bool; REPLICAS], overwrites: bool) {
        let own = Own { actor: ACTOR, base: self.base() };
        let mut heard = VersionVector::default();
        for (copy, _) in self.copies.iter_mut().zip(hears).filter(|(_, hears)| *hears) {
            copy.counted = self.boot;
            heard.join(&copy.state.clock());
        }
        let mut known = if overwrites { heard.clone() } else { VersionVector::default() };
        let state = &mut self.copies[0].state;
        let seen = |n: &u64| known.covers(Dot { actor: ACTOR, n: *n });
        self.covered.extend(self.issued.iter().copied().filter(seen));
        if hears == [true; REPLICAS] {
            let nowhere = own.nowhere(&known, &heard, state);
            known.learn(ACTOR, &nowhere);
        }
        state.discard(&known);
        let n = state.event(ACTOR, own.base, version(self.issued.len() as u64 + 1)).n;
        assert!(self.issued.insert(n), "number {n} was issued twice");
        if hears == [true; REPLICAS] {
            heard.join(&state.clock());
            assert_eq!(heard.runs(), 1, "the gaps are closed");
        }
        let told = state.clone();
        self.mail.extend((1..REPLICAS).map(|to| (to, self.boot, n, told.clone())));
    }

    /// A message arrives at last. A replica is deaf to a life before the one it has counted.
    fn deliver(&mut self, at: usize, stays: bool) {
        if self.mail.is_empty() {
            return;
        }
        let at = at % self.mail.len();
        let (to, boot, _, delta) =
            if stays { self.mail[at].clone() } else { self.mail.swap_remove(at) };
        if boot >= self.copies[to].counted {
            self.copies[to].counted = boot;
            self.copies[to].state.merge(&delta);
        }
    }

    /// What is durable anywhere may have been shown or acknowledged.
    fn sync(&mut self, at: usize) {
        self.copies[at].durable = self.copies[at].state.clone();
        self.acknowledged.extend(held(&self.copies[at].durable));
    }

    fn kill(&mut self, at: usize) {
        self.copies[at].state = self.copies[at].durable.clone();
        self.boot += u64::from(at == 0);
    }

    /// A read brings what one replica has on its disk to another one.
    fn repair(&mut self, from: usize, to: usize) {
        let state = self.copies[from].durable.clone();
        self.copies[to].state.merge(&state);
    }
}

proptest! {
    #[test]
    fn no_number_is_issued_twice_and_nothing_acknowledged_is_lost(
        steps in prop::collection::vec((0..8_u8, 0..16_usize), 1..120),
    ) {
        let mut model = Model { boot: 1, ..Model::default() };
        for (step, at) in steps {
            match step {
                0 => model.put([true, at & 1 == 0, at & 2 == 0], at & 4 == 0),
                1 => model.put([true; REPLICAS], at & 4 == 0),
                2 | 3 => model.deliver(at, false),
                4 => model.deliver(at, true),
                5 => model.sync(at % REPLICAS),
                6 => model.kill(at % REPLICAS),
                _ => model.repair(at % REPLICAS, at / 4 % REPLICAS),
            }
        }
        let mut all = VersionSet::default();
        model.copies.iter().for_each(|copy| { all.merge(&copy.durable); });
        let there = held(&all);
        for n in model.acknowledged.difference(&model.covered) {
            prop_assert!(there.contains(n), "{n} was acknowledged, nobody overwrote it, and it is gone");
        }
    }
}

/// Number 2 is held by a peer and lost by the owner. A counter at the next life's first number claims it, and a merge drops it;
/// runs do not.
#[test]
fn a_plain_counter_swallows_an_acknowledged_dot() {
    let mut owner = VersionSet::default();
    owner.event(ACTOR, 0, version(1));
    let mut peer = owner.clone();
    peer.event(ACTOR, 0, version(2));
    let (mut counter, mut runs) = (owner.clone(), owner);
    counter.discard(&VersionVector::new([(ACTOR, 2 * LIFE_DOTS)]));
    for state in [&mut counter, &mut runs] {
        state.event(ACTOR, 2 * LIFE_DOTS, version(3));
        state.merge(&peer);
    }
    assert_eq!(held(&runs), BTreeSet::from([1, 2, 2 * LIFE_DOTS + 1]));
    assert!(!held(&counter).contains(&2), "this is why a counter does not do");
}
