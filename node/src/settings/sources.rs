//! Where a value comes from: flags before the environment before a file before defaults.
//!
//! Unknown keys in a file are errors that name the nearest known one. An unknown `RONDO_` variable is a warning: other
//! programs set variables too. So is a variable that a container platform makes of a service called `rondo`
//! (`RONDO_PORT=tcp://10.0.0.7:8080`), which is no setting of ours.

use std::collections::BTreeSet;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use serde::de::{Deserialize, Deserializer, Error as _, IgnoredAny, MapAccess, Visitor};
use serde_json::Value;

use crate::failure::{Failure, Result};
use crate::nearest::nearest;
use crate::settings::flags::Flags;
use crate::settings::keys::{self, KEYS};

/// The largest file of settings, in bytes.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Where a value came from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Origin {
    /// A flag.
    Flag(&'static str),
    /// A variable of the environment.
    Environment(String),
    /// A file.
    File(PathBuf),
    /// Nobody gave one.
    Default,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Flag(name) => write!(f, "flag --{name}"),
            Origin::Environment(name) => write!(f, "environment {name}"),
            Origin::File(path) => write!(f, "file {}", path.display()),
            Origin::Default => f.write_str("default"),
        }
    }
}

/// The text of every setting, and where it came from, in the order of `KEYS`.
#[derive(Clone, Debug)]
pub struct Texts {
    values: Vec<Option<(String, Origin)>>,
    /// What people should know although it is no error.
    pub warnings: Vec<String>,
}

impl Texts {
    /// Collects from all sources.
    pub fn collect(
        flags: &Flags,
        environment: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Texts> {
        let mut texts = Texts { values: vec![None; KEYS.len()], warnings: Vec::new() };
        for (at, value) in &flags.0 {
            texts.values[*at] = Some((value.clone(), Origin::Flag(KEYS[*at].name)));
        }
        texts.add_environment(environment);
        if let Some(path) = texts.given("config").map(|(path, _)| PathBuf::from(path)) {
            texts.add_file(&path)?;
        }
        for (key, slot) in KEYS.iter().zip(&mut texts.values) {
            if slot.is_none() {
                *slot = key.default.map(|default| (default.to_owned(), Origin::Default));
            }
        }
        Ok(texts)
    }

    /// The value of a setting and its origin, the default's included.
    ///
    /// # Panics
    /// When there is no such key.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<(&str, &Origin)> {
        let at = keys::find(name).expect("settings are asked for by the names of the table");
        self.values[at].as_ref().map(|(value, origin)| (value.as_str(), origin))
    }

    /// As `get`, but only what somebody gave.
    #[must_use]
    pub fn given(&self, name: &str) -> Option<(&str, &Origin)> {
        self.get(name).filter(|(_, origin)| **origin != Origin::Default)
    }

    /// Every setting with its value and origin, in the order of the table.
    pub fn all(&self) -> impl Iterator<Item = (&'static str, Option<&(String, Origin)>)> {
        KEYS.iter().zip(&self.values).map(|(key, value)| (key.name, value.as_ref()))
    }

    fn add_environment(&mut self, environment: impl IntoIterator<Item = (String, String)>) {
        let mut ours: Vec<_> = environment
            .into_iter()
            .filter_map(|(name, value)| {
                let rest = name.strip_prefix("RONDO_")?;
                let key = rest.to_ascii_lowercase().replace('_', "-");
                Some((key, name, value))
            })
            .collect();
        ours.sort();
        for (key, name, value) in ours {
            if value.starts_with("tcp://") || key.starts_with("service-") {
                continue;
            }
            match keys::find(&key) {
                Some(at) => {
                    let slot = &mut self.values[at];
                    if slot.is_none() {
                        *slot = Some((value, Origin::Environment(name)));
                    }
                }
                None => self.warnings.push(match nearest(&key, keys::names()) {
                    Some(known) => format!(
                        "the variable {name} is not a setting; {} is",
                        format!("RONDO_{known}").to_ascii_uppercase().replace('-', "_")
                    ),
                    None => format!("the variable {name} is not a setting"),
                }),
            }
        }
    }

