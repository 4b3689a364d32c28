//! Histories made by hand, for the tests of the oracles.

use rondo_core::id::{ActorId, RequestId};
use rondo_core::layout::Quorums;
use rondo_core::layout::keyspace::Level;
use rondo_core::version::context::Context;
use rondo_core::version::dvv::{Dot, Entry, Version, VersionSet, VersionVector};
use rondo_core::version::hlc::Hlc;
use rondo_core::version::runs::Runs;
use rondo_core::wire::client::By;

use crate::history::{
    Answer, Attempt, Breach, End, Final, History, LayoutView, Op, Promise, Seen, Stamp, value,
};
use crate::oracle::Violation;
use crate::oracle::index::Index;
use crate::rt::Time;
use crate::scenario::{Action, Change, Over};

/// A history in the making. Stamps are chosen by the test; times are the same numbers in milliseconds.
#[derive(Default)]
pub(crate) struct Made {
    history: History,
}

/// The operation that was added last.
pub(crate) struct Last<'a> {
    history: &'a mut History,
    id: usize,
}

/// The clock that knows n dots of one actor.
pub(crate) fn clock(actor: u64, n: u64) -> VersionVector {
    VersionVector::new([(ActorId(actor), n)])
}

/// The layout of a node in a cluster of so many, with N=3 R=2 W=2 and two partitions that all nodes own.
pub(crate) fn layout(node: u32, nodes: u32) -> LayoutView {
    let quorums = Quorums { n: 3, r: 2, w: 2 };
    let owners = vec![(0..nodes).map(Some).collect(); 2];
    let zones = (0..nodes).map(|node| (node, String::new())).collect();
    let digest = "same".to_owned();
    let members = nodes as usize;
    LayoutView { node, version: 1, digest, quorums, wanted: quorums, zones, members, owners }
}

/// What an oracle tells when a node was seen to break a promise.
pub(crate) fn told_of(of: Promise, check: fn(&Index<'_>) -> Vec<Violation>) -> Vec<String> {
    let breach = Breach { node: 2, stamp: Stamp(5), of, what: "it did".to_owned() };
    let history = History { breaches: vec![breach], ..History::default() };
    check(&Index::of(&history)).into_iter().map(|violation| violation.what).collect()
}

/// The HLC that writes have here: they are ordered as they are made.
fn hlc(id: usize) -> Hlc {
    Hlc((id as u64 + 1) << 16)
}

impl Made {
    /// Clocks may be off by so much.
    pub(crate) fn clocks_apart(&mut self, ms: u64) {
        self.history.terms.clocks_apart_ms = Some(ms);
    }

    /// A blind put at `quorum`, acknowledged at `ended`; unknown without.
    pub(crate) fn put(&mut self, key: u32, called: u64, ended: Option<u64>) -> Last<'_> {
        let answer = Answer::Stored {
            context: Context::default(),
            version: hlc(self.next()),
            by: By::Primaries,
        };
        self.add(key, Action::put(Over::Blind), called, ended, answer)
    }

    /// A blind delete.
    pub(crate) fn delete(&mut self, key: u32, called: u64, ended: Option<u64>) -> Last<'_> {
        let answer = Answer::Stored {
            context: Context::default(),
            version: hlc(self.next()),
            by: By::Primaries,
        };
        self.add(key, Action::Delete { over: Over::Blind }, called, ended, answer)
    }

    /// A read at `quorum` that answered these writes' values, the first one as the value.
    pub(crate) fn get(&mut self, key: u32, called: u64, ended: u64, of: &[usize]) -> Last<'_> {
        let values = of.iter().map(|&id| Seen { op: Some(id), version: hlc(id) }).collect();
        let highest = of.iter().map(|&id| hlc(id)).max().unwrap_or_default();
        let context = Context { clock: VersionVector::default(), highest };
        self.add(key, Action::Get, called, Some(ended), Answer::Found { values, context })
    }

    /// A read at `quorum` that found nothing; `deleted_by` wrote the newest version there.
    pub(crate) fn miss(
        &mut self,
        key: u32,
        called: u64,
        ended: u64,
        deleted_by: Option<usize>,
    ) -> Last<'_> {
        let highest = deleted_by.map(hlc).unwrap_or_default();
        let context = Context { clock: VersionVector::default(), highest };
        self.add(
            key,
            Action::Get,
            called,
            Some(ended),
            Answer::NotFound { values: Vec::new(), context },
        )
    }

    /// The state of a key at a node at the end: these writes, each with its dot (actor, n).
    pub(crate) fn ends(&mut self, key: u32, node: u32, of: &[(usize, u64, u64)]) {
        let entries = of.iter().map(|&(id, actor, n)| {
            let op = &self.history.ops[id];
            let version = match op.action {
                Action::Delete { .. } => Version::tombstone(hlc(id), op.request),
                _ => Version::value(hlc(id), op.request, bytes::Bytes::new(), op.value.clone()),
            };
            let (known, versions) = (Runs::up_to(n), [(n, version)].into_iter().collect());
            Entry { actor: ActorId(actor), known, versions }
        });
        let state = VersionSet::from_entries(entries.collect()).expect("sorted by actor");
        self.history.sight(key, &state, (node, Stamp(1_000)), || format!("the end of n{node}"));
        self.history.ends.read.push(Final { key, node, state });
    }

    /// The history.
    pub(crate) fn history(self) -> History {
        self.history
    }

    fn next(&self) -> usize {
        self.history.ops.len()
    }

    fn add(
        &mut self,
        key: u32,
        action: Action,
        called: u64,
        ended: Option<u64>,
        answer: Answer,
    ) -> Last<'_> {
        let id = self.next();
        let end = ended.map(|at| End { stamp: Stamp(at), at: Time::at_ms(at), answer });
        let due = Some(Time::at_ms(called + 1_000));
        let called_at = Time::at_ms(called);
        let called = Stamp(called);
        let attempt = Attempt { node: 0, change: None, called, called_at, due, end };
        self.history.ops.push(Op {
            client: 0,
            key,
            level: Level::Quorum,
            action,
            request: RequestId(id as u128 + 100),
            first_attempt: 1,
            value: if matches!(action, Action::Put { .. }) {
                value(id, 0, 8)
            } else {
                bytes::Bytes::new()
            },
            sent: None,
            attempts: vec![attempt],
        });
        Last { history: &mut self.history, id }
    }
}

