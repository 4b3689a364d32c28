//! The settings of a node: found in many places, checked in one.
//!
//! `keys` lists them, `flags` and `sources` find their texts, and `Settings::check` below turns texts into values. It
//! is the only place that refuses a value, so that every front door refuses alike.

pub mod keys;

pub mod flags;

pub mod sources;

pub mod log;

use std::net::{IpAddr, Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::str::FromStr;

use rondo_core::config::{
    GRACE_MS_MIN, MEMORY_BYTES_MIN, NAME_BYTES_MAX, NODES_MAX, REPLICAS_MAX,
    TRANSFER_BYTES_PER_S_MAX, TRANSFER_BYTES_PER_S_MIN,
};
use rondo_engines::kind::EngineKind;

use crate::failure::{Failure, Result};
use crate::nearest::nearest;
use crate::settings::sources::{Origin, Texts};

/// The port of HTTP when an address names none.
pub const HTTP_PORT: u16 = 8080;
/// The port of peers when an address names none.
pub const PEER_PORT: u16 = 7946;

/// How log lines look.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// Everything that is chosen before a node starts, checked.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Settings {
    /// The node's name, when somebody gave one.
    pub name: Option<String>,
    /// The address to listen on.
    pub ip: IpAddr,
    /// The port of HTTP.
    pub port: u16,
    /// The port of the Redis protocol; 0: none.
    pub resp_port: u16,
    /// Whether that port was asked for.
    pub resp_port_given: bool,
    /// The port of peers.
    pub peer_port: u16,
    /// Whether it was asked for; otherwise the next free one will do.
    pub peer_port_given: bool,
    /// What other nodes connect to: a host, and a peer port when it differs.
    pub advertise: Option<(String, Option<u16>)>,
    /// Nodes to meet, as they were given.
    pub seeds: Vec<String>,
    /// How many nodes form the first layout.
    pub bootstrap_expect: usize,
    /// Whether it joins a running cluster by itself.
    pub joins: bool,
    /// Whether it begins anew when its data cannot be trusted.
    pub recovers: bool,
    /// The dead member whose place it takes, if it does.
    pub replaces: Option<String>,
    /// Where data lies; below `./rondo-data` by the node's name when nobody says.
    pub data_dir: Option<PathBuf>,
    /// The storage engine.
    pub engine: EngineKind,
    /// Replicas of each key.
    pub replication: u8,
    /// Replicas that must answer a `quorum` read.
    pub read_quorum: u8,
    /// Replicas that must hold a `quorum` write.
    pub write_quorum: u8,
    /// Whether the keyspace `default` of a new cluster is sloppy.
    pub sloppy: bool,
    /// This node's share of the data, relative to the others'.
    pub vnodes: u32,
    /// What the node may hold in memory, in bytes; the engine's index and caches are apart.
    pub memory_bytes_max: usize,
    /// What it takes from others of what it does not have yet, in bytes per second.
    pub transfer_bytes_per_s: u64,
    /// How often it compares its copies with those of others, in milliseconds; 0: never by itself.
    pub repair_every_ms: u64,
    /// What comparing copies may take, in bytes per second.
    pub repair_bytes_per_s: u64,
    /// How long what is deleted or has expired is kept, in milliseconds; 0: for ever.
    pub grace_ms: u64,
    /// The cluster's name.
    pub cluster: String,
    /// The file of the cluster's secret.
    pub secret_file: Option<PathBuf>,
    /// The failure domain.
    pub zone: String,
    /// The web origin that browsers may call from, or `*`.
    pub cors_origin: Option<String>,
    /// Which log lines are written.
    pub log: String,
    /// How they look.
    pub log_format: LogFormat,
    /// What people should know although it is no error, a line each.
    pub warnings: Vec<String>,
}

