//! Which nodes own which partition: a pure function of the roles and the previous assignment.
//!
//! What it promises, for P partitions with n owners each:
//! - *Distinct*: the owners of a partition are n different nodes. Walking a ring of `partition mod nodes` breaks this at
//!   the wrap (<https://github.com/basho/riak_core/pull/913>), so there is no ring here.
//! - *Spread*: they are in min(n, zones) different zones. This comes before balance: a small zone may have to hold more.
//! - *Balance*: a node owns its fair share of the P * n slots, rounded down or up. Shares are in proportion to the weights;
//!   what a node cannot hold (more than P slots) or its zone must not (rule above) is shared by the others likewise.
//! - *Order*: a node is the first owner of one n-th of its partitions, rounded down or up.
//! - *Little movement*: a slot changes hands only to keep these promises.
//!
//! How: fix a target for every node, keep what may be kept, fill what is open, then move single slots along the
//! cheapest chains from nodes above their target to nodes below it, where a move costs what it makes a node fetch. Such a
//! chain always exists. Give every node the fraction target / P of every partition: this keeps all the rules, rows and
//! columns of the table are two laminar families, so by flow integrality a whole-numbered table with these targets exists
//! too, and its difference to ours contains a chain. Steps of a shortest chain do not disturb each other: two that
//! met in one partition could be replaced by one.
//!
//! Ties are broken by a fixed hash of partition and node, so that partners are mixed and the load of a dead node falls on many.
//! A layout stores its assignment: changing this file moves nothing until the next change of roles.

use std::collections::{BTreeSet, VecDeque};

use xxhash_rust::xxh3::xxh3_64;

use crate::layout::Role;

/// The owners of every partition, as indices into `roles` (sorted by node): `partitions * n` of them, the
/// owners of one partition together and in order of preference.
///
/// `previous` is an earlier assignment of the same partitions, perhaps with another n, expressed in indices into the same
/// `roles`, `u16::MAX` for a node that is gone.
#[must_use]
pub fn assign(roles: &[Role], n: u8, partitions: u16, previous: Option<&[u16]>) -> Vec<u16> {
    let mut draft = Draft::new(roles, usize::from(n), usize::from(partitions), previous);
    draft.keep();
    draft.fill();
    draft.balance();
    let first = draft.first_owners();
    draft.ordered(&first)
}

/// An assignment in the making.
struct Draft<'a> {
    roles: &'a [Role],
    /// The zone of each node, numbered by name.
    zone: Vec<usize>,
    n: usize,
    /// How many zones the owners of a partition must be in.
    spread: usize,
    /// The previous owners of each partition that are still there.
    previous: Vec<Vec<usize>>,
    /// The owners of each partition, in no order.
    owners: Vec<Vec<usize>>,
    /// How many slots each node has.
    count: Vec<usize>,
    /// How many it shall have.
    target: Vec<usize>,
    /// The partitions in a fixed, scattered order, so that a new node does not take one stretch of tokens.
    scattered: Vec<usize>,
}

/// One slot of `partition` goes from one node to another.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Move {
    partition: usize,
    from: usize,
    to: usize,
}

