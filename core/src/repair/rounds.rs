//! When this node compares which units with whom: rounds, and the exchanges that come of them.
//!
//! A *round* with another node compares the roots of all units that both own, many in one message, twice with a pause between; each
//! unit whose roots differ both times gets an exchange. Of two nodes it is the one with the smaller id that begins: so no
//! two ever repair one unit with each other at once. The other one asks it to (`Compare::Begin`).
//!
//! A round is due soon after the other is there again or has a new life, after this node's own start, after a unit has become whole
//! here, and after something was merged here that a third node may lack, too; and else now and then, with jitter, so that no
//! two rounds of a cluster keep step. What failed is tried again after a pause that doubles.
//!
//! Invariants: at most `REPAIRS_MAX` exchanges, one for a unit and a node; no more bytes than the configured rate, and what has to wait
//! for it is bounded by what the exchanges hold; everything belongs to one set of layouts, and is begun anew under another.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::config::{NodeConfig, REPAIRS_MAX};
use crate::env::Mono;
use crate::error::Result;
use crate::id::{Life, NodeId, OpId, Unit};
use crate::layout::Layout;
use crate::layout::live::LayoutSet;
use crate::member::view::View;
use crate::pace::Pace;
use crate::repair::exchange::{End, Exchange, Here, Next};
use crate::repair::mending::{Names, Say, Why};
use crate::repair::merkle::FORMAT;
use crate::repair::round::{Habit, Peer, Round, SOON_MS, Tally, WAIT_MS};
use crate::wire::key::{Answer, Ask, KeyMessage};
use crate::wire::message::Message;
use crate::wire::repair::{Compare, RepairMessage, Rooted, Told};

/// The bit of the operations of these machines among all of a node.
const REPAIRING: u64 = 1 << 60;
/// How often it is looked what is due, in milliseconds.
const LOOK_MS: u64 = 100;
/// Between two exchanges that go on after a pause, in milliseconds. Each makes both nodes list keys soon after: were that one turn for all,
/// clients would wait for it.
const STEP_MS: u64 = 10;
/// What a message takes besides what it carries, in bytes, about.
const MESSAGE_BYTES: u64 = 64;

/// What this node compares with, of the rest of its shard.
pub struct Around<'a, H: Here> {
    /// What is true of the node as a whole.
    pub view: View<'a>,
    /// What it has.
    pub here: H,
    /// Messages to send, to this node itself too.
    pub out: &'a mut VecDeque<(NodeId, Message)>,
    /// Time.
    pub now: Mono,
    /// A random number.
    pub dice: u64,
}

/// All rounds and exchanges that this node has begun.
#[derive(Debug)]
pub struct Rounds {
    me: NodeId,
    life: Life,
    names: Names,
    habit: Habit,
    layouts: LayoutSet,
    look_at: Mono,
    peers: BTreeMap<NodeId, Peer>,
    exchanges: BTreeMap<(NodeId, Unit), Exchange>,
    /// What waits for the rate.
    held: VecDeque<(NodeId, Message)>,
    pace: Pace,
    tally: Tally,
    /// What came of the last exchange of a unit, or of comparing its root.
    last: BTreeMap<Unit, (Mono, NodeId, End)>,
}

impl Rounds {
    /// None has begun.
    #[must_use]
    pub fn new(config: &NodeConfig) -> Rounds {
        Rounds {
            me: config.id,
            life: config.life,
            names: Names::with(REPAIRING),
            habit: Habit::new(config.repair_every_ms),
            layouts: LayoutSet::default(),
            look_at: Mono(0),
            peers: BTreeMap::new(),
            exchanges: BTreeMap::new(),
            held: VecDeque::new(),
            pace: Pace::new(config.repair_bytes_per_s),
            tally: Tally::default(),
            last: BTreeMap::new(),
        }
    }

