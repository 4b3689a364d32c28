//! The laws of version sets: exhaustively on small states and short histories, then in long random histories against
//! an oracle that keeps plain sets of dots.
//!
//! The oracle knows two sets for each replica: the dots it has heard of, and those it knows to be overwritten. Both only
//! grow, and what is shown is the difference. It has no counters and no runs, which is where a version vector can go
//! wrong. A client's token is a set of dots too: what it was shown, what it wrote, and what others have overwritten.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use proptest::prelude::{Strategy, any, prop, prop_assert_eq, proptest};
use proptest::test_runner::{Config, FileFailurePersistence};
use rondo_core::id::{ActorId, RequestId};
use rondo_core::version::dvv::{Behind, Dot, Entry, Version, VersionSet, VersionVector};
use rondo_core::version::hlc::Hlc;
use rondo_core::version::runs::{Run, Runs};
use smallvec::SmallVec;

/// A version that names its own dot, so that one which has slipped to another dot is seen.
fn version(dot: Dot) -> Version {
    let content = Bytes::from(format!("{} {}", dot.actor, dot.n));
    Version::value(Hlc(dot.n), RequestId(u128::from(dot.n)), Bytes::new(), content)
}

fn dot(actor: u64, n: u64) -> Dot {
    Dot { actor: ActorId(actor), n }
}

/// The state of these marks for each actor from 1 on: `-` a dot that is not known, `x` one that is gone, `o` one that is there.
fn state(actors: &[&str]) -> VersionSet {
    let mut entries: SmallVec<[Entry; 1]> = SmallVec::new();
    for (at, marks) in actors.iter().enumerate() {
        let actor = ActorId(at as u64 + 1);
        let (mut known, mut versions) = (Runs::default(), Vec::new());
        for (n, mark) in (1..).zip(marks.chars()).filter(|(_, mark)| *mark != '-') {
            known.add(Run { from: n, to: n });
            if mark == 'o' {
                versions.insert(0, (n, version(Dot { actor, n })));
            }
        }
        if !known.is_empty() {
            entries.push(Entry { actor, known, versions });
        }
    }
    VersionSet::from_entries(entries).expect("sorted and sound")
}

/// Every state of `actors` actors with at most `most` dots each.
fn all_states(actors: usize, most: usize) -> Vec<VersionSet> {
    let longer = |rows: Vec<String>| -> Vec<String> {
        rows.iter().flat_map(|row| ["-", "x", "o"].map(|mark| format!("{row}{mark}"))).collect()
    };
    let all = (0..actors * most).fold(vec![String::new()], |rows, _| longer(rows));
    let split = |row: &String| {
        let marks: Vec<&str> = (0..actors).map(|at| &row[at * most..][..most]).collect();
        state(&marks)
    };
    all.iter().map(split).collect()
}

fn merged(left: &VersionSet, right: &VersionSet) -> VersionSet {
    let mut state = left.clone();
    let changed = state.merge(right);
    assert_eq!(changed, state != *left, "merge says whether it changed anything");
    state
}

/// The dots shown; every version must still be the one that was written under its dot.
fn shown(state: &VersionSet) -> BTreeSet<Dot> {
    let check = |(dot, found): (Dot, &Version)| {
        assert_eq!(*found, version(dot), "a version has changed its dot");
        dot
    };
    state.versions().map(check).collect()
}

/// The dots that a clock covers.
fn covered_by(clock: &VersionVector) -> BTreeSet<Dot> {
    let runs = clock.entries().iter();
    runs.flat_map(|(actor, runs)| {
        let numbers = runs.list().iter().flat_map(|run| run.from..=run.to);
        numbers.map(|n| Dot { actor: *actor, n })
    })
    .collect()
}

fn discarded(state: &VersionSet) -> BTreeSet<Dot> {
    &covered_by(&state.clock()) - &shown(state)
}

#[test]
fn merge_is_commutative_associative_and_idempotent_in_every_small_state() {
    for (actors, most) in [(1, 4), (2, 2), (3, 1)] {
        let all = all_states(actors, most);
        for a in &all {
            assert_eq!(merged(a, a), *a);
            for b in &all {
                let ab = merged(a, b);
                assert_eq!(ab, merged(b, a));
                assert_eq!(ab.digest() == a.digest(), ab == *a, "equal digests mean equal states");
                for c in &all {
                    assert_eq!(merged(&ab, c), merged(a, &merged(b, c)));
                }
            }
        }
    }
}

