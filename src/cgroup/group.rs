//! [`Cgroup`]: a container's cgroups in all hierarchies, as one thing.

use std::cell::OnceCell;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use nix::errno::Errno;

use super::{CgroupPlan, Undo, UpdatePlan, control, tree, update, v1, v2};
use crate::error::{Context, Error, Kind, Result};
use crate::host::cgroups::{ContainerCgroup, ContainerCgroups, Version};
use crate::sys::process::{is_real_time, pidfd_open, pidfd_send_signal};

/// Why a process that is scheduled in real time cannot be in a group, where the kernel shares real time out to groups.
const NO_REAL_TIME: &str = " (procrt is scheduled in real time, and the group has no budget of it: cpu.rt_runtime_us, linux.resources.cpu.realtimeRuntime)";

/// How long killed processes are given to be gone, and running ones to be frozen.
const PATIENCE: Duration = Duration::from_secs(2);

/// A container's cgroups. Dropping it changes nothing, but for one that has made them: then another container may come
/// to the same place, if no process is in it by then.
#[derive(Debug)]
pub struct Cgroup {
    cgroups: ContainerCgroups,
    /// The directory on version 2, opened when it is first wanted.
    v2_dir: OnceCell<OwnedFd>,
    /// The directory that says that the cgroups are taken, where there is no version 2.
    taken: Option<OwnedFd>,
    /// The directories that this handle has made, in order.
    made: Vec<PathBuf>,
}

/// The way into the version 1 hierarchies for a process that is being made: each one's `tasks`, open.
///
/// The host's side opens it; the process calls [`Entrance::enter`] while it has one thread.
#[derive(Debug)]
pub struct Entrance {
    /// One a hierarchy.
    pub tasks: Vec<OwnedFd>,
}

impl Entrance {
    /// Moves the calling thread into all of the container's version 1 cgroups: one `write` each.
    ///
    /// # Errors
    /// The kernel refuses, such as `ENOSPC` for a cpuset without CPUs.
    pub fn enter(&self) -> Result<()> {
        self.tasks.iter().try_for_each(|fd| {
            nix::unistd::write(fd, b"0").map(drop).map_err(|errno| {
                let path = std::fs::read_link(format!("/proc/self/fd/{}", fd.as_raw_fd())).unwrap_or_default();
                // The one reason for which the kernel calls this invalid.
                let real_time = errno == Errno::EINVAL && is_real_time();
                let why = if real_time { NO_REAL_TIME } else { "" };
                Error::from(errno).context(format!("write \"0\" to {path:?}{why}"))
            })
        })
    }
}

impl Cgroup {
    /// Makes everything of `plan`, and on failure unmakes what it made.
    ///
    /// # Errors
    /// `Kind::State` if the cgroup is there and has processes in it or is frozen; else what the system said, with the file and
    /// the value.
    pub fn create(plan: &CgroupPlan) -> Result<Self> {
        let mut cgroup = Self::begin(plan)?;
        cgroup.finish(plan).inspect_err(|_| cgroup.unmake())?;
        Ok(cgroup)
    }

    /// Makes the version 2 part of `plan`, where a process can be born, and on failure unmakes what it made. The rest is
    /// for [`Cgroup::finish`]: the process has work to do meanwhile.
    ///
    /// # Errors
    /// As [`Cgroup::create`].
    pub fn begin(plan: &CgroupPlan) -> Result<Self> {
        let mut cgroup =
            Self { made: Vec::with_capacity(plan.groups.len()), ..Self::open(&ContainerCgroups(Vec::new())) };
        if plan.scope.is_none() {
            cgroup.make(plan, Version::V2).inspect_err(|_| cgroup.unmake())?;
        }
        Ok(cgroup)
    }

    /// Makes the version 1 part of `plan`; of a scope, which systemd has started by now, sets the limits. What was made when this fails is for [`Cgroup::unmake`].
    ///
    /// # Errors
    /// As [`Cgroup::create`].
    pub fn finish(&mut self, plan: &CgroupPlan) -> Result<()> {
        if plan.scope.is_some() {
            self.make(plan, Version::V2)?;
        }
        self.make(plan, Version::V1)
    }

