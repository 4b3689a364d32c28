//! The hints in the store: how many there are for whom, how they come and go, and what was refused.
//!
//! Invariants: of one key and target there is one hint, however many writes it stands for; what was found and written is stored,
//! delivered, moved, given up or unreadable, each counted once; a target's hints are bounded in bytes, and get no company when the oldest
//! is too old; what is refused marks its unit as one that must be compared with others. A hint that cannot be read is kept and
//! reported, until its key is owed to its target anew. What a start finds is counted in steps, and nothing is handed over before that is
//! done. Left out: who is there to take them (`handing`).

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use smallvec::SmallVec;

use crate::config::{
    HINT_AGE_MS_MAX, HINT_BYTES, HINTS_A_LOOK, HINTS_UNREADABLE_MAX, NodeConfig, PAGE_BYTES_MAX,
};
use crate::engine::{Batch, Change, Engine, Lookup, Page};
use crate::error::{Error, Result};
use crate::id::{Lsn, NodeId, Unit};
use crate::repair::owed::Owed;
use crate::replica::keys::{HINTS, hint_key, hints_of_unit, parse_hint_key};
use crate::status::HintCounters;
use crate::wire::key::KeyRef;

/// The first byte of a hint's head. What follows is since when it is owed, in milliseconds of the hybrid clock.
const FORMAT: u8 = 1;

/// The hints for one target.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Stored {
    /// How many.
    pub hints: u64,
    /// What they take in the store, in bytes, about.
    pub bytes: u64,
    /// No hint is older than this, in milliseconds of the hybrid clock.
    pub oldest_ms: u64,
}

/// Where a look through the store has come.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Seen {
    /// A hint, and since when it is owed.
    Hint(Bytes, u64),
    /// A hint that cannot be read.
    Unreadable(Bytes),
}

/// The hints of this node.
#[derive(Debug)]
pub struct Hints {
    targets: BTreeMap<NodeId, Stored>,
    /// Up to where the start has counted them; `None` when it has counted all.
    counted_to: Option<Bytes>,
    unreadable: BTreeSet<Bytes>,
    /// Units of which somebody may lack something that no hint tells of.
    behind: BTreeSet<Unit>,
    bytes_max: u64,
    totals: HintCounters,
}

impl Hints {
    /// Nothing has been counted yet.
    #[must_use]
    pub fn new(config: &NodeConfig) -> Hints {
        Hints {
            targets: BTreeMap::new(),
            counted_to: Some(Bytes::from_static(HINTS)),
            unreadable: BTreeSet::new(),
            behind: BTreeSet::new(),
            bytes_max: config.hint_bytes_max,
            totals: HintCounters::default(),
        }
    }

    /// What must hold between steps. Panics when it does not.
    pub fn invariants(&self) {
        let HintCounters { found, written, delivered, moved, given_up, .. } = self.totals;
        let stored: u64 = self.targets.values().map(|stored| stored.hints).sum();
        assert_eq!(
            found + written,
            stored + delivered + moved + given_up + self.unreadable.len() as u64,
            "hints are conserved: {:?}, {:?}, unreadable {:?}",
            self.totals,
            self.targets,
            self.unreadable
        );
        assert!(
            self.targets.values().all(|stored| stored.hints > 0),
            "who is owed nothing is none"
        );
        assert!(self.unreadable.len() <= HINTS_UNREADABLE_MAX);
    }

    /// Whether the hints of earlier lives have not all been counted yet.
    #[must_use]
    pub const fn is_counting(&self) -> bool {
        self.counted_to.is_some()
    }

    /// What became of them.
    #[must_use]
    pub const fn totals(&self) -> HintCounters {
        self.totals
    }

    /// The targets, with what is stored for each.
    #[must_use]
    pub const fn targets(&self) -> &BTreeMap<NodeId, Stored> {
        &self.targets
    }

    /// How many cannot be read.
    #[must_use]
    pub fn unreadable(&self) -> u64 {
        self.unreadable.len() as u64
    }

