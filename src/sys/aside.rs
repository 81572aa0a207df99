//! A process that shares this one's memory and descriptors, and nothing else.

use std::ffi::{c_int, c_void};

use nix::errno::Errno;

use super::child::{Which, wait};

/// What the process's stack holds, in bytes: enough for a few calls and their messages, also in a build for debugging.
const STACK: usize = 256 * 1024;

struct Task<F, T> {
    act: Option<F>,
    answer: Option<T>,
}

extern "C" fn run<F: FnOnce() -> T, T>(task: *mut c_void) -> c_int {
    // SAFETY: it is the task of `aside`, which does nothing with it until this process has ended (CLONE_VFORK).
    let task = unsafe { &mut *task.cast::<Task<F, T>>() };
    task.answer = task.act.take().map(|act| act());
    0
}

/// Has a process of its own do something while this one waits. What it opens is open here, and what it writes to memory is
/// written here; but its root, working directory and namespaces are its own, and gone with it. It must not panic.
///
/// # Errors
/// As clone(2); `ECHILD` if the process ended before it was done.
pub fn aside<F: FnOnce() -> T, T>(act: F) -> Result<T, Errno> {
    let mut stack: Vec<u128> = Vec::with_capacity(STACK / size_of::<u128>());
    let mut task = Task { act: Some(act), answer: None };
    let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::CLONE_FILES | libc::SIGCHLD;
    // SAFETY: the stack grows down from its end, which is aligned as it has to be; it and the task are there until the
    // process has ended, since this one does not go on before (CLONE_VFORK), so nothing else uses them or the thread's own
    // storage meanwhile. `run` is given the task that it is for.
    let pid = Errno::result(unsafe {
        let top = stack.as_mut_ptr().add(stack.capacity()).cast();
        libc::clone(run::<F, T>, top, flags, (&raw mut task).cast())
    })?;
    wait(Which::Pid(pid), true)?;
    task.answer.ok_or(Errno::ECHILD)
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd;

    use super::*;

    #[test]
    fn what_it_opens_is_open_and_what_it_changes_of_itself_is_gone() {
        let (own, before) = (std::process::id(), std::env::current_dir().unwrap());
        let (other, file) = aside(|| {
            nix::unistd::chdir("/proc").unwrap();
            (nix::unistd::getpid(), std::fs::File::open("self/status"))
        })
        .unwrap();
        assert_ne!(other.as_raw(), own as i32);
        assert!(file.unwrap().as_raw_fd() > 2);
        assert_eq!(std::env::current_dir().unwrap(), before);
    }
}
