//! The engine that builds: docker, podman or buildah, asked in this order whether it answers.

use std::ffi::OsString;
use std::fs::File;
use std::io::Read;
use std::os::fd::AsFd;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::context::{Content, Source};
use crate::error::{Context, Error, Result};

/// How long an engine may take to say that it is there. A daemon that starts with the first question takes a while.
const PATIENCE: Duration = Duration::from_secs(20);

/// A program that builds images from Dockerfiles.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Engine {
    /// Docker, with its daemon.
    Docker,
    /// Podman.
    Podman,
    /// Buildah.
    Buildah,
}

/// What an image says of how it is run.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ImageConfig {
    /// Variables, `NAME=VALUE`.
    pub env: Vec<String>,
    /// What stands before the command.
    pub entrypoint: Vec<String>,
    /// The command if none is given.
    pub cmd: Vec<String>,
    /// The working directory; none if empty.
    pub working_dir: String,
    /// The user, by name or number, perhaps with a group behind a colon; none if empty.
    pub user: String,
}

impl Engine {
    /// All of them, in the order in which they are asked.
    pub const ALL: [Self; 3] = [Self::Docker, Self::Podman, Self::Buildah];

    /// The program's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Docker => "docker",
            Self::Podman => "podman",
            Self::Buildah => "buildah",
        }
    }

    /// The first that answers, or `wanted` if it does.
    ///
    /// # Errors
    /// [`crate::error::Kind::Unsupported`], with what each had to say.
    pub fn find(wanted: Option<Self>) -> Result<Self> {
        let mut reasons = Vec::new();
        for engine in Self::ALL.into_iter().filter(|engine| wanted.is_none_or(|wanted| wanted == *engine)) {
            match engine.answers() {
                Ok(()) => return Ok(engine),
                Err(reason) => reasons.push(format!("{}: {reason}", engine.name())),
            }
        }
        Err(Error::unsupported(format!("no engine that builds images answers: {}", reasons.join("; "))))
    }

    /// Whether it can work: that a program is installed says nothing of its daemon and its storage.
    ///
    /// # Errors
    /// What it said in its last line.
    pub fn answers(self) -> std::result::Result<(), String> {
        let question: &[&str] = match self {
            Self::Docker => &["version", "--format", "{{.Server.Version}}"],
            Self::Podman => &["info", "--format", "{{.Store.GraphRoot}}"],
            Self::Buildah => &["info"],
        };
        let mut command = self.command();
        command.args(question).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = match command.spawn() {
            Ok(child) => child,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Err("not installed".to_owned()),
            Err(error) => return Err(Error::from(error).to_string()),
        };
        let end = Instant::now() + PATIENCE;
        let mut pause = Duration::from_millis(1);
        let status = loop {
            match child.try_wait() {
                Ok(Some(status)) => break status,
                Ok(None) if Instant::now() < end => std::thread::sleep(pause),
                _ => {
                    let _ = child.kill();
                    let _ = child.wait();
                    return Err(format!("no answer in {} s", PATIENCE.as_secs()));
                }
            }
            pause = (pause * 2).min(Duration::from_millis(20));
        };
        if status.success() {
            return Ok(());
        }
        let mut said = String::new();
        let _ = child.stderr.take().map(|stderr| stderr.take(1 << 16).read_to_string(&mut said));
        Err(said.trim().lines().last().map_or_else(|| status.to_string(), str::to_owned))
    }

    /// Builds the image; its id. What the engine says goes to standard error.
    ///
    /// # Errors
    /// If it fails.
    pub fn build(self, source: &Source, content: &Content, tag: &str, fresh: bool, scratch: &Path) -> Result<String> {
        let id_file = scratch.join("id");
        let mut command = self.command();
        command.arg("build").arg("--iidfile").arg(&id_file).arg("-t").arg(tag);
        command.arg("-f").arg(content.directory.join(&content.file));
        for (name, value) in &source.build_args {
            command.arg("--build-arg").arg(format!("{name}={value}"));
        }
        if let Some(target) = &source.target {
            command.arg("--target").arg(target);
        }
        if fresh {
            command.arg("--no-cache");
        } else if self == Self::Buildah {
            command.arg("--layers");
        }
        command.arg(&content.directory).stdin(Stdio::null());
        let stderr = std::io::stderr().as_fd().try_clone_to_owned().context(|| "standard error")?;
        let status = command.stdout(stderr).status().context(|| format!("run {}", self.name()))?;
        if !status.success() {
            return Err(Error::system(format!("{} build: {status}", self.name())));
        }
        let id = std::fs::read_to_string(&id_file).context(|| format!("{}: the image's id", self.name()))?;
        Ok(id.trim().to_owned())
    }

    /// What the image `id` says of how it is run.
    ///
    /// # Errors
    /// If the engine fails, or says something else.
    pub fn config(self, id: &str) -> Result<ImageConfig> {
        let output = match self {
            Self::Docker | Self::Podman => self.output(&["image", "inspect", id])?,
            Self::Buildah => self.output(&["inspect", "--type", "image", id])?,
        };
        let value: Value = serde_json::from_slice(&output)
            .map_err(|error| Error::system(format!("what {} says of the image: {error}", self.name())))?;
        let config = match self {
            Self::Docker | Self::Podman => &value[0]["Config"],
            Self::Buildah => &value["OCIv1"]["config"],
        };
        let list = |name: &str| -> Vec<String> {
            let list = config[name].as_array().into_iter().flatten();
            list.filter_map(|one| one.as_str().map(str::to_owned)).collect()
        };
        let word = |name: &str| config[name].as_str().unwrap_or_default().to_owned();
        Ok(ImageConfig {
            env: list("Env"),
            entrypoint: list("Entrypoint"),
            cmd: list("Cmd"),
            working_dir: word("WorkingDir"),
            user: word("User"),
        })
    }

    /// Has `take` read the image's file system, as a tar archive.
    ///
    /// # Errors
    /// The engine's failure, or that of `take`.
    pub fn archive<T>(self, id: &str, take: impl FnOnce(&mut dyn Read) -> Result<T>) -> Result<T> {
        let container = match self {
            // The command is never run; an image without one wants it named.
            Self::Docker | Self::Podman => self.output(&["create", id, "/-"])?,
            Self::Buildah => self.output(&["from", "--pull-never", id])?,
        };
        let container = String::from_utf8_lossy(&container).trim().to_owned();
        let taken = self.read_container(&container, take);
        let removed = match self {
            Self::Docker | Self::Podman => self.output(&["rm", "-f", &container]),
            Self::Buildah => self.output(&["rm", &container]),
        };
        taken.and_then(|taken| removed.map(|_| taken))
    }

    fn read_container<T>(self, container: &str, take: impl FnOnce(&mut dyn Read) -> Result<T>) -> Result<T> {
        let mut command = match self {
            Self::Docker | Self::Podman => {
                let mut command = self.command();
                command.args(["export", container]);
                command
            }
            Self::Buildah => {
                // Without root a container can be mounted only in the namespaces that `unshare` goes to.
                let script = "dir=$(buildah mount \"$1\") && tar -C \"$dir\" -cf - .";
                let mut words: Vec<OsString> = ["sh", "-c", script, "sh", container].map(OsString::from).to_vec();
                if !nix::unistd::geteuid().is_root() {
                    words.splice(0..0, ["buildah", "unshare", "--"].map(OsString::from));
                }
                let mut command = Command::new(&words[0]);
                command.args(&words[1..]);
                command
            }
        };
        let what = || format!("read the image with {}", self.name());
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().context(what)?;
        let Some(mut stdout) = child.stdout.take() else {
            return Err(Error::system("a pipe is missing")).context(what);
        };
        let taken = take(&mut stdout);
        if taken.is_err() {
            let _ = child.kill();
        } else {
            // What stands behind the archive's end, so that nobody writes in vain.
            let _ = std::io::copy(&mut stdout, &mut std::io::sink());
        }
        drop(stdout);
        let status = child.wait().context(what)?;
        // What was read is wrong because the engine failed, or the engine failed because nobody reads any more.
        let taken = taken.context(what)?;
        if status.success() { Ok(taken) } else { Err(Error::system(status.to_string())).context(what) }
    }

    /// Forgets an image's name, and the image if it has no other. Whoever does not answer keeps it.
    pub fn forget(self, tag: &str) {
        if self.answers().is_ok() {
            let mut command = self.command();
            command.args(["rmi", tag]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
            let _ = command.status();
        }
    }

    fn command(self) -> Command {
        Command::new(self.name())
    }

    /// What a short command of the engine's prints.
    fn output(self, args: &[&str]) -> Result<Vec<u8>> {
        let what = || format!("{} {}", self.name(), args.join(" "));
        let mut command = self.command();
        let output = command.args(args).stdin(Stdio::null()).output().context(what)?;
        if output.status.success() {
            return Ok(output.stdout);
        }
        let said = String::from_utf8_lossy(&output.stderr);
        let last = said.trim().lines().last().map_or_else(|| output.status.to_string(), str::to_owned);
        Err(Error::system(last)).context(what)
    }
}

/// Opens a file of an image's root, whose links lead nowhere else; None if it is not there or larger than 1 MiB.
pub(super) fn read_in_root(rootfs: &Path, path: &str) -> Option<String> {
    use nix::fcntl::OFlag;
    let root = nix::fcntl::open(rootfs, OFlag::O_PATH | OFlag::O_CLOEXEC, nix::sys::stat::Mode::empty()).ok()?;
    let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
    let fd = crate::rootfs::Inside(root.as_fd()).open(Path::new(path), flags).ok()?;
    let file = File::from(fd);
    let regular = file.metadata().ok()?.is_file();
    let mut text = String::new();
    (regular && file.take(1 << 20).read_to_string(&mut text).is_ok()).then_some(text)
}
