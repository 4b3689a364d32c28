//! One request about one key: what all dialects share.
//!
//! `Options` reads what may stand in headers and query; `Request`s are made and `Reply`s judged here alone, so that
//! every dialect has the same levels, limits and status codes. An option that is not built yet is refused by its name,
//! never passed over: a client that asks for a condition and gets none would overwrite what it never meant to.

use std::sync::Arc;

use bytes::Bytes;
use hyper::header::{CONTENT_RANGE, HeaderMap, IF_MATCH, IF_NONE_MATCH, IF_UNMODIFIED_SINCE};
use hyper::{Method, StatusCode};
use rondo_core::config::{DEADLINE_MS_MAX, KEY_BYTES_MAX, TTL_MS_MAX, VALUE_BYTES_MAX};
use rondo_core::id::{KeyspaceId, RequestId};
use rondo_core::layout::keyspace::Level;
use rondo_core::version::context::Context;
use rondo_core::version::dvv::Stamp;
use rondo_core::wire::client::{Action, By, Reply, Request, Sibling};
use sha2::{Digest, Sha256};

use crate::http::address;
use crate::http::answer::{ATTEMPT, CONTEXT, Problem, REQUEST_ID};
use crate::http::body;
use crate::http::head::Head;
use crate::http::media::Media;
use crate::http::visit::Visit;
use crate::nearest::nearest;

/// What a request may say besides what it does.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// How many replicas must take part.
    pub level: Option<Level>,
    /// Whether all siblings are wanted.
    pub siblings: bool,
    /// How long it may take, in milliseconds.
    pub deadline_ms: Option<u64>,
    /// How long what is put stays, in milliseconds; 0 for ever.
    pub ttl_ms: Option<u64>,
    /// The client's name for it.
    pub id: Option<RequestId>,
    /// Which attempt it is.
    pub attempt: u32,
    /// The context token.
    pub context: Option<String>,
}

const PARAMETERS: &[&str] = &["consistency", "timeout", "siblings", "ttl", "explain"];

impl Options {
    /// Reads headers and query.
    pub fn read(head: &Head) -> Result<Options, Problem> {
        let mut options = Options { attempt: 1, ..Options::default() };
        if let Some(query) = head.uri.query() {
            for parameter in address::parameters(query, PARAMETERS) {
                let (name, value) = parameter?;
                options.parameter(name, &value)?;
            }
        }
        options.headers(&head.headers)?;
        if matches!(head.method, Method::PUT | Method::POST) {
            is_whole(&head.headers)?;
        } else if options.ttl_ms.is_some() {
            return Err(Problem::bad("only a value that is put has a `ttl`", "leave it out"));
        }
        Ok(options)
    }

    fn parameter(&mut self, name: &str, value: &str) -> Result<(), Problem> {
        match name {
            "consistency" => self.level = Some(level(value)?),
            "timeout" => self.deadline_ms = Some(duration_ms(value)?),
            "siblings" => self.siblings = switch(name, value)?,
            "ttl" => self.ttl_ms = Some(ttl_ms(value)?),
            _ => {
                if switch(name, value)? {
                    return Err(Problem::not_built("`explain`", "leave it out"));
                }
            }
        }
        Ok(())
    }

    fn headers(&mut self, headers: &HeaderMap) -> Result<(), Problem> {
        for name in [IF_MATCH, IF_NONE_MATCH, IF_UNMODIFIED_SINCE] {
            if headers.contains_key(&name) {
                return Err(Problem::not_built(
                    &format!("the condition `{name}`"),
                    "send X-Rondo-Context instead: a concurrent write then shows as a sibling",
                ));
            }
        }
        // An answer has the one, and nobody the other: whoever sends them means a value to end.
        for name in ["x-rondo-expires", "x-rondo-ttl"] {
            if headers.contains_key(name) {
                return Err(Problem::bad(
                    format!("the header `{name}` is not for requests"),
                    "send ?ttl=60s, or \"ttl\" in a JSON body",
                ));
            }
        }
        if let Some(token) = headers.get(&CONTEXT) {
            let token = token.to_str().map_err(|_| {
                Problem::bad("X-Rondo-Context is not text", "send it as it was answered")
            })?;
            self.context = Some(token.to_owned());
        }
        self.id = headers.get(&REQUEST_ID).map(|id| request_id(id.as_bytes())).transpose()?;
        if let Some(attempt) = headers.get(&ATTEMPT) {
            let number = attempt.to_str().ok().and_then(|text| text.parse().ok());
            self.attempt = number.filter(|&number| number > 0).ok_or_else(|| {
                Problem::bad("X-Rondo-Attempt is not a number from 1", "1 is the first attempt")
            })?;
            if self.id.is_none() && self.attempt > 1 {
                return Err(Problem::bad(
                    "X-Rondo-Attempt without X-Rondo-Request-Id",
                    "name the request: its attempts share one X-Rondo-Request-Id",
                ));
            }
        }
        Ok(())
    }
}

