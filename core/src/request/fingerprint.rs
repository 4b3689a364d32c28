//! What a request id is bound to: one number for everything that a write asks, so that another write under the same
//! id is noticed and never taken for another attempt.
//!
//! It covers the keyspace, the key, the action, the value and what describes it, the context, and the level that
//! holds; whatever a request may say one day is part of it, for it is made of the request as bytes. It leaves out what may
//! differ between attempts: their number, their deadline, and who asks.

use xxhash_rust::xxh3::Xxh3;

use crate::id::RequestId;
use crate::layout::keyspace::Level;
use crate::wire::client::{Request, encode_request};

/// 128 bits of what a request asks. Two requests of one client that have the same are the same: a hash without a key
/// is enough, because whoever finds two alike deceives nobody but himself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Fingerprint(u128);

impl Fingerprint {
    /// Of a request that is done at `level`.
    #[must_use]
    pub fn of(request: &Request, level: Level) -> Fingerprint {
        let bare = Request {
            id: RequestId(0),
            named: false,
            attempt: 0,
            source: 0,
            level: Some(level),
            deadline_ms: None,
            ..request.clone()
        };
        let (header, values) = encode_request(&bare);
        let mut hash = Xxh3::new();
        hash.update(&header);
        values.iter().for_each(|value| hash.update(value));
        Fingerprint(hash.digest128())
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::id::ActorId;
    use crate::request_fixture::request;
    use crate::version::context::Context;
    use crate::version::dvv::VersionVector;
    use crate::version::hlc::Hlc;
    use crate::wire::client::Action;

    fn put(value: &'static str, content_type: &'static str, context: Option<Context>) -> Request {
        request(Action::Put {
            value: value.into(),
            content_type: content_type.into(),
            context,
            ttl_ms: None,
        })
    }

    fn seen(n: u64, highest: u64) -> Option<Context> {
        Some(Context { clock: VersionVector::new([(ActorId(1), n)]), highest: Hlc(highest) })
    }

    #[test]
    fn it_tells_apart_whatever_is_asked_and_nothing_else() {
        let of = |request: &Request| Fingerprint::of(request, Level::Quorum);
        let first = put("v", "t", None);
        let stays = |ms: u64| first.clone().staying(Some(ms));
        let others = [
            stays(1_000),
            stays(2_000),
            put("w", "t", None),
            put("v", "u", None),
            put("vt", "", None),
            put("v", "t", seen(1, 1)),
            put("v", "t", seen(2, 1)),
            put("v", "t", seen(1, 2)),
            Request { key: Bytes::from_static(b"l"), ..first.clone() },
            Request { keyspace: "other".into(), ..first.clone() },
            Request { action: Action::Delete { context: None }, ..first.clone() },
            Request { action: Action::Delete { context: seen(1, 1) }, ..first.clone() },
        ];
        let mut all: Vec<u128> = others.iter().map(|other| of(other).0).collect();
        all.extend([of(&first).0, Fingerprint::of(&first, Level::All).0]);
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), others.len() + 2);
        let again = Request {
            attempt: 2,
            deadline_ms: Some(9),
            source: 4,
            level: Some(Level::Quorum),
            ..first.clone()
        };
        assert_eq!(of(&again), of(&first));
    }
}
