//! A picture of a node, for people: made of what its machines say of themselves.

use super::Node;
use super::cluster::Unheard;
use crate::engine::Engine;
use crate::env::Mono;
use crate::id::NodeId;
use crate::layout::{Layout, Quorums};
use crate::status::{Counters, LayoutStatus, MemberStatus, Served, Status};

impl Node {
    /// A picture of this node, for people.
    #[must_use]
    pub fn status(&self, now: Mono, engine: &dyn Engine) -> Status {
        let mut waiting = self.cluster.formation.waiting(&self.cluster.members, now);
        let layout = self.cluster.formation.live().map(|(layout, _)| layout);
        let reached = |node| self.cluster.members.is_alive(node, now);
        let served = layout.map(|layout| Served::new(layout, reached));
        let mut troubles = self.shard.troubles(engine);
        match (layout, served) {
            (Some(layout), Some(served)) if served.quorum == 0 => {
                waiting.push(too_few(layout, reached));
            }
            (_, Some(served)) if served.lacking() > 0 => troubles.push(format!(
                "{} of {} partitions have too few replicas up to be read and written at quorum",
                served.lacking(),
                served.partitions
            )),
            _ => {}
        }
        waiting.extend(self.cluster.barred.clone());
        if self.stop_by.is_some() {
            waiting.push("the node is stopping".to_owned());
        }
        let stats = engine.stats();
        let (keys, deleted_keys) = self.shard.keys(&stats);
        Status {
            node: self.cluster.me.to_string(),
            name: self.cluster.members.me().name.clone(),
            cluster: self.cluster.name.clone(),
            boot: self.cluster.life.boot.0,
            uptime_ms: now.ms_since(self.started),
            barred: self.cluster.barred.clone(),
            denied: self.cluster.lives.is_denied(),
            ready: waiting.is_empty(),
            waiting,
            notes: self.cluster.notes.lines(
                self.cluster.me,
                self.cluster.formation.live().map(|(_, reference)| reference),
                &self.cluster.members,
                self.cluster.barred.is_some(),
                now,
            ),
            layout: self
                .cluster
                .formation
                .live()
                .map(|(layout, reference)| LayoutStatus::new(layout, reference)),
            members: self.member_statuses(now),
            damaged_keys: self.shard.damaged_keys(),
            troubles,
            served,
            keys,
            deleted_keys,
            engine: stats,
            counters: self.counters(),
            in_flight: self.shard.in_flight(),
            memory: self.shard.memory(),
            clock_ahead_ms: self.cluster.members.clock_ahead_ms(now),
        }
    }

    /// What was done since start, by the node as a whole and by its shard.
    fn counters(&self) -> Counters {
        let Unheard { stale_layouts, lives_refused, malformed } = self.cluster.unheard;
        Counters { stale_layouts, lives_refused, malformed, ..self.shard.counters() }
    }

    fn member_statuses(&self, now: Mono) -> Vec<MemberStatus> {
        let peers = self.cluster.members.peers().values();
        let heard = peers.map(|peer| (&peer.introduction, peer.heard));
        let all = heard.chain([(self.cluster.members.me(), Some(now))]);
        let mut members: Vec<MemberStatus> = all
            .map(|(introduction, heard)| MemberStatus {
                node: introduction.node.to_string(),
                name: introduction.name.clone(),
                peer_address: introduction.peer_address.0.clone(),
                client_address: introduction.client_address.0.clone(),
                state: self.cluster.members.state(introduction.node, now),
                last_heard_ms: heard.map(|heard| now.ms_since(heard)),
                durable: self.cluster.lives.counted(introduction.node).map(|told| told.durable.0),
                me: introduction.node == self.cluster.me,
                in_layout: self
                    .cluster
                    .formation
                    .live()
                    .is_some_and(|(layout, _)| layout.has(introduction.node)),
            })
            .collect();
        members.sort_by(|a, b| (&a.name, &a.node).cmp(&(&b.name, &b.node)));
        members
    }
}

/// Why no key can be served, for people.
fn too_few(layout: &Layout, is_up: impl Fn(NodeId) -> bool) -> String {
    let up = layout.roles().iter().filter(|role| is_up(role.node)).count();
    let Quorums { n, r, w } = layout.quorums();
    format!(
        "{up} of {} nodes are up: no key has R={r} and W={w} of its {n} replicas",
        layout.roles().len()
    )
}
