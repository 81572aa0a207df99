//! Starting a program, reaching it through its pidfd and learning how it ended, where nix cannot: nix's spawn sets no
//! working directory and closes no descriptors, and its wait functions fail on a death by a real-time signal.

use std::ffi::{CStr, CString, c_char, c_int, c_short};
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr;

use nix::errno::Errno;
use nix::sys::signal::SigSet;

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// It exited with this status, 0 to 255.
    Exited(i32),
    /// This signal killed it, real-time ones included.
    Killed(i32),
}

/// A program to be started by [`spawn`].
#[derive(Debug, Clone, Copy)]
pub struct Program<'a> {
    /// The file that is executed, no search.
    pub path: &'a CStr,
    /// Its arguments, the first being its name.
    pub args: &'a [CString],
    /// Its whole environment.
    pub env: &'a [CString],
    /// Its working directory; the caller's if none.
    pub cwd: Option<&'a CStr>,
    /// What its descriptors 0, 1 and 2 are copies of; each must itself be above 2.
    pub stdio: [BorrowedFd<'a>; 3],
}

/// The two objects of posix_spawn(3), freed together.
struct SpawnSetup {
    actions: libc::posix_spawn_file_actions_t,
    attributes: libc::posix_spawnattr_t,
}

impl SpawnSetup {
    fn new() -> Result<Self, Errno> {
        let mut actions = MaybeUninit::uninit();
        let mut attributes = MaybeUninit::uninit();
        // SAFETY: each init function fills the object it is given, which is ours; on the second's failure the first,
        // which is initialized, is destroyed; both are initialized when they are taken as such.
        unsafe {
            answer(libc::posix_spawn_file_actions_init(actions.as_mut_ptr()))?;
            if let Err(errno) = answer(libc::posix_spawnattr_init(attributes.as_mut_ptr())) {
                libc::posix_spawn_file_actions_destroy(actions.as_mut_ptr());
                return Err(errno);
            }
            Ok(Self { actions: actions.assume_init(), attributes: attributes.assume_init() })
        }
    }
}

impl Drop for SpawnSetup {
    fn drop(&mut self) {
        // SAFETY: both objects were initialized by `new` and are not used again.
        unsafe {
            libc::posix_spawn_file_actions_destroy(&raw mut self.actions);
            libc::posix_spawnattr_destroy(&raw mut self.attributes);
        }
    }
}

/// The posix_spawn family answers an error number rather than setting one.
fn answer(code: c_int) -> Result<(), Errno> {
    if code == 0 { Ok(()) } else { Err(Errno::from_raw(code)) }
}

/// Starts a program as a child that leads a process group of its own, with no signal blocked or ignored and no descriptor
/// but 0, 1 and 2; answers its pid. The child borrows the caller's memory until it executes (`CLONE_VFORK`), so this costs
/// the same however large the caller is, and a program that cannot be executed is an error here.
///
/// # Errors
/// execve(2)'s, chdir(2)'s, clone(2)'s.
pub fn spawn(program: &Program) -> Result<i32, Errno> {
    let mut setup = SpawnSetup::new()?;
    let vector = |strings: &[CString]| -> Vec<*mut c_char> {
        strings.iter().map(|s| s.as_ptr().cast_mut()).chain([ptr::null_mut()]).collect()
    };
    let (args, env) = (vector(program.args), vector(program.env));
    let flags = libc::POSIX_SPAWN_SETSIGMASK | libc::POSIX_SPAWN_SETSIGDEF | libc::POSIX_SPAWN_SETPGROUP;
    let (none, all) = (SigSet::empty(), SigSet::all());
    let mut pid = 0;
    // SAFETY: `setup` is initialized; the sets, strings and NULL-terminated vectors are valid until posix_spawn returns,
    // which it does only when the child has executed or failed; the strings are only read, whatever their type says.
    unsafe {
        for (descriptor, from) in (0..).zip(&program.stdio) {
            answer(libc::posix_spawn_file_actions_adddup2(&raw mut setup.actions, from.as_raw_fd(), descriptor))?;
        }
        #[cfg(target_env = "gnu")]
        answer(libc::posix_spawn_file_actions_addclosefrom_np(&raw mut setup.actions, 3))?;
        if let Some(cwd) = program.cwd {
            answer(libc::posix_spawn_file_actions_addchdir_np(&raw mut setup.actions, cwd.as_ptr()))?;
        }
        answer(libc::posix_spawnattr_setsigmask(&raw mut setup.attributes, none.as_ref()))?;
        answer(libc::posix_spawnattr_setsigdefault(&raw mut setup.attributes, all.as_ref()))?;
        answer(libc::posix_spawnattr_setflags(&raw mut setup.attributes, flags as c_short))?;
        answer(libc::posix_spawn(
            &raw mut pid,
            program.path.as_ptr(),
            &raw const setup.actions,
            &raw const setup.attributes,
            args.as_ptr(),
            env.as_ptr(),
        ))?;
    }
    Ok(pid)
}