impl Last<'_> {
    /// Its id.
    pub(crate) fn id(self) -> usize {
        self.id
    }

    /// It was written with this context.
    pub(crate) fn sent(self, clock: VersionVector) -> Self {
        self.history.ops[self.id].sent = Some(Context { clock, highest: Hlc(0) });
        self
    }

    /// Its first attempt came with this change.
    pub(crate) fn changed(self, change: Change) -> Self {
        self.history.ops[self.id].attempts[0].change = Some(change);
        self
    }

    /// Its value stays so long.
    pub(crate) fn stays(self, ttl_ms: u32) -> Self {
        let op = &mut self.history.ops[self.id];
        op.action = op.action.staying(ttl_ms);
        self
    }

    /// Its level is `one`.
    /// It was acknowledged by a fallback.
    pub(crate) fn by_a_fallback(self, on: u32) -> Self {
        for attempt in &mut self.history.ops[self.id].attempts {
            attempt.node = on;
            if let Some(End { answer: Answer::Stored { by, .. }, .. }) = &mut attempt.end {
                *by = By::Fallback;
            }
        }
        self
    }

    pub(crate) fn at_one(self) -> Self {
        self.history.ops[self.id].level = Level::One;
        self
    }

    /// It was refused.
    pub(crate) fn refused(self) -> Self {
        let end = self.history.ops[self.id].attempts[0].end.as_mut().expect("it has ended");
        end.answer = Answer::Refused("no".to_owned());
        self
    }

    /// Its answer carried this context.
    pub(crate) fn knows(self, known: VersionVector) -> Self {
        let end = self.history.ops[self.id].attempts[0].end.as_mut().expect("it has ended");
        match &mut end.answer {
            Answer::Found { context, .. }
            | Answer::NotFound { context, .. }
            | Answer::Stored { context, .. } => context.clock = known,
            Answer::Indeterminate
            | Answer::Refused(_)
            | Answer::BadRequest(_)
            | Answer::Unreached => {}
        }
        self
    }

    /// Its version was seen on the wire with this dot.
    pub(crate) fn dot(self, actor: u64, n: u64) -> Self {
        let op = &self.history.ops[self.id];
        let dot = Dot { actor: ActorId(actor), n };
        let version = match op.action {
            Action::Delete { .. } => Version::tombstone(hlc(self.id), op.request),
            _ => Version::value(hlc(self.id), op.request, bytes::Bytes::new(), op.value.clone()),
        };
        let sighting = crate::history::Sighting {
            request: op.request,
            hlc: version.hlc,
            tombstone: version.tombstone,
            digest: version.digest,
            stamp: op.called(),
            issuer: 0,
            shown: Stamp::NEVER,
            place: "n0 to n1".to_owned(),
        };
        self.history.sightings.entry((op.key, dot)).or_default().push(sighting);
        self
    }
}
