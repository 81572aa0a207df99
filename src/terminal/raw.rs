//! Raw mode of our own terminal: every key goes to the container, and every byte of its output to the screen as it is.

use std::io::stdin;
use std::sync::{Mutex, Once, PoisonError};

use nix::errno::Errno;
use nix::sys::termios::{SetArg, Termios, cfmakeraw, tcgetattr, tcsetattr};

use crate::error::{Context, Result};

/// The modes that stdin is to have back. Static, so that a panic can reach them in a program that aborts on panics and so
/// runs no destructor.
static FORMER: Mutex<Option<Termios>> = Mutex::new(None);

/// Our stdin in raw mode; it has its former modes back when this is dropped, and when the program panics.
#[derive(Debug)]
pub(super) struct RawMode {
    raw: Termios,
}

impl RawMode {
    /// Puts stdin in raw mode, if it is a terminal.
    ///
    /// # Errors
    /// tcsetattr(3)'s.
    pub(super) fn enter() -> Result<Option<Self>> {
        let what = || "put the terminal in raw mode";
        let former = match tcgetattr(stdin()) {
            Ok(former) => former,
            Err(Errno::ENOTTY | Errno::EBADF | Errno::EIO) => return Ok(None),
            Err(errno) => return Err(errno).context(what),
        };
        restore_on_panic();
        let mut raw = former.clone();
        cfmakeraw(&mut raw);
        *FORMER.lock().unwrap_or_else(PoisonError::into_inner) = Some(former);
        let entered = Self { raw };
        tcsetattr(stdin(), SetArg::TCSANOW, &entered.raw).context(what)?;
        Ok(Some(entered))
    }

    /// Puts stdin in raw mode again: a shell that stopped us and let us go on may have set other modes.
    pub(super) fn again(&self) {
        // A terminal that is gone has no modes; reading it will tell.
        let _ = tcsetattr(stdin(), SetArg::TCSANOW, &self.raw);
    }
}

impl Drop for RawMode {
    fn drop(&mut self) {
        restore();
    }
}

fn restore() {
    // A panic may come while the lock is held: then the modes were not changed yet.
    let former = FORMER.try_lock().ok().and_then(|mut former| former.take());
    if let Some(former) = former {
        // Without waiting for output to be taken, which may never be. Nothing is left to be done if the terminal is gone.
        let _ = tcsetattr(stdin(), SetArg::TCSANOW, &former);
    }
}

fn restore_on_panic() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let next = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            restore();
            next(panic);
        }));
    });
}