    /// What must hold between steps. Panics when it does not.
    pub fn invariants(&self) {
        assert!(self.exchanges.len() <= REPAIRS_MAX, "few units are compared at a time");
        for ((node, _), exchange) in &self.exchanges {
            exchange.invariants();
            assert!(self.me < *node, "of two nodes the smaller one compares");
            assert_eq!(exchange.layouts, self.layouts, "all is of one set of layouts");
        }
    }

    /// Whether an answer is one to these machines.
    #[must_use]
    pub fn asked(&self, op: OpId) -> bool {
        op.life == self.life && op.seq >> 60 == REPAIRING >> 60
    }

    /// When `tick` has something to do.
    #[must_use]
    pub fn next_deadline(&self) -> Mono {
        if self.is_idle() { Mono(u64::MAX) } else { self.look_at }
    }

    /// Whether nothing is asked for, and nothing is done by itself.
    fn is_idle(&self) -> bool {
        let is_idle = |peer: &Peer| peer.due.is_none() && peer.round.is_none();
        !self.habit.by_itself && self.exchanges.is_empty() && self.peers.values().all(is_idle)
    }

    /// What was done since the start.
    #[must_use]
    pub const fn tally(&self) -> Tally {
        self.tally
    }

    /// How many exchanges are in flight, and how many units wait for one.
    #[must_use]
    pub fn in_flight(&self) -> (u64, u64) {
        let rounds = self.peers.values().filter_map(|peer| peer.round.as_ref());
        let waiting = rounds.map(|round| round.unequal.len()).sum::<usize>();
        (self.exchanges.len() as u64, waiting as u64)
    }

    /// What came last of comparing a unit: when, with whom, and how it ended.
    #[must_use]
    pub fn last(&self, unit: Unit) -> Option<(Mono, NodeId, End)> {
        self.last.get(&unit).copied()
    }

    /// The units that did not turn out to be equal when they were compared last.
    pub fn unequal(&self) -> impl Iterator<Item = Unit> {
        self.last.iter().filter(|(_, (_, _, end))| *end != End::Equal).map(|(unit, _)| *unit)
    }

    /// An operator asks that all rounds begin.
    pub fn begin_soon(&mut self, now: Mono) {
        self.stir(None, now, SOON_MS);
    }

    /// Something may be missing here or at others: all rounds begin soon, if any do by themselves.
    pub fn begin_by_itself(&mut self, now: Mono) {
        if self.habit.by_itself {
            self.stir(None, now, SOON_MS);
        }
    }

    fn stir(&mut self, but: Option<NodeId>, now: Mono, ms: u64) {
        for (_, peer) in self.peers.iter_mut().filter(|(node, _)| Some(**node) != but) {
            peer.want(now, ms);
        }
    }

    /// Another node asks that a round with it begins soon.
    pub fn on_begin(&mut self, from: NodeId, now: Mono) {
        if let Some(peer) = self.peers.get_mut(&from) {
            peer.want(now, SOON_MS);
        }
    }

    /// Begins what is due, asks again, and sends what the rate allows.
    pub fn tick<H: Here>(&mut self, around: &mut Around<'_, H>) -> Result<()> {
        let (view, now) = (around.view, around.now);
        if self.layouts == *view.layout_set && (now < self.look_at || self.is_idle()) {
            return Ok(());
        }
        self.look_at = now.plus_ms(LOOK_MS);
        let Some(layout) = view.newest().filter(|_| view.barred.is_none()) else {
            self.forget();
            return Ok(());
        };
        if self.layouts != *view.layout_set {
            self.begin_under(layout, around);
        }
        let soon_ms = self.habit.by_itself.then_some(SOON_MS + around.dice % SOON_MS);
        for (node, peer) in &mut self.peers {
            peer.look_at(view.lives.known(*node), view.members.is_alive(*node, now), now, soon_ms);
        }
        let due = self.peers.iter().filter(|(_, peer)| peer.is_due(now)).map(|(node, _)| *node);
        for node in due.collect::<Vec<NodeId>>() {
            self.begin(node, layout, around);
        }
        self.tick_rounds(around);
        self.tick_exchanges(around);
        self.flush(around);
        Ok(())
    }

