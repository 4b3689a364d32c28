//! Which keyspaces there are: their names in paths, their ids in context tokens.
//!
//! The node is asked for them and the answer is kept for a moment, because a request should not need two. `default` is always
//! there. A keyspace that was dropped and made again has another id: a token of the old one is then refused.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rondo_core::admin::KeyspaceStatus;
use rondo_core::id::KeyspaceId;
use tokio::time::Instant;

/// How long an answer is kept.
const KEPT: Duration = Duration::from_secs(1);

/// What the node said last.
#[derive(Debug, Default)]
pub struct Keyspaces {
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    by_name: BTreeMap<Arc<str>, KeyspaceId>,
    asked: Option<Instant>,
}

impl Keyspaces {
    /// Keeps what the node says.
    pub fn learn(&self, keyspaces: impl Iterator<Item = KeyspaceStatus>) {
        let by_name = keyspaces.map(|one| (one.name.into(), KeyspaceId(one.id))).collect();
        let asked = Some(Instant::now());
        *self.known.lock().expect("no panic while locked") = Known { by_name, asked };
    }

    /// What was said last is old.
    pub fn forget(&self) {
        self.known.lock().expect("no panic while locked").asked = None;
    }

    /// The name and the id of a keyspace; `None` when it is not known, or was asked for too long ago.
    #[must_use]
    pub fn kept(&self, name: &str) -> Option<(Arc<str>, KeyspaceId)> {
        let known = self.known.lock().expect("no panic while locked");
        known.asked.filter(|asked| asked.elapsed() < KEPT)?;
        known.by_name.get_key_value(name).map(|(name, id)| (Arc::clone(name), *id))
    }
}
