//! Where containers are kept: a directory an id under the root, which holds the record, the start gate and a lock.
//!
//! `mkdir` decides who has an id. The record is a file of two lines, each written once and by one write(2): what is to be
//! made, before it is, and the first process, when it is there. A line counts once its end is written, so that a reader
//! without the lock sees a whole one. The lock is on the directory itself, and goes with the process that holds it.

use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg, OFlag, open, openat, renameat};
use nix::sys::socket::{Backlog, SockType, UnixAddr, bind, listen};
use nix::sys::stat::{FchmodatFlags, Mode, fchmodat, fstat, mkdirat};
use nix::unistd::{UnlinkatFlags, mkfifoat, unlinkat};

use super::readiness;
use super::record::{ProcessId, Record};
use crate::error::{Context, Error, Kind, Result};
use crate::sys;

const RECORD: &str = "state.json";
const GATE: &str = "start";
/// The record's name until it takes the other's place.
const NEXT_RECORD: &str = "state.json.next";
/// The start gate's name from when it is about to be opened.
const OPENED: &str = "started";
/// The socket beside the start gate.
const MEETING: &str = "meeting";

/// Where the containers of one runtime root are kept (`--root`).
#[derive(Debug, Clone)]
pub struct Store {
    root: PathBuf,
    /// The root is in a directory from which what has not been used for some time is removed.
    pruned: bool,
}

impl Store {
    /// The store at `root`; the directory is made when the first container is.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into(), pruned: false }
    }

    /// The store in a user's runtime directory, `$XDG_RUNTIME_DIR`.
    pub fn in_runtime_dir(dir: &Path) -> Self {
        Self { root: dir.join("procrt"), pruned: true }
    }

    /// The directory that holds one directory per container.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Where the container `id` has the directory of the socket for word of readiness, if it has one; absolute.
    pub fn notify_directory(&self, id: &str) -> PathBuf {
        let path = self.root.join(id).join(readiness::DIRECTORY);
        std::path::absolute(&path).unwrap_or(path)
    }

    /// Takes `id`: makes its directory, and locks it.
    ///
    /// # Errors
    /// [`Kind::Exists`] if the id is in use.
    pub fn claim(&self, id: &str) -> Result<Entry> {
        let what = || format!("make the container's directory in {:?}", self.root.display().to_string());
        let root = match self.open_root() {
            Err(error) if error.errno() == Some(libc::ENOENT) => {
                self.make_root().context(what)?;
                self.open_root().context(what)?
            }
            answer => answer.context(what)?,
        };
        match mkdirat(&root, id, Mode::S_IRWXU) {
            Ok(()) => {}
            Err(Errno::EEXIST) => {
                return Err(Error::new(Kind::Exists, format!("create {id:?}: container with given ID already exists")));
            }
            Err(errno) => return Err(errno).context(what),
        }
        Entry::open(root, id)?.lock()
    }

    /// The container `id`, without its lock: for those who only read.
    ///
    /// # Errors
    /// [`Kind::NotFound`] if there is none.
    pub fn find(&self, id: &str) -> Result<Entry> {
        let root = self.open_root().map_err(|error| not_found(id, error))?;
        Entry::open(root, id)
    }

    /// The container `id` with its lock: for those who change it.
    ///
    /// # Errors
    /// [`Kind::NotFound`] if there is none.
    pub fn lock(&self, id: &str) -> Result<Entry> {
        self.find(id)?.lock()
    }

    /// The ids of all containers, sorted.
    ///
    /// # Errors
    /// If the root cannot be read; a root that is not there has no containers.
    pub fn ids(&self) -> Result<Vec<String>> {
        let entries = match std::fs::read_dir(&self.root) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error).context(|| format!("read {:?}", self.root.display().to_string())),
        };
        let directories = entries.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
        let mut ids: Vec<String> = directories.filter_map(|entry| entry.file_name().into_string().ok()).collect();
        ids.sort();
        Ok(ids)
    }

    fn make_root(&self) -> Result<()> {
        let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.root);
        let denied = |error: &std::io::Error| error.kind() == std::io::ErrorKind::PermissionDenied;
        if made.as_ref().is_err_and(denied) && std::env::var_os("XDG_RUNTIME_DIR").is_none() {
            let why = "it is root's; XDG_RUNTIME_DIR, the directory of a user's, is not set, and neither is --root";
            return Err(Error::from(Errno::EACCES).context(why));
        }
        made?;
        if self.pruned {
            // So it says that it is to stay (XDG Base Directory Specification).
            std::fs::set_permissions(&self.root, std::fs::Permissions::from_mode(0o1700))?;
        }
        Ok(())
    }

    fn open_root(&self) -> Result<OwnedFd> {
        Ok(open(&self.root, OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())?)
    }
}

fn not_found(id: &str, error: Error) -> Error {
    match error.errno() {
        // engines look for this wording
        Some(libc::ENOENT) => Error::new(Kind::NotFound, format!("{id:?}: container does not exist")),
        _ => error.context(format!("open the container {id:?}")),
    }
}

