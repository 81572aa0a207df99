//! The backend of another OCI runtime: the same configuration as for procrt's engine, written out as a bundle, in control
//! groups that procrt makes around the runtime's own, so that limits hold and usage is known whatever the runtime does.
//!
//! Runtimes start a container and leave it. So that none is left when procrt is killed, a process waits for procrt's end, and
//! has the runtime delete what is there then.

use std::ffi::OsStr;
use std::fs;
use std::io::{Read, Write, pipe};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::errno::Errno;
use nix::unistd::setsid;
use oci_spec::runtime::{Mount, Spec};

use super::backend::{Backend, Choice};
use super::engine;
use super::filter::default_filter;
use super::place;
use super::policy::Limits;
use super::running::{Job, Started};
use super::spec;
use crate::bundle::CONFIG;
use crate::cgroup::{self, Cgroup, Usage};
use crate::container::Given;
use crate::error::{Context, Error, Faults, Kind, Result};
use crate::host::cgroups::Hierarchies;
use crate::rootfs::Fresh;
use crate::sys::child::{Ending, Which, wait};
use crate::sys::process::{close_all_but, exit_now, fork, pidfd_open, pidfd_send_signal};
use crate::terminal::signals::Signals;

/// The runtime's own control group, inside procrt's.
const INNER: &str = "container";

/// The version of the specification that the configuration is of: all that it has, and any runtime knows it.
const VERSION: &str = "1.0.2";

/// Starts a job with another runtime.
///
/// # Errors
/// `Kind::Unsupported` for what takes procrt's engine; what the runtime says.
pub fn start(job: &Job, choice: &Choice, _signals: &Signals) -> Result<Box<dyn Started>> {
    let Backend::Runtime { path } = &choice.backend else {
        return Err(Error::system("the backend is no runtime"));
    };
    let files = &job.policy.files;
    let mut faults = Faults::default();
    for (field, asked) in [("overlay", !files.overlay.is_empty()), ("workspace", files.workspace.is_some())] {
        if asked {
            faults.unsupported(format!("files.{field}"), "what is written is kept in memory by procrt's engine alone");
        }
    }
    faults.into_result()?;
    // It has the caller's descriptors, and a terminal with them.
    let job = Job { terminal: false, ..job.clone() };
    let mut given = engine::given(&job, false)?;
    let id = engine::own_id();
    let root = place::of_user("procrt-sandbox-runtimes")?;
    let dir = root.join(&id);
    let mut made = Made { runtime: path.clone(), arguments: job.policy.runtime_args.clone(), id, dir, cgroup: None };
    let mut guard = Guard::begin(&made)?;
    match made.make(&mut given).and_then(|()| made.run()) {
        Ok((pid, pidfd)) => Ok(Box::new(Running { made: Some(made), guard, pid, pidfd, ended: None })),
        Err(error) => {
            if let Err(left) = made.remove() {
                log::warn!("{left}");
            }
            guard.dismiss();
            Err(error)
        }
    }
}

/// What is there of a container of another runtime's, by its names.
#[derive(Debug)]
struct Made {
    runtime: PathBuf,
    arguments: Vec<String>,
    id: String,
    /// The bundle, the runtime's state and its log.
    dir: PathBuf,
    cgroup: Option<Cgroup>,
}

