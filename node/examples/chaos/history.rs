//! What clients asked and saw, written down as Jepsen's operations on registers with keys.
//!
//! A process that does not know what became of its write is never heard of again: each operation is a process of its own.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::sync::Mutex;

use crate::clients;

/// What became of a write.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Outcome {
    /// It was acknowledged.
    Done,
    /// Nothing was written.
    Refused,
    /// It may have happened, or may still happen.
    Unknown,
}

/// An operation that has begun.
#[derive(Clone, Copy)]
pub(crate) struct Call {
    process: u64,
    key: u64,
    /// The value it writes; unique in the history, never 0.
    pub(crate) value: u64,
}

/// The history of a run.
pub(crate) struct History {
    book: Mutex<Book>,
}

struct Book {
    file: BufWriter<File>,
    processes: u64,
    keys: BTreeSet<u64>,
    new_keys: u64,
    done: u64,
    refused: u64,
    unknown: u64,
    reads: u64,
}

impl History {
    /// A history in a new file.
    pub(crate) fn create(path: &Path) -> io::Result<History> {
        let mut file = BufWriter::new(File::create(path)?);
        file.write_all(b"[")?;
        let keys = BTreeSet::new();
        let book = Book {
            file,
            processes: 0,
            keys,
            new_keys: 0,
            done: 0,
            refused: 0,
            unknown: 0,
            reads: 0,
        };
        Ok(History { book: Mutex::new(book) })
    }

    /// A key from `first` on that nobody has used.
    pub(crate) fn new_key(&self, first: u64) -> u64 {
        let mut book = self.book();
        book.new_keys += 1;
        first + book.new_keys
    }

    /// A write begins.
    pub(crate) fn call_write(&self, key: u64) -> io::Result<Call> {
        let mut book = self.book();
        book.keys.insert(key);
        book.processes += 1;
        let call = Call { process: book.processes, key, value: book.processes };
        book.line(call.process, "invoke", "write", key, &call.value.to_string())?;
        Ok(call)
    }

    /// A write ended.
    pub(crate) fn end_write(&self, call: Call, outcome: Outcome) -> io::Result<()> {
        let mut book = self.book();
        let (kind, count) = match outcome {
            Outcome::Done => ("ok", &mut book.done),
            Outcome::Refused => ("fail", &mut book.refused),
            Outcome::Unknown => ("info", &mut book.unknown),
        };
        *count += 1;
        book.line(call.process, kind, "write", call.key, &call.value.to_string())
    }

    /// A read begins.
    pub(crate) fn call_read(&self, key: u64) -> io::Result<Call> {
        let mut book = self.book();
        book.processes += 1;
        let call = Call { process: book.processes, key, value: 0 };
        book.line(call.process, "invoke", "read", key, "nil")?;
        Ok(call)
    }

    /// A read ended; `None`: without an answer.
    pub(crate) fn end_read(&self, call: Call, saw: Option<String>) -> io::Result<()> {
        let mut book = self.book();
        let kind = if saw.is_some() { "ok" } else { "fail" };
        book.reads += u64::from(saw.is_some());
        book.line(call.process, kind, "read", call.key, saw.as_deref().unwrap_or("nil"))
    }

    /// Reads every key through every node, and closes the book. Answers how many keys there are.
    pub(crate) fn read_all(&self, addresses: &[String]) -> io::Result<usize> {
        let keys = self.book().keys.clone();
        for &key in &keys {
            for address in addresses {
                clients::read(self, address, key, "all")?;
            }
        }
        let mut book = self.book();
        book.file.write_all(b"]\n")?;
        book.file.flush()?;
        Ok(keys.len())
    }

    /// How many operations ended how.
    pub(crate) fn summary(&self) -> String {
        let Book { done, refused, unknown, reads, .. } = &*self.book();
        format!(
            "{done} writes stored, {refused} refused, {unknown} undecided, {reads} reads answered"
        )
    }

    fn book(&self) -> std::sync::MutexGuard<'_, Book> {
        self.book.lock().expect("no client panics")
    }
}

impl Book {
    fn line(
        &mut self,
        process: u64,
        kind: &str,
        name: &str,
        key: u64,
        value: &str,
    ) -> io::Result<()> {
        writeln!(
            self.file,
            "{{:process {process}, :type :{kind}, :f :{name}, :value [{key} {value}]}}"
        )
    }
}
