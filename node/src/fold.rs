//! The same log line again and again: it is written once, and then how often it was repeated.
//!
//! The first of equal lines is always written. Those that follow within the window are counted, and when the window ends
//! one line tells how many there were; while it goes on, that is one line a window. Lines are equal when they differ in their
//! time alone. So many different lines are watched at once; what comes beyond is written as it is.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// How long equal lines are counted before their number is told.
const WINDOW: Duration = Duration::from_secs(10);
/// Different lines that are watched.
const LINES_MAX: usize = 64;
/// Longer lines are not watched, in bytes.
const LINE_BYTES_MAX: usize = 2_048;
/// The time stands at the start of a line, and ends in a `Z` within so many bytes.
const TIME_BYTES_MAX: usize = 64;

/// The lines that were written lately.
#[derive(Debug, Default)]
pub struct Fold {
    lines: BTreeMap<Vec<u8>, Watched>,
}

#[derive(Debug)]
struct Watched {
    until: Instant,
    repeated: u64,
    /// The last of them, with its time.
    last: Vec<u8>,
}

impl Fold {
    /// Whether a line is to be written; otherwise it is counted.
    pub fn take(&mut self, line: &[u8], now: Instant) -> bool {
        let what = after_time(line);
        if let Some(watched) = self.lines.get_mut(what) {
            watched.repeated += 1;
            watched.last = line.to_vec();
            return false;
        }
        if self.lines.len() < LINES_MAX && line.len() <= LINE_BYTES_MAX {
            let watched = Watched { until: now + WINDOW, repeated: 0, last: Vec::new() };
            self.lines.insert(what.to_vec(), watched);
        }
        true
    }

    /// When `told` has something to do.
    #[must_use]
    pub fn next(&self) -> Option<Instant> {
        self.lines.values().map(|watched| watched.until).min()
    }

    /// The lines that tell of windows that have ended by `now`.
    pub fn told(&mut self, now: Instant) -> Vec<Vec<u8>> {
        let mut told = Vec::new();
        self.lines.retain(|_, watched| {
            if watched.until > now {
                return true;
            }
            let goes_on = watched.repeated > 0;
            if goes_on {
                told.push(with_count(&watched.last, watched.repeated));
            }
            (watched.repeated, watched.until) = (0, now + WINDOW);
            goes_on
        });
        told
    }

    /// All that has not been told yet: nothing comes any more.
    pub fn rest(&mut self) -> Vec<Vec<u8>> {
        let all = std::mem::take(&mut self.lines).into_values();
        let repeated = all.filter(|watched| watched.repeated > 0);
        repeated.map(|watched| with_count(&watched.last, watched.repeated)).collect()
    }
}

/// A line without its time.
fn after_time(line: &[u8]) -> &[u8] {
    let end = line.iter().take(TIME_BYTES_MAX).position(|&byte| byte == b'Z');
    &line[end.map_or(0, |end| end + 1)..]
}

/// A line with the number of its repetitions: as text behind it, or in JSON as one more field.
fn with_count(line: &[u8], count: u64) -> Vec<u8> {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    match line.strip_suffix(b"}").filter(|_| line.starts_with(b"{")) {
        Some(open) => [open, format!(",\"repeated\":{count}}}\n").as_bytes()].concat(),
        None => {
            let times = if count == 1 { "once" } else { "times" };
            let count = if count == 1 { String::new() } else { format!("{count} ") };
            [line, format!(" (repeated {count}{times})\n").as_bytes()].concat()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(lines: Vec<Vec<u8>>) -> Vec<String> {
        let text = |line: Vec<u8>| String::from_utf8(line).expect("text");
        lines.into_iter().map(text).collect()
    }

    #[test]
    fn the_first_is_written_and_the_others_are_counted_once_a_window() {
        let start = Instant::now();
        let at = |second: u64| start + Duration::from_secs(second);
        let line =
            |second: u64, what: &str| format!("2026-01-01T00:00:{second:02}Z  WARN {what}\n");
        let mut fold = Fold::default();
        let written: Vec<_> = (0..9)
            .filter(|&second| fold.take(line(second, "link ended").as_bytes(), at(second)))
            .collect();
        assert_eq!(written, [0]);
        assert!(fold.take(line(3, "link open").as_bytes(), at(3)), "another line");
        assert_eq!(fold.next(), Some(at(10)));
        assert!(fold.told(at(9)).is_empty());
        assert_eq!(
            texts(fold.told(at(10))),
            ["2026-01-01T00:00:08Z  WARN link ended (repeated 8 times)\n"]
        );
        assert!(!fold.take(line(11, "link ended").as_bytes(), at(11)), "it goes on");
        assert_eq!(
            texts(fold.told(at(20))),
            ["2026-01-01T00:00:11Z  WARN link ended (repeated once)\n"]
        );
        assert!(fold.told(at(30)).is_empty(), "it is over");
        assert_eq!(fold.next(), None);
        assert!(fold.take(line(31, "link ended").as_bytes(), at(31)), "the first again");
    }

    #[test]
    fn json_stays_json_and_the_end_tells_the_rest() {
        let now = Instant::now();
        let mut fold = Fold::default();
        let line = |second: u64| {
            format!("{{\"timestamp\":\"2026-01-01T00:00:0{second}Z\",\"level\":\"WARN\"}}\n")
        };
        assert!(fold.take(line(1).as_bytes(), now));
        assert!(!fold.take(line(2).as_bytes(), now));
        assert!(fold.take(b"alone", now));
        assert_eq!(
            texts(fold.rest()),
            ["{\"timestamp\":\"2026-01-01T00:00:02Z\",\"level\":\"WARN\",\"repeated\":1}\n"]
        );
        assert!(fold.rest().is_empty());
    }

    #[test]
    fn what_is_beyond_the_bounds_is_written_as_it_is() {
        let now = Instant::now();
        let mut fold = Fold::default();
        let long = vec![b'x'; LINE_BYTES_MAX + 1];
        assert!(fold.take(&long, now) && fold.take(&long, now));
        for number in 0..2 * LINES_MAX {
            assert!(fold.take(format!("line {number}").as_bytes(), now));
        }
        assert!(!fold.take(b"line 0", now));
        assert!(fold.take(format!("line {LINES_MAX}").as_bytes(), now));
        assert_eq!(fold.lines.len(), LINES_MAX);
    }
}
