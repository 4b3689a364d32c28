//! Each thing that can happen to a connection, and what its two sides see of it.

use std::io::ErrorKind;

use super::*;
use crate::fault::links::Mischief;
use crate::scenario::{Links, Shape};

/// Two machines with a process each, and the time.
struct Pair {
    streams: Streams,
    net: Net,
    dice: Dice,
    now: Time,
    due: Vec<(Time, Due)>,
    told: Vec<(u32, String)>,
}

impl Pair {
    fn new() -> Pair {
        let links = Links {
            shape: Shape::Uniform,
            delay_min_us: 1_000,
            delay_mean_us: 500,
            loss_ppm: 0,
            duplicate_ppm: 0,
            tail_ppm: 0,
            tail_ms: 0,
        };
        let mut streams = Streams::new(2);
        for node in 0..2 {
            streams.power_on(node);
            streams.listen(node);
        }
        let (net, dice) = (Net::new(links), Dice::new(5));
        Pair { streams, net, dice, now: Time::at_ms(1), due: Vec::new(), told: Vec::new() }
    }

    fn act<T>(&mut self, act: impl FnOnce(&mut Streams, &mut Luck<'_>) -> T) -> T {
        let (dice, net) = (&mut self.dice, &mut self.net);
        let mut luck = Luck { now: self.now, dice, net, due: Vec::new(), told: Vec::new() };
        let output = act(&mut self.streams, &mut luck);
        let Luck { due, told, .. } = luck;
        self.due.extend(due);
        self.told.extend(told.into_iter().map(|(node, told)| (node, told.to_string())));
        output
    }

    /// Lets so many milliseconds pass.
    fn pass(&mut self, ms: u64) {
        let until = self.now.plus_ms(ms);
        loop {
            let next = self.due.iter().enumerate().min_by_key(|(place, (at, _))| (*at, *place));
            let Some((place, &(at, due))) = next.filter(|(_, (at, _))| *at <= until) else {
                break;
            };
            self.due.remove(place);
            self.now = self.now.max(at);
            self.act(|streams, luck| streams.happen(luck, due));
        }
        self.now = until;
    }

    /// A connection from node 0 to node 1 that both have.
    fn connect(&mut self) -> Name {
        let name = self.act(|streams, luck| streams.dial(luck, 0, 1));
        self.pass(10);
        let accepted = self.streams.poll_accept(1, Waker::noop());
        assert_eq!(accepted, Poll::Ready(Connected { name, from: 0 }));
        assert!(matches!(self.open(name), Poll::Ready(Ok(()))));
        name
    }

    fn open(&mut self, name: Name) -> Poll<Result<(), ErrorKind>> {
        self.streams.poll_open(name, Waker::noop()).map_err(|error| error.kind())
    }

    /// Writes all bytes, as often as it takes; answers how many there was room for.
    fn write(&mut self, name: Name, side: Side, bytes: &[u8]) -> Result<usize, ErrorKind> {
        let mut written = 0;
        while written < bytes.len() {
            let rest = &bytes[written..];
            let write = |streams: &mut Streams, luck: &mut Luck<'_>| {
                streams.write(luck, (name, side), rest, Waker::noop())
            };
            match self.act(write) {
                Poll::Pending => break,
                Poll::Ready(Ok(count)) => written += count,
                Poll::Ready(Err(error)) => return Err(error.kind()),
            }
        }
        Ok(written)
    }

    /// Reads until nothing is there: what was read, and how it stopped: `Ok(true)` at the end of the stream.
    fn read(&mut self, name: Name, side: Side) -> (Vec<u8>, Result<bool, ErrorKind>) {
        let mut all = Vec::new();
        loop {
            let read = |streams: &mut Streams, luck: &mut Luck<'_>| {
                streams.read(luck, (name, side), 1_000, Waker::noop())
            };
            match self.act(read) {
                Poll::Pending => return (all, Ok(false)),
                Poll::Ready(Ok(bytes)) if bytes.is_empty() => return (all, Ok(true)),
                Poll::Ready(Ok(bytes)) => all.extend(bytes),
                Poll::Ready(Err(error)) => return (all, Err(error.kind())),
            }
        }
    }

    fn close(&mut self, name: Name, side: Side) {
        self.act(|streams, luck| streams.close(luck, name, side));
    }
}

