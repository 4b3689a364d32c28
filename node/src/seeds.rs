//! Seeds: a seed's peer address or its HTTP address works.
//!
//! Datagrams go to every seed as it was given. Who does not answer may be an HTTP address: it is asked for
//! `/v1/cluster`, and the peer address that it names becomes a seed too. That goes on, ever more rarely, until the node
//! is ready. A peer port that is asked over HTTP closes the connection, and nothing else happens.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use hyper::Method;
use rondo_core::env::Address;
use rondo_core::inbox::Inbox;
use serde_json::Value;

use crate::client::{Ask, Connection};
use crate::http::front::Front;
use crate::settings::{PEER_PORT, join_port, split_port};

/// How long peers have to answer datagrams before a seed is asked over HTTP.
const FIRST_WAIT: Duration = Duration::from_millis(700);
/// The longest pause between two rounds.
const LONGEST_WAIT: Duration = Duration::from_secs(15);
/// How long a seed may take to answer.
const PATIENCE: Duration = Duration::from_secs(2);
/// The longest answer that is read, in bytes.
const ANSWER_BYTES_MAX: usize = 1 << 20;

/// The seeds as peer addresses: one without a port has the usual one.
#[must_use]
pub fn peer_addresses(seeds: &[String]) -> Vec<Address> {
    let address = |seed: &String| match split_port(seed) {
        Some((host, port)) => Address(join_port(host, port.unwrap_or(PEER_PORT))),
        None => Address(seed.clone()),
    };
    seeds.iter().map(address).collect()
}

/// Looks behind HTTP addresses until the node is ready.
pub async fn look_behind_http(seeds: Vec<String>, inbox: Inbox, front: Arc<Front>) {
    let mut wait = FIRST_WAIT;
    let mut said = BTreeSet::new();
    loop {
        tokio::time::sleep(wait).await;
        match front.status().await {
            Ok(status) if status.ready => return,
            Ok(_) => {}
            Err(_) => return,
        }
        for Address(seed) in peer_addresses(&seeds) {
            let found = tokio::time::timeout(PATIENCE, tokio::net::lookup_host(&seed)).await;
            if !matches!(found, Ok(Ok(_))) && said.insert(seed.clone()) {
                tracing::warn!(
                    seed,
                    "the seed does not resolve: look at its name in --seeds; trying on"
                );
            }
        }
        for seed in seeds.iter().filter(|seed| matches!(split_port(seed), Some((_, Some(_))))) {
            if let Some(peer) = peer_address(seed).await {
                tracing::debug!(seed, peer, "the seed is an HTTP address");
                inbox.seed(Address(peer));
            }
        }
        wait = (wait * 2).min(LONGEST_WAIT);
    }
}

/// The peer address of the node whose HTTP address this is.
async fn peer_address(http: &str) -> Option<String> {
    let ask = Ask::new(Method::GET, "/v1/cluster");
    let answer = tokio::time::timeout(PATIENCE, async {
        Connection::open(http).await.ok()?.ask(&ask, ANSWER_BYTES_MAX).await.ok()
    });
    let cluster: Value = serde_json::from_slice(&answer.await.ok()??.body).ok()?;
    let me = cluster["members"].as_array()?.iter().find(|member| member["me"] == true)?;
    let address = me["peer_address"].as_str()?;
    split_port(address).map(|_| address.to_owned())
}
