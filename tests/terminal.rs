//! The container's terminal: sent to a console socket, and relayed in the foreground under a terminal of the test's.

mod support;

use std::fs;
use std::io::Write;
use std::os::fd::AsFd;
use std::os::unix::net::UnixListener;
use std::process::Stdio;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use procrt::terminal::console::receive_fd;
use serde_json::json;
use support::tty::{ConsoleSocket, Foreground, assert_cooked, shell, stty};
use support::{Bundle, Running, wait_until};

#[test]
fn create_sends_the_terminal_to_the_console_socket() {
    let bundle = shell();
    let socket = ConsoleSocket::new(&bundle);
    bundle.create_with(&socket.option()).ok();
    let mut terminal = socket.receive();
    bundle.start().ok();
    terminal.type_in("echo $((40 + 2)); tty; test -t 0 && test -t 1 && test -t 2 && echo all\n");
    terminal.expect("42\r\n/dev/pts/0\r\nall\r\n");
    terminal.type_in("echo to tty > /dev/tty; echo to console > /dev/console\n");
    terminal.expect("\r\nto tty\r\nto console\r\n");
    terminal.type_in("exit\n");
    bundle.wait_for_status("stopped");
    bundle.delete(&[]).ok();
}

#[test]
fn run_detached_sends_the_terminal_to_the_console_socket() {
    let bundle = shell();
    let socket = ConsoleSocket::new(&bundle);
    bundle.run_with(&[&["--detach"], &socket.option()[..]].concat()).ok();
    let mut terminal = socket.receive();
    terminal.type_in("echo here $((1 + 1))\n");
    terminal.expect("here 2\r\n");
    // What is typed at a terminal is a signal to the foreground of its session.
    terminal.type_in("trap 'echo inter''rupted' INT; sleep 1000\n");
    terminal.expect("sleep 1000\r\n");
    std::thread::sleep(Duration::from_millis(200));
    terminal.type_in("\u{3}");
    terminal.expect("interrupted\r\n");
    bundle.delete(&["--force"]).ok();
}

#[test]
fn the_terminal_has_the_size_that_is_configured() {
    let bundle = shell().set("/process/consoleSize", json!({"height": 33, "width": 101}));
    let socket = ConsoleSocket::new(&bundle);
    bundle.run_with(&[&["--detach"], &socket.option()[..]].concat()).ok();
    let mut terminal = socket.receive();
    terminal.type_in("stty size\n");
    terminal.expect("33 101\r\n");
    bundle.delete(&["--force"]).ok();
}

#[test]
fn the_terminal_belongs_to_the_containers_user() {
    let bundle = shell().set("/process/user", json!({"uid": 1000, "gid": 1000}));
    let socket = ConsoleSocket::new(&bundle);
    bundle.run_with(&[&["--detach"], &socket.option()[..]].concat()).ok();
    let mut terminal = socket.receive();
    terminal.type_in("stat -c '%u:%g %a' $(tty); echo opened > $(tty)\n");
    terminal.expect("\r\n1000:5 620\r\nopened\r\n");
    bundle.delete(&["--force"]).ok();
}

#[test]
fn a_terminal_in_a_user_namespace_works_alike() {
    let bundle = shell().mapped(100_000);
    let socket = ConsoleSocket::new(&bundle);
    bundle.run_with(&[&["--detach"], &socket.option()[..]].concat()).ok();
    let mut terminal = socket.receive();
    terminal.type_in("tty; stat -c %u $(tty); echo to console > /dev/console\n");
    terminal.expect("/dev/pts/0\r\n0\r\nto console\r\n");
    bundle.delete(&["--force"]).ok();
}

#[test]
fn the_foreground_relays_what_is_typed_and_said() {
    let bundle = shell();
    let mut foreground = Foreground::run(&bundle);
    foreground.terminal.expect("up\r\n");
    foreground.terminal.type_in("echo $((40 + 2)); tty\n");
    // Echoed by the container's terminal alone, the outer one being raw.
    let said = foreground.terminal.expect("42\r\n/dev/pts/0\r\n");
    assert_eq!(said.matches("echo").count(), 1, "{said:?}");
    foreground.terminal.type_in("exit 7\n");
    assert_eq!(foreground.finish().0, 7);
}

