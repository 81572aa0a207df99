//! Policy files, JSON or TOML.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use super::Policy;
use crate::error::{Context, Error, Result};

/// The most that is read of a file: a policy takes some kilobytes.
const LIMIT: u64 = 1 << 20;

/// The two forms of a policy file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Json,
    Toml,
}

impl Policy {
    /// Reads the file at `path`, or standard input if that is `-`: JSON or TOML by its name's end, and without one that
    /// tells, JSON if it begins with a brace. Paths in it are taken as they are: relative ones are the caller's.
    ///
    /// # Errors
    /// That it cannot be read or has more than 1 MiB; the first thing that is wrong in it, with its field and line.
    pub fn load(path: &Path) -> Result<Self> {
        let what = || format!("read the policy {path:?}");
        let mut text = Vec::new();
        let read = if path == Path::new("-") {
            std::io::stdin().lock().take(LIMIT + 1).read_to_end(&mut text)
        } else {
            File::open(path).context(what)?.take(LIMIT + 1).read_to_end(&mut text)
        };
        read.context(what)?;
        if text.len() as u64 > LIMIT {
            return Err(Error::config(format!("policy {path:?}: has more than 1 MiB, the most that is read")));
        }
        let text = str::from_utf8(&text).map_err(|error| {
            let line = line_after(&text[..error.valid_up_to()]);
            Error::config(format!("policy {path:?}: line {line}: is not UTF-8"))
        })?;
        let form = match path.extension().and_then(|end| end.to_str()) {
            Some("json") => Form::Json,
            Some("toml") => Form::Toml,
            _ if text.trim_start().starts_with('{') => Form::Json,
            _ => Form::Toml,
        };
        parse(text, form).map_err(|(field, line, why)| {
            let field = if field.is_empty() || field == "." { String::new() } else { format!("{field}: ") };
            Error::config(format!("policy {path:?}: line {line}: {field}{why}"))
        })
    }
}

/// The policy, or the field that is wrong, its line, and why.
fn parse(text: &str, form: Form) -> std::result::Result<Policy, (String, usize, String)> {
    match form {
        Form::Json => {
            let mut reader = serde_json::Deserializer::from_str(text);
            let policy = serde_path_to_error::deserialize(&mut reader).map_err(|error| {
                let (field, error) = (error.path().to_string(), error.into_inner());
                (field, error.line(), sentence(&error.to_string()))
            })?;
            reader.end().map_err(|error| (String::new(), error.line(), sentence(&error.to_string())))?;
            let value = serde_json::from_str::<serde_json::Value>(text).unwrap_or_default();
            lists(value.is_array(), |field| value[field].is_array())?;
            Ok(policy)
        }
        Form::Toml => {
            let line = |error: &toml::de::Error| {
                line_after(&text.as_bytes()[..error.span().map_or(0, |span| span.start.min(text.len()))])
            };
            let reader = toml::Deserializer::parse(text)
                .map_err(|error| (String::new(), line(&error), sentence(error.message())))?;
            let policy = serde_path_to_error::deserialize(reader).map_err(|error| {
                let (field, error) = (error.path().to_string(), error.into_inner());
                (field, line(&error), sentence(error.message()))
            })?;
            let value = toml::from_str::<toml::Table>(text).unwrap_or_default();
            lists(false, |field| value.get(field).is_some_and(toml::Value::is_array))?;
            Ok(policy)
        }
    }
}

/// Refuses lists in the place of objects, which serde takes for their fields in order.
fn lists(whole: bool, is_list: impl Fn(&str) -> bool) -> std::result::Result<(), (String, usize, String)> {
    let field = ["limits", "files", "network", "environment"].into_iter().find(|field| is_list(field));
    match (whole, field) {
        (true, _) => Err((String::new(), 1, "is a list, not an object".to_owned())),
        (_, Some(field)) => Err((field.to_owned(), 1, "is a list, not an object".to_owned())),
        _ => Ok(()),
    }
}

/// The number of the line that what follows `text` is in.
fn line_after(text: &[u8]) -> usize {
    text.split(|byte| *byte == b'\n').count()
}

/// An error without its place, which is told before it, and in one line.
fn sentence(text: &str) -> String {
    let text = text.rsplit_once(" at line ").map_or(text, |(text, _)| text);
    text.lines().map(str::trim).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::super::{Level, Size};
    use super::*;

    fn load(name: &str, text: impl AsRef<[u8]>) -> Result<Policy> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        Policy::load(&path)
    }

    #[test]
    fn both_forms_say_the_same() {
        let json = r#"{"level": "default", "limits": {"memory": "64M", "pids": 3}, "files": {"ro": ["/a:/b"]}}"#;
        let toml = "level = 'default'\n[limits]\nmemory = '64M'\npids = 3\n[files]\nro = ['/a:/b']\n";
        let policy = load("p.json", json).unwrap();
        assert_eq!((policy.level, policy.limits.memory), (Some(Level::Default), Some(Size(64 << 20))));
        assert_eq!(load("p.toml", toml).unwrap(), policy);
        assert_eq!(load("p", json).unwrap(), policy);
        assert_eq!(load("p", toml).unwrap(), policy);
        assert_eq!(load("p", "").unwrap(), Policy::default());
    }

    #[test]
    fn what_is_wrong_is_named_with_its_field_and_line() {
        for (name, text, parts) in [
            ("p.json", "{\n\"limit\": 1}", ["line 2", "unknown field `limit`"]),
            ("p.json", "{\"limits\": {\n\n\"memory\": \"12Q\"}}", ["line 3: limits.memory: ", "\"12Q\" is not a size"]),
            ("p.json", "{\"limits\": {\"pids\": -1}}", ["limits.pids: ", "`-1`"]),
            ("p.json", "{\"files\": {\"ro\": [\"/a\", \":\"]}}", ["files.ro[1]: ", "names no path"]),
            ("p.json", "{} x", ["line 1", "trailing"]),
            ("p.json", "{\"level\": \"off\",\n\"level\": \"off\"}", ["line 2", "duplicate field `level`"]),
            ("p.json", "", ["line 1", "EOF"]),
            ("p.json", "[]", ["line 1", "is a list"]),
            ("p.json", "{\"limits\": []}", ["limits: ", "is a list"]),
            ("p.toml", "files = []", ["files: ", "is a list"]),
            ("p.toml", "[limits]\ntimeout = '0'", ["line 2: limits.timeout: ", "no time at all"]),
            ("p.toml", "\nlevel = 'high'", ["line 2: level: ", "unknown variant `high`"]),
            ("p.toml", "x y", ["line 1", "expected"]),
            ("p.toml", "[limits.rlimits]\nnofiles = 3", ["line 2: limits.rlimits", "unknown variant `nofiles`"]),
        ] {
            let error = load(name, text).unwrap_err().to_string();
            assert!(parts.iter().all(|part| error.contains(part)), "{text:?}: {error}");
            assert!(!error.contains('\n'), "{error:?}");
        }
        let error = load("p.json", b"{\n\xff}").unwrap_err().to_string();
        assert!(error.contains("line 2: is not UTF-8"), "{error}");
    }

    #[test]
    fn a_large_file_is_refused_and_not_read() {
        let error = load("p.json", " ".repeat(10 << 20)).unwrap_err().to_string();
        assert!(error.ends_with("has more than 1 MiB, the most that is read"), "{error}");
        let error = Policy::load(Path::new("/dev/zero")).unwrap_err().to_string();
        assert!(error.contains("1 MiB"), "{error}");
    }
}
