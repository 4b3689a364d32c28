//! What an operator asks of the cluster, done at the node that he asks.
//!
//! What is staged goes to all nodes; whoever is asked to commit makes the next layout, endorses it and offers it to the others. It is
//! in force when more than half of the nodes have endorsed it.

use std::collections::BTreeSet;

use super::Node;
use super::cluster::Cluster;
use crate::admin::{
    AdminReply, AdminRequest, Change, Done, KeyspaceStatus, KeyspaceWish, LayoutNode, Layouts,
    LiveLayout, Plan, PlannedNode, Refused, Why,
};
use crate::change::staging::role;
use crate::env::Mono;
use crate::error::Result;
use crate::id::NodeId;
use crate::layout::keyspace::DEFAULT;
use crate::layout::staged::{Definition, Subject, Wish};
use crate::layout::{Layout, Quorums, Role, live};
use crate::step::Env;
use crate::wire::layout::encode_layout;
use crate::wire::member::Introduction;

impl Node {
    /// Does what an operator asks. `Err`: the disk failed, and the node must stop.
    pub fn admin(&mut self, request: AdminRequest, env: &mut impl Env) -> Result<AdminReply> {
        let now = env.mono();
        match request {
            AdminRequest::Layout => Ok(Ok(Done::Layouts(self.layouts()))),
            AdminRequest::Stage(change) => match self.wish(&change) {
                Ok(wish) => self.stage(vec![wish], env),
                Err(refused) => Ok(Err(refused)),
            },
            AdminRequest::Unstage => {
                let open: Vec<Subject> = self.open().map(|(subject, _)| subject.clone()).collect();
                self.stage(open.into_iter().map(|subject| (subject, Wish::Nothing)).collect(), env)
            }
            AdminRequest::Plan => Ok(self
                .next(env)
                .map(|(last, next)| Done::Plan(plan(&last, &next, self.changes())))),
            AdminRequest::Commit { expected } => match self.next(env) {
                Ok((_, next)) if expected.is_some_and(|version| version != next.version().0) => {
                    Ok(Err(Refused::new(
                        Why::Conflict,
                        format!(
                            "the next layout is {}, not the one that was planned",
                            next.version().0
                        ),
                        "plan again, and look at it",
                    )))
                }
                Ok((_, next)) => self.propose(next, env),
                Err(refused) => Ok(Err(refused)),
            },
            AdminRequest::Apply(change) => self.apply(&change, env),
            AdminRequest::Merkle { partition } => Ok(self.merkle(partition, now)),
            AdminRequest::Repair => Ok(self.compare_soon(now)),
            AdminRequest::SkipDead { node, accepts_loss } => {
                match self.skipped(&node, accepts_loss, now) {
                    Ok(wish) => self.stage(vec![wish], env),
                    Err(refused) => Ok(Err(refused)),
                }
            }
        }
    }

    fn stage(&mut self, wishes: Vec<(Subject, Wish)>, env: &mut impl Env) -> Result<AdminReply> {
        let Cluster { staging, rows, members, .. } = &mut self.cluster;
        let is_staged = staging.stage(wishes, (rows.newest(), members), env)?;
        Ok(if is_staged {
            Ok(Done::Layouts(self.layouts()))
        } else {
            Err(Refused::new(Why::NotNow, "too much is staged", "commit it, or take it back"))
        })
    }

    fn apply(&mut self, change: &Change, env: &mut impl Env) -> Result<AdminReply> {
        let (wish, last) = match self.wish(change).and_then(|wish| Ok((wish, self.last(env)?))) {
            Ok(both) => both,
            Err(Refused { why: Why::NotNow, message, .. }) => {
                let hint = "nothing was staged; ask again when it is done";
                return Ok(Err(Refused::new(Why::NotNow, message, hint)));
            }
            Err(refused) => return Ok(Err(refused)),
        };
        let cluster = &self.cluster;
        let next = cluster.staging.plan_one(&last, wish.clone(), &cluster.members, env.mono());
        let next = match next {
            // It is so already, and in force: whoever asks twice is told what who asked once was told.
            Ok(None) => return Ok(Ok(Done::proposed(last.reference))),
            next => match made(next) {
                Ok(next) => next,
                Err(refused) => return Ok(Err(refused)),
            },
        };
        match self.stage(vec![wish], env)? {
            Ok(_) => self.propose(next, env),
            refused => Ok(refused),
        }
    }

