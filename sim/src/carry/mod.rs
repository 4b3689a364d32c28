//! What carries messages between nodes: the simulated network, and streams of bytes for the product's own links.
//!
//! Everything here is a machine that is told the time and handed its luck; none of it knows the world or a node. How a node gets at
//! it is in `node` (`port`, `wire`).

pub mod driver;

pub mod executor;

pub mod alarms;

pub mod net;

pub mod streams;

pub mod ledger;

use std::collections::BTreeMap;

use crate::carry::alarms::Alarms;
use crate::carry::driver::Driver;
use crate::carry::ledger::Ledger;
use crate::carry::net::Net;
use crate::carry::streams::Streams;
use crate::fault::{Said, Trigger};
use crate::scenario::Scenario;

/// All that carries the messages of one run.
pub struct Carry {
    /// What carries messages.
    pub driver: Driver,
    /// The links.
    pub net: Net,
    /// The connections, where links are simulated.
    pub streams: Streams,
    /// Messages that these links have been given.
    pub ledger: Ledger,
    /// What these links wait for.
    pub alarms: Alarms,
    /// Messages counted for the triggers that wait for one.
    pub messages: BTreeMap<(Said, u32, u32), u64>,
    /// Whether a fault waits for a message.
    pub listens: bool,
}

impl Carry {
    /// Nothing is on its way yet.
    #[must_use]
    pub fn new(scenario: &Scenario, driver: Driver) -> Carry {
        let waits = |when: Trigger| matches!(when, Trigger::OnMessage { .. });
        Carry {
            driver,
            net: Net::new(scenario.links.clone()),
            streams: Streams::new(scenario.hosts()),
            ledger: Ledger::default(),
            alarms: Alarms::default(),
            messages: BTreeMap::new(),
            listens: scenario.faults.iter().any(|fault| waits(fault.when)),
        }
    }
}
