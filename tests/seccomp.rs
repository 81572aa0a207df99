//! Filters, as a container's programs meet them.

#![cfg(target_arch = "x86_64")]

mod support;

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};
use support::container::Container;
use support::{Bundle, Outcome, install, skipped};

/// What a process that SIGSYS ended leaves.
const SIGSYS: i32 = 128 + 31;
const GETPGID: &str = "121";
const GETPID: &str = "39";
const GETPID_32: &str = "20";

/// Compiles support/call.c to the root's `/bin/NAME`.
fn give_call(bundle: &Bundle, name: &str, options: &[&str]) {
    let source = bundle.join("call.c");
    fs::write(&source, include_str!("support/call.c")).unwrap();
    let program = bundle.join("call");
    let fixed = ["-O1", "-nostdlib", "-static", "-fno-pie", "-no-pie", "-fno-stack-protector", "-fcf-protection=none"];
    Outcome::of(Command::new("cc").args(fixed).args(options).arg("-o").arg(&program).arg(&source)).ok();
    install(&program, &bundle.inside(&format!("bin/{name}")));
}

/// A container that makes `calls` under `filter`.
fn calling(calls: &[&str], filter: Value) -> Bundle {
    let words: Vec<&str> = std::iter::once("/bin/call").chain(calls.iter().copied()).collect();
    // Otherwise what gives the last capability back has to be allowed too.
    let bundle = Bundle::running(&words).set("/linux/seccomp", filter).set("/process/noNewPrivileges", json!(true));
    give_call(&bundle, "call", &[]);
    bundle
}

/// Whether this kernel takes calls of x86, outside of any container.
fn takes_x86() -> bool {
    let bundle = calling(&[], json!({}));
    let said = Outcome::of(Command::new(bundle.inside("bin/call")).args(["32", GETPID_32, "--", "64", GETPID]));
    let takes = said.stdout.lines().count() == 2 && said.stdout.lines().next() == said.stdout.lines().last();
    if !takes {
        skipped("this kernel takes no calls of x86");
    }
    takes
}

/// What the kernel answers to a call under `filter`, or -1000 and the status if the process is ended.
#[track_caller]
fn answer(call: &[&str], filter: Value) -> i64 {
    let outcome = calling(call, filter).run();
    match outcome.code() {
        0 => outcome.ok().parse().unwrap(),
        code => i64::from(-1000 - code),
    }
}

fn filter(default: &str, syscalls: &Value) -> Value {
    json!({"defaultAction": format!("SCMP_ACT_{default}"), "syscalls": syscalls})
}

fn docker() -> Value {
    let text = fs::read_to_string("tests/configs/docker-default.json").unwrap();
    serde_json::from_str::<Value>(&text).unwrap()["linux"]["seccomp"].clone()
}

#[test]
fn each_action_does_to_a_call_what_it_says() {
    let killed = i64::from(-1000 - SIGSYS);
    for (action, number, expected) in [
        ("ERRNO", None, -1),
        ("ERRNO", Some(95), -95),
        ("TRAP", None, killed),
        ("KILL", None, killed),
        ("KILL_THREAD", None, killed),
        ("KILL_PROCESS", None, killed),
        // Nobody traces it.
        ("TRACE", Some(7), -38),
        ("LOG", None, -3),
        ("ALLOW", None, -3),
    ] {
        let mut rule = json!({"names": ["getpgid"], "action": format!("SCMP_ACT_{action}")});
        if let Some(number) = number {
            rule["errnoRet"] = json!(number);
        }
        let default = if action == "ALLOW" { "LOG" } else { "ALLOW" };
        assert_eq!(answer(&["64", GETPGID, "12345678"], filter(default, &json!([rule]))), expected, "{action}");
    }
}

#[test]
fn the_default_and_its_error_number_are_for_calls_that_no_rule_names() {
    let mut profile = docker();
    profile["defaultErrnoRet"] = json!(77);
    // keyctl; futex, which Docker allows; and a call that came after the profile.
    assert_eq!(answer(&["64", "250"], profile.clone()), -77);
    assert_eq!(answer(&["64", "202", "memory", "1"], profile.clone()), 0);
    assert_eq!(answer(&["64", "511"], profile), -38);
    let names = json!([{"names": ["execve", "write", "exit"], "action": "SCMP_ACT_ALLOW"}]);
    assert_eq!(answer(&["64", GETPID], filter("KILL_PROCESS", &names)), i64::from(-1000 - SIGSYS));
    // The file system's identity, which comes after what the profile names on x86_64.
    let names = json!([{"names": ["execve", "write", "exit", "futex"], "action": "SCMP_ACT_ALLOW"}]);
    assert_eq!(answer(&["64", "451"], filter("KILL_PROCESS", &names)), -38);
}

