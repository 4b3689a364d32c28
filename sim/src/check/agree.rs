//! Zones and search give the same verdicts: on random small histories, good and bad, with compare-and-sets and
//! with operations whose outcome is unknown.

use super::*;
use crate::check::history::{NEVER, What};
use crate::check::model::mixed;

/// Luck from a seed.
struct Luck {
    seed: u64,
    drawn: u64,
}

impl Luck {
    fn below(&mut self, bound: u64) -> u64 {
        self.drawn += 1;
        mixed(u128::from(self.seed) << 64 | u128::from(self.drawn)) as u64 % bound
    }

    fn percent(&mut self, chance: u64) -> bool {
        self.below(100) < chance
    }
}

/// Operations take effect in some order at moments inside of them; now and then one lies about what it saw.
fn random(seed: u64) -> Vec<Event> {
    let mut luck = Luck { seed, drawn: 0 };
    let lies = if luck.percent(60) { 50 } else { 0 };
    let width = 1 + luck.below(20);
    let mut spans: Vec<(u64, u64, u64)> = (0..3 + luck.below(9))
        .map(|_| {
            let effect = 30 + luck.below(40);
            (effect - luck.below(width), effect, effect + luck.below(width))
        })
        .collect();
    spans.sort_by_key(|&(_, effect, _)| effect);
    let (mut state, mut written) = (Value(0), 0);
    let mut events = Vec::new();
    for (called, _, ended) in spans {
        let seen = match luck.percent(lies) {
            true => Value(luck.below(written + 2) as u32),
            false => state,
        };
        let kind = luck.below(10);
        let is_unknown = luck.percent(20);
        let to = Value(written as u32 + 1);
        let what = match kind {
            0..5 => What::Read(seen),
            5..8 => What::Write(to),
            _ => What::Cas { from: seen, to },
        };
        written += u64::from(kind >= 5);
        if kind >= 5 && !(is_unknown && luck.percent(50)) {
            state = to;
        }
        let ended = if is_unknown { NEVER } else { 2 * ended + 1 };
        events.push(Event { called: 2 * called, ended, key: 0, what });
    }
    events
}

#[test]
fn zones_and_search_agree_on_random_histories() {
    let register = Register { initial: Value(0) };
    let (mut good, mut bad) = (0, 0);
    let mut zones = Zones::default();
    for seed in 0..60_000 {
        let events = random(seed);
        let of: Vec<u32> = (0..events.len() as u32).collect();
        let judged = zones.judge(&events, &of, register.initial).expect("versions are unique");
        let searched = Search::new(&register, &events).run(1_000_000);
        assert_eq!(Some(judged.is_ok()), searched, "seed {seed}: {judged:?} {events:#?}");
        *if judged.is_ok() { &mut good } else { &mut bad } += 1;
    }
    assert!(good > 20_000 && bad > 10_000, "{good} good and {bad} bad histories");
}
