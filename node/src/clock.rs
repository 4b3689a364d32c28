//! The time of the real world.

use std::future::Future;
use std::time::{Duration, Instant, SystemTime};

use rondo_core::env::{Clock, Mono, Wall};

use crate::failure::{Failure, Result};

/// The last second that can be written as a date with a year of four digits, counted from 1970: the end of the year 9999.
pub const LAST_SECOND: u64 = 253_402_300_799;

/// Refuses a host whose clock has not been set: times count from 1970, and versions of values are ordered by them.
pub fn check() -> Result<()> {
    is_set(SystemTime::now())
}

/// Whether a clock that shows `now` may be believed: it is between the years 1970 and 9999.
pub fn is_set(now: SystemTime) -> Result<()> {
    let when = match now.duration_since(SystemTime::UNIX_EPOCH) {
        Err(_) => "before 1970",
        Ok(since) if since.as_secs() > LAST_SECOND => "after the year 9999",
        Ok(_) => return Ok(()),
    };
    Err(Failure::failed(
        format!("the clock of this host shows a time {when}; nothing was opened"),
        "set it, by hand or with NTP, and start again",
    ))
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
    fn a_clock_before_1970_or_after_9999_is_refused() {
        assert_eq!(check(), Ok(()));
        let (first, second) = (SystemTime::UNIX_EPOCH, Duration::from_secs(1));
        let last = first + Duration::from_secs(LAST_SECOND);
        for (time, said) in
            [(first - second, "before 1970"), (last + second, "after the year 9999")]
        {
            let failure = is_set(time).expect_err("it is not set");
            assert!(failure.to_string().contains(said), "{failure}");
        }
        assert_eq!((is_set(first), is_set(last)), (Ok(()), Ok(())));
    }
}
