//! Scripts of small clusters (`core/tests/scripts`): what their commands do with the stage.
//!
//! Nodes are `n1`, `n2`, …; clients are counted, and `c1` is what the first was told. `settle` and `pass` deliver and sync
//! what is on its way; everything else does one thing. At the end of a script every client must have been answered once.

use std::collections::BTreeMap;
use std::path::Path;

use bytes::Bytes;
use rondo_core::admin::{AdminRequest, Change, Done, KeyspaceWish};
use rondo_core::config::{Actors, NodeConfig};
use rondo_core::engine::Engine;
use rondo_core::id::{GroupId, KeyspaceId, LayoutVersion, RequestId};
use rondo_core::layout::LayoutRef;
use rondo_core::layout::keyspace::Level;
use rondo_core::replica::keys::data_key;
use rondo_core::status::HintCounters;
use rondo_core::step::Input;
use rondo_core::version::context::Context;
use rondo_core::wire::client::{Action, Reply, Request};
use rondo_core::wire::key::KeyRef;

use crate::engine::Room;
use crate::format::{self, Scene};
use crate::request::request;
use crate::stage::{BEGIN_MS, Stage, Start, usual};
use crate::trees;

/// A cluster on the stage, once a command has made it.
#[derive(Default)]
struct Cluster {
    stage: Option<Stage>,
    /// Directories that were put aside, and by what name.
    kept: BTreeMap<String, Start>,
}

/// A command, its words, and its `name=value` pairs.
pub(crate) struct Call<'a> {
    pub(crate) name: &'a str,
    pub(crate) words: Vec<&'a str>,
    options: BTreeMap<&'a str, &'a str>,
}

impl<'a> Call<'a> {
    fn parse(command: &'a str) -> Call<'a> {
        let mut call = Call { name: "", words: Vec::new(), options: BTreeMap::new() };
        for (at, word) in command.split_whitespace().enumerate() {
            match word.split_once('=') {
                _ if at == 0 => call.name = word,
                Some((name, value)) => _ = call.options.insert(name, value),
                None => call.words.push(word),
            }
        }
        call
    }

    fn word(&self, at: usize) -> Result<&'a str, String> {
        self.words.get(at).copied().ok_or(format!("{} needs {} words more", self.name, at + 1))
    }

    pub(crate) fn node(&self, at: usize) -> Result<usize, String> {
        node(self.word(at)?)
    }

    pub(crate) fn nodes(&self) -> Result<Vec<usize>, String> {
        self.words.iter().map(|word| node(word)).collect()
    }

    fn take<T: std::str::FromStr>(&mut self, name: &str) -> Result<Option<T>, String> {
        let value = self.options.remove(name);
        value.map(|value| number(value)).transpose()
    }
}

fn node(word: &str) -> Result<usize, String> {
    let number = word.strip_prefix('n').and_then(|number| number.parse().ok());
    number.ok_or(format!("{word} is no node"))
}

fn number<T: std::str::FromStr>(word: &str) -> Result<T, String> {
    word.parse().map_err(|_| format!("{word} is no number"))
}

/// `n1>n2` as from and to.
fn link(word: &str) -> Result<(usize, usize), String> {
    let (from, to) = word.split_once('>').ok_or(format!("{word} is no link"))?;
    Ok((node(from)?, node(to)?))
}

impl Scene for Cluster {
    fn run(&mut self, command: &str) -> Result<String, String> {
        let mut call = Call::parse(command);
        if matches!(call.name, "cluster" | "nodes") {
            let nodes: usize = number(call.word(0)?)?;
            let base = config(nodes, &mut call)?;
            self.stage = Some(match call.name {
                "cluster" => Stage::formed_with(nodes, base),
                _ => Stage::unformed_with(nodes, base),
            });
        } else {
            let stage = self.stage.as_mut().ok_or("begin with `cluster` or `nodes`")?;
            let is_done = ask(stage, &mut call)?
                || carry(stage, &call)?
                || spoil(stage, &call)?
                || look(stage, &mut call)?
                || operate(stage, &mut call)?
                || live(stage, &mut call, &mut self.kept)?
                || trees::run(stage, &call)?;
            if !is_done {
                return Err("there is no such command".to_owned());
            }
        }
        match call.options.keys().next() {
            Some(option) => Err(format!("{} knows no {option}", call.name)),
            None => Ok(self.stage.as_mut().map(Stage::transcript).unwrap_or_default()),
        }
    }

