//! A request at level `one` of a sloppy keyspace on a node that is no primary of its key and reaches none: a *fallback*.
//!
//! It issues the dot itself, under an actor of its own for the key's unit, and writes the record and a hint for each primary in one
//! batch: so what it acknowledges is owed, whatever happens after. From there on it is as with any node that has a key which it does not
//! own: the hints are handed over, and when nobody is owed the key the record goes (`handoff`, `transfer::leaving`), and the actor with it.
//! A second write of the key merges with the record that is here. A read is answered from the record as long as the key is owed.
//!
//! Invariants: nothing is acknowledged that is not owed by a hint to every primary, durably with it; a fallback counts for no primary,
//! in no quorum and at no other level; nothing is answered of a record that is not owed: what an owner of before has left may have been
//! purged. Whatever the key's purge has covered this node has held nothing of, and writes above (`shard::purging`).
//! Left out: fallbacks among several nodes. The node that the client asks is the only one, and no other reads what it keeps.

use crate::env::Mono;
use crate::error::Error;
use crate::handoff::hints::Debt;
use crate::held::Release;
use crate::id::NodeId;
use crate::layout::keyspace::Level;
use crate::layout::live::{LiveLayout, is_owner};
use crate::member::view::View;
use crate::quorum::Primaries;
use crate::replica::actors::Heard;
use crate::replica::issue::Event;
use crate::replica::read::Trouble;
use crate::request::answers::Surroundings;
use crate::request::attempts::Written;
use crate::request::get;
use crate::request::operation::{Facts, Next};
use crate::request::put;
use crate::sometimes;
use crate::step::Env;
use crate::version::context::Context;
use crate::wire::client::{Action, By, Reply};
use crate::wire::key::Answer;

/// Where a request stands on a fallback.
#[derive(Debug)]
pub struct Fallback {
    me: NodeId,
    written: Option<Written>,
    /// The outcome, when what it tells of is durable here.
    reply: Option<Reply>,
}

/// Whether nobody who owns the key is alive and linked, as this node sees it.
#[must_use]
pub fn reaches_nobody(facts: &Facts, view: View<'_>, now: Mono) -> bool {
    facts.primaries.nodes().iter().all(|&node| !view.members.is_alive(node, now))
}

/// Whether a node may be a fallback for a key: it is a member under every live layout, so that whoever purges the key asks it, and
/// owns the key under none.
#[must_use]
pub fn may_be(me: NodeId, facts: &Facts, view: View<'_>) -> bool {
    let is_sloppy = |live: &LiveLayout| {
        let mut keyspaces = live.layout.keyspaces().iter();
        let here = keyspaces.find(|keyspace| keyspace.id == facts.key.keyspace);
        here.is_none_or(|keyspace| keyspace.sloppy)
    };
    facts.level == Level::One
        && !view.layouts.is_empty()
        && view.layouts.iter().all(|live| live.layout.has(me) && is_sloppy(live))
        && !is_owner(view.layouts, me, facts.unit)
}

impl Fallback {
    /// One that has done nothing.
    #[must_use]
    pub const fn new(me: NodeId) -> Fallback {
        Fallback { me, written: None, reply: None }
    }

    /// The dot, once it has been issued.
    #[must_use]
    pub const fn written(&self) -> Option<Written> {
        self.written
    }

    /// What was written, or is told, is durable here.
    #[must_use]
    pub fn on_durable(&self, from: NodeId) -> Next {
        let reply = self.reply.clone().filter(|_| from == self.me);
        reply.map_or(Next::Wait, Next::End)
    }

    /// The outcome when time is up.
    #[must_use]
    pub fn timed_out(&self, facts: &Facts) -> Reply {
        match self.written {
            Some(_) => facts.unknown(),
            None => {
                Reply::unavailable("this node's own record of the key could not be read in time")
            }
        }
    }

