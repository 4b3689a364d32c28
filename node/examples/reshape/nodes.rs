//! The nodes as processes, what an operator asks of them, and whether they have everything at the end.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::wire::{Connection, ask};
use crate::writers::value;

/// How long one change may take.
const SETTLED_WITHIN: Duration = Duration::from_secs(120);
/// How often to look.
const LOOK: Duration = Duration::from_millis(50);

struct Node {
    name: String,
    address: String,
    child: Child,
    has_left: bool,
}

/// All nodes.
pub(crate) struct Nodes {
    rondo: PathBuf,
    dir: PathBuf,
    port: u16,
    started: u16,
    nodes: Vec<Node>,
}

impl Nodes {
    /// Starts `count` nodes that form a cluster.
    pub(crate) fn start(rondo: &Path, dir: &Path, port: u16, count: u16) -> io::Result<Nodes> {
        let (rondo, dir) = (rondo.to_owned(), dir.to_owned());
        let mut nodes = Nodes { rondo, dir, port, started: 0, nodes: Vec::new() };
        let seeds: Vec<u16> = (0..count).collect();
        (0..count).try_for_each(|_| nodes.run(&seeds, count))?;
        Ok(nodes)
    }

    /// Starts `count` more, which join by themselves.
    pub(crate) fn add(&mut self, count: u16) -> io::Result<()> {
        (0..count).try_for_each(|_| self.run(&[0, 1], 1))
    }

    /// Has a node hand its data to the others.
    pub(crate) fn leave(&mut self, at: usize) -> io::Result<()> {
        let node = &mut self.nodes[at];
        node.has_left = true;
        let change = format!("{{\"node\":\"{}\"}}", node.name);
        let address = self.nodes[1].address.clone();
        let line = "POST /v1/cluster/leave?commit=true";
        match ask(&address, line, change.as_bytes())? {
            (202, _) => Ok(()),
            (_, why) => Err(io::Error::other(String::from_utf8_lossy(&why).into_owned())),
        }
    }

    /// kill -9.
    pub(crate) fn kill(&mut self, at: usize) -> io::Result<()> {
        self.nodes[at].child.kill()?;
        self.nodes[at].child.wait().map(drop)
    }

    /// Starts a node that was killed.
    pub(crate) fn start_again(&mut self, at: usize) -> io::Result<()> {
        let seeds: Vec<u16> = (0..self.started).collect();
        self.nodes[at].child = self.spawn(at as u16, &seeds, self.started)?;
        Ok(())
    }

    /// Sends a signal to a node.
    pub(crate) fn signal(&self, at: usize, name: &str) -> io::Result<()> {
        let id = self.nodes[at].child.id().to_string();
        Command::new("kill").args([name, &id]).status().map(drop)
    }

    /// Stops those that have left.
    pub(crate) fn stop_left(&mut self) -> io::Result<()> {
        for node in self.nodes.iter_mut().filter(|node| node.has_left) {
            Command::new("kill").args(["-TERM", &node.child.id().to_string()]).status()?;
            node.child.wait()?;
        }
        self.nodes.retain(|node| !node.has_left);
        Ok(())
    }

    /// Where clients reach those that stay.
    pub(crate) fn addresses(&self) -> Vec<String> {
        let stay = self.nodes.iter().filter(|node| !node.has_left);
        stay.map(|node| node.address.clone()).collect()
    }

    /// Waits until all that stay say that the layout has so many nodes and is settled.
    pub(crate) fn wait_settled(&self, count: u64) -> io::Result<()> {
        let end = Instant::now() + SETTLED_WITHIN;
        let is_settled = |address: &String| {
            let (_, body) = ask(address, "GET /v1/cluster", b"").ok()?;
            let cluster: Value = serde_json::from_slice(&body).ok()?;
            (cluster["settled"] == true && cluster["layout"]["nodes"] == count).then_some(())
        };
        while !self.addresses().iter().all(|address| is_settled(address).is_some()) {
            if Instant::now() > end {
                return Err(io::Error::other(format!(
                    "not settled within {SETTLED_WITHIN:?}\n{}",
                    self.said()
                )));
            }
            thread::sleep(LOOK);
        }
        Ok(())
    }

    /// Reads all keys, each through one node and all nodes in turn; answers how many are not what was written.
    pub(crate) fn lost(&self, keys: &[String], bytes: usize) -> io::Result<u64> {
        let mut lost = 0;
        let addresses = self.addresses();
        for (at, address) in addresses.iter().enumerate() {
            let mut connection = Connection::open(address)?;
            for key in keys.iter().skip(at).step_by(addresses.len()) {
                let (status, body) = connection.ask(&format!("GET /v1/kv/default/{key}"), b"")?;
                if status != 200 || body != value(key, bytes) {
                    println!("LOST: {key} through {address}: {status}");
                    lost += 1;
                }
            }
        }
        Ok(lost)
    }

    fn run(&mut self, seeds: &[u16], expect: u16) -> io::Result<()> {
        let number = self.started;
        self.started += 1;
        let child = self.spawn(number, seeds, expect)?;
        let address = format!("127.0.0.1:{}", self.port + number);
        self.nodes.push(Node { name: name(number), address, child, has_left: false });
        Ok(())
    }

    fn spawn(&self, number: u16, seeds: &[u16], expect: u16) -> io::Result<Child> {
        let name = name(number);
        let log = self.dir.join(format!("{name}.log"));
        let log = fs::File::options().create(true).append(true).open(log)?;
        let peer = |at: u16| self.port + 100 + at;
        let seeds: Vec<String> =
            seeds.iter().map(|&at| format!("127.0.0.1:{}", peer(at))).collect();
        Command::new(&self.rondo)
            .args(["serve", "--node-id", &name, "--port", &(self.port + number).to_string()])
            .args(["--peer-port", &peer(number).to_string(), "--seeds", &seeds.join(",")])
            .args(["--bootstrap-expect", &expect.to_string(), "--data-dir"])
            .arg(self.dir.join(&name))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
    }

    /// What the nodes say of themselves, and the ends of their logs.
    fn said(&self) -> String {
        let mut said = String::new();
        for node in &self.nodes {
            let (_, body) = ask(&node.address, "GET /v1/cluster", b"").unwrap_or_default();
            let log = fs::read_to_string(self.dir.join(format!("{}.log", node.name)));
            let log = log.unwrap_or_default();
            let last: Vec<&str> = log.lines().rev().take(5).collect();
            said += &format!(
                "{}: {}\n{}\n",
                node.name,
                String::from_utf8_lossy(&body),
                last.join("\n")
            );
        }
        said
    }
}

fn name(number: u16) -> String {
    format!("n{}", number + 1)
}

impl Drop for Nodes {
    fn drop(&mut self) {
        for node in &mut self.nodes {
            // It may have ended; then there is nothing to kill.
            let _ = node.child.kill();
            let _ = node.child.wait();
        }
    }
}
