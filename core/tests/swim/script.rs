//! Scripts of failure detectors (`core/tests/swim/scripts`): what their commands do, and how what came of it is told.
//!
//! A line tells when, and what a node has come to know of another one, with its incarnation: boot and count. `words on` has datagrams
//! and exchanges told too, until `words off`.

use std::fmt::Write as _;
use std::path::Path;

use rondo_core::env::Mono;
use rondo_core::id::NodeId;
use rondo_core::wire::swim::{Claim, Exchange, Rumour, Standing, Word};

use crate::format::{self, Scene};
use crate::world::{Event, World};

#[derive(Default)]
struct Detectors {
    world: Option<World>,
    /// When the script began.
    began: Mono,
}

fn place(word: &str) -> Result<usize, String> {
    let number = word.strip_prefix('n').and_then(|number| number.parse::<usize>().ok());
    number.and_then(|number| number.checked_sub(1)).ok_or(format!("{word} is no node"))
}

fn number<T: std::str::FromStr>(word: &str) -> Result<T, String> {
    word.parse().map_err(|_| format!("{word} is no number"))
}

impl Scene for Detectors {
    fn run(&mut self, command: &str) -> Result<String, String> {
        let words: Vec<&str> = command.split_whitespace().collect();
        if let ["nodes", count, rest @ ..] = &words[..] {
            let seed = rest.first().and_then(|seed| seed.strip_prefix("seed=")).unwrap_or("1");
            let mut world = World::joined(number(count)?, number(seed)?, 20_000);
            if !world.agrees() {
                return Err("they have not met".to_owned());
            }
            world.events.clear();
            self.began = world.now;
            self.world = Some(world);
            return Ok(String::new());
        }
        let world = self.world.as_mut().ok_or("begin with `nodes`")?;
        act(world, &words)?;
        let mut told = String::new();
        for (when, event) in std::mem::take(&mut world.events) {
            let ms = when.ms_since(self.began);
            writeln!(told, "{ms:>6} ms  {}", line(world, &event)).expect("a string takes all");
        }
        if words == ["views"] {
            told += &views(world);
        }
        Ok(told)
    }

    fn end(&mut self) -> Result<(), String> {
        self.world.as_ref().map(|_| ()).ok_or("it has no nodes".to_owned())
    }
}

fn act(world: &mut World, words: &[&str]) -> Result<(), String> {
    match words {
        ["pass", ms] => world.pass(number(ms)?),
        ["words", switch] => world.tells_words = *switch == "on",
        ["kill", node] => world.kill(place(node)?),
        // The next life of the node there; `id=` and `name=` make it another node.
        ["start", node, options @ ..] => {
            let at = place(node)?;
            for option in options {
                match option.split_once('=') {
                    Some(("id", id)) => {
                        (world.places[at].node, world.places[at].boot) = (NodeId(number(id)?), 0);
                    }
                    Some(("name", name)) => world.places[at].name = name.to_owned(),
                    _ => return Err(format!("start knows no {option}")),
                }
            }
            world.start(at);
        }
        ["pause", node] => world.places[place(node)?].is_paused = true,
        ["resume", node] => world.resume(place(node)?),
        // The process says that it stops and comes back, or that it does not.
        ["stop", node] => {
            world.step(place(node)?, |swim, step| swim.leave(Standing::Restarting, step))
        }
        ["leave", node] => world.step(place(node)?, |swim, step| swim.leave(Standing::Left, step)),
        // The first is told that the other's id has been given up.
        ["remove", at, node] => {
            let node = world.places[place(node)?].node;
            world.step(place(at)?, |swim, _| swim.set_removed([node].into()));
        }
        ["cut", links @ ..] => {
            for link in links {
                let (from, to) = link.split_once('>').ok_or(format!("{link} is no link"))?;
                world.cut.insert((place(from)?, place(to)?));
            }
        }
        ["split", nodes @ ..] => {
            let one: Vec<usize> = nodes.iter().map(|node| place(node)).collect::<Result<_, _>>()?;
            let all = 0..world.places.len();
            let other: Vec<usize> = all.filter(|at| !one.contains(at)).collect();
            world.split(&one, &other);
        }
        ["heal"] => world.cut.clear(),
        ["views"] => {}
        _ => return Err("there is no such command".to_owned()),
    }
    Ok(())
}

/// How each process sees all others.
fn views(world: &World) -> String {
    let mut told = String::new();
    for place in &world.places {
        let Some(swim) = &place.swim else { continue };
        let others = swim.members().iter();
        let others = others.map(|(node, member)| format!("{} {}", name(node), said(member.claim)));
        let others = others.collect::<Vec<_>>().join(", ");
        let twice = swim.namesakes().len();
        let twice = if twice > 0 { format!("; {twice} share a name") } else { String::new() };
        writeln!(told, "{}: {others}{twice}", name(place.node)).expect("a string takes all");
    }
    told
}

/// Nodes are named by the numbers of their ids.
fn name(node: NodeId) -> String {
    format!("n{}", node.0)
}

fn said(claim: Claim) -> String {
    let standing = match claim.standing {
        Standing::Alive => "alive",
        Standing::Suspect => "suspect",
        Standing::Restarting => "restarting",
        Standing::Dead => "dead",
        Standing::Left => "left",
    };
    format!("{standing} {}.{}", claim.incarnation.boot.0, claim.incarnation.count)
}

fn line(world: &World, event: &Event) -> String {
    let at = |at: usize| name(world.places[at].node);
    match event {
        Event::Sent { from, to, datagram, is_lost } => {
            let arrow = if *is_lost { "↛" } else { "→" };
            let word = match &datagram.word {
                Word::Ping { target: None, .. } => "ping of anybody".to_owned(),
                Word::Ping { .. } => "ping".to_owned(),
                Word::Help { target, .. } => format!("ping {} for me", name(*target)),
                Word::Ack { .. } => "ack".to_owned(),
                Word::Nack { .. } => "nack".to_owned(),
                Word::Rumours => "rumours".to_owned(),
            };
            let rumours: Vec<String> = datagram.rumours.iter().map(told).collect();
            let rumours = if rumours.is_empty() {
                String::new()
            } else {
                format!(" [{}]", rumours.join(", "))
            };
            format!("{} {arrow} {} {word}{rumours}", at(*from), at(*to))
        }
        Event::Exchanged { from, to, exchange } => {
            let what = match exchange {
                Exchange::Digest { .. } => "digest of all I know".to_owned(),
                Exchange::All { known, .. } => {
                    let known = known.iter();
                    let known = known.map(|of| format!("{} {}", name(of.node), said(of.claim)));
                    format!("all I know: {}", known.collect::<Vec<_>>().join(", "))
                }
            };
            format!("{} ⇒ {} {what}", at(*from), at(*to))
        }
        Event::Changed { at: place, node, claim } => {
            format!("{}: {} is {}", at(*place), name(*node), said(*claim))
        }
    }
}

fn told(rumour: &Rumour) -> String {
    let by = match rumour {
        Rumour::Suspect { by, .. } => format!(" by {}", name(*by)),
        Rumour::Alive { .. }
        | Rumour::Restarting { .. }
        | Rumour::Dead { .. }
        | Rumour::Left { .. } => String::new(),
    };
    format!("{} {}{by}", name(rumour.node()), said(rumour.claim()))
}

#[test]
fn scripts() {
    let folder = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/swim/scripts"));
    assert!(format::scripts(folder).len() >= 7);
    format::check(folder, Detectors::default);
}
