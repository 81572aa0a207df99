//! The container's process: who it is, what it may, what it has from its caller, and what it cannot reach.

mod support;

use std::fs;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::{Value, json};
use support::container::Container;
use support::{Bundle, CAPABILITIES, Outcome, PROCRT, Running, has_capability, install, skipped};

/// The line of /proc/PID/status that begins with `name`.
fn status_line<'a>(status: &'a str, name: &str) -> &'a str {
    let mut lines = status.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    lines.next().unwrap_or_else(|| panic!("{name}: {status}")).trim()
}

fn mask(names: &[&str]) -> u64 {
    let number = |name: &&str| name.parse::<caps::Capability>().unwrap().index();
    names.iter().map(number).fold(0, |mask, bit| mask | 1 << bit)
}

fn status_of(bundle: &Bundle) -> String {
    bundle.run().ok()
}

fn capability_sets(bundle: &Bundle) -> [u64; 5] {
    let status = status_of(bundle);
    ["CapBnd", "CapEff", "CapPrm", "CapInh", "CapAmb"]
        .map(|name| u64::from_str_radix(status_line(&status, name), 16).unwrap())
}

const STATUS: &[&str] = &["/bin/cat", "/proc/self/status"];

#[test]
fn user_groups_and_umask_are_the_configurations() {
    let bundle = Bundle::new("id -u; id -g; id -G; umask; touch /tmp/mine; stat -c '%a %u:%g' /tmp/mine");
    let user = json!({"uid": 1000, "gid": 1001, "additionalGids": [5, 6], "umask": 0o027});
    assert_eq!(bundle.set("/process/user", user).run().ok(), "1000\n1001\n1001 5 6\n0027\n640 1000:1001");
    let text = Bundle::new("id -u; id -g; grep ^Groups: /proc/self/status; umask").run().ok();
    assert_eq!(text.replace(['\t', ' '], ""), "0\n0\nGroups:\n0022");
}

#[test]
fn capabilities_are_in_all_five_sets_as_configured() {
    let bundle = Bundle::running(STATUS)
        .set("/process/capabilities/bounding", json!(["CAP_CHOWN", "CAP_KILL", "CAP_NET_RAW"]))
        .set("/process/capabilities/permitted", json!(["CAP_CHOWN", "CAP_KILL"]))
        .set("/process/capabilities/effective", json!(["CAP_CHOWN"]))
        .set("/process/capabilities/inheritable", json!(["CAP_KILL"]));
    // Root gets at execve what is in its inheritable and its bounding set (capabilities(7)).
    let bounding = mask(&["CAP_CHOWN", "CAP_KILL", "CAP_NET_RAW"]);
    assert_eq!(capability_sets(&bundle), [bounding, bounding, bounding, mask(&["CAP_KILL"]), 0]);
    assert_eq!(capability_sets(&Bundle::running(STATUS).without("/process/capabilities")), [0; 5]);
}

#[test]
fn what_is_no_capability_is_warned_of_and_not_given() {
    let names = json!(["CAP_KILL", "KILL", "CAP_CAP_CHOWN", "cap_net_raw", "CAP_NOPE"]);
    let bundle = Bundle::running(STATUS).set("/process/capabilities/bounding", names.clone());
    let outcome = bundle.set("/process/capabilities/permitted", names).run();
    for name in ["KILL", "CAP_CAP_CHOWN", "cap_net_raw", "CAP_NOPE"] {
        let warning = format!("process.capabilities: {name:?} cannot be given: it is not a known capability");
        assert_eq!(outcome.stderr.matches(&warning).count(), 1, "{name}: {outcome:?}");
    }
    let bounding = u64::from_str_radix(status_line(&outcome.ok(), "CapBnd"), 16).unwrap();
    assert_eq!(bounding, mask(&["CAP_KILL"]));
}

#[test]
fn a_user_that_is_not_root_has_only_ambient_capabilities() {
    let user = json!({"uid": 1000, "gid": 1000});
    let bundle = Bundle::running(STATUS).set("/process/user", user.clone());
    assert_eq!(capability_sets(&bundle), [mask(&CAPABILITIES), 0, 0, 0, 0]);
    let names = ["CAP_NET_BIND_SERVICE", "CAP_KILL"];
    let bundle = bundle
        .set("/process/capabilities/inheritable", json!(names))
        .set("/process/capabilities/ambient", json!(names));
    let set = mask(&names);
    assert_eq!(capability_sets(&bundle), [mask(&CAPABILITIES), set, set, set, set]);
}

