//! How a shard meets records that are not in memory: what needs one waits for a cold read, and is served when it ends.

use std::io;

use bytes::Bytes;

use super::Shard;
use crate::buggify;
use crate::engine::ReadTicket;
use crate::error::Result;
use crate::id::{NodeId, OpId, ReadId};
use crate::member::view::View;
use crate::parked::{ColdRead, Parked, Parking};
use crate::sometimes;
use crate::step::Env;
use crate::wire::key::{Answer, KeyRef};

impl Shard {
    /// Keeps what needs the record of `key` until a cold read has brought it.
    pub(super) fn park(
        &mut self,
        key: KeyRef,
        ticket: ReadTicket,
        parked: Parked,
        env: &mut impl Env,
    ) -> Result<()> {
        let parking = match buggify!(env, ParkingFull) {
            true => Parking::Full,
            false => self.cold_reads.park(key.clone(), ticket, parked),
        };
        sometimes!(env, ColdReadShared, parking == Parking::Shared);
        match parking {
            Parking::Full => self.replica.forget(&key),
            Parking::Shared => {}
            Parking::Start(id) => env.engine().start_read(id, ticket)?,
        }
        Ok(())
    }

    /// A cold read ended: whatever waited for it is served as if it had just arrived.
    pub fn on_read_done(
        &mut self,
        id: ReadId,
        result: io::Result<Bytes>,
        view: View<'_>,
        env: &mut impl Env,
    ) -> Result<()> {
        let Some(ColdRead { key, ticket, parked }) = self.cold_reads.take(id) else {
            return Ok(());
        };
        let engine = env.engine();
        match result.map_err(Into::into).and_then(|bytes| engine.finish_read(ticket, bytes)) {
            Ok(found) => {
                let wanted = self.replica.warm_up(&key, ticket, found);
                sometimes!(env, ColdReadOvertaken, !wanted);
            }
            Err(error) => {
                self.replica.forget(&key);
                self.note_rotten(&key, &error, env);
                return self.refuse(&key, parked, view, env);
            }
        }
        for parked in parked {
            match parked {
                // Its life has ended since, and the next one may have been told what is known here.
                Parked::Ask(from, ask) if is_past(from, ask.op, self.me, view) => {
                    sometimes!(env, MessageOfAnEarlierLife);
                }
                // It is fenced once more: a layout that it lives under may have been dropped since.
                Parked::Ask(from, ask) if !view.layout_set.answers_for(&ask.layouts) => {
                    self.tell(from, ask.op, Answer::StaleLayout, view);
                }
                Parked::Ask(from, ask) => self.serve(from, ask, view, env)?,
                Parked::Issue(op) => {
                    let (coordinator, mut around) = self.split(view);
                    coordinator.resume(op, &mut around, env)?;
                }
                Parked::Leave(unit, op) => self.bring(unit, &key, op, env)?,
                Parked::Hand(unit, op) => self.hand_over(unit, &key, op, env)?,
                Parked::Purge(unit, op) => self.read_to_purge(unit, &key, op, view, env)?,
            }
        }
        self.replica.cool_down();
        Ok(())
    }
}

/// Whether a question is of a life of a peer that counts no more.
fn is_past(from: NodeId, op: OpId, me: NodeId, view: View<'_>) -> bool {
    from != me && view.lives.known(from) != Some(op.life)
}
