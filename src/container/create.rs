//! Creating a container: the host's side of clone3, one sequence, and the undoing of it.

use std::collections::BTreeMap;
use std::io::Write;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::SystemTime;

use nix::fcntl::OFlag;
use nix::unistd::{UnlinkatFlags, unlinkat};
use oci_spec::runtime::ContainerState;

use super::plan::{self, Plan};
use super::readiness;
use super::record::{ProcessId, Record};
use super::store::{Entry, Store};
use super::{CgroupManager, CreateOptions};
use crate::bundle::Bundle;
use crate::cgroup::{Cgroup, systemd};
use crate::error::{Context, Error, Result};
use crate::hooks;
use crate::host::caller::{Caller, capability};
use crate::host::id_mapping::IdMapping;
use crate::host::id_writer::Writers;
use crate::host::{clock, id_mapping, mounts, procfs};
use crate::init::{self, Channel, Gate, Handles, Message};
use crate::namespaces::{self, Namespace, NamespacesPlan, NetDevices};
use crate::process;
use crate::resctrl::Resctrl;
use crate::rootfs::Sources;
use crate::sys::child::{ChildrenKept, Ending, Which, wait};
use crate::sys::process::{first_not_passed, pidfd_send_signal};
use crate::terminal;
use crate::terminal::signals::Signals;

/// How the container is to be started.
#[derive(Debug)]
pub(super) enum Start<'a> {
    /// By another procrt.
    Later,
    /// By this one, which may stay in the foreground.
    Now(Option<Box<Signals>>),
    /// By this one, whose signals are held back by its caller.
    Attended(&'a Signals),
}

/// A container that was created and whose process waits.
#[derive(Debug)]
pub(super) struct Created {
    pub entry: Entry,
    pub record: Record,
    pub cgroup: Cgroup,
    pub pid: i32,
    pub pidfd: OwnedFd,
    pub channel: Channel,
    /// The terminal's master end, if nobody else was sent it.
    pub master: Option<OwnedFd>,
    /// The signals that wait for whoever stays in the foreground.
    pub signals: Option<Box<Signals>>,
}

/// What has been made so far, and is unmade if the making does not come to its end.
struct Unfinished {
    entry: Entry,
    record: Record,
    cgroup: Option<Cgroup>,
    resctrl: Option<Resctrl>,
    devices: Option<NetDevices>,
    process: Option<(i32, OwnedFd)>,
}

impl Unfinished {
    /// Undoes everything, newest first, and runs the hooks that come after a container. What cannot be undone is left to
    /// `delete --force`, which finds it by what is left of the container's directory.
    fn undo(mut self) {
        if let Some(devices) = &mut self.devices {
            devices.give_back();
        }
        if let Some((pid, pidfd)) = &self.process {
            let _ = pidfd_send_signal(pidfd, libc::SIGKILL);
            let _ = wait(Which::Pid(*pid), true);
        }
        self.record.resctrl = self.resctrl.take().map(Resctrl::unmade);
        let cgroup = self.cgroup.as_ref();
        let gone = super::delete::destroy(&self.entry, &self.record, cgroup);
        if let Err(error) = gone {
            log::warn!("undo the making of {:?}: {error}", self.record.id);
        }
        if let Some(cgroup) = cgroup {
            cgroup.unmake();
        }
    }
}

/// Creates a container up to its start gate.
///
/// # Errors
/// Whatever step failed; then everything made before it is unmade.
pub(super) fn create(store: &Store, options: &CreateOptions, start: Start) -> Result<Created> {
    // 1. Decide, and open what the container is made of: what is wrong is found before anything is made.
    let (manager, systemd) =
        (options.cgroup_manager == CgroupManager::Systemd).then(systemd::find).transpose()?.unzip();
    let (bundle, plan) = plan::plan_with(options, manager.as_ref())?;
    create_planned(store, options, start, (&bundle, plan), systemd)
}

