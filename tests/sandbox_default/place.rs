//! Who calls, where, and what they see of it.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::Value;

use crate::support::plain::{self, ID, User};
use crate::support::{Outcome, PROCRT, skipped};

/// Who calls: both are tried.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Who {
    Root,
    Plain,
}

/// A directory to begin in, which the caller owns, and what is run there.
pub struct Place {
    pub who: Who,
    dir: tempfile::TempDir,
}

impl Place {
    pub fn of(who: Who) -> Self {
        let dir = tempfile::tempdir().unwrap();
        if who == Who::Plain {
            plain::give(dir.path());
            fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        }
        Self { who, dir }
    }

    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    pub fn command(&self, options: &[&str]) -> Command {
        let mut command = match self.who {
            Who::Root => Command::new(PROCRT),
            Who::Plain => User(ID).procrt(),
        };
        command.current_dir(self.path()).args(["sandbox", "run", "--level", "default"]);
        command.args(["--result", self.result().to_str().unwrap()]).args(options).arg("--");
        command.stdin(Stdio::null());
        command
    }

    pub fn result(&self) -> PathBuf {
        self.path().join("result.json")
    }

    pub fn run(&self, options: &[&str], words: &[&str]) -> Outcome {
        Outcome::of(self.command(options).args(words))
    }

    pub fn sh(&self, options: &[&str], script: &str) -> Outcome {
        self.run(options, &["sh", "-c", script])
    }

    pub fn told(&self) -> Value {
        serde_json::from_str(&fs::read_to_string(self.result()).unwrap()).unwrap()
    }
}

/// Both callers, if these tests run as root.
pub fn both(test: impl Fn(&Place)) {
    if procrt::sys::landlock::abi() < 6 {
        return skipped("this kernel's landlock holds no signals");
    }
    for who in [Who::Root, Who::Plain] {
        test(&Place::of(who));
    }
}

/// A process of the caller's outside, which ends with the test.
pub struct Victim(pub Child);

impl Drop for Victim {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Whether a process lives that has this word among its arguments.
pub fn lives(word: &str) -> bool {
    fs::read_dir("/proc").unwrap().flatten().any(|entry| {
        let stat = fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
        let ended = stat.rsplit_once(") ").is_none_or(|(_, rest)| rest.starts_with(['Z', 'X']));
        let cmdline = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        !ended && cmdline.split(|byte| *byte == 0).any(|other| other == word.as_bytes())
    })
}

/// A number of seconds to sleep that no other test has.
pub fn long() -> String {
    use std::sync::atomic::{AtomicU32, Ordering};
    static COUNT: AtomicU32 = AtomicU32::new(0);
    format!("{}.{}", 70_000 + std::process::id() % 10_000, COUNT.fetch_add(1, Ordering::Relaxed))
}

/// Runs a script of python's, which prints `stopped: WHY` for each attempt that fails, and `DONE: WHAT` for one that does not.
pub fn python(place: &Place, options: &[&str], script: &str) -> Option<String> {
    if !Path::new("/usr/bin/python3").exists() {
        skipped("there is no python3");
        return None;
    }
    let head = "
import ctypes, os, socket, sys, errno
libc = ctypes.CDLL(None, use_errno=True)
def attempt(what, act):
    try:
        result = act()
    except Exception as error:
        print('stopped:', what, error)
    else:
        print('DONE:', what, result)
def call(what, number, *args):
    result = libc.syscall(number, *args)
    print('stopped:' if result < 0 else 'DONE:', what, os.strerror(ctypes.get_errno()))
";
    let outcome = place.run(options, &["python3", "-c", &format!("{head}{script}")]);
    assert_eq!(outcome.code(), 0, "{:?} {outcome:#?}", place.who);
    assert!(!outcome.stdout.contains("DONE:"), "{:?} {outcome:#?}", place.who);
    assert!(outcome.stdout.contains("stopped:"), "{outcome:#?}");
    Some(outcome.stdout)
}
