//! Looking again and again how far a change is, at servers that may die meanwhile.
//!
//! The servers that were named are asked first. When none of them answers it is said, once, and the others are asked that those had named
//! before. When nobody has answered for a while the command ends with an error: the change goes on, or does not, and nobody here knows.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::client::Servers;
use crate::failure::{Failure, Kind, Result};

/// It ends when nobody has answered for so long.
const SILENT: Duration = Duration::from_secs(10);
/// The most other servers that are kept.
const OTHERS_MAX: usize = 16;

/// Whom it asks.
#[derive(Debug)]
pub struct Watch<'a> {
    servers: &'a Servers,
    others: BTreeSet<String>,
    silent_since: Option<Instant>,
    is_told: bool,
    patience: Duration,
}

impl<'a> Watch<'a> {
    /// Of these servers.
    #[must_use]
    pub const fn new(servers: &'a Servers) -> Watch<'a> {
        let others = BTreeSet::new();
        Watch { servers, others, silent_since: None, is_told: false, patience: SILENT }
    }

    /// What a server says; null when none answers now. `Err`: none has answered for long.
    pub async fn look(&mut self, target: &str) -> Result<Value> {
        let failure = match self.servers.json(target).await {
            Ok(answer) => return Ok(self.heard(answer)),
            Err(failure) => failure,
        };
        if !std::mem::replace(&mut self.is_told, true) {
            eprintln!(
                "{}; {}",
                failure.message,
                match self.others.is_empty() {
                    true => "asking again",
                    false => "asking the others",
                }
            );
        }
        let others = self.others.iter().cloned().collect::<Vec<_>>().join(",");
        if let Ok(servers) = Servers::parse(&others, self.servers.timeout())
            && let Ok(answer) = servers.json(target).await
        {
            return Ok(self.heard(answer));
        }
        let since = *self.silent_since.get_or_insert_with(Instant::now);
        if since.elapsed() < self.patience {
            return Ok(Value::Null);
        }
        Err(Failure {
            kind: Kind::Failed,
            message: format!("no server has answered for {} s: {}", since.elapsed().as_secs(), failure.message),
            hint: "the change goes on without this command if its nodes run; `rondo status --server` with one that does shows \
                   how far it is"
                .to_owned(),
        })
    }

    /// Somebody answers, and may name others.
    fn heard(&mut self, answer: Value) -> Value {
        self.silent_since = None;
        let members = answer["members"].as_array().into_iter().flatten();
        let alive = members.filter(|member| member["state"] == "alive");
        let addresses = alive.filter_map(|member| member["client_address"].as_str());
        let room = OTHERS_MAX.saturating_sub(self.others.len());
        let named = |address: &&str| self.servers.list().iter().any(|server| server == address);
        let new: Vec<String> =
            addresses.filter(|address| !named(address)).take(room).map(str::to_owned).collect();
        self.others.extend(new);
        answer
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn servers(list: &str) -> Servers {
        Servers::parse(list, Duration::from_millis(200)).expect("addresses")
    }

    #[tokio::test]
    async fn when_nobody_answers_for_long_it_ends_with_an_error() {
        // Nobody listens at port 1.
        let servers = servers("127.0.0.1:1");
        let mut watch = Watch::new(&servers);
        assert_eq!(watch.look("/v1/cluster").await.ok(), Some(Value::Null), "it may come back");
        watch.patience = Duration::ZERO;
        let failure = watch.look("/v1/cluster").await.expect_err("nobody answers");
        assert!(failure.message.contains("no server has answered"), "{}", failure.message);
    }

    #[test]
    fn others_are_learnt_from_answers_and_are_few() {
        let servers = servers("127.0.0.1:1");
        let mut watch = Watch::new(&servers);
        let member = |port: usize, state: &str| json!({ "state": state, "client_address": format!("127.0.0.1:{port}") });
        let mut members: Vec<Value> = (1..100).map(|port| member(port, "alive")).collect();
        members.insert(0, member(200, "dead"));
        watch.heard(json!({ "members": members }));
        assert_eq!(watch.others.len(), OTHERS_MAX);
        assert!(!watch.others.contains("127.0.0.1:1") && !watch.others.contains("127.0.0.1:200"));
    }
}
