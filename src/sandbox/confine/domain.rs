//! Landlock's domains: what a process and all that it makes can reach (landlock(7)). A domain cannot be left, and one that is
//! made inside another lets through no more.

use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible, NetPort, PathBeneath, Ruleset, RulesetAttr,
    RulesetCreated, RulesetCreatedAttr, RulesetStatus, Scope,
};
use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::stat::{Mode, fstat};
use std::path::Path;

use super::plan::Reach;
use crate::error::{Context, Error, Result};

/// A domain that is ready to be entered.
#[derive(Debug)]
pub struct Domain(RulesetCreated);

impl Domain {
    /// The domain for what `reach` says, and for `private`, a directory to be written to. With landlock of version `abi` all
    /// that this version can hold is held.
    ///
    /// # Errors
    /// A path that is not there; the kernel's.
    pub fn of_files(reach: &Reach, private: Option<&Path>, abi: u32) -> Result<Self> {
        let abi = ABI::from(i32::try_from(abi).unwrap_or(i32::MAX));
        let (read, all) = (AccessFs::from_read(abi), AccessFs::from_all(abi));
        let mut ruleset = Ruleset::default().set_compatibility(CompatLevel::HardRequirement).handle_access(all);
        if reach.tcp.is_some() && abi >= ABI::V4 {
            ruleset = ruleset.and_then(|ruleset| ruleset.handle_access(AccessNet::ConnectTcp));
        }
        if reach.listen.is_some() && abi >= ABI::V4 {
            ruleset = ruleset.and_then(|ruleset| ruleset.handle_access(AccessNet::BindTcp));
        }
        if abi >= ABI::V6 {
            ruleset = ruleset.and_then(|ruleset| ruleset.scope(Scope::AbstractUnixSocket | Scope::Signal));
        }
        let mut domain = Self(ruleset.and_then(Ruleset::create).map_err(refused)?);
        let write = all & !(AccessFs::MakeChar | AccessFs::MakeBlock | AccessFs::IoctlDev);
        for (list, access) in [(&reach.read, read), (&reach.write, write)] {
            for path in list {
                domain = domain.let_through(path, access, abi).context(|| format!("show {path:?}"))?;
            }
        }
        if let Some(private) = private {
            domain = domain.let_through(private, write, abi).context(|| format!("show {private:?}"))?;
        }
        let settings = AccessFs::ReadFile | AccessFs::ReadDir;
        let mut devices = AccessFs::ReadFile | AccessFs::WriteFile;
        if abi >= ABI::V5 {
            devices |= AccessFs::IoctlDev;
        }
        for (list, access) in [(&reach.system, read), (&reach.settings, settings), (&reach.devices, devices)] {
            for path in list {
                domain = match domain.try_let_through(Path::new(path), access, abi) {
                    Err((domain, error)) if error.errno() == Some(Errno::ENOENT as i32) => domain,
                    Err((_, error)) => return Err(error.context(format!("show {path:?}"))),
                    Ok(domain) => domain,
                };
            }
        }
        for port in reach.tcp.iter().flatten().filter(|_| abi >= ABI::V4) {
            domain.0 = domain.0.add_rule(NetPort::new(*port, AccessNet::ConnectTcp)).map_err(refused)?;
        }
        Ok(domain)
    }

    /// The domain of a process that may send signals only to what it has made since: everything else is as it was.
    ///
    /// # Errors
    /// The kernel's.
    pub fn of_signals() -> Result<Self> {
        let ruleset = Ruleset::default().set_compatibility(CompatLevel::HardRequirement).scope(Scope::Signal);
        ruleset.and_then(Ruleset::create).map(Self).map_err(refused)
    }

    /// Has this process enter it, for good. It has `no_new_privs` set, or CAP_SYS_ADMIN.
    ///
    /// # Errors
    /// landlock_restrict_self(2)'s; if the kernel would hold less than the domain says.
    pub fn enter(self) -> Result<()> {
        let status = self.0.no_new_privs(false).restrict_self().map_err(refused)?;
        if status.ruleset != RulesetStatus::FullyEnforced {
            return Err(Error::unsupported(format!(
                "landlock: the kernel holds it only in part ({:?})",
                status.ruleset
            )));
        }
        Ok(())
    }

    fn let_through(self, path: &Path, access: BitFlags<AccessFs>, abi: ABI) -> Result<Self> {
        self.try_let_through(path, access, abi).map_err(|(_, error)| error)
    }

    /// On failure to open the path, gives the domain back.
    fn try_let_through(
        mut self,
        path: &Path,
        access: BitFlags<AccessFs>,
        abi: ABI,
    ) -> std::result::Result<Self, (Self, Error)> {
        let opened = open(path, OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty());
        let fd = match opened.and_then(|fd| Ok((fstat(&fd)?, fd))) {
            Err(errno) => return Err((self, errno.into())),
            Ok((stat, fd)) if stat.st_mode & libc::S_IFMT == libc::S_IFDIR => (fd, access),
            Ok((_, fd)) => (fd, access & AccessFs::from_file(abi)),
        };
        match (&mut self.0).add_rule(PathBeneath::new(fd.0, fd.1)) {
            Ok(_) => Ok(self),
            Err(error) => Err((self, refused(error))),
        }
    }
}

fn refused(error: impl std::error::Error) -> Error {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text = inner.to_string();
        cause = inner.source();
    }
    Error::system(format!("landlock: {text}"))
}
