//! Why a `config.json` is not a [`Spec`]: looked for only when the fast parse has failed.
//!
//! The parser stops at the first value that it cannot take. To name all of them, the file is parsed again as bare JSON,
//! and that is written as text and parsed over and over: each time one fault is found, noted, and taken out. Reading
//! text again, instead of converting the tree, keeps a second copy of the parser for [`Spec`] out of the program.

use oci_spec::runtime::Spec;
use serde_json::error::Category;
use serde_json::{Map, Value, json};

use super::path::{Path, Step, at, at_mut, insert, path_at, render};
use super::{CONFIG, objects, validate};
use crate::error::{Error, Faults, Result};

/// How often a file is parsed again at most.
const MOST: usize = 128;

/// How many bytes are parsed again in all at most, so that a large and wrong file is refused as fast as a small one.
const MOST_BYTES: usize = 4 << 20;

/// Sections that are for other platforms: beside a `linux` section they are like any unknown property.
const FOREIGN: [&str; 4] = ["windows", "solaris", "vm", "zos"];

/// What stands in for a required value that is missing, until one of them is of its type.
fn stand_ins() -> [Value; 4] {
    [json!(""), json!({}), json!([]), json!(0)]
}

/// Finds what is wrong in `text`, which failed to parse with `first`.
///
/// # Errors
/// `Kind::Config` that names the line and column if `text` is no JSON, else every value that is of a wrong type,
/// unknown or missing, with what [`validate`] finds in the rest. It is no error if only sections of other platforms
/// were wrong, or names of capabilities: then the configuration is without them, and of the latter there is a warning.
pub fn explain(text: &[u8], first: &serde_json::Error) -> Result<Spec> {
    let mut value: Value = serde_json::from_slice(text).map_err(|error| located(&error))?;
    // In bare JSON a later property replaces an earlier one of its name.
    if first.to_string().starts_with("duplicate field") {
        return Err(located(first));
    }
    let Some(object) = value.as_object_mut() else {
        return Err(Error::config(format!("{CONFIG}: {} is not an object", show(&value))));
    };
    if object.contains_key("linux") {
        object.retain(|key, _| !FOREIGN.contains(&key.as_str()));
    }
    let mut search = Search::default();
    let unknown = search.take_unknown_capabilities(&mut value);
    let rounds = (MOST_BYTES / text.len().max(1)).clamp(1, MOST);
    let spec = (0..rounds).find_map(|_| search.round(&mut value));
    match spec {
        Some(spec) if search.found.is_empty() => {
            for name in unknown {
                log::warn!("process.capabilities: {name} cannot be given: it is not a known capability");
            }
            Ok(spec)
        }
        spec => Err(search.into_error(spec.as_ref())),
    }
}

/// A fault of the JSON itself, by line and column.
fn located(error: &serde_json::Error) -> Error {
    Error::config(format!("{CONFIG}: line {} column {}: {}", error.line(), error.column(), message(error)))
}

/// What the parser says, without the place.
fn message(error: &serde_json::Error) -> String {
    let mut sentence = error.to_string();
    let place = format!(" at line {} column {}", error.line(), error.column());
    if sentence.ends_with(&place) {
        sentence.truncate(sentence.len() - place.len());
    }
    sentence
}

/// Which value of `text` is meant by `error`, of which [`message`] is `message`. `text` is JSON in one line and without
/// spaces, so that the column is the number of bytes that were read.
fn place(text: &[u8], error: &serde_json::Error, message: &str) -> Path {
    let read = error.column();
    let next = text.get(read);
    let byte = if message.starts_with("invalid type: map") || message.starts_with("invalid type: sequence") {
        // The parser does not enter an object or a list that it does not expect.
        if matches!(next, Some(b'{' | b'[')) { read } else { read.saturating_sub(1) }
    } else if error.classify() != Category::Data
        || message.starts_with("missing field `")
        || message.starts_with("invalid length ")
    {
        // What it looked at last: the begin of a value, or the end of an object or a list.
        read.saturating_sub(1)
    } else {
        // A value that was read, and perhaps the end of its list or object, or the comma behind it.
        let behind = text.get(..read).unwrap_or(text).iter().rposition(|byte| !b",]}".contains(byte));
        behind.unwrap_or_default()
    };
    path_at(text, byte)
}

