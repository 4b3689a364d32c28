//! Is one key's history linearizable? Without search, for registers in which every version is written once.
//!
//! After Gibbons and Korach ("Testing Shared Memories", 1997), with compare-and-set added. A write and the reads of its
//! version form a *cluster*. A compare-and-set puts its cluster right behind the one it found, because no write fits
//! in between; clusters that follow each other so form a *block*, and the version at the beginning opens one too.
//! With f the first end in a block and s the last call, block X must come before block Y exactly when f(X) < s(Y).
//! The history is linearizable iff
//!
//! - every version that was seen was written, and no compare-and-set found what another one had found;
//! - inside each block the only order that is possible agrees with real time;
//! - no two blocks must each come before the other. Blocks with f < s must not overlap, and no other block lies
//!   inside one of them; longer rings of blocks contain such a pair, because the relation compares numbers.
//!
//! A write that never ended counts when its version was seen, be it by a compare-and-set that counts for the same
//! reason. Everything is linear but for the sorting of blocks. Refusals and appends are not known here.

use std::fmt;

use crate::check::history::{Event, Moment, Value, What};

/// Why there is no order. Operations are indices of the events.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Conflict {
    /// It saw a version that nobody wrote, or one whose chain of compare-and-sets has no beginning.
    NeverWritten(u32),
    /// Two compare-and-sets found the same version.
    FoundTwice([u32; 2]),
    /// The first ended before the second was called, but has to come after it.
    Backwards([u32; 2]),
    /// The first ended before the second was called, so the first one's block comes first; and the third before
    /// the fourth, so the other one does.
    Crossed([u32; 4]),
}

/// A moment and whose it is.
type Mark = (Moment, u32);

/// No operation: the beginning.
pub(super) const BEGINNING: u32 = u32::MAX;

const NONE: u32 = u32::MAX;

/// What zones are found with, kept from key to key.
#[derive(Default)]
pub struct Zones {
    /// A value's place in `versions`.
    places: Vec<u32>,
    versions: Vec<Version>,
    /// Versions whose chain has to be looked at.
    open: Vec<u32>,
}

struct Version {
    value: Value,
    writer: u32,
    called: Moment,
    ended: Moment,
    /// The version that its writer found, when it is a compare-and-set.
    from: Option<Value>,
    /// The version whose writer found this one.
    next: u32,
    first_read_end: Mark,
    last_read_call: Mark,
    counts: bool,
    in_block: bool,
}

/// The first end and the last call of a block.
#[derive(Clone, Copy)]
struct Block {
    first_end: Mark,
    last_call: Mark,
}

impl Zones {
    /// Judges the operations `of` one key. `None` when this is no matter of zones: a value was written twice, or there
    /// are operations other than reads, writes and compare-and-sets that succeeded.
    pub fn judge(
        &mut self,
        events: &[Event],
        of: &[u32],
        initial: Value,
    ) -> Option<Result<(), Conflict>> {
        self.versions.clear();
        self.open.clear();
        let judged = self.collect(events, of, initial).map(|()| self.decide(events, of));
        for version in &self.versions {
            self.places[version.value.0 as usize] = NONE;
        }
        judged
    }

    /// Finds the versions and who wrote them.
    fn collect(&mut self, events: &[Event], of: &[u32], initial: Value) -> Option<()> {
        self.add(initial, BEGINNING, (0, 0), None)?;
        for &at in of {
            let event = &events[at as usize];
            let span = (event.called, event.ended);
            match event.what {
                What::Read(_) => {}
                What::Write(to) => self.add(to, at, span, None)?,
                What::Cas { from, to } => self.add(to, at, span, Some(from))?,
                What::Refused(_) | What::Append(_) => return None,
            }
        }
        Some(())
    }

    fn add(
        &mut self,
        value: Value,
        writer: u32,
        (called, ended): (Moment, Moment),
        from: Option<Value>,
    ) -> Option<()> {
        let place = value.0 as usize;
        if place >= self.places.len() {
            self.places.resize((place + 1).next_power_of_two(), NONE);
        }
        if self.places[place] != NONE {
            return None;
        }
        let number = self.versions.len() as u32;
        self.places[place] = number;
        let counts = called == 0 || ended != Moment::MAX;
        if counts {
            self.open.push(number);
        }
        let (first_read_end, last_read_call) = ((Moment::MAX, NONE), (0, NONE));
        self.versions.push(Version {
            value,
            writer,
            called,
            ended,
            from,
            next: NONE,
            first_read_end,
            last_read_call,
            counts,
            in_block: false,
        });
        Some(())
    }

    fn place(&self, value: Value) -> Option<u32> {
        self.places.get(value.0 as usize).copied().filter(|&place| place != NONE)
    }

