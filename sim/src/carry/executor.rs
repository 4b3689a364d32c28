//! The tasks of one process: they run one after another within one future, in the order in which they were woken.
//!
//! So a node with all its links is still one thing that is killed, paused and slowed down, a panic of any of its tasks
//! is the node's, and which task goes first is no luck. A task ends when its `Spawned` is dropped or when
//! the executor's own future is.

use std::collections::{BTreeMap, VecDeque};
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

/// How often tasks are polled before others get their turn.
const POLLS_MAX: usize = 4_096;
/// The name of the future that the executor works for.
const MAIN: u64 = 0;

type Work = Pin<Box<dyn Future<Output = ()> + Send>>;

/// The tasks. Clones are the same executor.
#[derive(Clone, Default)]
pub struct Executor(Arc<Mutex<State>>);

/// One task. It is ready when the task has ended; dropping it ends the task.
pub struct Spawned {
    executor: Executor,
    id: u64,
}

#[derive(Default)]
struct State {
    /// The last name that was given.
    named: u64,
    /// A task that is at work is not here but has its place.
    tasks: BTreeMap<u64, Option<Work>>,
    ready: VecDeque<u64>,
    joining: BTreeMap<u64, Waker>,
    outer: Option<Waker>,
}

struct TaskWaker {
    executor: Executor,
    id: u64,
}

impl Wake for TaskWaker {
    fn wake(self: Arc<Self>) {
        self.executor.ready(self.id);
    }
}

impl Executor {
    /// Starts a task.
    #[must_use]
    pub fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) -> Spawned {
        let id = {
            let mut state = self.state();
            state.named += 1;
            let id = state.named;
            state.tasks.insert(id, Some(Box::pin(task)));
            id
        };
        self.ready(id);
        Spawned { executor: self.clone(), id }
    }

    /// Runs `main` and all tasks until `main` has ended; the tasks end with it.
    pub async fn run<F: Future>(&self, main: F) -> F::Output {
        let _dismissal = Dismissal(self.clone());
        let mut main = pin!(main);
        self.ready(MAIN);
        poll_fn(|context| {
            self.state().outer = Some(context.waker().clone());
            for _ in 0..POLLS_MAX {
                let next = self.state().ready.pop_front();
                match next {
                    None => return Poll::Pending,
                    Some(MAIN) => {
                        let waker = self.waker(MAIN);
                        if let Poll::Ready(output) =
                            main.as_mut().poll(&mut Context::from_waker(&waker))
                        {
                            return Poll::Ready(output);
                        }
                    }
                    Some(id) => self.work(id),
                }
            }
            context.waker().wake_by_ref();
            Poll::Pending
        })
        .await
    }

    fn work(&self, id: u64) {
        let taken = self.state().tasks.get_mut(&id).and_then(Option::take);
        let Some(mut task) = taken else {
            return;
        };
        let waker = self.waker(id);
        let is_over = task.as_mut().poll(&mut Context::from_waker(&waker)).is_ready();
        let mut state = self.state();
        if is_over {
            state.tasks.remove(&id);
            if let Some(waker) = state.joining.remove(&id) {
                waker_after(state, waker);
            }
        } else if let Some(place) = state.tasks.get_mut(&id) {
            *place = Some(task);
        }
    }

    fn waker(&self, id: u64) -> Waker {
        Waker::from(Arc::new(TaskWaker { executor: self.clone(), id }))
    }

    fn ready(&self, id: u64) {
        let mut state = self.state();
        if !state.ready.contains(&id) {
            state.ready.push_back(id);
        }
        if let Some(outer) = state.outer.take() {
            waker_after(state, outer);
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Wakes when the state is free again: whoever is woken may look at it.
fn waker_after(state: MutexGuard<'_, State>, waker: Waker) {
    drop(state);
    waker.wake();
}

/// Ends all tasks: they hold their executor, so nothing else would.
struct Dismissal(Executor);

impl Drop for Dismissal {
    fn drop(&mut self) {
        // What is dropped may end tasks of its own.
        loop {
            let tasks = std::mem::take(&mut self.0.state().tasks);
            if tasks.is_empty() {
                return;
            }
        }
    }
}

impl Spawned {
    /// Whether the task has ended.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        !self.executor.state().tasks.contains_key(&self.id)
    }
}

impl Future for Spawned {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let mut state = self.executor.state();
        if !state.tasks.contains_key(&self.id) {
            return Poll::Ready(());
        }
        state.joining.insert(self.id, context.waker().clone());
        Poll::Pending
    }
}

impl Drop for Spawned {
    fn drop(&mut self) {
        let task = {
            let mut state = self.executor.state();
            state.joining.remove(&self.id);
            state.tasks.remove(&self.id)
        };
        drop(task);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Log = Arc<Mutex<Vec<&'static str>>>;

    fn poll<F: Future>(future: Pin<&mut F>) -> Poll<F::Output> {
        future.poll(&mut Context::from_waker(Waker::noop()))
    }

    /// Says its name, lets the others have their turn so often, and says it again.
    async fn turns(log: Log, name: &'static str, count: usize) {
        for _ in 0..count {
            log.lock().expect("whole").push(name);
            let mut polled = false;
            poll_fn(|context| {
                context.waker().wake_by_ref();
                if std::mem::replace(&mut polled, true) { Poll::Ready(()) } else { Poll::Pending }
            })
            .await;
        }
    }

    #[test]
    fn tasks_take_turns_in_the_order_in_which_they_were_woken_and_can_be_waited_for() {
        let (executor, log) = (Executor::default(), Log::default());
        let a = executor.spawn(turns(log.clone(), "a", 2));
        let b = executor.spawn(turns(log.clone(), "b", 3));
        let main = async {
            b.await;
            a.has_ended()
        };
        let mut run = pin!(executor.run(main));
        assert_eq!(poll(run.as_mut()), Poll::Ready(true));
        assert_eq!(*log.lock().expect("whole"), ["a", "b", "a", "b", "b"]);
    }

    #[test]
    fn a_task_ends_with_its_member_and_all_end_with_the_crew() {
        struct Gone(Log, &'static str);
        impl Drop for Gone {
            fn drop(&mut self) {
                self.0.lock().expect("whole").push(self.1);
            }
        }
        let (executor, log) = (Executor::default(), Log::default());
        let stays = |name| {
            let gone = Gone(log.clone(), name);
            async move {
                let _gone = gone;
                std::future::pending::<()>().await;
            }
        };
        let (a, b) = (executor.spawn(stays("a")), executor.spawn(stays("b")));
        let mut run = Box::pin(executor.run(std::future::pending::<()>()));
        assert!(poll(run.as_mut()).is_pending());
        drop(a);
        assert_eq!(*log.lock().expect("whole"), ["a"]);
        drop(run);
        assert_eq!(*log.lock().expect("whole"), ["a", "b"]);
        assert!(b.has_ended());
    }
}
