//! The network's luck: for each message, when its copies arrive, if any.
//!
//! It moves bytes only and knows no message. Each message draws its own delay, so messages overtake each other. A
//! cut is a set of directed links; it is asked at sending and again at delivery, so what is on its way when a
//! link is cut is lost too. Cuts are counted: a link is whole when every cut that named it has ended. Mischief is kept
//! by the fault that made it, and what several do to one link adds up. Pieces of streams ask it for no more than their time of
//! arrival; what a stream makes of it is in `streams`.
//! Left out: bandwidth.

use std::collections::{BTreeMap, BTreeSet};

use smallvec::SmallVec;

use crate::draw::{Dice, Stream};
use crate::fault::Said;
use crate::fault::links::Mischief;
use crate::rt::Time;
use crate::scenario::{Links, Shape};

/// How long a lost piece of a stream waits before it is sent again, in milliseconds; then twice that, up to the longest.
const RESEND_MS: u64 = 200;
const RESEND_MS_MAX: u64 = 10_000;

/// All links between the nodes.
#[derive(Debug)]
pub struct Net {
    links: Links,
    cuts: BTreeMap<(u32, u32), u32>,
    mischief: BTreeMap<usize, Spell>,
    /// What happened to messages.
    pub counts: Counts,
}

/// Some links behave badly for a while.
#[derive(Debug)]
struct Spell {
    links: BTreeSet<(u32, u32)>,
    how: Mischief,
    since: Time,
    until: Time,
}

/// What happened to messages.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counts {
    /// Handed to the network.
    pub sent: u64,
    /// Handed to a node.
    pub delivered: u64,
    /// Lost by chance.
    pub lost: u64,
    /// Lost by a cut link or a node that was down.
    pub cut: u64,
    /// Arrived twice.
    pub duplicated: u64,
    /// Bytes handed to the network.
    pub bytes: u64,
    /// Held until their links let everything go.
    pub held: u64,
    /// Datagrams and pieces of streams with a bit that was flipped.
    pub corrupted: u64,
}

/// What is known of a message that is sent.
#[derive(Clone, Copy, Debug)]
pub struct Sent {
    /// When.
    pub at: Time,
    /// From whom to whom.
    pub link: (u32, u32),
    /// Its length.
    pub bytes: usize,
    /// What it says, where somebody wants to know.
    pub said: Option<Said>,
}

impl Net {
    /// Whole links.
    #[must_use]
    pub fn new(links: Links) -> Net {
        Net { links, cuts: BTreeMap::new(), mischief: BTreeMap::new(), counts: Counts::default() }
    }

    /// When the copies of a message that is sent now arrive.
    pub fn send(&mut self, dice: &mut Dice, sent: Sent) -> SmallVec<[Time; 2]> {
        let (from, to) = sent.link;
        self.counts.sent += 1;
        self.counts.bytes += sent.bytes as u64;
        let mut arrivals = SmallVec::new();
        if self.is_cut(sent.at, from, to) {
            self.counts.cut += 1;
            return arrivals;
        }
        let worse = self.worse(dice, sent);
        let is_lost = dice.next(Stream::Loss, from, to).happens(self.links.loss_ppm);
        if is_lost || worse.is_lost {
            self.counts.lost += 1;
            return arrivals;
        }
        let arrival = |delay_us: u64| sent.at.plus_us(delay_us).plus_ms(worse.late_ms);
        let arrival = |delay_us: u64| arrival(delay_us).max(worse.held_until);
        self.counts.held += u64::from(worse.held_until > sent.at);
        arrivals.push(arrival(self.delay(dice, from, to)));
        let is_doubled = dice.next(Stream::Duplicate, from, to).happens(self.links.duplicate_ppm);
        if is_doubled || worse.is_doubled {
            self.counts.duplicated += 1;
            arrivals.push(arrival(self.delay(dice, from, to)));
        }
        arrivals
    }

