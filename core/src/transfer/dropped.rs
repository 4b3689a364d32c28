//! What a node still has of keyspaces that were dropped: found by a walk over all that it has, and deleted in bounded steps.
//!
//! Ids of keyspaces are not used again, so one that was given and is not in the one layout that is live is of a dropped keyspace.
//! Nobody reads its keys and nothing is merged into them, because a layout without it is the newest here; and the layout that had it is
//! gone, with what was in flight under it. A node that was away meanwhile finds the same out of its store and the layout that it learns.
//! The keyspaces of a group lie among each other, by their keys' tokens, so the whole store is walked. That is done when something was
//! dropped since the last whole walk, which is noted in the store with the keyspaces that it left.
//!
//! Invariants: nothing is deleted while a second layout is live, or a request goes on that began under an older one; a walk begins
//! anew with each life, and when another keyspace was dropped since it began; a record that cannot be read is deleted too, by its key.
//! Left out: how records are deleted: see `replica::erase`.

use std::collections::BTreeSet;

use bytes::{Buf, BufMut, Bytes};
use smallvec::SmallVec;

use crate::config::{KEYSPACES_MAX, PAGE_BYTES_MAX, PAGE_KEYS_MAX};
use crate::engine::{Batch, Change, Engine, Page};
use crate::env::Mono;
use crate::error::{Error, Result};
use crate::id::{KeyspaceId, LayoutVersion, Unit};
use crate::layout::Layout;
use crate::layout::keyspace::partition;
use crate::member::view::View;
use crate::repair::merkle::entry_of;
use crate::replica::erase::Gone;
use crate::replica::is_deleted;
use crate::replica::keys::{DATA_START, group_of, parse_data_key};
use crate::wire::key::KeyRef;
use crate::wire::state::decode_head;

/// The engine key of what the last whole walk has left. All keys below 1 are the node's own (see `replica`).
const KEY: &[u8] = b"\0dropped";
/// The version of that record.
const FORM: u8 = 1;
/// How often it is looked what there is to do, in milliseconds.
const LOOK_MS: u64 = 20;

/// The keyspaces that there were when a walk began: of all others up to the last one nothing is left when it has ended.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
struct Left {
    last: KeyspaceId,
    keyspaces: BTreeSet<KeyspaceId>,
}

/// A walk.
#[derive(Debug)]
struct Walk {
    leaves: Left,
    place: Bytes,
}

/// What one step of a walk has found, and where the next one begins; `None` at the end.
#[derive(Debug)]
pub struct Found {
    /// The keys to delete, at most `PAGE_KEYS_MAX`.
    pub keys: Vec<Gone>,
    next: Option<Bytes>,
}

/// What is left of dropped keyspaces.
#[derive(Debug)]
pub struct Dropped {
    left: Left,
    walk: Option<Walk>,
    /// The layout of which it is known that there is nothing to do.
    done_by: Option<LayoutVersion>,
    /// The layout of whose groups alone this node has actors.
    groups_by: Option<LayoutVersion>,
    look_at: Mono,
    keys: u64,
}

impl Left {
    fn by(layout: &Layout) -> Left {
        let keyspaces = layout.keyspaces().iter().map(|one| one.id).collect();
        Left { last: layout.parts().last_keyspace, keyspaces }
    }

    /// Whether there may be something of a keyspace that the layout has dropped.
    fn lacks(&self, layout: &Layout) -> bool {
        let since = layout.parts().last_keyspace.0.saturating_sub(self.last.0) as usize;
        let there = layout.keyspaces().iter().filter(|one| one.id > self.last).count();
        since > there || self.keyspaces.iter().any(|&keyspace| layout.has_dropped(keyspace))
    }

    fn record(&self) -> Change {
        let mut head = vec![FORM];
        head.put_u32(self.last.0);
        self.keyspaces.iter().for_each(|keyspace| head.put_u32(keyspace.0));
        Change::put(Bytes::from_static(KEY), head.into(), SmallVec::new())
    }

    /// `None`: damaged, and everything is walked once more.
    fn parse(mut head: Bytes) -> Option<Left> {
        let is_whole = head.len() >= 5 && (head.len() - 5).is_multiple_of(4);
        if !is_whole || head.len() > 5 + 4 * KEYSPACES_MAX || head.get_u8() != FORM {
            return None;
        }
        let last = KeyspaceId(head.get_u32());
        let keyspaces = (0..head.len() / 4).map(|_| KeyspaceId(head.get_u32())).collect();
        Some(Left { last, keyspaces })
    }
}