#[test]
fn calls_are_told_apart_by_their_arguments() {
    let big = "0x100000005";
    for (operator, holding, others) in [
        ("EQ", vec!["5"], vec!["4", "6", big]),
        ("NE", vec!["4", "6", big], vec!["5"]),
        ("LT", vec!["0", "4"], vec!["5", "6", big]),
        ("LE", vec!["0", "5"], vec!["6", big]),
        ("GE", vec!["5", "6", big], vec!["0", "4"]),
        ("GT", vec!["6", big], vec!["4", "5"]),
        ("MASKED_EQ", vec!["4", "0x100000004", "12"], vec!["5", "6", "0"]),
    ] {
        // Of all that getpgid is given, the kernel reads the first argument alone.
        let (value, two) = if operator == "MASKED_EQ" { (7, 4) } else { (5, 0) };
        let condition = json!({"index": 3, "op": format!("SCMP_CMP_{operator}"), "value": value, "valueTwo": two});
        let rule = json!({"names": ["getpgid"], "action": "SCMP_ACT_ERRNO", "errnoRet": 99, "args": [condition]});
        let mut words = Vec::new();
        for value in holding.iter().chain(&others) {
            words.extend(["64", GETPGID, "12345678", "0", "0", value, "--"]);
        }
        let said = calling(&words, filter("ALLOW", &json!([rule]))).run().ok();
        let expected: Vec<&str> = holding.iter().map(|_| "-99").chain(others.iter().map(|_| "-3")).collect();
        assert_eq!(said.lines().collect::<Vec<_>>(), expected, "{operator}");
    }
}

#[test]
fn calls_can_be_made_in_the_ways_that_are_listed() {
    if !takes_x86() {
        return;
    }
    let with = |list: &[&str]| json!({"defaultAction": "SCMP_ACT_ALLOW", "architectures": list});
    let killed = i64::from(-1000 - SIGSYS);
    assert_eq!(answer(&["32", GETPID_32], with(&["SCMP_ARCH_X86_64"])), killed);
    assert_eq!(answer(&["x32", GETPID], with(&["SCMP_ARCH_X86_64"])), killed);
    assert!(answer(&["64", GETPID], with(&[])) > 0);
    let all = ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"];
    assert!(answer(&["32", GETPID_32], with(&all)) > 0);
    // It reaches the kernel, which may have no x32.
    let x32 = answer(&["x32", GETPID], with(&all));
    assert!(x32 > 0 || x32 == -38, "{x32}");
    let mut refusing = filter("ALLOW", &json!([{"names": ["getpid"], "action": "SCMP_ACT_ERRNO", "errnoRet": 88}]));
    refusing["architectures"] = json!(all);
    assert_eq!(answer(&["x32", GETPID], refusing.clone()), -88);
    assert_eq!(answer(&["32", GETPID_32], refusing.clone()), -88);
    assert_eq!(answer(&["64", GETPID], refusing), -88);
}

#[test]
fn what_stands_for_several_calls_is_told_apart_by_its_first_argument() {
    if !takes_x86() {
        return;
    }
    let mut profile = filter(
        "ALLOW",
        &json!([
            {"names": ["socket"], "action": "SCMP_ACT_ERRNO", "errnoRet": 71},
            {"names": ["msgget"], "action": "SCMP_ACT_ERRNO", "errnoRet": 72},
        ]),
    );
    profile["architectures"] = json!(["SCMP_ARCH_X86"]);
    let calls = [
        // socketcall(SYS_SOCKET) and (SYS_BIND), ipc(MSGGET), with a version too, and (SHMDT).
        ["32", "102", "1", "memory", "0", "0", "--"],
        ["32", "102", "2", "memory", "0", "0", "--"],
        ["32", "117", "13", "0", "0", "0", "--"],
        ["32", "117", "0x1000d", "0", "0", "0", "--"],
        ["32", "117", "22", "0", "0", "0", "--"],
    ];
    let said = calling(&calls.concat(), profile).run().ok();
    let answers: Vec<i64> = said.lines().map(|line| line.parse().unwrap()).collect();
    assert_eq!(answers[0], -71);
    assert_eq!(answers[2..4], [-72, -72]);
    assert!(![-71, -72].contains(&answers[1]) && ![-71, -72].contains(&answers[4]), "{answers:?}");
}

