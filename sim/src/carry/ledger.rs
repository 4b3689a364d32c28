//! Which messages were handed to links and have not come out at the other end yet.
//!
//! It finds out which message it is that arrives, when it was sent and of which class it is. Whether it may arrive is for an oracle to say.

use std::collections::{BTreeMap, VecDeque};

use rondo_core::env::Class;

use crate::rt::Time;

/// A message that is on its way, or was lost.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Sent {
    /// A hash of its bytes.
    pub hash: u64,
    /// Its class.
    pub class: Class,
    /// When it was handed over.
    pub at: Time,
}

/// All messages on their way, by sender, receiver and the sender's life: a later life speaks on a connection of its own, and
/// neither of the two waits for the other.
#[derive(Debug, Default)]
pub struct Ledger(BTreeMap<(u32, u32, u64), VecDeque<Sent>>);

impl Ledger {
    /// A message was handed over by this life of the sender.
    pub fn sent(&mut self, (from, to): (u32, u32), life: u64, sent: Sent) {
        self.0.entry((from, to, life)).or_default().push_back(sent);
    }

    /// A message has arrived: the first one on its way with these bytes, of the sender's earliest life that has one; and which
    /// life that is. Those that this life sent before it will not come any more.
    pub fn arrived(&mut self, (from, to): (u32, u32), hash: u64) -> Option<(u64, Sent)> {
        let mut lives = self.0.range_mut((from, to, 0)..=(from, to, u64::MAX));
        lives.find_map(|(&(_, _, life), queue)| {
            let at = queue.iter().position(|sent| sent.hash == hash)?;
            Some((life, queue.drain(..=at).next_back()?))
        })
    }
}
