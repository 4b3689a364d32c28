//! How the head of an answer is written: status line, headers, and how the body's end is told.
//!
//! A `Date` has a year of four digits (RFC 9110, 5.6.7), and a server without a reasonable clock must not send one
//! (6.6.1): what the clock shows outside those years is left out.

use std::fmt::Write as _;
use std::time::{Duration, Instant, SystemTime};

use bytes::{BufMut as _, BytesMut};
use hyper::StatusCode;

use crate::clock;
use crate::http::answer::{Answer, Problem};
use crate::http::head::Head;
use crate::http::pieces::{Body, Framed};

/// How old a `Date` may be.
const DATE_AGE: Duration = Duration::from_millis(500);

/// Writes answers of one connection.
#[derive(Debug, Default)]
pub struct Writer {
    /// When it was made, and its line; an empty one when the clock shows no date.
    date: Option<(Instant, String)>,
}

impl Writer {
    /// The head of an answer to `request`, whose body is `framed`. `ends`: the connection ends behind it.
    pub fn head(
        &mut self,
        answer: &Answer,
        framed: Framed,
        request: &Head,
        ends: bool,
    ) -> BytesMut {
        let kept = if request.is_old { "connection: keep-alive\r\n" } else { "" };
        self.write(answer, framed, if ends { "connection: close\r\n" } else { kept })
    }

    /// A refusal, after which the connection ends.
    pub fn refusal(&mut self, problem: &Problem) -> BytesMut {
        self.last(&problem.answer()).unwrap_or_default()
    }

    /// A whole answer, after which the connection ends; `None` when its body is not at hand.
    pub fn last(&mut self, answer: &Answer) -> Option<BytesMut> {
        let Body::Whole(body) = answer.body() else { return None };
        let framed = answer.body().framed(false);
        let mut bytes = self.write(answer, framed, "connection: close\r\n");
        bytes.put_slice(body);
        Some(bytes)
    }

    /// Leave to send a body.
    #[must_use]
    pub const fn go_on(&self) -> &'static [u8] {
        b"HTTP/1.1 100 Continue\r\n\r\n"
    }

    fn write(&mut self, answer: &Answer, framed: Framed, connection: &str) -> BytesMut {
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
        match framed {
            _ if status == StatusCode::NO_CONTENT => {}
            Framed::Length(length) => {
                write!(bytes, "content-length: {length}\r\n").expect("it grows");
            }
            Framed::Chunked => bytes.put_slice(b"transfer-encoding: chunked\r\n"),
            Framed::ToTheEnd => {}
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
