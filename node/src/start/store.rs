//! The store of a node: where it lies, its lock, and why it was not opened, in words.
//!
//! A node whose engine keeps nothing has no data directory, and is another node after each start.
//! Besides what `DataDir` keeps there are two small files: `peer-port`, the port that was found free, so that a node that
//! starts again is where its peers know it to be; and `peers` (`start/peers.rs`).

use std::fmt::{self, Display};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::{fs, io};

use rondo_core::config::{Actors, NAME_BYTES_MAX};
use rondo_core::engine::{Engine, Lost, Opening, Scale};
use rondo_core::id::{BootEpoch, Life, Lsn, NodeId, SessionId};
use rondo_core::inbox::Inbox;
use rondo_core::member::lives::denial;
use rondo_engines::data_dir::{DataDir, DataDirError, IDENTITY_FILE, NewIdentity};
use rondo_engines::data_dir::{has_begun_anew, set_aside};
use rondo_engines::kind::EngineKind;
use rondo_engines::open::{self, DATA_DIR, StoreError, Wanted};
use rondo_engines::os_disk::OsDisk;

use crate::failure::{Failure, Result};
use crate::settings::Settings;
use crate::start::anew;
use crate::start::trial_disk::TrialDisk;

/// The file that a process locks to have the directory for itself.
const LOCK: &str = "lock";
/// The files that a start reads or makes besides the data.
const FILES: [&str; 5] = [IDENTITY_FILE, "boot", "clean", "held", LOCK];
/// The file of the peer port.
const PEER_PORT: &str = "peer-port";

/// An open store, and the node it belongs to.
pub struct Store {
    /// The engine.
    pub engine: Box<dyn Engine>,
    /// The node's identity.
    pub id: NodeId,
    /// Its name.
    pub name: String,
    /// How often the store has been opened, this time included, and by which session.
    pub life: Life,
    /// The lives before it, the latest first.
    pub earlier: Vec<Life>,
    /// Where the directory lies, as a number.
    pub place: u128,
    /// What becomes of the actors that earlier lives have drawn.
    pub actors: Actors,
    /// Where it lies.
    pub dir: PathBuf,
    /// Whether the node has begun anew here, and so forms no cluster.
    pub begun_anew: bool,
    /// What closes it; `None` when nothing is kept.
    pub closer: Option<Closer>,
}

impl Store {
    /// One that is there for one life.
    fn of_one_life(engine: Box<dyn Engine>, wanted: Wanted, dir: PathBuf) -> Store {
        Store {
            engine,
            id: wanted.new.node,
            name: wanted.new.name,
            life: Life { boot: BootEpoch(1), session: wanted.session },
            earlier: Vec::new(),
            place: 0,
            actors: Actors::Fresh,
            dir,
            begun_anew: false,
            closer: None,
        }
    }

    /// One that is kept in a data directory.
    fn of_directory(store: open::Store<OsDisk>, dir: PathBuf, begun_anew: bool) -> Store {
        let open::Store { dir: data, engine, actors, .. } = store;
        Store {
            engine,
            id: data.node,
            name: data.name.clone(),
            life: data.life,
            earlier: data.earlier.clone(),
            place: data.place,
            actors,
            dir,
            begun_anew,
            closer: Some(Closer(data)),
        }
    }
}

/// Says on the disk that everything was closed. Holds the directory's lock until it is dropped.
pub struct Closer(DataDir<OsDisk>);

impl Closer {
    /// To be called when the engine has been closed without an error. `false`: there is no room for the mark.
    pub fn mark_clean(self, last: Lsn) -> Result<bool> {
        self.0.mark_clean(last).map_err(|error| {
            Failure::failed(
                format!("cannot mark the data directory as closed: {error}"),
                "check the disk; nothing is lost, but the next start takes longer",
            )
        })
    }

