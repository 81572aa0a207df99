//! The program as its callers see it: options, messages, exit status, logs. Nothing here makes a container.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};

fn procrt(args: &[&str]) -> Output {
    procrt_in(Path::new("/"), args)
}

fn procrt_in(dir: &Path, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_procrt")).args(args).current_dir(dir).output().unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// The call failed with status 1, one line on standard error, and nothing on standard output; answers the line.
fn refused(args: &[&str]) -> String {
    let output = procrt(args);
    assert_eq!(output.status.code(), Some(1), "{args:?}: {output:?}");
    assert_eq!(stdout(&output), "", "{args:?}");
    let text = stderr(&output);
    assert!(text.starts_with("procrt: ") && text.ends_with('\n') && text.lines().count() == 1, "{args:?}: {text:?}");
    text.trim_end().to_owned()
}

#[test]
fn the_version_has_the_lines_that_engines_parse() {
    for args in [["--version"], ["-v"], ["-version"]] {
        let output = procrt(&args);
        assert!(output.status.success());
        let text = stdout(&output);
        assert_eq!(text.lines().next(), Some(concat!("procrt version ", env!("CARGO_PKG_VERSION"))));
        assert_eq!(text.lines().last(), Some("spec: 1.3.0"));
    }
}

#[test]
fn help_is_on_standard_output_and_a_success() {
    for args in [&["--help"][..], &["-h"], &["-help"], &["help"], &[], &["--debug", "--help"], &["--root", "/x"]] {
        let output = procrt(args);
        assert!(output.status.success(), "{args:?}");
        assert!(stdout(&output).contains("Usage: procrt [GLOBAL OPTIONS] COMMAND"), "{args:?}: {}", stdout(&output));
        assert_eq!(stderr(&output), "", "{args:?}");
    }
    for args in [&["create", "--help"][..], &["create", "-h"], &["help", "create"], &["create", "a", "-help"]] {
        let output = procrt(args);
        assert!(output.status.success(), "{args:?}");
        assert!(stdout(&output).contains("Usage: procrt create [OPTIONS] <ID>"), "{args:?}: {}", stdout(&output));
    }
}

#[test]
fn help_names_only_commands_that_there_are() {
    let text = stdout(&procrt(&["--help"]));
    for name in ["create", "start", "run", "kill", "delete", "state", "list", "spec", "features", "update", "events"] {
        assert!(text.lines().any(|line| line.starts_with(&format!("  {name} "))), "{name}: {text}");
    }
    for name in ["checkpoint", "restore", "frob"] {
        assert!(!text.lines().any(|line| line.starts_with(&format!("  {name} "))), "{name}: {text}");
        assert_eq!(refused(&[name]), format!("procrt: there is no command \"{name}\" (see procrt --help)"));
    }
}

#[test]
fn a_wrong_use_is_one_sentence_and_status_1() {
    assert_eq!(
        refused(&["create", "--frob", "a"]),
        "procrt: create: unexpected argument '--frob' found (see procrt create --help)"
    );
    assert_eq!(
        refused(&["create"]),
        "procrt: create: the following required arguments were not provided: <ID> (see procrt create --help)"
    );
    for args in [
        &["--frob"][..],
        &["--log-format", "xml", "list"],
        &["--rootless=maybe", "list"],
        &["create", "--preserve-fds", "x", "a"],
        &["create", "--preserve-fds=-1", "a"],
        &["create", "a", "b"],
        &["create", "--bundle"],
        &["delete", "--force=perhaps", "a"],
        &["kill", "a", "NOSUCH"],
        &["kill", "a", "TERM", "x"],
        &["list", "--format", "xml"],
        &["state"],
    ] {
        refused(args);
    }
}

#[test]
fn ids_that_are_none_are_refused_by_every_command() {
    for command in ["create", "start", "run", "state", "kill", "delete"] {
        for id in ["..", "../x", "a b", ""] {
            assert!(refused(&[command, id]).starts_with(&format!("procrt: container id {id:?} ")), "{command} {id}");
        }
    }
}

#[test]
fn spec_writes_a_file_and_overwrites_none() {
    let bundle = tempfile::tempdir().unwrap();
    let config = bundle.path().join("config.json");
    for args in [&["spec", "--bundle"][..], &["spec", "--rootless", "-bundle"]] {
        let args: Vec<&str> = args.iter().copied().chain([bundle.path().to_str().unwrap()]).collect();
        let output = procrt(&args);
        assert!(output.status.success() && output.stdout.is_empty() && output.stderr.is_empty(), "{output:?}");
        let text = std::fs::read_to_string(&config).unwrap();
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(value["root"]["path"], "rootfs");
        let line = refused(&args);
        assert!(line.ends_with("/config.json exists: remove it first"), "{line}");
        assert_eq!(std::fs::read_to_string(&config).unwrap(), text);
        std::fs::remove_file(&config).unwrap();
    }
    assert!(procrt_in(bundle.path(), &["spec"]).status.success());
    assert!(config.exists());
}

#[test]
fn features_is_the_specifications_document() {
    let output = procrt(&["features"]);
    assert!(output.status.success());
    let features: oci_spec::runtime::Features = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((features.oci_version_min().as_str(), features.oci_version_max().as_str()), ("1.0.0", "1.3.0"));
    let unsafe_ones = features.potentially_unsafe_config_annotations().clone().unwrap();
    assert_eq!(unsafe_ones, ["org.systemd.property."]);
    // oci-spec has no place for all of it.
    let all: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let linux = &all["linux"];
    let enabled = serde_json::json!({"enabled": true});
    assert_eq!(linux["netDevices"], enabled);
    assert_eq!(linux["intelRdt"], serde_json::json!({"enabled": true, "schemata": true, "monitoring": true}));
    assert_eq!(linux["mountExtensions"]["idmap"], enabled);
    assert_eq!(linux["memoryPolicy"]["modes"].as_array().unwrap().len(), 7);
    assert_eq!(linux["memoryPolicy"]["flags"].as_array().unwrap().len(), 3);
}

#[test]
fn an_error_is_a_json_line_of_the_log_and_a_sentence_on_standard_error() {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("log.json");
    let log = log.to_str().unwrap();
    let line = refused(&["--log", log, "--log-format", "json", "state", "a/\"b\""]);
    refused(&["--log", log, "-log-format=json", "create", "--frob", "a"]);
    refused(&["--log", log, "--log-format=json", "frob"]);
    let text = std::fs::read_to_string(log).unwrap();
    let lines: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 3, "{text}");
    for entry in &lines {
        assert_eq!(entry["level"], "error");
        let time = entry["time"].as_str().unwrap();
        assert!(time.len() == 20 && time.starts_with("20") && time.ends_with('Z'), "{time}");
    }
    assert_eq!(format!("procrt: {}", lines[0]["msg"].as_str().unwrap()), line);
    assert!(lines[1]["msg"].as_str().unwrap().contains("--frob"), "{text}");
    assert!(lines[2]["msg"].as_str().unwrap().contains("there is no command"), "{text}");
}

