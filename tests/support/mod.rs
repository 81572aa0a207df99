//! A bundle of a test's own, the program run on it, and the search for what it leaves.
//!
//! A [`Bundle`] is a temporary directory with a busybox root, a configuration that a test changes, and a `--root` that
//! nobody else uses. When it is dropped after a test that did not fail, nothing of its containers may be left anywhere.

#![allow(dead_code, unused_imports)] // every file of tests uses its own part

mod call;
pub mod container;
pub mod fields;
mod image;
mod leftovers;
pub mod plain;
pub mod sandbox;
pub mod tty;

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

pub use call::{Outcome, Running};
pub use image::{CAPABILITIES, busybox, install};

/// The program under test.
pub const PROCRT: &str = env!("CARGO_BIN_EXE_procrt");

/// How long one call may take: far longer than any does on a slow machine, and still an end to one that hangs.
pub const LIMIT: Duration = Duration::from_mins(1);

/// Says on the real standard error, which the test harness does not swallow, why a test could not look.
pub fn skipped(why: &str) {
    let name = std::thread::current().name().unwrap_or("a test").to_owned();
    // In one piece, and not behind what another test has begun to say.
    let _ = std::io::stderr().write_all(format!("\nSKIPPED {name}: {why}\n").as_bytes());
}

/// Whether this machine has control groups of version 2 alone.
pub fn unified() -> bool {
    Path::new("/sys/fs/cgroup/cgroup.controllers").exists()
}

/// How often something is to be tried: `usual` times, or `PROCRT_STRESS` hundredths of that.
pub fn rounds(usual: usize) -> usize {
    let stress = std::env::var("PROCRT_STRESS").ok().map(|text| text.parse().expect("PROCRT_STRESS is a number"));
    (usual * stress.unwrap_or(100) / 100).max(1)
}

/// Whether this process has the capability of that number.
pub fn has_capability(number: u32) -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:")).unwrap();
    u64::from_str_radix(line.trim(), 16).unwrap() & 1 << number != 0
}

/// Waits until `condition` holds.
#[track_caller]
pub fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let end = Instant::now() + LIMIT;
    while !condition() {
        assert!(Instant::now() < end, "waited for {what} in vain");
        std::thread::sleep(Duration::from_millis(3));
    }
}

/// A bundle with a root, a configuration and a runtime root of its own.
#[derive(Debug)]
pub struct Bundle {
    dir: tempfile::TempDir,
    id: String,
    /// Who calls the program, if that is not who the tests run as.
    user: Option<plain::User>,
    pub config: Value,
}

static COUNT: AtomicU32 = AtomicU32::new(0);

impl Bundle {
    /// A bundle whose container runs `script` in busybox's shell.
    pub fn new(script: &str) -> Self {
        Self::running(&["/bin/sh", "-c", script])
    }

