//! How long a walk of a source waits for what it has asked for, and why it does not go on.

use crate::env::Mono;

/// The first pause before a question is asked again, in milliseconds, and the longest.
const PAUSE_MS: u64 = 500;
const PAUSE_MS_MAX: u64 = 8_000;

/// Why a walk does not go on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Trouble {
    /// The source does not answer.
    Silent,
    /// The source has operations in flight that began under older layouts.
    NotYet,
    /// The source cannot read a record.
    Unreadable,
    /// The source refuses: it has other layouts, or does not have all of the unit itself.
    Refused,
    /// What was taken cannot be stored here.
    NotStored,
}

/// When a walk is looked at again, and why it waits.
#[derive(Debug)]
pub struct Patience {
    /// When.
    pub again: Mono,
    /// It waits for the rate, and not for anybody.
    pub is_paced: bool,
    /// Failures in a row.
    pub failures: u32,
    /// The latest, while nothing has come since.
    pub trouble: Option<Trouble>,
}

impl Patience {
    /// Nothing has been asked yet.
    #[must_use]
    pub const fn new(now: Mono) -> Patience {
        Patience { again: now, is_paced: false, failures: 0, trouble: None }
    }

    /// Something was asked: so long it is waited for.
    pub fn wait(&mut self, now: Mono) {
        let pause_ms = (PAUSE_MS << self.failures.min(8)).min(PAUSE_MS_MAX);
        self.again = now.plus_ms(pause_ms);
    }

    /// Something has come.
    pub fn goes_on(&mut self, now: Mono) {
        (self.failures, self.trouble) = (0, None);
        self.wait(now);
    }
}
