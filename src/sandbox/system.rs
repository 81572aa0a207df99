//! What of the host's system directories a sandbox's root is made of: looked at once, before anything is decided.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use nix::fcntl::readlink;
use nix::sys::stat::stat;
use serde::Serialize;

/// Where programs and their libraries are. What is a symbolic link on the host is one in the sandbox.
const PROGRAMS: [&str; 7] = ["/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32"];

/// What programs look for in /etc and that is nobody's secret. /etc/passwd and the like are made, not shown.
const SETTINGS: [&str; 11] = [
    "/etc/alternatives",
    "/etc/java-11-openjdk",
    "/etc/java-17-openjdk",
    "/etc/java-21-openjdk",
    "/etc/java-25-openjdk",
    "/etc/ld.so.cache",
    "/etc/localtime",
    "/etc/os-release",
    "/etc/pki/ca-trust/extracted",
    "/etc/pki/tls/certs",
    "/etc/ssl/certs",
];

/// The same, but small: a copy costs less than a mount.
const SMALL: [&str; 4] = ["/etc/nsswitch.conf", "/etc/protocols", "/etc/services", "/etc/ssl/openssl.cnf"];

/// What is no longer small, in bytes.
const LARGE: u64 = 64 << 10;

/// With the host's network: how names are found there.
const RESOLVER: &str = "/etc/resolv.conf";

/// Something of the host's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub enum Kind {
    /// A directory, which is bound.
    Directory,
    /// A file, which is bound.
    File,
    /// A file of which there is a copy, with this content.
    Copied(String),
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

/// What is at a path; with `links`, a symbolic link is itself.
fn kind(path: &Path, links: bool) -> Option<Kind> {
    if links && let Ok(target) = readlink(path) {
        return Some(Kind::Link(target.into()));
    }
    let stat = stat(path).ok()?;
    Some(if stat.st_mode & libc::S_IFMT == libc::S_IFDIR { Kind::Directory } else { Kind::File })
}

fn copied(path: &Path) -> Option<Kind> {
    let mut text = String::new();
    File::open(path).ok()?.take(LARGE).read_to_string(&mut text).ok()?;
    Some(if text.len() as u64 == LARGE { Kind::File } else { Kind::Copied(text) })
}

impl System {
    /// Looks at this machine; `network`: also at what the host's network takes.
    pub fn find(network: bool) -> Self {
        let paths = PROGRAMS.iter().chain(&SETTINGS);
        let mut entries: Vec<_> = paths.filter_map(|path| Some((path.into(), kind(path.as_ref(), true)?))).collect();
        entries.extend(SMALL.iter().filter_map(|path| Some((path.into(), copied(path.as_ref())?))));
        // It leads to somewhere below /run, as a rule.
        let resolver = network.then(|| Some((RESOLVER.into(), kind(RESOLVER.as_ref(), false)?)));
        entries.extend(resolver.flatten());
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
        assert_eq!(system.entries[0], ("/usr".into(), Kind::Directory));
        for (path, _) in &system.entries {
            let path = path.to_str().unwrap();
            assert!(!path.contains("shadow") && !path.contains("ssh") && !path.contains("private"), "{path}");
            assert_ne!(path, "/etc");
        }
    }
}
