//! A picture of the links for people: the status page and the tests.

use rondo_core::env::Address;
use rondo_core::id::{Life, NodeId};

use crate::refusal::Refusal;

/// What the link that we dial is doing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LinkState {
    /// Connecting, or in the handshake.
    Dialling,
    /// Open: messages flow.
    Open,
    /// Waiting before the next attempt.
    Waiting,
}

/// One peer's links.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LinkStatus {
    /// The peer.
    pub node: NodeId,
    /// Where it is dialled.
    pub address: Address,
    /// The link that we dial, which carries what we send.
    pub state: LinkState,
    /// The peer's life, as of the last open link.
    pub life: Option<Life>,
    /// The protocol version of the last open link.
    pub protocol: Option<u8>,
    /// Whether the peer has an open link to us, which carries what it sends.
    pub hears: bool,
    /// What went wrong last, in words; cleared when the link opens.
    pub trouble: Option<String>,
    /// The last refusal, by either side.
    pub refusal: Option<Refusal>,
    /// Bytes that wait to be written.
    pub queue_bytes: usize,
    /// Messages dropped because there was no link, its queue was full, or they were too long.
    pub dropped: u64,
    /// Messages of the peer's present link to us that the node had no room for.
    pub ignored: u64,
    /// How often the link has been opened again after the first time.
    pub reconnects: u64,
}
