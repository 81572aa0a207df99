//! `procrt sandbox start`, `exec`, `swap`, `stop` and `list`: sandboxes that stay between commands.

mod support;

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::Value;
use support::plain::{ID, User, program};
use support::tty::Foreground;
use support::{Outcome, PROCRT, busybox, skipped, unified, wait_until};

/// A session of a test's own, which is stopped when the test is over; then nothing of it may be left.
struct Session {
    name: String,
    dir: tempfile::TempDir,
}

impl Session {
    fn start(options: &[&str]) -> Self {
        let session = Self::new();
        session.call(&[&["start", &session.name], options].concat()).ok();
        session
    }

    fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("test-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let session = Self { name, dir: tempfile::tempdir().unwrap() };
        fs::create_dir(session.dir.path().join("work")).unwrap();
        fs::write(session.dir.path().join("work/file"), "original").unwrap();
        session
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(PROCRT);
        command.arg("sandbox").args(args).current_dir(self.dir.path()).stdin(Stdio::null());
        command.env("XDG_CACHE_HOME", self.dir.path().join("cache"));
        command
    }

    #[track_caller]
    fn call(&self, args: &[&str]) -> Outcome {
        Outcome::of(&mut self.command(args))
    }

    #[track_caller]
    fn exec(&self, options: &[&str], script: &str) -> Outcome {
        self.call(&[&["exec", &self.name], options, &["--", "sh", "-c", script]].concat())
    }

    /// A command with its result.
    #[track_caller]
    fn result(&self, options: &[&str], script: &str) -> (Outcome, Value) {
        let path = self.dir.path().join("result.json");
        let outcome = self.exec(&[options, &["--result", path.to_str().unwrap()]].concat(), script);
        let text = fs::read_to_string(path).unwrap_or_else(|error| panic!("{error}: {outcome:?}"));
        (outcome, serde_json::from_str(&text).unwrap())
    }

    #[track_caller]
    fn report(&self) -> Value {
        let all: Vec<Value> = serde_json::from_str(&self.call(&["list", "--json"]).ok()).unwrap();
        all.into_iter().find(|one| one["name"] == self.name.as_str()).unwrap_or_default()
    }

    fn place(&self) -> PathBuf {
        PathBuf::from("/run/procrt-sessions").join(&self.name)
    }

    fn record(&self) -> Value {
        serde_json::from_slice(&fs::read(self.place().join("session.json")).unwrap()).unwrap()
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let stopped = self.call(&["stop", &self.name]);
        if !std::thread::panicking() {
            assert!(stopped.code() == 0 || stopped.stderr.contains("there is no session"), "{stopped:?}");
            assert!(!self.place().exists());
            let workspaces = fs::read_dir(self.dir.path().join("cache/procrt/workspaces"));
            assert_eq!(workspaces.map_or(0, Iterator::count), 0);
            assert_eq!(processes(&self.name), [""; 0]);
        }
    }
}

/// Processes with this among their arguments, but for the test.
fn processes(word: &str) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        if line.contains(word) && entry.file_name().to_str() != Some(&std::process::id().to_string()) {
            found.push(line);
        }
    }
    found
}

/// A duration for sleep(1) by which a process is known.
fn mark(session: &Session, which: u32) -> String {
    let number: u32 = session.name.rsplit('-').next().unwrap().parse().unwrap();
    format!("86400.{}{number:02}{which}", std::process::id())
}

#[test]
fn commands_see_what_others_left_in_the_workspace_and_the_source_stays() {
    let session = Session::start(&["--workspace", "work"]);
    assert_eq!(session.exec(&[], "pwd; cat file; echo changed >file; echo $$ >/tmp/kept").ok(), "/workspace\noriginal");
    assert_eq!(session.exec(&[], "cat file; test -s /tmp/kept && echo kept").ok(), "changed\nkept");
    assert_eq!(fs::read_to_string(session.dir.path().join("work/file")).unwrap(), "original");
    assert_eq!(session.exec(&["--env", "A=b", "--cwd", "/"], "echo $A; pwd").ok(), "b\n/");
    assert_eq!(session.exec(&[], "exit 7").code(), 7);
    assert_eq!(session.exec(&[], "kill -KILL $$").code(), 137);
    assert_eq!(session.call(&["exec", &session.name, "no-such-program"]).code(), 127);
    let outcome = session.exec(&["--env", "API_TOKEN=x"], "true");
    assert!(outcome.code() == 125 && outcome.stderr.contains("API_TOKEN"), "{outcome:?}");
    let report = session.report();
    assert_eq!((&report["state"], &report["processes"]), (&"running".into(), &0.into()), "{report}");
}