impl Dropped {
    /// As earlier lives have left it.
    pub fn load(engine: &mut dyn Engine) -> Result<Dropped> {
        let page = match engine.scan_heads(KEY, 1, PAGE_BYTES_MAX) {
            Err(Error::Corrupt { .. }) => Page { records: Vec::new(), next: None },
            page => page?,
        };
        let record = page.records.into_iter().find(|(key, _)| key == KEY);
        let left = record.and_then(|(_, record)| Left::parse(record.head)).unwrap_or_default();
        Ok(Dropped { left, walk: None, done_by: None, groups_by: None, look_at: Mono(0), keys: 0 })
    }

    /// When `tick` has something to do; `None` while nothing is known to be left.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Mono> {
        self.walk.as_ref().map(|_| self.look_at)
    }

    /// How many keys have been deleted since the start.
    #[must_use]
    pub const fn keys(&self) -> u64 {
        self.keys
    }

    /// The layout that is live alone, when it has not been looked yet whether this node has anything of groups that it does not have.
    #[must_use]
    pub fn groups_of<'a>(
        &self,
        view: View<'a>,
        oldest: Option<LayoutVersion>,
    ) -> Option<&'a Layout> {
        let [only] = view.layouts else {
            return None;
        };
        let version = only.reference.version;
        let is_busy = oldest.is_some_and(|oldest| oldest < version);
        (self.groups_by != Some(version) && !is_busy).then_some(&*only.layout)
    }

    /// There is nothing of other groups.
    pub const fn groups_looked_at(&mut self, layout: &Layout) {
        self.groups_by = Some(layout.version());
    }

    /// Looks for the next keys of dropped keyspaces. `oldest`: the oldest of the newest layouts that the operations in flight began under.
    /// `None`: there is nothing to do, or not now.
    pub fn tick(
        &mut self,
        view: View<'_>,
        oldest: Option<LayoutVersion>,
        now: Mono,
        engine: &mut dyn Engine,
    ) -> Result<Option<Found>> {
        let ([only], None) = (view.layouts, view.barred) else {
            return Ok(None);
        };
        let version = only.reference.version;
        let is_done = self.walk.is_none() && self.done_by == Some(version);
        if is_done || now < self.look_at || oldest.is_some_and(|oldest| oldest < version) {
            return Ok(None);
        }
        self.look_at = now.plus_ms(LOOK_MS);
        if self.walk.is_none() && !self.left.lacks(&only.layout) {
            self.done_by = Some(version);
            return Ok(None);
        }
        let begin =
            || Walk { leaves: Left::by(&only.layout), place: Bytes::from_static(DATA_START) };
        let walk = self.walk.get_or_insert_with(begin);
        look(&walk.place, &only.layout, engine).map(Some)
    }

    /// What was found is deleted.
    pub fn gone(&mut self, found: Found, engine: &mut dyn Engine) -> Result<()> {
        self.keys += found.keys.len() as u64;
        let Some(mut walk) = self.walk.take() else {
            return Ok(());
        };
        if let Some(next) = found.next {
            walk.place = next;
            self.walk = Some(walk);
            return Ok(());
        }
        match engine.write(&Batch { changes: [walk.leaves.record()].into_iter().collect() }) {
            // The last step is done again when there may be room.
            Err(error) if error.wrote_nothing() => self.walk = Some(walk),
            written => {
                written?;
                self.left = walk.leaves;
            }
        }
        Ok(())
    }
}

/// The keys of dropped keyspaces among the next ones from a place on.
fn look(place: &Bytes, layout: &Layout, engine: &mut dyn Engine) -> Result<Found> {
    let is_dropped = |key: &KeyRef| layout.has_dropped(key.keyspace);
    let page = match engine.scan_heads(place, PAGE_KEYS_MAX, PAGE_BYTES_MAX) {
        Err(Error::Corrupt { .. } | Error::Disk(_)) => {
            let key = parse_data_key(place).filter(is_dropped);
            let gone = key.and_then(|key| gone(place.clone(), key, None, layout));
            let next = Some(Bytes::from([&place[..], &[0]].concat()));
            return Ok(Found { keys: gone.into_iter().collect(), next });
        }
        page => page?,
    };
    let mut keys = Vec::new();
    for (place, record) in page.records {
        if let Some(key) = parse_data_key(&place).filter(is_dropped) {
            keys.extend(gone(place, key, Some(&record.head), layout));
        }
    }
    Ok(Found { keys, next: page.next })
}

