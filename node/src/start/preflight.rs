//! What a start needs of this host, looked at before anything is changed.
//!
//! `rondo serve` begins with `look`, and so does `rondo config show`: what a running node itself is in the way of, its
//! ports and its lock, is no reason to refuse there, because settings are looked at while a node runs. `rondo config
//! check` goes on with `try_all`: whatever a start does up to the point where it changes something, in the same order
//! and with the same words, so that what it calls good starts, as long as the host stays as it is. Left out: reading the
//! data, which may take long.

use std::fs;
use std::io;
use std::net::{SocketAddr, TcpListener, ToSocketAddrs, UdpSocket};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::mpsc::channel;
use std::thread;
use std::time::{Duration, Instant};

use rondo_core::env::Address;
use rondo_net::tcp::can_listen;
use rustix::fs::{Access, access};
use sha2::{Digest, Sha256};

use crate::clock;
use crate::failure::{Failure, Result};
use crate::settings::Settings;
use crate::start::seeds;
use crate::start::store;

/// The longest secret, in bytes.
const SECRET_BYTES_MAX: usize = 4096;
/// The shortest, in bytes.
const SECRET_BYTES_MIN: usize = 16;
/// How long all seeds together may take to be resolved.
const NAMES_PATIENCE: Duration = Duration::from_secs(2);

/// What was found.
#[derive(Clone, Debug)]
pub struct Preflight {
    /// The node's name.
    pub name: String,
    /// Where data lies.
    pub dir: PathBuf,
    /// The cluster's secret, without the white space around it.
    pub secret: Option<Vec<u8>>,
    /// The host that other nodes are told.
    pub host: String,
    /// The peer port that is tried first.
    pub peer_port: u16,
    /// What people should know although it is no error, a line each.
    pub warnings: Vec<String>,
}

impl Preflight {
    /// Looks, and changes nothing. `Err`: a node would not start.
    pub fn look(settings: &Settings) -> Result<Preflight> {
        let (name, dir) = store::place(settings);
        let mut warnings = Vec::new();
        let secret = settings.secret_file.as_deref();
        let secret = secret.map(|path| read_secret(path, &mut warnings)).transpose()?;
        let host = advertised_host(settings)?;
        let peer_port = store::first_peer_port(settings, &dir);
        are_addresses_here(settings, peer_port)?;
        match settings.engine.keeps() {
            true => can_write(&dir)?,
            false => store::holds_no_data(&dir, settings.engine)?,
        }
        warnings.extend(unresolved(&settings.seeds));
        Ok(Preflight { name, dir, secret, host, peer_port, warnings })
    }

    /// As `look`, and then tries what a start does before it changes anything. `Err`: a node would not start.
    pub fn try_all(settings: &Settings) -> Result<Preflight> {
        clock::check()?;
        let found = Preflight::look(settings)?;
        let http = SocketAddr::new(settings.ip, settings.port);
        // It is kept until the peer port has been tried: the two may not be the same.
        let _http = TcpListener::bind(http).map_err(|error| cannot_listen(http, &error))?;
        found.try_peer_port(settings)?;
        store::try_to_open(settings)?;
        Ok(found)
    }

    /// Whether a peer port is free. The start asks before it makes or changes anything on the disk.
    pub fn try_peer_port(&self, settings: &Settings) -> Result<()> {
        let (peers, next_free) = self.listen_for_peers(settings);
        can_listen(&peers, next_free).map_err(|error| no_peer_port(&error))
    }

    /// Where to listen for peers, and whether the next port that is free will do: the port asked for, or else the one kept
    /// from last time, or else the next.
    #[must_use]
    pub fn listen_for_peers(&self, settings: &Settings) -> (Address, bool) {
        let address = SocketAddr::new(settings.ip, self.peer_port);
        (Address(address.to_string()), !settings.peer_port_given)
    }

    /// A few digits that are equal in two nodes when their secrets are, and tell nothing else.
    #[must_use]
    pub fn secret_print(&self) -> Option<String> {
        let print = |secret: &Vec<u8>| {
            let hash =
                Sha256::new().chain_update(b"rondo secret\0").chain_update(secret).finalize();
            hash[..3].iter().map(|byte| format!("{byte:02x}")).collect()
        };
        self.secret.as_ref().map(print)
    }
}

fn read_secret(path: &Path, warnings: &mut Vec<String>) -> Result<Vec<u8>> {
    let shown = path.display();
    let hint = "write 16 or more random bytes into it: head -c 32 /dev/urandom | base64 > FILE";
    let cannot =
        |error: io::Error| Failure::failed(format!("cluster secret {shown}: {error}"), hint);
    let mode = fs::metadata(path).map_err(cannot)?.permissions().mode();
    let bytes = fs::read(path).map_err(cannot)?;
    // An editor adds a newline, and a copy may lose it.
    let secret = bytes.trim_ascii();
    if !(SECRET_BYTES_MIN..=SECRET_BYTES_MAX).contains(&secret.len()) {
        let message = format!(
            "cluster secret {shown}: {} bytes, not {SECRET_BYTES_MIN} to {SECRET_BYTES_MAX}",
            secret.len()
        );
        return Err(Failure::usage(message, hint));
    }
    if mode & 0o004 != 0 {
        warnings.push(format!(
            "every user of this host can read the cluster secret: chmod 600 {shown}"
        ));
    }
    Ok(secret.to_vec())
}