#[test]
fn what_a_command_leaves_running_goes_on_until_the_session_is_stopped() {
    let session = Session::start(&[]);
    let mark = mark(&session, 0);
    session.exec(&[], &format!("sleep {mark} >/dev/null 2>&1 & echo started")).ok();
    // One that is between two programs has no arguments.
    wait_until("the sleeper", || processes(&mark).len() == 1);
    assert_eq!(session.report()["processes"], 1);
    assert!(session.exec(&[], "ps -o args || cat /proc/[0-9]*/cmdline").stdout.contains(&mark));
    session.call(&["stop", &session.name]).ok();
    assert_eq!(processes(&mark), [""; 0]);
    assert_eq!(session.report(), Value::Null);
}

#[test]
fn a_commands_time_ends_all_that_it_has_started_and_nothing_else() {
    let session = Session::start(&["--timeout", "1h"]);
    let (other, mine) = (mark(&session, 0), mark(&session, 1));
    session.exec(&[], &format!("sleep {other} >/dev/null 2>&1 &")).ok();
    // In sessions of their own, left by their parents, deaf to TERM.
    let script = format!(
        "setsid sh -c 'trap \"\" TERM; sleep {mine}; sleep {mine}' & (setsid setsid sleep {mine} &); trap '' TERM; sleep {mine}; sleep {mine}"
    );
    let (outcome, result) = session.result(&["--timeout", "500ms"], &script);
    assert_eq!(outcome.code(), 124, "{outcome:?}");
    assert_eq!((&result["timed_out"], &result["signal"]), (&true.into(), &9.into()), "{result}");
    assert_eq!(processes(&mine), [""; 0]);
    assert_eq!(processes(&other).len(), 1);
    assert_eq!(session.exec(&[], "echo there").ok(), "there");
}

#[test]
fn the_limit_of_processes_holds_over_all_commands() {
    let session = Session::start(&["--pids", "8"]);
    let mark = mark(&session, 0);
    session.exec(&[], &format!("for i in 1 2 3 4 5 6; do sleep {mark} >/dev/null 2>&1 & done")).ok();
    let (_, result) = session.result(&[], "for i in 1 2 3 4 5 6; do sleep 0 & done; wait");
    assert_eq!(result["pids_exceeded"], true, "{result}");
    wait_until("six sleepers", || processes(&mark).len() == 6);
}

#[test]
fn the_limit_of_memory_holds_over_all_commands_and_the_result_says_so() {
    let session = Session::start(&["--memory", "48M", "--tmpfs-size", "64M"]);
    // The first command's memory is in a file, and still there when the second wants the rest.
    let (outcome, result) = session.result(&[], "head -c 30M /dev/zero >/tmp/big");
    assert_eq!((outcome.code(), &result["memory_exceeded"]), (0, &false.into()), "{result}");
    let (outcome, result) = session.result(&[], "dd if=/dev/zero of=/dev/null bs=40M count=1; exit $?");
    assert_ne!(outcome.code(), 0, "{outcome:?}");
    assert_eq!(result["memory_exceeded"], true, "{result}");
    assert_eq!(session.exec(&[], "rm -f /tmp/big; echo goes on").ok(), "goes on");
}

#[test]
fn output_beyond_a_commands_limit_is_thrown_away() {
    let session = Session::start(&[]);
    let (outcome, result) = session.result(&["--output-limit", "10"], "sleep 1000 & seq 1000");
    assert_eq!((outcome.code(), outcome.stdout.len()), (0, 10), "{outcome:?}");
    assert_eq!(result["output_truncated"], true);
    assert_eq!(session.report()["processes"], 0, "what it left would have no output any more");
}

#[test]
fn the_first_process_is_out_of_reach() {
    let session = Session::start(&[]);
    let script =
        "kill -KILL 1; kill -TERM 1; kill -STOP 1; cat /proc/1/environ; ls /proc/1/fd; ls /proc/1/root/; kill -KILL -1";
    session.exec(&[], script);
    assert_eq!(session.exec(&[], "cat /proc/1/environ 2>&1 | wc -c; ls /proc/1/fd 2>/dev/null | wc -l").code(), 0);
    assert_eq!(session.exec(&[], "cat /proc/1/environ 2>/dev/null").stdout, "");
    assert_eq!(session.exec(&[], "cat /proc/1/cmdline 2>/dev/null").stdout, "");
    for script in ["readlink /proc/1/fd/* /proc/1/exe /proc/1/cwd", "ls /proc/1/root/", "head -c 1 /proc/1/mem"] {
        assert_eq!(session.exec(&[], &format!("{script} 2>/dev/null")).stdout, "", "{script}");
    }
    // Nobody inside can leave the group by which a command is ended.
    assert_eq!(session.exec(&[], "ls /sys/fs/cgroup 2>/dev/null").stdout, "");
}

