//! What carries messages between nodes. A scenario does not know: the same one runs on each driver.

use std::str::FromStr;

/// What carries messages.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Driver {
    /// The simulated network, message by message.
    #[default]
    Sim,
    /// The product's links and framing, on simulated streams of bytes.
    Wire,
}

impl Driver {
    /// Its name, as on the command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Driver::Sim => "sim",
            Driver::Wire => "wire",
        }
    }

    /// What a command line needs to choose it; nothing for the usual one.
    #[must_use]
    pub const fn flag(self) -> &'static str {
        match self {
            Driver::Sim => "",
            Driver::Wire => " --driver wire",
        }
    }
}

impl FromStr for Driver {
    type Err = String;

    fn from_str(text: &str) -> Result<Driver, String> {
        let all = [Driver::Sim, Driver::Wire];
        let known = all.into_iter().find(|driver| driver.name() == text);
        known.ok_or_else(|| format!("there is no driver {text:?}: choose sim or wire"))
    }
}
