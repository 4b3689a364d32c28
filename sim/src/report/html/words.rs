//! What the lines of a run say, in words that fit beside a picture.
//!
//! Nothing is cut: what is long is broken into several lines.

use serde_json::{Map, Value};

use crate::fault::Kind;

/// A fault in words: `kill: n1, down for 300 ms`. Made from the names of its fields, so that new faults have words too.
pub(super) fn fault(kind: &Kind) -> String {
    let Ok(Value::Object(kinds)) = serde_json::to_value(kind) else {
        return format!("{kind:?}");
    };
    let parts = kinds.into_iter().map(|(name, fields)| {
        let fields: Vec<String> = match fields {
            Value::Object(fields) => {
                // Where it strikes stands first.
                let is_place = |name: &str| matches!(name, "node" | "nodes" | "name");
                let mut fields = by_name(&fields);
                fields.sort_by_key(|(name, _)| !is_place(name));
                fields.into_iter().map(|(name, value)| field(name, value)).collect()
            }
            other => vec![plain(&other)],
        };
        format!("{}: {}", spaced(&name), fields.join(", "))
    });
    parts.collect::<Vec<_>>().join("; ")
}

/// In an order that does not depend on how a map of JSON is kept, which is a choice of the whole build.
fn by_name(fields: &Map<String, Value>) -> Vec<(&String, &Value)> {
    let mut fields: Vec<_> = fields.iter().collect();
    fields.sort_by_key(|(name, _)| *name);
    fields
}

/// One field of a fault.
fn field(name: &str, value: &Value) -> String {
    match (name, value) {
        ("node", Value::Number(node)) => format!("n{node}"),
        ("nodes", Value::Array(nodes)) => {
            nodes.iter().map(|node| format!("n{node}")).collect::<Vec<_>>().join(" and ")
        }
        ("links", Value::Array(links)) => links.iter().map(link).collect::<Vec<_>>().join(" "),
        ("name", Value::String(name)) => name.clone(),
        ("what" | "how", value) => plain(value),
        (name, value) => {
            let (word, unit) = unit(name);
            let word = if word.is_empty() { String::new() } else { format!("{} ", spaced(word)) };
            format!("{word}{}{unit}", plain(value))
        }
    }
}

fn link(link: &Value) -> String {
    let ends = [&link[0], &link[1]].map(|node| format!("n{}", plain(node)));
    ends.join("→")
}

/// The unit that a field's name ends in.
fn unit(name: &str) -> (&str, &'static str) {
    let units = [("_ms", " ms"), ("_us", " us"), ("_ppm", " ppm"), ("_bytes", " bytes")];
    let found = units.iter().find_map(|(end, unit)| Some((name.strip_suffix(end)?, *unit)));
    found.unwrap_or(if name == "ppm" { ("", " ppm") } else { (name, "") })
}

fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => spaced(text),
        Value::Object(fields) => {
            let fields = by_name(fields).into_iter().map(|(name, value)| field(name, value));
            fields.collect::<Vec<_>>().join(" ")
        }
        Value::Array(items) => items.iter().map(plain).collect::<Vec<_>>().join(" "),
        other => other.to_string(),
    }
}

fn spaced(name: &str) -> String {
    name.replace('_', " ")
}

/// What a node has of a key: `k0: op 4 beside op 12`, of `k0 {1597:1-1[1=4@..] 9def:1-4[4=12@..]}`.
pub(super) fn stored(text: &str) -> String {
    let (key, state) = text.split_once(' ').unwrap_or((text, ""));
    let values = state.match_indices('=').filter_map(|(at, _)| {
        let (value, _) = state[at + 1..].split_once('@')?;
        Some(if value == "x" { "a delete".to_owned() } else { format!("op {value}") })
    });
    let values: Vec<String> = values.collect();
    let what = if values.is_empty() { "nothing".to_owned() } else { values.join(" beside ") };
    format!("{key}: {what}")
}

/// A text in lines of at most so many characters, broken between words where there are any.
pub(super) fn lines(text: &str, most: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let mut rest: Vec<char> = word.chars().collect();
        let last = lines.last_mut().expect("never empty");
        if !last.is_empty() && last.chars().count() + 1 + rest.len() <= most {
            last.push(' ');
            last.extend(rest);
            continue;
        }
        if !last.is_empty() {
            lines.push(String::new());
        }
        while rest.len() > most {
            let tail = rest.split_off(most);
            lines.last_mut().expect("never empty").extend(rest);
            lines.push(String::new());
            rest = tail;
        }
        lines.last_mut().expect("never empty").extend(rest);
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fault::clocks::{Drift, Jump};
    use crate::fault::disks::{DiskError, Failure};
    use crate::fault::partitions::Cut;
    use crate::fault::power::{Fate, PowerLoss};
    use crate::fault::processes::{Kill, SlowCpu};

    #[test]
    fn faults_have_words() {
        let faults: [Kind; 7] = [
            Kill { node: 1, down_ms: 300 }.into(),
            PowerLoss { nodes: vec![0, 2], fate: Fate::Torn, down_ms: 5 }.into(),
            Cut { name: "one-way".to_owned(), links: vec![(0, 1), (2, 1)], for_ms: 900 }.into(),
            Jump { node: 0, by_ms: -70_000 }.into(),
            Drift { node: 0, ppm: -40, for_ms: 9 }.into(),
            SlowCpu { node: 3, by_us: 40, for_ms: 9 }.into(),
            DiskError { node: 3, what: Failure::Full, times: 2, for_ms: 9 }.into(),
        ];
        insta::assert_snapshot!(faults.map(|kind| fault(&kind)).join("\n"));
    }

    #[test]
    fn what_is_stored_is_told_by_the_operations_that_wrote_it() {
        for (text, words) in [
            ("k0 {1597:1-1[1=4@1750000002820.0]}", "k0: op 4"),
            (
                "k3 {1597:1-1[1=4@1.0] 9def:1-4[3=x@2.0 4=12@3.1]}",
                "k3: op 4 beside a delete beside op 12",
            ),
            ("k0 {1597:1-1[]}", "k0: nothing"),
            ("k0 {}", "k0: nothing"),
        ] {
            assert_eq!(stored(text), words, "{text}");
        }
    }

    #[test]
    fn nothing_of_a_long_text_is_lost() {
        assert_eq!(lines("aa bb cc", 5), ["aa bb", "cc"]);
        assert_eq!(lines("a bbbbbbb c", 3), ["a", "bbb", "bbb", "b c"]);
        assert_eq!(lines("", 3), [""]);
    }
}
