//! Real configurations (`tests/configs`) with things in them that nobody meant: whatever is read, procrt does not panic,
//! comes to an end, and leaves nothing behind.
//!
//! Thousands of them are read and planned in this process, and hundreds are created and run by the program itself;
//! `PROCRT_STRESS=N` does N hundredths of that.

mod support;

use std::cell::Cell;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use procrt::container::CreateOptions;
use procrt::container::plan::plan;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use proptest::test_runner::{Config, TestCaseResult, TestRunner};
use serde_json::{Value, json};
use support::{Bundle, Outcome, fields, rounds, skipped};

/// What is done to one place of a configuration.
#[derive(Debug, Clone)]
enum Change {
    /// It becomes another value.
    Replace(Value),
    /// It is taken out of its object or list.
    Remove,
    /// Its list has it twice, or its object its key.
    Double,
    /// Its list or object gets one more value.
    Extend(String, Value),
    /// It and another place change their values.
    Swap(Index),
    /// It becomes a list of itself, or an object.
    Wrap(bool),
    /// Its list is in another order.
    Reverse,
    /// A field of the specification gets its own kind of value, or another.
    Field(Index, Option<Value>),
}

/// What stands in the text for what no [`Value`] can have: bytes that are no UTF-8, half a surrogate pair, many brackets,
/// a number with very many digits, a key for the second time.
const BYTES: &str = "@bytes@";
const SURROGATE: &str = "@surrogate@";
const DEEP: &str = "@deep@";
const DIGITS: &str = "@digits@";
const DOUBLE: &str = "@double@";

fn hostile_text() -> impl Strategy<Value = String> {
    let known: Vec<String> = [
        "",
        "\0",
        "a\0b",
        "\n",
        "a\nb=c",
        "\r",
        "\u{1b}[2J",
        "\u{202e}",
        "\u{feff}",
        "é",
        "𝒳",
        " ",
        "\t",
        ".",
        "..",
        "../..",
        "/",
        "//",
        "/..",
        "/../..",
        "/.",
        "a/..",
        "/proc",
        "/dev/null",
        "/sys/fs/cgroup",
        "/dev/pts/ptmx",
        "/proc/self/fd/3",
        "/proc/self/ns/net",
        "/tmp",
        "-",
        "--",
        "=",
        "a=",
        "=a",
        "-1",
        "0",
        "0-",
        "0-0",
        "1,",
        ",",
        "0-99999999",
        "99999999999999999999",
        "0x10",
        "1e9",
        "+1",
        "%s%n",
        "*",
        "max",
        "ro",
        "rw",
        "rro",
        "rbind",
        "bind",
        "remount",
        "idmap",
        "ridmap",
        "shared",
        "rshared",
        "unbindable",
        "size=1",
        "mode=",
        "mode=99999",
        "data",
        "tmpfs",
        "proc",
        "cgroup",
        "mqueue",
        "CAP_",
        "CAP_SYS_ADMIN",
        "ALL",
        "RLIMIT_",
        "RLIMIT_NPROC",
        "SCHED_DEADLINE",
        "SCMP_ACT_NOTIFY",
        "user",
        "time",
        "c",
        "b",
        "a",
        "true",
        "null",
        BYTES,
        SURROGATE,
    ]
    .iter()
    .map(|&text| text.to_owned())
    .collect();
    prop_oneof![
        6 => select(known),
        1 => (1_usize..200_000).prop_map(|length| "x".repeat(length)),
        1 => (1_usize..3000).prop_map(|length| "/a".repeat(length)),
        1 => (1_usize..3000).prop_map(|length| "../".repeat(length)),
        2 => any::<String>(),
    ]
}

