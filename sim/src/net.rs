//! The network's luck: for each message, when its copies arrive, if any.
//!
//! It moves bytes only and knows no message. Each message draws its own delay, so messages overtake each other. A
//! cut is a set of directed links; it is asked at sending and again at delivery, so what is on its way when a
//! link is cut is lost too. Cuts are counted: a link is whole when every cut that named it has ended.
//! Left out: bandwidth, connections (half-open, refused), corruption (the real framing has checksums).

use std::collections::BTreeMap;

use smallvec::SmallVec;

use crate::draw::{Dice, Stream};
use crate::rt::Time;
use crate::scenario::{Links, Shape};

/// All links between the nodes.
#[derive(Debug)]
pub struct Net {
    links: Links,
    cuts: BTreeMap<(u32, u32), u32>,
    /// What happened to messages.
    pub counts: Counts,
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
}

impl Net {
    /// Whole links.
    #[must_use]
    pub fn new(links: Links) -> Net {
        Net { links, cuts: BTreeMap::new(), counts: Counts::default() }
    }

    /// When the copies of a message that is sent now arrive.
    pub fn send(
        &mut self,
        dice: &mut Dice,
        now: Time,
        (from, to): (u32, u32),
        bytes: usize,
    ) -> SmallVec<[Time; 2]> {
        self.counts.sent += 1;
        self.counts.bytes += bytes as u64;
        let mut arrivals = SmallVec::new();
        if self.is_cut(from, to) {
            self.counts.cut += 1;
            return arrivals;
        }
        if dice.next(Stream::Loss, from, to).happens(self.links.loss_ppm) {
            self.counts.lost += 1;
            return arrivals;
        }
        arrivals.push(now.plus_us(self.delay(dice, from, to)));
        if dice.next(Stream::Duplicate, from, to).happens(self.links.duplicate_ppm) {
            self.counts.duplicated += 1;
            arrivals.push(now.plus_us(self.delay(dice, from, to)));
        }
        arrivals
    }

    /// Whether what is on its way arrives now.
    pub fn deliver(&mut self, from: u32, to: u32) -> bool {
        let cut = self.is_cut(from, to);
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

    /// Ends all cuts, all losses and the long tail, for good.
    pub fn heal(&mut self) {
        self.cuts.clear();
        self.links = Links { loss_ppm: 0, duplicate_ppm: 0, tail_ppm: 0, ..self.links.clone() };
    }

    fn is_cut(&self, from: u32, to: u32) -> bool {
        self.cuts.get(&(from, to)).is_some_and(|&count| count > 0)
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
        (0..count).map(|_| net.send(&mut dice, Time::at_ms(5), (0, 1), 8)).collect()
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
        assert!(net.deliver(1, 0), "the other direction is whole");
        net.mend(&[(0, 1)]);
        assert!(!net.deliver(0, 1), "one cut is left");
        net.mend(&[(0, 1), (1, 2)]);
        assert!(net.deliver(0, 1));
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