    fn make(&mut self, plan: &CgroupPlan, version: Version) -> Result<()> {
        for group in plan.groups.iter().filter(|group| group.cgroup.hierarchy.version == version) {
            match version {
                Version::V1 => {
                    let is_first = self.cgroups.0.is_empty();
                    if let Some(taken) = v1::create(group, &mut self.made, is_first)? {
                        self.taken = Some(taken);
                    }
                }
                Version::V2 => drop(self.v2_dir.set(match plan.scope {
                    None => v2::create(group, &mut self.made)?,
                    Some(_) => v2::set_up(group)?,
                })),
            }
            self.cgroups.0.push(group.cgroup.clone());
        }
        Ok(())
    }

    /// Changes the container's resources: all that `plan` says, or nothing. Answers how to put back what was there.
    ///
    /// # Errors
    /// What the kernel refuses, or that more is in use than a limit that is to be checked; then everything is as it was.
    pub fn update(&self, plan: &UpdatePlan) -> Result<Undo> {
        update::apply(&self.cgroups, plan)
    }

    /// Removes every directory that was made for this container, those above its cgroups too, unless something is in them
    /// by now.
    pub fn unmake(&self) {
        control::unmake(&self.made);
    }

    /// The cgroups that [`Cgroup::create`] made earlier. Nothing is looked at: what is not there any more is empty, and is
    /// removed.
    pub fn open(cgroups: &ContainerCgroups) -> Self {
        Self { cgroups: cgroups.clone(), v2_dir: OnceCell::new(), taken: None, made: Vec::new() }
    }

    /// Where the cgroups are.
    pub fn cgroups(&self) -> &ContainerCgroups {
        &self.cgroups
    }

