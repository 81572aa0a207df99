//! What is kept of sessions, and where: a directory each, `/run/procrt-sessions/NAME` or below `XDG_RUNTIME_DIR`, with the
//! record and the keeper's socket. Workspaces are on disk, in the user's cache.

use std::fs::{self, DirBuilder};
use std::io::ErrorKind;
use std::os::fd::AsFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::container::ProcessId;
use crate::error::{Context, Error, Kind, Result};
use crate::host::procfs;
use crate::sandbox::backend::Choice;
use crate::sandbox::policy::Policy;
use crate::sandbox::running::Job;
use crate::sandbox::tree::shown;
use crate::sandbox::{cache_directory, engine, place};

const RECORD: &str = "session.json";
const SOCKET: &str = "control";

/// What is remembered of a session.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// Its name.
    pub name: String,
    /// The process that keeps it.
    pub keeper: ProcessId,
    /// The id of its container.
    pub container: String,
    /// The policy in force.
    pub policy: Policy,
    /// The environment of its commands.
    pub environment: Vec<String>,
    /// Where its maker was.
    pub caller_cwd: PathBuf,
    /// What carries the policy out.
    pub backend: Choice,
    /// The copy that is its workspace.
    pub workspace: Option<PathBuf>,
    /// When it was started, RFC 3339.
    pub started: String,
    /// Why it has ended, if it has by itself.
    #[serde(default)]
    pub ended: Option<String>,
}

impl Record {
    /// What a command of the session would be carried out as, or the session with another policy.
    pub fn job(&self) -> Job {
        Job {
            policy: self.policy.clone(),
            // It is not run: it stands for those that come.
            command: vec!["-".into()],
            environment: self.environment.clone(),
            caller_cwd: self.caller_cwd.clone(),
            terminal: false,
        }
    }

    /// Whether its keeper lives.
    pub fn is_kept(&self) -> bool {
        let process = procfs::handle().and_then(|proc| ProcessId::of(self.keeper.pid, proc.as_fd()));
        process.is_ok_and(|process| process == Some(self.keeper))
    }
}

/// The sessions of a user.
#[derive(Debug, Clone)]
pub struct Sessions(PathBuf);

impl Sessions {
    /// Those of this process's user.
    ///
    /// # Errors
    /// If their directory is somebody else's, or cannot be made.
    pub fn of_user() -> Result<Self> {
        place::of_user("procrt-sessions").map(Self)
    }

