//! The sandbox as a library, in a program with threads.

use std::io::{Read, Write, pipe};
use std::time::{Duration, Instant};

use procrt::error::Kind;
use procrt::sandbox::{Policy, Sandbox};

/// A policy whose command begins in a directory of its own.
fn policy() -> Policy {
    serde_json::from_str(r#"{"files": {"cwd": "/tmp"}, "limits": {"memory": "128M", "pids": 32}}"#).unwrap()
}

#[test]
fn commands_of_many_threads_come_to_their_own_ends() {
    let sandbox = Sandbox::new(policy()).unwrap();
    std::thread::scope(|scope| {
        for number in 0..8 {
            let sandbox = &sandbox;
            scope.spawn(move || {
                for _ in 0..3 {
                    let (mut said, output) = pipe().unwrap();
                    let script = format!("read word; echo $word {number}; exit {number}");
                    let (input, mut tell) = pipe().unwrap();
                    let command = sandbox.command("sh", ["-c", &script]).stdin(input).stdout(output);
                    let running = command.spawn().unwrap();
                    tell.write_all(b"hello\n").unwrap();
                    let mut text = String::new();
                    said.read_to_string(&mut text).unwrap();
                    assert_eq!(text, format!("hello {number}\n"));
                    let outcome = running.wait().unwrap();
                    assert_eq!((outcome.exit_code, outcome.signal), (Some(number), None));
                    assert!(outcome.wall_time > Duration::ZERO);
                }
            });
        }
    });
}

#[test]
fn one_that_nobody_wants_any_more_is_ended() {
    let sandbox = Sandbox::new(policy()).unwrap();
    let (mut said, output) = pipe().unwrap();
    let script = "trap '' TERM HUP; echo up; setsid sleep 1000 & sleep 1000";
    let mut running = sandbox.command("sh", ["-c", script]).stdout(output).spawn().unwrap();
    let mut line = [0; 3];
    said.read_exact(&mut line).unwrap();
    running.kill();
    let outcome = running.wait().unwrap();
    assert_eq!(outcome.signal, Some(libc::SIGKILL));
    // All who had it are gone.
    assert_eq!(said.read(&mut line).unwrap(), 0);

    let (mut said, output) = pipe().unwrap();
    let running = sandbox.command("sh", ["-c", script]).stdout(output).spawn().unwrap();
    said.read_exact(&mut line).unwrap();
    let begin = Instant::now();
    drop(running);
    assert_eq!(said.read(&mut line).unwrap(), 0);
    assert!(begin.elapsed() < Duration::from_secs(20));
}

#[test]
fn a_signal_reaches_the_command() {
    let sandbox = Sandbox::new(policy()).unwrap();
    let (mut said, output) = pipe().unwrap();
    let script = "trap 'exit 42' USR1; echo up; while :; do sleep 0.05; done";
    let running = sandbox.command("sh", ["-c", script]).stdout(output).spawn().unwrap();
    said.read_exact(&mut [0; 3]).unwrap();
    running.signal(libc::SIGUSR1).unwrap();
    assert_eq!(running.wait().unwrap().exit_code, Some(42));
}

#[test]
fn what_cannot_be_run_says_why() {
    let sandbox = Sandbox::new(policy()).unwrap();
    let error = sandbox.command("no-such-program", [""; 0]).run().unwrap_err();
    assert_eq!(error.kind(), Kind::ProgramNotFound);
    let error = sandbox.command("/etc/passwd", [""; 0]).run().unwrap_err();
    assert_eq!(error.kind(), Kind::ProgramNotExecutable);
    let wrong: Policy = serde_json::from_str(r#"{"files": {"ro": ["/no/such"]}}"#).unwrap();
    assert_eq!(Sandbox::new(wrong).unwrap_err().kind(), Kind::Config);
}

#[test]
fn limits_are_the_outcomes_too() {
    let mut policy = policy();
    policy.limits.timeout = Some("300ms".parse().unwrap());
    let outcome = Sandbox::new(policy).unwrap().command("sleep", ["1000"]).run().unwrap();
    assert!(outcome.timed_out);
    assert_eq!(outcome.exit_status(), 124);
    assert_eq!(outcome.limits.memory, Some("128M".parse().unwrap()));
}
