//! The dialects A, B and C: three small HTTP interfaces that existing clients speak, over the same handlers.
//!
//! | | put, get, delete | body of a put | answer of a get |
//! |---|---|---|---|
//! | A | `/api/v1/data/{key}` | `{"value": …}` or raw | JSON with the clock |
//! | B | `/kv/{key}` | `{"value": …, "consistency"?}` or raw | JSON |
//! | C | `/api/v1/kv/{key}` | raw, or `{"value": …}` | the raw value |
//!
//! All act on the keyspace `default`. A JSON body is known by its content type, or, where the content type says nothing
//! (none, or the one that curl and forms send), by being a JSON object; `json_body` reads it. A value that is no string is
//! kept as its JSON text, to the letter, and shown as that: a number of 30 digits, `1.10` and repeated keys come back as
//! they were sent. `version` is a u64 above 2^53: `ETag` says it as text.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use hyper::header::HeaderValue;
use hyper::{Method, StatusCode};
use rondo_core::wire::client::Sibling;
use serde::Serialize;
use serde_json::json;
use serde_json::value::RawValue;

use crate::http::answer::{self, Answer, Problem, SIBLINGS};
use crate::http::front::Front;
use crate::http::head::Head;
use crate::http::json_body::{self, Sent};
use crate::http::kv::{self, Known, Options, Outcome, Target};
use crate::http::media::{self, Media};
use crate::http::native;
use crate::http::visit::Visit;

/// A dialect.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Dialect {
    /// `/api/v1/data/{key}`.
    A,
    /// `/kv/{key}`.
    B,
    /// `/api/v1/kv/{key}`.
    C,
}

/// `PUT`, `GET`, `HEAD` and `DELETE` of one key.
pub async fn key(
    dialect: Dialect,
    visit: Visit<'_>,
    target: &Target,
    head: &Head,
    sent: Bytes,
) -> Result<Answer, Problem> {
    let front = visit.front;
    let mut options = Options::read(head)?;
    let outcome = match head.method {
        Method::PUT => {
            let said = Media::sent(&head.headers);
            let whole_is_a_value = dialect == Dialect::C;
            match json_body::read(&sent, said, whole_is_a_value, &mut options)? {
                Sent::Value(value, kind) => {
                    let media = Media { kind, encoding: b"" };
                    kv::put(visit, target, &options, value, media).await?
                }
                Sent::Raw(media) => kv::put(visit, target, &options, sent, media).await?,
            }
        }
        Method::DELETE => kv::delete(visit, target, &options).await?,
        _ => kv::get(visit, target, &options).await?,
    };
    Ok(match outcome {
        Outcome::Stored(known, version) => {
            let mut view = json!({ "status": "ok", "key": text_of(&target.key) });
            if head.method == Method::PUT || dialect != Dialect::B {
                view["version"] = json!(version.hlc.0);
            }
            let mut answer = answer::json(StatusCode::OK, &view);
            answer.headers_mut().extend(native::etag(version));
            native::insert_context(answer.headers_mut(), front, target, &known)?;
            answer
        }
        Outcome::Found(mut siblings, known) => {
            let count = siblings.len();
            let newest = siblings.swap_remove(0);
            if dialect == Dialect::C {
                native::found(front, target, newest, count, &known)?
            } else {
                found(dialect, front, target, &newest, count, &known)?
            }
        }
        Outcome::NotFound(siblings, known) => {
            native::not_found(front, target, siblings.len(), &known)?
        }
    })
}

/// What dialects A and B show of a key.
#[derive(Serialize)]
struct Shown<'a> {
    key: String,
    value: ShownValue<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    encoding: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    content_encoding: Option<String>,
    version: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    vector_clock: Option<BTreeMap<String, u64>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    timestamp: Option<u64>,
}

/// A value: JSON to the letter, text, or base64 of anything else.
#[derive(Serialize)]
#[serde(untagged)]
enum ShownValue<'a> {
    Json(&'a RawValue),
    Text(&'a str),
    Base64(String),
}

impl ShownValue<'_> {
    fn new<'a>(value: &'a [u8], media: Media<'_>) -> ShownValue<'a> {
        let text = std::str::from_utf8(value).ok().filter(|_| media.encoding.is_empty());
        let Some(text) = text else {
            return ShownValue::Base64(STANDARD.encode(value));
        };
        let json = || serde_json::from_str(text).ok();
        if media.is(media::JSON) { json() } else { None }
            .map_or(ShownValue::Text(text), ShownValue::Json)
    }
}

fn found(
    dialect: Dialect,
    front: &Front,
    target: &Target,
    newest: &Sibling,
    count: usize,
    known: &Known,
) -> Result<Answer, Problem> {
    let media = Media::kept(&newest.content_type);
    let value = ShownValue::new(&newest.value, media);
    let clock = || {
        known
            .context
            .clock
            .entries()
            .iter()
            .map(|(actor, runs)| (actor.to_string(), runs.highest()))
    };
    let a = dialect == Dialect::A;
    let shown = Shown {
        key: text_of(&target.key),
        encoding: matches!(value, ShownValue::Base64(_)).then_some("base64"),
        value,
        content_encoding: (!media.encoding.is_empty()).then(|| text_of(media.encoding)),
        version: newest.version.hlc.0,
        vector_clock: a.then(|| clock().collect()),
        timestamp: a.then(|| newest.version.hlc.wall_ms()),
    };
    let mut answer = answer::json(StatusCode::OK, &shown);
    let headers = answer.headers_mut();
    headers.extend(native::etag(newest.version));
    headers.extend(native::expires(newest.expires));
    headers.insert(&SIBLINGS, HeaderValue::from(count));
    native::insert_context(headers, front, target, known)?;
    Ok(answer)
}

/// A key as text; bytes that are no UTF-8 show as replacement characters.
fn text_of(key: &[u8]) -> String {
    String::from_utf8_lossy(key).into_owned()
}
