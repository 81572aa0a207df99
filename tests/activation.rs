//! A service manager around procrt: sockets that it passes (sd_listen_fds(3)), and word of readiness (sd_notify(3)).

mod support;

use std::fs;
use std::os::unix::net::UnixDatagram;
use std::process::Command;
use std::time::Duration;

use support::{Bundle, Outcome, Running, install, wait_until};

const SOCKET: &str = "/run/notify/notify.sock";

/// `command` as a service manager starts it: with two descriptors that are said to be for `$pid`.
fn with_sockets(bundle: &Bundle, command: &Command, pid: &str) -> Command {
    let mut shell = Command::new("sh");
    let script = format!("LISTEN_FDS=2 LISTEN_PID={pid} LISTEN_FDNAMES=http:tls exec \"$@\" 3<one 4<two");
    fs::write(bundle.join("one"), "1st").unwrap();
    fs::write(bundle.join("two"), "2nd").unwrap();
    shell.args(["-c", &script, "sh"]).arg(command.get_program()).args(command.get_args()).current_dir(bundle.path());
    shell
}

const TELL: &str = r#"echo "$LISTEN_FDS $LISTEN_PID $LISTEN_FDNAMES $(cat <&3 2>&1) $(cat <&4 2>&1)""#;

#[test]
fn sockets_are_the_first_process_s_with_their_number_and_names() {
    let bundle = Bundle::new(TELL);
    let command = with_sockets(&bundle, &bundle.making("run", &[]), "$$");
    assert_eq!(Outcome::of(&mut { command }).ok(), "2 1 http:tls 1st 2nd");
}

#[test]
fn sockets_pass_through_create_and_come_before_preserved_descriptors() {
    let bundle = Bundle::new(&format!("{TELL} >/out; cat <&5 >>/out"));
    fs::write(bundle.join("three"), "3rd").unwrap();
    let mut create = with_sockets(&bundle, &bundle.making("create", &["--preserve-fds", "1"]), "$$");
    // The shell that starts it opens one more.
    let script = create.get_args().nth(1).unwrap().to_str().unwrap().to_owned() + " 5<three";
    let args: Vec<_> = create.get_args().skip(2).map(ToOwned::to_owned).collect();
    create = Command::new("sh");
    create.arg("-c").arg(script).args(args).current_dir(bundle.path());
    Outcome::of(&mut create).ok();
    bundle.start().ok();
    bundle.wait_for_status("stopped");
    assert_eq!(fs::read_to_string(bundle.inside("out")).unwrap(), "2 1 http:tls 1st 2nd\n3rd");
    bundle.delete(&[]).ok();
}

