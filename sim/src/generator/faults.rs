//! Which faults a scenario has: how many, of which families, and which follow each other. What each is, its family says (`fault`).

use crate::fault::{self, Entry, Fault, Room, Trigger};
use crate::generator::Mode;
use crate::rng::Rng;

/// All faults of a run.
pub(super) fn faults(rng: &mut Rng, mode: Mode, room: &Room) -> Vec<Fault> {
    let possible = possible(room);
    let count = match mode {
        Mode::Few => rng.below(5),
        Mode::Uniform => rng.between(5, 18),
        Mode::Swarm | Mode::Mutation => rng.log(1, 25),
    };
    let among = if mode == Mode::Swarm { swarm(rng, room) } else { possible };
    let mut faults: Vec<Fault> = Vec::new();
    if among.is_empty() {
        return faults;
    }
    for _ in 0..count {
        let entry = rng.pick(&among);
        let mut fault = Fault::draw(rng, room, entry);
        // Troubles seldom come alone: some follow another closely.
        if !faults.is_empty() && matches!(fault.when, Trigger::At { .. }) && rng.percent(20) {
            let before = rng.below(faults.len() as u64) as usize;
            fault.when = Trigger::After { fault: before, ms: rng.log(1, 500) };
        }
        let follower = fault.what.trouble().followed_by(rng, room, faults.len());
        faults.push(fault);
        faults.extend(follower);
    }
    faults
}

/// One more fault, which a scenario that is made already has time for.
pub(super) fn another(rng: &mut Rng, room: &Room) -> Option<Fault> {
    let among: Vec<_> = possible(room).into_iter().filter(|entry| !entry.is_long).collect();
    (!among.is_empty()).then(|| {
        let entry = rng.pick(&among);
        Fault::draw(rng, room, entry)
    })
}

/// In one scenario of five, one of the kinds that are drawn by dice of their own.
pub(super) fn apart(rng: &mut Rng, room: &Room) -> Option<Fault> {
    if !rng.percent(20) {
        return None;
    }
    let mut apart: Vec<_> = fault::entries().filter(|entry| entry.apart.is_some()).collect();
    apart.sort_by_key(|entry| entry.apart);
    let entry = rng.pick(&apart);
    entry.is_possible(room).then(|| Fault::draw(rng, room, entry))
}

fn possible(room: &Room) -> Vec<&'static Entry> {
    usual().filter(|entry| entry.apart.is_none() && entry.is_possible(room)).collect()
}

/// What a scenario may have that was not made for it.
fn usual() -> impl Iterator<Item = &'static Entry> {
    fault::entries().filter(|entry| !entry.by_load)
}

/// Some families, and of each some kinds.
fn swarm(rng: &mut Rng, room: &Room) -> Vec<&'static Entry> {
    let mut families: Vec<&str> = usual().map(|entry| entry.family).collect();
    families.dedup();
    families.retain(|_| rng.percent(55));
    let chosen = possible(room).into_iter().filter(|entry| families.contains(&entry.family));
    chosen.filter(|_| rng.percent(45)).collect()
}
