//! What nodes say of themselves and of each other: datagrams, which only nodes with the cluster's secret can make.

use bytes::Bytes;
use hmac::{Hmac, Mac};
use sha2::Sha256;

use crate::env::{Address, Wall};
use crate::error::{Error, Result};
use crate::id::{LayoutVersion, Life, Lsn, NodeId};
use crate::layout::LayoutRef;
use crate::layout::live::Trackers;
use crate::wire::frame::{Wire, Writer, check_version, read, table};

/// The version of datagrams.
const VERSION: u8 = 3;
/// The length of the code at the head of a datagram.
pub(super) const MAC_BYTES: usize = 16;

/// The cluster's secret as the key of the codes of datagrams: it is mixed in once, not anew for each of them.
#[derive(Clone, Debug)]
pub struct Key(Hmac<Sha256>);

/// A datagram: what its sender knows about itself and its peers.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Gossip {
    /// Only nodes of the same cluster listen.
    pub cluster: String,
    /// The sender.
    pub me: Introduction,
    /// The sender's wall time, so that clocks can be compared.
    pub wall: Wall,
    /// What the sender has endorsed.
    pub endorsed: Endorsement,
    /// The nodes the sender hears now, itself included, sorted.
    pub hears: Vec<NodeId>,
    /// The sender's goodbye: it stops, and takes on nothing more in this life.
    pub leaves: bool,
    /// The sender has been told that its data directory does not count any more.
    pub denied: bool,
    /// The lives that the sender's data directory has been through, the latest first.
    pub earlier: Vec<Life>,
    /// Up to where the sender's store had everything when this life began.
    pub began: Lsn,
    /// Up to where it has everything durably now.
    pub durable: Lsn,
    /// The lives of other nodes that count at the sender, the receiver's among them if it knows any.
    pub lives: Vec<Counted>,
    /// Introductions of other nodes, so that one seed is enough to meet everybody.
    pub others: Vec<Introduction>,
}

/// The layout that a node stands for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Endorsement {
    /// The layout it has endorsed, durably.
    pub layout: LayoutRef,
    /// Whether that layout is live as far as it knows.
    pub live: bool,
    /// The oldest layout that is live at the node; version 0 when none is.
    pub oldest: LayoutVersion,
    /// The digest of the cluster's first layout; 0 when no layout is live at the node.
    pub founding: u128,
    /// How far it is with the layouts.
    pub trackers: Trackers,
}

/// A life that counts at the sender.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Counted {
    /// Whose it is.
    pub node: NodeId,
    /// Which.
    pub life: Life,
    /// Up to where it has told that its store has everything durably.
    pub durable: Lsn,
}

/// How a node introduces itself.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Introduction {
    /// The node.
    pub node: NodeId,
    /// Its life.
    pub life: Life,
    /// Its label.
    pub name: String,
    /// Where peers reach it.
    pub peer_address: Address,
    /// Where clients reach it.
    pub client_address: Address,
    /// How many nodes it expects to form the first layout with.
    pub expect: u32,
    /// Its share of the data.
    pub weight: u32,
    /// Its failure domain.
    pub zone: String,
    /// Whether it wants a role in the layout of the cluster that it meets, without anybody asking for it.
    pub joins: bool,
}

/// A datagram as bytes, with a code that only the cluster's nodes can make.
#[must_use]
pub fn encode_gossip(gossip: &Gossip, key: &Key) -> Bytes {
    let mut to = Writer::after(&[0; MAC_BYTES]);
    VERSION.put(&mut to);
    gossip.put(&mut to);
    let (mut bytes, _) = to.finish();
    let code = key.over(&bytes[MAC_BYTES..]).finalize().into_bytes();
    bytes[..MAC_BYTES].copy_from_slice(&code[..MAC_BYTES]);
    Bytes::from(bytes)
}

/// The datagram in `bytes`, when it was made with `key`.
pub fn decode_gossip(bytes: &Bytes, key: &Key) -> Result<Gossip> {
    if bytes.len() <= MAC_BYTES {
        return Err(Error::Malformed("a datagram is shorter than its code"));
    }
    let (code, rest) = bytes.split_at(MAC_BYTES);
    if key.over(rest).verify_truncated_left(code).is_err() {
        return Err(Error::Malformed("a datagram was not made with this cluster's secret"));
    }
    decode_foreign_gossip(bytes)
}

/// The datagram in `bytes`, whoever made it: only to tell people of it.
pub fn decode_foreign_gossip(bytes: &Bytes) -> Result<Gossip> {
    let version = *bytes.get(MAC_BYTES).ok_or(Error::Malformed("a datagram ends in its code"))?;
    check_version("a datagram", version, VERSION)?;
    read(bytes.slice(MAC_BYTES + 1..), Bytes::new())
}

impl Key {
    /// The key of a secret.
    #[must_use]
    pub fn new(secret: &[u8]) -> Key {
        Key(Hmac::new_from_slice(secret).expect("HMAC takes keys of any length"))
    }

    /// The code of `bytes`, to be finished.
    pub(super) fn over(&self, bytes: &[u8]) -> Hmac<Sha256> {
        self.0.clone().chain_update(bytes)
    }
}

table!(struct Gossip {
    cluster, me, wall, endorsed, hears, leaves, denied, earlier, began, durable, lives, others
});
table!(struct Endorsement { layout, live, oldest, founding, trackers });
table!(struct Trackers { ack, sync, sync_ack });
table!(struct Counted { node, life, durable });
table!(struct Introduction {
    node, life, name, peer_address, client_address, expect, weight, zone, joins
});
