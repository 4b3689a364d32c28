//! What the routes share: the way to the node, and what a front end knows besides.
//!
//! Every question goes through the node's inbox with a sink that is called once. A sink that is dropped without a call
//! means that the node stopped: of a write nobody knows whether it happened.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use rondo_core::admin::{AdminReply, AdminRequest, Done};
use rondo_core::budget::Budget;
use rondo_core::id::{KeyspaceId, RequestId};
use rondo_core::inbox::{Ask, Inbox};
use rondo_core::layout::keyspace::{self, Keyspace};
use rondo_core::status::Status;
use rondo_core::version::context::Context;
use tokio::sync::oneshot;

use crate::http::answer::Problem;
use crate::http::keyspaces::Keyspaces;

/// The front end of one node. Shared by all connections.
#[derive(Debug)]
pub struct Front {
    inbox: InboxBox,
    secret: Vec<u8>,
    run: u64,
    requests: AtomicU64,
    stopping: AtomicBool,
    was_ready: AtomicBool,
    default_keyspace: Arc<str>,
    keyspaces: Keyspaces,
    cors_origin: Option<String>,
    note: Mutex<Option<String>>,
}

/// An inbox without a picture of its own.
struct InboxBox(Inbox);

impl std::fmt::Debug for InboxBox {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Inbox")
    }
}

impl Front {
    /// A front end. `secret` seals context tokens; `run` is random, drawn for this run of the program.
    #[must_use]
    pub fn new(inbox: Inbox, secret: Vec<u8>, run: u64, cors_origin: Option<String>) -> Front {
        Front {
            inbox: InboxBox(inbox),
            secret,
            run,
            requests: AtomicU64::new(0),
            stopping: AtomicBool::new(false),
            was_ready: AtomicBool::new(false),
            default_keyspace: keyspace::DEFAULT.into(),
            keyspaces: Keyspaces::default(),
            cors_origin,
            note: Mutex::default(),
        }
    }

    /// What people are told beside what the node itself says, until something else is set.
    pub fn set_note(&self, note: Option<String>) {
        *self.note.lock().expect("no panic while locked") = note;
    }

    /// The budget of the bytes that clients make the node hold.
    #[must_use]
    pub fn memory(&self) -> Budget {
        self.inbox.0.memory().clients.clone()
    }

    /// Puts something into the node's inbox.
    pub fn ask(&self, ask: Ask) {
        self.inbox.0.ask(ask);
    }

    /// Asks the node for its picture.
    pub async fn status(&self) -> Result<Status, Problem> {
        let (sink, outcome) = oneshot::channel();
        let ask = Ask::Status(Box::new(move |status| {
            // As above: the client may have gone.
            let _ = sink.send(status);
        }));
        self.inbox.0.ask(ask);
        let mut status = outcome.await.map_err(|_| dropped())?;
        status.notes.extend(self.note.lock().expect("no panic while locked").clone());
        if status.ready {
            self.was_ready.store(true, Ordering::Relaxed);
        }
        Ok(status)
    }

    /// Asks the node what an operator asks.
    pub async fn admin(&self, request: AdminRequest) -> Result<AdminReply, Problem> {
        let (sink, outcome) = oneshot::channel();
        let ask = Ask::Admin(
            request,
            Box::new(move |reply| {
                let _ = sink.send(reply);
            }),
        );
        self.inbox.0.ask(ask);
        outcome.await.map_err(|_| dropped())
    }

    /// Whether the node has been ready since it started, as far as anybody has looked.
    #[must_use]
    pub fn was_ready(&self) -> bool {
        self.was_ready.load(Ordering::Relaxed)
    }

    /// A name for a request that its client did not name; not used twice.
    #[must_use]
    pub fn next_request_id(&self) -> RequestId {
        let count = self.requests.fetch_add(1, Ordering::Relaxed);
        RequestId(u128::from(self.run) << 64 | u128::from(count))
    }

    /// The context in a client's token.
    pub fn open(&self, token: &str, keyspace: KeyspaceId, key: &[u8]) -> Result<Context, Problem> {
        Context::open(token, &self.secret, keyspace, key).map_err(|error| {
            Problem::bad(
                format!("X-Rondo-Context: {error}"),
                "send the context that the last GET or PUT of this very key answered, or none",
            )
        })
    }

    /// The token for a client; an error when it would be too long to give out.
    pub fn seal(
        &self,
        context: &Context,
        keyspace: KeyspaceId,
        key: &[u8],
    ) -> Result<String, Problem> {
        context.seal(&self.secret, keyspace, key).map_err(|error| {
            Problem::new(
                hyper::StatusCode::INTERNAL_SERVER_ERROR,
                format!("what was done cannot be told with a context: {error}"),
                "read the key again; if that does not help, report this",
            )
        })
    }

    /// Says that the node is about to stop: it is not ready any more.
    pub fn stop(&self) {
        self.stopping.store(true, Ordering::Relaxed);
    }

    /// Whether the node is about to stop.
    #[must_use]
    pub fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }

    /// The name, to be kept, and the id of a keyspace. The node is asked at most once in a while.
    pub async fn keyspace(&self, name: &str) -> Result<(Arc<str>, KeyspaceId), Problem> {
        if name == keyspace::DEFAULT {
            return Ok((Arc::clone(&self.default_keyspace), Keyspace::default_keyspace().id));
        }
        if let Some(found) = self.keyspaces.kept(name) {
            return Ok(found);
        }
        if let Ok(Done::Layouts(layouts)) = self.admin(AdminRequest::Layout).await? {
            self.keyspaces.learn(layouts.keyspaces.into_iter());
        }
        if let Some(found) = self.keyspaces.kept(name) {
            return Ok(found);
        }
        self.knows_the_layout().await?;
        Err(Problem::new(
            hyper::StatusCode::NOT_FOUND,
            format!("there is no keyspace `{name}`"),
            format!("`rondo keyspace list` shows them, `rondo keyspace create {name}` makes it"),
        ))
    }

    /// That this node can say what there is not. One without a live layout, or that must not serve, cannot: the others may have it.
    pub async fn knows_the_layout(&self) -> Result<(), Problem> {
        let status = self.status().await?;
        let passes = status.barred.is_none();
        let why = match (status.barred, status.layout) {
            (Some(why), _) => why,
            (None, Some(_)) => return Ok(()),
            (None, None) => {
                "the cluster has no live layout yet; see /ready for what is missing".to_owned()
            }
        };
        let unavailable = hyper::StatusCode::SERVICE_UNAVAILABLE;
        Err(Problem { passes, ..Problem::new(unavailable, why, "ask another node, or try again") })
    }

    /// A keyspace that the node did not know: it may have been dropped since it was asked.
    pub async fn keyspace_anew(&self, name: &str) -> Result<(), Problem> {
        self.keyspaces.forget();
        self.keyspace(name).await.map(drop)
    }

    /// The web origin that browsers may call from.
    #[must_use]
    pub fn cors_origin(&self) -> Option<&str> {
        self.cors_origin.as_deref()
    }
}

/// The inbox drops what it has no room for, and a node that stops what it has not answered.
fn dropped() -> Problem {
    Problem::new(
        hyper::StatusCode::SERVICE_UNAVAILABLE,
        "the node is stopping, or has too much to do",
        "try again, or ask another node",
    )
}
