//! One other node that owns units of this one: when the next round with it is due, and how far the present one is.

use std::collections::{BTreeSet, VecDeque};

use crate::config::{REPAIR_EVERY_MS, REPAIR_ROOTS_MAX};
use crate::env::Mono;
use crate::id::{Life, Unit};
use crate::repair::exchange::{Done, PAUSE_MS};
use crate::repair::mending::Why;

/// How soon is soon, in milliseconds; up to twice as long by jitter.
pub const SOON_MS: u64 = 500;
/// The first pause after a round that failed, in milliseconds.
pub const AGAIN_MS: u64 = 1_000;
/// So long an answer is waited for, in milliseconds, and so often.
pub const WAIT_MS: u64 = 1_000;
const SILENT_MAX: u32 = 3;

/// Another node that owns units which this one owns.
#[derive(Debug)]
pub struct Peer {
    /// When the next round begins, or is asked for; `None`: when something happens.
    pub due: Option<Mono>,
    /// The pause before the next one, if this one fails, in milliseconds.
    pub pause_ms: u64,
    /// Its life, as far as it is known.
    pub life: Option<Life>,
    /// Whether it was reached.
    pub was_alive: bool,
    /// The round that is under way.
    pub round: Option<Round>,
    /// Another one is wanted soon after this.
    pub wanted: bool,
}

/// When a node compares its copies.
#[derive(Clone, Copy, Debug)]
pub struct Habit {
    /// Whether it begins rounds when nobody asks for them.
    pub by_itself: bool,
    /// How often at most, in milliseconds.
    pub every_ms: u64,
}

impl Habit {
    /// Every so many milliseconds; 0: when somebody asks.
    #[must_use]
    pub fn new(every_ms: u64) -> Habit {
        let usual = if every_ms == 0 { REPAIR_EVERY_MS } else { every_ms };
        Habit { by_itself: every_ms > 0, every_ms: usual.max(AGAIN_MS) }
    }
}

/// A round.
#[derive(Debug)]
pub struct Round {
    /// Units whose roots are not compared yet.
    pub todo: VecDeque<Unit>,
    /// Those that are being compared.
    pub now: Vec<Unit>,
    /// Which of them differed the first time.
    pub first: Option<BTreeSet<Unit>>,
    /// The question that it waits for an answer to.
    pub waits_for: Option<u64>,
    /// When it is looked at again.
    pub again: Mono,
    /// Answers that did not come, in a row.
    pub silent: u32,
    /// Units that differ and wait for their exchange.
    pub unequal: VecDeque<Unit>,
    /// Something was left out, or did not come to an end.
    pub failed: Option<Why>,
    /// More is known to differ, or trees are made anew.
    pub more: bool,
}

/// What was done since the start.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Tally {
    /// Rounds that ended.
    pub rounds: u64,
    /// Rounds in which something did not come to an end.
    pub failed_rounds: u64,
    /// Exchanges that ended.
    pub exchanges: u64,
    /// What they have done.
    pub done: Done,
    /// Trees that were grown anew because they did not say what was stored.
    pub wrong_trees: u64,
    /// Bytes that were sent and received for it, about.
    pub bytes: u64,
}

impl Peer {
    /// A node that owns units which this one owns; the first round with it is due then.
    #[must_use]
    pub const fn new(life: Option<Life>, was_alive: bool, due: Option<Mono>) -> Peer {
        Peer { due, pause_ms: AGAIN_MS, life, was_alive, round: None, wanted: false }
    }

    /// Whether a round is to begin now, or to be asked for.
    #[must_use]
    pub fn is_due(&self, now: Mono) -> bool {
        self.was_alive && self.due.is_some_and(|due| due <= now)
    }

    /// The node was asked to begin, and is asked again until it says that it has heard.
    pub fn has_asked(&mut self, now: Mono, pause_ms_max: u64) {
        self.due = Some(now.plus_ms(self.pause_ms));
        self.pause_ms = (2 * self.pause_ms).min(pause_ms_max);
    }

    /// The node has heard that it is to begin.
    pub const fn has_heard(&mut self) {
        (self.due, self.pause_ms) = (None, AGAIN_MS);
    }

    /// The round is over: how it was. The next one is due after a pause, if rounds begin by themselves or this one is not done.
    pub fn end(
        &mut self,
        now: Mono,
        Habit { by_itself, every_ms }: Habit,
        dice: u64,
    ) -> Option<Round> {
        let round = self.round.take()?;
        let pause_ms = match round.failed.is_some() || round.more {
            true => {
                let pause_ms = self.pause_ms;
                self.pause_ms = (2 * pause_ms).min(every_ms);
                Some(pause_ms)
            }
            false => {
                self.pause_ms = AGAIN_MS;
                by_itself.then(|| every_ms - every_ms / 8 + dice % (every_ms / 4))
            }
        };
        self.due = pause_ms.map(|pause_ms| now.plus_ms(pause_ms));
        if std::mem::take(&mut self.wanted) {
            self.want(now, SOON_MS);
        }
        Some(round)
    }

    /// A round is to begin so soon.
    pub fn want(&mut self, now: Mono, ms: u64) {
        let soon = now.plus_ms(ms);
        self.wanted |= self.round.is_some();
        self.pause_ms = AGAIN_MS;
        if self.round.is_none() {
            self.due = Some(self.due.map_or(soon, |due| due.min(soon)));
        }
    }

    /// How it is now: when it is there again, or in another life, a round begins so soon.
    pub fn look_at(&mut self, life: Option<Life>, is_alive: bool, now: Mono, soon_ms: Option<u64>) {
        let is_back = is_alive && (!self.was_alive || life != self.life);
        (self.was_alive, self.life) = (is_alive, life);
        if let Some(soon_ms) = soon_ms.filter(|_| is_back) {
            self.want(now, soon_ms);
        }
    }
}

impl Round {
    /// One of these units; something is left out when there are others.
    #[must_use]
    pub fn of(todo: VecDeque<Unit>, others: bool, now: Mono) -> Round {
        Round {
            todo,
            now: Vec::new(),
            first: None,
            waits_for: None,
            again: now,
            silent: 0,
            unequal: VecDeque::new(),
            failed: others.then_some(Why::NotCounted),
            more: false,
        }
    }

    /// Its time has come: which roots to ask for; `None`: there are none left to compare.
    pub fn next(&mut self, now: Mono) -> Option<Vec<Unit>> {
        if self.waits_for.take().is_some() {
            self.silent += 1;
            if self.silent >= SILENT_MAX {
                self.give_up(Why::Silent);
            }
        }
        if self.now.is_empty() {
            let count = self.todo.len().min(REPAIR_ROOTS_MAX);
            (self.now, self.first) = (self.todo.drain(..count).collect(), None);
        }
        self.again = now.plus_ms(WAIT_MS << self.silent.min(4));
        (!self.now.is_empty()).then(|| self.now.clone())
    }

    /// No more roots are compared.
    pub fn give_up(&mut self, why: Why) {
        self.failed = Some(why);
        (self.todo, self.now) = (VecDeque::new(), Vec::new());
    }

    /// These of the units that are being compared differ: those that differ the second time get an exchange.
    pub fn differ(&mut self, unequal: BTreeSet<Unit>, now: Mono) {
        match self.first.take() {
            None if !unequal.is_empty() => {
                self.first = Some(unequal);
                self.again = now.plus_ms(PAUSE_MS);
                return;
            }
            None => {}
            Some(first) => self.unequal.extend(unequal.intersection(&first)),
        }
        self.now.clear();
    }
}
