//! Which life of each node counts, and whether this one does.
//!
//! A node's copy of its data is worth something because it was there when writes were acknowledged. A directory that was put
//! back from an older copy, or copied and started twice, has the identity and lacks the data; its peers are who can tell
//! (<https://github.com/cockroachdb/cockroach/issues/29524>, <https://github.com/redpanda-data/redpanda/issues/9766>,
//! <https://github.com/basho/riak_kv/issues/679>). So each node remembers, durably, the latest life it has counted of each other:
//! - an earlier one is an old copy, one of equal boot and another session a second process on a copy, a later one that has not
//!   been through the known one a copy that went its own way, and a later one whose store began with less than the known one had
//!   called durable a copy from the middle of that life, or a store that has lost files: none of them is heard, served or counted;
//! - a node that one peer tells of such a life of itself serves no more, in this life and in any later one of this directory.
//!   One peer is enough: nobody else can have seen a boot that this directory has not made.
//! - a directory that lies at another place than before may be an old copy that nobody has told of yet. It serves when of each
//!   of its partitions' other owners n-W+1 (or all, if there are fewer) have counted its new life: among them is one that took
//!   part in every acknowledged write. With one replica of each key nobody took part but itself; then all others have to have
//!   counted it. Where no peer has ever been in a layout with it, it starts at once.
//!
//! Invariants: the life of a peer is counted only when that is durable; lives of a node that count never go back.
//! What a life called durable it tells with each heartbeat and each message; its peers remember that as long as they run, and tell
//! each other, so that one that was restarted learns it again. A directory that was told that it does not count says so itself: then
//! nobody counts it, whatever he knows.
//! Left out: an old copy at the very place of the newest one, when all that have counted a later life, or heard how far the last
//! one went, are away or have been restarted since; a copy of the last life that a peer meets before it has learnt again, or that has
//! written as much, in many starts that reached nobody, as it lacks; what was written after the last message; becoming whole again.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use smallvec::SmallVec;

use crate::config::{NODES_MAX, NodeConfig};
use crate::engine::{Batch, Change, Engine};
use crate::error::{Error, Result};
use crate::id::{BootEpoch, Life, Lsn, NodeId, SessionId};
use crate::layout::Layout;
use crate::quorum;
use crate::wire::member::{Counted, Gossip};

/// The engine key of the lives that count; see `counts`.
pub const LIVES_KEY: &[u8] = b"\0lives";
/// The engine key of the place where this store was last known to count.
const PLACE_KEY: &[u8] = b"\0place";
/// The engine key of the reason why this store counts no more.
pub const DENIED_KEY: &[u8] = b"\0denied";
/// Datagrams of a life that does not count, before people are told.
const INSISTS: u32 = 4;
/// One life in a record: node, boot, session.
const LIFE_BYTES: usize = 16 + 8 + 8;

const _: () = assert!(NODES_MAX * LIFE_BYTES < crate::config::HEAD_BYTES_MAX);

/// What a life is to one who knows another of the same node.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Judgement {
    /// The known one.
    Same,
    /// One that follows it.
    Later,
    /// One before it: an old copy, or a late message.
    Earlier,
    /// Another process with the same boot epoch.
    Second,
    /// A later one that has not been through the known one.
    Apart,
    /// A later one that lacks what the known one had called durable.
    Behind,
    /// One that has been told that it does not count. Only its own word says so, and no comparison.
    Denied,
}

/// A life that counts, and the write that says so.
#[derive(Clone, Copy, Debug)]
struct Known {
    life: Life,
    /// Up to where it has told that it has everything durably.
    durable: Lsn,
    stored: Lsn,
    /// How often other lives of the node were refused.
    refused: u32,
}

/// Everybody's lives.
#[derive(Debug)]
pub struct Lives {
    me: NodeId,
    mine: Life,
    earlier: Vec<Life>,
    /// Up to where the store had everything when this life began.
    began: Lsn,
    place: u128,
    /// Whether the store says where it lies.
    is_placed: bool,
    known: BTreeMap<NodeId, Known>,
    denied: Option<String>,
    /// The store has moved since it counted last.
    moved: bool,
    /// Who counts this life.
    counted_by: BTreeSet<NodeId>,
}