    fn decide(&mut self, events: &[Event], of: &[u32]) -> Result<(), Conflict> {
        for &at in of {
            let event = &events[at as usize];
            if let (What::Read(value), false) = (event.what, event.is_unknown()) {
                let place = self.place(value).ok_or(Conflict::NeverWritten(at))?;
                self.count(place);
                let version = &mut self.versions[place as usize];
                version.first_read_end = version.first_read_end.min((event.ended, at));
                version.last_read_call = version.last_read_call.max((event.called, at));
            }
        }
        self.chain()?;
        let blocks = self.blocks()?;
        crossed(blocks).map_or(Ok(()), Err)
    }

    /// This version exists.
    fn count(&mut self, place: u32) {
        let version = &mut self.versions[place as usize];
        if !version.counts {
            version.counts = true;
            self.open.push(place);
        }
    }

    /// Ties each compare-and-set that counts to the version it found, which counts then, too.
    fn chain(&mut self) -> Result<(), Conflict> {
        while let Some(place) = self.open.pop() {
            let Version { from, writer, .. } = self.versions[place as usize];
            let Some(from) = from else {
                continue;
            };
            let found = self.place(from).ok_or(Conflict::NeverWritten(writer))?;
            let other = self.versions[found as usize].next;
            if other != NONE {
                return Err(Conflict::FoundTwice([self.versions[other as usize].writer, writer]));
            }
            self.versions[found as usize].next = place;
            self.count(found);
        }
        Ok(())
    }

    /// The blocks, each in the one order that it may have.
    fn blocks(&mut self) -> Result<Vec<Block>, Conflict> {
        let mut blocks = Vec::with_capacity(self.versions.len());
        for first in 0..self.versions.len() {
            let version = &self.versions[first];
            if version.counts && version.from.is_none() {
                blocks.push(self.block(first as u32)?);
            }
        }
        let ring = self.versions.iter().find(|version| version.counts && !version.in_block);
        ring.map_or(Ok(blocks), |version| Err(Conflict::NeverWritten(version.writer)))
    }

    fn block(&mut self, first: u32) -> Result<Block, Conflict> {
        let mut block = Block { first_end: (Moment::MAX, NONE), last_call: (0, BEGINNING) };
        let mut place = first;
        while place != NONE {
            let version = &mut self.versions[place as usize];
            version.in_block = true;
            block.follow((version.called, version.writer), (version.ended, version.writer))?;
            if version.first_read_end.1 != NONE {
                block.follow(version.last_read_call, version.first_read_end)?;
            }
            place = version.next;
        }
        Ok(block)
    }
}

impl Block {
    /// What has these last call and first end comes after all that is in the block.
    fn follow(&mut self, last_call: Mark, first_end: Mark) -> Result<(), Conflict> {
        if first_end.0 < self.last_call.0 {
            return Err(Conflict::Backwards([first_end.1, self.last_call.1]));
        }
        self.last_call = self.last_call.max(last_call);
        self.first_end = self.first_end.min(first_end);
        Ok(())
    }

    const fn is_forward(&self) -> bool {
        self.first_end.0 < self.last_call.0
    }

    const fn precedes(&self, other: &Block) -> bool {
        self.first_end.0 < other.last_call.0
    }
}

/// Two blocks of which each must come before the other.
fn crossed(blocks: Vec<Block>) -> Option<Conflict> {
    let pair = |one: &Block, other: &Block| {
        let there = [one.first_end.1, other.last_call.1];
        let back = [other.first_end.1, one.last_call.1];
        Conflict::Crossed([there[0], there[1], back[0], back[1]])
    };
    let (mut forward, backward): (Vec<Block>, Vec<Block>) =
        blocks.into_iter().partition(Block::is_forward);
    forward.sort_by_key(|block| block.first_end.0);
    if let Some(two) = forward.windows(2).find(|two| two[1].precedes(&two[0])) {
        return Some(pair(&two[0], &two[1]));
    }
    backward.iter().find_map(|inner| {
        let before = forward.partition_point(|outer| outer.precedes(inner));
        let outer = forward[..before].last()?;
        inner.precedes(outer).then(|| pair(outer, inner))
    })
}

impl Conflict {
    /// The operations it is about.
    #[must_use]
    pub fn operations(&self) -> Vec<u32> {
        let mut all = match self {
            Conflict::NeverWritten(one) => vec![*one],
            Conflict::FoundTwice(two) | Conflict::Backwards(two) => two.to_vec(),
            Conflict::Crossed(four) => four.to_vec(),
        };
        all.retain(|&at| at != BEGINNING);
        all.sort_unstable();
        all.dedup();
        all
    }

    /// The same with other names for the operations.
    #[must_use]
    pub fn renamed(&self, name: impl Fn(u32) -> u32) -> Conflict {
        let name = |at: u32| if at == BEGINNING { at } else { name(at) };
        match *self {
            Conflict::NeverWritten(one) => Conflict::NeverWritten(name(one)),
            Conflict::FoundTwice(two) => Conflict::FoundTwice(two.map(name)),
            Conflict::Backwards(two) => Conflict::Backwards(two.map(name)),
            Conflict::Crossed(four) => Conflict::Crossed(four.map(name)),
        }
    }
}

