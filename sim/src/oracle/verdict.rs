//! What a run showed, as a word and as an exit code.

/// What a run showed, the worst first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Verdict {
    /// A promise to clients was broken.
    Safety,
    /// A node panicked or ended by itself.
    Crash,
    /// Something did not come to pass in time.
    Liveness,
    /// A check gave up.
    Undecided,
    /// Nothing wrong was seen.
    Pass,
}

impl Verdict {
    /// The process's exit code.
    #[must_use]
    pub const fn exit_code(self) -> u8 {
        match self {
            Verdict::Pass => 0,
            Verdict::Safety => 10,
            Verdict::Liveness => 11,
            Verdict::Crash => 12,
            Verdict::Undecided => 14,
        }
    }

    /// One word.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Verdict::Pass => "pass",
            Verdict::Safety => "safety",
            Verdict::Liveness => "liveness",
            Verdict::Crash => "crash",
            Verdict::Undecided => "undecided",
        }
    }
}

/// The exit code when the same scenario gave two hashes.
pub const NOT_DETERMINISTIC: u8 = 13;