impl Lives {
    /// What must hold between steps. Panics when it does not.
    pub fn invariants(&self) {
        assert!(!self.known.contains_key(&self.me), "nobody speaks about this node but itself");
        assert!(self.known.len() <= NODES_MAX, "the lives that count fit in one record");
        let boots = || self.earlier.iter().map(|life| life.boot);
        assert!(boots().all(|boot| boot < self.mine.boot), "this life is the latest");
        assert!(boots().is_sorted_by(|later, earlier| later > earlier), "boots rise");
    }
}

/// Compares a life and where it began with the known one and how far that went; `earlier` are the lives that its directory has
/// been through, the latest first.
#[must_use]
pub fn judge(
    (known, durable): (Life, Lsn),
    (life, began): (Life, Lsn),
    earlier: &[Life],
) -> Judgement {
    if life == known {
        return Judgement::Same;
    }
    if life.boot == known.boot {
        return Judgement::Second;
    }
    if life.boot < known.boot {
        return Judgement::Earlier;
    }
    // A directory remembers a bounded number of lives; what is before them it cannot show.
    let reaches = earlier.last().is_some_and(|oldest| oldest.boot <= known.boot);
    if reaches && !earlier.contains(&known) {
        return Judgement::Apart;
    }
    if began < durable { Judgement::Behind } else { Judgement::Later }
}

impl Lives {
    /// Reads what is known from earlier lives of this node.
    pub fn load(config: &NodeConfig, engine: &mut dyn Engine) -> Result<Lives> {
        let known = stored(engine, LIVES_KEY)?.map_or(Ok(BTreeMap::new()), |head| decode(&head))?;
        let denied = denial(engine)?;
        let place = stored(engine, PLACE_KEY)?.map(|head| number(&head)).transpose()?;
        let began = engine.durable();
        let mut lives = Lives {
            me: config.id,
            mine: config.life,
            earlier: config.earlier.clone(),
            began,
            place: config.place,
            known,
            denied,
            moved: place.is_some_and(|place| place != config.place),
            is_placed: place.is_some(),
            counted_by: BTreeSet::new(),
        };
        lives.note_place(engine)?;
        Ok(lives)
    }

    /// Notes where a store without such a note lies. A disk without room is no reason to stop, and is asked again with each heartbeat.
    pub fn note_place(&mut self, engine: &mut dyn Engine) -> Result<()> {
        if self.is_placed {
            return Ok(());
        }
        let place = Bytes::copy_from_slice(&self.place.to_be_bytes());
        match engine.write(&single(PLACE_KEY, place)) {
            Err(error) if error.wrote_nothing() => Ok(()),
            written => {
                self.is_placed = true;
                written.map(drop)
            }
        }
    }

    /// The life of this node.
    #[must_use]
    pub const fn mine(&self) -> Life {
        self.mine
    }

    /// The lives before it, the latest first.
    #[must_use]
    pub fn earlier(&self) -> &[Life] {
        &self.earlier
    }

    /// Up to where the store had everything when this life began.
    #[must_use]
    pub const fn began(&self) -> Lsn {
        self.began
    }

    /// The life of another node that counts here, and up to where it has told that it has everything durably.
    #[must_use]
    pub fn counted(&self, node: NodeId) -> Option<Counted> {
        let known = self.known.get(&node)?;
        Some(Counted { node, life: known.life, durable: known.durable })
    }

    /// The life of another node that counts here.
    #[must_use]
    pub fn known(&self, node: NodeId) -> Option<Life> {
        self.known.get(&node).map(|known| known.life)
    }

    /// Whether other lives of a node go on talking: a few late words of the life before are nothing.
    #[must_use]
    pub fn is_insisted(&self, node: NodeId) -> bool {
        self.known.get(&node).is_some_and(|known| known.refused >= INSISTS)
    }

    /// Whether a peer has told that this node's data directory does not count any more.
    #[must_use]
    pub const fn is_denied(&self) -> bool {
        self.denied.is_some()
    }

    /// The lives that count, as they may be told to others.
    #[must_use]
    pub fn told(&self, durable: Lsn) -> Vec<Counted> {
        let durable = self.known.iter().filter(|(_, known)| known.stored <= durable);
        durable.filter_map(|(&node, _)| self.counted(node)).collect()
    }

