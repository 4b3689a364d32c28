//! Answers: how they are built, and how every error looks.
//!
//! An error is `{error, code, message, hint}`: the status's name, its number, what went wrong, and what to do
//! next. `hint` is left out where there is nothing to add.

use bytes::Bytes;
use hyper::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use hyper::{Response, StatusCode};
use serde::Serialize;

use crate::http::pieces::{Body, Pieces};

/// What the server sends.
pub type Answer = Response<Body>;

/// The context token, in and out.
pub static CONTEXT: HeaderName = HeaderName::from_static("x-rondo-context");
/// How many siblings there are.
pub static SIBLINGS: HeaderName = HeaderName::from_static("x-rondo-siblings");
/// `true` where a node answers that is no primary of the key, because it reaches none.
pub static FALLBACK: HeaderName = HeaderName::from_static("x-rondo-fallback");
/// When the value expires.
pub static EXPIRES: HeaderName = HeaderName::from_static("x-rondo-expires");
/// `indeterminate` where a write may or may not have happened.
pub static OUTCOME: HeaderName = HeaderName::from_static("x-rondo-outcome");
/// The client's name for a request.
pub static REQUEST_ID: HeaderName = HeaderName::from_static("x-rondo-request-id");
/// Which attempt of that request it is.
pub static ATTEMPT: HeaderName = HeaderName::from_static("x-rondo-attempt");

/// JSON.
pub const JSON: HeaderValue = HeaderValue::from_static("application/json");
/// Text.
pub const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");

/// Why a request was not done.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Problem {
    /// The status.
    pub status: StatusCode,
    /// What went wrong.
    pub message: String,
    /// What to do next; may be empty.
    pub hint: String,
    /// Whether a write may have happened all the same.
    pub indeterminate: bool,
    /// Whether the connection must end, because the request was not read to its end.
    pub close: bool,
    /// Whether it may pass by itself, so that asking again helps.
    pub passes: bool,
    /// The methods that would have been right; empty when the method was.
    pub allow: &'static str,
}

#[derive(Serialize)]
struct ProblemBody<'a> {
    error: &'a str,
    code: u16,
    message: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    hint: &'a str,
}

impl Problem {
    /// A problem with what to do next.
    pub fn new(status: StatusCode, message: impl Into<String>, hint: impl Into<String>) -> Problem {
        let (message, hint) = (message.into(), hint.into());
        let passes =
            matches!(status, StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS);
        Problem { status, message, hint, indeterminate: false, close: false, passes, allow: "" }
    }

    /// The request makes no sense.
    pub fn bad(message: impl Into<String>, hint: impl Into<String>) -> Problem {
        Problem::new(StatusCode::BAD_REQUEST, message, hint)
    }

    /// What was asked for does not exist in this version.
    pub fn not_built(what: &str, hint: impl Into<String>) -> Problem {
        Problem::new(StatusCode::NOT_IMPLEMENTED, format!("{what} is not built yet"), hint)
    }

    /// As an answer.
    #[must_use]
    pub fn answer(&self) -> Answer {
        let mut answer = json(
            self.status,
            &ProblemBody {
                error: self.status.canonical_reason().unwrap_or("Error"),
                code: self.status.as_u16(),
                message: &self.message,
                hint: &self.hint,
            },
        );
        let headers = answer.headers_mut();
        if self.indeterminate {
            headers.insert(&OUTCOME, HeaderValue::from_static("indeterminate"));
        }
        if !self.allow.is_empty() {
            headers.insert(hyper::header::ALLOW, HeaderValue::from_static(self.allow));
        }
        if self.passes {
            headers.insert(hyper::header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        answer
    }
}

/// An answer with a body of its own kind.
#[must_use]
pub fn with_body(status: StatusCode, content_type: HeaderValue, body: Bytes) -> Answer {
    let mut answer = Response::new(Body::Whole(body));
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, content_type);
    answer
}

/// An answer whose body is made while the client reads.
#[must_use]
pub fn in_pieces(content_type: HeaderValue, pieces: Pieces) -> Answer {
    let mut answer = Response::new(Body::Pieces(pieces));
    answer.headers_mut().insert(CONTENT_TYPE, content_type);
    answer
}

/// An answer in JSON.
pub fn json(status: StatusCode, body: &impl Serialize) -> Answer {
    let bytes = serde_json::to_vec(body).expect("what this crate serializes has text keys");
    with_body(status, JSON, bytes.into())
}

/// An answer without a body.
#[must_use]
pub fn empty(status: StatusCode) -> Answer {
    let mut answer = Response::new(Body::Whole(Bytes::new()));
    *answer.status_mut() = status;
    answer
}