#[test]
fn capabilities_that_the_caller_has_for_its_programs_are_not_the_containers() {
    let bundle = Bundle::running(STATUS).set("/process/capabilities/inheritable", json!(["CAP_KILL"]));
    let run = bundle.making("run", &[]);
    let mut setpriv = Command::new("setpriv");
    setpriv.args(["--inh-caps", "+kill", "--ambient-caps", "+kill"]).arg(run.get_program()).args(run.get_args());
    let status = Outcome::of(setpriv.current_dir("/").stdin(Stdio::null())).ok();
    assert_eq!(status_line(&status, "CapInh"), format!("{:016x}", mask(&["CAP_KILL"])));
    assert_eq!(status_line(&status, "CapAmb"), format!("{:016x}", 0));
}

#[test]
fn capabilities_end_where_the_filter_is_installed_without_no_new_privs_too() {
    let filter = json!({"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86_64"], "syscalls": []});
    for no_new_privileges in [false, true] {
        let bundle = Bundle::running(STATUS)
            .capabilities(&["CAP_KILL"])
            .set("/linux/seccomp", filter.clone())
            .set("/process/noNewPrivileges", json!(no_new_privileges));
        let set = mask(&["CAP_KILL"]);
        assert_eq!(capability_sets(&bundle), [set, set, set, 0, 0]);
        assert_eq!(status_line(&status_of(&bundle), "Seccomp"), "2");
    }
}

#[test]
fn no_new_privs_is_as_configured() {
    for (value, expected) in [(true, "1"), (false, "0")] {
        let bundle = Bundle::running(STATUS).set("/process/noNewPrivileges", json!(value));
        assert_eq!(status_line(&status_of(&bundle), "NoNewPrivs"), expected);
    }
}

#[test]
fn limits_are_as_configured() {
    let limits = json!([
        {"type": "RLIMIT_NOFILE", "soft": 100, "hard": 200},
        {"type": "RLIMIT_CORE", "soft": 0, "hard": 0},
        {"type": "RLIMIT_STACK", "soft": 1_048_576, "hard": 2_097_152},
        {"type": "RLIMIT_NPROC", "soft": 50, "hard": 60}
    ]);
    let text = Bundle::running(&["/bin/cat", "/proc/self/limits"]).set("/process/rlimits", limits).run().ok();
    for (name, expected) in [
        ("Max open files", "100 200 files"),
        ("Max core file size", "0 0 bytes"),
        ("Max stack size", "1048576 2097152 bytes"),
        ("Max processes", "50 60 processes"),
    ] {
        let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        assert_eq!(line.split_whitespace().collect::<Vec<_>>().join(" "), expected, "{name}");
    }
}

#[test]
fn a_limit_above_what_may_be_set_is_refused_by_name() {
    if has_capability(24) {
        return skipped("with CAP_SYS_RESOURCE every limit may be raised");
    }
    let limit = json!([{"type": "RLIMIT_NICE", "soft": 39, "hard": 40}]);
    let error = Bundle::sleeping().set("/process/rlimits", limit).create().refused();
    assert_eq!(error, "process.rlimits: set RLIMIT_NICE to 39, at most 40: operation not permitted (os error 1)");
}

#[test]
fn the_oom_score_is_as_configured() {
    let bundle = Bundle::running(&["/bin/cat", "/proc/self/oom_score_adj"]);
    let own = fs::read_to_string("/proc/self/oom_score_adj").unwrap();
    assert_eq!(bundle.run().ok(), own.trim());
    for (score, mapped) in [(500, false), (1000, false), (0, false), (500, true), (0, true)] {
        let bundle =
            Bundle::running(&["/bin/cat", "/proc/self/oom_score_adj"]).set("/process/oomScoreAdj", json!(score));
        let bundle = if mapped { bundle.mapped(100_000) } else { bundle };
        let outcome = bundle.run();
        if score < own.trim().parse().unwrap() && !has_capability(24) && outcome.code() == 1 {
            assert!(outcome.refused().starts_with(&format!("process.oomScoreAdj: set {score}: permission denied")));
            continue;
        }
        assert_eq!(outcome.ok(), score.to_string());
    }
}

#[test]
fn the_environment_is_exactly_the_configurations() {
    let environment = ["PATH=/bin", "EMPTY=", "SPACED=a b  c", "LINES=a\nb", "DOUBLE=1=2", "A=1", "A=2"];
    let bundle = Bundle::running(&["/bin/cat", "/proc/self/environ"]).set("/process/env", json!(environment));
    let mut command = bundle.making("run", &[]);
    let text = Outcome::of(command.env("LEAKED", "no")).ok();
    let mut expected: Vec<&str> = environment.to_vec();
    expected.push("HOME=/root");
    assert_eq!(text.trim_end_matches('\0').split('\0').collect::<Vec<_>>(), expected);
}

