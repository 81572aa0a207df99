//! A container that runs, and processes that join it.

use std::fs;
use std::process::Command;

use serde_json::{Value, json};

use super::{Bundle, Outcome};

/// A running container, which ends with the test.
#[derive(Debug)]
pub struct Container(Option<Bundle>);

impl std::ops::Deref for Container {
    type Target = Bundle;

    fn deref(&self) -> &Bundle {
        self.0.as_ref().unwrap()
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        let Some(bundle) = &self.0 else { return };
        let outcome = bundle.call(&["delete", "--force", bundle.id()]);
        if !std::thread::panicking() {
            outcome.ok();
        }
    }
}

impl Container {
    /// Creates and starts the container of `bundle`.
    #[track_caller]
    pub fn of(bundle: Bundle) -> Self {
        bundle.create().ok();
        Self::of_created(bundle)
    }

    /// Starts the container that was created of `bundle`.
    #[track_caller]
    pub fn of_created(bundle: Bundle) -> Self {
        bundle.start().ok();
        Self::of_started(bundle)
    }

    /// The container of `bundle`, which runs.
    pub fn of_started(bundle: Bundle) -> Self {
        Self(Some(bundle))
    }

    /// Removes it; the bundle stays.
    #[track_caller]
    pub fn end(mut self) -> Bundle {
        self.delete(&["--force"]).ok();
        self.0.take().unwrap()
    }

    #[track_caller]
    pub fn sleeping() -> Self {
        Self::of(Bundle::sleeping())
    }

    /// `exec` with `options`, not started yet.
    pub fn command_of(&self, options: &[&str], args: &[&str]) -> Command {
        self.command(&[&["exec"], options, &[self.id()], args].concat())
    }

    #[track_caller]
    pub fn exec_with(&self, options: &[&str], args: &[&str]) -> Outcome {
        Outcome::of(&mut self.command_of(options, args))
    }

    #[track_caller]
    pub fn exec(&self, args: &[&str]) -> Outcome {
        self.exec_with(&[], args)
    }

    #[track_caller]
    pub fn sh(&self, options: &[&str], script: &str) -> String {
        self.exec_with(options, &["sh", "-c", script]).ok()
    }

    /// Writes a process as a file for `--process`; what is not in `changes` is a plain one's.
    pub fn process_file(&self, changes: &Value) -> String {
        let mut process = json!({"user": {"uid": 0, "gid": 0}, "cwd": "/", "args": ["true"], "env": ["PATH=/bin"]});
        for (key, value) in changes.as_object().unwrap() {
            process[key] = value.clone();
        }
        let path = self.join("process.json");
        fs::write(&path, process.to_string()).unwrap();
        path.to_str().unwrap().to_owned()
    }
}

impl Outcome {
    /// It is an exec that was not done, which is status 255: the sentence that says why.
    #[track_caller]
    pub fn not_done(self) -> String {
        assert_eq!(self.code(), 255, "{self:#?}");
        assert_eq!(self.stderr.lines().count(), 1, "{self:#?}");
        self.stderr.trim_end().strip_prefix("procrt: ").unwrap().to_owned()
    }
}
