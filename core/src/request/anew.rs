//! A get that goes on under other layouts than it began under: it begins anew under those that are live now.
//!
//! Owners under a layout that has been dropped, or that gives its units away, refuse what is asked under it, so a get that waits for
//! them would wait until its deadline. It has changed nothing but copies, which only became more alike, so it may begin anew. It gets
//! another name for that: what replicas have answered, or say that they hold, of what it asked before counts for nothing.
//!
//! Left out: the search for an earlier attempt's write, which is known by its name.

use crate::error::Result;
use crate::quorum::{Needs, Primaries};
use crate::request::answers::Surroundings;
use crate::request::begin::order;
use crate::request::coordinator::Coordinator;
use crate::request::get::{Aim, ReadRound};
use crate::request::phase::Phase;
use crate::sometimes;
use crate::step::Env;

impl Coordinator {
    /// A get begins anew under the layouts that are live now.
    pub(super) fn read_anew(
        &mut self,
        sequence: u64,
        around: &mut Surroundings<'_>,
        env: &mut impl Env,
    ) -> Result<()> {
        let Some(mut operation) = self.operations.remove(sequence) else {
            return Ok(());
        };
        sometimes!(env, GetBegunAnew);
        self.sequence += 1;
        let facts = &mut operation.facts;
        facts.id.seq = self.sequence;
        facts.primaries = Primaries::under(around.view.layouts, facts.unit);
        facts.needs = Needs::at(facts.level, &facts.primaries, around.view.reads_at);
        facts.layouts = around.view.layout_set.clone();
        let is_whole = around.units.counts(facts.unit);
        let order = order(facts, (self.me, is_whole), around.view.members, env.mono());
        let mut round = ReadRound::new(Aim::State, facts);
        let next = round.begin(facts, &order);
        operation.phase = Phase::Read(Box::new(round));
        operation.again = env.mono().plus_ms(self.hedging.after_ms().min(self.patience.resend_ms));
        operation.repeats = 0;
        let id = facts.id;
        self.operations.insert(operation);
        self.go_on(id, next, around, env)
    }
}
