//! The process that keeps a session: the parent of its container's first process, which ends with it, and with that all of
//! the session. It takes requests at a socket, one after the other.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::{Duration, SystemTime};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::{dup2_stderr, dup2_stdin, dup2_stdout, setsid};
use serde::{Deserialize, Serialize};

use super::record::{Record, Sessions};
use crate::container::{Attended, ProcessId};
use crate::error::{Context, Error, Kind, Result};
use crate::host::{clock, procfs};
use crate::sandbox::backend::Choice;
use crate::sandbox::engine;
use crate::sandbox::image::keep_in_place;
use crate::sandbox::policy::Policy;
use crate::sandbox::running::Job;
use crate::sys::process::{close_all_but, exit_now};
use crate::terminal::signals::{Arrived, Signals};

/// How long whoever asks may take to do so, and to hear the answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// What a keeper can be asked to do.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Request {
    /// End the session and remove it.
    Stop,
    /// End all that runs, and go on with another policy: another root.
    Swap {
        /// The policy, effective.
        policy: Box<Policy>,
        /// What carries it out.
        backend: Box<Choice>,
    },
}

/// Asks the keeper of a session.
///
/// # Errors
/// Its answer; [`Kind::State`] if there is no keeper any more.
pub(super) fn ask(sessions: &Sessions, name: &str, request: &Request) -> Result<()> {
    let what = || format!("ask the keeper of the session {name:?}");
    let mut stream = match UnixStream::connect(sessions.socket(name)) {
        Err(error) if matches!(error.raw_os_error(), Some(libc::ECONNREFUSED | libc::ENOENT)) => {
            return Err(Error::new(Kind::State, format!("the session {name:?} has no keeper any more")));
        }
        stream => stream.context(what)?,
    };
    let text = serde_json::to_vec(request).map_err(|error| Error::system(error.to_string())).context(what)?;
    stream.write_all(&text).and_then(|()| stream.shutdown(std::net::Shutdown::Write)).context(what)?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).context(what)?;
    let answer: Result<()> = serde_json::from_slice(&answer)
        .map_err(|_| Error::new(Kind::State, format!("the keeper of the session {name:?} has ended")))?;
    answer
}

/// A session that is kept.
struct Keeper<'a> {
    sessions: &'a Sessions,
    record: Record,
    held: Attended,
    signals: Signals,
    /// Keeps the root in its place, if it is an image's.
    image: Option<File>,
}

/// In a process that was cloned for it: makes and keeps a session, and never returns. `reply` hears how the making went.
pub(super) fn keep(sessions: &Sessions, mut record: Record, reply: OwnedFd) -> ! {
    let mut reply = Some(reply);
    let status = match begin(sessions, &mut record, &mut reply) {
        Err(error) => {
            answer(reply.take(), &Err(error));
            1
        }
        Ok((keeper, listener)) => {
            answer(reply.take(), &Ok(()));
            i32::from(keeper.serve(&listener).is_err())
        }
    };
    exit_now(status)
}

fn answer(to: Option<OwnedFd>, answer: &Result<()>) {
    if let (Some(to), Ok(text)) = (to, serde_json::to_vec(answer)) {
        let _ = File::from(to).write_all(&text);
    }
}

fn begin<'a>(
    sessions: &'a Sessions,
    record: &mut Record,
    reply: &mut Option<OwnedFd>,
) -> Result<(Keeper<'a>, UnixListener)> {
    log::set_max_level(log::LevelFilter::Off);
    let mut kept: Vec<i32> = reply.iter().map(AsRawFd::as_raw_fd).collect();
    close_all_but(3, &mut kept).context(|| "close what is the caller's")?;
    setsid().context(|| "begin a session")?;
    nix::unistd::chdir("/").context(|| "leave the caller's directory")?;
    // Whoever reads what the caller writes is not to wait for a process that stays.
    let null = std::fs::OpenOptions::new().read(true).write(true).open("/dev/null").context(|| "open /dev/null")?;
    dup2_stdin(&null)
        .and_then(|()| dup2_stdout(&null))
        .and_then(|()| dup2_stderr(&null))
        .context(|| "let go of the caller's input and output")?;
    let signals = Signals::block()?;
    let proc = procfs::handle()?;
    let own = ProcessId::of(std::process::id() as i32, proc.as_fd())?;
    record.keeper = own.ok_or_else(|| Error::system("this process cannot find itself in /proc"))?;
    drop(proc);
    let listener = UnixListener::bind(sessions.socket(&record.name)).context(|| "make the session's socket")?;
    let image = lock(&record.policy);
    let held = engine::hold(&record.job(), &signals)?;
    held.id().clone_into(&mut record.container);
    record.started = clock::rfc3339(SystemTime::now());
    sessions.write(record)?;
    Ok((Keeper { sessions, record: record.clone(), held, signals, image }, listener))
}

