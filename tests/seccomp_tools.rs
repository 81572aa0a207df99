//! `procrt seccomp`: profiles explained and compiled.

mod support;

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::json;
use support::{Bundle, Outcome, PROCRT};

const DOCKER: &str = "tests/configs/docker-default.json";

fn seccomp(args: &[&str]) -> Outcome {
    Outcome::of(Command::new(PROCRT).arg("seccomp").args(args).stdin(Stdio::null()))
}

fn file(dir: &Path, value: &serde_json::Value) -> String {
    let path: PathBuf = dir.join("profile.json");
    fs::write(&path, value.to_string()).unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
fn a_call_is_explained_by_the_rule_that_decides() {
    let said = seccomp(&["explain", DOCKER, "personality", "8", "--arch", "x86_64"]).ok();
    let expected = "\
x86_64: personality is call 135
    linux.seccomp.syscalls[2]: allow if argument 0 == 0x0: no
    linux.seccomp.syscalls[3]: allow if argument 0 == 0x8: yes, and this decides
    linux.seccomp.syscalls[4]: allow if argument 0 == 0x20000: no
    linux.seccomp.syscalls[5]: allow if argument 0 == 0x20008: no
    linux.seccomp.syscalls[6]: allow if argument 0 == 0xffffffff: no
  allow";
    assert_eq!(said, expected);
    let said = seccomp(&["explain", DOCKER, "personality", "-1"]).ok();
    assert!(said.starts_with("x86_64: ") && said.contains("\n  fail with EPERM\nx86: "), "{said}");
    assert!(said.ends_with("  allow"), "arguments have 32 bits there: {said}");
    let said = seccomp(&["explain", DOCKER, "0x1ce"]).ok();
    assert!(said.contains("newer than all calls that the profile names\n  fail with ENOSYS"), "{said}");
    let said = seccomp(&["explain", DOCKER, "personality"]).ok();
    assert!(said.contains("it depends on the arguments"), "{said}");
}

#[test]
fn engines_profiles_are_read_as_engines_read_them() {
    let dir = tempfile::tempdir().unwrap();
    let path = file(
        dir.path(),
        &json!({"defaultAction": "SCMP_ACT_ERRNO", "archMap": [
            {"architecture": "SCMP_ARCH_X86_64", "subArchitectures": ["SCMP_ARCH_X86"]},
            {"architecture": "SCMP_ARCH_AARCH64", "subArchitectures": ["SCMP_ARCH_ARM"]}], "syscalls": [
            {"names": ["read"], "action": "SCMP_ACT_ALLOW", "comment": "", "includes": {}, "excludes": {}},
            {"names": ["bpf"], "action": "SCMP_ACT_ALLOW", "includes": {"caps": ["CAP_BPF"]}},
            {"names": ["openat2"], "action": "SCMP_ACT_ALLOW", "includes": {"minKernel": "5.6"}},
            {"names": ["mount"], "action": "SCMP_ACT_ALLOW", "includes": {"minKernel": "999.0"}}]}),
    );
    let answer = |args: &[&str]| {
        let said = seccomp(&[&["explain", "--arch", "x86_64", path.as_str()], args].concat()).ok();
        said.lines().rev().take(2).map(str::trim).collect::<Vec<_>>().join(" < ")
    };
    assert_eq!(answer(&["openat2"]), "allow < syscalls[2]: allow: this decides, whatever the arguments are");
    assert_eq!(answer(&["bpf"]), "fail with EPERM < no rule: the default decides");
    assert_eq!(
        answer(&["bpf", "--cap", "bpf"]),
        "allow < syscalls[1]: allow: this decides, whatever the arguments are"
    );
    assert_eq!(answer(&["mount"]), "fail with EPERM < no rule: the default decides");
    let said = seccomp(&["explain", &path, "read", "--machine", "aarch64"]).ok();
    assert!(said.contains("aarch64: read is call 63") && said.contains("arm: read is call 3"), "{said}");
    assert!(said.contains("2 of 4 rules apply on arm64 with Linux"), "{said}");
}

#[test]
fn a_program_is_printed_for_people_and_for_programs() {
    let raw = Command::new(PROCRT).args(["seccomp", "compile", DOCKER, "--format", "raw"]).output().unwrap();
    assert!(raw.status.success() && raw.stdout.len() > 800 && raw.stdout.len().is_multiple_of(8));
    assert_eq!(raw.stdout[..8], [0x20, 0, 0, 0, 4, 0, 0, 0]);
    let instructions = raw.stdout.len() / 8;
    let text = seccomp(&["compile", DOCKER]).ok();
    assert!(text.contains(&format!("; {instructions} instructions")), "{text}");
    assert_eq!(text.lines().filter(|line| !line.starts_with(';')).count(), instructions);
    let c = seccomp(&["compile", DOCKER, "--format", "c"]).ok();
    assert_eq!(c.lines().filter(|line| line.starts_with("    { 0x")).count(), instructions);
    // What is written for the C compiler is what the kernel gets.
    let dir = tempfile::tempdir().unwrap();
    let (source, program) = (dir.path().join("filter.c"), dir.path().join("filter"));
    let main = "#include <unistd.h>\nint main(void) { return write(1, program.filter, 8 * program.len) < 0; }\n";
    fs::write(&source, format!("{c}\n{main}")).unwrap();
    Outcome::of(Command::new("cc").arg(&source).arg("-o").arg(&program)).ok();
    assert_eq!(Command::new(&program).output().unwrap().stdout, raw.stdout);
}

#[test]
fn a_profile_comes_from_a_bundle_or_from_standard_input_too() {
    let bundle = Bundle::new("true").set(
        "/linux/seccomp",
        json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["mount"], "action": "SCMP_ACT_KILL_PROCESS"}]}),
    );
    bundle.write();
    let said = seccomp(&["explain", bundle.path().to_str().unwrap(), "mount"]).ok();
    assert!(said.ends_with("kill the process"), "{said}");
    let mut child = Command::new(PROCRT)
        .args(["seccomp", "explain", "-", "mount"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(bundle.config["linux"]["seccomp"].to_string().as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(String::from_utf8(output.stdout).unwrap(), said.replace("linux.seccomp.", "") + "\n");
}

#[test]
fn what_cannot_be_explained_is_one_sentence() {
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(seccomp(&["explain", DOCKER, "frob"]).refused(), "\"frob\" is no call that is known (x86_64, x86, x32)");
    let sentence = seccomp(&["explain", DOCKER, "read", "--arch", "arm"]).refused();
    assert!(sentence.starts_with("--arch arm: not an architecture of this profile: it has x86_64"), "{sentence}");
    let sentence = seccomp(&["explain", "/nowhere", "read"]).refused();
    assert_eq!(sentence, "read the profile \"/nowhere\": no such file or directory (os error 2)");
    let path = file(dir.path(), &json!({"defaultAction": "SCMP_ACT_NOTIFY"}));
    assert!(seccomp(&["compile", &path]).refused().starts_with("linux.seccomp.defaultAction: "));
    let path = file(dir.path(), &json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["read"]}]}));
    assert!(seccomp(&["compile", &path]).refused().contains("linux.seccomp.syscalls[0]"));
    assert!(seccomp(&["explain", DOCKER, "read", "O_RDONLY"]).refused().contains("is no number of at most 64 bits"));
    assert!(seccomp(&["explain", DOCKER, "read", "--cap", "FLY"]).refused().contains("CAP_FLY"));
    assert!(seccomp(&[]).refused().contains("subcommand"));
}

