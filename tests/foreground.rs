//! A terminal in the foreground when much happens to it: storms of sizes, floods of output, signals, terminals in
//! terminals; and `exec --tty`, which is no other than `run`.

mod support;

use std::fs;
use std::io::Read;
use std::os::fd::AsFd;
use std::process::{Command, Stdio};
use std::time::Duration;

use nix::libc::winsize;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use procrt::sys::terminal::set_window_size;
use serde_json::json;
use support::container::Container;
use support::tty::{ConsoleSocket, Foreground, assert_cooked, shell, stty};
use support::{Bundle, Outcome, Running, skipped, wait_until};

/// A bundle with a terminal that runs `script`.
fn on_a_terminal(script: &str) -> Bundle {
    Bundle::new(script).set("/process/terminal", json!(true))
}

/// The procrt that is in the foreground of a container: the parent of its first process.
#[track_caller]
fn procrt_of(bundle: &Bundle) -> Pid {
    let status = fs::read_to_string(format!("/proc/{}/status", bundle.pid())).unwrap();
    let parent = status.lines().find_map(|line| line.strip_prefix("PPid:")).unwrap();
    Pid::from_raw(parent.trim().parse().unwrap())
}

fn resize(foreground: &Foreground, rows: u16, columns: u16) {
    let size = winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    set_window_size(foreground.slave.as_fd(), size).unwrap();
}

#[test]
fn a_storm_of_sizes_ends_with_the_last() {
    let bundle = shell();
    let mut foreground = Foreground::run(&bundle);
    foreground.terminal.expect("up\r\n");
    for round in 1..=500_u16 {
        resize(&foreground, 10 + round % 50, 20 + round);
        if round % 100 == 0 {
            foreground.terminal.type_in("echo $((40 + 2))\n");
        }
    }
    resize(&foreground, 43, 132);
    // The signal is on its way; what was typed behind it may be read first.
    wait_until("the last size", || {
        foreground.terminal.type_in("stty size; echo si''zed\n");
        foreground.terminal.expect("\r\nsized\r\n").contains("43 132\r\n")
    });
    foreground.terminal.type_in("exit 5\n");
    assert_eq!(foreground.finish().0, 5);
}

/// How many bytes a flood has.
const FLOOD: usize = 8 << 20;

/// Writes that many, and ends at once.
fn flood() -> String {
    format!("dd if=/dev/zero bs=65536 count={} 2>/dev/null | tr '\\0' x", FLOOD / 65536)
}

#[test]
fn a_flood_of_output_arrives_to_the_last_byte() {
    let whole = |outcome: Outcome| {
        assert_eq!((outcome.code(), outcome.stderr.as_str()), (0, ""));
        assert_eq!(outcome.stdout.len(), FLOOD);
        assert!(outcome.stdout.bytes().all(|byte| byte == b'x'));
    };
    let bundle = on_a_terminal(&flood());
    whole(bundle.run());
    let container = Container::sleeping();
    whole(container.exec_with(&["--tty"], &["sh", "-c", &flood()]));
}