    /// When a piece of a stream that is sent now arrives, if nothing is in its way then. What is lost is sent again, so loss
    /// is delay; what the receiver has twice it reads once.
    pub fn segment(&mut self, dice: &mut Dice, now: Time, (from, to): (u32, u32)) -> Time {
        let sent = Sent { at: now, link: (from, to), bytes: 0, said: None };
        let worse = self.worse(dice, sent);
        let mut late_ms = worse.late_ms;
        let mut is_lost =
            worse.is_lost || dice.next(Stream::Loss, from, to).happens(self.links.loss_ppm);
        let mut wait_ms = RESEND_MS;
        while is_lost && wait_ms <= RESEND_MS_MAX {
            self.counts.lost += 1;
            late_ms += wait_ms;
            wait_ms *= 2;
            is_lost = self.worse(dice, sent).is_lost
                || dice.next(Stream::Loss, from, to).happens(self.links.loss_ppm);
        }
        self.counts.held += u64::from(worse.held_until > now);
        let delay_us = self.delay(dice, from, to);
        now.plus_us(delay_us).plus_ms(late_ms).max(worse.held_until)
    }

    /// Until when a message that says this, and whatever comes after it on the same stream, is held.
    #[must_use]
    pub fn holds(&self, link: (u32, u32), said: Said) -> Option<Time> {
        let spells = self.mischief.values().filter(|spell| spell.links.contains(&link));
        let held =
            spells.filter(|spell| matches!(spell.how, Mischief::Hold { kind } if kind == said));
        held.map(|spell| spell.until).max()
    }

    /// What mischief does to a message that is sent now.
    fn worse(&self, dice: &mut Dice, sent: Sent) -> Worse {
        let (from, to) = sent.link;
        let mut worse = Worse::default();
        let mut happens = |ppm| dice.next(Stream::Mischief, from, to).happens(ppm);
        for spell in self.mischief.values().filter(|spell| spell.links.contains(&sent.link)) {
            match spell.how {
                Mischief::Lose { ppm } => worse.is_lost |= happens(ppm),
                Mischief::Double { ppm } => worse.is_doubled |= happens(ppm),
                Mischief::Slow { by_ms } => worse.late_ms += by_ms,
                Mischief::Bimodal { ppm, by_ms } if happens(ppm) => worse.late_ms += by_ms,
                Mischief::Clog => worse.held_until = worse.held_until.max(spell.until),
                Mischief::Hold { kind } if sent.said == Some(kind) => {
                    worse.held_until = worse.held_until.max(spell.until);
                }
                Mischief::Bimodal { .. }
                | Mischief::Hold { .. }
                | Mischief::Flap { .. }
                | Mischief::Refuse
                | Mischief::Corrupt { .. } => {}
            }
        }
        worse
    }

    /// The bit that is flipped in a datagram of so many bytes, if one is.
    pub fn corrupts(
        &mut self,
        dice: &mut Dice,
        (from, to): (u32, u32),
        bytes: usize,
    ) -> Option<u64> {
        let spells = self.mischief.values().filter(|spell| spell.links.contains(&(from, to)));
        let ppm: u32 = spells
            .filter_map(|spell| match spell.how {
                Mischief::Corrupt { ppm } => Some(ppm),
                _ => None,
            })
            .max()?;
        let mut draw = || dice.next(Stream::Corrupt, from, to);
        let flips = draw().happens(ppm);
        self.counts.corrupted += u64::from(flips);
        flips.then(|| draw().below(bytes as u64 * 8))
    }

    /// Whether what is on its way arrives now.
    pub fn deliver(&mut self, now: Time, from: u32, to: u32) -> bool {
        let cut = self.is_cut(now, from, to);
        if cut {
            self.counts.cut += 1;
        } else {
            self.counts.delivered += 1;
        }
        !cut
    }

    /// Cuts directed links.
    pub fn cut(&mut self, links: &[(u32, u32)]) {
        for &link in links {
            *self.cuts.entry(link).or_default() += 1;
        }
    }

    /// Ends one cut.
    pub fn mend(&mut self, links: &[(u32, u32)]) {
        for link in links {
            if let Some(count) = self.cuts.get_mut(link) {
                *count = count.saturating_sub(1);
            }
        }
    }

    /// These links behave badly; `fault` names it.
    pub fn spoil(
        &mut self,
        fault: usize,
        links: &[(u32, u32)],
        how: Mischief,
        (since, until): (Time, Time),
    ) {
        let links = links.iter().copied().collect();
        self.mischief.insert(fault, Spell { links, how, since, until });
    }

    /// Ends what a fault does to links.
    pub fn calm(&mut self, fault: usize) {
        self.mischief.remove(&fault);
    }

