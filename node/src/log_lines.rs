//! Log lines on their way to a writer that may be slow, or that nobody reads.
//!
//! Whoever logs never waits: lines go into a bounded queue, and one thread writes them. What finds no room is dropped and
//! counted, and one line says so as soon as the writer goes on. Lines that repeat others are folded into one before they
//! take any room.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use crate::fold::Fold;

/// The most that may wait, in bytes.
const WAITING_BYTES_MAX: usize = 1 << 20;

/// The way to the writer. Clones lead to the same one.
#[derive(Clone, Debug, Default)]
pub struct LogLines {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    queue: Mutex<Queue>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Queue {
    lines: VecDeque<Vec<u8>>,
    bytes: usize,
    dropped: u64,
    writing: bool,
    fold: Fold,
}

impl Queue {
    /// Takes a whole line, or drops it.
    fn push(&mut self, line: Vec<u8>) {
        if self.bytes + line.len() > WAITING_BYTES_MAX {
            self.dropped += 1;
        } else {
            self.bytes += line.len();
            self.lines.push_back(line);
        }
    }
}

impl LogLines {
    /// Lines that a thread of their own writes to `out`. `on_dropped` tells of lines that were dropped.
    pub fn to(
        mut out: impl Write + Send + 'static,
        on_dropped: impl Fn(u64) + Send + 'static,
    ) -> io::Result<LogLines> {
        let lines = LogLines::default();
        let taken = lines.clone();
        std::thread::Builder::new().name("log".to_owned()).spawn(move || {
            loop {
                let (line, dropped) = taken.next();
                // Where the log cannot be written, nobody can be told.
                let _ = out.write_all(&line).and_then(|()| out.flush());
                taken.queue().writing = false;
                taken.shared.changed.notify_all();
                if dropped > 0 {
                    on_dropped(dropped);
                }
            }
        })?;
        Ok(lines)
    }

    /// Waits until all is written, at most so long: before the process ends.
    pub fn flush(&self, patience: Duration) {
        let waits = |queue: &mut Queue| queue.writing || !queue.lines.is_empty();
        let mut queue = self.queue();
        for line in queue.fold.rest() {
            queue.push(line);
        }
        self.shared.changed.notify_all();
        drop(self.shared.changed.wait_timeout_while(queue, patience, waits));
    }

    /// Waits for a line. With the last one that waits comes how many were dropped before it.
    fn next(&self) -> (Vec<u8>, u64) {
        let mut queue = self.queue();
        loop {
            for line in queue.fold.told(Instant::now()) {
                queue.push(line);
            }
            if let Some(line) = queue.lines.pop_front() {
                queue.bytes -= line.len();
                queue.writing = true;
                let is_last = queue.lines.is_empty();
                let dropped = if is_last { std::mem::take(&mut queue.dropped) } else { 0 };
                return (line, dropped);
            }
            let left =
                queue.fold.next().map(|until| until.saturating_duration_since(Instant::now()));
            let changed = &self.shared.changed;
            queue = match left {
                None => changed.wait(queue).expect("no panic while locked"),
                Some(left) => changed.wait_timeout(queue, left).expect("no panic while locked").0,
            };
        }
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.shared.queue.lock().expect("no panic while locked")
    }
}

impl Write for LogLines {
    /// Takes a whole line, or drops it, or counts it among its like.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let mut queue = self.queue();
        if queue.fold.take(line, Instant::now()) {
            queue.push(line.to_vec());
        }
        drop(queue);
        self.shared.changed.notify_all();
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, Sender, channel};

    use super::*;

    /// A pipe that nobody reads until `go` is dropped.
    struct Pipe {
        go: Receiver<()>,
        written: Sender<usize>,
    }

    impl Write for Pipe {
        fn write(&mut self, line: &[u8]) -> io::Result<usize> {
            let _ = self.go.recv();
            self.written.send(line.len()).map_err(io::Error::other)?;
            Ok(line.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn nobody_waits_for_a_log_that_nobody_reads_and_what_is_dropped_is_told() {
        let (go, stopped) = channel();
        let (written, seen) = channel();
        let (tell, told) = channel();
        let pipe = Pipe { go: stopped, written };
        let mut lines =
            LogLines::to(pipe, move |count| tell.send(count).unwrap_or(())).expect("a thread");
        for number in 0..3_000 {
            lines.write_all(format!("{number:01000}").as_bytes()).expect("never fails");
        }
        assert!(lines.queue().bytes <= WAITING_BYTES_MAX);
        lines.flush(Duration::from_millis(1));
        drop(go);
        let dropped = told.recv().expect("it is told");
        lines.flush(Duration::from_secs(20));
        let kept = seen.try_iter().count() as u64;
        assert_eq!(kept + dropped, 3_000);
        assert!(dropped > 1_900 && kept > 1_000, "{kept} and {dropped}");
    }
    #[test]
    fn a_line_that_is_repeated_is_written_once_and_then_counted() {
        let (go, stopped) = channel::<()>();
        let (written, seen) = channel();
        drop(go);
        let mut lines = LogLines::to(Pipe { go: stopped, written }, |_| ()).expect("a thread");
        for _ in 0..100_000 {
            lines.write_all(b"again\n").expect("never fails");
        }
        lines.flush(Duration::from_secs(20));
        let lengths: Vec<usize> = seen.try_iter().collect();
        assert_eq!(lengths, ["again\n".len(), "again (repeated 99999 times)\n".len()]);
    }
}
