//! The outline of a key's state: which dots are known and which of them are gone, without any value.
//!
//! Enough to ask whether a replica holds a state: dots are never issued twice, so who knows the same dots, and holds none
//! that is gone there, has nothing to learn.

use crate::version::dvv::{Dot, VersionSet, VersionVector};

/// The outline of one state.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Outline {
    /// The dots that are known.
    pub known: VersionVector,
    /// Those of them whose version is there; the others are gone.
    pub held: Vec<Dot>,
}

impl Outline {
    /// Of this state.
    #[must_use]
    pub fn of(state: &VersionSet) -> Outline {
        Outline { known: state.clock(), held: state.versions().map(|(dot, _)| dot).collect() }
    }

    /// Whether merging what this outlines would change nothing in `state`.
    #[must_use]
    pub fn is_within(&self, state: &VersionSet) -> bool {
        let gone_there = |dot| self.known.covers(dot) && !self.held.contains(&dot);
        state.clock().dominates(&self.known) && !state.versions().any(|(dot, _)| gone_there(dot))
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::collection::vec;
    use proptest::{prop_assert_eq, proptest};

    use super::*;
    use crate::id::{ActorId, RequestId};
    use crate::version::dvv::Version;
    use crate::version::hlc::Hlc;

    proptest! {
        /// Two replicas that write, over what they know or blindly, and merge now and then.
        #[test]
        fn a_state_is_within_another_iff_merging_it_changes_nothing(
            steps in vec((0usize..2, 0u8..3), 0..12)
        ) {
            let mut states = [VersionSet::default(), VersionSet::default()];
            for (at, what) in steps {
                let known = if what == 0 { VersionVector::default() } else { states[at].clock() };
                let other = states[1 - at].clone();
                if what == 2 {
                    states[at].merge(&other);
                } else {
                    let version = Version::value(Hlc(1), RequestId(1), Bytes::new(), Bytes::new());
                    states[at].put(&known, ActorId(at as u64), version);
                }
                for (mine, theirs) in [(0, 1), (1, 0)] {
                    let mut merged = states[mine].clone();
                    let changes = merged.merge(&states[theirs]);
                    prop_assert_eq!(Outline::of(&states[theirs]).is_within(&states[mine]), !changes);
                }
            }
        }
    }
}