/// The same for what is decided already.
///
/// # Errors
/// As [`create`].
pub(super) fn create_planned(
    store: &Store,
    options: &CreateOptions,
    start: Start,
    (bundle, plan): (&Bundle, Plan),
    systemd: Option<systemd::Connection>,
) -> Result<Created> {
    // Hooks are waited for, which nobody can who ignores the end of children.
    let _children = ChildrenKept::new().context(|| "watch children")?;
    if plan.init.process.is_missing() && !matches!(start, Start::Later) {
        return Err(Error::config("process: is missing"));
    }
    check_console(&plan, options, &start)?;
    let sockets = options.activation.as_ref().map_or(0, |activation| activation.sockets);
    check_preserved(sockets, options.preserve_fds)?;
    plan.init.hooks.check()?;
    let joined = namespaces::Handles::open(&plan.init.namespaces)?;
    let writers =
        plan.init.namespaces.makes(Namespace::User).then(|| find_writers(&plan.init.namespaces)).transpose()?;
    let resctrl = plan.resctrl.as_ref().map(Resctrl::find).transpose()?;
    let devices = NetDevices::find(&plan.init.namespaces, joined.get(Namespace::Network))?;
    if let Some(listener) = plan.init.seccomp.as_ref().and_then(|filter| filter.listener.as_ref()) {
        listener.check()?;
    }
    let console = options.console_socket.as_deref().map(terminal::console::connect).transpose()?;
    let pidfd_socket = options.pidfd_socket.as_deref().map(terminal::console::connect).transpose()?;
    // One of them may be yet to be made, in the container's directory.
    let sources = options.notify_directory.is_none().then(|| open_sources(&plan, &joined)).transpose()?;

    // 2. Take the id, and say what is about to be made.
    let mut record = record_of(bundle, &plan, options);
    if !plan.init.namespaces.has(Namespace::Mount) {
        record.mounts_on_host = Some(mounts::count_at(&record.rootfs)?);
    }
    record.resctrl = resctrl.as_ref().map(Resctrl::planned);
    let entry = store.claim(&options.id)?;
    let mut unfinished = Unfinished { entry, record, cgroup: None, resctrl, devices, process: None };
    let made = make(&mut unfinished, &plan, (joined, writers, console, sources, systemd), start);
    let (channel, master, signals) = match made {
        Ok(made) => made,
        Err(error) => {
            unfinished.undo();
            return Err(error);
        }
    };

    // 7. It is there: remember it, and tell whoever asked.
    let told = tell(&mut unfinished, options, pidfd_socket.as_ref());
    match (told, unfinished) {
        (Ok(()), Unfinished { entry, record, cgroup: Some(cgroup), process: Some((pid, pidfd)), .. }) => {
            Ok(Created { entry, record, cgroup, pid, pidfd, channel, master, signals })
        }
        (told, unfinished) => {
            unfinished.undo();
            Err(told.err().unwrap_or_else(|| Error::system("the container was not made")))
        }
    }
}

/// A terminal needs somebody at its other end: whoever listens on the socket, or this process in the foreground.
fn check_console(plan: &Plan, options: &CreateOptions, start: &Start) -> Result<()> {
    let foreground = matches!(start, Start::Now(Some(_)) | Start::Attended(_));
    match (&options.console_socket, plan.init.terminal.is_some()) {
        (None, true) if !foreground => Err(Error::config(
            "process.terminal: true needs --console-socket for a container that is not in the foreground",
        )),
        (Some(_), false) => {
            Err(Error::config("--console-socket: process.terminal is false, so there is no terminal to send"))
        }
        (Some(_), true) if foreground => {
            Err(Error::config("--console-socket: a container in the foreground has procrt's own terminal (--detach)"))
        }
        _ => Ok(()),
    }
}

/// What is to be passed on must have been passed: in its place the container would get what procrt has opened.
///
/// # Errors
/// Names the first that is missing.
pub(super) fn check_preserved(sockets: u32, count: u32) -> Result<()> {
    match first_not_passed(sockets.saturating_add(count)) {
        None => Ok(()),
        Some(number) if number - 3 < sockets => {
            Err(Error::config(format!("LISTEN_FDS={sockets}: descriptor {number} is not open")))
        }
        Some(number) => Err(Error::config(format!("--preserve-fds {count}: descriptor {number} is not open"))),
    }
}

fn find_writers(plan: &NamespacesPlan) -> Result<Writers> {
    Writers::find(&plan.uid_mappings, &plan.gid_mappings, &Caller::find()?)
}

