//! A bare world for failure detectors: an event loop, links that lose and delay, and nothing else. All its luck comes from
//! one seed.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};

use rondo_core::env::{Address, Mono};
use rondo_core::id::{BootEpoch, NodeId, SessionId};
use rondo_core::swim::machine::{Begin, Swim};
use rondo_core::swim::outside::Outside;
use rondo_core::wire::swim::{Claim, Datagram, Exchange, Facts, Standing};

/// Dice (Steele, Lea, Flood: splitmix64).
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    pub(crate) fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub(crate) fn below(&mut self, n: u64) -> u64 {
        self.roll() % n
    }
}

/// Something that happened, for transcripts and measurements.
#[derive(Clone, Debug)]
pub(crate) enum Event {
    /// A datagram leaves; it may be lost.
    Sent { from: usize, to: usize, datagram: Datagram, is_lost: bool },
    /// A part of an exchange leaves.
    Exchanged { from: usize, to: usize, exchange: Exchange },
    /// A node is known to be otherwise than before.
    Changed { at: usize, node: NodeId, claim: Claim },
}

enum Effect {
    Datagram(Address, Datagram),
    Exchange(NodeId, Exchange),
    Changed(NodeId, Claim),
}

enum Arrival {
    Datagram(Datagram),
    Exchange(NodeId, Exchange),
    Wake,
}

/// A place where a process may run.
pub(crate) struct Place {
    pub(crate) node: NodeId,
    pub(crate) boot: u64,
    pub(crate) name: String,
    pub(crate) swim: Option<Swim>,
    pub(crate) is_paused: bool,
    held: Vec<Arrival>,
    wakes: Option<Mono>,
}

/// What was sent, by all together.
#[derive(Clone, Copy, Default)]
pub(crate) struct Traffic {
    pub(crate) datagrams: u64,
    pub(crate) bytes: u64,
    pub(crate) longest: usize,
    pub(crate) exchanges: u64,
}

/// The world. Places are counted from 0; place `n` has the address `n{n + 1}`.
pub(crate) struct World {
    pub(crate) now: Mono,
    pub(crate) places: Vec<Place>,
    /// Of 1,000 datagrams so many are lost.
    pub(crate) lost_permille: u64,
    /// How long things are on their way, in milliseconds: at least, and at most.
    pub(crate) delay_ms: (u64, u64),
    /// Directions in which nothing arrives.
    pub(crate) cut: BTreeSet<(usize, usize)>,
    pub(crate) traffic: Traffic,
    pub(crate) events: Vec<(Mono, Event)>,
    /// Whether datagrams are among the events.
    pub(crate) tells_words: bool,
    /// Whether invariants are checked after each step.
    pub(crate) checks: bool,
    dice: Dice,
    arrivals: BinaryHeap<Reverse<(Mono, u64, usize)>>,
    waiting: BTreeMap<u64, Arrival>,
}

pub(crate) struct Step<'a> {
    now: Mono,
    dice: &'a mut Dice,
    effects: Vec<Effect>,
    linked: &'a dyn Fn(NodeId) -> bool,
}

impl Outside for Step<'_> {
    fn now(&self) -> Mono {
        self.now
    }
    fn random(&mut self) -> u64 {
        self.dice.roll()
    }
    fn datagram(&mut self, to: &Address, datagram: &Datagram) {
        self.effects.push(Effect::Datagram(to.clone(), datagram.clone()));
    }
    fn exchange(&mut self, to: NodeId, exchange: Exchange) -> bool {
        let is_linked = (self.linked)(to);
        if is_linked {
            self.effects.push(Effect::Exchange(to, exchange));
        }
        is_linked
    }
    fn changed(&mut self, node: NodeId, claim: Claim) {
        self.effects.push(Effect::Changed(node, claim));
    }
}

impl World {
    /// `nodes` places, where nothing runs yet.
    pub(crate) fn new(nodes: usize, seed: u64) -> World {
        let place = |at: usize| Place {
            node: NodeId(at as u128 + 1),
            boot: 0,
            name: format!("n{}", at + 1),
            swim: None,
            is_paused: false,
            held: Vec::new(),
            wakes: None,
        };
        World {
            now: Mono(0),
            places: (0..nodes).map(place).collect(),
            lost_permille: 0,
            delay_ms: (1, 5),
            cut: BTreeSet::new(),
            traffic: Traffic::default(),
            events: Vec::new(),
            tells_words: false,
            checks: true,
            dice: Dice(seed),
            arrivals: BinaryHeap::new(),
            waiting: BTreeMap::new(),
        }
    }

    /// `nodes` nodes that all know each other, after so many milliseconds.
    pub(crate) fn joined(nodes: usize, seed: u64, within_ms: u64) -> World {
        let mut world = World::new(nodes, seed);
        (0..nodes).for_each(|at| world.start(at));
        world.pass(within_ms);
        world
    }

    /// A process starts there, in its next life, with the first place as its seed.
    pub(crate) fn start(&mut self, at: usize) {
        let place = &mut self.places[at];
        place.boot += 1;
        (place.is_paused, place.held) = (false, Vec::new());
        let begin = Begin {
            cluster: "c".to_owned(),
            node: place.node,
            boot: BootEpoch(place.boot),
            facts: Facts {
                session: SessionId(place.boot),
                name: place.name.clone(),
                address: Address(format!("n{}", at + 1)),
            },
            seeds: vec![Address("n1".to_owned())],
            luck: self.dice.roll(),
        };
        self.places[at].swim = Some(Swim::new(begin, self.now));
        self.step(at, |_, _| {});
    }

    /// The process there ends without a word.
    pub(crate) fn kill(&mut self, at: usize) {
        self.places[at].swim = None;
    }

