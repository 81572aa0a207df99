//! Calls of programs, with a limit to how long they take.

use std::fs::File;
use std::io::Seek;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, ExitStatus};
use std::time::{Duration, Instant};

use super::LIMIT;

/// What a call of a program came to.
#[derive(Debug)]
pub struct Outcome {
    pub status: ExitStatus,
    pub stdout: String,
    pub stderr: String,
}

impl Outcome {
    /// Runs `command` to its end, within [`LIMIT`].
    #[track_caller]
    pub fn of(command: &mut Command) -> Self {
        Running::start(command).finish()
    }

    /// The exit status, or 128 and the signal that ended it.
    pub fn code(&self) -> i32 {
        self.status.code().unwrap_or_else(|| 128 + self.status.signal().unwrap_or(0))
    }

    /// It succeeded: what it said on standard output, without the line break at the end.
    #[track_caller]
    pub fn ok(self) -> String {
        assert_eq!(self.code(), 0, "{self:#?}");
        self.stdout.trim_end_matches('\n').to_owned()
    }

    /// It failed with status 1 and one sentence, which is the answer.
    #[track_caller]
    pub fn refused(self) -> String {
        assert_eq!(self.code(), 1, "{self:#?}");
        assert_eq!(self.stdout, "", "{self:#?}");
        let line = self.stderr.strip_suffix('\n').unwrap_or_else(|| panic!("{self:#?}"));
        assert!(!line.contains('\n'), "{self:#?}");
        line.strip_prefix("procrt: ").unwrap_or_else(|| panic!("{self:#?}")).to_owned()
    }
}

/// A call that has not ended yet. Its output goes to files: who holds them open does not hold the test up.
#[derive(Debug)]
pub struct Running {
    pub child: Child,
    stdout: File,
    stderr: File,
    shown: String,
    since: Instant,
}

impl Running {
    /// Starts `command`, with its standard output and error caught.
    #[track_caller]
    pub fn start(command: &mut Command) -> Self {
        let (stdout, stderr) = (tempfile::tempfile().unwrap(), tempfile::tempfile().unwrap());
        command.stdout(stdout.try_clone().unwrap()).stderr(stderr.try_clone().unwrap());
        let child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        Self { child, stdout, stderr, shown: format!("{command:?}"), since: Instant::now() }
    }

    /// What it has said on standard output so far.
    pub fn stdout(&self) -> String {
        text_of(&self.stdout)
    }

    pub fn pid(&self) -> nix::unistd::Pid {
        nix::unistd::Pid::from_raw(self.child.id() as i32)
    }

    /// Waits for its end.
    #[track_caller]
    pub fn finish(mut self) -> Outcome {
        let mut pause = Duration::from_micros(200);
        let status = loop {
            match self.child.try_wait().unwrap() {
                Some(status) => break status,
                None if self.since.elapsed() > LIMIT => {
                    let _ = self.child.kill();
                    let _ = self.child.wait();
                    let (stdout, stderr) = (text_of(&self.stdout), text_of(&self.stderr));
                    panic!("{} has not ended in {LIMIT:?}\n{stdout}\n{stderr}", self.shown);
                }
                None => std::thread::sleep(pause),
            }
            pause = (pause * 2).min(Duration::from_millis(5));
        };
        Outcome { status, stdout: text_of(&self.stdout), stderr: text_of(&self.stderr) }
    }
}

fn text_of(mut file: &File) -> String {
    file.rewind().unwrap();
    let mut bytes = Vec::new();
    std::io::Read::read_to_end(&mut file, &mut bytes).unwrap();
    String::from_utf8_lossy(&bytes).into_owned()
}