impl<'a> Draft<'a> {
    fn new(roles: &'a [Role], n: usize, partitions: usize, previous: Option<&[u16]>) -> Draft<'a> {
        assert!(n >= 1 && n <= roles.len(), "every partition needs distinct owners");
        assert!(partitions >= 1, "there is something to own");
        let names: BTreeSet<&str> = roles.iter().map(|role| role.zone.as_str()).collect();
        let number = |role: &Role| names.range(..role.zone.as_str()).count();
        let zone: Vec<usize> = roles.iter().map(number).collect();
        let previous = still_there(previous, partitions, roles.len());
        let mut held = vec![0; roles.len()];
        previous.iter().flatten().for_each(|&node| held[node] += 1);
        let mut scattered: Vec<usize> = (0..partitions).collect();
        scattered.sort_by_key(|&partition| (xxh3_64(&partition.to_le_bytes()), partition));
        Draft {
            roles,
            n,
            spread: n.min(names.len()),
            target: targets(&weights(roles), &zone, n, partitions, &held),
            zone,
            previous,
            owners: vec![Vec::new(); partitions],
            count: vec![0; roles.len()],
            scattered,
        }
    }

    /// Keeps the previous owners as far as n and the zones allow, those with the fewest slots too many first.
    fn keep(&mut self) {
        let mut held = vec![0; self.roles.len()];
        self.previous.iter().flatten().for_each(|&node| held[node] += 1);
        for &partition in &self.scattered.clone() {
            let mut wanted = self.previous[partition].clone();
            wanted.sort_by_key(|&node| held[node] - self.target[node] as i64);
            for node in wanted {
                if self.owners[partition].len() < self.n && self.fits(partition, None, node) {
                    self.give(partition, node);
                } else {
                    held[node] -= 1;
                }
            }
        }
    }

    /// Gives every open slot to the node that lacks the greatest part of its target.
    fn fill(&mut self) {
        for partition in 0..self.owners.len() {
            while self.owners[partition].len() < self.n {
                let lacks = |node: usize| {
                    let target = self.target[node] as i64;
                    let part = ((target - self.count[node] as i64) << 20) / target.max(1);
                    (part, self.mixed(partition, node), node)
                };
                let node = (0..self.roles.len())
                    .filter(|&node| self.fits(partition, None, node))
                    .max_by_key(|&node| lacks(node))
                    .expect("n distinct nodes in enough zones exist");
                self.give(partition, node);
            }
        }
    }

    /// Moves slots along the cheapest chains until every node has its target.
    fn balance(&mut self) {
        loop {
            let nodes = 0..self.roles.len();
            let mut over: Vec<usize> =
                nodes.filter(|&node| self.count[node] > self.target[node]).collect();
            over.sort_by_key(|&node| (self.target[node] as i64 - self.count[node] as i64, node));
            if over.is_empty() {
                return;
            }
            let under = |node: usize| self.count[node] < self.target[node];
            let cheapest = chain(self.roles.len(), &over, under, |node, visit| {
                self.moves_from(node, |partition, to| {
                    visit(partition, to, usize::from(self.moves_data(partition, node, to)));
                });
            });
            let shortest = || {
                chain(self.roles.len(), &over, under, |node, visit| {
                    self.moves_from(node, |partition, to| visit(partition, to, 1));
                })
            };
            let moves = if disturbs_itself(&cheapest) { shortest() } else { cheapest };
            for Move { partition, from, to } in moves {
                self.owners[partition].retain(|&owner| owner != from);
                self.count[from] -= 1;
                self.give(partition, to);
            }
        }
    }

    /// The first owner of each partition: the previous one where it stays, then changed along chains until
    /// every node is first for one n-th of its partitions.
    fn first_owners(&self) -> Vec<usize> {
        let nodes = self.roles.len();
        let mut count = vec![0; nodes];
        let mut first = Vec::with_capacity(self.owners.len());
        for (owners, previous) in self.owners.iter().zip(&self.previous) {
            let before = previous.first().filter(|node| owners.contains(node));
            let least = || owners.iter().min_by_key(|&&node| (count[node], node));
            let node = *before.or_else(least).expect("n is at least 1");
            count[node] += 1;
            first.push(node);
        }
        let low: Vec<usize> = self.target.iter().map(|target| target / self.n).collect();
        let high: Vec<usize> = self.target.iter().map(|target| target.div_ceil(self.n)).collect();
        for too_many in [true, false] {
            loop {
                let gives =
                    |&node: &usize| count[node] > if too_many { high[node] } else { low[node] };
                let sources: Vec<usize> = (0..nodes).filter(gives).collect();
                let takes =
                    |node: usize| count[node] < if too_many { high[node] } else { low[node] };
                let moves = chain(nodes, &sources, takes, |node, visit| {
                    for &partition in &self.scattered {
                        if first[partition] == node {
                            self.owners[partition].iter().for_each(|&to| visit(partition, to, 1));
                        }
                    }
                });
                if moves.is_empty() {
                    break;
                }
                for Move { partition, from, to } in moves {
                    first[partition] = to;
                    count[from] -= 1;
                    count[to] += 1;
                }
            }
        }
        first
    }

    /// The result: the first owner, then those that stay in their order, then the new ones.
    fn ordered(&self, first: &[usize]) -> Vec<u16> {
        let mut all = Vec::with_capacity(self.owners.len() * self.n);
        for (partition, owners) in self.owners.iter().enumerate() {
            let stays = |node| self.previous[partition].iter().position(|&owner| owner == node);
            let mut owners = owners.clone();
            owners.sort_by_key(|&node| {
                let place = stays(node).unwrap_or(usize::MAX);
                (node != first[partition], place, self.mixed(partition, node), node)
            });
            all.extend(owners.iter().map(|&node| node as u16));
        }
        all
    }

    /// Every node that may take a slot from `node`.
    fn moves_from(&self, node: usize, mut visit: impl FnMut(usize, usize)) {
        for &partition in &self.scattered {
            if self.owners[partition].contains(&node) {
                (0..self.roles.len())
                    .filter(|&to| self.fits(partition, Some(node), to))
                    .for_each(|to| visit(partition, to));
            }
        }
    }

    /// Whether this move makes one more node fetch a partition that it did not have.
    fn moves_data(&self, partition: usize, from: usize, to: usize) -> bool {
        let previous = &self.previous[partition];
        previous.contains(&from) && !previous.contains(&to)
    }

    /// Whether `node` may become an owner of `partition`, perhaps in the place of `leaving`: it is not one yet, and
    /// the open slots that remain are enough to reach the zones that are still missing.
    fn fits(&self, partition: usize, leaving: Option<usize>, node: usize) -> bool {
        let owners = &self.owners[partition];
        if owners.contains(&node) {
            return false;
        }
        let after = || owners.iter().filter(|&&owner| Some(owner) != leaving).chain([&node]);
        let new_zone = |&(at, owner): &(usize, &usize)| {
            after().take(at).all(|other| self.zone[*other] != self.zone[*owner])
        };
        let zones = after().enumerate().filter(new_zone).count();
        zones + (self.n - after().count()) >= self.spread
    }

    fn give(&mut self, partition: usize, node: usize) {
        self.owners[partition].push(node);
        self.count[node] += 1;
    }

    fn mixed(&self, partition: usize, node: usize) -> u64 {
        let mut bytes = [0; 24];
        bytes[..8].copy_from_slice(&(partition as u64).to_le_bytes());
        bytes[8..].copy_from_slice(&self.roles[node].node.0.to_le_bytes());
        xxh3_64(&bytes)
    }
}

/// The previous owners of each partition that have a role now, each once.
fn still_there(previous: Option<&[u16]>, partitions: usize, nodes: usize) -> Vec<Vec<usize>> {
    let mut kept = vec![Vec::new(); partitions];
    let previous = previous.unwrap_or_default();
    assert!(previous.len().is_multiple_of(partitions), "the partitions of a cluster never change");
    let n = (previous.len() / partitions).max(1);
    for (owners, before) in kept.iter_mut().zip(previous.chunks(n)) {
        for node in before.iter().map(|&node| usize::from(node)) {
            if node < nodes && !owners.contains(&node) {
                owners.push(node);
            }
        }
    }
    kept
}

/// A cheapest chain of moves from one of `sources` to a node that `takes`; empty when there is none.
/// `moves(node, visit)` tells `visit` each (partition, node) that may take a slot of `node`, and its cost, 0 or 1.
fn chain(
    nodes: usize,
    sources: &[usize],
    takes: impl Fn(usize) -> bool,
    moves: impl Fn(usize, &mut dyn FnMut(usize, usize, usize)),
) -> Vec<Move> {
    let mut came: Vec<Option<Move>> = vec![None; nodes];
    let mut cost = vec![usize::MAX; nodes];
    sources.iter().for_each(|&node| cost[node] = 0);
    let mut queue = VecDeque::from_iter(sources.iter().copied());
    while let Some(from) = queue.pop_front() {
        if takes(from) {
            return std::iter::successors(came[from], |step| came[step.from]).collect();
        }
        let so_far = cost[from];
        moves(from, &mut |partition, to, price| {
            if so_far + price < cost[to] {
                cost[to] = so_far + price;
                came[to] = Some(Move { partition, from, to });
                if price == 0 { queue.push_front(to) } else { queue.push_back(to) }
            }
        });
    }
    Vec::new()
}

/// Whether two moves meet in one partition: they may be right one by one and break the zones together.
fn disturbs_itself(moves: &[Move]) -> bool {
    let partitions: BTreeSet<usize> = moves.iter().map(|step| step.partition).collect();
    partitions.len() < moves.len()
}

fn weights(roles: &[Role]) -> Vec<u128> {
    roles.iter().map(|role| u128::from(role.weight.max(1))).collect()
}

/// A share of the slots: `whole` and a fraction whose denominator is the same for all nodes that have one.
#[derive(Clone, Copy, Default)]
struct Share {
    whole: usize,
    rest: u128,
}

/// How many slots each node shall have. Rounding up goes first to nodes that would otherwise give a slot away.
fn targets(
    weights: &[u128],
    zone: &[usize],
    n: usize,
    partitions: usize,
    held: &[usize],
) -> Vec<usize> {
    let zones = zone.iter().max().map_or(0, |last| last + 1);
    let members = |at: usize| (0..zone.len()).filter(move |&node| zone[node] == at);
    let mut target = vec![0; weights.len()];
    let mut free: Vec<usize> = (0..zones).collect();
    let (shares, divisor) = loop {
        let nodes: Vec<usize> = free.iter().flat_map(|&at| members(at)).collect();
        let slots = (n + free.len() - zones) * partitions;
        let (shares, divisor) = fair_shares(weights, &nodes, slots, partitions);
        // With enough zones none may hold a partition twice; with too few each must hold every partition.
        let (bound, unit) = (partitions as u128 * divisor, divisor);
        let breaks = |&at: &usize| {
            let held: u128 =
                members(at).map(|i| shares[i].whole as u128 * unit + shares[i].rest).sum();
            if zones >= n { held > bound } else { held < bound }
        };
        let fixed: Vec<usize> = free.iter().copied().filter(breaks).collect();
        if fixed.is_empty() {
            break (shares, divisor);
        }
        for &at in &fixed {
            let nodes: Vec<usize> = members(at).collect();
            let (shares, _) = fair_shares(weights, &nodes, partitions, partitions);
            round(&nodes, &shares, partitions, held, &mut target);
        }
        free.retain(|at| !fixed.contains(at));
    };
    // Zones are rounded before their nodes, so that the bounds on zones survive the rounding.
    let mut whole = vec![Share::default(); zones];
    let mut zone_held = vec![0; zones];
    for &at in &free {
        let rest: u128 = members(at).map(|node| shares[node].rest).sum();
        let wholes: usize = members(at).map(|node| shares[node].whole).sum();
        whole[at] = Share { whole: wholes + (rest / divisor) as usize, rest: rest % divisor };
        zone_held[at] = members(at).map(|node| held[node]).sum();
    }
    let mut zone_target = vec![0; zones];
    round(&free, &whole, (n + free.len() - zones) * partitions, &zone_held, &mut zone_target);
    for &at in &free {
        let nodes: Vec<usize> = members(at).collect();
        round(&nodes, &shares, zone_target[at], held, &mut target);
    }
    target
}

/// Shares `slots` among `nodes` in proportion to their weights, at most `most` for each; with the denominator
/// of the fractions.
fn fair_shares(weights: &[u128], nodes: &[usize], slots: usize, most: usize) -> (Vec<Share>, u128) {
    let mut shares = vec![Share::default(); weights.len()];
    let mut open: Vec<usize> = nodes.to_vec();
    let mut slots = slots as u128;
    loop {
        let total: u128 = open.iter().map(|&node| weights[node]).sum();
        let full = |&node: &usize| slots * weights[node] > most as u128 * total;
        let (filled, rest): (Vec<usize>, Vec<usize>) = open.iter().partition(|node| full(node));
        if filled.is_empty() {
            for &node in &open {
                let part = slots * weights[node];
                shares[node] = Share { whole: (part / total) as usize, rest: part % total };
            }
            return (shares, total.max(1));
        }
        filled.iter().for_each(|&node| shares[node].whole = most);
        slots -= (filled.len() * most) as u128;
        open = rest;
    }
}

/// Rounds the shares of `nodes` down or up so that they add up to `slots`.
fn round(nodes: &[usize], shares: &[Share], slots: usize, held: &[usize], target: &mut [usize]) {
    nodes.iter().for_each(|&node| target[node] = shares[node].whole);
    let open = slots - nodes.iter().map(|&node| target[node]).sum::<usize>();
    let mut up: Vec<usize> = nodes.iter().copied().filter(|&node| shares[node].rest > 0).collect();
    up.sort_by_key(|&node| {
        let gives = held[node] > shares[node].whole;
        (!gives, std::cmp::Reverse(shares[node].rest), node)
    });
    up.iter().take(open).for_each(|&node| target[node] += 1);
}
