//! The catalogue of what can go wrong: one line a kind, and which kinds a scenario contains.
//!
//! The generator draws its faults from this table by name, so a kind that stands here is produced and one that does not
//! stand here is not. Besides faults there are kinds that hold for a whole run (losses, wrong clocks) and kinds of load,
//! which are found by looking at the operations.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use crate::scenario::{Action, Operation, Over, Scenario};

/// One kind of trouble.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    /// What it is kin to.
    pub family: &'static str,
    /// Its name, as in reports.
    pub name: &'static str,
    /// What happens.
    pub what: &'static str,
}

const fn entry(family: &'static str, name: &'static str, what: &'static str) -> Entry {
    Entry { family, name, what }
}

/// Kinds that strike as a fault of a scenario.
pub const FAULTS: &[Entry] = &[
    entry("partition", "isolate", "one node reaches nobody and nobody reaches it"),
    entry("partition", "split", "two halves do not reach each other"),
    entry("partition", "bridge", "two sides do not reach each other, one node reaches both"),
    entry("partition", "one-way", "messages pass from one side to the other and not back"),
    entry(
        "partition",
        "lasting one-way",
        "messages pass one way only, for as long as the run lasts",
    ),
    entry("partition", "ring", "each node reaches only its two neighbours"),
    entry("partition", "random links", "any set of directed links carries nothing"),
    entry("partition", "flapping", "links are cut and whole by turns"),
    entry("link", "loss burst", "some links lose many messages for a while"),
    entry("link", "duplicate burst", "messages on some links arrive twice for a while"),
    entry("link", "slow link", "all messages on some links are late by the same time"),
    entry("link", "bimodal delay", "some messages on some links are late and the others are not"),
    entry("link", "clog", "links hold all messages, then deliver them at once"),
    entry(
        "link",
        "held messages",
        "links hold the messages of one kind, then deliver them at once",
    ),
    entry("link", "corruption", "a bit of a datagram or of a stream is flipped"),
    entry("link", "reset", "what is on its way on some links is lost, and their connections break"),
    entry("link", "half-open", "connections break, and only who dialled them learns it"),
    entry("link", "refused connections", "links carry datagrams and no connection"),
    entry("process", "kill", "a process ends at once; its files are as it left them"),
    entry("process", "crash loop", "a process is killed again soon after each start"),
    entry("process", "many lives", "a process is killed again and again, some dozens of times"),
    entry("process", "restart", "a process is asked to stop, and started again"),
    entry("process", "another address", "a process ends, and is started at another address"),
    entry("process", "pause", "a process does not run for up to some seconds"),
    entry("process", "long pause", "a process does not run for 10 to 30 s"),
    entry("process", "slow cpu", "a process gets a turn only every some milliseconds"),
    entry("power", "power loss", "a node loses all that was not synced"),
    entry("power", "power loss with a prefix", "what was not synced is kept up to some operation"),
    entry("power", "power loss with a subset", "each unsynced operation is kept, lost or torn"),
    entry("power", "torn sectors", "only some sectors of each unsynced write are kept"),
    entry("power", "torn pages", "only some pages of 4 KiB of each unsynced write are kept"),
    entry(
        "power",
        "lost names",
        "files created, renamed or removed without a directory sync are not",
    ),
    entry("power", "lost growth", "files are as long as at their last sync"),
    entry("power", "correlated power loss", "several nodes lose power at the same moment"),
    entry("power", "crash in recovery", "the power goes at the k-th disk operation of a start"),
    entry(
        "power",
        "crash in maintenance",
        "the power goes at the k-th disk operation of compactions, hints and removals",
    ),
    entry("disk", "slow disk", "every call of a node's disk takes longer, its syncs most"),
    entry("disk", "stalled disk", "no sync and no cold read of a node ends for a while"),
    entry("disk", "read error", "reads of a node's disk fail"),
    entry("disk", "write error", "writes to a node's disk fail"),
    entry("disk", "sync error", "a sync fails, and what it covered never becomes durable"),
    entry("disk", "rename error", "files cannot be renamed or removed"),
    entry("disk", "directory error", "directories cannot be read or synced, no file opened"),
    entry("disk", "full disk", "there is no room for any write, for a while"),
    entry("disk", "read-only disk", "nothing can be written or synced, for a while"),
    entry("disk", "short write", "a write stores a part of its bytes and fails"),
    entry("disk", "bit rot", "bits of files that were synced flip"),
    entry("disk", "misdirected write", "a block is written over another one, not where it belongs"),
    entry("disk", "misdirected read", "a read answers with bytes of another place"),
    entry(
        "disk",
        "stall in maintenance",
        "no sync ends for a while once a compaction is under way",
    ),
    entry("disk", "rot in maintenance", "bits flip while a compaction reads what they are in"),
    entry("disk", "lasting rot", "bits of data files flip, and other replicas have to repair them"),
    entry("disk", "no descriptors", "no file can be opened or made, for a while"),
    entry(
        "directory",
        "old copy",
        "a node is started on an old copy of its disk, and later on its own",
    ),
    entry("directory", "cloned directory", "a copy of a node's disk is started beside it"),
    entry("directory", "wiped node", "a node is started with an empty disk, and later on its own"),
    entry(
        "directory",
        "lost file",
        "a file goes or is cut while a node is down; later it is put back",
    ),
    entry("clock", "forward jump", "a wall clock jumps forward"),
    entry("clock", "backward jump", "a wall clock jumps backward"),
    entry("clock", "clock steps", "a wall clock is set by several small steps"),
    entry("clock", "clock freeze", "a wall clock stands still, then goes on from there"),
    entry("clock", "drift change", "a node's clocks run at another rate for a while"),
];

