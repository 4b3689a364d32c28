//! A development cluster that was stopped and starts again: with the nodes that it has, whatever number is asked for.
//!
//! Who was added later is as much a member as those that founded it, and a cluster that starts without some of its nodes may lack a
//! quorum for ever. Ports and flags that are given anew take the place of the earlier ones; seeds are those that are there now.

use crate::failure::{Failure, Result};

use super::grow::{number_of, port_of};
use super::record::Started;
use super::{DevCluster, FIXED};

/// The nodes of a cluster that was stopped; `None` where none has left anything.
pub(super) fn nodes(command: &DevCluster, before: Vec<Started>) -> Result<Option<Vec<Started>>> {
    if !before.iter().any(|node| node.data_dir.join("identity").exists()) {
        return Ok(None);
    }
    let mut nodes = before;
    for node in &mut nodes {
        for (flag, first) in [("--port", command.port), ("--peer-port", command.peer_port)] {
            if let Some(first) = first {
                let port = number_of(node).and_then(|number| first.checked_add(number - 1));
                let Some(port) = port else {
                    let message = format!("{flag} {first}: there is no port for {}", node.name);
                    return Err(Failure::usage(message, format!("give another {flag}")));
                };
                set(&mut node.arguments, flag, &port.to_string());
            }
        }
        if let Some(port) = port_of(node, "--port") {
            node.http = format!("127.0.0.1:{port}");
        }
        if !command.flags.is_empty() {
            let fixed = node.arguments.chunks(2).take_while(|pair| FIXED.contains(&&*pair[0]));
            let fixed = 2 * fixed.count();
            node.arguments.truncate(fixed);
            node.arguments.extend(command.flags.iter().cloned());
        }
    }
    seed(&mut nodes);
    Ok(Some(nodes))
}

/// Each has the others as seeds: those that it was given first may have left since.
pub(super) fn seed(nodes: &mut [Started]) {
    let address = |node: &Started| Some(format!("127.0.0.1:{}", port_of(node, "--peer-port")?));
    let all: Vec<(String, Option<String>)> =
        nodes.iter().map(|node| (node.name.clone(), address(node))).collect();
    for node in nodes {
        let others = all.iter().filter(|(name, _)| *name != node.name);
        let seeds: Vec<String> = others.filter_map(|(_, address)| address.clone()).collect();
        if !seeds.is_empty() {
            set(&mut node.arguments, "--seeds", &seeds.join(","));
        }
    }
}

fn set(arguments: &mut Vec<String>, flag: &str, value: &str) {
    match arguments.iter().position(|argument| argument == flag) {
        Some(at) if at + 1 < arguments.len() => value.clone_into(&mut arguments[at + 1]),
        _ => drop(arguments.splice(0..0, [flag.to_owned(), value.to_owned()])),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::arguments;
    use super::*;

    fn node(dir: &Path, number: u16, seeds: &[&str]) -> Started {
        let name = format!("node-{number}");
        let data_dir = dir.join(&name);
        let seeds: Vec<String> = seeds.iter().map(|&seed| seed.to_owned()).collect();
        let mut arguments = arguments(&name, (8080 + number, 7080 + number), &seeds, 3, &data_dir);
        arguments.extend(["--log", "debug"].map(str::to_owned));
        let http = format!("127.0.0.1:{}", 8080 + number);
        let directory = dir.to_owned();
        Started { name, pid: 0, http, data_dir, directory, arguments, stopped: true }
    }

    #[test]
    fn all_that_were_there_start_again_and_know_each_other_at_the_ports_that_are_given() {
        let dir = tempfile::tempdir().expect("a directory");
        let before = vec![node(dir.path(), 2, &[]), node(dir.path(), 5, &["127.0.0.1:7081"])];
        let command = DevCluster {
            nodes: 3,
            data_dir: dir.path().to_owned(),
            port: Some(9001),
            peer_port: None,
            resp_port: 6381,
            detach: true,
            flags: vec!["--zone".to_owned(), "east".to_owned()],
            action: None,
        };
        let none = nodes(&command, before.clone()).expect("there are ports");
        assert_eq!(none, None, "nothing was left");
        std::fs::create_dir(&before[1].data_dir).expect("a directory");
        std::fs::write(before[1].data_dir.join("identity"), "x").expect("written");
        let again = nodes(&command, before.clone()).expect("there are ports").expect("two nodes");
        assert_eq!((&*again[0].http, &*again[1].http), ("127.0.0.1:9002", "127.0.0.1:9005"));
        let has =
            |at: usize, pair: [&str; 2]| again[at].arguments.windows(2).any(|two| two == pair);
        assert!(has(0, ["--seeds", "127.0.0.1:7085"]) && has(1, ["--seeds", "127.0.0.1:7082"]));
        assert!(has(0, ["--zone", "east"]) && !has(0, ["--log", "debug"]), "{again:?}");
        let far = DevCluster { port: Some(65_533), ..command };
        assert!(nodes(&far, before).is_err());
    }
}