#[test]
fn the_outer_terminal_is_raw_meanwhile_and_has_its_modes_back() {
    for signal in ["", "KILL"] {
        let bundle = shell();
        let mut foreground = Foreground::run(&bundle);
        foreground.terminal.expect("up\r\n");
        let meanwhile = stty(&foreground.slave, &["-a"]);
        for mode in ["-icanon", "-echo ", "-isig", "-opost"] {
            assert!(meanwhile.contains(mode), "{mode}: {meanwhile}");
        }
        if signal.is_empty() {
            foreground.terminal.type_in("exit 0\n");
        } else {
            bundle.kill(signal).ok();
        }
        let (status, _, modes) = foreground.finish();
        assert_eq!(status, if signal.is_empty() { 0 } else { 137 });
        assert_cooked(&modes);
    }
}

#[test]
fn modes_are_back_when_the_container_cannot_be_started() {
    let bundle = Bundle::running(&["/nonexistent"]).set("/process/terminal", json!(true));
    let (status, said, modes) = Foreground::run(&bundle).finish();
    assert_eq!(status, 1);
    assert!(said.contains("/nonexistent") && said.ends_with("\r\n"), "{said:?}");
    assert_cooked(&modes);
}

#[test]
fn the_containers_terminal_follows_the_size_of_the_outer_one() {
    let script = "trap 'stty size; echo re''sized' WINCH; stty size; echo up; while :; do sleep 0.01; done";
    let bundle = Bundle::new(script).set("/process/terminal", json!(true));
    let mut foreground = Foreground::run(&bundle);
    foreground.terminal.expect("24 80\r\nup\r\n");
    stty(&foreground.slave, &["rows", "40", "cols", "120"]);
    foreground.terminal.expect("40 120\r\nresized\r\n");
    bundle.kill("KILL").ok();
    assert_eq!(foreground.finish().0, 137);
}

#[test]
fn an_interrupt_that_is_typed_is_the_containers() {
    let bundle = Bundle::new("trap 'echo inter''rupted; exit 9' INT; echo ready; while :; do sleep 0.01; done");
    let bundle = bundle.set("/process/terminal", json!(true));
    let mut foreground = Foreground::run(&bundle);
    foreground.terminal.expect("ready");
    foreground.terminal.type_in("\u{3}");
    let (status, said, _) = foreground.finish();
    assert!(status == 9 && said.contains("interrupted"), "{status} {said:?}");
}

#[test]
fn all_that_was_said_arrives() {
    let bundle = Bundle::new("i=0; while test $i -lt 3000; do echo line $i; i=$((i + 1)); done; echo the end");
    let bundle = bundle.set("/process/terminal", json!(true));
    let (status, said, _) = Foreground::run(&bundle).finish();
    assert_eq!(status, 0);
    assert!(said.ends_with("line 2999\r\nthe end\r\n"), "{:?}", &said[said.len().saturating_sub(200)..]);
    assert_eq!(said.matches("line ").count(), 3000);
}

#[test]
fn a_terminal_without_an_outer_one_relays_pipes() {
    let bundle = shell();
    let mut command = bundle.making("run", &[]);
    command.stdin(Stdio::piped());
    let mut running = Running::start(&mut command);
    running.child.stdin.as_mut().unwrap().write_all(b"echo $((40 + 2)); exit 4\n").unwrap();
    let outcome = running.finish();
    assert_eq!(outcome.code(), 4, "{outcome:?}");
    assert!(outcome.stdout.contains("42\r\n"), "{outcome:?}");
}

#[test]
fn what_is_typed_ahead_is_not_lost() {
    let bundle = shell();
    let mut foreground = Foreground::run(&bundle);
    foreground.terminal.type_in("echo $((40 + 2)); exit 3\n");
    foreground.terminal.expect("up\r\n");
    let (status, said, _) = foreground.finish();
    assert!(status == 3 && said.contains("42\r\n"), "{status} {said:?}");
}

#[test]
fn a_terminal_needs_somebody_at_its_other_end() {
    let bundle = shell();
    let sentence = "process.terminal: true needs --console-socket for a container that is not in the foreground";
    assert_eq!(bundle.create().refused(), sentence);
    assert_eq!(bundle.run_with(&["--detach"]).refused(), sentence);
    bundle.assert_nothing_left();
}