/// Whether a scenario contains a kind.
type IsThere = fn(&Scenario) -> bool;

/// Kinds that hold for a whole run, or are made of operations, with what shows that a scenario contains them.
const OTHERS: &[(Entry, IsThere)] = &[
    (entry("link", "loss", "any message may be lost"), |made| made.links.loss_ppm > 0),
    (entry("link", "duplicate", "any message may arrive twice"), |made| {
        made.links.duplicate_ppm > 0
    }),
    (entry("link", "reorder", "messages overtake each other"), |made| made.links.delay_mean_us > 0),
    (entry("link", "late tail", "a few messages are very late"), |made| made.links.tail_ppm > 0),
    (entry("disk", "cold reads", "reads wait for the device"), |made| made.disks.cold_ppm > 0),
    (entry("clock", "skew", "wall clocks are apart"), |made| {
        made.clocks.iter().any(|clock| clock.offset_ms != 0)
    }),
    (entry("clock", "drift", "clocks run at different rates"), |made| {
        made.clocks.iter().any(|clock| clock.drift_ppm != 0)
    }),
    (entry("load", "burst", "ten operations on one key within five milliseconds"), has_burst),
    (entry("load", "hot key", "two thirds of all operations are on one key"), has_hot_key),
    (
        entry("load", "stale contexts", "a write says that it has seen only what was first there"),
        |made| made.operations.iter().any(|op| op.action.over() == Some(Over::Stale)),
    ),
    (entry("load", "blind puts", "a write does not say what it has seen"), |made| {
        made.operations.iter().any(|op| op.action.over() == Some(Over::Blind))
    }),
    (
        entry("load", "delete and recreate", "one client deletes a key and puts it anew, in turn"),
        recreates,
    ),
    (entry("load", "large values", "values of several KiB"), |made| {
        made.operations.iter().any(|op| op.bytes >= 2 << 10)
    }),
    (entry("load", "client retries", "a client sends the same request again, elsewhere"), |made| {
        made.operations.iter().any(|op| !op.retries.is_empty())
    }),
    (entry("load", "zones and weights", "nodes in failure domains, with unequal shares"), |made| {
        !(made.cluster.zones.is_empty() && made.cluster.weights.is_empty())
    }),
    (entry("load", "foreign tokens", "a client sends the token of another key"), |made| {
        made.operations.iter().any(|op| op.action.over() == Some(Over::Foreign))
    }),
    (
        entry("load", "unusual quorums", "N up to 7, any R and W, more replicas than nodes"),
        |made| {
            let of = &made.cluster;
            u32::from(of.replicas) > of.nodes
                || of.replicas > 5
                || of.read_quorum + of.write_quorum <= of.replicas
        },
    ),
    (
        entry("load", "chains of tokens", "a client writes again with the token of its last write"),
        |made| made.operations.iter().any(|op| op.action.over() == Some(Over::Own)),
    ),
    (entry("load", "huge values", "values of 100 KiB to 1 MiB"), |made| {
        made.operations.iter().any(|op| op.bytes >= 100 << 10)
    }),
    (
        entry(
            "load",
            "many siblings",
            "more writes that overwrite nothing than a key has room for",
        ),
        |made| {
            let blank = |op: &&Operation| op.action.over() == Some(Over::Nothing);
            (0..made.keys()).any(|key| of_key(made, key).filter(blank).count() > 55)
        },
    ),
    (entry("load", "ids used again", "a put bears the request id of an earlier write"), |made| {
        made.operations.iter().any(|op| op.same_id_as.is_some())
    }),
    (entry("load", "attempts that change", "a later attempt asks for something else"), |made| {
        made.operations.iter().any(|op| op.retries.iter().any(|retry| retry.change.is_some()))
    }),
    (
        entry("load", "attempts without a first", "the first attempt that is sent is a later one"),
        |made| made.operations.iter().any(|op| op.attempt > 1),
    ),
    (entry("load", "client vanishes", "a client is gone before it has its answer"), |made| {
        made.operations.iter().any(|op| op.vanishes_ms > 0)
    }),
];

