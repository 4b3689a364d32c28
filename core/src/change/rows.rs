//! The layouts that a node has: the one that is live, and perhaps the one that takes its place.
//!
//! Votes are counted from endorsements: a node endorses, durably, one layout of a version, the one that follows its own live one.
//! Layout 1 is live with the endorsements of all its nodes, a later one with those of more than half of the nodes of the
//! layout before. When all of those have endorsed one and none has more than half, most endorsements win, of equals the
//! smaller digest. So two layouts of one version are never live, whoever commits and whatever is lost.
//!
//! Invariants: the older row is live, or the only one; a layout that is live names the digest of the one before it, and both
//! name one founding layout, so that two clusters never mix; nothing older than what is endorsed is taken; of two live layouts
//! the older is taken up first, so whoever has the newer alone has dropped the older, or has it from one who has; a node that
//! cannot read what it has endorsed does not start, since it might endorse another layout of that version, or form one
//! (<https://github.com/basho/riak_core/issues/166>).
//! Left out: a third layout while two are live: whoever commits waits.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use smallvec::SmallVec;

use crate::buggify;
use crate::config::{LAYOUTS_LIVE_MAX, NodeConfig};
use crate::engine::{Batch, Engine};
use crate::env::Mono;
use crate::error::Result;
use crate::id::{LayoutVersion, Life, Lsn, NodeId};
use crate::layout::live::{LayoutSet, LiveLayout, Origin};
use crate::layout::next::awaited;
use crate::layout::staged::Staged;
use crate::layout::{Layout, LayoutRef};
use crate::member::membership::Membership;
use crate::quorum::is_majority;
use crate::sometimes;
use crate::step::Env;
use crate::wire::layout::{decode_layout, encode_layout};

use super::records::{KEYS, put, removal, stored};

/// How often a layout is offered to a node that has not endorsed it, in milliseconds.
const OFFER_MS: u64 = 500;

/// A layout that this node has endorsed.
#[derive(Clone, Debug)]
pub(super) struct Row {
    pub(super) of: LiveLayout,
    /// The write that stores the endorsement; it counts once it is durable.
    stored: Lsn,
    /// It is known to be live, and this node has only to take it up.
    decided: bool,
    pub(super) live: bool,
    /// The write that says that it is live: others are told once that is durable.
    noted: Lsn,
    /// Whether this node knows nothing of the layouts before it.
    is_jump: bool,
    /// Nodes known to have endorsed this very layout.
    endorsers: BTreeSet<NodeId>,
}

/// What a node has of layouts.
#[derive(Debug)]
pub struct Rows {
    me: NodeId,
    pub(super) life: Life,
    /// By version; at most two.
    pub(super) rows: SmallVec<[Row; 2]>,
    live: SmallVec<[LiveLayout; 2]>,
    set: LayoutSet,
    /// Questions under older layouts alone are refused.
    floor: LayoutVersion,
    next_offer: Mono,
    /// When somebody who names a layout that is not here may be asked for it again.
    pub(super) next_request: Mono,
}

impl Rows {
    /// Reads what was endorsed in an earlier life. An error when that cannot be read: its node may not go on as who it was, because
    /// it no longer knows what it has promised.
    pub fn load(config: &NodeConfig, engine: &mut dyn Engine) -> Result<Rows> {
        let mut rows = Rows {
            me: config.id,
            life: config.life,
            rows: SmallVec::new(),
            live: SmallVec::new(),
            set: LayoutSet::default(),
            floor: LayoutVersion(0),
            next_offer: Mono(0),
            next_request: Mono(0),
        };
        for (body, mark) in KEYS {
            let Some(bytes) = stored(engine, body)? else {
                continue;
            };
            let live = stored(engine, mark)?.is_some();
            let mut row = row(Arc::new(decode_layout(&bytes)?), engine.durable());
            // Only what was live elsewhere is ever taken without the one before it.
            row.is_jump = rows.rows.is_empty() && row.of.layout.version().0 > 1;
            (row.live, row.decided) = (live, live || row.is_jump);
            rows.rows.push(row);
        }
        rows.look_at_live();
        rows.floor = rows.newest().map_or(LayoutVersion(0), Layout::version);
        Ok(rows)
    }