#[test]
fn the_pid_is_the_process_s_own_without_a_pid_namespace_too() {
    let bundle = Bundle::new(r#"[ "$LISTEN_PID" = $$ ] && [ $$ != 1 ] && echo mine"#).without_namespace("pid");
    let mut command = with_sockets(&bundle, &bundle.making("run", &[]), "$$");
    assert_eq!(Outcome::of(&mut command).ok(), "mine");
}

#[test]
fn sockets_of_somebody_else_are_not_passed() {
    for pid in ["1", ""] {
        let bundle = Bundle::new("env | grep LISTEN; ls /proc/self/fd");
        let mut command = with_sockets(&bundle, &bundle.making("run", &[]), pid);
        assert_eq!(Outcome::of(&mut command).ok(), "0\n1\n2\n3", "3 is that of ls");
    }
}

#[test]
fn sockets_that_are_not_there_are_refused() {
    let bundle = Bundle::new("true");
    let command = bundle.making("run", &[]);
    for (number, fault) in [("2", "LISTEN_FDS=2: descriptor 3 is not open"), ("x", "LISTEN_FDS=\"x\": is no number")] {
        let mut shell = Command::new("sh");
        shell.args(["-c", &format!("LISTEN_FDS={number} LISTEN_PID=$$ exec \"$@\""), "sh"]);
        shell.arg(command.get_program()).args(command.get_args());
        let said = Outcome::of(&mut shell).refused();
        assert!(said.contains(fault), "{said}");
        bundle.assert_nothing_left();
    }
}

#[test]
#[ignore = "the program that is put into containers, where it tells what it is to tell"]
fn a_program_inside_speaks() {
    let socket = UnixDatagram::unbound().unwrap();
    for message in std::env::var("SPEAK").unwrap().split('|') {
        // Nobody listens any more once the word of readiness has been passed on.
        let _ = socket.send_to(message.as_bytes(), std::env::var("NOTIFY_SOCKET").unwrap());
    }
}

/// A container that waits for the file /go, tells `text`, and sleeps.
fn speaking(text: &str) -> Bundle {
    let speak = format!("SPEAK='{text}' /speaker --ignored --exact a_program_inside_speaks >/dev/null");
    let bundle = Bundle::new(&format!("until [ -e /go ]; do sleep 0.01; done; {speak} && echo told; exec sleep 1000"));
    install(&std::env::current_exe().unwrap(), &bundle.inside("speaker"));
    bundle
}

/// Where the test waits as the service manager does.
fn manager(bundle: &Bundle) -> (UnixDatagram, String) {
    let path = bundle.join("manager.sock");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    (socket, path.to_str().unwrap().to_owned())
}

fn heard(socket: &UnixDatagram) -> String {
    let mut buffer = [0; 4096];
    let length = socket.recv(&mut buffer).unwrap();
    String::from_utf8_lossy(&buffer[..length]).into_owned()
}

fn assert_silence(socket: &UnixDatagram) {
    socket.set_nonblocking(true).unwrap();
    assert!(socket.recv(&mut [0; 16]).is_err(), "the manager has been told more");
    socket.set_nonblocking(false).unwrap();
}

#[test]
fn start_waits_until_the_process_is_ready_and_names_it_to_the_manager() {
    let bundle = speaking("STATUS=loading|X=1\nREADY=1\nSTATUS=up|MAINPID=1");
    let (socket, path) = manager(&bundle);
    Outcome::of(bundle.making("create", &[]).env("NOTIFY_SOCKET", &path)).ok();
    let starting = Running::start(bundle.command(&["start", bundle.id()]).env("NOTIFY_SOCKET", &path));
    bundle.wait_for_status("running");
    std::thread::sleep(Duration::from_millis(100));
    assert_silence(&socket);
    fs::write(bundle.inside("go"), "").unwrap();
    assert_eq!(heard(&socket), format!("READY=1\nMAINPID={}\n", bundle.pid()));
    assert_eq!(heard(&socket), "BARRIER=1");
    assert_eq!(starting.finish().ok(), "");
    assert_silence(&socket);
    // Who joins is not the service.
    assert_eq!(bundle.call(&["exec", bundle.id(), "sh", "-c", "echo $NOTIFY_SOCKET"]).ok(), "");
    bundle.delete(&["--force"]).ok();
}

#[test]
fn a_detached_run_waits_and_a_manager_may_have_an_abstract_name() {
    use std::os::linux::net::SocketAddrExt;
    let bundle = speaking("READY=1").mapped(100_000);
    // The root file system is not that of the mapped ids.
    fs::create_dir_all(bundle.inside("run/notify")).unwrap();
    let name = format!("procrt-{}", bundle.id());
    let address = std::os::unix::net::SocketAddr::from_abstract_name(&name).unwrap();
    let socket = UnixDatagram::bind_addr(&address).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    fs::write(bundle.inside("go"), "").unwrap();
    let mut run = bundle.making("run", &["--detach"]);
    let running = Running::start(run.env("NOTIFY_SOCKET", format!("@{name}")));
    assert_eq!(heard(&socket), format!("READY=1\nMAINPID={}\n", bundle.pid()));
    assert_eq!(heard(&socket), "BARRIER=1");
    running.finish().ok();
    bundle.delete(&["--force"]).ok();
}

#[test]
fn a_run_in_the_foreground_is_itself_the_service_s_main_process() {
    let bundle = speaking("READY=1|READY=1");
    let (socket, path) = manager(&bundle);
    let running = Running::start(bundle.making("run", &[]).env("NOTIFY_SOCKET", &path));
    fs::write(bundle.inside("go"), "").unwrap();
    assert_eq!(heard(&socket), "READY=1\n");
    assert_eq!(heard(&socket), "BARRIER=1");
    wait_until("the process", || running.stdout().contains("told"));
    assert_silence(&socket);
    bundle.kill("KILL").ok();
    assert_eq!(running.finish().code(), 137);
}

#[test]
fn a_process_that_ends_without_a_word_is_not_waited_for() {
    let bundle = Bundle::new("echo $NOTIFY_SOCKET; ls -ld /run/notify/ | cut -c 1-10; touch /run/notify/x 2>&1; true");
    let (socket, path) = manager(&bundle);
    let said = Outcome::of(bundle.making("run", &[]).env("NOTIFY_SOCKET", &path)).ok();
    assert_eq!(said, format!("{SOCKET}\ndrwxr-xr-x\ntouch: /run/notify/x: Read-only file system"));
    Outcome::of(bundle.making("create", &[]).env("NOTIFY_SOCKET", &path)).ok();
    Outcome::of(bundle.command(&["start", bundle.id()]).env("NOTIFY_SOCKET", &path)).ok();
    assert_silence(&socket);
    bundle.wait_for_status("stopped");
    bundle.delete(&[]).ok();
}

#[test]
fn a_container_made_for_no_manager_is_started_without_one() {
    let bundle = Bundle::new("env | grep NOTIFY; true");
    bundle.create().ok();
    Outcome::of(bundle.command(&["start", bundle.id()]).env("NOTIFY_SOCKET", "/nonexistent/socket")).ok();
    bundle.wait_for_status("stopped");
    bundle.delete(&[]).ok();
}

#[test]
fn a_manager_without_a_socket_s_address_is_refused() {
    let bundle = Bundle::new("true");
    let said = Outcome::of(bundle.making("run", &[]).env("NOTIFY_SOCKET", "vsock:2:1")).refused();
    assert!(said.contains("NOTIFY_SOCKET=\"vsock:2:1\": is no path and no abstract name"), "{said}");
    bundle.assert_nothing_left();
}

#[test]
fn a_container_that_is_not_made_leaves_no_socket_for_its_manager() {
    let bundle = Bundle::running(&["/nonexistent"]);
    let (_socket, path) = manager(&bundle);
    for command in ["create", "run"] {
        let said = Outcome::of(bundle.making(command, &[]).env("NOTIFY_SOCKET", &path)).refused();
        assert!(said.contains("/nonexistent"), "{said}");
        bundle.assert_nothing_left();
    }
}
