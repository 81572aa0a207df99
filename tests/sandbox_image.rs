//! `procrt sandbox image`, with an engine that really builds: from nothing but a static busybox, and in storage of the
//! test's own.

mod support;

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;
use support::{Outcome, PROCRT, Running, busybox, skipped, wait_until};

/// A directory with a Dockerfile, and storage and a cache of its own.
struct Case {
    dir: tempfile::TempDir,
    engine: &'static str,
}

const DOCKERFILE: &str = "\
FROM scratch AS base
ARG GREETING=hello
COPY busybox /bin/busybox
COPY --chmod=755 hello.sh /bin/
COPY etc/ /etc/
ENV GREETING=$GREETING API_TOKEN=hidden
FROM base
COPY --from=base /bin/hello.sh /bin/again
WORKDIR /srv/work
USER app
ENTRYPOINT [\"/bin/busybox\"]
CMD [\"sh\", \"/bin/hello.sh\"]
";

impl Case {
    /// With that engine; None, said aloud, if it does not work here.
    fn new(engine: &'static str) -> Option<Self> {
        let case = Self { dir: tempfile::tempdir().unwrap(), engine };
        fs::create_dir_all(case.context().join("etc")).unwrap();
        fs::copy(busybox(), case.context().join("busybox")).unwrap();
        case.write("ctx/Dockerfile", DOCKERFILE);
        case.write("ctx/hello.sh", "echo $GREETING from $(pwd)\n");
        case.write("ctx/etc/passwd", "root:x:0:0::/:/bin/sh\napp:x:1234:1235::/:/bin/sh\n");
        let at = case.dir.path().display();
        case.write(
            "storage.conf",
            &format!("[storage]\ndriver = \"vfs\"\ngraphroot = \"{at}/storage\"\nrunroot = \"{at}/run\"\n"),
        );
        case.write("registries.conf", "");
        case.write(
            "containers.conf",
            &format!(
                "[containers]\ndefault_ulimits = []\n[engine]\ncgroup_manager = \"cgroupfs\"\nevents_logger = \"file\"\n\
                 static_dir = \"{at}/libpod\"\ntmp_dir = \"{at}/run/libpod\"\nlock_type = \"file\"\n"
            ),
        );
        let info = case.with_storage(Command::new(engine).arg("info")).output();
        if info.is_ok_and(|output| output.status.success()) {
            return Some(case);
        }
        skipped(&format!("{engine} does not work here"));
        None
    }

    fn context(&self) -> PathBuf {
        self.dir.path().join("ctx")
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.dir.path().join(name), text).unwrap();
    }

    fn with_storage<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        let at = self.dir.path();
        command
            .env("CONTAINERS_STORAGE_CONF", at.join("storage.conf"))
            .env("CONTAINERS_CONF", at.join("containers.conf"))
            .env("CONTAINERS_REGISTRIES_CONF", at.join("registries.conf"))
            .env("XDG_CACHE_HOME", at.join("cache"))
            .current_dir(at)
    }

    fn call(&self, args: &[&str]) -> Outcome {
        Outcome::of(self.with_storage(Command::new(PROCRT).args(["sandbox", "image"]).args(args)))
    }

    fn build(&self, options: &[&str]) -> Outcome {
        self.call(&[&["build", "--engine", self.engine, "ctx"], options].concat())
    }

    fn cached(&self) -> Vec<String> {
        let entries = fs::read_dir(self.dir.path().join("cache/procrt/images")).unwrap();
        entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| name != "projects")
            .collect()
    }
}

impl Drop for Case {
    fn drop(&mut self) {
        // Storage may have mounts.
        let _ = Command::new("umount").arg(self.dir.path().join("storage")).stderr(Stdio::null()).status();
    }
}