#[test]
fn a_wrong_profile_is_told_by_its_path_and_nothing_is_made() {
    let allowed = |rule: serde_json::Value| json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule]});
    let with_arg =
        |arg: serde_json::Value| allowed(json!({"names": ["read"], "action": "SCMP_ACT_ERRNO", "args": [arg]}));
    for (profile, path) in [
        (json!({"defaultAction": "SCMP_ACT_MAYBE"}), "linux.seccomp.defaultAction"),
        (json!({"defaultAction": "SCMP_ACT_ALLOW", "defaultErrnoRet": 1}), "linux.seccomp.defaultErrnoRet"),
        (
            json!({"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_VAX"]}),
            "linux.seccomp.architectures[0]",
        ),
        (json!({"defaultAction": "SCMP_ACT_ALLOW", "flags": ["SECCOMP_FILTER_FLAG_X"]}), "linux.seccomp.flags[0]"),
        (json!({"defaultAction": "SCMP_ACT_NOTIFY"}), "linux.seccomp.defaultAction"),
        (allowed(json!({"names": ["read"], "action": "ERRNO"})), "linux.seccomp.syscalls[0].action"),
        (allowed(json!({"names": [], "action": "SCMP_ACT_ERRNO"})), "linux.seccomp.syscalls[0].names"),
        (
            allowed(json!({"names": ["read"], "action": "SCMP_ACT_ERRNO", "errnoRet": 4096})),
            "linux.seccomp.syscalls[0].errnoRet",
        ),
        (with_arg(json!({"index": 0, "value": 0, "op": "SCMP_CMP_XOR"})), "linux.seccomp.syscalls[0].args[0].op"),
        (with_arg(json!({"index": 6, "value": 0, "op": "SCMP_CMP_EQ"})), "linux.seccomp.syscalls[0].args[0].index"),
        (with_arg(json!({"index": 0, "value": -1, "op": "SCMP_CMP_EQ"})), "linux.seccomp.syscalls[0].args[0].value"),
    ] {
        let bundle = Bundle::new("true").set("/linux/seccomp", profile);
        for sentence in [bundle.create().refused(), bundle.run().refused()] {
            assert!(sentence.contains(&format!("{path}: ")), "{path}: {sentence}");
        }
        assert!(!bundle.store().exists(), "{path}");
    }
}