    /// What must hold between steps. Panics when it does not.
    pub fn invariants(&self) {
        assert!(self.rows.len() <= LAYOUTS_LIVE_MAX, "one takes the place of one");
        if let [older, newer] = &self.rows[..] {
            assert!(older.live, "a layout follows one that is live");
            assert!(follows(&newer.of.layout, &older.of), "and no other");
        }
        for row in &self.rows {
            assert_eq!(row.of.reference.version, row.of.layout.version(), "it has its own name");
            assert!(row.decided || !row.live, "it is known to be live before it is");
        }
        assert_eq!(self.live.len(), self.rows.iter().filter(|row| row.live).count());
    }

    /// The layouts that requests are served under, the newest last.
    #[must_use]
    pub fn live(&self) -> &[LiveLayout] {
        &self.live
    }

    /// Their names.
    #[must_use]
    pub const fn live_set(&self) -> &LayoutSet {
        &self.set
    }

    /// The newest of them.
    #[must_use]
    pub fn newest(&self) -> Option<&Layout> {
        self.live.last().map(|live| &*live.layout)
    }

    /// The one that takes the place of the other, when two are live.
    #[must_use]
    pub fn change(&self) -> Option<(&LiveLayout, &LiveLayout)> {
        match &self.live[..] {
            [older, newer] => Some((older, newer)),
            _ => None,
        }
    }

    /// The live layout that another one may follow now: a single one, that nothing has been endorsed after.
    #[must_use]
    pub fn last(&self, durable: Lsn) -> Option<&LiveLayout> {
        match &self.rows[..] {
            [only] if only.live && only.stored <= durable => Some(&only.of),
            _ => None,
        }
    }

    /// What has been endorsed and is not known to be live.
    #[must_use]
    pub fn proposed(&self) -> Option<&LiveLayout> {
        self.rows.last().filter(|row| !row.live).map(|row| &row.of)
    }

    /// Who has endorsed that, as far as is known.
    #[must_use]
    pub fn endorsers(&self) -> Option<&BTreeSet<NodeId>> {
        self.rows.last().filter(|row| !row.live).map(|row| &row.endorsers)
    }

    /// Whether nothing has been endorsed in the life of this store.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The nodes of all layouts that are endorsed here; none while there is none.
    #[must_use]
    pub fn members(&self) -> BTreeSet<NodeId> {
        let roles = self.rows.iter().flat_map(|row| row.of.layout.roles());
        roles.map(|role| role.node).collect()
    }

    /// The digest of the cluster's first layout; 0 while none is live.
    #[must_use]
    pub fn founding(&self) -> u128 {
        self.live.first().map_or(0, |live| live.layout.founding(live.reference))
    }

    /// The layout this node may say that it has endorsed, and whether it is live: only once that is durable.
    #[must_use]
    pub fn endorsement(&self, durable: Lsn) -> (LayoutRef, bool) {
        let row = self.rows.iter().rev().find(|row| row.stored <= durable);
        row.map_or_else(Default::default, |row| {
            (row.of.reference, row.live && row.noted <= durable)
        })
    }

    /// The write that must become durable before anything goes on, if there is one.
    #[must_use]
    pub fn waits_for(&self, durable: Lsn) -> Option<Lsn> {
        let writes = self.rows.iter().flat_map(|row| [row.stored, row.noted]);
        writes.filter(|&write| write > durable).max()
    }

    /// Whether no later life of this node goes back behind what is live here.
    #[must_use]
    pub fn is_noted(&self, durable: Lsn) -> bool {
        self.rows.iter().all(|row| row.noted <= durable)
    }

    /// The nodes that wait for each other while one layout takes the place of another.
    #[must_use]
    pub fn awaited(&self, staged: &Staged) -> BTreeSet<NodeId> {
        let (older, newer) = match self.change() {
            Some(both) => both,
            None => return BTreeSet::new(),
        };
        awaited(&older.layout, &newer.layout, staged)
    }