#[test]
fn bytes_arrive_late_in_pieces_once_and_in_order() {
    let mut pair = Pair::new();
    let mut arrivals = 0;
    for _ in 0..20 {
        let name = pair.connect();
        let sent: Vec<u8> = (0..60_000u32).map(|n| (n % 251) as u8).collect();
        let (mut written, mut got) = (0, Vec::new());
        while got.len() < sent.len() {
            written += pair.write(name, 0, &sent[written..]).expect("it is open");
            assert!(written - got.len() <= 256 << 10, "no more than there is room for");
            assert!(pair.due.iter().all(|(at, _)| *at >= pair.now), "nothing is there at once");
            pair.pass(1);
            let (bytes, _) = pair.read(name, 1);
            arrivals += usize::from(!bytes.is_empty());
            got.extend(bytes);
        }
        assert_eq!(got, sent);
    }
    assert!(arrivals > 40, "{arrivals}");
}

#[test]
fn a_writer_waits_for_room_until_the_other_side_has_read() {
    let mut pair = Pair::new();
    let name = pair.connect();
    let written = pair.write(name, 0, &[7; 1 << 20]).expect("it is open");
    assert!((2 << 10..=256 << 10).contains(&written), "{written}");
    pair.pass(100);
    assert_eq!(pair.write(name, 0, &[7]), Ok(0), "what has arrived still takes its room");
    assert_eq!(pair.read(name, 1).0.len(), written);
    assert_eq!(pair.write(name, 0, &[7]), Ok(1));
}

#[test]
fn a_side_that_is_closed_gives_the_other_its_last_bytes_and_the_end() {
    let mut pair = Pair::new();
    let name = pair.connect();
    pair.write(name, 0, b"last words").expect("it is open");
    pair.close(name, 0);
    pair.pass(10);
    assert_eq!(pair.read(name, 1), (b"last words".to_vec(), Ok(true)));
    // Nobody is there to read the answer.
    pair.write(name, 1, b"what?").expect("it does not know");
    pair.pass(10);
    assert_eq!(pair.read(name, 1).1, Err(ErrorKind::ConnectionReset));
    pair.close(name, 1);
    assert!(pair.streams.connections.is_empty(), "nobody holds it");
}

#[test]
fn whoever_closes_without_having_read_all_resets_the_connection() {
    let mut pair = Pair::new();
    let name = pair.connect();
    pair.write(name, 0, b"unheard").expect("it is open");
    pair.pass(10);
    pair.close(name, 1);
    pair.pass(10);
    assert_eq!(pair.read(name, 0).1, Err(ErrorKind::ConnectionReset));
    assert_eq!(pair.write(name, 0, b"more"), Err(ErrorKind::ConnectionReset));
}

#[test]
fn a_process_that_ends_is_noticed_and_a_machine_that_goes_is_not_until_it_is_back() {
    let mut pair = Pair::new();
    let (killed, lost) = (pair.connect(), pair.connect());
    let both = [killed, lost];
    pair.act(|streams, luck| streams.on_exit(luck, 1));
    pair.pass(10);
    assert_eq!(both.map(|name| pair.read(name, 0).1), [Ok(true), Ok(true)]);
    let refused = pair.act(|streams, luck| streams.dial(luck, 0, 1));
    pair.pass(10);
    assert_eq!(pair.open(refused), Poll::Ready(Err(ErrorKind::ConnectionRefused)));

    let mut pair = Pair::new();
    let name = pair.connect();
    pair.streams.on_power_loss(1);
    let unanswered = pair.act(|streams, luck| streams.dial(luck, 0, 1));
    pair.write(name, 0, b"hello?").expect("it does not know");
    pair.pass(5_000);
    assert_eq!(pair.read(name, 0), (Vec::new(), Ok(false)));
    assert_eq!(pair.open(unanswered), Poll::Pending);
    pair.streams.power_on(1);
    pair.streams.listen(1);
    pair.pass(10_000);
    assert_eq!(pair.read(name, 0).1, Err(ErrorKind::ConnectionReset), "it is sent again");
    assert_eq!(pair.open(unanswered), Poll::Ready(Ok(())), "and so is the question");
}

#[test]
fn what_a_cut_link_does_not_carry_comes_after_it_is_mended() {
    let mut pair = Pair::new();
    let name = pair.connect();
    pair.net.cut(&[(0, 1)]);
    pair.write(name, 0, b"late").expect("it is open");
    pair.write(name, 1, b"soon").expect("it is open");
    pair.pass(3_000);
    assert_eq!(pair.read(name, 0).0, b"soon", "the other direction is whole");
    assert_eq!(pair.read(name, 1).0, b"");
    pair.net.mend(&[(0, 1)]);
    pair.pass(4_000);
    assert_eq!(pair.read(name, 1).0, b"late");
}

