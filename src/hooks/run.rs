//! Running hooks, one after the other.

use std::io::{ErrorKind, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use super::Hook;
use crate::error::{Context, Error, Kind, Result};
use crate::sys::process::pidfd_open;

/// As much as is kept of what a hook says on its standard error.
const COMPLAINT: usize = 4096;

/// The container's state as hooks are given it.
///
/// # Errors
/// None that a state can cause.
pub fn state_json(state: &oci_spec::runtime::State, pid: i32, status: &str) -> Result<Vec<u8>> {
    let fault = |error: serde_json::Error| Error::system(format!("write the container's state for its hooks: {error}"));
    let mut value = serde_json::to_value(state).map_err(fault)?;
    value["status"] = status.into();
    if pid > 0 {
        value["pid"] = pid.into();
    }
    serde_json::to_vec(&value).map_err(fault)
}

/// Runs `hooks` in order, each with `state` on its standard input, in the directory `cwd` if there is one. The first that
/// fails ends it. A hook that runs out of time is killed with its process group.
///
/// # Errors
/// [`Kind::Hook`], with the hook's place, program, status and the end of what it said.
pub fn run(kind: &str, hooks: &[Hook], state: &[u8], cwd: Option<&Path>) -> Result<()> {
    for (index, hook) in hooks.iter().enumerate() {
        run_one(hook, state, cwd).map_err(|error| {
            error.context(format!("hooks.{kind}[{index}] {:?}", hook.path.display().to_string())).of_kind(Kind::Hook)
        })?;
    }
    Ok(())
}

fn run_one(hook: &Hook, state: &[u8], cwd: Option<&Path>) -> Result<()> {
    let mut command = Command::new(&hook.path);
    if let Some((name, rest)) = hook.args.split_first() {
        command.arg0(name).args(rest);
    }
    command.env_clear().envs(hook.env.iter().filter_map(|text| text.split_once('=')));
    if let Some(cwd) = cwd {
        command.current_dir(cwd);
    }
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped()).process_group(0);
    let mut child = command.spawn().context(|| "run it")?;
    let mut said = Vec::new();
    let ended = attend(&mut child, state, hook.timeout, &mut said);
    if !matches!(ended, Ok(true)) {
        // It leads its process group until it is reaped, so the number is no other group's.
        let _ = killpg(Pid::from_raw(child.id() as i32), Signal::SIGKILL);
    }
    let status = child.wait().context(|| "wait for it")?;
    if !ended? {
        return Err(Error::system(format!("took longer than {} s{}", hook.timeout.unwrap_or(0), complaint(&said))));
    }
    if status.success() { Ok(()) } else { Err(Error::system(format!("{}{}", shown(status), complaint(&said)))) }
}

fn shown(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit status {code}"),
        (None, Some(signal)) => format!("killed by signal {signal}"),
        (None, None) => "ended in an unknown way".to_owned(),
    }
}

fn complaint(said: &[u8]) -> String {
    let text = String::from_utf8_lossy(said);
    let text = text.trim();
    if text.is_empty() { String::new() } else { format!(": {text}") }
}

/// Gives the hook its input and hears it out until it has ended (`true`) or its time is over (`false`).
fn attend(child: &mut Child, state: &[u8], timeout: Option<u32>, said: &mut Vec<u8>) -> Result<bool> {
    let deadline = timeout.map(|seconds| Instant::now() + Duration::from_secs(seconds.into()));
    let pidfd = pidfd_open(child.id() as i32).context(|| "watch it")?;
    let mut stdin = child.stdin.take();
    let mut stderr = child.stderr.take();
    for fd in [stdin.as_ref().map(AsFd::as_fd), stderr.as_ref().map(AsFd::as_fd)].into_iter().flatten() {
        set_nonblocking(fd).context(|| "set up its pipes")?;
    }
    let mut left = state;
    loop {
        // Only a hook that reads is written to, and one that need not read its state may end without.
        if stdin.as_mut().is_some_and(|pipe| write_some(pipe, &mut left)) {
            stdin = None;
        }
        let mut fds = vec![PollFd::new(pidfd.as_fd(), PollFlags::POLLIN)];
        fds.extend(stdin.as_ref().map(|pipe| PollFd::new(pipe.as_fd(), PollFlags::POLLOUT)));
        fds.extend(stderr.as_ref().map(|pipe| PollFd::new(pipe.as_fd(), PollFlags::POLLIN)));
        let wait = match deadline.map(|deadline| deadline.saturating_duration_since(Instant::now())) {
            None => PollTimeout::NONE,
            Some(Duration::ZERO) => return Ok(false),
            // Rounded up, so that the last wait is not cut to nothing.
            Some(left) => PollTimeout::try_from(left + Duration::from_millis(1)).unwrap_or(PollTimeout::MAX),
        };
        match poll(&mut fds, wait) {
            Err(Errno::EINTR) => continue,
            answer => answer.context(|| "wait for it")?,
        };
        let ended = fds[0].any() == Some(true);
        if stderr.as_mut().is_some_and(|pipe| read_some(pipe, said)) {
            stderr = None;
        }
        // What it has started may hold the pipes open for ever: its own end is what counts.
        if ended {
            return Ok(true);
        }
    }
}