    fn directory(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// The address of a session's keeper.
    pub fn socket(&self, name: &str) -> PathBuf {
        self.directory(name).join(SOCKET)
    }

    /// Takes a name.
    ///
    /// # Errors
    /// [`Kind::Exists`] if a session has it. One whose keeper was killed has it no more, and is removed.
    pub fn claim(&self, name: &str) -> Result<()> {
        let plain = |c: char| c.is_ascii_alphanumeric() || "_.-".contains(c);
        if name.is_empty() || name.len() > 64 || !name.chars().all(plain) || name.starts_with('.') {
            return Err(Error::config(format!(
                "{name:?} is no name of a session: at most 64 letters, digits, '_', '-' and '.', which is not the first"
            )));
        }
        let begin = || DirBuilder::new().mode(0o700).create(self.directory(name));
        let done = match begin() {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => match self.read(name) {
                Ok(record) if record.is_kept() => return Err(taken(name)),
                Ok(record) => self.clear(&record).map(|()| begin())?,
                // Somebody is starting it now, or was killed at that long ago.
                Err(error) if error.kind() == Kind::State && !self.is_old(name) => return Err(taken(name)),
                Err(_) => {
                    fs::remove_dir_all(self.directory(name)).context(|| format!("remove the session {name:?}"))?;
                    begin()
                }
            },
            done => done,
        };
        done.context(|| format!("make the session {name:?}"))
    }

    /// Whether a session's directory was made more than five minutes ago.
    fn is_old(&self, name: &str) -> bool {
        let made = fs::metadata(self.directory(name)).and_then(|metadata| metadata.modified());
        made.is_ok_and(|made| made.elapsed().is_ok_and(|age| age.as_secs() > 300))
    }

    /// A session's record.
    ///
    /// # Errors
    /// [`Kind::NotFound`] if there is none; [`Kind::State`] if it is being started.
    pub fn read(&self, name: &str) -> Result<Record> {
        let path = self.directory(name).join(RECORD);
        let text = match fs::read(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound && self.directory(name).exists() => {
                return Err(Error::new(Kind::State, format!("the session {name:?} is being started")));
            }
            Err(error) if error.kind() == ErrorKind::NotFound => {
                return Err(Error::new(Kind::NotFound, format!("there is no session {name:?}")));
            }
            text => text.context(|| format!("read {}", shown(&path)))?,
        };
        serde_json::from_slice(&text).map_err(|error| Error::system(format!("{}: {error}", shown(&path))))
    }

    /// Writes a session's record.
    ///
    /// # Errors
    /// If it cannot be written; then the one before stays.
    pub fn write(&self, record: &Record) -> Result<()> {
        let path = self.directory(&record.name).join(RECORD);
        let what = || format!("write {}", shown(&path));
        let text = serde_json::to_vec(record).map_err(|error| Error::system(error.to_string())).context(what)?;
        let beside = path.with_extension("next");
        fs::write(&beside, text).and_then(|()| fs::rename(&beside, &path)).context(what)
    }

    /// All records, by name. One that cannot be read is logged.
    ///
    /// # Errors
    /// If the directory cannot be read.
    pub fn all(&self) -> Result<Vec<Record>> {
        let mut all = Vec::new();
        for entry in fs::read_dir(&self.0).context(|| shown(&self.0))?.flatten() {
            match self.read(&entry.file_name().to_string_lossy()) {
                Ok(record) => all.push(record),
                Err(error) if matches!(error.kind(), Kind::NotFound | Kind::State) => {}
                Err(error) => log::error!("{error}"),
            }
        }
        all.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(all)
    }

    /// Removes all of a session whose keeper is gone, or is this process.
    ///
    /// # Errors
    /// What could not be removed.
    pub fn clear(&self, record: &Record) -> Result<()> {
        match crate::container::delete(&engine::store()?, &record.container, true) {
            Err(error) if error.kind() != Kind::NotFound => return Err(error),
            _ => {}
        }
        if let Some(workspace) = &record.workspace {
            gone(fs::remove_dir_all(workspace)).context(|| format!("remove the workspace {}", shown(workspace)))?;
        }
        self.give_up(&record.name)
    }

    /// Gives a name back.
    ///
    /// # Errors
    /// If its directory cannot be removed.
    pub fn give_up(&self, name: &str) -> Result<()> {
        gone(fs::remove_dir_all(self.directory(name))).context(|| format!("remove the session {name:?}"))
    }

    /// A new directory for a session's workspace. Those of sessions that are gone are removed.
    ///
    /// # Errors
    /// If it cannot be made.
    pub fn make_workspace(&self, name: &str) -> Result<PathBuf> {
        let all = cache_directory()?.join("workspaces");
        let what = || format!("make a workspace in {}", shown(&all));
        DirBuilder::new().recursive(true).mode(0o700).create(&all).context(what)?;
        for entry in fs::read_dir(&all).context(what)?.flatten() {
            // NAME and a directory each session has its own of.
            if !self.directory(&entry.file_name().to_string_lossy()).exists() {
                let _ = fs::remove_dir_all(entry.path());
            }
        }
        let path = all.join(name);
        gone(fs::remove_dir_all(&path)).context(what)?;
        DirBuilder::new().mode(0o755).create(&path).context(what)?;
        Ok(path)
    }
}

fn taken(name: &str) -> Error {
    Error::new(Kind::Exists, format!("there is a session {name:?} already"))
}

fn gone(removed: std::io::Result<()>) -> std::io::Result<()> {
    match removed {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}