    fn end(&mut self) -> Result<(), String> {
        let stage = self.stage.as_ref().ok_or("it has no cluster")?;
        let waiting = stage.unanswered();
        if !waiting.is_empty() {
            return Err(format!("these clients still wait: {waiting:?}"));
        }
        match stage.answered_twice() {
            Some(client) => Err(format!("client {client} was answered twice")),
            None => Ok(()),
        }
    }
}

/// `cluster 3 [partitions= r= w= n= expect= deadline= hedge= resend= dead= hints= repair= grace=]`: so many nodes that have formed a cluster; `nodes` that have not.
fn config(nodes: usize, call: &mut Call) -> Result<NodeConfig, String> {
    let mut base = usual(nodes);
    base.bootstrap_expect = call.take("expect")?.unwrap_or(nodes);
    base.partitions = call.take("partitions")?.unwrap_or(base.partitions);
    base.replicas = call.take("n")?.unwrap_or(base.replicas);
    base.read_quorum = call.take("r")?.unwrap_or(base.read_quorum);
    base.write_quorum = call.take("w")?.unwrap_or(base.write_quorum);
    base.deadline_ms = call.take("deadline")?.unwrap_or(base.deadline_ms);
    base.hedge_ms = call.take("hedge")?.unwrap_or(base.hedge_ms);
    base.resend_ms = call.take("resend")?.unwrap_or(base.resend_ms);
    base.dead_ms = call.take("dead")?.unwrap_or(base.dead_ms);
    base.hint_bytes_max = call.take("hints")?.unwrap_or(base.hint_bytes_max);
    base.repair_every_ms = call.take("repair")?.unwrap_or(base.repair_every_ms);
    base.sloppy = call.take("sloppy")?.unwrap_or(false);
    base.grace_ms = call.take("grace")?.unwrap_or(base.grace_ms);
    Ok(base)
}

/// `put n1 VALUE`, `delete n1`, `get n1`: a client asks. Options: `key`, `keyspace`, `level`, `within` (its deadline in
/// milliseconds), `id` and `attempt` (it names its request), `over` (`nothing`, or `c1`: what client 1 was told), `bytes`
/// (so long is the value), `ttl` (so many milliseconds it stays), `from` (the number of the client's address).
fn ask(stage: &mut Stage, call: &mut Call) -> Result<bool, String> {
    let over = call.options.remove("over").map(|over| context(stage, over)).transpose();
    let action = match call.name {
        "get" => Action::Get,
        "delete" => Action::Delete { context: over? },
        "put" => {
            let value = Bytes::copy_from_slice(call.word(1)?.as_bytes());
            let bytes = call.take::<usize>("bytes")?;
            let value = bytes.map_or(value.clone(), |bytes| value.repeat(bytes).into());
            let ttl_ms = call.take("ttl")?;
            Action::Put { value, content_type: Bytes::new(), context: over?, ttl_ms }
        }
        _ => return Ok(false),
    };
    let level = match call.options.remove("level") {
        None => None,
        Some("one") => Some(Level::One),
        Some("quorum") => Some(Level::Quorum),
        Some("all") => Some(Level::All),
        Some(other) => return Err(format!("{other} is no level")),
    };
    let id = call.take::<u128>("id")?;
    let usual = request(action);
    let request = Request {
        level,
        named: id.is_some(),
        id: id.map_or(usual.id, RequestId),
        attempt: call.take("attempt")?.unwrap_or(1),
        source: call.take("from")?.unwrap_or(0),
        deadline_ms: call.take("within")?,
        keyspace: call.options.remove("keyspace").unwrap_or("default").into(),
        key: call.options.remove("key").map_or(usual.key, |key| key.to_owned().into()),
        action: usual.action,
    };
    stage.ask(call.node(0)?, request);
    Ok(true)
}