#[test]
fn merge_keeps_what_one_has_and_the_other_has_not_discarded_and_nothing_else() {
    let all = all_states(2, 3);
    for a in &all {
        for b in &all {
            let either = &shown(a) | &shown(b);
            let gone = &discarded(a) | &discarded(b);
            let both = merged(a, b);
            assert_eq!(shown(&both), &either - &gone);
            assert!(both.clock().dominates(&a.clock()) && both.clock().dominates(&b.clock()));
            assert!(discarded(&both).is_superset(&gone), "what is gone stays gone");
        }
    }
}

#[test]
fn put_leaves_the_new_version_and_what_its_context_does_not_cover() {
    for before in all_states(2, 2) {
        for context in all_states(2, 3).iter().map(VersionSet::clock) {
            let mut after = before.clone();
            let next = before.highest(ActorId(1)).max(context.highest(ActorId(1))) + 1;
            let new = after.put(&context, ActorId(1), version(dot(1, next)));
            assert_eq!(new, dot(1, next));
            let mut expected: BTreeSet<Dot> =
                shown(&before).into_iter().filter(|&old| !context.covers(old)).collect();
            expected.insert(new);
            assert_eq!(shown(&after), expected);
            let known = &covered_by(&before.clock()) | &covered_by(&context);
            assert_eq!(covered_by(&after.clock()), &known | &BTreeSet::from([new]));
        }
    }
}

/// The writer's token: its own dot even above one it has not seen, and never that one.
#[test]
fn a_writer_knows_its_own_dot_and_what_is_gone_and_nothing_that_it_has_not_seen() {
    for before in all_states(2, 2) {
        for seen in all_states(2, 2).iter().map(VersionSet::clock) {
            let mut after = before.clone();
            let next = before.highest(ActorId(1)).max(seen.highest(ActorId(1))) + 1;
            let new = after.put(&seen, ActorId(1), version(dot(1, next)));
            let knows = covered_by(&after.known_to_writer(&seen, new));
            let mine = &covered_by(&seen) | &BTreeSet::from([new]);
            assert!(knows.is_superset(&mine));
            let more = &knows - &mine;
            assert!(more.is_subset(&discarded(&after)), "{more:?} of {after:?}");
            let unseen = shown(&after).into_iter().filter(|dot| !mine.contains(dot));
            assert!(unseen.into_iter().all(|dot| !knows.contains(&dot)));
        }
    }
}

/// What the oracle knows of one state, message or context.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
struct Known {
    heard: BTreeSet<Dot>,
    gone: BTreeSet<Dot>,
}

impl Known {
    fn join(&mut self, other: &Known) {
        self.heard.extend(&other.heard);
        self.gone.extend(&other.gone);
    }
}

/// One step of a history. Numbers are taken modulo what there is to choose from.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// A client reads at a replica and remembers the context.
    Read { at: usize },
    /// A put at a replica, blind or with any context remembered so far, however stale.
    Put { at: usize, context: Option<usize> },
    /// A replica sends its whole state, which may arrive at any time, or never, or twice.
    Send { at: usize },
    /// A message that was sent some time arrives.
    Arrive { message: usize, at: usize },
}

/// Replicas, each with one actor, beside what the oracle knows of them.
#[derive(Clone, Default)]
struct World {
    replicas: Vec<(VersionSet, Known)>,
    contexts: Vec<(VersionVector, BTreeSet<Dot>)>,
    messages: Vec<(VersionSet, Known)>,
    /// All dots issued, and all that some put with them in its context has overwritten.
    issued: BTreeSet<Dot>,
    overwritten: BTreeSet<Dot>,
    /// What each dot's writer has overwritten.
    covered: BTreeMap<Dot, BTreeSet<Dot>>,
}

impl World {
    fn new(replicas: usize) -> World {
        World { replicas: vec![Default::default(); replicas], ..World::default() }
    }