fn builds_and_unpacks(engine: &'static str) {
    let Some(case) = Case::new(engine) else { return };
    assert_eq!((case.build(&["--check"]).code(), case.build(&["--check"]).stdout.as_str()), (1, "missing\n"));
    let first = case.build(&[]);
    assert!(first.stderr.contains("there is no image of \"ctx\" yet"), "{first:?}");
    let rootfs = PathBuf::from(first.ok());
    let at = |name: &str| fs::symlink_metadata(rootfs.join(name)).unwrap();
    assert_eq!(at("bin/busybox").len(), fs::metadata(busybox()).unwrap().len());
    assert_eq!(at("bin/again").mode() & 0o7777, 0o755);
    assert!(at("srv/work").is_dir() && at("proc").is_dir());
    assert!(fs::read_to_string(rootfs.join("etc/hosts")).unwrap().contains("localhost"));
    assert_eq!(fs::metadata(case.dir.path().join("cache/procrt")).unwrap().mode() & 0o777, 0o700);

    // Nothing has changed: nothing is built, and nothing is said.
    let report: Value = serde_json::from_str(&case.build(&["--json"]).ok()).unwrap();
    assert_eq!(report["before"]["state"], "fresh");
    assert_eq!(report["image"]["engine"], engine);
    assert_eq!(report["image"]["config"]["user"], "app");
    assert_eq!(report["image"]["config"]["working_dir"], "/srv/work");
    assert_eq!(report["image"]["config"]["entrypoint"][0], "/bin/busybox");
    let key = report["image"]["key"].as_str().unwrap().to_owned();

    // What is not copied changes nothing, what is copied does.
    case.write("ctx/notes.txt", "new");
    assert_eq!(case.build(&["--check"]).ok(), "fresh");
    case.write("ctx/hello.sh", "echo other\n");
    let check = case.build(&["--check"]);
    assert_eq!((check.code(), check.stdout.as_str()), (1, "stale: \"hello.sh\" changed\n"));
    let second = case.build(&[]);
    assert!(second.stderr.contains("is stale: \"hello.sh\" changed"), "{second:?}");
    let rootfs = PathBuf::from(second.ok());
    assert_eq!(fs::read_to_string(rootfs.join("bin/hello.sh")).unwrap(), "echo other\n");
    assert!(!rootfs.to_string_lossy().contains(&key) && case.cached().len() == 1, "the stale image is still there");

    assert!(case.call(&["invalidate", "ctx"]).ok().contains("/ctx"));
    assert_eq!(case.cached(), [""; 0]);
    assert_eq!(case.call(&["invalidate", "ctx"]).ok(), "there is no image");
    assert_eq!(case.build(&["--check"]).code(), 1);
    let mut images = Command::new(engine);
    let images = Outcome::of(case.with_storage(images.args(["images", "-n"]))).ok();
    assert!(!images.contains("procrt-sandbox"), "{images}");
}

#[test]
fn buildah_builds_what_is_unpacked_kept_and_found_stale() {
    builds_and_unpacks("buildah");
}

#[test]
fn podman_builds_what_is_unpacked_kept_and_found_stale() {
    builds_and_unpacks("podman");
}

#[test]
fn what_the_image_says_of_its_command_holds_where_no_option_says_otherwise() {
    let Some(case) = Case::new("buildah") else { return };
    let run = |args: &[&str]| case.call(&[&["run", "--engine", "buildah", "ctx"], args].concat());
    let outcome = run(&[]);
    assert!(outcome.stderr.contains("API_TOKEN of the image looks like a secret, and is left out"), "{outcome:?}");
    assert_eq!(outcome.ok(), "hello from /srv/work");
    // The entry point stands before what is named.
    assert_eq!(run(&["--", "id", "-u"]).ok(), "1234");
    let shell = |options: &[&str], script: &str| run(&[options, &["--", "sh", "-c", script]].concat());
    assert_eq!(shell(&["--env", "GREETING=bye"], "echo $GREETING").ok(), "bye");
    assert_eq!(shell(&["--cwd", "/bin", "--user", "7:8"], "pwd; busybox id -u").ok(), "/bin\n7");
    assert_eq!(shell(&["--allow-secret-env", "API_TOKEN"], "echo $API_TOKEN").ok(), "hidden");
    assert_eq!(shell(&[], "exit 3").code(), 3);
    assert_ne!(shell(&[], "echo x >/bin/x").code(), 0, "the image can be written to");
    assert_eq!(run(&["--rootfs", "/"]).code(), 125);

    // As long as it runs, nobody takes it away.
    let mut command = Command::new(PROCRT);
    command.args(["sandbox", "image", "run", "--engine", "buildah", "ctx", "--", "sh", "-c", "echo runs; read wait"]);
    command.stdin(Stdio::piped());
    let mut running = Running::start(case.with_storage(&mut command));
    wait_until("the command to run", || !running.stdout().is_empty());
    let outcome = case.call(&["invalidate", "ctx"]);
    assert!(outcome.code() == 125 && outcome.stderr.contains("is in use by a sandbox"), "{outcome:?}");
    drop(running.child.stdin.take());
    running.finish();
    let name = format!("test-image-{}", std::process::id());
    let sandbox = |args: &[&str]| Outcome::of(case.with_storage(Command::new(PROCRT).arg("sandbox").args(args)));
    let rootfs = case.build(&[]).ok();
    sandbox(&["start", &name, "--rootfs", &rootfs]).ok();
    assert_eq!(case.call(&["invalidate", "ctx"]).code(), 125);
    assert_eq!(sandbox(&["exec", &name, "--", "/bin/busybox", "echo", "there"]).ok(), "there");
    sandbox(&["stop", &name]).ok();
    case.call(&["invalidate", "ctx"]).ok();
}