#[test]
fn a_reader_that_is_slow_loses_nothing() {
    let bundle = on_a_terminal(&flood());
    let mut child = bundle.making("run", &[]).stdout(Stdio::piped()).spawn().unwrap();
    let mut stdout = child.stdout.take().unwrap();
    let mut bytes = vec![0; 50_000];
    let mut total = 0;
    loop {
        // The container ends long before the last of it is read.
        let count = stdout.read(&mut bytes).unwrap();
        if count == 0 {
            break;
        }
        total += count;
        std::thread::sleep(Duration::from_micros(if total > FLOOD - 200_000 { 20_000 } else { 100 }));
    }
    assert_eq!(total, FLOOD);
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[test]
fn an_end_of_input_that_is_typed_is_the_containers() {
    let bundle = Bundle::running(&["/bin/cat"]).set("/process/terminal", json!(true));
    let mut foreground = Foreground::run(&bundle);
    foreground.terminal.type_in("hello\n");
    foreground.terminal.expect("hello\r\nhello\r\n");
    foreground.terminal.type_in("\u{4}");
    let (status, _, modes) = foreground.finish();
    assert_eq!(status, 0);
    assert_cooked(&modes);
}

#[test]
fn modes_are_back_after_every_signal_that_ends_the_container() {
    for (signal, number) in [(Signal::SIGTERM, 15), (Signal::SIGINT, 2), (Signal::SIGHUP, 1), (Signal::SIGQUIT, 3)] {
        // The first process of a PID namespace has to want it.
        let bundle = on_a_terminal("trap 'exit 5' TERM INT HUP QUIT; echo up; while :; do sleep 0.01; done");
        let mut foreground = Foreground::run(&bundle);
        foreground.terminal.expect("up\r\n");
        kill(procrt_of(&bundle), signal).unwrap();
        let (status, _, modes) = foreground.finish();
        assert_eq!(status, 5, "{signal}");
        assert_cooked(&modes);
        // Any other dies of it.
        let container = Container::sleeping();
        let file = container.join("pid");
        let options = ["--tty", "--pid-file", file.to_str().unwrap()];
        let script = "echo up; exec sleep 1000";
        let mut foreground = Foreground::of(&container.command_of(&options, &["sh", "-c", script]));
        foreground.terminal.expect("up\r\n");
        assert!(stty(&foreground.slave, &["-a"]).contains("-icanon"));
        let pid = fs::read_to_string(&file).unwrap();
        // The shell before it has signals of its own.
        wait_until("sleep", || fs::read(format!("/proc/{pid}/cmdline")).unwrap() == b"sleep\x001000\x00");
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let parent = status.lines().find_map(|line| line.strip_prefix("PPid:")).unwrap();
        kill(Pid::from_raw(parent.trim().parse().unwrap()), signal).unwrap();
        let (status, _, modes) = foreground.finish();
        assert_eq!(status, 128 + number, "{signal}");
        assert_cooked(&modes);
    }
}

#[test]
fn modes_are_back_when_a_hook_fails_at_whatever_moment() {
    for kind in ["createRuntime", "createContainer", "startContainer", "poststart"] {
        let hook = json!({"path": "/bin/sh", "args": ["sh", "-c", "exit 3"], "env": ["PATH=/bin"]});
        let bundle = on_a_terminal("sleep 1000").set(&format!("/hooks/{kind}"), json!([hook]));
        let (status, said, modes) = Foreground::run(&bundle).finish();
        assert_eq!(status, 1, "{kind}");
        assert!(said.contains(&format!("hook {kind}[0]")) && said.ends_with("\r\n"), "{said:?}");
        assert_cooked(&modes);
        bundle.assert_nothing_left();
    }
}

#[test]
fn an_exec_in_the_foreground_is_like_a_run() {
    let container = Container::sleeping();
    let script = "echo up; while read -r line; do eval \"$line\"; done";
    let mut foreground = Foreground::of(&container.command_of(&["-t"], &["sh", "-c", script]));
    foreground.terminal.expect("up\r\n");
    foreground.terminal.type_in("stty size; tty; stat -c %u $(tty)\n");
    foreground.terminal.expect("\r\n24 80\r\n/dev/pts/0\r\n0\r\n");
    resize(&foreground, 50, 100);
    wait_until("the size", || {
        foreground.terminal.type_in("stty size; echo si''zed\n");
        foreground.terminal.expect("\r\nsized\r\n").contains("50 100\r\n")
    });
    // However late it comes, the key finds the shell between two of them, or in one; and never before the trap.
    let trap = "trap 'key=inter''rupted' INT; echo re''ady; until [ $key ]; do sleep 0.05; done; echo $key\n";
    foreground.terminal.type_in(trap);
    foreground.terminal.expect("\r\nready\r\n");
    foreground.terminal.type_in("\u{3}");
    foreground.terminal.expect("interrupted\r\n");
    foreground.terminal.type_in("exit 9\n");
    let (status, _, modes) = foreground.finish();
    assert_eq!(status, 9);
    assert_cooked(&modes);
    // A program that is not there leaves the terminal as it was.
    let (status, said, modes) = Foreground::of(&container.command_of(&["-t"], &["/nonexistent"])).finish();
    assert!(status == 255 && said.contains("/nonexistent"), "{status} {said:?}");
    assert_cooked(&modes);
}

#[test]
fn an_exec_has_a_terminal_and_somebody_at_its_other_end() {
    let container = Container::sleeping();
    let socket = ConsoleSocket::new(&container);
    let error = container.exec_with(&["--tty", "--detach"], &["true"]).not_done();
    let words = "--console-socket: is needed for the terminal of a process that is not in the foreground";
    assert!(error.ends_with(words), "{error}");
    let error = container.exec_with(&[&["--detach"], &socket.option()[..]].concat(), &["true"]).not_done();
    assert!(error.ends_with("--console-socket: there is no terminal to send (--tty)"), "{error}");
    let error = container.exec_with(&[&["--tty"], &socket.option()[..]].concat(), &["true"]).not_done();
    assert!(error.contains("--console-socket: a process in the foreground has procrt's own terminal"), "{error}");
}

#[test]
fn the_console_is_the_terminal_of_an_instance_of_its_own() {
    let bundle = shell();
    let socket = ConsoleSocket::new(&bundle);
    bundle.run_with(&[&["--detach"], &socket.option()[..]].concat()).ok();
    let mut terminal = socket.receive();
    terminal.type_in("echo $(stat -c %t:%T /dev/console $(tty)) $(ls /dev/pts) $(readlink /dev/ptmx) e''nd\n");
    terminal.expect("\r\n88:0 88:0 0 ptmx pts/ptmx end\r\n");
    terminal.type_in("grep -c ' /dev/console .* - devpts ' /proc/self/mountinfo; stat -c '%a dev %d' /dev/pts/0\n");
    terminal.expect("\r\n1\r\n620 dev ");
    let device: u64 = terminal.expect("\r\n").trim_end().parse().unwrap();
    assert_ne!(device, std::os::unix::fs::MetadataExt::dev(&fs::metadata("/dev/pts").unwrap()));
    bundle.delete(&["--force"]).ok();
    // Without a terminal there is no console.
    assert_eq!(Bundle::new("ls /dev/console /dev/pts 2>&1; tty").run().stdout.matches("/dev/console:").count(), 1);
}

#[test]
fn a_terminal_in_a_terminal_in_a_terminal() {
    let container = Container::sleeping();
    let exec = container.command_of(&["-t"], &["sh", "-c", "echo up; read -r line; stty size; echo $line; exit 6"]);
    let words: Vec<String> =
        [exec.get_program()].into_iter().chain(exec.get_args()).map(|word| format!("'{}'", word.display())).collect();
    let mut script = Command::new("script");
    script.args(["--quiet", "--return", "--command", &words.join(" "), "/dev/null"]);
    let mut foreground = Foreground::of(&script);
    foreground.terminal.expect("up\r\n");
    foreground.terminal.type_in("what is typed\n");
    foreground.terminal.expect("24 80\r\nwhat is typed\r\n");
    let (status, _, modes) = foreground.finish();
    assert_eq!(status, 6);
    assert_cooked(&modes);
}

#[test]
fn a_terminal_in_tmux() {
    if Command::new("tmux").arg("-V").output().is_err() {
        return skipped("there is no tmux");
    }
    let bundle = shell();
    let server = bundle.join("tmux");
    let tmux = |args: &[&str]| {
        let mut command = Command::new("tmux");
        command.arg("-S").arg(&server).args(["-f", "/dev/null"]).args(args).env("TERM", "xterm").env_remove("TMUX");
        Outcome::of(command.stdin(Stdio::null()))
    };
    let run = bundle.making("run", &[]);
    let words: Vec<&str> =
        [run.get_program()].into_iter().chain(run.get_args()).map(|word| word.to_str().unwrap()).collect();
    tmux(&[&["new-session", "-d", "-s", "test", "-x", "100", "-y", "30", "--"], &words[..]].concat()).ok();
    let shown = |text: &str| {
        wait_until(text, || tmux(&["capture-pane", "-p", "-t", "test"]).stdout.contains(text));
    };
    shown("up");
    tmux(&["send-keys", "-t", "test", "echo $((40 + 2)) $(stty size)", "Enter"]).ok();
    let size = || tmux(&["display-message", "-p", "-t", "test", "#{pane_height} #{pane_width}"]).ok();
    shown(&format!("42 {}", size()));
    tmux(&["resize-window", "-t", "test", "-x", "70", "-y", "20"]).ok();
    assert_eq!(size(), "20 70");
    wait_until("the other size", || {
        tmux(&["send-keys", "-t", "test", "echo now $(stty size)", "Enter"]).ok();
        tmux(&["capture-pane", "-p", "-t", "test"]).stdout.contains("now 20 70")
    });
    tmux(&["kill-server"]);
    bundle.delete(&["--force"]).ok();
}

#[test]
fn a_terminal_that_hangs_up_is_a_signal_to_the_container() {
    let bundle = on_a_terminal("trap 'echo gone > /gone; exit 0' HUP; echo up; while :; do sleep 0.01; done");
    let mut foreground = Foreground::run(&bundle);
    foreground.terminal.expect("up\r\n");
    let master = std::mem::replace(&mut foreground.terminal.master, fs::File::open("/dev/null").unwrap());
    drop(master);
    assert_eq!(bundle.wait_for_file("gone"), "gone");
    bundle.assert_nothing_left();
}

/// What is in the foreground of a container that somebody else has removed has nothing to remove, also if there is another
/// one of that id by the time that it comes to look.
#[test]
fn whoever_is_in_the_foreground_leaves_a_later_container_of_that_id_alone() {
    let bundle = Bundle::sleeping();
    let first = Running::start(&mut bundle.making("run", &[]));
    bundle.wait_for_status("running");
    kill(first.pid(), Signal::SIGSTOP).unwrap();
    bundle.delete(&["--force"]).ok();
    let later = Container::of(bundle);
    let pid = later.pid();
    kill(first.pid(), Signal::SIGCONT).unwrap();
    let first = first.finish();
    assert_eq!((first.code(), first.stderr.as_str()), (128 + 9, ""));
    assert_eq!((later.status().as_str(), later.pid()), ("running", pid));
}
