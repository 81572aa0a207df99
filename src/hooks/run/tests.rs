use std::collections::BTreeSet;
use std::path::PathBuf;

use nix::sys::signal::SigSet;

use super::*;

const STATE: &[u8] = br#"{"ociVersion":"1.3.0","id":"a","status":"created"}"#;

/// A hook that is a shell script; `$0` is "sh".
fn shell(script: &str) -> Hook {
    Hook {
        path: PathBuf::from("/bin/sh"),
        args: ["sh", "-c", script].map(str::to_owned).to_vec(),
        env: vec!["PATH=/usr/bin:/bin".to_owned()],
        timeout: None,
    }
}

fn failure(hook: &Hook) -> String {
    let error = run("prestart", std::slice::from_ref(hook), STATE, None, None).unwrap_err();
    assert_eq!(error.kind(), Kind::Hook);
    error.to_string()
}

#[test]
fn hooks_run_in_order_up_to_the_first_that_fails() {
    let folder = tempfile::tempdir().unwrap();
    let hooks = ["echo 1 >> log", "echo 2 >> log", "echo 3 >> log; exit 4", "echo 5 >> log"].map(shell);
    let error = run("createRuntime", &hooks, STATE, Some(folder.path()), None).unwrap_err();
    assert_eq!(error.to_string(), r#"hook createRuntime[2] "/bin/sh": exit status 4"#);
    assert_eq!(std::fs::read_to_string(folder.path().join("log")).unwrap(), "1\n2\n3\n");
}

#[test]
fn hooks_of_which_each_is_run_all_run_and_every_failure_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let hooks = ["exit 1", "echo 2 >> log", "exit 3", "echo 4 >> log"].map(shell);
    let errors = run_each("poststop", &hooks, STATE, Some(folder.path()));
    let texts: Vec<String> = errors.iter().map(ToString::to_string).collect();
    let expected = [r#"hook poststop[0] "/bin/sh": exit status 1"#, r#"hook poststop[2] "/bin/sh": exit status 3"#];
    assert_eq!(texts, expected);
    assert_eq!(std::fs::read_to_string(folder.path().join("log")).unwrap(), "2\n4\n");
}

#[test]
fn a_hook_reads_the_state_to_its_end() {
    let folder = tempfile::tempdir().unwrap();
    run("prestart", &[shell("cat > got; echo end >> got")], STATE, Some(folder.path()), None).unwrap();
    assert_eq!(std::fs::read(folder.path().join("got")).unwrap(), [STATE, b"end\n"].concat());
}

#[test]
fn a_state_larger_than_a_pipe_is_read_whole() {
    let folder = tempfile::tempdir().unwrap();
    let state = b"0123456789abcdef".repeat(100_000);
    run("prestart", &[shell("sleep 0.1; cat > got")], &state, Some(folder.path()), None).unwrap();
    assert!(std::fs::read(folder.path().join("got")).unwrap() == state);
}

#[test]
fn a_large_state_that_is_not_read_harms_nobody() {
    let state = vec![b' '; 1_000_000];
    run("prestart", &[shell("exit 0"), shell("exec <&-; sleep 0.1"), shell("head -c 1; exit 0")], &state, None, None)
        .unwrap();
}

#[test]
fn what_a_failed_hook_said_is_told_on_one_line_and_cut_from_the_front() {
    let text = failure(&shell("echo out; echo 'no route' >&2; printf '\\033[1mto host' >&2; exit 1"));
    assert_eq!(text, r#"hook prestart[0] "/bin/sh": exit status 1: out; no route; [1mto host"#);
    let text = failure(&shell("seq 1 100000; echo the end >&2; exit 2"));
    assert!(text.starts_with(r#"hook prestart[0] "/bin/sh": exit status 2: "#), "{text}");
    assert!(text.ends_with("; 100000; the end") && text.len() < 2 * TOLD, "{text}");
}

#[test]
fn a_hook_that_is_killed_is_told_by_its_signal() {
    assert_eq!(failure(&shell("kill -SEGV $$")), r#"hook prestart[0] "/bin/sh": killed by signal SIGSEGV"#);
    assert_eq!(failure(&shell("kill -40 $$")), r#"hook prestart[0] "/bin/sh": killed by signal 40"#);
}

#[test]
fn a_hook_that_cannot_be_executed_is_told_why() {
    let missing = Hook { path: PathBuf::from("/nowhere/hook"), ..shell("") };
    assert_eq!(failure(&missing), r#"hook prestart[0] "/nowhere/hook": no such file or directory (os error 2)"#);
    let folder = Hook { path: PathBuf::from("/etc"), ..shell("") };
    assert_eq!(failure(&folder), r#"hook prestart[0] "/etc": permission denied (os error 13)"#);
}

#[test]
fn a_hook_out_of_time_is_killed_with_what_it_started() {
    let folder = tempfile::tempdir().unwrap();
    let hook = Hook { timeout: Some(1), ..shell("sleep 60 & echo $! > pid; echo waiting >&2; yes; exit 0") };
    let begun = Instant::now();
    let error = run("prestart", &[hook], STATE, Some(folder.path()), None).unwrap_err().to_string();
    let taken = begun.elapsed();
    assert!(taken >= Duration::from_secs(1) && taken < Duration::from_secs(10), "{taken:?}");
    let start = r#"hook prestart[0] "/bin/sh": killed, not having ended within 1 s: "#;
    assert!(error.starts_with(start), "{error}");
    let pid: i32 = std::fs::read_to_string(folder.path().join("pid")).unwrap().trim().parse().unwrap();
    let status = || std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let begun = Instant::now();
    while !status().is_empty() && !status().contains(") Z ") {
        assert!(begun.elapsed() < Duration::from_secs(10), "{pid} lives on");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn a_hook_in_time_is_not_killed() {
    run("prestart", &[Hook { timeout: Some(30), ..shell("sleep 0.1") }], STATE, None, None).unwrap();
    run("prestart", &[Hook { timeout: Some(u64::MAX), ..shell("sleep 0.1") }], STATE, None, None).unwrap();
}

#[test]
fn a_process_that_a_hook_leaves_behind_keeps_nobody_waiting() {
    let folder = tempfile::tempdir().unwrap();
    let begun = Instant::now();
    run("prestart", &[shell("sleep 20 & echo $! > pid")], STATE, Some(folder.path()), None).unwrap();
    assert!(begun.elapsed() < Duration::from_secs(10));
    let pid = std::fs::read_to_string(folder.path().join("pid")).unwrap().trim().parse().unwrap();
    nix::sys::signal::kill(Pid::from_raw(pid), Signal::SIGKILL).unwrap();
}

#[test]
fn arguments_and_environment_are_exactly_those_planned() {
    let folder = tempfile::tempdir().unwrap();
    let script = "tr '\\0' '\\n' < /proc/self/environ > env; echo \"$0|$1|$2\" > args";
    let hook = Hook {
        args: ["name", "-c", script, "zero", "one", "two words"].map(str::to_owned).to_vec(),
        env: vec!["A=1".to_owned(), "B=x=y".to_owned()],
        ..shell("")
    };
    run("prestart", &[hook], STATE, Some(folder.path()), None).unwrap();
    let read = |name| std::fs::read_to_string(folder.path().join(name)).unwrap();
    assert_eq!(read("args"), "zero|one|two words\n");
    let env = read("env");
    // The shell adds some of its own; none of ours may be among them.
    let names: BTreeSet<&str> = env.lines().filter_map(|line| line.split('=').next()).collect();
    assert!(env.contains("A=1\n") && env.contains("B=x=y\n"), "{env}");
    assert!(names.is_subset(&BTreeSet::from(["A", "B", "PWD", "SHLVL", "_", "OLDPWD"])), "{env}");
}

#[test]
fn without_arguments_the_path_is_the_name() {
    // Given no arguments, env prints its environment, which is empty.
    let hook = Hook { path: PathBuf::from("/usr/bin/env"), args: Vec::new(), env: Vec::new(), timeout: None };
    run("prestart", &[hook], STATE, None, None).unwrap();
    let hook = Hook { path: PathBuf::from("/usr/bin/test"), args: Vec::new(), env: Vec::new(), timeout: None };
    assert_eq!(failure(&hook), r#"hook prestart[0] "/usr/bin/test": exit status 1"#);
}

#[test]
fn a_hook_has_three_descriptors_no_blocked_signals_and_its_own_group() {
    let folder = tempfile::tempdir().unwrap();
    // One that is open and not close-on-exec, as a caller may have left it.
    let leaked = std::fs::File::open("/dev/null").unwrap();
    fcntl(&leaked, FcntlArg::F_SETFD(nix::fcntl::FdFlag::empty())).unwrap();
    let mask = SigSet::all().thread_swap_mask(nix::sys::signal::SigmaskHow::SIG_BLOCK).unwrap();
    let script = "ls /proc/self/fd > fds; cut -d' ' -f1,5 /proc/$$/stat > ids";
    // Shells have a signal mask of their own.
    let copy = Hook {
        path: PathBuf::from("/bin/cp"),
        args: ["cp", "/proc/self/status", "status"].map(str::to_owned).to_vec(),
        ..shell("")
    };
    let result = run("prestart", &[shell(script), copy], STATE, Some(folder.path()), None);
    mask.thread_set_mask().unwrap();
    result.unwrap();
    let read = |name| std::fs::read_to_string(folder.path().join(name)).unwrap();
    // The fourth is the directory that ls reads.
    assert_eq!(read("fds"), "0\n1\n2\n3\n");
    // 32 and 33 are glibc's own, and its posix_spawn leaves them ignored.
    let status = read("status").replace("0000000180000000", "0000000000000000");
    assert!(status.contains("\nSigBlk:\t0000000000000000\nSigIgn:\t0000000000000000\n"), "{status}");
    let ids = read("ids");
    let (pid, group) = ids.trim().split_once(' ').unwrap();
    assert_eq!(pid, group);
    drop(leaked);
}