    fn propose(&mut self, next: Layout, env: &mut impl Env) -> Result<AdminReply> {
        let reference = next.reference(&encode_layout(&next));
        let is_endorsed = self.cluster.rows.endorse(next.into(), env.engine())?;
        Ok(if is_endorsed {
            Ok(Done::proposed(reference))
        } else {
            Err(Refused::new(
                Why::NotNow,
                "the disk has no room to note the next layout: nothing was changed",
                "give it room, and commit again",
            ))
        })
    }

    /// The live layout that another one may follow now.
    fn last(&self, env: &mut impl Env) -> Result<live::LiveLayout, Refused> {
        if let Some(why) = &self.cluster.barred {
            return Err(Refused::new(Why::NotNow, why.clone(), "ask another node"));
        }
        let durable = env.engine().durable();
        self.cluster.rows.last(durable).cloned().ok_or_else(|| {
            let waits = self.cluster.waits_for_others();
            let waits = waits.or_else(|| {
                let proposed = self.cluster.rows.proposed()?;
                Some(format!("layout {} waits for endorsements", proposed.reference.version.0))
            });
            Refused::new(
                Why::NotNow,
                waits.unwrap_or_else(|| "no layout is live yet".to_owned()),
                "wait until it is done, and ask again; what is staged stays",
            )
        })
    }

    /// That one, and what a commit would make.
    fn next(&self, env: &mut impl Env) -> Result<(live::LiveLayout, Layout), Refused> {
        let last = self.last(env)?;
        let next = self.cluster.staging.plan(&last, &self.cluster.members, env.mono());
        Ok((last, made(next)?))
    }

    /// The names of the nodes of which it is given up what they alone may have, while a layout comes.
    pub(super) fn given_up(&self) -> Vec<String> {
        let rows = &self.cluster.rows;
        let coming = rows.proposed().or(rows.change().map(|(_, newer)| newer));
        let version = coming.map(|coming| coming.reference.version);
        let staged = self.cluster.staging.staged();
        let nodes = version.into_iter().flat_map(|version| staged.given_up(version));
        nodes.map(|node| self.cluster.name_of(node)).collect()
    }

    /// What is staged and not in the newest live layout.
    fn open(&self) -> impl Iterator<Item = (&Subject, &Wish)> {
        let newest = self.cluster.rows.newest();
        let wishes = self.cluster.staging.staged().wishes();
        let wishes = wishes.map(|(subject, stamped)| (subject, &stamped.wish));
        wishes.filter(move |(subject, wish)| {
            newest.is_some_and(|layout| !layout.grants(subject, wish))
        })
    }

    pub(super) fn changes(&self) -> Vec<Change> {
        self.open().filter_map(|(subject, wish)| self.shown_wish(subject, wish)).collect()
    }

    fn shown_wish(&self, subject: &Subject, wish: &Wish) -> Option<Change> {
        let name = |node: NodeId| match self.role(node) {
            Some(role) => role.name.clone(),
            None => self.cluster.members.name(node),
        };
        Some(match (subject, wish) {
            (Subject::Node(_), Wish::Role { role, replaces: Some(old), .. }) => {
                Change::Replace { old: name(*old), new: role.name.clone() }
            }
            (Subject::Node(_), Wish::Role { role, .. }) => Change::Join {
                node: role.name.clone(),
                weight: Some(role.weight),
                zone: Some(role.zone.clone()),
            },
            (Subject::Node(node), Wish::Removed) => Change::Leave { node: name(*node) },
            (
                Subject::Keyspace(name),
                Wish::Keyspace(Definition { quorums, policy, level, ttl_ms, sloppy }),
            ) => {
                let Quorums { n, r, w } = *quorums;
                let (level, policy, ttl_ms) = (Some(*level), Some(*policy), Some(*ttl_ms));
                let (n, r, w) = (Some(n), Some(r), Some(w));
                let sloppy = Some(*sloppy);
                let wanted = KeyspaceWish { n, r, w, level, policy, ttl_ms, sloppy };
                Change::Keyspace { name: name.clone(), wanted }
            }
            (Subject::Keyspace(name), Wish::Dropped) => Change::DropKeyspace { name: name.clone() },
            _ => return None,
        })
    }

