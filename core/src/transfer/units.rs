//! Which units does this node own and not have all of yet?
//!
//! A unit is *whole* or *partial* here. It is partial when this node has just become its owner, and when its store has lost
//! something. Then it takes and acknowledges what is merged into it, and what it lacks is unknown: it counts in no read and in no
//! query round, its node coordinates nothing for it, and nobody takes the unit from it
//! (<https://github.com/scylladb/scylladb/issues/2308> is what becomes of data whose new owner counted too early).
//!
//! A unit may also be *behind*: its node stays its owner, but the quorums of the new layout do not meet those of the writes under the one
//! before. It counts as it did, and reads do not move to the new layout before it has been taken from its other owners, too.
//!
//! It is whole when enough *sources* have been walked from the first key to the last and all that they had has been merged. Of a unit
//! whose writes are on W of its N owners these are N - W + 1: among so many there is one that has any such write.
//!
//! Invariants: that a unit is partial is durable before anybody can ask this node for it, because it is written before the layout
//! is called live; that it is whole is written after everything it was taken from its sources, and an engine keeps a prefix of its
//! writes; how far a source has been walked never goes back. Bounded: one record a unit, `REPLICAS_MAX` sources in it.
//! Left out: who is asked, and when: see `receiver`.

use std::collections::BTreeMap;

use bytes::{Buf, BufMut, Bytes};
use smallvec::SmallVec;

use crate::config::{ENGINE_KEY_BYTES_MAX, HEAD_BYTES_MAX, RANGE_KEYS_MAX, REPLICAS_MAX};
use crate::engine::{Batch, Change, Engine};
use crate::error::{Error, Result};
use crate::id::{GroupId, NodeId, PartitionId, Unit};

const PREFIX: &[u8] = b"\0unit/";
/// The first byte of a record: of a unit that is partial, and of one that is only behind.
const PARTIAL: u8 = 1;
const BEHIND: u8 = 2;
/// The kind, needed, number of sources; then of each source: node, whether it is done, length of its place.
const FIXED_BYTES: usize = 3;
const SOURCE_BYTES: usize = 16 + 1 + 2;

const _: () = assert!(
    FIXED_BYTES + REPLICAS_MAX * (SOURCE_BYTES + ENGINE_KEY_BYTES_MAX) <= HEAD_BYTES_MAX,
    "all sources of a unit fit in one record"
);
const _: () = assert!(ENGINE_KEY_BYTES_MAX <= u16::MAX as usize);

/// How far one source has been walked.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Walked {
    /// Everything before this place in the unit's key order has been merged; empty: nothing has.
    UpTo(Bytes),
    /// All that it had.
    All,
}

/// Somebody who has a unit.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Source {
    /// The node.
    pub node: NodeId,
    /// How far it has been walked.
    pub walked: Walked,
}

/// A unit that this node does not have all of.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Partial {
    /// Whether it counts all the same: it is only behind.
    pub counts: bool,
    /// How many sources must be walked to the end.
    pub needed: usize,
    /// Whom it can be taken from, the preferred ones first.
    pub sources: Vec<Source>,
}

/// A unit of which something is missing: whom it can be taken from, and how many of them are needed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Lacking {
    /// The unit.
    pub unit: Unit,
    /// Whom it can be taken from, the preferred ones first; at most `REPLICAS_MAX`.
    pub sources: Vec<NodeId>,
    /// How many owners must have been seen to the end: so many of the sources, when nothing is known to be here; counted as all of
    /// them when it is more.
    pub needed: usize,
    /// Whether it is only behind, and counts all the same: then this node is itself one of those that were seen.
    pub counts: bool,
}

/// The partial units of this node.
#[derive(Debug, Default)]
pub struct Units {
    partial: BTreeMap<Unit, Partial>,
}

impl Partial {
    /// How many sources have been walked to the end.
    #[must_use]
    pub fn done(&self) -> usize {
        self.sources.iter().filter(|source| source.walked == Walked::All).count()
    }

    /// Those that have not been walked to the end, the preferred ones first.
    pub fn undone(&self) -> impl Iterator<Item = &Source> {
        self.sources.iter().filter(|source| source.walked != Walked::All)
    }

    fn is_sound(&self) -> bool {
        let distinct =
            |at: usize| self.sources[..at].iter().all(|s| s.node != self.sources[at].node);
        (1..=self.sources.len()).contains(&self.needed)
            && self.sources.len() <= REPLICAS_MAX
            && (0..self.sources.len()).all(distinct)
            && self.done() < self.needed
    }
}

