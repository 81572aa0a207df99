//! What is wrong with a policy is a sentence with its field, exit status 125 or 99, and nothing is made; and what a policy
//! comes to can be printed.

mod support;

use std::fs;
use std::process::{Command, Stdio};

use serde_json::{Value, json};
use support::plain::{ID, User};
use support::{Outcome, PROCRT, skipped};

/// Whether level `default` can be had.
fn landlock() -> bool {
    let there = procrt::sys::landlock::abi() >= 3;
    if !there {
        skipped("this kernel has no landlock that holds files");
    }
    there
}

fn sandbox(args: &[&str]) -> Command {
    let mut command = Command::new(PROCRT);
    command.arg("sandbox").args(args).stdin(Stdio::null());
    command
}

/// Runs a command that leaves a mark, with options that are refused: the status, and the one sentence.
#[track_caller]
fn refused(options: &[&str]) -> (i32, String) {
    let (dir, temporary) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let result = dir.path().join("result");
    let mut command = sandbox(&["run", "--result", result.to_str().unwrap()]);
    command.args(options).args(["--", "touch", "mark"]).current_dir(dir.path()).env("TMPDIR", temporary.path());
    let outcome = Outcome::of(&mut command);
    assert_eq!(outcome.stdout, "", "{options:?}");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0, "{options:?}: something was made");
    assert_eq!(fs::read_dir(temporary.path()).unwrap().count(), 0, "{options:?}: something is left");
    let sentence = outcome.stderr.strip_suffix('\n').unwrap_or_else(|| panic!("{outcome:#?}")).to_owned();
    assert!(!sentence.contains('\n'), "{sentence}");
    (outcome.code(), sentence)
}

#[test]
fn bad_input_is_a_sentence_with_its_field_and_status_125() {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = dir.path().join(name);
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let unknown = file("unknown.json", "{\"limits\": {\n  \"memroy\": \"1G\"}}");
    let size = file("size.toml", "[limits]\nmemory = '12Q'\n");
    let large = file("large.json", &format!("{{}}{}", " ".repeat(10 << 20)));
    let cases: &[(&[&str], &[&str])] = &[
        (&["--policy", &unknown], &["line 2", "limits.memroy", "unknown field"]),
        (&["--policy", &size], &["line 2", "limits.memory", "12Q"]),
        (&["--policy", &large], &["large.json", "1 MiB"]),
        (&["--policy", "/no/such/file"], &["/no/such/file"]),
        (&["--memory", "12Q"], &["--memory", "12Q"]),
        (&["--timeout", "soon"], &["--timeout", "soon"]),
        (&["--no-such-option"], &["--no-such-option"]),
        (&["--ro", "/usr", "--rw", "/usr"], &["files.rw[0]", "contradicts files.ro[0]"]),
        (&["--rw", "/usr/lib", "--deny", "/usr"], &["files.rw[0]", "contradicts files.deny[0]"]),
        (&["--ro", "/no/such"], &["files.ro[0]", "/no/such", "no such file"]),
        (&["--workspace", "/etc/passwd"], &["files.workspace", "/etc/passwd", "not a directory"]),
        (&["--env", "GITHUB_TOKEN=x"], &["environment.set.GITHUB_TOKEN", "--allow-secret-env GITHUB_TOKEN"]),
        (&["--pass-env", "AWS_PROFILE"], &["environment.pass[0]", "AWS_PROFILE"]),
        (&["--allow-tcp", "80"], &["network.allow_tcp", "80", "host"]),
        (&["--level", "container"], &["level", "container", "--rootfs"]),
        (&["--level", "default", "--runtime", "runc"], &["runtime", "runc"]),
        (&["--user", "root"], &["user", "\"root\""]),
        (&["--memory", "1K"], &["limits.memory", "1K"]),
        (&["--seccomp", "/no/such.json"], &["seccomp", "/no/such.json"]),
    ];
    for (options, parts) in cases {
        let (status, sentence) = refused(options);
        assert_eq!(status, 125, "{options:?}: {sentence}");
        assert!(parts.iter().all(|part| sentence.contains(part)), "{options:?}: {sentence}");
    }
}