/// Refuses a part of a value: it would be kept as if it were all of it (RFC 9110, 9.3.4 and 14.4).
fn is_whole(headers: &HeaderMap) -> Result<(), Problem> {
    if headers.contains_key(CONTENT_RANGE) {
        return Err(Problem::bad(
            "Content-Range: a part of a value cannot be written",
            "send the whole value, without that header",
        ));
    }
    Ok(())
}

/// The level of this name.
pub fn level(text: &str) -> Result<Level, Problem> {
    text.to_ascii_lowercase().parse().map_err(|_| {
        let near = nearest(text, ["one", "quorum", "all"]);
        let hint =
            near.map_or("one, quorum or all".into(), |near| format!("did you mean `{near}`?"));
        Problem::bad(format!("there is no consistency level `{text}`"), hint)
    })
}

fn switch(name: &str, text: &str) -> Result<bool, Problem> {
    match text {
        "true" | "1" | "" => Ok(true),
        "false" | "0" => Ok(false),
        _ => Err(Problem::bad(format!("`{name}` is `{text}`"), "true or false")),
    }
}

/// `500ms`, `2s`, or a bare number of milliseconds.
fn duration_ms(text: &str) -> Result<u64, Problem> {
    let (number, unit) = match text.strip_suffix("ms") {
        Some(number) => (number, 1),
        None => text.strip_suffix('s').map_or((text, 1), |number| (number, 1000)),
    };
    let ms = number.parse::<u64>().ok().and_then(|number| number.checked_mul(unit));
    ms.filter(|ms| (1..=DEADLINE_MS_MAX).contains(ms)).ok_or_else(|| {
        Problem::bad(
            format!("`timeout` is `{text}`"),
            format!("a time such as 500ms or 2s, at most {}s", DEADLINE_MS_MAX / 1000),
        )
    })
}

/// `500ms`, `60s`, `15m`, `12h`, `30d`, or `0`: it stays for ever.
pub fn ttl_ms(text: &str) -> Result<u64, Problem> {
    const UNITS: [(&str, u64); 5] =
        [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 24 * 3_600_000)];
    let times = |(unit, ms): &(&str, u64)| {
        let number = text.strip_suffix(unit).filter(|number| !number.starts_with('+'))?;
        let number = number.parse::<u64>().ok().filter(|&number| number > 0);
        number?.checked_mul(*ms)
    };
    let ms = if text == "0" { Some(0) } else { UNITS.iter().find_map(times) };
    ms.filter(|&ms| ms <= TTL_MS_MAX).ok_or_else(|| {
        Problem::bad(
            format!("`ttl` is `{text}`"),
            "a time with its unit, such as 500ms, 60s, 15m, 12h or 30d, at most 100 years; 0 for a value that stays",
        )
    })
}

/// 32 hexadecimal digits are the id itself; any other token is hashed.
fn request_id(text: &[u8]) -> Result<RequestId, Problem> {
    if !(1..=128).contains(&text.len()) {
        return Err(Problem::bad(
            "X-Rondo-Request-Id has not 1 to 128 bytes",
            "send 32 hex digits",
        ));
    }
    let hex = std::str::from_utf8(text)
        .ok()
        .filter(|text| text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit()))
        .and_then(|text| u128::from_str_radix(text, 16).ok());
    Ok(RequestId(hex.unwrap_or_else(|| {
        let hash = Sha256::digest(text);
        u128::from_be_bytes(*hash.first_chunk().expect("SHA-256 has 32 bytes"))
    })))
}

/// A key of a keyspace, within the limits.
#[derive(Clone, Debug)]
pub struct Target {
    /// The keyspace's name.
    pub keyspace: Arc<str>,
    /// Its id.
    pub id: KeyspaceId,
    /// The key.
    pub key: Bytes,
}

impl Target {
    /// Checks the key's length.
    pub fn new(keyspace: Arc<str>, id: KeyspaceId, key: &[u8]) -> Result<Target, Problem> {
        if key.is_empty() {
            return Err(Problem::bad("the key is empty", "name a key after the last `/`"));
        }
        if key.len() > KEY_BYTES_MAX {
            return Err(Problem::new(
                StatusCode::PAYLOAD_TOO_LARGE,
                format!("the key has {} bytes; a key has at most {KEY_BYTES_MAX}", key.len()),
                "use a shorter key, such as a hash of it",
            ));
        }
        Ok(Target { keyspace, id, key: Bytes::copy_from_slice(key) })
    }
}

/// What a client knows of a key after an answer, and who has told it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Known {
    /// What it has seen.
    pub context: Context,
    /// Who answers.
    pub by: By,
}

