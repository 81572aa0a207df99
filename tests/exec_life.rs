//! Processes that join a container, one or many, and what can be done with a container that runs.

mod support;

use std::fs;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::net::UnixListener;
use std::process::Command;
use std::time::Duration;

use support::container::Container;
use support::{Bundle, Outcome, Running, skipped, wait_until};

#[test]
fn a_detached_process_goes_on_and_is_known_by_its_pid_file() {
    let container = Container::sleeping();
    let file = container.join("pid");
    let options = ["--detach", "--pid-file", file.to_str().unwrap()];
    assert_eq!(container.exec_with(&options, &["sleep", "1000"]).ok(), "");
    let pid: i32 = fs::read_to_string(&file).unwrap().parse().unwrap();
    assert_eq!(fs::read(format!("/proc/{pid}/cmdline")).unwrap(), b"sleep\x001000\x00");
    let pids: Vec<i32> = serde_json::from_str(&container.call(&["ps", "-f", "json", container.id()]).ok()).unwrap();
    assert!(pids.contains(&pid) && pids.len() == 2, "{pids:?}");
}

#[test]
fn a_pidfd_is_sent_under_the_name_that_receivers_know() {
    let container = Container::sleeping();
    let socket = container.join("pidfd.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    container.exec_with(&["-d", "--pidfd-socket", socket.to_str().unwrap()], &["sleep", "1000"]).ok();
    let (connection, _) = listener.accept().unwrap();
    let (pidfd, name) = procrt::terminal::console::receive_fd(connection.as_fd()).unwrap();
    let info = fs::read_to_string(format!("/proc/self/fdinfo/{}", pidfd.as_raw_fd())).unwrap();
    assert_eq!(name, "setns");
    assert!(info.lines().any(|line| line.starts_with("Pid:") && !line.ends_with("\t-1")), "{info}");
}

#[test]
fn states_in_which_nothing_can_join_are_refused() {
    let bundle = Bundle::sleeping();
    bundle.create().ok();
    let exec = |args: &[&str]| bundle.call(&[&["exec"], args].concat());
    assert_eq!(exec(&[bundle.id(), "echo", "early"]).ok(), "early");
    bundle.start().ok();
    bundle.call(&["pause", bundle.id()]).ok();
    let words = "cannot exec in a paused container (use --ignore-paused to override)";
    assert!(exec(&[bundle.id(), "true"]).not_done().ends_with(words));
    let waiting = Running::start(&mut bundle.command(&["exec", "--ignore-paused", bundle.id(), "echo", "late"]));
    std::thread::sleep(Duration::from_millis(100));
    assert_eq!(waiting.stdout(), "");
    bundle.call(&["resume", bundle.id()]).ok();
    assert_eq!(waiting.finish().ok(), "late");
    bundle.kill("KILL").ok();
    bundle.wait_for_status("stopped");
    assert!(exec(&[bundle.id(), "true"]).not_done().ends_with("cannot exec in a stopped container"));
    bundle.delete(&[]).ok();
}

#[test]
fn a_container_that_dies_meanwhile_hangs_nobody() {
    for _ in 0..support::rounds(3) {
        let bundle = Bundle::sleeping();
        bundle.create().ok();
        bundle.start().ok();
        let sleeper = Running::start(&mut bundle.command(&["exec", bundle.id(), "sleep", "1000"]));
        let mut others: Vec<Running> = Vec::new();
        for _ in 0..4 {
            others.push(Running::start(&mut bundle.command(&["exec", bundle.id(), "true"])));
        }
        bundle.kill("KILL").ok();
        for _ in 0..4 {
            others.push(Running::start(&mut bundle.command(&["exec", bundle.id(), "true"])));
        }
        assert!([137, 255].contains(&sleeper.finish().code()));
        for other in others {
            let outcome = other.finish();
            assert!([0, 137, 255].contains(&outcome.code()), "{outcome:#?}");
        }
        bundle.delete(&["--force"]).ok();
    }
}

#[test]
fn many_one_after_the_other_and_at_once_all_come_to_their_end() {
    let container = Container::sleeping();
    for index in 0..support::rounds(100) {
        let status = index % 100;
        assert_eq!(container.exec(&["sh", "-c", &format!("exit {status}")]).code(), status as i32);
    }
    let at_once: Vec<_> = (0..support::rounds(20) % 256)
        .map(|index| {
            Running::start(&mut container.command_of(&[], &["sh", "-c", &format!("usleep 1000; exit {index}")]))
        })
        .collect();
    for (index, running) in at_once.into_iter().enumerate() {
        assert_eq!(running.finish().code(), index as i32);
    }
    let pids = container.call(&["ps", "--format", "json", container.id()]).ok();
    assert_eq!(pids, format!("[{}]", container.pid()));
}

#[test]
fn signals_of_the_caller_reach_the_process() {
    let container = Container::sleeping();
    let script = "trap 'exit 9' TERM; echo ready; while :; do usleep 1000; done";
    let running = Running::start(&mut container.command_of(&[], &["sh", "-c", script]));
    wait_until("the process", || running.stdout() == "ready\n");
    nix::sys::signal::kill(running.pid(), nix::sys::signal::Signal::SIGTERM).unwrap();
    assert_eq!(running.finish().code(), 9);
}

#[test]
fn a_paused_container_stands_still_until_it_is_resumed() {
    let container = Container::of(Bundle::new("while :; do echo x >> /count; usleep 1000; done"));
    container.wait_for_file("count");
    assert_eq!(container.call(&["pause", container.id()]).ok(), "");
    assert_eq!(container.status(), "paused");
    let count = || fs::metadata(container.inside("count")).unwrap().len();
    let before = count();
    std::thread::sleep(Duration::from_millis(50));
    assert_eq!(count(), before);
    let error = container.call(&["pause", container.id()]).refused();
    assert_eq!(error, format!("pause \"{}\": container not running", container.id()));
    assert_eq!(container.call(&["resume", container.id()]).ok(), "");
    assert_eq!(container.status(), "running");
    wait_until("the count to go on", || count() > before);
    let error = container.call(&["resume", container.id()]).refused();
    assert_eq!(error, format!("resume \"{}\": container not paused", container.id()));
}

#[test]
fn ps_shows_the_containers_processes_and_no_others() {
    let container = Container::sleeping();
    let pid = container.pid().to_string();
    assert_eq!(container.call(&["ps", "-f=json", container.id()]).ok(), format!("[{pid}]"));
    container.call(&["ps", "--format", "xml", container.id()]).refused();
    if !Outcome::of(Command::new("ps").arg("-ef")).status.success() {
        return skipped("the ps of this machine does not work");
    }
    let table = container.call(&["ps", container.id()]).ok();
    let rows: Vec<&str> = table.lines().collect();
    assert!(rows.len() == 2 && rows[0].contains("PID") && rows[1].contains("sleep 1000"), "{table}");
    let table = container.call(&["ps", container.id(), "-o", "pid,args"]).ok();
    let words: Vec<&str> = table.split_whitespace().skip(1).collect();
    assert_eq!(words[1..], [&pid, "/bin/sleep", "1000"], "{table}");
    let error = container.call(&["ps", container.id(), "-o", "args"]).refused();
    assert_eq!(error, "the output of ps has no column PID");
}