/// Calls of a 32-bit program under Docker's profile: some that it allows, some that it does not, by its arguments too.
const OF_32_BIT: [(&[&str], Option<i64>); 13] = [
    (&["136", "8"], Some(0)),                 // personality(PER_LINUX32)
    (&["136", "9"], Some(-1)),                // another one
    (&["20"], None),                          // getpid
    (&["102", "1", "memory"], None),          // socketcall: a socket
    (&["359", "1", "1", "0"], None),          // socket
    (&["117", "23", "0", "4096", "0"], None), // ipc: shmget
    (&["21", "0", "0", "0"], Some(-1)),       // mount
    (&["435", "0", "0"], Some(-38)),          // clone3
    (&["462", "0", "0"], Some(-38)),          // mseal: newer than the profile
    (&["403", "0", "memory"], Some(0)),       // clock_gettime64
    (&["120", "0x10000000"], Some(-1)),       // clone(CLONE_NEWUSER)
    (&["310", "0x10000000"], Some(-1)),       // unshare(CLONE_NEWUSER)
    (&["88", "0", "0", "0"], Some(-1)),       // reboot
];

#[test]
fn a_32_bit_program_behaves_under_dockers_profile_as_with_runc() {
    if !takes_x86() {
        return;
    }
    let calls = OF_32_BIT;
    let mut words = vec!["/bin/call32"];
    for (call, _) in calls {
        words.push("32");
        words.extend(call);
        words.push("--");
    }
    let bundle = Bundle::running(&words).set("/linux/seccomp", docker());
    give_call(&bundle, "call32", &["-m32"]);
    let elf = fs::File::open(bundle.inside("bin/call32")).unwrap();
    let mut class = [0];
    elf.read_exact_at(&mut class, 4).unwrap();
    assert_eq!(class, [1], "not a 32-bit program");
    let said = bundle.run().ok();
    let answers: Vec<i64> = said.lines().map(|line| line.parse().unwrap()).collect();
    assert_eq!(answers.len(), calls.len(), "{said}");
    for ((call, expected), answer) in calls.iter().zip(&answers) {
        match expected {
            Some(expected) => assert_eq!(answer, expected, "{call:?}"),
            None => assert!(*answer >= 0, "{call:?}: {answer}"),
        }
    }
    if !Path::new("/usr/sbin/runc").exists() && !Path::new("/usr/bin/runc").exists() {
        return skipped("there is no runc to compare with");
    }
    let root = bundle.join("runc");
    let id = format!("{}-runc", bundle.id());
    let mut runc = Command::new("runc");
    runc.arg("--root").arg(&root).args(["run", "--bundle"]).arg(bundle.path()).arg(&id);
    let theirs = Outcome::of(runc.stdin(std::process::Stdio::null())).ok();
    fs::remove_dir_all(root).unwrap();
    let theirs: Vec<i64> = theirs.lines().map(|line| line.parse().unwrap()).collect();
    // An identifier of shared memory is another in each namespace; it only has to be one.
    let alike = |ours: i64, theirs: i64| ours == theirs || ours >= 0 && theirs >= 0;
    assert!(answers.iter().zip(&theirs).all(|(a, b)| alike(*a, *b)), "{answers:?} {theirs:?}");
}

/// The kernel's log as far as it has come since it was opened.
fn read_log(log: &fs::File, text: &mut String) {
    let mut line = [0; 8192];
    loop {
        match nix::unistd::read(log, &mut line) {
            Ok(length) if length > 0 => text.push_str(&String::from_utf8_lossy(&line[..length])),
            // Overwritten while it was read: the next one.
            Err(nix::errno::Errno::EPIPE) => {}
            _ => return,
        }
    }
}