    /// Units of which somebody may lack something that no hint tells of: they must be compared with their other owners.
    #[must_use]
    pub const fn behind(&self) -> &BTreeSet<Unit> {
        &self.behind
    }

    /// A unit has been compared with its other owners, and made equal.
    pub fn compared(&mut self, unit: Unit) {
        self.behind.remove(&unit);
    }

    /// So many copies of a unit's keys leave no hint.
    pub fn refuse(&mut self, units: impl IntoIterator<Item = Unit>, copies: u64) {
        self.behind.extend(units);
        self.totals.refused += copies;
    }

    /// Whether a key is owed to anybody by a hint. Not sure, before all have been counted: then it is.
    pub fn has(&self, unit: Unit, key: &KeyRef, engine: &mut dyn Engine) -> bool {
        let is_there = |target: &NodeId, engine: &mut dyn Engine| {
            !matches!(engine.head(&hint_key(*target, unit.group, key)), Ok(Lookup::Miss))
        };
        self.is_counting() || self.targets.keys().any(|target| is_there(target, engine))
    }

    /// Whether any key of a unit is owed to anybody by a hint, when the token space is cut into so many partitions. Not sure, before all
    /// have been counted, or when one cannot be read: then it is.
    pub fn has_any(&self, unit: Unit, partitions: u16, engine: &mut dyn Engine) -> bool {
        let mut is_there = |target: &NodeId| {
            let (start, end) = hints_of_unit(*target, unit, partitions);
            match engine.scan_heads(&start, 1, 1) {
                Ok(page) => page.records.iter().any(|(hint, _)| *hint < end),
                Err(_) => true,
            }
        };
        self.is_counting() || self.targets.keys().any(&mut is_there)
    }

    /// Counts some of what earlier lives have left.
    pub fn count(&mut self, engine: &mut dyn Engine) -> Result<()> {
        let Some(from) = self.counted_to.take() else {
            return Ok(());
        };
        let (seen, next) = look(&from, b"\0\x7f", HINTS_A_LOOK, engine)?;
        for one in seen {
            match one {
                Seen::Hint(key, since) => {
                    self.totals.found += 1;
                    self.add(&key, since);
                }
                Seen::Unreadable(key) if self.unreadable.len() < HINTS_UNREADABLE_MAX => {
                    self.totals.found += u64::from(self.unreadable.insert(key));
                }
                Seen::Unreadable(key) if parse_hint_key(&key).is_some() => {
                    self.totals.found += 1;
                    self.add(&key, u64::MAX);
                }
                Seen::Unreadable(_) => {}
            }
        }
        self.counted_to = next;
        Ok(())
    }

    fn add(&mut self, key: &Bytes, since: u64) {
        if let Some((target, ..)) = parse_hint_key(key) {
            let stored = self
                .targets
                .entry(target)
                .or_insert(Stored { oldest_ms: since, ..Stored::default() });
            stored.hints += 1;
            stored.bytes += weight(key);
            stored.oldest_ms = stored.oldest_ms.min(since);
        }
    }

    fn take(&mut self, key: &Bytes) -> bool {
        let target = parse_hint_key(key).map(|(target, ..)| target);
        let Some((target, stored)) = target.and_then(|of| Some((of, self.targets.get_mut(&of)?)))
        else {
            return false;
        };
        stored.hints -= 1;
        stored.bytes -= weight(key);
        if stored.hints == 0 {
            self.targets.remove(&target);
        }
        true
    }

