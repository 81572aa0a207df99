//! What of the host's system directories a sandbox's root is made of: looked at once, before anything is decided.

use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::readlink;
use serde::Serialize;

/// Where programs and their libraries are. What is a symbolic link on the host is one in the sandbox.
const PROGRAMS: [&str; 7] = ["/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32"];

/// What programs look for in /etc and that is nobody's secret. /etc/passwd and the like are made, not shown.
const SETTINGS: [&str; 17] = [
    "/etc/alternatives",
    "/etc/java-11-openjdk",
    "/etc/java-17-openjdk",
    "/etc/java-21-openjdk",
    "/etc/java-25-openjdk",
    "/etc/ld.so.cache",
    "/etc/localtime",
    "/etc/mime.types",
    "/etc/nsswitch.conf",
    "/etc/os-release",
    "/etc/pki/ca-trust/extracted",
    "/etc/pki/tls/certs",
    "/etc/protocols",
    "/etc/services",
    "/etc/ssl/certs",
    "/etc/ssl/openssl.cnf",
    "/etc/terminfo",
];

/// With the host's network: how names are found there.
const RESOLVER: &str = "/etc/resolv.conf";

/// Something of the host's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub enum Kind {
    /// A file or directory, which is bound.
    Bound,
    /// A symbolic link to this.
    Link(PathBuf),
}

/// What there is, absolute paths.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct System {
    /// In an order in which each can be made.
    pub entries: Vec<(PathBuf, Kind)>,
    /// Home directories, if somebody has asked for them.
    pub homes: Vec<PathBuf>,
}

impl System {
    /// Looks at this machine; `network`: also at what the host's network takes.
    pub fn find(network: bool) -> Self {
        let paths = PROGRAMS.iter().chain(&SETTINGS).chain(network.then_some(&RESOLVER));
        let kind = |path: &Path| match readlink(path) {
            Ok(target) => Some(Kind::Link(target.into())),
            Err(Errno::EINVAL) => Some(Kind::Bound),
            Err(_) => None,
        };
        let mut entries: Vec<_> = paths.filter_map(|path| Some((path.into(), kind(path.as_ref())?))).collect();
        if let Some(entry) = entries.iter_mut().find(|(path, _)| path == Path::new(RESOLVER)) {
            // It leads to somewhere below /run, as a rule.
            entry.1 = Kind::Bound;
        }
        Self { entries, homes: Vec::new() }
    }

    /// Looks for home directories too: root's, those where homes are by convention, and the caller's.
    #[must_use]
    pub fn with_homes(mut self) -> Self {
        self.homes.push("/root".into());
        let listed = std::fs::read_dir("/home").into_iter().flatten().flatten();
        self.homes.extend(listed.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())).map(|e| e.path()));
        let own = std::env::var_os("HOME").map(PathBuf::from).filter(|home| home.is_absolute());
        self.homes.extend(own.and_then(|home| home.canonicalize().ok()));
        self.homes.sort();
        self.homes.dedup();
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_has_programs_and_no_secrets_are_among_it() {
        let system = System::find(true);
        assert_eq!(system.entries[0], ("/usr".into(), Kind::Bound));
        for (path, _) in &system.entries {
            let path = path.to_str().unwrap();
            assert!(!path.contains("shadow") && !path.contains("ssh") && !path.contains("private"), "{path}");
            assert_ne!(path, "/etc");
        }
    }
}
