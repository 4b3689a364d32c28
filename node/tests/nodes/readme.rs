//! The README as its readers use it: every block of commands, pasted whole into a fresh shell.
//!
//! What builds (`cargo …`) is not run, but must name a package and a test that are there; the binary under test stands for
//! what it would have built. Ports are replaced by free ones.

use std::fs;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::harness::{eventually, free_port, run_in};

const README: &str = include_str!("../../../README.md");

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The shell blocks, each with the heading above it.
fn blocks() -> Vec<(&'static str, &'static str)> {
    let mut heading = "";
    let mut blocks = Vec::new();
    let mut rest = README;
    while let Some((line, behind)) = rest.split_once('\n') {
        rest = behind;
        if let Some(title) = line.strip_prefix("## ") {
            heading = title;
        }
        if line == "```sh" {
            let (block, behind) = rest.split_once("\n```").expect("a block has an end");
            blocks.push((heading, block));
            rest = behind;
        }
    }
    blocks
}

/// Pastes a block into a shell that knows nothing, in an empty directory; answers what it printed.
fn paste(dir: &Path, script: &str) -> (Option<i32>, String) {
    let bin = Path::new(env!("CARGO_BIN_EXE_rondo")).parent().expect("a directory").to_owned();
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap_or_default());
    let out = dir.join("printed");
    let file = fs::File::create(&out).expect("a file");
    let mut shell = Command::new("sh");
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("RONDO_")) {
        shell.env_remove(name);
    }
    let mut shell = shell
        .args(["-ec", script])
        .current_dir(dir)
        .env("PATH", path)
        .env("NO_COLOR", "1")
        .stdin(Stdio::null())
        .stdout(file.try_clone().expect("a second handle"))
        .stderr(file)
        .process_group(0)
        .spawn()
        .expect("there is a shell");
    let code = eventually("the end of the block", || shell.try_wait().expect("a child"));
    // What it left in the background, if a command failed before it was stopped.
    let group = format!("-{}", shell.id());
    let _ = Command::new("kill").args(["-9", "--", &group]).stderr(Stdio::null()).status();
    (code.code(), fs::read_to_string(&out).expect("readable"))
}

/// The block below this heading, with what builds left out.
fn block(heading: &str) -> String {
    let found = blocks().into_iter().find(|(title, _)| *title == heading);
    let (_, block) = found.unwrap_or_else(|| panic!("the README has a block below {heading}"));
    let lines = block.lines().filter(|line| !line.starts_with("cargo "));
    lines.collect::<Vec<_>>().join("\n")
}

/// Ten ports in a row, of which the second to fourth are free; without the last digit.
fn free_ten() -> u16 {
    let free = |port: u16| std::net::TcpListener::bind(("127.0.0.1", port)).is_ok();
    loop {
        let ten = free_port() / 10;
        if (1..=3).all(|last| free(ten * 10 + last)) {
            return ten;
        }
    }
}

