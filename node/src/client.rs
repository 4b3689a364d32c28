//! The HTTP client of the command line: one request at a time over a connection, several servers to try.
//!
//! A server that cannot be reached is passed over. When a connection breaks after a write was sent, nobody knows whether
//! it happened: the next server is asked with the same request id and the next attempt, so that it is never applied
//! twice. A server that says itself that it does not know is asked again in the same way, a few times.

use std::fmt;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{CONTENT_TYPE, HOST, HeaderMap};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;

use crate::failure::{Failure, Kind, Result};
use crate::http::answer::{ATTEMPT, CONTEXT, OUTCOME, REQUEST_ID};
use crate::settings::{HTTP_PORT, join_port, split_port};

/// The longest answer that a command reads, in bytes.
const ANSWER_BYTES_MAX: usize = 64 << 20;
/// How much longer than the server the client waits.
const GRACE: Duration = Duration::from_millis(500);

/// How often a write is asked for, of which a server does not know whether it happened.
const ATTEMPTS_MAX: u32 = 4;
const UNDECIDED: &str = "read the key, and write again if it is not there";
/// How long the client waits before it asks for it again.
const ATTEMPT_PAUSE: Duration = Duration::from_millis(250);

/// What is asked of a server.
#[derive(Clone, Debug)]
pub struct Ask {
    /// The method.
    pub method: Method,
    /// Path and query.
    pub target: String,
    /// What is sent; empty for nothing.
    pub body: Bytes,
    /// Its content type.
    pub content_type: Option<String>,
    /// The context token.
    pub context: Option<String>,
    /// The name of the request, and the attempt.
    pub attempt: Option<(u128, u32)>,
}

/// What a server answered.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
}

/// Why there is no answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Broken {
    /// There was no connection: nothing was sent.
    NotSent(String),
    /// The connection broke, or was silent for too long, after something was sent.
    Sent(String),
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Broken::NotSent(why) | Broken::Sent(why) => f.write_str(why),
        }
    }
}

impl Ask {
    /// Asks without sending anything along.
    pub fn new(method: Method, target: impl Into<String>) -> Ask {
        Ask {
            method,
            target: target.into(),
            body: Bytes::new(),
            content_type: None,
            context: None,
            attempt: None,
        }
    }
}

/// A connection to one server.
#[derive(Debug)]
pub struct Connection {
    sender: SendRequest<Full<Bytes>>,
    host: String,
}

impl Connection {
    /// Connects to `host:port`.
    pub async fn open(server: &str) -> Result<Connection, Broken> {
        let not_sent = |error: &dyn fmt::Display| Broken::NotSent(error.to_string());
        let stream = TcpStream::connect(server).await.map_err(|error| not_sent(&error))?;
        stream.set_nodelay(true).map_err(|error| not_sent(&error))?;
        let (sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(|error| not_sent(&error))?;
        // Its error also reaches whoever waits for an answer.
        tokio::spawn(connection);
        Ok(Connection { sender, host: server.to_owned() })
    }

    /// Asks, and reads an answer of at most `most` bytes.
    pub async fn ask(&mut self, ask: &Ask, most: usize) -> Result<Answer, Broken> {
        let mut request =
            Request::builder().method(ask.method.clone()).uri(&ask.target).header(HOST, &self.host);
        if let Some(kind) = &ask.content_type {
            request = request.header(CONTENT_TYPE, kind);
        }
        if let Some(token) = &ask.context {
            request = request.header(&CONTEXT, token);
        }
        if let Some((id, attempt)) = ask.attempt {
            request = request.header(&REQUEST_ID, format!("{id:032x}")).header(&ATTEMPT, attempt);
        }
        let request = request
            .body(Full::new(ask.body.clone()))
            .map_err(|error| Broken::NotSent(error.to_string()))?;
        self.sender.ready().await.map_err(|error| Broken::NotSent(error.to_string()))?;
        let sent = |error: hyper::Error| Broken::Sent(error.to_string());
        let (head, mut body) = self.sender.send_request(request).await.map_err(sent)?.into_parts();
        let mut all = BytesMut::new();
        while let Some(frame) = body.frame().await {
            let Ok(data) = frame.map_err(sent)?.into_data() else { continue };
            if all.len() + data.len() > most {
                return Err(Broken::Sent(format!("the answer has more than {most} bytes")));
            }
            all.extend_from_slice(&data);
        }
        Ok(Answer { status: head.status, headers: head.headers, body: all.freeze() })
    }
}

/// Several servers, any of which will do.
#[derive(Clone, Debug)]
pub struct Servers {
    list: Vec<String>,
    timeout: Duration,
}

impl Servers {
    /// From `a,b`, each a host or a host with a port.
    pub fn parse(list: &str, timeout: Duration) -> Result<Servers> {
        let mut servers = Vec::new();
        for server in list.split(',').map(str::trim).filter(|server| !server.is_empty()) {
            let bare = server.strip_prefix("http://").unwrap_or(server).trim_end_matches('/');
            let (host, port) = split_port(bare).ok_or_else(|| {
                let hint = "--server 127.0.0.1:8080, or several with commas between them";
                Failure::usage(format!("`{server}` is not the address of a server"), hint)
            })?;
            servers.push(join_port(host, port.unwrap_or(HTTP_PORT)));
        }
        if servers.is_empty() {
            return Err(Failure::usage("there is no server to ask", "--server 127.0.0.1:8080"));
        }
        Ok(Servers { list: servers, timeout })
    }

