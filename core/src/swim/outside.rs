//! What the failure detector may ask of the world, and do to it.

use crate::env::{Address, Mono};
use crate::id::NodeId;
use crate::wire::swim::{Claim, Datagram, Exchange};

/// The world, as far as the failure detector needs it.
pub trait Outside {
    /// Monotonic time; the same for the whole step.
    fn now(&self) -> Mono;
    /// 64 random bits.
    fn random(&mut self) -> u64;
    /// Sends a datagram; it may be lost.
    fn datagram(&mut self, to: &Address, datagram: &Datagram);
    /// Sends a part of an exchange over a link. `false`: there is none, and nobody will ever see it.
    fn exchange(&mut self, to: NodeId, exchange: Exchange) -> bool;
    /// A node is known to be otherwise than before.
    fn changed(&mut self, node: NodeId, claim: Claim);

    /// A random number below `n`; 0 when `n` is.
    fn below(&mut self, n: usize) -> usize {
        let n = u64::try_from(n).unwrap_or(u64::MAX).max(1);
        usize::try_from(self.random() % n).unwrap_or(0)
    }
}
