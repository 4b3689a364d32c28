//! From a seed to a scenario, and nothing else.

use crate::scenario::{Cluster, Disks, EngineName, Links, Scenario, Shape, Skew, VERSION};

/// The scenario of a seed.
#[must_use]
pub fn scenario(seed: u64) -> Scenario {
    Scenario {
        version: VERSION,
        story: "an empty workload".to_owned(),
        seed,
        cluster: Cluster {
            nodes: 3,
            replicas: 3,
            read_quorum: 2,
            write_quorum: 2,
            partitions: 8,
            engine: EngineName::Memory,
            deadline_ms: 1_000,
            hedge_ms: 50,
            resend_ms: 100,
            heartbeat_ms: 200,
            dead_ms: 1_000,
        },
        links: Links {
            shape: Shape::Exponential,
            delay_min_us: 100,
            delay_mean_us: 1_000,
            loss_ppm: 10_000,
            duplicate_ppm: 0,
            tail_ppm: 1_000,
            tail_ms: 50,
        },
        disks: Disks { sync_min_us: 100, sync_max_us: 3_000, cold_ppm: 0 },
        clocks: vec![Skew { offset_ms: 0, drift_ppm: 0 }; 3],
        operations: Vec::new(),
        faults: Vec::new(),
        heal_at_ms: 5_000,
    }
}
