//! What clients notice when a node fails: any of three and of five nodes is killed with kill -9, or stands still for 5 s. Tells the
//! longest interval without a successful write each time, and whether anything acknowledged was lost.
//!
//! Those who write through a killed node go elsewhere at the first error. Those who write through a node that stands still are not
//! there: no database can help them.

use std::io;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use crate::Options;
use crate::nodes::Nodes;
use crate::writers::{Load, Writer};

/// How long a node stands still.
const STANDS: Duration = Duration::from_secs(5);

/// Each cluster size with so many failures of either kind. Whether nothing was lost.
pub(crate) fn run(options: &Options, runs: usize) -> io::Result<bool> {
    println!("nodes   failure       longest without a write, each time   median   highest");
    let mut is_whole = true;
    for count in [3, 5] {
        is_whole &= of_cluster(options, runs, count)?;
    }
    Ok(is_whole)
}

fn of_cluster(options: &Options, runs: usize, count: u16) -> io::Result<bool> {
    let dir = tempfile::tempdir()?;
    let mut nodes = Nodes::start(&options.rondo, dir.path(), options.port, count)?;
    nodes.wait_settled(u64::from(count))?;
    let load = Arc::new(Load::new(nodes.addresses(), options.value));
    let writers: Vec<_> = (0..options.writers as u64)
        .map(|number| {
            let load = Arc::clone(&load);
            thread::spawn(move || Writer::new(&load, number).run())
        })
        .collect();
    let rest = Duration::from_secs(options.rest);
    let (mut killed, mut stood) = (Vec::new(), Vec::new());
    for at in (0..usize::from(count)).cycle().take(runs) {
        thread::sleep(rest);
        load.begin_step();
        nodes.kill(at)?;
        thread::sleep(rest);
        killed.push(load.end_step().longest);
        nodes.start_again(at)?;
        nodes.wait_settled(u64::from(count))?;
    }
    told(count, "kill -9", killed);
    for at in (0..usize::from(count)).cycle().take(runs) {
        let all = nodes.addresses();
        let others = all.iter().enumerate().filter(|(other, _)| *other != at);
        load.reach(others.map(|(_, address)| address.clone()).collect());
        thread::sleep(rest);
        load.begin_step();
        nodes.signal(at, "-STOP")?;
        thread::sleep(STANDS);
        nodes.signal(at, "-CONT")?;
        thread::sleep(rest);
        stood.push(load.end_step().longest);
        nodes.wait_settled(u64::from(count))?;
        load.reach(all);
    }
    told(count, "SIGSTOP, 5 s", stood);
    load.end();
    let ended = writers.into_iter().map(|writer| writer.join().expect("a writer does not panic"));
    let acknowledged: Vec<String> = ended.flatten().collect();
    let lost = nodes.lost(&acknowledged, options.value)?;
    println!("        {} writes acknowledged, {lost} lost\n", acknowledged.len());
    Ok(lost == 0)
}

fn told(count: u16, what: &str, mut longest: Vec<Duration>) {
    let ms = |interval: &Duration| interval.as_secs_f64() * 1e3;
    let each: Vec<String> = longest.iter().map(|one| format!("{:.0}", ms(one))).collect();
    longest.sort_unstable();
    let (median, highest) = (longest[longest.len() / 2], longest[longest.len() - 1]);
    println!(
        "{count:<7} {what:<13} {:<36} {:>6.0} {:>9.0} ms",
        each.join(" "),
        ms(&median),
        ms(&highest)
    );
}
