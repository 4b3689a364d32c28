//! One attempt of one operation: from the client to a node and back.
//!
//! Client and node stand side by side: a call and its answer take no time, so the history's intervals are as
//! tight as they can be and the order they imply is the strictest. A client whose node dies learns it at once and has no answer;
//! a client whose node stays silent gives up some time after the deadline.

use std::collections::BTreeMap;

use rondo_core::config::DEADLINE_MS_MAX;
use rondo_core::inbox::Ask;
use rondo_core::layout::keyspace::Level;
use rondo_core::wire::client::Reply;

use crate::fault::{Fault, Trigger};
use crate::history::{Answer, Attempt, End, Promise, Seen};
use crate::rt;
use crate::scenario::{Action, Change, Operation, Over, Scenario};
use crate::world::client::Clients;
use crate::world::fullness;
use crate::world::witness;
use crate::world::{Event, Shared, World};

/// What a slow link carries in a millisecond, in bytes.
const SLOW_LINK_BYTES_MS: u64 = 256;
/// More than this nobody waits for a record, in milliseconds: no deadline is later.
const LARGEST_RECORD_MS_MAX: u64 = DEADLINE_MS_MAX * 2 / 3;
/// How long after its deadline an operation may end, in milliseconds: what a clock drifts by until then.
const SLACK_MS: u64 = 20;
/// The same when the node's alarm rings late now and then.
const LATE_SLACK_MS: u64 = 150;
/// The same on a node whose time or processor is meddled with.
const BENT_SLACK_MS: u64 = 500;

/// How long the largest record takes to cross a slow link, in milliseconds. All values of a key may be siblings in one record.
#[must_use]
pub fn largest_record_ms(scenario: &Scenario) -> u64 {
    let mut records: BTreeMap<u32, u64> = BTreeMap::new();
    for operation in &scenario.operations {
        *records.entry(operation.key).or_default() += u64::from(operation.bytes);
    }
    let largest = records.values().copied().max().unwrap_or(0);
    (largest / SLOW_LINK_BYTES_MS).min(LARGEST_RECORD_MS_MAX)
}

/// How much longer than the cluster's deadline an operation may take, in milliseconds: a client that asks after the heal waits for
/// the largest record to cross a slow link, since a read that is given up too early begins anew.
fn patience_ms(world: &World, op: usize) -> u64 {
    if op < world.scenario.operations.len() { 0 } else { largest_record_ms(&world.scenario) }
}

/// A client sends an attempt.
pub fn call(shared: &Shared, op: usize, attempt: usize) {
    let mut guard = shared.lock();
    let world = &mut *guard;
    world.clients.calls_ahead -= 1;
    let operation = world.clients.operations[op].clone();
    if is_early(&operation, attempt) && needs_no_more(world, op) {
        return;
    }
    let node = match attempt {
        0 => operation.node,
        _ => operation.retries[attempt - 1].node,
    };
    let node = world.with_its_name(node);
    // Some clients have the address of a clone, where there is one.
    let node = world.clone_of(node).filter(|_| op % 2 == 1).unwrap_or(node);
    let change = attempt.checked_sub(1).and_then(|retry| operation.retries[retry].change);
    let deadline_ms = match change {
        Some(Change::Deadline(ms)) => ms,
        _ => world.scenario.cluster.deadline_ms + patience_ms(world, op),
    };
    world.op(op);
    let called = world.note("call", node, &[attempt as u8], || {
        format!("op {op} attempt {}: {}", attempt + 1, spelt(&operation))
    });
    let machine = &world.nodes[node as usize];
    let start = rt::now().max(machine.process.paused_until);
    let due = start.plus_ms(deadline_ms + slack_ms(&world.scenario, node));
    let (inbox, epoch) = (machine.process.inbox.clone(), machine.process.epoch);
    let (called_at, due_at) = (rt::now(), Some(due));
    let record = Attempt { node, change, called, called_at, due: due_at, end: None };
    world.op(op).attempts.push(record);
    world.clients.waiting.insert((op, attempt));
    if is_early(&operation, attempt + 1) {
        call_later(world, op, attempt + 1);
    }
    let Some(inbox) = inbox else {
        return end(world, op, attempt, Answer::Unreached);
    };
    if operation.action.over() == Some(Over::Foreign) {
        return send_foreign(world, op, attempt);
    }
    world.agenda.push(due.plus_ms(1), Event::GiveUp { op, attempt });
    if operation.vanishes_ms > 0 {
        let at = rt::now().plus_ms(u64::from(operation.vanishes_ms));
        world.agenda.push(at, Event::Vanish { op, attempt });
    }
    let number = attempt as u32 + operation.attempt;
    let request = Clients::request(world.op(op), operation.named, number, deadline_ms);
    let request = match change {
        Some(change) => Clients::changed(request, change),
        None => request,
    };
    let back = shared.clone();
    let sink = Box::new(move |reply| answered(&back, (node, epoch), op, attempt, reply));
    // A refusal is answered at once, so the world must not be held.
    let is_asked = world.clients.is_asked;
    drop(guard);
    inbox.ask(Ask::Request(request, sink));
    if is_asked {
        fullness::look(shared, node);
    }
}