#[test]
fn the_block_of_three_nodes_works_when_it_is_pasted_whole() {
    let script = block("Three nodes by hand");
    let printed = eventually("free ports", || {
        let dir = tempfile::tempdir().expect("a directory");
        let http = free_ten();
        let peer = std::iter::repeat_with(free_ten).find(|ten| *ten != http).expect("without end");
        let (http, peer) = (http.to_string(), peer.to_string());
        let (code, printed) =
            paste(dir.path(), &script.replace("808", &http).replace("710", &peer));
        let log = |node: &str| fs::read_to_string(dir.path().join(node)).unwrap_or_default();
        let logs = ["n1.log", "n2.log", "n3.log"].map(log).concat();
        if logs.contains("in use") || logs.contains("another program has") {
            return None;
        }
        assert_eq!(code, Some(0), "{printed}\n{logs}");
        Some(printed)
    });
    assert!(
        printed.contains("Health: 3 nodes, 3 alive, 0 dead (100.0% availability)"),
        "{printed}"
    );
    assert!(
        printed.contains(r#""key":"user:1""#) && printed.contains(r#""value":"x""#),
        "{printed}"
    );
    assert!(printed.contains("HTTP/1.1 200") && printed.contains("x-rondo-context: "), "{printed}");
}

/// What a script prints that starts a cluster in the background, on free ports for clients and for peers.
fn pasted(script: &str, free: impl Fn() -> [u16; 2]) -> String {
    eventually("free ports", || {
        let dir = tempfile::tempdir().expect("a directory");
        let [http, peer] = free();
        let ports = format!("--detach --port {http} --peer-port {peer}");
        let (code, printed) = paste(dir.path(), &script.replace("--detach", &ports));
        run_in(dir.path(), &["dev-cluster", "stop"]);
        if printed.contains("in use") || printed.contains("another program has") {
            return None;
        }
        assert_eq!(code, Some(0), "{printed}");
        Some(printed)
    })
}

#[test]
fn the_block_of_a_cluster_to_try_works_when_it_is_pasted_whole() {
    let printed = pasted(&block("A cluster to try"), || [free_port(), free_port()]);
    for said in [
        "A cluster of 3 nodes is ready.",
        "killed node-2\nworld",
        "started node-2\nHealth: 3 nodes, 3 alive, 0 dead (100.0% availability)",
        "stopped 3 nodes",
    ] {
        assert!(printed.contains(said), "{said}: {printed}");
    }
}

#[test]
fn the_block_of_growing_and_shrinking_works_when_it_is_pasted_whole() {
    // Twice in one directory: the second time the cluster of four is there.
    let script = block("Growing and shrinking").replace("20s", "5s");
    let second = script.replace("remove node-4", "remove node-6");
    let printed = pasted(&format!("{script}\n{second}"), || {
        // The fifth node has a port behind the four that are free together.
        let [http, _, peer, _] = [(); 4].map(|()| free_port());
        [http, peer]
    });
    for said in [
        "A cluster of 3 nodes is ready.",
        "added node-4 and node-5; all data is where it belongs\nHealth: 5 nodes, 5 alive, 0 dead",
        "removed node-4; the others have its data",
        "worldHealth: 4 nodes, 4 alive, 0 dead (100.0% availability)",
        "stopped 4 nodes",
        "A cluster of 4 nodes is ready.",
        "added node-6 and node-7; all data is where it belongs\nHealth: 6 nodes, 6 alive, 0 dead",
        "stopped 5 nodes",
    ] {
        assert!(printed.contains(said), "{said}: {printed}");
    }
}

#[test]
fn the_block_that_builds_ends_with_the_version() {
    let dir = tempfile::tempdir().expect("a directory");
    let (code, printed) = paste(dir.path(), &block("Build it"));
    assert_eq!((code, printed), (Some(0), format!("rondo {}\n", env!("CARGO_PKG_VERSION"))));
}

#[test]
fn every_command_of_cargo_that_the_readme_names_is_there() {
    let lines = README.lines().flat_map(|line| match line.starts_with("cargo ") {
        true => vec![line],
        false => line.split('`').filter(|piece| piece.starts_with("cargo ")).collect(),
    });
    let mut seen = 0;
    for line in lines {
        seen += 1;
        let words: Vec<_> = line.split_whitespace().collect();
        let after =
            |flag: &str| words.iter().position(|word| *word == flag).map(|at| words[at + 1]);
        let package = after("-p").or(after("--path")).unwrap_or(".");
        assert!(root().join(package).join("Cargo.toml").exists(), "{line}");
        if let Some(test) = after("--test") {
            let tests = root().join(package).join("tests");
            let there = [format!("{test}.rs"), format!("{test}/main.rs")];
            assert!(there.iter().any(|file| tests.join(file).exists()), "{line}");
            let filter = words.last().filter(|word| **word != test);
            let sources = || fs::read_dir(tests.join(test)).into_iter().flatten().flatten();
            let named = |filter: &str| {
                sources().any(|file| {
                    let text = fs::read_to_string(file.path()).unwrap_or_default();
                    file.file_name() == *format!("{filter}.rs")
                        || text.contains(&format!("fn {filter}"))
                })
            };
            assert!(filter.is_none_or(|filter| named(filter)), "{line}");
        }
    }
    assert!(seen > 10, "the README names many commands, not {seen}");
    for (heading, block) in blocks() {
        let said = "an interactive zsh takes what follows # for an argument";
        assert!(!block.contains('#'), "{heading}: {said}: {block}");
    }
}
