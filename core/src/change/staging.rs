//! What is wanted of the next layout, spread to all nodes, and made a layout of.
//!
//! A node that wants a role by itself is given one by one node only, the one of the layout's nodes that is heard and has the
//! smallest id: it waits a second for others, so that nodes that are started together make one layout. A new node with the name of a
//! dead one takes its place: that is how a lost disk is replaced. Dead is who was convicted by the failure detectors, as a node sees
//! it that more than half of the layout's nodes hear and answer: what one node alone does not hear proves nothing.
//!
//! Invariants: what is staged is durable as any record of the node's own, and comes back from the others if it was not; it
//! changes nothing until it is committed; a commit follows the one layout that is live, and waits while two are; a node that serves a
//! layout of another founding is let in by nobody, and nothing that it wants is learnt.

use std::sync::Arc;

use bytes::Bytes;
use smallvec::SmallVec;

use crate::config::NodeConfig;
use crate::engine::{Batch, Change, Engine};
use crate::env::Mono;
use crate::error::{Error, Result};
use crate::id::{LayoutVersion, Life, Lsn, NodeId};
use crate::layout::live::LiveLayout;
use crate::layout::staged::{Staged, Subject, WISHES_KEPT, Wish};
use crate::layout::{Layout, Role};
use crate::member::membership::Membership;
use crate::quorum;
use crate::sometimes;
use crate::step::Env;
use crate::wire::layout::{LayoutMessage, decode_staged, encode_staged};
use crate::wire::member::Introduction;
use crate::wire::message::{Envelope, Message};

use super::rows::Rows;

/// How long the node that commits by itself waits for others that join, in milliseconds.
const BATCH_MS: u64 = 1_000;
/// How often all that is staged is told to one more node, in milliseconds.
const SPREAD_MS: u64 = 10_000;
/// The engine key of what is staged. All keys below 1 are the node's own (see `replica`).
const STAGED_KEY: &[u8] = b"\0layout-staged";

/// What is staged here.
#[derive(Debug)]
pub struct Staging {
    me: NodeId,
    life: Life,
    staged: Arc<Staged>,
    /// Since when somebody waits to be let in by itself.
    asked_since: Option<Mono>,
    next_spread: Mono,
    turn: usize,
}

impl Staging {
    /// Reads what an earlier life knew. What cannot be read comes back from the others.
    pub fn load(config: &NodeConfig, engine: &mut dyn Engine) -> Result<Staging> {
        let page = match engine.scan_from(STAGED_KEY, 1, usize::MAX) {
            Err(Error::Disk(error)) => return Err(Error::Disk(error)),
            page => page.map(|page| page.records).unwrap_or_default(),
        };
        let record = page.into_iter().find(|(key, _)| key == STAGED_KEY);
        let staged = record.and_then(|(_, record)| decode_staged(&record.body).ok());
        Ok(Staging {
            me: config.id,
            life: config.life,
            staged: Arc::new(staged.unwrap_or_default()),
            asked_since: None,
            next_spread: Mono(0),
            turn: 0,
        })
    }

    /// What must hold between steps. Panics when it does not.
    pub fn invariants(&self) {
        self.staged.invariants();
    }

    /// All of it.
    #[must_use]
    pub fn staged(&self) -> &Staged {
        &self.staged
    }

    /// Takes wishes on at this node, and tells the others. `false`: there is no room for them, and nothing was staged.
    pub fn stage(
        &mut self,
        wishes: Vec<(Subject, Wish)>,
        (newest, members): (Option<&Layout>, &Membership),
        env: &mut impl Env,
    ) -> Result<bool> {
        let mut staged = Staged::clone(&self.staged);
        make_room(&mut staged, newest);
        let wall_ms = env.wall().0;
        for (subject, wish) in wishes {
            if !staged.stage(subject, wish, self.me, wall_ms) {
                return Ok(false);
            }
        }
        self.keep(staged, env.engine())?;
        self.tell_all(members, None, env);
        Ok(true)
    }

    /// A peer tells what is staged there. What is new here goes on to the others.
    pub fn on_staged(
        &mut self,
        from: NodeId,
        theirs: &Staged,
        (newest, members): (Option<&Layout>, &Membership),
        env: &mut impl Env,
    ) -> Result<()> {
        let merged = self.staged.merged(theirs);
        if merged == *self.staged {
            if merged != *theirs {
                env.send(from, self.told());
            }
            return Ok(());
        }
        let mut staged = merged;
        make_room(&mut staged, newest);
        self.keep(staged, env.engine())?;
        self.tell_all(members, Some(from), env);
        Ok(())
    }

