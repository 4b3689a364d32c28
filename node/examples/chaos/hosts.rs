//! The machines of the nodes: a network namespace and a file system for each, joined by a bridge.
//!
//! A cut is one-way: what comes from one address is dropped where it arrives. Everything is taken down when dropped.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The file system of each node, in MiB.
const DISK_MIB: u32 = 256;
const BRIDGE: &str = "rondo-chaos";
const BALLAST: &str = "ballast";

/// All machines.
pub(crate) struct Hosts {
    disks: Vec<PathBuf>,
}

impl Hosts {
    /// Makes `count` machines with their disks below `dir`.
    pub(crate) fn make(dir: &Path, count: usize) -> io::Result<Hosts> {
        let mut hosts = Hosts { disks: Vec::new() };
        hosts.remove();
        ip(&["link", "add", BRIDGE, "type", "bridge"])?;
        ip(&["addr", "add", "10.213.0.254/24", "dev", BRIDGE])?;
        ip(&["link", "set", BRIDGE, "up"])?;
        for at in 0..count {
            hosts.make_one(dir, at)?;
        }
        Ok(hosts)
    }

    fn make_one(&mut self, dir: &Path, at: usize) -> io::Result<()> {
        let (space, outer, inner) = (space(at), format!("rondo-o{at}"), format!("rondo-i{at}"));
        ip(&["netns", "add", &space])?;
        ip(&["link", "add", &outer, "type", "veth", "peer", "name", &inner])?;
        ip(&["link", "set", &inner, "netns", &space])?;
        ip(&["link", "set", &outer, "master", BRIDGE, "up"])?;
        let cidr = format!("{}/24", address(at));
        ip(&["-n", &space, "addr", "add", &cidr, "dev", &inner])?;
        ip(&["-n", &space, "link", "set", &inner, "up"])?;
        ip(&["-n", &space, "link", "set", "lo", "up"])?;
        self.nft(at, &["add", "table", "inet", "chaos"])?;
        let hook = "{ type filter hook input priority 0 ; }";
        self.nft(at, &["add", "chain", "inet", "chaos", "in", hook])?;
        let disk = dir.join(format!("disk{at}"));
        fs::create_dir_all(&disk)?;
        let size = format!("size={DISK_MIB}m");
        run(Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(&disk))?;
        self.disks.push(disk);
        Ok(())
    }

    /// The disk of a machine.
    pub(crate) fn disk(&self, at: usize) -> &Path {
        &self.disks[at]
    }

    /// What `from` sends no longer arrives at `to`.
    pub(crate) fn cut(&self, from: usize, to: usize) -> io::Result<()> {
        let from = address(from);
        self.nft(to, &["add", "rule", "inet", "chaos", "in", "ip", "saddr", &from, "drop"])
    }

    /// Ends all cuts.
    pub(crate) fn mend(&self) -> io::Result<()> {
        (0..self.disks.len())
            .try_for_each(|at| self.nft(at, &["flush", "chain", "inet", "chaos", "in"]))
    }

    /// What a machine sends waits, up to 400 ms, and what would wait longer is lost.
    pub(crate) fn slow(&self, at: usize) -> io::Result<()> {
        let how = ["tbf", "rate", "1mbit", "burst", "16kb", "latency", "400ms"];
        let device = format!("rondo-i{at}");
        let to = ["netns", "exec", &space(at), "tc", "qdisc", "add", "dev", &device, "root"];
        run(Command::new("ip").args(to).args(how))
    }

    /// What it sends waits no more.
    pub(crate) fn quicken(&self, at: usize) -> io::Result<()> {
        let device = format!("rondo-i{at}");
        ip(&["netns", "exec", &space(at), "tc", "qdisc", "del", "dev", &device, "root"])
    }

    /// Fills a disk to the last block.
    pub(crate) fn fill(&self, at: usize) -> io::Result<()> {
        let file = format!("of={}", self.disks[at].join(BALLAST).display());
        // It ends with an error when the disk is full, which is what is wanted.
        let _ = quiet(Command::new("dd").args(["if=/dev/zero", &file, "bs=64k"])).status()?;
        Ok(())
    }

    /// Makes room again.
    pub(crate) fn empty(&self, at: usize) -> io::Result<()> {
        fs::remove_file(self.disks[at].join(BALLAST))
    }

    fn nft(&self, at: usize, rule: &[&str]) -> io::Result<()> {
        run(Command::new("ip").args(["netns", "exec", &space(at), "nft"]).args(rule))
    }

    fn remove(&mut self) {
        for disk in self.disks.drain(..) {
            // Nothing is left to do about a disk that stays mounted.
            let _ = quiet(Command::new("umount").arg("-l").arg(&disk)).status();
        }
        for at in 0..16 {
            let _ = quiet(Command::new("ip").args(["netns", "del", &space(at)])).status();
            let _ =
                quiet(Command::new("ip").args(["link", "del", &format!("rondo-o{at}")])).status();
        }
        let _ = quiet(Command::new("ip").args(["link", "del", BRIDGE])).status();
    }
}

impl Drop for Hosts {
    fn drop(&mut self) {
        self.remove();
    }
}

/// The namespace of a machine.
pub(crate) fn space(at: usize) -> String {
    format!("rondo-c{at}")
}

/// The address of a machine.
pub(crate) fn address(at: usize) -> String {
    format!("10.213.0.{}", at + 1)
}

fn ip(arguments: &[&str]) -> io::Result<()> {
    run(Command::new("ip").args(arguments))
}

fn run(command: &mut Command) -> io::Result<()> {
    let ended = command.stdin(Stdio::null()).output()?;
    if ended.status.success() {
        return Ok(());
    }
    let why = String::from_utf8_lossy(&ended.stderr).trim().to_owned();
    Err(io::Error::other(format!("{command:?}: {why}")))
}

fn quiet(command: &mut Command) -> &mut Command {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null())
}
