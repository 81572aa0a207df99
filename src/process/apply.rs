//! Becoming the container's process; the steps' order is the caller's (`init`).

use std::os::fd::BorrowedFd;

use nix::errno::Errno;
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::sys::prctl;
use nix::sys::stat::{Mode, umask};
use nix::unistd::{Gid, Pid, Uid, chdir, getcwd, setresgid, setresuid};

use super::ProcessPlan;
use crate::error::{Context, Error, Result};
use crate::host::caller::Caller;
use crate::host::{lsm, procfs};
use crate::sys::mount::c_string;
use crate::sys::process::{self, ThreadCapabilities};

/// Joins a session keyring of the container's own, with the process's label if there is one, so that it sees no key of the
/// caller's. `proc` is the host's procfs, which a label takes.
///
/// # Errors
/// As keyctl(2); a kernel without keyrings has nothing to keep apart.
pub fn new_session_keyring(id: &str, plan: &ProcessPlan, proc: Option<BorrowedFd>) -> Result<()> {
    let (Some(label), Some(proc)) = (&plan.selinux_label, proc) else {
        return join_session_keyring(id);
    };
    let what = || format!("process.selinuxLabel: label the session keyring {label:?}");
    procfs::write(proc, "self/attr/keycreate", label).context(what)?;
    join_session_keyring(id)?;
    lsm::clear(proc, "keycreate").context(what)
}

fn join_session_keyring(id: &str) -> Result<()> {
    match process::join_session_keyring(&c_string(format!("_ses.{id}"))?) {
        Ok(()) | Err(Errno::ENOSYS) => Ok(()),
        Err(errno) => Err(errno).context(|| "join a new session keyring"),
    }
}

/// Sets what takes privileges that the container's user may not have, or what the container's filter may forbid: limits,
/// priorities, the memory policy, labels.
///
/// # Errors
/// Names the setting and its value.
pub fn set_limits(plan: &ProcessPlan, proc: BorrowedFd) -> Result<()> {
    for limit in &plan.rlimits {
        process::set_rlimit(limit.resource, limit.soft, limit.hard)
            .context(|| format!("process.rlimits: set {} to {}, at most {}", limit.name, limit.soft, limit.hard))?;
    }
    if let Some(attributes) = plan.scheduler {
        process::set_scheduler(attributes).context(|| "process.scheduler: set it")?;
    }
    if let Some((class, level)) = plan.io_priority {
        process::set_io_priority(class, level).context(|| "process.ioPriority: set it")?;
    }
    if let Some(domain) = plan.personality {
        nix::sys::personality::set(nix::sys::personality::Persona::from_bits_retain(domain as i32))
            .context(|| format!("linux.personality: set {domain:#x}"))?;
    }
    if let Some(policy) = &plan.memory_policy {
        policy.set()?;
    }
    if let Some(profile) = &plan.apparmor_profile {
        lsm::confine_at_exec(proc, profile).context(|| format!("process.apparmorProfile: set {profile:?}"))?;
    }
    if let Some(label) = &plan.selinux_label {
        procfs::write(proc, "self/attr/exec", label).context(|| format!("process.selinuxLabel: set {label:?}"))?;
    }
    Ok(())
}

/// Confines this thread to `cpus`, of which those that its control group does not allow are left out; none: as it is.
///
/// # Errors
/// `EINVAL` if none of them is there and allowed.
pub fn set_affinity(cpus: &[usize]) -> Result<()> {
    if cpus.is_empty() {
        return Ok(());
    }
    let what = || format!("process.execCPUAffinity: run on CPUs {cpus:?}");
    let mut set = CpuSet::new();
    cpus.iter().try_for_each(|cpu| set.set(*cpu)).context(what)?;
    sched_setaffinity(Pid::from_raw(0), &set).context(what)
}

/// Lets this thread run on every CPU that its control group allows, wherever its maker was confined to.
///
/// # Errors
/// As sched_setaffinity(2).
pub fn forget_affinity() -> Result<()> {
    let mut every = CpuSet::new();
    (0..CpuSet::count()).try_for_each(|cpu| every.set(cpu)).context(|| "list all CPUs")?;
    sched_setaffinity(Pid::from_raw(0), &every).context(|| "run on every CPU")
}

/// Does something confined to `cpus`, so that a child that it makes is born there; none: as this thread is.
///
/// # Errors
/// As [`set_affinity`].
pub fn with_affinity<T>(cpus: &[usize], act: impl FnOnce() -> T) -> Result<T> {
    if cpus.is_empty() {
        return Ok(act());
    }
    let former = sched_getaffinity(Pid::from_raw(0)).context(|| "read the CPU affinity")?;
    set_affinity(cpus)?;
    let done = act();
    sched_setaffinity(Pid::from_raw(0), &former).context(|| "restore the CPU affinity")?;
    Ok(done)
}

