//! Clients: what each has seen, and the request that an operation becomes.
//!
//! A client keeps, for each key, the first and the last context that it was given, as the token that a real client would
//! hold: every context goes through `seal` and `open`. Operations are not chained: each is sent at its time, whether or not
//! earlier ones have ended. A request that is tried again keeps its name, its value and its context.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use rondo_core::id::{KeyspaceId, RequestId};
use rondo_core::layout::keyspace;
use rondo_core::message::{self, Request};
use rondo_core::version::context::Context;

use crate::draw::{Dice, Stream};
use crate::history::{self, Op};
use crate::scenario::{Action, Operation, Over};

/// The keyspace `default` has this id.
const KEYSPACE: KeyspaceId = KeyspaceId(1);
/// How long values are at least, in bytes: long enough that a torn write tears one.
const VALUE_BYTES: u32 = 40;

/// All clients of a run.
#[derive(Debug)]
pub struct Clients {
    secret: Vec<u8>,
    tokens: BTreeMap<(u32, u32), Tokens>,
}

#[derive(Debug)]
struct Tokens {
    first: String,
    last: String,
}

/// A key as clients spell it.
#[must_use]
pub fn key(number: u32) -> Bytes {
    Bytes::from(format!("k{number}"))
}

/// The number of a key.
#[must_use]
pub fn key_number(key: &[u8]) -> Option<u32> {
    std::str::from_utf8(key).ok()?.strip_prefix('k')?.parse().ok()
}

impl Clients {
    /// Clients of a cluster with this secret.
    #[must_use]
    pub fn new(secret: Vec<u8>) -> Clients {
        Clients { secret, tokens: BTreeMap::new() }
    }

    /// The record of an operation that begins now; it is the `id`-th.
    pub fn begin(&self, id: usize, operation: &Operation, dice: &mut Dice) -> Op {
        let Operation { client, key, level, action, bytes, .. } = *operation;
        let mut draw = || u128::from(dice.next(Stream::Request, id as u32, 0).bits());
        let request = RequestId(draw() << 64 | draw());
        let value = match action {
            Action::Put { .. } => history::value(id, client, bytes.max(VALUE_BYTES) as usize),
            Action::Get | Action::Delete { .. } => Bytes::new(),
        };
        let sent = self.context(client, key, action);
        Op { client, key, level, action, request, value, sent, attempts: Vec::new() }
    }

    /// The request of one attempt, from 1.
    #[must_use]
    pub fn request(op: &Op, named: bool, attempt: u32, deadline_ms: u64) -> Request {
        let context = op.sent.clone();
        let action = match op.action {
            Action::Get => message::Action::Get,
            Action::Delete { .. } => message::Action::Delete { context },
            Action::Put { .. } => message::Action::Put {
                value: op.value.clone(),
                content_type: Bytes::new(),
                context,
            },
        };
        Request {
            id: op.request,
            named,
            attempt,
            keyspace: Arc::from(keyspace::DEFAULT),
            key: key(op.key),
            level: Some(op.level),
            deadline_ms: Some(deadline_ms),
            action,
        }
    }

    /// A client was given a context.
    pub fn learn(&mut self, client: u32, number: u32, context: &Context) {
        let Some(token) = context.seal(&self.secret, KEYSPACE, &key(number)) else {
            return;
        };
        self.tokens
            .entry((client, number))
            .and_modify(|tokens| tokens.last.clone_from(&token))
            .or_insert_with(|| Tokens { first: token.clone(), last: token });
    }

    fn context(&self, client: u32, number: u32, action: Action) -> Option<Context> {
        let tokens = self.tokens.get(&(client, number));
        let token = match action.over()? {
            Over::Blind => return None,
            Over::Nothing => None,
            Over::Last => tokens.map(|tokens| &tokens.last),
            Over::Stale => tokens.map(|tokens| &tokens.first),
        };
        Some(token.map_or_else(Context::default, |token| {
            Context::open(token, &self.secret, KEYSPACE, &key(number))
                .expect("the cluster's own token for this key")
        }))
    }
}

#[cfg(test)]
mod tests {
    use rondo_core::id::ActorId;
    use rondo_core::layout::keyspace::Level;
    use rondo_core::version::dvv::Clock;
    use rondo_core::version::hlc::Hlc;

    use super::*;

    fn put(over: Over) -> Operation {
        Operation {
            at_us: 0,
            client: 3,
            node: 0,
            key: 5,
            level: Level::Quorum,
            action: Action::Put { over },
            named: true,
            retries: Vec::new(),
            bytes: 0,
            vanishes_ms: 0,
        }
    }

    fn context(n: u64) -> Context {
        Context { clock: Clock::new([(ActorId(9), n)]), highest: Hlc(n << 16) }
    }

    #[test]
    fn a_client_sends_the_context_it_means() {
        let mut clients = Clients::new(b"secret".to_vec());
        let sent = |clients: &Clients, over| clients.begin(7, &put(over), &mut Dice::new(1)).sent;
        assert_eq!(sent(&clients, Over::Last), Some(Context::default()), "nothing was seen yet");
        clients.learn(3, 5, &context(1));
        clients.learn(3, 5, &context(2));
        clients.learn(3, 6, &context(8));
        assert_eq!(sent(&clients, Over::Blind), None);
        assert_eq!(sent(&clients, Over::Nothing), Some(Context::default()));
        assert_eq!(sent(&clients, Over::Stale), Some(context(1)));
        assert_eq!(sent(&clients, Over::Last), Some(context(2)));
    }

    #[test]
    fn a_value_is_as_long_as_asked() {
        let clients = Clients::new(b"secret".to_vec());
        let large = Operation { bytes: 5_000, ..put(Over::Blind) };
        let bytes = |operation| clients.begin(7, operation, &mut Dice::new(1)).value.len();
        assert_eq!((bytes(&large), bytes(&put(Over::Blind))), (5_000, 40));
    }

    #[test]
    fn a_second_attempt_is_the_same_request() {
        let mut clients = Clients::new(b"secret".to_vec());
        clients.learn(3, 5, &context(1));
        let op = clients.begin(7, &put(Over::Last), &mut Dice::new(1));
        let first = Clients::request(&op, true, 1, 500);
        clients.learn(3, 5, &context(4));
        let second = Clients::request(&op, true, 2, 500);
        assert_eq!(second.attempt, 2);
        assert_eq!(Request { attempt: 1, ..second }, first);
    }
}
