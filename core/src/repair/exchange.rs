//! One unit compared with one other owner of it, down its hash tree, and made equal in both directions.
//!
//! The one who compares asks for the nodes below the root, for the leaves below those that differ, and for the keys of the leaves that
//! differ, page by page. Of each key that differs it reads the other's state and its own, merges what it lacks, and brings the other
//! what that one lacks. These are reads and merges like any other: they wait for the disk, pass the fence, and issue no dot.
//!
//! **Writes in flight are not chased.** A write arrives at its owners one after another, so two trees differ wherever somebody writes.
//! Each level is taken twice, with a pause between, and only what differs both times is looked at; a key found to differ is read again
//! after such a pause.
//!
//! **Trees that are wrong heal.** When all keys of leaves that differ were compared and none differed, and the leaves have not changed
//! meanwhile, one of the trees does not say what is stored: both are grown anew.
//!
//! Invariants: nothing is merged or brought that was not read at both just now; a record that cannot be read, on either side, ends the
//! exchange, and is taken for absent by nobody; at most `REPAIR_LEAVES_MAX` leaves and `REPAIR_KEYS_MAX` keys at a time. An
//! exchange belongs to the layouts that it began under.
//! Left out: when exchanges begin, and how many: see `rounds`.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;

use crate::config::{
    FETCH_BYTES_MAX, REPAIR_KEYS_MAX, REPAIR_LEAVES_MAX, REPAIR_MENDED_MAX, REPAIR_SCAN_KEYS_MAX,
};
use crate::env::Mono;
use crate::error::Result;
use crate::id::{Epoch, Unit};
use crate::layout::live::LayoutSet;
use crate::repair::mending::{Mending, Names, Say, Told, Why};
use crate::repair::merkle::{Tree, WIDTH, leaf_of, leaves_below};
use crate::wire::key::{Answer, KeyRef, Question};
use crate::wire::repair::{self, Compare};
use crate::wire::transfer::Digested;

/// Between the two times that a level is taken, in milliseconds: longer than a write is on its way.
pub const PAUSE_MS: u64 = 100;
/// So long an answer is waited for, in milliseconds; longer after each time that none came.
const WAIT_MS: u64 = 1_000;
/// After so many answers that did not come the other is given up for now.
const SILENT_MAX: u32 = 3;

/// What this node has of a unit.
pub trait Here {
    /// The unit's tree, when it is complete and the unit whole.
    fn tree(&self, unit: Unit) -> Option<&Tree>;
    /// The keys of these leaves from a place of the unit on up to another one, or to its end; and where they end if that is sooner.
    /// `None`: a record cannot be read.
    fn keys(
        &mut self,
        unit: Unit,
        leaves: &[u16],
        within: (&Bytes, Option<&Bytes>),
    ) -> Result<Option<(Vec<Digested>, Option<Bytes>)>>;
    /// The unit's tree is made anew.
    fn regrow(&mut self, unit: Unit);
    /// Whether a key belongs to a unit, and lies before where a page of it ends.
    fn is_within(&self, unit: Unit, key: &KeyRef, end: Option<&Bytes>) -> bool;
}

/// How an exchange ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum End {
    /// All that was found is equal now, or was.
    Equal,
    /// More may differ than one exchange looks at.
    More,
    /// Keys and states were equal, and the trees were not.
    Regrow,
    /// It did not come to an end.
    Failed(Why),
}

/// What an exchange has done.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Done {
    /// Keys that differed when they were listed.
    pub found: u64,
    /// States that were merged here.
    pub taken: u64,
    /// States that the other has merged.
    pub brought: u64,
}

#[derive(Debug)]
enum Level {
    /// `first`: what differed the first time.
    Inner {
        first: Option<u32>,
    },
    Leaves {
        inner: u32,
        first: Option<BTreeSet<u16>>,
    },
    /// Each leaf with its hash here and there.
    Keys {
        leaves: BTreeMap<u16, (u64, u64)>,
    },
    /// The same leaves once more, because none of their keys differed.
    Check {
        leaves: BTreeMap<u16, (u64, u64)>,
    },
}

/// What an exchange waits for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Waits {
    /// An answer about trees, to this question.
    For(u64),
    /// The pause, and then it goes on.
    Pause,
    /// Answers about keys.
    Keys,
}

