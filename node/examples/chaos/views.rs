//! What nodes say of each other: nobody of a healthy cluster is suspected under load, and after a partition that is longer than it
//! takes to be held for dead all of them see all of them again.

use std::collections::BTreeMap;
use std::io;
use std::thread;
use std::time::{Duration, Instant};

use crate::clients;
use crate::cluster::Cluster;

/// How often the nodes are asked.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// How long after a heal their views may differ.
const AGREE_WITHIN: Duration = Duration::from_secs(10);

/// The state of each node, by its name, as one of them sees it.
type View = BTreeMap<String, String>;

/// Looks until `until`. Answers each time that a node was not seen as alive.
pub(crate) fn stay_well(cluster: &Cluster, until: Instant) -> Vec<String> {
    let started = Instant::now();
    let mut told = Vec::new();
    while Instant::now() < until {
        for at in 0..cluster.len() {
            let seen = view(cluster, at).and_then(|view| all_alive(&view, cluster.len()));
            if let Err(what) = seen {
                told.push(format!("after {:.1?} n{at} says: {what}", started.elapsed()));
            }
        }
        thread::sleep(LOOK_EVERY);
    }
    told
}

/// Cuts the first nodes, fewer than half, off from the others for so long. Answers what was wrong, if anything was.
pub(crate) fn split(cluster: &Cluster, lasts: Duration) -> io::Result<Option<String>> {
    let minority = cluster.len().saturating_sub(1) / 2;
    cluster.cut_off_a_minority()?;
    thread::sleep(lasts);
    let sides = [(0, minority..cluster.len()), (cluster.len() - 1, 0..minority)];
    let is_dead =
        |view: &View, at: usize| view.get(&format!("n{at}")).is_some_and(|is| is == "dead");
    for (from, mut away) in sides {
        let view = view(cluster, from).map_err(io::Error::other)?;
        println!("after {lasts:?} n{from} sees {view:?}");
        if !away.all(|at| is_dead(&view, at)) {
            return Ok(Some(format!(
                "n{from} does not hold the other side for dead after {lasts:?}"
            )));
        }
    }
    cluster.hosts().mend()?;
    let healed = Instant::now();
    loop {
        let views = (0..cluster.len()).map(|at| view(cluster, at));
        let wrong = views.map(|view| all_alive(&view?, cluster.len())).find_map(Result::err);
        match wrong {
            None => break,
            Some(what) if healed.elapsed() > AGREE_WITHIN => {
                return Ok(Some(format!("{AGREE_WITHIN:?} after the heal: {what}")));
            }
            Some(_) => thread::sleep(LOOK_EVERY / 5),
        }
    }
    println!("all nodes see all nodes {:.1?} after the heal", healed.elapsed());
    Ok(None)
}

/// Whether a node has a role in the layout that another one serves; `None` while that one does not say, or a change goes on.
pub(crate) fn has_role(cluster: &Cluster, at: usize, name: &str) -> Option<bool> {
    let address = &cluster.addresses()[at];
    let (_, body) = clients::ask(address, "GET /v1/cluster", "", b"").ok()?;
    let body: serde_json::Value = serde_json::from_slice(&body).ok()?;
    let is_it = |node: &&serde_json::Value| node["name"] == name && node["in_layout"] == true;
    let has = body["members"].as_array()?.iter().any(|node| is_it(&node));
    (body["settled"] == true).then_some(has)
}

/// Waits until all copies are equal; answers what is not after `within` of `since`.
pub(crate) fn become_equal(
    cluster: &Cluster,
    since: Instant,
    within: Duration,
) -> io::Result<Option<String>> {
    loop {
        match cluster.differ()? {
            None => break,
            Some(what) if since.elapsed() > within => {
                return Ok(Some(format!("{within:?} after the last fault {what}")));
            }
            Some(_) => thread::sleep(LOOK_EVERY / 5),
        }
    }
    println!("all copies are equal {:.1?} after the last fault", since.elapsed());
    Ok(None)
}

/// How a node sees all of them.
fn view(cluster: &Cluster, at: usize) -> Result<View, String> {
    let address = &cluster.addresses()[at];
    let (status, body) = clients::ask(address, "GET /v1/status", "", b"")
        .map_err(|_| format!("n{at} does not answer"))?;
    let body: serde_json::Value = serde_json::from_slice(&body)
        .map_err(|error| format!("n{at} answers {status}: {error}"))?;
    let nodes = body["members"].as_array().ok_or_else(|| format!("n{at} names no nodes"))?;
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    Ok(nodes.iter().map(|node| (text(&node["name"]), text(&node["state"]))).collect())
}

fn all_alive(view: &View, count: usize) -> Result<(), String> {
    if view.len() != count {
        return Err(format!("{} nodes are known: {view:?}", view.len()));
    }
    match view.iter().find(|(_, state)| *state != "alive") {
        Some((name, state)) => Err(format!("{name} is {state}")),
        None => Ok(()),
    }
}
