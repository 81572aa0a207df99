//! Programs under the real kernel. A filter cannot be taken off, so each is installed in a thread or a process of its own.

use std::os::unix::process::ExitStatusExt;
use std::process::{Command, ExitStatus};
use std::thread;

use super::*;
use crate::seccomp::install;

const CHILD: &str = "PROCRT_TEST_SECCOMP_CHILD";

fn install_here(value: Value) {
    let mut faults = Faults::default();
    let plan = crate::seccomp::plan(&profile(value), true, &mut faults);
    faults.into_result().unwrap();
    nix::sys::prctl::set_no_new_privs().unwrap();
    install(plan.finished()).unwrap();
}

#[test]
fn the_kernel_refuses_what_the_profile_refuses_and_nothing_else() {
    let directory = tempfile::tempdir().unwrap();
    let inside = directory.path().join("made");
    thread::scope(|scope| {
        let results = scope.spawn(|| {
            install_here(json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
                {"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 95},
                rule("lseek", "SCMP_ACT_ERRNO", &[(1, "EQ", 1 << 33 | 5, 0)]),
            ]}));
            let seek = |to: i64| nix::unistd::lseek64(std::io::stdin(), to, nix::unistd::Whence::SeekSet).err();
            let refused = seek(1 << 33 | 5);
            (std::fs::create_dir(&inside).unwrap_err().raw_os_error(), refused, seek(5), std::fs::write(&inside, "x"))
        });
        let (made, refused, other, written) = results.join().unwrap();
        assert_eq!(made, Some(95));
        assert_eq!(refused, Some(nix::errno::Errno::EPERM));
        assert_ne!(other, Some(nix::errno::Errno::EPERM));
        written.unwrap();
    });
}

#[test]
fn dockers_profile_is_taken_and_kept() {
    let config: Value = serde_json::from_str(include_str!("../../../tests/configs/docker-default.json")).unwrap();
    let profile = config["linux"]["seccomp"].clone();
    let results = thread::spawn(|| {
        install_here(profile);
        let unshared = nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWUTS);
        (unshared, std::fs::read("/proc/self/stat").is_ok())
    });
    assert_eq!(results.join().unwrap(), (Err(nix::errno::Errno::EPERM), true));
}

fn run_child(case: &str) -> ExitStatus {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "seccomp::tests::process::child", "--ignored", "--test-threads=1"])
        .env(CHILD, case)
        .output()
        .unwrap()
        .status
}

#[test]
fn the_process_is_killed_by_sigsys() {
    for action in ["SCMP_ACT_KILL_PROCESS", "SCMP_ACT_TRAP"] {
        assert_eq!(run_child(action).signal(), Some(libc::SIGSYS), "{action}");
    }
    assert!(run_child("SCMP_ACT_LOG").success());
}

#[test]
#[ignore = "the process that the_process_is_killed_by_sigsys starts"]
fn child() {
    let Ok(action) = std::env::var(CHILD) else { return };
    install_here(json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["getpgid"], "action": action}]}));
    let _ = nix::unistd::getpgid(None);
}

#[test]
fn a_listener_is_given_even_with_flags_that_exclude_it() {
    let path = "/agent";
    let plan = compile(json!({"defaultAction": "SCMP_ACT_ALLOW", "listenerPath": path, "flags": [
        "SECCOMP_FILTER_FLAG_TSYNC", "SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_SPEC_ALLOW",
        "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"], "syscalls": [rule("getpgid", "SCMP_ACT_NOTIFY", &[])]}));
    let listener = thread::spawn(move || {
        nix::sys::prctl::set_no_new_privs().unwrap();
        crate::seccomp::install_with_listener(plan.finished()).unwrap()
    });
    let fd = listener.join().unwrap();
    let link = std::fs::read_link(format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&fd))).unwrap();
    assert_eq!(link.to_str(), Some("anon_inode:seccomp notify"));
}

#[test]
fn an_invalid_program_is_an_error_that_says_so() {
    let mut plan = compile(json!({"defaultAction": "SCMP_ACT_ALLOW"}));
    plan.program.clear();
    let error = install(plan.finished()).unwrap_err();
    assert_eq!(error.to_string(), "install the seccomp filter: invalid argument (os error 22)");
}