    /// Whether some messages are treated by what they say.
    #[must_use]
    pub fn listens(&self) -> bool {
        self.mischief.values().any(|spell| matches!(spell.how, Mischief::Hold { .. }))
    }

    /// Whether a link takes no new connection.
    #[must_use]
    pub fn refuses(&self, link: (u32, u32)) -> bool {
        let mut spells = self.mischief.values().filter(|spell| spell.links.contains(&link));
        spells.any(|spell| matches!(spell.how, Mischief::Refuse))
    }

    /// Ends all cuts, all mischief, all losses and the long tail, for good.
    pub fn heal(&mut self) {
        self.cuts.clear();
        self.mischief.clear();
        self.links = Links { loss_ppm: 0, duplicate_ppm: 0, tail_ppm: 0, ..self.links.clone() };
    }

    /// Whether a link carries nothing now.
    #[must_use]
    pub fn is_cut(&self, now: Time, from: u32, to: u32) -> bool {
        let flapped = |spell: &Spell| match spell.how {
            Mischief::Flap { every_ms } if spell.links.contains(&(from, to)) => {
                (now.ms().saturating_sub(spell.since.ms()) / every_ms).is_multiple_of(2)
            }
            _ => false,
        };
        self.cuts.get(&(from, to)).is_some_and(|&count| count > 0)
            || self.mischief.values().any(flapped)
    }

    /// How long one message takes, in microseconds.
    fn delay(&self, dice: &mut Dice, from: u32, to: u32) -> u64 {
        let links = &self.links;
        let above = dice.next(Stream::Delay, from, to);
        let above = match links.shape {
            Shape::Uniform => above.between(0, 2 * links.delay_mean_us),
            Shape::Exponential => above.exponential(links.delay_mean_us),
        };
        let tail = match dice.next(Stream::Delay, from, to).happens(links.tail_ppm) {
            true => dice.next(Stream::Delay, from, to).below(links.tail_ms * 1_000),
            false => 0,
        };
        links.delay_min_us + above + tail
    }
}

/// What mischief does to one message.
#[derive(Default)]
struct Worse {
    is_lost: bool,
    is_doubled: bool,
    late_ms: u64,
    held_until: Time,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn links(loss_ppm: u32, duplicate_ppm: u32) -> Links {
        Links {
            shape: Shape::Exponential,
            delay_min_us: 100,
            delay_mean_us: 1_000,
            loss_ppm,
            duplicate_ppm,
            tail_ppm: 10_000,
            tail_ms: 50,
        }
    }

    fn arrivals(net: &mut Net, count: usize) -> Vec<SmallVec<[Time; 2]>> {
        let mut dice = Dice::new(3);
        (0..count).map(|_| net.send(&mut dice, sent((0, 1), None))).collect()
    }

    fn sent(link: (u32, u32), said: Option<Said>) -> Sent {
        Sent { at: Time::at_ms(5), link, bytes: 8, said }
    }

    #[test]
    fn messages_are_lost_doubled_and_overtaken_as_often_as_asked() {
        let mut net = Net::new(links(100_000, 50_000));
        let all = arrivals(&mut net, 10_000);
        let lost = all.iter().filter(|copies| copies.is_empty()).count();
        assert!((900..1_100).contains(&lost), "{lost}");
        assert!((400..500).contains(&net.counts.duplicated), "{:?}", net.counts);
        let firsts: Vec<Time> = all.iter().filter_map(|copies| copies.first().copied()).collect();
        assert!(firsts.windows(2).any(|pair| pair[1] < pair[0]), "nothing was reordered");
        assert!(firsts.iter().all(|&at| at >= Time::at_ms(5).plus_us(100)));
    }

    #[test]
    fn a_cut_is_one_way_and_holds_until_every_cut_of_the_link_has_ended() {
        let mut net = Net::new(links(0, 0));
        net.cut(&[(0, 1)]);
        net.cut(&[(0, 1), (1, 2)]);
        assert!(arrivals(&mut net, 1)[0].is_empty());
        assert!(net.deliver(Time::at_ms(5), 1, 0), "the other direction is whole");
        net.mend(&[(0, 1)]);
        assert!(!net.deliver(Time::at_ms(5), 0, 1), "one cut is left");
        net.mend(&[(0, 1), (1, 2)]);
        assert!(net.deliver(Time::at_ms(5), 0, 1));
    }