/// Which children [`wait`] is about.
#[derive(Debug, Clone, Copy)]
pub enum Which<'a> {
    /// The child that this pidfd refers to.
    Pidfd(BorrowedFd<'a>),
    /// The child with this pid.
    Pid(i32),
    /// Whichever.
    Any,
}

/// Takes the ending of a child, with its pid. Without `block`, `None` says that none of `which` has ended.
///
/// # Errors
/// `ECHILD` if there is no such child.
pub fn wait(which: Which, block: bool) -> Result<Option<(i32, Ending)>, Errno> {
    let (kind, id) = match which {
        Which::Pidfd(fd) => (libc::P_PIDFD, fd.as_raw_fd() as libc::id_t),
        Which::Pid(pid) => (libc::P_PID, pid as libc::id_t),
        Which::Any => (libc::P_ALL, 0),
    };
    let flags = libc::WEXITED | if block { 0 } else { libc::WNOHANG };
    loop {
        // SAFETY: all zeros is a valid siginfo_t, and what the call leaves if nothing has ended.
        let mut info: libc::siginfo_t = unsafe { MaybeUninit::zeroed().assume_init() };
        // SAFETY: the call writes one siginfo_t through the pointer, which is valid and exclusive for the call.
        match Errno::result(unsafe { libc::waitid(kind, id, &raw mut info, flags) }) {
            Err(Errno::EINTR) => continue,
            other => other?,
        };
        // SAFETY: waitid fills these fields, or they are the zeros from above.
        let (pid, status) = unsafe { (info.si_pid(), info.si_status()) };
        let ending = if info.si_code == libc::CLD_EXITED { Ending::Exited(status) } else { Ending::Killed(status) };
        return Ok((pid != 0).then_some((pid, ending)));
    }
}

/// Has the kernel take children away as soon as they have ended (waitpid(2), NOTES), those too that others leave to this
/// process.
///
/// # Errors
/// None that sigaction(2) gives for this signal.
pub fn leave_to_kernel() -> Result<(), Errno> {
    // SAFETY: all zeros is a valid sigaction: the default action, no flags, an empty mask.
    let mut ignore: libc::sigaction = unsafe { MaybeUninit::zeroed().assume_init() };
    ignore.sa_sigaction = libc::SIG_IGN;
    // SAFETY: the pointer is valid for the call; to ignore runs no code of ours.
    Errno::result(unsafe { libc::sigaction(libc::SIGCHLD, &raw const ignore, ptr::null_mut()) }).map(drop)
}

/// While it lives, SIGCHLD is not ignored. A process that ignores SIGCHLD, which it may have been started with, never
/// learns how its children ended: the kernel reaps them at once (waitpid(2), NOTES). A handler is left as it is.
#[derive(Debug)]
#[must_use = "the former action comes back when this is dropped"]
pub struct ChildrenKept {
    former: Option<libc::sigaction>,
}

impl ChildrenKept {
    /// Gives SIGCHLD its default action if it is ignored.
    ///
    /// # Errors
    /// None that sigaction(2) gives for this signal.
    pub fn new() -> Result<Self, Errno> {
        // SAFETY: all zeros is a valid sigaction: the default action, no flags, an empty mask.
        let mut former: libc::sigaction = unsafe { MaybeUninit::zeroed().assume_init() };
        // SAFETY: the call writes one sigaction through the pointer, which is valid and exclusive for the call.
        Errno::result(unsafe { libc::sigaction(libc::SIGCHLD, ptr::null(), &raw mut former) })?;
        if former.sa_sigaction != libc::SIG_IGN && former.sa_flags & libc::SA_NOCLDWAIT == 0 {
            return Ok(Self { former: None });
        }
        // SAFETY: as above.
        let default: libc::sigaction = unsafe { MaybeUninit::zeroed().assume_init() };
        // SAFETY: the pointer is valid for the call; a default action runs no code of ours.
        Errno::result(unsafe { libc::sigaction(libc::SIGCHLD, &raw const default, ptr::null_mut()) })?;
        Ok(Self { former: Some(former) })
    }
}

impl Drop for ChildrenKept {
    fn drop(&mut self) {
        if let Some(former) = &self.former {
            // SAFETY: this is the action that was in force before; its handler, if any, is still the program's.
            unsafe { libc::sigaction(libc::SIGCHLD, former, ptr::null_mut()) };
        }
    }
}
