//! What people should know of nodes that are met and not counted: one line for each, as long as it goes on.
//!
//! Each side of a refusal tells its own: the node that refuses names the other, and the other hears of it by its own
//! (`lives`). Two nodes of one name, or of two clusters that have met, see the same of each other.

use std::collections::BTreeMap;

use crate::cluster::lives::Judgement;
use crate::cluster::membership::Membership;
use crate::env::{Address, Mono};
use crate::id::{BootEpoch, Life, NodeId};
use crate::layout::LayoutRef;

/// So many notes are kept; the latest ones.
const NOTES_MAX: usize = 32;
/// A note is forgotten when its reason has not been met for this long, in milliseconds.
const NOTE_MS: u64 = 10_000;

/// Something that was met.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Note {
    /// A node of another cluster sends datagrams.
    OtherCluster {
        /// Its name.
        name: String,
        /// Its cluster's.
        cluster: String,
    },
    /// Another process has this node's identity.
    Twin {
        /// Where.
        address: Address,
        /// Its boot epoch.
        boot: BootEpoch,
    },
    /// A life of a node does not count.
    Refused {
        /// The node's name.
        name: String,
        /// The life.
        life: Life,
        /// The one that counts.
        known: Life,
        /// What the one is to the other.
        judgement: Judgement,
    },
}

/// What was met lately.
#[derive(Debug, Default)]
pub struct Notes {
    notes: BTreeMap<Note, Mono>,
}

impl Notes {
    /// Something was met.
    pub fn take(&mut self, note: Note, now: Mono) {
        if self.notes.len() >= NOTES_MAX && !self.notes.contains_key(&note) {
            let oldest = self.notes.iter().min_by_key(|(_, when)| **when);
            if let Some(oldest) = oldest.map(|(note, _)| note.clone()) {
                self.notes.remove(&oldest);
            }
        }
        self.notes.insert(note, now);
    }

    /// Forgets what is over.
    pub fn forget(&mut self, now: Mono) {
        self.notes.retain(|_, when| now.ms_since(*when) <= NOTE_MS);
    }

    /// All of them in words, with what `members` say: nodes of this node's name, and nodes of another layout.
    #[must_use]
    pub fn lines(
        &self,
        name: &str,
        me: NodeId,
        layout: Option<LayoutRef>,
        members: &Membership,
        now: Mono,
    ) -> Vec<String> {
        let mut lines: Vec<String> = self.notes.keys().map(ToString::to_string).collect();
        for peer in members.peers().values().filter(|p| members.is_alive(p.introduction.node, now))
        {
            let (theirs, at) = (&peer.introduction, &peer.introduction.peer_address.0);
            if theirs.name == name {
                lines.push(format!(
                    "the node at {at} ({}) has the name {name} too, as this one ({}): it is not counted with this one; give one of \
                     them another --node-id and an empty --data-dir",
                    theirs.node.short(),
                    me.short()
                ));
            }
            let differs = layout.is_some_and(|mine| {
                peer.live && peer.layout != LayoutRef::default() && peer.layout != mine
            });
            if differs {
                lines.push(format!(
                    "{} at {at} serves another layout: two clusters have met; give one of them another --cluster-name, or take \
                     its nodes out of --seeds",
                    theirs.name
                ));
            }
        }
        lines
    }
}

impl std::fmt::Display for Note {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Note::OtherCluster { name, cluster } => write!(
                f,
                "{name} belongs to the cluster {cluster:?} and sends datagrams here: give it the same --cluster-name as this node, \
                 or other --seeds"
            ),
            Note::Twin { address, boot } => write!(
                f,
                "another process at {} has the identity of this node (start {}): one of the two runs on a copy; stop that one",
                address.0, boot.0
            ),
            Note::Refused { name, life, known, judgement } => {
                let (boot, counts) = (life.boot.0, known.boot.0);
                let why = match judgement {
                    Judgement::Second => {
                        format!(
                            "start {boot} was another process: its data directory is an older copy, or one of two copies"
                        )
                    }
                    Judgement::Apart => format!(
                        "its data directory is a copy: it is start {boot}, and was not there at start {counts}"
                    ),
                    Judgement::Earlier | Judgement::Same | Judgement::Later => format!(
                        "its data directory is an older copy: it is start {boot}, and start {counts} was seen"
                    ),
                };
                write!(
                    f,
                    "a process of {name} is not counted: {why}; stop it and start the directory that ran last, unchanged"
                )
            }
        }
    }
}