    /// The version 2 directory, for `clone3` with `CLONE_INTO_CGROUP`; none on a legacy host.
    ///
    /// # Errors
    /// It cannot be opened.
    pub fn birth_fd(&self) -> Result<Option<BorrowedFd<'_>>> {
        let Some(v2) = self.of(Version::V2).next() else { return Ok(None) };
        if self.v2_dir.get().is_none() {
            let dir = v2.dir();
            let fd = control::open_dir(&dir).context(|| format!("open control group {dir:?}"))?;
            let _ = self.v2_dir.set(fd);
        }
        Ok(self.v2_dir.get().map(AsFd::as_fd))
    }

    /// The version 2 directory that the container's process `pid` has moved to, if that is one inside the container's. With
    /// processes in cgroups below it, the container's own may take no more (cgroups(7), "no internal processes").
    ///
    /// # Errors
    /// It cannot be found or opened.
    pub fn birth_fd_beside(&self, pid: i32) -> Result<Option<OwnedFd>> {
        let Some(v2) = self.of(Version::V2).next() else { return Ok(None) };
        let file = format!("/proc/{pid}/cgroup");
        let text = std::fs::read_to_string(&file).context(|| format!("read {file}"))?;
        let path = text.lines().find_map(|line| line.strip_prefix("0::")).map(PathBuf::from).unwrap_or_default();
        if path == v2.path || !path.starts_with(&v2.path) {
            return Ok(None);
        }
        let dir = ContainerCgroup { hierarchy: v2.hierarchy.clone(), path }.dir();
        control::open_dir(&dir).context(|| format!("open control group {dir:?}")).map(Some)
    }

    /// Says more of why no process could be born in the version 2 directory, where the kernel's number says little.
    pub fn explain_birth(&self, error: Error) -> Error {
        match self.of(Version::V2).next() {
            Some(v2) => v2::explain_birth(error, &v2.dir()),
            None => error,
        }
    }

    /// Opens the way into the version 1 hierarchies, for a child that `clone3` has put into version 2. On a unified host
    /// this is nothing.
    ///
    /// # Errors
    /// A cgroup is not there.
    pub fn entrance(&self) -> Result<Entrance> {
        let tasks = self.of(Version::V1).map(|cgroup| {
            let dir = cgroup.dir();
            control::open_file(None, &dir, "tasks").context(|| format!("open {:?}", dir.join("tasks")))
        });
        Ok(Entrance { tasks: tasks.collect::<Result<_>>()? })
    }

    /// Puts process `pid` into the version 1 hierarchies. It takes some ten milliseconds on a machine at rest, which
    /// [`Cgroup::entrance`] does not.
    ///
    /// # Errors
    /// `ESRCH` if the process is gone, or what else the kernel says.
    pub fn join(&self, pid: i32) -> Result<()> {
        self.join_those(Some(Version::V1), pid)
    }

    /// Puts process `pid` into all hierarchies, for one that was not born in version 2's.
    ///
    /// # Errors
    /// As [`Cgroup::join`].
    pub fn join_all(&self, pid: i32) -> Result<()> {
        self.join_those(None, pid)
    }

    fn join_those(&self, version: Option<Version>, pid: i32) -> Result<()> {
        let wanted = |cgroup: &&ContainerCgroup| version.is_none_or(|version| cgroup.hierarchy.version == version);
        let pid = pid.to_string();
        self.cgroups.0.iter().filter(wanted).try_for_each(|cgroup| control::write(&cgroup.dir(), "cgroup.procs", &pid))
    }

    fn of(&self, version: Version) -> impl Iterator<Item = &ContainerCgroup> {
        self.cgroups.0.iter().filter(move |cgroup| cgroup.hierarchy.version == version)
    }

    /// The hierarchy that is asked about processes: version 2, else the freezer's, else any.
    fn main(&self) -> Option<&ContainerCgroup> {
        let freezer = || self.cgroups.0.iter().find(|cgroup| cgroup.hierarchy.has("freezer"));
        self.of(Version::V2).next().or_else(freezer).or(self.cgroups.0.first())
    }

    /// The processes of the container, as procrt's PID namespace numbers them; also those of cgroups that it made inside.
    ///
    /// # Errors
    /// A cgroup that is there cannot be read.
    pub fn pids(&self) -> Result<Vec<i32>> {
        self.main().map_or(Ok(Vec::new()), |cgroup| tree::pids(&cgroup.dir()))
    }

    /// Whether no process is left.
    ///
    /// # Errors
    /// A cgroup that is there cannot be read.
    pub fn is_empty(&self) -> Result<bool> {
        match self.main() {
            Some(v2) if v2.hierarchy.version == Version::V2 => v2::wait_until_empty(&v2.dir(), Duration::ZERO),
            _ => Ok(self.pids()?.is_empty()),
        }
    }

    /// Sends `signal` to every process of the container. For `SIGKILL` version 2 has a file; else, and for other
    /// signals, the container is frozen meanwhile, so that no process is forked past the signal.
    ///
    /// A container that was frozen before stays so, unless it is killed.
    ///
    /// # Errors
    /// The container cannot be frozen, or a process cannot be signalled.
    pub fn kill(&self, signal: i32) -> Result<()> {
        if let (libc::SIGKILL, Some(v2)) = (signal, self.of(Version::V2).next()) {
            return v2::kill(&v2.dir());
        }
        if self.pids()?.is_empty() {
            return Ok(());
        }
        let was_frozen = self.is_frozen()?;
        if !was_frozen {
            self.freeze()?;
        }
        let sent = self.pids().and_then(|pids| pids.into_iter().try_for_each(|pid| send(pid, signal)));
        if !was_frozen || signal == libc::SIGKILL {
            self.thaw()?;
        }
        sent
    }

    /// Lets processes that were killed die. On version 1 the freezer holds them too.
    ///
    /// # Errors
    /// As [`Cgroup::freeze`].
    pub fn let_die(&self) -> Result<()> {
        let frozen = self.of(Version::V2).next().is_none() && self.is_frozen()?;
        if frozen { self.thaw() } else { Ok(()) }
    }

    /// Stops every process where it is, and waits until all are.
    ///
    /// # Errors
    /// A process could not be frozen in two seconds: then all run again. `Kind::Unsupported` on a legacy host without the
    /// freezer.
    pub fn freeze(&self) -> Result<()> {
        self.set_frozen(true)
    }

    /// Lets every process go on.
    ///
    /// # Errors
    /// As [`Cgroup::freeze`].
    pub fn thaw(&self) -> Result<()> {
        self.set_frozen(false)
    }

    fn set_frozen(&self, frozen: bool) -> Result<()> {
        match self.main() {
            Some(cgroup) if cgroup.hierarchy.version == Version::V2 => v2::freeze(&cgroup.dir(), frozen, PATIENCE),
            Some(cgroup) if cgroup.hierarchy.has("freezer") => v1::freeze(&cgroup.dir(), frozen, PATIENCE),
            None => Err(Error::unsupported("freeze: the container has no control group")),
            _ => Err(Error::unsupported(
                "freeze: no control group hierarchy of this machine has the \"freezer\" controller",
            )),
        }
    }

    /// Whether all processes are frozen; not if the cgroup is not there.
    ///
    /// # Errors
    /// Its state cannot be read.
    pub fn is_frozen(&self) -> Result<bool> {
        let answer = match self.main() {
            Some(cgroup) if cgroup.hierarchy.version == Version::V2 => v2::is_frozen(&cgroup.dir()),
            Some(cgroup) if cgroup.hierarchy.has("freezer") => v1::is_frozen(&cgroup.dir()),
            _ => Ok(false),
        };
        match answer {
            Err(error) if matches!(error.errno().map(Errno::from_raw), Some(Errno::ENOENT | Errno::ENODEV)) => {
                Ok(false)
            }
            answer => answer,
        }
    }

    /// Removes the container's cgroups and those inside them, if no process is in them now; answers whether that was so.
    ///
    /// # Errors
    /// What keeps a cgroup that is not busy from being removed.
    pub fn remove_if_free(&self) -> Result<bool> {
        for cgroup in &self.cgroups.0 {
            let dir = cgroup.dir();
            match tree::remove(&dir) {
                Ok(()) => {}
                Err(Errno::EBUSY) => return Ok(false),
                Err(errno) => return Err(errno).context(|| format!("remove control group {dir:?}")),
            }
        }
        Ok(true)
    }

    /// Removes the container's cgroups and those inside them. It kills nobody, but gives processes that were killed two
    /// seconds to be gone. Cgroups that are not there are removed.
    ///
    /// # Errors
    /// `Kind::State` if processes are left, which it names; what else could be removed is.
    pub fn remove(&self) -> Result<()> {
        let mut end = None;
        let mut result = Ok(());
        // Version 2 is first, and can be waited for: when it is empty, the others are, and go at once.
        for cgroup in &self.cgroups.0 {
            let removed = remove_one(cgroup, &mut end);
            if result.is_ok() {
                result = removed;
            }
        }
        result
    }
}

