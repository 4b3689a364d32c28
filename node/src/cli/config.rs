//! `rondo config`: what a node would start with, and where each value came from.

use clap::{Args, Subcommand};
use serde_json::{Map, Value, json};

use crate::cli::table::{table, text};
use crate::cli::{Output, print, settings};
use crate::failure::{Failure, Result};
use crate::settings::flags::Flags;
use crate::settings::sources::{Origin, Texts};
use crate::settings::{Settings, join_port};
use crate::start::preflight::Preflight;
use crate::start::store;

/// The settings of a node.
#[derive(Subcommand, Debug)]
pub enum Config {
    /// Print every setting
    Show(Show),
    /// Say whether a node would start with these settings on this host now; one that runs is in its own way
    Check(Flags),
}

/// `rondo config show`.
#[derive(Args, Debug)]
pub struct Show {
    /// Also print where each value came from
    #[arg(long)]
    origin: bool,
    /// How to print
    #[arg(long, short, value_enum, default_value_t)]
    output: Output,
    #[command(flatten)]
    flags: Flags,
}

/// One line of what is shown: a setting, its value when it has one, and where that came from.
type Row = (&'static str, Option<String>, String);

/// Runs it.
pub fn run(command: Config) -> Result<()> {
    match command {
        Config::Show(command) => {
            let texts = settings(&command.flags)?;
            let (rows, warnings) = rows(&texts);
            warnings.iter().for_each(|warning| eprintln!("warning: {warning}"));
            match command.output {
                Output::Table => print(&show(&rows, command.origin)),
                Output::Json => print(&show_json(&rows, command.origin).to_string()),
            }
        }
        Config::Check(flags) => {
            let checked = Settings::check(&settings(&flags)?)?;
            let found = Preflight::try_all(&checked)?;
            for warning in checked.warnings.iter().chain(&found.warnings) {
                eprintln!("warning: {warning}");
            }
            print("OK")
        }
    }
}

/// Everything that is known, and what a start would say of it.
fn rows(texts: &Texts) -> (Vec<Row>, Vec<String>) {
    let mut warnings = texts.warnings.clone();
    let mut refused = |failure: &Failure| {
        warnings.push(format!("a node would not start with these: {}", failure.message));
    };
    let checked = Settings::check(texts).inspect_err(&mut refused).ok();
    let found = checked
        .as_ref()
        .and_then(|settings| Preflight::look(settings).inspect_err(&mut refused).ok());
    let given = |(name, value): (&'static str, Option<&(String, Origin)>)| -> Row {
        match value.filter(|(value, _)| !value.is_empty()) {
            Some((value, origin)) => (name, Some(value.clone()), origin.to_string()),
            None => (name, None, Origin::Default.to_string()),
        }
    };
    let mut rows: Vec<Row> = texts.all().map(given).collect();
    if let Some(settings) = &checked {
        for (name, value, origin) in worked_out(settings, found.as_ref()) {
            let row = rows.iter_mut().find(|row| row.0 == name);
            match row {
                Some(row) if row.1.is_none() || name == "peer-port" => {
                    *row = (name, Some(value), origin);
                }
                Some(_) => {}
                None => rows.push((name, Some(value), origin)),
            }
        }
        warnings.extend(settings.warnings.iter().skip(texts.warnings.len()).cloned());
    }
    warnings.extend(found.into_iter().flat_map(|found| found.warnings));
    (rows, warnings)
}

/// What nobody gave and other settings or this host decide.
fn worked_out(
    settings: &Settings,
    found: Option<&Preflight>,
) -> Vec<(&'static str, String, String)> {
    let (name, dir) = store::place(settings);
    let majority = format!("a majority of --replication {}", settings.replication);
    let mut rows = vec![
        ("node-id", name, "the host's name".to_owned()),
        ("data-dir", dir.display().to_string(), "the node's name".to_owned()),
        ("read-quorum", settings.read_quorum.to_string(), majority.clone()),
        ("write-quorum", settings.write_quorum.to_string(), majority),
    ];
    if let Some(found) = found {
        let all = settings.ip.is_unspecified();
        let origin = if all { "the way to other hosts" } else { "the address" };
        let advertised = join_port(&found.host, found.peer_port);
        rows.push(("advertise", advertised, origin.to_owned()));
        if found.peer_port != settings.peer_port {
            let origin = format!("kept in {}", dir.join("peer-port").display());
            rows.push(("peer-port", found.peer_port.to_string(), origin));
        }
        if let Some(print) = found.secret_print() {
            let origin = "what the file holds; equal on all nodes of a cluster".to_owned();
            rows.push(("cluster-secret-print", print, origin));
        }
    }
    rows
}

fn show(rows: &[Row], origin: bool) -> String {
    let mut shown =
        table(if origin { &["SETTING", "VALUE", "ORIGIN"] } else { &["SETTING", "VALUE"] });
    for (name, value, from) in rows {
        let value = value.as_deref().unwrap_or("none");
        if origin {
            shown.add_row([name, value, from]);
        } else {
            shown.add_row([name, value]);
        }
    }
    text(&shown)
}

fn show_json(rows: &[Row], origin: bool) -> Value {
    let all = rows.iter().map(|(name, value, from)| {
        let shown = match value {
            Some(value) if origin => json!({ "value": value, "origin": from }),
            Some(value) => json!(value),
            None => Value::Null,
        };
        ((*name).to_owned(), shown)
    });
    Value::Object(all.collect::<Map<_, _>>())
}
