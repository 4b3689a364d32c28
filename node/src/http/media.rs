//! What is kept of a value besides its bytes: its media type and how it is encoded.
//!
//! The store keeps one text, `content_type`: the media type, and for an encoded value a newline and the encoding behind
//! it. A header's value never has a newline, so that no type can be taken for one with an encoding. `text/plain`,
//! `text/plain\ngzip` and `\ngzip` are such texts.

use bytes::Bytes;
use hyper::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderValue};
use rondo_core::config::CONTENT_TYPE_BYTES_MAX;

use crate::http::answer::Problem;

/// What a client gets when nobody said what a value is.
pub const OCTETS: HeaderValue = HeaderValue::from_static("application/octet-stream");
/// Text.
pub const TEXT: &[u8] = b"text/plain; charset=utf-8";
/// JSON.
pub const JSON: &[u8] = b"application/json";

/// Media type and encoding; either may be empty.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Media<'a> {
    /// The media type.
    pub kind: &'a [u8],
    /// The encoding.
    pub encoding: &'a [u8],
}

impl<'a> Media<'a> {
    /// What the headers of a request say.
    #[must_use]
    pub fn sent(headers: &'a HeaderMap) -> Media<'a> {
        let said = |name| headers.get(name).map(HeaderValue::as_bytes).unwrap_or_default();
        let encoding = said(CONTENT_ENCODING);
        let encoded = !encoding.eq_ignore_ascii_case(b"identity");
        Media { kind: said(CONTENT_TYPE), encoding: if encoded { encoding } else { b"" } }
    }

    /// What the store kept.
    #[must_use]
    pub fn kept(text: &'a [u8]) -> Media<'a> {
        let mut parts = text.splitn(2, |&byte| byte == b'\n');
        let kind = parts.next().unwrap_or_default();
        Media { kind, encoding: parts.next().unwrap_or_default() }
    }

    /// What the store is to keep.
    pub fn to_kept(self) -> Result<Bytes, Problem> {
        let kept = match self.encoding {
            b"" => Bytes::copy_from_slice(self.kind),
            encoding => [self.kind, b"\n", encoding].concat().into(),
        };
        if kept.len() > CONTENT_TYPE_BYTES_MAX {
            return Err(Problem::bad(
                format!(
                    "Content-Type and Content-Encoding have more than {CONTENT_TYPE_BYTES_MAX} bytes"
                ),
                "send a media type such as application/json",
            ));
        }
        Ok(kept)
    }

    /// Whether the type is this one, whatever its parameters.
    #[must_use]
    pub fn is(self, kind: &[u8]) -> bool {
        let media = self.kind.split(|&byte| byte == b';').next().unwrap_or_default();
        media.trim_ascii().eq_ignore_ascii_case(kind)
    }

    /// Puts both into the headers of an answer.
    pub fn insert_into(self, headers: &mut HeaderMap) {
        let value = |text: &[u8]| HeaderValue::from_bytes(text).ok().filter(|_| !text.is_empty());
        headers.insert(CONTENT_TYPE, value(self.kind).unwrap_or(OCTETS));
        if let Some(encoding) = value(self.encoding) {
            headers.insert(CONTENT_ENCODING, encoding);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_what_was_sent() {
        for (kind, encoding) in
            [("", ""), ("text/plain", ""), ("", "gzip"), ("a/b; c=d", "br, gzip")]
        {
            let media = Media { kind: kind.as_bytes(), encoding: encoding.as_bytes() };
            let kept = media.to_kept().expect("short");
            assert_eq!(Media::kept(&kept), media);
        }
        let long = [b'x'; CONTENT_TYPE_BYTES_MAX];
        assert!(Media { kind: &long, encoding: b"" }.to_kept().is_ok());
        assert_eq!(Media { kind: &long, encoding: b"br" }.to_kept().expect_err("long").status, 400);
    }
}
