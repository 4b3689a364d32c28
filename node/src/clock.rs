//! The time of the real world.

use std::future::Future;
use std::time::{Duration, Instant, SystemTime};

use rondo_core::env::{Clock, Mono, Wall};

use crate::failure::{Failure, Result};

/// Refuses a host whose clock has not been set: times count from 1970, and versions of values are ordered by them.
pub fn check() -> Result<()> {
    is_set(SystemTime::now())
}

fn is_set(now: SystemTime) -> Result<()> {
    now.duration_since(SystemTime::UNIX_EPOCH).map(drop).map_err(|_| {
        Failure::failed(
            "the clock of this host shows a time before 1970; nothing was opened",
            "set it, by hand or with NTP, and start again",
        )
    })
}

/// The clocks of this host.
#[derive(Clone, Debug)]
pub struct RealClock {
    start: Instant,
}

impl RealClock {
    /// Monotonic time counts from here.
    #[must_use]
    pub fn start() -> RealClock {
        RealClock { start: Instant::now() }
    }
}

impl Clock for RealClock {
    fn mono(&self) -> Mono {
        Mono(u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX))
    }

    fn wall(&self) -> Wall {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Wall(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
    }

    fn sleep_until(&self, time: Mono) -> impl Future<Output = ()> + Send {
        tokio::time::sleep_until((self.start + Duration::from_nanos(time.0)).into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_before_1970_is_refused() {
        assert_eq!(check(), Ok(()));
        let failure =
            is_set(SystemTime::UNIX_EPOCH - Duration::from_secs(1)).expect_err("too early");
        assert!(failure.to_string().contains("before 1970"), "{failure}");
        assert_eq!(is_set(SystemTime::UNIX_EPOCH), Ok(()));
    }
}