    fn role(&self, node: NodeId) -> Option<&Role> {
        self.cluster.rows.newest()?.roles().iter().find(|role| role.node == node)
    }

    /// What a change is about, and what it wants of that.
    fn wish(&self, change: &Change) -> Result<(Subject, Wish), Refused> {
        let layout = self.cluster.rows.newest().ok_or_else(|| {
            Refused::new(Why::NotNow, "no layout is live yet", "wait until the cluster has formed")
        })?;
        match change {
            Change::Join { node, weight, zone } => {
                if *weight == Some(0) {
                    return Err(Refused::new(
                        Why::Bad,
                        "a weight is at least 1",
                        "to take the node out, let it leave",
                    ));
                }
                let node = self.named(node)?;
                let mut role = self.new_role(layout, node)?;
                role.weight = weight.unwrap_or(role.weight);
                role.zone = zone.clone().unwrap_or(role.zone);
                let wish = Wish::Role { role, replaces: None, by_itself: false };
                Ok((Subject::Node(node), wish))
            }
            Change::Leave { node } => {
                let node = self.named(node)?;
                if !layout.has(node)
                    && self.cluster.staging.staged().wish(&Subject::Node(node)).is_none()
                {
                    return Err(Refused::new(
                        Why::Conflict,
                        format!("{} is not in the layout", self.cluster.members.name(node)),
                        "rondo status shows who is",
                    ));
                }
                Ok((Subject::Node(node), Wish::Removed))
            }
            Change::Replace { old, new } => {
                let replaces = Some(self.member(layout, old)?);
                let node = self.stranger(layout, new)?;
                if layout.has(node) {
                    return Err(Refused::new(
                        Why::Conflict,
                        format!("{new} is in the layout already, and takes nobody's place"),
                        "name a node that runs and has no part in the data; or let the other one leave",
                    ));
                }
                let role = self.new_role(layout, node)?;
                Ok((Subject::Node(node), Wish::Role { role, replaces, by_itself: false }))
            }
            Change::Keyspace { name, wanted } => {
                let definition = definition(layout, name, *wanted);
                Ok((Subject::Keyspace(name.clone()), Wish::Keyspace(definition)))
            }
            Change::DropKeyspace { name } => match layout.keyspace(name) {
                Some(_) => Ok((Subject::Keyspace(name.clone()), Wish::Dropped)),
                None => Err(Refused::new(
                    Why::Unknown,
                    format!("there is no keyspace {name}"),
                    "rondo keyspace list shows them",
                )),
            },
        }
    }

    fn skipped(
        &self,
        node: &str,
        accepts_loss: bool,
        now: Mono,
    ) -> Result<(Subject, Wish), Refused> {
        let node = self.silent(node, now)?;
        let rows = &self.cluster.rows;
        let coming = rows.proposed().or(rows.change().map(|(_, newer)| newer));
        let Some(coming) = coming else {
            return Err(Refused::new(
                Why::Conflict,
                "no layout takes the place of another now: nobody waits for anybody",
                "to take a dead node out, let it leave",
            ));
        };
        if self.cluster.members.is_heard(node, now) {
            return Err(Refused::new(
                Why::Conflict,
                format!("{} is not dead: it is heard", self.cluster.name_of(node)),
                "look at what it waits for itself",
            ));
        }
        let version = coming.reference.version;
        // Who has given up what a node alone has does not take that back by waiting no longer.
        let is_given_up = self.cluster.staging.staged().given_up(version).any(|one| one == node);
        let wish = match accepts_loss || is_given_up {
            true => Wish::GivenUp(version),
            false => Wish::Skipped(version),
        };
        Ok((Subject::Wait(node), wish))
    }