    /// The process there goes on after a pause: what arrived meanwhile comes first.
    pub(crate) fn resume(&mut self, at: usize) {
        self.places[at].is_paused = false;
        for arrival in std::mem::take(&mut self.places[at].held) {
            self.arrive(at, arrival);
        }
        self.step(at, |swim, step| swim.tick(step));
    }

    /// Cuts all directions between two groups of places.
    pub(crate) fn split(&mut self, one: &[usize], other: &[usize]) {
        let pairs = one.iter().flat_map(|&a| other.iter().map(move |&b| (a, b)));
        self.cut.extend(pairs.flat_map(|(a, b)| [(a, b), (b, a)]));
    }

    /// So much time passes.
    pub(crate) fn pass(&mut self, ms: u64) {
        let until = self.now.plus_ms(ms);
        while let Some(&Reverse((at_time, number, at))) = self.arrivals.peek() {
            if at_time > until {
                break;
            }
            self.arrivals.pop();
            self.now = at_time;
            if let Some(arrival) = self.waiting.remove(&number) {
                self.arrive(at, arrival);
            }
        }
        self.now = until;
    }

    fn arrive(&mut self, at: usize, arrival: Arrival) {
        let place = &mut self.places[at];
        if place.is_paused {
            // Sockets hold some of it.
            if !matches!(arrival, Arrival::Wake) {
                place.held.push(arrival);
            }
            return;
        }
        match arrival {
            Arrival::Datagram(datagram) => {
                self.step(at, |swim, step| swim.on_datagram(datagram, step));
            }
            Arrival::Exchange(from, exchange) => {
                self.step(at, |swim, step| swim.on_exchange(from, exchange, step));
            }
            Arrival::Wake => {
                // One that was set before another one that is earlier is not due.
                if place.wakes.take_if(|wakes| *wakes <= self.now).is_some() {
                    self.step(at, |swim, step| swim.tick(step));
                }
            }
        }
    }

    /// Steps a machine and carries out what comes of it.
    pub(crate) fn step(&mut self, at: usize, act: impl FnOnce(&mut Swim, &mut Step<'_>)) {
        let Some(mut swim) = self.places[at].swim.take() else { return };
        let linked = |node: NodeId| {
            let to = self.places.iter().position(|place| place.node == node);
            to.is_some_and(|to| {
                let is_up = self.places[to].swim.is_some();
                is_up && !self.cut.contains(&(at, to)) && !self.cut.contains(&(to, at))
            })
        };
        let (now, effects) = (self.now, Vec::new());
        let mut step = Step { now, dice: &mut self.dice, effects, linked: &linked };
        act(&mut swim, &mut step);
        let effects = step.effects;
        if self.checks {
            swim.invariants();
        }
        let due = swim.next_deadline();
        let place = &mut self.places[at];
        place.swim = Some(swim);
        if place.wakes.is_none_or(|wakes| due < wakes) {
            place.wakes = Some(due);
            self.later(due, at, Arrival::Wake);
        }
        for effect in effects {
            self.carry(at, effect);
        }
    }

    fn carry(&mut self, from: usize, effect: Effect) {
        match effect {
            Effect::Datagram(to, datagram) => {
                let Ok(to) = to.0.trim_start_matches('n').parse::<usize>() else { return };
                let to = to - 1;
                let bytes = datagram.encoded_len();
                self.traffic.datagrams += 1;
                self.traffic.bytes += bytes as u64;
                self.traffic.longest = self.traffic.longest.max(bytes);
                let is_lost =
                    self.cut.contains(&(from, to)) || self.dice.below(1_000) < self.lost_permille;
                if self.tells_words {
                    let datagram = datagram.clone();
                    self.note(Event::Sent { from, to, datagram, is_lost });
                }
                if !is_lost {
                    self.send(to, Arrival::Datagram(datagram));
                }
            }
            Effect::Exchange(node, exchange) => {
                self.traffic.exchanges += 1;
                let to = self.places.iter().position(|place| place.node == node);
                let to = to.expect("a link leads there");
                if self.tells_words {
                    let exchange = exchange.clone();
                    self.note(Event::Exchanged { from, to, exchange });
                }
                self.send(to, Arrival::Exchange(self.places[from].node, exchange));
            }
            Effect::Changed(node, claim) => self.note(Event::Changed { at: from, node, claim }),
        }
    }

    fn send(&mut self, to: usize, arrival: Arrival) {
        let (least, most) = self.delay_ms;
        let delay_ms = least + self.dice.below(most - least + 1);
        self.later(self.now.plus_ms(delay_ms), to, arrival);
    }

    fn later(&mut self, when: Mono, at: usize, arrival: Arrival) {
        let number = self.waiting.last_key_value().map_or(0, |(last, _)| last + 1);
        self.waiting.insert(number, arrival);
        self.arrivals.push(Reverse((when, number, at)));
    }

    fn note(&mut self, event: Event) {
        self.events.push((self.now, event));
    }

    /// How the node at one place is in the eyes of another one's.
    pub(crate) fn view(&self, at: usize, of: usize) -> Option<Standing> {
        self.places[at].swim.as_ref()?.standing(self.places[of].node)
    }

    /// Whether every process knows just those that run to be alive.
    pub(crate) fn agrees(&self) -> bool {
        let all = 0..self.places.len();
        let runs = |at: usize| self.places[at].swim.is_some();
        let of = |at: usize, of: usize| runs(of) == (self.view(at, of) == Some(Standing::Alive));
        all.clone().filter(|&at| runs(at)).all(|at| all.clone().all(|other| of(at, other)))
    }
}
