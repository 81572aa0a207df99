//! Programs that mean harm, at each level that promises to stop them: `sandbox/hostile.c` is what they do. That an attack
//! gets through outside of a sandbox shows that it is the sandbox that refuses it. `PROCRT_STRESS=500` runs 200 at once and
//! 1,000 in a row.

mod support;

use std::fs;
use std::net::TcpListener;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use support::plain::{self, User};
use support::sandbox::{Ended, LEVELS, Level, Place, made_by, plant};
use support::tty::Foreground;
use support::{Outcome, Running, has_capability, wait_until};

/// Limits that are soon met.
const TIGHT: [&str; 6] = ["--memory", "64M", "--pids", "32", "--tmpfs-size", "16M"];

#[test]
fn what_does_no_harm_gets_through() {
    for place in Place::both() {
        for level in LEVELS {
            let ran = place.inside(level, &[], &["nothing"]);
            assert_eq!((ran.outcome.code(), ran.outcome.stdout.as_str()), (0, "through\n"), "{level:?} {ran:#?}");
            assert_eq!(ran.result["exit_code"], 0);
        }
    }
}

#[test]
fn a_fork_bomb_is_held_and_ended() {
    let place = Place::new();
    for level in LEVELS {
        let options = [&TIGHT[..], &["--timeout", "1s", "--grace", "200ms"]].concat();
        let ran = place.inside(level, &options, &["fork-bomb"]);
        assert_eq!(ran.outcome.code(), 124, "{level:?} {ran:#?}");
        assert_eq!((&ran.result["timed_out"], &ran.result["pids_exceeded"]), (&true.into(), &true.into()), "{ran:#?}");
    }
}

#[test]
fn memory_ends_whatever_it_is_taken_as() {
    let place = Place::new();
    let large = ["--memory", "64M", "--tmpfs-size", "1G"];
    for level in LEVELS {
        for attack in [&["memory"][..], &["memory-file"], &["fill", "/tmp/file"], &["fill", "/dev/shm/file"]] {
            let ran = place.inside(level, &large, attack);
            assert_eq!(ran.outcome.code(), 137, "{level:?} {attack:?} {ran:#?}");
            assert_eq!(ran.result["memory_exceeded"], true, "{ran:#?}");
            assert!(ran.result["peak_memory_bytes"].as_u64().is_some_and(|peak| peak <= 65 << 20), "{ran:#?}");
        }
    }
}

#[test]
fn what_fills_a_file_system_in_memory_comes_to_its_end() {
    let place = Place::new();
    fs::create_dir(place.path("source")).unwrap();
    let source = place.text("source");
    for level in LEVELS {
        let (over, work) = (format!("{source}:/over"), place.text("work"));
        let more = ["--workspace", &source, "--overlay", &over, "--cwd", &work, "--rw", "."];
        // The level has shown the working directory already.
        let more = if level == Level::Container { &more[..4] } else { &more[..] };
        let options = [&TIGHT[..], more].concat();
        for attack in [
            &["fill", "/tmp/file"][..],
            &["fill", "/workspace/file"],
            &["fill", "/over/file"],
            &["inodes", "/tmp"],
            &["inodes", "/dev/shm"],
        ] {
            let ran = place.inside(level, &options, attack);
            assert_eq!(ran.outcome.stdout, "refused: No space left on device\n", "{level:?} {attack:?} {ran:#?}");
        }
        assert_eq!(fs::read_dir(&source).unwrap().count(), 0);
    }
}

#[test]
fn a_file_on_disk_is_no_larger_than_it_may_be() {
    for place in Place::both() {
        for level in LEVELS {
            let ran = place.inside(level, &["--rlimit", "fsize=1M"], &["fill", "file"]);
            assert_eq!(ran.result["signal"], libc::SIGXFSZ, "{level:?} {ran:#?}");
            assert_eq!(fs::metadata(place.path("work/file")).unwrap().len(), 1 << 20);
        }
    }
}

