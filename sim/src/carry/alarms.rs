//! Who waits for which time. An alarm that is set anew and again leaves one entry in the agenda for each time it was
//! set to, not one for each look at it.

use std::collections::BTreeMap;
use std::task::Waker;

use crate::rt::Time;

/// All alarms that are set.
#[derive(Debug, Default)]
pub struct Alarms {
    named: u64,
    set: BTreeMap<u64, (Time, Waker)>,
}

impl Alarms {
    /// A name for a new alarm.
    pub fn name(&mut self) -> u64 {
        self.named += 1;
        self.named
    }

    /// Sets an alarm; answers whether somebody has to `ring` it at that time, because nobody does yet.
    pub fn set(&mut self, name: u64, at: Time, waker: Waker) -> bool {
        let before = self.set.insert(name, (at, waker));
        before.is_none_or(|(before, _)| before != at)
    }

    /// Takes an alarm back.
    pub fn forget(&mut self, name: u64) {
        self.set.remove(&name);
    }

    /// Wakes whoever waits for this time.
    pub fn ring(&mut self, name: u64, at: Time) {
        if self.set.get(&name).is_some_and(|(set, _)| *set == at)
            && let Some((_, waker)) = self.set.remove(&name)
        {
            waker.wake();
        }
    }
}
