//! What a node's engine has to hold: a model beside it, fed with every batch and every promise of durability.
//!
//! After a crash an engine holds a prefix of its writes, batch by batch, that contains everything that it had called durable
//! (`core/src/engine/contract.rs`). So the model keeps what is durable apart from the batches after it, and a store that is opened
//! again must equal the one followed by some of the others, in order. What was not promised and survived once may still be lost
//! the next time, so it stays apart. Damage changes nothing of that: an engine that opens in spite of it holds one of those
//! states, and one that does not is opened when the damage is undone.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;
use rondo_core::engine::{Batch, Change, Engine};
use rondo_core::error::Result;
use rondo_core::id::Lsn;
use rondo_core::replica::keys::{DATA_START, HINTS};
use rondo_core::version::dvv::VersionVector;
use rondo_core::version::hlc::Hlc;

/// All keys of an engine, with head and body.
pub type Content = BTreeMap<Bytes, (Bytes, Bytes)>;

/// What a write lets a node know: the clocks of keys, by their numbers.
pub type Known = Vec<(u32, VersionVector)>;

/// The model of one node's engine, over all its lives.
#[derive(Debug, Default)]
pub struct Shadow {
    durable: Content,
    later: VecDeque<Later>,
    life: u64,
    /// What the last state of each key knew that was written or found.
    clocks: BTreeMap<u32, VersionVector>,
    /// It is a copy that has not been opened yet, so what it holds is what is durable.
    is_copy: bool,
    /// The highest mark of the hybrid clock that was ever written, and by an earlier life.
    mark: Hlc,
    mark_before: Hlc,
    /// The mark that the store holds.
    mark_held: Hlc,
}

/// A batch that is not known to be durable.
#[derive(Debug)]
struct Later {
    life: u64,
    /// `None` until the engine has taken it.
    lsn: Option<Lsn>,
    batch: Batch,
    known: Known,
}

impl Shadow {
    /// A batch is given to the engine. Answers a key, by its number, of which it knows less than what it replaces.
    pub fn writes(&mut self, batch: &Batch, known: Known) -> Option<u32> {
        let mut shrunk = None;
        for (key, clock) in &known {
            let before = self.clocks.insert(*key, clock.clone());
            shrunk =
                shrunk.or_else(|| before.filter(|before| !clock.dominates(before)).map(|_| *key));
        }
        let (life, batch) = (self.life, batch.clone());
        self.later.push_back(Later { life, lsn: None, batch, known });
        shrunk
    }

    /// A key's record is deleted, because others own it: what was known of it is known here no more. What must not be deleted is
    /// asked for by `acks` and `no-lost-write`.
    pub fn forgets(&mut self, key: u32) {
        self.clocks.remove(&key);
    }

    /// What it knows of each key, durable or not.
    #[must_use]
    pub const fn clocks(&self) -> &BTreeMap<u32, VersionVector> {
        &self.clocks
    }

    /// The store that is opened again knows this.
    pub fn knows(&mut self, known: Known) {
        self.clocks = known.into_iter().collect();
    }

    /// The engine has taken the last batch.
    pub fn wrote(&mut self, lsn: Lsn) {
        if let Some(last) = self.later.back_mut() {
            last.lsn = Some(lsn);
        }
    }

    /// Everything up to here survives a power loss; answers what is known durably now.
    pub fn durable(&mut self, lsn: Lsn) -> Known {
        let life = self.life;
        let is_durable =
            |later: &Later| later.life < life || later.lsn.is_some_and(|taken| taken <= lsn);
        let mut known = Vec::new();
        while self.later.front().is_some_and(is_durable) {
            let later = self.later.pop_front().expect("there is one");
            later.batch.changes.into_iter().for_each(|change| apply(&mut self.durable, change));
            known.extend(later.known);
        }
        known
    }

    /// What to know of a copy of the store, which holds what nobody can foretell: the times that its node has reserved.
    #[must_use]
    pub fn of_a_copy(&self) -> Shadow {
        Shadow { mark: self.mark, is_copy: true, ..Shadow::default() }
    }

    /// The head and the body of the newest record under a key, durable or not.
    #[must_use]
    pub fn newest(&self, key: &Bytes) -> Option<(Bytes, Bytes)> {
        let later = self.later.iter().rev().flat_map(|later| later.batch.changes.iter().rev());
        match later.into_iter().find(|change| key_of(change) == key) {
            Some(Change::Put { head, body, .. }) => Some((head.clone(), body.concat().into())),
            Some(Change::Delete { .. }) => None,
            None => self.durable.get(key).cloned(),
        }
    }

    /// What the node notes of itself, as a store that ends with this write has it.
    #[must_use]
    pub fn own(&self, last: Lsn) -> Content {
        let mut content = self.durable.clone();
        let kept = self.later.iter().filter(|later| later.lsn.is_some_and(|lsn| lsn <= last));
        let changes = kept.flat_map(|later| later.batch.changes.iter().cloned());
        changes.for_each(|change| apply(&mut content, change));
        content.retain(|key, _| key.as_ref() < DATA_START && !key.starts_with(HINTS));
        content
    }

    /// The head that is durable under a key.
    #[must_use]
    pub fn durable_head(&self, key: &[u8]) -> Option<&Bytes> {
        self.durable.get(key).map(|(head, _)| head)
    }

