//! Real nodes as child processes, and the plainest HTTP client to talk to them.
//!
//! Nothing here sleeps to be right: it polls for a condition until a generous deadline. Every child is killed when
//! its guard is dropped, whatever became of the test.

use std::fs;
use std::io::{self, Read as _, Write as _};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;

/// How long anything may take before the test fails.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// The binary under test, with an environment that says nothing about rondo.
pub(crate) fn rondo() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rondo"));
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("RONDO_")) {
        command.env_remove(name);
    }
    command.env("NO_COLOR", "1").stdin(Stdio::null());
    command
}

/// A port that is free for TCP and UDP, as are the three behind it, and that no other test of this process gets. It
/// lies below those that systems give to outgoing connections: one of them would keep a node from coming back.
pub(crate) fn free_port() -> u16 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let free = |port: u16| {
        let address = ("127.0.0.1", port);
        TcpListener::bind(address).is_ok() && UdpSocket::bind(address).is_ok()
    };
    loop {
        let count = NEXT.fetch_add(1, Ordering::Relaxed);
        let place = std::process::id().wrapping_mul(97).wrapping_add(count) % 5_000;
        let port = 12_000 + 4 * place as u16;
        if (port..port + 4).all(free) {
            return port;
        }
    }
}

/// Polls until `condition` has a value.
pub(crate) fn eventually<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + PATIENCE;
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(Instant::now() < end, "not within {PATIENCE:?}: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// An answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("JSON: {}", self.text()))
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (found, value) = line.split_once(':')?;
            found.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }
}

/// Asks over a connection of its own.
pub(crate) fn ask(port: u16, line: &str, headers: &[&str], body: &[u8]) -> io::Result<Answer> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut head = format!("{line} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n");
    for header in headers {
        head += &format!("{header}\r\n");
    }
    if !body.is_empty() {
        head += &format!("Content-Length: {}\r\n", body.len());
    }
    stream.write_all(format!("{head}\r\n").as_bytes())?;
    stream.write_all(body)?;
    let mut all = Vec::new();
    stream.read_to_end(&mut all)?;
    let end = all.windows(4).position(|four| four == b"\r\n\r\n");
    let end = end.ok_or(io::ErrorKind::UnexpectedEof)?;
    let head = String::from_utf8_lossy(&all[..end]).into_owned();
    let status = head.get(9..12).and_then(|status| status.parse().ok());
    let status = status.ok_or(io::ErrorKind::InvalidData)?;
    let mut answer = Answer { status, head, body: all.split_off(end + 4) };
    if answer.header("transfer-encoding").is_some() && !line.starts_with("HEAD") {
        answer.body = unchunked(&answer.body).ok_or(io::ErrorKind::UnexpectedEof)?;
        return Ok(answer);
    }
    let length = answer.header("content-length").map_or(0, |length| length.parse().unwrap_or(0));
    if length != answer.body.len() && !line.starts_with("HEAD") {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(answer)
}

/// What chunks hold, the last one included.
fn unchunked(mut bytes: &[u8]) -> Option<Vec<u8>> {
    let mut all = Vec::new();
    loop {
        let end = bytes.windows(2).position(|two| two == b"\r\n")?;
        let length = usize::from_str_radix(std::str::from_utf8(&bytes[..end]).ok()?, 16).ok()?;
        let chunk = bytes.get(end + 2..end + 2 + length)?;
        bytes = bytes[end + 2 + length..].strip_prefix(b"\r\n")?;
        if length == 0 {
            return bytes.is_empty().then_some(all);
        }
        all.extend_from_slice(chunk);
    }
}

/// What came of a program that ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// Runs a command that ends by itself.
pub(crate) fn run(arguments: &[&str]) -> Ended {
    run_in(Path::new("."), arguments)
}

/// As `run`, in a directory.
pub(crate) fn run_in(dir: &Path, arguments: &[&str]) -> Ended {
    let scratch = tempfile::tempdir().expect("a directory");
    let file = |name: &str| fs::File::create(scratch.path().join(name)).expect("a file");
    let text = |name: &str| {
        let bytes = fs::read(scratch.path().join(name)).expect("a file");
        String::from_utf8_lossy(&bytes).into_owned()
    };
    let child = rondo()
        .current_dir(dir)
        .args(arguments)
        .stdout(file("out"))
        .stderr(file("err"))
        .spawn()
        .expect("the binary starts");
    let mut child = Guard(child);
    let status = eventually(&format!("the end of rondo {arguments:?}"), || {
        child.0.try_wait().expect("a child can be waited for")
    });
    Ended { code: status.code(), stdout: text("out"), stderr: text("err") }
}