    /// A bundle whose container runs `args`.
    pub fn running(args: &[&str]) -> Self {
        let dir = tempfile::Builder::new().prefix("procrt-test-").tempdir().unwrap();
        // Users that a container's ids are mapped to need a way in.
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let id = format!("t{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        image::make_root(&dir.path().join("rootfs"));
        let mut config = image::config(args, &id);
        if plain::is_plain() {
            plain::adapt(&mut config);
        }
        Self { config, user: None, dir, id }
    }

    /// A bundle whose container runs until it is killed.
    pub fn sleeping() -> Self {
        Self::running(&["/bin/sleep", "1000"])
    }

    pub fn id(&self) -> &str {
        &self.id
    }

    /// The bundle's directory.
    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// A path in the bundle's directory.
    pub fn join(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A path in the root file system, as the host sees it.
    pub fn inside(&self, name: &str) -> PathBuf {
        self.dir.path().join("rootfs").join(name.trim_start_matches('/'))
    }

    /// Puts a program of that text into the root.
    pub fn program(&self, name: &str, text: &str) {
        let source = self.join("program");
        fs::write(&source, text).unwrap();
        image::install(&source, &self.inside(name));
    }

    /// The directory that is given as `--root`.
    pub fn store(&self) -> PathBuf {
        self.dir.path().join("store")
    }

    /// Sets what a JSON pointer points to; objects on the way are made, and `-` is the place after a list's last.
    #[track_caller]
    pub fn set(mut self, pointer: &str, value: Value) -> Self {
        let mut at = &mut self.config;
        for part in pointer.trim_start_matches('/').split('/') {
            if at.is_null() {
                *at = if part == "-" { json!([]) } else { json!({}) };
            }
            at = match at {
                Value::Array(list) => {
                    let index = if part == "-" { list.len() } else { part.parse().unwrap() };
                    if index == list.len() {
                        list.push(Value::Null);
                    }
                    &mut list[index]
                }
                Value::Object(object) => object.entry(part).or_insert(Value::Null),
                _ => panic!("{pointer}: there is nothing to have {part:?}"),
            };
        }
        *at = value;
        self
    }

    /// Takes out a property.
    #[track_caller]
    pub fn without(mut self, pointer: &str) -> Self {
        let (parent, name) = pointer.rsplit_once('/').unwrap();
        let parent = self.config.pointer_mut(parent).and_then(Value::as_object_mut).unwrap();
        parent.remove(name).unwrap_or_else(|| panic!("{pointer} is not there"));
        self
    }

    /// Adds a mount.
    pub fn mount(self, destination: &str, typ: &str, source: &str, options: &[&str]) -> Self {
        let mount = json!({"destination": destination, "type": typ, "source": source, "options": options});
        self.set("/mounts/-", mount)
    }

    /// Takes out the mount at `destination`.
    pub fn without_mount(mut self, destination: &str) -> Self {
        self.config["mounts"].as_array_mut().unwrap().retain(|mount| mount["destination"] != destination);
        self
    }

    /// Shares the host's namespace of that kind.
    pub fn without_namespace(mut self, kind: &str) -> Self {
        self.config["linux"]["namespaces"].as_array_mut().unwrap().retain(|namespace| namespace["type"] != kind);
        self
    }

    /// Has a namespace of that kind: a new one, or the one at `path`.
    pub fn namespace(self, kind: &str, path: Option<&str>) -> Self {
        let namespace = path.map_or_else(|| json!({"type": kind}), |path| json!({"type": kind, "path": path}));
        self.without_namespace(kind).set("/linux/namespaces/-", namespace)
    }

    /// Every set of capabilities has these.
    pub fn capabilities(mut self, names: &[&str]) -> Self {
        for set in ["bounding", "effective", "permitted"] {
            self = self.set(&format!("/process/capabilities/{set}"), json!(names));
        }
        self
    }

    /// A user namespace in which ids from 0 on are those from `first` on outside.
    pub fn mapped(self, first: u32) -> Self {
        // A plain user has others.
        let first = if plain::is_plain() { plain::subordinate() } else { first };
        let mapping = json!([{"containerID": 0, "hostID": first, "size": 65536}]);
        self.namespace("user", None).set("/linux/uidMappings", mapping.clone()).set("/linux/gidMappings", mapping)
    }

    /// Writes config.json.
    pub fn write(&self) {
        self.write_text(&self.config.to_string());
    }

    /// Writes any text as config.json.
    pub fn write_text(&self, text: &str) {
        fs::write(self.join("config.json"), text).unwrap();
    }

    /// The program with `--root` and `args`, not started yet.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = self.user.map_or_else(|| Command::new(PROCRT), plain::User::procrt);
        command.arg("--root").arg(self.store()).args(args).current_dir("/").stdin(Stdio::null());
        command
    }

    /// Calls the program with `--root` and `args`.
    #[track_caller]
    pub fn call(&self, args: &[&str]) -> Outcome {
        Outcome::of(&mut self.command(args))
    }

    /// `run` or `create` of the bundle as it is now, not started yet.
    pub fn making(&self, command: &str, options: &[&str]) -> Command {
        self.write();
        let mut command = self.command(&[command]);
        command.args(options).arg("--bundle").arg(self.path()).arg(&self.id);
        command
    }

    /// `run` in the foreground.
    #[track_caller]
    pub fn run(&self) -> Outcome {
        self.run_with(&[])
    }

    #[track_caller]
    pub fn run_with(&self, options: &[&str]) -> Outcome {
        Outcome::of(&mut self.making("run", options))
    }

    /// `run` in a mount namespace of the test's own, after `before` and with `after` to follow.
    #[track_caller]
    pub fn run_apart(&self, before: &str, after: &str) -> Outcome {
        let run = self.making("run", &[]);
        let script = format!("set -e; {before}; \"$@\"; {after}");
        let mut command = Command::new("unshare");
        command.args(["--mount", "--propagation", "private", "sh", "-c", &script, "sh"]).arg(run.get_program());
        Outcome::of(command.args(run.get_args()))
    }

    #[track_caller]
    pub fn create(&self) -> Outcome {
        self.create_with(&[])
    }

    #[track_caller]
    pub fn create_with(&self, options: &[&str]) -> Outcome {
        Outcome::of(&mut self.making("create", options))
    }

    #[track_caller]
    pub fn start(&self) -> Outcome {
        self.call(&["start", &self.id])
    }

    #[track_caller]
    pub fn kill(&self, signal: &str) -> Outcome {
        self.call(&["kill", &self.id, signal])
    }

    #[track_caller]
    pub fn delete(&self, options: &[&str]) -> Outcome {
        self.call(&[&["delete"], options, &[&self.id]].concat())
    }

    #[track_caller]
    pub fn state(&self) -> Value {
        serde_json::from_str(&self.call(&["state", &self.id]).ok()).unwrap()
    }

    #[track_caller]
    pub fn status(&self) -> String {
        self.state()["status"].as_str().unwrap().to_owned()
    }

    /// The first process's pid.
    #[track_caller]
    pub fn pid(&self) -> i64 {
        self.state()["pid"].as_i64().unwrap()
    }

    /// Waits until `state` says so.
    #[track_caller]
    pub fn wait_for_status(&self, status: &str) {
        let mut seen = String::new();
        let end = Instant::now() + LIMIT;
        while seen != status {
            assert!(Instant::now() < end, "waited for {status} in vain: {seen}");
            let outcome = self.call(&["state", &self.id]);
            seen = match outcome.code() {
                0 => serde_json::from_str::<Value>(&outcome.stdout).unwrap()["status"].as_str().unwrap().to_owned(),
                _ => outcome.stderr,
            };
            std::thread::sleep(Duration::from_millis(3));
        }
    }

    /// Waits until a file in the root is there and has something in it.
    #[track_caller]
    pub fn wait_for_file(&self, name: &str) -> String {
        let mut text = String::new();
        wait_until(name, || {
            text = fs::read_to_string(self.inside(name)).unwrap_or_default();
            !text.is_empty()
        });
        text.trim_end().to_owned()
    }

    /// Nothing of the container is left, now or within a moment.
    #[track_caller]
    pub fn assert_nothing_left(&self) {
        let end = Instant::now() + Duration::from_secs(5);
        loop {
            let left = self.leftovers();
            if left.is_empty() {
                return;
            }
            assert!(Instant::now() < end, "left behind: {left:#?}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Every mount, control group, process and file of procrt's that is there because of this bundle.
    pub fn leftovers(&self) -> Vec<String> {
        leftovers::of(self.path(), &self.store(), &self.id)
    }
}

impl Drop for Bundle {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let _ = self.command(&["delete", "--force", &self.id]).stderr(Stdio::null()).status();
        } else {
            self.assert_nothing_left();
        }
    }
}
