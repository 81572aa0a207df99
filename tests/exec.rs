//! What a process that joins a container is.

mod support;

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::process::{Command, Stdio};

use nix::poll::{PollFd, PollFlags, poll};
use serde_json::json;
use support::container::Container;
use support::{Bundle, Outcome, Running, skipped};

/// The line `name` of /proc/self/status in the container.
#[track_caller]
fn status_line(container: &Container, options: &[&str], name: &str) -> String {
    let text = container.exec_with(options, &["cat", "/proc/self/status"]).ok();
    text.lines().find_map(|line| line.strip_prefix(&format!("{name}:"))).unwrap().trim().to_owned()
}

#[test]
fn the_output_and_the_exit_status_are_the_commands() {
    let container = Container::sleeping();
    let outcome = container.exec(&["sh", "-c", "echo out; echo err >&2; exit 7"]);
    assert_eq!((outcome.code(), outcome.stdout.as_str(), outcome.stderr.as_str()), (7, "out\n", "err\n"));
    assert_eq!(container.exec(&["true"]).ok(), "");
    assert_eq!(container.exec(&["sh", "-c", "kill -9 $$"]).code(), 137);
    assert_eq!(container.exec(&["sh", "-c", "kill -TERM $$"]).code(), 143);
}

#[test]
fn options_end_at_the_id() {
    let container = Container::sleeping();
    assert_eq!(container.exec(&["echo", "-t", "--", "--user", "x"]).ok(), "-t -- --user x");
    assert_eq!(container.exec(&["--", "echo", "-d"]).ok(), "-d");
    let id = container.id();
    assert_eq!(container.call(&["exec", "--", id, "echo", "a"]).ok(), "a");
    assert_eq!(container.call(&["exec", "-tty=false", "-e", "A=1", id, "sh", "-c", "echo $A"]).ok(), "1");
}

#[test]
fn what_cannot_be_run_is_255_in_words_that_engines_know() {
    let container = Container::sleeping();
    fs::write(container.inside("bin/plain"), "x").unwrap();
    let id = container.id();
    for (args, words) in [
        (&["nothing"][..], "exec: \"nothing\": executable file not found in $PATH"),
        (&["/nothing"], "exec: \"/nothing\": stat /nothing: no such file or directory (os error 2)"),
        (&["/bin/plain"], "exec: \"/bin/plain\": permission denied (os error 13)"),
    ] {
        assert_eq!(container.exec(args).not_done(), format!("exec in \"{id}\": {words}"));
    }
    let error = container.exec_with(&["--cwd", "/nowhere"], &["true"]).not_done();
    assert!(error.ends_with("process.cwd: enter \"/nowhere\": no such file or directory (os error 2)"), "{error}");
    container.exec(&[]).not_done();
    assert_eq!(container.call(&["exec"]).code(), 1);
    let error = container.call(&["exec", "no-such-container", "true"]).not_done();
    assert_eq!(error, "\"no-such-container\": container does not exist");
}

#[test]
fn options_that_are_wrong_are_told_together() {
    let container = Container::sleeping();
    let options =
        ["--cwd", "x", "--env", "A", "--cap", "CAP_NOPE", "--cgroup", "../x", "--console-socket", "/nowhere", "--tty"];
    let error = container.exec_with(&options, &["true"]).not_done();
    for words in ["--cwd: \"x\"", "--env: \"A\"", "--cap: \"CAP_NOPE\"", "--cgroup: \"../x\"", "--console-socket: "] {
        assert!(error.contains(words), "{words}: {error}");
    }
    for user in ["root", "1:x", "1:", ":1", "-1", "4294967295"] {
        assert!(container.exec_with(&["--user", user], &["true"]).not_done().starts_with("--user: "), "{user}");
    }
}

#[test]
fn the_user_and_its_groups_are_the_containers_or_as_asked_for() {
    let user = json!({"uid": 1000, "gid": 1000, "additionalGids": [5, 6]});
    let container = Container::of(Bundle::sleeping().set("/process/user", user));
    assert_eq!(container.sh(&[], "id -u; id -g; id -G; echo $HOME"), "1000\n1000\n1000 5 6\n/home/user");
    let options = ["--user", "0:7", "--additional-gids", "8", "-g", "9"];
    assert_eq!(container.sh(&options, "id -u; id -g; id -G; echo $HOME"), "0\n7\n7 5 6 8 9\n/root");
    assert_eq!(container.sh(&["-u", "12"], "id -u; id -g"), "12\n1000");
}

