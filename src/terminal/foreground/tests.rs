//! The foreground with real terminals. A test starts this test program again as the process in the foreground, which is
//! [`stage_supervisor`], and that one again as the container's process, which is [`stage_container`]: both do nothing
//! unless their variables are set.
//!
//! A test runs in a thread of its own, so the foreground's process is started with every signal blocked: its other thread
//! then leaves them all to the one that supervises, as in a process of one thread.

use std::io::{Read, Write};
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::prctl::set_child_subreaper;
use nix::sys::signal::{SigSet, SigmaskHow, Signal, kill};
use nix::sys::termios::{LocalFlags, Termios, tcgetattr};
use nix::unistd::{Pid, setsid};

use super::*;
use crate::sys::process::pidfd_open;
use crate::sys::terminal::{set_controlling, set_window_size, window_size};
use crate::terminal::Size;
use crate::terminal::console::{connect, receive_fd, send_master};
use crate::terminal::pty::{Pty, tests::ptmx};
use crate::terminal::raw::RawMode;
use crate::terminal::relay::fit;

const SCRIPT: &str = "PROCRT_TEST_SCRIPT";
const FLAGS: &str = "PROCRT_TEST_FLAGS";
const SOCKET: &str = "PROCRT_TEST_SOCKET";

fn stage(name: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", &format!("terminal::foreground::tests::{name}"), "--nocapture", "--test-threads=1"]);
    command
}

fn flag(name: &str) -> bool {
    std::env::var(FLAGS).unwrap().split(' ').any(|flag| flag == name)
}

/// What runs between the two terminals: clones the container's process, supervises it, and exits as it did.
#[test]
fn stage_supervisor() {
    if std::env::var_os(SCRIPT).is_none() {
        return;
    }
    if flag("controlling") {
        setsid().unwrap();
        set_controlling(std::io::stdin().as_fd()).unwrap();
    }
    if flag("panics") {
        // As in a program that aborts on panics: nothing is dropped.
        std::mem::forget(RawMode::enter().unwrap());
        let raw = !tcgetattr(std::io::stdin()).unwrap().local_flags.contains(LocalFlags::ICANON);
        panic!("the terminal is raw: {raw}");
    }
    let subreaper = flag("subreaper");
    set_child_subreaper(subreaper).unwrap();
    SigSet::empty().thread_set_mask().unwrap();
    let signals = Signals::block().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("console");
    let listener = UnixListener::bind(&path).unwrap();
    let mut container = stage("stage_container");
    container.env(SOCKET, &path);
    if !flag("plain") {
        container.stdin(Stdio::null()).stdout(Stdio::null());
    }
    let child = container.spawn().unwrap();
    let (mut socket, _) = listener.accept().unwrap();
    let master = (!flag("plain")).then(|| receive_fd(socket.as_fd()).unwrap().0);
    if let Some(master) = &master {
        fit(master.as_fd());
    }
    socket.write_all(b"start").unwrap();
    drop((socket, folder));
    let pid = child.id() as i32;
    let pidfd = pidfd_open(pid).unwrap();
    if flag("late") {
        // The process is long gone when it begins to be supervised.
        poll(&mut [PollFd::new(pidfd.as_fd(), PollFlags::POLLIN)], PollTimeout::NONE).unwrap();
    }
    let status = supervise(&signals, pid, pidfd.as_fd(), master, subreaper).unwrap();
    let left = wait(Which::Any, false);
    drop(signals);
    std::process::exit(if left == Err(Errno::ECHILD) { status } else { 99 });
}

/// The container's process: opens its terminal, sends the master end away, and executes the script.
#[test]
fn stage_container() {
    let Ok(path) = std::env::var(SOCKET) else { return };
    let script = std::env::var(SCRIPT).unwrap();
    SigSet::empty().thread_set_mask().unwrap();
    let socket = connect(Path::new(&path)).unwrap();
    if !flag("plain") {
        setsid().unwrap();
        let pty = Pty::open(ptmx(), Some(Size { rows: 11, columns: 22 })).unwrap();
        send_master(socket.as_fd(), pty.master()).unwrap();
        pty.adopt().unwrap();
    }
    std::fs::File::from(socket).read_exact(&mut [0; 5]).unwrap();
    let error = Command::new("/bin/sh").args(["-c", &script]).env_remove(SOCKET).exec();
    panic!("{error}");
}