#[test]
fn what_this_host_or_level_lacks_is_status_99() {
    if !landlock() {
        return;
    }
    let cases: &[(&[&str], &[&str])] = &[
        (&["--runtime", "/no/such/runtime"], &["runtime", "/no/such/runtime"]),
        (&["--level", "off", "--network", "none"], &["network.mode", "off"]),
        (&["--level", "default", "--overlay", "/usr"], &["files.overlay[0]", "/usr"]),
    ];
    for (options, parts) in cases {
        let (status, sentence) = refused(options);
        assert_eq!(status, 99, "{options:?}: {sentence}");
        assert!(parts.iter().all(|part| sentence.contains(part)), "{options:?}: {sentence}");
    }
    let mut command = sandbox(&["run", "--level", "maximum", "--", "/bin/true"]);
    let outcome = Outcome::of(command.env("PATH", "/no/such"));
    assert_eq!(outcome.code(), 99);
    assert!(outcome.stderr.contains("maximum") && outcome.stderr.contains("runsc"), "{outcome:#?}");
}

#[test]
fn a_wrong_use_is_status_125_too() {
    for args in [&["nix"][..], &["run"], &["run", "--", ""], &["policy", "x"]] {
        assert_eq!(Outcome::of(&mut sandbox(args)).code(), 125, "{args:?}");
    }
}

#[test]
fn the_policy_in_force_is_a_policy_again() {
    if !landlock() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let options = ["--level", "default", "--ro", "/usr/lib", "--env", "A=b", "--timeout", "90s", "--cpus", "50%"];
    let print = |args: &[&str]| {
        let mut command = sandbox(&["policy"]);
        Outcome::of(command.args(args).current_dir(dir.path())).ok()
    };
    let printed = print(&options);
    let value: Value = serde_json::from_str(&printed).unwrap();
    assert_eq!(value["limits"]["timeout"], "90s");
    assert_eq!(value["network"]["mode"], "none");
    let file = dir.path().join("policy.json");
    fs::write(&file, &printed).unwrap();
    assert_eq!(print(&["--policy", file.to_str().unwrap()]), printed);
}

#[test]
fn the_schema_takes_policies_and_refuses_what_the_program_refuses() {
    if !landlock() {
        return;
    }
    let schema: Value = serde_json::from_str(&Outcome::of(&mut sandbox(&["policy", "--schema"])).ok()).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let mut print = sandbox(&["policy", "--level", "default"]);
    let printed: Value = serde_json::from_str(&Outcome::of(print.current_dir(dir.path())).ok()).unwrap();
    for policy in [
        printed,
        json!({}),
        json!({"level": "enhanced", "limits": {"memory": 1_000_000, "cpus": 0.5, "rlimits": {"nofile": "64"}}}),
        json!({"files": {"ro": ["/usr:/x"], "hide_home": false}, "network": {"mode": "host", "allow_tcp": [80]}}),
        json!({"environment": {"set": {"A": "b"}, "pass": ["C"]}, "user": "1:2", "seccomp": "none"}),
    ] {
        assert_eq!(fits(&schema, &schema, &policy), Ok(()), "{policy}");
        serde_json::from_value::<procrt::sandbox::Policy>(policy).unwrap();
    }
    for policy in [
        json!({"limit": {}}),
        json!({"limits": {"memroy": 1}}),
        json!({"level": "high"}),
        json!({"limits": {"pids": "many"}}),
        json!({"limits": {"rlimits": {"files": 1}}}),
        json!({"files": {"ro": "/usr"}}),
        json!({"network": {"allow_tcp": [70000]}}),
    ] {
        assert!(fits(&schema, &schema, &policy).is_err(), "{policy}");
        assert!(serde_json::from_value::<procrt::sandbox::Policy>(policy.clone()).is_err(), "{policy}");
    }
}