#[test]
fn the_environment_is_the_containers_with_what_is_added_and_nothing_of_the_hosts() {
    let container = Container::of(Bundle::sleeping().set("/process/env/-", json!("A=old")));
    let mut command = container.command_of(&["--env", "A=1", "-e", "A=2", "-e", "B="], &["env"]);
    let text = Outcome::of(command.env("OF_THE_HOST", "1")).ok();
    let mut lines: Vec<&str> = text.lines().collect();
    lines.sort_unstable();
    assert_eq!(lines, ["A=2", "B=", "HOME=/root", "PATH=/usr/bin:/bin", &format!("PROCRT_TEST={}", container.id())]);
}

#[test]
fn the_directory_is_the_containers_or_as_asked_for_and_never_the_hosts() {
    let container = Container::of(Bundle::sleeping().set("/process/cwd", json!("/home")));
    assert_eq!(container.exec(&["pwd"]).ok(), "/home");
    assert_eq!(container.exec_with(&["--cwd", "/tmp"], &["pwd"]).ok(), "/tmp");
    let mut command = container.command_of(&[], &["pwd"]);
    assert_eq!(Outcome::of(command.current_dir("/var")).ok(), "/home");
}

#[test]
fn capabilities_limits_and_no_new_privs_are_the_containers_or_as_asked_for() {
    let limit = json!([{"type": "RLIMIT_NOFILE", "soft": 100, "hard": 200}]);
    let container = Container::of(
        Bundle::sleeping()
            .capabilities(&["CAP_KILL"])
            .set("/process/rlimits", limit)
            .set("/process/user/umask", json!(0o077))
            .set("/process/oomScoreAdj", json!(1000)),
    );
    assert_eq!(status_line(&container, &[], "CapEff"), "0000000000000020");
    assert_eq!(status_line(&container, &["--cap", "CAP_CHOWN"], "CapEff"), "0000000000000021");
    assert_eq!(status_line(&container, &["--cap", "CAP_CHOWN"], "CapBnd"), "0000000000000021");
    assert_eq!(status_line(&container, &["--cap", "CAP_CHOWN"], "CapAmb"), "0000000000000000");
    assert_eq!(status_line(&container, &[], "NoNewPrivs"), "0");
    assert_eq!(status_line(&container, &["--no-new-privs"], "NoNewPrivs"), "1");
    assert_eq!(container.sh(&[], "ulimit -n; ulimit -Hn; umask; cat /proc/self/oom_score_adj"), "100\n200\n0077\n1000");
}