#[test]
fn home_is_the_users_unless_it_is_given() {
    for (uid, expected) in [(0, "/root"), (1000, "/home/user"), (77, "/")] {
        let bundle = Bundle::new("echo $HOME").set("/process/user", json!({"uid": uid, "gid": uid}));
        assert_eq!(bundle.run().ok(), expected);
    }
    assert_eq!(Bundle::new("echo $HOME").set("/process/env/-", json!("HOME=/mine")).run().ok(), "/mine");
    // What is no file in the image does not hold the container up.
    let bundle = Bundle::new("echo $HOME");
    fs::remove_file(bundle.inside("etc/passwd")).unwrap();
    nix::unistd::mkfifo(&bundle.inside("etc/passwd"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    assert_eq!(bundle.run().ok(), "/");
}

#[test]
fn the_program_is_looked_for_in_the_containers_path() {
    let bundle = Bundle::running(&["tool", "argument"]).set("/process/env", json!(["PATH=/nowhere:/first:/second"]));
    for (dir, word) in [("first", "first"), ("second", "second")] {
        fs::create_dir(bundle.inside(dir)).unwrap();
        bundle.program(&format!("{dir}/tool"), &format!("#!/bin/sh\necho {word} $0 $1\n"));
    }
    assert_eq!(bundle.run().ok(), "first /first/tool argument");
    // One that may not be run is passed over.
    fs::set_permissions(bundle.inside("first/tool"), fs::Permissions::from_mode(0o644)).unwrap();
    assert_eq!(bundle.run().ok(), "second /second/tool argument");
    fs::set_permissions(bundle.inside("second/tool"), fs::Permissions::from_mode(0o644)).unwrap();
    assert_eq!(bundle.run().refused(), "exec: \"tool\": permission denied (os error 13)");
    fs::remove_dir_all(bundle.inside("first")).unwrap();
    fs::remove_dir_all(bundle.inside("second")).unwrap();
    assert_eq!(bundle.run().refused(), "exec: \"tool\": executable file not found in $PATH");
    // Without a PATH it is where the C library looks.
    let bundle = Bundle::running(&["echo", "hello"]).set("/process/env", json!([]));
    assert_eq!(bundle.run().ok(), "hello");
}

#[test]
fn a_relative_program_is_looked_for_in_the_working_directory() {
    let bundle = Bundle::running(&["./tool"]).set("/process/cwd", json!("/work"));
    fs::create_dir(bundle.inside("work")).unwrap();
    bundle.program("work/tool", "#!/bin/sh\npwd\n");
    assert_eq!(bundle.run().ok(), "/work");
}

#[test]
fn arguments_arrive_as_they_are() {
    let bundle = Bundle::running(&["/bin/printf", "[%s]", "a b", "", "c\nd", "é", "$HOME", "*"]);
    assert_eq!(bundle.run().ok(), "[a b][][c\nd][é][$HOME][*]");
}

/// Runs procrt from a shell that has opened descriptors 3 to 6 on files of those names.
fn with_descriptors(bundle: &Bundle, options: &[&str]) -> String {
    let run = bundle.making("run", options);
    let script = "for n in 3 4 5 6; do echo file$n > $0/fd$n; done; \
                  exec 3<$0/fd3 4<$0/fd4 5<$0/fd5 6<$0/fd6; exec \"$@\"";
    let mut command = Command::new("sh");
    command.args(["-c", script]).arg(bundle.path()).arg(run.get_program()).args(run.get_args());
    Outcome::of(command.stdin(Stdio::null())).ok()
}

#[test]
fn descriptors_above_the_standard_streams_are_closed_but_for_those_to_be_kept() {
    let script =
        "for n in 3 4 5 6 7 8 9 10 11 12 13 14 15; do test -e /proc/$$/fd/$n && echo $n; done; cat <&3; cat <&4";
    assert_eq!(with_descriptors(&Bundle::new("ls /proc/self/fd"), &[]), "0\n1\n2\n3");
    let text = with_descriptors(&Bundle::new(script), &["--preserve-fds", "2"]);
    assert_eq!(text, "3\n4\nfile3\nfile4");
}

#[test]
fn more_descriptors_to_be_kept_than_there_are_are_refused() {
    let bundle = Bundle::sleeping();
    let container = Container::sleeping();
    for count in ["1000", "4294967295"] {
        let exec = container.exec_with(&["--preserve-fds", count], &["true"]).not_done();
        for sentence in [bundle.run_with(&["--preserve-fds", count]).refused(), exec] {
            let number = sentence.strip_prefix(&format!("--preserve-fds {count}: descriptor "));
            let number = number.and_then(|rest| rest.strip_suffix(" is not open"));
            assert!((3..1003).contains(&number.unwrap().parse::<u32>().unwrap()), "{sentence}");
        }
    }
}

#[test]
fn the_personality_is_as_configured() {
    let bundle = Bundle::running(&["/bin/uname", "-m"]).set("/linux/personality", json!({"domain": "LINUX32"}));
    let outcome = bundle.run();
    if outcome.stderr.contains("linux.personality") {
        return skipped("this kernel has no 32-bit personality");
    }
    let machine = outcome.ok();
    if machine == "x86_64" {
        return skipped("this kernel says x86_64 in a 32-bit personality");
    }
    assert_eq!(machine, "i686");
    let bundle = Bundle::running(&["/bin/uname", "-m"]).set("/linux/personality", json!({"domain": "LINUX"}));
    assert_eq!(bundle.run().ok(), std::env::consts::ARCH);
}

#[test]
fn the_session_keyring_is_the_containers_own() {
    if !Path::new("/proc/keys").exists() {
        return skipped("this kernel has no keyrings");
    }
    let bundle = Bundle::running(&["/bin/cat", "/proc/keys"]);
    let text = bundle.run().ok();
    assert!(text.contains(&format!("_ses.{}:", bundle.id())), "{text}");
    let bundle = Bundle::running(&["/bin/cat", "/proc/keys"]);
    let text = bundle.run_with(&["--no-new-keyring"]).ok();
    assert!(!text.contains(&format!("_ses.{}:", bundle.id())), "{text}");
}

#[test]
fn no_signal_is_ignored_or_held_back() {
    for command in ["run", "create"] {
        let bundle = Bundle::new("cat /proc/self/status > /out");
        // As callers do that ignore SIGPIPE, and hold signals back for threads of theirs.
        let making = bundle.making(command, &[]);
        let mut shell = Command::new("sh");
        shell.args(["-c", "trap '' HUP INT QUIT PIPE; exec \"$@\"", "sh"]).arg(making.get_program());
        Outcome::of(shell.args(making.get_args())).ok();
        if command == "create" {
            bundle.start().ok();
            bundle.wait_for_status("stopped");
            bundle.delete(&[]).ok();
        }
        let status = fs::read_to_string(bundle.inside("out")).unwrap();
        assert_eq!(status_line(&status, "SigBlk"), "0000000000000000", "{command}");
        let ignored = u64::from_str_radix(status_line(&status, "SigIgn"), 16).unwrap();
        // Those that the caller ignores stay so, but for SIGPIPE, which the Rust runtime ignores by itself.
        assert_eq!(ignored & 1 << 12, 0, "{command}: {ignored:#x}");
    }
}

#[test]
fn standard_streams_are_passed_through() {
    let bundle = Bundle::new("cat; echo to stderr >&2");
    let mut command = bundle.making("run", &[]);
    command.stdin(Stdio::piped());
    let mut running = Running::start(&mut command);
    running.child.stdin.take().unwrap().write_all("across\n".repeat(20_000).as_bytes()).unwrap();
    let outcome = running.finish();
    assert_eq!(outcome.stdout, "across\n".repeat(20_000));
    assert_eq!(outcome.stderr, "to stderr\n");
}

#[test]
fn a_user_can_open_its_own_streams_by_path() {
    let bundle = Bundle::new("echo one > /dev/stdout; echo two > /proc/self/fd/2");
    let bundle = bundle.set("/process/user", json!({"uid": 1000, "gid": 1000}));
    let mut command = bundle.making("run", &[]);
    let output = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).output().unwrap();
    assert_eq!(
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr)),
        ("one\n".into(), "two\n".into())
    );
}

