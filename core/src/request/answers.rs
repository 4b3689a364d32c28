//! How those who ask are told: a client at once, a peer by a message.
//!
//! A refusal comes before anything was done for an attempt. To a client it says what is known of the request; to a peer
//! it says that another primary may be asked.

use std::collections::VecDeque;

use crate::engine::ReadTicket;
use crate::handoff::handing::Handing;
use crate::handoff::hints::Hints;
use crate::held::Held;
use crate::id::{NodeId, OpId, Unit};
use crate::member::view::View;
use crate::repair::owed::Debts;
use crate::replica::Replica;
use crate::request::operation::Asker;
use crate::sometimes;
use crate::status::Counters;
use crate::step::Env;
use crate::transfer::units::Units;
use crate::wire::client::{Reply, Request};
use crate::wire::forward::{ForwardAnswer, ForwardMessage};
use crate::wire::key::KeyRef;
use crate::wire::message::Message;

/// What the coordinator works with, of the other machines of its shard.
pub struct Surroundings<'a> {
    /// What is true of the node as a whole.
    pub view: View<'a>,
    /// The local copy.
    pub replica: &'a mut Replica,
    /// Which units this node does not have all of.
    pub units: &'a Units,
    /// What waits for the disk.
    pub held: &'a mut Held,
    /// Messages to send, to this node itself too.
    pub out: &'a mut VecDeque<(NodeId, Message)>,
    /// Dots to be issued once a cold read has ended.
    pub cold: &'a mut Vec<(KeyRef, ReadTicket, OpId)>,
    /// Dots to be issued once a record that cannot be read has been replaced.
    pub unreadable: &'a mut Vec<(KeyRef, OpId)>,
    /// Keys whose clocks are full: what is known of actors that issue no more must be purged from them.
    pub full: &'a mut Vec<(KeyRef, Unit)>,
    /// What writes owe when they end.
    pub debts: &'a mut Debts,
    /// What is owed by the store, and is on its way.
    pub hints: &'a mut Hints,
    /// How that is handed over.
    pub handing: &'a mut Handing,
    /// What was done.
    pub counters: &'a mut Counters,
}

/// Tells the outcome.
pub fn answer(asker: Asker, reply: Reply, around: &mut Surroundings<'_>, env: &mut impl Env) {
    match asker {
        Asker::Client(tag) => env.reply(tag, reply),
        Asker::Peer(node, op) => tell(node, op, ForwardAnswer::Done { reply }, around),
    }
}

/// Refuses an attempt for which nothing was done. What that means for its request, whoever asks works out.
pub fn refuse(
    asker: Asker,
    request: &Request,
    refusal: Reply,
    around: &mut Surroundings<'_>,
    env: &mut impl Env,
) {
    sometimes!(env, RequestRefusedAtOnce, matches!(refusal, Reply::Unavailable { .. }));
    match asker {
        Asker::Client(_) => {
            let reply = request.refused(refusal);
            around.counters.count(&reply);
            answer(asker, reply, around, env);
        }
        Asker::Peer(..) => turn_away(asker, refusal, around, env),
    }
}

/// Says that nothing has been done, by any attempt as far as this node knows.
pub fn turn_away(asker: Asker, refusal: Reply, around: &mut Surroundings<'_>, env: &mut impl Env) {
    around.counters.count(&refusal);
    match asker {
        Asker::Peer(node, op) if !matches!(refusal, Reply::BadRequest { .. }) => {
            tell(node, op, ForwardAnswer::Refused { reply: refusal }, around);
        }
        asker => answer(asker, refusal, around, env),
    }
}

/// Tells the node that passed a request on what has become of it.
fn tell(to: NodeId, op: OpId, answer: ForwardAnswer, around: &mut Surroundings<'_>) {
    around.out.push_back((to, Message::Forward(ForwardMessage::Answer { op, answer })));
}
