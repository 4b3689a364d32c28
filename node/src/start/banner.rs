//! What a person sees when a node starts: where to go, and what to know.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::Path;

use rondo_core::layout::Quorums;

use crate::settings::Settings;

/// What the settings do not say.
#[derive(Clone, Debug)]
pub struct Facts<'a> {
    /// The node's name.
    pub name: &'a str,
    /// The first digits of its id.
    pub short_id: String,
    /// Where HTTP is.
    pub http: SocketAddr,
    /// Where peers connect.
    pub peers: SocketAddr,
    /// The peer port that was meant, when it was taken.
    pub peer_port_taken: Option<u16>,
    /// What other nodes are told.
    pub advertised: &'a str,
    /// Where data lies.
    pub data_dir: &'a Path,
    /// Whether it is the first start of this directory.
    pub is_new: bool,
}

/// The banner, several lines.
#[must_use]
pub fn banner(settings: &Settings, facts: &Facts<'_>) -> String {
    let url = format!("http://{}", reachable(facts.http));
    let mut text = format!(
        "rondo {} · node {} ({}) · cluster {}\n\n",
        env!("CARGO_PKG_VERSION"),
        facts.name,
        facts.short_id,
        settings.cluster
    );
    let mut line = |name: &str, value: String| {
        writeln!(text, "  {name:<8} {value}").expect("a String takes all text");
    };
    line("HTTP", url.clone());
    let taken = facts.peer_port_taken.map_or(String::new(), |port| format!("; {port} was taken"));
    line("peers", format!("{} (TCP and UDP{taken})", facts.peers));
    if facts.advertised != facts.peers.to_string() {
        line("known as", facts.advertised.to_owned());
    }
    if settings.resp_port != 0 {
        let port = settings.resp_port;
        line("Redis", format!("the protocol is not built yet; port {port} stays closed"));
    }
    line("data", data(settings, facts.data_dir));
    if facts.is_new && settings.seeds.is_empty() && settings.bootstrap_expect == 1 {
        let how = "an empty directory and no --seeds; to join another give --seeds with one of its peer addresses";
        line(
            "alone",
            format!("it founds a cluster of its own, unless one knows its address: {how}"),
        );
    }
    line("replicas", replicas(settings));
    line("try", format!("curl -X PUT {url}/v1/kv/default/hello -d world"));
    line("", format!("curl {url}/v1/kv/default/hello"));
    line("", format!("rondo status --server {}", reachable(facts.http)));
    line("stop", "Ctrl-C".to_owned());
    text
}

/// An address that this host's programs can connect to.
fn reachable(address: SocketAddr) -> SocketAddr {
    let mut address = address;
    if address.ip().is_unspecified() {
        address.set_ip(match address {
            SocketAddr::V4(_) => std::net::Ipv4Addr::LOCALHOST.into(),
            SocketAddr::V6(_) => std::net::Ipv6Addr::LOCALHOST.into(),
        });
    }
    address
}

fn data(settings: &Settings, dir: &Path) -> String {
    match settings.engine {
        engine if engine.keeps() => {
            format!("{} ({engine}; a write is answered after it is synced)", dir.display())
        }
        _ => "in memory only: everything is lost when the node stops".to_owned(),
    }
}

fn replicas(settings: &Settings) -> String {
    let wanted =
        Quorums { n: settings.replication, r: settings.read_quorum, w: settings.write_quorum };
    let Quorums { n, r, w } = wanted;
    let expect = settings.bootstrap_expect;
    let effective = wanted.effective(expect);
    let asked = format!("N={n} R={r} W={w}");
    let waits = if expect > 1 || !settings.seeds.is_empty() {
        format!("; a new cluster forms when {expect} nodes see each other")
    } else {
        String::new()
    };
    if effective == wanted {
        return format!("{asked}{waits}");
    }
    let nodes = if expect == 1 { "1 node".to_owned() } else { format!("{expect} nodes") };
    let Quorums { n, r, w } = effective;
    format!("N={n} R={r} W={w}, because a cluster of {nodes} cannot have {asked}{waits}")
}
