//! A bundle of a test's own, the program run on it, and the search for what it leaves.
//!
//! A [`Bundle`] is a temporary directory with a busybox root, a configuration that a test changes, and a `--root` that
//! nobody else uses. When it is dropped after a test that did not fail, nothing of its containers may be left anywhere.

#![allow(dead_code)] // every file of tests uses its own part

pub mod container;

use std::fs::{self, File};
use std::io::{Seek, Write};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

/// The program under test.
pub const PROCRT: &str = env!("CARGO_BIN_EXE_procrt");

/// How long one call may take: far longer than any does on a slow machine, and still an end to one that hangs.
pub const LIMIT: Duration = Duration::from_secs(60);

/// The programs of busybox that the tests' scripts call.
const APPLETS: &[&str] = &[
    "awk",
    "cat",
    "chmod",
    "chown",
    "cp",
    "date",
    "dd",
    "df",
    "domainname",
    "echo",
    "env",
    "false",
    "grep",
    "head",
    "hostname",
    "id",
    "ionice",
    "kill",
    "ls",
    "mkdir",
    "mknod",
    "mount",
    "mv",
    "nice",
    "printf",
    "ps",
    "pwd",
    "readlink",
    "rm",
    "sed",
    "setpriv",
    "setsid",
    "sh",
    "sleep",
    "sort",
    "stat",
    "stty",
    "tail",
    "test",
    "touch",
    "tr",
    "true",
    "tty",
    "ulimit",
    "umount",
    "uname",
    "unshare",
    "usleep",
    "wc",
    "yes",
];

/// Capabilities as an engine gives them.
pub const CAPABILITIES: [&str; 14] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FSETID",
    "CAP_FOWNER",
    "CAP_MKNOD",
    "CAP_NET_RAW",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETFCAP",
    "CAP_SETPCAP",
    "CAP_NET_BIND_SERVICE",
    "CAP_SYS_CHROOT",
    "CAP_KILL",
    "CAP_AUDIT_WRITE",
];

/// Says on the real standard error, which the test harness does not swallow, why a test could not look.
pub fn skipped(why: &str) {
    let name = std::thread::current().name().unwrap_or("a test").to_owned();
    let _ = writeln!(std::io::stderr(), "SKIPPED {name}: {why}");
}

/// Whether this machine has control groups of version 2 alone.
pub fn unified() -> bool {
    Path::new("/sys/fs/cgroup/cgroup.controllers").exists()
}

/// How often something is to be tried: `usual` times, or as many times that as `PROCRT_STRESS` says.
pub fn rounds(usual: usize) -> usize {
    let factor = std::env::var("PROCRT_STRESS").ok().and_then(|text| text.parse().ok()).unwrap_or(1);
    usual * factor
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

/// A bundle with a root, a configuration and a runtime root of its own.
#[derive(Debug)]
pub struct Bundle {
    dir: tempfile::TempDir,
    id: String,
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
        make_root(&dir.path().join("rootfs"));
        Self { config: config(args, &id), dir, id }
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
        let mut command = Command::new(PROCRT);
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
        let mut left = Vec::new();
        let path = self.path().to_str().unwrap();
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        left.extend(mounts.lines().filter(|line| line.contains(path)).map(|line| format!("mount {line}")));
        control_groups(Path::new("/sys/fs/cgroup"), &self.id, &mut left);
        processes(&[&self.id, path], &mut left);
        let store = fs::read_dir(self.store()).into_iter().flatten().flatten();
        left.extend(store.map(|entry| format!("file {}", entry.path().display())));
        left
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

fn control_groups(dir: &Path, id: &str, left: &mut Vec<String>) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            if entry.file_name().to_string_lossy().split(['.', ':']).any(|part| part == id) {
                left.push(format!("control group {}", entry.path().display()));
            }
            control_groups(&entry.path(), id, left);
        }
    }
}

/// Processes that are in a control group of that name, or have one of the words among their arguments or in their
/// environment.
fn processes(words: &[&str], left: &mut Vec<String>) {
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let Ok(pid) = entry.file_name().to_string_lossy().parse::<u32>() else {
            continue;
        };
        let read = |file: &str| fs::read(entry.path().join(file)).unwrap_or_default();
        let stat = String::from_utf8_lossy(&read("stat")).into_owned();
        let ended = stat.rsplit_once(") ").is_none_or(|(_, rest)| rest.starts_with(['Z', 'X']));
        if ended || pid == std::process::id() {
            continue;
        }
        let of = |file: &str| {
            let text = read(file);
            words.iter().any(|word| has_word(&text, word.as_bytes()))
        };
        if ["cgroup", "cmdline", "environ"].into_iter().any(of) {
            let command = String::from_utf8_lossy(&read("cmdline")).replace('\0', " ");
            left.push(format!("process {pid}: {command}"));
        }
    }
}

/// Whether `text` has `word` in it, not followed by another digit: `t5-1` is not in `t5-10`.
fn has_word(text: &[u8], word: &[u8]) -> bool {
    text.windows(word.len())
        .enumerate()
        .any(|(at, window)| window == word && !text.get(at + word.len()).is_some_and(u8::is_ascii_digit))
}

/// Where busybox is, a static one, which needs no libraries in the root.
pub fn busybox() -> PathBuf {
    ["/bin/busybox", "/usr/bin/busybox"]
        .into_iter()
        .map(PathBuf::from)
        .find(|path| path.exists())
        .expect("these tests need busybox-static (/bin/busybox)")
}

fn make_root(root: &Path) {
    for dir in ["bin", "dev", "etc", "home", "proc", "root", "run", "sys", "tmp", "usr/bin", "var"] {
        fs::create_dir_all(root.join(dir)).unwrap();
    }
    fs::set_permissions(root.join("tmp"), fs::Permissions::from_mode(0o1777)).unwrap();
    // A copy: what a container does to it is done to no other.
    let program = root.join("bin/busybox");
    fs::copy(busybox(), &program).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    for applet in APPLETS {
        symlink("busybox", root.join("bin").join(applet)).unwrap();
    }
    fs::write(root.join("etc/passwd"), "root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000::/home/user:/bin/sh\n")
        .unwrap();
    fs::write(root.join("etc/group"), "root:x:0:\nuser:x:1000:\n").unwrap();
}

/// A configuration as an engine writes it, without a filter, masks and limits.
fn config(args: &[&str], id: &str) -> Value {
    json!({
        "ociVersion": "1.2.0",
        "process": {
            "terminal": false,
            "user": {"uid": 0, "gid": 0},
            "args": args,
            // By the last one a process of the container's is known.
            "env": ["PATH=/usr/bin:/bin", format!("PROCRT_TEST={id}")],
            "cwd": "/",
            "capabilities": {"bounding": CAPABILITIES, "effective": CAPABILITIES, "permitted": CAPABILITIES}
        },
        "root": {"path": "rootfs"},
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc", "options": ["nosuid", "noexec", "nodev"]},
            {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "strictatime", "mode=755", "size=65536k"]},
            {"destination": "/dev/pts", "type": "devpts", "source": "devpts",
                "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]},
            {"destination": "/dev/shm", "type": "tmpfs", "source": "shm", "options": ["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]},
            {"destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue", "options": ["nosuid", "noexec", "nodev"]},
            {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["nosuid", "noexec", "nodev", "ro"]}
        ],
        "linux": {
            "namespaces": [
                {"type": "pid"}, {"type": "network"}, {"type": "ipc"}, {"type": "uts"}, {"type": "mount"}, {"type": "cgroup"}
            ]
        }
    })
}
