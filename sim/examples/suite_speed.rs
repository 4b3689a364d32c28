//! How long all oracles take for a million operations: `cargo run --release -p sim --example suite_speed`.
//!
//! Sixty-four clients, each with one operation at a time, on 1,000 and on 10 keys: a client reads a key, then writes it with the
//! context it was given; one write in twenty is blind, one in fifty deletes, and of one in a hundred nobody knows
//! the outcome. A key is one version set that three actors write, and an operation takes effect at a moment inside of it, so the
//! history is right. Then it is made wrong in three ways, each of which must be found. The histories are the same in every run.

use std::collections::BTreeSet;
use std::fs;
use std::process::ExitCode;

use bytes::Bytes;
use rondo_core::id::{ActorId, RequestId};
use rondo_core::layout::keyspace::Level;
use rondo_core::version::context::Context;
use rondo_core::version::dvv::{Version, VersionSet};
use rondo_core::version::hlc::Hlc;
use rondo_sim::check::mixed;
use rondo_sim::history::{Answer, Attempt, End, Final, History, Op, Seen, Stamp, value};
use rondo_sim::oracle;
use rondo_sim::oracle::index::Index;
use rondo_sim::rt::Time;
use rondo_sim::scenario::{Action, Over};

const OPERATIONS: u64 = 1_000_000;
const CLIENTS: u64 = 64;

/// How often the history is judged while time is taken; the fastest counts.
const REPEATS: usize = 5;

