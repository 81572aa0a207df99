//! The memory policy of a container's processes, as /proc/self/numa_maps has it inside.

mod support;

use std::path::Path;

use serde_json::json;
use support::container::Container;
use support::{Bundle, skipped};

/// Prints a process's policy: it is the second word of a line of /proc/PID/numa_maps (proc_pid_numa_maps(5)).
const SHOW: &str = "head -n 1 /proc/self/numa_maps | cut -d ' ' -f 2-3 | sed 's/ .*file.*//'";

fn without_numa() -> bool {
    if Path::new("/proc/self/numa_maps").exists() {
        return false;
    }
    skipped("this kernel has no memory policies");
    true
}

#[test]
fn every_mode_and_flag_is_the_processs_and_that_of_those_that_join() {
    if without_numa() {
        return;
    }
    for (policy, expected) in [
        (json!({"mode": "MPOL_DEFAULT"}), "default"),
        (json!({"mode": "MPOL_LOCAL"}), "local"),
        (json!({"mode": "MPOL_BIND", "nodes": "0"}), "bind:0"),
        (json!({"mode": "MPOL_PREFERRED", "nodes": "0"}), "prefer:0"),
        (json!({"mode": "MPOL_PREFERRED"}), "local"),
        (json!({"mode": "MPOL_INTERLEAVE", "nodes": "0"}), "interleave:0"),
        (json!({"mode": "MPOL_WEIGHTED_INTERLEAVE", "nodes": "0-0"}), "weighted interleave:0"),
        (json!({"mode": "MPOL_PREFERRED_MANY", "nodes": "0"}), "prefer (many):0"),
        (json!({"mode": "MPOL_BIND", "nodes": "0", "flags": ["MPOL_F_STATIC_NODES"]}), "bind=static:0"),
        (json!({"mode": "MPOL_INTERLEAVE", "nodes": "0", "flags": ["MPOL_F_RELATIVE_NODES"]}), "interleave=relative:0"),
        (json!({"mode": "MPOL_BIND", "nodes": "0", "flags": ["MPOL_F_NUMA_BALANCING"]}), "bind=balancing:0"),
    ] {
        let container = Container::of(
            Bundle::new(&format!("{SHOW} > /out; sleep 1000")).set("/linux/memoryPolicy", policy.clone()),
        );
        assert_eq!(container.wait_for_file("out"), expected, "{policy}");
        assert_eq!(container.sh(&[], SHOW), expected, "{policy}");
        let file = container.process_file(&json!({"args": ["sh", "-c", SHOW]}));
        assert_eq!(container.exec_with(&["--process", &file], &[]).ok(), expected, "{policy}");
    }
}

#[test]
fn a_policy_is_set_in_a_user_namespace_too() {
    if without_numa() {
        return;
    }
    let bundle =
        Bundle::new(SHOW).mapped(100_000).set("/linux/memoryPolicy", json!({"mode": "MPOL_BIND", "nodes": "0"}));
    assert_eq!(bundle.run().ok(), "bind:0");
}

#[test]
fn a_node_that_is_not_there_is_refused_and_leaves_nothing() {
    if without_numa() {
        return;
    }
    let policy = json!({"mode": "MPOL_BIND", "nodes": "1023"});
    let bundle = Bundle::sleeping().set("/linux/memoryPolicy", policy);
    let error = bundle.create().refused();
    assert_eq!(error, "linux.memoryPolicy: set MPOL_BIND on nodes [1023]: invalid argument (os error 22)");
    bundle.assert_nothing_left();
}

#[test]
fn a_kernel_without_memory_policies_refuses_one_before_anything_is_made() {
    if Path::new("/proc/self/numa_maps").exists() {
        return skipped("this kernel has memory policies");
    }
    let bundle = Bundle::sleeping().set("/linux/memoryPolicy", json!({"mode": "MPOL_LOCAL"}));
    assert_eq!(bundle.create().refused(), "linux.memoryPolicy: this kernel has no memory policies");
    assert!(!bundle.store().exists());
}
