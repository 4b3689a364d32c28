//! The command line: what people type, and the exit code they get.
//!
//! stdout is data, stderr is logs, progress and errors. Exit codes: 0 done, 1 failed, 2 usage, 3 too few replicas, 4 not
//! found. `rondo` alone is `rondo serve`.

pub mod table;

pub mod kv;

pub mod status;

pub mod ring;

pub mod watch;

pub mod silence;

pub mod cluster;

pub mod keyspace;

pub mod transfers;

pub mod hints;
pub mod repair;

pub mod config;

pub mod bench;

pub mod dev_cluster;

use std::future::Future;
use std::io::{self, IsTerminal as _, Write as _};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::client::Servers;
use crate::failure::{Failure, Result};
use crate::log_lines::LogLines;
use crate::settings::flags::Flags;
use crate::settings::log::filter;
use crate::settings::sources::Texts;
use crate::settings::{LogFormat, Settings};
use crate::start::{anew, serve};

/// rondo: a replicated key-value store. Alone it starts a node.
#[derive(Parser, Debug)]
#[command(name = "rondo", version, args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(flatten)]
    flags: Flags,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Start a node (what `rondo` alone does)
    Serve(Flags),
    /// Start several nodes on this host, for development
    DevCluster(dev_cluster::DevCluster),
    /// Get, put and delete keys
    #[command(subcommand)]
    Kv(kv::Kv),
    /// Show the health of the cluster and what its nodes do
    Status(status::Status),
    /// Show who owns what
    Ring(ring::Ring),
    /// Grow, shrink and mend the cluster
    #[command(subcommand)]
    Cluster(cluster::Cluster),
    /// Show which data moves, and how far it is
    Transfers(transfers::Transfers),
    /// Show which nodes have missed writes that others keep for them
    Hints(hints::Hints),
    /// Compare the copies of keys on all nodes now, and make them equal
    Repair(repair::Repair),
    /// Make, list and drop keyspaces
    #[command(subcommand)]
    Keyspace(keyspace::Keyspace),
    /// Measure a node or a cluster under load
    Bench(bench::Bench),
    /// Show or check the settings of a node
    #[command(subcommand)]
    Config(config::Config),
    /// Print the version
    Version,
}

/// How a command prints data.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, ValueEnum)]
pub enum Output {
    /// For people.
    #[default]
    Table,
    /// For programs.
    Json,
}

/// Which servers a command asks.
#[derive(Clone, Debug, Args)]
pub struct Client {
    /// The HTTP address of a node, or of several: the next is asked when one fails [default: the dev-cluster that
    /// runs below ./rondo-data, or else 127.0.0.1:8080]
    #[arg(long, short, env = "RONDO_SERVER", value_name = "LIST")]
    pub server: Option<String>,
    /// How long a request may take, such as 500ms or 5s; a write of which nobody knows whether it happened is sent up to four times
    #[arg(long, default_value = "5s", value_parser = duration, value_name = "TIME")]
    pub timeout: Duration,
}

impl Client {
    /// The servers.
    pub fn servers(&self) -> Result<Servers> {
        let nearby = || Some(dev_cluster::nearby()).filter(|nearby| !nearby.is_empty());
        let found = self.server.clone().or_else(|| nearby().map(|nearby| nearby.join(",")));
        Servers::parse(found.as_deref().unwrap_or("127.0.0.1:8080"), self.timeout)
    }
}

/// `500ms`, `5s`, `2m`; a bare number is seconds.
pub fn duration(text: &str) -> Result<Duration, String> {
    let (number, unit) = match text.find(|c: char| !c.is_ascii_digit() && c != '.') {
        Some(at) => text.split_at(at),
        None => (text, "s"),
    };
    let scale = match unit {
        "ms" => 0.001,
        "s" => 1.0,
        "m" => 60.0,
        _ => return Err("a time such as 500ms, 5s or 2m".to_owned()),
    };
    number
        .parse::<f64>()
        .ok()
        .and_then(|number| Duration::try_from_secs_f64(number * scale).ok())
        .filter(|time| (Duration::from_millis(1)..=Duration::from_secs(86_400)).contains(time))
        .ok_or_else(|| "a time such as 500ms, 5s or 2m".to_owned())
}

/// The program.
#[must_use]
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        // Help and version are no errors; clap knows where each goes and what code it has.
        Err(error) => error.exit(),
    };
    match run(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("{failure}");
            failure.kind.exit_code()
        }
    }
}

