//! The nodes as processes: started, killed, paused, stopped in order, and given an old copy of their directory.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::clients;
use crate::hosts::{self, Hosts};

const HTTP_PORT: u16 = 8080;
const PEER_PORT: u16 = 7100;
/// How long a node may take to end after SIGTERM.
const STOPS_WITHIN: Duration = Duration::from_secs(10);

/// All nodes, on machines of their own.
pub(crate) struct Cluster {
    hosts: Hosts,
    rondo: PathBuf,
    dir: PathBuf,
    nodes: Vec<Option<Child>>,
}

impl Cluster {
    /// Starts `count` nodes that form a cluster.
    pub(crate) fn start(rondo: &Path, dir: &Path, count: usize) -> io::Result<Cluster> {
        let hosts = Hosts::make(dir, count)?;
        let nodes = (0..count).map(|_| None).collect();
        let mut cluster = Cluster { hosts, rondo: rondo.to_owned(), dir: dir.to_owned(), nodes };
        (0..count).try_for_each(|at| cluster.run(at))?;
        Ok(cluster)
    }

    /// How many nodes there are.
    pub(crate) fn len(&self) -> usize {
        self.nodes.len()
    }

    /// The machines.
    pub(crate) const fn hosts(&self) -> &Hosts {
        &self.hosts
    }

    /// Where clients reach the nodes.
    pub(crate) fn addresses(&self) -> Vec<String> {
        (0..self.nodes.len()).map(|at| format!("{}:{HTTP_PORT}", hosts::address(at))).collect()
    }

    /// Starts a node that is down.
    pub(crate) fn run(&mut self, at: usize) -> io::Result<()> {
        let log = fs::File::options().create(true).append(true).open(self.log(at))?;
        let address = hosts::address(at);
        let seeds: Vec<String> =
            (0..self.len()).map(|at| format!("{}:{PEER_PORT}", hosts::address(at))).collect();
        let child = Command::new("ip")
            .args(["netns", "exec", &hosts::space(at)])
            .arg(&self.rondo)
            .args(["serve", "--node-id", &format!("n{at}"), "--insecure"])
            .args(["--address", &address, "--port", &HTTP_PORT.to_string()])
            .args(["--peer-port", &PEER_PORT.to_string(), "--seeds", &seeds.join(",")])
            .args(["--bootstrap-expect", &self.len().to_string(), "--recover", "manual"])
            .arg("--data-dir")
            .arg(self.data(at))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()?;
        self.nodes[at] = Some(child);
        Ok(())
    }

    /// kill -9.
    pub(crate) fn kill(&mut self, at: usize) -> io::Result<()> {
        let Some(mut child) = self.nodes[at].take() else {
            return Ok(());
        };
        child.kill()?;
        child.wait().map(drop)
    }

    /// SIGTERM, and waits for the end.
    pub(crate) fn stop(&mut self, at: usize) -> io::Result<()> {
        self.signal(at, "-TERM")?;
        let Some(mut child) = self.nodes[at].take() else {
            return Ok(());
        };
        let end = Instant::now() + STOPS_WITHIN;
        while child.try_wait()?.is_none() {
            if Instant::now() > end {
                child.kill()?;
                child.wait()?;
                return Err(io::Error::other(format!(
                    "n{at} does not stop within {STOPS_WITHIN:?}"
                )));
            }
            thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// Sends a signal to a node that runs.
    pub(crate) fn signal(&self, at: usize, signal: &str) -> io::Result<()> {
        if let Some(child) = &self.nodes[at] {
            Command::new("kill").args([signal, &child.id().to_string()]).status()?;
        }
        Ok(())
    }

    /// Starts whatever has ended by itself, as a supervisor would. Answers how many.
    pub(crate) fn supervise(&mut self) -> io::Result<usize> {
        let mut ended = 0;
        for at in 0..self.nodes.len() {
            let gone = match &mut self.nodes[at] {
                Some(child) => child.try_wait()?.is_some(),
                None => true,
            };
            if gone {
                ended += 1;
                self.run(at)?;
            }
        }
        Ok(ended)
    }

    /// Copies the directory of a node that is down.
    pub(crate) fn copy(&self, at: usize) -> io::Result<()> {
        remove(&self.copied(at))?;
        let (from, to) = (self.data(at), self.copied(at));
        let status = Command::new("cp").arg("-a").arg(from).arg(to).status()?;
        if status.success() { Ok(()) } else { Err(io::Error::other("cp failed")) }
    }

    /// Puts the copy in place of the directory of a node that is down, or the directory in place of the copy again.
    pub(crate) fn swap_with_copy(&self, at: usize) -> io::Result<()> {
        let (data, copy, aside) =
            (self.data(at), self.copied(at), self.hosts.disk(at).join("aside"));
        fs::rename(&data, &aside)?;
        fs::rename(&copy, &data)?;
        fs::rename(&aside, &copy)
    }

    /// Whether a node serves.
    pub(crate) fn is_ready(&self, at: usize) -> bool {
        let address = format!("{}:{HTTP_PORT}", hosts::address(at));
        clients::ask(&address, "GET /ready", "", b"").is_ok_and(|(status, _)| status == 200)
    }

    /// Waits until every node serves; starts those that end meanwhile.
    pub(crate) fn wait_ready(&mut self, within: Duration) -> io::Result<()> {
        let end = Instant::now() + within;
        while !(0..self.len()).all(|at| self.is_ready(at)) {
            if Instant::now() > end {
                let logs: Vec<String> = (0..self.len()).map(|at| self.last_words(at)).collect();
                return Err(io::Error::other(format!(
                    "not ready within {within:?}\n{}",
                    logs.join("\n")
                )));
            }
            self.supervise()?;
            thread::sleep(Duration::from_millis(200));
        }
        Ok(())
    }

    /// The end of a node's log.
    pub(crate) fn last_words(&self, at: usize) -> String {
        let log = fs::read_to_string(self.log(at)).unwrap_or_default();
        let lines: Vec<&str> = log.lines().rev().take(5).collect();
        lines.into_iter().rev().map(|line| format!("n{at}: {line}\n")).collect()
    }

    fn data(&self, at: usize) -> PathBuf {
        self.hosts.disk(at).join("data")
    }

    fn copied(&self, at: usize) -> PathBuf {
        self.hosts.disk(at).join("copy")
    }

    fn log(&self, at: usize) -> PathBuf {
        self.dir.join(format!("n{at}.log"))
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for child in self.nodes.iter_mut().flatten() {
            // It may have ended; then there is nothing to kill.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn remove(dir: &Path) -> io::Result<()> {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}