    fn forget(&mut self) {
        self.layouts = LayoutSet::default();
        self.peers.clear();
        self.exchanges.clear();
        self.held.clear();
    }

    /// Everything begins anew under these layouts.
    fn begin_under<H: Here>(&mut self, layout: &Layout, around: &Around<'_, H>) {
        self.forget();
        self.layouts = around.view.layout_set.clone();
        let owned = layout.units().filter(|&unit| layout.is_primary(self.me, unit));
        let others: BTreeSet<NodeId> =
            owned.flat_map(|unit| layout.primaries(unit)).filter(|&node| node != self.me).collect();
        self.last.retain(|&unit, _| layout.is_primary(self.me, unit));
        let soon = around.now.plus_ms(SOON_MS + around.dice % SOON_MS);
        let due = self.habit.by_itself.then_some(soon);
        self.peers = others
            .into_iter()
            .map(|node| {
                let life = around.view.lives.known(node);
                let was_alive = around.view.members.is_alive(node, around.now);
                (node, Peer::new(life, was_alive, due))
            })
            .collect();
    }

    /// Begins a round with a node, or asks it to begin one.
    fn begin<H: Here>(&mut self, node: NodeId, layout: &Layout, around: &mut Around<'_, H>) {
        let (me, now) = (self.me, around.now);
        let every_ms = self.habit.every_ms;
        let Some(peer) = self.peers.get_mut(&node) else {
            return;
        };
        if node < me {
            peer.has_asked(now, every_ms);
            self.ask(node, Compare::Begin, around);
            return;
        }
        peer.due = None;
        let shared = layout
            .units()
            .filter(|&unit| layout.is_primary(me, unit) && layout.is_primary(node, unit));
        let (known, unknown): (Vec<Unit>, Vec<Unit>) =
            shared.partition(|&unit| around.here.tree(unit).is_some());
        peer.round = Some(Round::of(known.into(), !unknown.is_empty(), now));
    }

    fn ask<H: Here>(&mut self, node: NodeId, question: Compare, around: &mut Around<'_, H>) -> u64 {
        let seq = self.names.draw();
        self.say(node, (seq, Say::Compare(question)), around);
        seq
    }

    /// Says something, or keeps it until the rate allows it.
    fn say<H: Here>(&mut self, node: NodeId, (seq, say): (u64, Say), around: &mut Around<'_, H>) {
        let op = OpId { life: self.life, seq };
        let layouts = self.layouts.clone();
        let (to, message) = match say {
            Say::Compare(question) => {
                let ask = RepairMessage::Ask { op, layouts, format: FORMAT, question };
                (node, Message::Repair(ask))
            }
            Say::Ask(key, question) => {
                (node, Message::Key(KeyMessage::Ask(Ask { op, layouts, key, question })))
            }
            Say::AskHere(key, question) => {
                (self.me, Message::Key(KeyMessage::Ask(Ask { op, layouts, key, question })))
            }
        };
        if to == self.me {
            around.out.push_back((to, message));
        } else {
            self.held.push_back((to, message));
        }
    }

    /// Sends what the rate allows. What waits is not waited for meanwhile.
    fn flush<H: Here>(&mut self, around: &mut Around<'_, H>) {
        let now = around.now;
        while !self.pace.must_wait(now) {
            let Some((to, message)) = self.held.pop_front() else {
                break;
            };
            self.charge(message.weight() as u64, now);
            around.out.push_back((to, message));
        }
        let all: u64 = self.exchanges.values().map(Exchange::held_bytes).sum();
        let until = match self.held.is_empty() {
            true => Mono(0),
            false => self.pace.used_until().plus_ms(WAIT_MS),
        };
        for exchange in self.exchanges.values_mut() {
            exchange.hold(until, all - exchange.held_bytes());
        }
    }

    fn charge(&mut self, bytes: u64, now: Mono) {
        let bytes = bytes + MESSAGE_BYTES;
        self.tally.bytes += bytes;
        self.pace.charge(bytes, now);
    }