/// What a client knows of the key after it was told something.
fn context(stage: &Stage, of: &str) -> Result<Context, String> {
    if of == "nothing" {
        return Ok(Context::default());
    }
    let client = of.strip_prefix('c').ok_or(format!("{of} is no client"))?;
    match stage.replies(number(client)?).pop() {
        Some(
            Reply::Stored { context, .. }
            | Reply::Found { context, .. }
            | Reply::NotFound { context, .. },
        ) => Ok(context),
        _ => Err(format!("{of} was told no context")),
    }
}

/// Messages, syncs, reads and time.
fn carry(stage: &mut Stage, call: &Call) -> Result<bool, String> {
    match call.name {
        // The oldest message of a link arrives; `under another layout` than the one of its sender.
        "deliver" => {
            let another = LayoutRef { version: LayoutVersion(1), digest: 7 };
            let layout = (call.words.len() > 2).then_some(another);
            let (from, to) = (call.node(0)?, call.node(1)?);
            is_there(stage.deliver(from, to, layout), "nothing is on its way there")?;
        }
        // Links of a node that is of the generation before agree on its protocol.
        "older" => stage.is_older(call.node(0)?),
        // The latest message that has arrived on a link arrives once more.
        "again" => {
            is_there(stage.deliver_again(call.node(0)?, call.node(1)?), "nothing has arrived")?;
        }
        // All that is on its way on a link is lost, or the oldest so many.
        "lose" => {
            let count = call.words.get(2).map(|count| number(count)).transpose()?;
            stage.lose(call.node(0)?, call.node(1)?, count.unwrap_or(usize::MAX));
        }
        "sync" => is_there(stage.sync(call.node(0)?, true), "no sync runs there")?,
        "fail-sync" => is_there(stage.sync(call.node(0)?, false), "no sync runs there")?,
        "read" => stage.end_reads(call.node(0)?, true),
        "fail-read" => stage.end_reads(call.node(0)?, false),
        "settle" => stage.settle(),
        // So many milliseconds, so often: `pass 100 x5`.
        "pass" | "tick" => {
            let ms: u64 = number(call.word(0)?)?;
            let times = call.words.get(1).and_then(|times| times.strip_prefix('x')).unwrap_or("1");
            for _ in 0..number(times)? {
                let before = stage.transcript();
                if call.name == "pass" {
                    stage.pass(ms)
                } else {
                    stage.tick(ms)
                }
                let after = stage.transcript();
                let is_quiet = after.is_empty();
                stage.say(&before);
                if !is_quiet {
                    stage.tell(&format!("at {} ms", stage.now.0 / 1_000_000));
                    stage.say(&after);
                }
            }
        }
        _ => return Ok(false),
    }
    Ok(true)
}

fn is_there(found: bool, otherwise: &str) -> Result<(), String> {
    if found { Ok(()) } else { Err(otherwise.to_owned()) }
}

fn room(word: &str) -> Result<Room, String> {
    match word {
        "none" => Ok(Room::None),
        "little" => Ok(Room::Little),
        "enough" => Ok(Room::Enough),
        other => Err(format!("{other} is no room")),
    }
}