    /// A node speaks for itself. Only after `Same` and `Later` it is heard, and what it knows of others is believed.
    pub fn meet(&mut self, gossip: &Gossip, engine: &mut dyn Engine) -> Result<Judgement> {
        let Gossip { began, durable, denied, .. } = *gossip;
        let (node, life) = (gossip.me.node, gossip.me.life);
        let judgement = match self.counted(node) {
            // Each start of it writes a little, so it would not be behind for ever.
            _ if denied => Judgement::Denied,
            None => Judgement::Later,
            Some(known) => judge((known.life, known.durable), (life, began), &gossip.earlier),
        };
        let is_new = judgement == Judgement::Later;
        if is_new && (self.known.len() < NODES_MAX || self.known.contains_key(&node)) {
            let new = |stored| Known { life, durable, stored, refused: 0 };
            let before = self.known.insert(node, new(Lsn(0)));
            match engine.write(&single(LIVES_KEY, encode(&self.known))) {
                // It does not count before that is stored: with the next heartbeat it is tried again.
                Err(error) if error.wrote_nothing() => match before {
                    Some(before) => drop(self.known.insert(node, before)),
                    None => drop(self.known.remove(&node)),
                },
                stored => {
                    self.known.insert(node, new(stored?));
                }
            }
        } else if judgement == Judgement::Same {
            self.hear_end(node, durable);
        } else if let Some(known) = self.known.get_mut(&node) {
            known.refused = known.refused.saturating_add(1);
        }
        if matches!(judgement, Judgement::Same | Judgement::Later) {
            self.learn(&gossip.lives);
        }
        Ok(judgement)
    }

    /// Another node has heard further of some: so one that was restarted knows again.
    fn learn(&mut self, lives: &[Counted]) {
        for told in lives {
            if self.known(told.node) == Some(told.life) {
                self.hear_end(told.node, told.durable);
            }
        }
    }

    /// The life of a node that counts has everything durably up to there: what it vouches for must be there when it comes again.
    pub fn hear_end(&mut self, node: NodeId, durable: Lsn) {
        if let Some(known) = self.known.get_mut(&node) {
            // Messages overtake each other.
            known.durable = known.durable.max(durable);
        }
    }

    /// Whether a message of this life of a node counts: that it does is durable.
    #[must_use]
    pub fn counts(&self, node: NodeId, life: Life, durable: Lsn) -> bool {
        self.known.get(&node).is_some_and(|known| known.life == life && known.stored <= durable)
    }

    /// The write that must become durable before all known lives count, if there is one.
    #[must_use]
    pub fn waits_for(&self, durable: Lsn) -> Option<Lsn> {
        self.known.values().map(|known| known.stored).filter(|&stored| stored > durable).max()
    }

    /// Forgets nodes that are in no layout and are silent; on the disk, with the next life that is met.
    pub fn retain(&mut self, is_wanted: impl Fn(NodeId) -> bool) {
        self.known.retain(|&node, _| is_wanted(node));
    }

    /// A peer, by its name, tells which life of this node counts there. `true`: this one serves no more.
    pub fn hear_of_me(
        &mut self,
        (by, name): (NodeId, &str),
        (life, durable): (Life, Lsn),
        engine: &mut dyn Engine,
    ) -> Result<bool> {
        let (mine, theirs) = (self.mine.boot.0, life.boot.0);
        let why = match judge((life, durable), (self.mine, self.began), &self.earlier) {
            Judgement::Same => {
                self.counted_by.insert(by);
                return Ok(false);
            }
            // The peer has not heard of this life yet.
            Judgement::Later => return Ok(false),
            Judgement::Earlier => format!(
                "start {theirs} of this node was seen, and this is start {mine}: an older copy"
            ),
            Judgement::Second => {
                format!(
                    "start {mine} of this node was another process: this is an older copy, or one of two copies"
                )
            }
            Judgement::Apart => format!(
                "start {theirs} of this node was seen, and this directory was not there: a copy"
            ),
            // What this node has been told it says itself.
            Judgement::Denied => return Ok(false),
            Judgement::Behind => format!(
                "start {theirs} of this node had made {} writes durable, and this directory began with {}: an older copy, \
                 or files of it are lost",
                durable.0, self.began.0
            ),
        };
        if self.denied.is_some() {
            return Ok(false);
        }
        let why = format!(
            "this data directory does not count any more, says {name}: {why}; stop this node and start the directory that \
             ran last, unchanged"
        );
        match engine.write(&single(DENIED_KEY, Bytes::copy_from_slice(why.as_bytes()))) {
            // The next life is told again.
            Err(error) if !error.wrote_nothing() => return Err(error),
            _ => {}
        }
        self.denied = Some(why);
        Ok(true)
    }

