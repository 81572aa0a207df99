//! Filters that notify an agent: what it is sent, by whom and when, and what its answers do.

mod support;

use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::sync::mpsc::{self, Receiver};
use std::thread;

use nix::errno::Errno;
use procrt::sys::seccomp::{self, Answer, Notification};
use procrt::sys::socket::receive_fd;
use serde_json::{Value, json};
use support::container::Container;
use support::{Bundle, LIMIT, skipped};

const MKDIR: i32 = libc::SYS_mkdir as i32;
const MKDIRAT: i32 = libc::SYS_mkdirat as i32;

/// What an agent does about a call: lets it be carried out, or answers an error number or a value itself.
enum Say {
    GoOn,
    Fail(i32),
    Give(i64),
}

/// An agent: whatever connects, it receives a state and a listener and answers all that comes by `policy`.
struct Agent {
    path: PathBuf,
    states: Receiver<Value>,
}

impl Agent {
    fn at(path: PathBuf, policy: fn(&Notification) -> Say) -> Self {
        let socket = UnixListener::bind(&path).unwrap();
        // Root's alone: a container's user could not connect.
        std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        let (sender, states) = mpsc::channel();
        thread::spawn(move || {
            for connection in socket.incoming() {
                let mut connection = connection.unwrap();
                let mut text = vec![0; 1 << 16];
                let (length, listener) = receive_fd(connection.as_fd(), &mut text).unwrap();
                text.truncate(length);
                // One message, and then the end of the connection.
                connection.read_to_end(&mut text).unwrap();
                sender.send(serde_json::from_slice(&text).unwrap()).unwrap();
                let listener = listener.expect("a descriptor comes with the state");
                thread::spawn(move || answer_all(&listener, policy));
            }
        });
        Self { path, states }
    }

    fn of(bundle: &Bundle, policy: fn(&Notification) -> Say) -> Self {
        Self::at(bundle.join("agent.sock"), policy)
    }

    /// The next state that came.
    #[track_caller]
    fn state(&self) -> Value {
        self.states.recv_timeout(LIMIT).unwrap()
    }

    fn path(&self) -> &str {
        self.path.to_str().unwrap()
    }
}

fn answer_all(listener: &OwnedFd, policy: fn(&Notification) -> Say) {
    loop {
        let call = match seccomp::receive(listener.as_fd()) {
            Ok(call) => call,
            Err(Errno::ENOENT | Errno::EINTR) => {
                // The caller is gone; all of them if nobody can ask any more.
                let mut fds = [nix::poll::PollFd::new(listener.as_fd(), nix::poll::PollFlags::POLLIN)];
                nix::poll::poll(&mut fds, nix::poll::PollTimeout::ZERO).unwrap();
                if fds[0].revents().is_some_and(|events| events.contains(nix::poll::PollFlags::POLLHUP)) {
                    return;
                }
                continue;
            }
            Err(errno) => panic!("{errno}"),
        };
        let mut answer = Answer { id: call.id, val: 0, error: 0, flags: 0 };
        match policy(&call) {
            Say::GoOn => answer.flags = libc::SECCOMP_USER_NOTIF_FLAG_CONTINUE as u32,
            Say::Fail(errno) => answer.error = -errno,
            Say::Give(value) => answer.val = value,
        }
        match seccomp::answer(listener.as_fd(), answer) {
            Ok(()) | Err(Errno::ENOENT) => {}
            Err(errno) => panic!("{errno}"),
        }
    }
}

/// mkdir fails with a rare error number.
fn no_mkdir(call: &Notification) -> Say {
    assert!([MKDIR, MKDIRAT].contains(&call.data.nr), "{}", call.data.nr);
    Say::Fail(libc::EXDEV)
}

