//! The time of the real world.

use std::future::Future;
use std::time::{Duration, Instant, SystemTime};

use rondo_core::env::{Clock, Mono, Wall};

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
