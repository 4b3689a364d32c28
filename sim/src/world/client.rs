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
use rondo_core::version::context::Context;
use rondo_core::wire::client::{self as wire, Request};

use crate::draw::{Dice, Stream};
use crate::history::{self, Op};
use crate::scenario::{Action, Change, Operation, Over};

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
    /// Of the last write that was acknowledged.
    own: Option<String>,
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

    /// The record of an operation that begins now; it is the `id`-th, and may use the request id of `earlier` again.
    pub fn begin(
        &self,
        id: usize,
        operation: &Operation,
        earlier: Option<RequestId>,
        dice: &mut Dice,
    ) -> Op {
        let Operation { client, key, level, action, bytes, attempt, .. } = *operation;
        let mut draw = || u128::from(dice.next(Stream::Request, id as u32, 0).bits());
        let request = earlier.unwrap_or_else(|| RequestId(draw() << 64 | draw()));
        let value = match action {
            Action::Put { .. } => history::value(id, client, bytes.max(VALUE_BYTES) as usize),
            Action::Get | Action::Delete { .. } => Bytes::new(),
        };
        let sent = self.context(client, key, action);
        let (first_attempt, attempts) = (attempt, Vec::new());
        Op { client, key, level, action, request, first_attempt, value, sent, attempts }
    }

    /// The request of one attempt, from 1.
    #[must_use]
    pub fn request(op: &Op, named: bool, attempt: u32, deadline_ms: u64) -> Request {
        let context = op.sent.clone();
        let action = match op.action {
            Action::Get => wire::Action::Get,
            Action::Delete { .. } => wire::Action::Delete { context },
            Action::Put { .. } => {
                let (value, content_type) = (op.value.clone(), Bytes::new());
                let ttl_ms = op.action.ttl_ms().map(u64::from);
                wire::Action::Put { value, content_type, context, ttl_ms }
            }
        };
        Request {
            id: op.request,
            named,
            attempt,
            source: u64::from(op.client),
            keyspace: Arc::from(keyspace::DEFAULT),
            key: key(op.key),
            level: Some(op.level),
            deadline_ms: Some(deadline_ms),
            action,
        }
    }

    /// The request, changed as it must not be.
    #[must_use]
    pub fn changed(mut request: Request, change: Change) -> Request {
        let other = || Bytes::from(format!("another value under {}", request.id));
        let put = |context| {
            let (value, content_type) = (other(), Bytes::new());
            wire::Action::Put { value, content_type, context, ttl_ms: None }
        };
        match (change, request.action.clone()) {
            (Change::Key(number), _) => request.key = key(number),
            (Change::Level(level), _) => request.level = Some(level),
            (Change::Deadline(ms), _) => request.deadline_ms = Some(ms),
            (Change::Value, wire::Action::Put { context, .. })
            | (Change::Action, wire::Action::Delete { context }) => request.action = put(context),
            (Change::Action, wire::Action::Put { context, .. }) => {
                request.action = wire::Action::Delete { context };
            }
            (Change::Context, wire::Action::Put { value, content_type, context, ttl_ms }) => {
                let context = history::other_context(context.as_ref());
                request.action = wire::Action::Put { value, content_type, context, ttl_ms };
            }
            (Change::Context, wire::Action::Delete { context }) => {
                let context = history::other_context(context.as_ref());
                request.action = wire::Action::Delete { context };
            }
            (Change::Value | Change::Action | Change::Context, _) => {}
        }
        request
    }

    /// A client was given a context, for a write where that `is_own`.
    pub fn learn(&mut self, client: u32, number: u32, context: &Context, is_own: bool) {
        let token = context.seal(&self.secret, KEYSPACE, &key(number));
        let token = token.expect("whatever a node tells fits in a token");
        let new = || Tokens { first: token.clone(), last: token.clone(), own: None };
        let tokens = self.tokens.entry((client, number)).or_insert_with(new);
        tokens.last.clone_from(&token);
        if is_own {
            tokens.own = Some(token);
        }
    }

    /// Whether a token of another key, the last one that the client was given, is taken for one of this key.
    #[must_use]
    pub fn is_misled(&self, client: u32, number: u32) -> bool {
        let others = self.tokens.iter().filter(|((of, key), _)| *of == client && *key != number);
        let open = |tokens: &Tokens| {
            Context::open(&tokens.last, &self.secret, KEYSPACE, &key(number)).is_ok()
        };
        others.map(|(_, tokens)| tokens).any(open)
    }

    fn context(&self, client: u32, number: u32, action: Action) -> Option<Context> {
        let tokens = self.tokens.get(&(client, number));
        let token = match action.over()? {
            Over::Blind => return None,
            Over::Nothing => None,
            Over::Last => tokens.map(|tokens| &tokens.last),
            Over::Stale => tokens.map(|tokens| &tokens.first),
            Over::Own => tokens.and_then(|tokens| tokens.own.as_ref()),
            // It is refused before the node hears of it.
            Over::Foreign => None,
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
    use rondo_core::version::dvv::VersionVector;
    use rondo_core::version::hlc::Hlc;

    use super::*;

    fn put(over: Over) -> Operation {
        Operation {
            at_us: 0,
            client: 3,
            node: 0,
            key: 5,
            level: Level::Quorum,
            action: Action::put(over),
            named: true,
            same_id_as: None,
            attempt: 1,
            retries: Vec::new(),
            bytes: 0,
            vanishes_ms: 0,
        }
    }

    fn context(n: u64) -> Context {
        Context { clock: VersionVector::new([(ActorId(9), n)]), highest: Hlc(n << 16) }
    }

    #[test]
    fn a_client_sends_the_context_it_means() {
        let mut clients = Clients::new(b"secret".to_vec());
        let sent =
            |clients: &Clients, over| clients.begin(7, &put(over), None, &mut Dice::new(1)).sent;
        assert_eq!(sent(&clients, Over::Last), Some(Context::default()), "nothing was seen yet");
        clients.learn(3, 5, &context(1), true);
        clients.learn(3, 5, &context(2), false);
        clients.learn(3, 6, &context(8), false);
        assert_eq!(sent(&clients, Over::Blind), None);
        assert_eq!(sent(&clients, Over::Nothing), Some(Context::default()));
        assert_eq!(sent(&clients, Over::Stale), Some(context(1)));
        assert_eq!(sent(&clients, Over::Last), Some(context(2)));
        assert_eq!(sent(&clients, Over::Own), Some(context(1)), "what its write was answered with");
        assert!(!clients.is_misled(3, 5), "the token of key 6 is none of key 5");
    }

    #[test]
    fn a_value_is_as_long_as_asked() {
        let clients = Clients::new(b"secret".to_vec());
        let large = Operation { bytes: 5_000, ..put(Over::Blind) };
        let bytes = |operation| clients.begin(7, operation, None, &mut Dice::new(1)).value.len();
        assert_eq!((bytes(&large), bytes(&put(Over::Blind))), (5_000, 40));
    }

    #[test]
    fn a_second_attempt_is_the_same_request() {
        let mut clients = Clients::new(b"secret".to_vec());
        clients.learn(3, 5, &context(1), false);
        let op = clients.begin(7, &put(Over::Last), None, &mut Dice::new(1));
        let first = Clients::request(&op, true, 1, 500);
        clients.learn(3, 5, &context(4), false);
        let second = Clients::request(&op, true, 2, 500);
        assert_eq!(second.attempt, 2);
        assert_eq!(Request { attempt: 1, ..second }, first);
    }

    #[test]
    fn a_change_changes_one_thing_and_keeps_the_id() {
        let clients = Clients::new(b"secret".to_vec());
        let op = clients.begin(7, &put(Over::Blind), None, &mut Dice::new(1));
        let first = Clients::request(&op, true, 1, 500);
        let changed = |change| Clients::changed(first.clone(), change);
        let moved = changed(Change::Key(9));
        assert_eq!(Request { key: key(5), ..moved.clone() }, first);
        assert!(moved.key == key(9) && moved.id == first.id);
        for change in [Change::Value, Change::Action, Change::Context] {
            let other = changed(change);
            assert!(other.action != first.action, "{change:?}");
            assert_eq!(Request { action: first.action.clone(), ..other }, first);
        }
        let level = changed(Change::Level(Level::All));
        assert_eq!(Request { level: first.level, ..level }, first);
        assert_eq!(changed(Change::Deadline(7)).deadline_ms, Some(7));
    }
}