impl fmt::Display for Conflict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let op = |at: &u32| match *at {
            BEGINNING => "the beginning".to_owned(),
            at => format!("op {at}"),
        };
        match self {
            Conflict::NeverWritten(at) => write!(f, "{} saw what nobody can have written", op(at)),
            Conflict::FoundTwice([a, b]) => {
                write!(f, "{} and {} both replaced the same version", op(a), op(b))
            }
            Conflict::Backwards([a, b]) => {
                let (a, b) = (op(a), op(b));
                write!(f, "{a} ended before {b} was called, but must come after it")
            }
            Conflict::Crossed([a, b, c, d]) => {
                let (a, b, c, d) = (op(a), op(b), op(c), op(d));
                write!(
                    f,
                    "{a} ended before {b} was called, so what {a} wrote or saw comes first; "
                )?;
                write!(f, "but {c} ended before {d} was called, so it comes last")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::check::history::NEVER;

    use super::*;

    fn judged(spans: &[(Moment, Moment, What)]) -> Option<Result<(), Conflict>> {
        let event = |&(called, ended, what)| Event { called, ended, key: 0, what };
        let events: Vec<Event> = spans.iter().map(event).collect();
        let of: Vec<u32> = (0..events.len() as u32).collect();
        Zones::default().judge(&events, &of, Value(0))
    }

    const fn write(value: u32) -> What {
        What::Write(Value(value))
    }

    const fn read(value: u32) -> What {
        What::Read(Value(value))
    }

    const fn cas(from: u32, to: u32) -> What {
        What::Cas { from: Value(from), to: Value(to) }
    }

    #[test]
    fn a_stale_read_crosses_two_blocks() {
        let stale = [(1, 2, write(1)), (3, 4, write(2)), (5, 6, read(1))];
        let conflict = Conflict::Crossed([0, 1, 1, 2]);
        assert_eq!(judged(&stale), Some(Err(conflict.clone())));
        assert_eq!(
            conflict.to_string(),
            "op 0 ended before op 1 was called, so what op 0 wrote or saw comes first; \
             but op 1 ended before op 2 was called, so it comes last"
        );
        assert_eq!(judged(&[(1, 2, write(1)), (3, 9, write(2)), (5, 6, read(1))]), Some(Ok(())));
    }

    #[test]
    fn what_nobody_wrote_and_what_was_not_written_yet_is_found() {
        assert_eq!(judged(&[(1, 2, read(7))]), Some(Err(Conflict::NeverWritten(0))));
        let early = [(1, 2, read(7)), (3, 4, write(7))];
        assert_eq!(judged(&early), Some(Err(Conflict::Backwards([0, 1]))));
    }

    #[test]
    fn the_beginning_is_a_version() {
        let back = [(1, 2, write(1)), (3, 4, read(0))];
        let Some(Err(Conflict::Crossed(_))) = judged(&back) else {
            unreachable!("absence after a write is a contradiction");
        };
        assert_eq!(judged(&[(1, 9, write(1)), (3, 4, read(0))]), Some(Ok(())));
    }

    #[test]
    fn a_version_is_replaced_once() {
        let twice = [(1, 2, write(1)), (3, 9, cas(1, 2)), (3, 9, cas(1, 3))];
        assert_eq!(judged(&twice), Some(Err(Conflict::FoundTwice([2, 1]))));
        let ring = [(1, 2, cas(1, 2)), (1, 2, cas(2, 1))];
        assert!(matches!(judged(&ring), Some(Err(Conflict::NeverWritten(_)))));
    }

    #[test]
    fn unknown_compare_and_sets_count_when_their_last_version_was_seen() {
        let chain = [(1, NEVER, cas(0, 1)), (2, NEVER, cas(1, 2)), (5, 6, read(2))];
        assert_eq!(judged(&chain), Some(Ok(())));
        let back = [chain.as_slice(), &[(7, 8, read(1))]].concat();
        assert!(matches!(judged(&back), Some(Err(Conflict::Backwards(_)))));
        let unseen = [(1, NEVER, cas(0, 1)), (2, NEVER, cas(1, 2)), (5, 6, read(0))];
        assert_eq!(judged(&unseen), Some(Ok(())));
    }

    #[test]
    fn values_that_are_written_twice_are_left_to_the_search() {
        assert_eq!(judged(&[(1, 2, write(1)), (3, 4, write(1))]), None);
        assert_eq!(judged(&[(1, 2, What::Refused(Value(3)))]), None);
        let mut zones = Zones::default();
        let twice = Event { called: 1, ended: 2, key: 0, what: write(1) };
        assert_eq!(zones.judge(&[twice, twice], &[0, 1], Value(0)), None);
        assert_eq!(zones.judge(&[twice], &[0], Value(0)), Some(Ok(())), "nothing is left over");
    }
}