/// Opens the sources of mounts that only the host's side may open, and that need not wait for the container's namespaces.
fn open_sources(plan: &Plan, joined: &namespaces::Handles) -> Result<Option<Sources>> {
    let (namespaces, rootfs) = (&plan.init.namespaces, &plan.init.rootfs);
    let sources = if namespaces.restricts_mounts() {
        // One that the container's side opens by itself is no mount whose ids it could map.
        return if plan.init.opens_sources { rootfs.check_not_mapped().map(|()| None) } else { Ok(None) };
    } else if namespaces.has(Namespace::User) && namespaces.has(Namespace::Mount) {
        Some(Sources::open_all(rootfs)?)
    } else {
        Sources::open_mapped(rootfs)?
    };
    if let Some(sources) = &sources {
        sources.map_ids(rootfs, joined.get(Namespace::User))?;
    }
    Ok(sources)
}

/// Opens the sources of mounts in the new namespaces of the process `pid`, which waits for them.
fn send_sources(plan: &Plan, pid: i32, proc: BorrowedFd, channel: &Channel) -> Result<()> {
    let rootfs = &plan.init.rootfs;
    let sources = match namespaces::in_mount_namespace_of(pid, proc, || Sources::open_all(rootfs)) {
        // Root without the privileges of root, such as an engine gives to a container, opens nothing there that the child
        // could not.
        Err(error) if error.errno() == Some(libc::EPERM) && Caller::lacks(capability::SYS_ADMIN)? => {
            rootfs.check_not_mapped()?;
            return channel.send(&Message::Go);
        }
        sources => sources?,
    };
    if rootfs.mounts.iter().any(|mount| mount.id_map.is_some()) {
        let namespace = id_mapping::namespace_of(pid, proc)?;
        sources.map_ids(rootfs, Some(namespace.as_fd()))?;
    }
    // A child that is gone already has left its reason on the channel.
    let _ = channel.send_sources(sources.into_list());
    Ok(())
}

type Inputs =
    (namespaces::Handles, Option<Writers>, Option<OwnedFd>, Option<Option<Sources>>, Option<systemd::Connection>);
type Made = (Channel, Option<OwnedFd>, Option<Box<Signals>>);

