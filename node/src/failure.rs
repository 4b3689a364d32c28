//! Why the program stops: what went wrong, what to try next, and the exit code that says so to scripts.

use std::fmt;
use std::process::ExitCode;

/// What kind of end it is; one exit code each.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Something failed.
    Failed,
    /// The command line, the environment or a file asks for something that makes no sense.
    Usage,
    /// Too few replicas answered; of a write it says nothing about whether it happened.
    Quorum,
    /// There is no such key.
    NotFound,
}

impl Kind {
    /// The exit code.
    #[must_use]
    pub fn exit_code(self) -> ExitCode {
        ExitCode::from(match self {
            Kind::Failed => 1,
            Kind::Usage => 2,
            Kind::Quorum => 3,
            Kind::NotFound => 4,
        })
    }
}

/// The one error of this crate: it ends the program, and people read it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Failure {
    /// What kind of end it is.
    pub kind: Kind,
    /// What went wrong.
    pub message: String,
    /// What to try next; may be empty.
    pub hint: String,
}

/// The result of what may end the program.
pub type Result<T, E = Failure> = std::result::Result<T, E>;

impl Failure {
    /// Something failed.
    pub fn failed(message: impl Into<String>, hint: impl Into<String>) -> Failure {
        Failure { kind: Kind::Failed, message: message.into(), hint: hint.into() }
    }

    /// Something that was asked for makes no sense.
    pub fn usage(message: impl Into<String>, hint: impl Into<String>) -> Failure {
        Failure { kind: Kind::Usage, message: message.into(), hint: hint.into() }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "error: {}", self.message)?;
        if !self.hint.is_empty() {
            write!(f, "\n  try: {}", self.hint)?;
        }
        Ok(())
    }
}

impl std::error::Error for Failure {}
