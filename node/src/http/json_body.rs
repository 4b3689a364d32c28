//! The JSON body of a dialect's put: `{"value": …}` and what else may stand beside it.
//!
//! The value is never parsed and written again: what a client sends is what is kept, to the letter. Numbers would lose
//! digits otherwise, and objects their repeated keys.

use std::borrow::Cow;
use std::fmt;

use bytes::Bytes;
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::http::answer::Problem;
use crate::http::kv::{self, Options};
use crate::http::media::{self, Media};
use crate::nearest::nearest;

const FIELDS: &[&str] = &["value", "consistency", "context", "ttl"];

/// What a body is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Sent<'a> {
    /// An object with this value; its media type is known.
    Value(Bytes, &'static [u8]),
    /// The value itself.
    Raw(Media<'a>),
}

/// Reads a body of which the headers say `said`. What stands beside the value goes into `options`. An object without
/// a `value` is one itself where `whole_is_a_value`.
pub fn read<'a>(
    body: &[u8],
    said: Media<'a>,
    whole_is_a_value: bool,
    options: &mut Options,
) -> Result<Sent<'a>, Problem> {
    let is_json = said.is(media::JSON);
    let says_nothing = said.is(b"") || said.is(b"application/x-www-form-urlencoded");
    let raw = if says_nothing { Media { kind: b"", ..said } } else { said };
    if !is_json && !says_nothing {
        return Ok(Sent::Raw(raw));
    }
    if !said.encoding.is_empty() {
        if says_nothing || whole_is_a_value {
            return Ok(Sent::Raw(raw));
        }
        return Err(Problem::new(
            hyper::StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "an encoded JSON body is not read",
            "send it without Content-Encoding, or the value itself to /v1/kv/default/{key}",
        ));
    }
    let is_object = body.trim_ascii_start().first() == Some(&b'{');
    let fields = match serde_json::from_slice::<Fields<'_>>(body) {
        Ok(fields) => fields,
        Err(_) if says_nothing => return Ok(Sent::Raw(raw)),
        Err(_) if !is_object && serde_json::from_slice::<&RawValue>(body).is_ok() => {
            if whole_is_a_value {
                return Ok(Sent::Raw(raw));
            }
            return Err(no_value("the body is JSON, but no object"));
        }
        Err(error) => {
            return Err(Problem::bad(
                format!("the body is not JSON: {error}"),
                "send {\"value\": \"…\"}, or another Content-Type for a raw value",
            ));
        }
    };
    if whole_is_a_value && !fields.0.iter().any(|(name, _)| name == "value") {
        return Ok(Sent::Raw(raw));
    }
    fields.taken(options)
}

fn no_value(what: &str) -> Problem {
    Problem::bad(
        format!("{what} with a `value`"),
        "send {\"value\": \"…\"}, or Content-Type: application/octet-stream for a raw value",
    )
}

/// The fields of an object as they stand there.
struct Fields<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

/// A field's name; borrowed where it has no escapes.
struct Name<'a>(Cow<'a, str>);

impl<'de> Deserialize<'de> for Name<'de> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Name<'de>, D::Error> {
        struct Text;
        impl<'de> Visitor<'de> for Text {
            type Value = Name<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a name")
            }

            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Name<'de>, E> {
                Ok(Name(Cow::Borrowed(text)))
            }

            fn visit_str<E>(self, text: &str) -> Result<Name<'de>, E> {
                Ok(Name(Cow::Owned(text.to_owned())))
            }
        }
        from.deserialize_str(Text)
    }
}

impl<'de> Deserialize<'de> for Fields<'de> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Fields<'de>, D::Error> {
        struct Object;
        impl<'de> Visitor<'de> for Object {
            type Value = Fields<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields<'de>, A::Error> {
                let mut fields = Vec::new();
                while let Some((Name(name), value)) = map.next_entry()? {
                    fields.push((name, value));
                }
                Ok(Fields(fields))
            }
        }
        from.deserialize_map(Object)
    }
}

impl Fields<'_> {
    fn taken<'a>(self, options: &mut Options) -> Result<Sent<'a>, Problem> {
        let mut value = None;
        let has_value = self.0.iter().any(|(name, _)| name == "value");
        for (at, (name, field)) in self.0.iter().enumerate() {
            if self.0[..at].iter().any(|(earlier, _)| earlier == name) {
                return Err(Problem::bad(
                    format!("the field `{name}` stands twice in the body"),
                    "send it once: nobody knows which of the two is meant",
                ));
            }
            let is_in_the_query = match name.as_ref() {
                "consistency" => options.level.is_some(),
                "ttl" => options.ttl_ms.is_some(),
                _ => false,
            };
            if is_in_the_query {
                return Err(Problem::bad(
                    format!("`{name}` stands in the query and in the body"),
                    "send it once: nobody knows which of the two is meant",
                ));
            }
            match name.as_ref() {
                "value" => value = Some(kept(field)?),
                "consistency" => {
                    let level = text(name, field)?;
                    options.level = level.map(|level| kv::level(&level)).transpose()?;
                }
                "context" => options.context = text(name, field)?.or(options.context.take()),
                "ttl" => {
                    let ttl = text(name, field)?;
                    options.ttl_ms = ttl.map(|ttl| kv::ttl_ms(&ttl)).transpose()?;
                }
                other => return Err(unknown(other, has_value)),
            }
        }
        let (value, kind) = value.ok_or_else(|| no_value("the body is no JSON object"))?;
        Ok(Sent::Value(value, kind))
    }
}

/// A string is kept as its text, anything else as the JSON that it is.
fn kept(field: &RawValue) -> Result<(Bytes, &'static [u8]), Problem> {
    let json = field.get();
    if !json.starts_with('"') {
        return Ok((Bytes::copy_from_slice(json.as_bytes()), media::JSON));
    }
    let text: String = serde_json::from_str(json).map_err(|error| {
        Problem::bad(format!("`value` is no sound text: {error}"), "send it in UTF-8")
    })?;
    Ok((text.into(), media::TEXT))
}

/// A text, or nothing where the field is null.
fn text(name: &str, field: &RawValue) -> Result<Option<String>, Problem> {
    serde_json::from_str(field.get())
        .map_err(|_| Problem::bad(format!("`{name}` is not a text"), "put it in quotes"))
}

fn unknown(name: &str, has_value: bool) -> Problem {
    let hint = match nearest(name, FIELDS.iter().copied()) {
        Some(near) => format!("did you mean `{near}`?"),
        None if has_value => {
            "the body knows `value`, `consistency`, `context` and `ttl`".to_owned()
        }
        None => return no_value("the body is no JSON object"),
    };
    Problem::bad(format!("unknown field `{name}` in the body"), hint)
}