impl Keeper<'_> {
    /// Until the session is stopped, or ends by itself.
    fn serve(mut self, listener: &UnixListener) -> Result<()> {
        loop {
            let mut fds = [
                PollFd::new(self.signals.fd(), PollFlags::POLLIN),
                PollFd::new(self.held.pidfd(), PollFlags::POLLIN),
                PollFd::new(listener.as_fd(), PollFlags::POLLIN),
            ];
            match poll(&mut fds, PollTimeout::NONE) {
                Err(Errno::EINTR) => continue,
                answer => answer.context(|| "wait for requests")?,
            };
            let [signal, ended, asked] = fds.map(|fd| fd.any() == Some(true));
            if signal {
                while let Some(arrived) = self.signals.next().context(|| "read signals")? {
                    if matches!(arrived, Arrived::Forward(libc::SIGTERM | libc::SIGINT)) {
                        return self.stop();
                    }
                }
            }
            if ended {
                return self.end();
            }
            if asked && let Ok((stream, _)) = listener.accept() {
                match receive(&stream) {
                    Ok(Request::Stop) => {
                        let stopped = self.stop();
                        reply(stream, &stopped);
                        return stopped;
                    }
                    Ok(Request::Swap { policy, backend }) => {
                        let swapped = self.swap(*policy, *backend);
                        reply(stream, &swapped);
                    }
                    Err(error) => reply(stream, &Err(error)),
                }
            }
        }
    }

    fn stop(self) -> Result<()> {
        self.held.remove()?;
        self.sessions.clear(&self.record)
    }

    /// The first process is gone, and all others with it: what is known of that stays until somebody stops the session.
    fn end(mut self) -> Result<()> {
        let oom = self.held.cgroup().usage().oom_kills.is_some_and(|kills| kills > 0);
        let why = if oom { "its memory ran out" } else { "its first process was killed" };
        self.record.ended = Some(why.to_owned());
        self.sessions.write(&self.record)?;
        self.held.remove()
    }

    /// The new root is made before the old one goes: what is wrong with it leaves the session as it is.
    fn swap(&mut self, policy: Policy, backend: Choice) -> Result<()> {
        let job = Job { policy: policy.clone(), ..self.record.job() };
        let image = lock(&job.policy);
        let held = engine::hold(&job, &self.signals)?;
        let record = Record { policy, backend, container: held.id().to_owned(), ..self.record.clone() };
        self.sessions.write(&record)?;
        self.record = record;
        let gone = std::mem::replace(&mut self.held, held).remove();
        self.image = image;
        gone
    }
}

fn lock(policy: &Policy) -> Option<File> {
    policy.files.rootfs.as_deref().and_then(keep_in_place)
}

fn receive(stream: &UnixStream) -> Result<Request> {
    let what = || "read a request";
    stream.set_read_timeout(Some(PATIENCE)).context(what)?;
    let mut text = Vec::new();
    stream.take(1 << 20).read_to_end(&mut text).context(what)?;
    serde_json::from_slice(&text).map_err(|error| Error::config(error.to_string())).context(what)
}

fn reply(stream: UnixStream, answer: &Result<()>) {
    let _ = stream.set_write_timeout(Some(PATIENCE));
    self::answer(Some(stream.into()), answer);
}