    /// A coordinator acts under these layouts, so they are live. Whether this node may look at its question: it has the newest of
    /// them, none that it lacks is newer than what it has, and it does not insist on a newer one.
    pub fn on_asked_under(&mut self, layouts: &LayoutSet, durable: Lsn) -> bool {
        let Some(newest) = layouts.newest() else {
            return false;
        };
        let oldest = self.rows.first().map_or(LayoutVersion(0), |row| row.of.reference.version);
        let durably = |row: &&mut Row| row.stored <= durable && row.of.reference == newest;
        let Some(row) = self.rows.iter_mut().find(durably) else {
            return false;
        };
        row.decided = true;
        // What everybody has dropped since may still be named.
        let known = |reference: &LayoutRef| {
            reference.version < oldest || self.rows.iter().any(|row| row.of.reference == *reference)
        };
        newest.version >= self.floor && layouts.references().iter().all(known)
    }

    /// From now on whoever asks must know the newest live layout.
    pub fn raise_floor(&mut self) {
        self.floor = self.newest().map_or(self.floor, Layout::version);
    }

    /// Endorses the cluster's first layout, if nothing was endorsed before.
    pub fn found(&mut self, layout: Arc<Layout>, engine: &mut dyn Engine) -> Result<()> {
        if self.rows.is_empty() && layout.version().0 == 1 && layout.has(self.me) {
            self.store(layout, Batch::default(), engine)?;
        }
        Ok(())
    }

    /// Endorses the layout that follows the live one, if it does and none was endorsed before. Whether it did.
    pub fn endorse(&mut self, layout: Arc<Layout>, engine: &mut dyn Engine) -> Result<bool> {
        let durable = engine.durable();
        if !self.last(durable).is_some_and(|last| follows(&layout, last)) {
            return Ok(false);
        }
        self.store(layout, Batch::default(), engine)?;
        Ok(self.rows.len() > 1)
    }

    /// A peer offers a layout to endorse.
    pub fn on_offer(&mut self, layout: Arc<Layout>, engine: &mut dyn Engine) -> Result<()> {
        if self.rows.is_empty() {
            return self.found(layout, engine);
        }
        self.endorse(layout, engine).map(drop)
    }

    /// A peer tells a layout that is live. `oldest`: the oldest that is live there.
    pub fn on_live(
        &mut self,
        layout: Arc<Layout>,
        oldest: LayoutVersion,
        env: &mut impl Env,
    ) -> Result<()> {
        let reference = layout.reference(&encode_layout(&layout));
        if let Some(row) = self.rows.iter_mut().find(|row| row.of.reference == reference) {
            row.decided = true;
            return Ok(());
        }
        let founding = layout.founding(reference);
        let is_ours = match self.rows.first() {
            None => true,
            Some(first) if first.live => self.founding() == founding,
            // A first layout that never came to be, in the place of which the others have formed this one.
            Some(first) => layout.version() > first.of.reference.version,
        };
        let newest = self.newest().map_or(LayoutVersion(0), Layout::version);
        if !is_ours || layout.version() <= newest {
            return Ok(());
        }
        let last = self.live.last().cloned();
        if last.is_some_and(|last| follows(&layout, &last)) {
            if self.change().is_some() {
                // Everybody else has dropped the older one already. It is told again when this node has.
                return Ok(());
            }
            // What this node may have endorsed instead has lost.
            sometimes!(env, EndorsedLayoutLost, self.rows.last().is_some_and(|row| !row.live));
            let engine = env.engine();
            self.rows.retain(|row| row.live);
            let kept = self.rows.len();
            let [_, (body, mark)] = KEYS;
            self.store(layout, removal([body, mark]), engine)?;
            if self.rows.len() > kept {
                self.rows[kept].decided = true;
            }
            return Ok(());
        }
        if oldest < layout.version() {
            // The older of two is taken up first: whoever has the newer one alone says by that that nobody needs the older.
            sometimes!(env, NewerOfTwoToldFirst);
            return Ok(());
        }
        sometimes!(env, LayoutsMissed, !self.rows.is_empty());
        let engine = env.engine();
        let before = std::mem::take(&mut self.rows);
        let [(_, mark), (body, other)] = KEYS;
        self.store(layout, removal([mark, body, other]), engine)?;
        match self.rows.first_mut() {
            Some(row) => (row.decided, row.is_jump) = (true, true),
            None => self.rows = before,
        }
        self.look_at_live();
        Ok(())
    }

