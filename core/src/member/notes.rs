//! What people should know of nodes that are met and not counted: one line for each, as long as it goes on.
//!
//! Each side of a refusal tells its own: the node that refuses names the other, and the other hears of it by its own
//! (`lives`). Two nodes of one name, or of two clusters that have met, see the same of each other.

use std::collections::BTreeMap;

use crate::env::{Address, Mono};
use crate::id::{BootEpoch, Life, NodeId};
use crate::member::lives::Judgement;
use crate::member::membership::{Membership, Peer};
use crate::wire::member::Gossip;

/// So many notes are kept; the latest ones.
const NOTES_MAX: usize = 32;
/// A note is forgotten when its reason has not been met for this long, in milliseconds.
const NOTE_MS: u64 = 10_000;

/// So many datagrams without this cluster's code are met before people are told: one may have been damaged on its way.
const INSISTS: u32 = 2;
/// Nodes of other clusters are answered once in this time, in milliseconds.
const ANSWER_MS: u64 = 500;
/// A peer that does not hear this node, or has no links with it, for so long is worth a line, in milliseconds.
const DEAF_MS: u64 = 3_000;

/// Something that was met.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Note {
    /// A node of another cluster sends datagrams.
    OtherCluster {
        /// Its name, as it says.
        name: String,
        /// Where.
        address: Address,
        /// Its cluster's name, as it says.
        cluster: String,
        /// This node's.
        mine: String,
    },
    /// A node that says it is of this cluster has another secret.
    OtherSecret {
        /// Its name, as it says.
        name: String,
        /// Where.
        address: Address,
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
#[derive(Debug)]
pub struct Notes {
    name: String,
    cluster: String,
    notes: BTreeMap<Note, Met>,
    next_answer: Mono,
}

#[derive(Debug)]
struct Met {
    last: Mono,
    times: u32,
}

impl Notes {
    /// Of a node of this name and cluster. Nothing was met.
    #[must_use]
    pub fn new(name: &str, cluster: &str) -> Notes {
        let (name, cluster) = (name.to_owned(), cluster.to_owned());
        Notes { name, cluster, notes: BTreeMap::new(), next_answer: Mono(0) }
    }

    /// Something was met.
    pub fn take(&mut self, note: Note, now: Mono) {
        if self.notes.len() >= NOTES_MAX && !self.notes.contains_key(&note) {
            let oldest = self.notes.iter().min_by_key(|(_, met)| met.last);
            if let Some(oldest) = oldest.map(|(note, _)| note.clone()) {
                self.notes.remove(&oldest);
            }
        }
        let met = self.notes.entry(note).or_insert(Met { last: now, times: 0 });
        *met = Met { last: now, times: met.times.saturating_add(1) };
    }

    /// A datagram of another cluster, or one that was made with another secret, has come from there. Whether its sender
    /// is to be told who is here.
    pub fn take_foreign(&mut self, from: &Address, gossip: &Gossip, now: Mono) -> bool {
        let (name, address) = (gossip.me.name.escape_debug().to_string(), from.clone());
        let note = if gossip.cluster == self.cluster {
            Note::OtherSecret { name, address }
        } else {
            let cluster = gossip.cluster.escape_debug().to_string();
            Note::OtherCluster { name, address, cluster, mine: self.cluster.clone() }
        };
        self.take(note, now);
        let answers = now >= self.next_answer;
        if answers {
            self.next_answer = now.plus_ms(ANSWER_MS);
        }
        answers
    }

    /// Forgets what is over.
    pub fn forget(&mut self, now: Mono) {
        self.notes.retain(|_, met| now.ms_since(met.last) <= NOTE_MS);
    }

    /// All of them in words, with what `members` say: nodes of one name, nodes of another layout, and nodes that do not
    /// hear this one or have no links with it, unless it is `barred`: then they do not want to.
    #[must_use]
    pub fn lines(
        &self,
        me: NodeId,
        mine: Option<u128>,
        members: &Membership,
        barred: bool,
        now: Mono,
    ) -> Vec<String> {
        let insists = |(note, met): &(&Note, &Met)| !note.may_be_noise() || met.times >= INSISTS;
        let mut lines: Vec<String> =
            self.notes.iter().filter(insists).map(|(note, _)| note.to_string()).collect();
        let heard: Vec<&Peer> = members
            .peers()
            .values()
            .filter(|peer| members.is_heard(peer.introduction.node, now))
            .collect();
        for (at, peer) in heard.iter().enumerate() {
            let (theirs, at_address) = (&peer.introduction, &peer.introduction.peer_address.0);
            if theirs.name == self.name {
                lines.push(format!(
                    "the node at {at_address} ({}) has the name {} too, as this one ({}): it is not counted with this one; give \
                     one of them another --node-id and an empty --data-dir",
                    theirs.node.short(),
                    self.name,
                    me.short()
                ));
            }
            // One that has just ended, and whose place the other takes, is heard for a while.
            let runs = |peer: &&Peer| members.is_alive(peer.introduction.node, now);
            let mut others = heard[..at].iter().copied().filter(runs);
            let other = others.find(|other| other.introduction.name == theirs.name);
            if let Some(other) = other.filter(|_| theirs.name != self.name && runs(peer)) {
                lines.push(format!(
                    "the nodes at {} ({}) and {at_address} ({}) both have the name {}: give one of them another --node-id and an \
                     empty --data-dir",
                    other.introduction.peer_address.0,
                    other.introduction.node.short(),
                    theirs.node.short(),
                    theirs.name
                ));
            }
            let founding = peer.endorsed.founding;
            if founding != 0 && mine.is_some_and(|mine| founding != mine) {
                lines.push(format!(
                    "{} at {at_address} serves another layout: two clusters have met, and stay two; to part them stop all nodes of \
                     both, then start each with --seeds of its own cluster only; or do so with one of them, with another --peer-port \
                     for each of its nodes",
                    theirs.name
                ));
            }
            let lasts = |since: Option<Mono>| since.is_some_and(|at| now.ms_since(at) >= DEAF_MS);
            if lasts(peer.deaf_since) && !barred {
                lines.push(format!(
                    "{} is heard and does not hear this node: nothing reaches it at {at_address}, which it advertises; look at its \
                     --advertise, and at what stands between the two",
                    theirs.name
                ));
            } else if lasts(peer.unlinked_since) && !barred {
                lines.push(format!(
                    "{} and this node hear each other, and one of the two cannot connect: {} advertises {at_address}, this node \
                     {}; look at --advertise of both, and at what keeps connections out between them",
                    theirs.name,
                    theirs.name,
                    members.me().peer_address.0
                ));
            }
        }
        lines
    }
}

impl Note {
    /// Whether one datagram that was damaged on its way would do.
    const fn may_be_noise(&self) -> bool {
        matches!(self, Note::OtherCluster { .. } | Note::OtherSecret { .. })
    }
}

impl std::fmt::Display for Note {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Note::OtherCluster { name, address, cluster, mine } => write!(
                f,
                "{name} at {} belongs to the cluster \"{cluster}\" and this node to \"{mine}\": neither hears the other; give both \
                 the same --cluster-name, or take one out of the other's --seeds",
                address.0
            ),
            Note::OtherSecret { name, address } => write!(
                f,
                "{name} at {} has another cluster secret than this node: neither hears the other; give both the same \
                 --cluster-secret-file, or none",
                address.0
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
                    Judgement::Behind => format!(
                        "its data directory is an older copy, or lacks files: start {boot} began with less than start {counts} \
                         had made durable"
                    ),
                    Judgement::Denied => format!(
                        "its data directory is a copy, or lacks files, as another node has told it at start {boot} or before"
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::NodeConfig;

    use crate::node_config::node_config;

    fn gossip(cluster: &str, name: &str) -> Gossip {
        let peer = NodeConfig {
            id: NodeId(2),
            cluster: cluster.to_owned(),
            name: name.to_owned(),
            peer_address: Address("claimed:1".to_owned()),
            ..node_config()
        };
        crate::gossip::gossip(&peer, &[])
    }

    fn shown(notes: &Notes) -> Vec<String> {
        let insisting = notes.notes.iter().filter(|(_, met)| met.times >= INSISTS);
        insisting.map(|(note, _)| note.to_string()).collect()
    }

    #[test]
    fn who_insists_with_another_secret_or_cluster_is_named_and_answered_now_and_then() {
        let mut notes = Notes::new("alpha", "rondo");
        let from = Address("10.0.0.2:7946".to_owned());
        let mut answers = 0;
        for ms in (0..2_000).step_by(100) {
            answers += u32::from(notes.take_foreign(
                &from,
                &gossip("rondo", "be\nta"),
                Mono(0).plus_ms(ms),
            ));
            if ms < 100 {
                assert!(
                    shown(&notes).is_empty(),
                    "a datagram that was damaged on its way accuses nobody"
                );
            }
        }
        assert_eq!(answers, 4);
        for _ in 0..INSISTS {
            notes.take_foreign(&from, &gossip("other", "gamma"), Mono(0).plus_ms(2_000));
        }
        insta::assert_snapshot!(shown(&notes).join("\n"));
        notes.forget(Mono(0).plus_ms(2_001 + NOTE_MS));
        assert!(shown(&notes).is_empty());
    }
}