    /// Lets those in who ask for it, when this node is the one to do so, and tells one more node what is staged. Returns a layout to
    /// endorse.
    pub fn tick(
        &mut self,
        rows: &Rows,
        members: &Membership,
        env: &mut impl Env,
    ) -> Result<Option<Arc<Layout>>> {
        let now = env.mono();
        if now >= self.next_spread {
            self.next_spread = now.plus_ms(SPREAD_MS);
            self.tell_one(members, env);
        }
        self.pass_over_replaced(rows, members, env)?;
        let durable = env.engine().durable();
        let Some(last) = rows.last(durable).cloned() else {
            self.asked_since = None;
            return Ok(None);
        };
        let is_heard = |node: NodeId| members.is_heard(node, now);
        let first = last.layout.roles().iter().map(|role| role.node).find(|&node| is_heard(node));
        if first != Some(self.me) {
            self.asked_since = None;
            return Ok(None);
        }
        let asked = self.asked(&last, members, now);
        if !asked.is_empty() {
            self.stage(asked, (Some(&last.layout), members), env)?;
        }
        // Who has asked may be gone since, or may have found another cluster: its layout would wait for it.
        let founding = last.layout.founding(last.reference);
        let is_there =
            |node| last.layout.has(node) || is_heard(node) && members.belongs_to(node, founding);
        let by_themselves = self.staged.by_themselves(is_there);
        let made = last.layout.after(last.reference, &by_themselves, |node| !is_heard(node));
        let Ok(Some(layout)) = made else {
            self.asked_since = None;
            return Ok(None);
        };
        let since = *self.asked_since.get_or_insert(now);
        if now.ms_since(since) < BATCH_MS {
            return Ok(None);
        }
        self.asked_since = None;
        sometimes!(env, NodeJoinedByItself);
        Ok(Some(Arc::new(layout)))
    }

    /// The layout that a commit of all that is staged would make. `Ok(None)`: there is nothing new.
    pub fn plan(
        &self,
        last: &LiveLayout,
        members: &Membership,
        now: Mono,
    ) -> Result<Option<Layout>, String> {
        let founding = last.layout.founding(last.reference);
        let staged = self.staged.but_for(|node| members.is_of_another(node, founding));
        last.layout.after(last.reference, &staged, |node| !members.is_heard(node, now))
    }

    /// The layout of a single change.
    pub fn plan_one(
        &self,
        last: &LiveLayout,
        (subject, wish): (Subject, Wish),
        members: &Membership,
        now: Mono,
    ) -> Result<Option<Layout>, String> {
        let mut one = Staged::default();
        one.stage(subject, wish, self.me, 0);
        last.layout.after(last.reference, &one, |node| !members.is_heard(node, now))
    }

    /// While two layouts are live: nobody waits for a dead node that another one of its name is there to replace. The replacement itself
    /// is the next change, which could not come as long as the dead one is waited for.
    fn pass_over_replaced(
        &mut self,
        rows: &Rows,
        members: &Membership,
        env: &mut impl Env,
    ) -> Result<()> {
        let now = env.mono();
        let Some((older, newer)) = rows.change() else {
            return Ok(());
        };
        let mut roles = newer.layout.roles().iter();
        if roles.find(|role| members.is_heard(role.node, now)).map(|role| role.node)
            != Some(self.me)
        {
            return Ok(());
        }
        let awaited = rows.awaited(&self.staged);
        let newcomers: Vec<&Introduction> = self.newcomers(newer, members, now).collect();
        let roles = older.layout.roles().iter().chain(newer.layout.roles());
        let replaced = roles.filter(|role| {
            awaited.contains(&role.node)
                && newcomers.iter().any(|of| of.name == role.name)
                && kept_by(role, &newer.layout, members, now).is_none()
        });
        let wish = Wish::Skipped(newer.reference.version);
        let mut wishes: Vec<(Subject, Wish)> =
            replaced.map(|role| (Subject::Wait(role.node), wish.clone())).collect();
        wishes.dedup();
        if !wishes.is_empty() {
            sometimes!(env, ReplacedPassedOver);
            self.stage(wishes, (Some(&newer.layout), members), env)?;
        }
        Ok(())
    }