#[test]
fn descriptors_come_to_an_end() {
    for place in Place::both() {
        for level in LEVELS {
            let ran = place.inside(level, &[], &["descriptors"]);
            assert_eq!(ran.outcome.stdout, "refused: Too many open files\n", "{level:?} {ran:#?}");
        }
    }
}

#[test]
fn output_beyond_its_limit_is_thrown_away() {
    for place in Place::both() {
        for level in LEVELS {
            let ran = place.inside(level, &["--output-limit", "1M"], &["output"]);
            assert_eq!((ran.outcome.code(), ran.outcome.stdout.len()), (0, 1 << 20), "{level:?}");
            assert_eq!(ran.result["output_truncated"], true);
            let ran = place.inside(level, &["--output-limit", "1M"], &["nothing"]);
            assert_eq!((ran.outcome.stdout.as_str(), &ran.result["output_truncated"]), ("through\n", &false.into()));
        }
    }
}

#[test]
fn a_busy_loop_and_one_who_ignores_being_asked_are_ended() {
    for place in Place::both() {
        for level in LEVELS {
            let begin = Instant::now();
            let ran = place.inside(level, &["--timeout", "400ms", "--grace", "10s"], &["busy"]);
            assert_eq!((ran.outcome.code(), &ran.result["timed_out"]), (124, &true.into()), "{level:?} {ran:#?}");
            // It was asked, and did not have to be killed.
            assert_eq!(ran.result["signal"], libc::SIGTERM, "{ran:#?}");
            assert!(begin.elapsed() < Duration::from_secs(10), "{:?}", begin.elapsed());
            let ran = place.inside(level, &["--timeout", "400ms", "--grace", "200ms"], &["ignore-term"]);
            assert_eq!((ran.outcome.code(), &ran.result["signal"]), (124, &libc::SIGKILL.into()), "{level:?} {ran:#?}");
        }
    }
}

/// Whether nobody writes to the file any more.
fn is_at_rest(place: &Place, name: &str) -> bool {
    let length = || fs::metadata(place.path(name)).unwrap().len();
    let before = length();
    std::thread::sleep(Duration::from_millis(100));
    length() == before
}

#[test]
fn a_daemon_ends_with_the_command() {
    for place in Place::both() {
        for level in LEVELS {
            let ran = place.inside(level, &[], &["daemon", "pulse"]);
            assert_eq!(ran.outcome.stdout, "through\n", "{level:?} {ran:#?}");
            assert!(is_at_rest(&place, "work/pulse"));
            fs::remove_file(place.path("work/pulse")).unwrap();
        }
    }
}

#[test]
fn killing_procrt_ends_all_that_the_command_has_started() {
    for place in Place::both() {
        for level in LEVELS {
            let mut running = Running::start(place.run(level, &[]).args(["--", "./hostile", "daemon-stay", "pulse"]));
            wait_until("the daemon", || running.stdout() == "through\n");
            assert!(!is_at_rest(&place, "work/pulse"));
            let maker = running.child.id();
            running.child.kill().unwrap();
            running.child.wait().unwrap();
            let begin = Instant::now();
            wait_until("the daemon's end", || is_at_rest(&place, "work/pulse"));
            assert!(begin.elapsed() < Duration::from_secs(20), "{:?}", begin.elapsed());
            fs::remove_file(place.path("work/pulse")).unwrap();
            // The next one takes away what it could not.
            place.inside(level, &[], &["nothing"]).outcome.ok();
            assert_eq!(made_by(maker), Vec::<std::path::PathBuf>::new());
        }
    }
}

#[test]
fn files_that_are_not_shown_are_not_there() {
    for place in Place::both() {
        fs::create_dir_all(place.path("home/.ssh")).unwrap();
        fs::write(place.path("home/.ssh/id_ed25519"), "secret").unwrap();
        place.refused(&["read", "/etc/shadow"]);
        place.refused(&["read", &place.text("home/.ssh/id_ed25519")]);
        place.refused(&["read", &format!("/proc/{}/environ", std::process::id())]);
        place.refused(&["read", "/sys/kernel/notes"]);
        place.refused(&["read", "/proc/1/stat"]);
        fs::write(place.path("home/trap"), "x").unwrap();
        place.refused(&["write", &place.text("home/trap")]);
    }
}

