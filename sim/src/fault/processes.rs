//! Processes that end, stand still, get too few turns, or are started elsewhere.

use serde::{Deserialize, Serialize};

use super::draw::{Entry, Family, Room, Usual};
use super::power::{Fate, PowerLoss};
use super::trigger::Trigger;
use crate::fault::{Fault, Kind, STOP_MS, Stage, Trouble, says};
use crate::rng::Rng;

/// What this family draws.
pub const FAMILY: Family = Family { entries: ENTRIES, draw };

const ENTRIES: &[Entry] = &[
    entry("kill", "a process ends at once; its files are as it left them").ends().aimed(50),
    entry("crash loop", "a process is killed again soon after each start").ends().aimed(50),
    entry("many lives", "a process is killed again and again, some dozens of times")
        .ends()
        .apart(3),
    entry("restart", "a process is asked to stop, and started again").ends(),
    entry("another address", "a process ends, and is started at another address").ends().apart(4),
    entry("pause", "a process does not run for up to some seconds").aimed(35),
    entry("long pause", "a process does not run for 10 to 30 s").long(),
    entry("slow cpu", "a process gets a turn only every some milliseconds"),
];

const fn entry(name: &'static str, what: &'static str) -> Entry {
    Entry::new("process", name, what)
}

/// From when on a crash loop makes many lives.
const MANY_LIVES: u32 = 30;
/// From when on a pause is a long one, in milliseconds: longer than it takes to be held for dead.
const LONG_PAUSE_MS: u64 = 10_000;
/// Between two looks at a node that has to stop, in milliseconds.
const LOOK_MS: u64 = 20;

/// A process is killed; its files are as it left them.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Kill {
    /// The node.
    pub node: u32,
    /// For how long it is down, in milliseconds.
    pub down_ms: u64,
}

/// A process is killed, started, and killed again.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CrashLoop {
    /// The node.
    pub node: u32,
    /// How often it is killed.
    pub times: u32,
    /// How long it runs between, in milliseconds.
    pub up_ms: u64,
    /// How long it is down each time, in milliseconds.
    pub down_ms: u64,
}

/// A process is asked to stop, and started again.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Restart {
    /// The node.
    pub node: u32,
    /// How long it is down at least, in milliseconds.
    pub down_ms: u64,
}

/// A process does not run; its clock goes on and its messages queue up.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pause {
    /// The node.
    pub node: u32,
    /// For how long, in milliseconds.
    pub for_ms: u64,
}

/// A process gets a turn only so often.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SlowCpu {
    /// The node.
    pub node: u32,
    /// Between two of its turns at least, in microseconds.
    pub by_us: u64,
    /// For how long, in milliseconds.
    pub for_ms: u64,
}

/// A process ends, and is started at another address, where it stays. Who has its name finds it there, but nobody is told.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Move {
    /// The node.
    pub node: u32,
    /// Whether it is asked to stop; else it is killed.
    pub orderly: bool,
    /// How long it is down at least, in milliseconds.
    pub down_ms: u64,
}

impl Trouble for Kill {
    fn name(&self, _: Trigger) -> &str {
        "kill"
    }

    fn strike(&self, stage: &mut dyn Stage) -> Option<u64> {
        stage.kill(self.node);
        Some(self.down_ms)
    }

    fn undo(&self, stage: &mut dyn Stage) {
        stage.start(self.node);
    }
}

impl Trouble for CrashLoop {
    fn name(&self, _: Trigger) -> &str {
        if self.times >= MANY_LIVES { "many lives" } else { "crash loop" }
    }

    fn strike(&self, stage: &mut dyn Stage) -> Option<u64> {
        stage.kill(self.node);
        Some(self.down_ms)
    }

    fn undo(&self, stage: &mut dyn Stage) {
        let starts = !stage.is_up(self.node);
        let is_last = starts && stage.turn() >= self.times;
        if !is_last {
            stage.come_again(if starts { self.up_ms } else { self.down_ms });
        }
        if starts {
            stage.start(self.node);
        } else {
            stage.kill(self.node);
        }
    }
}

impl Trouble for Restart {
    fn name(&self, _: Trigger) -> &str {
        "restart"
    }

    fn strike(&self, stage: &mut dyn Stage) -> Option<u64> {
        stage.stop(self.node).then_some(self.down_ms)
    }

