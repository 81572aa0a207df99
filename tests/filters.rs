//! Every field of `linux.seccomp` as a container's program meets it.

mod support;

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};
use support::{Bundle, Outcome, skipped};

/// A filter that lets everything pass but for what `rules` say.
fn allowing(rules: &[Value]) -> Value {
    json!({"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_AARCH64"], "syscalls": rules})
}

/// Signals that do nothing to a process that does not ask for them.
const SIGNALS: [u64; 4] = [17, 18, 23, 28];

#[test]
fn every_comparison_of_an_argument_is_made() {
    let script = "for signal in 17 18 23 28; do kill -$signal $$ 2>/dev/null && echo -n \"$signal \"; done";
    for (op, value, value_two, refused) in [
        ("SCMP_CMP_EQ", 23, 0, &[23][..]),
        ("SCMP_CMP_NE", 23, 0, &[17, 18, 28]),
        ("SCMP_CMP_LT", 18, 0, &[17]),
        ("SCMP_CMP_LE", 18, 0, &[17, 18]),
        ("SCMP_CMP_GE", 23, 0, &[23, 28]),
        ("SCMP_CMP_GT", 23, 0, &[28]),
        // The value is the mask, the second what has to be left.
        ("SCMP_CMP_MASKED_EQ", 0b11, 0b10, &[18]),
    ] {
        let argument = json!({"index": 1, "op": op, "value": value, "valueTwo": value_two});
        let rule = json!({"names": ["kill"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1, "args": [argument]});
        let passed = SIGNALS.iter().filter(|signal| !refused.contains(signal)).map(|signal| format!("{signal} "));
        let said = Bundle::new(script).set("/linux/seccomp", allowing(&[rule])).run().stdout;
        assert_eq!(said, passed.collect::<String>(), "{op}");
    }
}

#[test]
fn the_argument_that_is_compared_is_the_one_of_the_index() {
    // kill(PID, SIGNAL): the first process is number 1.
    for (index, value, passes) in [(0, 1, false), (0, 23, true), (1, 23, false), (1, 1, true)] {
        let argument = json!({"index": index, "op": "SCMP_CMP_EQ", "value": value});
        let rule = json!({"names": ["kill"], "action": "SCMP_ACT_ERRNO", "args": [argument]});
        let bundle = Bundle::new("kill -23 1").set("/linux/seccomp", allowing(&[rule]));
        assert_eq!(bundle.run().code() == 0, passes, "{index} {value}");
    }
}

#[test]
fn a_rules_error_is_its_own_and_the_defaults_is_the_filters() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/configs/docker-default.json");
    let config: Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    let mut filter = config["linux"]["seccomp"].clone();
    assert_eq!(filter["defaultAction"], "SCMP_ACT_ERRNO");
    filter["defaultErrnoRet"] = json!(28);
    let rule = json!({"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 30});
    let rules = filter["syscalls"].as_array_mut().unwrap();
    for allowed in rules.iter_mut().filter(|rule| rule["action"] == "SCMP_ACT_ALLOW") {
        allowed["names"].as_array_mut().unwrap().retain(|name| name != "mkdir" && name != "mkdirat");
    }
    rules.push(rule);
    let bundle = Bundle::new("mkdir /tmp/x; mount -t tmpfs x /tmp").set("/linux/seccomp", filter);
    let said = bundle.run().stderr;
    assert!(said.contains("Read-only file system") && said.contains("No space left on device"), "{said}");
}

#[test]
fn a_filter_with_flags_is_in_force() {
    let rule = json!({"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 28});
    for flags in [
        &["SECCOMP_FILTER_FLAG_TSYNC"][..],
        &["SECCOMP_FILTER_FLAG_LOG"],
        &["SECCOMP_FILTER_FLAG_SPEC_ALLOW"],
        &["SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_SPEC_ALLOW", "SECCOMP_FILTER_FLAG_TSYNC"],
    ] {
        let bundle = Bundle::new("mkdir /tmp/x; grep -w Seccomp /proc/self/status");
        let bundle = bundle.set("/linux/seccomp", allowing(std::slice::from_ref(&rule)));
        let outcome = bundle.set("/linux/seccomp/flags", json!(flags)).run();
        assert!(outcome.stderr.contains("No space left on device"), "{flags:?}: {outcome:#?}");
        assert_eq!(outcome.stdout, "Seccomp:\t2\n", "{flags:?}");
    }
}

/// A program that makes one system call as the machine's older architecture does (`int 0x80`), and says so.
const OLDER: &str = r#"
#include <unistd.h>
int main(void) {
    int pid;
    __asm__ volatile("int $0x80" : "=a"(pid) : "a"(20) : "memory", "r8", "r9", "r10", "r11");
    write(1, pid > 0 ? "older\n" : "refused\n", pid > 0 ? 6 : 8);
    return 0;
}
"#;

#[test]
fn calls_of_an_architecture_that_is_not_listed_do_not_pass() {
    if std::env::consts::ARCH != "x86_64" {
        return skipped("this machine has no older architecture");
    }
    let bundle = Bundle::running(&["/older"]);
    let (source, program) = (bundle.join("older.c"), bundle.inside("older"));
    fs::write(&source, OLDER).unwrap();
    let mut cc = Command::new("cc");
    match cc.arg("-static").arg("-o").arg(&program).arg(&source).status() {
        Ok(status) if status.success() => {}
        _ => return skipped("there is no C compiler"),
    }
    if Outcome::of(&mut Command::new(&program)).stdout != "older\n" {
        return skipped("this kernel has no calls of 32 bits");
    }
    let rule = json!({"names": ["reboot"], "action": "SCMP_ACT_ERRNO"});
    for (architectures, passes) in [
        (json!(["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"]), true),
        (json!(["SCMP_ARCH_X86_64"]), false),
        (json!(["SCMP_ARCH_X86_64", "SCMP_ARCH_X32"]), false),
    ] {
        let mut bundle = Bundle::running(&["/older"]).set("/linux/seccomp", allowing(std::slice::from_ref(&rule)));
        bundle.config["linux"]["seccomp"]["architectures"] = architectures.clone();
        support::install(&program, &bundle.inside("older"));
        let outcome = bundle.run();
        assert_eq!(outcome.stdout == "older\n", passes, "{architectures}: {outcome:#?}");
    }
}
