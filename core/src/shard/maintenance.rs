//! What a shard's engine does in the background: a bounded step of it now and then, and the pause between two of them.

use super::Shard;
use crate::buggify;
use crate::engine::{Engine, Progress};
use crate::env::Mono;
use crate::error::Result;
use crate::held::Release;
use crate::member::view::View;
use crate::step::Env;

/// How often the engine may do some background work, in milliseconds.
const MAINTAIN_MS: u64 = 50;
/// How long it rests when there was nothing to do, in milliseconds: there will hardly be before a sync has ended.
const REST_MS: u64 = 250;
/// How much work it may do at a time, in bytes.
const MAINTAIN_BYTES: u64 = 1 << 20;

/// When the engine works next.
#[derive(Debug)]
pub(super) struct Maintenance {
    pub(super) next: Mono,
    /// Whether it goes on when the next sync has ended.
    waits: bool,
    /// Whether it had nothing to do.
    rests: bool,
}

impl Maintenance {
    /// The first is due.
    pub(super) const fn new(now: Mono) -> Maintenance {
        Maintenance { next: now, waits: false, rests: false }
    }

    /// A sync has ended, which may be what it waited for, and brings new work where there was none.
    pub(super) fn synced(&mut self, now: Mono) {
        if std::mem::take(&mut self.waits) {
            self.next = self.next.min(now.plus_ms(1));
        }
        self.wake(now);
    }

    /// There is something to do again.
    pub(super) fn wake(&mut self, now: Mono) {
        if std::mem::take(&mut self.rests) {
            self.next = self.next.min(now.plus_ms(MAINTAIN_MS));
        }
    }
}

impl Shard {
    /// Lets the engine work, when it is time.
    pub fn maintain(&mut self, view: View<'_>, env: &mut impl Env) -> Result<()> {
        let now = env.mono();
        if now < self.maintenance.next {
            return Ok(());
        }
        flush(env.engine())?;
        let budget = if buggify!(env, MaintainBudgetOfOne) { 1 } else { MAINTAIN_BYTES };
        // A compaction would take the log from which the trees that were stored are brought up to date.
        let is_put_off = self.replica.trees().is_catching_up() && !env.engine().is_nearly_full();
        let progress =
            if is_put_off { Progress::default() } else { env.engine().maintain(budget)? };
        // When something waits already, a sync comes by itself; if it does not cover this, the next turn asks again.
        if let Some(lsn) = progress.waits_for.filter(|_| self.held.is_empty()) {
            self.held.until(lsn, Release::Nothing);
        }
        let more = progress.more || buggify!(env, MaintainAtOnce);
        self.maintenance.waits = progress.waits_for.is_some();
        self.tick_rotten(view, env);
        let has_nothing = progress == Progress::default() && !more && !is_put_off;
        let rests = has_nothing && self.repairs.rotten.is_empty();
        self.maintenance.rests = rests;
        self.maintenance.next = now.plus_ms(match (more, rests) {
            (true, _) => 1,
            (false, true) => REST_MS,
            (false, false) => MAINTAIN_MS,
        });
        if buggify!(env, MaintainPutOff) {
            self.maintenance.rests = false;
            self.maintenance.next = now.plus_ms(10 * MAINTAIN_MS);
        }
        Ok(())
    }
}

/// Hands over what has been written. A full disk takes it later.
fn flush(engine: &mut dyn Engine) -> Result<()> {
    match engine.flush() {
        Err(error) if !error.is_refusal() => Err(error),
        _ => Ok(()),
    }
}
