//! At `one` nobody is asked for a key's highest time, so a node whose clock is far ahead of its peers' takes no such write: it
//! would order above all that others write, for as long as the clock is ahead.
//!
//! Judged by what the clocks have shown: a write at `one` that is acknowledged while its issuer hears a peer is no further ahead of
//! the highest time that any other node's clock has ever shown than the bound that the product promises. A node that hears nobody
//! believes its own clock. Left out: a write that had to be above a version that the key had before.

use rondo_core::config::HLC_AHEAD_MS_MAX;
use rondo_core::version::dvv::Dot;

use crate::history::{FarAhead, Place, Sighting};
use crate::oracle::Violation;
use crate::oracle::index::Index;
use crate::oracle::well::{SETTLED_MS, before};
use crate::rt::Time;

const NAME: &str = "far-ahead";
/// What clocks drift, and what a peer's time is old when it arrives, in milliseconds.
const SLACK_MS: u64 = 200;
/// A version that had to be above another one is at most so far above it, in milliseconds.
const NEXT_MS: u64 = 1;

pub(super) fn check(index: &Index<'_>) -> Vec<Violation> {
    if index.history.terms.plain_deadline_ms.is_none() {
        return Vec::new();
    }
    index.history.lives.far_ahead.iter().filter_map(|told| taken(index, told)).collect()
}

fn taken(index: &Index<'_>, told: &FarAhead) -> Option<Violation> {
    let FarAhead { op: id, fastest, at, by_ms } = *told;
    let op = &index.history.ops[id as usize];
    let dot = index.dot(op.key, id)?;
    let written = index.history.sightings.get(&(op.key, dot))?.first()?;
    let is_far = written.issuer == fastest && by_ms > HLC_AHEAD_MS_MAX + SLACK_MS;
    if !is_far
        || had_to_be(index, op.key, (dot, written))
        || !hears_a_peer(index, written.issuer, at)
    {
        return None;
    }
    let (key, node) = (op.key, written.issuer);
    let what = format!(
        "k{key}: op {id} was acknowledged at one by n{node}, {by_ms} ms ahead of what any other clock has shown, and it hears peers"
    );
    Some(Violation::safety(NAME, written.stamp, what))
}

/// Whether the key had a version right below, whose time any clock would have given way to.
fn had_to_be(index: &Index<'_>, key: u32, (dot, written): (Dot, &Sighting)) -> bool {
    let all = index.history.sightings.iter().filter(|((of, _), _)| *of == key);
    let mut others = all.filter(|((_, other), _)| *other != dot).flat_map(|(_, seen)| seen);
    others.any(|other| {
        other.hlc < written.hlc && written.hlc.wall_ms() - other.hlc.wall_ms() <= NEXT_MS
    })
}

/// Whether a node and one other ran, and were linked, for some time before. A clock that was set is wrong for ever, which keeps nobody
/// from being heard.
fn hears_a_peer(index: &Index<'_>, node: u32, at: Time) -> bool {
    let from = before(at, SETTLED_MS);
    let lives = &index.history.lives;
    let passing = lives.spells.iter().filter(|spell| spell.until < Time(u64::MAX));
    let cuts = lives.spells.iter().filter(|spell| matches!(spell.place, Place::Link(..)));
    let wrong: Vec<Place> = passing
        .chain(cuts)
        .filter(|spell| spell.from <= at && spell.until >= from)
        .map(|spell| spell.place)
        .collect();
    let is_well = |place| !wrong.contains(&place);
    let mut others: Vec<u32> = lives.boots.iter().map(|boot| boot.node).collect();
    others.retain(|&other| other != node);
    is_well(Place::Node(node))
        && others.into_iter().any(|other| {
            is_well(Place::Node(other))
                && is_well(Place::Link(node, other))
                && is_well(Place::Link(other, node))
        })
}

#[cfg(test)]
mod tests {
    use rondo_core::id::RequestId;
    use rondo_core::version::hlc::Hlc;

    use crate::history::{Boot, History, Spell, Stamp};
    use crate::oracle::made::Made;

    use super::*;

    /// A write at `one` at 9 s, so far ahead of all other clocks.
    fn told(by_ms: u64, change: impl Fn(&mut History)) -> Vec<String> {
        let mut made = Made::default();
        let op = made.put(0, 9_000, Some(9_001)).at_one().dot(7, 1).id() as u32;
        let mut history = made.history();
        history.terms.plain_deadline_ms = Some(1_000);
        history.lives.far_ahead.push(FarAhead { op, fastest: 0, at: Time::at_ms(9_001), by_ms });
        let boots = (0..2).map(|node| Boot { node, stamp: Stamp(1), epoch: 1 });
        history.lives.boots.extend(boots);
        change(&mut history);
        check(&Index::of(&history)).into_iter().map(|violation| violation.what).collect()
    }

    fn spell(place: Place, from: u64, until: u64) -> impl Fn(&mut History) {
        move |history| {
            let (from, until) = (Time::at_ms(from), Time(until.saturating_mul(1_000_000)));
            history.lives.spells.push(Spell { place, from, until });
        }
    }

    #[test]
    fn a_write_that_is_far_ahead_is_found() {
        let found = told(9_000, |_| {});
        assert_eq!(found.len(), 1);
        assert!(
            found[0].starts_with("k0: op 0 was acknowledged at one by n0, 9000 ms"),
            "{found:?}"
        );
        assert_eq!(told(9_000, spell(Place::Node(0), 5_000, u64::MAX)).len(), 1, "a set clock");
    }

    #[test]
    fn the_bound_a_node_alone_and_an_earlier_version_explain_it() {
        assert_eq!(told(HLC_AHEAD_MS_MAX + SLACK_MS, |_| {}), Vec::<String>::new());
        assert_eq!(told(9_000, spell(Place::Link(1, 0), 8_000, 8_500)), Vec::<String>::new());
        let below = told(9_000, |history| {
            let (&(key, dot), seen) = history.sightings.first_key_value().expect("one");
            let below =
                Sighting { hlc: Hlc(seen[0].hlc.0 - 1), request: RequestId(9), ..seen[0].clone() };
            history.sightings.insert((key, Dot { n: 2, ..dot }), vec![below]);
        });
        assert_eq!(below, Vec::<String>::new());
    }
}
