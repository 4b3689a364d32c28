//! Is a history linearizable? For any history of reads, writes, compare-and-sets and appends, from here or from elsewhere.
//!
//! A history is linearizable iff each key's is, so keys are judged one by one: by `zones` where versions are unique,
//! which takes no search, by `search` otherwise. Searches take turns, and their turns grow, so a key whose order is
//! hard to find cannot hide one that is plainly wrong. Nothing here knows of the simulated world.

mod history;

mod model;

mod zones;

mod search;

mod evidence;

pub mod format;

#[cfg(test)]
mod agree;

pub use history::{Event, NEVER, Value, What};
pub use model::{Register, Text, mixed};
pub use search::{Mixed, Search};
pub use zones::{Conflict, Zones};

use crate::check::history::by_key;
use crate::check::model::Model;

/// The steps of a search's first turn, and how much longer each turn is than the last one.
const FIRST_TURN: u64 = 10_000;
const TURN_GROWTH: u64 = 8;

/// How many states all searches together may remember; some 40 bytes each.
pub const STATES_MAX: usize = 16_000_000;

/// What was found.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// Some order agrees with real time and with the model, for each key.
    Linearizable,
    /// None does.
    Not(Evidence),
    /// The search gave up on these keys.
    Undecided(Vec<u32>),
}

/// Why a history is not linearizable.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Evidence {
    /// The key.
    pub key: u32,
    /// The operations that contradict each other, as indices of the events.
    pub operations: Vec<u32>,
    /// In words; operations are named by their indices.
    pub why: String,
}

/// Judges registers: by zones where that is possible, by search where it is not.
#[must_use]
pub fn registers(events: &[Event], initial: Value, states_max: usize) -> Verdict {
    let mut zones = Zones::default();
    let mut hard = Vec::new();
    for (key, of) in (0..).zip(by_key(events)) {
        match zones.judge(events, &of, initial) {
            Some(Ok(())) => {}
            Some(Err(conflict)) => {
                let (operations, why) = (conflict.operations(), conflict.to_string());
                return Verdict::Not(Evidence { key, operations, why });
            }
            None => hard.push((key, of)),
        }
    }
    search_all(&Register { initial }, events, hard, states_max)
}

/// Judges any model, by search.
#[must_use]
pub fn any<M: Model>(model: &M, events: &[Event], states_max: usize) -> Verdict {
    search_all(model, events, (0..).zip(by_key(events)).collect(), states_max)
}

fn search_all<M: Model>(
    model: &M,
    events: &[Event],
    keys: Vec<(u32, Vec<u32>)>,
    states_max: usize,
) -> Verdict {
    let of = |of: &[u32]| of.iter().map(|&at| events[at as usize]).collect::<Vec<Event>>();
    let begin = |(key, ids): (u32, Vec<u32>)| (key, Search::new(model, &of(&ids)), ids);
    let mut open: Vec<_> = keys.into_iter().map(begin).collect();
    let mut turn = FIRST_TURN;
    loop {
        let mut undecided = Vec::new();
        for (key, mut search, ids) in open {
            match search.run(turn) {
                Some(true) => {}
                Some(false) => return Verdict::Not(evidence::smallest(model, events, key, &ids)),
                None => undecided.push((key, search, ids)),
            }
        }
        if undecided.is_empty() {
            return Verdict::Linearizable;
        }
        let states: usize = undecided.iter().map(|(_, search, _)| search.states()).sum();
        if states + turn as usize * undecided.len() > states_max {
            return Verdict::Undecided(undecided.into_iter().map(|(key, ..)| key).collect());
        }
        open = undecided;
        turn *= TURN_GROWTH;
    }
}
