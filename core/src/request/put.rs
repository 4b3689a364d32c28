//! A put or a delete on its coordinator, which is one of the key's primaries.
//!
//! 1. *Query round* (levels `quorum` and `all`): R primaries, at `all` every one whatever R is, tell which dots they know
//!    and the highest HLC. It writes nothing and waits for no disk. A client's context narrows what is overwritten but does
//!    not skip it. When this node's own actor has many gaps the round goes on until all have answered, or until questions are
//!    repeated: see `replica::actors`.
//! 2. *Event*: one dot, above every HLC seen, written here and sent at once to the other primaries, while the
//!    local sync runs. It leaves before it is durable here because after an unclean end its number is not used again.
//! 3. *Write round*: done when W distinct primaries hold it durably.
//!
//! Before step 2 nothing has happened, and the outcome of failing is `Unavailable`; after it, `Indeterminate`.

use crate::buggify;
use crate::config::TTL_MS_MAX;
use crate::error::Error;
use crate::held::{Held, Release};
use crate::id::NodeId;
use crate::layout::keyspace::{Level, Policy};
use crate::quorum::{Members, Primaries, Standing, Tally};
use crate::repair::owed::Owed;
use crate::replica::Replica;
use crate::replica::actors::Heard;
use crate::replica::issue::Covers;
use crate::replica::read::Trouble;
use crate::request::attempts::Written;
use crate::request::operation::{Facts, Next};
use crate::request::spread::Spread;
use crate::sometimes;
use crate::step::Env;
use crate::version::context::Context;
use crate::version::dvv::{Version, VersionVector};
use crate::version::hlc::Hlc;
use crate::wire::client::{Action, By, Reply, Request};
use crate::wire::key::{Answer, Question, Room};

/// Who could not hold a value would leave it on too few disks: a write that nobody can acknowledge, and reads that nobody can answer.
const FEW_WITH_ROOM: Error = Error::Full(
    "too few of the key's replicas have room on their disks: nothing was written; delete something, or give them room",
);

/// How a put stands.
#[derive(Debug)]
pub enum PutRound {
    /// Asking what versions there are.
    Query(Query),
    /// The dot is issued; waiting for it to be held.
    Write(Box<Write>),
}

/// What the query round has brought.
#[derive(Debug)]
pub struct Query {
    tally: Tally,
    /// Who of them takes no values: their disks are nearly full.
    full: Members,
    clock: VersionVector,
    highest: Hlc,
    /// Enough have answered; the others would make room in the clock.
    waits: bool,
    /// Whether it may wait for them.
    patient: bool,
}

/// An issued dot.
#[derive(Debug)]
pub struct Write {
    written: Written,
    /// What the others merge, on its way to them.
    spread: Spread,
    /// Where this node stands among the primaries.
    me: usize,
    /// Nothing may leave before the local write is durable: the clock's reservation is part of it.
    waits: bool,
    /// The outcome when enough hold it.
    reply: Reply,
}

impl PutRound {
    /// A put that has asked nobody.
    #[must_use]
    pub fn new(facts: &Facts) -> PutRound {
        let tally = facts.needs.readers();
        PutRound::Query(Query {
            tally,
            full: Members::NONE,
            clock: VersionVector::default(),
            highest: Hlc(0),
            waits: false,
            patient: true,
        })
    }

    /// The first thing to do: at level `one` a primary issues by what it knows itself.
    #[must_use]
    pub fn begin(&mut self, facts: &Facts) -> Next {
        if facts.level == Level::One { Next::Issue } else { Next::Ask(self.unanswered(facts)) }
    }

    /// The dot, once it has been issued.
    #[must_use]
    pub const fn written(&self) -> Option<Written> {
        match self {
            PutRound::Query(_) => None,
            PutRound::Write(write) => Some(write.written),
        }
    }

    /// What was issued, and the other primaries that have not said that they hold it; `None` before it is.
    #[must_use]
    pub fn owes(&self, facts: &Facts) -> Option<Owed> {
        let PutRound::Write(write) = self else {
            return None;
        };
        let nodes = facts.primaries.nodes().iter().enumerate();
        // Nobody owes anything to itself: the write is here, and durable before anybody is answered by it.
        let silent = nodes.filter(|&(at, _)| at != write.me && !write.spread.holders().has(at));
        let silent = silent.map(|(_, &node)| node).collect();
        Some(Owed { key: facts.key.clone(), unit: facts.unit, silent })
    }

    /// A primary told what it knows.
    pub fn on_query_reply(
        &mut self,
        at: usize,
        (clock, highest): (&VersionVector, Hlc),
        Room(has_room): Room,
    ) -> Next {
        let PutRound::Query(query) = self else {
            return Next::Wait;
        };
        let met_before = query.tally.met();
        query.tally.yes(at);
        if !has_room {
            query.full.add(at);
        }
        query.clock.join(clock);
        query.highest = query.highest.max(highest);
        let is_time = query.waits || !met_before;
        if query.tally.met() && is_time { Next::Issue } else { Next::Wait }
    }