impl Settings {
    /// Checks every text, and all of them together.
    pub fn check(texts: &Texts) -> Result<Settings> {
        let mut warnings = texts.warnings.clone();
        let (ip, port) = address(texts)?;
        let (replication, read_quorum, write_quorum) = quorums(texts, &mut warnings)?;
        let secret_file = texts.get("cluster-secret-file").map(|(path, _)| PathBuf::from(path));
        let insecure = choice(texts, "insecure", &[("false", false), ("true", true)])?;
        if !ip.is_loopback() && secret_file.is_none() && !insecure {
            return Err(Failure::usage(
                format!("{ip} can be reached from other hosts, and there is no cluster secret"),
                "give --cluster-secret-file FILE, or --insecure when the network is trusted",
            ));
        }
        not_built_yet(texts, &mut warnings)?;
        let settings = Settings {
            name: texts.given("node-id").map(|(name, _)| label("node-id", name)).transpose()?,
            ip,
            port,
            resp_port: number(texts, "resp-port", 0, u64::from(u16::MAX))? as u16,
            resp_port_given: texts.given("resp-port").is_some(),
            peer_port: number(texts, "peer-port", 1, u64::from(u16::MAX))? as u16,
            peer_port_given: texts.given("peer-port").is_some(),
            advertise: texts.get("advertise").map(|(text, _)| advertise(text)).transpose()?,
            seeds: seeds(texts, ip)?,
            bootstrap_expect: number(texts, "bootstrap-expect", 1, NODES_MAX as u64)? as usize,
            joins: choice(texts, "join", &[("auto", true), ("manual", false)])?,
            recovers: choice(texts, "recover", &[("auto", true), ("manual", false)])?,
            replaces: texts.given("replace").map(|(name, _)| label("replace", name)).transpose()?,
            data_dir: texts.get("data-dir").map(|(path, _)| PathBuf::from(path)),
            engine: engine(texts)?,
            replication,
            read_quorum,
            write_quorum,
            sloppy: choice(texts, "sloppy", &[("false", false), ("true", true)])?,
            vnodes: number(texts, "vnodes", 1, 1_000_000)? as u32,
            memory_bytes_max: memory(text(texts, "memory-max"))?,
            transfer_bytes_per_s: rate(texts, "transfer-rate")?,
            repair_every_ms: time(texts, "repair-every", (1_000, 7 * 24, "10m"))?,
            repair_bytes_per_s: rate(texts, "repair-rate")?,
            grace_ms: time(texts, "grace", (GRACE_MS_MIN, 365 * 24, "24h"))?,
            cluster: label("cluster-name", text(texts, "cluster-name"))?,
            secret_file,
            zone: zone(text(texts, "zone"))?,
            cors_origin: texts.get("cors-origin").map(|(origin, _)| origin.to_owned()),
            log: log_filter(text(texts, "log"))?,
            log_format: choice(
                texts,
                "log-format",
                &[("text", LogFormat::Text), ("json", LogFormat::Json)],
            )?,
            warnings,
        };
        settings.check_together()?;
        Ok(settings)
    }

    fn check_together(&self) -> Result<()> {
        let taken_twice = |first: &str, second: &str, port: u16| {
            Failure::usage(
                format!("--{first} and --{second} are both {port}"),
                format!("give another --{second}"),
            )
        };
        if self.peer_port == self.port && self.peer_port_given {
            return Err(taken_twice("port", "peer-port", self.port));
        }
        if self.resp_port == self.port && self.resp_port_given {
            return Err(taken_twice("port", "resp-port", self.port));
        }
        if self.replaces.is_some() && self.seeds.is_empty() {
            return Err(Failure::usage(
                "--replace without --seeds: there is no cluster to take a place in",
                "name nodes of the cluster with --seeds",
            ));
        }
        let origin = self.cors_origin.as_deref().unwrap_or("*");
        if !origin.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(bad("cors-origin", origin, "an origin such as https://example.org, or *"));
        }
        Ok(())
    }
}

fn text<'a>(texts: &'a Texts, name: &str) -> &'a str {
    texts.get(name).map_or("", |(text, _)| text)
}

