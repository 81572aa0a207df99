//! `update`: limits of a container that is there, by what they do and by what stays.

mod support;

use std::fs;
use std::path::PathBuf;
use std::process::Stdio;

use serde_json::json;
use support::container::Container;
use support::{Bundle, Outcome, skipped, unified};

/// A file of the container's control group: on version 2 `v2`, else `v1` of that controller's hierarchy.
fn file(bundle: &Bundle, v2: &str, (controller, v1): (&str, &str)) -> PathBuf {
    let id = bundle.id();
    if unified() {
        format!("/sys/fs/cgroup/procrt/{id}/{v2}").into()
    } else {
        format!("/sys/fs/cgroup/{controller}/procrt/{id}/{v1}").into()
    }
}

#[track_caller]
fn value(bundle: &Bundle, v2: &str, v1: (&str, &str)) -> String {
    let file = file(bundle, v2, v1);
    fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display())).trim().to_owned()
}

fn update(bundle: &Bundle, options: &[&str]) -> Outcome {
    bundle.call(&[&["update"], options, &[bundle.id()]].concat())
}

/// `update` with resources on standard input.
fn update_with(bundle: &Bundle, resources: &serde_json::Value) -> Outcome {
    let input = bundle.join("resources.json");
    fs::write(&input, resources.to_string()).unwrap();
    let mut command = bundle.command(&["update", "--resources", "-", bundle.id()]);
    Outcome::of(command.stdin(Stdio::from(fs::File::open(input).unwrap())))
}

const MEMORY: (&str, (&str, &str)) = ("memory.max", ("memory", "memory.limit_in_bytes"));
const PIDS: (&str, (&str, &str)) = ("pids.max", ("pids", "pids.max"));

#[test]
fn a_limit_that_is_set_later_holds_and_one_that_is_taken_away_does_not() {
    let container = Container::sleeping();
    update(&container, &["--pids-limit", "3"]).ok();
    let forks = "for i in 1 2 3 4 5 6; do sleep 1 & done; echo all";
    let outcome = container.exec(&["sh", "-c", forks]);
    assert!(outcome.stderr.contains("fork") && !outcome.stdout.contains("all"), "{outcome:?}");
    update(&container, &["--pids-limit", "-1"]).ok();
    assert_eq!(container.exec(&["sh", "-c", forks]).ok(), "all");
}

#[test]
fn memory_can_be_raised_and_lowered_with_its_sum_with_swap() {
    let size = 32 << 20;
    let bundle = Bundle::sleeping().set("/linux/resources/memory", json!({"limit": size, "swap": size}));
    let container = Container::of(bundle);
    let fill = "dd if=/dev/zero of=/dev/shm/x bs=1048576 count=50 2>/dev/null && rm /dev/shm/x && echo survived";
    // Whichever of the two has to be first.
    for (limit, holds) in [("100M", false), ("32M", true), ("128M", false), ("16M", true)] {
        update(&container, &["--memory", limit, "--memory-swap", limit]).ok();
        let outcome = container.exec(&["sh", "-c", fill]);
        assert_eq!(outcome.stdout.contains("survived"), !holds, "{limit}: {outcome:?}");
        let _ = container.exec(&["rm", "-f", "/dev/shm/x"]);
    }
    let error = update(&container, &["--memory", "64M"]).refused();
    assert!(error.contains("memory.swap: 16777216 is memory and swap together, and less than memory.limit"), "{error}");
    update(&container, &["--memory", "-1", "--memory-swap", "-1"]).ok();
    assert_eq!(container.sh(&[], fill), "survived");
}

#[test]
fn cpu_time_is_limited_later() {
    let container = Container::sleeping();
    update(&container, &["--cpu-quota", "5000", "--cpu-period", "50000"]).ok();
    container.sh(&[], "timeout 1 sh -c 'while :; do :; done'; :");
    let text = value(&container, "cpu.stat", ("cpu", "cpu.stat"));
    let throttled = text.lines().find_map(|line| line.strip_prefix("nr_throttled ")).unwrap();
    assert!(throttled.parse::<u32>().unwrap() > 5, "{text}");
    // What is not named stays.
    update(&container, &["--cpu-period", "100000"]).ok();
    if unified() {
        assert_eq!(value(&container, "cpu.max", ("", "")), "5000 100000");
    } else {
        assert_eq!(value(&container, "", ("cpu", "cpu.cfs_quota_us")), "5000");
        assert_eq!(value(&container, "", ("cpu", "cpu.cfs_period_us")), "100000");
    }
}

