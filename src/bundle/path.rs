//! Where a value is in a JSON document: the steps that lead to it, and their text form.

use serde_json::{Value, json};

use super::CONFIG;

/// One step into a JSON value.
#[derive(Debug, Clone, PartialEq)]
pub enum Step {
    /// To the property of this name.
    Key(String),
    /// To this element of a list, from 0.
    Index(usize),
}

/// The steps from the whole document; none of them is the whole.
pub type Path = Vec<Step>;

/// The value at `path`.
pub fn at<'a>(value: &'a Value, path: &[Step]) -> Option<&'a Value> {
    path.iter().try_fold(value, |value, step| match step {
        Step::Key(key) => value.get(key),
        Step::Index(index) => value.get(index),
    })
}

/// The value at `path`, to change it.
pub fn at_mut<'a>(value: &'a mut Value, path: &[Step]) -> Option<&'a mut Value> {
    path.iter().try_fold(value, |value, step| match step {
        Step::Key(key) => value.get_mut(key),
        Step::Index(index) => value.get_mut(index),
    })
}

/// Sets the property at `path`; nothing if that does not lead into an object.
pub fn insert(value: &mut Value, path: &[Step], new: Value) {
    if let Some((Step::Key(key), parent)) = path.split_last()
        && let Some(Value::Object(object)) = at_mut(value, parent)
    {
        object.insert(key.clone(), new);
    }
}

/// `linux.namespaces[2].type`; a key that is no word stands in brackets.
pub fn render(path: &[Step]) -> String {
    if path.is_empty() {
        return CONFIG.to_owned();
    }
    let mut text = String::new();
    for step in path {
        match step {
            Step::Index(index) => text.extend(["[", &index.to_string(), "]"]),
            Step::Key(key) if key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') && !key.is_empty() => {
                if !text.is_empty() {
                    text.push('.');
                }
                text.push_str(key);
            }
            Step::Key(key) => text.extend(["[", &json!(key).to_string(), "]"]),
        }
    }
    text
}

/// An object or a list that the scan is within.
enum Open {
    /// With the place of the last key, quotes included, and whether a key comes next.
    Object(std::ops::Range<usize>, bool),
    /// With the index of the element.
    List(usize),
}

/// The path of the innermost value that the byte at `offset` of a JSON text belongs to: a key belongs to its value, and
/// brackets, commas, colons and spaces to the object or list around them. Of a text that is not JSON, or that ends
/// before, a path that leads nowhere.
pub fn path_at(text: &[u8], offset: usize) -> Path {
    let mut open: Vec<Open> = Vec::new();
    let mut index = 0;
    while let Some(byte) = text.get(index) {
        let begin = index;
        index += 1;
        let mut inside = true;
        match byte {
            b'{' | b'[' if begin < offset => {
                open.push(if *byte == b'{' { Open::Object(0..0, true) } else { Open::List(0) });
            }
            b'}' | b']' => {
                open.pop();
            }
            b',' => {
                inside = false;
                match open.last_mut() {
                    Some(Open::List(element)) if begin < offset => *element += 1,
                    Some(Open::Object(_, expected)) => *expected = true,
                    _ => {}
                }
            }
            b':' | b' ' | b'\t' | b'\r' | b'\n' => inside = false,
            b'"' => {
                index += string_length(&text[index..]);
                if let Some(Open::Object(key, expected @ true)) = open.last_mut() {
                    *key = begin..index;
                    *expected = false;
                }
            }
            _ => {}
        }
        if offset < index {
            if !inside {
                open.pop();
            }
            break;
        }
    }
    let step = |open: &Open| match open {
        Open::List(index) => Step::Index(*index),
        Open::Object(key, _) => Step::Key(serde_json::from_slice(&text[key.clone()]).unwrap_or_default()),
    };
    open.iter().map(step).collect()
}

/// The length of the string that begins behind its opening quote, with its closing quote.
fn string_length(text: &[u8]) -> usize {
    let mut escaped = false;
    for (index, byte) in text.iter().enumerate() {
        match byte {
            b'"' if !escaped => return index + 1,
            b'\\' => escaped = !escaped,
            _ => escaped = false,
        }
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The path of the place in `marked` before which `^` stands.
    fn shown(marked: &str) -> String {
        let offset = marked.find('^').unwrap();
        render(&path_at(marked.replacen('^', "", 1).as_bytes(), offset))
    }

    #[test]
    fn every_byte_of_a_value_and_its_key_is_the_values() {
        for marked in [r#"{"a":1,^"b":2}"#, r#"{"a":1,"b^":2}"#, r#"{"a":1,"b":^2}"#, r#"{"a":1,"b":-2.5e1^0}"#] {
            assert_eq!(shown(marked), "b", "{marked}");
        }
        for marked in [r"[[0],[[],[1,^2]]]", r#"[[0],[[],[1,^"a"]]]"#, r#"[[0],[[],[1,"a^"]]]"#] {
            assert_eq!(shown(marked), "[1][1][1]", "{marked}");
        }
    }

    #[test]
    fn what_is_between_values_is_of_what_is_around_them() {
        for marked in [
            r#"{"a":^{"b":1,"c":2}}"#,
            r#"{"a":{"b":1^,"c":2}}"#,
            r#"{"a":{"b"^:1,"c":2}}"#,
            r#"{"a":{"b":^ 1,"c":2}}"#,
            r#"{"a":{"b":1,"c":2^}}"#,
            r#"{"a":^[]}"#,
            r#"{"a":[^]}"#,
            r#"{"a":[[]^,1]}"#,
        ] {
            assert_eq!(shown(marked), "a", "{marked}");
        }
        assert_eq!(shown(r#"{"a":[[^],1]}"#), "a[0]");
        assert_eq!(shown(r#"{"a":[[],{^}]}"#), "a[1]");
        assert_eq!(shown(r#"{"a":{}^}"#), CONFIG);
        assert_eq!(shown("^{}"), CONFIG);
        assert_eq!(shown("^5"), CONFIG);
    }

    #[test]
    fn brackets_commas_and_quotes_in_strings_are_text() {
        assert_eq!(shown(r#"{"]}\",[":["\\",",",^7]}"#), r#"["]}\",["][2]"#);
        assert_eq!(shown(r#"{"\u00e9\n":{"x":[1,{"y":"}^"}]}}"#), "[\"é\\n\"].x[1].y");
    }

    #[test]
    fn every_path_leads_to_the_value_that_is_there() {
        let value =
            json!({"a": [1, {"b": ["x", null, {"c": {}}]}, []], "d\"": {"e": true, "f": [-0.5, [[3]]]}, "g": "h"});
        for text in [value.to_string(), serde_json::to_string_pretty(&value).unwrap()] {
            for offset in 0..text.len() {
                let path = path_at(text.as_bytes(), offset);
                let found = at(&value, &path).unwrap_or_else(|| panic!("{offset}: {path:?}"));
                let first = text.as_bytes()[offset];
                if first.is_ascii_digit() || first == b'-' {
                    assert!(found.is_number(), "{offset}: {path:?}");
                } else if b"{}".contains(&first) {
                    assert!(found.is_object(), "{offset}: {path:?}");
                } else if b"[]".contains(&first) {
                    assert!(found.is_array(), "{offset}: {path:?}");
                }
            }
        }
    }

    #[test]
    fn text_that_is_no_json_does_no_harm() {
        for text in ["", "\"", "{\"", "{\"a", "]]}}", "{,,:1", "[\"\\", "[1,", "{\"a\\\":1"] {
            for offset in 0..10 {
                let _ = path_at(text.as_bytes(), offset);
            }
        }
    }
}
