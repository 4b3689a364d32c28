//! Who may begin: what is checked before anything is done for a request.
//!
//! Every refusal here is made of the attempt at hand, and is true of a first attempt; what it means for a later one says
//! `Request::refused`.

use crate::budget::Gauge;
use crate::config::{
    CONTENT_TYPE_BYTES_MAX, DEADLINE_MS_MAX, DRIFT_MS_MAX, HLC_AHEAD_MS_MAX, KEY_BYTES_MAX,
    REQUESTS_IN_FLIGHT_MAX, TTL_MS_MAX, VALUE_BYTES_MAX,
};
use crate::env::Mono;
use crate::layout::Layout;
use crate::layout::keyspace::{Keyspace, Level};
use crate::member::membership::Membership;
use crate::quorum::Standing;
use crate::replica::Replica;
use crate::request::operation::{Facts, are, lacking};
use crate::wire::client::{Action, Reply, Request};

/// Checks what a request says, and finds its keyspace.
pub fn check<'a>(
    request: &Request,
    newest: Option<&'a Layout>,
) -> Result<(&'a Layout, &'a Keyspace), Reply> {
    sizes(request)?;
    let Some(layout) = newest else {
        return Err(Reply::unavailable(
            "the cluster has no live layout yet; see /ready for what is missing",
        ));
    };
    let Some(keyspace) = layout.keyspace(&request.keyspace) else {
        let reason = format!("there is no keyspace {:?}", request.keyspace);
        return Err(Reply::BadRequest { reason });
    };
    Ok((layout, keyspace))
}

/// Whether this node may serve, and has room for one more request.
pub fn room(
    in_flight: usize,
    bytes: Gauge,
    stopping: bool,
    barred: Option<&str>,
) -> Result<(), Reply> {
    if let Some(why) = barred {
        return Err(Reply::unavailable(why).lasting());
    }
    if stopping {
        return Err(Reply::unavailable("the node is stopping; ask another"));
    }
    if in_flight >= REQUESTS_IN_FLIGHT_MAX {
        return Err(Reply::overloaded("too many requests in flight on this node"));
    }
    if bytes.used + VALUE_BYTES_MAX > bytes.max {
        return Err(Reply::overloaded("the requests in flight on this node keep too many bytes"));
    }
    Ok(())
}

/// Whether enough of the key's primaries seem to be up.
pub fn prospects(facts: &Facts, members: &Membership, now: Mono) -> Result<(), Reply> {
    let mut alive = match facts.request.action {
        Action::Get => facts.needs.answerers(),
        Action::Put { .. } | Action::Delete { .. } => facts.needs.holders(),
    };
    for (at, &node) in facts.primaries.nodes().iter().enumerate() {
        if members.is_alive(node, now) {
            alive.yes(at);
        }
    }
    if !alive.met() {
        let standing = alive.standing();
        let Standing { yes, out_of, .. } = standing;
        let (are, lacking) = (are(yes), lacking(standing));
        let reason = format!("{yes} of the key's {out_of} replicas {are} up, {lacking}");
        return Err(Reply::unavailable(reason));
    }
    Ok(())
}

/// Whether the clock of this node is good enough, when it is the one that stamps and no query round orders what it writes.
pub fn stamping(
    facts: &Facts,
    members: &Membership,
    replica: &Replica,
    now: Mono,
) -> Result<(), Reply> {
    if facts.level == Level::One {
        let is_alone = facts.primaries.nodes().iter().all(|node| *node == members.me().node);
        if !is_alone && members.has_met_nobody_yet(now) {
            return Err(Reply::unavailable(
                "this node has just started and has heard no other yet, so that its clock may be far off: try again in a moment, \
                 or write at quorum",
            ));
        }
        clock(members.clock_ahead_ms(now), replica.ahead_of_peers_ms(now))?;
    }
    Ok(())
}

fn sizes(request: &Request) -> Result<(), Reply> {
    let bad = |reason: String| Err(Reply::BadRequest { reason });
    if request.key.is_empty() || request.key.len() > KEY_BYTES_MAX {
        return bad(format!("a key has 1 to {KEY_BYTES_MAX} bytes, not {}", request.key.len()));
    }
    if let Action::Put { value, content_type, ttl_ms, .. } = &request.action {
        if ttl_ms.is_some_and(|ttl_ms| ttl_ms > TTL_MS_MAX) {
            return bad(format!("a value stays at most {} days", TTL_MS_MAX / (24 * 3_600_000)));
        }
        if value.len() > VALUE_BYTES_MAX {
            return bad(format!(
                "a value has at most {VALUE_BYTES_MAX} bytes, not {}",
                value.len()
            ));
        }
        if content_type.len() > CONTENT_TYPE_BYTES_MAX {
            return bad(format!("a content type has at most {CONTENT_TYPE_BYTES_MAX} bytes"));
        }
    }
    Ok(())
}

/// At level `one` nobody is asked for the key's highest HLC, so a clock that is far off would order writes wrongly
/// for good. The hybrid clock is what orders them: it may be ahead although the wall has been set right since. To wait for
/// its peers helps where that takes no longer than a request may.
fn clock(ahead_ms: i64, hybrid_ahead_ms: u64) -> Result<(), Reply> {
    if hybrid_ahead_ms > HLC_AHEAD_MS_MAX && ahead_ms.unsigned_abs() <= DRIFT_MS_MAX {
        let reply = Reply::unavailable(format!(
            "this node's hybrid clock is {hybrid_ahead_ms} ms ahead of its peers' clocks, as its clock once was: write at \
             quorum until they have caught up"
        ));
        // They may be as far behind as a clock was wrong, which is years: nobody should ask again every second until then.
        let soon = hybrid_ahead_ms - HLC_AHEAD_MS_MAX <= DEADLINE_MS_MAX;
        return Err(if soon { reply } else { reply.lasting() });
    }
    if ahead_ms.unsigned_abs() <= DRIFT_MS_MAX {
        return Ok(());
    }
    let how = if ahead_ms < 0 { "behind" } else { "ahead of" };
    let ms = ahead_ms.unsigned_abs();
    Err(Reply::unavailable(format!(
        "this node's clock is {ms} ms {how} its peers': set it right, or write at quorum"
    ))
    .lasting())
}