#[derive(Default)]
struct Search {
    /// What was found, by its path in the file.
    found: Vec<(Path, String)>,
    /// The list elements that were taken out, by their paths in the file: later ones of their lists have moved up.
    removed: Vec<Path>,
    /// The required values that were missing: once for every stand-in that was tried.
    missing: Vec<Path>,
}

impl Search {
    /// Takes out words that are no capabilities, and gives them, each once: the specification wants a warning of them.
    fn take_unknown_capabilities(&mut self, value: &mut Value) -> Vec<String> {
        let sets: Path = ["process", "capabilities"].map(|key| Step::Key(key.to_owned())).into();
        let names: Vec<String> =
            at(value, &sets).and_then(Value::as_object).into_iter().flat_map(Map::keys).cloned().collect();
        let mut unknown = Vec::new();
        for name in names {
            let set = [sets.as_slice(), &[Step::Key(name)]].concat();
            let words = at(value, &set).and_then(Value::as_array).cloned().unwrap_or_default();
            // From the last on, so that what is before stays where it is.
            for (index, word) in words.iter().enumerate().rev() {
                if word.as_str().is_some_and(|word| !objects::is_capability(word)) {
                    self.remove(value, &[set.as_slice(), &[Step::Index(index)]].concat());
                    if !unknown.contains(&show(word)) {
                        unknown.push(show(word));
                    }
                }
            }
        }
        unknown
    }

    /// Parses once; takes a fault out of `value` if there is one.
    fn round(&mut self, value: &mut Value) -> Option<Spec> {
        let text = serde_json::to_vec(value).unwrap_or_default();
        let error = match objects::from_slice::<Spec>(&text) {
            Ok(spec) => return Some(spec),
            Err(error) => error,
        };
        let message = message(&error);
        let mut path = place(&text, &error, &message);
        if let Some(field) = message.strip_prefix("missing field `").and_then(|rest| rest.strip_suffix('`')) {
            path.push(Step::Key(field.to_owned()));
            let original = self.original(&path);
            self.note(&original, || "is missing".to_owned());
            let tried = self.missing.iter().filter(|missing| **missing == original).count();
            self.missing.push(original);
            match stand_ins().into_iter().nth(tried) {
                Some(stand_in) => insert(value, &path, stand_in),
                None => self.remove(value, &path[..path.len() - 1]),
            }
        } else {
            let original = self.original(&path);
            self.note(&original, || describe(&message, at(value, &path), &path));
            self.remove(value, &path);
        }
        None
    }

    /// Notes a fault, unless it only follows from one at the same place or below.
    fn note(&mut self, path: &Path, what: impl FnOnce() -> String) {
        if !self.found.iter().any(|(found, _)| found.starts_with(path)) {
            self.found.push((path.clone(), what()));
        }
    }

    /// Takes out what is at `path`; the whole if that is the whole.
    fn remove(&mut self, value: &mut Value, path: &[Step]) {
        let Some((last, parent)) = path.split_last() else {
            *value = json!({});
            return;
        };
        let original = self.original(path);
        match (at_mut(value, parent), last) {
            (Some(Value::Object(object)), Step::Key(key)) => {
                object.remove(key);
            }
            (Some(Value::Array(elements)), Step::Index(index)) if *index < elements.len() => {
                elements.remove(*index);
                self.removed.push(original);
            }
            // The parser's path does not lead to a value: without this, nothing would change.
            _ => *value = json!({}),
        }
    }

    /// Where in the file that is which is now at `path`.
    fn original(&self, path: &[Step]) -> Path {
        let mut original = Path::with_capacity(path.len());
        for step in path {
            let Step::Index(mut index) = *step else {
                original.push(step.clone());
                continue;
            };
            let mut gone: Vec<usize> =
                self.removed.iter().filter_map(|removed| element_of(removed, &original)).collect();
            gone.sort_unstable();
            for removed in gone {
                if removed <= index {
                    index += 1;
                }
            }
            original.push(Step::Index(index));
        }
        original
    }

