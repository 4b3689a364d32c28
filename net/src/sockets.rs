//! The real runtime: TCP connections, the clock of the machine, tasks of tokio.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};

use rondo_core::env::{Address, Mono};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Handle;
use tokio::task::JoinHandle;
use tokio::time::{Duration, Instant, Sleep};

use crate::runtime::{Alarm, Runtime, Task};

/// The runtime that a process stands on. Time counts from when it was made.
#[derive(Clone)]
pub(crate) struct Sockets {
    start: Instant,
    tokio: Handle,
}

/// A timer of tokio.
pub(crate) struct SocketAlarm {
    start: Instant,
    sleep: Pin<Box<Sleep>>,
}

/// A task of tokio.
pub(crate) struct SocketTask(JoinHandle<()>);

impl Sockets {
    /// # Panics
    /// Outside a tokio runtime.
    pub(crate) fn here() -> Sockets {
        Sockets { start: Instant::now(), tokio: Handle::current() }
    }
}

impl Runtime for Sockets {
    type Stream = TcpStream;
    type Listener = TcpListener;
    type Alarm = SocketAlarm;
    type Task = SocketTask;

    fn now(&self) -> Mono {
        let elapsed = self.start.elapsed().as_nanos();
        Mono(u64::try_from(elapsed).expect("centuries have not passed"))
    }

    fn alarm(&self, at: Mono) -> SocketAlarm {
        let sleep = tokio::time::sleep_until(self.start + Duration::from_nanos(at.0));
        SocketAlarm { start: self.start, sleep: Box::pin(sleep) }
    }

    async fn connect(&self, to: &Address) -> io::Result<TcpStream> {
        let stream = TcpStream::connect(&to.0).await?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }

    async fn accept(&self, listener: &mut TcpListener) -> io::Result<(TcpStream, SocketAddr)> {
        loop {
            let (stream, from) = listener.accept().await?;
            match stream.set_nodelay(true) {
                Ok(()) => return Ok((stream, from)),
                // Some systems refuse once the other side is gone.
                Err(error) => tracing::debug!(%from, %error, "gone before it was taken in"),
            }
        }
    }

    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) -> SocketTask {
        SocketTask(self.tokio.spawn(task))
    }
}

impl Future for SocketAlarm {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        self.sleep.as_mut().poll(context)
    }
}

impl Alarm for SocketAlarm {
    fn reset(&mut self, at: Mono) {
        self.sleep.as_mut().reset(self.start + Duration::from_nanos(at.0));
    }
}

impl Future for SocketTask {
    type Output = ();

    /// A panic is an end like any other: tokio has told of it.
    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        Pin::new(&mut self.0).poll(context).map(|_| ())
    }
}

impl Task for SocketTask {
    fn is_over(&self) -> bool {
        self.0.is_finished()
    }
}

impl Drop for SocketTask {
    fn drop(&mut self) {
        self.0.abort();
    }
}