    /// Whether this store has moved, and may serve now. To be called when somebody has counted this life.
    pub fn settle(&mut self, layout: Option<&Layout>, engine: &mut dyn Engine) -> Result<()> {
        if self.moved && self.denied.is_none() && self.lacks(layout).is_empty() {
            let place = Bytes::copy_from_slice(&self.place.to_be_bytes());
            match engine.write(&single(PLACE_KEY, place)) {
                // It is looked at again with the next heartbeat.
                Err(error) if error.wrote_nothing() => {}
                written => {
                    written?;
                    self.moved = false;
                }
            }
        }
        Ok(())
    }

    /// Why this node must not serve, for people.
    #[must_use]
    pub fn bars(&self, layout: Option<&Layout>) -> Option<String> {
        if let Some(denied) = &self.denied {
            return Some(denied.clone());
        }
        let lacks = if self.moved { self.lacks(layout) } else { Vec::new() };
        (!lacks.is_empty()).then(|| {
            format!(
                "the data directory lies at another place than before and might be an older copy: waiting for {} to say \
                 that it is the newest",
                lacks.join(", ")
            )
        })
    }

    /// The names of those whose word is missing.
    fn lacks(&self, layout: Option<&Layout>) -> Vec<String> {
        let Some(layout) = layout else {
            return Vec::new();
        };
        let silent = |node: &&NodeId| **node != self.me && !self.counted_by.contains(node);
        let mut lacks = BTreeSet::new();
        for group in layout.groups() {
            let n = usize::from(group.quorums.n);
            let needed = quorum::others_to_make_good(group.quorums).min(n.saturating_sub(1));
            if n == 1 {
                lacks.extend(layout.roles().iter().map(|role| &role.node).filter(silent).copied());
            }
            for unit in layout.units().filter(|unit| unit.group == group.id) {
                let owners: SmallVec<[NodeId; 4]> = layout.primaries(unit).collect();
                let said = owners.iter().filter(|node| self.counted_by.contains(node)).count();
                if owners.contains(&self.me) && said < needed {
                    lacks.extend(owners.iter().filter(silent).copied());
                }
            }
        }
        let named = layout.roles().iter().filter(|role| lacks.contains(&role.node));
        named.map(|role| role.name.clone()).collect()
    }
}

fn encode(known: &BTreeMap<NodeId, Known>) -> Bytes {
    let mut bytes = Vec::with_capacity(known.len() * LIFE_BYTES);
    for (node, Known { life, .. }) in known {
        bytes.extend_from_slice(&node.0.to_be_bytes());
        bytes.extend_from_slice(&life.boot.0.to_be_bytes());
        bytes.extend_from_slice(&life.session.0.to_be_bytes());
    }
    bytes.into()
}

fn decode(head: &Bytes) -> Result<BTreeMap<NodeId, Known>> {
    let (lives, rest) = head.as_chunks::<LIFE_BYTES>();
    if !rest.is_empty() || lives.len() > NODES_MAX {
        return Err(Error::Malformed("the record of known lives has a wrong length"));
    }
    let life = |bytes: &[u8; LIFE_BYTES]| {
        let node = NodeId(u128::from_be_bytes(*bytes.first_chunk()?));
        let boot = BootEpoch(u64::from_be_bytes(*bytes[16..].first_chunk()?));
        let session = SessionId(u64::from_be_bytes(*bytes[24..].first_chunk()?));
        Some((
            node,
            Known { life: Life { boot, session }, durable: Lsn(0), stored: Lsn(0), refused: 0 },
        ))
    };
    Ok(lives.iter().filter_map(life).collect())
}

/// Whether a record of `LIVES_KEY` counts this life of a node.
#[must_use]
pub fn counts(head: &Bytes, node: NodeId, life: Life) -> bool {
    decode(head).is_ok_and(|known| known.get(&node).is_some_and(|known| known.life == life))
}

fn number(head: &Bytes) -> Result<u128> {
    let bytes = head[..].try_into();
    bytes.map(u128::from_be_bytes).map_err(|_| Error::Malformed("an own record is not a number"))
}

