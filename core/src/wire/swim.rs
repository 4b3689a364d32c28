//! What the failure detectors of nodes say to each other: datagrams, each with rumours on its back, and what two of them
//! exchange over a link.
//!
//! ```text
//! datagram  HMAC-SHA256 over the rest, cut to 16 bytes | 64 u8 | header
//! ```
//! The number after the code tells such a datagram from gossip. Claims are ordered: which of two about one node counts is their
//! maximum, so nodes that have heard the same agree, whatever came first and however often.

use bytes::Bytes;
use hmac::Mac;

use crate::config::{
    ADDRESS_BYTES_MAX, NAME_BYTES_MAX, SWIM_DATAGRAM_BYTES_MAX, SWIM_INCARNATION_MAX,
    SWIM_MEMBERS_MAX,
};
use crate::env::Address;
use crate::error::{Error, Result};
use crate::id::{BootEpoch, NodeId, SessionId};
use crate::wire::frame::{Reader, Wire, Writer, check_version, put_all, read, table, take_all};
use crate::wire::member::{Key, MAC_BYTES};

/// The number of these datagrams. Gossip counts from 1.
const VERSION: u8 = 64;
/// A rumour takes no less, in bytes.
const RUMOUR_BYTES_MIN: usize = 4;

/// Which of a node's words about itself is the later one: a later life's, or of one life the one with the higher count.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct Incarnation {
    /// The life.
    pub boot: BootEpoch,
    /// How often the node has refuted in it what others said, at least.
    pub count: u64,
}

/// How a node is said to be. Of two claims about one incarnation the later one in this list wins.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Standing {
    /// It takes part.
    Alive,
    /// It has not answered somebody, and may still say that it lives.
    Suspect,
    /// It has said that it stops and comes back.
    Restarting,
    /// It was suspected and has not spoken up.
    Dead,
    /// It has said that it does not come back in this life.
    Left,
}

/// What is said of a node. The greater of two claims wins: the later incarnation, then the later standing.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Claim {
    /// Which word of the node itself it is about.
    pub incarnation: Incarnation,
    /// How the node is said to be since.
    pub standing: Standing,
}

/// What a node says of itself with each incarnation.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Facts {
    /// The session of its life.
    pub session: SessionId,
    /// Its label.
    pub name: String,
    /// Where peers reach it.
    pub address: Address,
}

/// What is passed on about one node.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Rumour {
    /// It takes part, and says so itself.
    Alive {
        /// Who.
        node: NodeId,
        /// In which incarnation.
        incarnation: Incarnation,
        /// What it says of itself.
        facts: Facts,
    },
    /// It has not answered.
    Suspect {
        /// Who.
        node: NodeId,
        /// In which incarnation.
        incarnation: Incarnation,
        /// Whom it has not answered.
        by: NodeId,
    },
    /// It stops and comes back, and says so itself.
    Restarting {
        /// Who.
        node: NodeId,
        /// In which incarnation.
        incarnation: Incarnation,
    },
    /// It has not spoken up against a suspicion.
    Dead {
        /// Who.
        node: NodeId,
        /// In which incarnation.
        incarnation: Incarnation,
    },
    /// It does not come back in this life, and says so itself.
    Left {
        /// Who.
        node: NodeId,
        /// In which incarnation.
        incarnation: Incarnation,
    },
}

impl Rumour {
    /// Whom it is about.
    #[must_use]
    pub const fn node(&self) -> NodeId {
        match self {
            Rumour::Alive { node, .. }
            | Rumour::Suspect { node, .. }
            | Rumour::Restarting { node, .. }
            | Rumour::Dead { node, .. }
            | Rumour::Left { node, .. } => *node,
        }
    }

    /// What it claims.
    #[must_use]
    pub const fn claim(&self) -> Claim {
        let (incarnation, standing) = match self {
            Rumour::Alive { incarnation, .. } => (*incarnation, Standing::Alive),
            Rumour::Suspect { incarnation, .. } => (*incarnation, Standing::Suspect),
            Rumour::Restarting { incarnation, .. } => (*incarnation, Standing::Restarting),
            Rumour::Dead { incarnation, .. } => (*incarnation, Standing::Dead),
            Rumour::Left { incarnation, .. } => (*incarnation, Standing::Left),
        };
        Claim { incarnation, standing }
    }

