//! Hostile programs at the sandbox's level `default`, as root and as a plain user: a process without namespaces.

mod support;

use std::fs;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::{SocketAddr, UnixListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use support::plain::{self, ID, User};
use support::{Outcome, PROCRT, Running, has_capability, skipped, wait_until};

/// Who calls: both are tried.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Who {
    Root,
    Plain,
}

/// A directory to begin in, which the caller owns, and what is run there.
struct Place {
    who: Who,
    dir: tempfile::TempDir,
}

impl Place {
    fn of(who: Who) -> Self {
        let dir = tempfile::tempdir().unwrap();
        if who == Who::Plain {
            plain::give(dir.path());
            fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        }
        Self { who, dir }
    }

    fn path(&self) -> &Path {
        self.dir.path()
    }

    fn command(&self, options: &[&str]) -> Command {
        let mut command = match self.who {
            Who::Root => Command::new(PROCRT),
            Who::Plain => User(ID).procrt(),
        };
        command.current_dir(self.path()).args(["sandbox", "run", "--level", "default"]);
        command.args(["--result", self.result().to_str().unwrap()]).args(options).arg("--");
        command.stdin(Stdio::null());
        command
    }

    fn result(&self) -> PathBuf {
        self.path().join("result.json")
    }

    fn run(&self, options: &[&str], words: &[&str]) -> Outcome {
        Outcome::of(self.command(options).args(words))
    }

    fn sh(&self, options: &[&str], script: &str) -> Outcome {
        self.run(options, &["sh", "-c", script])
    }

    fn told(&self) -> Value {
        serde_json::from_str(&fs::read_to_string(self.result()).unwrap()).unwrap()
    }
}

/// Both callers, if these tests run as root.
fn both(test: impl Fn(&Place)) {
    if procrt::sys::landlock::abi() < 6 {
        return skipped("this kernel's landlock holds no signals");
    }
    for who in [Who::Root, Who::Plain] {
        test(&Place::of(who));
    }
}

/// A process of the caller's outside, which ends with the test.
struct Victim(Child);