fn single(key: &'static [u8], head: Bytes) -> Batch {
    let change =
        Change::Put { key: Bytes::from_static(key), head, body: SmallVec::new(), delta: 0 };
    Batch { changes: [change].into_iter().collect() }
}

/// Why a store counts no more, as its node was told. A node that must not serve may begin anew, without this store.
///
/// # Errors
/// The engine's.
pub fn denial(engine: &mut dyn Engine) -> Result<Option<String>> {
    let told = stored(engine, DENIED_KEY)?;
    Ok(told.map(|text| String::from_utf8_lossy(&text).into_owned()))
}

fn stored(engine: &mut dyn Engine, key: &[u8]) -> Result<Option<Bytes>> {
    // A scan waits for the device where `get` would answer `Cold`.
    let page = engine.scan_from(key, 1, usize::MAX)?;
    let record = page.records.into_iter().find(|(found, _)| found == key);
    Ok(record.map(|(_, record)| record.head))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::keyspace::Keyspace;
    use crate::layout::{Quorums, Role};

    fn life(boot: u64, session: u64) -> Life {
        Life { boot: BootEpoch(boot), session: SessionId(session) }
    }

    #[test]
    fn a_life_counts_when_it_follows_the_known_one() {
        let known = life(5, 50);
        let through = [life(6, 60), known, life(4, 40)];
        for (other, earlier, expected) in [
            (known, &[][..], Judgement::Same),
            (life(7, 70), &through[..], Judgement::Later),
            (life(4, 40), &[], Judgement::Earlier),
            (life(4, 41), &[], Judgement::Earlier),
            (life(5, 51), &[], Judgement::Second),
            (life(9, 90), &[life(8, 80), life(5, 51)], Judgement::Apart),
            (life(9, 90), &[life(8, 80), life(4, 40)], Judgement::Apart),
            (life(30, 1), &[life(29, 1), life(14, 1)], Judgement::Later),
        ] {
            let told = judge((known, Lsn(7)), (other, Lsn(7)), earlier);
            assert_eq!(told, expected, "{other:?} {earlier:?}");
        }
        let began_at = |began| judge((known, Lsn(7)), (life(7, 70), Lsn(began)), &through);
        assert_eq!((began_at(6), began_at(8)), (Judgement::Behind, Judgement::Later));
    }

    #[test]
    fn with_one_replica_a_moved_directory_waits_for_all_others() {
        let role = |n: u128| Role {
            node: NodeId(n),
            name: format!("n{n}"),
            weight: 1,
            zone: String::new(),
        };
        let (wanted, keyspaces) =
            (Quorums { n: 1, r: 1, w: 1 }, vec![Keyspace::default_keyspace()]);
        let of =
            |nodes| Layout::first(1, wanted, (1..=nodes).map(role).collect(), keyspaces.clone());
        let mut lives = Lives {
            me: NodeId(1),
            mine: life(2, 20),
            earlier: Vec::new(),
            began: Lsn(0),
            place: 7,
            is_placed: true,
            known: BTreeMap::new(),
            denied: None,
            moved: true,
            counted_by: BTreeSet::new(),
        };
        assert_eq!(lives.bars(Some(&of(1))), None, "nobody else has ever been there");
        let three = of(3);
        let told = lives.bars(Some(&three)).expect("an older copy, perhaps");
        assert!(told.contains("waiting for n2, n3 to say"), "{told}");
        let mut engine = crate::engine::MemoryEngine::new();
        for (node, barred) in [(2, true), (3, false)] {
            let by = (NodeId(node), "a peer");
            lives.hear_of_me(by, (life(2, 20), Lsn(9)), &mut engine).expect("nothing is written");
            assert_eq!(lives.bars(Some(&three)).is_some(), barred);
        }
    }

    #[test]
    fn records_of_lives_survive_and_broken_ones_are_no_lives() {
        let known = Known { life: life(3, 9), durable: Lsn(5), stored: Lsn(7), refused: 0 };
        let bytes = encode(&BTreeMap::from([(NodeId(1), known), (NodeId(u128::MAX), known)]));
        let back = decode(&bytes).expect("what was written");
        assert_eq!(back[&NodeId(u128::MAX)].life, life(3, 9));
        assert!(decode(&bytes.slice(1..)).is_err());
    }
}
