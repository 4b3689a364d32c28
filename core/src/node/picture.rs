//! A picture of a node, for people: made of what its machines say of themselves.
//!
//! A node is ready when a key's R and W primaries are reached: with no key in reach it serves nothing, and another node may. A
//! partition that lacks a quorum lacks it for every node, so it takes none of them away from a load balancer, which would
//! be left with nobody for the keys that can be served; it is told as a trouble. Only a node that has just started is not
//! ready before all partitions have one: it may not have met the others yet, who serve them meanwhile, and whoever
//! restarts nodes one after another waits for it.

use std::collections::BTreeMap;

use super::Node;
use super::cluster::Unheard;
use crate::config::MEETING_MS_MAX;
use crate::engine::Engine;
use crate::env::Mono;
use crate::id::NodeId;
use crate::layout::{Layout, Quorums};
use crate::status::{ChangeStatus, Counters, LayoutStatus, MemberStatus, Served, Status};

/// A change of layouts that takes longer than this is told as a trouble, with what it waits for, in milliseconds.
const CHANGE_MS_USUAL: u64 = 10_000;

impl Node {
    /// Whether an earlier node of this one's name still has the role that this one is to have. Whoever restarts nodes one after
    /// another has to wait for that: the next one may be lost too, and then more copies are away than a quorum can do without.
    fn place_taken(&self, layout: &Layout) -> Option<String> {
        let (me, name) = (self.cluster.me, &self.cluster.members.me().name);
        let earlier = layout.roles().iter().find(|role| role.name == *name && role.node != me)?;
        let word = self.cluster.word_of(earlier.node);
        (!layout.has(me)).then(|| {
            format!("the place of {name} in the layout is that of its predecessor {word}, and not this node's yet")
        })
    }

    /// A picture of this node, for people.
    #[must_use]
    pub fn status(&self, now: Mono, engine: &dyn Engine) -> Status {
        let mut waiting = self.cluster.waiting(now);
        let layout = self.cluster.rows.newest();
        let reached = |node| self.cluster.members.is_alive(node, now);
        let served = layout.map(|layout| Served::new(layout, reached));
        let mut troubles = self.shard.troubles(engine);
        if let (Some(layout), Some(served)) = (layout, served) {
            let meets = now.ms_since(self.started) < MEETING_MS_MAX;
            match lacking(served) {
                _ if served.quorum == 0 => waiting.push(none_served(layout, reached)),
                Some(some) if meets => waiting.push(some),
                some => troubles.extend(some),
            }
        }
        // Usually it takes moments.
        let lasts = self.cluster.progress.changes_for_ms(now) >= CHANGE_MS_USUAL;
        troubles.extend(self.cluster.waits_for_others().filter(|_| lasts));
        troubles.extend(self.out_of_reach(now).filter(|_| lasts));
        let change = self.change_status();
        troubles.extend(self.for_operators(&change.given_up, now));
        waiting.extend(self.cluster.barred.clone());
        waiting.extend(layout.and_then(|layout| self.place_taken(layout)));
        waiting.extend(self.shard.stalls(now));
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
                Some(self.cluster.rows.founding()).filter(|founding| *founding != 0),
                &self.cluster.members,
                self.cluster.barred.is_some(),
                now,
            ),
            layout: self
                .cluster
                .rows
                .live()
                .last()
                .map(|live| LayoutStatus::new(&live.layout, live.reference)),
            change,
            transfers: self.shard.transfers(self.cluster.view(), now),
            hints: self.shard.hints(self.cluster.view(), now),
            repairs: self.shard.repair_status(self.cluster.view(), now),
            purges: self.shard.purge_status(),
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

    fn change_status(&self) -> ChangeStatus {
        let rows = &self.cluster.rows;
        let owns = |layout: &Layout| {
            layout.units().filter(|&unit| layout.is_primary(self.cluster.me, unit)).count() as u64
        };
        ChangeStatus {
            live: rows.live().iter().map(|live| live.reference.version.0).collect(),
            proposed: rows.proposed().map(|one| one.reference.version.0),
            staged: self.changes().len() as u64,
            waits: self.cluster.waits_for_others(),
            awaited: self.cluster.awaited().iter().map(ToString::to_string).collect(),
            units: rows.newest().map_or(0, owns),
            partial: self.shard.partial_units(),
            given_up: self.given_up(),
        }
    }

    /// That units wait for nodes which are away and may alone have something of them, for people.
    fn out_of_reach(&self, now: Mono) -> Option<String> {
        let is_heard = |node| self.cluster.members.is_heard(node, now);
        let (units, nodes) = self.shard.out_of_reach(is_heard);
        let names: Vec<String> = nodes.iter().map(|&node| self.cluster.name_of(node)).collect();
        let commands = nodes.iter().map(|&node| {
            format!("`rondo cluster skip-dead {} --accept-loss`", self.cluster.word_of(node))
        });
        let commands: Vec<String> = commands.collect();
        (units > 0).then(|| {
            format!(
                "{units} partitions wait for writes that only {} may have; start it, or {} if it will not come back",
                names.join(", "),
                commands.join(" and ")
            )
        })
    }

    /// What operators have decided, and what is left for them to decide, for people.
    fn for_operators(&self, given_up: &[String], now: Mono) -> Vec<String> {
        let mut said = self.taken_out(now);
        if !given_up.is_empty() {
            let names = given_up.join(", ");
            said.push(format!(
                "what only {names} had is given up: an operator has accepted its loss"
            ));
        }
        let last = self.cluster.rows.live().last();
        let undecided =
            last.map(|last| self.cluster.staging.undecided(last, &self.cluster.members, now));
        said.extend(undecided.unwrap_or_default());
        said
    }

