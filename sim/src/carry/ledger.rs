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

/// All messages on their way, by (from, to).
#[derive(Debug, Default)]
pub struct Ledger(BTreeMap<(u32, u32), VecDeque<Sent>>);

impl Ledger {
    /// A message was handed over.
    pub fn sent(&mut self, link: (u32, u32), sent: Sent) {
        self.0.entry(link).or_default().push_back(sent);
    }

    /// A message has arrived: the first one on its way with these bytes. Those before it will not come any more.
    pub fn arrived(&mut self, link: (u32, u32), hash: u64) -> Option<Sent> {
        let queue = self.0.get_mut(&link)?;
        let at = queue.iter().position(|sent| sent.hash == hash)?;
        queue.drain(..=at).next_back()
    }
}
