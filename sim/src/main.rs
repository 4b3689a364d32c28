//! `rondo-sim`: runs seeds, replays scenarios, tells what happened. Each command is a file in `command`.

mod command;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use mimalloc::MiMalloc;

/// A run makes and drops small buffers all the time.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

/// Whole clusters in a simulated world: a seed is a scenario, a scenario is a run, always the same.
///
/// Exit codes: 0 passed, 10 a promise was broken, 11 something did not come to pass in time, 12 a crash,
/// 13 not deterministic, 14 undecided.
#[derive(Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Runs a range of seeds.
    Run(command::run::Args),
    /// Builds planted bugs and looks how soon each is caught.
    Mutants(command::mutants::Args),
    /// Runs seeds and prints how often each site in the product's code was reached.
    Coverage(command::coverage::Args),
    /// Runs one scenario twice and prints every event.
    Replay(command::replay::Args),
    /// Prints the consistency report of a saved scenario or a seed.
    Report(command::report::Args),
    /// Makes a failing scenario small and saves it as target/sim/NAME.min.json.
    Shrink(command::shrink::Args),
    /// Prints the scenario of a seed.
    Scenario(command::scenario::Args),
    /// Replays every scenario in a directory; each must pass.
    Corpus(command::corpus::Args),
    /// Lists every kind of trouble that the generator makes.
    Faults(command::faults::Args),
    /// Judges a recorded history: linearizable or not.
    Check(command::check::Args),
}

fn main() -> ExitCode {
    let code = match Cli::parse().command {
        Command::Run(args) => args.run(),
        Command::Mutants(args) => args.run(),
        Command::Coverage(args) => args.run(),
        Command::Replay(args) => args.run(),
        Command::Report(args) => args.run(),
        Command::Shrink(args) => args.run(),
        Command::Scenario(args) => args.run(),
        Command::Corpus(args) => args.run(),
        Command::Faults(args) => args.run(),
        Command::Check(args) => args.run(),
    };
    code.map_or_else(
        |error| {
            eprintln!("rondo-sim: {error}");
            ExitCode::from(2)
        },
        ExitCode::from,
    )
}
