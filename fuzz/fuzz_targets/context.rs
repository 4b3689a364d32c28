//! Context tokens: what a client gives back.
//!
//! Checked: opening never panics; what was sealed opens for the same key alone; no changed token opens.

#![no_main]

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use rondo_core::config::{CONTEXT_BYTES_MAX, DOT_MAX, RUNS_MAX};
use rondo_core::id::{ActorId, KeyspaceId};
use rondo_core::version::context::Context;
use rondo_core::version::dvv::{VersionVector, Dot};
use rondo_core::version::hlc::Hlc;

#[derive(Arbitrary, Debug)]
enum Input {
    Token(String),
    Sealed {
        entries: Vec<(u64, u64)>,
        dots: Vec<(u64, u64)>,
        highest: u64,
        keyspace: u32,
        key: Vec<u8>,
        secret: Vec<u8>,
        change: Change,
    },
}

#[derive(Arbitrary, Debug)]
enum Change {
    Nothing,
    Key(Vec<u8>),
    Keyspace(u32),
    Secret(Vec<u8>),
    Character { at: u16, to: u8 },
    Cut(u16),
}

fuzz_target!(|input: Input| {
    match input {
        Input::Token(token) => {
            assert!(Context::open(&token, b"secret", KeyspaceId(1), b"key").is_err());
        }
        Input::Sealed { entries, dots, highest, keyspace, key, secret, change } => {
            let entries = entries.into_iter().map(|(actor, n)| (ActorId(actor), n % (DOT_MAX + 1)));
            let mut clock = VersionVector::new(entries);
            for (actor, n) in dots {
                clock.add(Dot { actor: ActorId(actor), n: n % DOT_MAX + 1 });
            }
            let context = Context { clock, highest: Hlc(highest) };
            let keyspace = KeyspaceId(keyspace);
            let Ok(token) = context.seal(&secret, keyspace, &key) else {
                assert!(context.clock.runs() > RUNS_MAX);
                return;
            };
            assert!(token.len() <= CONTEXT_BYTES_MAX);
            changed(&context, &token, keyspace, &key, &secret, change);
        }
    }
});

fn changed(
    context: &Context,
    token: &str,
    keyspace: KeyspaceId,
    key: &[u8],
    secret: &[u8],
    change: Change,
) {
    let opened = match &change {
        Change::Nothing => {
            let opened = Context::open(token, secret, keyspace, key);
            assert_eq!(opened.as_ref().ok(), Some(context), "what was sealed opens");
            return;
        }
        Change::Key(other) if other != key => Context::open(token, secret, keyspace, other),
        Change::Keyspace(other) if *other != keyspace.0 => {
            Context::open(token, secret, KeyspaceId(*other), key)
        }
        // HMAC fills short keys up with zeroes, so those are not another secret.
        Change::Secret(other) if other != secret && ends(other) && ends(secret) => {
            Context::open(token, other, keyspace, key)
        }
        Change::Character { at, to } => {
            let mut bytes = token.as_bytes().to_vec();
            let at = usize::from(*at) % bytes.len();
            bytes[at] = to % 128;
            let Ok(other) = String::from_utf8(bytes) else { return };
            if other == token {
                return;
            }
            Context::open(&other, secret, keyspace, key)
        }
        Change::Cut(len) => {
            let len = usize::from(*len) % token.len();
            Context::open(&token[..len], secret, keyspace, key)
        }
        _ => return,
    };
    assert!(opened.is_err(), "opened although changed: {change:?}");
}

fn ends(secret: &[u8]) -> bool {
    secret.last().is_some_and(|last| *last != 0) && secret.len() <= 64
}
