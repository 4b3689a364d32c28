//! A fault made smaller, for the shrinker.
//!
//! What is smaller follows from the names of the fields in JSON (`_ms`, `node`, lists), so that a fault that is added later
//! shrinks without a word of its own. What does not read back as a fault is none.

use serde_json::{Map, Value};

use crate::fault::Fault;

impl Fault {
    /// The fault with one of its times halved, or without one item of a list.
    #[must_use]
    pub fn simpler(&self) -> Vec<Fault> {
        let value = serde_json::to_value(self).expect("a fault has only plain fields");
        let mut variants = Vec::new();
        smaller(&value["what"], &mut variants);
        let read = |what: Value| {
            let mut value = value.clone();
            value["what"] = what;
            serde_json::from_value(value).ok()
        };
        variants.into_iter().filter_map(read).collect()
    }

    /// The fault in a cluster without a node, where the others have new names; `None` when nothing of it is left.
    #[must_use]
    pub fn without_node(&self, gone: u32, new_name: &impl Fn(u32) -> u32) -> Option<Fault> {
        let value = serde_json::to_value(self).expect("a fault has only plain fields");
        serde_json::from_value(value_without(&value, gone, new_name)?).ok()
    }
}

/// The value with one of its times halved or with one item of one of its lists left out.
fn smaller(value: &Value, variants: &mut Vec<Value>) {
    let Some(fields) = value.as_object() else {
        return;
    };
    for (name, field) in fields {
        let mut put = |new: Value| {
            let mut fields = fields.clone();
            fields[name] = new;
            variants.push(Value::Object(fields));
        };
        match field {
            // Times below ten milliseconds are short already.
            Value::Number(number) if name.ends_with("_ms") => {
                let ms = number.as_i64().filter(|ms| ms.abs() >= 10);
                ms.into_iter().for_each(|ms| put((ms / 2).into()));
            }
            Value::Array(items) if items.len() > 1 => {
                for at in 0..items.len() {
                    let mut fewer = items.clone();
                    fewer.remove(at);
                    put(fewer.into());
                }
            }
            Value::Object(_) => {
                let mut inner = Vec::new();
                smaller(field, &mut inner);
                inner.into_iter().for_each(&mut put);
            }
            _ => {}
        }
    }
}

/// A field named `node`, `from` or `to`, and the numbers in a list, are nodes.
fn value_without(value: &Value, gone: u32, new_name: &impl Fn(u32) -> u32) -> Option<Value> {
    let node = |value: &Value| {
        let node = value.as_u64().map(|node| node as u32);
        node.filter(|&node| node != gone).map(|node| new_name(node).into())
    };
    let fields = value.as_object()?.iter().map(|(name, field)| {
        let field = match field {
            Value::Number(_) if matches!(name.as_str(), "node" | "from" | "to") => node(field)?,
            Value::Array(items) => {
                let whole = |item: &Value| match item {
                    Value::Array(pair) => {
                        pair.iter().map(node).collect::<Option<Vec<_>>>().map(Value::Array)
                    }
                    item => node(item),
                };
                let left: Vec<Value> = items.iter().filter_map(whole).collect();
                if left.is_empty() && !items.is_empty() {
                    return None;
                }
                left.into()
            }
            Value::Object(_) => value_without(field, gone, new_name)?,
            other => other.clone(),
        };
        Some((name.clone(), field))
    });
    fields.collect::<Option<Map<String, Value>>>().map(Value::Object)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fault::Trigger;
    use crate::fault::partitions::Cut;

    fn cut(links: &[(u32, u32)], for_ms: u64) -> Fault {
        let what = Cut { name: "x".into(), links: links.to_vec(), for_ms }.into();
        Fault { when: Trigger::At { ms: 5 }, what }
    }

    #[test]
    fn every_time_of_a_fault_gets_shorter_and_every_list_too() {
        let simpler = cut(&[(0, 1), (1, 0)], 100).simpler();
        let wanted = [cut(&[(0, 1), (1, 0)], 50), cut(&[(1, 0)], 100), cut(&[(0, 1)], 100)];
        // In which order the fields are tried is for serde_json to say, whose maps a feature of another crate may reorder.
        assert_eq!(simpler.len(), wanted.len());
        assert!(wanted.iter().all(|fault| simpler.contains(fault)), "{simpler:?}");
    }

    #[test]
    fn a_fault_keeps_what_is_left_of_its_links_without_a_node() {
        let new_name = |node: u32| node - u32::from(node > 0);
        assert_eq!(cut(&[(0, 1), (1, 2)], 9).without_node(0, &new_name), Some(cut(&[(0, 1)], 9)));
        assert_eq!(cut(&[(0, 1), (1, 0)], 9).without_node(0, &new_name), None);
    }
}