    fn step(&mut self, step: Step) {
        let replicas = self.replicas.len();
        match step {
            Step::Read { at } => {
                let (state, known) = &self.replicas[at % replicas];
                assert_eq!(covered_by(&state.clock()), known.heard);
                self.contexts.push((state.clock(), known.heard.clone()));
            }
            Step::Put { at, context } => self.put(at % replicas, context),
            Step::Send { at } => self.messages.push(self.replicas[at % replicas].clone()),
            Step::Arrive { message, at } if !self.messages.is_empty() => {
                let (state, known) = &self.messages[message % self.messages.len()];
                let replica = &mut self.replicas[at % replicas];
                replica.0.merge(state);
                replica.1.join(known);
            }
            Step::Arrive { .. } => {}
        }
        for (state, known) in self.replicas.iter().chain(&self.messages) {
            assert_eq!(shown(state), &known.heard - &known.gone);
            for dot in shown(state) {
                assert!(known.gone.is_superset(&self.covered[&dot]), "{dot:?} without what it did");
            }
        }
    }

    fn put(&mut self, at: usize, context: Option<usize>) {
        let remembered = self.contexts.len();
        let (clock, covered) = match context {
            Some(context) if remembered > 0 => self.contexts[context % remembered].clone(),
            _ => Default::default(),
        };
        let actor = ActorId(at as u64 + 1);
        let (state, known) = &mut self.replicas[at];
        let next = state.highest(actor) + 1;
        let new = state.put(&clock, actor, version(Dot { actor, n: next }));
        assert!(self.issued.insert(new), "{new:?} was issued twice");
        self.overwritten.extend(&covered);
        known.heard.extend(&covered);
        known.heard.insert(new);
        known.gone.extend(&covered);
        // The writer's token: what it covered and its own dot, and what it may add to that has been overwritten.
        let token = state.known_to_writer(&clock, new);
        let mut told = covered_by(&token);
        let more = &told - &(&covered | &BTreeSet::from([new]));
        assert!(more.is_subset(&known.gone), "{new:?} knows {more:?}, which nobody overwrote");
        told.extend(&covered);
        assert!(told.contains(&new) && told == covered_by(&token));
        self.contexts.push((token, told));
        self.messages.push((state.clone(), known.clone()));
        self.covered.insert(new, covered);
    }

    /// When everybody has heard everything, all show exactly what no put has overwritten.
    fn heal(mut self) {
        let mut all = VersionSet::default();
        self.replicas.iter().for_each(|(state, _)| {
            all.merge(state);
        });
        assert_eq!(shown(&all), &self.issued - &self.overwritten);
        for (state, _) in &mut self.replicas {
            state.merge(&all);
            assert_eq!(state.digest(), all.digest());
            assert_eq!(state.winner(), all.winner());
        }
    }
}

fn every_step(world: &World) -> Vec<Step> {
    let replicas = 0..world.replicas.len();
    let contexts = || (0..world.contexts.len()).map(Some).chain([None]);
    let messages = || 0..world.messages.len();
    let mut steps: Vec<Step> = Vec::new();
    for at in replicas {
        steps.extend([Step::Read { at }, Step::Send { at }]);
        steps.extend(contexts().map(|context| Step::Put { at, context }));
        steps.extend(messages().map(|message| Step::Arrive { message, at }));
    }
    steps
}

fn explore(world: &World, depth: usize, ended: &mut usize) {
    if depth == 0 {
        *ended += 1;
        return world.clone().heal();
    }
    for step in every_step(world) {
        let mut next = world.clone();
        next.step(step);
        explore(&next, depth - 1, ended);
    }
}

#[test]
fn every_short_history_agrees_with_the_oracle() {
    let mut ended = 0;
    explore(&World::new(2), 5, &mut ended);
    explore(&World::new(3), 4, &mut ended);
    assert!(ended > 40_000, "{ended} histories");
}

fn step() -> impl Strategy<Value = Step> {
    (0..10u8, any::<prop::sample::Index>(), 0..5usize, any::<bool>()).prop_map(
        |(kind, any, at, blind)| {
            let index = any.index(1 << 20);
            match kind {
                0..=1 => Step::Read { at },
                2..=4 => Step::Put { at, context: (!blind).then_some(index) },
                5 => Step::Send { at },
                _ => Step::Arrive { message: index, at },
            }
        },
    )
}