fn set_nonblocking(fd: BorrowedFd) -> Result<()> {
    let flags = OFlag::from_bits_retain(fcntl(fd, FcntlArg::F_GETFL)?);
    fcntl(fd, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK))?;
    Ok(())
}

/// Writes what goes in now; whether there is no more to be written.
fn write_some(pipe: &mut impl Write, left: &mut &[u8]) -> bool {
    while !left.is_empty() {
        match pipe.write(left) {
            Ok(length) => *left = &left[length..],
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return error.kind() != ErrorKind::WouldBlock,
        }
    }
    true
}

/// Reads what is there now and keeps the end of it; whether nothing more will come.
fn read_some(pipe: &mut impl Read, said: &mut Vec<u8>) -> bool {
    let mut part = [0_u8; 4096];
    loop {
        match pipe.read(&mut part) {
            Ok(0) => return true,
            Ok(length) => {
                said.extend_from_slice(&part[..length]);
                said.drain(..said.len().saturating_sub(COMPLAINT));
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return error.kind() != ErrorKind::WouldBlock,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Hook {
        let args = ["sh", "-c", script].map(str::to_owned).to_vec();
        Hook { path: "/bin/sh".into(), args, env: vec!["PATH=/usr/bin:/bin".into()], timeout: None }
    }

    #[test]
    fn hooks_run_in_order_with_the_state_on_their_input() {
        let directory = tempfile::tempdir().unwrap();
        let hooks = [shell("cat > first"), shell("cat first > second; echo done >> second")];
        run("prestart", &hooks, b"{\"id\":\"x\"}", Some(directory.path())).unwrap();
        let second = std::fs::read_to_string(directory.path().join("second")).unwrap();
        assert_eq!(second, "{\"id\":\"x\"}done\n");
    }

    #[test]
    fn the_first_failure_ends_it_and_is_told_with_what_the_hook_said() {
        let directory = tempfile::tempdir().unwrap();
        let hooks = [shell("true"), shell("echo no luck >&2; exit 3"), shell("touch third")];
        let error = run("createRuntime", &hooks, b"{}", Some(directory.path())).unwrap_err();
        assert_eq!(error.kind(), Kind::Hook);
        assert_eq!(error.to_string(), "hooks.createRuntime[1] \"/bin/sh\": exit status 3: no luck");
        assert!(!directory.path().join("third").exists());
    }

    #[test]
    fn a_hook_that_is_not_there_is_an_error() {
        let hook = Hook { path: "/nonexistent".into(), ..shell("") };
        let error = run("poststop", &[hook], b"{}", None).unwrap_err();
        assert_eq!(
            error.to_string(),
            "hooks.poststop[0] \"/nonexistent\": run it: no such file or directory (os error 2)"
        );
    }

    #[test]
    fn a_hook_that_runs_out_of_time_is_killed_with_what_it_started() {
        let directory = tempfile::tempdir().unwrap();
        let hook = Hook { timeout: Some(1), ..shell("(sleep 3; touch late) & sleep 60") };
        let begun = Instant::now();
        let error = run("poststart", &[hook], b"{}", Some(directory.path())).unwrap_err();
        assert!(error.to_string().ends_with("took longer than 1 s"), "{error}");
        assert!(begun.elapsed() < Duration::from_secs(3));
        std::thread::sleep(Duration::from_millis(2500));
        assert!(!directory.path().join("late").exists());
    }

    #[test]
    fn a_large_state_that_nobody_reads_stops_nothing() {
        run("prestart", &[shell("exit 0")], &vec![b' '; 4 << 20], None).unwrap();
        run("prestart", &[shell("exec 0<&-; sleep 0.2")], &vec![b' '; 4 << 20], None).unwrap();
        run("prestart", &[shell("test $(wc -c) = 4194304")], &vec![b' '; 4 << 20], None).unwrap();
    }

    #[test]
    fn a_hook_has_its_own_environment_and_name() {
        let args = ["called", "-c", "test \"$0$ONLY\" = calledthis && test -z \"$HOME\""].map(str::to_owned).to_vec();
        let hook = Hook { args, env: vec!["ONLY=this".into()], ..shell("") };
        run("prestart", &[hook], b"{}", None).unwrap();
    }

    #[test]
    fn a_daemon_that_keeps_the_pipes_does_not_hold_the_hook_up() {
        let begun = Instant::now();
        run("prestart", &[shell("sleep 5 & exit 0")], b"{}", None).unwrap();
        assert!(begun.elapsed() < Duration::from_secs(4));
    }

    #[test]
    fn the_state_has_the_status_and_pid_of_the_moment() {
        let mut state = oci_spec::runtime::State::default();
        state.set_id("x".to_owned());
        let value: serde_json::Value = serde_json::from_slice(&state_json(&state, 7, "creating").unwrap()).unwrap();
        assert_eq!(
            (value["id"].as_str(), value["pid"].as_i64(), value["status"].as_str()),
            (Some("x"), Some(7), Some("creating"))
        );
        let value: serde_json::Value = serde_json::from_slice(&state_json(&state, 0, "stopped").unwrap()).unwrap();
        assert!(value.get("pid").is_none());
    }
}
