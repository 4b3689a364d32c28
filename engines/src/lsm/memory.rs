//! What is not in tables yet: the memtable that is written, and frozen ones that wait for that.

use std::collections::VecDeque;
use std::sync::Arc;

use super::manifest::Totals;
use super::memtable::{Memtable, Stored};

/// A memtable that is written no more.
pub(super) struct Frozen {
    pub(super) table: Arc<Memtable>,
    /// The last write in it.
    pub(super) last: u64,
    /// The last log file with writes of it.
    pub(super) log: u32,
    /// What there was then.
    pub(super) totals: Totals,
}

/// All of them.
#[derive(Default)]
pub(super) struct Memory {
    pub(super) active: Memtable,
    /// Oldest first.
    pub(super) frozen: VecDeque<Frozen>,
    /// How many bytes of the log the memtable that is written stands for.
    pub(super) log_bytes: u64,
}

impl Memory {
    /// The memtables, the newest first.
    pub(super) fn newest_first(&self) -> impl Iterator<Item = &Memtable> {
        let frozen = self.frozen.iter().rev().map(|frozen| &*frozen.table);
        std::iter::once(&self.active).chain(frozen)
    }

    /// The newest of a key.
    pub(super) fn get(&self, key: &[u8]) -> Option<&Stored> {
        self.newest_first().find_map(|table| table.get(key))
    }

    pub(super) fn bytes(&self) -> usize {
        self.newest_first().map(Memtable::bytes).sum()
    }
}

impl Totals {
    /// A record of `old` bytes is replaced by one of `new`.
    pub(super) fn change(&mut self, key: &[u8], old: Option<u64>, new: Option<u64>) {
        let own = u64::from(key.first() == Some(&0));
        if let Some(old) = old {
            self.records = self.records.saturating_sub(1);
            self.own_records = self.own_records.saturating_sub(own);
            self.live_bytes = self.live_bytes.saturating_sub(old);
        }
        if let Some(new) = new {
            self.records += 1;
            self.own_records += own;
            self.live_bytes += new;
        }
    }
}