impl Units {
    /// Reads what earlier lives have stored.
    pub fn load(engine: &mut dyn Engine) -> Result<Units> {
        let mut partial = BTreeMap::new();
        let mut from = Bytes::from_static(PREFIX);
        loop {
            let page = engine.scan_heads(&from, RANGE_KEYS_MAX, HEAD_BYTES_MAX)?;
            let ours = page.records.iter().take_while(|(key, _)| key.starts_with(PREFIX));
            for (key, record) in ours {
                let unit = read_unit(&key[PREFIX.len()..]).ok_or(DAMAGED)?;
                partial.insert(unit, parse(record.head.clone()).ok_or(DAMAGED)?);
            }
            match page.next.filter(|next| next.starts_with(PREFIX)) {
                Some(next) => from = next,
                None => return Ok(Units { partial }),
            }
        }
    }

    /// What must hold between steps. Panics when it does not.
    pub fn invariants(&self) {
        assert!(self.partial.values().all(Partial::is_sound), "what is partial can become whole");
    }

    /// Whether this node may count for a unit under a layout that it has acted under, as far as it knows.
    #[must_use]
    pub fn counts(&self, unit: Unit) -> bool {
        self.partial.get(&unit).is_none_or(|partial| partial.counts)
    }

    /// Whether it has all of every unit that it owns, and is behind in none.
    #[must_use]
    pub fn all_whole(&self) -> bool {
        self.partial.is_empty()
    }

    /// The units that are partial.
    pub fn partial(&self) -> impl Iterator<Item = (Unit, &Partial)> {
        self.partial.iter().map(|(&unit, partial)| (unit, partial))
    }

    /// A unit that is partial.
    #[must_use]
    pub fn get(&self, unit: Unit) -> Option<&Partial> {
        self.partial.get(&unit)
    }

    /// Calls units partial, or behind. One that nobody else has anything of is whole. What was partial before begins anew, and counts
    /// as little as before. After an error some may be partial and others not: it is called again.
    pub fn become_partial(&mut self, lacking: &[Lacking], engine: &mut dyn Engine) -> Result<()> {
        let lacking = lacking.iter().filter(|one| !one.sources.is_empty());
        let begun = lacking.map(|one| begin(one, one.counts && self.counts(one.unit)));
        let begun: Vec<(Unit, Partial)> = begun.collect();
        for begun in begun.chunks(RANGE_KEYS_MAX) {
            let changes = begun.iter().map(|(unit, partial)| record(*unit, partial)).collect();
            engine.write(&Batch { changes })?;
            self.partial.extend(begun.iter().cloned());
        }
        Ok(())
    }

    /// Everything that a source has before this place in the unit's order has been merged here. `store`: also on disk, so that a
    /// restart goes on from there; a disk without room keeps an earlier place.
    pub fn advance(
        &mut self,
        (unit, node): (Unit, NodeId),
        place: Bytes,
        store: bool,
        engine: &mut dyn Engine,
    ) -> Result<()> {
        let Some(partial) = self.partial.get_mut(&unit) else {
            return Ok(());
        };
        for source in partial.sources.iter_mut().filter(|source| source.node == node) {
            match &mut source.walked {
                Walked::UpTo(before) if *before < place => *before = place.clone(),
                Walked::UpTo(_) | Walked::All => {}
            }
        }
        if !store {
            return Ok(());
        }
        match engine.write(&Batch { changes: [record(unit, partial)].into_iter().collect() }) {
            Err(error) if error.wrote_nothing() => Ok(()),
            written => written.map(drop),
        }
    }

    /// A source has been walked to the end. Whether the unit is whole by that. `Full` or `Busy`: nothing has changed.
    pub fn walked(&mut self, unit: Unit, node: NodeId, engine: &mut dyn Engine) -> Result<bool> {
        let Some(mut partial) = self.partial.get(&unit).cloned() else {
            return Ok(false);
        };
        for source in partial.sources.iter_mut().filter(|source| source.node == node) {
            source.walked = Walked::All;
        }
        let is_whole = partial.done() >= partial.needed;
        let change = match is_whole {
            true => Change::delete(record_key(unit)),
            false => record(unit, &partial),
        };
        engine.write(&Batch { changes: [change].into_iter().collect() })?;
        match is_whole {
            true => drop(self.partial.remove(&unit)),
            false => drop(self.partial.insert(unit, partial)),
        }
        Ok(is_whole)
    }

