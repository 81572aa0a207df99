//! Texts with a NUL character in them: JSON can say it, and the kernel takes it for the end.

use serde_json::Value;

use super::path::{Path, Step, render};
use crate::error::Faults;

/// Records every text of a configuration that has one, and every key; but not of annotations, which are handed on as they
/// are, nor of lists that their slices look through themselves.
pub fn check(text: &[u8], faults: &mut Faults) {
    // As good as none has the escape, so the whole is not looked through again.
    let has_escape = text.split(|byte| *byte == b'\\').skip(1).any(|rest| rest.starts_with(b"u0000"));
    if has_escape && let Ok(value) = serde_json::from_slice(text) {
        walk(&value, &mut Path::new(), faults);
    }
}

fn walk(value: &Value, path: &mut Path, faults: &mut Faults) {
    match value {
        Value::String(text) if text.contains('\0') => {
            faults.add(render(path), format_args!("{text:?} has a NUL byte in it"));
        }
        Value::Array(list) => {
            for (index, value) in list.iter().enumerate() {
                path.push(Step::Index(index));
                walk(value, path, faults);
                path.pop();
            }
        }
        Value::Object(object) => {
            for (key, value) in object {
                path.push(Step::Key(key.clone()));
                if key.contains('\0') {
                    faults.add(render(path), "the key has a NUL byte in it");
                } else if !is_looked_through(path) {
                    walk(value, path, faults);
                }
                path.pop();
            }
        }
        _ => {}
    }
}

fn is_looked_through(path: &[Step]) -> bool {
    let keys: Vec<&str> =
        path.iter().filter_map(|step| if let Step::Key(key) = step { Some(key.as_str()) } else { None }).collect();
    matches!(keys[..], ["annotations" | "hooks"] | ["process", "args" | "env"])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str) -> String {
        let mut faults = Faults::default();
        check(text.as_bytes(), &mut faults);
        faults.into_result().map_or_else(|error| error.to_string(), |()| String::new())
    }

    #[test]
    fn every_text_with_a_nul_is_named_and_annotations_are_not() {
        assert_eq!(found(r#"{"hostname":"a\\u0000","annotations":{"a":"\u0000"}}"#), "");
        assert_eq!(
            found(
                r#"{"hostname":"a\u0000b","mounts":[{},{"options":["x","\u0000"]}],"linux":{"sysctl":{"a\u0000":"1"}}}"#
            ),
            "hostname: \"a\\0b\" has a NUL byte in it; \
             linux.sysctl[\"a\\u0000\"]: the key has a NUL byte in it; \
             mounts[1].options[1]: \"\\0\" has a NUL byte in it"
        );
    }
}