/// One exchange.
#[derive(Debug)]
pub struct Exchange {
    unit: Unit,
    pub(super) layouts: LayoutSet,
    level: Level,
    waits: Waits,
    again: Mono,
    silent: u32,
    /// Where the page begins that is looked at next; `None`: there is none.
    place: Option<Bytes>,
    todo: VecDeque<(KeyRef, u64)>,
    mending: BTreeMap<u64, Mending>,
    is_cut: bool,
    /// What other exchanges of this node hold, in bytes.
    others_hold: u64,
    done: Done,
}

/// What comes of a step: what to say under which number, or how it ended.
pub type Next = std::result::Result<Vec<(u64, Say)>, End>;

impl Exchange {
    /// A comparison of a unit.
    #[must_use]
    pub fn new(unit: Unit, layouts: LayoutSet, now: Mono) -> Exchange {
        Exchange {
            unit,
            layouts,
            level: Level::Inner { first: None },
            waits: Waits::Pause,
            again: now,
            silent: 0,
            place: Some(Bytes::new()),
            todo: VecDeque::new(),
            mending: BTreeMap::new(),
            is_cut: false,
            others_hold: 0,
            done: Done::default(),
        }
    }

    /// What must hold between steps. Panics when it does not.
    pub fn invariants(&self) {
        assert!(self.mending.len() <= REPAIR_MENDED_MAX, "few keys are made equal at a time");
        let keys_max = 2 * (REPAIR_KEYS_MAX + REPAIR_SCAN_KEYS_MAX) + REPAIR_MENDED_MAX;
        assert!(self.todo.len() <= keys_max, "what differs is bounded");
    }

    /// When `tick` has something to do.
    #[must_use]
    pub const fn next_deadline(&self) -> Mono {
        self.again
    }

    /// What it has done so far.
    #[must_use]
    pub const fn done(&self) -> Done {
        self.done
    }

    /// Whether a number is one of a question that it waits for.
    #[must_use]
    pub fn asked(&self, seq: u64) -> bool {
        self.waits == Waits::For(seq) || self.mending.contains_key(&seq)
    }

    /// Its time has come: a pause is over, or nobody has answered. `names` numbers questions.
    pub fn tick(&mut self, now: Mono, names: &mut Names) -> Next {
        if self.waits != Waits::Pause {
            self.silent += 1;
            if self.silent >= SILENT_MAX {
                return Err(End::Failed(Why::Silent));
            }
        }
        if !self.mending.is_empty() {
            let unanswered = std::mem::take(&mut self.mending).into_values();
            unanswered.for_each(|one| self.todo.push_front((one.key, one.bytes)));
        }
        self.go_on(now, names)
    }

    /// Asks what is to be asked next.
    fn go_on(&mut self, now: Mono, names: &mut Names) -> Next {
        if !self.todo.is_empty() {
            return Ok(self.mend(now, names));
        }
        let unit = self.unit;
        let question = match &self.level {
            Level::Inner { .. } => Compare::Inner { unit },
            Level::Leaves { inner, .. } => Compare::Leaves { unit, inner: *inner },
            Level::Keys { leaves } => match &self.place {
                Some(from) => {
                    let (leaves, from) = (leaves.keys().copied().collect(), from.clone());
                    Compare::Keys { unit, leaves, from }
                }
                None => return self.all_keys_compared(now, names),
            },
            Level::Check { leaves } => Compare::Leaves { unit, inner: above(leaves.keys()) },
        };
        let seq = names.draw();
        self.waits = Waits::For(seq);
        self.again = now.plus_ms(WAIT_MS << self.silent.min(4));
        Ok(vec![(seq, Say::Compare(question))])
    }

    /// The other has answered a question about trees.
    pub fn on_told(
        &mut self,
        told: repair::Told,
        here: &mut impl Here,
        now: Mono,
        names: &mut Names,
    ) -> Result<Next> {
        self.silent = 0;
        let hashes = match told {
            repair::Told::Hashes { hashes } => hashes,
            repair::Told::Keys { keys, next } => return self.on_keys(keys, next, here, now, names),
            repair::Told::Unreadable => return Ok(Err(End::Failed(Why::Unreadable))),
            repair::Told::OtherFormat => return Ok(Err(End::Failed(Why::OtherFormat))),
            repair::Told::Roots { .. }
            | repair::Told::Done
            | repair::Told::StaleLayout
            | repair::Told::NotCounted
            | repair::Told::Failed => return Ok(Err(End::Failed(Why::NotCounted))),
        };
        let Some(tree) = here.tree(self.unit) else {
            return Ok(Err(End::Failed(Why::NotCounted)));
        };
        Ok(self.on_hashes(&hashes, tree, now, names))
    }

