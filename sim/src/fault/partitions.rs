//! Partitions: links that carry nothing, in the shapes that networks are cut in.

use serde::{Deserialize, Serialize};

use super::draw::{Entry, Family, Room, Usual};
use super::links;
use super::trigger::Trigger;
use crate::fault::{Kind, Stage, Trouble};
use crate::rng::Rng;

/// The name of a split that lasts longer than it takes to be convicted.
pub const LONG_SPLIT: &str = "long split";

/// What this family draws.
pub const FAMILY: Family = Family { entries: ENTRIES, draw };

const ENTRIES: &[Entry] = &[
    entry("isolate", "one node reaches nobody and nobody reaches it").aimed(35),
    entry("split", "two halves do not reach each other"),
    entry("bridge", "two sides do not reach each other, one node reaches both").nodes(3),
    entry("one-way", "messages pass from one side to the other and not back"),
    entry("lasting one-way", "messages pass one way only, for as long as the run lasts").apart(6),
    entry("ring", "each node reaches only its two neighbours").nodes(4),
    entry("random links", "any set of directed links carries nothing"),
    entry(LONG_SPLIT, "one or two nodes, fewer than half, reach no other for 10 to 60 s").by_load(),
];

const fn entry(name: &'static str, what: &'static str) -> Entry {
    Entry::new("partition", name, what).nodes(2)
}

/// These directed links carry nothing.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cut {
    /// What people call this cut: isolate, split, bridge, one-way, lasting one-way, ring, random links, long
    /// split.
    pub name: String,
    /// (from, to).
    pub links: Vec<(u32, u32)>,
    /// For how long, in milliseconds.
    pub for_ms: u64,
}

impl Trouble for Cut {
    fn name(&self, _: Trigger) -> &str {
        &self.name
    }

    fn strike(&self, stage: &mut dyn Stage) -> Option<u64> {
        stage.cut(&self.links);
        Some(self.for_ms)
    }

    fn undo(&self, stage: &mut dyn Stage) {
        stage.mend(&self.links);
    }

    fn needs(&self) -> Option<u64> {
        (self.name == LONG_SPLIT).then_some(self.for_ms)
    }
}

fn draw(rng: &mut Rng, room: &Room, name: &str, _: u32) -> Kind {
    let Usual { for_ms, .. } = Usual::of_many(rng);
    let shape = if name == "lasting one-way" { "one-way" } else { name };
    let links = cut(rng, shape, room.nodes);
    let for_ms = match name {
        "lasting one-way" => rng.between(5_000, 20_000),
        // Longer than it takes to be convicted: a probe that fails, and a suspicion of 4 to 24 s.
        LONG_SPLIT => rng.log(10_000, 60_000),
        _ => for_ms,
    };
    Cut { name: name.to_owned(), links, for_ms }.into()
}

/// The directed links of a cut.
fn cut(rng: &mut Rng, name: &str, nodes: u32) -> Vec<(u32, u32)> {
    let mut order: Vec<u32> = (0..nodes).collect();
    for at in (1..order.len()).rev() {
        order.swap(at, rng.below(at as u64 + 1) as usize);
    }
    let both_ways = |left: &[u32], right: &[u32]| {
        let pairs = left.iter().flat_map(|&a| right.iter().flat_map(move |&b| [(a, b), (b, a)]));
        pairs.collect()
    };
    match name {
        "isolate" => both_ways(&order[..1], &order[1..]),
        "bridge" => {
            // The last node reaches both sides, which do not reach each other.
            let sides = &order[..order.len() - 1];
            let (left, right) = sides.split_at(sides.len() / 2);
            both_ways(left, right)
        }
        "one-way" => {
            let (left, right) = order.split_at(rng.between(1, u64::from(nodes) - 1) as usize);
            left.iter().flat_map(|&a| right.iter().map(move |&b| (a, b))).collect()
        }
        "ring" => {
            let apart = |a: usize, b: usize| (a + order.len() - b) % order.len();
            let far = |a, b| a != b && apart(a, b) != 1 && apart(b, a) != 1;
            let places = (0..order.len()).flat_map(|a| (0..order.len()).map(move |b| (a, b)));
            places.filter(|&(a, b)| far(a, b)).map(|(a, b)| (order[a], order[b])).collect()
        }
        "random links" => links::some(rng, nodes),
        LONG_SPLIT => {
            let few = rng.between(1, u64::from(nodes.saturating_sub(1) / 2).clamp(1, 2));
            both_ways(&order[..few as usize], &order[few as usize..])
        }
        _ => {
            let (left, right) = order.split_at(order.len() / 2);
            both_ways(left, right)
        }
    }
}