    /// Sets the directory aside, for a node that begins anew.
    pub fn set_aside(self, dir: &Path, why: &str) -> Result<()> {
        let is_done = self.0.set_aside().map_err(|error| unusable(dir, &error))?;
        anew::told(dir, why, is_done)
    }
}

/// The name of the node and the directory of its data that the settings mean.
#[must_use]
pub fn place(settings: &Settings) -> (String, PathBuf) {
    let name = settings.name.clone().unwrap_or_else(host_name);
    let dir = settings.data_dir.clone().unwrap_or_else(|| {
        let all = Path::new("rondo-data");
        let usual = all.join(&name);
        // Nobody named the node, and the host may have had another name: the one node that is here is meant.
        match (&settings.name, &nodes_in(all)[..]) {
            (None, [only]) if !usual.exists() => all.join(only),
            _ => usual,
        }
    });
    (name, dir)
}

/// The names of the directories below `all` that are a node's.
fn nodes_in(all: &Path) -> Vec<String> {
    let entries = fs::read_dir(all).into_iter().flatten().flatten();
    let nodes = entries.filter(|entry| entry.path().join(IDENTITY_FILE).exists());
    let mut names: Vec<String> =
        nodes.filter_map(|entry| entry.file_name().into_string().ok()).collect();
    names.sort_unstable();
    names
}

/// Refuses to start a node that nobody has named beside others: this host may have had the name of one of them, and
/// the new one would be empty (<https://github.com/hashicorp/consul/issues/13037>).
fn is_named(settings: &Settings, dir: &Path) -> Result<()> {
    let all = Path::new("rondo-data");
    let others = nodes_in(all);
    if settings.name.is_some() || settings.data_dir.is_some() || dir.exists() || others.is_empty() {
        return Ok(());
    }
    Err(Failure::usage(
        format!(
            "this host is called {} now, and {} holds the nodes {}: nobody says which one is meant",
            host_name(),
            all.display(),
            others.join(", ")
        ),
        format!("--node-id {}, or --node-id with a new name for a new node", others[0]),
    ))
}

/// Refuses a directory in which a node keeps data on disk: an engine that keeps nothing would start empty beside it.
pub fn holds_no_data(dir: &Path, engine: EngineKind) -> Result<()> {
    if !dir.join(IDENTITY_FILE).exists() && !dir.join(DATA_DIR).exists() {
        return Ok(());
    }
    Err(Failure::usage(
        format!(
            "{} holds the data of a node, and the engine `{engine}` would not read it",
            dir.display()
        ),
        format!("leave out --engine {engine}, or give another --data-dir or --node-id"),
    ))
}

/// Opens the store that the settings name. Ends of disk work go into `inbox`.
pub fn open(settings: &Settings, inbox: &Inbox) -> Result<Store> {
    let (name, dir) = place(settings);
    is_named(settings, &dir)?;
    let wanted = wanted(settings, name)?;
    if let Some(engine) = in_memory(&wanted) {
        return Ok(Store::of_one_life(engine, wanted, dir));
    }
    let done = inbox.clone();
    let disk = OsDisk::open(&dir, Arc::new(move |end| done.disk(end)));
    let disk = disk.map_err(|error| unusable(&dir, &error))?;
    lock(&disk, &dir)?;
    let disk = Arc::new(disk);
    let store = match (open_trusted(&disk, &wanted), anew::may(settings, &dir)) {
        (Ok(store), _) => store,
        (Err(Untrusted::Denied(store, _)), false) => *store,
        (Err(Untrusted::Refused(error)), may) if !may || !anew::is_loss(&error) => {
            return Err(refused(settings, &dir, &error));
        }
        (Err(untrusted), _) => {
            let why = untrusted.to_string();
            drop(untrusted);
            let is_done = set_aside(&*disk, &[DATA_DIR]).map_err(|error| unusable(&dir, &error))?;
            anew::told(&dir, &why, is_done)?;
            let opened = open::open_store(Arc::clone(&disk), &wanted);
            opened.map_err(|error| refused(settings, &dir, &error))?
        }
    };
    if store.opened.torn_bytes > 0 {
        let bytes = store.opened.torn_bytes;
        tracing::info!(bytes, "writes that were not synced before are gone");
    }
    let begun_anew = has_begun_anew(&*disk).map_err(|error| unusable(&dir, &error))?;
    Ok(Store::of_directory(store, dir, begun_anew))
}