    /// The next layout that is known to be live and that this node has not taken up, with what it knows of the one before. Whoever
    /// owns units notes first what it lacks of them, then says `make_live`.
    #[must_use]
    pub fn to_make_live(&self) -> Option<(Origin<'_>, &LiveLayout)> {
        let at = self.rows.iter().position(|row| row.decided && !row.live)?;
        let row = &self.rows[at];
        let origin = match at.checked_sub(1) {
            Some(before) => Origin::After(&self.rows[before].of.layout),
            None if row.is_jump => Origin::Unknown,
            None => Origin::Founding,
        };
        Some((origin, &row.of))
    }

    /// Takes that layout up: requests are served under it from now on. `false`: the disk has no room to note it.
    pub fn make_live(&mut self, engine: &mut dyn Engine) -> Result<bool> {
        let Some(at) = self.rows.iter().position(|row| row.decided && !row.live) else {
            return Ok(false);
        };
        let (_, mark) = KEYS[at];
        let batch = Batch { changes: [put(mark, Bytes::from_static(b"1"))].into_iter().collect() };
        match engine.write(&batch) {
            // Looked at again with the next heartbeat.
            Err(error) if error.wrote_nothing() => return Ok(false),
            written => self.rows[at].noted = written?,
        }
        self.rows[at].live = true;
        self.look_at_live();
        Ok(true)
    }

    /// The older layout is needed by nobody any more. `false`: there is none, or the disk has no room to note it.
    pub fn drop_older(&mut self, engine: &mut dyn Engine) -> Result<bool> {
        let [(body, mark), (next, next_mark)] = KEYS;
        let Some(newer) = self.rows.get(1).filter(|row| row.live) else {
            return Ok(false);
        };
        let mut batch = removal([next, next_mark]);
        batch.changes.push(put(body, encode_layout(&newer.of.layout)));
        batch.changes.push(put(mark, Bytes::from_static(b"1")));
        match engine.write(&batch) {
            Err(error) if error.wrote_nothing() => return Ok(false),
            // The layout itself is durable already, where it lay before.
            written => drop(written?),
        }
        self.rows.remove(0);
        self.look_at_live();
        self.raise_floor();
        Ok(true)
    }

    /// Counts the endorsements that members have told, and offers what is to be endorsed to those who have not.
    pub fn tick(
        &mut self,
        (members, founding): (&Membership, u128),
        staged: &Staged,
        env: &mut impl Env,
    ) -> Result<()> {
        let durable = env.engine().durable();
        if self.waits_for(durable).is_some() {
            sometimes!(env, LayoutUnsyncedAtHeartbeat);
            return Ok(());
        }
        self.count(members, staged, env);
        let now = env.mono();
        if now >= self.next_offer {
            let pause_ms = if buggify!(env, LayoutOfferRepeated) { 0 } else { OFFER_MS };
            self.next_offer = now.plus_ms(pause_ms);
            self.offer_to_others(members, env);
            self.ask_for_newer((members, founding), env);
        }
        Ok(())
    }