/// The name of the cluster that a test's nodes form, where no flag gives another: a node of some other test, or of another run of
/// them on this machine, may have had a port of ours, and would join us at its next attempt. A thread has its test's name.
fn cluster_of_the_test() -> String {
    let thread = std::thread::current();
    let test =
        thread.name().expect("nodes are started by the test's own thread").replace("::", ".");
    format!("{test}.{}", std::process::id())
}

/// Kills a child whatever became of the test.
struct Guard(Child);

impl Drop for Guard {
    fn drop(&mut self) {
        // It may have ended; then there is nothing to kill.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A running node; killed when dropped.
pub(crate) struct Node {
    child: Guard,
    pub(crate) port: u16,
    log: PathBuf,
    out: PathBuf,
}

impl Node {
    /// Starts a node below `dir` with these flags and waits until it answers. A port that was free and is taken
    /// now is another test's luck: the node is started again on another.
    pub(crate) fn start(dir: &Path, name: &str, flags: &[&str]) -> Node {
        for _ in 0..10 {
            let port = free_port();
            match Node::start_at(dir, name, port, flags) {
                Ok(node) => return node,
                Err(ended) if ended.contains(&format!("port {port}")) => {}
                Err(ended) => panic!("{name} does not start: {ended}"),
            }
        }
        panic!("no port stays free");
    }

    /// As `start`, on this port. `Err`: what it said when it ended.
    pub(crate) fn start_at(
        dir: &Path,
        name: &str,
        port: u16,
        flags: &[&str],
    ) -> Result<Node, String> {
        let mut node = Node::spawn(dir, name, port, flags);
        let end = Instant::now() + PATIENCE;
        while ask(port, "GET /live", &[], b"").is_err() {
            if node.child.0.try_wait().expect("a child can be waited for").is_some() {
                return Err(node.log());
            }
            assert!(Instant::now() < end, "{name} does not answer: {}", node.log());
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(node)
    }

    /// As `start`, with so many file descriptors.
    pub(crate) fn start_with_descriptors(dir: &Path, name: &str, descriptors: u32) -> Node {
        let mut shell = Command::new("sh");
        let script = format!("ulimit -n {descriptors} && exec \"$0\" \"$@\"");
        shell.args(["-c", &script, env!("CARGO_BIN_EXE_rondo")]).stdin(Stdio::null());
        let node = Node::spawn_by(shell, dir, name, free_port(), &[]);
        node.wait_ready();
        node
    }

    /// As `start`, with a log that goes into a pipe which nobody reads.
    pub(crate) fn start_with_unread_log(dir: &Path, name: &str, flags: &[&str]) -> Node {
        let node = Node::spawn_to(rondo(), dir, name, free_port(), flags, Stdio::piped());
        node.wait_ready();
        node
    }

    /// As `start`, on a disk of its own of so many bytes, and started again whenever it is killed. `None`: this system lets
    /// nobody mount one.
    pub(crate) fn start_on_small_disk(dir: &Path, name: &str, bytes: u64) -> Option<Node> {
        let data = dir.join(name);
        fs::create_dir_all(&data).expect("a directory");
        let mount = format!("mount -t tmpfs -o size={bytes} tmpfs '{}'", data.display());
        let inside = |script: &str| {
            let mut unshare = Command::new("unshare");
            unshare.args(["-Urmpf", "--kill-child", "sh", "-c", script]).stdin(Stdio::null());
            unshare.arg(env!("CARGO_BIN_EXE_rondo"));
            unshare
        };
        let mut tried = inside(&mount);
        if !tried.output().is_ok_and(|output| output.status.success()) {
            return None;
        }
        let script = format!("{mount} && while :; do \"$0\" \"$@\"; done");
        let node = Node::spawn_by(inside(&script), dir, name, free_port(), &[]);
        node.wait_ready();
        Some(node)
    }

    fn spawn(dir: &Path, name: &str, port: u16, flags: &[&str]) -> Node {
        Node::spawn_by(rondo(), dir, name, port, flags)
    }

    fn spawn_by(rondo: Command, dir: &Path, name: &str, port: u16, flags: &[&str]) -> Node {
        let log = fs::File::create(dir.join(format!("{name}.log"))).expect("a file");
        Node::spawn_to(rondo, dir, name, port, flags, log.into())
    }

    fn spawn_to(
        mut rondo: Command,
        dir: &Path,
        name: &str,
        port: u16,
        flags: &[&str],
        stderr: Stdio,
    ) -> Node {
        let log = dir.join(format!("{name}.log"));
        let out = dir.join(format!("{name}.out"));
        let child = rondo
            .env("RONDO_CLUSTER_NAME", cluster_of_the_test())
            .args(["serve", "--node-id", name, "--port", &port.to_string()])
            .arg("--data-dir")
            .arg(dir.join(name))
            .args(flags)
            .stdout(fs::File::create(&out).expect("a file"))
            .stderr(stderr)
            .spawn()
            .expect("the binary starts");
        Node { child: Guard(child), port, log, out }
    }

    pub(crate) fn ask(&self, line: &str, headers: &[&str], body: &[u8]) -> Answer {
        ask(self.port, line, headers, body).unwrap_or_else(|error| panic!("{line}: {error}"))
    }

    pub(crate) fn get(&self, target: &str) -> Answer {
        self.ask(&format!("GET {target}"), &[], b"")
    }

    pub(crate) fn put(&self, target: &str, body: &[u8]) -> Answer {
        self.ask(&format!("PUT {target}"), &[], body)
    }

    /// Waits until the node serves requests.
    pub(crate) fn wait_ready(&self) {
        eventually(&format!("ready\n{}", self.log()), || {
            let ready = ask(self.port, "GET /ready", &[], b"").ok()?;
            (ready.status == 200).then_some(())
        });
    }

    /// The most memory that it has had at once, in MiB.
    pub(crate) fn most_memory_mib(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.0.id()));
        let status = status.expect("it runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kib = line.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok());
        kib.expect("a number of kB") >> 10
    }

    /// What it has logged.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// What it has printed.
    pub(crate) fn printed(&self) -> String {
        fs::read_to_string(&self.out).unwrap_or_default()
    }

    /// Sends a signal by its name.
    pub(crate) fn signal(&self, name: &str) {
        let sent = Command::new("kill").args([name, &self.child.0.id().to_string()]).status();
        assert!(sent.expect("kill is there").success());
    }

    /// kill -9.
    pub(crate) fn kill(mut self) {
        self.child.0.kill().expect("it runs");
        self.child.0.wait().expect("it was killed");
    }

    /// Where this process finds a path below which only the node sees its small disk.
    pub(crate) fn on_small_disk(&self, path: &Path) -> PathBuf {
        let root = PathBuf::from(format!("/proc/{}/root", self.child.0.id()));
        root.join(path.strip_prefix("/").expect("an absolute path"))
    }

    /// kill -9 for the node below what starts it again.
    pub(crate) fn kill_on_small_disk(&self) {
        let mut below = vec![self.child.0.id().to_string()];
        while let Some(parent) = below.pop() {
            let path = format!("/proc/{parent}/task/{parent}/children");
            let children = fs::read_to_string(path).unwrap_or_default();
            if children.trim().is_empty() {
                let killed = Command::new("kill").args(["-9", &parent]).status();
                assert!(killed.expect("kill is there").success());
                return;
            }
            below.extend(children.split_whitespace().map(str::to_owned));
        }
    }

    /// Waits for its end.
    pub(crate) fn wait(mut self) -> ExitStatus {
        eventually(&format!("the end\n{}", self.log()), || {
            self.child.0.try_wait().expect("a child can be waited for")
        })
    }
}

/// Nodes that form a cluster: each has the others as seeds.
pub(crate) fn cluster(dir: &Path, names: &[&str], flags: &[&str]) -> Vec<Node> {
    for _ in 0..10 {
        let peers: Vec<_> = names.iter().map(|_| free_port()).collect();
        let mut nodes = Vec::new();
        for (at, name) in names.iter().enumerate() {
            let all = cluster_flags(&peers, at, flags);
            let all: Vec<_> = all.iter().map(String::as_str).collect();
            match Node::start_at(dir, name, free_port(), &all) {
                Ok(node) => nodes.push(node),
                Err(ended) if ended.contains("in use") => break,
                Err(ended) => panic!("{name} does not start: {ended}"),
            }
        }
        if nodes.len() == names.len() {
            nodes.iter().for_each(Node::wait_ready);
            return nodes;
        }
    }
    panic!("no ports stay free");
}

/// The flags of the node at `at` among peers on these ports.
pub(crate) fn cluster_flags(peers: &[u16], at: usize, flags: &[&str]) -> Vec<String> {
    let others = peers.iter().enumerate().filter(|(other, _)| *other != at);
    let seeds: Vec<_> = others.map(|(_, port)| format!("127.0.0.1:{port}")).collect();
    let mut all = vec![
        "--peer-port".to_owned(),
        peers[at].to_string(),
        "--seeds".to_owned(),
        seeds.join(","),
        "--bootstrap-expect".to_owned(),
        peers.len().to_string(),
    ];
    all.extend(flags.iter().map(|flag| (*flag).to_owned()));
    all
}
