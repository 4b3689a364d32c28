//! Which log lines are written: a level, or levels of modules.
//!
//! The filter of `tracing` takes any word for the name of a module, and then shows nothing of all others: `debu` would
//! silence a node. So a word that stands alone must be a level here, and so must what follows a `=`.

use tracing_subscriber::EnvFilter;

use crate::failure::{Failure, Result};
use crate::nearest::nearest;

/// The levels, from nothing to everything.
const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];

/// The filter that a text means, or why it means none.
pub fn filter(text: &str) -> Result<EnvFilter> {
    // What stands in brackets chooses by spans and fields; the filter itself judges it.
    if !text.contains('[') {
        for directive in text.split(',').map(str::trim) {
            let level = directive.rsplit_once('=').map_or(directive, |(_, level)| level);
            if !LEVELS.iter().any(|known| known.eq_ignore_ascii_case(level)) {
                return Err(no_level(text, directive, level));
            }
        }
    }
    EnvFilter::try_new(text.replace(' ', ""))
        .map_err(|error| Failure::usage(format!("log: `{text}`: {error}"), "--log info"))
}

fn no_level(text: &str, directive: &str, level: &str) -> Failure {
    let fixed = nearest(level, LEVELS).filter(|_| !level.is_empty());
    let fixed = fixed.map_or("info".to_owned(), |near| match directive.rsplit_once('=') {
        Some((module, _)) => format!("{module}={near}"),
        None => near.to_owned(),
    });
    let levels = LEVELS.join(", ");
    let place = if text == level { String::new() } else { format!("`{text}`: ") };
    Failure::usage(
        format!("log: {place}`{level}` is no level; the levels are {levels}"),
        format!("--log {fixed}, or levels of modules such as info,rondo_net=debug"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_and_levels_of_modules_are_filters_and_other_words_are_refused() {
        for text in ["info", "DEBUG", "off", "warn,rondo_net=trace", "info, rondo_core=off"] {
            assert!(filter(text).is_ok(), "{text}");
        }
        assert!(filter("info,[request{key=a}]=debug").is_ok(), "spans are the filter's own affair");
        let refused = ["debu", "", "info,", "rondo_net", "rondo_net=debgu", "a=b=c"]
            .map(|text| filter(text).expect_err(text).to_string());
        insta::assert_snapshot!(refused.join("\n"));
    }
}
