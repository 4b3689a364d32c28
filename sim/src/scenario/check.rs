//! Whether a scenario keeps its bounds and speaks of what is there, so that no run has to ask.

use rondo_core::probe::Buggify;

use crate::fault::Kind;
use crate::scenario::{
    Action, Away, Cluster, HEAL_AT_MS_MAX, ITEMS_MAX, NODES_MAX, Operation, Outside, Scenario,
    Skew, VALUE_BYTES_MAX, VERSION,
};

impl Scenario {
    /// Whether the scenario keeps its bounds and speaks of nodes that exist.
    pub fn check(&self) -> Result<(), String> {
        let Cluster { nodes, replicas, partitions, .. } = self.cluster;
        let known = |node: u32| node < nodes;
        let says = |holds: bool, what: &str| if holds { Ok(()) } else { Err(what.to_owned()) };
        says(self.version == VERSION, "the scenario has another version than this program")?;
        says((1..=NODES_MAX).contains(&nodes), "a cluster has 1 to 7 nodes")?;
        says(replicas >= 1, "a key has at least one replica")?;
        says(partitions.is_power_of_two(), "partitions are a power of two")?;
        says(self.clocks.len() == nodes as usize, "there is one clock for each node")?;
        says(self.heal_at_ms <= HEAL_AT_MS_MAX, "heal_at_ms is too late")?;
        says(self.disks.sync_min_us <= self.disks.sync_max_us, "the shortest sync is the longest")?;
        says((2..=1_024).contains(&self.disks.file_kib), "the engine's files have 2 to 1,024 KiB")?;
        let in_order = self.operations.is_sorted_by_key(|op| op.at_us);
        says(in_order, "operations stand in order of time")?;
        says(self.operations.len().max(self.faults.len()) <= ITEMS_MAX, "there is too much to do")?;
        let drift_ok = |skew: &Skew| skew.drift_ppm.abs() <= 100_000;
        says(self.clocks.iter().all(drift_ok), "drift is at most 100,000 ppm")?;
        let nodes_ok =
            |op: &Operation| known(op.node) && op.retries.iter().all(|retry| known(retry.node));
        says(self.operations.iter().all(nodes_ok), "an operation asks a node that is not there")?;
        says(
            self.operations.iter().all(|op| op.named || op.retries.is_empty()),
            "only named requests are tried again",
        )?;
        says(
            self.faults.iter().all(|fault| fault.nodes().into_iter().all(known)),
            "a fault strikes a node that is not there",
        )?;
        let bytes_ok = self.operations.iter().all(|op| op.bytes <= VALUE_BYTES_MAX);
        says(bytes_ok, "a value is longer than 1 MiB")?;
        self.check_names()?;
        self.cluster.check()?;
        let count = self.faults.len();
        self.faults.iter().enumerate().try_for_each(|(at, fault)| fault.check(at, count))?;
        let site = |name: &String| Buggify::SITES.iter().any(|site| site.name == name);
        says(
            self.buggify.iter().all(site),
            "buggify names a site that this program does not have: take it out",
        )?;
        self.check_outside()?;
        self.check_later()?;
        let ends = self.faults.iter().any(|fault| fault.ends_a_process())
            || self.outside.as_ref().is_some_and(|outside| outside.how == Away::Killed);
        says(
            self.cluster.engine.keeps() || !ends,
            "the memory engine keeps nothing, so no fault may end a process",
        )
    }

    /// Whether requests are named as they may be.
    fn check_names(&self) -> Result<(), String> {
        let says = |holds: bool, what: &str| if holds { Ok(()) } else { Err(what.to_owned()) };
        for (at, op) in self.operations.iter().enumerate() {
            says(op.attempt >= 1, "attempts are numbered from 1")?;
            says(op.named || op.attempt == 1, "only a named request has a later attempt")?;
            let is_put = matches!(op.action, Action::Put { .. });
            if let Some(earlier) = op.same_id_as {
                let first = self.operations.get(earlier).filter(|_| earlier < at);
                let is_name =
                    first.is_some_and(|first| first.named && first.action.over().is_some());
                says(is_name, "an id is used again that no named write had before")?;
                says(
                    op.named && op.attempt == 1,
                    "who uses an id again makes a new request of it",
                )?;
                says(is_put, "only a put may use an id again")?;
            }
        }
        Ok(())
    }

    /// Whether who comes and goes is there to do so.
    fn check_later(&self) -> Result<(), String> {
        let says = |holds: bool, what: &str| if holds { Ok(()) } else { Err(what.to_owned()) };
        let cluster = &self.cluster;
        let is_later = |node: u32| node >= cluster.founders();
        for fault in &self.faults {
            match &fault.what {
                Kind::Join(of) => says(is_later(of.node), "only who comes later joins")?,
                Kind::Reuse(of) => {
                    says(is_later(of.node), "only who comes later uses a name again")?
                }
                Kind::Replace(of) => {
                    let has_name =
                        is_later(of.to) && cluster.named(of.to) == cluster.named(of.node);
                    says(has_name, "who takes a node's place comes later and has its name")?;
                }
                _ => {}
            }
        }
        says(self.outside.is_none() || !self.is_reshaped(), "nobody is outside while nodes change")
    }

    fn check_outside(&self) -> Result<(), String> {
        let Some(Outside { nodes, .. }) = &self.outside else {
            return Ok(());
        };
        let mut known = nodes.clone();
        known.sort_unstable();
        known.dedup();
        let is_known = known.len() == nodes.len() && nodes.iter().all(|&n| n < self.cluster.nodes);
        match (1..=self.cluster.spare()).contains(&(nodes.len() as u32)) && is_known {
            true => Ok(()),
            false => {
                Err("the nodes outside are some, are there, and leave every quorum".to_owned())
            }
        }
    }
}
