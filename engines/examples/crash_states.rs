//! The long campaign over crash states: every short life of an engine, every disk that a power loss can leave.
//!
//! `cargo run --release -p engines --example crash_states -- --ops 3 --inside-recovery`. The number on standard
//! output is the same for the same options; a broken promise is told with its life, its crash, and the fate
//! of each operation, and ends the campaign with code 10.

#[path = "../tests/crash_states/subject.rs"]
mod subject;

#[path = "../tests/crash_states/workload.rs"]
mod workload;

#[path = "../tests/crash_states/oracle.rs"]
mod oracle;

#[path = "../tests/crash_states/explore.rs"]
mod explore;

use std::process::ExitCode;

use clap::Parser;
use indicatif::{ProgressBar, ProgressStyle};

use explore::{Explorer, lives};
use rondo_engines::kind::EngineKind;
use subject::Subject;

/// What a broken promise ends with.
const BROKEN: u8 = 10;

/// Loses power at every disk operation of every short life of an engine, in every way.
#[derive(Parser)]
struct Options {
    /// The most steps of a life, after each of the beginnings.
    #[arg(long, default_value_t = 3)]
    ops: usize,
    /// Lose power again at every disk operation of the recovery that follows.
    #[arg(long)]
    inside_recovery: bool,
    /// The engine.
    #[arg(long, default_value_t = EngineKind::Bitcask)]
    engine: EngineKind,
}

fn main() -> ExitCode {
    let options = Options::parse();
    let mut explorer = Explorer::new(Subject(options.engine), u32::from(options.inside_recovery));
    let lives = lives(options.ops);
    let bar = ProgressBar::new(lives.len() as u64);
    let style = ProgressStyle::with_template("{bar:30} {pos}/{len} lives · {elapsed} · {msg}");
    bar.set_style(style.expect("the template names what there is"));
    for (beginning, life) in lives {
        if let Err(story) = explorer.try_life(beginning, &life) {
            bar.finish_and_clear();
            println!("a promise is broken\n{story}");
            return ExitCode::from(BROKEN);
        }
        bar.inc(1);
        bar.set_message(format!("{} states", explorer.tally.states));
    }
    let seconds = bar.elapsed().as_secs();
    bar.finish_and_clear();
    let explore::Tally { lives, states, distinct } = explorer.tally;
    println!("{lives} lives, {states} states tried, {distinct} of them different, none broken");
    eprintln!("{seconds} s");
    ExitCode::SUCCESS
}