    fn count(&mut self, members: &Membership, staged: &Staged, env: &impl Env) {
        let before = self.live.last().map(|live| Arc::clone(&live.layout));
        let me = self.me;
        let Some(row) = self.rows.last_mut().filter(|row| !row.live && !row.decided) else {
            return;
        };
        let reference = row.of.reference;
        let peers = members.peers();
        let same = |node: &&NodeId| peers[node].endorsed.layout == reference;
        row.endorsers.extend(peers.keys().filter(same).copied());
        row.endorsers.insert(me);
        let said_live = row.endorsers.iter().any(|node| {
            peers
                .get(node)
                .is_some_and(|peer| peer.endorsed.layout == reference && peer.endorsed.live)
        });
        // Who is only waited for no longer may be alive and cut off, and vote for another one: that it is lost is an operator's word.
        let is_lost = |node: &NodeId| staged.given_up(reference.version).any(|lost| lost == *node);
        let voters = before.as_ref().unwrap_or(&row.of.layout).roles().iter();
        let voters: Vec<NodeId> =
            voters.map(|role| role.node).filter(|node| !is_lost(node)).collect();
        let votes = voters.iter().filter(|node| row.endorsers.contains(node)).count();
        let is_enough = match before {
            None => votes == voters.len(),
            Some(_) => {
                let vote = |node: &NodeId| match *node == me {
                    true => Some(reference),
                    false => Some(peers.get(node)?.endorsed.layout),
                };
                let vote = |node: &NodeId| vote(node).filter(|of| of.version == reference.version);
                let is_out = |node: &NodeId| staged.skips(*node, reference.version);
                let known: Vec<LayoutRef> = voters.iter().filter_map(vote).collect();
                // An operator's word takes the place of a vote that is not known where the known ones are most of all.
                let mut unknown = voters.iter().filter(|node| vote(node).is_none());
                let is_known = unknown.all(is_out) && is_majority(known.len(), voters.len());
                is_majority(votes, voters.len()) || is_known && wins(reference, &known)
            }
        };
        if (is_enough || said_live) && !buggify!(env, LayoutLiveLate) {
            sometimes!(env, LayoutSaidToBeLive, !is_enough);
            row.decided = true;
        }
    }

    /// Offers a layout to those who should endorse it and have not said that they did.
    fn offer_to_others(&self, members: &Membership, env: &mut impl Env) {
        let Some(row) = self.rows.last() else {
            return;
        };
        let reference = row.of.reference;
        for node in self.members().into_iter().filter(|node| *node != self.me) {
            let told = members.peers().get(&node).map(|peer| peer.endorsed.layout.version);
            if told.is_some_and(|version| version < reference.version) {
                // Whoever is behind by more than one needs the one before first.
                for row in &self.rows {
                    env.send(node, self.told(row));
                }
            }
        }
    }

    fn store(&mut self, layout: Arc<Layout>, batch: Batch, engine: &mut dyn Engine) -> Result<()> {
        let (body, _) = KEYS[self.rows.len()];
        let mut batch = batch;
        batch.changes.retain(|change| change.key() != body);
        batch.changes.push(put(body, encode_layout(&layout)));
        match engine.write(&batch) {
            // It is offered, or formed, again.
            Err(error) if error.wrote_nothing() => Ok(()),
            stored => {
                self.rows.push(row(layout, stored?));
                self.next_offer = Mono(0);
                Ok(())
            }
        }
    }

    fn look_at_live(&mut self) {
        let live = self.rows.iter().filter(|row| row.live).map(|row| row.of.clone());
        self.live = live.collect();
        let references: SmallVec<[LayoutRef; 2]> =
            self.live.iter().map(|live| live.reference).collect();
        self.set = LayoutSet::from_references(&references).expect("sorted, and few");
    }
}

fn row(layout: Arc<Layout>, stored: Lsn) -> Row {
    let reference = layout.reference(&encode_layout(&layout));
    let of = LiveLayout { layout, reference };
    Row {
        of,
        stored,
        decided: false,
        live: false,
        noted: Lsn(0),
        is_jump: false,
        endorsers: BTreeSet::new(),
    }
}

/// Whether a layout is made to follow this one, of the same cluster.
fn follows(layout: &Layout, last: &LiveLayout) -> bool {
    layout.version().0 == last.reference.version.0 + 1
        && layout.parts().previous == last.reference.digest
        && layout.parts().founding == last.layout.founding(last.reference)
}

/// Whether most of these votes are for this layout; of equals the smaller digest wins.
fn wins(one: LayoutRef, votes: &[LayoutRef]) -> bool {
    let mut counts: BTreeMap<u128, usize> = BTreeMap::new();
    for vote in votes {
        *counts.entry(vote.digest).or_default() += 1;
    }
    let most = counts.into_iter().max_by_key(|&(digest, count)| (count, std::cmp::Reverse(digest)));
    most.is_some_and(|(digest, _)| digest == one.digest)
}