    /// The store is opened again and holds this. `Err` tells why it must not.
    pub fn opened(&mut self, content: &Content) -> Result<(), String> {
        self.life += 1;
        self.mark_before = self.mark;
        if std::mem::take(&mut self.is_copy) {
            self.forget(content.clone());
            return Ok(());
        }
        let mut model = self.durable.clone();
        let mut differ: BTreeSet<Bytes> = model
            .keys()
            .chain(content.keys())
            .filter(|&key| model.get(key) != content.get(key))
            .cloned()
            .collect();
        let mut equal = differ.is_empty().then_some(0);
        let first = differ.first().cloned();
        for (at, later) in (1..).zip(&self.later) {
            for change in later.batch.changes.iter().cloned() {
                let key = key_of(&change).clone();
                apply(&mut model, change);
                match model.get(&key) == content.get(&key) {
                    true => differ.remove(&key),
                    false => differ.insert(key),
                };
            }
            equal = if differ.is_empty() { Some(at) } else { equal };
        }
        let (promised, later) = (self.durable.len(), self.later.len());
        if let Some(kept) = equal {
            self.later.truncate(kept);
            return Ok(());
        }
        self.forget(content.clone());
        Err(format!(
            "its store is none of the {} states it may have: {promised} keys were durable, {later} \
             batches came after; {} keys, the first that differs from what was durable is {:?}",
            later + 1,
            content.len(),
            first.unwrap_or_default()
        ))
    }

    /// From now on this is what is durable, whatever was before.
    fn forget(&mut self, content: Content) {
        self.durable = content;
        self.later.clear();
    }

    /// The store that is opened holds this mark of the hybrid clock.
    pub fn holds_mark(&mut self, mark: Hlc) {
        self.mark_held = mark;
    }

    /// A mark of the hybrid clock is written; the highest one that an earlier life has written, and the one that it replaces.
    pub fn marks(&mut self, mark: Hlc) -> (Hlc, Hlc) {
        self.mark = self.mark.max(mark);
        (self.mark_before, std::mem::replace(&mut self.mark_held, mark))
    }
}

fn key_of(change: &Change) -> &Bytes {
    match change {
        Change::Put { key, .. } | Change::Delete { key, .. } => key,
    }
}

fn apply(content: &mut Content, change: Change) {
    match change {
        Change::Put { key, head, body, .. } => {
            content.insert(key, (head, body.concat().into()));
        }
        Change::Delete { key, .. } => {
            content.remove(&key);
        }
    }
}

/// Everything in an engine.
pub fn content(engine: &mut dyn Engine) -> Result<Content> {
    let mut content = Content::new();
    let mut from = Some(Bytes::new());
    while let Some(at) = from {
        let page = engine.scan_from(&at, 1_024, 1 << 20)?;
        let records = page.records.into_iter();
        content.extend(records.map(|(key, record)| (key, (record.head, record.body))));
        from = page.next;
    }
    Ok(content)
}

#[cfg(test)]
mod tests {
    use rondo_core::engine::MemoryEngine;
    use rondo_core::id::ActorId;

    use super::*;

    fn put(key: &'static str, value: &'static str) -> Batch {
        let (key, head) = (Bytes::from(key), Bytes::from(value));
        Batch {
            changes: [Change::Put { key, head, body: smallvec::SmallVec::new(), delta: 0 }]
                .into_iter()
                .collect(),
        }
    }

    /// Three batches, of which the first is durable; what a store that is opened again may be.
    fn shadow() -> (Shadow, Vec<Content>) {
        let (mut shadow, mut engine) = (Shadow::default(), MemoryEngine::new());
        let mut states = vec![content(&mut engine).expect("read")];
        for batch in [put("a", "1"), put("b", "1"), put("a", "2")] {
            shadow.writes(&batch, Vec::new());
            shadow.wrote(engine.write(&batch).expect("written"));
            states.push(content(&mut engine).expect("read"));
        }
        shadow.durable(Lsn(1));
        (shadow, states)
    }

    #[test]
    fn every_prefix_with_all_that_was_durable_is_right_and_nothing_else() {
        for (kept, is_right) in [(0, false), (1, true), (2, true), (3, true)] {
            let (mut shadow, states) = shadow();
            assert_eq!(shadow.opened(&states[kept]).is_ok(), is_right, "{kept} batches");
        }
        let (mut shadow, mut states) = shadow();
        states[3].remove(&b"b"[..]);
        let told = shadow.opened(&states[3]).expect_err("the second batch is gone, the third not");
        assert!(told.contains("none of the 3 states"), "{told}");
        assert_eq!(shadow.opened(&states[3]), Ok(()), "it is told once");
    }

    #[test]
    fn what_survived_unpromised_may_be_lost_the_next_time() {
        let (mut shadow, states) = shadow();
        assert_eq!(shadow.opened(&states[2]), Ok(()));
        assert_eq!(shadow.opened(&states[1]), Ok(()));
        assert!(shadow.opened(&states[2]).is_err(), "what was lost does not come back");
    }

    #[test]
    fn a_state_that_knows_less_than_the_one_it_replaces_is_told() {
        let clock = |entries: &[(u64, u64)]| {
            VersionVector::new(entries.iter().map(|&(a, n)| (ActorId(a), n)))
        };
        let mut shadow = Shadow::default();
        let mut stores =
            |key, entries| shadow.writes(&put("any", "1"), vec![(key, clock(entries))]);
        assert_eq!(stores(7, &[(1, 2)]), None);
        assert_eq!(stores(7, &[(1, 2), (2, 1)]), None, "it has learnt");
        assert_eq!(stores(8, &[(3, 1)]), None, "another key");
        assert_eq!(stores(7, &[(1, 3)]), Some(7), "it has forgotten an actor");
        shadow.knows(vec![(7, clock(&[(1, 1)]))]);
        let after = vec![(7, clock(&[(1, 1), (4, 1)])), (8, clock(&[]))];
        assert_eq!(shadow.writes(&put("any", "1"), after), None, "what a power loss took");
    }
}
