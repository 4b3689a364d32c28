//! What people do to a node's data directory: they put back an old copy, start one twice, lose files of it, or empty it.
//! Whatever it is, it bears the node's name and is not the directory that ran last.
//!
//! After a while the operator puts the newest directory back, unchanged; then the node has to be as it was. The fault goes step by
//! step, because a node has to end first, or to live for a while. When a copy may be put in at all, so that the product can be asked to
//! notice it, is for the stage to say.

use rondo_engines::mem_disk::MemDisk;
use serde::{Deserialize, Serialize};

use super::draw::{Entry, Family, Room, Usual};
use super::processes::has_stopped;
use super::trigger::Trigger;
use crate::fault::{Kind, Stage, Trouble};
use crate::rng::Rng;

/// What this family draws.
pub const FAMILY: Family = Family { entries: ENTRIES, draw };

const ENTRIES: &[Entry] = &[
    entry("old copy", "a node is started on an old copy of its disk, and later on its own")
        .nodes(2)
        .apart(8),
    entry("cloned directory", "a copy of a node's disk is started beside it").nodes(2).apart(10),
    entry("wiped node", "a node is started with an empty disk, and later on its own")
        .nodes(2)
        .apart(9),
    entry("lost file", "a file goes or is cut while a node is down; later it is put back")
        .apart(11),
];

const fn entry(name: &'static str, what: &'static str) -> Entry {
    Entry::new("directory", name, what).ends()
}

/// Between two looks at a node that has to end, in milliseconds.
const STEP_MS: u64 = 20;

/// A node is started on something that is not its newest data directory.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Directory {
    /// The node.
    pub node: u32,
    /// On what.
    pub what: Replacement,
    /// After how long its newest directory is put back, in milliseconds.
    pub for_ms: u64,
}

/// What a node is started on.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Replacement {
    /// A copy is made while the node is down for a moment. Later the node ends, and the copy is started in its place.
    OldCopy {
        /// Whether the node is asked to stop, both times; else it is killed.
        orderly: bool,
        /// How long it runs between, in milliseconds.
        age_ms: u64,
        /// Whether the copy lies where the newest directory lay, as when a whole disk is set back; else it lies elsewhere.
        #[serde(default, skip_serializing_if = "is_false")]
        in_place: bool,
        /// Whether the copy is made while the node runs, which goes on.
        #[serde(default, skip_serializing_if = "is_false")]
        live: bool,
    },
    /// The node ends, and starts with an empty directory.
    Wiped {
        /// Whether the node is asked to stop; else it is killed.
        orderly: bool,
    },
    /// A copy is made while the node is down for a moment. Later it is started at another address, beside the node.
    Cloned {
        /// Whether the node is asked to stop; else it is killed.
        orderly: bool,
        /// How long the node runs alone, in milliseconds.
        age_ms: u64,
        /// Whether the node ends before the copy starts, and comes back half way.
        returns: bool,
        /// Whether the copy is made while the node runs, which goes on.
        #[serde(default, skip_serializing_if = "is_false")]
        live: bool,
    },
    /// The node stops in order, one of its files goes or loses its last byte, and it starts.
    LostFile {
        /// Which of the files without which it must not start: counted round.
        file: u32,
        /// Whether the file is there and too short.
        cut: bool,
        /// Instead, the node is killed, and its newest log file loses half of what it holds: for a while it starts as from a copy.
        #[serde(default, skip_serializing_if = "is_false")]
        newest: bool,
    },
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
const fn is_false(value: &bool) -> bool {
    !*value
}

impl Replacement {
    /// What people call it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Replacement::OldCopy { .. } => "old copy",
            Replacement::Wiped { .. } => "wiped node",
            Replacement::Cloned { .. } => "cloned directory",
            Replacement::LostFile { .. } => "lost file",
        }
    }

    /// Whether the node is asked to stop before, or killed.
    #[must_use]
    pub const fn is_orderly(self) -> bool {
        match self {
            Replacement::OldCopy { orderly, .. }
            | Replacement::Wiped { orderly }
            | Replacement::Cloned { orderly, .. } => orderly,
            Replacement::LostFile { newest, .. } => !newest,
        }
    }

    /// Whether it is a copy that is made while the node runs.
    #[must_use]
    pub const fn is_live(self) -> bool {
        matches!(
            self,
            Replacement::OldCopy { live: true, .. } | Replacement::Cloned { live: true, .. }
        )
    }

    /// Whether it lies where the newest directory lay.
    #[must_use]
    pub const fn is_in_place(self) -> bool {
        matches!(self, Replacement::OldCopy { in_place: true, .. } | Replacement::LostFile { .. })
    }
}

/// How far the fault has come.
#[derive(Debug)]
pub enum Step {
    /// The node has to end, and is copied then.
    Copies,
    /// The node runs and was copied so; soon the others are asked what they have heard of it.
    Copied(MemDisk),
    /// The node runs; there is a copy of how it was.
    Runs(MemDisk),
    /// The node has to end, and starts then with this; with its own disk, less a file, when there is nothing.
    Ends(Option<MemDisk>),
    /// It runs on that.
    Stands,
    /// Its clone runs, and it has to come back.
    Returns,
    /// Its clone runs, beside it.
    Beside,
}

