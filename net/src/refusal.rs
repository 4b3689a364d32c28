//! Why a link is refused or ended: a code for machines and one line of text for people.
//!
//! The side that refuses sends it in a goodbye frame, so that both logs tell the same story. The text
//! of the other side is bounded and cleaned before anybody sees it. Wire form, the payload of a
//! goodbye:
//!
//! ```text
//! 0   code  1   one of `RefusalCode`; unknown ones are kept as `Other`
//! 1   text  ..  UTF-8, at most `TEXT_BYTES_MAX` bytes
//! ```

use std::fmt;

use bytes::{BufMut, Bytes, BytesMut};

/// The longest text of a refusal, in bytes; the rest is cut.
pub const TEXT_BYTES_MAX: usize = 512;

/// Why a link is refused or ended.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum RefusalCode {
    /// The bytes are not those of a rondo peer, or came in the wrong order.
    Malformed,
    /// No protocol version that both sides speak.
    Protocol,
    /// The other side belongs to another cluster.
    Cluster,
    /// The node that was called does not live here.
    WrongNode,
    /// The node called itself: it has the address that the other one had.
    Myself,
    /// The proof of the cluster secret failed.
    Secret,
    /// Too many connections are waiting for their handshake.
    Busy,
    /// The node stops.
    Stopping,
    /// The life of the node does not count: an older copy of its data directory, or a second process on a copy.
    NotCounted,
    /// A reason of a later version.
    Other(u8),
}

/// A refusal, as it is sent and logged.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Refusal {
    /// For machines.
    pub code: RefusalCode,
    /// For people: one line, and what to do where that is known.
    pub text: String,
}

impl RefusalCode {
    /// Whether asking again soon is pointless: somebody has to change a configuration first.
    #[must_use]
    pub fn needs_people(self) -> bool {
        !matches!(self, RefusalCode::Busy | RefusalCode::Stopping | RefusalCode::Other(_))
    }

    fn number(self) -> u8 {
        match self {
            RefusalCode::Malformed => 1,
            RefusalCode::Protocol => 2,
            RefusalCode::Cluster => 3,
            RefusalCode::WrongNode => 4,
            RefusalCode::Myself => 5,
            RefusalCode::Secret => 6,
            RefusalCode::Busy => 7,
            RefusalCode::Stopping => 8,
            RefusalCode::NotCounted => 9,
            RefusalCode::Other(number) => number,
        }
    }

    fn from_number(number: u8) -> RefusalCode {
        match number {
            1 => RefusalCode::Malformed,
            2 => RefusalCode::Protocol,
            3 => RefusalCode::Cluster,
            4 => RefusalCode::WrongNode,
            5 => RefusalCode::Myself,
            6 => RefusalCode::Secret,
            7 => RefusalCode::Busy,
            8 => RefusalCode::Stopping,
            9 => RefusalCode::NotCounted,
            other => RefusalCode::Other(other),
        }
    }
}

impl Refusal {
    /// A refusal with this text.
    #[must_use]
    pub fn new(code: RefusalCode, text: impl Into<String>) -> Refusal {
        Refusal { code, text: text.into() }
    }

    /// The payload of a goodbye frame.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let mut end = self.text.len().min(TEXT_BYTES_MAX);
        while !self.text.is_char_boundary(end) {
            end -= 1;
        }
        let mut out = BytesMut::with_capacity(1 + end);
        out.put_u8(self.code.number());
        out.put_slice(&self.text.as_bytes()[..end]);
        out.freeze()
    }

    /// What the other side said. Never fails: the link ends in any case, and whatever can be read is
    /// worth reading. Control characters, which could forge lines in a log, become spaces.
    #[must_use]
    pub fn decode(payload: &[u8]) -> Refusal {
        let Some((&number, text)) = payload.split_first() else {
            return Refusal::new(RefusalCode::Other(0), "no reason given");
        };
        let text = &text[..text.len().min(TEXT_BYTES_MAX)];
        let text = String::from_utf8_lossy(text)
            .chars()
            .map(|c| if c.is_control() { ' ' } else { c })
            .collect::<String>();
        Refusal::new(RefusalCode::from_number(number), text)
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_survives_the_wire() {
        for number in 0..=255 {
            let refusal = Refusal::new(RefusalCode::from_number(number), "why");
            assert_eq!(Refusal::decode(&refusal.encode()), refusal);
        }
    }

    #[test]
    fn text_is_cut_at_a_character_and_cannot_forge_a_log_line() {
        let long = Refusal::new(RefusalCode::Busy, "ü".repeat(TEXT_BYTES_MAX));
        let cut = Refusal::decode(&long.encode());
        assert_eq!(cut.text, "ü".repeat(TEXT_BYTES_MAX / 2));
        let forged = Refusal::decode(b"\x07busy\nERROR all is lost\x1b[2J");
        assert_eq!(forged.text, "busy ERROR all is lost [2J");
        assert_eq!(Refusal::decode(b"").text, "no reason given");
        assert_eq!(Refusal::decode(&[7; 9000]).text.len(), TEXT_BYTES_MAX);
    }
}