fn bad(name: &str, text: &str, expected: &str) -> Failure {
    Failure::usage(format!("{name}: `{text}` is not {expected}"), format!("--{name} {expected}"))
}

fn number(texts: &Texts, name: &str, least: u64, most: u64) -> Result<u64> {
    let text = text(texts, name);
    u64::from_str(text)
        .ok()
        .filter(|number| (least..=most).contains(number))
        .ok_or_else(|| bad(name, text, &format!("a number from {least} to {most}")))
}

fn memory(text: &str) -> Result<usize> {
    let bytes = size(text).and_then(|bytes| usize::try_from(bytes).ok());
    bytes.filter(|bytes| (MEMORY_BYTES_MIN..=1 << 40).contains(bytes)).ok_or_else(|| {
        bad("memory-max", text, &format!("a size from {}MiB to 1024GiB", MEMORY_BYTES_MIN >> 20))
    })
}

/// A pause of at least a second, in milliseconds; 0 for none at all.
/// A time in milliseconds: 0, or no less than so many milliseconds and no more than so many hours.
fn time(
    texts: &Texts,
    name: &'static str,
    (least_ms, most_h, such_as): (u64, u64, &str),
) -> Result<u64> {
    let text = text(texts, name);
    let units = [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000)];
    let times = |(unit, ms): (&str, u64)| {
        text.strip_suffix(unit)?.parse::<u64>().ok().and_then(|number| number.checked_mul(ms))
    };
    // A bare number may have been meant as hours.
    let ms = if text == "0" { Some(0) } else { units.into_iter().find_map(times) };
    let is_sane = |ms: &u64| *ms == 0 || (least_ms..=most_h * 3_600_000).contains(ms);
    ms.filter(is_sane).ok_or_else(|| {
        let least = least_ms / 1_000;
        bad(name, text, &format!("a time from {least}s to {most_h}h, such as {such_as}, or 0"))
    })
}

fn rate(texts: &Texts, name: &'static str) -> Result<u64> {
    let text = text(texts, name);
    let sane = TRANSFER_BYTES_PER_S_MIN..=TRANSFER_BYTES_PER_S_MAX;
    size(text).filter(|bytes| sane.contains(bytes)).ok_or_else(|| {
        let least = TRANSFER_BYTES_PER_S_MIN >> 10;
        bad(name, text, &format!("a size a second from {least}KiB to 1024GiB"))
    })
}

/// A number of bytes, with or without a unit.
fn size(text: &str) -> Option<u64> {
    let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
    let unit: u64 = match &text[digits.len()..] {
        "" => 1,
        "KiB" | "K" => 1 << 10,
        "MiB" | "M" => 1 << 20,
        "GiB" | "G" => 1 << 30,
        _ => return None,
    };
    digits.parse::<u64>().ok()?.checked_mul(unit)
}

fn choice<T: Copy>(texts: &Texts, name: &str, choices: &[(&str, T)]) -> Result<T> {
    let text = text(texts, name);
    choices.iter().find(|(choice, _)| *choice == text).map(|(_, value)| *value).ok_or_else(|| {
        let names: Vec<_> = choices.iter().map(|(choice, _)| *choice).collect();
        bad(name, text, &names.join(" or "))
    })
}

fn label(name: &str, text: &str) -> Result<String> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let fits = (1..=NAME_BYTES_MAX).contains(&text.len());
    // The name becomes a directory; `.` and `..` would be another one.
    if fits && text.chars().all(allowed) && !text.starts_with('.') {
        return Ok(text.to_owned());
    }
    Err(bad(name, text, "a name of up to 128 letters, digits, `-`, `_` and `.`"))
}

fn log_filter(text: &str) -> Result<String> {
    log::filter(text).map(|_| text.to_owned())
}

fn zone(text: &str) -> Result<String> {
    if text.is_empty() { Ok(String::new()) } else { label("zone", text) }
}