fn make(unfinished: &mut Unfinished, plan: &Plan, inputs: Inputs, start: Start) -> Result<Made> {
    let (joined, writers, console, sources, systemd) = inputs;
    unfinished.entry.write(&unfinished.record)?;
    // Until it is started, a unit of that name is somebody else's.
    let unit = unfinished.record.unit.take();
    if plan.init.activation.as_ref().is_some_and(|activation| activation.notify_socket.is_some()) {
        readiness::make_directory(unfinished.entry.directory())?;
    }
    let sources = sources.map_or_else(|| open_sources(plan, &joined), Ok)?;

    // 3. The control group that the first process is born in, with its limits.
    let cgroup = unfinished.cgroup.insert(Cgroup::begin(&plan.cgroup)?);
    if let Some(resctrl) = &mut unfinished.resctrl {
        resctrl.make()?;
    }

    // 4. The first process, born in its namespaces and in its cgroup.
    let attending = if let Start::Attended(signals) = &start { Some(*signals) } else { None };
    let (gate, meeting, signals) = match start {
        Start::Later => {
            let meeting = unfinished.record.notifies().then(|| unfinished.entry.make_meeting()).transpose()?;
            (Gate::Fifo(unfinished.entry.make_gate()?), meeting, None)
        }
        Start::Now(signals) => (Gate::Channel, None, signals),
        Start::Attended(_) if plan.init.held => (Gate::Channel, None, None),
        Start::Attended(_) => (Gate::Open, None, None),
    };
    let held = attending.or(signals.as_deref());
    let (ours, theirs) = Channel::pair()?;
    let state = unfinished.record.oci_state();
    let handles = Handles { channel: theirs, joined, sources, gate, meeting, state: state.clone() };
    let (pid, pidfd, channel) = init::clone_first_process(&plan.init, handles, held, ours, cgroup.birth_fd()?)
        .map_err(|error| cgroup.explain_birth(error))?;
    unfinished.process = Some((pid, pidfd));

    // 5. What only the host's side can do for it: its ids, the sources of its mounts, the control groups of other hierarchies
    //    or of systemd's, its network devices, what the OOM killer is to think of it.
    let proc = procfs::handle()?;
    if let Some(writers) = writers {
        let NamespacesPlan { uid_mappings, gid_mappings, .. } = &plan.init.namespaces;
        // A child that is gone has left its reason on the channel.
        let written = writers.write(uid_mappings, gid_mappings, pid, proc.as_fd());
        written.map_err(|error| channel.failure().unwrap_or(error))?;
    }
    if plan.init.namespaces.restricts_mounts() && !plan.init.opens_sources {
        // A child that is gone has left its reason on the channel.
        send_sources(plan, pid, proc.as_fd(), &channel).map_err(|error| channel.failure().unwrap_or(error))?;
    }
    if let (Some(scope), Some(mut connection)) = (&plan.cgroup.scope, systemd) {
        scope.start(&mut connection, pid)?;
        unfinished.record.unit = unit;
    }
    cgroup.finish(&plan.cgroup)?;
    if let Some(devices) = &mut unfinished.devices {
        devices.move_to(pid, proc.as_fd())?;
    }
    // Before the process is another user: its files in procfs are not this user's any more then.
    process::set_oom_score(&plan.init.process, proc.as_fd(), &pid.to_string())?;
    if plan.init.waits {
        // A child that is gone already has left its reason on the channel.
        let mut entrance = cgroup.entrance()?;
        if let Some(resctrl) = &unfinished.resctrl {
            entrance.tasks.extend(resctrl.open_tasks()?);
        }
        let _ = channel.send(&Message::Enter(entrance));
    }
    // Whoever has its pid later must not take another process for it.
    unfinished.record.process = ProcessId::of(pid, proc.as_fd())?;

    // 6. It makes itself ready meanwhile, and asks for what it needs.
    let mut master = None;
    loop {
        match channel.receive()? {
            Some(Message::Terminal(fd)) => match &console {
                Some(socket) => terminal::console::send_master(socket.as_fd(), fd.as_fd())?,
                None => {
                    terminal::relay::fit(fd.as_fd());
                    master = Some(fd);
                }
            },
            Some(Message::Note(text)) => log::warn!("{text}"),
            Some(Message::Hooks) => {
                // Hooks come after the lifecycle's step 2, which is what "creating" stands for (runtime.md, "State").
                let state = hooks::state_json(&state, pid, ContainerState::Created)?;
                let cwd = Some(plan.init.bundle.as_path());
                let alive = unfinished.process.as_ref().map(|(_, pidfd)| pidfd.as_fd());
                hooks::run("prestart", &plan.init.hooks.prestart, &state, cwd, alive)?;
                hooks::run("createRuntime", &plan.init.hooks.create_runtime, &state, cwd, alive)?;
                let _ = channel.send(&Message::Go);
            }
            Some(Message::Ready) => break,
            Some(Message::Failed(error)) => return Err(error),
            Some(_) => return Err(Error::system("the container's process says what is not its to say")),
            None => return Err(early_end("the container's first process", pid)),
        }
    }
    Ok((channel, master, signals))
}

/// How a process ended, `who`, that did not say why.
pub(super) fn early_end(who: &str, pid: i32) -> Error {
    let how = match wait(Which::Pid(pid), true) {
        Ok(Some((_, Ending::Killed(signal)))) => format!("was killed by signal {signal}"),
        Ok(Some((_, Ending::Exited(status)))) => format!("exited with status {status}"),
        _ => "ended".to_owned(),
    };
    Error::system(format!("{who} {how} before it was ready (out of memory, or of its limits?)"))
}

fn tell(unfinished: &mut Unfinished, options: &CreateOptions, pidfd_socket: Option<&OwnedFd>) -> Result<()> {
    let (Some((pid, pidfd)), Some(process)) = (&unfinished.process, unfinished.record.process) else {
        return Ok(());
    };
    unfinished.entry.write_process(process)?;
    if let Some(socket) = pidfd_socket {
        terminal::console::send_pidfd(socket.as_fd(), terminal::console::PIDFD_OF_INIT, pidfd.as_fd())?;
    }
    options.pid_file.as_deref().map_or(Ok(()), |path| write_pid_file(path, *pid))
}