#[test]
fn lost_pieces_are_late_and_nothing_overtakes_them() {
    let mut pair = Pair::new();
    let name = pair.connect();
    let until = pair.now.plus_ms(60_000);
    pair.net.spoil(0, &[(0, 1)], Mischief::Lose { ppm: 500_000 }, (pair.now, until));
    let mut waits = Vec::new();
    for n in 0..20u8 {
        pair.write(name, 0, &[n]).expect("it is open");
        let from = pair.now;
        while pair.read(name, 1).0 != [n] {
            pair.pass(10);
        }
        waits.push(pair.now.ms() - from.ms());
    }
    let late = waits.iter().filter(|&&ms| ms >= 200).count();
    assert!((4..17).contains(&late), "{waits:?}");
    assert_eq!(pair.net.counts.cut, 0);
}

#[test]
fn what_comes_behind_a_held_message_is_held_too() {
    let mut pair = Pair::new();
    let name = pair.connect();
    pair.write(name, 0, b"before").expect("it is open");
    let until = pair.now.plus_ms(500);
    pair.streams.hold((0, 1), until);
    pair.write(name, 0, b" held").expect("it is open");
    pair.pass(400);
    assert_eq!(pair.read(name, 1).0, b"before");
    pair.pass(200);
    assert_eq!(pair.read(name, 1).0, b" held");
}

#[test]
fn a_reset_breaks_both_sides_and_a_half_open_connection_only_one() {
    let mut pair = Pair::new();
    let name = pair.connect();
    pair.act(|streams, luck| streams.reset(luck, &[(1, 0)]));
    assert_eq!(pair.read(name, 0).1, Ok(false), "nobody dialled in that direction");
    pair.act(|streams, luck| streams.reset(luck, &[(0, 1)]));
    assert_eq!([0, 1].map(|side| pair.read(name, side).1), [Err(ErrorKind::ConnectionReset); 2]);

    let mut pair = Pair::new();
    let name = pair.connect();
    pair.write(name, 0, b"on its way").expect("it is open");
    pair.act(|streams, luck| streams.halve(luck, &[(0, 1)]));
    assert_eq!(pair.read(name, 0).1, Err(ErrorKind::ConnectionReset));
    pair.close(name, 0);
    for _ in 0..100 {
        pair.write(name, 1, b"?").expect("it does not know");
        pair.pass(1_000);
    }
    assert_eq!(pair.read(name, 1), (Vec::new(), Ok(false)));
    pair.connect();
}

#[test]
fn refused_connections_fail_and_those_that_are_there_stay() {
    let mut pair = Pair::new();
    let name = pair.connect();
    let until = pair.now.plus_ms(1_000);
    pair.net.spoil(0, &[(0, 1)], Mischief::Refuse, (pair.now, until));
    let refused = pair.act(|streams, luck| streams.dial(luck, 0, 1));
    pair.write(name, 0, b"here").expect("it is open");
    pair.pass(20);
    assert_eq!(pair.open(refused), Poll::Ready(Err(ErrorKind::ConnectionRefused)));
    assert_eq!(pair.read(name, 1).0, b"here");
    pair.net.calm(0);
    pair.connect();
}

#[test]
fn corruption_flips_one_bit_of_a_piece() {
    let mut pair = Pair::new();
    let name = pair.connect();
    let until = pair.now.plus_ms(60_000);
    pair.net.spoil(0, &[(0, 1)], Mischief::Corrupt { ppm: 1_000_000 }, (pair.now, until));
    let mut flipped = Vec::new();
    for _ in 0..100 {
        pair.write(name, 0, &[0; 4]).expect("it is open");
        pair.pass(10);
        flipped.push(pair.read(name, 1).0.iter().map(|byte| byte.count_ones()).sum::<u32>());
    }
    assert!(flipped.iter().all(|&bits| (1..=4).contains(&bits)), "{flipped:?}");
    assert!(flipped.iter().filter(|&&bits| bits == 1).count() > 80, "{flipped:?}");
}

#[test]
fn a_dial_that_is_given_up_leaves_nothing_behind() {
    let mut pair = Pair::new();
    let name = pair.act(|streams, luck| streams.dial(luck, 0, 1));
    pair.close(name, 0);
    pair.pass(10);
    assert!(pair.streams.connections.is_empty());
    assert_eq!(pair.told, []);
    // One that has already come in is reset.
    let name = pair.act(|streams, luck| streams.dial(luck, 0, 1));
    while pair.told.is_empty() {
        let (now, _) = pair.due[0];
        pair.pass(now.0.saturating_sub(pair.now.0) / 1_000_000 + 1);
    }
    pair.close(name, 0);
    pair.pass(10);
    assert!(matches!(pair.streams.poll_accept(1, Waker::noop()), Poll::Ready(_)));
    assert!(pair.read(name, 1).1.is_err());
}