/// All kinds, by family.
#[must_use]
pub fn all() -> Vec<Entry> {
    let mut all: Vec<Entry> = FAULTS.to_vec();
    all.extend(OTHERS.iter().map(|(entry, _)| *entry));
    // The sort is stable: within a family the table's order stays.
    all.sort_by_key(|entry| entry.family);
    all
}

/// The kinds that a scenario contains.
#[must_use]
pub fn kinds(scenario: &Scenario) -> BTreeSet<&str> {
    let others = OTHERS.iter().filter(|(_, is_there)| is_there(scenario));
    let faults = scenario.faults.iter().map(crate::scenario::Fault::name);
    faults.chain(others.map(|(entry, _)| entry.name)).collect()
}

/// The catalogue as text, one line a kind.
#[must_use]
pub fn text() -> String {
    let mut text = String::new();
    for Entry { family, name, what } in all() {
        let _ = writeln!(text, "{family:<10} {name:<24} {what}");
    }
    let _ = writeln!(text, "{} kinds", all().len());
    text
}

fn has_burst(made: &Scenario) -> bool {
    (0..made.keys()).any(|key| {
        let times: Vec<u64> = of_key(made, key).map(|op| op.at_us).collect();
        times.windows(10).any(|ten| ten[9] - ten[0] <= 5_000)
    })
}

fn has_hot_key(made: &Scenario) -> bool {
    (0..made.keys()).any(|key| of_key(made, key).count() * 3 >= made.operations.len() * 2)
        && made.keys() > 1
}

fn recreates(made: &Scenario) -> bool {
    made.operations.iter().any(|op| {
        let mut next =
            of_key(made, op.key).filter(|next| next.client == op.client && next.at_us > op.at_us);
        matches!(op.action, Action::Delete { .. })
            && next.next().is_some_and(|next| matches!(next.action, Action::Put { .. }))
    })
}

fn of_key(made: &Scenario, key: u32) -> impl Iterator<Item = &Operation> {
    made.operations.iter().filter(move |op| op.key == key)
}

#[cfg(test)]
mod tests {
    use crate::generator;

    use super::*;

    #[test]
    fn every_kind_is_generated_and_every_generated_kind_is_listed() {
        let mut seen: BTreeSet<String> = BTreeSet::new();
        for seed in 0..600 {
            seen.extend(kinds(&generator::scenario(seed)).into_iter().map(str::to_owned));
        }
        let listed: BTreeSet<String> = all().iter().map(|entry| entry.name.to_owned()).collect();
        assert_eq!(listed.len(), all().len(), "a name stands twice");
        assert_eq!(seen, listed);
        assert!(FAULTS.len() >= 35, "{}", FAULTS.len());
    }
}
