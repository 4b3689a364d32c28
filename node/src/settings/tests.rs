//! What is accepted, what is refused, and which source wins.

use std::fs;

use clap::{Args, Command, FromArgMatches};

use super::*;
use crate::failure::Kind;
use crate::settings::flags::Flags;

fn flags(line: &str) -> Flags {
    let command = Flags::augment_args(Command::new("rondo").no_binary_name(true));
    let matches = command.try_get_matches_from(line.split_whitespace()).expect("known flags");
    Flags::from_arg_matches(&matches).expect("texts")
}

fn variables(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn checked(line: &str) -> Result<Settings> {
    Settings::check(&Texts::collect(&flags(line), [])?)
}

fn refusal(line: &str) -> String {
    let failure = checked(line).expect_err(line);
    assert_eq!(failure.kind, Kind::Usage, "{line}");
    assert!(!failure.hint.is_empty(), "every refusal says what to try: {line}");
    failure.to_string()
}

#[test]
fn without_any_settings_a_node_runs_alone_on_the_loopback() {
    let settings = checked("").expect("defaults are sound");
    assert_eq!(settings.ip.to_string(), "127.0.0.1");
    assert_eq!((settings.port, settings.peer_port), (HTTP_PORT, PEER_PORT));
    assert_eq!((settings.replication, settings.read_quorum, settings.write_quorum), (3, 2, 2));
    assert_eq!((settings.bootstrap_expect, settings.vnodes), (1, 150));
    assert_eq!(settings.memory_bytes_max, 512 << 20);
    assert_eq!(settings.engine, EngineKind::Bitcask);
    assert!(settings.seeds.is_empty() && settings.warnings.is_empty());
    assert!(!settings.peer_port_given && !settings.resp_port_given);
}

#[test]
fn flags_win_over_the_environment_over_a_file_over_defaults() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("rondo.toml");
    fs::write(&path, "port = 1001\npeer-port = 1002\nzone = \"file\"\nlog = \"warn\"\n").unwrap();
    let line = format!("--config {} --port 3001", path.display());
    let environment =
        variables(&[("RONDO_PORT", "2001"), ("RONDO_GOSSIP_PORT", "2002"), ("PORT", "9")]);
    let texts = Texts::collect(&flags(&line), environment).expect("sound");
    let settings = Settings::check(&texts).expect("sound");
    assert_eq!((settings.port, settings.peer_port), (3001, 2002));
    assert_eq!((settings.zone.as_str(), settings.log.as_str()), ("file", "warn"));
    let origins = ["port", "peer-port", "zone", "join"]
        .map(|name| texts.get(name).expect("a value").1.to_string());
    assert_eq!(origins[0], "flag --port");
    assert_eq!(origins[1], "environment RONDO_GOSSIP_PORT");
    assert_eq!(origins[2], format!("file {}", path.display()));
    assert_eq!(origins[3], "default");
}