    /// A primary holds the dot, durably.
    pub fn on_merge_ack(&mut self, at: usize) -> Next {
        let PutRound::Write(write) = self else {
            return Next::Wait;
        };
        write.spread.on_ack(at);
        if write.spread.holders().met() { Next::End(write.reply.clone()) } else { Next::Wait }
    }

    /// A primary could not do what it was asked. After the event it is asked again until the deadline.
    pub fn on_failed(&mut self, at: usize, facts: &Facts) -> Next {
        let PutRound::Query(query) = self else {
            return Next::Wait;
        };
        query.tally.no(at);
        if query.waits {
            return Next::Issue;
        }
        if !query.tally.hopeless() {
            return Next::Wait;
        }
        Next::End(facts.too_few(&query.tally))
    }

    /// A primary does not hold the dot.
    pub fn on_lacks(&mut self, at: usize) -> Next {
        match self {
            PutRound::Write(write) if write.may_leave() => Next::Ask(write.spread.on_lacks(at)),
            PutRound::Write(_) | PutRound::Query(_) => Next::Wait,
        }
    }

    /// What was sent to a primary has not left.
    pub const fn on_not_sent(&mut self, at: usize) {
        if let PutRound::Write(write) = self {
            write.spread.on_not_sent(at);
        }
    }

    /// The round has waited long enough for those who would make room in the clock; whether it did wait.
    pub const fn stop_waiting(&mut self) -> bool {
        let PutRound::Query(query) = self else {
            return false;
        };
        query.patient = false;
        query.waits
    }

    /// The key's primaries are others now. Who of them held the write before holds it now, and nobody else counts.
    pub fn move_on(&mut self, before: &Primaries, after: &Primaries, holders: Tally) {
        if let PutRound::Write(write) = self {
            let now = |at: usize| before.nodes().get(at).and_then(|&node| after.position(node));
            write.me = now(write.me).unwrap_or(after.nodes().len());
            write.spread.move_on(before.nodes().len(), now, holders);
        }
    }

    /// The outcome, when it is held by enough.
    #[must_use]
    pub fn stored(&self) -> Option<Reply> {
        match self {
            PutRound::Write(write) if write.spread.holders().met() => Some(write.reply.clone()),
            PutRound::Write(_) | PutRound::Query(_) => None,
        }
    }

    /// What to ask, again or for the first time, of those who have not answered. This node itself needs no repetition of
    /// what waits for its own disk.
    pub fn unanswered(&mut self, facts: &Facts) -> Vec<(usize, Question)> {
        match self {
            PutRound::Query(query) => {
                let silent = 0..facts.primaries.nodes().len();
                let silent = silent.filter(|&at| !query.tally.has(at));
                silent.map(|at| (at, Question::Query)).collect()
            }
            PutRound::Write(write) if write.may_leave() => {
                let mut asks = write.spread.unanswered(facts);
                asks.retain(|&(at, _)| at != write.me);
                asks
            }
            PutRound::Write(_) => Vec::new(),
        }
    }

    /// The outcome when time is up.
    #[must_use]
    pub fn timed_out(&self, facts: &Facts) -> Reply {
        match self {
            PutRound::Query(query) => facts.too_few(&query.tally),
            PutRound::Write(write) => {
                let Standing { yes, needed, .. } = write.spread.holders().standing();
                let count = |count: usize| u8::try_from(count).unwrap_or(u8::MAX);
                Reply::Indeterminate { acks: count(yes), needed: count(needed) }
            }
        }
    }