fn hostile_value() -> impl Strategy<Value = Value> {
    let numbers = vec![
        json!(0),
        json!(1),
        json!(-1),
        json!(2),
        json!(511),
        json!(512),
        json!(4096),
        json!(65536),
        json!(i32::MAX),
        json!(i32::MIN),
        json!(u32::MAX),
        json!(u32::MAX - 1),
        json!(1_u64 << 32),
        json!(i64::MAX),
        json!(i64::MIN),
        json!(u64::MAX),
        json!(u64::MAX - 1),
        json!(0.5),
        json!(1e308),
        json!(-0.0),
        json!(1e-320),
        json!(DIGITS),
    ];
    let others = vec![json!(null), json!(true), json!(false), json!([]), json!({}), json!([null]), json!(DEEP)];
    prop_oneof![
        3 => select(numbers),
        4 => hostile_text().prop_map(Value::from),
        2 => select(others),
        1 => any::<i64>().prop_map(Value::from),
        1 => any::<u64>().prop_map(Value::from),
        1 => prop::collection::vec(hostile_text().prop_map(Value::from), 0..4).prop_map(Value::from),
        1 => prop::collection::hash_map(hostile_text(), hostile_text().prop_map(Value::from), 0..3)
            .prop_map(|map| Value::Object(map.into_iter().collect())),
    ]
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        6 => hostile_value().prop_map(Change::Replace),
        3 => Just(Change::Remove),
        3 => Just(Change::Double),
        2 => (hostile_text(), hostile_value()).prop_map(|(key, value)| Change::Extend(key, value)),
        3 => any::<Index>().prop_map(Change::Swap),
        1 => any::<bool>().prop_map(Change::Wrap),
        1 => Just(Change::Reverse),
        6 => (any::<Index>(), prop::option::of(hostile_value())).prop_map(|(index, value)| Change::Field(index, value)),
    ]
}

type Changes = (Index, Vec<(Index, Change)>);

/// Which configuration it is, and what is changed in it, and where.
fn changes() -> impl Strategy<Value = Changes> {
    (any::<Index>(), prop::collection::vec((any::<Index>(), change()), 1..5))
}

fn configs() -> Vec<Value> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/configs");
    let mut files: Vec<_> = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files.iter().map(|file| serde_json::from_slice(&fs::read(file).unwrap()).unwrap()).collect()
}

/// JSON pointers to everything in `value`.
fn pointers(value: &Value, at: &str, all: &mut Vec<String>) {
    all.push(at.to_owned());
    match value {
        Value::Object(object) => {
            for (key, value) in object {
                pointers(value, &format!("{at}/{}", key.replace('~', "~0").replace('/', "~1")), all);
            }
        }
        Value::Array(list) => {
            for (index, value) in list.iter().enumerate() {
                pointers(value, &format!("{at}/{index}"), all);
            }
        }
        _ => {}
    }
}

fn apply(config: &mut Value, place: Index, change: &Change) {
    let mut places = Vec::new();
    pointers(config, "", &mut places);
    let pointer = place.get(&places);
    let parent = pointer.rsplit_once('/').map(|(parent, key)| (parent, key.replace("~1", "/").replace("~0", "~")));
    let value = config.pointer(pointer).unwrap().clone();
    match change {
        Change::Replace(new) => *config.pointer_mut(pointer).unwrap() = new.clone(),
        Change::Remove | Change::Double => {
            let Some((parent, key)) = parent else { return };
            match (config.pointer_mut(parent).unwrap(), change) {
                (Value::Object(object), Change::Remove) => drop(object.remove(&key)),
                (Value::Object(object), _) => drop(object.insert(format!("{DOUBLE}{key}"), value)),
                (Value::Array(list), Change::Remove) => drop(list.remove(key.parse().unwrap())),
                (Value::Array(list), _) => list.push(value),
                _ => {}
            }
        }
        Change::Extend(key, new) => match config.pointer_mut(pointer).unwrap() {
            Value::Object(object) => drop(object.insert(key.clone(), new.clone())),
            Value::Array(list) => list.push(new.clone()),
            Value::String(text) => text.push_str(key),
            other => *other = new.clone(),
        },
        Change::Swap(other) => {
            let other = other.get(&places);
            let there = config.pointer(other).unwrap().clone();
            *config.pointer_mut(pointer).unwrap() = there;
            // It may have been inside of what it was changed with.
            if let Some(place) = config.pointer_mut(other) {
                *place = value;
            }
        }
        Change::Wrap(list) => {
            *config.pointer_mut(pointer).unwrap() = if *list { json!([value]) } else { json!({"x": value}) };
        }
        Change::Reverse => {
            if let Value::Array(list) = config.pointer_mut(pointer).unwrap() {
                list.reverse();
            }
        }
        Change::Field(index, value) => {
            let field = index.get(fields::all());
            field.set(config, value.clone().unwrap_or_else(|| field.sample()));
        }
    }
}