    /// All that was found, and what is wrong in `spec`, which is the rest.
    fn into_error(self, spec: Option<&Spec>) -> Error {
        let found: Vec<(String, String)> = self.found.into_iter().map(|(path, what)| (render(&path), what)).collect();
        let mut faults = Faults::default();
        let rest = spec.map(validate::check).unwrap_or_default();
        for (path, what) in rest.into_iter().filter(|(path, _)| !found.iter().any(|(found, _)| follows(path, found))) {
            faults.add(path, what);
        }
        for (path, what) in found {
            faults.add(path, what);
        }
        match faults.into_result() {
            Err(error) => error,
            Ok(()) => Error::config(format!("{CONFIG}: is not a configuration")),
        }
    }
}

/// Whether a fault of `path` may be there only because what is at `found` was taken out.
fn follows(path: &str, found: &str) -> bool {
    let within = |inner: &str, outer: &str| {
        inner.strip_prefix(outer).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
    };
    within(path, found)
        || within(found, path)
        || (matches!(path, "hostname" | "domainname") && within(found, "linux.namespaces"))
}

/// The index of `element` in the list at `list`, if it is an element of that.
fn element_of(element: &[Step], list: &[Step]) -> Option<usize> {
    match element.split_last() {
        Some((Step::Index(index), parent)) if parent == list => Some(*index),
        _ => None,
    }
}

/// The parser's `message` about `value` in this project's words.
fn describe(message: &str, value: Option<&Value>, path: &[Step]) -> String {
    let shown = value.map_or_else(|| "this".to_owned(), show);
    if message.starts_with("unknown variant") {
        let known: Vec<&str> = message.split('`').skip(3).step_by(2).map(objects::as_specified).collect();
        return format!("{shown} is not a known {} (known: {})", noun(path), known.join(", "));
    }
    if (message.starts_with("invalid type: ") || message.starts_with("invalid value: "))
        && let Some((_, expected)) = message.rsplit_once(", expected ")
    {
        return format!("{shown} is not {}", expectation(expected));
    }
    // What the parser says may have the value in it, which stands before it as JSON.
    format!("{shown}: {}", message.replace(char::is_control, " "))
}

/// What the values of the enumeration at `path` are called.
fn noun(path: &[Step]) -> &'static str {
    let mut keys = path.iter().rev().filter_map(|step| match step {
        Step::Key(key) => Some(key.as_str()),
        Step::Index(_) => None,
    });
    match (keys.next().unwrap_or_default(), keys.next().unwrap_or_default()) {
        ("type", "namespaces") => "namespace",
        ("type", "rlimits") => "resource limit",
        ("type", "devices") => "device type",
        ("defaultAction" | "action", _) => "seccomp action",
        ("architectures", _) => "architecture",
        ("op", _) => "seccomp operator",
        ("flags", "seccomp") => "seccomp flag",
        ("policy", "scheduler") => "scheduling policy",
        ("flags", "scheduler") => "scheduling flag",
        ("class", "ioPriority") => "I/O priority class",
        ("domain", "personality") => "personality",
        ("mode", "memoryPolicy") => "memory policy",
        ("flags", "memoryPolicy") => "memory policy flag",
        _ => "value",
    }
}

/// The parser's name of a type as words.
fn expectation(expected: &str) -> &str {
    match expected {
        "u8" => "an integer from 0 to 255",
        "u16" => "an integer from 0 to 65535",
        "u32" => "an integer from 0 to 4294967295",
        "u64" | "usize" => "an integer from 0 to 18446744073709551615",
        "i32" => "an integer from -2147483648 to 2147483647",
        "i64" => "an integer from -9223372036854775808 to 9223372036854775807",
        "a boolean" => "true or false",
        "a sequence" => "a list",
        "path string" => "a string",
        "a map" => "an object",
        other if other.starts_with("struct ") => "an object",
        other => other,
    }
}

/// A value as JSON, if it is short.
fn show(value: &Value) -> String {
    match value {
        Value::Array(_) => "a list".to_owned(),
        Value::Object(_) => "an object".to_owned(),
        Value::String(text) if text.chars().count() > 80 => {
            format!("{}…", json!(text.chars().take(80).collect::<String>()))
        }
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests;