impl Drop for Victim {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Whether a process lives that has this word among its arguments.
fn lives(word: &str) -> bool {
    fs::read_dir("/proc").unwrap().flatten().any(|entry| {
        let stat = fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
        let ended = stat.rsplit_once(") ").is_none_or(|(_, rest)| rest.starts_with(['Z', 'X']));
        let cmdline = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        !ended && cmdline.split(|byte| *byte == 0).any(|other| other == word.as_bytes())
    })
}

/// A number of seconds to sleep that no other test has.
fn long() -> String {
    use std::sync::atomic::{AtomicU32, Ordering};
    static COUNT: AtomicU32 = AtomicU32::new(0);
    format!("{}.{}", 70_000 + std::process::id() % 10_000, COUNT.fetch_add(1, Ordering::Relaxed))
}

/// Runs a script of python's, which prints `stopped: WHY` for each attempt that fails, and `DONE: WHAT` for one that does not.
fn python(place: &Place, options: &[&str], script: &str) -> Option<String> {
    if !Path::new("/usr/bin/python3").exists() {
        skipped("there is no python3");
        return None;
    }
    let head = "
import ctypes, os, socket, sys, errno
libc = ctypes.CDLL(None, use_errno=True)
def attempt(what, act):
    try:
        result = act()
    except Exception as error:
        print('stopped:', what, error)
    else:
        print('DONE:', what, result)
def call(what, number, *args):
    result = libc.syscall(number, *args)
    print('stopped:' if result < 0 else 'DONE:', what, os.strerror(ctypes.get_errno()))
";
    let outcome = place.run(options, &["python3", "-c", &format!("{head}{script}")]);
    assert_eq!(outcome.code(), 0, "{:?} {outcome:#?}", place.who);
    assert!(!outcome.stdout.contains("DONE:"), "{:?} {outcome:#?}", place.who);
    assert!(outcome.stdout.contains("stopped:"), "{outcome:#?}");
    Some(outcome.stdout)
}

#[test]
fn a_command_runs_with_its_own_status_and_streams() {
    both(|place| {
        let outcome = place.sh(&[], "echo out; echo err >&2; touch here; cat; exit 7");
        assert_eq!((outcome.code(), outcome.stdout.as_str(), outcome.stderr.as_str()), (7, "out\n", "err\n"));
        assert!(place.path().join("here").exists());
        let told = place.told();
        assert_eq!((&told["exit_code"], &told["timed_out"]), (&7.into(), &false.into()));
        assert_eq!(told["backend"]["name"], "process");
        assert_eq!(place.run(&[], &["no-such-program"]).code(), 127);
        assert_eq!(place.run(&[], &["/etc/passwd"]).code(), 126);
        assert_eq!(place.sh(&[], "kill -9 $$").code(), 137);
        assert_eq!(place.told()["signal"], 9);
    });
}

#[test]
fn it_has_no_privileges_and_an_environment_of_constants() {
    both(|place| {
        let mut command = place.command(&["--env", "A=b"]);
        command.args(["sh", "-c", "grep -E 'Cap|NoNewPrivs|Seccomp:' /proc/self/status; env"]);
        let text = Outcome::of(command.env("SECRET_THING", "x").env("LD_PRELOAD", "")).ok();
        for line in ["CapEff:\t0000000000000000", "CapPrm:\t0000000000000000", "NoNewPrivs:\t1", "Seccomp:\t2", "A=b"] {
            assert!(text.contains(line), "{line} in {text}");
        }
        if place.who == Who::Root {
            assert!(text.contains("CapBnd:\t0000000000000000"), "{text}");
        }
        assert!(!text.contains("SECRET_THING") && text.contains("LANG=C.UTF-8"), "{text}");
    });
}

#[test]
fn what_is_not_named_cannot_be_read_or_written() {
    both(|place| {
        let other = tempfile::tempdir().unwrap();
        fs::write(other.path().join("file"), "secret").unwrap();
        fs::set_permissions(other.path(), fs::Permissions::from_mode(0o777)).unwrap();
        fs::set_permissions(other.path().join("file"), fs::Permissions::from_mode(0o666)).unwrap();
        let other = other.path().to_str().unwrap();
        let script = format!(
            "for file in /etc/shadow /etc/sudoers /root/.ssh /home {other}/file /proc/1/environ /proc/1/root/etc/shadow \
             /proc/$PPID/environ /proc/$PPID/fd/3 /proc/$PPID/cwd /dev/sda /var/log; do
                if cat $file >/dev/null 2>&1 || ls $file/ >/dev/null 2>&1; then echo READ $file; fi
             done
             for file in {other}/file {other}/new /usr/x /etc/x /tmp/x-$$ /dev/shm/x-$$ /run/x-$$; do
                if (echo x >> $file) 2>/dev/null; then echo WROTE $file; fi
             done
             rm {other}/file 2>/dev/null && echo REMOVED
             truncate -s 0 {other}/file 2>/dev/null && echo TRUNCATED
             ln {other}/file stolen 2>/dev/null && echo LINKED
             ln -s {other}/file link && cat link 2>/dev/null && echo FOLLOWED
             echo end"
        );
        let outcome = place.sh(&[], &script);
        assert_eq!(outcome.stdout, "end\n", "{:?} {outcome:#?}", place.who);
        assert_eq!(fs::read_to_string(format!("{other}/file")).unwrap(), "secret");
        let outcome = place.sh(&["--ro", other], &format!("cat {other}/file; echo x >> {other}/file"));
        assert!(outcome.stdout == "secret" && outcome.code() != 0, "{outcome:#?}");
        let outcome =
            place.sh(&["--rw", other], &format!("echo x >> {other}/file && mkdir {other}/d && rmdir {other}/d"));
        assert_eq!(outcome.code(), 0, "{outcome:#?}");
    });
}

#[test]
fn a_path_that_is_denied_is_out_of_reach_or_refused() {
    both(|place| {
        fs::create_dir(place.path().join("inner")).unwrap();
        let outcome = place.run(&["--deny", "inner"], &["true"]);
        assert_eq!(outcome.code(), 99, "{outcome:#?}");
        assert!(outcome.stderr.contains("files.deny[0]: ") && outcome.stderr.contains("enhanced"), "{outcome:#?}");
        let outcome = place.sh(&["--deny", "/etc/passwd"], "cat /etc/group >/dev/null; cat /etc/passwd");
        assert!(outcome.code() != 0 && outcome.stdout.is_empty(), "{outcome:#?}");
    });
}

#[test]
fn other_processes_cannot_be_signalled_or_traced() {
    both(|place| {
        let mut command = match place.who {
            Who::Root => Command::new("sleep"),
            Who::Plain => User(ID).command("sleep"),
        };
        let mut victim = Victim(command.arg(long()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
        let pid = victim.0.id();
        let script = format!(
            "
import signal
attempt('kill', lambda: os.kill({pid}, 0))
try: os.kill(-1, signal.SIGSTOP) # the kernel says nothing of whom it has left out
except OSError: pass
attempt('kill the keeper', lambda: os.kill(os.getppid(), signal.SIGKILL))
attempt('kill by pidfd', lambda: signal.pidfd_send_signal(os.pidfd_open({pid}), 0))
call('ptrace', 101, 16, {pid}, 0, 0)
call('process_vm_readv', 310, {pid}, 0, 0, 0, 0, 0)
call('prlimit', 302, {pid}, 7, 0, 0)
call('setpriority', 141, 0, {pid}, 19)
call('pidfd_getfd', 438, 3, 0, 0)
attempt('read memory', lambda: open('/proc/{pid}/mem').read(1))
attempt('read the environment', lambda: open('/proc/{pid}/environ').read(1))
"
        );
        python(place, &[], &script);
        assert!(victim.0.try_wait().unwrap().is_none(), "{:?}: the other process has ended", place.who);
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
        assert!(!stat.rsplit_once(") ").unwrap().1.starts_with(['T', 't']), "{stat}");
    });
}

#[test]
fn the_network_and_sockets_outside_are_out_of_reach() {
    both(|place| {
        let tcp = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = tcp.local_addr().unwrap().port();
        let name = format!("procrt-test-{}", long());
        let _abstract = UnixListener::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
        let socket = place.path().join("socket");
        let _unix = UnixListener::bind(&socket).unwrap();
        fs::set_permissions(&socket, fs::Permissions::from_mode(0o777)).unwrap();
        let script = format!(
            "
attempt('connect', lambda: socket.create_connection(('127.0.0.1', {port}), 2))
attempt('udp', lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', ('127.0.0.1', {port})))
attempt('ipv6', lambda: socket.socket(socket.AF_INET6, socket.SOCK_STREAM))
attempt('listen', lambda: socket.create_server(('127.0.0.1', 0)))
attempt('abstract', lambda: socket.socket(socket.AF_UNIX).connect('\\0{name}'))
attempt('path', lambda: socket.socket(socket.AF_UNIX).connect('{}'))
attempt('datagrams', lambda: socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM))
attempt('packet', lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW))
attempt('netlink', lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0))
attempt('vsock', lambda: socket.socket(40, socket.SOCK_STREAM))
",
            socket.display()
        );
        python(place, &[], &script);
    });
}

#[test]
fn with_the_hosts_network_only_the_ports_that_are_named_are_reached() {
    both(|place| {
        let listen = || std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let (open, closed) = (listen(), listen());
        let (port, other) = (open.local_addr().unwrap().port(), closed.local_addr().unwrap().port());
        let options = ["--network", "host", "--allow-tcp", &port.to_string()];
        let script = format!(
            "
socket.create_connection(('127.0.0.1', {port}), 2).close()
attempt('another port', lambda: socket.create_connection(('127.0.0.1', {other}), 2))
attempt('udp', lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
attempt('mptcp', lambda: socket.socket(socket.AF_INET, socket.SOCK_STREAM, 262))
def fast():
    one = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    return one.sendto(b'x', socket.MSG_FASTOPEN, ('127.0.0.1', {other}))
attempt('fast open', fast)
"
        );
        python(place, &options, &script);
    });
}

#[test]
fn calls_that_widen_what_can_be_reached_are_refused() {
    both(|place| {
        python(
            place,
            &[],
            "
call('mount', 165, 0, b'/', 0, 4096, 0)
call('unshare a user namespace', 272, 0x10000000)
call('unshare mounts', 272, 0x20000)
call('setns', 308, 0, 0)
call('clone a user namespace', 56, 0x10000011, 0, 0, 0, 0)
call('chroot', 161, b'/')
call('pivot_root', 155, b'/', b'/')
call('add_key', 248, b'user', b'x', b'y', 1, -3)
call('keyctl', 250, 0, -3, 1)
call('request_key', 249, b'user', b'x', 0, -3)
call('io_uring_setup', 425, 8, 0)
call('bpf', 321, 0, 0, 0)
call('perf_event_open', 298, 0, 0, -1, -1, 0)
call('userfaultfd', 323, 0)
call('fsopen', 430, b'tmpfs', 0)
call('open_by_handle_at', 304, 3, 0, 0)
call('modify_ldt', 154, 0, 0, 0)
call('kexec_load', 246, 0, 0, 0, 0)
call('init_module', 175, 0, 0, b'')
call('sethostname', 170, b'x', 1)
call('shmget', 29, 0, 4096, 0o1600)
call('mq_open', 240, b'x', 0)
import fcntl, pty
attempt('TIOCSTI', lambda: fcntl.ioctl(0, 0x5412, b'x'))
attempt('TIOCLINUX', lambda: fcntl.ioctl(0, 0x541c, b'\\x02'))
",
        );
    });
}

#[test]
fn what_ignores_term_hides_and_forks_is_gone_in_time() {
    both(|place| {
        let (first, second) = (long(), long());
        let script = format!(
            "trap '' TERM; (setsid sh -c 'trap \"\" TERM; (setsid sleep {first} &); sleep {first}' &); sleep {second}"
        );
        let since = Instant::now();
        let outcome = place.sh(&["--timeout", "500ms", "--grace", "200ms"], &script);
        assert_eq!(outcome.code(), 124, "{outcome:#?}");
        assert!(since.elapsed() < Duration::from_secs(20), "{:?}", since.elapsed());
        assert!(!lives(&first) && !lives(&second), "{:?}: it has left a process", place.who);
        assert_eq!(place.told()["timed_out"], true);
    });
}

#[test]
fn a_daemon_ends_with_its_command() {
    both(|place| {
        let word = long();
        let outcome = place.sh(&[], &format!("(setsid sh -c '(setsid sleep {word} &)' &); sleep 0.2; echo done"));
        assert_eq!(outcome.ok(), "done");
        assert!(!lives(&word));
    });
}

#[test]
fn a_busy_loop_and_a_fork_bomb_end_with_their_time() {
    both(|place| {
        let outcome = place.sh(&["--timeout", "300ms", "--grace", "100ms"], "while :; do :; done");
        assert_eq!(outcome.code(), 124);
        // A plain user has no group to count processes in, but the kernel counts the user's.
        let limits: &[&str] = if place.who == Who::Root { &["--pids", "60"] } else { &["--rlimit", "nproc=60"] };
        let options = [&["--timeout", "1s", "--grace", "100ms"], limits].concat();
        let word = long();
        let script = format!("bomb() {{ bomb | bomb & }}; bomb 2>/dev/null; exec sleep {word} 2>/dev/null");
        let outcome = place.sh(&options, &script);
        assert!([124, 2, 254, 0].contains(&outcome.code()), "{outcome:#?}");
        assert!(!lives(&word));
        if place.who == Who::Root {
            assert_eq!(place.told()["pids_exceeded"], true);
        }
    });
}

#[test]
fn memory_is_limited_for_all_together_where_there_are_control_groups() {
    let place = Place::of(Who::Root);
    if !Path::new("/usr/bin/python3").exists() {
        return skipped("there is no python3");
    }
    let outcome = place.run(&["--memory", "48M"], &["python3", "-c", "x = bytearray(400 << 20)"]);
    assert_eq!(outcome.code(), 137, "{outcome:#?}");
    assert_eq!(place.told()["memory_exceeded"], true);
    let place = Place::of(Who::Plain);
    let outcome = place.run(&["--memory", "48M"], &["true"]);
    assert_eq!(outcome.code(), 99, "{outcome:#?}");
    assert!(outcome.stderr.contains("limits.memory: \"48M\" cannot be enforced: "), "{outcome:#?}");
    let outcome = place.run(&["--rlimit", "as=256M"], &["python3", "-c", "x = bytearray(400 << 20)"]);
    assert!(outcome.stderr.contains("MemoryError"), "{outcome:#?}");
}

#[test]
fn files_output_and_descriptors_are_limited() {
    both(|place| {
        let outcome = place.sh(&["--rlimit", "fsize=64K"], "head -c 1000000 /dev/zero > file; wc -c < file");
        assert!(outcome.stdout.trim().parse::<u64>().unwrap_or(u64::MAX) <= 65536, "{outcome:#?}");
        let outcome = place.sh(&["--output-limit", "1000"], "head -c 100000 /dev/zero");
        assert_eq!(outcome.stdout.len(), 1000);
        assert_eq!(place.told()["output_truncated"], true);
        let outcome = place.sh(&[], "ulimit -n; ulimit -c; ulimit -n 5000 2>/dev/null || echo no");
        assert_eq!(outcome.ok(), "1024\n0\nno");
    });
}

#[test]
fn nothing_open_is_inherited() {
    both(|place| {
        let mut command = place.command(&[]);
        command.args(["sh", "-c", "ls -l /proc/self/fd | grep -c -- '->'; cat <&7"]);
        // The shell of the test leaves 7 open.
        let shell = "exec 7</etc/hostname; exec \"$@\"";
        let mut outer = Command::new("sh");
        outer.args(["-c", shell, "sh"]).arg(command.get_program()).args(command.get_args());
        let outcome = Outcome::of(outer.current_dir(place.path()).stdin(Stdio::null()));
        // Three streams, and the directory that ls reads.
        assert!(outcome.stdout.starts_with("4\n") && outcome.code() != 0, "{outcome:#?}");
    });
}

#[test]
fn a_killed_procrt_takes_its_sandbox_along() {
    both(|place| {
        let word = long();
        let mut command = place.command(&[]);
        command.args(["sh", "-c", &format!("touch $TMPDIR/x; (setsid sleep {word} &); echo $TMPDIR; sleep {word}")]);
        let mut running = Running::start(&mut command);
        wait_until("the sandbox", || !running.stdout().is_empty() && lives(&word));
        let private = PathBuf::from(running.stdout().trim());
        assert!(private.exists() && private.metadata().unwrap().mode() & 0o777 == 0o700);
        running.child.kill().unwrap();
        running.child.wait().unwrap();
        wait_until("the end of it", || !lives(&word) && !private.exists());
    });
}

#[test]
fn the_private_directory_goes_with_the_command_however_it_is_left() {
    both(|place| {
        let outcome = place
            .sh(&[], "echo $TMPDIR; cd $TMPDIR; mkdir -p a/b/c; touch a/b/c/d; ln -s / a/link; chmod 0 a/b/c a/b a .");
        let private = PathBuf::from(outcome.ok());
        assert!(private.is_absolute() && !private.exists(), "{private:?}");
    });
}

#[test]
fn where_the_callers_directory_is_not_shared_the_command_begins_in_a_private_one() {
    both(|place| {
        let outcome = Outcome::of(place.command(&[]).current_dir("/").args(["sh", "-c", "pwd; echo $HOME; touch x"]));
        let text = outcome.ok();
        let (pwd, home) = text.split_once('\n').unwrap();
        assert_eq!(pwd, home);
        assert!(!Path::new(pwd).exists());
    });
}

#[test]
fn root_can_give_the_command_another_user() {
    let place = Place::of(Who::Root);
    let outcome =
        place.sh(&["--user", "4711:4712", "--cwd", "/usr"], "id -u; id -g; id -G; touch $TMPDIR/x && echo mine");
    assert_eq!(outcome.ok(), "4711\n4712\n4712\nmine");
    let place = Place::of(Who::Plain);
    let outcome = place.run(&["--user", "4711"], &["true"]);
    assert_eq!(outcome.code(), 99);
    assert!(outcome.stderr.contains("user: \"4711\" cannot be enforced"), "{outcome:#?}");
}

#[test]
fn what_the_level_cannot_do_is_refused_and_nothing_runs() {
    both(|place| {
        for (options, part) in [
            (&["--overlay", "."][..], "files.overlay[0]: "),
            (&["--workspace", "."], "files.workspace: "),
            (&["--ro", "/usr:/x"], "files.ro[0]: "),
            (&["--network", "loopback"], "network.mode: \"loopback\""),
            (&["--tmpfs-size", "1M"], "limits.tmpfs_size: "),
            (&["--seccomp", "none"], ""),
            (&["--seccomp", "none", "--network", "none"], "network.mode: "),
        ] {
            let outcome = place.sh(options, "touch ran");
            if part.is_empty() {
                continue;
            }
            assert_eq!(outcome.code(), 99, "{options:?} {outcome:#?}");
            assert!(outcome.stderr.contains(part), "{options:?} {outcome:#?}");
        }
        assert!(!place.path().join("ran").exists());
    });
}

#[test]
fn level_off_has_limits_alone() {
    both(|place| {
        let word = long();
        let mut command = match place.who {
            Who::Root => Command::new(PROCRT),
            Who::Plain => User(ID).procrt(),
        };
        command.current_dir(place.path()).args([
            "sandbox",
            "run",
            "--level",
            "off",
            "--timeout",
            "500ms",
            "--grace",
            "100ms",
        ]);
        let script = format!(
            "ls / >/dev/null && grep NoNewPrivs /proc/self/status; trap '' TERM; (setsid sleep {word} &); sleep {word}"
        );
        let outcome = Outcome::of(command.args(["--", "sh", "-c", &script]));
        assert_eq!((outcome.code(), outcome.stdout.as_str()), (124, "NoNewPrivs:\t0\n"), "{outcome:#?}");
        assert!(!lives(&word));
    });
}

#[test]
fn many_run_at_once_and_leave_nothing() {
    let count = if has_capability(21) { 40 } else { 10 };
    both(|place| {
        let running: Vec<Running> = (0..count)
            .map(|number| {
                let mut command = match place.who {
                    Who::Root => Command::new(PROCRT),
                    Who::Plain => User(ID).procrt(),
                };
                command.current_dir(place.path()).args(["sandbox", "run", "--level", "default", "--", "sh", "-c"]);
                Running::start(command.arg(format!("echo {number} $TMPDIR; exit {number}")))
            })
            .collect();
        for (number, running) in running.into_iter().enumerate() {
            let outcome = running.finish();
            assert_eq!(outcome.code(), number as i32, "{outcome:#?}");
            let (told, private) = outcome.stdout.trim().split_once(' ').unwrap();
            assert_eq!(told, number.to_string());
            assert!(!Path::new(private).exists());
        }
    });
}
