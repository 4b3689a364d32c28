//! How two nodes begin a link: who they are, what they speak, and that both know the cluster secret.
//!
//! ```text
//! dialler                                   acceptor
//!    Hello(range, ids, life, nonce)  ->        may I be who you call, do we understand each other?
//!                                    <-     Hello(range, ids, life, nonce)
//!    Proof(hmac "dialler")           ->        the one who calls proves first
//!                                    <-     Ready(hmac "acceptor")
//! ```
//!
//! Both proofs are HMAC-SHA256 (RFC 2104), keyed by the secret, over the role and both hellos as they
//! were sent: nonces make them fresh, ids and roles make a reflected or relayed proof worthless, and
//! nobody can talk the two down to an older protocol. Without a secret the key is made of the
//! cluster's name, which guards against mistakes only. Either side may answer with a goodbye instead;
//! the refusal then reaches both logs. Nonces are arguments. Payload of a hello, integers little endian:
//!
//! ```text
//! 0   magic     8   "rondo-kv"
//! 8   min       1   the oldest protocol version the sender speaks
//! 9   max       1   the newest
//! 10  features  8   bits; both sides use those that both have
//! 18  from     16   the sender
//! 34  to       16   whom it means to talk to
//! 50  boot      8   the sender's boot epoch
//! 58  session   8   which process that is
//! 66  nonce    32
//! 98  cluster   1+  length and UTF-8 name
//! ..  ignored       later versions append here
//! ```
//!
//! Encryption is left out: a link is as private as the network it runs over.

use std::ops::RangeInclusive;
use std::sync::Arc;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use hmac::{Hmac, Mac};
use rondo_core::config::NAME_BYTES_MAX;
use rondo_core::env::{PROTOCOL_NEWEST, PROTOCOL_OLDEST};
use rondo_core::id::{BootEpoch, Life, NodeId, SessionId};
use sha2::Sha256;

use crate::frame::{Frame, Kind, encode};
use crate::refusal::{Refusal, RefusalCode};

/// The longest payload before the handshake is over, in bytes.
pub const HANDSHAKE_BYTES_MAX: usize = 1024;
/// The protocol versions that this program speaks.
pub const PROTOCOL: RangeInclusive<u8> = PROTOCOL_OLDEST..=PROTOCOL_NEWEST;
/// The version of frames before both sides have agreed on one. The layout of a hello's first ten bytes
/// never changes, so that any two versions can tell each other why they part.
pub const HELLO_VERSION: u8 = 1;

const MAGIC: [u8; 8] = *b"rondo-kv";
/// Feature bit: the sender proves a secret, not just the cluster's name.
const FEATURE_SECRET: u64 = 1;

/// A hello without the cluster's name, in bytes.
const HELLO_BYTES: usize = 99;

const _: () = assert!(HANDSHAKE_BYTES_MAX > HELLO_BYTES + NAME_BYTES_MAX);
const _: () = assert!(HANDSHAKE_BYTES_MAX > 1 + crate::refusal::TEXT_BYTES_MAX);

/// Random bytes, used once.
pub type Nonce = [u8; 32];

/// Who we are.
#[derive(Clone)]
pub struct Identity {
    /// The cluster's name: 1 to `NAME_BYTES_MAX` bytes.
    pub cluster: String,
    /// This node.
    pub node: NodeId,
    /// Its life.
    pub life: Life,
    /// What all nodes of the cluster share and nobody else knows; `None` proves the name alone.
    pub secret: Option<Vec<u8>>,
    /// The protocol versions spoken: `PROTOCOL`, except in tests.
    pub protocol: RangeInclusive<u8>,
}

/// Who the other side has proved to be.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Peer {
    /// The node.
    pub node: NodeId,
    /// Its life.
    pub life: Life,
    /// The newest protocol version that both sides speak.
    pub protocol: u8,
    /// The features that both sides have.
    pub features: u64,
}

/// What to do after a frame.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Step {
    /// Send this and wait for the next frame.
    Send(Bytes),
    /// Send this if there is something; the link is open.
    Open(Option<Bytes>, Peer),
    /// We refuse: send this and close.
    Refuse(Bytes, Refusal),
    /// The other side refused: close.
    Refused(Refusal),
}

/// One side of one handshake.
pub struct Handshake {
    me: Arc<Identity>,
    state: State,
}

enum State {
    /// Dialler: the hello went out.
    AwaitHello { mine: Bytes, callee: NodeId },
    /// Dialler: the proof went out.
    AwaitReady { dialled: Bytes, accepted: Bytes, peer: Peer },
    /// Acceptor: nothing yet.
    Listen { nonce: Nonce },
    /// Acceptor: the hello went out.
    AwaitProof { dialled: Bytes, accepted: Bytes, peer: Peer },
    /// Open or refused.
    Over,
}