/// What happened, when it is no problem.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// A write is held.
    Stored(Known, Stamp),
    /// The key has values, the newest first; at least one.
    Found(Vec<Sibling>, Known),
    /// The key has none; values that stand beside the delete, the newest first.
    NotFound(Vec<Sibling>, Known),
}

/// Puts a value.
pub async fn put(
    visit: Visit<'_>,
    target: &Target,
    options: &Options,
    value: Bytes,
    media: Media<'_>,
) -> Result<Outcome, Problem> {
    if value.len() > VALUE_BYTES_MAX {
        return Err(body::too_large(Some(value.len() as u64)));
    }
    let content_type = media.to_kept()?;
    let context = seen(visit, target, options)?;
    act(
        visit,
        target,
        options,
        Action::Put { value, content_type, context, ttl_ms: options.ttl_ms },
    )
    .await
}

/// Deletes.
pub async fn delete(
    visit: Visit<'_>,
    target: &Target,
    options: &Options,
) -> Result<Outcome, Problem> {
    let context = seen(visit, target, options)?;
    act(visit, target, options, Action::Delete { context }).await
}

/// Reads.
pub async fn get(visit: Visit<'_>, target: &Target, options: &Options) -> Result<Outcome, Problem> {
    act(visit, target, options, Action::Get).await
}

fn seen(visit: Visit<'_>, target: &Target, options: &Options) -> Result<Option<Context>, Problem> {
    let token = options.context.as_deref();
    token.map(|token| visit.front.open(token, target.id, &target.key)).transpose()
}

async fn act(
    visit: Visit<'_>,
    target: &Target,
    options: &Options,
    action: Action,
) -> Result<Outcome, Problem> {
    let request = Request {
        id: options.id.unwrap_or_else(|| visit.front.next_request_id()),
        named: options.id.is_some(),
        attempt: options.attempt,
        source: visit.source,
        keyspace: Arc::clone(&target.keyspace),
        key: target.key.clone(),
        level: options.level,
        deadline_ms: options.deadline_ms,
        action,
    };
    let writes = !matches!(request.action, Action::Get);
    let reply = visit.request(request).await;
    if matches!(reply, Reply::BadRequest { .. }) {
        // Perhaps because its keyspace was dropped a moment ago, which is said as it is later.
        visit.front.keyspace_anew(&target.keyspace).await?;
    }
    judge(reply, writes)
}

/// What a reply means for the client. Advice fits the request: of a read nobody asks whether it has written.
fn judge(reply: Reply, writes: bool) -> Result<Outcome, Problem> {
    let (status, message, write_hint, read_hint) = match reply {
        Reply::Stored { context, version, by } => {
            return Ok(Outcome::Stored(Known { context, by }, version));
        }
        Reply::Found { siblings, context, by } if !siblings.is_empty() => {
            return Ok(Outcome::Found(siblings, Known { context, by }));
        }
        Reply::Found { siblings, context, by } | Reply::NotFound { siblings, context, by } => {
            return Ok(Outcome::NotFound(siblings, Known { context, by }));
        }
        Reply::Indeterminate { acks, needed } => {
            let are = if acks == 1 { "is" } else { "are" };
            let problem = Problem::new(
                StatusCode::GATEWAY_TIMEOUT,
                format!(
                    "the write may or may not have happened: {acks} of {needed} replicas {are} known to hold it"
                ),
                "read the key, or send the same X-Rondo-Request-Id with the next X-Rondo-Attempt",
            );
            return Err(Problem { indeterminate: true, ..problem });
        }
        Reply::Unavailable { reason, passes: false } => {
            return Err(lasting(StatusCode::SERVICE_UNAVAILABLE, reason, writes));
        }
        Reply::Overloaded { reason, passes: false } => {
            return Err(lasting(StatusCode::TOO_MANY_REQUESTS, reason, writes));
        }
        Reply::Unavailable { reason, .. } => (
            StatusCode::SERVICE_UNAVAILABLE,
            reason,
            "nothing was written: try again; /ready says what is missing",
            "try again; /ready says what is missing",
        ),
        Reply::Overloaded { reason, .. } => (
            StatusCode::TOO_MANY_REQUESTS,
            reason,
            "nothing was written: try again later",
            "try again later",
        ),
        Reply::BadRequest { reason } => (StatusCode::BAD_REQUEST, reason, "", ""),
    };
    Err(Problem::new(status, message, if writes { write_hint } else { read_hint }))
}

/// A refusal that stays until somebody changes what its reason names.
fn lasting(status: StatusCode, reason: String, writes: bool) -> Problem {
    let hint = if writes {
        "nothing was written; waiting alone does not help"
    } else {
        "waiting alone does not help"
    };
    Problem { passes: false, ..Problem::new(status, reason, hint) }
}