#[test]
fn a_file_may_be_toml_json_or_yaml_and_a_config_may_come_from_the_environment() {
    let dir = tempfile::tempdir().expect("a directory");
    for (name, text) in [
        ("a.toml", "node_id = \"n1\"\nseeds = [\"h1:1\", \"h2:2\"]\ninsecure = true\n"),
        ("a.json", r#"{"node-id": "n1", "seeds": ["h1:1", "h2:2"], "insecure": true}"#),
        ("a.yaml", "node-id: n1\nseed-nodes: h1:1,h2:2\ninsecure: true\n"),
    ] {
        let path = dir.path().join(name);
        fs::write(&path, text).unwrap();
        let environment = variables(&[("RONDO_CONFIG", path.to_str().unwrap())]);
        let texts = Texts::collect(&flags("--address 0.0.0.0"), environment).expect(name);
        let settings = Settings::check(&texts).expect(name);
        assert_eq!(settings.name.as_deref(), Some("n1"), "{name}");
        assert_eq!(settings.seeds, ["h1:1", "h2:2"], "{name}");
    }
}

#[test]
fn a_file_with_a_mistake_is_refused_by_name() {
    let dir = tempfile::tempdir().expect("a directory");
    for (name, text, expected) in [
        ("a.toml", "prot = 1\n", "did you mean `port`?"),
        ("b.toml", "colour = 1\n", "unknown key `colour`"),
        ("c.toml", "port = \n", "c.toml"),
        ("d.json", "{", "d.json"),
        ("e.json", "[1]", "not a table"),
        ("f.yaml", "port: {a: 1}", "neither a text, a number nor a list"),
        ("g.toml", "replicas = 3\nreplication = 3\n", "`replication` is set twice"),
        ("j.json", r#"{"port": 1, "zone": "a", "port": 2}"#, "`port` is set twice"),
        ("k.yaml", "port: 1\nport: 2\n", "duplicate"),
        ("l.toml", "port = 1\nport = 2\n", "duplicate"),
        ("h.toml", "config = \"x\"\n", "cannot name another"),
        ("i.conf", "port = 1\n", "end it in .toml"),
    ] {
        let path = dir.path().join(name);
        fs::write(&path, text).unwrap();
        let refused = refusal(&format!("--config {}", path.display()));
        assert!(refused.contains(expected), "{name}: {refused}");
        assert!(refused.contains(name), "{name}: {refused}");
    }
    assert!(refusal("--config /nowhere/at/all.toml").contains("cannot read"));
}

#[test]
fn an_unknown_variable_is_a_warning_and_a_platforms_own_are_passed_over() {
    let environment = variables(&[
        ("RONDO_PRT", "1"),
        ("RONDO_PORT", "tcp://10.0.0.7:8080"),
        ("RONDO_SERVICE_HOST", "10.0.0.7"),
    ]);
    let texts = Texts::collect(&Flags::default(), environment).expect("no errors");
    assert_eq!(texts.warnings, ["the variable RONDO_PRT is not a setting; RONDO_PORT is"]);
    assert_eq!(Settings::check(&texts).expect("sound").port, HTTP_PORT);
}

#[test]
fn every_alias_is_the_setting_it_stands_for() {
    let settings = checked(
        "--gossip-port 1 --seed-nodes a:1 --replicas 5 --virtual-nodes 7 --address localhost:99",
    )
    .expect("sound");
    assert_eq!((settings.peer_port, settings.vnodes, settings.port), (1, 7, 99));
    assert_eq!(settings.seeds, ["a:1"]);
    assert_eq!((settings.replication, settings.read_quorum, settings.write_quorum), (5, 3, 3));
    let many = checked("--seed-node a:1 --seed-node http://b:2/,a:1").expect("sound");
    assert_eq!(many.seeds, ["a:1", "b:2"]);
}

#[test]
fn an_address_may_be_of_any_kind() {
    for (line, ip, port) in [
        ("--address 127.0.0.1", "127.0.0.1", 8080),
        ("--address 127.0.0.1:99", "127.0.0.1", 99),
        ("--address ::1", "::1", 8080),
        ("--address [::1]:99", "::1", 99),
        ("--address [::1]", "::1", 8080),
        ("--address 127.0.0.1:99 --port 99", "127.0.0.1", 99),
    ] {
        let settings = checked(line).expect(line);
        assert_eq!((settings.ip.to_string().as_str(), settings.port), (ip, port), "{line}");
    }
    assert_eq!(join_port("::1", 5), "[::1]:5");
    assert_eq!(join_port("host", 5), "host:5");
}

#[test]
fn refusals_say_what_is_wrong_and_what_to_try() {
    let all = [
        "--replication 3 --read-quorum 4",
        "--replication 2 --write-quorum 3",
        "--replication 0",
        "--read-quorum 0",
        "--address 0.0.0.0",
        "--address 10.1.2.3:80",
        "--address 127.0.0.1:99 --port 98",
        "--address 127.0.0.1:0",
        "--address a:b:c:d",
        "--port 0",
        "--port 70000",
        "--port x",
        "--peer-port 0",
        "--port 9000 --peer-port 9000",
        "--port 9000 --resp-port 9000",
        "--bootstrap-expect 0",
        "--bootstrap-expect 257",
        "--vnodes 0",
        "--memory-max 64MiB",
        "--memory-max lots",
        "--memory-max 99999999999GiB",
        "--transfer-rate 1KiB",
        "--transfer-rate fast",
        "--repair-every 10ms",
        "--repair-every soon",
        "--repair-rate 1KiB",
        "--grace 10ms",
        "--grace 90",
        "--grace 3y",
        "--engine btree",
        "--engine bitcsk",
        "--engine oracle",
        "--durability never",
        "--durability interval:0",
        "--durability interval:x",
        "--join never",
        "--node-id ..",
        "--node-id a/b",
        "--cluster-name a:b",
        "--zone a/b",
        "--seeds a:1,b:x",
        "--seeds a:1,/b",
        "--seeds 0.0.0.0:1",
        "--seeds [::1]:7946",
        "--address ::1 --seeds 127.0.0.1:7946",
        "--advertise 0.0.0.0",
        "--tls-cert cert.pem",
        "--log debu",
        "--log rondo_net=lots",
        "--log-format xml",
        "--insecure=maybe",
        "--cors-origin https://exämple.org",
    ];
    let refused: Vec<_> =
        all.iter().map(|line| format!("$ rondo {line}\n{}", refusal(line))).collect();
    insta::assert_snapshot!(refused.join("\n\n"));
}

#[test]
fn what_is_accepted_but_weaker_or_not_built_yet_is_said_in_a_line() {
    let warned = |line: &str| checked(line).expect(line).warnings.join("\n");
    assert!(warned("--read-quorum 1 --write-quorum 1").contains("R + W = 2 is not above N = 3"));
    assert!(warned("--resp-port 6380").contains("Redis protocol is not built yet"));
    assert!(warned("--admin-port 9").contains("not built yet"));
    assert!(warned("--durability interval:100").contains("runs as `batch`, which is stricter"));
    assert!(warned("--durability interval:100ms").contains("runs as `batch`"));
    assert_eq!(warned("--resp-port 0"), "");
    assert!(checked("--address 0.0.0.0 --insecure").is_ok());
    assert!(checked("--address 0.0.0.0 --cluster-secret-file s").is_ok());
}