    /// How many bytes it takes in a datagram.
    #[must_use]
    pub fn encoded_len(&self) -> usize {
        let mut to = Writer::after(&[]);
        self.put(&mut to);
        to.finish().0.len()
    }
}

/// Who speaks: every datagram introduces its sender, so that one is enough to be known.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Speaker {
    /// Who.
    pub node: NodeId,
    /// How it is: alive, restarting or left.
    pub claim: Claim,
    /// What it says of itself.
    pub facts: Facts,
}

/// What a datagram is for. Numbers of probes are the asker's own, and come back with the answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Word {
    /// Asks for an `Ack`.
    Ping {
        /// The number of the probe.
        probe: u64,
        /// Who is to answer; `None`: whoever is at that address.
        target: Option<NodeId>,
    },
    /// Asks the receiver to ping another node, and to pass on its `Ack`.
    Help {
        /// The number of the probe.
        probe: u64,
        /// Whom to ping.
        target: NodeId,
        /// Where it is.
        address: Address,
    },
    /// The node that was asked for has answered.
    Ack {
        /// The number of the probe.
        probe: u64,
    },
    /// A helper has no answer yet, and lives.
    Nack {
        /// The number of the probe.
        probe: u64,
    },
    /// Nothing but the rumours.
    Rumours,
}

/// One datagram.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Datagram {
    /// Only nodes of the same cluster listen.
    pub cluster: String,
    /// The sender.
    pub me: Speaker,
    /// What it is for.
    pub word: Word,
    /// What the sender passes on of others and of the receiver.
    pub rumours: Vec<Rumour>,
}

impl Datagram {
    /// How many bytes it takes with few rumours.
    #[must_use]
    pub fn encoded_len(&self) -> usize {
        let mut to = Writer::after(&[0; MAC_BYTES + 1]);
        self.put(&mut to);
        to.finish().0.len()
    }
}

/// What two nodes say to each other when they compare all they know.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Exchange {
    /// This is the digest of all I know; who knows something else answers with `All`.
    Digest {
        /// Equal for those who know the same.
        digest: u64,
    },
    /// All I know.
    All {
        /// Everybody, the sender included.
        known: Vec<Known>,
        /// Whether the receiver is to answer with all that it knows.
        answer: bool,
    },
}

impl Exchange {
    /// The bytes that it keeps in memory beside itself, about.
    #[must_use]
    pub fn weight(&self) -> usize {
        let texts = |of: &Known| of.facts.name.len() + of.facts.address.0.len();
        match self {
            Exchange::Digest { .. } => 0,
            Exchange::All { known, .. } => {
                known.iter().map(|of| size_of::<Known>() + texts(of)).sum()
            }
        }
    }
}

/// What a node knows of one, itself included.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Known {
    /// Who.
    pub node: NodeId,
    /// How it is.
    pub claim: Claim,
    /// What it says of itself.
    pub facts: Facts,
    /// For how long it has been so there, in milliseconds.
    pub age_ms: u64,
}

/// A datagram as bytes, with a code that only the cluster's nodes can make. `None`: it is longer than it may be, because a name
/// or an address is.
#[must_use]
pub fn encode_datagram(datagram: &Datagram, key: &Key) -> Option<Bytes> {
    let mut to = Writer::after(&[0; MAC_BYTES]);
    VERSION.put(&mut to);
    datagram.put(&mut to);
    let (mut bytes, _) = to.finish();
    let code = key.over(&bytes[MAC_BYTES..]).finalize().into_bytes();
    bytes[..MAC_BYTES].copy_from_slice(&code[..MAC_BYTES]);
    (bytes.len() <= SWIM_DATAGRAM_BYTES_MAX).then(|| Bytes::from(bytes))
}