/// `bundle` with a filter that notifies the agent at `path` of mkdir.
fn notifying(bundle: Bundle, path: &str) -> Bundle {
    bundle.set(
        "/linux/seccomp",
        json!({"defaultAction": "SCMP_ACT_ALLOW", "listenerPath": path, "listenerMetadata": "for \"the\" agent",
            "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_NOTIFY"}]}),
    )
}

fn agent_of(bundle: &Bundle) -> String {
    bundle.join("agent.sock").to_str().unwrap().to_owned()
}

#[test]
fn the_agent_gets_the_state_of_the_container_and_the_listener_at_start() {
    let bundle = Bundle::new("mkdir /made 2>/said; echo done > /done; exec sleep 1000");
    let path = agent_of(&bundle);
    let bundle = notifying(bundle, &path).set("/annotations", json!({"a": "b"}));
    let agent = Agent::of(&bundle, no_mkdir);
    bundle.create().ok();
    // A connection is for one message: there is none before there is a listener.
    assert!(agent.states.try_recv().is_err());
    bundle.start().ok();
    let state = agent.state();
    let pid = bundle.pid();
    let container = json!({"ociVersion": "1.3.0", "id": bundle.id(), "status": "created", "pid": pid,
        "bundle": bundle.path(), "annotations": {"a": "b"}});
    let expected = json!({"ociVersion": "1.3.0", "fds": ["seccompFd"], "pid": pid,
        "metadata": "for \"the\" agent", "state": container});
    assert_eq!(state, expected);
    bundle.wait_for_file("done");
    assert!(std::fs::read_to_string(bundle.inside("said")).unwrap().contains("Invalid cross-device link"));
    assert!(!bundle.inside("made").exists());
    bundle.kill("KILL").ok();
    bundle.wait_for_status("stopped");
    bundle.delete(&[]).ok();
}

#[test]
fn run_sends_it_too() {
    let bundle = Bundle::new("mkdir /made; ls -d /made");
    let bundle = notifying(bundle, "").set("/linux/seccomp/listenerMetadata", json!(""));
    let path = agent_of(&bundle);
    let bundle = bundle.set("/linux/seccomp/listenerPath", json!(path));
    let agent = Agent::of(&bundle, |_| Say::Give(0));
    // The agent says that it was made, and does not make it.
    let outcome = bundle.run();
    assert_eq!(outcome.code(), 1, "{outcome:#?}");
    assert!(outcome.stderr.contains("/made: No such file"), "{outcome:#?}");
    let state = agent.state();
    assert!(state.get("metadata").is_none());
    assert!(state["pid"].as_i64().unwrap() > 0);
}

#[test]
fn a_process_that_exec_makes_has_a_listener_and_a_pid_of_its_own() {
    let bundle = Bundle::sleeping();
    let path = agent_of(&bundle);
    let bundle = notifying(bundle, &path);
    let agent = Agent::of(&bundle, no_mkdir);
    let container = Container::of(bundle);
    let first = agent.state();
    let outcome = container.exec_with(&["--pid-file", container.join("pid").to_str().unwrap()], &["mkdir", "/made"]);
    assert_eq!(outcome.code(), 1, "{outcome:#?}");
    assert!(outcome.stderr.contains("Invalid cross-device link"), "{outcome:#?}");
    let second = agent.state();
    let pid: i64 = std::fs::read_to_string(container.join("pid")).unwrap().parse().unwrap();
    assert_ne!(pid, container.pid());
    assert_eq!(second["pid"], pid);
    assert_eq!(second["state"]["pid"], container.pid());
    assert_eq!(second["state"]["status"], "running");
    assert_eq!(second["state"]["id"], first["state"]["id"]);
}

