//! How a confined command lives, is limited, and ends.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use crate::place::{Place, Who, both, lives, long};
use crate::support::plain::{ID, User};
use crate::support::{Outcome, PROCRT, Running, has_capability, skipped, wait_until};

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
            .sh(&[], "echo $TMPDIR; cd $TMPDIR; mkdir -p a/b/c; touch a/b/c/d; ln -s / a/link; (umask 0777; mkdir closed); chmod 0 a/b/c a/b a . 2>/dev/null; true");
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

#[test]
fn a_sandbox_in_a_sandbox_is_one_at_this_level_and_says_so_at_others() {
    both(|place| {
        let program = crate::support::plain::program().to_str().unwrap();
        let inner = [
            program,
            "sandbox",
            "run",
            "--level",
            "default",
            "--timeout",
            "20s",
            "--",
            "sh",
            "-c",
            "kill -9 -1; echo in",
        ];
        let outcome = place.run(&["--ro", program], &inner);
        assert!(outcome.stdout == "in\n" || outcome.code() == 137, "{outcome:#?}");
        let outcome = place.run(&["--ro", program], &[program, "sandbox", "run", "--", "true"]);
        assert_eq!(outcome.code(), 99, "{outcome:#?}");
        assert!(outcome.stderr.contains("enhanced") && outcome.stderr.contains("--level default"), "{outcome:#?}");
    });
}