impl Made {
    /// Writes the bundle, and makes the control groups.
    fn make(&mut self, given: &mut Given) -> Result<()> {
        let dir = &self.dir;
        let what = || format!("make the bundle {:?}", dir.display().to_string());
        fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).context(what)?;
        let spec = &mut given.bundle.spec;
        let mut root = spec.root().clone().unwrap_or_default();
        match given.fresh.as_ref() {
            Some(Fresh { lower: Some(lower), .. }) => root.set_path(lower.clone()),
            Some(fresh) => {
                furnish(&dir.join("rootfs"), fresh, spec).context(what)?;
                root.set_path("rootfs".into())
            }
            None => &mut root,
        };
        spec.set_root(Some(root)).set_version(VERSION.to_owned());
        for mount in spec.mounts_mut().iter_mut().flatten().filter(|mount| is_file(mount)) {
            // What is for all below a directory, some runtimes refuse for a file.
            let plain = |option: &String| {
                let word = ["rbind", "rro", "rnosuid", "rnodev"].contains(&option.as_str());
                if word { option[1..].to_owned() } else { option.clone() }
            };
            let options = mount.options().iter().flatten().map(plain).collect();
            mount.set_options(Some(options));
        }
        // The limits are those of the control groups around it.
        let mut faults = Faults::default();
        let plan = cgroup::plan(spec, &self.id, &Hierarchies::find()?, &mut faults);
        faults.into_result()?;
        let path = plan.groups.first().map(|group| group.cgroup.path.join(INNER));
        if let Some(linux) = spec.linux_mut() {
            linux.set_resources(Some(spec::resources(&Limits::default(), 0))).set_cgroups_path(path);
            if given.filter.take().is_some() {
                linux.set_seccomp(Some(default_filter()));
            }
        }
        self.cgroup = Some(Cgroup::create(&plan)?);
        let text = serde_json::to_vec(spec).map_err(|error| Error::system(format!("{}: {error}", what())))?;
        fs::write(dir.join(CONFIG), text).context(what)
    }

    /// Has the runtime make and start the container: its first process, which becomes this one's child.
    fn run(&self) -> Result<(i32, OwnedFd)> {
        nix::sys::prctl::set_child_subreaper(true).context(|| "become a subreaper")?;
        let pid_file = self.dir.join("pid");
        let bundle = self.dir.as_os_str();
        self.call(&["create".as_ref(), "--bundle".as_ref(), bundle, "--pid-file".as_ref(), pid_file.as_ref()], true)?;
        let text = fs::read_to_string(&pid_file).context(|| "read the runtime's pid file")?;
        let pid = text.trim().parse().map_err(|_| Error::system(format!("the runtime's pid file says {text:?}")))?;
        let pidfd = pidfd_open(pid).context(|| "open the container's first process")?;
        self.call(&["start".as_ref()], false)?;
        Ok((pid, pidfd))
    }

    fn call(&self, words: &[&OsStr], is_command: bool) -> Result<()> {
        let log = self.dir.join("log");
        let mut command = Command::new(&self.runtime);
        command.args(&self.arguments).arg("--root").arg(self.dir.join("state"));
        command.arg("--log").arg(&log).args(["--log-format", "json"]).args(words).arg(&self.id);
        if !is_command {
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        }
        let name = || format!("{} {}", self.runtime.display(), words[0].to_string_lossy());
        let status = command.status().context(name)?;
        if status.success() {
            return Ok(());
        }
        let said = fs::read_to_string(&log).unwrap_or_default();
        let message = |line: &str| -> Option<String> {
            let line: serde_json::Value = serde_json::from_str(line).ok()?;
            Some(line["msg"].as_str()?.to_owned())
        };
        let said = said.lines().rev().find_map(message).unwrap_or_else(|| status.to_string());
        let kind = match said.to_ascii_lowercase() {
            said if said.contains("executable file") && said.contains("not found") => Kind::ProgramNotFound,
            said if said.contains("no such file or directory") && said.contains("exec") => Kind::ProgramNotFound,
            said if said.contains("permission denied") && said.contains("exec") => Kind::ProgramNotExecutable,
            _ => Kind::System,
        };
        Err(Error::new(kind, format!("{}: {said}", name())))
    }

    /// Removes all of it. Nothing of it runs any more once the runtime has deleted it.
    fn remove(&self) -> Result<()> {
        if self.dir.join("state").exists() {
            let words: [&OsStr; 2] = ["delete".as_ref(), "--force".as_ref()];
            if let Err(error) = self.call(&words, false)
                && self.cgroup.as_ref().is_some_and(|cgroup| !cgroup.is_empty().unwrap_or(true))
            {
                return Err(error);
            }
        }
        if let Some(cgroup) = &self.cgroup {
            cgroup.kill(libc::SIGKILL)?;
            cgroup.remove()?;
        }
        match fs::remove_dir_all(&self.dir) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(error).context(|| format!("remove {:?}", self.dir.display().to_string()))
            }
            _ => Ok(()),
        }
    }
}

/// Whether a mount shows a file.
fn is_file(mount: &Mount) -> bool {
    mount.typ().as_deref() == Some("bind") && mount.source().as_ref().is_some_and(|source| source.is_file())
}

