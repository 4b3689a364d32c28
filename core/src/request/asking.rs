//! What a request asks of others after it has begun: a question again, when nobody answers, and the next primary to take a
//! write on, when one cannot be reached or did nothing.

use crate::buggify;
use crate::member::view::View;
use crate::quorum::{Needs, Primaries};
use crate::request::answers::Surroundings;
use crate::request::hedging::Hedging;
use crate::request::operation::{Facts, Next};
use crate::request::operations::Operation;
use crate::request::phase::Phase;
use crate::sometimes;
use crate::step::Env;
use crate::wire::client::{Action, Reply};
use crate::wire::forward::{Fixed, ForwardMessage};
use crate::wire::key::Question;
use crate::wire::message::Message;

/// Asks another one, or all again, and says when the next time will be. Who has got a request that was passed on is not asked
/// again; found dead, it is not waited for.
pub fn again(
    operation: &mut Operation,
    (hedging, resend_ms): (&mut Hedging, u64),
    around: &mut Surroundings<'_>,
    env: &impl Env,
) -> Next {
    let now = env.mono();
    if let Some(next) = hedge(operation, (hedging, resend_ms), around, env) {
        return next;
    }
    sometimes!(env, ReadAskedAgain, matches!(operation.phase, Phase::Read(_)));
    sometimes!(env, QuestionAskedAgain, matches!(operation.phase, Phase::Put(_)));
    if let Phase::Forwarded(passing) = &operation.phase {
        operation.again = now.plus_ms(resend_ms);
        let Some(to) = passing.to() else {
            return Next::PassOn;
        };
        let is_lost = around.view.members.is_lost(to, now);
        sometimes!(env, ForwardLostItsPrimary, is_lost);
        return if is_lost { Next::End(operation.facts.unknown()) } else { Next::Wait };
    }
    keep_up(operation, around.view);
    let resend_ms = if buggify!(env, ResendEarly) { resend_ms / 10 + 1 } else { resend_ms };
    let resend_ms = if buggify!(env, ResendLate) { resend_ms * 10 } else { resend_ms };
    operation.again = now.plus_ms(operation.pause_ms(resend_ms));
    operation.phase.unanswered(&operation.facts)
}

/// A read asks another replica too, if it may; `None` when it has waited as long as for a repetition, or is no read.
fn hedge(
    operation: &mut Operation,
    (hedging, resend_ms): (&mut Hedging, u64),
    around: &mut Surroundings<'_>,
    env: &impl Env,
) -> Option<Next> {
    let Operation { facts, phase: Phase::Read(round), again, repeats: 0, .. } = operation else {
        return None;
    };
    let asked_again = facts.started.plus_ms(resend_ms);
    if env.mono() >= asked_again {
        return None;
    }
    *again = asked_again;
    if !round.can_hedge(facts) {
        return Some(Next::Wait);
    }
    if !hedging.take() || buggify!(env, HedgeWithheld) {
        around.counters.hedges_withheld += 1;
        sometimes!(env, ReadNotHedged);
        return Some(Next::Wait);
    }
    around.counters.hedges += 1;
    sometimes!(env, ReadHedged);
    Some(Next::Ask(round.others(facts)))
}

/// Whether an operation is a get under other layouts than those that are live now, and its key has owners under these.
pub fn is_overtaken(operation: &Operation, around: &Surroundings<'_>) -> bool {
    let Operation { facts, phase, .. } = operation;
    matches!(phase, Phase::Read(_))
        && matches!(facts.request.action, Action::Get)
        && *around.view.layout_set != facts.layouts
        && !Primaries::under(around.view.layouts, facts.unit).nodes().is_empty()
}

/// A write whose dot is issued goes on under the layouts that are live now, when a newer one has come since it began, or the older of
/// two has been dropped: whoever acts under the newer alone refuses what is asked under the older, and owners under the older have
/// handed the key over. Who holds the write counts in each layout that it owns the key under.
fn keep_up(operation: &mut Operation, view: View<'_>) {
    let Operation { facts, phase, .. } = operation;
    let Phase::Put(round) = phase else {
        return;
    };
    if *view.layout_set == facts.layouts || round.written().is_none() {
        return;
    }
    let primaries = Primaries::under(view.layouts, facts.unit);
    if primaries.nodes().is_empty() {
        // Its keyspace was dropped, and the group with it.
        return;
    }
    let needs = Needs::at(facts.level, &primaries, view.reads_at);
    let before = std::mem::replace(&mut facts.primaries, primaries);
    round.move_on(&before, &facts.primaries, needs.holders());
    (facts.needs, facts.layouts) = (needs, view.layout_set.clone());
}

/// Sends a request to the next primary, or asks who of them answers; `Err` when nobody is left to try.
pub fn send_on(
    facts: &Facts,
    phase: &mut Phase,
    around: &mut Surroundings<'_>,
    env: &impl Env,
) -> Result<(), Reply> {
    let Phase::Forwarded(passing) = phase else {
        return Ok(());
    };
    let now = env.mono();
    let members = around.view.members;
    let untried = passing.untried(facts, |node| members.is_alive(node, now));
    if untried.is_empty() {
        return Err(passing.nobody());
    }
    let nodes = facts.primaries.nodes();
    let mut prompt = untried.iter().filter(|&&at| members.is_prompt(nodes[at], now));
    let prompt = if buggify!(env, ForwardToTheLast) { prompt.next_back() } else { prompt.next() };
    let Some(&at) = prompt else {
        sometimes!(env, ForwardAskedFirst);
        let asks = untried.into_iter().map(|at| (nodes[at], facts.ask(Question::Query)));
        around.out.extend(asks);
        return Ok(());
    };
    let to = passing.give_to(at, facts);
    let mut request = facts.request.clone();
    request.level = Some(facts.level);
    request.deadline_ms = Some(facts.deadline.ms_since(now).max(1));
    let (op, layouts) = (facts.id, facts.layouts.clone());
    let fixed = Fixed { keyspace: facts.key.keyspace, at: facts.at };
    let message = ForwardMessage::Ask { op, layouts, fixed, request };
    around.out.push_back((to, Message::Forward(message)));
    Ok(())
}