/// Sets the OOM killer's adjustment of `who`, a pid or `self`, through the host's procfs. It takes the host's privileges: in a
/// user namespace the file is not even the process's own. One that is gone is not missed.
///
/// # Errors
/// `EACCES` where it would become less likely to be killed, without CAP_SYS_RESOURCE.
pub fn set_oom_score(plan: &ProcessPlan, proc: BorrowedFd, who: &str) -> Result<()> {
    let Some(score) = plan.oom_score_adj else {
        return Ok(());
    };
    let write = || procfs::write(proc, &format!("{who}/oom_score_adj"), &score.to_string());
    let written = match write() {
        // A plain user's process that is out of the reach of others is not the owner of its own files in procfs. It is not in
        // the container yet.
        Err(error) if who == "self" && error.errno() == Some(libc::EACCES) && is_plain() => {
            prctl::set_dumpable(true)?;
            let written = write();
            prctl::set_dumpable(false)?;
            written
        }
        written => written,
    };
    match written {
        Err(error) if matches!(error.errno(), Some(libc::ENOENT | libc::ESRCH)) => Ok(()),
        answer => answer.context(|| format!("process.oomScoreAdj: set {score}")),
    }
}

fn is_plain() -> bool {
    Caller::find().is_ok_and(|caller| caller.is_plain())
}

/// Changes to the working directory, which must be inside the root.
///
/// # Errors
/// Names the directory.
pub fn enter_cwd(plan: &ProcessPlan) -> Result<()> {
    let what = || format!("process.cwd: enter {:?}", plan.cwd.display().to_string());
    chdir(&plan.cwd).context(what)?;
    // The kernel names a directory outside of the root by a path that does not begin with a slash.
    match getcwd() {
        Ok(path) if path.is_absolute() => Ok(()),
        _ => Err(Error::config(format!("{}: it is outside of the root", what()))),
    }
}

/// Becomes the container's user, with its groups, umask and capabilities. `hold` are capabilities kept for now, which
/// [`drop_to_final_capabilities`] takes away.
///
/// # Errors
/// Names the id or set that was refused.
pub fn become_user(plan: &ProcessPlan, hold: u64) -> Result<()> {
    let now = process::capabilities().context(|| "read the capabilities")?;
    // What this machine cannot give is left out, as the specification has it; the caller has warned of it.
    let (wanted, have) = (plan.capabilities, now.permitted);
    if now.inheritable != 0 {
        // Of the caller's, what is inheritable here too would stay.
        process::clear_ambient_set().context(|| "empty the ambient set of capabilities")?;
    }
    for capability in 0..64 {
        if wanted.bounding & 1 << capability == 0 {
            match process::drop_from_bounding_set(capability) {
                Ok(()) => {}
                Err(Errno::EINVAL) => break, // past the kernel's last
                Err(errno) => return Err(errno).context(|| "limit the bounding set of capabilities"),
            }
        }
    }
    match process::set_groups(&plan.groups) {
        Ok(()) => {}
        // Where a user namespace denies setgroups there are no groups to be rid of but the caller's own.
        Err(Errno::EPERM) if plan.groups.is_empty() => {}
        Err(Errno::EPERM) => {
            let what = format!(
                "process.user.additionalGids: set {:?}: setgroups is denied in the user namespace",
                plan.groups
            );
            return Err(Error::from(Errno::EPERM).context(what));
        }
        Err(errno) => return Err(errno).context(|| format!("process.user.additionalGids: set {:?}", plan.groups)),
    }
    let (uid, gid) = (Uid::from_raw(plan.uid), Gid::from_raw(plan.gid));
    setresgid(gid, gid, gid).map_err(|errno| not_become("gid", plan.gid, errno))?;
    if plan.uid != 0 {
        prctl::set_keepcaps(true).context(|| "keep capabilities")?;
    }
    setresuid(uid, uid, uid).map_err(|errno| not_become("uid", plan.uid, errno))?;
    umask(Mode::from_bits_retain(plan.umask));
    let hold = hold & have;
    set_capabilities(ThreadCapabilities {
        effective: wanted.effective & have | hold,
        permitted: wanted.permitted & have | hold,
        inheritable: wanted.inheritable & have,
    })?;
    if hold == 0 {
        raise_ambient(plan)?;
    }
    Ok(())
}

fn not_become(field: &str, id: u32, errno: Errno) -> Error {
    let unmapped = if errno == Errno::EINVAL { ": it is not mapped in the container's user namespace" } else { "" };
    Error::from(errno).context(format!("process.user.{field}: become {id}{unmapped}"))
}

/// Takes away what [`become_user`] has held on to.
///
/// # Errors
/// As capset(2).
pub fn drop_to_final_capabilities(plan: &ProcessPlan) -> Result<()> {
    let now = process::capabilities().context(|| "read the capabilities")?;
    let wanted = plan.capabilities;
    set_capabilities(ThreadCapabilities {
        effective: wanted.effective & now.permitted,
        permitted: wanted.permitted & now.permitted,
        inheritable: now.inheritable,
    })?;
    raise_ambient(plan)
}

fn set_capabilities(sets: ThreadCapabilities) -> Result<()> {
    // The effective set is within the permitted one, or the kernel refuses both.
    process::set_capabilities(ThreadCapabilities { effective: sets.effective & sets.permitted, ..sets })
        .context(|| "process.capabilities: set them")
}

fn raise_ambient(plan: &ProcessPlan) -> Result<()> {
    let wanted = plan.capabilities;
    if wanted.ambient == 0 {
        return Ok(());
    }
    let now = process::capabilities().context(|| "read the capabilities")?;
    let possible = wanted.ambient & now.permitted & now.inheritable;
    for capability in (0..64).filter(|capability| possible & 1 << capability != 0) {
        process::raise_ambient(capability).context(|| "process.capabilities.ambient: set it")?;
    }
    Ok(())
}