struct Hello {
    features: u64,
    from: NodeId,
    to: NodeId,
    life: Life,
    cluster: String,
    protocol: u8,
}

impl Handshake {
    /// The side that dials `callee`, and its first frame.
    #[must_use]
    pub fn dial(me: Arc<Identity>, callee: NodeId, nonce: Nonce) -> (Handshake, Bytes) {
        let mine = me.hello(callee, nonce);
        let first = encode(Kind::Hello, HELLO_VERSION, mine.clone());
        (Handshake { me, state: State::AwaitHello { mine, callee } }, first)
    }

    /// The side that is dialled.
    #[must_use]
    pub fn accept(me: Arc<Identity>, nonce: Nonce) -> Handshake {
        Handshake { me, state: State::Listen { nonce } }
    }

    /// Takes the next frame of the other side. Not to be called after the handshake has ended.
    pub fn on_frame(&mut self, frame: &Frame) -> Step {
        if frame.kind == Kind::Goodbye {
            self.state = State::Over;
            return Step::Refused(Refusal::decode(&frame.payload));
        }
        let state = std::mem::replace(&mut self.state, State::Over);
        let step = match (state, frame.kind) {
            (State::AwaitHello { mine, callee }, Kind::Hello) => {
                self.on_answer(mine, callee, &frame.payload)
            }
            (State::AwaitReady { dialled, accepted, peer }, Kind::Ready) => {
                self.on_ready(&dialled, &accepted, peer, &frame.payload)
            }
            (State::Listen { nonce }, Kind::Hello) => self.on_call(nonce, &frame.payload),
            (State::AwaitProof { dialled, accepted, peer }, Kind::Proof) => {
                self.on_proof(&dialled, &accepted, peer, &frame.payload)
            }
            (_, kind) => {
                let text = format!("a {kind:?} frame has no place at this point of a handshake");
                Err(Refusal::new(RefusalCode::Malformed, text))
            }
        };
        step.unwrap_or_else(|refusal| {
            self.state = State::Over;
            Step::Refuse(goodbye(HELLO_VERSION, &refusal), refusal)
        })
    }

    fn on_call(&mut self, nonce: Nonce, payload: &Bytes) -> Result<Step, Refusal> {
        let hello = self.me.check(payload)?;
        let mine = self.me.hello(hello.from, nonce);
        let send = encode(Kind::Hello, HELLO_VERSION, mine.clone());
        let peer = hello.peer(&self.me);
        self.state = State::AwaitProof { dialled: payload.clone(), accepted: mine, peer };
        Ok(Step::Send(send))
    }

    fn on_answer(&mut self, mine: Bytes, callee: NodeId, payload: &Bytes) -> Result<Step, Refusal> {
        let hello = self.me.check(payload)?;
        if hello.from != callee {
            let text = format!("node {} was called, but node {} answers", callee, hello.from);
            return Err(Refusal::new(RefusalCode::WrongNode, text));
        }
        let proof = self.me.proof(Role::Dialler, &mine, payload).finalize().into_bytes();
        let send = encode(Kind::Proof, HELLO_VERSION, Bytes::copy_from_slice(&proof));
        let peer = hello.peer(&self.me);
        self.state = State::AwaitReady { dialled: mine, accepted: payload.clone(), peer };
        Ok(Step::Send(send))
    }

    fn on_proof(
        &mut self,
        dialled: &[u8],
        accepted: &[u8],
        peer: Peer,
        proof: &[u8],
    ) -> Result<Step, Refusal> {
        self.verify(Role::Dialler, dialled, accepted, &peer, proof)?;
        let proof = self.me.proof(Role::Acceptor, dialled, accepted).finalize().into_bytes();
        let send = encode(Kind::Ready, HELLO_VERSION, Bytes::copy_from_slice(&proof));
        Ok(Step::Open(Some(send), peer))
    }

    fn on_ready(
        &mut self,
        dialled: &[u8],
        accepted: &[u8],
        peer: Peer,
        proof: &[u8],
    ) -> Result<Step, Refusal> {
        self.verify(Role::Acceptor, dialled, accepted, &peer, proof)?;
        Ok(Step::Open(None, peer))
    }

    fn verify(
        &self,
        role: Role,
        dialled: &[u8],
        accepted: &[u8],
        peer: &Peer,
        proof: &[u8],
    ) -> Result<(), Refusal> {
        let expected = self.me.proof(role, dialled, accepted);
        expected.verify_slice(proof).map_err(|_| {
            let text = format!(
                "wrong cluster secret: node {} does not have the one of node {}",
                peer.node, self.me.node
            );
            Refusal::new(RefusalCode::Secret, text)
        })
    }
}

/// The last frame of a link that is refused or ended.
#[must_use]
pub fn goodbye(version: u8, refusal: &Refusal) -> Bytes {
    encode(Kind::Goodbye, version, refusal.encode())
}

