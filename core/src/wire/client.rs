//! What clients ask about one key and what they are told, as clients of this node say it and as a forward carries it.

use std::sync::Arc;

use bytes::Bytes;

use crate::error::{Error, Result};
use crate::id::RequestId;
use crate::layout::keyspace::Level;
use crate::version::context::Context;
use crate::version::dvv::Stamp;
use crate::version::hlc::Hlc;
use crate::wire::frame::{Generation, Reader, Values, Wire, Writer, table};

/// What a client asks about one key.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Request {
    /// The client's name for the request, or a random one.
    pub id: RequestId,
    /// Whether the client named it, so that another attempt may follow.
    pub named: bool,
    /// 1 for the first attempt.
    pub attempt: u32,
    /// Who asks, as a number that one client keeps: a hash of its address. What is remembered for a while is shared out by it.
    pub source: u64,
    /// The keyspace's name.
    pub keyspace: Arc<str>,
    /// The key: 1 to `KEY_BYTES_MAX` bytes.
    pub key: Bytes,
    /// The level; the keyspace's when absent.
    pub level: Option<Level>,
    /// How long it may take, in milliseconds; the node's default when absent.
    pub deadline_ms: Option<u64>,
    /// What to do.
    pub action: Action,
}

impl Request {
    /// The bytes that it keeps in memory, about.
    #[must_use]
    pub fn weight(&self) -> usize {
        let (value, context) = match &self.action {
            Action::Put { value, content_type, context, .. } => {
                (value.len() + content_type.len(), context.as_ref())
            }
            Action::Delete { context } => (0, context.as_ref()),
            Action::Get => (0, None),
        };
        let seen = context.map_or(0, |context| size_of_val(context.clock.entries()));
        size_of::<Request>() + self.key.len() + value + seen
    }

    /// The same request; a put that does not say how long its value stays keeps it for so many milliseconds.
    #[must_use]
    pub fn staying(mut self, usual_ttl_ms: Option<u64>) -> Request {
        if let Action::Put { ttl_ms, .. } = &mut self.action {
            *ttl_ms = ttl_ms.or(usual_ttl_ms);
        }
        self
    }

    /// Whether it may change the key.
    #[must_use]
    pub const fn writes(&self) -> bool {
        !matches!(self.action, Action::Get)
    }

    /// What a refusal of this attempt, before anything was done for it, means for the request. "Nothing was written" is
    /// true of a first attempt; of a later one nobody knows, because an earlier one may have written.
    #[must_use]
    pub fn refused(&self, refusal: Reply) -> Reply {
        match refusal {
            Reply::Unavailable { .. } | Reply::Overloaded { .. }
                if self.writes() && self.attempt > 1 =>
            {
                Reply::Indeterminate { acks: 0, needed: 1 }
            }
            refusal => refusal,
        }
    }
}

/// What to do with a key.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Action {
    /// Stores a value.
    Put {
        /// The value, at most `VALUE_BYTES_MAX` bytes.
        value: Bytes,
        /// Its media type; may be empty.
        content_type: Bytes,
        /// What the client has seen and means to overwrite; blind when absent.
        context: Option<Context>,
        /// How long it stays, in milliseconds from when the request came, at most `TTL_MS_MAX`; 0 for ever, absent as its keyspace
        /// says.
        ttl_ms: Option<u64>,
    },
    /// Deletes: stores a tombstone.
    Delete {
        /// What the client has seen and means to delete; blind when absent.
        context: Option<Context>,
    },
    /// Reads.
    Get,
}

/// Who answers. No message carries it: a fallback answers its own clients alone.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum By {
    /// Primaries of the key, as many as the level says.
    #[default]
    Primaries,
    /// The node that the client asked, which is no primary, because it reached none: by what it keeps for them.
    Fallback,
}

/// The outcome of a request. Every class says whether anything may have changed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Reply {
    /// The write is held by as many replicas as its level promises.
    Stored {
        /// What the client knows of the key now.
        context: Context,
        /// The name of the write among all of the key.
        version: Stamp,
        /// Who holds it.
        by: By,
    },
    /// The key has values.
    Found {
        /// The values, the newest first; in a `Newest` keyspace the first is the answer.
        siblings: Vec<Sibling>,
        /// What the client knows of the key now.
        context: Context,
        /// Who says so.
        by: By,
    },
    /// The key has no value: never written, or deleted.
    NotFound {
        /// Values that stand beside the delete which won, the newest first: written concurrently, and there until somebody
        /// who has been told of them overwrites them.
        siblings: Vec<Sibling>,
        /// What the client knows of the key now; not empty after a delete.
        context: Context,
        /// Who says so.
        by: By,
    },
    /// The write may or may not have happened, now or later. Never to be reported as failed.
    Indeterminate {
        /// Replicas known to hold it.
        acks: u8,
        /// Replicas needed.
        needed: u8,
    },
    /// No attempt of the request has written anything: too few replicas, or no layout yet.
    Unavailable {
        /// Why, for people.
        reason: String,
        /// Whether it may pass by itself, so that asking again helps.
        passes: bool,
    },
    /// A bound was reached; no attempt of the request has written anything.
    Overloaded {
        /// Which bound, for people.
        reason: String,
        /// Whether it may pass by itself, so that asking again helps.
        passes: bool,
    },
    /// The request makes no sense, or its id names another one here. This attempt has written nothing; of others it says nothing.
    BadRequest {
        /// Why, for people.
        reason: String,
    },
}

