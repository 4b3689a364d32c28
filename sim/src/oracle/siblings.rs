//! A client that writes back what it read leaves one value: the context of an answer covers every value that it shows.
//!
//! Otherwise the old values would stand beside the new one for ever, and each such write would add one: the "sibling
//! explosion" of Riak's first vnode clocks. That no *acknowledged* write stands beside what it replaced is asked by `resurrection`.
//! Left out: a write that is still in flight may be shown beside what it will replace, because a later write of the same
//! actor has brought its value along, and only its own message brings what it overwrites.

use crate::oracle::Violation;
use crate::oracle::index::Index;

const NAME: &str = "siblings";

pub(super) fn check(index: &Index<'_>) -> Vec<Violation> {
    let mut wrong = Vec::new();
    for of in &index.keys {
        for told in of.told.iter().filter(|told| told.is_read) {
            for &shown in of.shown(told) {
                let fact = index.place(of, shown).map(|place| &of.facts[place as usize]);
                let dot = fact.and_then(|fact| fact.dot);
                if dot.is_some_and(|dot| !of.covers(told.clock, dot)) {
                    let (key, id) = (of.key, of.facts[told.place as usize].id);
                    let what = format!(
                        "k{key}: op {id} shows op {shown}, which its context does not cover"
                    );
                    wrong.push(Violation::safety(NAME, told.at, what));
                }
            }
        }
    }
    wrong
}

#[cfg(test)]
mod tests {
    use rondo_core::id::ActorId;
    use rondo_core::version::dvv::VersionVector;

    use crate::oracle::made::{Made, clock};

    use super::*;

    #[test]
    fn a_value_outside_the_context_is_found() {
        let mut made = Made::default();
        let old = made.put(0, 1, Some(2)).dot(7, 1).id();
        let new = made.put(0, 3, Some(4)).dot(8, 1).id();
        made.get(0, 7, 8, &[new, old]).knows(clock(7, 1));
        let told: Vec<String> =
            check(&Index::of(&made.history())).into_iter().map(|v| v.what).collect();
        assert_eq!(told, ["k0: op 2 shows op 1, which its context does not cover"]);
    }

    #[test]
    fn a_context_that_covers_all_it_shows_is_right() {
        let mut made = Made::default();
        let one = made.put(0, 1, Some(2)).sent(VersionVector::default()).dot(7, 1).id();
        let other = made.put(0, 1, Some(2)).sent(VersionVector::default()).dot(8, 1).id();
        let both = VersionVector::new([(ActorId(7), 1), (ActorId(8), 1)]);
        made.get(0, 5, 6, &[one, other]).knows(both);
        assert_eq!(check(&Index::of(&made.history())), []);
    }
}
