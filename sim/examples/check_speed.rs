//! How long a million operations take to be judged: `cargo run --release -p sim --example check_speed`.
//!
//! Fifty clients, each with one operation at a time, on 1,000, 10 and 1 keys; half of the operations read, a tenth are
//! compare-and-sets, and one in a hundred has an unknown outcome. Each history is judged as it is and with one stale
//! read in it. The histories are the same in every run.

use std::process::ExitCode;
use std::time::Instant;

use rondo_sim::check::{Event, NEVER, STATES_MAX, Value, Verdict, What, mixed, registers};

const OPERATIONS: u64 = 1_000_000;
const CLIENTS: u64 = 50;
const INITIAL: Value = Value(0);

fn main() -> ExitCode {
    let mut is_right = true;
    for keys in [1_000, 10, 1] {
        let mut events = history(keys);
        is_right &= judge(keys, "good", &events) == Verdict::Linearizable;
        make_stale(&mut events);
        is_right &= matches!(judge(keys, "stale", &events), Verdict::Not(_));
    }
    if is_right { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn judge(keys: u64, kind: &str, events: &[Event]) -> Verdict {
    let started = Instant::now();
    let verdict = registers(events, INITIAL, STATES_MAX);
    let seconds = started.elapsed().as_secs_f64();
    let word = match verdict {
        Verdict::Linearizable => "linearizable",
        Verdict::Not(_) => "not linearizable",
        Verdict::Undecided(_) => "undecided",
    };
    println!("{} operations, {keys} keys, {kind}: {word} in {seconds:.3} s", events.len());
    verdict
}

/// Operations that take effect at a moment inside of them, by call.
fn history(keys: u64) -> Vec<Event> {
    let mut luck = Luck(0);
    let mut plan: Vec<(u64, u64, u64)> = (0..OPERATIONS)
        .map(|number| {
            let slot = 10_000 * (number / CLIENTS) + 1;
            let called = slot + luck.below(5_000);
            let effect = called + luck.below(2_500);
            (effect, called, effect + luck.below(2_400) + 1)
        })
        .collect();
    plan.sort_unstable();
    let mut states = vec![INITIAL; keys as usize];
    let mut events: Vec<Event> = (1..)
        .zip(plan)
        .map(|(version, (_, called, ended))| {
            let key = luck.below(keys) as u32;
            let state = &mut states[key as usize];
            let (kind, is_unknown) = (luck.below(10), luck.below(100) == 0);
            let (before, to) = (*state, Value(version));
            let what = match kind {
                0..5 => What::Read(before),
                5..9 => What::Write(to),
                _ => What::Cas { from: before, to },
            };
            let takes_effect = !is_unknown || luck.below(2) == 0;
            if kind >= 5 && takes_effect {
                *state = to;
            }
            Event { called, ended: if is_unknown { NEVER } else { ended }, key, what }
        })
        .collect();
    events.sort_by_key(|event| event.called);
    events
}

/// The last read of the first key answers what an early one answered.
fn make_stale(events: &mut [Event]) {
    let is_read = |event: &&mut Event| {
        event.key == 0 && !event.is_unknown() && matches!(event.what, What::Read(_))
    };
    let early = events.iter_mut().find(is_read).map(|event| event.what);
    let late = events.iter_mut().rfind(is_read);
    if let (Some(early), Some(late)) = (early, late) {
        late.what = early;
    }
}

/// Numbers that are the same in every run.
struct Luck(u128);

impl Luck {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 += 1;
        mixed(self.0) as u64 % bound
    }
}
