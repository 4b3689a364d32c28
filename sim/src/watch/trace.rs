//! What a run did, line by line, for whoever asks to see it: a transcript, and what a picture of it needs.
//!
//! It is kept only when somebody asked, and nothing in a run depends on it, so the hash is the same with and without.
//! A message that arrives is an event of the run; one that does not is none, so it has a line without a number.

use std::collections::BTreeMap;
use std::fmt;

use crate::rt::Time;

/// One line.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Line {
    /// Its place in the order of events; `None` for what is no event of the run.
    pub event: Option<u64>,
    /// When.
    pub at: Time,
    /// The node.
    pub node: u32,
    /// One word.
    pub kind: String,
    /// For people.
    pub text: String,
    /// Of a message: who sent it, and when.
    pub sent: Option<(u32, Time)>,
    /// How far the node's wall clock was ahead of the world's, in milliseconds. Unknown for what is no event.
    pub ahead_ms: Option<i64>,
}

/// The lines so far, and the messages on their way.
#[derive(Debug, Default)]
pub struct Trace {
    lines: Vec<Line>,
    /// By sender, receiver and when they are due: when each was sent, and what it says. Those that were held are due together.
    on_the_way: BTreeMap<(u32, u32, Time), Vec<(Time, String)>>,
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let event = self.event.map_or_else(|| "-".to_owned(), |event| event.to_string());
        let Line { node, kind, text, .. } = self;
        write!(f, "{event:>6} {:>13} n{node} {kind:<9} {text}", self.at.text())
    }
}

impl Trace {
    /// A message was sent, and its copies arrive at these times unless something stops them.
    pub fn sent(&mut self, (from, to): (u32, u32), now: Time, arrivals: &[Time], text: String) {
        for &at in arrivals {
            self.on_the_way.entry((from, to, at)).or_default().push((now, text.clone()));
        }
        if arrivals.is_empty() {
            self.lost(from, to, now, now, text);
        }
    }

    /// An event happened. `ahead_ms` is the error of the node's wall clock.
    pub fn noted(
        &mut self,
        event: u64,
        at: Time,
        (node, ahead_ms): (u32, i64),
        kind: &str,
        text: String,
    ) {
        let from = text.strip_prefix("from n").filter(|_| matches!(kind, "message" | "datagram"));
        let from = from.and_then(|rest| rest.split([':', ' ']).next()?.parse::<u32>().ok());
        let sent = from.map(|from| (from, self.arrived(from, node, at, &text).unwrap_or(at)));
        let (event, ahead_ms, kind) = (Some(event), Some(ahead_ms), kind.to_owned());
        self.lines.push(Line { event, at, node, kind, text, sent, ahead_ms });
    }

    /// When a message that arrives now was sent. Timers are coarse: it may have been due a little earlier. And what was held
    /// until much later comes soon after the heal.
    fn arrived(&mut self, from: u32, to: u32, at: Time, text: &str) -> Option<Time> {
        let (first, last) = ((from, to, Time::default()), (from, to, Time(u64::MAX)));
        let says_so = |(_, said): &(Time, String)| text.ends_with(said.as_str());
        let is_there = |(_, all): &(&_, &Vec<(Time, String)>)| all.iter().any(says_so);
        let early = self.on_the_way.range(first..=(from, to, at)).rfind(is_there);
        let late = || self.on_the_way.range((from, to, at)..=last).find(is_there);
        let key = early.or_else(late).map(|(&key, _)| key)?;
        let all = self.on_the_way.get_mut(&key)?;
        let place = all.iter().position(says_so)?;
        Some(all.remove(place).0)
    }

    /// All lines in order of time. What should have arrived by `now` and did not was lost.
    #[must_use]
    pub fn into_lines(mut self, now: Time) -> Vec<Line> {
        for ((from, to, at), all) in std::mem::take(&mut self.on_the_way) {
            for (sent, text) in all.into_iter().filter(|_| at <= now) {
                self.lost(from, to, sent, at, text);
            }
        }
        self.lines.sort_by_key(|line| line.at);
        self.lines
    }

    fn lost(&mut self, from: u32, to: u32, sent: Time, at: Time, text: String) {
        let (kind, text) = ("lost".to_owned(), format!("from n{from}: {text}"));
        let (node, sent) = (to, Some((from, sent)));
        self.lines.push(Line { event: None, at, node, kind, text, sent, ahead_ms: None });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_that_arrives_knows_when_it_was_sent_and_one_that_does_not_is_lost() {
        let mut trace = Trace::default();
        let (soon, late) = (Time::at_ms(5), Time::at_ms(9));
        trace.sent((0, 1), Time::at_ms(1), &[soon, late], "read k3".to_owned());
        trace.sent((0, 2), Time::at_ms(2), &[], "read k3".to_owned());
        trace.noted(7, soon.plus_us(1), (1, -3), "message", "from n0: read k3".to_owned());
        let lines = trace.into_lines(Time::at_ms(20));
        let told: Vec<_> =
            lines.iter().map(|line| (line.kind.as_str(), line.node, line.sent)).collect();
        assert_eq!(
            told,
            [
                ("lost", 2, Some((0, Time::at_ms(2)))),
                ("message", 1, Some((0, Time::at_ms(1)))),
                ("lost", 1, Some((0, Time::at_ms(1)))),
            ]
        );
        assert_eq!(lines[1].to_string(), "     7       5.001ms n1 message   from n0: read k3");
    }
}