    /// That nodes have lost their roles as dead ones and run, this one or others, for people.
    fn taken_out(&self, now: Mono) -> Vec<String> {
        let Some(layout) = self.cluster.rows.newest() else {
            return Vec::new();
        };
        let is_out = |node: &&NodeId| !layout.has(**node);
        let out: Vec<NodeId> = layout.parts().gone.iter().filter(is_out).copied().collect();
        let version = layout.version().0;
        let mut said = Vec::new();
        if out.contains(&self.cluster.me) {
            said.push(format!(
                "layout {version} is live, and this node was taken out of it as dead: it passes requests on, and what it acknowledged \
                 since without the others is not part of the cluster; to join again start it with an empty --data-dir, and keep the \
                 old one if you need those writes"
            ));
        }
        let runs =
            |node: &NodeId| *node != self.cluster.me && self.cluster.members.is_heard(*node, now);
        let names: Vec<String> =
            out.into_iter().filter(runs).map(|one| self.cluster.name_of(one)).collect();
        if !names.is_empty() {
            said.push(format!(
                "taken out in layout {version} as dead, and running: {}; what was acknowledged there since is not part of the cluster; \
                 whoever is to come back starts with an empty --data-dir",
                names.join(", ")
            ));
        }
        said
    }

    fn member_statuses(&self, now: Mono) -> Vec<MemberStatus> {
        let members = &self.cluster.members;
        let heard = members.peers().values().map(|peer| (&peer.introduction, peer.heard));
        let all = heard.chain([(members.me(), Some(now))]);
        let mut statuses: Vec<MemberStatus> = all
            .map(|(of, heard)| MemberStatus {
                node: of.node.to_string(),
                name: of.name.clone(),
                peer_address: of.peer_address.0.clone(),
                client_address: of.client_address.0.clone(),
                state: self.detection.state(of.node, members, now),
                last_heard_ms: heard.map(|heard| now.ms_since(heard)),
                durable: self.cluster.lives.counted(of.node).map(|told| told.durable.0),
                me: of.node == self.cluster.me,
                in_layout: self.cluster.rows.newest().is_some_and(|layout| layout.has(of.node)),
                role: self.part(of.node),
            })
            .collect();
        statuses.extend(self.unmet());
        statuses.sort_by(|a, b| (&a.name, &a.node).cmp(&(&b.name, &b.node)));
        statuses
    }

    /// Nodes of the layouts of whom this one has not heard anything since it started.
    fn unmet(&self) -> impl Iterator<Item = MemberStatus> {
        let mut unmet: BTreeMap<NodeId, &str> = BTreeMap::new();
        for role in self.cluster.rows.live().iter().flat_map(|live| live.layout.roles()) {
            let is_met = self.cluster.members.peers().contains_key(&role.node);
            if !is_met && role.node != self.cluster.me {
                unmet.insert(role.node, &role.name);
            }
        }
        unmet.into_iter().map(|(node, name)| MemberStatus {
            node: node.to_string(),
            name: name.to_owned(),
            peer_address: String::new(),
            client_address: String::new(),
            state: "dead",
            last_heard_ms: None,
            durable: None,
            me: false,
            in_layout: self.cluster.rows.newest().is_some_and(|layout| layout.has(node)),
            role: self.part(node),
        })
    }

    /// What a node is in the live layouts, in a word.
    fn part(&self, node: NodeId) -> &'static str {
        let live = self.cluster.rows.live();
        let (Some(oldest), Some(newest)) = (live.first(), live.last()) else {
            return "outside";
        };
        match (oldest.layout.has(node), newest.layout.has(node)) {
            (true, true) => "member",
            (false, true) => "joining",
            (true, false) => "leaving",
            (false, false) => "outside",
        }
    }
}

/// Why no key can be served, for people.
fn none_served(layout: &Layout, is_up: impl Fn(NodeId) -> bool) -> String {
    let up = layout.roles().iter().filter(|role| is_up(role.node)).count();
    let Quorums { n, r, w } = layout.groups()[0].quorums;
    format!(
        "{up} of {} nodes are up: no key has R={r} and W={w} of its {n} replicas",
        layout.roles().len()
    )
}

/// That some keys cannot be served, for people.
fn lacking(served: Served) -> Option<String> {
    let (lacking, all) = (served.lacking(), served.partitions);
    (lacking > 0).then(|| {
        format!("{lacking} of {all} partitions have too few replicas up to be read and written at quorum")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::Role;
    use crate::layout::keyspace::Keyspace;

    #[test]
    fn what_is_served_is_told_by_r_and_w_of_keys_and_not_by_a_majority() {
        let role = |node| Role {
            node: NodeId(node),
            name: node.to_string(),
            weight: 1,
            zone: String::new(),
        };
        let wanted = Quorums { n: 3, r: 2, w: 2 };
        let roles = (1..=6).map(role).collect();
        let layout = Layout::first(64, wanted, roles, vec![Keyspace::default_keyspace()]);
        let served = |up: u128| Served::new(&layout, |node| node.0 <= up);
        assert_eq!((served(6).whole, lacking(served(6))), (64, None));
        let (two, five) = (served(2), served(5));
        assert!(two.quorum > 0 && two.lacking() > 0, "two of six serve what lies on both: {two:?}");
        assert_eq!(lacking(five), None, "one may always be away");
        assert!(lacking(two).is_some_and(|line| line.contains("of 64 partitions")));
        assert_eq!(served(1).quorum, 0);
        let line = none_served(&layout, |node| node.0 == 1);
        assert_eq!(line, "1 of 6 nodes are up: no key has R=2 and W=2 of its 3 replicas");
    }
}