/// A client sends the token of another key: whoever opens it refuses the request.
fn send_foreign(world: &mut World, op: usize, attempt: usize) {
    let (client, key, node) = {
        let record = world.op(op);
        (record.client, record.key, record.attempts[attempt].node)
    };
    if world.clients.known.is_misled(client, key) {
        let what = format!("it takes the token of another key for one of k{key}");
        witness::breach(world, node, Promise::Tokens, what);
    }
    end(world, op, attempt, Answer::Refused("the token is of another key".to_owned()));
}

/// How late the answers of a node may be.
fn slack_ms(scenario: &Scenario, node: u32) -> u64 {
    let bends = |fault: &Fault| fault.what.trouble().delays() == Some(node);
    let delays = |site: &String| ["alarm-late", "tick-skipped"].contains(&site.as_str());
    match (scenario.faults.iter().any(bends), scenario.buggify.iter().any(delays)) {
        (true, _) => BENT_SLACK_MS,
        (false, true) => LATE_SLACK_MS,
        (false, false) => SLACK_MS,
    }
}

/// A client's patience has ended, unless its node was paused meanwhile.
pub fn give_up_when_due(world: &mut World, op: usize, attempt: usize) {
    let waits = world.clients.waiting.contains(&(op, attempt));
    match world.op(op).attempts[attempt].due {
        Some(due) if waits && due > rt::now() => {
            world.agenda.push(due.plus_ms(1), Event::GiveUp { op, attempt });
        }
        _ => give_up(world, op, attempt),
    }
}

/// A client stops waiting for an attempt and goes on to the next, if it means to.
fn give_up(world: &mut World, op: usize, attempt: usize) {
    let waited = world.clients.waiting.remove(&(op, attempt));
    // An early one has been sent, or will be at its time.
    if waited && !is_early(&world.clients.operations[op], attempt + 1) {
        call_later(world, op, attempt + 1);
    }
}

/// An attempt after the first will be sent, if the client means to.
fn call_later(world: &mut World, op: usize, attempt: usize) {
    if let Some(retry) = world.clients.operations[op].retries.get(attempt - 1) {
        let at = rt::now().plus_ms(retry.after_ms);
        world.clients.calls_ahead += 1;
        world.agenda.push(at, Event::Call { op, attempt });
    }
}

/// Whether an attempt does not wait for the end of the one before it.
fn is_early(operation: &Operation, attempt: usize) -> bool {
    let retry = attempt.checked_sub(1).and_then(|at| operation.retries.get(at));
    retry.is_some_and(|retry| retry.early)
}

/// Whether an operation has been served, or its client is gone.
fn needs_no_more(world: &mut World, op: usize) -> bool {
    let mut ends = world.op(op).attempts.iter().filter_map(|attempt| attempt.end.as_ref());
    let is_served = ends.any(|end| matches!(end.answer, Answer::Stored { .. }));
    is_served || world.clients.vanished.contains(&op)
}

/// A client is gone: it waits for nothing any more, and nobody is there to be told the answer.
pub fn vanish(world: &mut World, op: usize, attempt: usize) {
    if !world.clients.waiting.contains(&(op, attempt)) {
        return;
    }
    let node = world.op(op).attempts[attempt].node;
    world.note("vanish", node, &[attempt as u8], || format!("op {op}'s client"));
    // Others may be in flight, where it did not wait for the first.
    for attempt in 0..world.op(op).attempts.len() {
        if world.clients.waiting.remove(&(op, attempt)) {
            world.op(op).attempts[attempt].due = None;
        }
    }
    world.clients.vanished.insert(op);
}

/// A node's process ends: whoever waits for it learns nothing more.
pub fn hang_up(world: &mut World, node: u32) {
    let waiting: Vec<(usize, usize)> = world.clients.waiting.iter().copied().collect();
    for (op, attempt) in waiting {
        let record = &mut world.op(op).attempts[attempt];
        if record.node == node {
            record.due = None;
            give_up(world, op, attempt);
        }
    }
}