    /// What is due becomes hints, in one batch. The write that stores them; `None` when there is nothing to store.
    pub fn store(
        &mut self,
        due: &[Owed],
        now_ms: u64,
        engine: &mut dyn Engine,
    ) -> Result<Option<Lsn>> {
        let is_full = engine.is_nearly_full();
        let mut fresh: BTreeMap<Bytes, (Unit, Presence)> = BTreeMap::new();
        let mut room: BTreeMap<NodeId, u64> = BTreeMap::new();
        for owed in due {
            for &target in &owed.silent {
                let key = hint_key(target, owed.unit.group, &owed.key);
                if fresh.contains_key(&key) {
                    self.totals.merged += 1;
                    continue;
                }
                let presence = self.presence(&key, engine)?;
                let taken = room.entry(target).or_default();
                if presence == Presence::None
                    && (is_full || !self.has_room(target, *taken + weight(&key), now_ms))
                {
                    self.refuse([owed.unit], 1);
                    continue;
                }
                *taken += weight(&key);
                fresh.insert(key, (owed.unit, presence));
            }
        }
        if fresh.is_empty() {
            return Ok(None);
        }
        let changes =
            fresh.iter().map(|(key, (_, presence))| put(key, presence.since().unwrap_or(now_ms)));
        match engine.write(&Batch { changes: changes.collect() }) {
            Err(error) if error.wrote_nothing() => {
                for (unit, _) in fresh.values() {
                    self.refuse([*unit], 1);
                }
                Ok(None)
            }
            Err(error) => Err(error),
            Ok(lsn) => {
                for (key, (_, presence)) in fresh {
                    self.note(&key, presence, now_ms);
                }
                Ok(Some(lsn))
            }
        }
    }

    /// The hints of a write that must leave one for each of these; `None` when there is no room for all of them: nothing is to be
    /// written then.
    pub fn promise(
        &self,
        (key, unit): (&KeyRef, Unit),
        targets: &[NodeId],
        now_ms: u64,
        engine: &mut dyn Engine,
    ) -> Result<Option<Debt>> {
        if self.is_counting() {
            return Ok(None);
        }
        let is_full = engine.is_nearly_full();
        let mut hints = Vec::new();
        for &target in targets {
            let hint = hint_key(target, unit.group, key);
            let presence = self.presence(&hint, engine)?;
            let has_room = !is_full && self.has_room(target, weight(&hint), now_ms);
            if presence == Presence::None && !has_room {
                return Ok(None);
            }
            hints.push((hint, presence));
        }
        Ok(Some(Debt { hints, now_ms }).filter(|debt| !debt.hints.is_empty()))
    }

    /// What was promised has been written, with what it is owed for.
    pub fn owe(&mut self, debt: Debt) {
        for (hint, presence) in debt.hints {
            self.note(&hint, presence, debt.now_ms);
        }
    }

    fn has_room(&self, target: NodeId, bytes: u64, now_ms: u64) -> bool {
        let stored = self
            .targets
            .get(&target)
            .copied()
            .unwrap_or(Stored { oldest_ms: now_ms, ..Stored::default() });
        let age_ms = now_ms.saturating_sub(stored.oldest_ms);
        stored.bytes + bytes <= self.bytes_max && age_ms <= HINT_AGE_MS_MAX
    }

    /// A hint has been written where there was this.
    fn note(&mut self, key: &Bytes, presence: Presence, now_ms: u64) {
        // What the start has not come to yet, it will find.
        if self.counted_to.as_ref().is_some_and(|place| key >= place) {
            return;
        }
        match presence {
            Presence::None => {
                self.totals.written += 1;
                self.add(key, now_ms);
            }
            Presence::Readable(_) => self.totals.merged += 1,
            Presence::Unreadable => {
                if self.unreadable.remove(key) {
                    self.add(key, now_ms);
                }
            }
        }
    }

    fn presence(&self, key: &Bytes, engine: &mut dyn Engine) -> Result<Presence> {
        if self.unreadable.contains(key) {
            return Ok(Presence::Unreadable);
        }
        Ok(match engine.head(key) {
            Ok(Lookup::Miss) => Presence::None,
            Ok(Lookup::Hit(record)) => Presence::Readable(parse(&record.head)),
            // Since when it is owed is not worth waiting for.
            Ok(Lookup::Cold(_)) => Presence::Readable(None),
            Err(Error::Corrupt { .. } | Error::Disk(_)) => Presence::Readable(None),
            Err(error) => return Err(error),
        })
    }

