//! Blocks that were read, within a budget of bytes. Which one goes is decided by a clock: a hand passes over them, and takes the
//! first that nobody has asked for since it came by (Corbató, "A paging experiment with the Multics system", 1968).

use std::collections::BTreeMap;

use super::block::Block;

/// About what a block costs beside its bytes.
const OVERHEAD: usize = 96;
/// The place of no slot.
const NOWHERE: u32 = u32::MAX;

struct Slot {
    table: u32,
    number: usize,
    block: Block,
    is_asked_for: bool,
}

/// Blocks of tables.
pub(super) struct Cache {
    bytes_max: usize,
    bytes: usize,
    slots: Vec<Option<Slot>>,
    free: Vec<u32>,
    hand: usize,
    /// For each block of a table its slot. A slot that has another block by now is none.
    places: BTreeMap<u32, Vec<u32>>,
}

impl Cache {
    /// With a budget in bytes.
    pub(super) fn new(bytes_max: usize) -> Cache {
        let (slots, free, places) = (Vec::new(), Vec::new(), BTreeMap::new());
        Cache { bytes_max, bytes: 0, slots, free, hand: 0, places }
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn get(&mut self, table: u32, number: usize) -> Option<Block> {
        let at = *self.places.get(&table)?.get(number)?;
        let slot = self.slots.get_mut(at as usize)?.as_mut()?;
        if (slot.table, slot.number) != (table, number) {
            return None;
        }
        slot.is_asked_for = true;
        Some(slot.block.clone())
    }

    pub(super) fn put(&mut self, table: u32, number: usize, block: Block) {
        let len = block.bytes.len() + OVERHEAD;
        if len > self.bytes_max / 4 || self.get(table, number).is_some() {
            return;
        }
        while self.bytes + len > self.bytes_max {
            self.evict();
        }
        let slot = Slot { table, number, block, is_asked_for: false };
        let at = self.free.pop().unwrap_or(self.slots.len() as u32);
        match self.slots.get_mut(at as usize) {
            Some(place) => *place = Some(slot),
            None => self.slots.push(Some(slot)),
        }
        self.bytes += len;
        let places = self.places.entry(table).or_default();
        if places.len() <= number {
            places.resize(number + 1, NOWHERE);
        }
        places[number] = at;
    }

    /// A table is gone.
    pub(super) fn forget(&mut self, table: u32) {
        for at in self.places.remove(&table).into_iter().flatten() {
            if self.slots.get(at as usize).is_some_and(|slot| is_of(slot.as_ref(), table)) {
                self.clear(at as usize);
            }
        }
    }

    fn evict(&mut self) {
        assert!(self.bytes > 0, "there is something to evict");
        loop {
            let at = self.hand;
            self.hand = (self.hand + 1) % self.slots.len();
            match &mut self.slots[at] {
                Some(slot) if slot.is_asked_for => slot.is_asked_for = false,
                Some(_) => return self.clear(at),
                None => {}
            }
        }
    }

    fn clear(&mut self, at: usize) {
        if let Some(slot) = self.slots[at].take() {
            self.bytes -= slot.block.bytes.len() + OVERHEAD;
            self.free.push(at as u32);
        }
    }
}

fn is_of(slot: Option<&Slot>, table: u32) -> bool {
    slot.is_some_and(|slot| slot.table == table)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(n: u8) -> Block {
        Block::of_lost(&[vec![n; 100]]).expect("a key")
    }

    #[test]
    fn it_keeps_its_budget_and_what_is_asked_for() {
        let len = block(0).bytes.len() + OVERHEAD;
        let mut cache = Cache::new(5 * len);
        for n in 0..20 {
            cache.put(1, usize::from(n), block(n));
            assert!(cache.bytes() <= 5 * len);
            assert!(n < 4 || cache.get(1, 0).is_some(), "it is asked for each time: {n}");
            cache.get(1, 0);
        }
        let kept = (0..20).filter(|n| cache.get(1, *n).is_some()).count();
        assert_eq!(kept, 5);
        for n in 0..20 {
            if let Some(found) = cache.get(1, usize::from(n)) {
                assert_eq!(found.bytes, block(n).bytes);
            }
        }
        assert!(cache.get(2, 0).is_none());
        cache.forget(1);
        assert_eq!((cache.bytes(), cache.get(1, 19).is_none()), (0, true));
    }
}
