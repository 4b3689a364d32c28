//! Who takes part? SWIM (Das, Gupta, Motivala, DSN 2002) with Lifeguard (Dadgar, Phillips, Currey, DSN 2018): a failure detector
//! whose traffic per node does not grow with the cluster.
//!
//! Every node probes one other at a time; who does not answer, not to helpers either, is *suspect*, and *dead* when it has not
//! spoken up against that for a while. What a node learns it passes on as rumours, on the back of probes and by itself. Only
//! a node itself can end a suspicion, by a higher incarnation; a node that is slow itself suspects others less.
//!
//! Invariants: which of two claims about a node counts is their maximum (`wire::swim::Claim`), so nodes that have heard the same agree;
//! what is dead or left stays known as that for a day; who was removed never returns. Everything is decided by the
//! time and the dice that are passed in.
//! Left out: probes over links (they have their own heartbeat), and ownership, which changes by a layout and by nothing else.

pub mod outside;

pub mod health;

pub mod suspicion;

pub mod members;

pub mod rumours;

pub mod rounds;

pub mod relays;

pub mod machine;

mod hearing;

mod probing;

mod telling;

mod exchanges;