    /// Reads the record, or writes it. On trouble nothing has happened.
    pub fn act(
        &mut self,
        facts: &Facts,
        around: &mut Surroundings<'_>,
        env: &mut impl Env,
    ) -> Result<Next, Trouble> {
        if self.reply.is_some() {
            return Ok(Next::Wait);
        }
        if around.hints.is_counting() {
            return Ok(Next::End(Reply::unavailable(
                "no replica of the key is reached, and this node still counts what it keeps for others: try again in a moment",
            )));
        }
        match facts.request.writes() {
            true => self.write(facts, around, env),
            false => self.read(facts, around, env),
        }
    }

    fn read(
        &mut self,
        facts: &Facts,
        around: &mut Surroundings<'_>,
        env: &mut impl Env,
    ) -> Result<Next, Trouble> {
        let loaded = around.replica.read(&facts.key, facts.unit, env.engine())?;
        let is_owed = around.hints.has(facts.unit, &facts.key, env.engine());
        if loaded.state.is_empty() || !is_owed {
            return Ok(Next::End(Reply::unavailable(NOBODY)));
        }
        sometimes!(env, FallbackRead);
        let reply = get::answer(&loaded.state, facts).by_a_fallback();
        if loaded.lsn <= env.engine().durable() {
            return Ok(Next::End(reply));
        }
        self.reply = Some(reply);
        around.held.until(loaded.lsn, Release::Send(self.me, facts.answer(Answer::MergeAck)));
        Ok(Next::Wait)
    }

    fn write(
        &mut self,
        facts: &Facts,
        around: &mut Surroundings<'_>,
        env: &mut impl Env,
    ) -> Result<Next, Trouble> {
        if !around.held.has_room() {
            return Err(Trouble::Failed(Error::Busy(
                "too much waits for the disk; try again later",
            )));
        }
        let primaries = Primaries::under(around.view.layouts, facts.unit);
        // Nothing may have been issued here for long.
        let now_ms = around.replica.latest_ms().max(around.replica.time(env).wall_ms());
        let (key, owners) = (&facts.key, primaries.nodes());
        let debt = around.hints.promise((key, facts.unit), owners, now_ms, env.engine())?;
        let Some(debt) = debt else {
            sometimes!(env, FallbackRefused);
            let is_full = env.engine().is_nearly_full();
            return Ok(Next::End(Reply::unavailable(if is_full { DISK_FULL } else { NO_ROOM })));
        };
        let heard = Heard { replicas: owners.len(), ..Heard::default() };
        let (covers, heard) = put::covers(facts, heard);
        let event = Event { version: |hlc| put::version(facts, hlc), with: debt.changes() };
        let issued = around.replica.issue_with(key, facts.unit, covers, &heard, event, env)?;
        owes(facts, debt, around, env);
        around.held.until(issued.lsn, Release::Send(self.me, facts.answer(Answer::MergeAck)));
        if let Some(reservation) = issued.reservation {
            around.held.until(issued.lsn, Release::Reserved(reservation));
        }
        let context = Context { clock: issued.known, highest: issued.hlc };
        let written = Written { dot: issued.dot, hlc: issued.hlc };
        self.written = Some(written);
        let by = By::Fallback;
        self.reply = Some(Reply::Stored { context, version: written.stamp(), by });
        Ok(Next::Wait)
    }
}

/// The hints are in the store. What is on its way to their targets is older.
fn owes(facts: &Facts, debt: Debt, around: &mut Surroundings<'_>, env: &impl Env) {
    sometimes!(env, FallbackWrote);
    sometimes!(env, FallbackDeleted, matches!(facts.request.action, Action::Delete { .. }));
    sometimes!(env, FallbackWroteAgain, !debt.is_new());
    for hint in debt.keys() {
        around.handing.renew(hint);
    }
    around.hints.owe(debt);
    around.counters.fallbacks += 1;
}

/// What is said where nothing of a key is kept for its replicas.
const NOBODY: &str =
    "none of the key's replicas is reached, and this node keeps nothing of the key for them";
const DISK_FULL: &str = "none of the key's replicas is reached, and this node's disk is nearly full, so that it keeps no more for \
                         them: nothing was written";
const NO_ROOM: &str = "none of the key's replicas is reached, and this node keeps so much for them, or for so long, that it takes \
                       no more: nothing was written";
