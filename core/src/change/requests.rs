//! Who is asked for layouts, and what is told to whoever asks.
//!
//! A node that hears of a later layout than it has asks for it with each turn; one that is asked about a key under a layout that is not
//! here asks at once. What comes of the answers is in `rows`.

use std::sync::Arc;

use crate::change::rows::{Row, Rows};
use crate::id::{LayoutVersion, Lsn, NodeId};
use crate::layout::LayoutRef;
use crate::layout::live::LayoutSet;
use crate::member::membership::Membership;
use crate::sometimes;
use crate::step::Env;
use crate::wire::layout::LayoutMessage;
use crate::wire::message::{Envelope, Message};

/// How long whoever names a layout that is not here is not asked for it again, in milliseconds.
const REQUEST_MS: u64 = 20;

impl Rows {
    /// A peer asks something under a layout that is not here: it is asked for it at once, and not with the next heartbeat, because
    /// until then this node counts in no quorum under that layout. Never more than once in `REQUEST_MS`.
    pub fn ask_who_names(&mut self, layouts: &LayoutSet, from: NodeId, env: &mut impl Env) {
        let oldest = self.rows.first().map_or(LayoutVersion(0), |row| row.of.reference.version);
        let lacks = |newest: LayoutRef| {
            newest.version >= oldest && self.rows.iter().all(|row| row.of.reference != newest)
        };
        let now = env.mono();
        if layouts.newest().is_some_and(lacks) && now >= self.next_request {
            sometimes!(env, LayoutAskedForAtOnce);
            self.next_request = now.plus_ms(REQUEST_MS);
            let message = Message::Layout(LayoutMessage::Request);
            env.send(from, Envelope { life: self.life, durable: Lsn(0), message });
        }
    }

    /// A peer asks for the layouts.
    pub fn on_request(&self, from: NodeId, env: &mut impl Env) {
        for row in &self.rows {
            env.send(from, self.told(row));
        }
    }

    /// Asks those that have a later layout, or another one of the same version, for what they have.
    pub(super) fn ask_for_newer(
        &self,
        (members, founding): (&Membership, u128),
        env: &mut impl Env,
    ) {
        let mine = self.rows.last().map(|row| row.of.reference).unwrap_or_default();
        let is_live = self.rows.last().is_none_or(|row| row.live);
        for (&node, peer) in members.peers() {
            let theirs = peer.endorsed;
            let is_newer = theirs.layout.version > mine.version
                || (!is_live && theirs.live && theirs.layout.version == mine.version);
            let is_ours = members.belongs_to(node, founding);
            if is_newer && is_ours && members.is_heard(node, env.mono()) {
                let message = Message::Layout(LayoutMessage::Request);
                env.send(node, Envelope { life: self.life, durable: Lsn(0), message });
            }
        }
    }

    pub(super) fn told(&self, row: &Row) -> Envelope {
        let layout = Arc::clone(&row.of.layout);
        let message = Message::Layout(match row.live {
            true => LayoutMessage::Live { layout },
            false => LayoutMessage::Offer { layout },
        });
        Envelope { life: self.life, durable: Lsn(0), message }
    }
}
