//! The head of a request: what may stand in it, and what it says about the body behind it.
//!
//! Whatever is not sound is refused in words, never guessed at: two readings of one request are how requests are smuggled
//! past whoever stands before the node (RFC 9112, 11.2). In the target a `#` is refused instead of cut off, because the
//! key before it is another one.

use bytes::Bytes;
use hyper::header::{
    self, CONNECTION, CONTENT_LENGTH, EXPECT, HOST, HeaderMap, HeaderName, HeaderValue,
    TRANSFER_ENCODING,
};
use hyper::{Method, StatusCode, Uri};

use crate::http::answer::{ATTEMPT, CONTEXT, Problem, REQUEST_ID};
use crate::http::limits::{HEAD_BYTES_MAX, HEADERS_MAX, TARGET_BYTES_MAX};

/// A sound head.
#[derive(Clone, Debug)]
pub struct Head {
    /// The method.
    pub method: Method,
    /// Path and query; perhaps a scheme and a host, which say nothing.
    pub uri: Uri,
    /// The headers.
    pub headers: HeaderMap,
    /// How the end of the body is found.
    pub framing: Framing,
    /// Whether the client may send another request on this connection.
    pub keeps_alive: bool,
    /// Whether it is HTTP/1.0, where a connection that stays open must be agreed on.
    pub is_old: bool,
    /// Whether the client waits for leave to send the body.
    pub asks_first: bool,
}

/// How the end of a body is found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Framing {
    /// It has so many bytes; none when nothing is said.
    Length(u64),
    /// It comes in chunks.
    Chunked,
}

/// Headers that say one thing. Given twice, nobody knows which was meant.
static SINGLE: [&HeaderName; 12] = [
    &HOST,
    &CONTENT_LENGTH,
    &TRANSFER_ENCODING,
    &EXPECT,
    &header::CONTENT_TYPE,
    &header::CONTENT_ENCODING,
    &header::AUTHORIZATION,
    &header::IF_MATCH,
    &header::IF_NONE_MATCH,
    &CONTEXT,
    &REQUEST_ID,
    &ATTEMPT,
];

/// Whether `input` may be a whole head: parsing is not tried again for every byte of a slow one.
#[must_use]
pub fn may_be_whole(input: &[u8]) -> bool {
    let ends = |end: &[u8]| input.windows(end.len()).any(|bytes| bytes == end);
    ends(b"\n\r\n") || ends(b"\n\n")
}

/// The head that `input` begins with, and its length. `None`: more must come.
pub fn parse(input: &[u8]) -> Result<Option<(Head, usize)>, Problem> {
    let mut lines = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut request = httparse::Request::new(&mut lines);
    match request.parse(input) {
        Ok(httparse::Status::Complete(length)) if length <= HEAD_BYTES_MAX => {
            Ok(Some((sound(&request)?, length)))
        }
        Ok(httparse::Status::Partial) if input.len() < HEAD_BYTES_MAX => {
            if input.iter().take(TARGET_BYTES_MAX + 1).any(|&byte| byte == b'\n')
                || input.len() <= TARGET_BYTES_MAX
            {
                return Ok(None);
            }
            Err(long_target())
        }
        Ok(_) => match request.version {
            None => Err(long_target()),
            Some(_) => Err(Problem::new(
                StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
                format!("the head of the request has more than {HEAD_BYTES_MAX} bytes"),
                "send fewer or shorter headers",
            )),
        },
        Err(error) => Err(unreadable(input, error)),
    }
}

fn long_target() -> Problem {
    Problem::new(
        StatusCode::URI_TOO_LONG,
        format!("the target of the request has more than {TARGET_BYTES_MAX} bytes"),
        "use a shorter key, such as a hash of it",
    )
}

fn unreadable(input: &[u8], error: httparse::Error) -> Problem {
    let line = input.split(|&byte| byte == b'\n').find(|line| !line.trim_ascii().is_empty());
    let line = line.unwrap_or_default();
    if line.starts_with(&[0x16, 3]) {
        return Problem::bad(
            "this port speaks HTTP without TLS",
            "use http:// instead of https://",
        );
    }
    let words: Vec<_> = line.trim_ascii().split(|&byte| byte == b' ').collect();
    match error {
        httparse::Error::TooManyHeaders => Problem::new(
            StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            format!("the request has more than {HEADERS_MAX} headers"),
            "send fewer headers",
        ),
        httparse::Error::Version if words.len() == 3 && words[2].starts_with(b"HTTP/") => {
            Problem::new(
                StatusCode::HTTP_VERSION_NOT_SUPPORTED,
                "this port speaks HTTP/1.1 and HTTP/1.0",
                "use HTTP/1.1",
            )
        }
        httparse::Error::Token | httparse::Error::Version if words.len() > 1 => Problem::bad(
            "the request line is not `METHOD /path HTTP/1.1`",
            "percent-encode spaces and what is not visible ASCII in the path",
        ),
        error => Problem::bad(format!("the request is not HTTP: {error}"), ""),
    }
}