    /// Whatever these nodes alone have is given up: who has not been walked to the end is no source any more, and as many as are
    /// left are enough. How many units have fewer sources by that than they needed. `Full` or `Busy`: it is called again.
    pub fn give_up(
        &mut self,
        is_given_up: impl Fn(NodeId) -> bool,
        engine: &mut dyn Engine,
    ) -> Result<u64> {
        let is_lost = |one: &Source| one.walked != Walked::All && is_given_up(one.node);
        let touched =
            self.partial.iter().filter(|(_, partial)| partial.sources.iter().any(is_lost));
        let left: Vec<(Unit, usize, Partial)> = touched
            .take(RANGE_KEYS_MAX)
            .map(|(&unit, partial)| {
                let mut left = partial.clone();
                left.sources.retain(|one| !is_lost(one));
                left.needed = left.needed.min(left.sources.len());
                (unit, partial.needed, left)
            })
            .collect();
        if left.is_empty() {
            return Ok(0);
        }
        let is_whole = |partial: &Partial| partial.done() >= partial.needed;
        let change = |(unit, _, left): &(Unit, usize, Partial)| match is_whole(left) {
            true => Change::delete(record_key(*unit)),
            false => record(*unit, left),
        };
        match engine.write(&Batch { changes: left.iter().map(change).collect() }) {
            Err(error) if error.wrote_nothing() => return Ok(0),
            written => drop(written?),
        }
        let mut lacking = 0;
        for (unit, needed, left) in left {
            lacking += u64::from(left.needed < needed);
            match is_whole(&left) {
                true => drop(self.partial.remove(&unit)),
                false => drop(self.partial.insert(unit, left)),
            }
        }
        Ok(lacking)
    }

    /// Forgets the units that this node does not own any more. A disk without room keeps some; they are forgotten with a later call.
    pub fn retain(
        &mut self,
        is_owned: impl Fn(Unit) -> bool,
        engine: &mut dyn Engine,
    ) -> Result<()> {
        let gone = self.partial.keys().copied().filter(|&unit| !is_owned(unit));
        let gone: Vec<Unit> = gone.take(RANGE_KEYS_MAX).collect();
        if gone.is_empty() {
            return Ok(());
        }
        let changes = gone.iter().map(|&unit| Change::delete(record_key(unit))).collect();
        match engine.write(&Batch { changes }) {
            Err(error) if error.wrote_nothing() => return Ok(()),
            written => drop(written?),
        }
        gone.iter().for_each(|unit| drop(self.partial.remove(unit)));
        Ok(())
    }
}

const DAMAGED: Error = Error::Malformed("the record of a unit that is partial is damaged");

fn begin(lacking: &Lacking, counts: bool) -> (Unit, Partial) {
    let sources = lacking.sources.iter().take(REPLICAS_MAX);
    let sources: Vec<Source> =
        sources.map(|&node| Source { node, walked: Walked::UpTo(Bytes::new()) }).collect();
    let others = lacking.needed - usize::from(counts);
    let needed = others.clamp(1, sources.len());
    (lacking.unit, Partial { counts, needed, sources })
}

fn record_key(unit: Unit) -> Bytes {
    let Unit { group, partition } = unit;
    [PREFIX, &group.0.to_be_bytes(), &partition.0.to_be_bytes()].concat().into()
}

fn read_unit(bytes: &[u8]) -> Option<Unit> {
    let bytes: [u8; 4] = bytes.try_into().ok()?;
    let [a, b, c, d] = bytes;
    let group = GroupId(u16::from_be_bytes([a, b]));
    Some(Unit { group, partition: PartitionId(u16::from_be_bytes([c, d])) })
}

fn record(unit: Unit, partial: &Partial) -> Change {
    let kind = if partial.counts { BEHIND } else { PARTIAL };
    let mut head = vec![kind, partial.needed as u8, partial.sources.len() as u8];
    for Source { node, walked } in &partial.sources {
        let (done, place) = match walked {
            Walked::UpTo(place) => (0, &place[..]),
            Walked::All => (1, &[][..]),
        };
        head.put_u128(node.0);
        head.put_u8(done);
        head.put_u16(place.len() as u16);
        head.put_slice(place);
    }
    Change::put(record_key(unit), head.into(), SmallVec::new())
}