#[test]
fn what_is_denied_is_out_of_reach_wherever_it_is_shown() {
    for place in Place::both() {
        fs::create_dir(place.path("work/inner")).unwrap();
        for name in ["work/secret", "work/inner/secret"] {
            fs::write(place.path(name), "x").unwrap();
        }
        let denied = ["--deny", &place.text("work/secret"), "--deny", &place.text("work/inner")];
        for level in LEVELS {
            for name in ["secret", "inner/secret"] {
                assert_eq!(place.outside(&["read", name]).stdout, "through\n");
                let ran = place.inside(level, &denied, &["read", name]);
                assert!(ran.outcome.stdout.starts_with("refused: "), "{level:?} {name} {ran:#?}");
            }
        }
    }
}

#[test]
fn nobody_outside_is_seen_signalled_traced_or_reached() {
    for place in Place::both() {
        let word = place.text("victim");
        // One process, which nothing outlives.
        let mut command = place.command(&place.path("work/hostile"));
        let victim = Ended(command.args(["ignore-term", &word]).stdout(Stdio::null()).spawn().unwrap());
        let pid = victim.0.id().to_string();
        place.refused(&["find", &word]);
        place.refused(&["signal", &pid]);
        place.refused(&["trace", &pid]);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        place.refused(&["tcp", &listener.local_addr().unwrap().port().to_string()]);
        let name = format!("procrt-{}", std::process::id());
        let _abstract = UnixListener::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
        place.refused(&["abstract", &name]);
    }
}

#[test]
fn what_the_kernel_should_not_be_asked_is_refused() {
    let place = Place::new();
    if has_capability(21) {
        // In a mount namespace of its own, the mount is nobody else's.
        let place_text = place.text("work");
        let ran = support::Outcome::of(
            Command::new("unshare").arg("-m").arg(support::sandbox::hostile()).args(["mount", &place_text]),
        );
        assert_eq!(ran.stdout, "through\n", "{ran:#?}");
    }
    for level in LEVELS {
        let ran = place.inside(level, &[], &["mount", "."]);
        assert_eq!(ran.outcome.stdout, "refused: Operation not permitted\n", "{level:?} {ran:#?}");
    }
    for place in Place::both() {
        place.refused(&["keyring"]);
        place.refused(&["io-uring"]);
        place.refused(&["user-namespace"]);
        place.refused(&["clone-namespace"]);
    }
}

#[test]
fn no_file_is_left_that_runs_as_its_owner() {
    for place in Place::both() {
        assert_eq!(place.outside(&["setuid", "outside"]).stdout, "through\n");
        for level in LEVELS {
            let ran = place.inside(level, &[], &["setuid", "file"]);
            assert_eq!(ran.outcome.stdout, "refused: Operation not permitted\n", "{level:?} {ran:#?}");
        }
    }
}

#[test]
fn nothing_can_be_typed_into_the_callers_terminal() {
    let place = Place::new();
    for level in LEVELS {
        // With a terminal of its own, and with the caller's: output that goes elsewhere leaves it that.
        for (script, is_callers) in [("./hostile type", false), ("./hostile type | cat", true)] {
            let mut call = place.run(level, &[]);
            call.args(["--", "sh", "-c", script]);
            let mut shell = Command::new("sh");
            let redirect = if is_callers { "\"$@\" > said" } else { "\"$@\"" };
            let directory = place.text("work");
            shell
                .args(["-c", &format!("cd '{directory}'; {redirect}"), "sh"])
                .arg(call.get_program())
                .args(call.get_args());
            let (_, said, _) = Foreground::of(&shell).finish();
            let said = if is_callers { fs::read_to_string(place.path("work/said")).unwrap() } else { said };
            assert!(said.contains("refused: "), "{level:?} {script}: {said:?}");
        }
    }
}

