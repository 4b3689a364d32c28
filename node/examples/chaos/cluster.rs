//! The nodes as processes: started, killed, paused, stopped in order, and given an old copy of their directory.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::clients;
use crate::hosts::{self, Hosts};
use crate::views;

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
    /// So many of them are always there; the rest join and leave.
    lasting: usize,
}

impl Cluster {
    /// Starts `count` nodes that form a cluster. There is a machine for one more.
    pub(crate) fn start(rondo: &Path, dir: &Path, count: usize) -> io::Result<Cluster> {
        let hosts = Hosts::make(dir, count + 1)?;
        let nodes = (0..=count).map(|_| None).collect();
        let (rondo, dir) = (rondo.to_owned(), dir.to_owned());
        let mut cluster = Cluster { hosts, rondo, dir, nodes, lasting: count };
        (0..count).try_for_each(|at| cluster.run(at))?;
        Ok(cluster)
    }

    /// How many nodes are always there.
    pub(crate) const fn len(&self) -> usize {
        self.lasting
    }

    /// The machines.
    pub(crate) const fn hosts(&self) -> &Hosts {
        &self.hosts
    }

    /// Where clients reach the nodes that are always there.
    pub(crate) fn addresses(&self) -> Vec<String> {
        (0..self.lasting).map(|at| format!("{}:{HTTP_PORT}", hosts::address(at))).collect()
    }

    /// Starts a node that is down. With data that it must not serve it stays down.
    pub(crate) fn run(&mut self, at: usize) -> io::Result<()> {
        self.spawn(at, &["--recover", "manual"])
    }

    /// Starts a node that takes all from the others when its data is not what it was.
    pub(crate) fn run_anew(&mut self, at: usize) -> io::Result<()> {
        self.spawn(at, &[])
    }

    fn spawn(&mut self, at: usize, more: &[&str]) -> io::Result<()> {
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
            .args(["--bootstrap-expect", &self.len().to_string()])
            .args(more)
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
                None => at < self.lasting,
            };
            if gone {
                ended += 1;
                self.run(at)?;
            }
        }
        Ok(ended)
    }

    /// One node more joins, unless it is there.
    pub(crate) fn join(&mut self) -> io::Result<()> {
        match self.nodes[self.lasting] {
            Some(_) => Ok(()),
            None => self.run(self.lasting),
        }
    }

    /// The node that has joined leaves, if it is there, and is gone with its directory. Answers what was wrong.
    pub(crate) fn leave(&mut self, within: Duration) -> io::Result<Option<String>> {
        let at = self.lasting;
        if self.nodes[at].is_none() {
            return Ok(None);
        }
        let (end, name) = (Instant::now() + within, format!("n{at}"));
        let change = format!("{{\"node\":\"{name}\"}}");
        let line = "POST /v1/cluster/leave?commit=true";
        while views::has_role(self, 0, &name) != Some(false) {
            // It is refused as long as another change goes on, such as its joining.
            let _ = clients::ask(&self.addresses()[0], line, "", change.as_bytes());
            if Instant::now() > end {
                return Ok(Some(format!("{name} has not left within {within:?}")));
            }
            self.supervise()?;
            thread::sleep(Duration::from_millis(250));
        }
        self.stop(at)?;
        self.wipe(at)?;
        Ok(None)
    }

    /// The first nodes, fewer than half of those that are always there, and the others do not hear each other.
    pub(crate) fn cut_off_a_minority(&self) -> io::Result<()> {
        let minority = self.len().saturating_sub(1) / 2;
        for one in 0..minority {
            for other in minority..self.nodes.len() {
                self.hosts.cut(one, other)?;
                self.hosts.cut(other, one)?;
            }
        }
        Ok(())
    }

    /// Whether all copies are equal, by the hash trees of all nodes; else what is not.
    pub(crate) fn differ(&self) -> io::Result<Option<String>> {
        let server = &self.addresses()[0];
        let ended = Command::new(&self.rondo)
            .args(["repair", "--dry-run", "-o", "json", "--server", server])
            .output()?;
        let Ok(found) = serde_json::from_slice::<serde_json::Value>(&ended.stdout) else {
            return Ok(Some(String::from_utf8_lossy(&ended.stderr).into_owned()));
        };
        let count = |name: &str| found[name].as_array().map_or(usize::MAX, Vec::len);
        let names = ["differ", "incomplete", "not_reached", "troubles"];
        let wrong =
            names.map(|name| (count(name), name)).into_iter().filter(|(count, _)| *count > 0);
        let wrong: Vec<String> = wrong.map(|(count, name)| format!("{count} {name}")).collect();
        Ok((!wrong.is_empty()).then(|| format!("copies are not equal: {}", wrong.join(", "))))
    }

    /// Removes the directory of a node that is down.
    pub(crate) fn wipe(&self, at: usize) -> io::Result<()> {
        remove(&self.data(at))
    }

    /// Removes what a node has put aside that has begun anew.
    pub(crate) fn forget_set_aside(&self, at: usize) -> io::Result<()> {
        remove(&self.data(at).join("set-aside"))?;
        remove(&self.copied(at))
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

    /// The directory of a node.
    pub(crate) fn data(&self, at: usize) -> PathBuf {
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