/// What goes wrong, and what is mended.
fn spoil(stage: &mut Stage, call: &Call) -> Result<bool, String> {
    match call.name {
        "gossip" => stage.gossip_off = call.word(0)? == "off",
        // Failure detectors hear each other. What they say is not told.
        "detect" => stage.detects = call.word(0)? == "on",
        // What is on its way on these links, `n1>n2`, is lost when it would arrive.
        "cut" => stage.cut = call.words.iter().map(|word| link(word)).collect::<Result<_, _>>()?,
        "heal" => stage.cut = Vec::new(),
        // The first has no link to the others: it learns that when it sends.
        "unlink" => stage.unlink(call.node(0)?, &call.nodes()?[1..]),
        // The first knows that its links to the others are down.
        "disconnect" => stage.disconnect(call.node(0)?, &call.nodes()?[1..]),
        "deaf" => stage.deaf = call.nodes()?,
        "unreached" => stage.unreached = call.nodes()?,
        "stall" => stage.stalled = call.nodes()?,
        // What an earlier life has reserved, in milliseconds after the beginning.
        "leap" => stage.leap(call.node(0)?, number(call.word(1)?)?),
        "clock" => stage.set_wall_offset(call.node(0)?, number(call.word(1)?)?),
        "cold" => {
            let engine = stage.engine(call.node(0)?);
            match call.words.get(1) {
                Some(times) => engine.cold_gets = number(times)?,
                None => engine.cold = true,
            }
        }
        "rot-hints" => stage.engine(call.node(0)?).rot_hints(),
        "rot" => stage.engine(call.node(0)?).rotten = true,
        "mend" => stage.engine(call.node(0)?).rotten = false,
        "room" => stage.engine(call.node(0)?).room = room(call.word(1)?)?,
        _ => return Ok(false),
    }
    Ok(true)
}

/// What people see.
fn look(stage: &mut Stage, call: &mut Call) -> Result<bool, String> {
    match call.name {
        "status" => {
            let node = call.node(0)?;
            let status = stage.status(node);
            stage.tell(if status.ready { "ready" } else { "not ready" });
            let waiting = status.waiting.iter().map(|line| format!("waiting: {line}"));
            let notes = status.notes.iter().map(|line| format!("note: {line}"));
            let troubles = status.troubles.iter().map(|line| format!("trouble: {line}"));
            waiting.chain(notes).chain(troubles).for_each(|line| stage.tell(&line));
            for member in status.members.iter().filter(|member| !member.me) {
                stage.tell(&format!("{} is {}", member.name, member.state));
            }
            if status.purges.quarantined > 0 {
                stage.tell(&format!("keeps in quarantine: {}", status.purges.quarantined));
            }
        }
        // What a node owes, and what became of its hints.
        "hints" => tell_hints(stage, call.node(0)?),
        // The primaries of the one partition, in order of preference.
        "owners" => {
            let layout = stage.status(1).layout.ok_or("there is no layout")?;
            let names =
                layout.owners[0].iter().map(|&at| layout.roles[usize::from(at)].name.clone());
            let names = names.collect::<Vec<_>>().join(" ");
            stage.tell(&names);
        }
        // What each node has of a key: `copies [KEY] [keyspace=] [group=]`, by ids.
        "copies" => {
            let key = call.words.first().copied().unwrap_or("k").to_owned();
            let keyspace = call.take("keyspace")?.unwrap_or(1);
            let group = call.take("group")?.map_or(GroupId::FIRST, GroupId);
            let key = data_key(group, &KeyRef::new(KeyspaceId(keyspace), key.into()));
            for node in 1..=stage.nodes() {
                let durable = stage.engine(node).durable();
                let told = match stage.engine(node).record(&key) {
                    Some((lsn, state)) if lsn > durable => format!("n{node} {state}, not durable"),
                    Some((_, state)) => format!("n{node} {state}"),
                    None => format!("n{node} nothing"),
                };
                stage.tell(&told);
            }
        }
        // The time of the version that a client wrote or found, in milliseconds since the beginning.
        "time" => {
            let client = call.word(0)?.trim_start_matches('c');
            let hlc = match stage.replies(number(client)?).pop() {
                Some(Reply::Stored { version, .. }) => version.hlc,
                Some(Reply::Found { siblings, .. }) => siblings[0].version.hlc,
                _ => return Err("it was told no version".to_owned()),
            };
            let ms = hlc.wall_ms().cast_signed() - BEGIN_MS.cast_signed();
            stage.tell(&format!("{ms} ms + {}", hlc.0 & 0xffff));
        }
        _ => return Ok(false),
    }
    Ok(true)
}

