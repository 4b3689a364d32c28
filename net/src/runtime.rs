//! What links stand on: streams of bytes, time and tasks.
//!
//! Sockets and the real clock are one runtime (`tcp`). Everything about links above this line is written once and knows
//! no socket, so the very same code runs over any other streams. Every choice is made at compile time: a call of the
//! runtime costs what the call below it costs. Left out: datagrams, which need no link.

use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::task::Poll;

use rondo_core::env::{Address, Mono};
use tokio::io::{AsyncRead, AsyncWrite};

/// Connections, time and tasks. Clones are the same runtime.
pub trait Runtime: Clone + Send + Sync + 'static {
    /// A connection. Dropping it closes it.
    type Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static;
    /// Where connections come in.
    type Listener: Send + 'static;
    /// Waits for a time.
    type Alarm: Alarm;
    /// A task.
    type Task: Task;

    /// Monotonic time.
    fn now(&self) -> Mono;
    /// An alarm that rings at `at`.
    fn alarm(&self, at: Mono) -> Self::Alarm;
    /// Connects to an address; a name is looked up anew each time.
    fn connect(&self, to: &Address) -> impl Future<Output = io::Result<Self::Stream>> + Send;
    /// The next connection that comes in, and from where.
    fn accept(
        &self,
        listener: &mut Self::Listener,
    ) -> impl Future<Output = io::Result<(Self::Stream, SocketAddr)>> + Send;
    /// Starts a task.
    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) -> Self::Task;
}

/// Waits for a time; ready from then on, and again after each `reset`.
pub trait Alarm: Future<Output = ()> + Unpin + Send + 'static {
    /// Rings at `at` instead.
    fn reset(&mut self, at: Mono);
}

/// A task that was started. It is ready when the task has ended; dropping it ends the task.
pub trait Task: Future<Output = ()> + Unpin + Send + Sync + 'static {
    /// Whether the task has ended.
    fn is_over(&self) -> bool;
}

/// Waits until `at`.
pub(crate) async fn wait_until<G: Runtime>(runtime: &G, at: Mono) {
    runtime.alarm(at).await;
}

/// What `future` comes to within so many milliseconds; `None` when that is too late.
pub(crate) async fn within<G: Runtime, F: Future>(
    runtime: &G,
    limit_ms: u64,
    future: F,
) -> Option<F::Output> {
    let mut future = pin!(future);
    let mut alarm = pin!(wait_until(runtime, runtime.now().plus_ms(limit_ms)));
    poll_fn(|context| match future.as_mut().poll(context) {
        Poll::Ready(output) => Poll::Ready(Some(output)),
        Poll::Pending => alarm.as_mut().poll(context).map(|()| None),
    })
    .await
}
