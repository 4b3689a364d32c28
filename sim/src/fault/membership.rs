//! The cluster itself changes: nodes come, go, and take the place of others; operators ask for it, one at a time or two at once.
//!
//! Which nodes are not there from the beginning, and whose name each of them has, stands with the cluster (`Cluster::later`). An
//! operator who is refused asks again, and another node where one does not answer, for a while. What came of it is for the
//! cluster to say: a change that nobody has taken on is none.

use serde::{Deserialize, Serialize};

use super::draw::{Entry, Family, Room, Usual};
use super::trigger::Trigger;
use crate::fault::{Kind, Stage, Trouble, says};
use crate::rng::Rng;

/// What this family draws.
pub const FAMILY: Family = Family { entries: ENTRIES, draw };

const ENTRIES: &[Entry] = &[
    entry("join", "a node starts that was not there, with the others as seeds"),
    entry("replace", "a node is gone for good, and a new one starts with its name").ends(),
    entry("name reuse", "a new node starts with the name of one that is there, and ends").ends(),
    entry("leave", "an operator takes a node's part of the data from it"),
    entry("weight change", "an operator gives a node another share of the data"),
    entry("skip dead", "an operator lets nobody wait for a node"),
    entry("two changes at once", "two operators change the cluster at two nodes"),
];

const fn entry(name: &'static str, what: &'static str) -> Entry {
    Entry::new("membership", name, what).nodes(2).by_load()
}

/// Between two tries of an operator, in milliseconds.
const AGAIN_MS: u64 = 300;
/// The highest weight.
const WEIGHT_MAX: u32 = 100;

/// A node starts that was not there.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Join {
    /// The node: one of those that come later.
    pub node: u32,
}

/// A node ends for good, with all that it held, and another one starts that has its name.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Replace {
    /// The node that is gone.
    pub node: u32,
    /// The node that has its name: one of those that come later.
    pub to: u32,
    /// How long nobody has the name, in milliseconds.
    pub down_ms: u64,
}

/// A node starts that has the name of one that is there; after a while it ends for good.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reuse {
    /// The node that comes, one of those that come later.
    pub node: u32,
    /// For how long it runs, in milliseconds.
    pub for_ms: u64,
}

/// An operator asks for a change.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Order {
    /// The node that is asked.
    pub node: u32,
    /// What is asked for.
    pub what: Wanted,
    /// What another operator asks for at the same moment, and the node that is asked for that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub beside: Option<Beside>,
    /// For how long they ask again, in milliseconds.
    pub for_ms: u64,
}

/// What another operator asks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Beside {
    /// The node that is asked.
    pub node: u32,
    /// What is asked for.
    pub what: Wanted,
}

/// A change of the cluster.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Wanted {
    /// A node hands its part to the others.
    Leave {
        /// The node.
        node: u32,
    },
    /// A node that runs gets a part, or another share.
    Join {
        /// The node.
        node: u32,
        /// Its share.
        weight: u32,
    },
    /// Nobody waits for a node.
    SkipDead {
        /// The node.
        node: u32,
        /// Nor for what it alone had.
        #[serde(default, skip_serializing_if = "is_false")]
        accepts_loss: bool,
    },
}

impl Trouble for Join {
    fn name(&self, _: Trigger) -> &str {
        "join"
    }

    fn strike(&self, stage: &mut dyn Stage) -> Option<u64> {
        stage.come(self.node);
        None
    }
}

impl Trouble for Replace {
    fn name(&self, _: Trigger) -> &str {
        "replace"
    }

    fn strike(&self, stage: &mut dyn Stage) -> Option<u64> {
        stage.go_for_good(self.node);
        Some(self.down_ms)
    }

    fn undo(&self, stage: &mut dyn Stage) {
        stage.come(self.to);
    }

    fn wrong_for(&self, _: Option<u64>) -> Option<u64> {
        None
    }

    fn brings_back(&self) -> Option<u32> {
        Some(self.to)
    }
}

impl Trouble for Reuse {
    fn name(&self, _: Trigger) -> &str {
        "name reuse"
    }

    fn strike(&self, stage: &mut dyn Stage) -> Option<u64> {
        stage.come(self.node);
        Some(self.for_ms)
    }

    fn undo(&self, stage: &mut dyn Stage) {
        stage.go_for_good(self.node);
    }

    fn brings_back(&self) -> Option<u32> {
        Some(self.node)
    }
}

impl Order {
    fn wishes(&self) -> impl Iterator<Item = (u32, Wanted)> {
        let beside = self.beside.map(|beside| (beside.node, beside.what));
        std::iter::once((self.node, self.what)).chain(beside)
    }
}

impl Trouble for Order {
    fn name(&self, _: Trigger) -> &str {
        match (self.beside, self.what) {
            (Some(_), _) => "two changes at once",
            (None, Wanted::Leave { .. }) => "leave",
            (None, Wanted::Join { .. }) => "weight change",
            (None, Wanted::SkipDead { .. }) => "skip dead",
        }
    }

    fn strike(&self, stage: &mut dyn Stage) -> Option<u64> {
        self.wishes().for_each(|(node, what)| stage.order(node, what));
        Some(AGAIN_MS)
    }

    fn undo(&self, stage: &mut dyn Stage) {
        let turns = u64::from(stage.turn());
        if stage.is_healed() || turns * AGAIN_MS > self.for_ms {
            return;
        }
        let refused: Vec<(u32, Wanted)> =
            self.wishes().filter(|&(_, what)| !stage.is_done(what)).collect();
        // Who has not answered may be gone: the next one is asked.
        for &(node, what) in &refused {
            stage.order(stage.next_to(node, turns as u32), what);
        }
        if !refused.is_empty() {
            stage.come_again(AGAIN_MS);
        }
    }

    fn check(&self, _: Trigger) -> Result<(), String> {
        let fits = |what| match what {
            Wanted::Join { weight, .. } => (1..=WEIGHT_MAX).contains(&weight),
            Wanted::Leave { .. } | Wanted::SkipDead { .. } => true,
        };
        says(self.wishes().all(|(_, what)| fits(what)), "weights are 1 to 100")
    }

    /// Nothing is wrong with a node that is asked.
    fn wrong_for(&self, _: Option<u64>) -> Option<u64> {
        Some(0)
    }
}

impl Wanted {
    /// The node that it is about.
    #[must_use]
    pub const fn node(self) -> u32 {
        match self {
            Wanted::Leave { node } | Wanted::Join { node, .. } | Wanted::SkipDead { node, .. } => {
                node
            }
        }
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks so")]
const fn is_false(of: &bool) -> bool {
    !*of
}

fn draw(rng: &mut Rng, room: &Room, name: &str, node: u32) -> Kind {
    let Usual { down_ms, .. } = Usual::of_a_node(rng);
    let other = (node + 1 + rng.node(room.nodes - 1)) % room.nodes;
    let weight = rng.log(1, 8) as u32;
    let for_ms = rng.between(2_000, 20_000);
    let leave = Wanted::Leave { node: other };
    let order = |what, beside| Order { node, what, beside, for_ms };
    match name {
        "join" => Join { node }.into(),
        "replace" => Replace { node, to: other, down_ms }.into(),
        "name reuse" => Reuse { node, for_ms }.into(),
        "leave" => order(leave, None).into(),
        "weight change" => order(Wanted::Join { node: other, weight }, None).into(),
        "skip dead" => order(Wanted::SkipDead { node: other, accepts_loss: false }, None).into(),
        _ => {
            let beside = Beside { node: other, what: Wanted::Join { node, weight } };
            order(leave, Some(beside)).into()
        }
    }
}
