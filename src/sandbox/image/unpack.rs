//! An image's file system, from a tar archive to a directory. The archive is not trusted: nothing of it is written
//! elsewhere, no device is made, and no file keeps privileges that the host would honour.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, OpenHow, ResolveFlag, openat, openat2};
use nix::sys::stat::{Mode, UtimensatFlags, fchmod, futimens, mkdirat, utimensat};
use nix::sys::time::TimeSpec;
use nix::unistd::{Gid, Uid, UnlinkatFlags, fchown, fchownat, linkat, symlinkat, unlinkat};
use serde::{Deserialize, Serialize};
use tar::{Entry, EntryType};

use crate::error::{Context, Error, Result};
use crate::sandbox::tree::shown;

/// What an unpacking came to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unpacked {
    /// Files, directories and links.
    pub files: u64,
    /// Bytes of files.
    pub bytes: u64,
    /// Devices and named pipes, which were left out.
    pub left_out: u64,
}

/// Directories that a root file system is mounted on, made where they are missing.
const MOUNT_POINTS: [(&str, u32); 4] = [("dev", 0o755), ("proc", 0o555), ("sys", 0o555), ("tmp", 0o1777)];

/// Unpacks the archive `from` into the empty directory `to`. Owners are kept if this is root; bits that change ids at
/// execution are not, nor are file capabilities.
///
/// # Errors
/// A path that leaves the directory or goes through a link, or what the system refuses; what is there then is partial.
pub fn unpack(from: &mut dyn Read, to: &Path) -> Result<Unpacked> {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let root = nix::fcntl::open(to, flags, Mode::empty()).context(|| format!("open {}", shown(to)))?;
    let mut unpacking = Unpacking {
        root,
        owners: nix::unistd::geteuid().is_root(),
        parent: None,
        directories: BTreeMap::new(),
        done: Unpacked::default(),
    };
    let mut archive = tar::Archive::new(from);
    for entry in archive.entries().context(|| "read the archive")? {
        let mut entry = entry.context(|| "read the archive")?;
        let path = entry.path().map(std::borrow::Cow::into_owned).context(|| "read the archive")?;
        unpacking.entry(&path, &mut entry).context(|| format!("unpack {}", shown(&path)))?;
    }
    for (name, mode) in MOUNT_POINTS {
        match mkdirat(&unpacking.root, name, Mode::from_bits_retain(mode)) {
            Err(Errno::EEXIST) => {}
            made => {
                made.context(|| format!("make {name:?} in the root"))?;
                unpacking.directories.entry(name.into()).or_insert((mode, 0));
            }
        }
    }
    unpacking.finish()
}

struct Unpacking {
    root: OwnedFd,
    owners: bool,
    /// The directory that the last entry was in: most follow another of the same.
    parent: Option<(PathBuf, OwnedFd)>,
    /// Modes and times that directories get when everything is in them.
    directories: BTreeMap<PathBuf, (u32, u64)>,
    done: Unpacked,
}

