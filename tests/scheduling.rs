//! When and where the container's processes run: policies, priorities and CPUs, as they are inside.

mod support;

use std::process::{Command, Stdio};

use serde_json::{Value, json};
use support::container::Container;
use support::{Bundle, Outcome, skipped};

/// Prints a process's nice value and its policy's number (proc_pid_stat(5), fields 19 and 41).
const SHOW: &[&str] = &["/bin/awk", "{print $19, $41}", "/proc/self/stat"];

/// A bundle with that scheduler, in a control group that has some real-time for the policies that take it.
fn scheduled(args: &[&str], scheduler: &Value) -> Bundle {
    let bundle = Bundle::running(args);
    let path = format!("/{}", bundle.id());
    let bundle = bundle.set("/process/scheduler", scheduler.clone());
    let realtime = ["SCHED_FIFO", "SCHED_RR"].iter().any(|policy| scheduler["policy"] == **policy);
    if realtime && std::path::Path::new("/sys/fs/cgroup/cpu/cpu.rt_runtime_us").exists() {
        let cpu = json!({"realtimePeriod": 1_000_000, "realtimeRuntime": 10_000});
        bundle.set("/linux/cgroupsPath", json!(path)).set("/linux/resources/cpu", cpu)
    } else {
        bundle
    }
}

/// What this machine does not let anybody have.
fn is_not_had(outcome: &Outcome) -> bool {
    ["operation not permitted", "device or resource busy", "operation not supported", "realtime"]
        .iter()
        .any(|reason| outcome.stderr.contains(reason))
        && outcome.code() == 1
}

#[test]
fn every_policy_is_the_processs() {
    let deadline =
        json!({"policy": "SCHED_DEADLINE", "runtime": 1_000_000, "deadline": 10_000_000, "period": 10_000_000});
    for (scheduler, expected) in [
        (json!({"policy": "SCHED_OTHER", "nice": -3}), "-3 0"),
        (json!({"policy": "SCHED_BATCH", "nice": 7}), "7 3"),
        (json!({"policy": "SCHED_IDLE"}), "0 5"),
        (json!({"policy": "SCHED_FIFO", "priority": 3}), "0 1"),
        (json!({"policy": "SCHED_RR", "priority": 99}), "0 2"),
        (deadline, "0 6"),
    ] {
        let outcome = scheduled(SHOW, &scheduler).run();
        if is_not_had(&outcome) {
            skipped(&format!("{scheduler}: {}", outcome.stderr));
            continue;
        }
        assert_eq!(outcome.ok(), expected, "{scheduler}");
    }
}

#[test]
fn flags_do_what_they_are_for() {
    // The last command of a shell's is no child of it.
    let both = "awk '{print $19}' /proc/$$/stat; awk '{print $19}' /proc/self/stat; :";
    let nice = |flags: Value| json!({"policy": "SCHED_OTHER", "nice": -5, "flags": flags});
    for (flags, expected) in [(json!([]), "-5\n-5"), (json!(["SCHED_FLAG_RESET_ON_FORK"]), "-5\n0")] {
        assert_eq!(scheduled(&["/bin/sh", "-c", both], &nice(flags)).run().ok(), expected);
    }
    // To the kernel the policy is one of the parameters.
    for (flag, expected) in [("SCHED_FLAG_KEEP_POLICY", "7 0"), ("SCHED_FLAG_KEEP_PARAMS", "0 0")] {
        let scheduler = json!({"policy": "SCHED_BATCH", "nice": 7, "flags": [flag]});
        assert_eq!(scheduled(SHOW, &scheduler).run().ok(), expected, "{flag}");
    }
    // What a process is to use of a CPU at least and at most has no value in a configuration.
    for flag in ["SCHED_FLAG_UTIL_CLAMP_MIN", "SCHED_FLAG_UTIL_CLAMP_MAX"] {
        let outcome = scheduled(SHOW, &json!({"policy": "SCHED_OTHER", "flags": [flag]})).run();
        if outcome.code() == 0 {
            assert_eq!(outcome.ok(), "0 0");
        } else {
            assert_eq!(outcome.refused(), "process.scheduler: set it: operation not supported (os error 95)");
        }
    }
}

#[test]
fn flags_of_deadlines_do_what_they_are_for() {
    let scheduler = |flag: &str| json!({"policy": "SCHED_DEADLINE", "runtime": 2_000_000, "deadline": 50_000_000, "period": 50_000_000, "flags": [flag]});
    let outcome = scheduled(SHOW, &scheduler("SCHED_FLAG_RECLAIM")).run();
    if is_not_had(&outcome) {
        return skipped(&format!("no deadlines here: {}", outcome.stderr));
    }
    assert_eq!(outcome.ok(), "0 6");
    // Whoever uses more than its share is told by SIGXCPU.
    let script = "trap 'exit 7' XCPU; while :; do :; done";
    let outcome = scheduled(&["/bin/sh", "-c", script], &scheduler("SCHED_FLAG_DL_OVERRUN")).run();
    assert_eq!(outcome.code(), 7, "{outcome:?}");
}

