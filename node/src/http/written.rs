//! How an answer is written: status line, headers, length.
//!
//! A `Date` has a year of four digits (RFC 9110, 5.6.7), and a server without a reasonable clock must not send one
//! (6.6.1): what the clock shows outside those years is left out.

use std::fmt::Write as _;
use std::time::{Duration, Instant, SystemTime};

use bytes::{BufMut as _, BytesMut};
use hyper::StatusCode;

use crate::clock;
use crate::http::answer::Answer;
use crate::http::head::Head;

/// How old a `Date` may be.
const DATE_AGE: Duration = Duration::from_millis(500);

/// Writes answers of one connection.
#[derive(Debug, Default)]
pub struct Writer {
    /// When it was made, and its line; an empty one when the clock shows no date.
    date: Option<(Instant, String)>,
}

impl Writer {
    /// The head of an answer to `request`. `ends`: the connection ends behind it.
    pub fn head(&mut self, answer: &Answer, request: &Head, ends: bool) -> BytesMut {
        let kept = if request.is_old { "connection: keep-alive\r\n" } else { "" };
        self.write(answer, if ends { "connection: close\r\n" } else { kept })
    }

    /// A whole answer, after which the connection ends.
    pub fn whole(&mut self, answer: &Answer) -> BytesMut {
        let mut bytes = self.write(answer, "connection: close\r\n");
        bytes.put_slice(answer.body());
        bytes
    }

    /// Leave to send a body.
    #[must_use]
    pub const fn go_on(&self) -> &'static [u8] {
        b"HTTP/1.1 100 Continue\r\n\r\n"
    }

    fn write(&mut self, answer: &Answer, connection: &str) -> BytesMut {
        let mut bytes = BytesMut::with_capacity(512);
        let status = answer.status();
        let reason = status.canonical_reason().unwrap_or("Unknown");
        write!(bytes, "HTTP/1.1 {} {reason}\r\n", status.as_u16()).expect("it grows");
        for (name, value) in answer.headers() {
            bytes.put_slice(name.as_str().as_bytes());
            bytes.put_slice(b": ");
            bytes.put_slice(value.as_bytes());
            bytes.put_slice(b"\r\n");
        }
        if status != StatusCode::NO_CONTENT {
            write!(bytes, "content-length: {}\r\n", answer.body().len()).expect("it grows");
        }
        bytes.put_slice(connection.as_bytes());
        bytes.put_slice(self.date().as_bytes());
        bytes.put_slice(b"\r\n");
        bytes
    }

    fn date(&mut self) -> &str {
        let now = Instant::now();
        let old = self.date.as_ref().is_none_or(|(made, _)| now - *made > DATE_AGE);
        if old {
            self.date = Some((now, date(SystemTime::now()).unwrap_or_default()));
        }
        self.date.as_ref().map_or("", |(_, text)| text)
    }
}

/// The line of this time; `None` outside the years that HTTP can write.
fn date(time: SystemTime) -> Option<String> {
    clock::is_set(time).ok()?;
    Some(format!("date: {}\r\n", httpdate::fmt_http_date(time)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_before_1970_or_after_9999_gives_no_date() {
        let first = SystemTime::UNIX_EPOCH;
        let last = first + Duration::from_secs(clock::LAST_SECOND);
        assert_eq!(date(first).as_deref(), Some("date: Thu, 01 Jan 1970 00:00:00 GMT\r\n"));
        assert_eq!(date(last).as_deref(), Some("date: Fri, 31 Dec 9999 23:59:59 GMT\r\n"));
        let (moment, year) = (Duration::from_millis(1), Duration::from_secs(31_536_000));
        for out in [first - moment, first - year, last + Duration::from_secs(1), last + year] {
            assert_eq!(date(out), None, "{out:?}");
        }
    }
}