impl Unpacking {
    fn entry<R: Read>(&mut self, path: &Path, entry: &mut Entry<R>) -> Result<()> {
        let path = plain(path)?;
        let header = entry.header();
        let kind = header.entry_type();
        let mode = header.mode()? & 0o1777;
        let (uid, gid) = (header.uid()? as u32, header.gid()? as u32);
        let time = header.mtime().unwrap_or(0);
        let stamp = TimeSpec::new(i64::try_from(time).unwrap_or(0), 0);
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            // The top itself.
            self.directories.insert(path, (mode, time));
            return Ok(());
        };
        let owners = self.owners;
        let directory = self.directory(parent)?;
        match kind {
            EntryType::Directory => {
                match mkdirat(&directory, name, Mode::S_IRWXU) {
                    Err(Errno::EEXIST) => drop(openat(&directory, name, DIRECTORY, Mode::empty())?),
                    result => result?,
                }
                if owners {
                    own(&directory, name, uid, gid)?;
                }
                self.directories.insert(path.clone(), (mode, time));
            }
            EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => {
                let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
                let make = || openat(&directory, name, flags, Mode::S_IRUSR | Mode::S_IWUSR);
                let mut file = File::from(replacing(&directory, name, make)?);
                self.done.bytes += std::io::copy(entry, &mut file)?;
                if owners {
                    fchown(&file, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))?;
                }
                fchmod(&file, Mode::from_bits_retain(mode))?;
                futimens(&file, &stamp, &stamp)?;
            }
            EntryType::Symlink => {
                let target = entry.link_name()?.ok_or(Errno::EINVAL)?.into_owned();
                replacing(&directory, name, || symlinkat(&target, &directory, name))?;
                if owners {
                    own(&directory, name, uid, gid)?;
                }
                utimensat(&directory, name, &stamp, &stamp, UtimensatFlags::NoFollowSymlink)?;
            }
            EntryType::Link => {
                let target = entry.link_name()?.ok_or(Errno::EINVAL)?.into_owned();
                let target = plain(&target)?;
                let directory = directory.try_clone()?;
                let (Some(of), Some(other)) = (target.parent(), target.file_name()) else {
                    return Err(Errno::EISDIR.into());
                };
                let source = self.directory(of)?;
                if target != path {
                    replacing(&directory, name, || linkat(&source, other, &directory, name, AtFlags::empty()))?;
                }
            }
            EntryType::Char | EntryType::Block | EntryType::Fifo => {
                self.done.left_out += 1;
                return Ok(());
            }
            other => return Err(Error::config(format!("an entry of a kind that is not known ({other:?})"))),
        }
        self.done.files += 1;
        Ok(())
    }

    /// The directory at `path`, made if it is missing.
    fn directory(&mut self, path: &Path) -> Result<OwnedFd> {
        if let Some((last, fd)) = &self.parent
            && last == path
        {
            return Ok(fd.try_clone()?);
        }
        let fd = match open_beneath(&self.root, path) {
            Err(Errno::ENOENT) => {
                let (parent, name) = (path.parent().unwrap_or(Path::new("")), path.file_name().unwrap_or_default());
                let above = self.directory(parent)?;
                mkdirat(&above, name, Mode::S_IRWXU)?;
                self.directories.insert(path.to_owned(), (0o755, 0));
                open_beneath(&self.root, path)?
            }
            answer => answer?,
        };
        self.parent = Some((path.to_owned(), fd.try_clone()?));
        Ok(fd)
    }

    fn finish(self) -> Result<Unpacked> {
        // Those below first: a directory may be closed to whoever is not root.
        for (path, (mode, time)) in self.directories.iter().rev() {
            let parent = open_beneath(&self.root, path.parent().unwrap_or(Path::new("")));
            let name = path.file_name().unwrap_or(".".as_ref());
            // Replaced by something else since.
            let Ok(parent) = parent else { continue };
            let Ok(directory) = openat(&parent, name, DIRECTORY, Mode::empty()) else { continue };
            // Whoever is not root has to be able to remove all of it.
            let mode = if self.owners { *mode } else { mode | 0o700 };
            let stamp = TimeSpec::new(i64::try_from(*time).unwrap_or(0), 0);
            let done =
                fchmod(&directory, Mode::from_bits_retain(mode)).and_then(|()| futimens(&directory, &stamp, &stamp));
            done.context(|| format!("unpack {}", shown(path)))?;
        }
        Ok(self.done)
    }
}

const DIRECTORY: OFlag = OFlag::O_DIRECTORY.union(OFlag::O_NOFOLLOW).union(OFlag::O_CLOEXEC);

fn open_beneath(root: &OwnedFd, path: &Path) -> std::result::Result<OwnedFd, Errno> {
    let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
    let resolve = ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_SYMLINKS | ResolveFlag::RESOLVE_NO_MAGICLINKS;
    loop {
        match openat2(root, path, OpenHow::new().flags(DIRECTORY | OFlag::O_PATH).resolve(resolve)) {
            Err(Errno::EAGAIN | Errno::EINTR) => {}
            answer => return answer,
        }
    }
}