#[test]
fn a_console_socket_needs_a_terminal() {
    let bundle = Bundle::sleeping();
    let socket = ConsoleSocket::new(&bundle);
    let sentence = "--console-socket: process.terminal is false, so there is no terminal to send";
    assert_eq!(bundle.create_with(&socket.option()).refused(), sentence);
    assert_eq!(bundle.run_with(&socket.option()).refused(), sentence);
    let bundle = shell();
    let error = bundle.run_with(&socket.option()).refused();
    assert!(error.starts_with("--console-socket: a container in the foreground has procrt's own terminal"), "{error}");
    bundle.assert_nothing_left();
}

#[test]
fn a_console_socket_that_is_none_undoes_the_container() {
    let bundle = shell();
    for (path, reason) in [
        ("/nonexistent/sock", "no such file or directory (os error 2)"),
        ("/etc/passwd", "connection refused (os error 111)"),
    ] {
        let error = bundle.create_with(&["--console-socket", path]).refused();
        assert_eq!(error, format!("connect to the socket \"{path}\": {reason}"));
        bundle.assert_nothing_left();
    }
}

#[test]
fn a_terminal_without_devpts_is_refused() {
    let bundle = shell().without_mount("/dev/pts");
    let error = bundle.run().refused();
    assert!(error.contains("/dev/pts"), "{error}");
    bundle.assert_nothing_left();
}

#[test]
fn an_image_cannot_put_its_own_terminal_in_the_way() {
    // What is at /dev/ptmx and /dev/console in the image is not what is used.
    let bundle = shell().without_mount("/dev").without_mount("/dev/shm").without_mount("/dev/mqueue");
    fs::write(bundle.inside("dev/ptmx"), "trap").unwrap();
    let outside = tempfile::NamedTempFile::new().unwrap();
    std::os::unix::fs::symlink(outside.path(), bundle.inside("dev/console")).unwrap();
    let socket = ConsoleSocket::new(&bundle);
    let outcome = bundle.run_with(&[&["--detach"], &socket.option()[..]].concat());
    if outcome.code() == 0 {
        let mut terminal = socket.receive();
        terminal.type_in("echo $((40 + 2))\n");
        terminal.expect("42\r\n");
        bundle.delete(&["--force"]).ok();
    } else {
        outcome.refused();
    }
    assert_eq!(fs::read(outside.path()).unwrap(), b"");
    assert!(!fs::read_to_string("/proc/self/mountinfo").unwrap().contains(outside.path().to_str().unwrap()));
}

#[test]
fn a_pidfd_socket_gets_a_pidfd_of_the_first_process() {
    let bundle = Bundle::sleeping();
    let path = bundle.join("pidfd.sock");
    let listener = UnixListener::bind(&path).unwrap();
    bundle.create_with(&["--pidfd-socket", path.to_str().unwrap()]).ok();
    let (connection, _) = listener.accept().unwrap();
    let (pidfd, _) = receive_fd(connection.as_fd()).unwrap();
    let info = fs::read_to_string(format!("/proc/self/fdinfo/{}", std::os::fd::AsRawFd::as_raw_fd(&pidfd))).unwrap();
    let pid = info.lines().find_map(|line| line.strip_prefix("Pid:")).unwrap().trim().to_owned();
    assert_eq!(pid, bundle.pid().to_string());
    bundle.kill("KILL").ok();
    // A pidfd is readable when its process has ended.
    wait_until("the end of the process", || {
        let mut fds = [PollFd::new(pidfd.as_fd(), PollFlags::POLLIN)];
        poll(&mut fds, PollTimeout::from(100_u8)).unwrap() == 1
    });
    bundle.delete(&["--force"]).ok();
}

#[test]
fn the_master_is_closed_with_the_container() {
    let bundle = shell();
    let socket = ConsoleSocket::new(&bundle);
    bundle.run_with(&[&["--detach"], &socket.option()[..]].concat()).ok();
    let mut terminal = socket.receive();
    terminal.type_in("echo last $((1 + 1)); exit\n");
    let said = terminal.rest();
    assert!(said.contains("last 2\r\n"), "{said:?}");
    bundle.wait_for_status("stopped");
    bundle.delete(&[]).ok();
}
