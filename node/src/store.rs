//! The store of a node and what it keeps about the node itself.

use std::path::{Path, PathBuf};

use rondo_core::engine::{Engine, MemoryEngine};
use rondo_core::id::{BootEpoch, NodeId};
use rondo_core::inbox::Inbox;

use crate::failure::{Failure, Result};
use crate::settings::{EngineKind, Settings};

/// An open store, and the node it belongs to.
pub struct Store {
    /// The engine.
    pub engine: Box<dyn Engine>,
    /// The node's identity.
    pub id: NodeId,
    /// Its name.
    pub name: String,
    /// How often the store has been opened, this time included.
    pub boot: BootEpoch,
    /// Whether it was closed cleanly last time.
    pub clean: bool,
    /// Where it lies.
    pub dir: PathBuf,
}

/// Opens the store that the settings name.
pub fn open(settings: &Settings, _inbox: &Inbox) -> Result<Store> {
    let host = host_name();
    let name = settings.name.clone().unwrap_or(host);
    let dir = settings.data_dir.clone().unwrap_or_else(|| Path::new("rondo-data").join(&name));
    match settings.engine {
        EngineKind::Memory => Ok(Store {
            engine: Box::new(MemoryEngine::new()),
            id: NodeId(random()?),
            name,
            boot: BootEpoch(1),
            clean: false,
            dir,
        }),
        EngineKind::Bitcask => Err(Failure::failed(
            "the engine `bitcask` is not built yet",
            "--engine memory keeps data until the node stops",
        )),
    }
}

/// The name of this host, made fit for a node.
fn host_name() -> String {
    let uname = rustix::system::uname();
    let name: String = uname
        .nodename()
        .to_string_lossy()
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.') { c } else { '-' })
        .take(rondo_core::config::NAME_BYTES_MAX)
        .collect();
    let name = name.trim_start_matches('.');
    if name.is_empty() { "rondo".to_owned() } else { name.to_owned() }
}

/// 128 bits from the system.
pub fn random() -> Result<u128> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|error| {
        Failure::failed(format!("the system gives no random bytes: {error}"), "check the system")
    })?;
    Ok(u128::from_be_bytes(bytes))
}