#[test]
fn an_idle_group_has_its_shares_again_when_it_wakes() {
    let container = Container::of(Bundle::sleeping().set("/linux/resources/cpu", json!({"shares": 512})));
    let idle = file(&container, "cpu.idle", ("cpu", "cpu.idle"));
    if !idle.exists() {
        return skipped("the kernel has no cpu.idle");
    }
    update(&container, &["--cpu-idle", "1"]).ok();
    assert_eq!(fs::read_to_string(&idle).unwrap(), "1\n");
    update(&container, &["--cpu-idle", "0"]).ok();
    assert_eq!(fs::read_to_string(&idle).unwrap(), "0\n");
    let (shares, weight) = ("512", "59");
    assert_eq!(value(&container, "cpu.weight", ("cpu", "cpu.shares")), if unified() { weight } else { shares });
}

#[test]
fn what_is_not_named_stays_also_over_several_updates() {
    let size = 64 << 20;
    let bundle = Bundle::sleeping().set("/linux/resources/pids", json!({"limit": 50}));
    let container = Container::of(bundle.set("/linux/resources/memory", json!({"limit": size})));
    let zeroes = json!({
        "memory": {"limit": 0, "reservation": 0, "swap": 0, "kernel": 0, "kernelTCP": 0},
        "cpu": {"shares": 0, "quota": 0, "period": 0, "realtimeRuntime": 0, "realtimePeriod": 0, "cpus": "", "mems": ""},
        "blockIO": {"weight": 0}, "pids": {"limit": 0}
    });
    update_with(&container, &zeroes).ok();
    update(&container, &["--pids-limit", "40"]).ok();
    update(&container, &["--memory-reservation", "32M"]).ok();
    assert_eq!(value(&container, PIDS.0, PIDS.1), "40");
    assert_eq!(value(&container, MEMORY.0, MEMORY.1), size.to_string());
    // Somebody else's change stays too.
    fs::write(file(&container, PIDS.0, PIDS.1), "33").unwrap();
    update(&container, &["--memory", "48M"]).ok();
    assert_eq!(value(&container, PIDS.0, PIDS.1), "33");
    assert_eq!(value(&container, MEMORY.0, MEMORY.1), (48 << 20).to_string());
}

