//! What is found wrong in a text, and what is said of it.

use std::time::{Duration, Instant};

use super::*;

fn why(text: &str) -> String {
    let first = objects::from_slice::<Spec>(text.as_bytes()).unwrap_err();
    explain(text.as_bytes(), &first).unwrap_err().to_string()
}

fn whole() -> Value {
    json!({
        "ociVersion": "1.0.2",
        "root": {"path": "rootfs"},
        "process": {"cwd": "/", "user": {"uid": 0, "gid": 0}, "args": ["sh"]},
        "hostname": "a",
        "linux": {"namespaces": [{"type": "uts"}]},
    })
}

#[test]
fn what_is_no_json_is_found_by_line_and_column() {
    assert_eq!(why("{\n \"a\": 1,\n  nonsense\n}"), "config.json: line 3 column 3: key must be a string");
    assert_eq!(why("{"), "config.json: line 1 column 1: EOF while parsing an object");
    assert_eq!(why(""), "config.json: line 1 column 0: EOF while parsing a value");
    assert_eq!(why("{} x"), "config.json: line 1 column 4: trailing characters");
    assert_eq!(
        why("{\"ociVersion\": \"1.0.0\",\n\"ociVersion\": \"1.0.1\"}"),
        "config.json: line 2 column 12: duplicate field `ociVersion`"
    );
    assert!(why(&"[".repeat(100_000)).contains("recursion limit exceeded"));
}

#[test]
fn what_is_no_object_is_no_configuration() {
    assert_eq!(why("[1]"), "config.json: a list is not an object");
    assert_eq!(why("5"), "config.json: 5 is not an object");
}

#[test]
fn an_unknown_namespace_is_named_with_those_that_are_known() {
    let mut spec = whole();
    spec["linux"]["namespaces"] = json!([{"type": "uts"}, {"type": "pid"}, {"type": "foo"}]);
    assert_eq!(
        why(&spec.to_string()),
        "linux.namespaces[2].type: \"foo\" is not a known namespace \
         (known: mount, cgroup, uts, ipc, user, pid, network, time)"
    );
}

#[test]
fn every_wrong_value_is_named_at_its_place_in_the_file() {
    let mut spec = whole();
    spec["process"]["user"]["uid"] = json!(-5);
    spec["process"]["args"] = json!(["a", 1, "b", 2, {}, "c", null]);
    spec["process"]["terminal"] = json!("yes");
    spec["process"]["capabilities"] = json!({"bounding": ["CAP_KILL", "CAP_FOO", "CAP_BAR"]});
    spec["process"]["rlimits"] =
        json!([{"type": "RLIMIT_FOO", "soft": 1, "hard": 1}, {"type": "RLIMIT_CPU", "soft": "x"}]);
    spec["linux"]["resources"] = json!({"memory": {"limit": "1G"}, "devices": 7});
    spec["linux"]["seccomp"] = json!({"defaultAction": "SCMP_ACT_MAYBE"});
    let text = why(&spec.to_string());
    let mut sentences: Vec<&str> = text.split("; ").collect();
    sentences.sort_unstable();
    let starts = [
        "linux.resources.devices: 7 is not a list",
        "linux.resources.memory.limit: \"1G\" is not an integer from -9223372036854775808 to 9223372036854775807",
        "linux.seccomp.defaultAction: \"SCMP_ACT_MAYBE\" is not a known seccomp action (known: SCMP_ACT_KILL, ",
        "process.args[1]: 1 is not a string",
        "process.args[3]: 2 is not a string",
        "process.args[4]: an object is not a string",
        "process.args[6]: null is not a string",
        "process.rlimits[0].type: \"RLIMIT_FOO\" is not a known resource limit (known: RLIMIT_CPU, ",
        "process.rlimits[1].soft: \"x\" is not an integer from 0 to 18446744073709551615",
        "process.terminal: \"yes\" is not true or false",
        "process.user.uid: -5 is not an integer from 0 to 4294967295",
    ];
    assert_eq!(sentences.len(), starts.len(), "{text}");
    for (sentence, start) in sentences.iter().zip(starts) {
        assert!(sentence.starts_with(start), "{sentence}");
    }
}

