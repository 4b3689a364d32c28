//! What the log tells of a node's readiness: what it waits for, when it is ready, and each loss and return of a quorum
//! in one line.

use std::sync::Arc;
use std::time::Duration;

use rondo_core::status::Status;
use tokio::time::Instant;

use crate::http::front::Front;

/// How often to look.
const LOOK: Duration = Duration::from_millis(100);

/// Tells it until the node ends.
pub async fn watch(front: Arc<Front>) {
    let mut said = Said::default();
    let start = Instant::now();
    while let Ok(status) = front.status().await {
        if front.is_stopping() {
            return;
        }
        match said.next(&status, start.elapsed()) {
            Some(Line::Good(line)) => tracing::info!("{line}"),
            Some(Line::Bad(line)) => tracing::warn!("{line}"),
            None => {}
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// A line of the log.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Line {
    Good(String),
    Bad(String),
}

/// What a node that has been ready is without.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Lost {
    /// The quorum of some partitions.
    Quorum,
    /// What it says itself that it waits for.
    Readiness,
}

/// What was told last.
#[derive(Debug, Default)]
struct Said {
    /// Whether the node has been ready.
    was_ready: bool,
    waiting: Vec<String>,
    /// Since when it is not ready, or partitions lack a quorum, and whether it is the one or the other.
    lost: Option<(Duration, Lost)>,
}

impl Said {
    /// The line that is due at this time since the start, if any.
    fn next(&mut self, status: &Status, now: Duration) -> Option<Line> {
        if !self.was_ready {
            return self.before(status);
        }
        let served = status.served?;
        let missing = served.lacking();
        match (self.lost, missing > 0 || !status.ready) {
            (None, true) => {
                let (lost, line) = match missing {
                    0 => (Lost::Readiness, format!("not ready: {}", status.waiting.join("; "))),
                    _ => {
                        let part = format!("{missing} of {} partitions", served.partitions);
                        (Lost::Quorum, format!("the quorum of {part} is lost{}", away(status)))
                    }
                };
                self.lost = Some((now, lost));
                Some(Line::Bad(line))
            }
            (Some((since, lost)), false) => {
                self.lost = None;
                let seconds = now.saturating_sub(since).as_secs_f64();
                let what = match lost {
                    Lost::Quorum => "the quorum is back",
                    Lost::Readiness => "ready again",
                };
                Some(Line::Good(format!("{what} after {seconds:.1} s")))
            }
            _ => None,
        }
    }

    fn before(&mut self, status: &Status) -> Option<Line> {
        if let (true, Some(layout)) = (status.ready, &status.layout) {
            self.was_ready = true;
            let (nodes, q) = (layout.roles.len(), layout.quorums);
            let nodes = if nodes == 1 { "1 node".to_owned() } else { format!("{nodes} nodes") };
            let version = layout.version;
            return Some(Line::Good(format!(
                "ready: layout {version} of {nodes}, N={} R={} W={}",
                q.n, q.r, q.w
            )));
        }
        if status.waiting == self.waiting {
            return None;
        }
        self.waiting.clone_from(&status.waiting);
        Some(Line::Good(format!("not ready: {}", status.waiting.join("; "))))
    }
}

/// The nodes of the layout that are not reached, in words.
fn away(status: &Status) -> String {
    let owners = status.members.iter().filter(|member| member.in_layout);
    let away = owners.filter(|member| member.state != "alive");
    let names: Vec<_> = away.map(|member| member.name.as_str()).collect();
    if names.is_empty() { String::new() } else { format!(": not reached: {}", names.join(", ")) }
}

#[cfg(test)]
mod tests {
    use rondo_core::engine::EngineStats;
    use rondo_core::layout::Quorums;
    use rondo_core::status::{
        ChangeStatus, Counters, HintStatus, LayoutStatus, MemberStatus, MemoryStatus, Served,
        TransferStatus,
    };

    use super::*;

    fn status(alive: &[(&str, bool)], quorum: u64) -> Status {
        let quorums = Quorums { n: 3, r: 2, w: 2 };
        let member = |(name, alive): &(&str, bool)| MemberStatus {
            node: (*name).to_owned(),
            name: (*name).to_owned(),
            peer_address: String::new(),
            client_address: String::new(),
            state: if *alive { "alive" } else { "dead" },
            last_heard_ms: None,
            durable: None,
            me: false,
            in_layout: true,
            role: "member",
        };
        Status {
            barred: None,
            denied: false,
            troubles: Vec::new(),
            damaged_keys: 0,
            notes: Vec::new(),
            node: String::new(),
            name: String::new(),
            cluster: String::new(),
            boot: 1,
            uptime_ms: 0,
            ready: quorum > 0,
            waiting: Vec::new(),
            layout: Some(LayoutStatus {
                version: 1,
                digest: String::new(),
                partitions: 8,
                quorums,
                wanted: quorums,
                roles: Vec::new(),
                owners: Vec::new(),
                keyspaces: Vec::new(),
            }),
            change: ChangeStatus::default(),
            transfers: TransferStatus::default(),
            hints: HintStatus::default(),
            repairs: rondo_core::status::RepairStatus::default(),
            purges: Default::default(),
            members: alive.iter().map(member).collect(),
            served: Some(Served { partitions: 8, quorum, whole: 0 }),
            keys: 0,
            deleted_keys: 0,
            engine: EngineStats::default(),
            counters: Counters::default(),
            in_flight: 0,
            memory: MemoryStatus::default(),
            clock_ahead_ms: 0,
        }
    }

    #[test]
    fn losing_and_regaining_a_quorum_is_one_line_each() {
        let whole = status(&[("a", true), ("b", true)], 8);
        let forming =
            Status { ready: false, layout: None, waiting: vec!["b".to_owned()], ..whole.clone() };
        let part = status(&[("a", true), ("b", false)], 5);
        let gone = status(&[("a", false), ("b", false)], 0);
        let waiting = vec!["a sync has been running for 2 s".to_owned()];
        let stalled = Status { ready: false, waiting, ..whole.clone() };
        let story = [
            &forming, &forming, &whole, &whole, &part, &gone, &gone, &part, &whole, &whole,
            &stalled, &stalled, &whole, &gone,
        ];
        let mut said = Said::default();
        let lines: Vec<_> = (0..)
            .zip(story)
            .filter_map(|(second, status)| said.next(status, Duration::from_secs(second)))
            .collect();
        let good = |line: &str| Line::Good(line.to_owned());
        let bad = |line: &str| Line::Bad(line.to_owned());
        assert_eq!(
            lines,
            [
                good("not ready: b"),
                good("ready: layout 1 of 0 nodes, N=3 R=2 W=2"),
                bad("the quorum of 3 of 8 partitions is lost: not reached: b"),
                good("the quorum is back after 4.0 s"),
                bad("not ready: a sync has been running for 2 s"),
                good("ready again after 2.0 s"),
                bad("the quorum of 8 of 8 partitions is lost: not reached: a, b"),
            ]
        );
    }
}