fn sound(request: &httparse::Request<'_, '_>) -> Result<Head, Problem> {
    let target = request.path.unwrap_or_default();
    if target.len() > TARGET_BYTES_MAX {
        return Err(long_target());
    }
    let method = request.method.unwrap_or_default();
    let method = Method::from_bytes(method.as_bytes())
        .map_err(|_| Problem::bad("the method is not one of HTTP", "use GET, PUT or DELETE"))?;
    let headers = headers(request.headers)?;
    let is_old = request.version == Some(0);
    let framing = framing(&headers, is_old)?;
    host(&headers, is_old)?;
    let connection = connection(&headers);
    let uri = uri(target)?;
    let asks_first = match headers.get(EXPECT) {
        None => false,
        Some(expected) if expected.as_bytes().eq_ignore_ascii_case(b"100-continue") => !is_old,
        Some(_) => {
            return Err(Problem::new(
                StatusCode::EXPECTATION_FAILED,
                "the only expectation that can be met is 100-continue",
                "leave out the header Expect",
            ));
        }
    };
    let keeps_alive = if is_old { connection == Some(true) } else { connection != Some(false) };
    Ok(Head { method, uri, headers, framing, keeps_alive, is_old, asks_first })
}

fn headers(lines: &[httparse::Header<'_>]) -> Result<HeaderMap, Problem> {
    let mut headers = HeaderMap::with_capacity(lines.len());
    for line in lines {
        let name = HeaderName::from_bytes(line.name.as_bytes());
        let value = HeaderValue::from_bytes(line.value);
        let (Ok(name), Ok(value)) = (name, value) else {
            let message = format!("the header {} is not sound", line.name);
            return Err(Problem::bad(message, "send visible ASCII"));
        };
        let single = SINGLE.contains(&&name);
        if headers.append(name, value) && single {
            return Err(Problem::bad(
                format!("the header {} is given twice", line.name),
                "send it once: nobody knows which of the two is meant",
            ));
        }
    }
    Ok(headers)
}

fn framing(headers: &HeaderMap, is_old: bool) -> Result<Framing, Problem> {
    let length = headers.get(CONTENT_LENGTH);
    if let Some(coding) = headers.get(TRANSFER_ENCODING) {
        if length.is_some() || is_old {
            let message = "Transfer-Encoding beside Content-Length, or in HTTP/1.0";
            return Err(Problem::bad(message, "send one of them"));
        }
        if !coding.as_bytes().eq_ignore_ascii_case(b"chunked") {
            return Err(Problem::new(
                StatusCode::NOT_IMPLEMENTED,
                "the only transfer coding that is built is chunked",
                "send the body with a Content-Length",
            ));
        }
        return Ok(Framing::Chunked);
    }
    let Some(length) = length else {
        return Ok(Framing::Length(0));
    };
    // Digits alone: `parse` takes a sign too.
    let digits = length.to_str().ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
    let number = digits.and_then(|digits| digits.parse().ok());
    number.map(Framing::Length).ok_or_else(|| {
        Problem::bad("Content-Length is not a number of bytes", "send the length of the body")
    })
}

fn host(headers: &HeaderMap, is_old: bool) -> Result<(), Problem> {
    let Some(host) = headers.get(HOST) else {
        if is_old {
            return Ok(());
        }
        return Err(Problem::bad(
            "the header Host is missing",
            "HTTP/1.1 needs it: Host: HOST:PORT",
        ));
    };
    let sound = |&byte: &u8| byte.is_ascii_alphanumeric() || b"-._~:[]%".contains(&byte);
    if host.as_bytes().iter().all(sound) {
        return Ok(());
    }
    Err(Problem::bad("the header Host is no host with a port", "send Host: HOST:PORT"))
}

/// What `Connection` says about the time after this request: to stay open, or not to.
fn connection(headers: &HeaderMap) -> Option<bool> {
    let values = headers.get_all(CONNECTION);
    let mut stays = None;
    for token in values.iter().flat_map(|value| value.as_bytes().split(|&byte| byte == b',')) {
        match token.trim_ascii() {
            token if token.eq_ignore_ascii_case(b"close") => return Some(false),
            token if token.eq_ignore_ascii_case(b"keep-alive") => stays = Some(true),
            _ => {}
        }
    }
    stays
}

fn uri(target: &str) -> Result<Uri, Problem> {
    if target.contains('#') {
        return Err(Problem::bad("the path has a `#`", "write %23 for a `#` in a key"));
    }
    let uri = Uri::from_maybe_shared(Bytes::copy_from_slice(target.as_bytes())).map_err(|_| {
        Problem::bad(
            "the path is no path of a URI",
            "percent-encode what is not visible ASCII in it",
        )
    })?;
    match uri.scheme_str() {
        None | Some("http") => Ok(uri),
        Some(scheme) => Err(Problem::new(
            StatusCode::MISDIRECTED_REQUEST,
            format!("this port serves http, not {scheme}"),
            "use http://",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(head: &str) -> u16 {
        match parse(head.as_bytes()) {
            Ok(Some(_)) => 200,
            Ok(None) => 0,
            Err(problem) => problem.status.as_u16(),
        }
    }

    #[test]
    fn a_head_is_sound_or_refused_with_the_status_that_fits() {
        let h = "Host: h\r\n";
        let long = "k".repeat(TARGET_BYTES_MAX);
        let wide = format!("X: {}\r\n", "v".repeat(HEAD_BYTES_MAX));
        let many = "X: y\r\n".repeat(HEADERS_MAX);
        for (request, expected) in [
            (format!("GET / HTTP/1.1\r\n{h}\r\n"), 200),
            (format!("\r\n\r\nGET / HTTP/1.1\r\n{h}\r\n"), 200),
            (format!("GET / HTTP/1.1\n{}\n", h.trim_end_matches("\r\n").to_owned() + "\n"), 200),
            ("GET / HTTP/1.0\r\n\r\n".to_owned(), 200),
            (format!("GET / HTTP/1.1\r\n{h}"), 0),
            ("GET /half".to_owned(), 0),
            ("GET / HTTP/1.1\r\n\r\n".to_owned(), 400),
            (format!("GET / HTTP/1.1\r\n{h}{h}\r\n"), 400),
            ("GET / HTTP/1.1\r\nHost: a b\r\n\r\n".to_owned(), 400),
            (format!("GET /item#1 HTTP/1.1\r\n{h}\r\n"), 400),
            (format!("GET /a b HTTP/1.1\r\n{h}\r\n"), 400),
            (format!("GET /\u{0} HTTP/1.1\r\n{h}\r\n"), 400),
            (format!("GET / HTTP/1.1\r\n{h}X: a\u{0}b\r\n\r\n"), 400),
            (format!("GET / HTTP/1.1\r\n{h}X : y\r\n\r\n"), 400),
            (format!("GET / HTTP/1.1\r\n{h}X: y\r\n folded\r\n\r\n"), 400),
            (format!("PUT / HTTP/1.1\r\n{h}Content-Length: 1\r\nContent-Length: 1\r\n\r\n"), 400),
            (format!("PUT / HTTP/1.1\r\n{h}Content-Length: +1\r\n\r\n"), 400),
            (format!("PUT / HTTP/1.1\r\n{h}Content-Length: 99999999999999999999\r\n\r\n"), 400),
            (
                format!(
                    "PUT / HTTP/1.1\r\n{h}Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n"
                ),
                400,
            ),
            ("PUT / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n".to_owned(), 400),
            (format!("PUT / HTTP/1.1\r\n{h}Transfer-Encoding: gzip, chunked\r\n\r\n"), 501),
            (format!("PUT / HTTP/1.1\r\n{h}Expect: 100-Continue\r\n\r\n"), 200),
            (format!("PUT / HTTP/1.1\r\n{h}Expect: a-miracle\r\n\r\n"), 417),
            (format!("GET https://h/ HTTP/1.1\r\n{h}\r\n"), 421),
            (format!("GET http://h/ HTTP/1.1\r\n{h}\r\n"), 200),
            (format!("GET /{long} HTTP/1.1\r\n{h}\r\n"), 414),
            (format!("GET /{long}"), 414),
            (format!("GET /{long}{long}"), 414),
            (format!("GET / HTTP/1.1\r\n{h}{wide}"), 431),
            (format!("GET / HTTP/1.1\r\n{h}{many}\r\n"), 431),
            (format!("GET / HTTP/2.0\r\n{h}\r\n"), 505),
            ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_owned(), 505),
            ("\u{16}\u{3}\u{1}".to_owned(), 400),
            ("GET /\r\n\r\n".to_owned(), 400),
            ("*1\r\n$4\r\nPING\r\n".to_owned(), 400),
        ] {
            let shown = &request[..request.len().min(80)];
            assert_eq!(status(&request), expected, "{shown:?}");
        }
        let raw = b"GET /\xff HTTP/1.1\r\nHost: h\r\n\r\n";
        assert_eq!(parse(raw).expect_err("no UTF-8").status, 400);
    }

    #[test]
    fn the_end_of_a_head_is_noticed_wherever_it_is_cut() {
        let whole = b"PUT /k HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\n";
        for end in 0..whole.len() {
            assert!(!may_be_whole(&whole[..end]));
            assert!(parse(&whole[..end]).expect("sound so far").is_none(), "{end}");
        }
        assert!(may_be_whole(whole));
        let (head, length) = parse(whole).expect("sound").expect("whole");
        assert_eq!((length, head.framing), (whole.len(), Framing::Length(3)));
        assert!(head.keeps_alive && !head.asks_first);
    }

    #[test]
    fn a_connection_stays_open_when_both_versions_agree_on_it() {
        for (version, said, stays) in [
            ("1.1", "", true),
            ("1.1", "Connection: Close\r\n", false),
            ("1.1", "Connection: x, close\r\nConnection: keep-alive\r\n", false),
            ("1.0", "", false),
            ("1.0", "Connection: keep-alive\r\n", true),
        ] {
            let text = format!("GET / HTTP/{version}\r\nHost: h\r\n{said}\r\n");
            let (head, _) = parse(text.as_bytes()).expect("sound").expect("whole");
            assert_eq!(head.keeps_alive, stays, "{text}");
        }
    }
}