/// Whether a value is what a schema says: as much of JSON Schema as this one uses; a word that is not known is an error.
fn fits(root: &Value, schema: &Value, value: &Value) -> Result<(), String> {
    let Some(words) = schema.as_object() else {
        return if schema == &json!(false) { Err(format!("{value} is not allowed")) } else { Ok(()) };
    };
    for (word, of) in words {
        match word.as_str() {
            "$ref" => fits(root, root.pointer(of.as_str().unwrap().trim_start_matches('#')).unwrap(), value)?,
            "type" => {
                let is = |kind: &Value| match kind.as_str().unwrap() {
                    "object" => value.is_object(),
                    "array" => value.is_array(),
                    "string" => value.is_string(),
                    "number" => value.is_number(),
                    "integer" => value.is_u64() || value.is_i64(),
                    "boolean" => value.is_boolean(),
                    "null" => value.is_null(),
                    other => panic!("type {other}"),
                };
                if !of.as_array().map_or_else(|| is(of), |kinds| kinds.iter().any(is)) {
                    return Err(format!("{value} is not {of}"));
                }
            }
            "properties" => {
                for (name, value) in value.as_object().into_iter().flatten() {
                    match (&of[name], schema.get("additionalProperties")) {
                        (Value::Null, Some(more)) => fits(root, more, value).map_err(|why| format!("{name}: {why}"))?,
                        (Value::Null, None) => {}
                        (one, _) => fits(root, one, value).map_err(|why| format!("{name}: {why}"))?,
                    }
                }
            }
            "propertyNames" => {
                for name in value.as_object().into_iter().flat_map(|object| object.keys()) {
                    fits(root, of, &json!(name))?;
                }
            }
            "items" => value.as_array().into_iter().flatten().try_for_each(|value| fits(root, of, value))?,
            "anyOf" | "oneOf" => {
                if !of.as_array().unwrap().iter().any(|schema| fits(root, schema, value).is_ok()) {
                    return Err(format!("{value} is none of {of}"));
                }
            }
            "enum" => {
                if !of.as_array().unwrap().contains(value) {
                    return Err(format!("{value} is not among {of}"));
                }
            }
            "const" if of != value => return Err(format!("{value} is not {of}")),
            "minimum" if value.as_f64().is_some_and(|number| number < of.as_f64().unwrap()) => {
                return Err(format!("{value} is less than {of}"));
            }
            "maximum" if value.as_f64().is_some_and(|number| number > of.as_f64().unwrap()) => {
                return Err(format!("{value} is more than {of}"));
            }
            "$schema"
            | "title"
            | "description"
            | "default"
            | "examples"
            | "format"
            | "$defs"
            | "additionalProperties"
            | "const"
            | "minimum"
            | "maximum" => {}
            other => panic!("the schema has a word that this test does not know: {other}"),
        }
    }
    if let (None, Some(more)) = (words.get("properties"), words.get("additionalProperties")) {
        value.as_object().into_iter().flatten().try_for_each(|(_, value)| fits(root, more, value))?;
    }
    Ok(())
}

#[test]
fn what_can_be_enforced_here_is_found_by_trying_and_leaves_nothing() {
    let check = |command: &mut Command| -> Value {
        serde_json::from_str(&Outcome::of(command.args(["sandbox", "check", "--json"]).stdin(Stdio::null())).ok())
            .unwrap()
    };
    let (root, plain) = (check(&mut Command::new(PROCRT)), check(&mut User(ID).procrt()));
    for found in [&root, &plain] {
        for field in [
            "can_limit_memory",
            "can_limit_cpu",
            "can_limit_io",
            "can_limit_pids",
            "can_limit_network",
            "can_isolate_fs",
            "can_isolate_pid",
        ] {
            let can = found[field].as_bool().unwrap_or_else(|| panic!("{field}"));
            assert_eq!(can, found["reasons"][field].is_null(), "{field}: {found}");
        }
        assert_eq!(found["landlock_abi"], procrt::sys::landlock::abi());
        assert!(found["seccomp_actions"].as_array().unwrap().contains(&json!("SCMP_ACT_ERRNO")));
        assert!(found["cgroup"]["version"].is_string() && found["cgroup"]["controllers"].is_array());
        for level in ["off", "default", "enhanced", "container", "maximum"] {
            let level = &found["levels"][level];
            assert!(level["error"].is_string() || level["reason"].is_string(), "{level}");
        }
        assert_eq!(found["levels"]["off"]["name"], "process");
        for program in ["runsc", "runc", "crun", "docker"] {
            assert!(found["programs"].as_object().unwrap().contains_key(program), "{program}");
        }
    }
    assert_eq!(root["can_limit_memory"], true, "{root}");
    assert_eq!(root["levels"]["enhanced"]["name"], "engine");
    assert!(Outcome::of(&mut sandbox(&["check"])).ok().contains("\nlevel default "));
}