/// A store that must not serve as it is.
enum Untrusted {
    /// It was not opened.
    Refused(StoreError),
    /// It is open, and was told in an earlier life that it does not count.
    Denied(Box<open::Store<OsDisk>>, String),
}

impl Display for Untrusted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Untrusted::Refused(error) => error.fmt(f),
            Untrusted::Denied(_, why) => f.write_str(why),
        }
    }
}

fn open_trusted(disk: &Arc<OsDisk>, wanted: &Wanted) -> Result<open::Store<OsDisk>, Untrusted> {
    let opened = open::open_store(Arc::clone(disk), wanted);
    let mut store = opened.map_err(Untrusted::Refused)?;
    match denial(store.engine.as_mut()) {
        Ok(None) => Ok(store),
        Ok(Some(why)) => Err(Untrusted::Denied(Box::new(store), why)),
        Err(error) => Err(Untrusted::Refused(StoreError::Engine(error))),
    }
}

/// The engine of a node that keeps nothing.
fn in_memory(wanted: &Wanted) -> Option<Box<dyn Engine>> {
    let salt = wanted.new.store as u64;
    let how = Opening { salt, scale: wanted.scale, accept_losses: false, held: Vec::new() };
    wanted.kind.open_in_memory(&how).map(|(engine, _)| engine)
}

/// Tries what a start does before it opens the engine, and changes nothing: whether another process has the directory,
/// whose it is, what it lacks, and whether there is room. The data itself is read by the start alone.
pub fn try_to_open(settings: &Settings) -> Result<()> {
    let (name, dir) = place(settings);
    is_named(settings, &dir)?;
    if !settings.engine.keeps() {
        return Ok(());
    }
    if dir.join(LOCK).exists() {
        // Released at once: a node that starts meanwhile must not be kept from it.
        let disk = OsDisk::open(&dir, Arc::new(drop)).map_err(|error| unusable(&dir, &error))?;
        lock(&disk, &dir)?;
    }
    let disk = TrialDisk::over(&dir).map_err(|error| unusable(&dir, &error))?;
    match open::open_dir(&Arc::new(disk), &wanted(settings, name)?) {
        Err(error) if anew::may(settings, &dir) && anew::is_loss_of_dir(&error) => Ok(()),
        opened => opened.map(drop).map_err(|error| refused_dir(settings, &dir, &error)),
    }
}

/// Why nothing can be kept in a directory.
pub(crate) fn unusable(dir: &Path, error: &dyn Display) -> Failure {
    let is_directory = |name: &&&str| dir.join(name).is_dir();
    if let Some(path) = FILES.iter().find(is_directory).map(|name| dir.join(name)) {
        return Failure::failed(
            format!("{} is a directory, where a file of this node belongs", path.display()),
            "put it aside, and put the file back that was there, if there was one; then start again",
        );
    }
    let hint = "give a --data-dir that this user may write to, on a disk with room";
    Failure::failed(format!("data directory {}: {error}", dir.display()), hint)
}

fn lock(disk: &OsDisk, dir: &Path) -> Result<()> {
    disk.lock().map_err(|error| match error.kind() {
        io::ErrorKind::ResourceBusy => Failure::failed(
            error.to_string(),
            "a second node on this host needs a --node-id, a --port and a --data-dir of its own",
        ),
        _ => unusable(dir, &error),
    })
}