fn tell_hints(stage: &mut Stage, node: usize) {
    let hints = stage.status(node).hints;
    for of in &hints.targets {
        stage.tell(&format!("{} for {}, {} ms old", of.hints, of.name, of.oldest_ms));
    }
    let HintCounters { found, written, merged, refused, delivered, moved, given_up } =
        hints.counters;
    let counted = [
        (found, "found"),
        (written, "written"),
        (merged, "merged"),
        (refused, "refused"),
        (delivered, "delivered"),
        (moved, "moved"),
        (given_up, "given up"),
        (hints.unreadable, "unreadable"),
        (hints.behind, "units behind"),
        (hints.owed, "owed"),
    ];
    let told = counted.iter().filter(|(count, _)| *count > 0);
    let told: Vec<String> = told.map(|(count, what)| format!("{count} {what}")).collect();
    stage.tell(if told.is_empty() { "no hints" } else { "hints:" });
    if !told.is_empty() {
        stage.tell(&format!("  {}", told.join(", ")));
    }
}

/// What operators ask: at the first node, about the second.
fn operate(stage: &mut Stage, call: &mut Call) -> Result<bool, String> {
    let wanted = KeyspaceWish {
        n: call.take("n")?,
        r: call.take("r")?,
        w: call.take("w")?,
        ttl_ms: call.take("ttl")?,
        sloppy: call.take("sloppy")?,
        ..KeyspaceWish::default()
    };
    let named = || call.word(1).map(str::to_owned);
    let request = match call.name {
        "leave" => AdminRequest::Stage(Change::Leave { node: named()? }),
        "replace" => {
            AdminRequest::Apply(Change::Replace { old: named()?, new: call.word(2)?.to_owned() })
        }
        "join" => AdminRequest::Stage(Change::Join { node: named()?, weight: None, zone: None }),
        "keyspace" => AdminRequest::Stage(Change::Keyspace { name: named()?, wanted }),
        "drop" => AdminRequest::Stage(Change::DropKeyspace { name: named()? }),
        "skip" => AdminRequest::SkipDead { node: named()?, accepts_loss: false },
        "give-up" => AdminRequest::SkipDead { node: named()?, accepts_loss: true },
        "commit" => AdminRequest::Commit { expected: None },
        "unstage" => AdminRequest::Unstage,
        "repair" => AdminRequest::Repair,
        // Which layouts are live at each node.
        "layouts" => {
            for node in 1..=stage.nodes() {
                let Ok(Done::Layouts(layouts)) = stage.admin(node, AdminRequest::Layout) else {
                    return Err("it always tells its layouts".to_owned());
                };
                let live = layouts.live.iter().map(|live| {
                    let names: Vec<&str> = live.nodes.iter().map(|of| of.name.as_str()).collect();
                    format!("{} of {}", live.version, names.join(" "))
                });
                let live = live.collect::<Vec<_>>().join(", ");
                let proposed = layouts.proposed.map(|one| format!(", proposed {one}"));
                stage.tell(&format!("n{node} {live}{}", proposed.unwrap_or_default()));
            }
            return Ok(true);
        }
        _ => return Ok(false),
    };
    let said = match stage.admin(call.node(0)?, request) {
        Ok(Done::Proposed { proposed, .. }) => format!("proposed layout {proposed}"),
        Ok(Done::Layouts(layouts)) => format!("staged {}", layouts.staged.len()),
        Ok(Done::Plan(plan)) => format!("{} moves", plan.moves),
        Ok(Done::Merkle(merkle)) => format!("{} trees", merkle.trees.len()),
        Ok(Done::Repairs(repairs)) => format!("{} rounds", repairs.rounds),
        Err(refused) => format!("{:?}: {}", refused.why, refused.message),
    };
    stage.tell(&said);
    Ok(true)
}