    /// A hint was met that cannot be read: it stays, and is counted apart.
    pub fn quarantine(&mut self, key: &Bytes) {
        let is_told = self.unreadable.len() < HINTS_UNREADABLE_MAX;
        if is_told && parse_hint_key(key).is_some() && self.unreadable.insert(key.clone()) {
            // None is stored for its target: it was deleted, and that cannot be read any more.
            self.totals.found += u64::from(!self.take(key));
        }
    }

    /// A look through all hints of a target has ended, and found none older than this.
    pub fn looked(&mut self, target: NodeId, oldest_ms: u64) {
        if let Some(stored) = self.targets.get_mut(&target) {
            stored.oldest_ms = stored.oldest_ms.max(oldest_ms);
        }
    }

    /// Deletes hints that have done what they were for. `false`: the disk takes nothing now.
    pub fn delete(&mut self, keys: &[(Bytes, Done)], engine: &mut dyn Engine) -> Result<bool> {
        let changes = keys.iter().map(|(key, _)| Change::delete(key.clone()));
        match engine.write(&Batch { changes: changes.collect() }) {
            Err(error) if error.wrote_nothing() => return Ok(false),
            written => drop(written?),
        }
        for (key, done) in keys {
            // It may have rotted on its way.
            if !self.unreadable.remove(key) {
                self.take(key);
            }
            *self.total(*done) += 1;
        }
        Ok(true)
    }

    fn total(&mut self, done: Done) -> &mut u64 {
        match done {
            Done::Delivered => &mut self.totals.delivered,
            Done::GivenUp => &mut self.totals.given_up,
        }
    }

    /// The target of a hint owns its key no more: the key is owed to those who do, in one batch. The write that stores it; `None`: the
    /// disk takes nothing now.
    pub fn move_to(
        &mut self,
        (key, since): (&Bytes, u64),
        owners: &[NodeId],
        engine: &mut dyn Engine,
    ) -> Result<Option<Lsn>> {
        let Some((_, group, of)) = parse_hint_key(key) else {
            return Ok(None);
        };
        let (mut changes, mut fresh) = (SmallVec::new(), Vec::new());
        for &owner in owners {
            let place = hint_key(owner, group, &of);
            let presence = self.presence(&place, engine)?;
            changes.push(put(&place, presence.since().unwrap_or(since)));
            fresh.push((place, presence));
        }
        changes.push(Change::delete(key.clone()));
        let lsn = match engine.write(&Batch { changes }) {
            Err(error) if error.wrote_nothing() => return Ok(None),
            written => written?,
        };
        fresh.into_iter().for_each(|(place, presence)| self.note(&place, presence, since));
        self.take(key);
        self.totals.moved += 1;
        Ok(Some(lsn))
    }
}

/// Hints that are to be written in one batch with what is owed.
#[derive(Debug)]
pub struct Debt {
    hints: Vec<(Bytes, Presence)>,
    now_ms: u64,
}

impl Debt {
    /// Where they lie.
    pub fn keys(&self) -> impl Iterator<Item = &Bytes> {
        self.hints.iter().map(|(hint, _)| hint)
    }

    /// What writes them.
    #[must_use]
    pub fn changes(&self) -> SmallVec<[Change; 2]> {
        let since = |presence: &Presence| presence.since().unwrap_or(self.now_ms);
        self.hints.iter().map(|(hint, presence)| put(hint, since(presence))).collect()
    }

    /// Whether nobody was owed the key before.
    #[must_use]
    pub fn is_new(&self) -> bool {
        self.hints.iter().all(|(_, presence)| *presence == Presence::None)
    }
}

/// What a hint was for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Done {
    /// Its target holds what it lacked, durably.
    Delivered,
    /// There is nothing any more that could be owed.
    GivenUp,
}

