//! The fields of a Linux container's configuration, as the runtime specification's JSON schema has them
//! (`tests/fields/linux-1.3.0.jsonl`, which `tests/fields/from-schema` writes).

use std::sync::OnceLock;

use serde_json::{Map, Value, json};

const LIST: &str = include_str!("../fields/linux-1.3.0.jsonl");

/// A value that has no parts of its own.
#[derive(Debug, Clone)]
pub struct Field {
    /// `linux.devices[].path`: `[]` is each element of a list, `{}` each value of an object with free keys.
    pub path: String,
    about: Value,
}

/// One step on the way to a value.
#[derive(Debug, Clone, PartialEq)]
enum Step<'a> {
    Key(&'a str),
    Element,
    Free,
}

/// The key that stands for any in an object with free keys.
const FREE: &str = "x";

/// Every field of the list.
pub fn all() -> &'static [Field] {
    static ALL: OnceLock<Vec<Field>> = OnceLock::new();
    ALL.get_or_init(|| {
        let fields = LIST.lines().map(|line| {
            let about: Value = serde_json::from_str(line).unwrap();
            Field { path: about["path"].as_str().unwrap().to_owned(), about }
        });
        fields.collect()
    })
}

impl Field {
    /// `string`, `integer` or `boolean`.
    pub fn typ(&self) -> &str {
        self.about["type"].as_str().unwrap()
    }

    /// What the schema says of it beside that: `minimum`, `maximum`, `enum`, `pattern`.
    pub fn limit(&self, name: &str) -> Option<&Value> {
        self.about.get(name)
    }

    /// The object that it is in has to have it.
    pub fn is_required(&self) -> bool {
        self.about.get("required").is_some()
    }

    fn steps(&self) -> Vec<Step<'_>> {
        let mut steps = Vec::new();
        for part in self.path.split('.') {
            let name = part.trim_end_matches("[]").trim_end_matches("{}");
            steps.push(Step::Key(name));
            match &part[name.len()..] {
                "" => {}
                "[]" => steps.push(Step::Element),
                "{}" => steps.push(Step::Free),
                other => panic!("{}: {other}", self.path),
            }
        }
        steps
    }

    /// The objects and lists that it is in, as paths: `linux.devices[].path` is in `linux.devices[]`, `linux.devices` and
    /// `linux`.
    pub fn around(&self) -> Vec<String> {
        let ends = self.path.char_indices().filter(|(_, character)| ".[{".contains(*character));
        ends.map(|(end, _)| self.path[..end].to_owned()).collect()
    }

    /// How an error names the value that [`Field::set`] has set.
    pub fn rendered(&self) -> String {
        self.path.replace("[]", "[0]").replace("{}", &format!(".{FREE}"))
    }

    /// Sets the value in `config`: the first element of a list, the key [`FREE`] of an object with free keys. What the
    /// objects around it have to have is set too, if it is not there.
    pub fn set(&self, config: &mut Value, value: Value) {
        *at(config, &self.steps()) = value;
        let own = self.steps();
        for other in all().iter().filter(|other| other.path != self.path && other.is_companion()) {
            let steps = other.steps();
            // In one of the objects that this is in, at whatever depth.
            let object = &steps[..steps.len() - if steps.ends_with(&[Step::Element]) { 2 } else { 1 }];
            if own.starts_with(object) {
                let place = at(config, &steps);
                if place.is_null() {
                    *place = other.sample();
                }
            }
        }
    }

    fn is_companion(&self) -> bool {
        // The schema asks for at least one name, and the specification's text for the others.
        let in_text = ["linux.seccomp.syscalls[].names[]", "linux.memoryPolicy.mode", "linux.personality.domain"];
        self.is_required() || in_text.contains(&self.path.as_str())
    }

    /// A value that the field may have.
    pub fn sample(&self) -> Value {
        if let Some(words) = self.limit("enum") {
            return words[0].clone();
        }
        match (self.typ(), self.path.rsplit('.').next().unwrap()) {
            ("boolean", _) => json!(true),
            ("integer", _) => json!(1),
            (_, "ociVersion") => json!("1.3.0"),
            (_, "path" | "destination" | "cwd") => json!("/dev/fields"),
            (_, "type") if self.path.starts_with("process") => json!("RLIMIT_CPU"),
            (_, "type") if self.path.starts_with("mounts") => json!("tmpfs"),
            (_, "type") => json!("c"),
            (_, "pageSize") => json!("2MB"),
            (_, "names[]") => json!("read"),
            (_, "access") => json!("r"),
            (_, "options[]") => json!("ro"),
            (_, "memBwSchema") => json!("MB:0=10"),
            (_, "initial" | "final" | "cpus" | "mems" | "nodes") => json!("0"),
            _ if self.path.starts_with("process.capabilities") => json!("CAP_KILL"),
            _ => json!("x"),
        }
    }
}

/// The place of what a field is in ([`Field::around`]), in a configuration in which the field was set.
pub fn place<'a>(config: &'a mut Value, around: &str) -> &'a mut Value {
    let outer = Field { path: around.to_owned(), about: Value::Null };
    at(config, &outer.steps())
}

/// The place that the steps lead to; what is missing on the way is made.
fn at<'a>(mut value: &'a mut Value, steps: &[Step]) -> &'a mut Value {
    for step in steps {
        let key = match step {
            Step::Element => {
                if !value.is_array() {
                    *value = json!([null]);
                }
                let list = value.as_array_mut().unwrap();
                if list.is_empty() {
                    list.push(Value::Null);
                }
                value = &mut list[0];
                continue;
            }
            Step::Key(key) => *key,
            Step::Free => FREE,
        };
        if !value.is_object() {
            *value = Value::Object(Map::new());
        }
        value = value.as_object_mut().unwrap().entry(key).or_insert(Value::Null);
    }
    value
}
