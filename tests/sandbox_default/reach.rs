//! What a confined process reaches: files, other processes, sockets, the kernel.

use std::fs;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::process::{Command, Stdio};

use crate::place::{Victim, Who, both, long, python};
use crate::support::Outcome;
use crate::support::plain::{ID, User};

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
fn who_may_do_what_with_files_outside_stays_as_it_is() {
    both(|place| {
        let outside = tempfile::tempdir().unwrap();
        let file = outside.path().join("file");
        fs::write(&file, "secret").unwrap();
        if place.who == Who::Plain {
            crate::support::plain::give(outside.path());
        }
        fs::set_permissions(outside.path(), fs::Permissions::from_mode(0o755)).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
        let script = format!(
            "
attempt('mode', lambda: os.chmod('{0}', 0o666))
attempt('set-id', lambda: os.chmod('{0}', 0o4700))
attempt('attribute', lambda: os.setxattr('{0}', 'user.x', b'y'))
attempt('link', lambda: os.link('{0}', 'link'))
attempt('rename', lambda: os.rename('{0}', 'moved'))
",
            file.display()
        );
        python(place, &[], &script);
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o7777, 0o600);
        if place.who == Who::Plain {
            let outcome = place.sh(&[], "echo '#!/bin/sh' > x; chmod 755 x && ./x");
            assert_eq!(outcome.code(), 0, "{outcome:#?}");
        }
    });
}