/// What is in the store in the place of a hint.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Presence {
    None,
    /// A hint, and since when, when that is known.
    Readable(Option<u64>),
    Unreadable,
}

impl Presence {
    const fn since(self) -> Option<u64> {
        match self {
            Presence::Readable(since) => since,
            Presence::None | Presence::Unreadable => None,
        }
    }
}

/// Hints from a place on up to another one, at most so many, and where the next look begins.
pub fn look(
    from: &Bytes,
    to: &[u8],
    count: usize,
    engine: &mut dyn Engine,
) -> Result<(Vec<Seen>, Option<Bytes>)> {
    let Page { records, next } = match engine.scan_heads(from, count, PAGE_BYTES_MAX) {
        Ok(page) => page,
        Err(Error::Corrupt { .. } | Error::Disk(_)) => {
            let is_this = parse_hint_key(from).is_some() && engine.head(from).is_err();
            if !is_this {
                // The disk failed elsewhere: whoever looks comes here again.
                return Ok((Vec::new(), Some(from.clone())));
            }
            let next = Bytes::from([&from[..], &[0]].concat());
            let seen = vec![Seen::Unreadable(from.clone())];
            return Ok((seen, Some(next).filter(|next| next[..] < *to)));
        }
        Err(error) => return Err(error),
    };
    let within = records.into_iter().take_while(|(key, _)| key[..] < *to);
    let seen = within.map(|(key, record)| match (parse_hint_key(&key), parse(&record.head)) {
        (Some(_), Some(since)) => Seen::Hint(key, since),
        _ => Seen::Unreadable(key),
    });
    Ok((seen.collect(), next.filter(|next| next[..] < *to)))
}

fn put(key: &Bytes, since_ms: u64) -> Change {
    let head = [&[FORMAT][..], &since_ms.to_be_bytes()].concat();
    Change::put(key.clone(), head.into(), SmallVec::new())
}

fn parse(head: &Bytes) -> Option<u64> {
    let since = head.strip_prefix(&[FORMAT])?;
    since.try_into().map(u64::from_be_bytes).ok()
}

