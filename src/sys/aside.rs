//! A process that shares this one's memory and descriptors, and nothing else.

use std::ffi::{c_int, c_void};

use nix::errno::Errno;

use super::child::{Which, wait};

/// What the process's stack holds, in bytes: enough for a few calls and their messages, also in a build for debugging.
const STACK: usize = 256 * 1024;

/// Below the stack: whoever needs more of it is ended, and writes to nothing else. The largest page there is.
const GUARD: usize = 64 * 1024;

/// Memory for a stack, with a guard below.
struct Stack(*mut c_void);

impl Stack {
    fn new() -> Result<Self, Errno> {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_STACK;
        // SAFETY: new memory at a place of the kernel's choice.
        let base = unsafe {
            libc::mmap(std::ptr::null_mut(), GUARD + STACK, libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0)
        };
        if base == libc::MAP_FAILED {
            return Err(Errno::last());
        }
        let stack = Self(base);
        // SAFETY: its own memory, which nothing uses yet.
        Errno::result(unsafe { libc::mprotect(base, GUARD, libc::PROT_NONE) })?;
        Ok(stack)
    }

    /// Where it begins to grow down from, aligned as it has to be.
    fn top(&self) -> *mut c_void {
        self.0.wrapping_byte_add(GUARD + STACK)
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        // SAFETY: its own memory, which nobody uses any more.
        unsafe { libc::munmap(self.0, GUARD + STACK) };
    }
}

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
    let stack = Stack::new()?;
    let mut task = Task { act: Some(act), answer: None };
    let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::CLONE_FILES | libc::SIGCHLD;
    // SAFETY: the stack grows down from its end; it and the task are there until the
    // process has ended, since this one does not go on before (CLONE_VFORK), so nothing else uses them or the thread's own
    // storage meanwhile. `run` is given the task that it is for.
    let pid = Errno::result(unsafe { libc::clone(run::<F, T>, stack.top(), flags, (&raw mut task).cast()) })?;
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