/// The host that others are told: the one given, the one bound, or, when all are bound, the one from which the way
/// to the first seed starts.
fn advertised_host(settings: &Settings) -> Result<String> {
    if let Some((host, _)) = &settings.advertise {
        return Ok(host.clone());
    }
    if !settings.ip.is_unspecified() {
        return Ok(settings.ip.to_string());
    }
    let seeds = seeds::peer_addresses(&settings.seeds);
    // An address for documentation (RFC 5737): nothing is sent, the system only chooses a way.
    let towards = seeds.first().map_or("192.0.2.1:9", |seed| seed.0.as_str());
    let chosen = UdpSocket::bind((settings.ip, 0)).and_then(|socket| {
        socket.connect(towards)?;
        socket.local_addr()
    });
    match chosen {
        Ok(address) if !address.ip().is_unspecified() => Ok(address.ip().to_string()),
        _ => Err(Failure::usage(
            format!("{} is no address that other nodes can connect to", settings.ip),
            "give --advertise HOST, by which other nodes reach this one",
        )),
    }
}

/// Whether the addresses are this host's. That somebody listens there already may be the node that runs now.
fn are_addresses_here(settings: &Settings, peer_port: u16) -> Result<()> {
    let http = SocketAddr::new(settings.ip, settings.port);
    let peers = SocketAddr::new(settings.ip, peer_port);
    for address in [http, peers] {
        match TcpListener::bind(address) {
            Err(error) if error.kind() != io::ErrorKind::AddrInUse => {
                return Err(cannot_listen(address, &error));
            }
            _ => {}
        }
    }
    Ok(())
}

/// Why nothing can listen there.
pub fn cannot_listen(address: SocketAddr, error: &io::Error) -> Failure {
    let port = address.port();
    let message = format!("cannot listen on {} port {port}: {error}", address.ip());
    let hint = match error.kind() {
        io::ErrorKind::AddrInUse => {
            format!("another program has port {port}: stop it, or give another --port")
        }
        io::ErrorKind::AddrNotAvailable => "give an --address of this host".to_owned(),
        io::ErrorKind::PermissionDenied => "give a --port above 1023".to_owned(),
        _ => "give another --address or --port".to_owned(),
    };
    Failure::failed(message, hint)
}

/// Why nothing can listen for peers.
pub fn no_peer_port(error: &io::Error) -> Failure {
    Failure::failed(error.to_string(), "give another --peer-port")
}

/// Whether a data directory is there and can be written, or can be made.
fn can_write(dir: &Path) -> Result<()> {
    let cannot = |at: &Path, why: &dyn std::fmt::Display| {
        let place = if at == dir { String::new() } else { format!("{}: ", at.display()) };
        store::unusable(dir, &format!("{place}{why}"))
    };
    for at in dir.ancestors() {
        let at = if at.as_os_str().is_empty() { Path::new(".") } else { at };
        match fs::metadata(at) {
            Ok(found) if !found.is_dir() => return Err(cannot(at, &"it is not a directory")),
            Ok(_) => {
                let allowed = access(at, Access::WRITE_OK | Access::EXEC_OK);
                return allowed.map_err(|error| cannot(at, &io::Error::from(error)));
            }
            // A directory of that name cannot be made, and the link is somebody's who means another place.
            Err(error) if error.kind() == io::ErrorKind::NotFound && at.is_symlink() => {
                return Err(cannot(at, &"it is a link to a place that is not there"));
            }
            // What is missing is made at the start.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            // Something above it is a file; the next turn names it.
            Err(error) if error.kind() == io::ErrorKind::NotADirectory => {}
            Err(error) => return Err(cannot(at, &error)),
        }
    }
    Ok(())
}

/// Seeds whose names have no address now, a line each: no reason to refuse, because they may have one later.
fn unresolved(seeds: &[String]) -> Vec<String> {
    let (found, results) = channel();
    let addresses = seeds::peer_addresses(seeds);
    for (at, address) in addresses.iter().enumerate() {
        let (found, address) = (found.clone(), address.0.clone());
        // The system's resolver may take long, and cannot be stopped; nobody waits for it longer than said above.
        thread::spawn(move || {
            let error = address.to_socket_addrs().err();
            // Whoever asked may be gone.
            let _ = found.send((at, error.map(|error| error.to_string())));
        });
    }
    drop(found);
    let end = Instant::now() + NAMES_PATIENCE;
    let mut why = vec![Some("nobody answers".to_owned()); seeds.len()];
    while let Ok((at, error)) = results.recv_timeout(end.saturating_duration_since(Instant::now()))
    {
        why[at] = error;
    }
    let say = |(seed, why): (&String, Option<String>)| {
        why.map(|why| format!("the seed `{seed}` has no address now ({why}); it is tried again"))
    };
    seeds.iter().zip(why).filter_map(say).collect()
}