fn supervisor(script: &str, flags: &str) -> Command {
    let mut command = stage("stage_supervisor");
    command.env(SCRIPT, script).env(FLAGS, flags);
    command
}

/// Starts a supervisor with every signal blocked.
fn start(command: &mut Command) -> Child {
    let mask = SigSet::all().thread_swap_mask(SigmaskHow::SIG_BLOCK).unwrap();
    let child = command.spawn().unwrap();
    mask.thread_set_mask().unwrap();
    child
}

/// Waits for at most a minute: nothing here takes a second unless it hangs.
fn code(child: &mut Child) -> i32 {
    let pidfd = pidfd_open(child.id() as i32).unwrap();
    if poll(&mut [PollFd::new(pidfd.as_fd(), PollFlags::POLLIN)], 60_000_u16).unwrap() == 0 {
        child.kill().unwrap();
        panic!("it hangs");
    }
    child.wait().unwrap().code().expect("it exits by itself")
}

/// Reads until `text` was seen, and answers everything that came before it.
fn until(stream: &mut impl Read, text: &str) -> String {
    let mut seen = Vec::new();
    let mut byte = [0];
    while !seen.ends_with(text.as_bytes()) {
        assert_eq!(stream.read(&mut byte).unwrap(), 1, "{text:?} never came, but {:?}", String::from_utf8_lossy(&seen));
        seen.push(byte[0]);
    }
    seen.truncate(seen.len() - text.len());
    String::from_utf8(seen).unwrap()
}

/// Runs a script with pipes for stdio; what it wrote after "BEGIN" and a line feed, and the exit status.
fn piped(script: &str, flags: &str, input: &str) -> (String, i32) {
    let script = format!("stty -onlcr -echo; echo BEGIN; {script}");
    let mut child = start(supervisor(&script, flags).stdin(Stdio::piped()).stdout(Stdio::piped()));
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let mut stdout = child.stdout.take().unwrap();
    until(&mut stdout, "BEGIN\n");
    let mut rest = String::new();
    stdout.read_to_string(&mut rest).unwrap();
    (rest, code(&mut child))
}

#[test]
fn a_flood_of_output_at_the_end_loses_no_byte() {
    let expected: String = (1..=200_000).flat_map(|number| [number.to_string(), "\n".to_owned()]).collect();
    assert!(expected.len() > 1_000_000);
    let (output, status) = piped("seq 1 200000; exit 7", "", "");
    assert_eq!(status, 7);
    assert!(output == expected, "{} of {} bytes came", output.len(), expected.len());
}

#[test]
fn a_process_left_with_the_terminal_keeps_nobody_waiting() {
    let start = Instant::now();
    // It ignores the SIGHUP that the end of the session's leader brings, and is not reaped by anybody we wait for.
    let (output, status) = piped("trap '' HUP; sleep 30 & echo $!; exit 4", "", "");
    assert_eq!(status, 4);
    assert!(start.elapsed() < Duration::from_secs(20));
    kill(Pid::from_raw(output.trim().parse().unwrap()), Signal::SIGKILL).unwrap();
}

#[test]
fn an_early_end_is_an_end() {
    for flags in ["", "late", "subreaper", "late subreaper"] {
        for _ in 0..5 {
            let mut child = start(supervisor("exit 3", flags).stdin(Stdio::null()).stdout(Stdio::null()));
            assert_eq!(code(&mut child), 3);
        }
    }
}

#[test]
fn a_death_by_a_signal_is_128_and_its_number() {
    assert_eq!(piped("kill -9 $$", "", ""), (String::new(), 137));
    assert_eq!(piped("kill -40 $$", "", ""), (String::new(), 168));
}

#[test]
fn what_is_piped_in_is_typed_and_its_end_ends_nothing() {
    let (output, status) = piped("read x; sleep 0.2; echo got $x; exit 6", "", "hi\n");
    assert_eq!((output.as_str(), status), ("got hi\n", 6));
}

#[test]
fn input_larger_than_every_buffer_arrives_whole() {
    let input: String = (0..80_000).flat_map(|number| ["line ".to_owned(), format!("{number}\n")]).collect();
    let (output, _) = piped(&format!("head -c {} | cksum", input.len()), "", &input);
    let mut sum = Command::new("cksum").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    sum.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    assert_eq!(output.as_bytes(), sum.wait_with_output().unwrap().stdout);
}

