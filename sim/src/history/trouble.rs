//! What must not happen to a node, or to the cluster once it is healed: any of it ends the run.
//!
//! Each is told by the product's own values; `Display` says it to people.

use std::fmt;
use std::sync::Arc;

use rondo_core::error::Error;
use rondo_core::layout::keyspace::Level;

use crate::device::ending::Ending;

/// Something that must not happen.
#[derive(Clone, Debug)]
pub enum Trouble {
    /// A node panicked.
    Panic {
        /// The node.
        node: u32,
        /// The panic's text, which is all that it leaves.
        text: String,
    },
    /// A node ended by itself, could not start, or cannot be read.
    Failed {
        /// The node.
        node: u32,
        /// Why.
        cause: Arc<Cause>,
    },
    /// The healed cluster did not do in time what it had to.
    Stuck(Stuck),
}

/// Why a node failed.
#[derive(Debug)]
pub enum Cause {
    /// Its process ended with an error.
    Ended(Ending),
    /// Its process ended as if it had been asked to.
    Unasked,
    /// It stored a record that cannot be read.
    Stored(Error),
    /// Its engine cannot be read.
    Engine(Error),
    /// Its engine is asked for, and it is down.
    Down,
}

/// What did not come to pass in time.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Stuck {
    /// Some nodes never became ready: what each of all waits for; `None` for one that says nothing.
    NotReady(Vec<(u32, Option<Vec<String>>)>),
    /// The layouts do not come to rest: for each node the versions of those that are live there.
    Reshapes(Vec<(u32, Vec<u64>)>),
    /// A node was asked to stop and did not.
    Runs(u32),
    /// Some operation never ended.
    Operation,
    /// Some nodes still owe others something: how many hints they have.
    Owes(Vec<(u32, u64)>),
    /// A key cannot be read.
    Unread {
        /// The key.
        key: u32,
        /// The level.
        level: Level,
        /// The node that is asked.
        node: u32,
    },
}

impl Trouble {
    /// A node failed.
    #[must_use]
    pub fn failed(node: u32, cause: Cause) -> Trouble {
        Trouble::Failed { node, cause: Arc::new(cause) }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Cause::Ended(ending) => ending.fmt(f),
            Cause::Unasked => f.write_str("it ended although nobody asked"),
            Cause::Stored(error) => write!(f, "it stored a record that cannot be read: {error}"),
            Cause::Engine(error) => write!(f, "its engine cannot be read: {error}"),
            Cause::Down => f.write_str("it is down"),
        }
    }
}

impl fmt::Display for Stuck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Stuck::NotReady(nodes) => {
                let told = nodes.iter().map(|(node, waits)| match waits {
                    None => format!("n{node} says nothing"),
                    Some(waits) => format!("n{node} waits for {waits:?}"),
                });
                let told = told.collect::<Vec<_>>().join(", ");
                write!(f, "not every node became ready: {told}")
            }
            Stuck::Reshapes(nodes) => {
                let told = nodes.iter().map(|(node, live)| format!("n{node} has {live:?}"));
                let told = told.collect::<Vec<_>>().join(", ");
                write!(f, "the layouts did not come to rest: {told}")
            }
            Stuck::Runs(node) => write!(f, "n{node} was asked to stop and did not"),
            Stuck::Operation => f.write_str("some operation never ended"),
            Stuck::Owes(nodes) => {
                let told = nodes.iter().map(|(node, hints)| format!("n{node} has {hints}"));
                write!(f, "not all hints were handed over: {}", told.collect::<Vec<_>>().join(", "))
            }
            Stuck::Unread { key, level, node } => {
                write!(f, "k{key} cannot be read at {level} through n{node}")
            }
        }
    }
}