#[test]
fn a_killed_keeper_takes_all_with_it_and_what_is_left_is_found() {
    let session = Session::start(&["--workspace", "work"]);
    let mark = mark(&session, 0);
    session.exec(&[], &format!("setsid sleep {mark} >/dev/null 2>&1 &")).ok();
    let keeper = session.record()["keeper"]["pid"].as_i64().unwrap();
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(keeper as i32), nix::sys::signal::SIGKILL).unwrap();
    wait_until("the session's processes to end", || processes(&mark).is_empty());
    wait_until("the keeper to be gone", || session.report()["state"] == "stale");
    let outcome = session.exec(&[], "true");
    assert!(outcome.code() == 125 && outcome.stderr.contains("has ended: its keeper was killed"), "{outcome:?}");
    // The name is free again.
    session.call(&["start", &session.name]).ok();
    assert_eq!(session.exec(&[], "ls /workspace 2>/dev/null; echo new").ok(), "new");
}

#[test]
fn a_killed_exec_ends_its_command() {
    let session = Session::start(&[]);
    let mark = mark(&session, 0);
    let mut exec = session.command(&["exec", &session.name, "--", "sleep", &mark]);
    let mut exec = exec.stdout(Stdio::null()).spawn().unwrap();
    wait_until("the command", || processes(&mark).len() == 2);
    exec.kill().unwrap();
    exec.wait().unwrap();
    wait_until("the command's end", || processes(&mark).is_empty());
}

#[test]
fn another_root_keeps_the_workspace() {
    let session = Session::start(&["--workspace", "work", "--memory", "100M"]);
    let root = session.dir.path().join("root");
    for dir in ["bin", "dev", "proc", "tmp", "workspace"] {
        fs::create_dir_all(root.join(dir)).unwrap();
    }
    fs::copy(busybox(), root.join("bin/busybox")).unwrap();
    std::os::unix::fs::symlink("busybox", root.join("bin/sh")).unwrap();
    fs::write(root.join("here"), "another root").unwrap();
    let mark = mark(&session, 0);
    session.exec(&[], &format!("echo mine >file; sleep {mark} >/dev/null 2>&1 &")).ok();
    wait_until("the sleeper", || processes(&mark).len() == 1);
    let refused = session.call(&["swap", &session.name, "--rootfs", "nowhere"]);
    assert!(refused.code() == 125 && refused.stderr.contains("nowhere"), "{refused:?}");
    assert_eq!(processes(&mark).len(), 1, "a swap that failed has changed something");
    session.call(&["swap", &session.name, "--rootfs", "root"]).ok();
    assert_eq!(processes(&mark), [""; 0]);
    assert_eq!(session.exec(&[], "busybox cat /here; pwd; busybox cat file").ok(), "another root/workspace\nmine");
    assert_eq!(session.report()["rootfs"], root.to_str().unwrap());
    assert_eq!(session.record()["policy"]["limits"]["memory"], "100M");
}

#[test]
fn a_name_is_one_sessions() {
    let session = Session::start(&[]);
    let again = session.call(&["start", &session.name]);
    assert!(again.code() == 125 && again.stderr.contains("already"), "{again:?}");
    for name in ["", "../x", ".x", "a/b", "a b"] {
        let outcome = session.call(&["start", name]);
        assert!(outcome.code() == 125 && outcome.stderr.contains("is no name of a session"), "{name:?} {outcome:?}");
    }
    for command in ["stop", "exec"] {
        let args = [command, "never-started", "true"];
        let outcome = session.call(&args[..if command == "exec" { 3 } else { 2 }]);
        assert!(
            outcome.code() == 125 && outcome.stderr.contains("there is no session \"never-started\""),
            "{outcome:?}"
        );
    }
    let outcome = session.call(&["start", "weak", "--level", "default"]);
    assert!(outcome.code() == 99 && outcome.stderr.contains("only enhanced and container"), "{outcome:?}");
    let outcome = session.call(&["start", "wrong", "--ro", "/no/such/path"]);
    assert!(outcome.code() == 125 && !session.place().with_file_name("wrong").exists(), "{outcome:?}");
}

