//! The addresses of the other members, kept beside the store for a node that begins anew and was given no seeds.
//!
//! They lie in a file of their own, `peers`: what the store says of the cluster cannot be trusted then, if it can be read at all. An
//! address is no more than a place to ask: who is met there shows that it is of the cluster as any peer does.
//! Left out: seeds for any other start. A node that has its layout hears from its peers.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rondo_core::config::NODES_MAX;
use rondo_core::status::Status;

use crate::http::front::Front;
use crate::settings::split_port;

/// The file.
const PEERS: &str = "peers";
/// How often the members are looked at.
const EVERY: Duration = Duration::from_millis(500);
/// A longer file is none of this program.
const FILE_BYTES_MAX: u64 = 128 << 10;

/// The peer addresses that were kept in a data directory.
#[must_use]
pub fn kept(dir: &Path) -> Vec<String> {
    let path = dir.join(PEERS);
    // A file that is missing or broken names nobody.
    if fs::metadata(&path).map_or(true, |file| file.len() > FILE_BYTES_MAX) {
        return Vec::new();
    }
    let text = fs::read_to_string(&path).unwrap_or_default();
    let addresses = text.lines().filter(|line| matches!(split_port(line), Some((_, Some(_)))));
    addresses.take(NODES_MAX).map(str::to_owned).collect()
}

/// Keeps them, until the node ends.
pub async fn keep(dir: PathBuf, front: Arc<Front>) {
    let mut known = kept(&dir);
    while let Ok(status) = front.status().await {
        if let Some(others) = others(&status).filter(|others| *others != known) {
            known.clone_from(&others);
            let dir = dir.clone();
            let written = tokio::task::spawn_blocking(move || write(&dir, &others)).await;
            if let Ok(Err(error)) = written {
                tracing::warn!(%error, "the addresses of the other members cannot be kept for a start that needs them");
            }
        }
        tokio::time::sleep(EVERY).await;
    }
}

/// The peer addresses of the other members; `None` before there is a layout.
fn others(status: &Status) -> Option<Vec<String>> {
    status.layout.as_ref()?;
    let others = status.members.iter().filter(|member| member.in_layout && !member.me);
    Some(others.map(|member| member.peer_address.clone()).collect())
}

fn write(dir: &Path, addresses: &[String]) -> io::Result<()> {
    let (new, path) = (dir.join("peers.new"), dir.join(PEERS));
    let text: String = addresses.iter().map(|address| format!("{address}\n")).collect();
    fs::write(&new, text)?;
    fs::rename(&new, &path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_kept_and_what_is_no_address_is_left_out() {
        let dir = tempfile::tempdir().expect("a directory");
        assert!(kept(dir.path()).is_empty());
        let two = ["h1:7946".to_owned(), "[::1]:7946".to_owned()];
        write(dir.path(), &two).expect("written");
        assert_eq!(kept(dir.path()), two);
        fs::write(dir.path().join(PEERS), "h1:7946\nno address\n\nh2:x\n").expect("written");
        assert_eq!(kept(dir.path()), two[..1]);
        fs::write(dir.path().join(PEERS), [0xff; 9]).expect("written");
        assert!(kept(dir.path()).is_empty());
    }
}