impl Reply {
    /// Nothing was done, for lack of nodes, and that may pass by itself.
    pub fn unavailable(reason: impl Into<String>) -> Reply {
        Reply::Unavailable { reason: reason.into(), passes: true }
    }

    /// Nothing was done, for lack of room, and that may pass by itself.
    pub fn overloaded(reason: impl Into<String>) -> Reply {
        Reply::Overloaded { reason: reason.into(), passes: true }
    }

    /// The bytes that it keeps in memory beside itself, about.
    #[must_use]
    pub fn weight(&self) -> usize {
        match self {
            Reply::Stored { context, .. } => size_of_val(context.clock.entries()),
            Reply::Found { siblings, context, .. } | Reply::NotFound { siblings, context, .. } => {
                let values = siblings.iter().map(|sibling| {
                    size_of_val(sibling) + sibling.value.len() + sibling.content_type.len()
                });
                size_of_val(context.clock.entries()) + values.sum::<usize>()
            }
            Reply::Unavailable { reason, .. }
            | Reply::Overloaded { reason, .. }
            | Reply::BadRequest { reason } => reason.len(),
            Reply::Indeterminate { .. } => 0,
        }
    }

    /// The same outcome, by a fallback.
    #[must_use]
    pub fn by_a_fallback(mut self) -> Reply {
        if let Reply::Stored { by, .. } | Reply::Found { by, .. } | Reply::NotFound { by, .. } =
            &mut self
        {
            *by = By::Fallback;
        }
        self
    }

    /// The same refusal, which stays until somebody changes what its reason names.
    #[must_use]
    pub fn lasting(mut self) -> Reply {
        if let Reply::Unavailable { passes, .. } | Reply::Overloaded { passes, .. } = &mut self {
            *passes = false;
        }
        self
    }
}

/// One value of a key.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Sibling {
    /// Its name among all versions of the key.
    pub version: Stamp,
    /// The hash of its content.
    pub digest: u64,
    /// Its media type; may be empty.
    pub content_type: Bytes,
    /// From when on it counts as deleted; `None` when it stays.
    pub expires: Option<Hlc>,
    /// The value.
    pub value: Bytes,
}

/// A request as bytes, for its fingerprint: its header, and the values in it.
#[must_use]
pub fn encode_request(request: &Request) -> (Bytes, Values) {
    let mut to = Writer::after(&[]);
    request.put(&mut to);
    let (header, values) = to.finish();
    (Bytes::from(header), values)
}

table!(enum Level { 1 One, 2 Quorum, 3 All });
table!(struct Request { id, named, attempt, source, keyspace, key, level, deadline_ms, action });
table!(enum Reply {
    1 Stored { context, version, by },
    2 Found { siblings, context, by },
    3 NotFound { siblings, context, by },
    4 Indeterminate { acks, needed },
    5 Unavailable { reason, passes },
    6 Overloaded { reason, passes },
    7 BadRequest { reason },
});

impl Wire for By {
    fn put(&self, to: &mut Writer) {
        to.leave_out(*self == By::Primaries);
    }

    fn take(_: &mut Reader) -> Result<Self> {
        Ok(By::Primaries)
    }
}

impl Wire for Action {
    fn put(&self, to: &mut Writer) {
        match self {
            Action::Put { value, content_type, context, ttl_ms } => {
                1u8.put(to);
                to.value(value);
                content_type.put(to);
                context.put(to);
                match to.generation() {
                    Generation::First => to.leave_out(ttl_ms.is_none()),
                    Generation::Second => ttl_ms.put(to),
                }
            }
            Action::Delete { context } => {
                2u8.put(to);
                context.put(to);
            }
            Action::Get => 3u8.put(to),
        }
    }

    fn take(from: &mut Reader) -> Result<Self> {
        match u8::take(from)? {
            1 => {
                let value = from.value()?;
                let (content_type, context) = (Wire::take(from)?, Wire::take(from)?);
                let ttl_ms = match from.generation() {
                    Generation::First => None,
                    Generation::Second => Wire::take(from)?,
                };
                Ok(Action::Put { value, content_type, context, ttl_ms })
            }
            2 => Ok(Action::Delete { context: Wire::take(from)? }),
            3 => Ok(Action::Get),
            _ => Err(Error::Malformed("an unknown kind of Action")),
        }
    }
}

impl Wire for Sibling {
    fn put(&self, to: &mut Writer) {
        self.version.put(to);
        self.digest.put(to);
        self.content_type.put(to);
        match to.generation() {
            Generation::First => to.leave_out(self.expires.is_none()),
            Generation::Second => self.expires.put(to),
        }
        to.value(&self.value);
    }

    fn take(from: &mut Reader) -> Result<Self> {
        let (version, digest) = (Wire::take(from)?, Wire::take(from)?);
        let content_type = Wire::take(from)?;
        let expires = match from.generation() {
            Generation::First => None,
            Generation::Second => Wire::take(from)?,
        };
        let value = from.value()?;
        Ok(Sibling { version, digest, content_type, expires, value })
    }
}
