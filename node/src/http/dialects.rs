//! The dialects A, B and C: three small HTTP interfaces that existing clients speak, over the same handlers.
//!
//! | | put, get, delete | body of a put | answer of a get |
//! |---|---|---|---|
//! | A | `/api/v1/data/{key}` | `{"value": …}` or raw | JSON with the clock |
//! | B | `/kv/{key}` | `{"value": …, "consistency"?}` or raw | JSON |
//! | C | `/api/v1/kv/{key}` | raw, or `{"value": …}` | the raw value |
//!
//! All act on the keyspace `default`. A JSON body is known by its content type, or, where the content type says nothing
//! (none, or the one that curl and forms send), by being a JSON object. A value that is no string is kept as its JSON
//! text. `version` is a u64 above 2^53: `ETag` says it as text.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use hyper::header::{CONTENT_TYPE, ETAG, HeaderMap, HeaderValue};
use hyper::{Method, StatusCode, Uri};
use rondo_core::message::Sibling;
use rondo_core::version::context::Context;
use serde_json::{Map, Value, json};

use crate::http::answer::{self, Answer, Problem, SIBLINGS};
use crate::http::front::Front;
use crate::http::kv::{self, Options, Outcome, Target};
use crate::http::native;
use crate::nearest::nearest;

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

const FIELDS: &[&str] = &["value", "consistency", "context", "ttl"];
const TEXT_KIND: &[u8] = b"text/plain; charset=utf-8";
const JSON_KIND: &[u8] = b"application/json";

/// `PUT`, `GET`, `HEAD` and `DELETE` of one key.
pub async fn key(
    dialect: Dialect,
    front: &Front,
    target: &Target,
    method: &Method,
    uri: &Uri,
    headers: &HeaderMap,
    sent: Bytes,
) -> Result<Answer, Problem> {
    let mut options = Options::read(uri, headers)?;
    let outcome = match *method {
        Method::PUT => {
            let (value, kind) = stored_form(dialect, headers, sent, &mut options)?;
            kv::put(front, target, &options, value, kind).await?
        }
        Method::DELETE => kv::delete(front, target, &options).await?,
        _ => kv::get(front, target, &options).await?,
    };
    Ok(match outcome {
        Outcome::Stored(context, version) => {
            let mut view = json!({ "status": "ok", "key": text_of(&target.key) });
            if *method == Method::PUT || dialect != Dialect::B {
                view["version"] = json!(version.0);
            }
            let mut answer = answer::json(StatusCode::OK, &view);
            answer.headers_mut().insert(ETAG, native::etag(version));
            native::insert_context(answer.headers_mut(), front, target, &context);
            answer
        }
        Outcome::Found(mut siblings, context) => {
            let count = siblings.len();
            let newest = siblings.swap_remove(0);
            if dialect == Dialect::C {
                native::found(front, target, newest, count, &context)
            } else {
                found(dialect, front, target, &newest, count, &context)
            }
        }
        Outcome::NotFound(context) => native::not_found(front, target, &context),
    })
}

fn found(
    dialect: Dialect,
    front: &Front,
    target: &Target,
    newest: &Sibling,
    count: usize,
    context: &Context,
) -> Answer {
    let mut view = Map::new();
    view.insert("key".into(), text_of(&target.key).into());
    match std::str::from_utf8(&newest.value) {
        Ok(text) => view.insert("value".into(), text.into()),
        Err(_) => {
            view.insert("value".into(), STANDARD.encode(&newest.value).into());
            view.insert("encoding".into(), "base64".into())
        }
    };
    view.insert("version".into(), newest.version.0.into());
    if dialect == Dialect::A {
        let entries = context.clock.entries().iter();
        let clock: Map<_, _> = entries.map(|(actor, n)| (actor.to_string(), json!(n))).collect();
        view.insert("vector_clock".into(), clock.into());
        view.insert("timestamp".into(), newest.version.wall_ms().into());
    }
    let mut answer = answer::json(StatusCode::OK, &view);
    let headers = answer.headers_mut();
    headers.insert(ETAG, native::etag(newest.version));
    headers.insert(&SIBLINGS, HeaderValue::from(count));
    native::insert_context(headers, front, target, context);
    answer
}

/// A key as text; bytes that are no UTF-8 show as replacement characters.
fn text_of(key: &[u8]) -> String {
    String::from_utf8_lossy(key).into_owned()
}

/// The value and its content type, out of what was sent.
fn stored_form(
    dialect: Dialect,
    headers: &HeaderMap,
    sent: Bytes,
    options: &mut Options,
) -> Result<(Bytes, Bytes), Problem> {
    let kind = headers.get(CONTENT_TYPE).map_or(&b""[..], HeaderValue::as_bytes);
    let media = kind.split(|&byte| byte == b';').next().unwrap_or_default().trim_ascii();
    let is_json = media.eq_ignore_ascii_case(JSON_KIND);
    let says_nothing =
        media.is_empty() || media.eq_ignore_ascii_case(b"application/x-www-form-urlencoded");
    let kept = if says_nothing { b"" } else { kind };
    let raw = |sent| Ok((sent, Bytes::copy_from_slice(kept)));
    if !is_json && !says_nothing {
        return raw(sent);
    }
    let object = match serde_json::from_slice(&sent) {
        Ok(Value::Object(object)) => object,
        Ok(_) if dialect == Dialect::C || says_nothing => return raw(sent),
        Ok(_) => return Err(no_value("the body is JSON, but no object")),
        Err(_) if says_nothing => return raw(sent),
        Err(error) => {
            return Err(Problem::bad(
                format!("the body is not JSON: {error}"),
                "send {\"value\": \"…\"}, or another Content-Type for a raw value",
            ));
        }
    };
    if dialect == Dialect::C && !object.contains_key("value") {
        return raw(sent);
    }
    from_object(object, options)
}

fn no_value(what: &str) -> Problem {
    Problem::bad(
        format!("{what} with a `value`"),
        "send {\"value\": \"…\"}, or Content-Type: application/octet-stream for a raw value",
    )
}

fn from_object(
    mut object: Map<String, Value>,
    options: &mut Options,
) -> Result<(Bytes, Bytes), Problem> {
    let value = object.remove("value").ok_or_else(|| no_value("the body is no JSON object"))?;
    for (name, field) in object {
        match (name.as_str(), field) {
            ("consistency", Value::String(level)) => options.level = Some(kv::level(&level)?),
            ("context", Value::String(token)) => options.context = Some(token),
            ("consistency" | "context", Value::Null) => {}
            ("consistency" | "context", _) => {
                return Err(Problem::bad(format!("`{name}` is not a text"), "put it in quotes"));
            }
            ("ttl", _) => {
                return Err(Problem::not_built("`ttl`", "leave it out; delete the key later"));
            }
            (other, _) => {
                let near = nearest(other, FIELDS.iter().copied());
                let hint = near
                    .map_or("the body knows `value` and `consistency`".to_owned(), |near| {
                        format!("did you mean `{near}`?")
                    });
                return Err(Problem::bad(format!("unknown field `{other}` in the body"), hint));
            }
        }
    }
    Ok(match value {
        Value::String(text) => (text.into(), Bytes::from_static(TEXT_KIND)),
        other => (other.to_string().into(), Bytes::from_static(JSON_KIND)),
    })
}
