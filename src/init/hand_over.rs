//! Installing a filter that notifies a listener, and bringing the listener out to the host's side.
//!
//! From the moment the filter is there it decides every call of the thread, those included that would send the listener
//! away: each may be refused, or wait for an answer of somebody who has no listener to hear of it. So another thread sends
//! it, which is made before and is not under the filter; and the one under it makes no call until the host's side has said
//! that the listener has arrived. The thread is gone when the program begins: execve ends all others.

use std::os::fd::{AsRawFd, RawFd};
use std::sync::atomic::{AtomicI32, AtomicU8, Ordering};
use std::thread;
use std::time::Duration;

use super::channel::{Channel, Message};
use crate::error::{Context, Result};
use crate::seccomp::{self, Finished};
use crate::sys::process::{SchedulerAttributes, exit_now, is_real_time, set_scheduler, take_received};

/// The thread needs little.
const STACK: usize = 64 * 1024;
/// How long it sleeps between two looks: installing takes less.
const NAP: Duration = Duration::from_micros(20);
/// Not a descriptor: there is none yet.
const NONE: RawFd = -1;

/// What the two threads share.
struct Shared {
    begun: AtomicU8,
    listener: AtomicI32,
    arrived: AtomicU8,
}

/// Installs `filter` for this thread; the host's side, at the other end of `channel`, has the listener when this returns.
/// Allocates nothing and makes no call after the filter is there.
///
/// # Errors
/// If there can be no thread, or the kernel refuses the filter: then there is none.
pub(super) fn install(filter: Finished, channel: &Channel) -> Result<()> {
    let channel = channel.another()?;
    // For as long as the process has this memory, which is until execve.
    let shared: &'static Shared = Box::leak(Box::new(Shared {
        begun: AtomicU8::new(0),
        listener: AtomicI32::new(NONE),
        arrived: AtomicU8::new(0),
    }));
    let thread = thread::Builder::new()
        .stack_size(STACK)
        .spawn(move || send(&channel, shared))
        .context(|| "make the thread that sends the filter's listener")?;
    // To let go of it takes calls if it has ended.
    std::mem::forget(thread);

    // On its only processor, a thread in real time that waits without a call would let no other of its kind run: what the
    // kernel keeps back from them is for ordinary threads, and so the other becomes one before this one begins to wait.
    while is_real_time() && shared.begun.load(Ordering::Acquire) == 0 {
        thread::sleep(NAP);
    }

    // The process ends if this fails, and the thread with it.
    let listener = seccomp::install_with_listener(filter)?;
    shared.listener.store(listener.as_raw_fd(), Ordering::Release);
    // The thread closes it.
    std::mem::forget(listener);
    while shared.arrived.load(Ordering::Acquire) == 0 {
        std::hint::spin_loop();
    }
    Ok(())
}

/// The thread: waits for the listener, sends it, and waits for the host's side to have passed it on.
fn send(channel: &Channel, shared: &Shared) {
    if is_real_time() && set_scheduler(SchedulerAttributes::default()).is_err() {
        exit_now(1);
    }
    shared.begun.store(1, Ordering::Release);
    let listener = loop {
        match shared.listener.load(Ordering::Acquire) {
            NONE => thread::sleep(NAP),
            listener => break take_received(listener),
        }
    };
    let passed = channel.send(&Message::Listener(listener)).and_then(|()| channel.wait_for_go());
    if passed.is_err() {
        // The host's side knows why, or is gone. This ends the other thread too, which could not say so.
        exit_now(1);
    }
    shared.arrived.store(1, Ordering::Release);
}
