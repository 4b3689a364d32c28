//! Seeds: a seed's peer address or its HTTP address works.
//!
//! Datagrams go to every seed as it was given. Who does not answer may be an HTTP address: it is asked for
//! `/v1/cluster`, and the peer address that it names becomes a seed too. That goes on, ever more rarely, until the node
//! is ready. A peer port that is asked over HTTP closes the connection, and nothing else happens.
//!
//! While nobody at all is heard, people are told what is known of each seed, once for each reason.

use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use hyper::Method;
use rondo_core::env::Address;
use rondo_core::inbox::Inbox;
use rondo_core::status::Status;
use serde_json::Value;
use tokio::net::TcpStream;

use crate::client::{Ask, Connection};
use crate::http::front::Front;
use crate::settings::{PEER_PORT, join_port, reaches, split_port};

/// How long peers have to answer datagrams before a seed is asked over HTTP.
const FIRST_WAIT: Duration = Duration::from_millis(700);
/// The longest pause between two rounds.
const LONGEST_WAIT: Duration = Duration::from_secs(15);
/// How long a seed may take to answer.
const PATIENCE: Duration = Duration::from_secs(2);
/// So many addresses of one seed are looked at.
const ADDRESSES_MAX: usize = 16;
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

/// Looks behind HTTP addresses until the node is ready. `ip`: where it listens.
pub async fn look_behind_http(seeds: Vec<String>, ip: IpAddr, inbox: Inbox, front: Arc<Front>) {
    let mut wait = FIRST_WAIT;
    let mut said = BTreeSet::new();
    for round in 0_u32.. {
        tokio::time::sleep(wait).await;
        let status = match front.status().await {
            Ok(status) if !status.ready => status,
            _ => return,
        };
        for seed in seeds.iter().filter(|seed| matches!(split_port(seed), Some((_, Some(_))))) {
            if let Some(peer) = peer_address(seed).await {
                tracing::debug!(seed, peer, "the seed is an HTTP address");
                inbox.seed(Address(peer));
            }
        }
        // Who answers there is known by its address, which it may advertise in another way than it is named here.
        for Address(seed) in peer_addresses(&seeds) {
            for found in resolved(&seed).await.unwrap_or_default() {
                inbox.seed(Address(found.to_string()));
            }
        }
        // Nodes that start together have a moment to meet, and others a moment more to say why they do not.
        let nobody = round > 0 && nobody_is_met(&status);
        let unheard = nobody.then(|| (my_peer_address(&status), round > 1));
        for Address(seed) in peer_addresses(&seeds) {
            if let Some(why) = trouble(&seed, ip, unheard).await
                && said.insert((seed.clone(), why.clone()))
            {
                tracing::warn!("the seed {seed} {why}; trying on");
            }
        }
        wait = (wait * 2).min(LONGEST_WAIT);
    }
}

/// Whether no other node has been heard, and none is known that is not to be.
fn nobody_is_met(status: &Status) -> bool {
    status.notes.is_empty()
        && status.members.iter().all(|member| member.me || member.last_heard_ms.is_none())
}

fn my_peer_address(status: &Status) -> &str {
    let me = status.members.iter().find(|member| member.me);
    me.map_or("", |member| member.peer_address.as_str())
}

/// The addresses of a seed; `None` when it does not resolve.
async fn resolved(seed: &str) -> Option<Vec<SocketAddr>> {
    let found = tokio::time::timeout(PATIENCE, tokio::net::lookup_host(seed)).await;
    Some(found.ok()?.ok()?.take(ADDRESSES_MAX).collect())
}

/// What is wrong with a seed; `unheard`, when nobody is heard: this node's own address, and whether that lasts.
async fn trouble(seed: &str, ip: IpAddr, unheard: Option<(&str, bool)>) -> Option<String> {
    let Some(found) = resolved(seed).await else {
        return Some("does not resolve: look at its name in --seeds".to_owned());
    };
    if !found.iter().any(|to| reaches(ip, to.ip())) {
        let family = if ip.is_ipv4() { "IPv4" } else { "IPv6" };
        return Some(format!(
            "resolves to {}, and this node listens on {ip}, an {family} address: give both sides addresses of one family",
            found.iter().map(|to| to.ip().to_string()).collect::<Vec<_>>().join(", ")
        ));
    }
    let (advertised, lasts) = unheard?;
    match tokio::time::timeout(PATIENCE, TcpStream::connect(&found[..])).await {
        Ok(Ok(_)) if !lasts => None,
        Ok(Ok(_)) => Some(format!(
            "takes connections, and no datagram of it comes back: nothing reaches this node at {advertised}, which it \
             advertises, or UDP is kept out between the two; look at --advertise"
        )),
        Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused => Some(
            "is an address where nobody listens: start that node, or look at --seeds".to_owned(),
        ),
        Ok(Err(error)) => Some(format!("cannot be reached: {error}")),
        Err(_) => Some("does not answer: look at its address in --seeds".to_owned()),
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