#[test]
fn dockers_default_filter_is_in_force() {
    let docker: Value = serde_json::from_str(include_str!("configs/docker-default.json")).unwrap();
    let script = "grep ^Seccomp: /proc/self/status; unshare -U true; unshare -n true; mount -t tmpfs x /tmp; \
                  hostname y; setpriv --nnp true && echo ok; id -u";
    let bundle = Bundle::new(script);
    let outcome = bundle.set("/linux/seccomp", docker["linux"]["seccomp"].clone()).run();
    assert_eq!(outcome.stdout.replace('\t', " "), "Seccomp: 2\nok\n0\n", "{outcome:?}");
    let refusals = outcome.stderr.lines().filter(|line| line.contains("not permitted") || line.contains("denied"));
    assert_eq!(refusals.count(), 4, "{outcome:?}");
    // What stops these is the filter: with the same capabilities and none, a user namespace can be had.
    let outcome = Bundle::new("unshare -U true && echo made").run();
    if !outcome.stdout.contains("made") {
        skipped(&format!("user namespaces are closed here without a filter too: {outcome:?}"));
    }
}

#[test]
fn a_filter_kills_or_fails_what_it_says() {
    let rule = |action: &str, more: Value| {
        let mut rule = json!({"names": ["mkdir", "mkdirat"], "action": action});
        rule.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        json!({"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86_64"], "syscalls": [rule]})
    };
    let script = "mkdir /tmp/a; echo $?";
    let outcome = Bundle::new(script).set("/linux/seccomp", rule("SCMP_ACT_ERRNO", json!({"errnoRet": 28}))).run();
    assert!(outcome.stderr.contains("No space left on device") && outcome.stdout == "1\n", "{outcome:?}");
    let outcome = Bundle::new(script).set("/linux/seccomp", rule("SCMP_ACT_KILL_PROCESS", json!({}))).run();
    assert_eq!(outcome.stdout, "159\n", "{outcome:?}");
}

