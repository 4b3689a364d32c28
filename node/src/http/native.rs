//! The native routes of a key: values are raw bytes, everything about them is in headers.

use std::time::{Duration, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use hyper::header::{ETAG, HeaderMap, HeaderName, HeaderValue};
use hyper::{Method, Response, StatusCode};
use rondo_core::id::ActorId;
use rondo_core::version::dvv::Stamp;
use rondo_core::version::hlc::Hlc;
use rondo_core::wire::client::{By, Sibling};
use serde::Serialize;

use crate::http::answer::{self, Answer, CONTEXT, EXPIRES, FALLBACK, Problem, SIBLINGS};
use crate::http::front::Front;
use crate::http::head::Head;
use crate::http::kv::{self, Known, Options, Outcome, Target};
use crate::http::media::Media;
use crate::http::pieces::Body;
use crate::http::visit::Visit;

/// `PUT`, `GET`, `HEAD` and `DELETE` of one key.
pub async fn key(
    visit: Visit<'_>,
    target: &Target,
    head: &Head,
    sent: Bytes,
) -> Result<Answer, Problem> {
    let front = visit.front;
    let options = Options::read(head)?;
    let outcome = match head.method {
        Method::PUT => kv::put(visit, target, &options, sent, Media::sent(&head.headers)).await?,
        Method::DELETE => kv::delete(visit, target, &options).await?,
        _ => kv::get(visit, target, &options).await?,
    };
    Ok(match outcome {
        Outcome::Stored(known, version) => {
            let mut answer = answer::empty(StatusCode::NO_CONTENT);
            let headers = answer.headers_mut();
            headers.extend(etag(version));
            insert_context(headers, front, target, &known)?;
            answer
        }
        Outcome::Found(siblings, known) if options.siblings && siblings.len() > 1 => {
            all_siblings(front, target, &siblings, false, &known)?
        }
        Outcome::Found(mut siblings, known) => {
            let count = siblings.len();
            let newest = siblings.swap_remove(0);
            found(front, target, newest, count, &known)?
        }
        Outcome::NotFound(siblings, known) if options.siblings && !siblings.is_empty() => {
            all_siblings(front, target, &siblings, true, &known)?
        }
        Outcome::NotFound(siblings, known) => not_found(front, target, siblings.len(), &known)?,
    })
}

/// The newest value. `count` is how many siblings there are.
pub fn found(
    front: &Front,
    target: &Target,
    newest: Sibling,
    count: usize,
    known: &Known,
) -> Result<Answer, Problem> {
    let mut answer = Response::new(Body::Whole(newest.value));
    let headers = answer.headers_mut();
    Media::kept(&newest.content_type).insert_into(headers);
    headers.extend(etag(newest.version));
    headers.extend(expires(newest.expires));
    headers.insert(&SIBLINGS, HeaderValue::from(count));
    insert_context(headers, front, target, known)?;
    Ok(answer)
}

/// There is no value; after a delete the context says what was deleted. `beside` is how many values were written
/// concurrently with the delete and are still there: the context covers them, so the answer tells of them.
pub fn not_found(
    front: &Front,
    target: &Target,
    beside: usize,
    known: &Known,
) -> Result<Answer, Problem> {
    let hint = match beside {
        0 => String::new(),
        1 => "a value stands beside what was deleted or has expired; `?siblings=true` shows it"
            .to_owned(),
        _ => format!(
            "{beside} values stand beside what was deleted or has expired; `?siblings=true` shows them"
        ),
    };
    let mut answer = Problem::new(StatusCode::NOT_FOUND, "key not found", hint).answer();
    let headers = answer.headers_mut();
    headers.insert(&SIBLINGS, HeaderValue::from(beside));
    insert_context(headers, front, target, known)?;
    Ok(answer)
}

/// A version as an entity tag: its name in quotes. There is none of a version that a node of the generation before has told of,
/// which does not say who has written it: half a name would be another one than readers are told.
#[must_use]
pub fn etag(version: Stamp) -> Option<(HeaderName, HeaderValue)> {
    if version.actor == ActorId(0) {
        return None;
    }
    let tag = HeaderValue::try_from(format!("\"{version}\""))
        .expect("digits in quotes are visible ASCII");
    Some((ETAG, tag))
}

/// When a value expires, as an HTTP date (RFC 9110, 5.6.7), which has whole seconds; none where it stays.
#[must_use]
pub fn expires(expires: Option<Hlc>) -> Option<(HeaderName, HeaderValue)> {
    let date = date(expires?);
    Some((EXPIRES.clone(), HeaderValue::try_from(date).expect("a date is visible ASCII")))
}

fn date(time: Hlc) -> String {
    // What a broken clock has written may lie beyond the years that have a date: the last second of 9999.
    let latest = Duration::from_secs(253_402_300_799);
    httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_millis(time.wall_ms()).min(latest))
}

/// Adds the context token, and says so when a fallback answers.
pub fn insert_context(
    headers: &mut HeaderMap,
    front: &Front,
    target: &Target,
    known: &Known,
) -> Result<(), Problem> {
    let token = front.seal(&known.context, target.id, &target.key)?;
    if known.by == By::Fallback {
        headers.insert(&FALLBACK, HeaderValue::from_static("true"));
    }
    let value = HeaderValue::from_maybe_shared(Bytes::from(token));
    headers.insert(&CONTEXT, value.expect("base64url is visible ASCII"));
    Ok(())
}

#[derive(Serialize)]
struct SiblingView<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    base64: Option<String>,
    content_type: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    content_encoding: String,
    etag: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires: Option<String>,
}

#[derive(Serialize)]
struct SiblingsView<'a> {
    siblings: Vec<SiblingView<'a>>,
    /// Whether a delete, or what has expired, is newer than all of them, so that a plain read finds nothing.
    deleted: bool,
    context: String,
    /// Whether a node answers that is no primary, by what it keeps for them.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    fallback: bool,
}

/// All values, the newest first.
fn all_siblings(
    front: &Front,
    target: &Target,
    siblings: &[Sibling],
    deleted: bool,
    known: &Known,
) -> Result<Answer, Problem> {
    let views = siblings.iter().map(|sibling| {
        let text = std::str::from_utf8(&sibling.value).ok();
        let media = Media::kept(&sibling.content_type);
        SiblingView {
            text,
            base64: text.is_none().then(|| STANDARD.encode(&sibling.value)),
            content_type: String::from_utf8_lossy(media.kind).into_owned(),
            content_encoding: String::from_utf8_lossy(media.encoding).into_owned(),
            etag: sibling.version.to_string(),
            expires: sibling.expires.map(date),
        }
    });
    let view = SiblingsView {
        siblings: views.collect(),
        deleted,
        context: front.seal(&known.context, target.id, &target.key)?,
        fallback: known.by == By::Fallback,
    };
    let mut answer = answer::json(StatusCode::MULTIPLE_CHOICES, &view);
    let headers = answer.headers_mut();
    headers.extend(etag(siblings[0].version));
    headers.insert(&SIBLINGS, HeaderValue::from(siblings.len()));
    insert_context(headers, front, target, known)?;
    Ok(answer)
}
