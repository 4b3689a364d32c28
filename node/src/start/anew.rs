//! How a node begins anew whose data cannot be trusted: it sets its data directory aside and starts again as another node of its
//! name, which takes everything from its peers before it counts.
//!
//! Three things bring it there: its start finds that acknowledged data is damaged or gone; its peers tell it that its directory is
//! an older copy; a record that it keeps for itself cannot be read while it runs. It needs to know where its cluster is, by `--seeds`
//! or by the addresses that it has kept (`peers`); without any, and with `--recover manual`, it stays down as it is. Nothing is deleted
//! (`data_dir::set_aside`), and its place in the layout is given to it as to any node that comes with the name of a dead one: not where
//! W is 1, since then nobody else may have what it had.
//! Left out: taking only what is missing. All is taken again.

use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use rondo_engines::data_dir::{ASIDE_DIR, DataDirError};
use rondo_engines::open::StoreError;

use crate::failure::{Failure, Result};
use crate::http::front::Front;
use crate::settings::Settings;
use crate::start::peers;

/// How often a running node looks whether it counts.
const EVERY: Duration = Duration::from_millis(500);

/// Whether a node with these settings, in this directory, begins anew when it has to.
#[must_use]
pub fn may(settings: &Settings, dir: &Path) -> bool {
    settings.recovers && !seeds(settings, dir).is_empty()
}

/// Where a node that begins anew looks for its cluster.
#[must_use]
pub fn seeds(settings: &Settings, dir: &Path) -> Vec<String> {
    if settings.seeds.is_empty() { peers::kept(dir) } else { settings.seeds.clone() }
}

/// Whether a store was not opened because of what it has lost. Everything else is a mistake in the settings, or passes.
#[must_use]
pub fn is_loss(error: &StoreError) -> bool {
    match error {
        StoreError::Lost(_) => true,
        StoreError::DataDir(error) => is_loss_of_dir(error),
        StoreError::Engine(error) => matches!(error, rondo_core::error::Error::Corrupt { .. }),
    }
}

/// The same of its directory. One that does not say whose it is may be anybody's.
#[must_use]
pub fn is_loss_of_dir(error: &DataDirError) -> bool {
    match error {
        DataDirError::Lost(_) | DataDirError::WentBack { .. } => true,
        DataDirError::Unreadable { file, .. } => *file != rondo_engines::data_dir::IDENTITY_FILE,
        DataDirError::OtherName { .. }
        | DataDirError::OtherCluster { .. }
        | DataDirError::OtherEngine { .. }
        | DataDirError::NewerFormat { .. }
        | DataDirError::Unclaimed
        | DataDirError::OtherStore
        | DataDirError::BadName
        | DataDirError::Disk(_) => false,
    }
}

/// Tells what was done; an error when nothing was, since something was set aside before.
pub fn told(dir: &Path, why: &str, is_done: bool) -> Result<()> {
    let aside = dir.join(ASIDE_DIR);
    let aside = aside.display();
    if is_done {
        tracing::error!(
            "{why}: everything in {} is set aside in {aside}, and this node begins anew and takes its data from its peers",
            dir.display()
        );
        return Ok(());
    }
    Err(Failure::failed(
        format!("{why}; and what was set aside before is still in {aside}"),
        "see what becomes of the data on this disk; then remove what was set aside, and start again: the node begins anew",
    ))
}

/// What to do about a loss, for somebody whose node does not begin anew by itself.
#[must_use]
pub fn hint(settings: &Settings, dir: &Path) -> String {
    let how = match (settings.recovers, seeds(settings, dir).is_empty()) {
        (true, true) => "--seeds HOST:PORT, the address of a living node of its cluster",
        (false, true) => {
            "--seeds HOST:PORT, the address of a living node of its cluster, and --recover auto"
        }
        (_, false) => "--recover auto",
    };
    format!(
        "start it again with {how}: then this directory is set aside, and the node takes its data from its peers; or put back the \
         very files that were here if somebody moved them away"
    )
}

/// Ends when this node's directory does not count any more.
pub async fn denied(front: &Front) {
    loop {
        match front.status().await {
            Ok(status) if status.denied => return,
            // It is about to end anyway.
            Err(_) => std::future::pending().await,
            Ok(_) => tokio::time::sleep(EVERY).await,
        }
    }
}

/// Runs the same command in the place of this process, so that nothing of this life is left. Comes back only when that fails.
#[must_use]
pub fn start_again() -> Failure {
    let failed = match std::env::current_exe() {
        Ok(program) => Command::new(program).args(std::env::args_os().skip(1)).exec(),
        Err(error) => error,
    };
    Failure::failed(format!("cannot start again: {failed}"), "start the node: it begins anew")
}