fn mutated((index, changes): &Changes, prepare: impl Fn(&mut Value)) -> Value {
    let mut config = index.get(&configs()).clone();
    prepare(&mut config);
    for (place, change) in changes {
        apply(&mut config, *place, change);
    }
    config
}

/// The configuration as a file, with what no [`Value`] can have.
fn text(config: &Value) -> Vec<u8> {
    let text = config.to_string();
    let text = text.replace(DOUBLE, "").replace(SURROGATE, r"\ud800");
    let text = text.replace(&format!("\"{DEEP}\""), &format!("{}{}", "[".repeat(300), "]".repeat(300)));
    let text = text.replace(&format!("\"{DIGITS}\""), &"9".repeat(400));
    let mut bytes = Vec::with_capacity(text.len());
    for (index, part) in text.split(BYTES).enumerate() {
        bytes.extend_from_slice(if index > 0 { b"\xff\xc0\x80" } else { b"" });
        bytes.extend_from_slice(part.as_bytes());
    }
    bytes
}

fn check(cases: usize, shrink: u32, test: impl Fn(Changes) -> TestCaseResult) {
    let config =
        Config { cases: cases as u32, max_shrink_iters: shrink, failure_persistence: None, ..Config::default() };
    TestRunner::new(config).run(&changes(), test).unwrap_or_else(|error| panic!("{error}"));
}

#[test]
fn whatever_is_read_is_planned_or_refused_in_a_sentence() {
    let bundle = Bundle::sleeping();
    let options = CreateOptions { id: "mutated".into(), bundle: bundle.path().to_owned(), ..CreateOptions::default() };
    check(rounds(3000), 2000, |changes| {
        let config = mutated(&changes, |config| config["root"]["path"] = json!("rootfs"));
        fs::write(bundle.join("config.json"), text(&config)).unwrap();
        let begin = Instant::now();
        match plan(&options) {
            Ok((_, plan)) => {
                prop_assert!(!plan.steps().is_empty());
                prop_assert!(serde_json::to_value(&plan).is_ok());
            }
            Err(error) => {
                let sentence = error.to_string();
                prop_assert!(!sentence.is_empty() && !sentence.contains('\n'), "{:?}", sentence);
            }
        }
        prop_assert!(begin.elapsed() < Duration::from_secs(10), "{:?}", begin.elapsed());
        Ok(())
    });
}

/// Makes a configuration one that works on this machine: what it has of another's is this bundle's.
fn settle(config: &mut Value, bundle: &Bundle) {
    config["root"]["path"] = json!("rootfs");
    config["process"]["args"] = json!(["/bin/true"]);
    config["process"]["terminal"] = json!(false);
    config["process"]["cwd"] = json!("/");
    // Without the privilege for more, these can only go one way.
    config["process"]["oomScoreAdj"] = json!(1000);
    config["linux"].as_object_mut().unwrap().remove("netDevices");
    config["process"]["scheduler"] = json!({"policy": "SCHED_BATCH", "nice": 1});
    config["process"]["rlimits"] = json!([{"type": "RLIMIT_NOFILE", "soft": 100, "hard": 200}]);
    if let Some(filter) = config.pointer_mut("/linux/seccomp") {
        filter["defaultAction"] = json!("SCMP_ACT_ALLOW");
    }
    // There is no such device here.
    config["linux"].as_object_mut().unwrap().remove("netDevices");
    for mount in config["mounts"].as_array_mut().into_iter().flatten() {
        if mount["source"].as_str().is_some_and(|source| source.starts_with('/') && !Path::new(source).exists()) {
            mount["source"] = json!(bundle.inside("etc/passwd"));
        } else if mount["type"] == "overlay" || mount["source"] == "volume" {
            *mount = json!({"destination": "/volume", "type": "tmpfs", "source": "tmpfs", "options": ["size=64k"]});
        }
    }
    for namespace in config["linux"]["namespaces"].as_array_mut().into_iter().flatten() {
        namespace.as_object_mut().unwrap().remove("path");
    }
    for hook in config["hooks"].as_object_mut().into_iter().flatten().flat_map(|(_, list)| list.as_array_mut().unwrap())
    {
        *hook = json!({"path": "/bin/true", "args": ["true", "x"], "env": ["A=1"], "timeout": 5});
    }
}

