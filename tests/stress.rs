//! Many containers, eight at a time: no failure, no hang, nothing left. `PROCRT_STRESS=N` runs N instead of 100.

mod support;

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use support::{Bundle, Outcome, PROCRT, Running};

/// How many work at once.
const AT_ONCE: usize = 8;

fn count(of_hundred: u32) -> u32 {
    let wanted =
        std::env::var("PROCRT_STRESS").ok().map(|text| text.parse::<u32>().expect("PROCRT_STRESS is a number"));
    wanted.unwrap_or(100) * of_hundred / 100
}

/// Does `work` with every number below `count`, eight at a time. Each worker has a bundle of its own.
fn in_parallel(count: u32, bundle: impl Fn() -> Bundle + Sync, work: impl Fn(&Bundle, u32) + Sync) {
    let next = AtomicU32::new(0);
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                let bundle = bundle();
                bundle.write();
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= count {
                        break;
                    }
                    work(&bundle, number);
                }
                bundle.assert_nothing_left();
            });
        }
    });
}

#[test]
fn many_short_runs() {
    in_parallel(
        count(100),
        || Bundle::running(&["/bin/true"]),
        |bundle, _| {
            let outcome = bundle.run();
            assert_eq!((outcome.code(), outcome.stderr.as_str()), (0, ""), "{outcome:?}");
        },
    );
}

#[test]
fn many_lives_of_create_start_kill_and_delete() {
    in_parallel(count(40), Bundle::sleeping, |bundle, _| {
        bundle.create().ok();
        bundle.start().ok();
        bundle.kill("KILL").ok();
        bundle.wait_for_status("stopped");
        bundle.delete(&[]).ok();
        assert_eq!(bundle.leftovers(), Vec::<String>::new());
    });
}

/// Two processes then work for the maker, and it does not matter which of them is faster.
#[test]
fn many_that_join_a_user_namespace() {
    let holder = Bundle::sleeping().mapped(100_000);
    holder.create().ok();
    holder.start().ok();
    let path = format!("/proc/{}/ns/user", holder.pid());
    let bundle = || Bundle::running(&["/bin/true"]).namespace("user", Some(&path));
    in_parallel(count(60), bundle, |bundle, _| {
        bundle.run().ok();
    });
    holder.delete(&["--force"]).ok();
}

/// As an engine has it: containers of one root, made from one bundle, come and go together.
#[test]
fn many_containers_of_one_bundle_and_one_store() {
    let bundle = Bundle::sleeping();
    bundle.write();
    let path = bundle.path().to_str().unwrap();
    let next = AtomicU32::new(0);
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= count(40) {
                        break;
                    }
                    let id = format!("{}.{number}", bundle.id());
                    bundle.call(&["create", "--bundle", path, &id]).ok();
                    bundle.call(&["start", &id]).ok();
                    assert!(bundle.call(&["list", "-q"]).ok().lines().any(|line| line == id));
                    bundle.call(&["delete", "--force", &id]).ok();
                }
            });
        }
    });
    assert_eq!(bundle.call(&["list", "-q"]).ok(), "");
}

#[test]
fn runs_that_are_killed_at_once_end() {
    in_parallel(count(40), Bundle::sleeping, |bundle, number| {
        let mut running = Running::start(&mut bundle.making("run", &[]));
        std::thread::sleep(Duration::from_millis(u64::from(number % 20) * 2));
        nix::sys::signal::kill(running.pid(), nix::sys::signal::Signal::SIGKILL).unwrap();
        running.child.wait().unwrap();
        bundle.delete(&["--force"]).ok();
        bundle.assert_nothing_left();
    });
}

#[test]
fn a_child_that_dies_early_does_not_hang_its_maker() {
    // One process is all that may be: the container is refused, or is killed, before or after it is ready.
    in_parallel(
        count(40),
        || Bundle::new("sleep 1000 & wait").set("/linux/resources/pids/limit", serde_json::json!(1)),
        |bundle, number| {
            if number % 2 == 0 {
                assert_ne!(bundle.run().code(), 0);
            } else {
                let mut command = bundle.making("run", &[]);
                let running = Running::start(&mut command);
                let group = format!("/procrt/{}", bundle.id());
                kill_all_in(&group);
                // It was too early, or it is gone; in both cases the run comes to its end.
                Outcome::of(std::process::Command::new(PROCRT).arg("--root").arg(bundle.store()).args([
                    "delete",
                    "--force",
                    bundle.id(),
                ]))
                .ok();
                running.finish();
            }
            bundle.assert_nothing_left();
        },
    );
}

/// Kills whatever process of that control group there is by now.
fn kill_all_in(group: &str) {
    let base = if support::unified() { "/sys/fs/cgroup" } else { "/sys/fs/cgroup/pids" };
    for _ in 0..200 {
        let text = std::fs::read_to_string(format!("{base}{group}/cgroup.procs")).unwrap_or_default();
        let pids: Vec<i32> = text.lines().filter_map(|line| line.parse().ok()).collect();
        for pid in &pids {
            let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(*pid), nix::sys::signal::Signal::SIGKILL);
        }
        if !pids.is_empty() {
            return;
        }
        std::thread::sleep(Duration::from_micros(300));
    }
}
