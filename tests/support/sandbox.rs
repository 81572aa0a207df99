//! A directory of a test's own that sandboxes are run in, with a hostile program in it, and the look for what they leave.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;

use serde_json::Value;

use super::image::make_root;
use super::{Outcome, PROCRT, install, plain};

/// A directory that sandboxes may write to.
#[derive(Debug)]
pub struct Place {
    dir: tempfile::TempDir,
    /// Whose it is, and who asks for sandboxes there, if that is not who the tests run as.
    user: Option<plain::User>,
}

/// How a sandbox is asked for: what goes before a command's own options.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// A root of the host's system directories.
    Enhanced,
    /// A root of the test's.
    Container,
}

/// All levels of this file's tests.
pub const LEVELS: [Level; 2] = [Level::Enhanced, Level::Container];

/// What a run came to: the call, and the result that it has written.
#[derive(Debug)]
pub struct Ran {
    pub outcome: Outcome,
    pub result: Value,
}

/// The hostile program, compiled once for all tests of a file.
pub fn hostile() -> &'static Path {
    static PROGRAM: OnceLock<(tempfile::TempDir, PathBuf)> = OnceLock::new();
    let (_, program) = PROGRAM.get_or_init(|| {
        let dir = tempfile::tempdir().unwrap();
        let (source, program) = (dir.path().join("hostile.c"), dir.path().join("hostile"));
        fs::write(&source, include_str!("../sandbox/hostile.c")).unwrap();
        Outcome::of(Command::new("cc").args(["-O1", "-static", "-o"]).args([&program, &source])).ok();
        (dir, program)
    });
    program
}

impl Place {
    pub fn new() -> Self {
        let dir = tempfile::Builder::new().prefix("procrt-sandbox-").tempdir().unwrap();
        let place = Self { dir, user: None };
        fs::create_dir_all(place.path("work")).unwrap();
        make_root(&place.path("rootfs"));
        install(hostile(), &place.path("work/hostile"));
        place
    }

    /// One of a plain user's, without privileges.
    pub fn plain() -> Self {
        let mut place = Self::new();
        place.user = Some(plain::User(plain::ID));
        plain::give(place.dir.path());
        place
    }

    /// One of each, or of the plain user's alone that the tests run as.
    pub fn both() -> Vec<Self> {
        if plain::is_plain() { vec![Self::new()] } else { vec![Self::new(), Self::plain()] }
    }

    /// A program called by whose it is.
    pub fn command(&self, program: &Path) -> Command {
        self.user.map_or_else(|| Command::new(program), |user| user.command(program))
    }

    /// A path in the directory.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The same as text.
    pub fn text(&self, name: &str) -> String {
        self.path(name).to_str().unwrap().to_owned()
    }

    /// `procrt sandbox run` at a level, in the directory `work`.
    pub fn run(&self, level: Level, options: &[&str]) -> Command {
        let mut command = self.user.map_or_else(|| Command::new(PROCRT), plain::User::procrt);
        command.args(["sandbox", "run", "--result"]).arg(self.path("result")).current_dir(self.path("work"));
        if level == Level::Container {
            let work = self.text("work");
            command.args(["--rootfs", &self.text("rootfs"), "--rw", &work, "--cwd", &work]);
        }
        command.args(options).stdin(Stdio::null());
        command
    }

    /// Has the hostile program attack, outside of any sandbox.
    pub fn outside(&self, attack: &[&str]) -> Outcome {
        Outcome::of(self.command(&self.path("work/hostile")).args(attack).current_dir(self.path("work")))
    }

    /// The same in a sandbox.
    #[track_caller]
    pub fn inside(&self, level: Level, options: &[&str], attack: &[&str]) -> Ran {
        self.finish(self.run(level, options).args(["--", "./hostile"]).args(attack))
    }

    /// Runs a command of [`Place::run`] to its end.
    #[track_caller]
    pub fn finish(&self, command: &mut Command) -> Ran {
        let _ = fs::remove_file(self.path("result"));
        let outcome = Outcome::of(command);
        let result = fs::read_to_string(self.path("result")).unwrap_or_default();
        let result = serde_json::from_str(&result).unwrap_or(Value::Null);
        Ran { outcome, result }
    }

    /// The attack gets through outside, and is refused at every level. Where it does not get through outside either, its
    /// refusal says nothing.
    #[track_caller]
    pub fn refused(&self, attack: &[&str]) {
        let outside = self.outside(attack);
        // What a plain user may not do anyway, it may not do in a sandbox either.
        if outside.stdout != "through\n" && self.user.is_none() && !plain::is_plain() {
            super::skipped(&format!("{attack:?} is refused outside of a sandbox too: {}", outside.stdout.trim()));
            return;
        }
        for level in LEVELS {
            let ran = self.inside(level, &[], attack);
            assert_eq!(ran.outcome.code(), 1, "{level:?} {attack:?} {ran:#?}");
            assert!(ran.outcome.stdout.starts_with("refused: "), "{level:?} {attack:?} {ran:#?}");
        }
    }
}

impl Place {
    /// Processes and mounts that are there because of it.
    pub fn left(&self) -> Vec<String> {
        left(self.dir.path())
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            let left = left(self.dir.path());
            assert!(left.is_empty(), "{left:#?}");
        }
    }
}

/// What is left of the sandboxes of the directory at `path`: processes and mounts with its name.
pub fn left(path: &Path) -> Vec<String> {
    super::leftovers::of_directory(path)
}

/// What is there because of the sandbox that the process `maker` has made: control groups and a record.
pub fn made_by(maker: u32) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let name = format!("{maker}-");
    let mut look = |dir: &Path| {
        let entries = fs::read_dir(dir).into_iter().flatten().flatten();
        found.extend(entries.filter(|e| e.file_name().to_string_lossy().starts_with(&name)).map(|e| e.path()));
    };
    look(Path::new("/run/procrt-sandbox"));
    look(Path::new("/sys/fs/cgroup/procrt"));
    for hierarchy in fs::read_dir("/sys/fs/cgroup").unwrap().flatten() {
        look(&hierarchy.path().join("procrt"));
    }
    found
}

/// Something that is ended with the test.
#[derive(Debug)]
pub struct Ended(pub Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A link that a test plants.
pub fn plant(target: impl AsRef<Path>, link: impl AsRef<Path>) {
    symlink(target, link).unwrap();
}