/// Processes and their directories.
fn live(
    stage: &mut Stage,
    call: &mut Call,
    kept: &mut BTreeMap<String, Start>,
) -> Result<bool, String> {
    match call.name {
        "stop" => stage.step(call.node(0)?, Input::Stop),
        // The first is told where the second is.
        "meet" => stage.meet(call.node(0)?, call.node(1)?),
        // The process ends, and what it has written is there; or the power goes, and only what is durable is.
        "kill" => stage.end(call.node(0)?),
        "crash" => {
            let node = call.node(0)?;
            let start = stage.directory(node, true, Actors::Jump);
            stage.end(node);
            *stage.engine(node) = start.engine.into_inner();
        }
        // A copy of its directory, as it is now.
        "keep" => {
            let start = stage.directory(call.node(0)?, false, Actors::Fresh);
            kept.insert(call.word(1)?.to_owned(), start);
        }
        // `start n1 [from=COPY] [beside=n4] [at=n1] [name=n2] [expect=] [seeds=none|n1] [boot=] [session=] [place=] [actors=] [room=] [rot=]`: a process of n1 starts,
        // where the one before it ran or as the fourth, on what lies there or on a copy; on `nothing` when its directory is lost.
        "start" => {
            let (node, at) = (call.node(0)?, call.options.remove("beside").map(node).transpose()?);
            let mut start = match call.options.remove("from") {
                None => stage.directory(node, false, Actors::Jump),
                Some("nothing") => Stage::nothing(),
                Some(name) => {
                    let Start { engine, earlier, place, actors, unlike } =
                        kept.get(name).ok_or(format!("there is no copy {name}"))?;
                    let engine = engine.borrow().copy().into();
                    let (earlier, unlike) = (earlier.clone(), unlike.clone());
                    Start { engine, earlier, place: *place, actors: *actors, unlike }
                }
            };
            let name = call.options.remove("name").map(str::to_owned);
            start.unlike.name = name.or(start.unlike.name);
            start.unlike.expect = call.take("expect")?.or(start.unlike.expect);
            let seeds = call.options.remove("seeds").map(str::to_owned);
            start.unlike.seeds = seeds.or(start.unlike.seeds);
            start.actors = match call.options.remove("actors") {
                None => start.actors,
                Some("continue") => Actors::Continue,
                Some("jump") => Actors::Jump,
                Some("fresh") => Actors::Fresh,
                Some(other) => return Err(format!("{other} is nothing that becomes of actors")),
            };
            start.engine.get_mut().room = match call.options.remove("room") {
                None => Room::default(),
                Some(word) => room(word)?,
            };
            start.engine.get_mut().own_rotten = match call.options.remove("rot") {
                None => None,
                Some("layout") => Some(b"\0layout"),
                Some("layout-next") => Some(b"\0layout-next"),
                Some(other) => return Err(format!("{other} is no record of its own")),
            };
            start.place = call.take("place")?.unwrap_or(start.place);
            let last = start.earlier.first().map_or(0, |life| life.0);
            let boot = call.take("boot")?.unwrap_or(last + 1);
            let session = call.take("session")?.unwrap_or(boot);
            if let Some(old) = call.options.remove("at").map(self::node).transpose()? {
                stage.reached_at.insert(old, node);
            }
            stage.start(at.unwrap_or(node), node, (boot, session), &start);
        }
        _ => return Ok(false),
    }
    Ok(true)
}

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/scripts");

/// One test for each folder of scripts.
macro_rules! areas {
    ($($area:ident),*) => {
        $(#[test]
        fn $area() {
            format::check(&Path::new(FOLDER).join(stringify!($area)), Cluster::default);
        })*

        #[test]
        #[expect(clippy::disallowed_methods, reason = "scripts are files")]
        fn every_folder_of_scripts_is_run_and_there_are_sixty() {
            let run = [$(stringify!($area)),*];
            let found = std::fs::read_dir(FOLDER).expect("scripts");
            let mut found: Vec<_> = found.map(|entry| entry.expect("a folder").path()).collect();
            found.sort();
            let names: Vec<_> = found.iter().filter_map(|path| path.file_name()?.to_str()).collect();
            assert_eq!(names, run);
            assert!(found.iter().map(|path| format::scripts(path).len()).sum::<usize>() >= 60);
        }
    };
}

areas!(
    attempts,
    clocks,
    cold,
    detection,
    exchange,
    expiry,
    fence,
    formation,
    forwarding,
    full,
    hedges,
    hints,
    layouts,
    lives,
    purge,
    readiness,
    repair,
    repetitions,
    requests,
    restarts,
    rotten,
    siblings,
    sloppy,
    stopping,
    syncs,
    trees,
    versions
);