/// Whether these bytes are a datagram of this kind, whoever made it.
#[must_use]
pub fn is_datagram(bytes: &[u8]) -> bool {
    bytes.get(MAC_BYTES) == Some(&VERSION)
}

/// The datagram in `bytes`, when it was made with `key`.
pub fn decode_datagram(bytes: &Bytes, key: &Key) -> Result<Datagram> {
    if bytes.len() <= MAC_BYTES || bytes.len() > SWIM_DATAGRAM_BYTES_MAX {
        return Err(Error::Malformed("a datagram has a wrong length"));
    }
    let (code, rest) = bytes.split_at(MAC_BYTES);
    if key.over(rest).verify_truncated_left(code).is_err() {
        return Err(Error::Malformed("a datagram was not made with this cluster's secret"));
    }
    check_version("a datagram of the failure detector", rest[0], VERSION)?;
    read(bytes.slice(MAC_BYTES + 1..), Bytes::new())
}

table!(struct Claim { incarnation, standing });
table!(enum Standing { 1 Alive, 2 Suspect, 3 Restarting, 4 Dead, 5 Left });
table!(enum Rumour {
    1 Alive { node, incarnation, facts },
    2 Suspect { node, incarnation, by },
    3 Restarting { node, incarnation },
    4 Dead { node, incarnation },
    5 Left { node, incarnation },
});
table!(struct Speaker { node, claim, facts });
table!(enum Word {
    1 Ping { probe, target },
    2 Help { probe, target, address },
    3 Ack { probe },
    4 Nack { probe },
    5 Rumours,
});
table!(struct Known { node, claim, facts, age_ms });

impl Wire for Incarnation {
    fn put(&self, to: &mut Writer) {
        self.boot.put(to);
        self.count.put(to);
    }

    fn take(from: &mut Reader) -> Result<Incarnation> {
        let (boot, count) = (BootEpoch::take(from)?, u64::take(from)?);
        if count > SWIM_INCARNATION_MAX {
            return Err(Error::Malformed("an incarnation is beyond what any node counts to"));
        }
        Ok(Incarnation { boot, count })
    }
}

impl Wire for Facts {
    fn put(&self, to: &mut Writer) {
        self.session.put(to);
        self.name.put(to);
        self.address.put(to);
    }

    fn take(from: &mut Reader) -> Result<Facts> {
        let facts = Facts {
            session: SessionId::take(from)?,
            name: String::take(from)?,
            address: Address::take(from)?,
        };
        if facts.name.len() > NAME_BYTES_MAX || facts.address.0.len() > ADDRESS_BYTES_MAX {
            return Err(Error::Malformed("a name or an address is longer than it may be"));
        }
        Ok(facts)
    }
}

impl Wire for Datagram {
    fn put(&self, to: &mut Writer) {
        self.cluster.put(to);
        self.me.put(to);
        self.word.put(to);
        put_all(&self.rumours, to);
    }

    fn take(from: &mut Reader) -> Result<Datagram> {
        Ok(Datagram {
            cluster: Wire::take(from)?,
            me: Wire::take(from)?,
            word: Wire::take(from)?,
            rumours: take_all(from, SWIM_DATAGRAM_BYTES_MAX / RUMOUR_BYTES_MIN)?,
        })
    }
}

impl Wire for Exchange {
    fn put(&self, to: &mut Writer) {
        match self {
            Exchange::Digest { digest } => {
                1u8.put(to);
                digest.put(to);
            }
            Exchange::All { known, answer } => {
                2u8.put(to);
                put_all(known, to);
                answer.put(to);
            }
        }
    }