fn weight(key: &Bytes) -> u64 {
    key.len() as u64 + HINT_BYTES
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::MemoryEngine;
    use crate::id::KeyspaceId;
    use crate::node_config::node_config;

    fn key(n: u64) -> KeyRef {
        KeyRef::new(KeyspaceId(1), n.to_string().into())
    }

    fn owed(n: u64, targets: &[u128]) -> Owed {
        let silent = targets.iter().copied().map(NodeId).collect();
        Owed { key: key(n), unit: Unit::default(), silent }
    }

    fn name(n: u64, target: u128) -> Bytes {
        hint_key(NodeId(target), Unit::default().group, &key(n))
    }

    /// A node whose start has counted what is there.
    fn counted(engine: &mut MemoryEngine) -> Hints {
        let mut hints = Hints::new(&node_config());
        while hints.is_counting() {
            hints.count(engine).expect("memory");
            hints.invariants();
        }
        hints
    }

    fn rot(key: &Bytes, engine: &mut MemoryEngine) {
        let change = Change::put(key.clone(), Bytes::from_static(b"?"), SmallVec::new());
        engine.write(&Batch { changes: [change].into_iter().collect() }).expect("memory");
    }

    /// Its target acknowledges it all the same.
    #[test]
    fn a_hint_that_rots_on_its_way_is_counted_once() {
        let mut engine = MemoryEngine::new();
        let mut hints = counted(&mut engine);
        hints.store(&[owed(1, &[2]), owed(2, &[2])], 5, &mut engine).expect("memory");
        rot(&name(1, 2), &mut engine);
        hints.quarantine(&name(1, 2));
        assert_eq!((hints.unreadable(), hints.targets()[&NodeId(2)].hints), (1, 1));
        let done = [(name(1, 2), Done::Delivered)];
        assert!(hints.delete(&done, &mut engine).expect("memory"));
        hints.invariants();
        assert_eq!((hints.unreadable(), hints.targets()[&NodeId(2)].hints), (0, 1));
    }

    #[test]
    fn whatever_happens_hints_are_conserved_and_a_start_finds_those_that_are_stored() {
        let mut engine = MemoryEngine::new();
        let mut hints = counted(&mut engine);
        let mut dice = 1_u64;
        let mut draw = |below: u64| {
            dice = dice
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (dice >> 33) % below
        };
        for at in 0..4_000 {
            let (n, target) = (draw(30), u128::from(2 + draw(3)));
            let name = name(n, target);
            let is_there = !matches!(engine.get(&name).expect("memory"), Lookup::Miss);
            match draw(8) {
                0..=3 => {
                    let due = [owed(n, &[target]), owed(n + 1, &[2, 3, 4])];
                    hints.store(&due, at, &mut engine).expect("memory");
                }
                4 if is_there => {
                    rot(&name, &mut engine);
                    hints.quarantine(&name);
                }
                5 if is_there => {
                    let how = if draw(2) == 0 { Done::Delivered } else { Done::GivenUp };
                    assert!(hints.delete(&[(name, how)], &mut engine).expect("memory"));
                }
                6 if is_there && !hints.unreadable.contains(&name) => {
                    let owners: Vec<NodeId> =
                        (2..6).map(NodeId).filter(|one| one.0 != target).collect();
                    hints.move_to((&name, at), &owners, &mut engine).expect("memory");
                }
                7 if draw(20) == 0 => {
                    let before = (hints.targets.clone(), hints.unreadable.clone());
                    hints = counted(&mut engine);
                    let count = |of: &BTreeMap<NodeId, Stored>| -> Vec<(NodeId, u64, u64)> {
                        of.iter().map(|(&node, of)| (node, of.hints, of.bytes)).collect()
                    };
                    assert_eq!(count(&hints.targets), count(&before.0), "what a start finds");
                    assert_eq!(hints.unreadable, before.1);
                }
                _ => {}
            }
            hints.invariants();
        }
        assert!(hints.totals().found > 0 && hints.totals().merged > 0);
    }

    /// What is written behind the place where the start has come to is found by it, and what is written before it is counted at once.
    #[test]
    fn what_is_owed_while_a_start_still_counts_is_counted_once() {
        let mut engine = MemoryEngine::new();
        let mut hints = counted(&mut engine);
        for n in 0..2 * HINTS_A_LOOK as u64 {
            hints.store(&[owed(n, &[5])], 1, &mut engine).expect("memory");
        }
        let mut hints = Hints::new(&node_config());
        hints.count(&mut engine).expect("memory");
        assert!(hints.is_counting());
        hints.store(&[owed(9_999, &[2, 9]), owed(0, &[5])], 2, &mut engine).expect("memory");
        while hints.is_counting() {
            hints.count(&mut engine).expect("memory");
            hints.invariants();
        }
        let stored: u64 = hints.targets().values().map(|of| of.hints).sum();
        assert_eq!(stored, 2 * HINTS_A_LOOK as u64 + 2);
    }

    #[test]
    fn a_target_whose_oldest_hint_is_too_old_gets_no_new_ones() {
        let mut engine = MemoryEngine::new();
        let mut hints = counted(&mut engine);
        hints.store(&[owed(1, &[2])], 5, &mut engine).expect("memory");
        let late = 5 + HINT_AGE_MS_MAX + 1;
        hints.store(&[owed(2, &[2, 3]), owed(1, &[2])], late, &mut engine).expect("memory");
        let HintCounters { written, merged, refused, .. } = hints.totals();
        assert_eq!((written, merged, refused), (2, 1, 1));
        assert_eq!(hints.behind().len(), 1);
        hints.compared(Unit::default());
        assert!(hints.behind().is_empty());
    }
}
