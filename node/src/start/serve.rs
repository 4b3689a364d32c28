//! `rondo serve`: everything of one node on one thread, from the first check to the last sync.
//!
//! The HTTP connections, the links and the host share a current-thread runtime: a request that finds its key here crosses
//! no thread. The end, in order: not ready any more; no new connections, and open ones end after the request they are
//! in, or after three seconds; what is still in flight ends a second later with what is known of it; the store is closed
//! cleanly. A second signal ends it at once, which costs no acknowledged write.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rondo_core::budget::Memory;
use rondo_core::config::{HINT_BYTES_MAX, NodeConfig};
use rondo_core::env::Address;
use rondo_core::error::Error;
use rondo_core::host::{self, Ended, Parts};
use rondo_core::inbox::Inbox;
use rondo_net::tcp::{Options, TcpNetwork};
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio::task::{JoinError, JoinHandle};

use crate::clock::{self, RealClock};
use crate::failure::{Failure, Result};
use crate::http::front::Front;
use crate::http::server;
use crate::settings::{Settings, join_port};
use crate::start::anew;
use crate::start::banner::{Facts, banner};
use crate::start::descriptors;
use crate::start::peers;
use crate::start::preflight::{Preflight, cannot_listen, no_peer_port};
use crate::start::readiness;
use crate::start::replacing;
use crate::start::seeds;
use crate::start::store::{self, Closer, Store};
use crate::start::watch::{in_force, watch_notes};

/// Partitions of a cluster's token space.
const PARTITIONS: u16 = 256;
/// How long a request may take when it does not say.
const DEADLINE_MS: u64 = 5_000;
/// How long a read waits at least before it asks another replica too.
const HEDGE_MS: u64 = 5;
/// How often a question without an answer is asked again.
const RESEND_MS: u64 = 100;
/// How often nodes and links say that they live.
const HEARTBEAT_MS: u64 = 100;
/// After how long of silence a peer or a link counts as dead.
const DEAD_MS: u64 = 1_000;
/// How long connecting to a peer may take.
const HANDSHAKE_MS: u64 = 1_500;

/// Why a node begins anew that its peers do not count.
const DENIED: &str =
    "its peers do not count this data directory any more, which is an older copy, or one of two";

/// How long the banner waits for the node to be ready.
const BANNER_PATIENCE: Duration = Duration::from_millis(1_000);

/// How a node ended that did not fail.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum End {
    /// It was told to.
    Stopped,
    /// Its data directory is set aside, and it is to be started again.
    BeginsAnew,
}

/// Runs a node until it is told to stop.
pub fn serve(settings: &Settings) -> Result<End> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| {
        Failure::failed(format!("cannot start: {error}"), "check the limits of this process")
    })?;
    let outcome = runtime.block_on(run(settings));
    // A DNS question may still wait in a thread of its own; nobody wants its answer any more.
    runtime.shutdown_background();
    outcome
}

async fn run(settings: &Settings) -> Result<End> {
    let mut signals = Signals::listen()?;
    clock::check()?;
    let found = Preflight::look(settings)?;
    found.warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
    let connections = descriptors::for_clients(descriptors::raise());
    let listener = listen(settings)?;
    let asked = SocketAddr::new(settings.ip, settings.port);
    let http = listener.local_addr().map_err(|error| cannot_listen(asked, &error))?;
    found.try_peer_port(settings)?;
    let (inbox, reader) = Inbox::new(Memory::new(settings.memory_bytes_max));
    let store = store::open(settings, &inbox)?;
    let mut settings = settings.clone();
    if store.begun_anew {
        settings.seeds = anew::seeds(&settings, &store.dir);
    }
    let settings = &settings;
    let network = start_network(settings, &found, &inbox, &store)?;
    let config = node_config(settings, &found.host, &store, http, network.address());
    let text = banner(settings, &facts(settings, &store, &config, http, network.address()));
    let codes = found.secret.clone().unwrap_or_else(|| settings.cluster.clone().into_bytes());
    let run = store::random()? as u64;
    let origin = settings.cors_origin.clone();
    let front = Arc::new(Front::new(inbox.clone(), codes.clone(), run, origin));
    let Store { engine, closer, dir, .. } = store;
    let links = network.clone();
    let parts = Parts {
        config,
        secret: codes,
        engine,
        clock: RealClock::start(),
        network,
        seed: seed()?,
        inbox: reader,
    };
    let node = tokio::spawn(host::run(parts));
    let (stop, stopped) = watch::channel(false);
    let http = tokio::spawn(server::serve(listener, Arc::clone(&front), stopped, connections));
    wait_a_little(&front).await;
    let status = front.status().await.ok();
    say(&in_force(&text, settings, status.as_ref().and_then(|status| status.layout.as_ref())));
    let seeds = settings.seeds.clone();
    tokio::spawn(seeds::look_behind_http(seeds, settings.ip, inbox.clone(), Arc::clone(&front)));
    tokio::spawn(readiness::watch(Arc::clone(&front)));
    if let Some(old) = settings.replaces.clone() {
        tokio::spawn(replacing::take_place(old, settings.joins, Arc::clone(&front)));
    }
    tokio::spawn(watch_notes(settings.clone(), Arc::clone(&front)));
    if closer.is_some() {
        tokio::spawn(peers::keep(dir.clone(), Arc::clone(&front)));
    }
    let running = Running { node, http, stop, may_begin_anew: anew::may(settings, &dir) };
    let over = live(running, &front, &inbox, &mut signals).await?;
    links.stop().await;
    match (over, closer) {
        (Over::Untrusted(why), Some(closer)) => {
            closer.set_aside(&dir, &why)?;
            Ok(End::BeginsAnew)
        }
        (Over::Untrusted(why), None) => Err(Failure::failed(why, "start it again")),
        (Over::Closed(ended), closer) => close(ended, closer),
    }
}