#[test]
fn logged_calls_are_in_the_kernels_log() {
    let Ok(log) = fs::File::open("/dev/kmsg") else { return skipped("there is no /dev/kmsg to read") };
    nix::fcntl::fcntl(&log, nix::fcntl::FcntlArg::F_SETFL(nix::fcntl::OFlag::O_NONBLOCK)).unwrap();
    let rule = json!([{"names": ["getpgid"], "action": "SCMP_ACT_ERRNO"}]);
    let mut flagged = filter("ALLOW", &rule);
    flagged["flags"] = json!(["SECCOMP_FILTER_FLAG_LOG"]);
    let acting = filter("ALLOW", &json!([{"names": ["getpgid"], "action": "SCMP_ACT_LOG"}]));
    let unique = std::process::id();
    let of = |name: &str| format!("comm=\"{name}{unique}\"");
    let mut text = String::new();
    // The kernel writes a few records in five seconds and leaves the others out, whoever's they are: so again, until it
    // has written one of each. A call that is not logged was made as often.
    let end = std::time::Instant::now() + support::LIMIT;
    while !(text.contains(&of("flag")) && text.contains(&of("act"))) {
        if std::time::Instant::now() > end {
            assert!(!text.contains("type=1326"), "{}", text.lines().rev().take(20).collect::<Vec<_>>().join("\n"));
            return skipped("the kernel's log has no record of any filter: somebody else takes its audit records");
        }
        for (name, profile) in [("plain", filter("ALLOW", &rule)), ("flag", flagged.clone()), ("act", acting.clone())] {
            let bundle = calling(&[], profile);
            let path = format!("/bin/{name}{unique}");
            fs::rename(bundle.inside("bin/call"), bundle.inside(&path[1..])).unwrap();
            bundle.set("/process/args", json!([path, "64", GETPGID, "12345678"])).run().ok();
        }
        std::thread::sleep(std::time::Duration::from_millis(300));
        read_log(&log, &mut text);
    }
    assert!(!text.contains(&of("plain")));
}

#[test]
fn speculation_is_as_the_flag_says() {
    let status = |flags: &[&str]| {
        let mut profile = filter("ALLOW", &json!([]));
        profile["flags"] = json!(flags);
        Bundle::new("grep ^Specul /proc/self/status; grep ^Seccomp: /proc/self/status")
            .set("/linux/seccomp", profile)
            .run()
            .ok()
    };
    // Every combination is taken by the kernel; whether SPEC_ALLOW makes a difference depends on the processor.
    let plain = status(&[]);
    let allowed = status(&["SECCOMP_FILTER_FLAG_SPEC_ALLOW", "SECCOMP_FILTER_FLAG_TSYNC", "SECCOMP_FILTER_FLAG_LOG"]);
    assert!(plain.ends_with("Seccomp:\t2") && allowed.ends_with("Seccomp:\t2"), "{plain} {allowed}");
    assert!(!allowed.contains("force mitigated"), "{allowed}");
}

#[test]
fn a_process_that_exec_makes_is_under_the_same_filter() {
    let rule = json!([{"names": ["getpgid"], "action": "SCMP_ACT_ERRNO", "errnoRet": 55}]);
    let bundle = Bundle::sleeping().set("/linux/seccomp", filter("ALLOW", &rule));
    give_call(&bundle, "call", &[]);
    let container = Container::of(bundle);
    assert_eq!(container.exec(&["/bin/call", "64", GETPGID, "12345678"]).ok(), "-55");
}

#[test]
fn each_default_profile_runs_programs() {
    for file in [
        "tests/configs/docker-default.json",
        "differential/profiles/podman-4.3.json",
        "differential/profiles/containerd-1.6.json",
    ] {
        let value: Value = serde_json::from_str(&fs::read_to_string(file).unwrap()).unwrap();
        let profile = value.pointer("/linux/seccomp").unwrap_or(&value).clone();
        let script =
            "mkdir /tmp/x && ls /tmp | wc -l && ps | grep -c sh && (sleep 0; echo $?) && unshare -n true; echo $?";
        let said = Bundle::new(script).set("/linux/seccomp", profile).run();
        assert!(said.stdout.ends_with("0\n1\n"), "{file}: {said:#?}");
        assert!(said.stderr.contains("unshare"), "{file}: {said:#?}");
    }
}
