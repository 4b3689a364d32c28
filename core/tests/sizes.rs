//! What was accepted can always be merged, stored, sent and shown: n coordinators that were cut off from each other have each
//! let a key grow to their own bound, and then meet.

use bytes::Bytes;
use rondo_core::config::{
    BODY_BYTES_MAX, CONTENT_TYPE_BYTES_MAX, DOT_MAX, HEAD_BYTES_MAX, MESSAGE_BYTES_MAX,
    REPLICAS_MAX, RUNS_MAX, SIBLINGS_MAX, VALUE_BYTES_MAX, state_bytes_max,
};
use rondo_core::id::{ActorId, Epoch, KeyspaceId, OpId, RequestId};
use rondo_core::layout::live::LayoutSet;
use rondo_core::version::context::Context;
use rondo_core::version::dvv::{Dot, Entry, Version, VersionSet};
use rondo_core::version::hlc::Hlc;
use rondo_core::version::runs::{Run, Runs};
use rondo_core::wire::client::{By, Reply, Sibling};
use rondo_core::wire::forward::{ForwardAnswer, ForwardMessage};
use rondo_core::wire::frame::Generation;
use rondo_core::wire::key::{Ask, KeyMessage, KeyRef, Question};
use rondo_core::wire::message;
use rondo_core::wire::message::{Envelope, Message};
use rondo_core::wire::state::{decode_state, encode_state};

/// The largest state that one of `n` coordinators accepts: as many siblings and as many bytes as it may, all numbers as long as
/// they can be, its share of the runs.
fn largest(coordinator: usize, n: usize) -> VersionSet {
    let bytes = state_bytes_max(n);
    let content_type = Bytes::from(vec![b't'; CONTENT_TYPE_BYTES_MAX]);
    let values = Bytes::from(vec![b'v'; bytes]);
    let each = (bytes / SIBLINGS_MAX).min(VALUE_BYTES_MAX);
    let version = |at: usize| {
        let value = values.slice(at * each..(at + 1) * each);
        Version::value(Hlc(u64::MAX - at as u64), RequestId(u128::MAX), content_type.clone(), value)
    };
    let first = (coordinator as u64 + 1) << 32;
    let mut entries: Vec<Entry> = (0..(RUNS_MAX / n) as u64)
        .map(|at| {
            let mut known = Runs::default();
            known.add(Run { from: DOT_MAX - 1000, to: DOT_MAX });
            Entry { actor: ActorId(first + at), known, versions: Default::default() }
        })
        .collect();
    let newest_first = (0..SIBLINGS_MAX).map(|at| (DOT_MAX - at as u64, version(at)));
    entries[0].versions = newest_first.collect();
    VersionSet::from_entries(entries.into()).expect("what is accepted is sound")
}

fn sent(message: Message) -> Message {
    let envelope = Envelope { life: Default::default(), durable: Default::default(), message };
    let outbound = message::encode(&envelope, Generation::NEWEST).expect("the newest says all");
    let bytes = Bytes::from(outbound.parts.concat());
    assert!(bytes.len() <= MESSAGE_BYTES_MAX, "{} bytes", bytes.len());
    message::decode(&bytes).expect("what is sent can be read").message
}

#[test]
fn what_all_coordinators_accepted_fits_together() {
    for n in 1..=REPLICAS_MAX {
        let mut merged = VersionSet::default();
        for coordinator in 0..n {
            merged.merge(&largest(coordinator, n));
        }
        assert_eq!(merged.versions().count(), n * SIBLINGS_MAX);
        assert!(merged.fits(), "{n} coordinators");

        let (head, body) = encode_state(&merged);
        let body = Bytes::from(body.concat());
        assert!(head.len() <= HEAD_BYTES_MAX && body.len() <= BODY_BYTES_MAX, "{n} coordinators");
        assert_eq!(decode_state(&head, &body).expect("what is stored is read"), merged);

        let op = OpId::default();
        let key = KeyRef::new(KeyspaceId(1), vec![b'k'; 4096].into());
        let state = merged.clone();
        let layouts = LayoutSet::default();
        let ask =
            Ask { op, layouts, key, question: Question::Merge { state, epoch: Epoch::default() } };
        let merge = Message::Key(KeyMessage::Ask(ask));
        assert_eq!(sent(merge.clone()), merge);

        let siblings = merged.versions().map(|(_, version)| Sibling {
            version: version.stamp(ActorId(1)),
            digest: version.digest,
            content_type: version.content_type.clone(),
            expires: version.expires,
            value: version.value.clone(),
        });
        let context = Context { clock: merged.clock(), highest: merged.highest_hlc() };
        context.seal(b"secret", KeyspaceId(1), b"k").expect("a token of what is stored");
        let reply = Reply::Found { siblings: siblings.collect(), context, by: By::Primaries };
        let answer = ForwardAnswer::Done { reply };
        let told = Message::Forward(ForwardMessage::Answer { op, answer });
        assert_eq!(sent(told.clone()), told);
    }
}

/// The same predicate decides what is written and what is read back.
#[test]
fn what_does_not_fit_is_refused_when_it_is_read_as_when_it_is_written() {
    let mut state = VersionSet::default();
    for actor in 0..=RUNS_MAX as u64 {
        let version = Version::tombstone(Hlc(1), RequestId(1));
        state.event(ActorId(actor), 0, version);
        let (head, body) = encode_state(&state);
        let read = decode_state(&head, &Bytes::from(body.concat()));
        assert_eq!(read.is_ok(), state.fits(), "{actor}");
    }
    assert!(!state.fits());
    let dot = Dot { actor: ActorId(0), n: 1 };
    assert!(state.clock().covers(dot));
}