#[test]
fn what_no_policy_can_be_is_refused() {
    for (scheduler, expected) in [
        (json!({"policy": "SCHED_ISO"}), "process.scheduler.policy: \"SCHED_ISO\" is not in Linux"),
        (json!({"policy": "SCHED_OTHER", "nice": 20}), "process.scheduler.nice: 20 is not within -20..=19"),
        (json!({"policy": "SCHED_FIFO"}), "process.scheduler.priority: 0 is not within 1..=99"),
        (
            json!({"policy": "SCHED_OTHER", "priority": 1}),
            "process.scheduler.priority: 1 is for SCHED_FIFO and SCHED_RR alone",
        ),
        (
            json!({"policy": "SCHED_RR", "priority": 1, "runtime": 5}),
            "process.scheduler: runtime, deadline and period are for SCHED_DEADLINE alone",
        ),
    ] {
        let bundle = Bundle::sleeping().set("/process/scheduler", scheduler);
        assert_eq!(bundle.create().refused(), expected);
        assert!(!bundle.store().exists());
    }
    for flag in ["SCHED_RESET_ON_FORK", "SCHED_FLAG_D_L_OVERRUN", "RESET_ON_FORK"] {
        let bundle = Bundle::sleeping().set("/process/scheduler", json!({"policy": "SCHED_OTHER", "flags": [flag]}));
        let error = bundle.create().refused();
        assert!(error.starts_with(&format!("process.scheduler.flags[0]: {flag:?} is not a known scheduling flag")));
    }
}

#[test]
fn every_io_priority_is_the_processs() {
    for (class, priority, expected) in [
        ("IOPRIO_CLASS_RT", 0, "realtime: prio 0"),
        ("IOPRIO_CLASS_RT", 7, "realtime: prio 7"),
        ("IOPRIO_CLASS_BE", 0, "best-effort: prio 0"),
        ("IOPRIO_CLASS_BE", 6, "best-effort: prio 6"),
        ("IOPRIO_CLASS_IDLE", 0, "idle"),
    ] {
        let bundle = Bundle::new("ionice").set("/process/ioPriority", json!({"class": class, "priority": priority}));
        assert_eq!(bundle.run().ok().trim_end(), expected);
    }
    let error = Bundle::sleeping()
        .set("/process/ioPriority", json!({"class": "IOPRIO_CLASS_BE", "priority": 8}))
        .create()
        .refused();
    assert_eq!(error, "process.ioPriority.priority: 8 is not within 0..=7");
}

#[test]
fn processes_that_join_have_the_containers_policy_and_priority_unless_they_bring_their_own() {
    let show = "ionice; awk '{print $19, $41}' /proc/self/stat; :";
    let container = Container::of(
        Bundle::sleeping()
            .set("/process/scheduler", json!({"policy": "SCHED_BATCH", "nice": 5}))
            .set("/process/ioPriority", json!({"class": "IOPRIO_CLASS_BE", "priority": 6})),
    );
    assert_eq!(container.sh(&[], show), "best-effort: prio 6\n5 3");
    let file = container.process_file(&json!({
        "args": ["sh", "-c", show],
        "scheduler": {"policy": "SCHED_OTHER", "nice": -2, "flags": ["SCHED_FLAG_RESET_ON_FORK"]},
        "ioPriority": {"class": "IOPRIO_CLASS_IDLE", "priority": 0}
    }));
    // The shell's own is -2; what it starts has none of it.
    assert_eq!(container.exec_with(&["--process", &file], &[]).ok(), "idle\n0 0");
}

/// The CPUs that a process may run on, inside.
const CPUS: &str = "sed -n 's/^Cpus_allowed_list:[ \t]*//p' /proc/self/status";

fn own_cpus() -> usize {
    nix::sched::sched_getaffinity(nix::unistd::Pid::from_raw(0))
        .map(|set| (0..nix::sched::CpuSet::count()).filter(|cpu| set.is_set(*cpu).unwrap()).count())
        .unwrap()
}

#[test]
fn the_cpus_of_whoever_calls_procrt_are_not_the_containers() {
    if own_cpus() < 2 {
        return skipped("there is one CPU");
    }
    let pinned = |command: &Command| {
        let mut taskset = Command::new("taskset");
        taskset.args(["-c", "0"]).arg(command.get_program()).args(command.get_args());
        taskset.current_dir("/").stdin(Stdio::null());
        Outcome::of(&mut taskset).ok()
    };
    let all = Bundle::new(CPUS).run().ok();
    assert_ne!(all, "0");
    assert_eq!(pinned(&Bundle::new(CPUS).making("run", &[])), all);
    let container = Container::sleeping();
    assert_eq!(pinned(&container.command_of(&[], &["sh", "-c", CPUS])), all);
}

#[test]
fn processes_that_join_run_on_their_final_cpus_and_the_first_one_on_all() {
    if own_cpus() < 2 {
        return skipped("there is one CPU");
    }
    let all = Bundle::new(CPUS).run().ok();
    let bundle = Bundle::new(&format!("{CPUS} > /out; sleep 1000"));
    let container = Container::of(bundle.set("/process/execCPUAffinity", json!({"initial": "0", "final": "1"})));
    assert_eq!(container.wait_for_file("out"), all);
    assert_eq!(container.sh(&[], CPUS), "1");
    for (affinity, expected) in [(json!({"final": "0-1"}), "0-1"), (json!({"final": "0,1"}), "0-1"), (json!({}), &all)]
    {
        let file = container.process_file(&json!({"args": ["sh", "-c", CPUS], "execCPUAffinity": affinity}));
        assert_eq!(container.exec_with(&["--process", &file], &[]).ok(), expected, "{affinity}");
    }
    // Without final ones it is the kernel that decides: from those at the beginning, or from the control group's.
    let file = container.process_file(&json!({"args": ["sh", "-c", CPUS], "execCPUAffinity": {"initial": "0"}}));
    let seen = container.exec_with(&["--process", &file], &[]).ok();
    assert!(seen == "0" || seen == all, "{seen}");
}
