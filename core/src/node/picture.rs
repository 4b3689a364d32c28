//! A picture of a node, for people: made of what its machines say of themselves.

use super::Node;
use crate::engine::Engine;
use crate::env::Mono;
use crate::status::{LayoutStatus, MemberStatus, MemoryStatus, Served, Status};

impl Node {
    /// A picture of this node, for people.
    #[must_use]
    pub fn status(&self, now: Mono, engine: &dyn Engine) -> Status {
        let mut waiting = self.formation.waiting(&self.members, now);
        let layout = self.formation.live().map(|(layout, _)| layout);
        if let Some(layout) = layout {
            let alive = layout.roles().iter();
            let alive = alive.filter(|role| self.members.is_alive(role.node, now)).count();
            if alive < layout.roles().len() / 2 + 1 {
                waiting.push(format!(
                    "{alive} of {} nodes are up: too few for a quorum",
                    layout.roles().len()
                ));
            }
        }
        waiting.extend(self.barred.clone());
        if self.stop_by.is_some() {
            waiting.push("the node is stopping".to_owned());
        }
        let reached = |node| self.members.is_alive(node, now);
        let stats = engine.stats();
        let (keys, deleted_keys) = self.replica.keys(&stats);
        Status {
            node: self.me.to_string(),
            name: self.name.clone(),
            cluster: self.cluster.clone(),
            boot: self.life.boot.0,
            uptime_ms: now.ms_since(self.started),
            barred: self.barred.clone(),
            denied: self.lives.is_denied(),
            ready: waiting.is_empty(),
            waiting,
            notes: self.notes.lines(
                self.me,
                self.formation.live().map(|(_, reference)| reference),
                &self.members,
                self.barred.is_some(),
                now,
            ),
            layout: self
                .formation
                .live()
                .map(|(layout, reference)| LayoutStatus::new(layout, reference)),
            members: self.member_statuses(now),
            damaged_keys: self.rotten.len() as u64,
            troubles: self.troubles(engine),
            served: layout.map(|layout| Served::new(layout, reached)),
            keys,
            deleted_keys,
            engine: stats,
            counters: self.counters_now(),
            in_flight: self.coordinator.len() as u64,
            memory: MemoryStatus {
                held: self.held.gauge(),
                parked: self.cold_reads.gauge(),
                in_flight: self.coordinator.gauge(),
                ..MemoryStatus::default()
            },
            clock_ahead_ms: self.members.clock_ahead_ms(now),
        }
    }

    fn member_statuses(&self, now: Mono) -> Vec<MemberStatus> {
        let peers = self.members.peers().values();
        let heard = peers.map(|peer| (&peer.introduction, peer.heard));
        let all = heard.chain([(self.members.me(), Some(now))]);
        let mut members: Vec<MemberStatus> = all
            .map(|(introduction, heard)| MemberStatus {
                node: introduction.node.to_string(),
                name: introduction.name.clone(),
                peer_address: introduction.peer_address.0.clone(),
                client_address: introduction.client_address.0.clone(),
                state: self.members.state(introduction.node, now),
                last_heard_ms: heard.map(|heard| now.ms_since(heard)),
                durable: self.lives.counted(introduction.node).map(|told| told.durable.0),
                me: introduction.node == self.me,
                in_layout: self
                    .formation
                    .live()
                    .is_some_and(|(layout, _)| layout.has(introduction.node)),
            })
            .collect();
        members.sort_by(|a, b| (&a.name, &a.node).cmp(&(&b.name, &b.node)));
        members
    }
}
