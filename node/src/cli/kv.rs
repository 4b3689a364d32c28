//! `rondo kv`: one key at a time.

use std::fmt::Write as _;
use std::io::{self, IsTerminal as _, Read as _};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use clap::{Args, Subcommand};
use hyper::Method;
use hyper::header::{CONTENT_TYPE, ETAG};
use rondo_core::config::VALUE_BYTES_MAX;
use serde_json::json;

use crate::cli::{Client, Output, print, print_bytes};
use crate::client::{Answer, Ask, problem};
use crate::failure::{Failure, Result};
use crate::http::answer::{CONTEXT, EXPIRES, SIBLINGS};
use crate::start::store;

/// One key.
#[derive(Subcommand, Debug)]
pub enum Kv {
    /// Print the value of a key
    Get(Get),
    /// Store a value
    Put(Put),
    /// Delete a key
    Delete(Delete),
}

#[derive(Args, Debug)]
struct Common {
    /// The key
    key: String,
    /// The keyspace
    #[arg(long, default_value = "default")]
    keyspace: String,
    /// How many replicas take part: one, quorum or all [default: the keyspace's level]
    #[arg(long, value_name = "LEVEL")]
    consistency: Option<String>,
    #[command(flatten)]
    client: Client,
    /// How to print
    #[arg(long, short, value_enum, default_value_t)]
    output: Output,
}

/// `rondo kv get`.
#[derive(Args, Debug)]
pub struct Get {
    #[command(flatten)]
    common: Common,
    /// Print all concurrent values, as JSON, where there are several
    #[arg(long)]
    siblings: bool,
}

/// `rondo kv put`.
#[derive(Args, Debug)]
pub struct Put {
    #[command(flatten)]
    common: Common,
    /// The value; `-` reads it from standard input
    value: String,
    /// What kind of value it is
    #[arg(long, default_value = "text/plain; charset=utf-8")]
    content_type: String,
    /// How long it stays: 60s, 15m, 12h, 30d; 0 for ever, also where the keyspace says otherwise
    #[arg(long, value_name = "TIME")]
    ttl: Option<String>,
    /// What has been seen of the key, as a get or put printed it with `-o json`
    #[arg(long, value_name = "TOKEN")]
    context: Option<String>,
}

/// `rondo kv delete`.
#[derive(Args, Debug)]
pub struct Delete {
    #[command(flatten)]
    common: Common,
    /// What has been seen of the key
    #[arg(long, value_name = "TOKEN")]
    context: Option<String>,
}

/// Runs it.
pub async fn run(command: Kv) -> Result<()> {
    match command {
        Kv::Get(command) => get(&command).await,
        Kv::Put(command) => put(&command).await,
        Kv::Delete(command) => delete(&command).await,
    }
}

async fn get(command: &Get) -> Result<()> {
    let common = &command.common;
    let more = if command.siblings { "&siblings=true" } else { "" };
    let ask = Ask::new(Method::GET, common.target() + more);
    let answer = common.ask(&ask).await?;
    let siblings = header(&answer, SIBLINGS.as_str()).unwrap_or("1").to_owned();
    if answer.status == hyper::StatusCode::MULTIPLE_CHOICES {
        return print_bytes(&answer.body, true);
    }
    if siblings != "1" {
        eprintln!("{siblings} concurrent values; this is the newest (--siblings shows all)");
    }
    if common.output == Output::Table {
        return print_bytes(&answer.body, io::stdout().is_terminal());
    }
    let text = std::str::from_utf8(&answer.body);
    let mut view = json!({
        "key": common.key,
        "content_type": header(&answer, CONTENT_TYPE.as_str()),
        "etag": etag(&answer),
        "siblings": siblings.parse::<u64>().unwrap_or(1),
        "context": header(&answer, CONTEXT.as_str()),
    });
    if let Some(expires) = header(&answer, EXPIRES.as_str()) {
        view["expires"] = expires.into();
    }
    match text {
        Ok(text) => view["value"] = text.into(),
        Err(_) => view["base64"] = STANDARD.encode(&answer.body).into(),
    }
    print(&view.to_string())
}

async fn put(command: &Put) -> Result<()> {
    let common = &command.common;
    let body = match command.value.as_str() {
        "-" => standard_input()?,
        value => value.to_owned().into(),
    };
    let ttl = command.ttl.as_ref().map(|ttl| format!("&ttl={}", encode(ttl))).unwrap_or_default();
    let ask = Ask {
        body,
        content_type: Some(command.content_type.clone()),
        context: command.context.clone(),
        attempt: Some((store::random()?, 1)),
        ..Ask::new(Method::PUT, common.target() + &ttl)
    };
    common.print_write(&common.ask(&ask).await?)
}

async fn delete(command: &Delete) -> Result<()> {
    let common = &command.common;
    let ask = Ask {
        context: command.context.clone(),
        attempt: Some((store::random()?, 1)),
        ..Ask::new(Method::DELETE, common.target())
    };
    common.print_write(&common.ask(&ask).await?)
}

impl Common {
    fn target(&self) -> String {
        let mut target = format!("/v1/kv/{}/{}", encode(&self.keyspace), encode(&self.key));
        let ms = self.client.timeout.as_millis();
        write!(target, "?timeout={ms}").expect("a String takes all text");
        if let Some(level) = &self.consistency {
            write!(target, "&consistency={}", encode(level)).expect("a String takes all text");
        }
        target
    }

    async fn ask(&self, ask: &Ask) -> Result<Answer> {
        let answer = self.client.servers()?.ask(ask).await?;
        if answer.status.is_success() || answer.status.is_redirection() {
            return Ok(answer);
        }
        Err(problem(&answer))
    }

    fn print_write(&self, answer: &Answer) -> Result<()> {
        if self.output == Output::Table {
            return print("OK");
        }
        let context = header(answer, CONTEXT.as_str());
        let view = json!({ "key": self.key, "etag": etag(answer), "context": context });
        print(&view.to_string())
    }
}

fn header<'a>(answer: &'a Answer, name: &str) -> Option<&'a str> {
    answer.headers.get(name)?.to_str().ok()
}

fn etag(answer: &Answer) -> Option<&str> {
    header(answer, ETAG.as_str()).map(|tag| tag.trim_matches('"'))
}

fn standard_input() -> Result<Bytes> {
    let mut value = Vec::new();
    let limit = VALUE_BYTES_MAX as u64 + 1;
    io::stdin().lock().take(limit).read_to_end(&mut value).map_err(|error| {
        Failure::failed(format!("cannot read standard input: {error}"), "give the value itself")
    })?;
    if value.len() > VALUE_BYTES_MAX {
        return Err(Failure::usage(
            format!("standard input has more than {VALUE_BYTES_MAX} bytes"),
            "split the value over several keys",
        ));
    }
    Ok(value.into())
}

/// Percent-encodes everything that a path or a query could take for something else.
fn encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~:".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            write!(encoded, "%{byte:02X}").expect("a String takes all text");
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::address::decode;

    #[test]
    fn what_is_encoded_decodes_to_itself() {
        for text in ["user:1", "a/b", "100%", "grüße ?&=#+", "..", "\u{0}"] {
            assert_eq!(decode(&encode(text)).expect("sound").as_ref(), text.as_bytes());
        }
        assert_eq!(encode("a/b ü"), "a%2Fb%20%C3%BC");
    }
}
