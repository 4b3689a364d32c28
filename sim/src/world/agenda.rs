//! The one heap of what will happen: by time, and by insertion where times are equal.
//!
//! Whoever empties it leaves a waker that is called when something earlier than expected comes in; there is
//! one such task in a world, never a task for each message.

use std::collections::BTreeMap;
use std::task::Waker;

use crate::rt::Time;

/// What will happen, in order.
#[derive(Debug)]
pub struct Agenda<E> {
    entries: BTreeMap<(Time, u64), E>,
    inserted: u64,
    waiting: Option<(Time, Waker)>,
}

impl<E> Default for Agenda<E> {
    fn default() -> Self {
        Agenda { entries: BTreeMap::new(), inserted: 0, waiting: None }
    }
}

impl<E> Agenda<E> {
    /// Adds what happens at `at`, after everything that is already there for that time.
    pub fn push(&mut self, at: Time, event: E) {
        self.inserted += 1;
        self.entries.insert((at, self.inserted), event);
        if self.waiting.as_ref().is_some_and(|(until, _)| at < *until)
            && let Some((_, waker)) = self.waiting.take()
        {
            waker.wake();
        }
    }

    /// Takes the first entry that is due.
    pub fn pop_due(&mut self, now: Time) -> Option<E> {
        let first = self.entries.first_entry()?;
        (first.key().0 <= now).then(|| first.remove())
    }

    /// When the first entry is due.
    #[must_use]
    pub fn next_at(&self) -> Option<Time> {
        self.entries.first_key_value().map(|((at, _), _)| *at)
    }

    /// Has `waker` called when something before `until` comes in.
    pub fn wake_before(&mut self, until: Time, waker: Waker) {
        self.waiting = Some((until, waker));
    }

    /// Lets the entries that are `wanted` happen at `latest` where they would have come later, in their order.
    pub fn hurry(&mut self, latest: Time, wanted: impl Fn(&E) -> bool) {
        let late = self.entries.split_off(&(Time(latest.0 + 1), 0));
        for ((at, place), event) in late {
            if wanted(&event) {
                self.push(latest, event);
            } else {
                self.entries.insert((at, place), event);
            }
        }
    }

    /// Keeps the entries that `wanted` says to keep.
    pub fn retain(&mut self, wanted: impl Fn(&E) -> bool) {
        self.entries.retain(|_, event| wanted(event));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::task::Wake;

    use super::*;

    #[test]
    fn entries_come_in_order_of_time_and_then_of_insertion() {
        let mut agenda = Agenda::default();
        for (at, name) in [(20, 'c'), (10, 'a'), (20, 'd'), (10, 'b')] {
            agenda.push(Time(at), name);
        }
        assert_eq!(agenda.pop_due(Time(9)), None);
        let order: String = std::iter::from_fn(|| agenda.pop_due(Time(20))).collect();
        assert_eq!(order, "abcd");
    }

    #[test]
    fn what_is_hurried_keeps_its_order_and_leaves_the_rest() {
        let mut agenda = Agenda::default();
        for (at, name) in [(40, 'd'), (30, 'x'), (20, 'c'), (5, 'a')] {
            agenda.push(Time(at), name);
        }
        agenda.hurry(Time(10), |&name| name != 'x');
        let due: String = std::iter::from_fn(|| agenda.pop_due(Time(10))).collect();
        assert_eq!(due, "acd");
        assert_eq!(agenda.next_at(), Some(Time(30)));
    }

    struct Count(AtomicU64);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn only_something_earlier_wakes() {
        let count = Arc::new(Count(AtomicU64::new(0)));
        let mut agenda = Agenda::default();
        agenda.wake_before(Time(10), Waker::from(Arc::clone(&count)));
        agenda.push(Time(10), ());
        assert_eq!(count.0.load(Ordering::Relaxed), 0);
        agenda.push(Time(9), ());
        agenda.push(Time(8), ());
        assert_eq!(count.0.load(Ordering::Relaxed), 1);
    }
}