    /// The role that a node would have: as it has one, or as it introduces itself.
    fn new_role(&self, layout: &Layout, node: NodeId) -> Result<Role, Refused> {
        if layout.parts().removed.contains(&node) {
            return Err(Refused::new(
                Why::Conflict,
                format!(
                    "{} has left this cluster, and its data may be gone",
                    self.cluster.members.name(node)
                ),
                "start it with an empty --data-dir: then it joins as a new node",
            ));
        }
        if let Some(role) = layout.roles().iter().find(|role| role.node == node) {
            return Ok(role.clone());
        }
        if self.cluster.members.is_of_another(node, self.cluster.rows.founding()) {
            return Err(Refused::new(
                Why::Conflict,
                format!("{} serves another cluster's layout", self.cluster.members.name(node)),
                "start it with an empty --data-dir: then it joins as a new node",
            ));
        }
        let peers = self.cluster.members.peers();
        let of = peers.get(&node).map(|peer| &peer.introduction);
        let me = self.cluster.members.me();
        let of: Option<&Introduction> = of.or_else(|| Some(me).filter(|me| me.node == node));
        of.map(role).ok_or_else(|| unknown(&node.to_string()))
    }

    /// The node that people mean, by its name or by the beginning of its id: of all that are known. Of several of one name it is the
    /// member: the other one was replaced, or stays outside because of its name.
    fn named(&self, text: &str) -> Result<NodeId, Refused> {
        let newest = self.cluster.rows.newest();
        let is_member = |node: NodeId| newest.is_some_and(|layout| layout.has(node));
        the_one(text, rather(self.meant(text), is_member))
    }

    /// The node that is not heard, of those that people may mean: of several the one that has a role in a live layout.
    fn silent(&self, text: &str, now: Mono) -> Result<NodeId, Refused> {
        let live = self.cluster.rows.live();
        let is_silent = |node| !self.cluster.members.is_heard(node, now);
        let has_role = |node| live.iter().any(|live| live.layout.has(node));
        the_one(text, rather(rather(self.meant(text), is_silent), has_role))
    }

    /// The nodes that have this name, of all that are known; where none has it, those whose id begins so.
    fn meant(&self, text: &str) -> Vec<NodeId> {
        let all = |is_it: &dyn Fn(NodeId, &str) -> bool| {
            let found = self.cluster.known().filter(|&(node, name)| is_it(node, name));
            let nodes: BTreeSet<NodeId> = found.map(|(node, _)| node).collect();
            nodes.into_iter().collect::<Vec<_>>()
        };
        let nodes = all(&|_, name| name == text);
        if nodes.is_empty() && text.len() >= 4 {
            return all(&|node, _| node.to_string().starts_with(text));
        }
        nodes
    }

    /// A node of the layout. Of two with one name it is the one that has the role.
    fn member(&self, layout: &Layout, text: &str) -> Result<NodeId, Refused> {
        let role = layout.roles().iter().find(|role| role.name == text);
        let node = role.map_or_else(|| self.named(text), |role| Ok(role.node))?;
        layout.has(node).then_some(node).ok_or_else(|| unknown(text))
    }

    /// A node that runs and is not in the layout. Of two with one name it is the one that has no role.
    fn stranger(&self, layout: &Layout, text: &str) -> Result<NodeId, Refused> {
        let peers = self.cluster.members.peers().values().map(|peer| &peer.introduction);
        let found =
            peers.filter(|of| of.name == text && !layout.has(of.node)).map(|of| of.node).next();
        found.map_or_else(|| self.named(text), Ok)
    }

    /// Which layouts are live, and what is staged.
    fn layouts(&self) -> Layouts {
        let live = self.cluster.rows.live();
        Layouts {
            live: live.iter().map(shown).collect(),
            proposed: self.cluster.rows.proposed().map(|one| one.reference.version.0),
            staged: self.changes(),
            given_up: self.given_up(),
            keyspaces: live.last().map_or(Vec::new(), |newest| keyspaces(&newest.layout)),
        }
    }
}

/// Those for whom this is so; all of them where it is so for none.
fn rather(mut nodes: Vec<NodeId>, is_so: impl Fn(NodeId) -> bool) -> Vec<NodeId> {
    if nodes.iter().any(|&node| is_so(node)) {
        nodes.retain(|&node| is_so(node));
    }
    nodes
}

fn the_one(text: &str, nodes: Vec<NodeId>) -> Result<NodeId, Refused> {
    match nodes[..] {
        [node] => Ok(node),
        [] => Err(unknown(text)),
        _ => {
            let ids: Vec<String> = nodes.iter().map(|node| node.short()).collect();
            Err(Refused::new(
                Why::Conflict,
                format!("{text} means several nodes: {}", ids.join(", ")),
                "name the one by the beginning of its id",
            ))
        }
    }
}