fn run(cli: Cli) -> Result<()> {
    match cli.command {
        None => serve_with(&cli.flags),
        Some(Command::Serve(flags)) => serve_with(&flags),
        Some(Command::DevCluster(command)) => block_on(dev_cluster::run(command)),
        Some(Command::Kv(command)) => block_on(kv::run(command)),
        Some(Command::Status(command)) => block_on(status::run(command)),
        Some(Command::Ring(command)) => block_on(ring::run(command)),
        Some(Command::Cluster(command)) => block_on(cluster::run(command)),
        Some(Command::Transfers(command)) => block_on(transfers::run(command)),
        Some(Command::Hints(command)) => block_on(hints::run(command)),
        Some(Command::Repair(command)) => block_on(repair::run(command)),
        Some(Command::Keyspace(command)) => block_on(keyspace::run(command)),
        Some(Command::Bench(command)) => block_on(bench::run(command)),
        Some(Command::Config(command)) => config::run(command),
        Some(Command::Version) => print(concat!("rondo ", env!("CARGO_PKG_VERSION"))),
    }
}

/// The settings of a node, from this process's environment.
pub fn settings(flags: &Flags) -> Result<Texts> {
    let environment = std::env::vars_os().filter_map(|(name, value)| {
        Some((name.into_string().ok()?, value.to_string_lossy().into_owned()))
    });
    // The commands' own variables are no settings of a node.
    Texts::collect(flags, environment.filter(|(name, _)| name != "RONDO_SERVER"))
}

/// How long the end of a node waits for its last log lines to be written.
const LAST_LINES: Duration = Duration::from_millis(500);

fn serve_with(flags: &Flags) -> Result<()> {
    let settings = Settings::check(&settings(flags)?)?;
    let lines = start_log(&settings)?;
    if settings.secret_file.is_some() {
        tracing::warn!(
            "the cluster secret protects the links between nodes only: whoever reaches the HTTP port may read and write"
        );
    }
    for warning in &settings.warnings {
        tracing::warn!("{warning}");
    }
    let served = serve::serve(&settings);
    lines.flush(LAST_LINES);
    match served? {
        serve::End::Stopped => Ok(()),
        serve::End::BeginsAnew => Err(anew::start_again()),
    }
}

fn start_log(settings: &Settings) -> Result<LogLines> {
    let filter = filter(&settings.log)?;
    let tell = |count| tracing::warn!(count, "log lines were dropped: nobody took them in time");
    let lines = LogLines::to(io::stderr(), tell).map_err(|error| {
        Failure::failed(format!("cannot start: {error}"), "check the limits of this process")
    })?;
    let writer = lines.clone();
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(move || writer.clone());
    match settings.log_format {
        LogFormat::Json => log.json().init(),
        LogFormat::Text => {
            log.with_target(false).with_ansi(colours(io::stderr().is_terminal())).init()
        }
    }
    Ok(lines)
}

/// Whether to print colours: to a terminal, unless `NO_COLOR` is set (<https://no-color.org>).
#[must_use]
pub fn colours(terminal: bool) -> bool {
    terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

fn block_on(future: impl Future<Output = Result<()>>) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| {
        Failure::failed(format!("cannot start: {error}"), "check the limits of this process")
    })?;
    runtime.block_on(future)
}

/// Prints data, a line. A reader that has gone, such as `head`, ends the program quietly.
pub fn print(text: &str) -> Result<()> {
    print_bytes(text.as_bytes(), true)
}

/// Prints data as it is.
pub fn print_bytes(bytes: &[u8], newline: bool) -> Result<()> {
    let mut out = io::stdout().lock();
    let written = out
        .write_all(bytes)
        .and_then(|()| if newline { out.write_all(b"\n") } else { Ok(()) })
        .and_then(|()| out.flush());
    match written {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        Err(error) => Err(Failure::failed(format!("cannot print: {error}"), "check where it goes")),
        Ok(()) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_has_a_unit_or_is_in_seconds() {
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("2"), Ok(Duration::from_secs(2)));
        assert_eq!(duration("1.5s"), Ok(Duration::from_millis(1500)));
        assert_eq!(duration("2m"), Ok(Duration::from_secs(120)));
        for text in ["", "s", "1h", "-1s", "0", "1.2.3s", "100000s"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn the_command_line_is_sound() {
        use clap::CommandFactory as _;
        Cli::command().debug_assert();
    }

    #[test]
    fn flags_may_stand_alone_or_after_serve() {
        let alone = Cli::try_parse_from(["rondo", "--port", "1"]).expect("sound");
        assert_eq!(alone.flags.0.len(), 1);
        let Some(Command::Serve(flags)) =
            Cli::try_parse_from(["rondo", "serve", "--port", "1"]).expect("sound").command
        else {
            panic!("serve is a command");
        };
        assert_eq!(flags.0, alone.flags.0);
        assert!(Cli::try_parse_from(["rondo", "--prot", "1"]).is_err());
    }
}