/// What of a configuration has to stay, so that the machine does: it is of this bundle, and its control groups are the
/// test's.
fn pin(config: &mut Value, id: &str) {
    if let Some(path) = config.pointer_mut("/root/path").filter(|path| path.is_string()) {
        *path = json!("rootfs");
    }
    if let Some(Value::String(path)) = config.pointer_mut("/linux/cgroupsPath") {
        *path = format!("/{id}.{}", path.replace('/', "."));
    }
}

/// Runs this test alone, in namespaces in which it cannot do the machine harm: then the answer is no.
fn is_in_namespaces(name: &str) -> bool {
    const INSIDE: &str = "PROCRT_TEST_IN_NAMESPACES";
    if std::env::var_os(INSIDE).is_some() {
        return true;
    }
    let output = Command::new("unshare")
        .args(["--mount", "--net", "--uts", "--ipc", "--propagation", "private"])
        .arg(std::env::current_exe().unwrap())
        .args([name, "--exact", "--nocapture"])
        .env(INSIDE, "1")
        .stdin(Stdio::null())
        .output();
    match output {
        Ok(output) => assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr)),
        Err(error) => skipped(&format!("unshare: {error}")),
    }
    false
}

/// It ended as a program does that knows what it is doing.
fn ended_well(outcome: &Outcome) -> TestCaseResult {
    prop_assert!(![101, 134].contains(&outcome.code()) && !outcome.stderr.contains("panicked"), "{:#?}", outcome);
    Ok(())
}

#[test]
fn whatever_is_created_or_run_ends_and_leaves_nothing() {
    if !is_in_namespaces("whatever_is_created_or_run_ends_and_leaves_nothing") {
        return;
    }
    let bundle = Bundle::sleeping();
    let path = bundle.path().to_str().unwrap();
    // Also for those whose root is not the host's.
    assert!(Command::new("chmod").args(["-R", "a+rwX"]).arg(bundle.inside("")).status().unwrap().success());
    let mut taken = 0;
    for mut config in configs() {
        settle(&mut config, &bundle);
        fs::write(bundle.join("config.json"), config.to_string()).unwrap();
        taken += usize::from(bundle.call(&["run", "--bundle", path, bundle.id()]).code() == 0);
    }
    assert!(taken * 2 > configs().len(), "{taken}");
    let created = Cell::new(0);
    check(rounds(200), 60, |changes| {
        let mut config = mutated(&changes, |config| settle(config, &bundle));
        pin(&mut config, bundle.id());
        fs::write(bundle.join("config.json"), text(&config)).unwrap();
        let create = bundle.call(&["create", "--bundle", path, bundle.id()]);
        ended_well(&create)?;
        if create.code() == 0 {
            created.set(created.get() + 1);
            ended_well(&bundle.call(&["state", bundle.id()]))?;
            let delete = bundle.delete(&["--force"]);
            prop_assert_eq!(delete.code(), 0, "{:#?}", delete);
        }
        prop_assert_eq!(bundle.leftovers(), Vec::<String>::new(), "create: {:#?}", create);
        let run = bundle.call(&["run", "--bundle", path, bundle.id()]);
        ended_well(&run)?;
        prop_assert_eq!(bundle.leftovers(), Vec::<String>::new(), "run: {:#?}", run);
        Ok(())
    });
    // Not all of it is so wrong that nothing was made.
    assert!(created.get() > rounds(200) / 20, "{created:?}");
}