fn unknown(node: &str) -> Refused {
    Refused::new(
        Why::Unknown,
        format!("no node is known as {node}"),
        "rondo status shows all that are",
    )
}

fn made(next: Result<Option<Layout>, String>) -> Result<Layout, Refused> {
    match next {
        Ok(Some(next)) => Ok(next),
        Ok(None) => Err(Refused::new(
            Why::Conflict,
            "nothing is staged that is not in force",
            "stage a change first",
        )),
        Err(why) => Err(Refused::new(Why::Bad, why, "stage it in another way, or take it back")),
    }
}

fn definition(layout: &Layout, name: &str, wanted: KeyspaceWish) -> Definition {
    let own = layout.keyspace(name);
    let model = own.or_else(|| layout.keyspace(DEFAULT));
    let group = model.and_then(|model| layout.group(model.group));
    let has = group.map_or(Quorums { n: 3, r: 2, w: 2 }, |group| group.wanted);
    let n = wanted.n.unwrap_or(has.n);
    let r = wanted.r.unwrap_or(if n == has.n { has.r } else { n / 2 + 1 });
    let w = wanted.w.unwrap_or(if n == has.n { has.w } else { n / 2 + 1 });
    let policy = wanted.policy.or(model.map(|model| model.policy));
    let level = wanted.level.or(model.map(|model| model.level));
    let default = crate::layout::keyspace::Keyspace::default_keyspace();
    Definition {
        quorums: Quorums { n, r, w },
        policy: policy.unwrap_or(default.policy),
        level: level.unwrap_or(default.level),
        // What `default` forgets is no reason for another one to forget.
        ttl_ms: wanted.ttl_ms.or(own.map(|own| own.ttl_ms)).unwrap_or(0),
        sloppy: wanted.sloppy.or(own.map(|own| own.sloppy)).unwrap_or(false),
    }
}

fn plan(last: &live::LiveLayout, next: &Layout, changes: Vec<Change>) -> Plan {
    let before = &last.layout;
    let moves = next.moves_since(before);
    let owns = |layout: &Layout, node: NodeId| {
        layout.units().filter(|&unit| layout.is_primary(node, unit)).count() as u64
    };
    let all = next.roles().iter().chain(before.roles().iter().filter(|role| !next.has(role.node)));
    let mut nodes: Vec<PlannedNode> = all
        .map(|role| PlannedNode {
            name: role.name.clone(),
            node: role.node.to_string(),
            zone: role.zone.clone(),
            owns: owns(before, role.node),
            will_own: owns(next, role.node),
            gets: moves.iter().filter(|one| one.to == role.node).count() as u64,
        })
        .collect();
    nodes.sort_by(|a, b| (&a.name, &a.node).cmp(&(&b.name, &b.node)));
    let replicas = next.groups().iter().map(|group| group.owners.len() as u64).sum();
    Plan { version: next.version().0, changes, nodes, moves: moves.len() as u64, replicas }
}

fn shown(live: &live::LiveLayout) -> LiveLayout {
    let node = |role: &crate::layout::Role| LayoutNode {
        name: role.name.clone(),
        node: role.node.to_string(),
        weight: role.weight,
        zone: role.zone.clone(),
    };
    let mut nodes: Vec<LayoutNode> = live.layout.roles().iter().map(node).collect();
    nodes.sort();
    let reference = live.reference;
    LiveLayout { version: reference.version.0, digest: format!("{:032x}", reference.digest), nodes }
}

fn keyspaces(layout: &Layout) -> Vec<KeyspaceStatus> {
    let mut all: Vec<KeyspaceStatus> = Vec::new();
    for keyspace in layout.keyspaces() {
        let group = layout.group(keyspace.group).expect("the group of every keyspace is there");
        all.push(KeyspaceStatus {
            name: keyspace.name.clone(),
            id: keyspace.id.0,
            quorums: group.quorums,
            wanted: group.wanted,
            level: keyspace.level,
            policy: keyspace.policy,
            ttl_ms: keyspace.ttl_ms,
            sloppy: keyspace.sloppy,
        });
    }
    all.sort_by(|a, b| a.name.cmp(&b.name));
    all
}