fn address(texts: &Texts) -> Result<(IpAddr, u16)> {
    let given = text(texts, "address");
    let (host, in_address) = split_port(given).ok_or_else(|| {
        bad("address", given, "a host, an IP address, or one of them with a port")
    })?;
    let port = number(texts, "port", 1, u64::from(u16::MAX))? as u16;
    let port = match (in_address, texts.given("port")) {
        (Some(one), Some(_)) if one != port => {
            return Err(Failure::usage(
                format!("--address says port {one} and --port says {port}"),
                "leave one of them out",
            ));
        }
        (Some(one), _) => one,
        (None, _) => port,
    };
    if let Ok(ip) = host.parse() {
        return Ok((ip, port));
    }
    let found: Vec<SocketAddr> =
        (host, port).to_socket_addrs().map(Iterator::collect).map_err(|error| {
            Failure::usage(
                format!("address: `{host}` does not resolve: {error}"),
                "give an IP address of this host, such as 127.0.0.1",
            )
        })?;
    let first = found.iter().find(|address| address.is_ipv4()).or(found.first());
    first
        .map(|address| (address.ip(), port))
        .ok_or_else(|| bad("address", given, "the name of a host with an address"))
}

/// Splits `host`, `host:port`, `[v6]:port`, `[v6]` and a bare v6 address.
#[must_use]
pub fn split_port(text: &str) -> Option<(&str, Option<u16>)> {
    let (host, port) = if let Some(rest) = text.strip_prefix('[') {
        let (host, rest) = rest.split_once(']')?;
        (host, if rest.is_empty() { None } else { Some(rest.strip_prefix(':')?) })
    } else if text.matches(':').count() == 1 {
        let (host, port) = text.split_once(':')?;
        (host, Some(port))
    } else {
        (text, None)
    };
    if host.is_empty() || host.contains(|c: char| c.is_whitespace() || c == '/') {
        return None;
    }
    match port {
        None => Some((host, None)),
        Some(port) => Some((host, Some(port.parse().ok().filter(|&port| port != 0)?))),
    }
}