    fn undo(&self, stage: &mut dyn Stage) {
        if has_stopped(stage, self.node) {
            stage.start(self.node);
        }
    }

    fn wrong_for(&self, _: Option<u64>) -> Option<u64> {
        Some(self.down_ms + STOP_MS)
    }

    fn brings_back(&self) -> Option<u32> {
        Some(self.node)
    }

    /// A node is stopped in order, as for maintenance, and then its power is cut, and that of others.
    fn followed_by(&self, rng: &mut Rng, room: &Room, at: usize) -> Option<Fault> {
        if !room.keeps_data || !rng.percent(50) {
            return None;
        }
        let (fate, down_ms) = (Fate::draw(rng), rng.log(5, 2_000));
        let what = PowerLoss { nodes: (0..room.nodes).collect(), fate, down_ms }.into();
        Some(Fault { when: Trigger::After { fault: at, ms: rng.log(1, 400) }, what })
    }
}

impl Trouble for Move {
    fn name(&self, _: Trigger) -> &str {
        "another address"
    }

    fn strike(&self, stage: &mut dyn Stage) -> Option<u64> {
        if self.orderly {
            return stage.stop(self.node).then_some(self.down_ms);
        }
        stage.kill(self.node);
        Some(self.down_ms)
    }

    fn undo(&self, stage: &mut dyn Stage) {
        if has_stopped(stage, self.node) {
            stage.give_address(self.node);
            stage.start(self.node);
        }
    }

    fn wrong_for(&self, _: Option<u64>) -> Option<u64> {
        Some(self.down_ms + STOP_MS)
    }

    fn brings_back(&self) -> Option<u32> {
        Some(self.node)
    }
}

/// Whether a node that was asked to stop has done so; else it is looked at again.
pub(super) fn has_stopped(stage: &mut dyn Stage, node: u32) -> bool {
    if !stage.is_stopping(node) {
        return true;
    }
    if !stage.is_stuck(node) {
        stage.come_again(LOOK_MS);
    }
    false
}

impl Trouble for Pause {
    fn name(&self, _: Trigger) -> &str {
        if self.for_ms >= LONG_PAUSE_MS { "long pause" } else { "pause" }
    }

    fn strike(&self, stage: &mut dyn Stage) -> Option<u64> {
        stage.pause(self.node, self.for_ms).then_some(self.for_ms)
    }

    fn undo(&self, stage: &mut dyn Stage) {
        stage.resume(self.node);
    }

    fn delays(&self) -> Option<u32> {
        Some(self.node)
    }

    fn needs(&self) -> Option<u64> {
        (self.for_ms >= LONG_PAUSE_MS).then_some(self.for_ms)
    }
}

impl Trouble for SlowCpu {
    fn name(&self, _: Trigger) -> &str {
        "slow cpu"
    }

    fn strike(&self, stage: &mut dyn Stage) -> Option<u64> {
        stage.slow_cpu(self.node, self.by_us);
        Some(self.for_ms)
    }

    fn undo(&self, stage: &mut dyn Stage) {
        stage.slow_cpu(self.node, 0);
    }

    fn check(&self, _: Trigger) -> Result<(), String> {
        says(self.by_us <= 200_000, "a slow cpu waits at most 200,000 us")
    }

    fn delays(&self) -> Option<u32> {
        Some(self.node)
    }
}

pub(super) fn draw(rng: &mut Rng, _: &Room, name: &str, node: u32) -> Kind {
    let Usual { for_ms, down_ms, .. } = Usual::of_a_node(rng);
    match name {
        "kill" => Kill { node, down_ms }.into(),
        "crash loop" => {
            let (times, up_ms) = (rng.between(2, 5) as u32, rng.log(2, 600));
            CrashLoop { node, times, up_ms, down_ms: rng.log(5, 300) }.into()
        }
        "many lives" => {
            let (times, up_ms) = (rng.between(30, 80) as u32, rng.log(20, 200));
            CrashLoop { node, times, up_ms, down_ms: rng.log(5, 50) }.into()
        }
        "another address" => Move { node, orderly: rng.percent(50), down_ms }.into(),
        "restart" => Restart { node, down_ms }.into(),
        "pause" => Pause { node, for_ms }.into(),
        "long pause" => Pause { node, for_ms: rng.between(10_000, 30_000) }.into(),
        _ => SlowCpu { node, by_us: rng.log(300, 40_000), for_ms }.into(),
    }
}
