//! The executor seam: the only file that names madsim, so that another executor is a one-file change.
//!
//! It gives virtual time, processes that can be killed, restarted and paused, and a fresh runtime for each
//! run. Rules learnt the hard way, all kept here:
//! - a process is always killed before it is restarted; its old future is dropped at the next scheduler turn,
//!   never polled again, so what it owned must be fenced by an incarnation number;
//! - the maker of a process's future runs under a lock of the executor: it may only build the future;
//! - an ordinary sleep is rounded up to 1 ms, a *reset* one is not;
//! - a runtime that is dropped drops no future: `block_on` kills every process first and yields;
//! - each run needs a fresh operating-system thread (`on_fresh_thread`), because hash seeds and counters of
//!   the process are per thread.

use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::{Duration, Instant};

use madsim::runtime::{Handle, Runtime};
use madsim::task::NodeId;
use madsim::time::{Sleep, TimeHandle};

/// Virtual time: nanoseconds since the world began.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Time(pub u64);

impl Time {
    /// The time `ms` milliseconds after the world began.
    #[must_use]
    pub const fn at_ms(ms: u64) -> Time {
        Time(ms * 1_000_000)
    }

    /// `self` later by `ms` milliseconds.
    #[must_use]
    pub const fn plus_ms(self, ms: u64) -> Time {
        Time(self.0 + ms * 1_000_000)
    }

    /// `self` later by `us` microseconds.
    #[must_use]
    pub const fn plus_us(self, us: u64) -> Time {
        Time(self.0 + us * 1_000)
    }

    /// Whole milliseconds since the world began.
    #[must_use]
    pub const fn ms(self) -> u64 {
        self.0 / 1_000_000
    }

    /// Milliseconds with three decimals, for people.
    #[must_use]
    pub fn text(self) -> String {
        format!("{}.{:03}ms", self.0 / 1_000_000, self.0 / 1_000 % 1_000)
    }
}

thread_local! {
    /// The processes of the world that runs on this thread.
    static PROCESSES: RefCell<Vec<Process>> = const { RefCell::new(Vec::new()) };
    /// Its clock. The runtime finds it too, but for what is asked several times in every event that takes long.
    static TIMER: RefCell<Option<Timer>> = const { RefCell::new(None) };
}

/// The clock of a world, and what sets its alarms.
struct Timer {
    time: TimeHandle,
    began: Instant,
    /// Sets an alarm whenever it is polled, and keeps nothing of it: one is enough for all that wait.
    sleep: Sleep,
}

/// One simulated process with all its tasks.
#[derive(Clone, Copy, Debug)]
pub struct Process(NodeId);

impl Process {
    /// Starts a process. `make` is called for its first life and again by `restart`.
    pub fn start<F>(name: &str, make: impl Fn() -> F + Send + Sync + 'static) -> Process
    where
        F: Future<Output = ()> + 'static,
    {
        let process = Process(Handle::current().create_node().name(name).init(make).build().id());
        PROCESSES.with_borrow_mut(|all| all.push(process));
        process
    }

    /// Ends the process at once, as SIGKILL does. Nothing of it runs again.
    pub fn kill(self) {
        Handle::current().kill(self.0);
    }

    /// Starts the process anew, after a kill where that has not happened.
    pub fn restart(self) {
        Handle::current().kill(self.0);
        Handle::current().restart(self.0);
    }

    /// Stops the process in its tracks, as SIGSTOP does.
    pub fn pause(self) {
        Handle::current().pause(self.0);
    }

    /// Lets a paused process go on; timers that passed meanwhile fire now.
    pub fn resume(self) {
        Handle::current().resume(self.0);
    }
}

/// Virtual time now.
#[must_use]
pub fn now() -> Time {
    with_timer(|timer| Time(timer.time.elapsed().as_nanos() as u64))
}

fn with_timer<T>(act: impl FnOnce(&mut Timer) -> T) -> T {
    TIMER.with_borrow_mut(|timer| act(timer.get_or_insert_with(Timer::of_this_thread)))
}

impl Timer {
    fn of_this_thread() -> Timer {
        let time = TimeHandle::current();
        let (began, sleep) = (time.now_instant() - time.elapsed(), time.sleep(Duration::ZERO));
        Timer { time, began, sleep }
    }
}

/// Ends at `time`, to the nanosecond; at once when it has passed.
pub async fn sleep_until(time: Time) {
    // The executor keeps one more timer whenever a sleep is polled, and forgets none: it is told once of each task that waits.
    let mut told: Option<Waker> = None;
    poll_fn(|context: &mut Context<'_>| {
        let waker = context.waker();
        if told.as_ref().is_some_and(|told| told.will_wake(waker)) {
            return if now() >= time { Poll::Ready(()) } else { Poll::Pending };
        }
        told = Some(waker.clone());
        with_timer(|Timer { began, sleep, .. }| {
            let mut sleep = Pin::new(sleep);
            sleep.as_mut().reset(*began + Duration::from_nanos(time.0));
            sleep.poll(context)
        })
    })
    .await;
}