    fn add_file(&mut self, path: &Path) -> Result<()> {
        let table = read_file(path)?;
        let mut seen = vec![false; KEYS.len()];
        for (name, value) in table {
            let at = keys::find(&name.replace('_', "-")).ok_or_else(|| unknown(path, &name))?;
            let key = &KEYS[at];
            if key.name == "config" {
                return Err(Failure::usage(
                    format!("{}: a file of settings cannot name another", path.display()),
                    "remove the key `config`",
                ));
            }
            if std::mem::replace(&mut seen[at], true) {
                return Err(Failure::usage(
                    format!("{}: `{}` is set twice", path.display(), key.name),
                    format!("keep one of its names: {}", names_of(at)),
                ));
            }
            let text = scalar_text(&value).ok_or_else(|| {
                Failure::usage(
                    format!("{}: `{name}` is neither a text, a number nor a list", path.display()),
                    format!("{name} = \"…\""),
                )
            })?;
            let slot = &mut self.values[at];
            if slot.is_none() {
                *slot = Some((text, Origin::File(path.to_owned())));
            }
        }
        Ok(())
    }
}

fn names_of(at: usize) -> String {
    let key = &KEYS[at];
    std::iter::once(key.name).chain(key.aliases.iter().copied()).collect::<Vec<_>>().join(", ")
}

fn unknown(path: &Path, name: &str) -> Failure {
    let hint = match nearest(&name.replace('_', "-"), keys::names()) {
        Some(known) => format!("did you mean `{known}`?"),
        None => "`rondo config show` lists every key".to_owned(),
    };
    Failure::usage(format!("{}: unknown key `{name}`", path.display()), hint)
}

fn read_file(path: &Path) -> Result<serde_json::Map<String, Value>> {
    let shown = path.display();
    let cannot = |what: &dyn fmt::Display| {
        Failure::usage(format!("cannot read {shown}: {what}"), "check the path given with --config")
    };
    let length = fs::metadata(path).map_err(|error| cannot(&error))?.len();
    if length > FILE_BYTES_MAX {
        return Err(cannot(&format!("it has {length} bytes, more than {FILE_BYTES_MAX}")));
    }
    let text = fs::read_to_string(path).map_err(|error| cannot(&error))?;
    let broken = |what: &dyn fmt::Display| {
        Failure::usage(format!("{shown}: {}", what.to_string().trim_end()), "correct the file")
    };
    let parsed: Value = match path.extension().and_then(|extension| extension.to_str()) {
        Some("toml") => toml::from_str(&text).map_err(|error| broken(&error))?,
        Some("json") => {
            let parsed = serde_json::from_str(&text).map_err(|error| broken(&error))?;
            if matches!(parsed, Value::Object(_)) {
                serde_json::from_str::<OnceEach>(&text).map_err(|error| broken(&error))?;
            }
            parsed
        }
        Some("yaml" | "yml") => serde_saphyr::from_str(&text).map_err(|error| broken(&error))?,
        _ => {
            return Err(Failure::usage(
                format!("{shown}: the name does not say what kind of file it is"),
                "end it in .toml, .json, .yaml or .yml",
            ));
        }
    };
    match parsed {
        Value::Object(table) => Ok(table),
        Value::Null => Ok(serde_json::Map::new()),
        _ => Err(broken(&"it is not a table of keys and values")),
    }
}

/// A table in which no key stands twice. JSON alone lets that pass, and the last one would count.
struct OnceEach;

impl<'de> Deserialize<'de> for OnceEach {
    fn deserialize<D: Deserializer<'de>>(table: D) -> Result<OnceEach, D::Error> {
        table.deserialize_map(OnceEach)
    }
}

impl<'de> Visitor<'de> for OnceEach {
    type Value = OnceEach;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a table of keys and values")
    }

    fn visit_map<M: MapAccess<'de>>(self, mut table: M) -> Result<OnceEach, M::Error> {
        let mut seen = BTreeSet::new();
        while let Some((name, IgnoredAny)) = table.next_entry::<String, IgnoredAny>()? {
            if seen.contains(&name) {
                return Err(M::Error::custom(format!("`{name}` is set twice")));
            }
            seen.insert(name);
        }
        Ok(OnceEach)
    }
}

fn scalar_text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(switch) => Some(switch.to_string()),
        Value::Array(list) => {
            let items: Option<Vec<_>> = list
                .iter()
                .map(|item| if item.is_array() { None } else { scalar_text(item) })
                .collect();
            items.map(|items| items.join(","))
        }
        Value::Null | Value::Object(_) => None,
    }
}