/// One container's directory.
#[derive(Debug)]
pub struct Entry {
    id: String,
    root: OwnedFd,
    directory: OwnedFd,
    lock: Option<Flock<File>>,
}

impl Entry {
    fn open(root: OwnedFd, id: &str) -> Result<Self> {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let directory = openat(&root, id, flags, Mode::empty()).map_err(|errno| not_found(id, errno.into()))?;
        Ok(Self { id: id.to_owned(), root, directory, lock: None })
    }

    fn lock(mut self) -> Result<Self> {
        let what = || format!("lock the container {:?}", self.id);
        let mut file = File::from(self.directory.try_clone().context(what)?);
        loop {
            match Flock::lock(file, FlockArg::LockExclusive) {
                Ok(lock) => {
                    self.lock = Some(lock);
                    break;
                }
                Err((again, Errno::EINTR)) => file = again,
                Err((_, errno)) => return Err(errno).context(what),
            }
        }
        // Who had the lock before may have removed the container.
        if fstat(&self.directory).context(what)?.st_nlink == 0 {
            return Err(not_found(&self.id, Errno::ENOENT.into()));
        }
        Ok(self)
    }

    /// The other containers of the same root.
    ///
    /// # Errors
    /// If the root cannot be read.
    pub fn others(&self) -> Result<Vec<Self>> {
        let what = || "read the directory of containers";
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let mut root = nix::dir::Dir::openat(&self.root, ".", flags, Mode::empty()).context(what)?;
        let mut others = Vec::new();
        for found in root.iter() {
            let found = found.context(what)?;
            let name = found.file_name().to_string_lossy();
            if name.starts_with('.') || name == self.id.as_str() {
                continue;
            }
            // What is gone by now, or is no directory, is no container.
            let root = self.root.try_clone().context(what)?;
            others.extend(Self::open(root, &name).ok());
        }
        Ok(others)
    }

    /// Whether nobody has its lock now.
    pub fn is_free(&self) -> bool {
        let file = self.directory.try_clone().map(File::from);
        file.is_ok_and(|file| Flock::lock(file, FlockArg::LockExclusiveNonblock).is_ok())
    }

    /// Lets others change the container.
    pub fn unlock(&mut self) {
        self.lock = None;
    }

    /// The container's id.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The uid that created the container.
    ///
    /// # Errors
    /// As fstat(2).
    pub fn owner(&self) -> Result<u32> {
        Ok(fstat(&self.directory)?.st_uid)
    }