/// Runs `future` as the world's main task, in a new runtime whose scheduler is seeded with `seed`; then kills
/// every process and lets their futures drop.
pub fn block_on<F: Future>(seed: u64, future: F) -> F::Output {
    let runtime = Runtime::with_seed_and_config(seed, madsim::Config::default());
    runtime.block_on(async {
        let output = future.await;
        for process in PROCESSES.take() {
            process.kill();
        }
        sleep_until(now().plus_ms(1)).await;
        TIMER.take();
        output
    })
}

/// Runs `work` on a fresh thread; the text of the panic when it panics.
pub fn on_fresh_thread<T: Send>(
    name: String,
    work: impl FnOnce() -> T + Send,
) -> Result<T, String> {
    thread::scope(|scope| {
        let thread = thread::Builder::new().name(name).spawn_scoped(scope, work);
        thread
            .expect("the system has room for a thread")
            .join()
            .map_err(|panic| panic_text(&*panic))
    })
}

/// The message of a panic.
#[must_use]
pub fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "a panic without text".to_owned())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    fn world<T: Send>(work: impl AsyncFnOnce() -> T + Send) -> T {
        on_fresh_thread("test".to_owned(), || block_on(7, work())).expect("no panic")
    }

    #[test]
    fn a_sleep_may_be_shorter_than_a_millisecond() {
        let slept = world(async || {
            let from = now();
            sleep_until(from.plus_us(10)).await;
            now().0 - from.0
        });
        assert!((10_000..12_000).contains(&slept), "slept {slept} ns");
    }

    #[test]
    fn a_killed_process_never_runs_again_and_a_restarted_one_starts_over() {
        let (lives, ticks) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let seen = (Arc::clone(&lives), Arc::clone(&ticks));
        let after_kill = world(async move || {
            let process = Process::start("n", move || {
                let (lives, ticks) = (Arc::clone(&lives), Arc::clone(&ticks));
                async move {
                    lives.fetch_add(1, Ordering::Relaxed);
                    loop {
                        sleep_until(now().plus_ms(10)).await;
                        ticks.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
            sleep_until(Time::at_ms(35)).await;
            process.kill();
            sleep_until(Time::at_ms(100)).await;
            let after_kill = seen.1.load(Ordering::Relaxed);
            process.restart();
            sleep_until(Time::at_ms(115)).await;
            (after_kill, seen.0.load(Ordering::Relaxed), seen.1.load(Ordering::Relaxed))
        });
        assert_eq!(after_kill, (3, 2, 4));
    }

    #[test]
    fn a_paused_process_goes_on_later() {
        let ticks = Arc::new(AtomicU64::new(0));
        let seen = Arc::clone(&ticks);
        let counts = world(async move || {
            let process = Process::start("n", move || {
                let ticks = Arc::clone(&ticks);
                async move {
                    sleep_until(Time::at_ms(10)).await;
                    ticks.fetch_add(1, Ordering::Relaxed);
                }
            });
            sleep_until(Time::at_ms(5)).await;
            process.pause();
            sleep_until(Time::at_ms(50)).await;
            let paused = seen.load(Ordering::Relaxed);
            process.resume();
            sleep_until(Time::at_ms(51)).await;
            (paused, seen.load(Ordering::Relaxed))
        });
        assert_eq!(counts, (0, 1));
    }

    #[test]
    fn a_panic_is_told_with_its_text() {
        let told = on_fresh_thread("test".to_owned(), || panic!("the reason"));
        assert_eq!(told, Err("the reason".to_owned()) as Result<(), String>);
    }
}