#[test]
fn required_values_that_are_missing_are_all_named() {
    let mut spec = whole();
    spec["process"] = json!({});
    spec["mounts"] = json!([{"type": "proc"}, {"destination": 5}, {"destination": "/a", "options": "ro"}]);
    spec["hooks"] = json!({"poststop": [{"args": ["x"]}]});
    spec["linux"]["namespaces"] = json!([{"path": "/x"}, {"type": 3}]);
    let text = why(&spec.to_string());
    let mut sentences: Vec<&str> = text.split("; ").collect();
    sentences.sort_unstable();
    assert_eq!(
        sentences,
        [
            "hooks.poststop[0].path: is missing",
            "linux.namespaces[0].type: is missing",
            "linux.namespaces[1].type: 3 is not a string",
            "mounts[0].destination: is missing",
            "mounts[1].destination: 5 is not a string",
            "mounts[2].options: \"ro\" is not a list",
            "process.cwd: is missing",
            "process.user: is missing",
        ]
    );
}

#[test]
fn faults_of_the_whole_are_reported_with_them_and_consequences_are_not() {
    let mut spec = whole();
    spec["ociVersion"] = json!("3.0.0");
    spec["root"]["path"] = json!(1);
    spec["linux"]["namespaces"] = json!([{"type": "utz"}]);
    spec["annotations"] = json!({"": "x", "a.b": 1});
    let text = why(&spec.to_string());
    assert!(text.starts_with("ociVersion: \"3.0.0\" is not supported (1.x is); "), "{text}");
    assert!(text.contains("root.path: 1 is not a string"), "{text}");
    assert!(text.contains("annotations[\"a.b\"]: 1 is not a string"), "{text}");
    assert!(!text.contains("empty"), "{text}");
    assert!(!text.contains("hostname"), "{text}");
}

#[test]
fn sections_of_other_platforms_beside_linux_are_like_unknown_ones() {
    let mut spec = whole();
    spec["windows"] = json!({"layerFolders": 5});
    spec["unknown"] = json!(5);
    let text = spec.to_string();
    let first = objects::from_slice::<Spec>(text.as_bytes()).unwrap_err();
    assert_eq!(explain(text.as_bytes(), &first).unwrap().hostname().as_deref(), Some("a"));
}