    fn on_hashes(&mut self, hashes: &[u64], tree: &Tree, now: Mono, names: &mut Names) -> Next {
        let unequal = |inner: u32| {
            let both =
                tree.below(inner).zip(hashes).map(|((leaf, here), there)| (leaf, (here, *there)));
            both.filter(|(_, (here, there))| here != there).collect::<BTreeMap<u16, (u64, u64)>>()
        };
        match &self.level {
            Level::Inner { first } if hashes.len() == WIDTH => {
                let here = tree.inner();
                let both = here.iter().zip(hashes).enumerate();
                let unequal = both.filter(|(_, (here, there))| here != there);
                let now_unequal = unequal.fold(0, |set, (at, _)| set | 1 << at);
                let inner = now_unequal & first.unwrap_or(u32::MAX);
                let is_first = first.is_none();
                self.level = match is_first {
                    true => Level::Inner { first: Some(inner) },
                    false => Level::Leaves { inner, first: None },
                };
                self.after_a_level(inner == 0, is_first, now, names)
            }
            Level::Leaves { inner, first } if hashes.len() == leaves_below(*inner).count() => {
                let inner = *inner;
                let mut leaves = unequal(inner);
                let is_first = first.is_none();
                if let Some(first) = first {
                    leaves.retain(|leaf, _| first.contains(leaf));
                }
                let is_equal = leaves.is_empty();
                self.level = match is_first {
                    true => Level::Leaves { inner, first: Some(leaves.into_keys().collect()) },
                    false => {
                        self.is_cut = leaves.len() > REPAIR_LEAVES_MAX;
                        let leaves = leaves.into_iter().take(REPAIR_LEAVES_MAX).collect();
                        Level::Keys { leaves }
                    }
                };
                self.after_a_level(is_equal, is_first, now, names)
            }
            Level::Check { leaves } => {
                let unequal = unequal(above(leaves.keys()));
                let is_as_before =
                    |(leaf, hashes): (&u16, &(u64, u64))| unequal.get(leaf) == Some(hashes);
                match leaves.iter().any(is_as_before) {
                    true => Err(End::Regrow),
                    false => Err(End::Equal),
                }
            }
            Level::Inner { .. } | Level::Leaves { .. } | Level::Keys { .. } => {
                Err(End::Failed(Why::NotCounted))
            }
        }
    }

    fn after_a_level(
        &mut self,
        is_equal: bool,
        is_first: bool,
        now: Mono,
        names: &mut Names,
    ) -> Next {
        if is_equal {
            return Err(End::Equal);
        }
        if is_first {
            return Ok(self.pause(now));
        }
        self.go_on(now, names)
    }

    fn pause(&mut self, now: Mono) -> Vec<(u64, Say)> {
        (self.waits, self.again) = (Waits::Pause, now.plus_ms(PAUSE_MS));
        Vec::new()
    }

    /// The other has told a page of its keys: those that differ are made equal after a pause.
    fn on_keys(
        &mut self,
        keys: Vec<Digested>,
        next: Option<Bytes>,
        here: &mut impl Here,
        now: Mono,
        names: &mut Names,
    ) -> Result<Next> {
        let (Level::Keys { leaves }, Some(from)) = (&self.level, self.place.clone()) else {
            return Ok(Err(End::Failed(Why::NotCounted)));
        };
        let is_forward = next.as_ref().is_none_or(|next| *next > from);
        if !is_forward || keys.len() > REPAIR_KEYS_MAX {
            return Ok(Err(End::Failed(Why::NotCounted)));
        }
        let wanted: Vec<u16> = leaves.keys().copied().collect();
        let Some((mine, end)) = here.keys(self.unit, &wanted, (&from, next.as_ref()))? else {
            return Ok(Err(End::Failed(Why::Unreadable)));
        };
        // Both sides are compared as far as both have been read.
        let end = end.or(next);
        let is_within = |key: &KeyRef| {
            here.is_within(self.unit, key, end.as_ref()) && leaves.contains_key(&leaf_of(key))
        };
        // Those of a dropped keyspace are deleted, here and there, and are equal then.
        let is_gone = |one: &Digested| !here.is_within(self.unit, &one.key, None);
        self.is_cut |= mine.iter().chain(&keys).any(is_gone);
        let mine = mine.into_iter().filter(|one| is_within(&one.key));
        let mut unequal: BTreeMap<KeyRef, (Option<u64>, u64)> =
            mine.map(|one| (one.key, (Some(one.digest), one.bytes))).collect();
        for one in keys.into_iter().filter(|one| is_within(&one.key)) {
            match unequal.get_mut(&one.key) {
                Some((digest, _)) if *digest == Some(one.digest) => drop(unequal.remove(&one.key)),
                Some((_, bytes)) => *bytes = one.bytes.max(*bytes),
                None => drop(unequal.insert(one.key, (None, one.bytes))),
            }
        }
        self.place = end;
        self.done.found += unequal.len() as u64;
        let unequal = unequal.into_iter().map(|(key, (_, bytes))| (key, bytes));
        self.todo.extend(unequal);
        if !self.todo.is_empty() && (self.place.is_none() || self.todo.len() >= REPAIR_KEYS_MAX) {
            return Ok(Ok(self.pause(now)));
        }
        Ok(self.next_page(now, names))
    }

