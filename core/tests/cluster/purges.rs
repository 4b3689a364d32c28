//! The law of purges: what is written, deleted and purged leaves nothing that grows, however often.

use rondo_core::config::NodeConfig;
use rondo_core::engine::Engine;
use rondo_core::replica::tree_row::TREES;
use rondo_core::wire::client::Action;

use crate::request::request;
use crate::stage::{Stage, put, usual};

/// How often the key is written and deleted when nobody says otherwise.
const TIMES: usize = 100;
/// What a larger number in a clock may take more, over all records of a node.
const NUMBERS_BYTES: usize = 128;

/// How many records a node's store has under clients' keys, and in all, and the bytes of these. Without trees, each of which is stored
/// some time and has its size.
fn stored(stage: &mut Stage, node: usize) -> (usize, usize, usize) {
    let page = stage.engine(node).scan_from(&[], 1_000, 1 << 20).expect("memory");
    assert!(page.next.is_none(), "there are few records");
    let records = || page.records.iter().filter(|(key, _)| !key.starts_with(TREES));
    let clients = records().filter(|(key, _)| key.first() == Some(&1)).count();
    let bytes = records().map(|(key, one)| key.len() + one.head.len() + one.body.len());
    (clients, records().count(), bytes.sum())
}

/// `RONDO_TEST_PURGES` says how often.
#[test]
#[expect(
    clippy::disallowed_methods,
    reason = "how long a campaign takes is for who runs it to say"
)]
fn a_key_that_is_written_deleted_and_purged_again_and_again_leaves_nothing_that_grows() {
    let times = std::env::var("RONDO_TEST_PURGES").ok().and_then(|times| times.parse().ok());
    let times: usize = times.unwrap_or(TIMES);
    let config = NodeConfig { grace_ms: 1_000, ..usual(3) };
    let mut stage = Stage::formed_with(3, config);
    stage.gossip_off = false;
    let mut early = Vec::new();
    for n in 1..=times {
        let (writes, deletes) = (1 + n % 3, 1 + (n + 1) % 3);
        let clock = stage.stored(writes, put("x")).clock;
        assert!(clock.entries().len() <= 3, "round {n}: as many actors as owners: {clock:?}");
        stage.stored(deletes, request(Action::Delete { context: None }));
        let is_purged = |stage: &mut Stage| (1..=3).all(|node| stored(stage, node).0 == 0);
        let waits = (0..40).take_while(|_| {
            stage.pass(100);
            !is_purged(&mut stage)
        });
        let waits = waits.count();
        assert!(waits < 40, "round {n}: it is purged within four seconds");
        stage.transcript();
        if n == times.min(10) {
            early = (1..=3).map(|node| stored(&mut stage, node)).collect();
        }
    }
    for (node, (_, records, bytes)) in (1..=3).zip(early) {
        let (_, records_now, bytes_now) = stored(&mut stage, node);
        assert_eq!(records_now, records, "n{node}");
        assert!(bytes_now <= bytes + NUMBERS_BYTES, "n{node}: {bytes_now} bytes after {bytes}");
        let purges = stage.status(node).purges;
        assert_eq!((purges.unfinished, purges.quarantined), (0, 0), "n{node}");
    }
}
