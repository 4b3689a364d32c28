//! The table of settings: every name that a flag, the environment or a file may use.
//!
//! The flag of a key is `--name`, its variable `RONDO_NAME` with underscores, its key in a file `name` with dashes or
//! underscores; aliases work in all three.

/// One setting.
#[derive(Debug)]
pub struct Key {
    /// Its name.
    pub name: &'static str,
    /// Other names for it.
    pub aliases: &'static [&'static str],
    /// What kind of value it takes, for people. Empty: a switch, `true` or `false`.
    pub value: &'static str,
    /// The value when nobody gives one; `None` when there is none or it depends on other settings.
    pub default: Option<&'static str>,
    /// What it does, in a line.
    pub help: &'static str,
}

const fn key(
    name: &'static str,
    aliases: &'static [&'static str],
    value: &'static str,
    default: Option<&'static str>,
    help: &'static str,
) -> Key {
    Key { name, aliases, value, default, help }
}

/// All settings of a node, in the order in which people read them.
pub static KEYS: &[Key] = &[
    key("node-id", &[], "NAME", None, "The node's name [default: the host's name]"),
    key("address", &[], "HOST[:PORT]", Some("127.0.0.1"), "Where clients and peers connect"),
    key("port", &[], "PORT", Some("8080"), "HTTP"),
    key("resp-port", &[], "PORT", Some("6380"), "Redis protocol; 0 switches it off"),
    key("peer-port", &["gossip-port"], "PORT", Some("7946"), "Other nodes, over TCP and UDP"),
    key(
        "advertise",
        &[],
        "HOST[:PORT]",
        None,
        "What other nodes connect to [default: the address]",
    ),
    key("seeds", &["seed-nodes", "seed-node"], "LIST", None, "Nodes to meet, HTTP or peer address"),
    key("bootstrap-expect", &[], "N", Some("1"), "How many nodes form a new cluster together"),
    key("join", &[], "auto|manual", Some("auto"), "Whether it joins a running cluster by itself"),
    key(
        "recover",
        &[],
        "auto|manual",
        Some("auto"),
        "With data that is damaged or outdated: take all from its peers, or stay down",
    ),
    key("replace", &[], "NAME", None, "The dead member whose place this node takes"),
    key("data-dir", &[], "DIR", None, "Where data lies [default: ./rondo-data/<node-id>]"),
    key("engine", &[], "ENGINE", Some("bitcask"), "bitcask, lsm or memory"),
    key("replication", &["replicas"], "N", Some("3"), "Replicas of each key"),
    key("read-quorum", &[], "R", None, "Replicas that answer a read [default: a majority]"),
    key("write-quorum", &[], "W", None, "Replicas that hold a write [default: a majority]"),
    key(
        "sloppy",
        &[],
        "",
        Some("false"),
        "A new cluster's keyspace `default`: while no replica is reached any node takes writes at level one",
    ),
    key(
        "vnodes",
        &["virtual-nodes"],
        "N",
        Some("150"),
        "This node's share, relative to the others'",
    ),
    key("durability", &[], "MODE", Some("batch"), "batch, or interval:<ms>"),
    key(
        "memory-max",
        &[],
        "SIZE",
        Some("512MiB"),
        "What the node holds in memory, the engine's index apart",
    ),
    key(
        "transfer-rate",
        &[],
        "SIZE",
        Some("32MiB"),
        "What it takes from others in a second while it becomes whole",
    ),
    key(
        "repair-every",
        &[],
        "TIME",
        Some("10m"),
        "How often it compares its copies with those of others; 0 never",
    ),
    key(
        "repair-rate",
        &[],
        "SIZE",
        Some("8MiB"),
        "What comparing copies and making them equal may take in a second",
    ),
    key(
        "grace",
        &[],
        "TIME",
        Some("24h"),
        "How long what is deleted or has expired is kept; 0 for ever",
    ),
    key("cluster-name", &[], "NAME", Some("rondo"), "Only nodes of one cluster talk to each other"),
    key("cluster-secret-file", &[], "FILE", None, "What proves that a node belongs to the cluster"),
    key(
        "insecure",
        &[],
        "",
        Some("false"),
        "Allows other hosts to connect without a cluster secret",
    ),
    key("zone", &[], "NAME", Some(""), "The failure domain; replicas are spread over zones"),
    key("admin-port", &[], "PORT", None, "Debug routes"),
    key("tls-cert", &[], "FILE", None, "TLS certificate"),
    key("tls-key", &[], "FILE", None, "TLS private key"),
    key("tls-ca", &[], "FILE", None, "TLS certificate authority"),
    key("cors-origin", &[], "ORIGIN", None, "The web origin that browsers may call from, or *"),
    key("config", &[], "FILE", None, "A file of settings: .toml, .json, .yaml or .yml"),
    key("log", &[], "LEVEL", Some("info"), "error, warn, info, debug, trace, or module=level,…"),
    key("log-format", &[], "text|json", Some("text"), "How log lines look"),
];

/// The place in `KEYS` of a key that goes by `name`.
#[must_use]
pub fn find(name: &str) -> Option<usize> {
    KEYS.iter().position(|key| key.name == name || key.aliases.contains(&name))
}

/// Every name, aliases included.
pub fn names() -> impl Iterator<Item = &'static str> {
    KEYS.iter().flat_map(|key| std::iter::once(key.name).chain(key.aliases.iter().copied()))
}