    fn take(from: &mut Reader) -> Result<Exchange> {
        match u8::take(from)? {
            1 => Ok(Exchange::Digest { digest: Wire::take(from)? }),
            2 => {
                let known = take_all(from, SWIM_MEMBERS_MAX + 1)?;
                Ok(Exchange::All { known, answer: Wire::take(from)? })
            }
            _ => Err(Error::Malformed("an unknown kind of Exchange")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{SWIM_FRAME_BYTES_MAX, SWIM_RUMOUR_BYTES_MAX};

    fn facts(name: &str, address: &str) -> Facts {
        Facts { session: SessionId(u64::MAX), name: name.into(), address: Address(address.into()) }
    }

    fn longest() -> (Facts, Incarnation) {
        let (name, address) = ("n".repeat(NAME_BYTES_MAX), "a".repeat(ADDRESS_BYTES_MAX));
        let incarnation = Incarnation { boot: BootEpoch(u64::MAX), count: SWIM_INCARNATION_MAX };
        (facts(&name, &address), incarnation)
    }

    fn datagram(facts: Facts, incarnation: Incarnation, rumours: Vec<Rumour>) -> Datagram {
        let claim = Claim { incarnation, standing: Standing::Alive };
        let (node, address) = (NodeId(u128::MAX), facts.address.clone());
        Datagram {
            cluster: "c".repeat(NAME_BYTES_MAX),
            me: Speaker { node, claim, facts },
            word: Word::Help { probe: u64::MAX, target: node, address },
            rumours,
        }
    }

    #[test]
    fn the_longest_frame_has_room_for_the_longest_rumour() {
        let (facts, incarnation) = longest();
        let node = NodeId(u128::MAX);
        let rumour = Rumour::Alive { node, incarnation, facts: facts.clone() };
        assert!(rumour.encoded_len() <= SWIM_RUMOUR_BYTES_MAX);
        let frame = datagram(facts.clone(), incarnation, Vec::new());
        let frame = encode_datagram(&frame, &Key::new(b"s")).expect("it fits").len();
        assert!(frame <= SWIM_FRAME_BYTES_MAX, "{frame}");
        let both = datagram(facts, incarnation, vec![rumour]);
        let bytes = encode_datagram(&both, &Key::new(b"s")).expect("it fits");
        assert!(is_datagram(&bytes));
        assert_eq!(decode_datagram(&bytes, &Key::new(b"s")).expect("what was written"), both);
        assert!(decode_datagram(&bytes, &Key::new(b"t")).is_err(), "another cluster's secret");
        assert!(decode_datagram(&bytes.slice(..bytes.len() - 1), &Key::new(b"s")).is_err());
    }

    #[test]
    fn what_is_beyond_its_bound_is_refused() {
        let (facts, incarnation) = longest();
        let read_back = |facts: Facts, incarnation| {
            let bytes = encode_datagram(&datagram(facts, incarnation, Vec::new()), &Key::new(b"s"));
            bytes.map(|bytes| decode_datagram(&bytes, &Key::new(b"s")).is_ok())
        };
        assert_eq!(read_back(facts.clone(), incarnation), Some(true));
        let further = Incarnation { count: incarnation.count + 1, ..incarnation };
        assert_eq!(read_back(facts.clone(), further), Some(false));
        let name = facts.name.clone() + "n";
        assert_eq!(read_back(Facts { name, ..facts.clone() }, incarnation), Some(false));
        let address = Address(facts.address.0.clone() + "a");
        assert_eq!(read_back(Facts { address, ..facts.clone() }, incarnation), Some(false));
        let address = Address("a".repeat(SWIM_DATAGRAM_BYTES_MAX));
        assert_eq!(read_back(Facts { address, ..facts }, incarnation), None, "nobody is sent it");
    }

    #[test]
    fn of_one_incarnation_the_later_standing_wins_and_a_later_incarnation_wins_over_all() {
        use Standing::{Alive, Dead, Left, Restarting, Suspect};
        let claim = |boot, count, standing| Claim {
            incarnation: Incarnation { boot: BootEpoch(boot), count },
            standing,
        };
        let order = [
            claim(1, 9, Left),
            claim(2, 0, Alive),
            claim(2, 0, Suspect),
            claim(2, 0, Restarting),
            claim(2, 0, Dead),
            claim(2, 0, Left),
            claim(2, 1, Alive),
        ];
        assert!(order.is_sorted_by(|a, b| a < b));
    }
}
