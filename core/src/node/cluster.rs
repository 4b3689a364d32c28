//! What belongs to the node as a whole: who is there and in which life, the layout, the links, what people should know.
//!
//! Invariants: nothing here knows a key, a request or a shard. What asks something about a key passes the fence here before a
//! shard sees it: it was asked under the layout of this node, by a life that counts, and this node may serve.

use crate::buggify;
use crate::change::rows::Rows;
use crate::change::staging::Staging;
use crate::change::trackers::{Own, Progress, ShardFacts};
use crate::config::NodeConfig;
use crate::engine::Engine;
use crate::env::Mono;
use crate::error::Result;
use crate::formation::Formation;
use crate::id::{LayoutVersion, Life, Lsn, NodeId};
use crate::layout::Layout;
use crate::member::lives::Lives;
use crate::member::membership::Membership;
use crate::member::notes::Notes;
use crate::member::view::View;
use crate::repair::merkle::FORMAT;
use crate::sometimes;
use crate::step::Env;
use crate::wire::forward::{ForwardAnswer, ForwardMessage};
use crate::wire::key::{Answer, KeyMessage};
use crate::wire::layout::LayoutMessage;
use crate::wire::member::Endorsement;
use crate::wire::message::{Envelope, Message};
use crate::wire::repair::{RepairMessage, Told};
use crate::wire::transfer::{Listing, TransferMessage};

/// The node as a member of its cluster.
#[derive(Debug)]
pub(super) struct Cluster {
    /// The cluster's name.
    pub(super) name: String,
    pub(super) me: NodeId,
    pub(super) life: Life,
    pub(super) members: Membership,
    pub(super) lives: Lives,
    /// Why this node must not serve, if it must not.
    pub(super) barred: Option<String>,
    pub(super) notes: Notes,
    pub(super) formation: Formation,
    pub(super) rows: Rows,
    pub(super) staging: Staging,
    pub(super) progress: Progress,
    pub(super) unheard: Unheard,
}

/// How much of what came was not looked at.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Unheard {
    /// Messages refused because of their layout.
    pub(super) stale_layouts: u64,
    /// Messages and datagrams of lives that do not count.
    pub(super) lives_refused: u64,
    /// Messages and datagrams that could not be read.
    pub(super) malformed: u64,
}

/// Why a question is not looked at.
#[derive(Clone, Copy)]
pub(super) enum Refusal {
    /// It was asked under another layout.
    StaleLayout,
    /// This node must not serve.
    Failed,
}

impl Cluster {
    /// Reads the node's own records from `engine`.
    pub(super) fn load(config: &NodeConfig, engine: &mut dyn Engine) -> Result<Cluster> {
        let rows = Rows::load(config, engine)?;
        let lives = Lives::load(config, engine)?;
        Ok(Cluster {
            name: config.cluster.clone(),
            me: config.id,
            life: config.life,
            members: Membership::new(config),
            barred: lives.bars(rows.newest()),
            lives,
            notes: Notes::new(&config.name, &config.cluster),
            formation: Formation::new(config),
            staging: Staging::load(config, engine)?,
            rows,
            progress: Progress::default(),
            unheard: Unheard::default(),
        })
    }

    /// What must hold between steps. Panics when it does not.
    pub(super) fn invariants(&self) {
        self.members.invariants();
        self.lives.invariants();
        self.rows.invariants();
        self.staging.invariants();
    }