#[test]
fn a_file_can_be_stdin_and_stdout() {
    let folder = tempfile::tempdir().unwrap();
    let (from, to) = (folder.path().join("from"), folder.path().join("to"));
    std::fs::write(&from, "typed\n").unwrap();
    let mut child = start(
        supervisor("stty -onlcr -echo; read x; echo got $x", "")
            .stdin(std::fs::File::open(&from).unwrap())
            .stdout(std::fs::File::create(&to).unwrap()),
    );
    assert_eq!(code(&mut child), 0);
    let text = std::fs::read_to_string(&to).unwrap();
    assert!(text.ends_with("got typed\n"), "{text}");
}

#[test]
fn a_closed_stdout_neither_kills_nor_hangs() {
    let mut child = start(
        supervisor("echo READY; sleep 0.1; seq 1 200000; exit 5", "").stdin(Stdio::null()).stdout(Stdio::piped()),
    );
    until_ready(child.stdout.as_mut().unwrap());
    drop(child.stdout.take());
    assert_eq!(code(&mut child), 5);
}

fn until_ready(stdout: &mut ChildStdout) {
    until(stdout, "READY\r\n");
}

#[test]
fn signals_go_to_the_process_with_and_without_a_terminal() {
    for flags in ["", "plain", "plain subreaper"] {
        let script =
            "trap 'exit 9' TERM; trap 'echo HUNG UP; exit 8' HUP; echo READY; for i in $(seq 600); do sleep 0.05; done";
        let script = if flags.is_empty() { script } else { &script.replace("READY", "'READY\r'") };
        for (signal, status) in [(Signal::SIGTERM, 9), (Signal::SIGHUP, 8)] {
            let mut child = start(supervisor(script, flags).stdin(Stdio::null()).stdout(Stdio::piped()));
            until_ready(child.stdout.as_mut().unwrap());
            kill(Pid::from_raw(child.id() as i32), signal).unwrap();
            assert_eq!(code(&mut child), status, "{signal} {flags}");
        }
    }
}

#[test]
fn an_ignored_sigchld_costs_no_exit_status() {
    for flags in ["", "plain", "subreaper"] {
        let me = supervisor("exit 7", flags);
        let mut child = Command::new("/bin/sh");
        child.args(["-c", "trap '' CHLD; exec \"$0\" \"$@\""]).arg(me.get_program()).args(me.get_args());
        child.envs(me.get_envs().map(|(name, value)| (name, value.unwrap())));
        let mut child = start(child.stdin(Stdio::null()).stdout(Stdio::null()));
        assert_eq!(code(&mut child), 7, "{flags}");
    }
}

#[test]
fn a_subreaper_reaps_what_is_left_to_it() {
    let (_, status) = piped("(sleep 0.1 & exit); (sleep 0.2 & exit); sleep 0.6; exit 2", "subreaper", "");
    assert_eq!(status, 2);
}

#[test]
fn a_stdout_that_takes_nothing_stops_no_signal_and_can_be_left() {
    let mut child = start(supervisor("echo READY; exec yes", "").stdin(Stdio::null()).stdout(Stdio::piped()));
    until_ready(child.stdout.as_mut().unwrap());
    std::thread::sleep(Duration::from_millis(300));
    let pid = Pid::from_raw(child.id() as i32);
    // A child belongs to the thread that made it.
    let children = || -> String {
        let threads = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap();
        threads.map(|thread| std::fs::read_to_string(thread.unwrap().path().join("children")).unwrap()).collect()
    };
    assert_ne!(children(), "");
    kill(pid, Signal::SIGTERM).unwrap();
    let begun = Instant::now();
    while !children().is_empty() {
        assert!(begun.elapsed() < Duration::from_secs(20), "the signal was not forwarded");
        std::thread::sleep(Duration::from_millis(10));
    }
    kill(pid, Signal::SIGTERM).unwrap();
    assert_eq!(code(&mut child), 143);
}

/// A terminal of a size, its modes, its other end, and a supervisor whose controlling terminal it is.
fn on_a_terminal(script: &str, flags: &str) -> (Pty, Termios, std::fs::File, Child) {
    let outer = Pty::open(ptmx(), Some(Size { rows: 40, columns: 120 })).unwrap();
    let modes = tcgetattr(outer.slave()).unwrap();
    let end = || Stdio::from(outer.slave().try_clone_to_owned().unwrap());
    let child = start(supervisor(script, &format!("controlling {flags}")).stdin(end()).stdout(end()).stderr(end()));
    let screen = outer.master().try_clone_to_owned().unwrap().into();
    (outer, modes, screen, child)
}