/// Cases that failed once are kept here, and are run first.
const FAILURES: FileFailurePersistence = FileFailurePersistence::Direct("tests/dvv.regressions");

proptest! {
    #![proptest_config(Config { failure_persistence: Some(Box::new(FAILURES)), ..Config::default() })]

    #[test]
    fn random_histories_agree_with_the_oracle(
        replicas in 1usize..=5,
        steps in prop::collection::vec(step(), 1..80),
    ) {
        let mut world = World::new(replicas);
        steps.into_iter().for_each(|step| world.step(step));
        world.heal();
    }

    /// What comes from outside is refused unless it is sorted, counted from 1 and no longer than its counter.
    #[test]
    fn entries_from_outside_are_checked(
        rows in prop::collection::vec((0u64..4, 0u64..4, 0usize..4), 0..4),
    ) {
        let entry = |&(actor, n, len): &(u64, u64, usize)| {
            let held = (0..len as u64).map(|back| (n.wrapping_sub(back), version(dot(actor, n))));
            Entry { actor: ActorId(actor), known: Runs::up_to(n), versions: held.collect() }
        };
        let sound = rows.windows(2).all(|pair| pair[0].0 < pair[1].0)
            && rows.iter().all(|&(_, n, len)| n > 0 && len as u64 <= n);
        let set = VersionSet::from_entries(rows.iter().map(entry).collect());
        prop_assert_eq!(set.is_some(), sound);
    }
}

/// Two clients that read, change and write back through one coordinator, in turns. A store that forgets which value was
/// written by whom keeps one more sibling with every round (<https://github.com/basho/riak_kv/pull/746>).
#[test]
fn interleaved_writers_that_pass_contexts_make_no_sibling_explosion() {
    let mut state = VersionSet::default();
    let mut contexts = [VersionVector::default(), VersionVector::default()];
    for n in 1..=100u64 {
        let client = (n % 2) as usize;
        state.put(&contexts[client], ActorId(1), version(dot(1, n)));
        assert!(state.versions().count() <= 2, "round {n}");
        contexts[client] = state.clock();
    }
}

/// Only the coordinator counts; a replica that counted its own merges would differ from the others for ever
/// (<https://github.com/basho/riak_kv/issues/334>).
#[test]
fn replicas_that_merge_a_write_are_equal_at_once() {
    let mut coordinator = VersionSet::default();
    coordinator.put(&VersionVector::default(), ActorId(1), version(dot(1, 1)));
    let replicas =
        [merged(&VersionSet::default(), &coordinator), merged(&coordinator, &coordinator)];
    for replica in replicas {
        assert_eq!(replica.digest(), coordinator.digest());
    }
}

/// A clock that was cut to a maximal length lets overwritten versions return with every handoff
/// (<https://github.com/basho/riak_core/issues/613>). Here a hundred coordinators leave one version.
#[test]
fn an_old_copy_brings_nothing_back_however_many_wrote() {
    let (mut state, mut copies) = (VersionSet::default(), Vec::new());
    for actor in 1..=100 {
        state.put(&state.clock(), ActorId(actor), version(dot(actor, 1)));
        copies.push(state.clone());
    }
    for copy in copies {
        assert!(!state.merge(&copy), "an old copy changes nothing");
    }
    assert_eq!(shown(&state), BTreeSet::from([dot(100, 1)]));
}

/// Equal times are ordered by actor, not by the order of arrival.
#[test]
fn equal_times_have_the_same_winner_everywhere() {
    let write = |actor| {
        let mut state = VersionSet::default();
        let version =
            Version::value(Hlc(7), RequestId(0), Bytes::new(), Bytes::from(format!("{actor}")));
        state.event(ActorId(actor), 0, version);
        state
    };
    let (a, b) = (write(1), write(2));
    for both in [merged(&a, &b), merged(&b, &a)] {
        assert_eq!(both.winner().map(|(dot, _)| dot), Some(dot(2, 1)));
    }
}

