//! One error type for the whole crate: what was being done, to what, and why it failed.
//!
//! An [`Error`] reads as one sentence with the cause last, `mount "proc" on "/proc": permission denied (os error 13)`,
//! and it survives the trip from a container's first process to the caller unchanged: it is plain data.

use std::fmt::{self, Display};

use serde::{Deserialize, Serialize};

/// What every fallible function of the crate returns.
pub type Result<T> = std::result::Result<T, Error>;

/// The class of a failure, for callers that decide by it rather than read it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Kind {
    /// The configuration, or an argument, is wrong: nothing was made.
    Config,
    /// This kernel or machine cannot do what was asked: nothing was made.
    Unsupported,
    /// The container does not exist.
    NotFound,
    /// The container's id is in use.
    Exists,
    /// The container is in a state in which this cannot be done.
    State,
    /// The container's program is not there (a shell's 127).
    ProgramNotFound,
    /// The container's program is there and cannot be run (a shell's 126).
    ProgramNotExecutable,
    /// A hook failed or ran out of time.
    Hook,
    /// The system refused.
    System,
}

/// A failure: its [`Kind`], what was being done to what, and the system's reason where there is one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Error {
    kind: Kind,
    message: String,
    errno: Option<i32>,
}

impl Error {
    /// An error of `kind` whose whole sentence is `message`.
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), errno: None }
    }

    /// A wrong argument or configuration.
    pub fn config(message: impl Into<String>) -> Self {
        Self::new(Kind::Config, message)
    }

    /// Something that this kernel or this version cannot do.
    pub fn unsupported(message: impl Into<String>) -> Self {
        Self::new(Kind::Unsupported, message)
    }

    /// A failure that is the system's, with no error number to it.
    pub fn system(message: impl Into<String>) -> Self {
        Self::new(Kind::System, message)
    }

    /// The same error one level further out: `what` is put before its sentence.
    #[must_use]
    pub fn context(mut self, what: impl Display) -> Self {
        self.message = if self.message.is_empty() { what.to_string() } else { format!("{what}: {}", self.message) };
        self
    }

    /// The same error as another kind.
    #[must_use]
    pub fn of_kind(mut self, kind: Kind) -> Self {
        self.kind = kind;
        self
    }

    /// The class of this failure.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The system's error number, when the cause was a system call.
    pub fn errno(&self) -> Option<i32> {
        self.errno
    }
}

impl Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        if let Some(errno) = self.errno {
            // The standard library's text, begun in lower case so that it continues a sentence.
            let text = std::io::Error::from_raw_os_error(errno).to_string();
            let mut chars = text.chars();
            let first = chars.next().map(|c| c.to_ascii_lowercase()).unwrap_or_default();
            let separator = if self.message.is_empty() { "" } else { ": " };
            write!(f, "{separator}{first}{}", chars.as_str())?;
        }
        Ok(())
    }
}

impl std::error::Error for Error {}

impl From<nix::errno::Errno> for Error {
    fn from(errno: nix::errno::Errno) -> Self {
        Self { kind: Kind::System, message: String::new(), errno: Some(errno as i32) }
    }
}

impl From<std::io::Error> for Error {
    fn from(error: std::io::Error) -> Self {
        match error.raw_os_error() {
            Some(errno) => Self { kind: Kind::System, message: String::new(), errno: Some(errno) },
            None => Self::system(error.to_string()),
        }
    }
}

/// Adds what was being done to a failure.
pub trait Context<T> {
    /// Puts `what()` before the error's sentence; `what` runs only on failure.
    ///
    /// # Errors
    /// The error itself, with its context.
    fn context<D: Display>(self, what: impl FnOnce() -> D) -> Result<T>;
}

impl<T, E: Into<Error>> Context<T> for std::result::Result<T, E> {
    fn context<D: Display>(self, what: impl FnOnce() -> D) -> Result<T> {
        self.map_err(|error| error.into().context(what()))
    }
}

/// Collects everything that is wrong in one configuration, so that all of it is reported together.
///
/// ```
/// use procrt::error::Faults;
/// let mut faults = Faults::default();
/// faults.add("process.cwd", format_args!("{:?} is not an absolute path", "tmp"));
/// assert_eq!(faults.into_result().unwrap_err().to_string(), r#"process.cwd: "tmp" is not an absolute path"#);
/// ```
#[derive(Debug, Default)]
pub struct Faults {
    faults: Vec<(String, String, Option<Kind>)>,
}

impl Faults {
    /// Records that the value at JSON path `path` (`linux.namespaces[2].type`) is wrong; `what` names the value and says why.
    pub fn add(&mut self, path: impl Into<String>, what: impl Display) {
        self.faults.push((path.into(), what.to_string(), None));
    }

    /// Records that what `path` asks for is right but cannot be had on this machine, or in this version.
    pub fn unsupported(&mut self, path: impl Into<String>, what: impl Display) {
        self.faults.push((path.into(), what.to_string(), Some(Kind::Unsupported)));
    }

    /// Whether nothing is wrong so far.
    pub fn is_empty(&self) -> bool {
        self.faults.is_empty()
    }

    /// One error that names every fault, or nothing.
    ///
    /// # Errors
    /// Whatever was recorded; `Kind::Unsupported` if that is all there is, else `Kind::Config`.
    pub fn into_result(self) -> Result<()> {
        if self.faults.is_empty() {
            return Ok(());
        }
        let unsupported = self.faults.iter().all(|(_, _, kind)| *kind == Some(Kind::Unsupported));
        let sentences: Vec<String> = self.faults.into_iter().map(|(path, what, _)| format!("{path}: {what}")).collect();
        let kind = if unsupported { Kind::Unsupported } else { Kind::Config };
        Err(Error::new(kind, sentences.join("; ")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_one_sentence_with_the_cause_last() {
        let error = Error::from(nix::errno::Errno::EACCES).context(r#"mount "proc" on "/proc""#);
        assert_eq!(error.to_string(), r#"mount "proc" on "/proc": permission denied (os error 13)"#);
        assert_eq!(
            error.context("create a").to_string(),
            r#"create a: mount "proc" on "/proc": permission denied (os error 13)"#
        );
    }

    #[test]
    fn an_error_survives_serialization_whole() {
        let error = Error::from(nix::errno::Errno::ENOENT).context("open").of_kind(Kind::ProgramNotFound);
        let text = serde_json::to_string(&error).unwrap();
        assert_eq!(serde_json::from_str::<Error>(&text).unwrap(), error);
    }

    #[test]
    fn faults_are_reported_together() {
        let mut faults = Faults::default();
        assert!(faults.is_empty());
        faults.add("a.b", "1 is odd");
        faults.unsupported("c", "not here");
        let error = faults.into_result().unwrap_err();
        assert_eq!(error.to_string(), "a.b: 1 is odd; c: not here");
        assert_eq!(error.kind(), Kind::Config);
    }
}