/// `host:port`, with brackets where the host is a v6 address.
#[must_use]
pub fn join_port(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

fn advertise(text: &str) -> Result<(String, Option<u16>)> {
    let (host, port) =
        split_port(text).ok_or_else(|| bad("advertise", text, "a host, or a host with a port"))?;
    if host.parse::<IpAddr>().is_ok_and(|ip| ip.is_unspecified()) {
        return Err(bad("advertise", text, "an address that other nodes can connect to"));
    }
    Ok((host.to_owned(), port))
}

/// Whether a socket that listens on `ip` can send to `to`: one for IPv4 never reaches an IPv6 address, and one for a
/// single IPv6 address no IPv4 address.
pub fn reaches(ip: IpAddr, to: IpAddr) -> bool {
    ip.is_ipv4() == to.is_ipv4() || ip == IpAddr::V6(Ipv6Addr::UNSPECIFIED)
}

fn seeds(texts: &Texts, ip: IpAddr) -> Result<Vec<String>> {
    let mut seeds = Vec::new();
    for given in text(texts, "seeds").split(',').map(str::trim).filter(|seed| !seed.is_empty()) {
        let bare = given.strip_prefix("http://").unwrap_or(given).trim_end_matches('/');
        let Some((host, _)) = split_port(bare) else {
            return Err(bad("seeds", given, "a list such as 10.0.0.1:7946,10.0.0.2:7946"));
        };
        let to: Option<IpAddr> = host.parse().ok();
        if to.is_some_and(|to| to.is_unspecified()) {
            return Err(bad("seeds", given, "the address of one node, such as 10.0.0.1:7946"));
        }
        if to.is_some_and(|to| !reaches(ip, to)) {
            let family = if ip.is_ipv4() { "IPv4" } else { "IPv6" };
            return Err(Failure::usage(
                format!(
                    "seeds: `{given}` cannot be reached from {ip}, which is an {family} address"
                ),
                format!("name the seed by its {family} address, or give another --address"),
            ));
        }
        if !seeds.iter().any(|seed| seed == bare) {
            seeds.push(bare.to_owned());
        }
    }
    if seeds.len() > NODES_MAX {
        return Err(bad("seeds", &format!("{} seeds", seeds.len()), "a list of up to 256 nodes"));
    }
    Ok(seeds)
}

fn quorums(texts: &Texts, warnings: &mut Vec<String>) -> Result<(u8, u8, u8)> {
    let n = number(texts, "replication", 1, REPLICAS_MAX as u64)? as u8;
    let quorum = |name: &str| -> Result<u8> {
        if texts.given(name).is_none() {
            return Ok(n / 2 + 1);
        }
        let asked = number(texts, name, 0, u64::from(u8::MAX))? as u8;
        if !(1..=n).contains(&asked) {
            return Err(Failure::usage(
                format!("{name} is {asked}, and there are {n} replicas to take part"),
                format!("--{name} 1 to {n}, or a larger --replication"),
            ));
        }
        Ok(asked)
    };
    let (r, w) = (quorum("read-quorum")?, quorum("write-quorum")?);
    if r + w <= n {
        warnings.push(format!(
            "R + W = {} is not above N = {n}: a read at `quorum` may miss the newest write",
            r + w
        ));
    }
    Ok((n, r, w))
}

/// Engines that are planned and not there.
const UNBUILT: [&str; 1] = ["btree"];

fn engine(texts: &Texts) -> Result<EngineKind> {
    let asked = text(texts, "engine");
    if let Ok(kind) = asked.parse() {
        return Ok(kind);
    }
    if UNBUILT.contains(&asked) {
        return Err(Failure::usage(
            format!("the engine `{asked}` is not built yet"),
            "--engine bitcask and --engine lsm keep data on disk, --engine memory does not",
        ));
    }
    let near = nearest(asked, EngineKind::ALL.map(EngineKind::name).into_iter().chain(UNBUILT));
    Err(Failure::usage(
        format!("engine: there is no engine `{asked}`"),
        near.map_or("--engine bitcask".to_owned(), |near| format!("--engine {near}")),
    ))
}

/// What is accepted, so that scripts for later versions start, but does nothing yet: a line for each. TLS
/// is refused, because a node without it would only look safe.
fn not_built_yet(texts: &Texts, warnings: &mut Vec<String>) -> Result<()> {
    for name in ["tls-cert", "tls-key", "tls-ca"] {
        if texts.given(name).is_some() {
            return Err(Failure::usage(
                format!("--{name}: TLS is not built yet, and the node would talk in the clear"),
                "leave it out and put a TLS proxy in front of the node",
            ));
        }
    }
    if texts.given("admin-port").is_some() {
        number(texts, "admin-port", 0, u64::from(u16::MAX))?;
        warnings.push("--admin-port: the debug routes are not built yet; nothing is opened".into());
    }
    if number(texts, "resp-port", 0, u64::from(u16::MAX))? != 0
        && texts.get("resp-port").is_some_and(|(_, origin)| *origin != Origin::Default)
    {
        warnings.push("--resp-port: the Redis protocol is not built yet; nothing is opened".into());
    }
    let durability = text(texts, "durability");
    if let Some(interval) = durability.strip_prefix("interval:") {
        let ms = interval.strip_suffix("ms").unwrap_or(interval);
        if !ms.parse::<u32>().is_ok_and(|ms| (1..=60_000).contains(&ms)) {
            return Err(bad("durability", durability, "interval:<1 to 60000 milliseconds>"));
        }
        warnings.push(format!(
            "--durability {durability} runs as `batch`, which is stricter, until replicas can catch up from each other"
        ));
    } else if durability != "batch" {
        return Err(bad("durability", durability, "batch or interval:<ms>"));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