#[test]
fn a_text_with_control_characters_is_shown_escaped() {
    let mut spec = whole();
    spec["linux"]["namespaces"][0]["type"] = json!("\u{1b}[2J\n");
    assert!(why(&spec.to_string()).starts_with(r#"linux.namespaces[0].type: "\u001b[2J\n" is not a known namespace"#));
}

#[test]
fn a_value_that_the_parser_repeats_is_no_line_of_its_own() {
    let mut spec = whole();
    spec["process"]["execCPUAffinity"] = json!({"initial": "0\n"});
    let text = why(&spec.to_string());
    assert!(text.starts_with(r#"process.execCPUAffinity.initial: "0\n": "#) && !text.contains('\n'), "{text:?}");
}

#[test]
fn faults_of_every_kind_are_placed_also_last_and_first_in_their_lists() {
    let mut spec = whole();
    spec["process"]["capabilities"] = json!({"bounding": ["X"], "permitted": ["X", "CAP_KILL"], "ambient": [{}, []]});
    spec["process"]["execCPUAffinity"] = json!({"initial": "a", "final": "0-1,"});
    spec["linux"]["namespaces"] =
        json!([{"type": null}, {"type": {"foo": 1}}, {"type": {}}, {"type": []}, {"type": {"uts": 5}}]);
    spec["linux"]["resources"] = json!({"devices": [{"allow": 1, "access": "r"}, {"allow": "y"}, null, 5]});
    spec["linux"]["sysctl"] = json!({"a\"b,": [], "c": true});
    let text = why(&spec.to_string());
    let mut sentences: Vec<&str> = text.split("; ").collect();
    sentences.sort_unstable();
    assert_eq!(
        sentences,
        [
            "linux.namespaces[0].type: null is not a string",
            "linux.namespaces[1].type: an object is not a string",
            "linux.namespaces[2].type: an object is not a string",
            "linux.namespaces[3].type: a list is not a string",
            "linux.namespaces[4].type: an object is not a string",
            "linux.resources.devices[0].allow: 1 is not true or false",
            "linux.resources.devices[1].allow: \"y\" is not true or false",
            "linux.resources.devices[2]: null is not an object",
            "linux.resources.devices[3]: 5 is not an object",
            "linux.sysctl.c: true is not a string",
            r#"linux.sysctl["a\"b,"]: a list is not a string"#,
            "process.capabilities.ambient[0]: an object is not a string",
            "process.capabilities.ambient[1]: a list is not a string",
            "process.execCPUAffinity.final: \"0-1,\": Invalid execCPUAffinity format: 0-1,",
            "process.execCPUAffinity.initial: \"a\": Invalid execCPUAffinity format: a",
        ]
    );
}

#[test]
fn unknown_capabilities_are_no_fault_and_do_not_hide_what_is_behind_them() {
    let mut spec = whole();
    let names = ["KILL", "CAP_CAP_KILL", "cap_kill", "CAP_FOO", "", "CAP_KILL", "CAP_"];
    spec["process"]["capabilities"] = json!({"bounding": names, "ambient": ["CAP_FOO", "CAP_CHOWN"], "x": "y"});
    let parse = |spec: &Value| {
        let text = spec.to_string();
        let first = objects::from_slice::<Spec>(text.as_bytes()).unwrap_err();
        explain(text.as_bytes(), &first)
    };
    let parsed = serde_json::to_value(parse(&spec).unwrap()).unwrap();
    assert_eq!(parsed["process"]["capabilities"]["bounding"], json!(["CAP_KILL"]));
    assert_eq!(parsed["process"]["capabilities"]["ambient"], json!(["CAP_CHOWN"]));
    spec["process"]["capabilities"]["bounding"] = json!(["KILL", 1, "FOO", 2]);
    assert_eq!(
        parse(&spec).unwrap_err().to_string(),
        "process.capabilities.bounding[1]: 1 is not a string; process.capabilities.bounding[3]: 2 is not a string"
    );
}

#[test]
fn words_are_those_of_the_specification() {
    let mut spec = whole();
    let flags = ["SCHED_RESET_ON_FORK", "SCHED_FLAG_RECLAIM", "SCHED_FLAG_D_L_OVERRUN"];
    spec["process"]["scheduler"] = json!({"policy": "SCHED_OTHER", "flags": flags});
    let known = "is not a known scheduling flag (known: SCHED_FLAG_RESET_ON_FORK, SCHED_FLAG_RECLAIM, \
                 SCHED_FLAG_DL_OVERRUN, SCHED_FLAG_KEEP_POLICY, SCHED_FLAG_KEEP_PARAMS, SCHED_FLAG_UTIL_CLAMP_MIN, \
                 SCHED_FLAG_UTIL_CLAMP_MAX)";
    assert_eq!(
        why(&spec.to_string()),
        format!(
            "process.scheduler.flags[0]: \"SCHED_RESET_ON_FORK\" {known}; \
             process.scheduler.flags[2]: \"SCHED_FLAG_D_L_OVERRUN\" {known}"
        )
    );
}

#[test]
fn a_large_and_wrong_file_is_refused_fast() {
    let mut spec = whole();
    spec["process"]["args"] = (0..500_000).map(|i| if i % 2 == 0 { json!(i) } else { json!("x".repeat(20)) }).collect();
    let text = spec.to_string();
    let begin = Instant::now();
    assert!(why(&text).contains("process.args[0]: 0 is not a string"));
    assert!(begin.elapsed() < Duration::from_secs(20), "{:?}", begin.elapsed());
    spec["process"]["args"] = (0..2000).map(|i| json!(i)).collect();
    assert!(why(&spec.to_string()).matches("is not a string").count() > 100);
}