/// The filter decides every call that is made after it is installed: the listener reaches the agent without any.
#[test]
fn all_calls_can_be_notified_from_the_first_on() {
    for no_new_privileges in [true, false] {
        let bundle = Bundle::new("echo here").set("/process/noNewPrivileges", json!(no_new_privileges));
        let path = agent_of(&bundle);
        let bundle = bundle
            .set("/linux/seccomp", json!({"defaultAction": "SCMP_ACT_NOTIFY", "listenerPath": path}))
            .set("/process/user", json!({"uid": 1000, "gid": 1000}));
        let agent = Agent::of(&bundle, |_| Say::GoOn);
        assert_eq!(bundle.run().ok(), "here");
        agent.state();
        bundle.create().ok();
        bundle.start().ok();
        agent.state();
        bundle.wait_for_status("stopped");
        bundle.delete(&[]).ok();
    }
}

#[test]
fn the_agents_refusal_of_execve_is_the_containers_failure() {
    let bundle = Bundle::new("echo here");
    let path = agent_of(&bundle);
    let bundle = bundle.set(
        "/linux/seccomp",
        json!({"defaultAction": "SCMP_ACT_ALLOW", "listenerPath": path, "flags": ["SECCOMP_FILTER_FLAG_TSYNC",
            "SECCOMP_FILTER_FLAG_LOG"], "syscalls": [{"names": ["execve"], "action": "SCMP_ACT_NOTIFY"}]}),
    );
    let agent = Agent::of(&bundle, |_| Say::Fail(libc::EIO));
    let sentence = bundle.run().refused();
    assert!(sentence.contains("exec \"/bin/sh\": "), "{sentence}");
    assert!(sentence.contains("(os error 5)"), "{sentence}");
    agent.state();
    bundle.assert_nothing_left();
}

#[test]
fn a_container_in_a_user_namespace_reaches_an_agent_that_is_roots_alone() {
    let bundle = Bundle::new("mkdir /tmp/made; echo $?").mapped(200_000);
    let path = agent_of(&bundle);
    let bundle = notifying(bundle, &path).set("/process/user", json!({"uid": 1000, "gid": 1000}));
    let agent = Agent::of(&bundle, no_mkdir);
    assert_eq!(bundle.run().ok(), "1");
    agent.state();
}

#[test]
fn a_killed_container_is_not_waited_for_by_its_agent() {
    let bundle = Bundle::new("mkdir /made");
    let path = agent_of(&bundle);
    let bundle =
        notifying(bundle, &path).set("/linux/seccomp/flags", json!(["SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"]));
    // This agent takes its time.
    let agent = Agent::of(&bundle, |_| {
        thread::sleep(std::time::Duration::from_millis(300));
        Say::GoOn
    });
    bundle.create().ok();
    bundle.start().ok();
    agent.state();
    bundle.kill("KILL").ok();
    bundle.wait_for_status("stopped");
    bundle.delete(&[]).ok();
}

#[test]
fn a_listener_that_nobody_serves_is_an_error_before_anything_is_made() {
    let bundle = Bundle::new("true");
    let path = agent_of(&bundle);
    let bundle = notifying(bundle, &path);
    let sentence = bundle.create().refused();
    assert!(
        sentence.contains("linux.seccomp.listenerPath: reach the listener at") && sentence.contains("no such file"),
        "{sentence}"
    );
    assert!(!bundle.store().exists());
    drop(UnixListener::bind(&path).unwrap());
    let sentence = bundle.run().refused();
    assert!(sentence.contains(&format!("linux.seccomp.listenerPath: nobody listens on \"{path}\"")), "{sentence}");
    assert!(!bundle.store().exists());
}

#[test]
fn an_agent_that_is_gone_at_start_ends_the_container() {
    let bundle = Bundle::new("echo here > /here");
    let path = agent_of(&bundle);
    let bundle = notifying(bundle, &path);
    let agent = UnixListener::bind(&path).unwrap();
    bundle.create().ok();
    drop(agent);
    let sentence = bundle.start().refused();
    assert!(sentence.contains("linux.seccomp.listenerPath: reach the listener at"), "{sentence}");
    assert!(!bundle.inside("here").exists());
    bundle.assert_nothing_left();
}