#[derive(Clone, Copy)]
enum Role {
    Dialler,
    Acceptor,
}

impl Identity {
    fn features(&self) -> u64 {
        if self.secret.is_some() { FEATURE_SECRET } else { 0 }
    }

    fn hello(&self, to: NodeId, nonce: Nonce) -> Bytes {
        let mut out = BytesMut::with_capacity(HELLO_BYTES + self.cluster.len());
        out.put_slice(&MAGIC);
        out.put_u8(*self.protocol.start());
        out.put_u8(*self.protocol.end());
        out.put_u64_le(self.features());
        out.put_u128_le(self.node.0);
        out.put_u128_le(to.0);
        out.put_u64_le(self.life.boot.0);
        out.put_u64_le(self.life.session.0);
        out.put_slice(&nonce);
        out.put_u8(u8::try_from(self.cluster.len()).expect("names are bounded at the start"));
        out.put_slice(self.cluster.as_bytes());
        out.freeze()
    }

    /// Reads the other side's hello and checks that the two belong together.
    fn check(&self, payload: &[u8]) -> Result<Hello, Refusal> {
        let hello = Hello::decode(payload, &self.protocol)?;
        let refuse = |code, text| Err(Refusal::new(code, text));
        if hello.from == self.node {
            let text = format!(
                "node {} is not here: its address is that of node {}, which called itself there; the other was replaced, has moved, \
                 or advertises a wrong address",
                hello.to, self.node
            );
            return refuse(RefusalCode::Myself, text);
        }
        if hello.cluster != self.cluster {
            let text = format!("cluster is {:?} here, {:?} there", self.cluster, hello.cluster);
            return refuse(RefusalCode::Cluster, text);
        }
        if hello.to != self.node {
            let text = format!("I am not node {}, I am node {}", hello.to, self.node);
            return refuse(RefusalCode::WrongNode, text);
        }
        match (self.secret.is_some(), hello.features & FEATURE_SECRET != 0) {
            (true, false) => {
                let text = "wrong cluster secret: there is one here, none there";
                refuse(RefusalCode::Secret, text.into())
            }
            (false, true) => {
                let text = "wrong cluster secret: there is none here, one there";
                refuse(RefusalCode::Secret, text.into())
            }
            _ => Ok(hello),
        }
    }

    fn proof(&self, role: Role, dialled: &[u8], accepted: &[u8]) -> Hmac<Sha256> {
        let mut mac = match &self.secret {
            Some(secret) => Hmac::<Sha256>::new_from_slice(secret),
            None => Hmac::new_from_slice(format!("no secret: {}", self.cluster).as_bytes()),
        }
        .expect("HMAC takes keys of any length");
        mac.update(match role {
            Role::Dialler => b"rondo link, dialler ",
            Role::Acceptor => b"rondo link, acceptor",
        });
        for hello in [dialled, accepted] {
            mac.update(&(hello.len() as u64).to_le_bytes());
            mac.update(hello);
        }
        mac
    }
}

impl Hello {
    fn decode(mut payload: &[u8], spoken: &RangeInclusive<u8>) -> Result<Hello, Refusal> {
        let malformed = || Refusal::new(RefusalCode::Malformed, "this is not the hello of a node");
        let magic = payload.split_off(..MAGIC.len()).ok_or_else(malformed)?;
        if magic != MAGIC {
            return Err(malformed());
        }
        let min = payload.try_get_u8().map_err(|_| malformed())?;
        let max = payload.try_get_u8().map_err(|_| malformed())?;
        let protocol = max.min(*spoken.end());
        if protocol < min.max(*spoken.start()) || max < min {
            let (start, end) = (spoken.start(), spoken.end());
            let text = format!("protocol {start}..{end} here, {min}..{max} there");
            return Err(Refusal::new(RefusalCode::Protocol, text));
        }
        Hello::decode_body(payload, protocol).ok_or_else(malformed)
    }

    fn decode_body(mut payload: &[u8], protocol: u8) -> Option<Hello> {
        let features = payload.try_get_u64_le().ok()?;
        let from = NodeId(payload.try_get_u128_le().ok()?);
        let to = NodeId(payload.try_get_u128_le().ok()?);
        let boot = BootEpoch(payload.try_get_u64_le().ok()?);
        let session = SessionId(payload.try_get_u64_le().ok()?);
        let life = Life { boot, session };
        payload.split_off(..size_of::<Nonce>())?;
        let name = usize::from(payload.try_get_u8().ok()?);
        let name = payload.split_off(..name)?;
        if name.len() > NAME_BYTES_MAX {
            return None;
        }
        let cluster = std::str::from_utf8(name).ok()?.to_owned();
        Some(Hello { features, from, to, life, cluster, protocol })
    }

    fn peer(&self, me: &Identity) -> Peer {
        let features = self.features & me.features();
        Peer { node: self.from, life: self.life, protocol: self.protocol, features }
    }
}