fn own(directory: &OwnedFd, name: &std::ffi::OsStr, uid: u32, gid: u32) -> Result<()> {
    let ids = (Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
    Ok(fchownat(directory, name, ids.0, ids.1, AtFlags::AT_SYMLINK_NOFOLLOW)?)
}

/// Makes something where a file or a link may be already, which then goes.
fn replacing<T>(
    directory: &OwnedFd,
    name: &std::ffi::OsStr,
    make: impl Fn() -> std::result::Result<T, Errno>,
) -> Result<T> {
    match make() {
        Err(Errno::EEXIST) => {
            unlinkat(directory.as_fd(), name, UnlinkatFlags::NoRemoveDir)?;
            Ok(make()?)
        }
        result => Ok(result?),
    }
}

/// A path of the archive's as one from the root's top.
fn plain(path: &Path) -> Result<PathBuf> {
    let mut plain = PathBuf::new();
    for part in path.components() {
        match part {
            Component::Normal(name) => plain.push(name),
            Component::CurDir | Component::RootDir => {}
            _ => return Err(Error::config("the path leaves the root")),
        }
    }
    Ok(plain)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

    use super::*;

    fn archive(entries: &[(EntryType, &str, u32, &str)]) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        for (kind, path, mode, content) in entries {
            let mut header = tar::Header::new_gnu();
            header.set_entry_type(*kind);
            header.set_mode(*mode);
            header.set_uid(nix::unistd::geteuid().as_raw().into());
            header.set_gid(nix::unistd::getegid().as_raw().into());
            header.set_mtime(1000);
            let link = matches!(kind, EntryType::Symlink | EntryType::Link);
            if link {
                header.set_link_name(content).unwrap();
            }
            let content = if link { "" } else { content };
            header.set_size(content.len() as u64);
            // As it is: the builder's own functions would refuse what a hostile archive has.
            header.as_old_mut().name[..path.len()].copy_from_slice(path.as_bytes());
            header.set_cksum();
            builder.append(&header, content.as_bytes()).unwrap();
        }
        builder.into_inner().unwrap()
    }

    fn unpacked(entries: &[(EntryType, &str, u32, &str)], to: &Path) -> Result<Unpacked> {
        unpack(&mut archive(entries).as_slice(), to)
    }

    #[test]
    fn files_directories_and_links_come_out_as_they_were() {
        let dir = tempfile::tempdir().unwrap();
        let done = unpacked(
            &[
                (EntryType::Directory, "./", 0o755, ""),
                (EntryType::Directory, "./bin/", 0o555, ""),
                (EntryType::Regular, "./bin/a", 0o4755, "text"),
                (EntryType::Link, "./bin/b", 0o755, "./bin/a"),
                (EntryType::Symlink, "./lib", 0o777, "/usr/lib"),
                (EntryType::Regular, "deep/er/c", 0o640, ""),
                (EntryType::Char, "null", 0o666, ""),
                (EntryType::Regular, "bin/a2", 0o644, "1"),
                (EntryType::Regular, "bin/a2", 0o644, "2"),
            ],
            dir.path(),
        );
        assert_eq!(done.unwrap(), Unpacked { files: 7, bytes: 6, left_out: 1 });
        let at = |name: &str| fs::symlink_metadata(dir.path().join(name)).unwrap();
        assert_eq!((at("bin/a").mode() & 0o7777, at("bin/a").mtime()), (0o755, 1000));
        assert_eq!(at("bin/a").ino(), at("bin/b").ino());
        assert_eq!(at("bin").mode() & 0o577, 0o555);
        assert_eq!(fs::read_link(dir.path().join("lib")).unwrap(), Path::new("/usr/lib"));
        assert_eq!(fs::read_to_string(dir.path().join("bin/a2")).unwrap(), "2");
        assert_eq!(at("tmp").mode() & 0o7777, 0o1777);
        assert!(at("deep/er/c").is_file() && !dir.path().join("null").exists());
        fs::set_permissions(dir.path().join("bin"), fs::Permissions::from_mode(0o755)).unwrap();
    }

    #[test]
    fn nothing_is_written_elsewhere() {
        let outside = tempfile::tempdir().unwrap();
        fs::write(outside.path().join("file"), "before").unwrap();
        let away = outside.path().to_str().unwrap();
        for entries in [
            &[(EntryType::Regular, "../file", 0o644, "x")][..],
            &[(EntryType::Symlink, "d", 0o777, away), (EntryType::Regular, "d/file", 0o644, "x")],
            &[(EntryType::Symlink, "d", 0o777, away), (EntryType::Directory, "d", 0o700, "")],
            &[(EntryType::Symlink, "d", 0o777, away), (EntryType::Link, "mine", 0o644, "d/file")],
            &[(EntryType::Link, "mine", 0o644, "../file")],
        ] {
            let dir = tempfile::tempdir_in(outside.path()).unwrap();
            assert!(unpacked(entries, dir.path()).is_err(), "{entries:?}");
            assert!(!dir.path().join("mine").exists());
        }
        // A link at the place of a file is replaced, not followed.
        let dir = tempfile::tempdir().unwrap();
        let file = format!("{away}/file");
        let entries = [(EntryType::Symlink, "f", 0o777, file.as_str()), (EntryType::Regular, "f", 0o644, "x")];
        unpacked(&entries, dir.path()).unwrap();
        assert_eq!(fs::read_to_string(dir.path().join("f")).unwrap(), "x");
        // A directory's mode and times are not set through what has taken its place.
        let dir = tempfile::tempdir().unwrap();
        symlink(away, dir.path().join("l")).unwrap();
        let mode = fs::metadata(away).unwrap().mode();
        unpacked(&[(EntryType::Regular, "other/x", 0o644, "")], dir.path()).unwrap();
        assert_eq!(fs::metadata(away).unwrap().mode(), mode);
        assert_eq!(fs::read_to_string(outside.path().join("file")).unwrap(), "before");
    }

    #[test]
    fn an_archive_that_ends_too_early_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let whole = archive(&[(EntryType::Regular, "a", 0o644, &"x".repeat(2000))]);
        assert!(unpack(&mut &whole[..1024], dir.path()).is_err());
    }
}
