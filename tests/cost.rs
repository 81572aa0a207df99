//! What control groups cost: the system calls of a whole life on version 2, as strace(1) sees them.

mod support;

use std::fs;
use std::process::Command;

use serde_json::json;
use support::{Bundle, Outcome, PROCRT, skipped, unified};

/// As many as `create` and `delete` may make together.
const MOST: usize = 25;

/// The calls that `args` makes for control groups, in it and in the processes that it makes.
fn calls(bundle: &Bundle, args: &[&str]) -> Vec<String> {
    let file = bundle.join("trace");
    let mut command = Command::new("strace");
    command.args(["-f", "-y", "-o"]).arg(&file).arg(PROCRT).arg("--root").arg(bundle.store()).args(args);
    Outcome::of(command.current_dir("/")).ok();
    let text = fs::read_to_string(file).unwrap();
    // Only a debug build asks what a descriptor is before it closes it.
    let counts = |line: &&str| {
        ["/sys/fs/cgroup", " bpf(", "bpf-prog"].iter().any(|word| line.contains(word))
            && !line.contains(" fcntl(")
            && !line.contains(" resumed>")
    };
    text.lines().filter(counts).map(str::to_owned).collect()
}

#[test]
fn limits_of_memory_cpu_pids_and_devices_take_few_system_calls() {
    if !unified() {
        return skipped("version 1 has a group in each of its hierarchies");
    }
    if Command::new("strace").arg("-V").output().is_err() {
        return skipped("there is no strace");
    }
    let bundle = |args: &[&str]| {
        Bundle::running(args)
            .namespace("cgroup", None)
            .set("/linux/resources/memory", json!({"limit": 64 << 20, "swap": 64 << 20}))
            .set("/linux/resources/cpu", json!({"quota": 50_000, "period": 100_000}))
            .set("/linux/resources/pids", json!({"limit": 100}))
            .set("/linux/resources/devices", json!([{"allow": false, "access": "rwm"}]))
    };
    // The first one on a machine hands the controllers down.
    let first = bundle(&["/bin/sleep", "1000"]);
    first.create().ok();
    let measured = bundle(&["/bin/true"]);
    measured.write();
    let path = measured.path().to_str().unwrap();
    // All of it in one call, and the deletion that it ends with.
    let life = calls(&measured, &["run", "--bundle", path, measured.id()]);
    assert!(life.len() <= MOST, "{} calls:\n{}", life.len(), life.join("\n"));
    let kept = bundle(&["/bin/true"]);
    kept.write();
    calls(&kept, &["run", "--keep", "--bundle", kept.path().to_str().unwrap(), kept.id()]);
    let end = calls(&kept, &["delete", kept.id()]);
    assert!(end.len() <= 2, "{end:#?}");
    first.delete(&["--force"]).ok();
}