    /// A thousand messages under a spell of 100 ms: the network, and how late each copy is, in milliseconds.
    fn under(how: Mischief, link: (u32, u32), said: Option<Said>) -> (Net, Vec<u64>) {
        let mut net = Net::new(Links { tail_ppm: 0, ..links(0, 0) });
        net.spoil(3, &[(0, 1)], how, (Time::at_ms(5), Time::at_ms(105)));
        let mut dice = Dice::new(3);
        let late = |at: Time| (at.0 - Time::at_ms(5).0) / 1_000_000;
        let send = |_| net.send(&mut dice, sent(link, said));
        let all = (0..1_000).flat_map(send).map(late).collect();
        (net, all)
    }

    #[test]
    fn each_mischief_does_what_it_says_to_its_links_alone() {
        type Shows = fn(&Net, &[u64]) -> bool;
        let half = 500_000;
        let table: [(Mischief, Shows); 7] = [
            (Mischief::Flap { every_ms: 10 }, |net, late| {
                late.is_empty() && net.counts.cut == 1_000
            }),
            (Mischief::Lose { ppm: half }, |net, _| (400..600).contains(&net.counts.lost)),
            (Mischief::Double { ppm: half }, |_, late| (1_400..1_600).contains(&late.len())),
            (Mischief::Slow { by_ms: 40 }, |_, late| late.iter().all(|&ms| (40..60).contains(&ms))),
            (Mischief::Bimodal { ppm: half, by_ms: 40 }, |_, late| {
                (400..600).contains(&late.iter().filter(|&&ms| ms >= 40).count())
            }),
            (Mischief::Clog, |net, late| {
                late.iter().all(|&ms| ms == 100) && net.counts.held == 1_000
            }),
            (Mischief::Hold { kind: Said::Merge }, |_, late| late.iter().all(|&ms| ms == 100)),
        ];
        for (how, shows) in table {
            let (net, late) = under(how, (0, 1), Some(Said::Merge));
            assert!(shows(&net, &late), "{how:?} {late:?}");
            let (_, other) = under(how, (1, 0), Some(Said::Merge));
            assert!(other.len() == 1_000 && other.iter().all(|&ms| ms < 20), "{how:?} elsewhere");
            let mut calmed = under(how, (0, 1), Some(Said::Merge)).0;
            calmed.calm(3);
            assert!(arrivals(&mut calmed, 100).iter().all(|copies| copies.len() == 1), "{how:?}");
        }
        let (_, late) = under(Mischief::Hold { kind: Said::Merge }, (0, 1), Some(Said::Query));
        assert!(late.iter().all(|&ms| ms < 20), "another kind is not held");
    }

    #[test]
    fn a_flapping_link_is_whole_every_other_turn() {
        let (mut net, _) = under(Mischief::Flap { every_ms: 10 }, (0, 1), None);
        let whole: Vec<bool> =
            [6, 14, 15, 24, 25].map(|ms| net.deliver(Time::at_ms(ms), 0, 1)).into();
        assert_eq!(whole, [false, false, true, true, false]);
    }

    #[test]
    fn a_corrupted_datagram_names_a_bit_that_it_has() {
        let (mut net, _) = under(Mischief::Corrupt { ppm: 500_000 }, (0, 1), None);
        let mut dice = Dice::new(4);
        let bits: Vec<u64> =
            (0..1_000).filter_map(|_| net.corrupts(&mut dice, (0, 1), 8)).collect();
        assert!((400..600).contains(&bits.len()) && bits.iter().all(|&bit| bit < 64));
        assert_eq!(net.corrupts(&mut dice, (1, 0), 8), None);
        net.heal();
        assert_eq!(net.corrupts(&mut dice, (0, 1), 8), None);
    }

    #[test]
    fn after_the_heal_every_message_arrives_once_and_soon() {
        let mut net = Net::new(links(500_000, 500_000));
        net.cut(&[(0, 1)]);
        net.heal();
        let latest = Time::at_ms(5).plus_us(100 + 10_000);
        assert!(arrivals(&mut net, 1_000).iter().all(|c| c.len() == 1 && c[0] <= latest));
    }
}