/// A conditional write stands directly behind the version it was made for: ahead of it, and of nothing that is newer than that.
#[test]
fn nothing_fits_between_a_version_and_the_conditional_write_behind_it() {
    let base = Version { hlc: Hlc(5), ..version(dot(1, 1)) };
    let behind = |step| Some(Behind { actor: ActorId(1), step });
    let first = Version { hlc: Hlc(5), behind: behind(1), ..version(dot(3, 1)) };
    let second = Version { hlc: Hlc(5), behind: behind(2), ..version(dot(2, 1)) };
    let between = Version { hlc: Hlc(5), ..version(dot(2, 9)) };
    let winner = |versions: &[(u64, &Version)]| {
        let mut all = VersionSet::default();
        for (actor, version) in versions {
            all.put(&VersionVector::default(), ActorId(*actor), (*version).clone());
        }
        all.winner().map(|(dot, _)| dot.actor.0)
    };
    assert_eq!(winner(&[(1, &base), (3, &first)]), Some(3));
    assert_eq!(winner(&[(2, &second), (3, &first), (1, &base)]), Some(2));
    // Of a greater actor at the same time: it stands ahead of the base, and so of all behind that.
    assert_eq!(winner(&[(1, &base), (2, &second), (4, &between)]), Some(4));
    let earlier = Version { hlc: Hlc(4), ..version(dot(9, 9)) };
    assert_eq!(winner(&[(9, &earlier), (3, &first)]), Some(3));
}

#[test]
fn whatever_a_version_says_is_in_the_digest() {
    let digest = |version: Version| {
        let mut state = VersionSet::default();
        state.put(&VersionVector::default(), ActorId(1), version);
        state.digest()
    };
    let plain = || version(dot(1, 1));
    let behind = |actor, step| Some(Behind { actor: ActorId(actor), step });
    let mut all = vec![
        digest(plain()),
        digest(Version { hlc: Hlc(2), ..plain() }),
        digest(Version { request: RequestId(2), ..plain() }),
        digest(Version { tombstone: true, ..plain() }),
        digest(Version { digest: 2, ..plain() }),
        digest(Version { expires: Some(Hlc(1)), ..plain() }),
        digest(Version { expires: Some(Hlc(2)), ..plain() }),
        digest(Version { behind: behind(1, 1), ..plain() }),
        digest(Version { behind: behind(1, 2), ..plain() }),
        digest(Version { behind: behind(2, 1), ..plain() }),
    ];
    let count = all.len();
    all.sort_unstable();
    all.dedup();
    assert_eq!(all.len(), count);
}

/// Only the winner is asked whether it deletes: an older value must not shine through a newer tombstone.
#[test]
fn a_newer_tombstone_wins_over_an_older_value() {
    let mut state = VersionSet::default();
    state.event(ActorId(1), 0, version(dot(1, 1)));
    state.event(ActorId(2), 0, Version::tombstone(Hlc(9), RequestId(1)));
    assert!(state.winner().is_some_and(|(_, version)| version.tombstone));
    assert_eq!(state.highest_hlc(), Hlc(9));
}

/// A write that starts its actor's count again is taken for one that everybody has seen, and lost although acknowledged.
#[test]
fn a_second_blind_write_is_a_new_dot() {
    let mut state = VersionSet::default();
    let first = state.put(&VersionVector::default(), ActorId(1), version(dot(1, 1)));
    let second = state.put(&VersionVector::default(), ActorId(1), version(dot(1, 2)));
    assert_eq!(shown(&state), BTreeSet::from([first, second]));
    assert_eq!(second, dot(1, 2));
}

#[test]
fn a_context_ahead_of_the_actor_drops_values_and_the_next_dot_is_above_it() {
    let mut state = state(&["xoo"]);
    state.discard(&VersionVector::new([(ActorId(1), 10)]));
    assert_eq!(shown(&state), BTreeSet::new());
    state.event(ActorId(1), 0, version(dot(1, 11)));
    assert_eq!(shown(&state), BTreeSet::from([dot(1, 11)]));
}

/// An actor that goes on after an unclean end starts above all it may have issued, and claims nothing of what lies between.
#[test]
fn a_dot_above_a_base_leaves_a_gap_that_others_may_fill() {
    let mut lost = state(&["o"]);
    let mut others = lost.clone();
    others.merge(&state(&["oo"]));
    lost.event(ActorId(1), 9, version(dot(1, 10)));
    assert_eq!(shown(&merged(&others, &lost)), BTreeSet::from([dot(1, 1), dot(1, 2), dot(1, 10)]));
}