/// A node is paused: whoever waits for it has to wait longer.
pub fn put_off(world: &mut World, node: u32, by_ms: u64) {
    let waiting: Vec<(usize, usize)> = world.clients.waiting.iter().copied().collect();
    for (op, attempt) in waiting {
        let record = &mut world.op(op).attempts[attempt];
        if record.node == node {
            record.due = record.due.map(|due| due.plus_ms(by_ms));
        }
    }
}

fn answered(shared: &Shared, (node, epoch): (u32, u32), op: usize, attempt: usize, reply: Reply) {
    let mut world = shared.lock();
    if world.nodes[node as usize].process.epoch != epoch || world.clients.vanished.contains(&op) {
        return;
    }
    let answer = match reply {
        Reply::Stored { context, version, by } => {
            Answer::Stored { context, version: version.hlc, by }
        }
        Reply::Found { siblings, context, .. } => {
            let values = siblings.iter().map(|sibling| world.history.seen(sibling)).collect();
            Answer::Found { values, context }
        }
        Reply::NotFound { siblings, context, .. } => {
            let values = siblings.iter().map(|sibling| world.history.seen(sibling)).collect();
            Answer::NotFound { values, context }
        }
        Reply::Indeterminate { .. } => Answer::Indeterminate,
        Reply::Unavailable { reason, .. } | Reply::Overloaded { reason, .. } => {
            Answer::Refused(reason)
        }
        Reply::BadRequest { reason } => Answer::BadRequest(reason),
    };
    end(&mut world, op, attempt, answer);
}

/// An attempt has ended for its client.
fn end(world: &mut World, op: usize, attempt: usize, answer: Answer) {
    let node = world.op(op).attempts[attempt].node;
    let stamp = world.note("answer", node, told(&answer).as_bytes(), || {
        format!("op {op} attempt {}: {}", attempt + 1, told(&answer))
    });
    let (client, key) = (world.op(op).client, world.op(op).key);
    let version = match &answer {
        Answer::Stored { version, .. } => Some(*version),
        _ => None,
    };
    let (is_stored, context) = match &answer {
        Answer::Stored { context, .. } => (true, Some(context)),
        Answer::Found { context, .. } | Answer::NotFound { context, .. } => (false, Some(context)),
        Answer::Indeterminate | Answer::Refused(_) | Answer::BadRequest(_) | Answer::Unreached => {
            (false, None)
        }
    };
    let key = match world.op(op).attempts[attempt].change {
        Some(Change::Key(other)) => other,
        _ => key,
    };
    match context {
        Some(context) => {
            world.clients.known.learn(client, key, context, is_stored);
            world.clients.waiting.remove(&(op, attempt));
        }
        None => give_up(world, op, attempt),
    }
    world.op(op).attempts[attempt].end = Some(End { stamp, at: rt::now(), answer });
    if let Some(version) = version.filter(|_| world.op(op).level == Level::One) {
        witness::acknowledges(world, op, version);
    }
    if is_stored {
        world.clients.acks += 1;
        let acks = world.clients.acks;
        world.trigger(|when| when == Trigger::OnAck { n: acks });
    }
}

fn spelt(operation: &Operation) -> String {
    let Operation { client, key, level, action, .. } = operation;
    let over = |over: &Over| match over {
        Over::Blind => "without a token",
        Over::Nothing => "over nothing",
        Over::Last => "over what it saw last",
        Over::Stale => "over what it saw first",
        Over::Own => "over its own last write",
        Over::Foreign => "with a token of another key",
    };
    match action {
        Action::Get => format!("c{client} gets k{key} at {level}"),
        Action::Put { over: what, ttl_ms: 0 } => {
            format!("c{client} puts k{key} at {level} {}", over(what))
        }
        Action::Put { over: what, ttl_ms } => {
            format!("c{client} puts k{key} for {ttl_ms} ms at {level} {}", over(what))
        }
        Action::Delete { over: what } => {
            format!("c{client} deletes k{key} at {level} {}", over(what))
        }
    }
}

fn told(answer: &Answer) -> String {
    match answer {
        Answer::Stored { version, .. } => format!("stored at {version}"),
        Answer::Found { values, .. } => format!("found {}", named(values)),
        Answer::NotFound { values, context } if values.is_empty() => {
            format!("not found; highest {}", context.highest)
        }
        Answer::NotFound { values, .. } => format!("deleted, beside {}", named(values)),
        Answer::Indeterminate => "indeterminate".to_owned(),
        Answer::Refused(reason) | Answer::BadRequest(reason) => format!("refused: {reason}"),
        Answer::Unreached => "nobody listens".to_owned(),
    }
}

fn named(values: &[Seen]) -> String {
    let name = |value: &Seen| match value.op {
        Some(op) => format!("op {op}"),
        None => "a foreign value".to_owned(),
    };
    let names: Vec<String> = values.iter().map(name).collect();
    names.join(", ")
}
