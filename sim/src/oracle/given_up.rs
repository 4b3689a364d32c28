//! Which writes may be lost: those that a node alone knew when it was gone for good, and nobody else has stored since.
//!
//! At `quorum` and `all` only where an operator has given up what that node alone had; at `one` wherever it is gone, because one
//! replica may have held such a write alone. What anybody else knew then, or has stored later, is excused by nothing.

use std::collections::BTreeMap;

use rondo_core::layout::keyspace::Level;
use rondo_core::version::dvv::{Dot, VersionVector};

use crate::history::{Alone, History, Kept};

/// What was lost with nodes.
#[derive(Default)]
pub(super) struct GivenUp<'a> {
    by_key: BTreeMap<u32, Vec<Loss<'a>>>,
}

struct Loss<'a> {
    of: &'a Alone,
    is_accepted: bool,
    /// What others have stored durably since.
    later: VersionVector,
}

impl<'a> GivenUp<'a> {
    pub(super) fn of(history: &'a History) -> GivenUp<'a> {
        let mut by_key: BTreeMap<u32, Vec<Loss<'a>>> = BTreeMap::new();
        let Some(reshaping) = &history.lives.reshaping else {
            return GivenUp::default();
        };
        for of in &reshaping.alone {
            let is_accepted = reshaping.given_up.contains(&of.node);
            let later = VersionVector::default();
            by_key.entry(of.key).or_default().push(Loss { of, is_accepted, later });
        }
        for Kept { key, node, stamp, clock } in &history.kept {
            let losses = by_key.get_mut(key).into_iter().flatten();
            let is_later = |loss: &&mut Loss<'_>| loss.of.node != *node && loss.of.stamp < *stamp;
            losses.filter(is_later).for_each(|loss| loss.later.join(clock));
        }
        GivenUp { by_key }
    }

    /// Whether a write of this level may be lost.
    pub(super) fn has(&self, key: u32, dot: Dot, level: Level) -> bool {
        let mut losses = self.by_key.get(&key).into_iter().flatten();
        losses.any(|Loss { of, is_accepted, later }| {
            (*is_accepted || level == Level::One)
                && of.knew.covers(dot)
                && !of.others.covers(dot)
                && !later.covers(dot)
        })
    }
}

#[cfg(test)]
mod tests {
    use rondo_core::id::ActorId;

    use crate::history::{Reshaping, Stamp};
    use crate::oracle::made::clock;

    use super::*;

    /// Node 2 alone knew dot 2 of actor 7 when it ended, and the others dot 1.
    fn history(change: impl Fn(&mut Reshaping, &mut Vec<Kept>)) -> History {
        let (knew, others) = (clock(7, 2), clock(7, 1));
        let alone = vec![Alone { node: 2, stamp: Stamp(9), key: 0, knew, others }];
        let mut reshaping = Reshaping { alone, ..Reshaping::default() };
        let mut history = History::default();
        change(&mut reshaping, &mut history.kept);
        history.lives.reshaping = Some(reshaping);
        history
    }

    fn lost(history: &History, level: Level) -> Vec<u64> {
        let given_up = GivenUp::of(history);
        let has = |n: &u64| given_up.has(0, Dot { actor: ActorId(7), n: *n }, level);
        (1..4).filter(has).collect()
    }

    #[test]
    fn only_what_one_node_alone_knew_is_given_up_and_at_quorum_only_by_an_operators_word() {
        let silent = history(|_, _| {});
        assert_eq!(
            (lost(&silent, Level::One), lost(&silent, Level::Quorum)),
            (vec![2], Vec::new())
        );
        let accepted = history(|reshaping, _| _ = reshaping.given_up.insert(2));
        assert_eq!(lost(&accepted, Level::Quorum), [2]);
        let of_another = history(|reshaping, _| _ = reshaping.given_up.insert(1));
        assert_eq!(lost(&of_another, Level::Quorum), [0; 0]);
    }

    #[test]
    fn what_somebody_else_has_stored_since_is_not_given_up() {
        let kept = |node, stamp| {
            let kept = Kept { key: 0, node, stamp: Stamp(stamp), clock: clock(7, 2) };
            history(move |reshaping, all| {
                reshaping.given_up.insert(2);
                all.push(kept.clone());
            })
        };
        assert_eq!(lost(&kept(1, 12), Level::Quorum), [0; 0]);
        assert_eq!(lost(&kept(2, 12), Level::Quorum), [2], "by the node itself");
        assert_eq!(lost(&kept(1, 8), Level::Quorum), [2], "before: it had forgotten it again");
    }
}