/// A client that only ever overwrites its own last write, beside another's that it has not seen: two values, and a short
/// token, whoever coordinates (<https://github.com/basho/riak_kv/pull/746>).
#[test]
fn a_client_that_chains_its_own_tokens_keeps_one_value_beside_the_unseen_one() {
    let mut replicas = [VersionSet::default(), VersionSet::default()];
    replicas[0].put(&VersionVector::default(), ActorId(1), version(dot(1, 1)));
    let mut token = VersionVector::default();
    for n in 0..1000 {
        // The nodes take turns of several writes, and hear of each other's late.
        let at = n / 7 % 2;
        let actor = ActorId(at as u64 + 1);
        let next = replicas[at].highest(actor) + 1;
        let new = replicas[at].put(&token, actor, version(dot(actor.0, next)));
        let state = replicas[at].clone();
        token = replicas[at].known_to_writer(&token, new);
        if n % 5 == 0 {
            replicas[1 - at].merge(&state);
        }
        assert!(replicas[at].versions().count() <= 2, "write {n}");
        assert!(token.runs() <= 4, "write {n}: {token:?}");
    }
    let both = merged(&replicas[0], &replicas[1]);
    assert_eq!(both.versions().count(), 2);
    assert!(shown(&both).contains(&dot(1, 1)), "what the client never saw is still there");
}

/// Two puts of one coordinator, and only what the second sends arrives. It brings the first one along, with what that one
/// overwrote: else its receiver would hold a write that has overwritten nothing, and call it acknowledged.
#[test]
fn a_later_write_brings_an_earlier_one_along_with_what_that_overwrote() {
    let mut other = VersionSet::default();
    other.put(&VersionVector::default(), ActorId(2), version(dot(2, 1)));
    let mut issuer = other.clone();
    let lost = issuer.put(&other.clock(), ActorId(1), version(dot(1, 1)));
    let new = issuer.put(&VersionVector::default(), ActorId(1), version(dot(1, 2)));
    other.merge(&issuer);
    assert_eq!(shown(&other), BTreeSet::from([lost, new]));
}

/// A version that arrives after the write which overwrote it is known to be gone.
#[test]
fn a_late_version_stays_gone() {
    let mut early = VersionSet::default();
    early.put(&VersionVector::default(), ActorId(1), version(dot(1, 1)));
    let mut late = VersionSet::default();
    late.put(&early.clock(), ActorId(2), version(dot(2, 1)));
    assert!(!late.merge(&early));
    assert_eq!(shown(&late), BTreeSet::from([dot(2, 1)]));
}

#[test]
fn a_clock_is_sorted_and_has_no_zeroes_and_the_highest_counts() {
    let clock =
        VersionVector::new([(ActorId(3), 1), (ActorId(1), 2), (ActorId(3), 4), (ActorId(2), 0)]);
    let counters = |clock: &VersionVector| -> Vec<(u64, u64)> {
        let counter = |(actor, runs): &(ActorId, Runs)| (actor.0, runs.highest());
        assert!(clock.entries().iter().all(|(_, runs)| *runs == Runs::up_to(runs.highest())));
        clock.entries().iter().map(counter).collect()
    };
    assert_eq!(counters(&clock), [(1, 2), (3, 4)]);
    assert!(clock.covers(dot(3, 4)) && !clock.covers(dot(3, 5)) && !clock.covers(dot(2, 1)));
    let mut joined = VersionVector::new([(ActorId(1), 3), (ActorId(4), 1)]);
    assert!(!joined.dominates(&clock) && !clock.dominates(&joined));
    joined.join(&clock);
    assert!(joined.dominates(&clock));
    assert_eq!(counters(&joined), [(1, 3), (3, 4), (4, 1)]);
    joined.add(dot(4, 3));
    assert!(joined.covers(dot(4, 3)) && !joined.covers(dot(4, 2)));
    assert!(joined.dominates(&clock) && !joined.dominates(&VersionVector::new([(ActorId(4), 3)])));
    assert_eq!((joined.runs(), joined.highest(ActorId(4))), (4, 3));
}