#[test]
fn an_error_is_a_text_line_of_the_log_otherwise() {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("log");
    refused(&["--log", log.to_str().unwrap(), "state", "a b"]);
    let text = std::fs::read_to_string(&log).unwrap();
    assert!(
        text.starts_with("time=\"20") && text.contains("Z\" level=error msg=\"container id \\\"a b\\\" has"),
        "{text}"
    );
    assert_eq!(std::fs::metadata(&log).unwrap().permissions().mode() & 0o133, 0);
}

#[test]
fn without_a_log_a_json_format_is_for_standard_error() {
    let output = procrt(&["--log-format", "json", "state", "a b"]);
    assert_eq!(output.status.code(), Some(1));
    let entry: serde_json::Value = serde_json::from_str(&stderr(&output)).unwrap();
    assert_eq!(entry["level"], "error");
}

#[test]
fn a_log_that_cannot_be_opened_is_an_error() {
    let line = refused(&["--log", "/nonexistent/log", "features"]);
    assert_eq!(line, "procrt: open log \"/nonexistent/log\": no such file or directory (os error 2)");
}

#[test]
fn nothing_in_a_message_is_obeyed_by_a_terminal() {
    let line = refused(&["spec", "--bundle", "/nonexistent\u{1b}[2J\n"]);
    assert!(line.contains("\\u{1b}[2J\\n"), "{line}");
}

#[test]
fn a_closed_standard_output_is_an_error_and_no_crash() {
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_procrt")).arg("features").stdout(full).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(stderr(&output), "procrt: write to standard output: no space left on device (os error 28)\n");
}