/// A key and what is to be known of it when it is deleted; `head` is that of its record.
fn gone(place: Bytes, key: KeyRef, head: Option<&Bytes>, layout: &Layout) -> Option<Gone> {
    let state = head.and_then(|head| Some(decode_head(head).ok()?.0));
    let partition = partition(key.token(), layout.partitions());
    Some(Gone {
        unit: Unit { group: group_of(&place)?, partition },
        is_deleted: state.as_ref().is_some_and(is_deleted),
        entry: state.map(|state| entry_of(&key, state.digest())),
        place,
        key,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::MemoryEngine;
    use crate::id::{ActorId, GroupId, NodeId, RequestId};
    use crate::layout::keyspace::Keyspace;
    use crate::layout::{LayoutParts, Quorums, Role};
    use crate::repair::merkle::entry;
    use crate::replica::keys::data_key;
    use crate::version::dvv::{Version, VersionSet, VersionVector};
    use crate::version::hlc::Hlc;
    use crate::wire::state::encode_state;

    /// A layout with these keyspaces, after the last of which there was one up to this id.
    fn layout(ids: &[u32], last: u32) -> Layout {
        let role = Role { node: NodeId(1), name: "n1".to_owned(), weight: 1, zone: String::new() };
        let usual = Keyspace::default_keyspace();
        let keyspaces = ids.iter().map(|&id| Keyspace {
            id: KeyspaceId(id),
            name: format!("k{id}"),
            ..usual.clone()
        });
        let first = Layout::first(1, Quorums { n: 1, r: 1, w: 1 }, vec![role], keyspaces.collect());
        let last_keyspace = KeyspaceId(last);
        let parts = LayoutParts { last_keyspace, ..first.parts().clone() };
        Layout::from_parts(parts).expect("a sound layout")
    }

    #[test]
    fn it_is_walked_only_when_something_was_dropped_since_the_last_whole_walk() {
        let none = Left::default();
        assert!(!none.lacks(&layout(&[1, 2, 3], 3)), "nothing was ever dropped");
        assert!(none.lacks(&layout(&[1, 3], 3)) && none.lacks(&layout(&[1, 2], 3)));
        let left = Left::by(&layout(&[1, 3], 4));
        assert!(!left.lacks(&layout(&[1, 3], 4)), "that was walked for");
        assert!(left.lacks(&layout(&[1], 4)) && left.lacks(&layout(&[1, 3], 5)));
        assert!(!left.lacks(&layout(&[1, 3, 5], 5)), "one more was made");
        assert!(!left.lacks(&layout(&[1], 2)), "an older layout says nothing");
    }

    #[test]
    fn what_was_left_is_read_again_and_a_damaged_record_means_another_walk() {
        let left = Left::by(&layout(&[1, 3, 9], 12));
        let Change::Put { head, .. } = left.record() else { panic!("a put") };
        assert_eq!(Left::parse(head.clone()), Some(left.clone()));
        for len in [0, 4, 6, head.len() - 1] {
            assert_eq!(Left::parse(head.slice(..len)), None, "cut to {len}");
        }
        let mut engine = MemoryEngine::new();
        engine.write(&Batch { changes: [left.record()].into_iter().collect() }).expect("memory");
        assert_eq!(Dropped::load(&mut engine).expect("memory").left, left);
    }

    /// Else the tree of a unit keeps entries of keys that nobody can be asked for, and is unequal for ever.
    #[test]
    fn what_is_found_says_what_it_adds_to_the_tree_of_its_unit() {
        let (of, mut state) = (layout(&[1], 2), VersionSet::default());
        let version = Version::tombstone(Hlc(9), RequestId(1));
        state.put(&VersionVector::default(), ActorId(7), version);
        let (gone, stays) =
            (KeyRef::new(KeyspaceId(2), "k".into()), KeyRef::new(KeyspaceId(1), "k".into()));
        let mut engine = MemoryEngine::new();
        for key in [&gone, &stays] {
            let (head, body) = encode_state(&state);
            let change = Change::put(data_key(GroupId(0), key), head, body);
            engine.write(&Batch { changes: [change].into_iter().collect() }).expect("memory");
        }
        let found = look(&Bytes::from_static(DATA_START), &of, &mut engine).expect("memory");
        let [one] = &found.keys[..] else { panic!("{found:?}") };
        assert_eq!((&one.key, one.unit, one.is_deleted), (&gone, Unit::default(), true));
        assert_eq!(one.entry, Some(entry(&gone, &state)));
    }
}
