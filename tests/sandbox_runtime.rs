//! A sandbox that another runtime runs, whichever of them this machine has: the same policies, the same results.

mod support;

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use support::sandbox::{Level, Place};
use support::{Running, skipped, unified, wait_until};

/// The runtimes that are here and run here.
fn runtimes() -> Vec<&'static str> {
    let there = |name: &&str| {
        let found = std::env::split_paths(&std::env::var_os("PATH").unwrap()).any(|dir| dir.join(name).is_file());
        // crun does not work beside controllers of both versions of control groups.
        let works = found && (*name != "crun" || unified());
        if !works {
            skipped(&format!(
                "{name} {}",
                if found { "does not run on hybrid control groups" } else { "is not on PATH" }
            ));
        }
        works
    };
    ["runc", "crun"].into_iter().filter(there).collect()
}

/// What is left of bundles that were written for runtimes by `maker`.
fn bundles_of(maker: u32) -> Vec<PathBuf> {
    let name = format!("{maker}-");
    let entries = fs::read_dir("/run/procrt-sandbox-runtimes").into_iter().flatten().flatten();
    entries.filter(|e| e.file_name().to_string_lossy().starts_with(&name)).map(|e| e.path()).collect()
}

#[test]
fn a_command_has_its_own_status_and_its_own_descriptors() {
    let place = Place::new();
    for runtime in runtimes() {
        for level in [Level::Enhanced, Level::Container] {
            let mut call = place.run(level, &["--runtime", runtime]);
            let ran = place.finish(call.args(["--", "sh", "-c", "echo out; echo err >&2; pwd; exit 7"]));
            assert_eq!(ran.outcome.code(), 7, "{runtime} {ran:#?}");
            assert_eq!(ran.outcome.stdout, format!("out\n{}\n", place.text("work")), "{runtime} {ran:#?}");
            assert_eq!(ran.outcome.stderr, "err\n");
            assert_eq!((&ran.result["exit_code"], &ran.result["backend"]["name"]), (&7.into(), &"runtime".into()));
        }
    }
}

#[test]
fn limits_hold_and_the_result_says_which() {
    let place = Place::new();
    for runtime in runtimes() {
        let tight = ["--runtime", runtime, "--memory", "64M", "--pids", "32"];
        let ran = place.inside(Level::Enhanced, &tight, &["memory"]);
        assert_eq!((ran.outcome.code(), &ran.result["memory_exceeded"]), (137, &true.into()), "{runtime} {ran:#?}");
        let options = [&tight[..], &["--timeout", "1s", "--grace", "200ms"]].concat();
        let ran = place.inside(Level::Enhanced, &options, &["fork-bomb"]);
        assert_eq!((ran.outcome.code(), &ran.result["pids_exceeded"]), (124, &true.into()), "{runtime} {ran:#?}");
        for attack in [&["read", "/etc/shadow"][..], &["keyring"], &["user-namespace"], &["mount", "."]] {
            let ran = place.inside(Level::Enhanced, &tight, attack);
            assert!(ran.outcome.stdout.starts_with("refused: "), "{runtime} {attack:?} {ran:#?}");
        }
    }
}

#[test]
fn a_program_that_is_not_there_is_told_from_one_that_fails() {
    let place = Place::new();
    for runtime in runtimes() {
        let mut call = place.run(Level::Enhanced, &["--runtime", runtime]);
        let ran = place.finish(call.args(["--", "no-such-program"]));
        assert_eq!(ran.outcome.code(), 127, "{runtime} {ran:#?}");
    }
}

#[test]
fn killing_procrt_leaves_nothing_of_the_runtimes() {
    let place = Place::new();
    for runtime in runtimes() {
        let mut call = place.run(Level::Enhanced, &["--runtime", runtime]);
        let mut running = Running::start(call.args(["--", "./hostile", "daemon-stay", "pulse"]));
        wait_until("the daemon", || running.stdout() == "through\n");
        let maker = running.child.id();
        running.child.kill().unwrap();
        running.child.wait().unwrap();
        wait_until("the end of what it left", || place.left().is_empty());
        assert_eq!(bundles_of(maker), Vec::<PathBuf>::new());
        fs::remove_file(place.path("work/pulse")).unwrap();
    }
}

#[test]
fn what_a_runtime_lacks_is_refused_before_anything_runs() {
    let place = Place::new();
    let source = place.text("work");
    for options in [&["--workspace", &source][..], &["--overlay", &source]] {
        let mut call = Command::new(support::PROCRT);
        call.args(["sandbox", "run", "--runtime", "/bin/false"]).args(options).args(["--", "true"]);
        let ran = place.finish(call.current_dir("/"));
        assert_eq!(ran.outcome.code(), 99, "{ran:#?}");
        assert!(ran.outcome.stderr.contains(&format!("files.{}", &options[0][2..])), "{ran:#?}");
    }
    let mut call = place.run(Level::Enhanced, &["--level", "maximum"]);
    let ran = place.finish(call.args(["--", "true"]).env("PATH", "/no/such"));
    assert_eq!(ran.outcome.code(), 99, "{ran:#?}");
    assert!(ran.outcome.stderr.contains("runsc is not on PATH"), "{ran:#?}");
}