    /// Reads the record; nothing where `create` was killed before it wrote one.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn read(&self) -> Result<Option<Record>> {
        let what = || format!("read the state of {:?}", self.id);
        let file = match openat(&self.directory, RECORD, OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty()) {
            Ok(file) => File::from(file),
            Err(Errno::ENOENT) => return Ok(None),
            Err(errno) => return Err(errno).context(what),
        };
        let text = std::io::read_to_string(file).context(what)?;
        // What has no end was being written when somebody was killed, or is being written now: it does not count.
        let mut lines = text.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n'));
        let fault = |error: serde_json::Error| Error::system(format!("{}: {error}", what()));
        let Some(first) = lines.next() else {
            return Ok(None);
        };
        let mut record: Record = serde_json::from_str(first).map_err(fault)?;
        record.process = lines.next().map(serde_json::from_str).transpose().map_err(fault)?;
        Ok(Some(record))
    }

    /// Writes the record of a container that is about to be made.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn write(&self, record: &Record) -> Result<()> {
        let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        self.write_line(record, flags)
    }

    /// Adds the first process to the record, once it is there.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn write_process(&self, process: ProcessId) -> Result<()> {
        self.write_line(&process, OFlag::O_WRONLY | OFlag::O_APPEND | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC)
    }

    fn write_line(&self, value: &impl serde::Serialize, flags: OFlag) -> Result<()> {
        self.write_text(RECORD, &self.line(value)?, flags)
    }

    /// Puts another record in the place of the one that is there: a reader sees the one or the other.
    ///
    /// # Errors
    /// If it cannot be written; then the one that was there stays.
    pub fn replace(&self, record: &Record) -> Result<()> {
        let mut text = self.line(record)?;
        if let Some(process) = record.process {
            text.append(&mut self.line(&process)?);
        }
        let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_TRUNC | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        self.write_text(NEXT_RECORD, &text, flags)?;
        let what = || format!("write the state of {:?}", self.id);
        renameat(&self.directory, NEXT_RECORD, &self.directory, RECORD).context(what)
    }

    fn line(&self, value: &impl serde::Serialize) -> Result<Vec<u8>> {
        let what = || format!("write the state of {:?}", self.id);
        let mut line = serde_json::to_vec(value).map_err(|error| Error::system(format!("{}: {error}", what())))?;
        line.push(b'\n');
        Ok(line)
    }

    fn write_text(&self, name: &str, text: &[u8], flags: OFlag) -> Result<()> {
        let what = || format!("write the state of {:?}", self.id);
        let file = openat(&self.directory, name, flags, Mode::S_IRUSR | Mode::S_IWUSR).context(what)?;
        File::from(file).write_all(text).context(what)
    }

    /// Makes the start gate and gives a handle on it.
    ///
    /// # Errors
    /// As mkfifo(3).
    pub fn make_gate(&self) -> Result<OwnedFd> {
        let what = || "make the start gate";
        mkfifoat(&self.directory, GATE, Mode::S_IRUSR | Mode::S_IWUSR).context(what)?;
        // Whoever the container's user is, it may write; nobody but the owner of the directory reaches it by path.
        fchmodat(&self.directory, GATE, Mode::from_bits_retain(0o622), FchmodatFlags::FollowSymlink).context(what)?;
        openat(&self.directory, GATE, OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC, Mode::empty()).context(what)
    }

    /// Whether the container waits at its start gate.
    pub fn has_gate(&self) -> bool {
        nix::sys::stat::fstatat(&self.directory, GATE, nix::fcntl::AtFlags::AT_SYMLINK_NOFOLLOW).is_ok()
    }

    /// Takes the start gate away and opens it for reading, which lets the container go on. It is not the gate any more when
    /// it is opened: whoever is killed here leaves a container that counts as started, and which nobody starts again.
    ///
    /// # Errors
    /// As rename(2), open(2) and unlink(2).
    pub fn open_gate(&self) -> Result<OwnedFd> {
        let what = || "open the start gate";
        renameat(&self.directory, GATE, &self.directory, OPENED).context(what)?;
        let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let gate = openat(&self.directory, OPENED, flags, Mode::empty()).context(what)?;
        unlinkat(&self.directory, OPENED, UnlinkatFlags::NoRemoveDir).context(what)?;
        Ok(gate)
    }

    /// Takes the start gate away: the container is started.
    ///
    /// # Errors
    /// As unlink(2).
    pub fn remove_gate(&self) -> Result<()> {
        unlinkat(&self.directory, GATE, UnlinkatFlags::NoRemoveDir).context(|| "remove the start gate")
    }

    /// Makes the socket at which a container that has something to hand over when it is started meets who starts it, and
    /// gives its listening end.
    ///
    /// # Errors
    /// As socket(2) and bind(2).
    pub fn make_meeting(&self) -> Result<OwnedFd> {
        let make = || {
            let socket = sys::socket::unix(SockType::SeqPacket)?;
            bind(socket.as_raw_fd(), &self.meeting()?)?;
            // One who is killed between connecting and opening the gate stays in the queue.
            listen(&socket, Backlog::MAXCONN)?;
            Ok::<_, Errno>(socket)
        };
        make().context(|| "make the socket beside the start gate")
    }

    /// Meets the container there, before it looks for anybody; nothing if it is gone.
    ///
    /// # Errors
    /// As connect(2).
    pub fn meet(&self) -> Result<Option<OwnedFd>> {
        let meet = || {
            let socket = sys::socket::unix(SockType::SeqPacket)?;
            nix::sys::socket::connect(socket.as_raw_fd(), &self.meeting()?)?;
            Ok::<_, Errno>(socket)
        };
        match meet() {
            Ok(socket) => Ok(Some(socket)),
            Err(Errno::ECONNREFUSED | Errno::ENOENT) => Ok(None),
            Err(errno) => Err(errno).context(|| "connect to the socket beside the start gate"),
        }
    }

    /// Its address: through the directory's descriptor, as the path may be longer than an address can be.
    fn meeting(&self) -> nix::Result<UnixAddr> {
        UnixAddr::new(format!("/proc/self/fd/{}/{MEETING}", self.directory.as_raw_fd()).as_str())
    }

    /// Removes the directory and all that procrt keeps in it.
    ///
    /// # Errors
    /// If anything of it stays.
    pub fn remove(&self) -> Result<()> {
        let what = || format!("remove the directory of the container {:?}", self.id);
        match unlinkat(&self.directory, RECORD, UnlinkatFlags::NoRemoveDir) {
            Ok(()) | Err(Errno::ENOENT) => {}
            Err(errno) => return Err(errno).context(what),
        }
        let remove = || unlinkat(&self.root, self.id.as_str(), UnlinkatFlags::RemoveDir);
        let removed = match remove() {
            // A container that was started and has ended rarely has any more than that.
            Err(Errno::ENOTEMPTY) => {
                self.empty().context(what)?;
                remove()
            }
            removed => removed,
        };
        match removed {
            Ok(()) | Err(Errno::ENOENT) => Ok(()),
            Err(errno) => Err(errno).context(what),
        }
    }

    fn empty(&self) -> Result<()> {
        for name in [GATE, OPENED, NEXT_RECORD, MEETING] {
            match unlinkat(&self.directory, name, UnlinkatFlags::NoRemoveDir) {
                Ok(()) | Err(Errno::ENOENT) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        readiness::remove_directory(self.directory.as_fd())
    }

    /// The directory.
    pub fn directory(&self) -> BorrowedFd<'_> {
        self.directory.as_fd()
    }
}

#[cfg(test)]
mod tests;