#[test]
fn our_terminal_is_raw_meanwhile_and_itself_again_afterwards() {
    let (outer, before, mut screen, mut child) = on_a_terminal("stty -echo; echo READY; read x; exit 1$x", "");
    assert!(before.local_flags.contains(LocalFlags::ICANON | LocalFlags::ECHO | LocalFlags::ISIG));
    until(&mut screen, "READY\r\n");
    let during = tcgetattr(outer.slave()).unwrap();
    assert!(!during.local_flags.intersects(LocalFlags::ICANON | LocalFlags::ECHO | LocalFlags::ISIG));
    // The container's terminal takes the erase character, not ours.
    screen.write_all(b"9\x7f2\r").unwrap();
    assert_eq!(code(&mut child), 12);
    assert_eq!(tcgetattr(outer.slave()).unwrap(), before);
}

#[test]
fn an_interrupt_key_is_the_container_s() {
    let (_outer, _, mut screen, mut child) =
        on_a_terminal("trap 'exit 13' INT; echo READY; while :; do sleep 0.05; done", "");
    until(&mut screen, "READY\r\n");
    screen.write_all(b"\x03").unwrap();
    assert_eq!(code(&mut child), 13);
}

#[test]
fn our_terminal_is_itself_again_after_a_fatal_signal() {
    let (outer, before, mut screen, mut child) = on_a_terminal("echo READY; sleep 60", "");
    until(&mut screen, "READY\r\n");
    kill(Pid::from_raw(child.id() as i32), Signal::SIGTERM).unwrap();
    assert_eq!(code(&mut child), 143);
    assert_eq!(tcgetattr(outer.slave()).unwrap(), before);
}

#[test]
fn our_terminal_is_itself_again_after_a_panic_that_drops_nothing() {
    let (outer, before, mut screen, mut child) = on_a_terminal("", "panics");
    until(&mut screen, "the terminal is raw: true");
    // What it says of the panic must not fill the terminal.
    let reader = std::thread::spawn(move || while screen.read(&mut [0; 4096]).is_ok_and(|count| count > 0) {});
    assert_eq!(code(&mut child), 101);
    assert_eq!(tcgetattr(outer.slave()).unwrap(), before);
    drop(outer);
    reader.join().unwrap();
}

#[test]
fn the_container_s_window_follows_ours() {
    let script =
        "stty -echo; trap 'stty size; exit 4' WINCH; stty size; echo READY; for i in $(seq 600); do sleep 0.05; done";
    let (outer, _, mut screen, mut child) = on_a_terminal(script, "");
    let first = until(&mut screen, "READY\r\n");
    assert!(first.ends_with("40 120\r\n"), "{first:?}");
    let size = nix::pty::Winsize { ws_row: 50, ..window_size(outer.master()).unwrap() };
    set_window_size(outer.master(), size).unwrap();
    until(&mut screen, "50 120\r\n");
    assert_eq!(code(&mut child), 4);
}

#[test]
fn without_a_terminal_of_ours_the_planned_size_stays() {
    let mut child = start(supervisor("stty size; exit 0", "").stdin(Stdio::null()).stdout(Stdio::piped()));
    // stderr may be a terminal where the tests run.
    let mut text = String::new();
    child.stdout.take().unwrap().read_to_string(&mut text).unwrap();
    assert_eq!(code(&mut child), 0);
    assert!(text.ends_with("11 22\r\n") || std::io::IsTerminal::is_terminal(&std::io::stderr()), "{text:?}");
}

#[test]
fn a_terminal_that_is_closed_and_opened_again_goes_on() {
    let script = "t=$(tty); exec <&- >&- 2>&-; sleep 0.2; exec <$t >$t; stty -onlcr; echo AFTER; exit 3";
    assert_eq!(piped(script, "", ""), ("AFTER\n".to_owned(), 3));
}

#[cfg(target_arch = "x86_64")]
#[test]
fn a_terminal_that_is_hung_up_and_opened_again_goes_on() {
    // A hangup discards what was not read yet, so only what comes afterwards can be waited for.
    let script = "t=$(tty); trap '' HUP; perl -e 'syscall 153'; sleep 0.2; exec <$t >$t; echo AFTER; exit 3";
    let mut child = start(supervisor(script, "").stdin(Stdio::null()).stdout(Stdio::piped()));
    until(child.stdout.as_mut().unwrap(), "AFTER\r\n");
    assert_eq!(code(&mut child), 3);
}