/// The store that the settings mean, for a new life of the node `name`.
fn wanted(settings: &Settings, name: String) -> Result<Wanted> {
    let cluster = settings.cluster.clone();
    let new = NewIdentity { node: NodeId(random()?), store: random()?, name, cluster };
    Ok(Wanted {
        kind: settings.engine,
        scale: Scale::Disk,
        new,
        is_named: settings.name.is_some(),
        session: SessionId(random()? as u64),
    })
}

fn refused(settings: &Settings, dir: &Path, error: &StoreError) -> Failure {
    match error {
        StoreError::DataDir(error) => refused_dir(settings, dir, error),
        StoreError::Engine(error) => unusable(dir, error),
        StoreError::Lost(lost) => {
            for Lost { file, offset, what } in lost {
                tracing::error!(file, offset, "acknowledged data is damaged: {what}");
            }
            Failure::failed(
                format!("acknowledged data in {} is damaged", dir.display()),
                format!("the log names the places; {}", anew::hint(settings, dir)),
            )
        }
    }
}

fn refused_dir(settings: &Settings, dir: &Path, error: &DataDirError) -> Failure {
    let shown = dir.display();
    match error {
        DataDirError::OtherName { found, asked } => Failure::failed(
            format!("the data directory {shown} belongs to the node `{found}`, not to `{asked}`"),
            format!("--node-id {found}, or another --data-dir"),
        ),
        DataDirError::OtherCluster { found, asked } => Failure::failed(
            format!(
                "the data directory {shown} belongs to the cluster `{found}`, not to `{asked}`"
            ),
            format!("--cluster-name {found}, or another --data-dir"),
        ),
        DataDirError::OtherEngine { found, asked } => Failure::failed(
            format!("the engine `{found}` wrote the data directory {shown}, not `{asked}`"),
            format!("--engine {found}, or another --data-dir"),
        ),
        // Another directory would be another node, and an empty one.
        DataDirError::Disk(error) if is_full(error) => Failure::failed(
            format!("data directory {shown}: {error}"),
            "make room on its disk and start again; the data that is there is as it was",
        ),
        DataDirError::Disk(error) => unusable(dir, error),
        loss if anew::is_loss_of_dir(loss) => Failure::failed(
            format!("the data directory {shown} is not opened: {loss}"),
            anew::hint(settings, dir),
        ),
        DataDirError::Unreadable { file: IDENTITY_FILE, .. } => Failure::failed(
            format!("the data directory {shown} is not opened: {error}"),
            "put the file back if there is a copy of it; otherwise put this directory aside, and start the node with the same \
             --node-id, an empty directory and --seeds: it takes its place and its data from its peers, and what only this disk had \
             is lost",
        ),
        other => Failure::failed(
            format!("the data directory {shown} is not opened: {other}"),
            "leave it as it is, and see what became of its files",
        ),
    }
}

fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// The peer port to try first: the one asked for, or else the one kept from last time, or else the usual one.
#[must_use]
pub fn first_peer_port(settings: &Settings, dir: &Path) -> u16 {
    let kept = if settings.peer_port_given { None } else { kept_peer_port(dir) };
    kept.unwrap_or(settings.peer_port)
}

/// The peer port that was found free last time.
fn kept_peer_port(dir: &Path) -> Option<u16> {
    // A file that is missing or broken is no port: then the usual one is tried.
    fs::read_to_string(dir.join(PEER_PORT)).ok()?.trim().parse().ok().filter(|&port| port != 0)
}

/// Keeps the peer port for the next start.
pub fn keep_peer_port(dir: &Path, port: u16) {
    if kept_peer_port(dir) == Some(port) {
        return;
    }
    let (new, path) = (dir.join("peer-port.new"), dir.join(PEER_PORT));
    let kept = fs::write(&new, format!("{port}\n")).and_then(|()| fs::rename(&new, &path));
    if let Err(error) = kept {
        tracing::warn!(%error, port, "the peer port cannot be kept for the next start");
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
        .take(NAME_BYTES_MAX)
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