#[test]
fn commands_run_side_by_side() {
    let session = Session::start(&[]);
    let children: Vec<_> = (0..8)
        .map(|number| {
            let script = format!("sleep 0.2; exit {number}");
            session.command(&["exec", &session.name, "--", "sh", "-c", &script]).spawn().unwrap()
        })
        .collect();
    let codes: Vec<_> = children.into_iter().map(|mut child| child.wait().unwrap().code()).collect();
    assert_eq!(codes, (0..8).map(Some).collect::<Vec<_>>());
    assert_eq!(session.report()["processes"], 0);
}

#[test]
fn a_plain_user_without_a_control_group_is_told_so_before_anything_is_made() {
    let session = Session::new();
    let runtime = session.dir.path().join("runtime");
    fs::create_dir(&runtime).unwrap();
    std::os::unix::fs::chown(&runtime, Some(ID), Some(ID)).unwrap();
    fs::set_permissions(session.dir.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let mut command = User(ID).command("env");
    command.arg(format!("XDG_RUNTIME_DIR={}", runtime.display())).arg(program());
    command.args(["sandbox", "start", &session.name]).current_dir("/");
    let outcome = Outcome::of(&mut command);
    assert_eq!(outcome.code(), 99, "{outcome:?}");
    assert!(
        outcome.stderr.contains("a sandbox that stays") || outcome.stderr.contains("user namespace"),
        "{outcome:?}"
    );
    assert!(!runtime.join("procrt-sessions").join(&session.name).exists());
}

#[test]
fn a_shell_in_a_terminal_is_one_of_a_sessions_commands() {
    let session = Session::start(&[]);
    let mut command = session.command(&["exec", &session.name, "--", "sh"]);
    command.env("TERM", "vt220");
    let mut foreground = Foreground::of(&command);
    foreground.terminal.type_in("echo $((6 * 7)) $TERM $(tty); stty size\r");
    foreground.terminal.expect("42 ");
    foreground.terminal.expect("24 80");
    // The terminal's keys reach what runs in it.
    foreground.terminal.type_in("sleep 1000\r");
    wait_until("the command", || session.report()["processes"] == 2);
    foreground.terminal.type_in("\u{3}");
    wait_until("its end", || session.report()["processes"] == 1);
    foreground.terminal.type_in("exit 5\r");
    assert_eq!(foreground.finish().0, 5);
    assert_eq!(session.exec(&[], "echo goes on").ok(), "goes on");
}

#[test]
fn commands_are_confined_as_the_session_is() {
    let session = Session::start(&["--rlimit", "nofile=77", "--env", "FROM=start"]);
    let status = session.exec(&[], "grep -E '^(Cap|NoNewPrivs|Seccomp:)' /proc/self/status").ok();
    let status: Vec<(&str, &str)> = status.lines().map(|line| line.split_once(":\t").unwrap()).collect();
    for (name, value) in status {
        let expected = match name {
            "NoNewPrivs" => "1",
            "Seccomp" => "2",
            _ => "0000000000000000",
        };
        assert_eq!((name, value), (name, expected));
    }
    assert_eq!(session.exec(&[], "ulimit -n; echo $FROM; cat /etc/shadow 2>/dev/null").stdout, "77\nstart\n");
    assert_eq!(session.exec(&[], "grep -c : /proc/net/dev; ls /proc/self/fd | wc -l").ok(), "1\n4");
    for script in ["unshare -m true", "mount -t tmpfs x /tmp", "echo 0 >/proc/self/oom_score_adj", "ls /root/.ssh"] {
        assert_ne!(session.exec(&[], &format!("{script} 2>/dev/null")).code(), 0, "{script}");
    }
}

/// Control groups that are the plain user's, with one each in which its processes can be; they go with the test.
struct Delegated {
    made: Vec<PathBuf>,
    own: Vec<PathBuf>,
}

impl Delegated {
    fn new() -> Self {
        let name = format!("procrt-test-session-{}", std::process::id());
        let root = PathBuf::from("/sys/fs/cgroup");
        let mut delegated = Self { made: Vec::new(), own: Vec::new() };
        let hierarchies: &[&str] = if unified() { &[""] } else { &["memory", "pids", "freezer", "cpuacct"] };
        if unified() {
            fs::write(root.join("cgroup.subtree_control"), "+pids +memory").unwrap();
        }
        for hierarchy in hierarchies {
            let dir = root.join(hierarchy).join(&name);
            for dir in [dir.clone(), dir.join("own")] {
                fs::create_dir(&dir).unwrap();
                for file in ["", "cgroup.procs", "cgroup.subtree_control", "cgroup.threads", "tasks"] {
                    let _ = std::os::unix::fs::chown(dir.join(file), Some(ID), Some(ID));
                }
                delegated.made.push(dir);
            }
            delegated.own.push(dir.join("own"));
        }
        delegated
    }
}

impl Drop for Delegated {
    fn drop(&mut self) {
        for dir in self.made.iter().rev() {
            wait_until("the control group to be free", || fs::remove_dir(dir).is_ok() || std::thread::panicking());
        }
    }
}

#[test]
fn a_plain_user_with_a_control_group_has_sessions_too() {
    let session = Session::new();
    let delegated = Delegated::new();
    let at = |name: &str| session.dir.path().join(name);
    for name in ["runtime", "cache"] {
        fs::create_dir(at(name)).unwrap();
        std::os::unix::fs::chown(at(name), Some(ID), Some(ID)).unwrap();
    }
    fs::set_permissions(session.dir.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let enter: String = delegated.own.iter().map(|dir| format!("echo $$ >{}/cgroup.procs; ", dir.display())).collect();
    let call = |args: &[&str]| {
        let user = User(ID).command("env");
        let mut command = Command::new("sh");
        command.args(["-ec", &format!("{enter}exec \"$@\""), "sh"]).arg(user.get_program()).args(user.get_args());
        for (name, place) in [("XDG_RUNTIME_DIR", "runtime"), ("XDG_CACHE_HOME", "cache")] {
            command.arg(format!("{name}={}", at(place).display()));
        }
        Outcome::of(command.arg(program()).arg("sandbox").args(args).current_dir(session.dir.path()))
    };
    let started = call(&["start", &session.name, "--workspace", "work", "--memory", "100M", "--pids", "20"]);
    if started.code() == 99 && started.stderr.contains("user namespace") {
        return skipped(&started.stderr);
    }
    started.ok();
    assert_eq!(call(&["exec", &session.name, "--", "sh", "-c", "id -u; pwd; cat file"]).ok().lines().count(), 3);
    let mark = mark(&session, 0);
    let script = format!("setsid sleep {mark} & sleep {mark}");
    assert_eq!(call(&["exec", &session.name, "--timeout", "300ms", "--", "sh", "-c", &script]).code(), 124);
    assert_eq!(processes(&mark), [""; 0]);
    let inside =
        call(&["exec", &session.name, "--", "sh", "-c", "cat /proc/1/environ /proc/1/mem; readlink /proc/1/fd/*"]);
    assert_eq!(inside.stdout, "", "the first process is in reach");
    call(&["stop", &session.name]).ok();
    assert_eq!(fs::read_dir(at("runtime/procrt-sessions")).unwrap().count(), 0);
    assert_eq!(fs::read_dir(at("cache/procrt/workspaces")).unwrap().count(), 0);
}

#[test]
fn who_lies_in_wait_for_commands_gets_nothing_of_their_makers() {
    let session = Session::start(&["--workspace", "work"]);
    let mark = session.dir.path().join("mark");
    fs::write(&mark, "of the host").unwrap();
    // Looks into every process that comes, as fast as it can.
    let script = format!(
        "while :; do for p in /proc/[0-9]*; do cat $p/root{mark} $p/cwd/mark $p/environ 2>/dev/null \
         | tr '\\0' '\\n' | grep -aE 'of the host|CALLERS_OWN' >>got; \
         for f in $p/fd/*; do cat $f/mark 2>/dev/null | head -c 100 >>got; done; done; done",
        mark = mark.display()
    );
    session.exec(&[], &format!("for i in 1 2 3; do ({script}) >/dev/null 2>&1 & done")).ok();
    for _ in 0..support::rounds(60) {
        let mut command = session.command(&["exec", &session.name, "--", "true"]);
        command.env("CALLERS_OWN", "CALLERS_OWN secret").current_dir(session.dir.path());
        Outcome::of(&mut command).ok();
    }
    assert_eq!(session.exec(&[], "cat got").stdout, "");
    // It would have found a process that is open to it.
    let seen = "CALLERS_OWN=1 sleep 2; grep -c CALLERS_OWN got";
    assert_ne!(session.exec(&[], &format!("sh -c '{seen}'")).stdout.trim(), "0");
}
