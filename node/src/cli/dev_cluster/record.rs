//! Which nodes a development cluster has, and how each was started: a file beside their data.
//!
//! Every command finds the cluster through it, and starts a node again as it was started first. Process ids are used
//! again by the system: a process is that node only while its command line names the node's directory.

use std::fs::{self, File};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use serde::{Deserialize, Serialize};

use crate::failure::{Failure, Result};

/// A node that was started.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) struct Started {
    pub(super) name: String,
    pub(super) pid: i32,
    pub(super) http: String,
    pub(super) data_dir: PathBuf,
    /// Where relative paths of the arguments start.
    pub(super) directory: PathBuf,
    pub(super) arguments: Vec<String>,
    /// It was told to stop, and did.
    #[serde(default)]
    pub(super) stopped: bool,
}

impl Started {
    /// The node's log.
    pub(super) fn log(&self) -> PathBuf {
        self.data_dir.with_extension("log")
    }

    /// What starts this node.
    pub(super) fn command(&self) -> Result<Command> {
        let program = std::env::current_exe().map_err(|error| {
            let hint = "start it by its full path";
            Failure::failed(format!("cannot find this program: {error}"), hint)
        })?;
        let mut node = Command::new(program);
        node.arg("serve").args(&self.arguments).current_dir(&self.directory);
        // Variables meant for one node would give all of them one port.
        for (name, _) in
            std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("RONDO_"))
        {
            node.env_remove(name);
        }
        let path = self.log();
        let log = File::options().create(true).append(true).open(&path);
        let log = log.map_err(|error| cannot_write(&path, &error))?;
        // In a group of its own: a Ctrl-C reaches the supervising program alone, which then stops all nodes in order.
        node.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).process_group(0);
        Ok(node)
    }

    /// Whether the process lives and still is that node.
    pub(super) fn is_running(&self) -> bool {
        let Some(pid) = Pid::from_raw(self.pid) else { return false };
        if test_kill_process(pid).is_err() {
            return false;
        }
        let command = match fs::read(format!("/proc/{}/cmdline", self.pid)) {
            Ok(command) => command,
            Err(_) => {
                let ps = Command::new("ps");
                let output = { ps }.args(["-o", "command=", "-p", &self.pid.to_string()]).output();
                output.map(|output| output.stdout).unwrap_or_default()
            }
        };
        let dir = self.data_dir.as_os_str().as_encoded_bytes();
        command.windows(dir.len()).any(|window| window == dir)
    }

    /// Sends it a signal.
    pub(super) fn signal(&self, signal: Signal) {
        if let Some(pid) = Pid::from_raw(self.pid).filter(|_| self.is_running()) {
            // It may end in between; then there is nothing to signal.
            let _ = kill_process(pid, signal);
        }
    }

    /// What it said when it ended, as far as it is known.
    pub(super) fn last_words(&self) -> String {
        let text = fs::read_to_string(self.log()).unwrap_or_default();
        let said = text.lines().rev().find(|line| line.starts_with("error:"));
        said.unwrap_or_default().to_owned()
    }
}

/// The nodes of the cluster below `data_dir`; none when there is no cluster.
pub(super) fn read(data_dir: &Path) -> Result<Vec<Started>> {
    let path = path(data_dir);
    match fs::read(&path) {
        Ok(bytes) => serde_json::from_slice(&bytes).map_err(|error| {
            Failure::failed(
                format!("{} is broken: {error}", path.display()),
                "stop the nodes by hand and remove the file",
            )
        }),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => {
            let message = format!("cannot read {}: {error}", path.display());
            Err(Failure::failed(message, "check who owns it"))
        }
    }
}

/// Writes it whole, so that whoever reads at the same time finds the old one or this.
pub(super) fn write(data_dir: &Path, started: &[Started]) -> Result<()> {
    let bytes = serde_json::to_vec_pretty(started).expect("names and numbers");
    let path = path(data_dir);
    let new = path.with_extension("json.new");
    let written = fs::write(&new, bytes).and_then(|()| fs::rename(&new, &path));
    written.map_err(|error| cannot_write(&path, &error))
}

/// There never was a cluster.
pub(super) fn remove(data_dir: &Path) -> Result<()> {
    let path = path(data_dir);
    match fs::remove_file(&path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(cannot_write(&path, &error))
        }
        _ => Ok(()),
    }
}

fn path(data_dir: &Path) -> PathBuf {
    data_dir.join("dev-cluster.json")
}

/// Something could not be written there.
pub(super) fn cannot_write(path: &Path, error: &std::io::Error) -> Failure {
    Failure::failed(format!("cannot write {}: {error}", path.display()), "give another --data-dir")
}