    /// Who is heard, has no role in a layout, and wants one.
    fn newcomers<'a>(
        &'a self,
        live: &'a LiveLayout,
        members: &'a Membership,
        now: Mono,
    ) -> impl Iterator<Item = &'a Introduction> {
        let layout = &*live.layout;
        let founding = layout.founding(live.reference);
        members.peers().values().map(|peer| &peer.introduction).filter(move |of| {
            of.joins
                && members.is_heard(of.node, now)
                && members.belongs_to(of.node, founding)
                && !layout.has(of.node)
                && !layout.parts().removed.contains(&of.node)
        })
    }

    /// Newcomers with the name of a dead node whose place they do not take by themselves, and what to do, for people.
    #[must_use]
    pub fn undecided(&self, live: &LiveLayout, members: &Membership, now: Mono) -> Vec<String> {
        let mut said = Vec::new();
        for of in self.newcomers(live, members, now) {
            let role = live.layout.roles().iter().find(|role| role.name == of.name);
            let Some(role) = role.filter(|role| members.is_dead(role.node, now)) else {
                continue;
            };
            if let Some(why) = kept_by(role, &live.layout, members, now) {
                let (name, old, new) = (&role.name, role.node.short(), of.node.short());
                said.push(format!(
                    "{name} ({new}) does not take the place of the dead {name} ({old}) by itself: {why}; if {old} is lost for good, \
                     `rondo cluster replace {old} {new}`, `rondo cluster commit`, and `rondo cluster skip-dead {old} --accept-loss` \
                     if that waits"
                ));
            }
        }
        said
    }

    /// Who gets a role by itself: with the dead node of the same name, if there is one, whose place it takes.
    fn asked(&self, last: &LiveLayout, members: &Membership, now: Mono) -> Vec<(Subject, Wish)> {
        let layout = &*last.layout;
        let is_open = |of: &&Introduction| {
            !matches!(
                self.staged.wish(&Subject::Node(of.node)),
                Some(Wish::Role { .. } | Wish::Removed)
            )
        };
        let mut asked: Vec<(Subject, Wish)> = Vec::new();
        for of in self.newcomers(last, members, now).filter(is_open) {
            let same = layout.roles().iter().find(|role| role.name == of.name);
            if same.is_some_and(|role| kept_by(role, layout, members, now).is_some()) {
                continue;
            }
            let is_taken = asked
                .iter()
                .any(|(_, wish)| matches!(wish, Wish::Role { role, .. } if role.name == of.name));
            if !is_taken {
                let replaces = same.map(|role| role.node);
                let wish = Wish::Role { role: role(of), replaces, by_itself: true };
                asked.push((Subject::Node(of.node), wish));
            }
        }
        asked
    }

    fn keep(&mut self, staged: Staged, engine: &mut dyn Engine) -> Result<()> {
        self.staged = Arc::new(staged);
        let body = SmallVec::from_iter([encode_staged(&self.staged)]);
        let key = Bytes::from_static(STAGED_KEY);
        let change = Change::Put { key, head: Bytes::new(), body, delta: 0 };
        match engine.write(&Batch { changes: [change].into_iter().collect() }) {
            // The others have it too.
            Err(error) if error.wrote_nothing() => Ok(()),
            written => written.map(drop),
        }
    }

    fn tell_all(&self, members: &Membership, but: Option<NodeId>, env: &mut impl Env) {
        for &node in members.peers().keys().filter(|node| Some(**node) != but) {
            env.send(node, self.told());
        }
    }

    fn tell_one(&mut self, members: &Membership, env: &mut impl Env) {
        if members.peers().is_empty() || self.staged.wishes().next().is_none() {
            return;
        }
        self.turn = (self.turn + 1) % members.peers().len();
        if let Some(&node) = members.peers().keys().nth(self.turn) {
            env.send(node, self.told());
        }
    }

    fn told(&self) -> Envelope {
        let message = Message::Layout(LayoutMessage::Staged { staged: Arc::clone(&self.staged) });
        Envelope { life: self.life, durable: Lsn(0), message }
    }
}

/// Forgets the oldest of what nothing comes of any more, where there is much of it. `newest`: the newest live layout.
fn make_room(staged: &mut Staged, newest: Option<&Layout>) {
    let is_past =
        |subject: &Subject, wish: &Wish| newest.is_some_and(|layout| layout.is_past(subject, wish));
    staged.forget(WISHES_KEPT, is_past);
}

/// Why nobody takes the place of a node by itself, in words; `None` when a node of its name may. Two that live have one name: people are
/// told, and the second stays outside.
fn kept_by(role: &Role, layout: &Layout, members: &Membership, now: Mono) -> Option<&'static str> {
    // A group whose keyspaces were all dropped has nothing to be kept.
    let mut used = layout.keyspaces().iter().filter_map(|one| layout.group(one.group));
    if !members.is_dead(role.node, now) {
        Some("it is not dead")
    } else if !used.all(|group| quorum::others_make_good(group.quorums)) {
        Some("where W is 1 that one may have had the only copy of what was acknowledged")
    } else if !reaches_most(layout, members, now) {
        Some("not more than half of the nodes are reached, so that one may be alive elsewhere")
    } else {
        None
    }
}

/// Whether this node speaks with more than half of the nodes of a layout, itself included, in both directions.
fn reaches_most(layout: &Layout, members: &Membership, now: Mono) -> bool {
    let reached = layout.roles().iter().filter(|role| members.is_alive(role.node, now)).count();
    quorum::is_majority(reached, layout.roles().len())
}

/// The role of a node as it introduces itself.
#[must_use]
pub fn role(of: &Introduction) -> Role {
    let (name, zone) = (of.name.clone(), of.zone.clone());
    Role { node: of.node, name, weight: of.weight.max(1), zone }
}

/// The version of the layout after this one.
#[must_use]
pub const fn following(last: &LiveLayout) -> LayoutVersion {
    LayoutVersion(last.reference.version.0 + 1)
}
