//! How this node's clock stands to those of the nodes that it hears.
//!
//! Invariants: whoever hears nobody believes its own clock; one wrong clock among two peers convicts nobody; who is between the two middle
//! clocks is right, as far as anybody can tell. Left out: setting a clock right, which is the operator's.

use smallvec::SmallVec;

use crate::env::{Mono, Wall};
use crate::member::membership::Membership;
use crate::step::Env;

impl Membership {
    /// How far this node's clock is ahead of the median of those it hears, in milliseconds; 0 when it hears
    /// nobody. Of two middle ones the nearer counts, so that one wrong clock among two peers convicts nobody; who is between the
    /// two is right, as far as anybody can tell.
    #[must_use]
    pub fn clock_ahead_ms(&self, now: Mono) -> i64 {
        let own = shows(self.looked.0, self.looked.1, now);
        let heard = self.peers.values().filter(|peer| self.hears(peer, now));
        let theirs = heard.filter_map(|peer| Some(shows(peer.wall, peer.heard?, now)));
        let mut ahead: SmallVec<[i64; 16]> =
            theirs.map(|theirs| own.saturating_sub(theirs)).collect();
        ahead.sort_unstable();
        outside_the_middle(&ahead)
    }

    /// What the median of the peers' clocks shows now, as far as this node hears any: how far its own clock may be trusted.
    #[must_use]
    pub fn peers_wall(&self, now: Mono) -> Option<Wall> {
        if !self.peers.values().any(|peer| self.hears(peer, now)) {
            return None;
        }
        let own = shows(self.looked.0, self.looked.1, now);
        Some(Wall(own.saturating_sub(self.clock_ahead_ms(now)).max(0).cast_unsigned()))
    }

    /// Looks at this node's own clock, which may have jumped since.
    pub fn look_at_clock(&mut self, env: &impl Env) {
        self.looked = (env.wall(), env.mono());
    }

    /// What this node's own clock shows now, in milliseconds, from when it was looked at last.
    #[must_use]
    pub fn own_ms(&self, now: Mono) -> u64 {
        shows(self.looked.0, self.looked.1, now).max(0).cast_unsigned()
    }
}

/// What a clock that showed `wall` at `at` shows now, in milliseconds.
fn shows(wall: Wall, at: Mono, now: Mono) -> i64 {
    i64::try_from(wall.0.saturating_add(now.ms_since(at))).unwrap_or(i64::MAX)
}

/// How far 0 is from the two middle ones of `ahead`, which is in order: 0 between them.
fn outside_the_middle(ahead: &[i64]) -> i64 {
    let high = ahead.get(ahead.len() / 2).copied().unwrap_or(0);
    let low = ahead.get(ahead.len().saturating_sub(1) / 2).copied().unwrap_or(0);
    if low > 0 { low } else { high.min(0) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_between_the_two_middle_clocks_is_right() {
        let cases: [(&[i64], i64); 9] = [
            (&[], 0),
            (&[700], 700),
            (&[-700], -700),
            (&[-40_000, 30_000], 0),
            (&[0, 30_000], 0),
            (&[200, 30_000], 200),
            (&[-30_000, -200], -200),
            (&[-90, 5, 90], 5),
            (&[-90, -80, 70, 90], 0),
        ];
        for (ahead, is) in cases {
            assert_eq!(outside_the_middle(ahead), is, "{ahead:?}");
        }
    }
}
