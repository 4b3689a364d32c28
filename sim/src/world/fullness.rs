//! What a node holds in memory while the run goes on: asked of it with each client call, where values are so large that a bound
//! could be reached.
//!
//! The node is asked behind the call, which wakes it anyway, so that nothing is hidden that waits for a lost alarm. Left out:
//! bytes that the product charges to no budget at all, which tests of real processes measure (`node/tests`).

use rondo_core::budget::Gauge;
use rondo_core::config::MESSAGE_BYTES_MAX;
use rondo_core::inbox::Ask;
use rondo_core::status::{MemoryStatus, Status};

use crate::history::{Breach, Promise};
use crate::world::Shared;
use crate::world::witness;

/// Answers that a node takes in whether there is room or not: it has asked for them.
const ANSWERS: usize = 8;

/// Asks a node how full it is.
pub fn look(shared: &Shared, node: u32) {
    let (inbox, epoch) = {
        let world = shared.lock();
        let machine = &world.nodes[node as usize];
        (machine.process.inbox.clone(), machine.process.epoch)
    };
    let back = shared.clone();
    let sink = Box::new(move |status: Status| {
        let mut world = back.lock();
        let Some(what) = too_full(&status.memory) else {
            return;
        };
        let told = |breach: &Breach| breach.node == node && breach.of == Promise::Ceiling;
        if world.nodes[node as usize].process.epoch == epoch
            && !world.history.breaches.iter().any(told)
        {
            witness::breach(&mut world, node, Promise::Ceiling, what);
        }
    });
    if let Some(inbox) = inbox {
        inbox.ask(Ask::Status(sink));
    }
}

/// What is too full: a source beyond its own budget and what it may take without asking, or all of them beyond the ceiling.
fn too_full(memory: &MemoryStatus) -> Option<String> {
    let MemoryStatus { max, clients, arriving, leaving, held, parked, in_flight, owed } = *memory;
    let sources: [(&str, Gauge, usize); 7] = [
        ("clients", clients, 1),
        ("arriving", arriving, ANSWERS),
        ("leaving", leaving, 1),
        ("held", held, 1),
        ("parked", parked, 1),
        ("in flight", in_flight, 1),
        ("owed", owed, 0),
    ];
    for (name, gauge, forced) in sources {
        if gauge.peak > gauge.max + forced * MESSAGE_BYTES_MAX {
            return Some(format!("{name}: it held {} of {} bytes", gauge.peak, gauge.max));
        }
    }
    let used: usize = sources.iter().map(|(_, gauge, _)| gauge.used).sum();
    (used > max).then(|| format!("it holds {used} bytes in all, and may hold {max}"))
}

#[cfg(test)]
mod tests {
    use rondo_core::budget::Shares;

    use super::*;

    /// All sources as full as they may be.
    fn full(max: usize) -> MemoryStatus {
        let shares = Shares::of(max);
        let gauge = |max| Gauge { used: max, peak: max, max };
        MemoryStatus {
            max,
            clients: gauge(shares.clients),
            arriving: gauge(shares.arriving),
            leaving: gauge(shares.leaving),
            held: gauge(shares.held),
            parked: gauge(shares.parked),
            in_flight: gauge(shares.in_flight),
            owed: gauge(shares.owed),
        }
    }

    #[test]
    fn every_source_has_its_bound_and_all_together_have_the_ceiling() {
        let memory = full(1 << 30);
        assert_eq!(too_full(&memory), None);
        let mut more = memory;
        more.held.peak = more.held.max + MESSAGE_BYTES_MAX + 1;
        assert!(too_full(&more).expect("held").starts_with("held: it held"));
        let mut more = memory;
        more.clients.used = more.clients.max + (1 << 30) / 16 * 3 + 1;
        assert!(too_full(&more).expect("all").ends_with("may hold 1073741824"));
    }
}