    fn tick_rounds<H: Here>(&mut self, around: &mut Around<'_, H>) {
        let now = around.now;
        let rounds = self
            .peers
            .iter()
            .filter(|(_, peer)| peer.round.as_ref().is_some_and(|round| round.again <= now));
        for node in rounds.map(|(node, _)| *node).collect::<Vec<_>>() {
            self.go_on(node, around);
        }
    }

    /// The next question of a round, or its end.
    fn go_on<H: Here>(&mut self, node: NodeId, around: &mut Around<'_, H>) {
        let now = around.now;
        let is_exchanging = self.exchanges.keys().any(|(with, _)| *with == node);
        let Some(round) = self.peers.get_mut(&node).and_then(|peer| peer.round.as_mut()) else {
            return;
        };
        let Some(units) = round.next(now) else {
            round.again = now.plus_ms(LOOK_MS);
            if round.unequal.is_empty() && !is_exchanging {
                self.end(node, around);
            }
            return;
        };
        let seq = self.ask(node, Compare::Roots { units }, around);
        if let Some(round) = self.peers.get_mut(&node).and_then(|peer| peer.round.as_mut()) {
            round.waits_for = Some(seq);
        }
    }

    /// A round is over.
    fn end<H: Here>(&mut self, node: NodeId, around: &Around<'_, H>) {
        let peer = self.peers.get_mut(&node);
        let ended = peer.map(|peer| peer.end(around.now, self.habit, around.dice));
        if let Some(round) = ended.flatten() {
            self.tally.rounds += 1;
            self.tally.failed_rounds += u64::from(round.failed.is_some());
        }
    }

    /// Another node has answered a question about trees.
    pub fn on_told<H: Here>(
        &mut self,
        from: NodeId,
        (op, layouts, format): (OpId, &LayoutSet, u8),
        told: Told,
        around: &mut Around<'_, H>,
    ) -> Result<()> {
        let told = match (format == FORMAT, layouts.answers_for(&self.layouts)) {
            (false, _) => Told::OtherFormat,
            (true, false) => Told::StaleLayout,
            (true, true) => told,
        };
        let Some(peer) = self.peers.get_mut(&from) else {
            return Ok(());
        };
        if told == Told::Done && from < self.me {
            peer.has_heard();
            return Ok(());
        }
        if peer.round.as_ref().is_some_and(|round| round.waits_for == Some(op.seq)) {
            self.on_roots(from, told, around);
        } else if let Some(at) = self.find(from, op.seq) {
            let weight = match &told {
                Told::Keys { keys, .. } => keys.iter().map(|one| 16 + one.key.key.len()).sum(),
                Told::Hashes { hashes } => 9 * hashes.len(),
                _ => 0,
            };
            self.charge(weight as u64, around.now);
            let now = around.now;
            if let Some(exchange) = self.exchanges.get_mut(&at) {
                let next = exchange.on_told(told, &mut around.here, now, &mut self.names)?;
                self.after(at, next, around);
            }
        }
        self.flush(around);
        Ok(())
    }

    fn find(&self, node: NodeId, seq: u64) -> Option<(NodeId, Unit)> {
        let mine = |at: &(NodeId, Unit)| at.0 == node || node == self.me;
        let found = self.exchanges.iter().find(|(at, exchange)| mine(at) && exchange.asked(seq));
        found.map(|(at, _)| *at)
    }