    /// Issues the dot: writes it here and sends it to the other primaries. On trouble nothing has happened.
    pub fn issue(
        &mut self,
        facts: &Facts,
        me: NodeId,
        replica: &mut Replica,
        held: &mut Held,
        env: &mut impl Env,
    ) -> Result<Next, Trouble> {
        let PutRound::Query(query) = self else {
            return Ok(Next::Wait);
        };
        if buggify!(env, IssueRefused) {
            return Err(Trouble::Failed(Error::Full("the key is full, says the simulator")));
        }
        if !held.has_room() {
            return Err(Trouble::Failed(Error::Busy(
                "too much waits for the disk; try again later",
            )));
        }
        let nodes = facts.primaries.nodes();
        let (covers, heard) = query.covers(facts);
        let room = query.room(facts);
        // What this node itself has no room for it says in its own words.
        if room.hopeless() && !env.engine().is_nearly_full() {
            return Err(Trouble::Failed(FEW_WITH_ROOM));
        }
        let wants_all = replica.wants_all(facts.unit, &heard);
        sometimes!(env, PutWaitedForAll, query.is_worth_waiting() && wants_all);
        query.waits = query.is_worth_waiting() && (wants_all || !room.met());
        if query.waits {
            return Ok(Next::Wait);
        }
        let version = |hlc| version(facts, hlc);
        let issued = replica.issue(&facts.key, facts.unit, covers, &heard, version, env)?;
        let mut spread = Spread::new(issued.state, issued.epoch, facts.needs.holders());
        let others = (0..nodes.len()).filter(|&at| nodes[at] != me);
        let mut asks: Vec<(usize, Question)> = others.map(|at| spread.bring(at)).collect();
        held.until(issued.lsn, Release::Send(me, facts.answer(Answer::MergeAck)));
        sometimes!(env, ClockReserved, issued.reservation.is_some());
        sometimes!(env, PutByALaterPrimary, nodes[0] != me);
        if buggify!(env, MergesHeldBack) {
            for (at, question) in asks.drain(..) {
                held.until(issued.lsn, Release::Send(nodes[at], facts.ask(question)));
            }
        }
        if let Some(reservation) = issued.reservation {
            // The clock may not run ahead of what it has reserved durably in anybody's eyes.
            held.until(issued.lsn, Release::Reserved(reservation));
            for (at, question) in asks.drain(..) {
                held.until(issued.lsn, Release::Send(nodes[at], facts.ask(question)));
            }
        }
        let context = Context { clock: issued.known, highest: issued.hlc };
        let written = Written { dot: issued.dot, hlc: issued.hlc };
        *self = PutRound::Write(Box::new(Write {
            written,
            spread,
            me: facts.primaries.position(me).unwrap_or(nodes.len()),
            waits: issued.reservation.is_some(),
            reply: Reply::Stored { context, version: written.stamp(), by: By::Primaries },
        }));
        Ok(Next::Ask(asks))
    }
}

/// What a write stores. It expires so long after its request came as its client, or else its keyspace, says, by the clock of the node that
/// was asked: the time of its dot may be far ahead, above what a wrong clock has written, and every attempt has the same end.
#[must_use]
pub fn version(facts: &Facts, hlc: Hlc) -> Version {
    let request = &facts.request;
    match &request.action {
        Action::Put { value, content_type, ttl_ms, .. } => {
            let ttl_ms = ttl_ms.unwrap_or(0).min(TTL_MS_MAX);
            let expires = (ttl_ms > 0).then(|| facts.at.plus_ms(ttl_ms));
            let value = Version::value(hlc, request.id, content_type.clone(), value.clone());
            Version { expires, ..value }
        }
        Action::Delete { .. } | Action::Get => Version::tombstone(hlc, request.id),
    }
}

/// What a later attempt of a stored write is told from memory: it knows what it knew when it wrote, and its own dot.
#[must_use]
pub fn stored(request: &Request, written: Written) -> Reply {
    let sent = match &request.action {
        Action::Put { context, .. } | Action::Delete { context } => context.clone(),
        Action::Get => None,
    };
    let Context { clock, highest } = sent.unwrap_or_default();
    let Written { dot, hlc } = written;
    let context = Context { clock: clock.with_own(dot), highest: highest.max(hlc) };
    Reply::Stored { context, version: written.stamp(), by: By::Primaries }
}

impl Write {
    /// Whether the dot may be shown: this node has it on its disk, or need not.
    const fn may_leave(&self) -> bool {
        !self.waits || self.spread.holders().has(self.me)
    }
}

impl Query {
    /// Whether somebody may still answer before the round has waited long enough.
    fn is_worth_waiting(&self) -> bool {
        self.patient && self.tally.count() > 0 && !self.tally.is_settled()
    }

    /// Who has room for what is written. Nobody is asked for it until somebody says that he has none: then as many must say that
    /// they have as must hold it, or none is left to ask.
    fn room(&self, facts: &Facts) -> Tally {
        let mut room = facts.needs.holders();
        let is_value = matches!(facts.request.action, Action::Put { .. });
        for at in 0..facts.primaries.nodes().len() {
            if is_value && self.full.has(at) {
                room.no(at);
            } else if !is_value || self.full == Members::NONE || self.tally.has(at) {
                room.yes(at);
            }
        }
        room
    }

    /// What the write overwrites, and what this round has brought.
    fn covers(&self, facts: &Facts) -> (Covers, Heard) {
        let heard = Heard {
            clock: self.clock.clone(),
            highest: self.highest,
            answered: self.tally.count(),
            replicas: facts.primaries.nodes().len(),
        };
        covers(facts, heard)
    }
}

/// What a write overwrites, when so much has been heard of its key.
#[must_use]
pub fn covers(facts: &Facts, heard: Heard) -> (Covers, Heard) {
    let (Action::Put { context, .. } | Action::Delete { context }) = &facts.request.action else {
        return (Covers::Only(VersionVector::default()), heard);
    };
    match (context, facts.policy) {
        (Some(context), _) => {
            let highest = heard.highest.max(context.highest);
            (Covers::Only(context.clock.clone()), Heard { highest, ..heard })
        }
        (None, Policy::Newest) => (Covers::AndLocal(heard.clock.clone()), heard),
        (None, Policy::Siblings) => (Covers::Only(VersionVector::default()), heard),
    }
}