/// Makes a root in a directory, for whoever takes no other.
fn furnish(root: &Path, fresh: &Fresh, spec: &Spec) -> Result<()> {
    fs::DirBuilder::new().mode(0o755).create(root)?;
    for (path, mode) in &fresh.directories {
        fs::DirBuilder::new().mode(*mode).create(root.join(path))?;
    }
    for (path, target) in &fresh.links {
        symlink(target, root.join(path))?;
    }
    for (path, content) in &fresh.files {
        fs::write(root.join(path), content)?;
    }
    // Some runtimes make directories of all places for mounts.
    for bind in spec.mounts().iter().flatten().filter(|mount| is_file(mount)) {
        let place = root.join(bind.destination().strip_prefix("/").unwrap_or(bind.destination()));
        if let Some(parent) = place.parent() {
            fs::create_dir_all(parent)?;
        }
        fs::write(place, "")?;
    }
    Ok(())
}

/// The process that outlives this one if this one is killed.
#[derive(Debug)]
struct Guard {
    pid: i32,
    line: std::io::PipeWriter,
}

impl Guard {
    fn begin(made: &Made) -> Result<Self> {
        let what = || "make the process that cleans up";
        let (mut end, line) = pipe().context(what)?;
        let Some(pid) = fork().context(what)? else {
            log::set_max_level(log::LevelFilter::Off);
            let _ = setsid();
            // The command's descriptors are not this one's to hold open.
            let _ = close_all_but(0, &mut [end.as_raw_fd()]);
            let mut word = [0];
            if end.read(&mut word).is_ok_and(|count| count == 0) {
                let cgroups = cgroup_of(&made.id).ok();
                let made = Made { cgroup: cgroups, ..Made::named(made) };
                let _ = made.remove();
            }
            exit_now(0)
        };
        Ok(Self { pid, line })
    }

    /// Lets it go.
    fn dismiss(&mut self) {
        let _ = self.line.write_all(b".");
        let _ = wait(Which::Pid(self.pid), true);
    }
}

impl Made {
    fn named(other: &Self) -> Self {
        Self {
            runtime: other.runtime.clone(),
            arguments: other.arguments.clone(),
            id: other.id.clone(),
            dir: other.dir.clone(),
            cgroup: None,
        }
    }
}

/// The control groups of an id, whether they are there or not.
fn cgroup_of(id: &str) -> Result<Cgroup> {
    let plan = cgroup::plan(&Spec::default(), id, &Hierarchies::find()?, &mut Faults::default());
    Ok(Cgroup::open(&plan.cgroups()))
}

/// A command in a container of another runtime's.
struct Running {
    made: Option<Made>,
    guard: Guard,
    pid: i32,
    pidfd: OwnedFd,
    ended: Option<Ending>,
}

impl Started for Running {
    fn pidfd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }

    fn signal(&mut self, signal: i32) -> Result<()> {
        match pidfd_send_signal(&self.pidfd, signal) {
            Ok(()) | Err(Errno::ESRCH) => Ok(()),
            Err(errno) => Err(errno).context(|| format!("send signal {signal} to the sandbox's program")),
        }
    }

    fn kill_all(&mut self) -> Result<()> {
        self.signal(libc::SIGKILL)?;
        self.wait()?;
        self.made.as_ref().and_then(|made| made.cgroup.as_ref()).map_or(Ok(()), |cgroup| cgroup.kill(libc::SIGKILL))
    }

    fn wait(&mut self) -> Result<Ending> {
        if let Some(ending) = self.ended {
            return Ok(ending);
        }
        let waited = wait(Which::Pid(self.pid), true).context(|| "wait for the container's first process")?;
        let (_, ending) = waited.ok_or_else(|| Error::system("the container's first process has no ending"))?;
        self.ended = Some(ending);
        Ok(ending)
    }

    fn usage(&mut self) -> Usage {
        let Some(cgroup) = self.made.as_ref().and_then(|made| made.cgroup.as_ref()) else { return Usage::default() };
        let mut inner = cgroup.cgroups().clone();
        inner.0.iter_mut().for_each(|group| group.path.push(INNER));
        let (all, inner) = (cgroup.usage(), Cgroup::open(&inner).usage());
        // On version 1, a group counts only what was killed or refused to its own processes.
        let (kills, refused) = (all.oom_kills.max(inner.oom_kills), all.pids_refused.max(inner.pids_refused));
        Usage { oom_kills: kills, pids_refused: refused, ..all }
    }

    fn remove(mut self: Box<Self>) -> Result<()> {
        self.clear()
    }
}

impl Running {
    fn clear(&mut self) -> Result<()> {
        let Some(made) = self.made.take() else { return Ok(()) };
        let removed = made.remove();
        self.guard.dismiss();
        removed
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.made.is_some() {
            let _ = self.kill_all();
            if let Err(error) = self.clear() {
                log::warn!("{error}");
            }
        }
    }
}