fn parse(mut head: Bytes) -> Option<Partial> {
    if head.len() < FIXED_BYTES {
        return None;
    }
    let counts = match head.get_u8() {
        PARTIAL => false,
        BEHIND => true,
        _ => return None,
    };
    let needed = usize::from(head.get_u8());
    let count = usize::from(head.get_u8());
    let mut sources = Vec::new();
    for _ in 0..count {
        if head.len() < SOURCE_BYTES {
            return None;
        }
        let node = NodeId(head.get_u128());
        let done = head.get_u8();
        let place = usize::from(head.get_u16());
        if done > 1 || place > head.len().min(ENGINE_KEY_BYTES_MAX) {
            return None;
        }
        let place = head.split_to(place);
        let walked = if done == 1 { Walked::All } else { Walked::UpTo(place) };
        sources.push(Source { node, walked });
    }
    let partial = Partial { counts, needed, sources };
    (head.is_empty() && partial.is_sound()).then_some(partial)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::MemoryEngine;

    fn unit(partition: u16) -> Unit {
        Unit { group: GroupId(0), partition: PartitionId(partition) }
    }

    fn lacking(partition: u16, sources: &[u128], needed: usize) -> Lacking {
        let sources = sources.iter().copied().map(NodeId).collect();
        Lacking { unit: unit(partition), sources, needed, counts: false }
    }

    fn units(lacking: Vec<Lacking>, engine: &mut MemoryEngine) -> Units {
        let mut units = Units::load(engine).expect("sound records");
        units.become_partial(&lacking, engine).expect("memory");
        units.invariants();
        units
    }

    /// What the next life of the node finds.
    fn reload(engine: &mut MemoryEngine) -> Units {
        let units = Units::load(engine).expect("what was written can be read");
        units.invariants();
        units
    }

    #[test]
    fn a_unit_is_whole_when_so_many_of_its_sources_were_walked_as_are_needed_and_no_sooner() {
        let mut engine = MemoryEngine::new();
        let mut units = units(vec![lacking(3, &[1, 2, 4], 2)], &mut engine);
        assert!(!units.counts(unit(3)) && units.counts(unit(2)) && !units.all_whole());
        assert!(!units.walked(unit(3), NodeId(1), &mut engine).expect("memory"));
        assert!(!units.walked(unit(3), NodeId(1), &mut engine).expect("memory"), "twice is once");
        assert!(!units.walked(unit(3), NodeId(9), &mut engine).expect("memory"), "no source");
        assert!(!units.counts(unit(3)) && !reload(&mut engine).counts(unit(3)));
        assert!(units.walked(unit(3), NodeId(4), &mut engine).expect("memory"));
        assert!(units.all_whole() && reload(&mut engine).all_whole());
        assert!(!units.walked(unit(3), NodeId(2), &mut engine).expect("memory"), "nothing to do");
    }

    #[test]
    fn the_next_life_goes_on_where_this_one_had_stored_that_it_was() {
        let mut engine = MemoryEngine::new();
        let mut units = units(vec![lacking(0, &[1, 2], 2), lacking(7, &[1], 5)], &mut engine);
        let at = (unit(0), NodeId(2));
        units.advance(at, "bb".into(), true, &mut engine).expect("memory");
        units.advance(at, "cc".into(), false, &mut engine).expect("memory");
        units.advance(at, "aa".into(), false, &mut engine).expect("memory");
        let place = |units: &Units| units.get(unit(0)).expect("partial").sources[1].walked.clone();
        assert_eq!(place(&units), Walked::UpTo("cc".into()), "it never goes back");
        let mut later = reload(&mut engine);
        assert_eq!(place(&later), Walked::UpTo("bb".into()), "the rest was not stored");
        assert_eq!(later.get(unit(7)).expect("partial").needed, 1, "no more than there are");
        later.walked(unit(0), NodeId(2), &mut engine).expect("memory");
        later.advance(at, "dd".into(), true, &mut engine).expect("memory");
        assert_eq!(place(&reload(&mut engine)), Walked::All);
    }

    /// Whatever part of the writes a crash leaves, a unit is never whole without what its sources had.
    #[test]
    fn a_crash_between_two_records_leaves_units_partial_rather_than_whole() {
        let mut engine = MemoryEngine::new();
        let mut states = Vec::new();
        let mut units = Units::default();
        states.push(engine.clone());
        let all = vec![lacking(0, &[1, 2], 2), lacking(1, &[1], 1)];
        units.become_partial(&all, &mut engine).expect("memory");
        states.push(engine.clone());
        for (partition, node) in [(0, 1), (1, 1), (0, 2)] {
            units.walked(unit(partition), NodeId(node), &mut engine).expect("memory");
            states.push(engine.clone());
        }
        let whole = |engine: &mut MemoryEngine| {
            let units = reload(engine);
            [0, 1].map(|partition| units.counts(unit(partition)))
        };
        let whole: Vec<[bool; 2]> = states.iter_mut().map(whole).collect();
        let partial = [false, false];
        assert_eq!(whole[1..], [partial, partial, [false, true], [true, true]]);
    }

    #[test]
    fn a_unit_that_is_behind_counts_and_one_that_was_partial_does_not_by_being_behind() {
        let mut engine = MemoryEngine::new();
        let behind = |partition| Lacking { counts: true, ..lacking(partition, &[1, 2, 3], 3) };
        let mut units = units(vec![lacking(0, &[1], 1)], &mut engine);
        units.become_partial(&[behind(0), behind(1)], &mut engine).expect("memory");
        for mut units in [units, reload(&mut engine)] {
            assert!(!units.counts(unit(0)) && units.counts(unit(1)) && !units.all_whole());
            let mut walked = |at, node| units.walked(unit(at), NodeId(node), &mut engine);
            let both = [0, 1].map(|at| [1, 2].map(|node| walked(at, node).expect("memory")));
            assert_eq!(both, [[false, false], [false, true]], "of three one is the node itself");
            units.become_partial(&[lacking(1, &[1], 1)], &mut engine).expect("memory");
            assert!(!units.counts(unit(1)), "the older layout is gone");
        }
    }

    #[test]
    fn what_is_given_up_is_no_source_and_those_that_are_left_are_enough() {
        let mut engine = MemoryEngine::new();
        let lacks = vec![lacking(0, &[1, 2, 3], 3), lacking(1, &[1, 2, 3], 2), lacking(2, &[3], 1)];
        let mut units = units(lacks, &mut engine);
        assert!(!units.walked(unit(0), NodeId(1), &mut engine).expect("memory"));
        assert!(!units.walked(unit(1), NodeId(3), &mut engine).expect("memory"));
        let is_lost = |node| node == NodeId(3);
        assert_eq!(units.give_up(is_lost, &mut engine).expect("memory"), 2, "where it was needed");
        assert_eq!(units.give_up(is_lost, &mut engine).expect("memory"), 0, "once");
        units.invariants();
        for mut units in [units, reload(&mut engine)] {
            let left: Vec<(Unit, usize)> =
                units.partial().map(|(unit, of)| (unit, of.needed)).collect();
            assert_eq!(left, [(unit(0), 2), (unit(1), 2)], "nobody else has anything of the third");
            assert_eq!(units.get(unit(1)).map(|of| of.sources.len()), Some(3), "it was walked");
            assert!(units.walked(unit(0), NodeId(2), &mut engine.clone()).expect("memory"));
        }
    }

    #[test]
    fn a_unit_that_nobody_else_has_is_whole() {
        let mut engine = MemoryEngine::new();
        assert!(units(vec![lacking(0, &[], 1)], &mut engine).all_whole());
        assert!(reload(&mut engine).all_whole());
    }

    #[test]
    fn what_is_no_longer_owned_is_forgotten() {
        let mut engine = MemoryEngine::new();
        let mut units = units(vec![lacking(0, &[1], 1), lacking(1, &[1], 1)], &mut engine);
        units.retain(|one| one == unit(1), &mut engine).expect("memory");
        assert!(units.counts(unit(0)) && !units.counts(unit(1)));
        assert_eq!(reload(&mut engine).partial().count(), 1);
    }

    #[test]
    fn damaged_records_are_refused_and_no_length_is_believed() {
        let partial = begin(&lacking(0, &[1, 2], 2), false).1;
        let Change::Put { head, .. } = record(unit(0), &partial) else { panic!("a put") };
        assert_eq!(parse(head.clone()), Some(partial));
        for len in 0..head.len() {
            assert_eq!(parse(head.slice(..len)), None, "cut to {len}");
        }
        for (at, byte) in [(0, 3), (0, 9), (1, 0), (1, 3), (2, 200), (19, 2), (20, 255), (21, 1)] {
            let mut damaged = head.to_vec();
            damaged[at] = byte;
            assert_eq!(parse(damaged.into()), None, "byte {at} is {byte}");
        }
        let mut engine = MemoryEngine::new();
        let short = Change::put(Bytes::from_static(b"\0unit/x"), head, SmallVec::new());
        engine.write(&Batch { changes: [short].into_iter().collect() }).expect("memory");
        assert!(Units::load(&mut engine).is_err());
    }
}