    /// Goes on with the next page, whatever has been found so far.
    fn next_page(&mut self, now: Mono, names: &mut Names) -> Next {
        let found = std::mem::take(&mut self.todo);
        let next = self.go_on(now, names);
        self.todo = found;
        next
    }

    /// All pages have been looked at.
    fn all_keys_compared(&mut self, now: Mono, names: &mut Names) -> Next {
        let Level::Keys { leaves } = &self.level else {
            return Err(End::Equal);
        };
        if self.is_cut {
            return Err(End::More);
        }
        if self.done.found > 0 {
            return Err(End::Equal);
        }
        self.level = Level::Check { leaves: leaves.clone() };
        self.go_on(now, names)
    }

    /// Reads as many of the keys that differ as may be on their way.
    fn mend(&mut self, now: Mono, names: &mut Names) -> Vec<(u64, Say)> {
        let mut said = Vec::new();
        while let Some((_, bytes)) = self.todo.front() {
            let on_their_way: u64 = self.mending.values().map(|one| one.bytes).sum();
            let on_their_way = on_their_way + self.others_hold;
            let fits = on_their_way == 0 || on_their_way + bytes <= FETCH_BYTES_MAX;
            if self.mending.len() >= REPAIR_MENDED_MAX || !fits {
                break;
            }
            if let Some((key, bytes)) = self.todo.pop_front() {
                let seq = names.draw();
                said.push((
                    seq,
                    Say::Ask(
                        key.clone(),
                        Question::Read { digest_only: false, heard: Epoch::default() },
                    ),
                ));
                self.mending.insert(seq, Mending::new(key, bytes));
            }
        }
        if self.mending.is_empty() {
            // Others hold all that may be held.
            return self.pause(now);
        }
        (self.waits, self.again) = (Waits::Keys, now.plus_ms(WAIT_MS << self.silent.min(4)));
        said
    }

    /// An answer about a key: of the other, or of this node itself.
    pub fn on_answer(
        &mut self,
        is_here: bool,
        (seq, answer): (u64, Answer),
        now: Mono,
        names: &mut Names,
    ) -> Next {
        let Some(one) = self.mending.get_mut(&seq) else {
            return Ok(Vec::new());
        };
        if is_here != one.waits_here() {
            return Ok(Vec::new());
        }
        let say = match one.on_answer(answer) {
            Ok(Told::Nothing) => return Ok(Vec::new()),
            Ok(Told::Say(say)) => Some(say),
            Ok(Told::Ended) => None,
            Err(why) => return Err(End::Failed(why)),
        };
        if say.is_none() {
            self.done.taken += u64::from(one.has_taken);
            self.done.brought += u64::from(one.has_brought);
        }
        self.silent = 0;
        self.again = now.plus_ms(WAIT_MS);
        if let Some(say) = say {
            return Ok(vec![(seq, say)]);
        }
        self.mending.remove(&seq);
        if self.mending.is_empty() && self.todo.is_empty() {
            return self.go_on(now, names);
        }
        Ok(self.mend(now, names))
    }

    /// It waits for nobody before this moment: what it has said has not left yet. And so much is held by others now.
    pub fn hold(&mut self, until: Mono, others_hold: u64) {
        self.again = self.again.max(until);
        self.others_hold = others_hold;
    }

    /// The bytes on their way for the keys that are made equal.
    #[must_use]
    pub fn held_bytes(&self) -> u64 {
        self.mending.values().map(|one| one.bytes).sum()
    }
}

/// The nodes above some leaves.
fn above<'a>(leaves: impl Iterator<Item = &'a u16>) -> u32 {
    leaves.fold(0, |set, leaf| set | 1 << (usize::from(*leaf) / WIDTH))
}
