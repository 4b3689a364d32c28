//! Links that behave badly, and connections that break.

use serde::{Deserialize, Serialize};

use super::draw::{Entry, Family, Room, Usual};
use super::trigger::{Said, Trigger};
use crate::fault::{Kind, Stage, Trouble, says};
use crate::rng::Rng;

/// What this family draws.
pub const FAMILY: Family = Family { entries: ENTRIES, draw };

const ENTRIES: &[Entry] = &[
    Entry::new("partition", "flapping", "links are cut and whole by turns").nodes(2),
    entry("loss burst", "some links lose many messages for a while"),
    entry("duplicate burst", "messages on some links arrive twice for a while"),
    entry("slow link", "all messages on some links are late by the same time"),
    entry("bimodal delay", "some messages on some links are late and the others are not"),
    entry("clog", "links hold all messages, then deliver them at once").aimed(35),
    entry("held messages", "links hold the messages of one kind, then deliver them at once"),
    entry("corruption", "a bit of a datagram or of a stream is flipped"),
    entry("reset", "what is on its way on some links is lost, and their connections break")
        .aimed(35),
    entry("half-open", "connections break, and only who dialled them learns it"),
    entry("refused connections", "links carry datagrams and no connection"),
];

const fn entry(name: &'static str, what: &'static str) -> Entry {
    Entry::new("link", name, what).nodes(2)
}

/// These directed links behave badly.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Links {
    /// (from, to).
    pub links: Vec<(u32, u32)>,
    /// How.
    pub how: Mischief,
    /// For how long, in milliseconds.
    pub for_ms: u64,
}

/// What is on its way on these directed links is lost; what follows travels.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reset {
    /// (from, to).
    pub links: Vec<(u32, u32)>,
}

/// Connections that were dialled on these directed links break, and only who dialled learns it; what is on its way is lost.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HalfOpen {
    /// (from, to).
    pub links: Vec<(u32, u32)>,
}

/// How links behave badly.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Mischief {
    /// They are cut and whole by turns, cut first.
    Flap {
        /// How long each turn is, in milliseconds.
        every_ms: u64,
    },
    /// They lose messages.
    Lose {
        /// How many in a million.
        ppm: u32,
    },
    /// Messages arrive twice.
    Double {
        /// How many in a million.
        ppm: u32,
    },
    /// All messages are late.
    Slow {
        /// By how much, in milliseconds.
        by_ms: u64,
    },
    /// Some messages are late and the others are not.
    Bimodal {
        /// How many in a million.
        ppm: u32,
        /// By how much, in milliseconds.
        by_ms: u64,
    },
    /// Messages are held, and all arrive at once when this is over.
    Clog,
    /// Messages of one kind are held, and all arrive at once when this is over.
    Hold {
        /// The kind.
        kind: Said,
    },
    /// One bit of a datagram is flipped, and of a piece of a stream where there are streams. (Elsewhere messages travel as if on
    /// connections with checksums.)
    Corrupt {
        /// How many in a million.
        ppm: u32,
    },
    /// Connections are broken and none is taken; datagrams pass.
    Refuse,
}

impl Mischief {
    const fn name(self) -> &'static str {
        match self {
            Mischief::Flap { .. } => "flapping",
            Mischief::Lose { .. } => "loss burst",
            Mischief::Double { .. } => "duplicate burst",
            Mischief::Slow { .. } => "slow link",
            Mischief::Bimodal { .. } => "bimodal delay",
            Mischief::Clog => "clog",
            Mischief::Hold { .. } => "held messages",
            Mischief::Corrupt { .. } => "corruption",
            Mischief::Refuse => "refused connections",
        }
    }
}

impl Trouble for Links {
    fn name(&self, _: Trigger) -> &str {
        self.how.name()
    }

    fn strike(&self, stage: &mut dyn Stage) -> Option<u64> {
        stage.spoil(&self.links, self.how, self.for_ms);
        Some(self.for_ms)
    }

    fn undo(&self, stage: &mut dyn Stage) {
        stage.calm();
    }

    fn check(&self, _: Trigger) -> Result<(), String> {
        let stands_still = matches!(self.how, Mischief::Flap { every_ms: 0 });
        says(!stands_still, "a flapping link needs turns of at least 1 ms")
    }
}

impl Trouble for Reset {
    fn name(&self, _: Trigger) -> &str {
        "reset"
    }

    fn strike(&self, stage: &mut dyn Stage) -> Option<u64> {
        stage.break_connections(&self.links, true);
        None
    }
}

impl Trouble for HalfOpen {
    fn name(&self, _: Trigger) -> &str {
        "half-open"
    }

    fn strike(&self, stage: &mut dyn Stage) -> Option<u64> {
        stage.break_connections(&self.links, false);
        None
    }
}

fn draw(rng: &mut Rng, room: &Room, name: &str, _: u32) -> Kind {
    let Usual { for_ms, ppm, by_ms, .. } = Usual::of_many(rng);
    let how = match name {
        "reset" => return Reset { links: some(rng, room.nodes) }.into(),
        "half-open" => return HalfOpen { links: some(rng, room.nodes) }.into(),
        "flapping" => Mischief::Flap { every_ms: rng.log(2, 400) },
        "loss burst" => Mischief::Lose { ppm },
        "duplicate burst" => Mischief::Double { ppm },
        "slow link" => Mischief::Slow { by_ms },
        "bimodal delay" => Mischief::Bimodal { ppm, by_ms },
        "clog" => Mischief::Clog,
        "held messages" => Mischief::Hold { kind: Said::draw(rng) },
        "refused connections" => Mischief::Refuse,
        _ => Mischief::Corrupt { ppm },
    };
    Links { links: some(rng, room.nodes), how, for_ms }.into()
}

/// All links, those of one node, or any.
pub(super) fn some(rng: &mut Rng, nodes: u32) -> Vec<(u32, u32)> {
    let mut links: Vec<(u32, u32)> =
        (0..nodes).flat_map(|a| (0..nodes).map(move |b| (a, b))).filter(|(a, b)| a != b).collect();
    let node = rng.node(nodes);
    match rng.below(4) {
        0 => {}
        1 => links.retain(|&(from, to)| from == node || to == node),
        2 => links.retain(|&(from, _)| from == node),
        _ => {
            let kept = rng.below(links.len() as u64) as usize;
            let mut at = 0;
            links.retain(|_| {
                at += 1;
                at == kept + 1 || rng.percent(30)
            });
        }
    }
    links
}