#[test]
fn an_agent_that_is_gone_at_exec_leaves_the_container_as_it_is() {
    let bundle = Bundle::sleeping();
    let path = agent_of(&bundle);
    let bundle = notifying(bundle, &path);
    let agent = Agent::of(&bundle, no_mkdir);
    let container = Container::of(bundle);
    agent.state();
    std::fs::remove_file(agent.path()).unwrap();
    let sentence = container.exec(&["true"]).not_done();
    assert!(sentence.contains("linux.seccomp.listenerPath"), "{sentence}");
    assert_eq!(container.status(), "running");
}

#[test]
fn a_created_container_that_is_never_started_leaves_nothing() {
    let bundle = Bundle::new("true");
    let path = agent_of(&bundle);
    let bundle = notifying(bundle, &path);
    let agent = Agent::of(&bundle, no_mkdir);
    bundle.create().ok();
    bundle.delete(&["--force"]).ok();
    assert!(agent.states.try_recv().is_err());
}

#[test]
fn a_listener_without_a_call_to_notify_of_is_left_alone() {
    let bundle = Bundle::new("echo here").set(
        "/linux/seccomp",
        json!({"defaultAction": "SCMP_ACT_ALLOW", "listenerPath": "/nowhere", "listenerMetadata": "x"}),
    );
    assert_eq!(bundle.run().ok(), "here");
}

#[test]
fn a_container_whose_program_is_not_there_is_refused_before_its_agent_hears_of_it() {
    let bundle = Bundle::running(&["/no/such/program"]);
    let path = agent_of(&bundle);
    let bundle = notifying(bundle, &path);
    let agent = Agent::of(&bundle, no_mkdir);
    assert!(bundle.create().refused().contains("/no/such/program"));
    assert!(agent.states.try_recv().is_err());
}

/// The process waits without a call for the thread that sends its listener, which is to have the processor meanwhile.
#[test]
fn a_process_in_real_time_does_not_keep_the_only_processor_from_what_it_waits_for() {
    let bundle = Bundle::new("mkdir /made 2>/said; true");
    let path = agent_of(&bundle);
    let mut cpu = json!({"cpus": "0"});
    if std::path::Path::new("/sys/fs/cgroup/cpu/cpu.rt_runtime_us").exists() {
        cpu = json!({"cpus": "0", "realtimePeriod": 1_000_000, "realtimeRuntime": 10_000});
    }
    // Below a group of somebody's, which has no budget of it, there is none to be had.
    let group = format!("/procrt-notify-{}", bundle.id());
    let bundle = notifying(bundle, &path)
        .set("/process/scheduler", json!({"policy": "SCHED_FIFO", "priority": 3}))
        .set("/linux/cgroupsPath", json!(group))
        .set("/linux/resources/cpu", cpu);
    let agent = Agent::of(&bundle, no_mkdir);
    let create = bundle.create();
    if create.code() != 0 {
        return skipped(&format!("no real time here: {}", create.stderr));
    }
    bundle.start().ok();
    agent.state();
    bundle.wait_for_status("stopped");
    bundle.delete(&[]).ok();
}

#[test]
fn whoever_was_killed_at_the_start_is_not_in_the_way_of_the_next() {
    use nix::sys::socket::{SockType, UnixAddr, connect};
    let bundle = Bundle::new("mkdir /made 2>/said; true");
    let path = agent_of(&bundle);
    let bundle = notifying(bundle, &path);
    let agent = Agent::of(&bundle, no_mkdir);
    bundle.create().ok();
    for _ in 0..3 {
        let socket = procrt::sys::socket::unix(SockType::SeqPacket).unwrap();
        let meeting = UnixAddr::new(&bundle.store().join(bundle.id()).join("meeting")).unwrap();
        connect(std::os::fd::AsRawFd::as_raw_fd(&socket), &meeting).unwrap();
    }
    bundle.start().ok();
    agent.state();
    bundle.wait_for_status("stopped");
    bundle.delete(&[]).ok();
}
