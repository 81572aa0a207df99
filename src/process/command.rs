//! Finding the program in the container, and becoming it.

use std::ffi::CString;
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;

use nix::errno::Errno;
use nix::sys::stat::stat;
use nix::unistd::{AccessFlags, access};

use super::ProcessPlan;
use crate::error::{Error, Kind, Result};
use crate::sys::mount::c_string;
use crate::sys::process::{StringTable, exec_path};

/// Where execvp(3) looks when the environment has no PATH.
const DEFAULT_PATH: &str = "/bin:/usr/bin";

/// As much of the container's /etc/passwd as is read.
const PASSWD_LIMIT: u64 = 1 << 20;

/// A program that was found, with its arguments and environment.
#[derive(Debug)]
pub struct Command {
    shown: String,
    path: CString,
    arguments: StringTable,
    environment: StringTable,
}

impl Command {
    /// Finds the program as this process, inside the container, in the working directory: a name without a slash in the
    /// PATH of the container's environment.
    ///
    /// # Errors
    /// [`Kind::ProgramNotFound`] or [`Kind::ProgramNotExecutable`], worded as engines look for it.
    pub fn find(plan: &ProcessPlan) -> Result<Self> {
        let name = plan.args.first().map(String::as_str).unwrap_or_default();
        let path = if name.contains('/') {
            executable(name).map_err(|errno| refusal(name, errno))?;
            name.to_owned()
        } else {
            search(name, &plan.env)?
        };
        let table = |strings: Vec<String>| -> Result<StringTable> {
            Ok(StringTable::new(strings.into_iter().map(c_string).collect::<std::result::Result<_, Errno>>()?))
        };
        let mut env = plan.env.clone();
        if !env.iter().any(|text| text.starts_with("HOME=")) {
            env.push(format!("HOME={}", home_of(plan.uid).unwrap_or_else(|| "/".to_owned())));
        }
        Ok(Self {
            shown: name.to_owned(),
            path: c_string(path)?,
            arguments: table(plan.args.clone())?,
            environment: table(env)?,
        })
    }

    /// Becomes the program. Returns only if that fails.
    pub fn exec(&self) -> Error {
        let errno = exec_path(&self.path, &self.arguments, &self.environment);
        let kind = if errno == Errno::ENOENT { Kind::ProgramNotFound } else { Kind::ProgramNotExecutable };
        Error::from(errno).context(format!("exec {:?}", self.shown)).of_kind(kind)
    }
}

fn executable(path: &str) -> std::result::Result<(), Errno> {
    let kind = stat(path)?.st_mode & libc::S_IFMT;
    if kind == libc::S_IFDIR {
        return Err(Errno::EISDIR);
    }
    // The real ids are the effective ones by now. Root without CAP_DAC_OVERRIDE is refused here as it would be later.
    access(path, AccessFlags::X_OK)
}

fn refusal(name: &str, errno: Errno) -> Error {
    match errno {
        Errno::ENOENT | Errno::ENOTDIR => {
            Error::from(errno).context(format!("exec: {name:?}: stat {name}")).of_kind(Kind::ProgramNotFound)
        }
        _ => Error::from(errno).context(format!("exec: {name:?}")).of_kind(Kind::ProgramNotExecutable),
    }
}

fn search(name: &str, env: &[String]) -> Result<String> {
    let path = env.iter().rev().find_map(|text| text.strip_prefix("PATH=")).unwrap_or(DEFAULT_PATH);
    let mut refused = None;
    for directory in path.split(':') {
        let directory = if directory.is_empty() { "." } else { directory };
        let candidate = format!("{directory}/{name}");
        match executable(&candidate) {
            Ok(()) => return Ok(candidate),
            Err(Errno::EACCES) => refused = Some(Errno::EACCES),
            Err(_) => {}
        }
    }
    match refused {
        Some(errno) => Err(refusal(name, errno)),
        None => Err(Error::new(Kind::ProgramNotFound, format!("exec: {name:?}: executable file not found in $PATH"))),
    }
}

/// The home directory that the container's own /etc/passwd gives the user.
fn home_of(uid: u32) -> Option<String> {
    // An image can have anything there: a FIFO must not hang this, nor an endless file fill the memory.
    let file = std::fs::OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY)
        .open("/etc/passwd")
        .ok()?;
    if !file.metadata().ok()?.is_file() {
        return None;
    }
    let mut text = Vec::new();
    file.take(PASSWD_LIMIT).read_to_end(&mut text).ok()?;
    let text = String::from_utf8_lossy(&text);
    text.lines().find_map(|line| {
        let mut fields = line.split(':');
        let id = fields.nth(2)?;
        let home = fields.nth(2)?;
        (id.parse() == Ok(uid) && !home.is_empty() && !home.contains('\0')).then(|| home.to_owned())
    })
}
