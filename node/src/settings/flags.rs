//! The settings as flags of the command line, made from the table.

use clap::builder::ValueParser;
use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Args, Command, FromArgMatches};

use crate::settings::keys::KEYS;

/// What the command line sets: places in `KEYS` with their values.
#[derive(Clone, Debug, Default)]
pub struct Flags(pub Vec<(usize, String)>);

impl FromArgMatches for Flags {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let mut flags = Flags::default();
        flags.update_from_arg_matches(matches)?;
        Ok(flags)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        for (at, key) in KEYS.iter().enumerate() {
            if matches.value_source(key.name) == Some(ValueSource::CommandLine) {
                let values = matches.get_many::<String>(key.name).into_iter().flatten();
                self.0.push((at, values.map(String::as_str).collect::<Vec<_>>().join(",")));
            }
        }
        Ok(())
    }
}

impl Args for Flags {
    fn augment_args(command: Command) -> Command {
        command.args(KEYS.iter().map(|key| {
            let help = match key.default {
                Some(default) if !default.is_empty() => {
                    format!("{} [default: {default}]", key.help)
                }
                _ => key.help.to_owned(),
            };
            let arg = Arg::new(key.name)
                .long(key.name)
                .visible_aliases(key.aliases.iter().copied())
                .value_parser(ValueParser::string())
                .help(help);
            match key.value {
                "" => arg
                    .num_args(0..=1)
                    .require_equals(true)
                    .default_missing_value("true")
                    .value_name("BOOL"),
                // A list may be given in pieces: `--seeds a --seeds b`.
                "LIST" => arg.value_name("LIST").action(ArgAction::Append),
                value => arg.value_name(value),
            }
        }))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Flags::augment_args(command)
    }
}