#[test]
fn all_changes_or_none() {
    let bundle = Bundle::sleeping().set("/linux/resources/pids", json!({"limit": 50}));
    let container = Container::of(bundle.set("/linux/resources/memory", json!({"limit": 96 << 20})));
    let before = value(&container, MEMORY.0, MEMORY.1);
    // There is no such CPU, which only the kernel knows.
    let outcome = update_with(
        &container,
        &json!({"memory": {"limit": 64 << 20}, "pids": {"limit": 20}, "cpu": {"quota": 20000, "cpus": "4000"}}),
    );
    let error = outcome.refused();
    assert!(error.contains(r#"linux.resources.cpu.cpus: write "4000" to "/sys/fs/cgroup"#), "{error}");
    assert_eq!(value(&container, MEMORY.0, MEMORY.1), before);
    assert_eq!(value(&container, PIDS.0, PIDS.1), "50");
    // On version 2 the file is there since the update.
    let quota = value(&container, "cpu.max", ("cpu", "cpu.cfs_quota_us"));
    assert!(quota.starts_with(if unified() { "max" } else { "-1" }), "{quota}");
    // What was refused is not remembered either.
    update(&container, &["--cpu-period", "50000"]).ok();
    assert!(value(&container, "cpu.max", ("cpu", "cpu.cfs_quota_us")).starts_with(if unified() {
        "max"
    } else {
        "-1"
    }));
}

#[test]
fn devices_are_replaced_as_a_whole() {
    let container = Container::of(Bundle::sleeping().capabilities(&["CAP_MKNOD", "CAP_SYSLOG"]));
    container.sh(&[], "mknod /dev/kmsg2 c 1 11");
    let opens = || container.exec(&["sh", "-c", ": < /dev/kmsg2"]).code() == 0;
    assert!(!opens());
    let all =
        json!({"devices": [{"allow": false}, {"allow": true, "type": "c", "major": 1, "minor": 11, "access": "r"}]});
    for _ in 0..3 {
        update_with(&container, &all).ok();
        assert!(opens());
        update(&container, &["--pids-limit", "100"]).ok();
        assert!(opens());
        update_with(&container, &json!({"devices": [{"allow": false}]})).ok();
        assert!(!opens());
        update_with(&container, &json!({"devices": [{"allow": true}]})).ok();
        assert!(opens());
    }
    update_with(&container, &json!({"devices": [{"allow": false}]})).ok();
    container.sh(&[], ": > /dev/null; head -c 1 /dev/urandom | wc -c");
    assert!(!opens());
}

#[test]
fn wrong_values_are_named_together_and_change_nothing() {
    let container = Container::sleeping();
    let outcome = update_with(
        &container,
        &json!({"memory": {"limit": -5}, "cpu": {"cpus": "x"}, "pids": {"limit": 7}, "blockIO": {"weight": 2000}}),
    );
    let error = outcome.refused();
    for what in [
        "linux.resources.memory.limit: -5 is less than -1",
        "linux.resources.cpu.cpus: \"x\" is not a list",
        "linux.resources.blockIO.weight: 2000 is not from 10 to 1000",
    ] {
        assert!(error.contains(what), "{error}");
    }
    assert_eq!(value(&container, PIDS.0, PIDS.1), "max");
    let error = update_with(&container, &json!({"memory": {"limit": "much"}})).refused();
    assert!(error.contains("linux.resources.memory.limit"), "{error}");
    let error = update_with(&container, &json!([1])).refused();
    assert!(error.contains("linux.resources"), "{error}");
    let error = update(&container, &["--memory", "much"]).refused();
    assert!(error.contains("much"), "{error}");
    let error = update(&container, &["--l3-cache-schema", "L3:0=f"]).refused();
    assert!(error.contains("linux.intelRdt is not configured"), "{error}");
    let error = update(&container, &["--resources", "/nonexistent"]).refused();
    assert!(error.starts_with("read \"/nonexistent\""), "{error}");
}

#[test]
fn a_limit_below_what_is_in_use_is_refused_where_that_is_asked_for() {
    let container = Container::of(Bundle::sleeping().set("/linux/resources/memory", json!({"limit": 96 << 20})));
    container.sh(&[], "dd if=/dev/zero of=/dev/shm/x bs=1048576 count=20 2>/dev/null");
    let before = value(&container, MEMORY.0, MEMORY.1);
    let error = update_with(&container, &json!({"memory": {"limit": 8 << 20, "checkBeforeUpdate": true}})).refused();
    assert!(error.contains("linux.resources.memory.limit: 8388608 is less than what is in use, "), "{error}");
    assert_eq!(value(&container, MEMORY.0, MEMORY.1), before);
    assert_eq!(container.status(), "running");
}

#[test]
fn version_1_refuses_a_limit_below_what_is_in_use_and_cannot_be_freed() {
    if unified() {
        return skipped("version 2 takes such a limit, and ends processes until it is kept");
    }
    let size = 64 << 20;
    let container =
        Container::of(Bundle::sleeping().set("/linux/resources/memory", json!({"limit": size, "swap": size})));
    container.sh(&[], "dd if=/dev/zero of=/dev/shm/x bs=1048576 count=20 2>/dev/null");
    let error = update(&container, &["--pids-limit", "30", "--memory", "8M", "--memory-swap", "8M"]).refused();
    assert!(error.contains("linux.resources.memory.limit: write \"8388608\" to "), "{error}");
    assert!(error.contains("(more than that is in use, and cannot be freed): device or resource busy"), "{error}");
    assert_eq!(value(&container, MEMORY.0, MEMORY.1), size.to_string());
    assert_eq!(value(&container, PIDS.0, PIDS.1), "max");
}

#[test]
fn a_created_and_a_paused_container_can_be_updated_and_a_stopped_one_cannot() {
    let bundle = Bundle::sleeping();
    bundle.create().ok();
    update(&bundle, &["--pids-limit", "30"]).ok();
    bundle.start().ok();
    bundle.call(&["pause", bundle.id()]).ok();
    update(&bundle, &["--pids-limit", "31"]).ok();
    assert_eq!(bundle.status(), "paused");
    assert_eq!(value(&bundle, PIDS.0, PIDS.1), "31");
    bundle.kill("KILL").ok();
    bundle.wait_for_status("stopped");
    let error = update(&bundle, &["--pids-limit", "32"]).refused();
    assert!(error.ends_with("container not running"), "{error}");
    bundle.delete(&[]).ok();
    assert!(update(&bundle, &["--pids-limit", "32"]).refused().contains("container does not exist"));
}