    /// What the shards see of it.
    pub(super) fn view(&self) -> View<'_> {
        View {
            life: self.life,
            barred: self.barred.as_deref(),
            layouts: self.rows.live(),
            layout_set: self.rows.live_set(),
            reads_at: self.progress.reads_at(&self.rows),
            may_pull: self.progress.may_pull(),
            members: &self.members,
            lives: &self.lives,
        }
    }

    /// Whether a life of a peer counts; what it says of its store is noted.
    pub(super) fn hears(
        &mut self,
        from: NodeId,
        (life, durable): (Life, Lsn),
        env: &mut impl Env,
    ) -> bool {
        if !self.lives.counts(from, life, env.engine().durable()) {
            sometimes!(env, MessageOfNoLife);
            self.unheard.lives_refused += 1;
            return false;
        }
        self.lives.hear_end(from, durable);
        true
    }

    /// Whoever asks something about a key acts under layouts that are live, which this node may not have known.
    pub(super) fn learn_from(&mut self, message: &Message, durable: Lsn) {
        if let Some(layouts) = message.asked_under() {
            self.rows.on_asked_under(layouts, durable);
        }
    }

    /// The fence: whatever asks something about a key is looked at only under layouts of this node, and only by a node
    /// that may serve.
    pub(super) fn fence(&mut self, message: &Message, env: &mut impl Env) -> Option<Refusal> {
        let layouts = message.asked_under()?;
        let is_known = self.rows.on_asked_under(layouts, env.engine().durable());
        let live = self.rows.live_set().references();
        let is_live = layouts.newest().is_some_and(|newest| live.contains(&newest));
        if buggify!(env, StaleLayoutSaid) || !is_known || !is_live {
            sometimes!(env, LayoutQuestionFenced, live.is_empty());
            self.unheard.stale_layouts += 1;
            return Some(Refusal::StaleLayout);
        }
        self.barred.is_some().then_some(Refusal::Failed)
    }

    /// A peer takes a unit from this node, whose oldest operation in flight began under this layout: from then on whoever acts
    /// under older layouts alone is refused, so that nothing is acknowledged here that the peer does not see.
    pub(super) fn give_away(&mut self, oldest_under: Option<LayoutVersion>) {
        let newest = self.rows.newest().map(Layout::version);
        if newest.is_some_and(|newest| oldest_under.is_none_or(|oldest| oldest >= newest)) {
            self.rows.raise_floor();
        }
    }

    /// Tells whoever asks that nothing was done for it.
    pub(super) fn turn_away(
        &mut self,
        to: NodeId,
        message: &Message,
        why: Refusal,
        env: &mut impl Env,
    ) {
        let asked_under = message.asked_under().filter(|_| matches!(why, Refusal::StaleLayout));
        let message = match message {
            Message::Key(KeyMessage::Ask(ask)) => {
                let answer = match why {
                    Refusal::StaleLayout => Answer::StaleLayout,
                    Refusal::Failed => Answer::Failed,
                };
                let layouts = self.rows.live_set().clone();
                Message::Key(KeyMessage::Answer { op: ask.op, layouts, answer })
            }
            Message::Forward(ForwardMessage::Ask { op, .. }) => {
                let answer = match why {
                    Refusal::StaleLayout => ForwardAnswer::StaleLayout,
                    Refusal::Failed => ForwardAnswer::Failed,
                };
                Message::Forward(ForwardMessage::Answer { op: *op, answer })
            }
            Message::Transfer(TransferMessage::Ask { op, .. }) => {
                let listing = match why {
                    Refusal::StaleLayout => Listing::StaleLayout,
                    Refusal::Failed => Listing::Failed,
                };
                let layouts = self.rows.live_set().clone();
                Message::Transfer(TransferMessage::Answer { op: *op, layouts, listing })
            }
            Message::Repair(RepairMessage::Ask { op, .. }) => {
                let told = match why {
                    Refusal::StaleLayout => Told::StaleLayout,
                    Refusal::Failed => Told::Failed,
                };
                let (layouts, format) = (self.rows.live_set().clone(), FORMAT);
                Message::Repair(RepairMessage::Answer { op: *op, layouts, format, told })
            }
            Message::Key(KeyMessage::Answer { .. })
            | Message::Forward(ForwardMessage::Answer { .. })
            | Message::Transfer(TransferMessage::Answer { .. })
            | Message::Repair(RepairMessage::Answer { .. })
            | Message::Layout(_)
            | Message::Swim(_) => return,
        };
        let durable = env.engine().durable();
        env.send(to, Envelope { life: self.life, durable, message });
        if let Some(layouts) = asked_under
            && !self.members.is_of_another(to, self.founding())
        {
            self.rows.ask_who_names(layouts, to, env);
        }
    }

    /// A peer says something about the layout.
    pub(super) fn on_layout(
        &mut self,
        from: NodeId,
        message: LayoutMessage,
        env: &mut impl Env,
    ) -> Result<()> {
        match message {
            LayoutMessage::Offer { .. } | LayoutMessage::Live { .. }
                if buggify!(env, LayoutOfferIgnored) =>
            {
                Ok(())
            }
            LayoutMessage::Offer { layout } => self.rows.on_offer(layout, env.engine()),
            LayoutMessage::Live { .. } | LayoutMessage::Staged { .. } if self.is_unknown(from) => {
                Ok(())
            }
            LayoutMessage::Live { layout } => {
                let peer = self.members.peers().get(&from);
                let oldest = peer.map_or_else(Default::default, |peer| peer.endorsed.oldest);
                self.rows.on_live(layout, oldest, env)
            }
            LayoutMessage::Request => {
                self.rows.on_request(from, env);
                Ok(())
            }
            LayoutMessage::Staged { staged } => {
                self.staging.on_staged(from, &staged, (self.rows.newest(), &self.members), env)
            }
        }
    }

    /// A datagram to everybody, and what is old is forgotten.
    pub(super) fn tick(&mut self, env: &mut impl Env) -> Result<()> {
        let now = env.mono();
        self.lives.note_place(env.engine())?;
        let endorsement = self.endorsement(env.engine().durable());
        self.members.tick(endorsement, &self.lives, env);
        let members = self.rows.members();
        self.members.forget_strangers(&members, now);
        if !members.is_empty() {
            let peers = self.members.peers();
            self.lives.retain(|node| members.contains(&node) || peers.contains_key(&node));
        }
        self.notes.forget(now);
        self.look_at_myself(env)
    }

    /// A step of what becomes of the layouts. Whether the older of two was dropped.
    pub(super) fn tick_layouts(&mut self, facts: ShardFacts, env: &mut impl Env) -> Result<bool> {
        let Cluster { formation, rows, staging, progress, members, .. } = self;
        if let Some(layout) = formation.tick(rows, members, env) {
            rows.found(layout, env.engine())?;
        }
        rows.tick((members, formation.founding(rows)), staging.staged(), env)?;
        if let Some(layout) = staging.tick(rows, members, env)? {
            rows.endorse(layout, env.engine())?;
        }
        let own = Own { facts, is_noted: rows.is_noted(env.engine().durable()) };
        if progress.look((rows, staging.staged()), own, members, env.mono()) {
            sometimes!(env, OlderLayoutDropped);
            return rows.drop_older(env.engine());
        }
        Ok(false)
    }

    /// Why no layout is live here, for people. Empty when one is.
    pub(super) fn waiting(&self, now: Mono) -> Vec<String> {
        self.formation.waiting(&self.rows, &self.members, now)
    }

    /// Whom the change of layouts that is under way waits for.
    pub(super) fn waits_for_others(&self) -> Option<String> {
        let name = |node| self.name_of(node);
        self.progress.waits_for(&self.rows, self.staging.staged(), &self.members, name)
    }

    /// All nodes that are met or have a role, and their names; one may be there twice.
    pub(super) fn known(&self) -> impl Iterator<Item = (NodeId, &str)> {
        let roles = self.rows.live().iter().flat_map(|live| live.layout.roles());
        let roles = roles.map(|role| (role.node, role.name.as_str()));
        let met = self.members.peers().values().map(|peer| &peer.introduction);
        roles.chain(met.chain([self.members.me()]).map(|of| (of.node, of.name.as_str())))
    }

    /// What people call a node, whether or not this one has met it: its name, and its id where another one has that name.
    pub(super) fn name_of(&self, node: NodeId) -> String {
        let (name, word) = (self.called(node), self.word_of(node));
        if name == word { word } else { format!("{name} ({word})") }
    }

    /// The word that means this node alone in a command.
    pub(super) fn word_of(&self, node: NodeId) -> String {
        let name = self.called(node);
        let is_twice = self.known().any(|(other, same)| same == name && other != node);
        if is_twice { node.short() } else { name }
    }

    fn called(&self, node: NodeId) -> String {
        let name = self.known().find(|(one, _)| *one == node).map(|(_, name)| name.to_owned());
        name.unwrap_or_else(|| node.short())
    }

    /// These nodes.
    pub(super) fn awaited(&self) -> Vec<NodeId> {
        let behind = self.progress.behind(&self.rows, self.staging.staged(), &self.members);
        behind.map(|(_, nodes)| nodes).unwrap_or_default()
    }

    /// The nodes that are away, and of which an operator has given up what they alone have. Of one that is back it is taken.
    pub(super) fn given_up(&self, now: Mono) -> Vec<NodeId> {
        let newer = self.rows.change().map(|(_, newer)| newer.reference.version);
        let nodes = newer.into_iter().flat_map(|version| self.staging.staged().given_up(version));
        nodes.filter(|&node| !self.members.is_heard(node, now)).collect()
    }

    /// The digest of the first layout of this node's cluster; 0 while it knows none.
    fn founding(&self) -> u128 {
        self.formation.founding(&self.rows)
    }

    /// Whether a peer serves a layout of a cluster that is not this node's own, or of which this node does not know that it is.
    fn is_unknown(&self, peer: NodeId) -> bool {
        let theirs = self.members.peers().get(&peer).map_or(0, |peer| peer.endorsed.founding);
        theirs != 0 && theirs != self.founding()
    }

    /// What this node tells of its layouts.
    fn endorsement(&self, durable: Lsn) -> Endorsement {
        let (layout, live) = self.rows.endorsement(durable);
        let oldest =
            self.rows.live().first().map_or_else(Default::default, |one| one.reference.version);
        let (founding, trackers) = (self.founding(), self.progress.mine());
        Endorsement { layout, live, oldest, founding, trackers }
    }

    /// Writes of the node's own records that are not durable yet.
    pub(super) fn waits_for(&self, durable: Lsn) -> impl Iterator<Item = Lsn> + use<> {
        let waits = [self.rows.waits_for(durable), self.lives.waits_for(durable)];
        waits.into_iter().flatten()
    }

    /// Says goodbye; `false` when there is nobody to say it to.
    pub(super) fn leave(&mut self, env: &mut impl Env) -> bool {
        let endorsed = self.endorsement(env.engine().durable());
        self.members.leave(endorsed, &self.lives, env)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use crate::id::{Epoch, KeyspaceId, OpId};
    use crate::layout::LayoutRef;
    use crate::layout::live::LayoutSet;
    use crate::node_config::node_config;

    use crate::version::dvv::VersionSet;
    use crate::version::outline::Outline;
    use crate::wire::client::{Action, Reply};
    use crate::wire::forward::Fixed;
    use crate::wire::key::{Ask, KeyRef, Question};

    use crate::request_fixture::request;
    use crate::world::World;

    const PEER: NodeId = NodeId(2);

    fn op() -> OpId {
        OpId { seq: 5, ..OpId::default() }
    }

    /// Whatever asks something about a key.
    fn asks(under: LayoutRef) -> Vec<Message> {
        let questions = [
            Question::Query,
            Question::Read { digest_only: true, heard: Epoch::default() },
            Question::Merge { state: VersionSet::default(), epoch: Epoch::default() },
            Question::Holds { outline: Outline::default() },
        ];
        let key = KeyRef::new(KeyspaceId(1), "k".into());
        let layouts = LayoutSet::one(under);
        let ask = |question| {
            let (layouts, key) = (layouts.clone(), key.clone());
            KeyMessage::Ask(Ask { op: op(), layouts, key, question })
        };
        let request = request(Action::Get);
        let mut asks: Vec<Message> = questions.map(ask).map(Message::Key).into();
        let layouts = layouts.clone();
        let fixed = Fixed::default();
        asks.push(Message::Forward(ForwardMessage::Ask { op: op(), layouts, fixed, request }));
        asks
    }

    /// What a node answers to all of them, sent under `layout`.
    fn answers(cluster: &mut Cluster, layout: LayoutRef, world: &mut World) -> Vec<Message> {
        for message in asks(layout) {
            if let Some(why) = cluster.fence(&message, world) {
                cluster.turn_away(PEER, &message, why, world);
            }
        }
        let sent = world.sent.drain(..);
        sent.inspect(|(to, _)| assert_eq!(*to, PEER)).map(|(_, sent)| sent.message).collect()
    }

    #[test]
    fn nothing_that_asks_about_a_key_passes_the_fence_under_another_layout_or_at_a_barred_node() {
        let mut world: World = World::default();
        let mut cluster = Cluster::load(&node_config(), &mut world.engine).expect("an empty store");
        let other = LayoutRef { digest: 1, ..LayoutRef::default() };
        let mut told = answers(&mut cluster, other, &mut world);
        assert_eq!(told.remove(1), Message::Layout(LayoutMessage::Request), "once");
        let said = |layouts, answer| Message::Key(KeyMessage::Answer { op: op(), layouts, answer });
        let stale = said(LayoutSet::default(), Answer::StaleLayout);
        assert_eq!(told[..4], [stale.clone(), stale.clone(), stale.clone(), stale]);
        let answer = ForwardAnswer::StaleLayout;
        assert_eq!(told[4..], [Message::Forward(ForwardMessage::Answer { op: op(), answer })]);
        assert_eq!(cluster.unheard.stale_layouts, 5);

        // Alone it forms its layout when it has listened for a moment.
        let facts = ShardFacts { oldest_under: None, oldest_began: None, is_whole: true };
        for at_ms in [0, 499, 500, 600] {
            world.now = Mono(0).plus_ms(at_ms);
            assert!(!cluster.tick_layouts(facts, &mut world).expect("no disk fails"));
            assert_eq!(cluster.rows.is_empty(), at_ms < 500, "at {at_ms} ms");
        }
        assert!(cluster.rows.make_live(&mut world.engine).expect("no disk fails"));
        let live = cluster.rows.live().last().expect("a node that expects itself alone");
        let live = live.reference;
        assert_eq!(answers(&mut cluster, live, &mut world), [], "all may pass");
        cluster.barred = Some("an old copy".to_owned());
        let told = answers(&mut cluster, live, &mut world);
        let failed = said(LayoutSet::one(live), Answer::Failed);
        assert_eq!((told.len(), &told[0]), (5, &failed));
    }

    #[test]
    fn answers_and_what_is_said_of_layouts_need_no_layout() {
        let mut world: World = World::default();
        let mut cluster = Cluster::load(&node_config(), &mut world.engine).expect("an empty store");
        let reply = Reply::unavailable("why");
        let free = [
            Message::Key(KeyMessage::Answer {
                op: op(),
                layouts: LayoutSet::default(),
                answer: Answer::MergeAck,
            }),
            Message::Forward(ForwardMessage::Answer {
                op: op(),
                answer: ForwardAnswer::Done { reply },
            }),
            Message::Layout(LayoutMessage::Request),
        ];
        for message in free {
            assert!(cluster.fence(&message, &mut world).is_none());
        }
    }
}
