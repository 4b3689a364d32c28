//! Before a member is given up or leaves: whether it still runs.
//!
//! A layout waits for its nodes, but for those that are silent when it is committed. A node that was killed a moment ago still counts
//! as heard, and a layout that was made then waits for it until somebody says otherwise. So a command that is about to commit waits
//! until each node that goes has been heard again, or is silent. That takes about as long as a heartbeat, or the time after which
//! a node is silent.

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::client::Servers;

/// By then every node is one or the other.
const PATIENCE: Duration = Duration::from_secs(5);
/// A wait that takes longer than this is told.
const TOLD_AFTER: Duration = Duration::from_millis(500);
/// How often to look.
const LOOK: Duration = Duration::from_millis(50);

/// Waits until it is known of each of these, by name or by the beginning of an id, whether it runs.
pub async fn known(servers: &Servers, nodes: &[String]) {
    let began = Instant::now();
    let mut is_told = false;
    while !nodes.is_empty() && began.elapsed() < PATIENCE {
        let asked = began.elapsed();
        // Where nobody answers, the request that comes next says so.
        let Ok(cluster) = servers.json("/v1/cluster").await else { return };
        let Some(open) = unknown(&cluster, nodes, asked) else { return };
        if asked > TOLD_AFTER && !std::mem::replace(&mut is_told, true) {
            eprintln!("waiting until {open} is heard again, or is called silent");
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// One of these of whom the server has heard nothing since it was `asked` first, and which it does not call silent.
fn unknown(cluster: &Value, nodes: &[String], asked: Duration) -> Option<String> {
    let is_meant = |member: &Value| {
        let is = |word: &String| {
            let id = member["node"].as_str().unwrap_or_default();
            member["name"] == word.as_str() || word.len() >= 4 && id.starts_with(word.as_str())
        };
        nodes.iter().any(is)
    };
    let is_open = |member: &&Value| {
        let is_heard = matches!(member["state"].as_str(), Some("alive" | "deaf" | "unlinked"));
        let heard = member["last_heard_ms"].as_u64().map(Duration::from_millis);
        is_heard && member["me"] != true && heard.is_none_or(|heard| heard >= asked)
    };
    let mut members = cluster["members"].as_array().into_iter().flatten();
    let open = members.find(|member| is_meant(member) && is_open(member))?;
    open["name"].as_str().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn who_was_heard_before_the_question_only_may_run_or_not() {
        let open = |state: &str, heard: Value, asked: u64| {
            let member =
                json!({ "name": "n2", "node": "abcdef", "state": state, "last_heard_ms": heard });
            let me = json!({ "name": "n1", "node": "n1", "state": "alive", "me": true });
            let cluster = json!({ "members": [me, member] });
            let asked = Duration::from_millis(asked);
            let by_id = unknown(&cluster, &["abcd".to_owned()], asked);
            assert_eq!(unknown(&cluster, &["n2".to_owned()], asked), by_id);
            assert_eq!(unknown(&cluster, &["n1".to_owned()], asked), None);
            by_id.is_some()
        };
        assert!(open("alive", 40.into(), 0) && open("unlinked", 300.into(), 200));
        assert!(!open("alive", 40.into(), 60), "it was heard meanwhile");
        assert!(!open("suspect", 1_200.into(), 0) && !open("dead", Value::Null, 0));
    }
}