/// `end` is when patience ends, from the first cgroup on that has to be waited for.
fn remove_one(cgroup: &ContainerCgroup, end: &mut Option<Instant>) -> Result<()> {
    let dir = cgroup.dir();
    let mut pause = Duration::from_micros(50);
    loop {
        match tree::remove(&dir) {
            Ok(()) => return Ok(()),
            Err(Errno::EBUSY) => {}
            Err(errno) => return Err(errno).context(|| format!("remove control group {dir:?}")),
        }
        let now = Instant::now();
        let left = end.get_or_insert(now + PATIENCE).saturating_duration_since(now);
        if left.is_zero() {
            break;
        }
        if cgroup.hierarchy.version == Version::V1 || v2::wait_until_empty(&dir, left)? {
            // Version 1 tells nobody. On version 2 an empty cgroup that is busy is one whose children are being made.
            std::thread::sleep(pause.min(left));
            pause = (pause * 2).min(Duration::from_millis(10));
        }
    }
    let pids = tree::pids(&dir)?;
    let who = if pids.is_empty() { "something".to_owned() } else { control::name_pids(&pids) };
    Err(Error::new(Kind::State, format!("remove control group {dir:?}: it is kept busy by {who}")))
}

fn send(pid: i32, signal: i32) -> Result<()> {
    // Not by nix's kill, whose signals end before the real-time ones.
    match pidfd_open(pid).and_then(|pidfd| pidfd_send_signal(pidfd, signal)) {
        Err(Errno::ESRCH) => Ok(()),
        done => done.context(|| format!("send signal {signal} to process {pid}")),
    }
}