#[test]
fn a_planted_link_leads_nowhere_outside() {
    let place = Place::new();
    fs::create_dir(place.path("outside")).unwrap();
    fs::create_dir(place.path("shown")).unwrap();
    plant(place.path("outside"), place.path("work/link"));
    plant("/etc/shadow", place.path("work/shadow"));
    for level in LEVELS {
        let ran = place.inside(level, &[], &["read", "shadow"]);
        assert!(ran.outcome.stdout.starts_with("refused: "), "{level:?} {ran:#?}");
        // What is to be shown behind it is shown where it leads to in the sandbox.
        let at = format!("{}:{}/below", place.text("shown"), place.text("work/link"));
        let ran = place.inside(level, &["--rw", &at], &["write", "link/below/file"]);
        assert_eq!(ran.outcome.stdout, "through\n", "{level:?} {ran:#?}");
        assert_eq!(fs::read_dir(place.path("outside")).unwrap().count(), 0);
        fs::remove_file(place.path("shown/file")).unwrap();
    }
}

#[test]
fn many_at_once_and_one_after_another_all_come_right() {
    let place = Place::new();
    let expect = |number: usize, running: Running| {
        let outcome = running.finish();
        assert_eq!(
            (outcome.code(), outcome.stdout),
            ((number % 100) as i32, format!("{number}\n")),
            "{}",
            outcome.stderr
        );
    };
    let start = |number: usize| {
        let mut command = Command::new(support::PROCRT);
        command.args(["sandbox", "run", "--", "sh", "-c", "echo $0; exit $(($0 % 100))", &number.to_string()]);
        Running::start(command.current_dir(place.path("work")).stdin(Stdio::null()))
    };
    let all: Vec<Running> = (0..support::rounds(40)).map(start).collect();
    let makers: Vec<u32> = all.iter().map(|running| running.child.id()).collect();
    all.into_iter().enumerate().for_each(|(number, running)| expect(number, running));
    for number in 0..support::rounds(200) {
        expect(number, start(number));
    }
    for maker in makers {
        assert_eq!(made_by(maker), Vec::<std::path::PathBuf>::new());
    }
}

#[test]
fn a_level_is_what_it_says() {
    let place = Place::new();
    let names = || {
        let entries = fs::read_dir(place.path("rootfs")).unwrap();
        let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        names
    };
    let before = names();
    let ran = place.inside(Level::Container, &[], &["read", "/etc/ld.so.cache"]);
    assert_eq!(ran.outcome.stdout, "refused: No such file or directory\n", "{ran:#?}");
    assert_eq!(ran.result["backend"]["level"], "container");
    assert_eq!(names(), before, "nothing is made in the caller's root file system");
}

/// What is remembered of sandboxes is acted on by whoever finds it: hooks are run, processes ended.
#[test]
fn what_somebody_else_has_written_is_not_believed() {
    // In /tmp, as this user has no runtime directory.
    let user = User(plain::ID + 2);
    let theirs = Path::new("/tmp/procrt-sandbox-61985");
    for mode in [0o777, 0o700] {
        fs::create_dir(theirs).unwrap();
        fs::set_permissions(theirs, fs::Permissions::from_mode(mode)).unwrap();
        let outcome = Outcome::of(user.procrt().args(["sandbox", "run", "--", "true"]).current_dir("/"));
        fs::remove_dir(theirs).unwrap();
        assert!(outcome.code() == 125 && outcome.stderr.contains("not this user's alone"), "{mode:o}: {outcome:?}");
    }
}

/// Root's number opens these files, with no capability at all.
#[test]
fn the_kernels_pages_and_addresses_are_not_told_to_root() {
    let place = Place::new();
    for level in LEVELS {
        for file in ["kpagecgroup", "kpagecount", "kpageflags", "slabinfo", "vmallocinfo"] {
            let file = format!("/proc/{file}");
            if Path::new(&file).exists() {
                let ran = place.inside(level, &["--user", "0:0"], &["read", &file]);
                assert!(ran.outcome.stdout.starts_with("refused: "), "{ran:#?}");
            }
        }
    }
}