/// How a life is over.
enum Over {
    /// Everything was closed.
    Closed(Ended),
    /// The store cannot be trusted any more, for this reason, and the node begins anew.
    Untrusted(String),
}

/// Marks the directory of a node that has closed everything. A full disk is no failure, only a start that takes longer.
fn close(ended: Ended, closer: Option<Closer>) -> Result<End> {
    let is_marked = match (ended, closer) {
        (_, None) => true,
        (Ended::Whole(last), Some(closer)) => closer.mark_clean(last)?,
        (Ended::NoRoom, Some(_)) => false,
    };
    match is_marked {
        true => tracing::info!("stopped; the store is closed"),
        false => tracing::warn!(
            "stopped, but the disk has no room to mark the store as closed: the next start checks it; nothing acknowledged is lost"
        ),
    }
    Ok(End::Stopped)
}

fn node_config(
    settings: &Settings,
    host: &str,
    store: &Store,
    http: SocketAddr,
    peers: SocketAddr,
) -> NodeConfig {
    let port = settings.advertise.as_ref().and_then(|(_, port)| *port).unwrap_or(peers.port());
    NodeConfig {
        id: store.id,
        name: store.name.clone(),
        life: store.life,
        earlier: store.earlier.clone(),
        place: store.place,
        actors: store.actors,
        cluster: settings.cluster.clone(),
        peer_address: Address(join_port(host, port)),
        client_address: Address(join_port(host, http.port())),
        seeds: seeds::peer_addresses(&settings.seeds),
        joins: settings.joins && settings.replaces.is_none(),
        // If all of a cluster begin anew at once they must not form an empty one.
        bootstrap_expect: if store.begun_anew { 0 } else { settings.bootstrap_expect },
        partitions: PARTITIONS,
        replicas: settings.replication,
        sloppy: settings.sloppy,
        read_quorum: settings.read_quorum,
        write_quorum: settings.write_quorum,
        weight: settings.vnodes,
        zone: settings.zone.clone(),
        deadline_ms: DEADLINE_MS,
        hedge_ms: HEDGE_MS,
        resend_ms: RESEND_MS,
        heartbeat_ms: HEARTBEAT_MS,
        dead_ms: DEAD_MS,
        memory_bytes_max: settings.memory_bytes_max,
        transfer_bytes_per_s: settings.transfer_bytes_per_s,
        hint_bytes_max: HINT_BYTES_MAX,
        repair_every_ms: settings.repair_every_ms,
        repair_bytes_per_s: settings.repair_bytes_per_s,
        grace_ms: settings.grace_ms,
    }
}

fn facts<'a>(
    settings: &Settings,
    store: &'a Store,
    config: &'a NodeConfig,
    http: SocketAddr,
    peers: SocketAddr,
) -> Facts<'a> {
    Facts {
        name: &store.name,
        short_id: store.id.short(),
        http,
        peers,
        peer_port_taken: (peers.port() != settings.peer_port).then_some(settings.peer_port),
        advertised: &config.peer_address.0,
        data_dir: &store.dir,
        is_new: config.life.boot.0 == 1,
    }
}

/// What runs until it is told to stop.
struct Running {
    node: JoinHandle<rondo_core::error::Result<Ended>>,
    http: JoinHandle<()>,
    stop: watch::Sender<bool>,
    /// Whether it begins anew when its data cannot be trusted.
    may_begin_anew: bool,
}

/// A node that forms a cluster alone is ready when it has listened for a moment: then what the banner says to try works at once.
async fn wait_a_little(front: &Front) {
    let until = tokio::time::Instant::now() + BANNER_PATIENCE;
    while tokio::time::Instant::now() < until {
        match front.status().await {
            Ok(status) if !status.ready => tokio::time::sleep(Duration::from_millis(5)).await,
            _ => return,
        }
    }
}

