//! Clocks that are set, stand still, or run at another rate.

use serde::{Deserialize, Serialize};

use super::draw::{Entry, Family, Room, Usual};
use super::trigger::Trigger;
use crate::fault::{Kind, Stage, Trouble, says};
use crate::rng::Rng;

/// What this family draws.
pub const FAMILY: Family = Family { entries: ENTRIES, draw };

const ENTRIES: &[Entry] = &[
    entry("forward jump", "a wall clock jumps forward"),
    entry("backward jump", "a wall clock jumps backward"),
    entry("clock steps", "a wall clock is set by several small steps"),
    entry("clock freeze", "a wall clock stands still, then goes on from there"),
    entry("drift change", "a node's clocks run at another rate for a while"),
];

const fn entry(name: &'static str, what: &'static str) -> Entry {
    Entry::new("clock", name, what)
}

/// A node's wall clock jumps.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Jump {
    /// The node.
    pub node: u32,
    /// How far; backward when negative; in milliseconds.
    pub by_ms: i64,
}

/// A node's wall clock is set by small steps.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Steps {
    /// The node.
    pub node: u32,
    /// How far each time; backward when negative; in milliseconds.
    pub by_ms: i64,
    /// How often.
    pub times: u32,
    /// Between two steps, in milliseconds.
    pub every_ms: u64,
}

/// A node's wall clock stands still, and then goes on from there.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Freeze {
    /// The node.
    pub node: u32,
    /// For how long, in milliseconds.
    pub for_ms: u64,
}

/// A node's clocks run at another rate.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Drift {
    /// The node.
    pub node: u32,
    /// How much faster than true time, in millionths.
    pub ppm: i32,
    /// For how long, in milliseconds.
    pub for_ms: u64,
}

/// A clock that was set stays wrong for ever.
const FOR_EVER: Option<u64> = None;

impl Trouble for Jump {
    fn name(&self, _: Trigger) -> &str {
        if self.by_ms < 0 { "backward jump" } else { "forward jump" }
    }

    fn strike(&self, stage: &mut dyn Stage) -> Option<u64> {
        stage.set_clock(self.node, self.by_ms);
        None
    }

    fn wrong_for(&self, _: Option<u64>) -> Option<u64> {
        FOR_EVER
    }
}

impl Trouble for Steps {
    fn name(&self, _: Trigger) -> &str {
        "clock steps"
    }

    /// The first step comes at once, the others as turns.
    fn strike(&self, stage: &mut dyn Stage) -> Option<u64> {
        stage.set_clock(self.node, self.by_ms);
        (self.times > 1).then_some(self.every_ms)
    }

    fn undo(&self, stage: &mut dyn Stage) {
        stage.set_clock(self.node, self.by_ms);
        if stage.turn() + 1 < self.times {
            stage.come_again(self.every_ms);
        }
    }

    fn wrong_for(&self, _: Option<u64>) -> Option<u64> {
        FOR_EVER
    }
}

impl Trouble for Freeze {
    fn name(&self, _: Trigger) -> &str {
        "clock freeze"
    }

    fn strike(&self, stage: &mut dyn Stage) -> Option<u64> {
        stage.freeze_clock(self.node, true);
        Some(self.for_ms)
    }

    fn undo(&self, stage: &mut dyn Stage) {
        stage.freeze_clock(self.node, false);
    }

    fn wrong_for(&self, _: Option<u64>) -> Option<u64> {
        FOR_EVER
    }

    fn delays(&self) -> Option<u32> {
        Some(self.node)
    }
}

impl Trouble for Drift {
    fn name(&self, _: Trigger) -> &str {
        "drift change"
    }

    fn strike(&self, stage: &mut dyn Stage) -> Option<u64> {
        stage.bend_clock(self.node, Some(self.ppm));
        Some(self.for_ms)
    }

    fn undo(&self, stage: &mut dyn Stage) {
        stage.bend_clock(self.node, None);
    }

    fn check(&self, _: Trigger) -> Result<(), String> {
        says(self.ppm.abs() <= 100_000, "drift is at most 100,000 ppm")
    }

    fn wrong_for(&self, _: Option<u64>) -> Option<u64> {
        FOR_EVER
    }

    fn delays(&self) -> Option<u32> {
        Some(self.node)
    }
}

fn draw(rng: &mut Rng, _: &Room, name: &str, node: u32) -> Kind {
    let Usual { for_ms, by_ms, .. } = Usual::of_a_node(rng);
    let by_ms = by_ms as i64;
    match name {
        "forward jump" => Jump { node, by_ms }.into(),
        "backward jump" => Jump { node, by_ms: -by_ms }.into(),
        "clock steps" => {
            let (times, every_ms) = (rng.between(2, 8) as u32, rng.log(10, 600));
            let by_ms = rng.log(1, 200) as i64;
            let by_ms = if rng.percent(50) { by_ms } else { -by_ms };
            Steps { node, by_ms, times, every_ms }.into()
        }
        "clock freeze" => Freeze { node, for_ms }.into(),
        _ => {
            let ppm = rng.log(100, 50_000) as i32;
            Drift { node, ppm: if rng.percent(50) { ppm } else { -ppm }, for_ms }.into()
        }
    }
}