    /// The roots of another node: those that differ twice get an exchange.
    fn on_roots<H: Here>(&mut self, from: NodeId, told: Told, around: &mut Around<'_, H>) {
        let now = around.now;
        let Some(round) = self.peers.get_mut(&from).and_then(|peer| peer.round.as_mut()) else {
            return;
        };
        (round.waits_for, round.silent, round.again) = (None, 0, now);
        let roots = match told {
            Told::Roots { roots } => roots,
            told => {
                round.give_up(match told {
                    Told::OtherFormat => Why::OtherFormat,
                    _ => Why::NotCounted,
                });
                return;
            }
        };
        let there: BTreeMap<Unit, u64> =
            roots.into_iter().map(|Rooted { unit, root }| (unit, root)).collect();
        let mut unequal = BTreeSet::new();
        for unit in &round.now {
            match (around.here.tree(*unit).map(|tree| tree.root()), there.get(unit)) {
                (Some(here), Some(there)) if here == *there => {
                    self.last.insert(*unit, (now, from, End::Equal));
                }
                (Some(_), Some(_)) => drop(unequal.insert(*unit)),
                _ => {
                    round.failed = Some(Why::NotCounted);
                    self.last.insert(*unit, (now, from, End::Failed(Why::NotCounted)));
                }
            }
        }
        round.differ(unequal, now);
        self.look_at = now;
    }

    fn tick_exchanges<H: Here>(&mut self, around: &mut Around<'_, H>) {
        let now = around.now;
        for (node, peer) in &mut self.peers {
            let Some(round) = peer.round.as_mut() else {
                continue;
            };
            while self.exchanges.len() < REPAIRS_MAX {
                let Some(unit) = round.unequal.pop_front() else {
                    break;
                };
                let exchange = Exchange::new(unit, self.layouts.clone(), now);
                self.exchanges.insert((*node, unit), exchange);
            }
        }
        let due = |(_, exchange): &(_, &mut Exchange)| exchange.next_deadline() <= now;
        let mut due: Vec<_> = self.exchanges.iter_mut().filter(due).collect();
        due.sort_by_key(|(_, exchange)| exchange.next_deadline());
        let are_more = due.len() > 1;
        if let Some((&at, exchange)) = due.into_iter().next() {
            let next = exchange.tick(now, &mut self.names);
            self.after(at, next, around);
        }
        if are_more {
            self.look_at = now.plus_ms(STEP_MS);
        }
    }

    /// An answer about a key: of another node, or of this one.
    pub fn on_answer<H: Here>(
        &mut self,
        from: NodeId,
        (op, layouts, answer): (OpId, &LayoutSet, Answer),
        around: &mut Around<'_, H>,
    ) {
        let Some(at) = self.find(from, op.seq) else {
            return;
        };
        if from != self.me {
            self.charge(answer.weight() as u64, around.now);
        }
        let answer = if layouts.answers_for(&self.layouts) { answer } else { Answer::StaleLayout };
        let now = around.now;
        if let Some(exchange) = self.exchanges.get_mut(&at) {
            let next = exchange.on_answer(from == self.me, (op.seq, answer), now, &mut self.names);
            self.after(at, next, around);
        }
        self.flush(around);
    }

    /// What comes of a step of an exchange.
    fn after<H: Here>(&mut self, at: (NodeId, Unit), next: Next, around: &mut Around<'_, H>) {
        let (node, unit) = at;
        let end = match next {
            Ok(said) => return said.into_iter().for_each(|say| self.say(node, say, around)),
            Err(end) => end,
        };
        let done = self.exchanges.remove(&at).map(|exchange| exchange.done()).unwrap_or_default();
        let now = around.now;
        self.last.insert(unit, (now, node, end));
        self.tally.exchanges += 1;
        self.tally.done.found += done.found;
        self.tally.done.taken += done.taken;
        self.tally.done.brought += done.brought;
        if let Some(round) = self.peers.get_mut(&node).and_then(|peer| peer.round.as_mut()) {
            match end {
                End::Equal => {}
                End::More | End::Regrow => round.more = true,
                End::Failed(why) => round.failed = Some(why),
            }
        }
        if end == End::Regrow {
            self.tally.wrong_trees += 1;
            around.here.regrow(unit);
            self.ask(node, Compare::Regrow { unit }, around);
        }
        if done.taken > 0 {
            // Others may lack it, too.
            self.stir(Some(node), now, SOON_MS);
        }
        self.look_at = now;
    }
}