/// Serves until a signal or the node's own end.
async fn live(
    running: Running,
    front: &Front,
    inbox: &Inbox,
    signals: &mut Signals,
) -> Result<Over> {
    let Running { mut node, mut http, stop, may_begin_anew } = running;
    let denied = async {
        match may_begin_anew {
            true => anew::denied(front).await,
            false => std::future::pending().await,
        }
    };
    let is_denied = tokio::select! {
        ended = &mut node => return end(ended, may_begin_anew),
        () = denied => true,
        name = signals.next() => {
            tracing::info!(signal = name, "stopping; a second signal stops at once");
            false
        }
    };
    front.stop();
    stop.send_replace(true);
    let orderly = async {
        if let Err(error) = (&mut http).await {
            tracing::error!(%error, "the HTTP front ended early");
        }
        inbox.stop();
        let over = end((&mut node).await, may_begin_anew)?;
        Ok(if is_denied { Over::Untrusted(DENIED.to_owned()) } else { over })
    };
    tokio::select! {
        outcome = orderly => outcome,
        name = signals.next() => {
            tracing::warn!(signal = name, "stopped at once; the next start checks the store");
            Err(Failure::failed("stopped before everything was closed", "start it again"))
        }
    }
}

fn end(
    ended: Result<rondo_core::error::Result<Ended>, JoinError>,
    may_begin_anew: bool,
) -> Result<Over> {
    match ended {
        Ok(Ok(ended)) => Ok(Over::Closed(ended)),
        Ok(Err(error @ Error::Corrupt { .. })) if may_begin_anew => {
            Ok(Over::Untrusted(format!("a record that the node keeps for itself is lost: {error}")))
        }
        Ok(Err(error)) => {
            let hint = match &error {
                Error::Corrupt { .. } => {
                    "a record that the node keeps for itself cannot be read: put back the very bytes if you have them, or start it with \
                     --seeds HOST:PORT, the address of a living node of its cluster, and --recover auto: it takes its data from its peers"
                }
                Error::UnknownVersion { .. } => "a newer rondo has written here: start that one",
                _ => "check the disk, then start the node again; nothing acknowledged is lost",
            };
            Err(Failure::failed(format!("the node stopped: {error}"), hint))
        }
        Err(error) => Err(Failure::failed(
            format!("the node stopped because of a mistake in the program: {error}"),
            "start it again, and report this with the log",
        )),
    }
}

/// The first line that people look for. A closed stdout is no reason to stop.
fn say(text: &str) {
    use std::io::Write as _;
    let mut out = io::stdout().lock();
    if out.write_all(text.as_bytes()).and_then(|()| out.flush()).is_err() {
        tracing::debug!("nobody reads the banner");
    }
}

fn listen(settings: &Settings) -> Result<TcpListener> {
    let address = SocketAddr::new(settings.ip, settings.port);
    let listener = std::net::TcpListener::bind(address).and_then(|listener| {
        listener.set_nonblocking(true)?;
        TcpListener::from_std(listener)
    });
    listener.map_err(|error| cannot_listen(address, &error))
}

/// Listens for peers, and keeps the port for the next start.
fn start_network(
    settings: &Settings,
    found: &Preflight,
    inbox: &Inbox,
    store: &Store,
) -> Result<TcpNetwork> {
    let (listen, next_free) = found.listen_for_peers(settings);
    let options = Options {
        listen,
        next_free,
        node: store.id,
        life: store.life,
        cluster: settings.cluster.clone(),
        secret: found.secret.clone(),
        heartbeat_ms: HEARTBEAT_MS,
        silence_ms: DEAD_MS,
        handshake_ms: HANDSHAKE_MS,
    };
    let network =
        TcpNetwork::start(options, inbox.clone(), seed()?).map_err(|error| no_peer_port(&error))?;
    if next_free && store.closer.is_some() {
        store::keep_peer_port(&store.dir, network.address().port());
    }
    Ok(network)
}

fn seed() -> Result<[u8; 32]> {
    let mut seed = [0; 32];
    let (high, low) = seed.split_at_mut(16);
    high.copy_from_slice(&store::random()?.to_be_bytes());
    low.copy_from_slice(&store::random()?.to_be_bytes());
    Ok(seed)
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn listen() -> Result<Signals> {
        let listen = |kind| {
            signal(kind).map_err(|error| {
                Failure::failed(format!("cannot listen for signals: {error}"), "check the system")
            })
        };
        Ok(Signals {
            terminate: listen(SignalKind::terminate())?,
            interrupt: listen(SignalKind::interrupt())?,
        })
    }

    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}