/// Writes the pid to a file beside and renames it, so that nobody reads half of it.
///
/// # Errors
/// Names the file.
pub(super) fn write_pid_file(path: &Path, pid: i32) -> Result<()> {
    replace(path, pid.to_string().as_bytes()).context(|| format!("write the pid file {:?}", path.display().to_string()))
}

fn replace(path: &Path, text: &[u8]) -> Result<()> {
    let name = path.file_name().ok_or_else(|| Error::config("it is not the path of a file"))?;
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let temporary = format!(".{}.{}", name.to_string_lossy(), std::process::id());
    let mode = nix::sys::stat::Mode::from_bits_retain(0o644);
    let directory =
        nix::fcntl::open(parent, OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, nix::sys::stat::Mode::empty())?;
    let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_CLOEXEC;
    let file = nix::fcntl::openat(&directory, temporary.as_str(), flags, mode)?;
    let written = std::fs::File::from(file).write_all(text).map_err(Error::from);
    let renamed = written.and_then(|()| Ok(nix::fcntl::renameat(&directory, temporary.as_str(), &directory, name)?));
    renamed.inspect_err(|_| {
        // The error is about the file that was wanted.
        let _ = unlinkat(&directory, temporary.as_str(), UnlinkatFlags::NoRemoveDir);
    })
}

/// The maps of a plain user's container that has control groups, if others are in it than that user: what those make of the
/// groups takes a namespace with the same maps to be removed.
fn subordinate(plan: &Plan) -> Option<(Vec<IdMapping>, Vec<IdMapping>)> {
    let NamespacesPlan { uid_mappings: uids, gid_mappings: gids, .. } = &plan.init.namespaces;
    let others = uids.iter().map(|map| u64::from(map.size)).sum::<u64>() > 1;
    (plan.init.opens_sources && others && !plan.cgroup.groups.is_empty()).then(|| (uids.clone(), gids.clone()))
}

fn record_of(bundle: &Bundle, plan: &Plan, options: &CreateOptions) -> Record {
    let annotations: BTreeMap<String, String> = bundle.spec.annotations().clone().into_iter().flatten().collect();
    Record {
        id: options.id.clone(),
        bundle: bundle.dir.clone(),
        rootfs: bundle.rootfs.clone(),
        begun: clock::ticks_since_boot(),
        created: clock::rfc3339(SystemTime::now()),
        annotations,
        process: None,
        cgroups: plan.cgroup.cgroups(),
        unit: plan.cgroup.scope.as_ref().map(|scope| scope.unit.clone()),
        resources: bundle.spec.linux().as_ref().and_then(|linux| linux.resources().clone()),
        resctrl: None,
        subordinate: subordinate(plan),
        joining: if plan.init.attended && !plan.init.held {
            // Nobody joins what lives and ends with one command.
            init::Container::default()
        } else {
            init::Container {
                namespaces: plan.init.namespaces.own(),
                process: plan.init.process.clone(),
                seccomp: plan.init.seccomp.as_ref().map(|filter| filter.finished().into()),
                keep_keyring: plan.init.keep_keyring,
            }
        },
        mounts_on_host: None,
        own_pids: plan.init.namespaces.makes(Namespace::Pid),
        nothing_to_start: plan.init.process.is_missing(),
        poststart: plan.init.hooks.poststart.clone(),
        poststop: plan.init.hooks.poststop.clone(),
    }
}

/// Reads the little that the other end of a pipe wrote before it closed it.
pub(super) fn read_to_end(fd: BorrowedFd) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut part = [0_u8; 4096];
    loop {
        match nix::unistd::read(fd, &mut part) {
            Ok(0) | Err(nix::errno::Errno::EAGAIN) => return Ok(bytes),
            Ok(length) => bytes.extend_from_slice(&part[..length]),
            Err(nix::errno::Errno::EINTR) => {}
            Err(errno) => return Err(errno).context(|| format!("read descriptor {}", fd.as_raw_fd())),
        }
    }
}