fn main() -> ExitCode {
    let operations =
        std::env::args().nth(1).map_or(OPERATIONS, |text| text.parse().expect("a number"));
    let mut is_right = true;
    for keys in [1_000, 10] {
        let mut history = history(operations, keys);
        println!("{operations} operations on {keys} keys");
        is_right &= measure(&history);
        for (what, spoil) in SPOILERS {
            let before = history.clone();
            spoil(&mut history);
            let found = judge(&history, &mut Vec::new());
            println!("  {what}: found by {found:?}");
            is_right &= !found.is_empty();
            history = before;
        }
    }
    if is_right { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Prints how long everything takes; whether nothing was found.
fn measure(history: &History) -> bool {
    let mut runs = Vec::new();
    for _ in 0..REPEATS {
        let mut times = Vec::new();
        let found = judge(history, &mut times);
        if !found.is_empty() {
            println!("  wrongly found by {found:?}");
            return false;
        }
        runs.push(times);
    }
    for (at, (name, _)) in runs[0].iter().enumerate() {
        let fastest = runs.iter().map(|times| times[at].1).fold(f64::MAX, f64::min);
        println!("  {name:<16} {:>7.1} ms", fastest * 1_000.0);
    }
    true
}

/// The oracles that found something; how long each took goes into `times`.
fn judge(history: &History, times: &mut Vec<(&'static str, f64)>) -> BTreeSet<&'static str> {
    let started = spent();
    let index = Index::of(history);
    times.push(("index", spent() - started));
    let mut found = BTreeSet::new();
    for (name, oracle) in oracle::ALL {
        let since = spent();
        let wrong = oracle(&index);
        times.push((name, spent() - since));
        found.extend((!wrong.is_empty()).then_some(name));
    }
    times.push(("all", spent() - started));
    found
}

/// The seconds that this thread has spent on a processor: others may use the machine, too.
fn spent() -> f64 {
    let text = fs::read_to_string("/proc/thread-self/schedstat").expect("Linux says how long");
    let ns: u64 = text.split(' ').next().expect("a number").parse().expect("a number");
    ns as f64 / 1e9
}

/// What one operation is meant to do.
struct Plan {
    called: u64,
    effect: u64,
    ended: u64,
    client: u64,
    id: usize,
}

fn history(operations: u64, keys: u64) -> History {
    let mut luck = Luck(0);
    let mut plan: Vec<Plan> = (0..operations)
        .map(|number| {
            let (slot, client) = (10_000 * (number / CLIENTS) + 1, number % CLIENTS);
            let called = slot + luck.below(5_000);
            let effect = called + luck.below(2_500);
            let ended = effect + luck.below(2_400) + 1;
            let unique = |moment| moment * CLIENTS + client;
            let (called, effect, ended) = (unique(called), unique(effect), unique(ended));
            Plan { called, effect, ended, client, id: 0 }
        })
        .collect();
    plan.sort_by_key(|plan| plan.called);
    (0..).zip(&mut plan).for_each(|(id, plan)| plan.id = id);
    let ops = plan.iter().map(asked).collect();
    let mut history = History { ops, ..History::default() };
    plan.sort_by_key(|plan| plan.effect);
    let mut states = vec![VersionSet::default(); keys as usize];
    // What each client read last: the key and its context.
    let mut read: Vec<Option<(u32, Context)>> = vec![None; CLIENTS as usize];
    for plan in &plan {
        let read = &mut read[plan.client as usize];
        let (key, sent) = match read.take() {
            Some((key, context)) => (key, Some(context)),
            None => (luck.below(keys) as u32, None),
        };
        let state = &mut states[key as usize];
        let answer = match sent {
            None => {
                let (answer, context) = get(&history, state);
                *read = Some((key, context));
                Some(answer)
            }
            Some(context) => put(&mut history, state, plan, key, context, &mut luck),
        };
        let op = &mut history.ops[plan.id];
        op.key = key;
        op.attempts[0].end =
            answer.map(|answer| End { stamp: Stamp(plan.ended), at: Time(plan.ended), answer });
    }
    for (key, state) in (0..).zip(states) {
        history.ends.read.extend((0..3).map(|node| Final { key, node, state: state.clone() }));
    }
    history
}

fn asked(plan: &Plan) -> Op {
    let attempt = Attempt {
        node: 0,
        change: None,
        called: Stamp(plan.called),
        called_at: Time(plan.called),
        due: None,
        end: None,
    };
    Op {
        client: plan.client as u32,
        key: 0,
        level: Level::Quorum,
        action: Action::Get,
        request: RequestId(mixed(plan.id as u128 | 1 << 90)),
        first_attempt: 1,
        value: Bytes::new(),
        sent: None,
        attempts: vec![attempt],
    }
}

fn get(history: &History, state: &VersionSet) -> (Answer, Context) {
    let context = Context { clock: state.clock(), highest: state.highest_hlc() };
    let mut versions: Vec<&Version> = state.versions().map(|(_, version)| version).collect();
    versions.sort_by_key(|version| std::cmp::Reverse(version.hlc));
    let known = context.clone();
    if versions.first().is_none_or(|newest| newest.tombstone) {
        return (Answer::NotFound { values: Vec::new(), context }, known);
    }
    let values = versions.into_iter().filter(|version| !version.tombstone).map(|version| {
        // A value begins with the number of the operation that wrote it.
        let id = std::str::from_utf8(&version.value).expect("text").split('.').next();
        let id: usize = id.expect("a number").parse().expect("a number");
        assert_eq!(history.ops[id].value, version.value);
        Seen { op: Some(id), version: version.hlc }
    });
    (Answer::Found { values: values.collect(), context }, known)
}

fn put(
    history: &mut History,
    state: &mut VersionSet,
    plan: &Plan,
    key: u32,
    context: Context,
    luck: &mut Luck,
) -> Option<Answer> {
    let (is_blind, deletes) = (luck.below(20) == 0, luck.below(50) == 0);
    let (is_unknown, happens) = (luck.below(100) == 0, luck.below(2) == 0);
    let over = if is_blind { Over::Blind } else { Over::Last };
    let op = &mut history.ops[plan.id];
    op.action = if deletes { Action::Delete { over } } else { Action::put(over) };
    op.value = if deletes { Bytes::new() } else { value(plan.id, op.client, 16) };
    op.sent = (!is_blind).then(|| context.clone());
    if is_unknown && !happens {
        return None;
    }
    let (hlc, request, value) = (Hlc(plan.effect), op.request, op.value.clone());
    let version = match deletes {
        true => Version::tombstone(hlc, request),
        false => Version::value(hlc, request, Bytes::new(), value),
    };
    let covers = if is_blind { state.clock() } else { context.clock };
    state.discard(&covers);
    let dot = state.event(ActorId(luck.below(3) + 1), 0, version);
    let only = VersionSet::from_entries(
        state
            .entries()
            .iter()
            .filter(|entry| entry.actor == dot.actor)
            .map(|entry| {
                let mut entry = entry.clone();
                entry.versions.truncate(1);
                entry
            })
            .collect(),
    );
    history
        .sight(key, &only.expect("sorted"), (0, Stamp(plan.effect)), || "stored by n0".to_owned());
    let clock = state.known_to_writer(&covers, dot);
    let context = Context { clock, highest: hlc };
    let answer = Answer::Stored { context, version: hlc, by: Default::default() };
    (!is_unknown).then_some(answer)
}

type Spoiler = (&'static str, fn(&mut History));

const SPOILERS: [Spoiler; 4] = [
    ("a stale read", stale_read),
    ("a write lost at the end", lost_at_the_end),
    ("a write lost on the way", lost_on_the_way),
    ("a value that came back", came_back),
];

/// The operations of the first key that showed something.
fn showing(history: &History) -> Vec<usize> {
    let shows = |op: &Op| op.key == 0 && op.read().is_some_and(|(_, values, _)| !values.is_empty());
    (0..history.ops.len()).filter(|&id| shows(&history.ops[id])).collect()
}

fn answer(history: &mut History, id: usize) -> &mut Answer {
    &mut history.ops[id].attempts[0].end.as_mut().expect("it was answered").answer
}

/// A late read answers what an early one answered.
fn stale_read(history: &mut History) {
    let reads = showing(history);
    let early = answer(history, reads[0]).clone();
    *answer(history, reads[reads.len() - 1]) = early;
}

/// What a key holds at the end is gone, everywhere.
fn lost_at_the_end(history: &mut History) {
    for last in history.ends.read.iter_mut().filter(|last| last.key == 0) {
        let clock = last.state.clock();
        last.state.discard(&clock);
    }
}

/// A value that others showed is left out of one answer, whose context covers it.
fn lost_on_the_way(history: &mut History) {
    let reads = showing(history);
    if let Answer::Found { values, .. } = answer(history, reads[reads.len() / 2]) {
        values.remove(0);
    }
}

/// An early value stands beside those of a late read.
fn came_back(history: &mut History) {
    let reads = showing(history);
    let Answer::Found { values: early, .. } = answer(history, reads[0]).clone() else {
        unreachable!("it showed something");
    };
    if let Answer::Found { values, .. } = answer(history, reads[reads.len() - 1]) {
        values.extend(early);
    }
}

/// Numbers that are the same in every run.
struct Luck(u128);

impl Luck {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 += 1;
        mixed(self.0) as u64 % bound
    }
}