#[test]
fn what_cannot_be_built_leaves_nothing() {
    let Some(case) = Case::new("buildah") else { return };
    case.write("ctx/Dockerfile", "FROM scratch\nCOPY missing /\n");
    let outcome = case.build(&[]);
    assert_eq!((outcome.code(), outcome.stdout.as_str()), (125, ""), "{outcome:?}");
    assert!(outcome.stderr.contains("buildah build"), "{outcome:?}");
    assert_eq!(case.cached(), [""; 0]);
    fs::remove_file(case.context().join("Dockerfile")).unwrap();
    let outcome = case.build(&[]);
    assert!(outcome.code() == 125 && outcome.stderr.contains("there is no \"Dockerfile\""), "{outcome:?}");
    let outcome = case.build(&["--build-arg", "NOT_SET_ANYWHERE"]);
    assert!(outcome.code() == 125 && outcome.stderr.contains("--build-arg NOT_SET_ANYWHERE"), "{outcome:?}");
}

/// Engines that are there and do not answer, as a client whose daemon does not run.
fn engines(dir: &Path, scripts: &[(&str, &str)]) -> PathBuf {
    let bin = dir.join("fakes");
    fs::create_dir(&bin).unwrap();
    for (name, script) in scripts {
        let path = bin.join(name);
        fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    }
    bin
}

#[test]
fn without_an_engine_that_answers_it_is_99_and_says_what_each_said() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("Dockerfile"), "FROM scratch\n").unwrap();
    let bin = engines(dir.path(), &[("docker", "echo no daemon >&2; exit 1"), ("buildah", "exit 7")]);
    let build = |path: &OsStr| {
        let mut command = Command::new(PROCRT);
        command.args(["sandbox", "image", "build", "."]).current_dir(dir.path());
        Outcome::of(command.env("PATH", path).env("XDG_CACHE_HOME", dir.path().join("cache")))
    };
    let outcome = build(bin.as_os_str());
    assert_eq!((outcome.code(), outcome.stdout.as_str()), (99, ""), "{outcome:?}");
    let sentence =
        "no engine that builds images answers: docker: no daemon; podman: not installed; buildah: exit status: 7";
    assert!(outcome.stderr.contains(sentence), "{outcome:?}");
}

#[test]
fn the_first_engine_that_answers_builds() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("ctx")).unwrap();
    fs::write(dir.path().join("ctx/Dockerfile"), "FROM scratch\n").unwrap();
    let root = dir.path().join("root/bin");
    fs::create_dir_all(&root).unwrap();
    fs::write(root.join("tool"), "x").unwrap();
    // Podman's command line, and an image made by tar.
    let log = dir.path().join("log");
    let podman = format!(
        "echo \"$@\" >>{log}; case $1 in info) ;; build) while [ $# -gt 0 ]; do [ $1 = --iidfile ] && echo sha256:1 >$2; shift; done ;; \
         image) echo '[{{\"Config\": {{\"Cmd\": [\"/bin/tool\"]}}}}]' ;; create) echo made ;; \
         export) tar -C {root} -cf - . ;; rm) ;; *) exit 1 ;; esac",
        log = log.display(),
        root = dir.path().join("root").display()
    );
    let bin = engines(dir.path(), &[("docker", "exit 1"), ("podman", &podman)]);
    let mut command = Command::new(PROCRT);
    command
        .args(["sandbox", "image", "build", "--target", "last", "--build-arg", "A=b", "ctx"])
        .current_dir(dir.path());
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
    let outcome = Outcome::of(command.env("PATH", path).env("XDG_CACHE_HOME", dir.path().join("cache")));
    assert_eq!(fs::read_to_string(PathBuf::from(outcome.ok()).join("bin/tool")).unwrap(), "x");
    let log = fs::read_to_string(log).unwrap();
    let said: Vec<&str> = log.lines().collect();
    assert!(said[1].contains("--build-arg A=b") && said[1].contains("--target last"), "{log}");
    assert_eq!(said.last(), Some(&"rm -f made"), "{log}");
}