/// A process with every capability, in the host's PID namespace, that gets at a created container's program file while
/// it is procrt's: it cannot write to it, neither then nor when that process is gone.
#[test]
fn procrts_own_program_cannot_be_written_to_from_a_container() {
    let every: Vec<String> = caps::all().into_iter().map(|capability| capability.to_string()).collect();
    let every: Vec<&str> = every.iter().map(String::as_str).collect();
    let own = tempfile::tempdir().unwrap();
    // Of a copy that nobody else runs, so that it is not merely busy.
    let copy = own.path().join("procrt");
    install(Path::new(PROCRT), &copy);
    let before = fs::metadata(&copy).unwrap();

    let victim = Bundle::sleeping();
    let create = victim.making("create", &[]);
    Outcome::of(Command::new(&copy).args(create.get_args()).stdin(Stdio::null())).ok();
    let pid = victim.pid();
    let script = format!(
        "exec 4</proc/{pid}/exe || exit 9; (exec 5>>/proc/{pid}/exe) && echo written while it waits; \
         (echo x >> /proc/{pid}/exe) 2>/dev/null && echo written while it waits; \
         echo ready > /out; while test ! -e /gone; do sleep 0.01; done; \
         (exec 5>>/proc/self/fd/4) && echo written when it is gone; \
         mount -o remount,bind,rw /proc/self/fd/4 2>/dev/null && echo remounted; exit 0"
    );
    let attacker = Bundle::new(&script).without_namespace("pid").capabilities(&every);
    let running = Running::start(&mut attacker.making("run", &[]));
    attacker.wait_for_file("out");
    victim.delete(&["--force"]).ok();
    fs::write(attacker.inside("gone"), "").unwrap();
    let outcome = running.finish();
    assert_eq!((outcome.code(), outcome.stdout.as_str()), (0, ""), "{outcome:?}");
    assert!(outcome.stderr.contains("Read-only file system"), "{outcome:?}");
    let after = fs::metadata(&copy).unwrap();
    assert_eq!((after.size(), after.mtime_nsec()), (before.size(), before.mtime_nsec()));
}

#[test]
fn the_callers_directories_are_out_of_reach() {
    let bundle = Bundle::new(
        "ls -l /proc/self/fd /proc/self/cwd /proc/self/root | awk '{print $NF}'; pwd; ls ..; ls /proc/1/fd",
    );
    let mut command = bundle.making("run", &[]);
    let text = Outcome::of(command.current_dir(bundle.path())).ok();
    assert!(!text.contains("config.json") && !text.contains("rootfs"), "{text}");
    // Another way to the same: a working directory that is a descriptor of procrt's.
    for number in 3..12 {
        let bundle = Bundle::new("ls; pwd").set("/process/cwd", json!(format!("/proc/self/fd/{number}")));
        let outcome = bundle.run();
        assert!(!outcome.stdout.contains("config.json") && !outcome.stdout.contains("work"), "{outcome:?}");
        assert_eq!(outcome.code(), 1, "{outcome:?}");
        bundle.assert_nothing_left();
    }
}