    /// The addresses.
    #[must_use]
    pub fn list(&self) -> &[String] {
        &self.list
    }

    /// How long a request may take.
    #[must_use]
    pub fn timeout(&self) -> Duration {
        self.timeout
    }

    /// Asks one server after the other until one has an answer that another would not better.
    pub async fn ask(&self, ask: &Ask) -> Result<Answer> {
        let mut ask = ask.clone();
        let mut troubles = Vec::new();
        let mut last = None;
        let mut undecided = false;
        for server in &self.list {
            match self.decided(server, &mut ask).await {
                // Such a server is alone or overloaded, and has done nothing.
                Ok(answer) if is_for_another(&answer) => last = Some(answer),
                Ok(answer) => return Ok(answer),
                Err(broken) => {
                    troubles.push(format!("{server}: {broken}"));
                    undecided |= next_attempt(&mut ask, &broken);
                }
            }
        }
        if undecided {
            return Err(Failure {
                kind: Kind::Quorum,
                message: format!("the write may or may not have happened: {}", troubles.join("; ")),
                hint: UNDECIDED.to_owned(),
            });
        }
        last.ok_or_else(|| {
            Failure::failed(
                format!("no server answers: {}", troubles.join("; ")),
                "start one with `rondo`, or name others with --server a,b",
            )
        })
    }

    /// Asks a server; once more for a write of which it does not know whether it happened: a slow sync may have ended meanwhile.
    async fn decided(&self, server: &str, ask: &mut Ask) -> Result<Answer, Broken> {
        loop {
            let answer = self.one(server, ask).await?;
            match &mut ask.attempt {
                Some((_, attempt)) if is_undecided(&answer) && *attempt < ATTEMPTS_MAX => {
                    *attempt += 1;
                }
                _ => return Ok(answer),
            }
            tokio::time::sleep(ATTEMPT_PAUSE).await;
        }
    }

    async fn one(&self, server: &str, ask: &Ask) -> Result<Answer, Broken> {
        let asked = async { Connection::open(server).await?.ask(ask, ANSWER_BYTES_MAX).await };
        match tokio::time::timeout(self.timeout + GRACE, asked).await {
            Ok(answer) => answer,
            Err(_) => Err(Broken::Sent("no answer in time".to_owned())),
        }
    }

    /// Asks for JSON.
    pub async fn json(&self, target: &str) -> Result<Value> {
        read(&self.ask(&Ask::new(Method::GET, target)).await?, target)
    }

    /// What every member of a cluster answers, by `/v1/cluster` of one of them: null of one that is dead, has left or does not answer.
    pub async fn each_node<'a>(&self, cluster: &'a Value, target: &str) -> Vec<(&'a Value, Value)> {
        let mut all = Vec::new();
        for member in cluster["members"].as_array().into_iter().flatten() {
            let address = member["client_address"].as_str().unwrap_or_default();
            let says = match Servers::parse(address, self.timeout()) {
                Ok(server) if !matches!(member["state"].as_str(), Some("dead" | "left")) => {
                    server.json(target).await.unwrap_or_default()
                }
                _ => Value::Null,
            };
            all.push((member, says));
        }
        all
    }

    /// Sends JSON, or nothing, and reads JSON. What is sent may arrive twice, at two servers.
    pub async fn send(&self, method: Method, target: &str, body: Option<&Value>) -> Result<Value> {
        let mut ask = Ask::new(method, target);
        if let Some(body) = body {
            ask.body = body.to_string().into();
            ask.content_type = Some("application/json".to_owned());
        }
        read(&self.ask(&ask).await?, target)
    }
}

/// The JSON of an answer.
fn read(answer: &Answer, target: &str) -> Result<Value> {
    if !answer.status.is_success() {
        return Err(problem(answer));
    }
    serde_json::from_slice(&answer.body).map_err(|error| {
        Failure::failed(
            format!("the answer to {target} is not JSON: {error}"),
            "check that --server names a rondo node",
        )
    })
}

/// A text in an answer, as people read it.
#[must_use]
pub fn said(value: &Value) -> String {
    value.as_str().unwrap_or("?").to_owned()
}

fn is_for_another(answer: &Answer) -> bool {
    matches!(answer.status, StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS)
}

fn is_undecided(answer: &Answer) -> bool {
    answer.headers.get(&OUTCOME).is_some_and(|outcome| outcome == "indeterminate")
}

/// Counts the attempt when something was sent; says whether a write is undecided now.
fn next_attempt(ask: &mut Ask, broken: &Broken) -> bool {
    let sent = matches!(broken, Broken::Sent(_));
    match &mut ask.attempt {
        Some((_, attempt)) if sent => {
            *attempt += 1;
            true
        }
        _ => false,
    }
}

/// What a server's refusal means for the program.
#[must_use]
pub fn problem(answer: &Answer) -> Failure {
    let body: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    let message = match body["message"].as_str() {
        Some(message) => message.to_owned(),
        None => format!("the server answered {}", answer.status),
    };
    let kind = match answer.status {
        StatusCode::NOT_FOUND if message == "key not found" => Kind::NotFound,
        StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT => Kind::Quorum,
        StatusCode::BAD_REQUEST | StatusCode::PAYLOAD_TOO_LARGE => Kind::Usage,
        _ => Kind::Failed,
    };
    // What its hint says to those who name their requests, the client has done already.
    let hint = match is_undecided(answer) {
        true => UNDECIDED,
        false => body["hint"].as_str().unwrap_or_default(),
    };
    Failure { kind, message, hint: hint.to_owned() }
}