impl Trouble for Directory {
    fn name(&self, _: Trigger) -> &str {
        self.what.name()
    }

    /// The node ends, so that another directory comes into the place of its own.
    fn strike(&self, stage: &mut dyn Stage) -> Option<u64> {
        if !stage.runs_on_its_newest(self.node) {
            return None;
        }
        if self.what.is_live()
            && let Replacement::OldCopy { age_ms, .. } | Replacement::Cloned { age_ms, .. } =
                self.what
        {
            let copy = stage.copy(self.node);
            stage.keep(Step::Copied(copy));
            return Some(age_ms);
        }
        stage.keep(match self.what {
            Replacement::OldCopy { .. } | Replacement::Cloned { .. } => Step::Copies,
            Replacement::Wiped { .. } => Step::Ends(Some(MemDisk::new())),
            Replacement::LostFile { .. } => Step::Ends(None),
        });
        self.end(stage);
        Some(STEP_MS)
    }

    /// The next step, once the node has ended where it has to.
    fn undo(&self, stage: &mut dyn Stage) {
        if !has_stopped(stage, self.node) {
            return;
        }
        let is_up = stage.is_up(self.node);
        let next = match stage.kept() {
            Some(Step::Copied(copy)) => {
                stage.ask_around();
                return wait_with(stage, Step::Runs(copy));
            }
            Some(Step::Runs(copy))
                if let Replacement::Cloned { returns: false, .. } = self.what =>
            {
                return self.begin_clone(stage, &copy, (Step::Beside, self.for_ms));
            }
            Some(Step::Ends(Some(copy))) if let Replacement::Cloned { .. } = self.what => {
                return self.begin_clone(stage, &copy, (Step::Returns, self.for_ms / 2));
            }
            Some(Step::Beside) => {
                stage.end_clone();
                None
            }
            Some(Step::Runs(copy)) if !stage.is_healed() => {
                self.end(stage);
                return wait_with(stage, Step::Ends(Some(copy)));
            }
            Some(Step::Stands) if !stage.is_healed() => {
                stage.put_back(self.node);
                None
            }
            Some(Step::Returns) if !stage.is_healed() => Some((Step::Beside, self.for_ms / 2)),
            // Somebody else has started it.
            _ if is_up || stage.is_healed() => None,
            Some(Step::Copies) => match self.what {
                Replacement::OldCopy { age_ms, .. } | Replacement::Cloned { age_ms, .. } => {
                    Some((Step::Runs(stage.copy(self.node)), age_ms))
                }
                _ => None,
            },
            Some(Step::Ends(Some(disk))) => {
                let is_in = stage.put_in(self.node, self.what, &disk);
                is_in.then_some((Step::Stands, self.for_ms))
            }
            Some(Step::Ends(None)) if let Some(disk) = stage.lose_file(self.node, self.what) => {
                return wait_with(stage, Step::Ends(Some(disk)));
            }
            _ => None,
        };
        if let Some((step, after_ms)) = next {
            stage.keep(step);
            stage.come_again(after_ms);
        }
        stage.start(self.node);
    }

    fn brings_back(&self) -> Option<u32> {
        Some(self.node)
    }

    /// A clone runs on a machine of its own.
    fn hosts(&self) -> u32 {
        u32::from(matches!(self.what, Replacement::Cloned { .. }))
    }
}

impl Directory {
    fn end(&self, stage: &mut dyn Stage) {
        if self.what.is_orderly() {
            stage.stop(self.node);
        } else {
            stage.kill(self.node);
        }
    }

    /// A copy of the directory starts on another machine, and is looked after later; the node itself where it cannot.
    fn begin_clone(&self, stage: &mut dyn Stage, copy: &MemDisk, next: (Step, u64)) {
        let host = stage.clone_beside(self.node, copy);
        if host.is_some() {
            stage.keep(next.0);
            stage.come_again(next.1);
        }
        stage.start(host.unwrap_or(self.node));
    }
}

/// The next step comes when the node has ended, or everybody has answered.
fn wait_with(stage: &mut dyn Stage, step: Step) {
    stage.keep(step);
    stage.come_again(STEP_MS);
}

fn draw(rng: &mut Rng, _: &Room, name: &str, node: u32) -> Kind {
    Usual::of_a_node(rng);
    let orderly = rng.percent(50);
    let what = match name {
        "old copy" => {
            let age_ms = rng.log(500, 4_000);
            Replacement::OldCopy { orderly, age_ms, in_place: false, live: rng.percent(50) }
        }
        "wiped node" => Replacement::Wiped { orderly },
        "cloned directory" => {
            let returns = rng.percent(50);
            let age_ms = rng.log(500, 4_000);
            Replacement::Cloned { orderly, age_ms, returns, live: rng.percent(50) }
        }
        _ => {
            let (file, cut) = (rng.below(64) as u32, rng.percent(30));
            Replacement::LostFile { file, cut, newest: false }
        }
    };
    Directory { node, what, for_ms: rng.log(300, 6_000) }.into()
}