#[test]
fn the_filter_is_in_force_whatever_config_json_says_by_then() {
    let rule = json!({"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 28});
    let filter = json!({"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86_64"], "syscalls": [rule]});
    for no_new_privileges in [false, true] {
        let container = Container::of(
            Bundle::sleeping()
                .capabilities(&["CAP_KILL"])
                .set("/linux/seccomp", filter.clone())
                .set("/process/noNewPrivileges", json!(no_new_privileges)),
        );
        fs::write(container.join("config.json"), "no more").unwrap();
        let outcome = container.exec(&["mkdir", "/tmp/x"]);
        assert!(outcome.stderr.contains("No space left on device"), "{outcome:#?}");
        assert_eq!(status_line(&container, &[], "Seccomp"), "2");
        assert_eq!(status_line(&container, &[], "CapEff"), "0000000000000020");
        assert_eq!(status_line(&container, &["--no-new-privs"], "CapPrm"), "0000000000000020");
    }
}

#[test]
fn namespaces_root_and_control_groups_are_the_containers() {
    let script = "for ns in /proc/self/ns/*; do readlink $ns; done; cat /proc/self/cgroup; hostname";
    let run = format!("({script}) > /new; mv /new /of-first; exec sleep 1000");
    let host_kinds = [&["mount"][..], &["pid", "network"], &["cgroup", "ipc", "uts"], &[]];
    for without in host_kinds {
        let mut bundle = Bundle::new(&run).namespace("time", None);
        if without == ["mount"] {
            bundle = Bundle::new(&run).without_namespace("mount").without_mount("/sys");
        }
        for kind in without {
            bundle = bundle.without_namespace(kind);
        }
        let container = Container::of(bundle);
        let first = container.wait_for_file("of-first");
        assert_eq!(container.sh(&[], script), first, "without {without:?}");
    }
}

#[test]
fn a_process_joins_a_user_namespace() {
    for user in [0, 1000] {
        let bundle = Bundle::new("readlink /proc/self/ns/user > /tmp/new; mv /tmp/new /tmp/of-first; exec sleep 1000");
        fs::set_permissions(bundle.inside("tmp"), std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
        let user = json!({"uid": user, "gid": 0});
        let container = Container::of(bundle.mapped(100_000).set("/process/user", user.clone()));
        let first = container.wait_for_file("tmp/of-first");
        let seen = container.sh(&[], "readlink /proc/self/ns/user; id -u; cat /proc/self/uid_map | tr -s ' '");
        assert_eq!(seen, format!("{first}\n{}\n 0 100000 65536", user["uid"]));
        let listener = UnixListener::bind(container.join("console.sock")).unwrap();
        let socket = container.join("console.sock");
        let options = ["-d", "-t", "--console-socket", socket.to_str().unwrap()];
        container.exec_with(&options, &["sh", "-c", "tty; stat -c %u $(tty)"]).ok();
        assert_eq!(read_terminal(received(&listener)), format!("/dev/pts/0\r\n{}\r\n", user["uid"]));
    }
}

/// The descriptor that is sent to a console socket.
fn received(listener: &UnixListener) -> OwnedFd {
    let (connection, _) = listener.accept().unwrap();
    procrt::terminal::console::receive_fd(connection.as_fd()).unwrap().0
}

/// All that comes out of a terminal until its last process is gone.
fn read_terminal(master: OwnedFd) -> String {
    let mut master = File::from(master);
    let mut text = Vec::new();
    let mut part = [0; 1024];
    // At the end a terminal's master gives EIO.
    while let Ok(length @ 1..) = master.read(&mut part) {
        text.extend_from_slice(&part[..length]);
    }
    String::from_utf8(text).unwrap()
}

#[test]
fn a_terminal_goes_to_the_console_socket_and_is_the_controlling_one() {
    let container = Container::sleeping();
    let socket = container.join("console.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    let options = ["--detach", "--tty", "--console-socket", socket.to_str().unwrap()];
    container.exec_with(&options, &["sh", "-c", "read line </dev/tty; echo got $line; tty; test -t 2 && id -u"]).ok();
    let master = received(&listener);
    File::from(master.try_clone().unwrap()).write_all(b"text\n").unwrap();
    assert_eq!(read_terminal(master), "text\r\ngot text\r\n/dev/pts/0\r\n0\r\n");
    let error = container.exec_with(&["-d", "-t"], &["true"]).not_done();
    assert!(error.starts_with("--console-socket: is needed"), "{error}");
    let error = container.exec_with(&["-d", "--console-socket", socket.to_str().unwrap()], &["true"]).not_done();
    assert!(error.starts_with("--console-socket: there is no terminal"), "{error}");
}

#[test]
fn a_process_file_has_its_own_terminal_size_and_umask() {
    let container = Container::of(Bundle::sleeping().set("/process/user/umask", json!(0o077)));
    let socket = container.join("console.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    let file = container.process_file(&json!({
        "terminal": true, "consoleSize": {"height": 17, "width": 171}, "user": {"uid": 0, "gid": 0, "umask": 0o027},
        "args": ["sh", "-c", "read line; stty size; umask"]
    }));
    let options = ["--detach", "--console-socket", socket.to_str().unwrap(), "--process", &file];
    container.exec_with(&options, &[]).ok();
    let master = received(&listener);
    File::from(master.try_clone().unwrap()).write_all(b"\n").unwrap();
    assert_eq!(read_terminal(master), "\r\n17 171\r\n0027\r\n");
    // Without a terminal its size is nothing.
    let file =
        container.process_file(&json!({"consoleSize": {"height": 17, "width": 70000}, "args": ["sh", "-c", "umask"]}));
    assert_eq!(container.exec_with(&["--process", &file], &[]).ok(), "0077");
}

#[test]
fn a_terminal_in_the_foreground_is_relayed_and_has_our_size() {
    let container = Container::sleeping();
    let size = nix::pty::Winsize { ws_row: 33, ws_col: 101, ws_xpixel: 0, ws_ypixel: 0 };
    let pty = nix::pty::openpty(Some(&size), None).unwrap();
    let mut command = container.command_of(&["-t"], &["sh", "-c", "stty size; read line; echo got $line; exit 5"]);
    let slave = || Stdio::from(pty.slave.try_clone().unwrap());
    let mut child = command.stdin(slave()).stdout(slave()).stderr(slave()).spawn().unwrap();
    drop(command);
    let mut master = File::from(pty.master);
    let mut text = String::new();
    for (wanted, answer) in [("33 101\r\n", "text\n"), ("got text\r\n", "")] {
        while !text.contains(wanted) {
            let mut fds = [PollFd::new(master.as_fd(), PollFlags::POLLIN)];
            let seconds = nix::poll::PollTimeout::try_from(support::LIMIT.as_millis()).unwrap();
            assert!(poll(&mut fds, seconds).unwrap() > 0, "waited for {wanted:?} in vain: {text:?}");
            let mut part = [0; 1024];
            let length = master.read(&mut part).unwrap();
            text.push_str(std::str::from_utf8(&part[..length]).unwrap());
        }
        master.write_all(answer.as_bytes()).unwrap();
    }
    assert_eq!(child.wait().unwrap().code(), Some(5));
}

#[test]
fn stdin_is_passed_on_to_its_end() {
    let container = Container::sleeping();
    let mut command = container.command_of(&[], &["wc", "-c"]);
    let mut running = Running::start(command.stdin(Stdio::piped()));
    let mut stdin = running.child.stdin.take().unwrap();
    stdin.write_all(&vec![b'x'; 300_000]).unwrap();
    drop(stdin);
    assert_eq!(running.finish().ok(), "300000");
}

#[test]
fn a_process_file_says_what_the_process_is_and_the_container_the_rest() {
    let container =
        Container::of(Bundle::sleeping().capabilities(&["CAP_KILL"]).set("/process/noNewPrivileges", json!(true)));
    let process = json!({"user": {"uid": 5, "gid": 6}, "cwd": "/tmp", "env": ["PATH=/bin", "X=1"],
        "args": ["sh", "-c", "id -u; id -g; pwd; echo $X$PROCRT_TEST; grep -E 'CapBnd|NoNewPrivs' /proc/self/status | tr -d '\t'"]});
    let file = container.process_file(&process);
    let expected = "5\n6\n/tmp\n1\nCapBnd:0000000000000020\nNoNewPrivs:1";
    assert_eq!(container.exec_with(&["--process", &file], &[]).ok(), expected);
    // The command line has the last word.
    let text = container.exec_with(&["-p", &file, "-u", "7", "-e", "X=2", "--cwd", "/"], &[]).ok();
    assert!(text.starts_with("7\n6\n/\n2\n"), "{text}");
    assert!(container.exec_with(&["-p", &file], &["true"]).not_done().starts_with("--process: "));
}

#[test]
fn a_wrong_process_file_is_refused_by_path() {
    let container = Container::sleeping();
    for (changes, words) in [
        (json!({"cwd": "x", "args": []}), "process.args: is empty; process.cwd: \"x\" is not an absolute path"),
        (json!({"user": {"uid": "0", "gid": 0}}), "process.user.uid: \"0\" is not"),
        (json!({"capabilities": {"bounding": [1, "CAP_NOPE"]}}), "process.capabilities.bounding[0]: 1 is not a string"),
        (json!({"execCPUAffinity": {"final": "3-1"}}), "process.execCPUAffinity.final: \"3-1\" is not a list of CPUs"),
    ] {
        let error = container.exec_with(&["--process", &container.process_file(&changes)], &[]).not_done();
        assert!(error.contains(words), "{error}");
    }
    let file = container.process_file(&json!({}));
    for text in ["", "{", "[]", "3"] {
        fs::write(&file, text).unwrap();
        container.exec_with(&["--process", &file], &[]).not_done();
    }
}

#[test]
fn cpus_are_as_configured() {
    let container =
        Container::of(Bundle::sleeping().set("/process/execCPUAffinity", json!({"initial": "0", "final": "0"})));
    assert_eq!(status_line(&container, &[], "Cpus_allowed_list"), "0");
    let file = container.process_file(&json!({"args": ["true"], "execCPUAffinity": {"initial": "1000"}}));
    let error = container.exec_with(&["--process", &file], &[]).not_done();
    assert!(error.contains("process.execCPUAffinity: run on CPUs [1000]: invalid argument"), "{error}");
}

#[test]
fn only_descriptors_that_are_passed_on_are_there() {
    let container = Container::sleeping();
    let list = "for fd in /proc/self/fd/*; do echo -n \"${fd##*/} \"; done";
    let (file, other) = (File::open("/dev/null").unwrap(), File::open("/dev/null").unwrap());
    let script = format!("exec 3<&{0} 4<&{1} 5<&{0} 9<&{0}; exec \"$@\"", file.as_raw_fd(), other.as_raw_fd());
    for fd in [&file, &other] {
        nix::fcntl::fcntl(fd, nix::fcntl::FcntlArg::F_SETFD(nix::fcntl::FdFlag::empty())).unwrap();
    }
    for (count, expected) in [("0", "0 1 2 3 "), ("2", "0 1 2 3 4 5 ")] {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", &script, "sh", support::PROCRT, "--root"]).arg(container.store());
        command.args(["exec", "--preserve-fds", count, container.id(), "sh", "-c", list]);
        // The last one is the shell's own, of the directory.
        assert_eq!(Outcome::of(&mut command).ok(), expected);
    }
}

#[test]
fn a_process_joins_a_control_group_inside_the_containers() {
    let container = Container::sleeping();
    let text = fs::read_to_string(format!("/proc/{}/cgroup", container.pid())).unwrap();
    let mut made = Vec::new();
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    for mount in mounts.lines().filter(|line| line.contains(" - cgroup")) {
        let point = mount.split(' ').nth(4).unwrap();
        for path in text.lines().filter_map(|line| line.splitn(3, ':').nth(2)) {
            let dir = std::path::Path::new(point).join(path.trim_start_matches('/'));
            if dir.is_dir() && !dir.join("sub").exists() {
                fs::create_dir(dir.join("sub")).unwrap();
                made.push(dir.join("sub"));
            }
        }
    }
    assert!(!made.is_empty());
    let outcome = container.exec_with(&["--cgroup", "sub"], &["cat", "/proc/self/cgroup"]);
    let missing = container.exec_with(&["--cgroup", "nope"], &["true"]).not_done();
    assert!(missing.contains("/nope") && missing.contains("no such file or directory"), "{missing}");
    assert!(outcome.ok().lines().all(|line| line.ends_with("/sub")));
}

#[test]
fn a_process_follows_one_that_has_moved_to_a_control_group_of_its_own() {
    if !support::unified() {
        return skipped("only version 2 forbids processes in inner control groups");
    }
    // By its limit, the container has the controller.
    let container = Container::of(Bundle::sleeping().set("/linux/resources/pids/limit", json!(100)));
    let text = fs::read_to_string(format!("/proc/{}/cgroup", container.pid())).unwrap();
    let dir = std::path::Path::new("/sys/fs/cgroup").join(text.trim().trim_start_matches("0::/"));
    fs::create_dir(dir.join("leaf")).unwrap();
    fs::write(dir.join("leaf/cgroup.procs"), container.pid().to_string()).unwrap();
    fs::write(dir.join("cgroup.subtree_control"), "+pids").unwrap();
    assert!(container.exec(&["cat", "/proc/self/cgroup"]).ok().ends_with("/leaf"));
}

#[test]
fn a_joining_process_cannot_be_looked_into_before_it_is_the_containers() {
    // Root of a user namespace in which ids mean what they mean outside, with the capabilities for it.
    let script = "while :; do for p in /proc/[0-9]*; do case $p in /proc/1) ;; *) ls -l $p/fd $p/exe; esac; done; done";
    let bundle = Bundle::new(&format!("({script}) >> /seen 2>/dev/null")).mapped(0);
    let container = Container::of(bundle.capabilities(&["CAP_SYS_PTRACE", "CAP_DAC_OVERRIDE", "CAP_DAC_READ_SEARCH"]));
    for _ in 0..support::rounds(40) {
        container.exec(&["true"]).ok();
    }
    let seen = fs::read_to_string(container.inside("seen")).unwrap();
    assert!(!seen.contains("socket:") && !seen.contains("pidfd") && !seen.contains("procrt"), "{seen}");
}
