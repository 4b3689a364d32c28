//! Which levels meet: whoever is asked at one, and whoever holds what was written or read at another, have a replica in common.
//!
//! With R + W > N any two of `quorum` and `all` do. Otherwise only `all` meets everything that some replica holds. A read at `one`
//! asks one replica, and a write at `one` asks none. What a fallback holds nobody asks for. What one replica alone holds is met by
//! nobody for certain where damage that nobody repairs has struck. When nobody knows N, R and W, they are taken for usual ones.

use rondo_core::layout::Quorums;
use rondo_core::layout::keyspace::Level;

/// What a history is taken for that does not say.
const USUAL: Quorums = Quorums { n: 3, r: 2, w: 2 };

/// Which levels meet in one run.
#[derive(Clone, Copy, Debug)]
pub(super) struct Meets {
    quorums: Quorums,
    /// Whether one replica may lose what it holds.
    has_rotted: bool,
}

impl Meets {
    pub(super) fn new(effective: Option<Quorums>, has_rotted: bool) -> Meets {
        Meets { quorums: effective.unwrap_or(USUAL), has_rotted }
    }

    /// Whether every `quorum` meets every other.
    pub(super) fn is_strict(self) -> bool {
        self.asks(Level::Quorum, Some(Level::Quorum))
    }

    /// Whether a read, or the query round of a write, meets what was held as the level says when it began, or by no replica at all.
    /// Reads at `one` are promised nothing, and writes at `one` ask nobody.
    pub(super) fn asks(self, asked: Level, held: Option<Level>) -> bool {
        let Quorums { n, r, w } = self.quorums;
        let asked = match asked {
            Level::One => 0,
            Level::Quorum => r,
            Level::All => n,
        };
        let held = match held {
            None => 0,
            Some(Level::One) => u8::from(!self.has_rotted),
            Some(Level::Quorum) => w,
            Some(Level::All) => n,
        };
        u16::from(asked) + u16::from(held) > u16::from(n)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_meet_by_counting() {
        let levels = [Level::One, Level::Quorum, Level::All];
        let table = |n, r, w| {
            let meets = Meets::new(Some(Quorums { n, r, w }), false);
            levels.map(|asked| levels.map(|held| meets.asks(asked, Some(held))))
        };
        let none = [false; 3];
        assert_eq!(table(3, 2, 2), [none, [false, true, true], [true; 3]]);
        assert_eq!(table(5, 2, 2), [none, [false, false, true], [true; 3]]);
        assert_eq!(table(3, 3, 1), [none, [true; 3], [true; 3]]);
        let new = |quorums| Meets::new(quorums, false);
        assert!(new(None).is_strict() && !new(Some(Quorums { n: 3, r: 1, w: 1 })).is_strict());
        let rotten = Meets::new(None, true);
        assert!(rotten.is_strict() && !rotten.asks(Level::All, Some(Level::One)));
        assert!(levels.iter().all(|&asked| !new(None).asks(asked, None)));
    }
}
