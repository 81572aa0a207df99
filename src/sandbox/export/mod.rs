//! `sandbox export`: a directory packed for others to read. What was made in a sandbox is hostile, and may change while it
//! is packed: see [`Tree`].
//!
//! The archive depends on nothing but names, contents and whether files may be executed: the same tree gives the same bytes.

mod names;

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use flate2::{Compression, GzBuilder, write::GzEncoder};
use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat, openat2, renameat};
use nix::sys::stat::{Mode, fstat};
use nix::unistd::{UnlinkatFlags, unlinkat};
use serde::Serialize;
use sha2::{Digest, Sha256};

use super::policy::Size;
use super::tree::{FileKind, Found, Tree, absolute, leaves_tree, shown};
use crate::error::{Context, Error, Result};

/// How many entries of the tree are looked at: a tree may have been made to keep its reader busy.
const LOOKED_AT: usize = 1 << 16;
/// How deep directories may be.
const DEPTH: usize = 100;

/// What goes into an archive, at most, and what does whatever it is called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExportOptions {
    /// Files and symbolic links.
    pub files: usize,
    /// The size of one file.
    pub file_size: Size,
    /// The size of all files together.
    pub total_size: Size,
    /// Paths from the directory's top that go in whatever their names look like.
    pub include: BTreeSet<PathBuf>,
    /// Paths from the directory's top that do not go in.
    pub exclude: BTreeSet<PathBuf>,
    /// Whether a file that the limits keep out, or that is refused, is an error: then there is no archive.
    pub strict: bool,
}

impl Default for ExportOptions {
    /// 128 files, 256 KiB each, 2 MiB in all.
    fn default() -> Self {
        Self {
            files: 128,
            file_size: Size(256 << 10),
            total_size: Size(2 << 20),
            include: BTreeSet::new(),
            exclude: BTreeSet::new(),
            strict: false,
        }
    }
}

/// What an archive has, and what it has not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Exported {
    /// The archive.
    pub archive: PathBuf,
    /// Its size in bytes.
    pub archive_bytes: u64,
    /// Its SHA-256, in hexadecimal digits.
    pub sha256: String,
    /// The size of all files that went in.
    pub bytes: u64,
    /// What went in, in the archive's order.
    pub files: Vec<Packed>,
    /// What was left out.
    pub left_out: Vec<NotPacked>,
    /// What no archive has: links that leave the tree, devices, sockets and the like.
    pub refused: Vec<NotPacked>,
}

/// One file of an archive.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Packed {
    /// Its path in the archive.
    pub path: String,
    /// Its size; 0 of a link.
    pub bytes: u64,
    /// Where it points to, if it is a symbolic link.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub link: Option<String>,
}

/// A file or directory that did not go in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NotPacked {
    /// Its path; ends with a slash if it is a directory.
    pub path: String,
    /// Why.
    pub reason: String,
    /// Whether it was one of the limits.
    #[serde(skip)]
    limited: bool,
}

/// Packs the directory `directory` into the gzipped tar archive `archive`, which is replaced if it is there, and which may be in
/// the directory (it is left out then).
///
/// ```no_run
/// use procrt::sandbox::{ExportOptions, export};
///
/// let exported = export("work".as_ref(), "work.tar.gz".as_ref(), &ExportOptions::default())?;
/// for file in &exported.left_out {
///     println!("{} is not in it: {}", file.path, file.reason);
/// }
/// # Ok::<(), procrt::Error>(())
/// ```
///
/// # Errors
/// If the directory cannot be read, the archive cannot be written, or, with `strict`, something did not go in because of a
/// limit or was refused. An archive that was there before is left as it was then.
pub fn export(directory: &Path, archive: &Path, options: &ExportOptions) -> Result<Exported> {
    let tree = Tree::open(directory)?;
    for path in options.include.iter().chain(&options.exclude) {
        let plain = path.components().all(|part| matches!(part, std::path::Component::Normal(_)));
        if !plain || path.as_os_str().is_empty() {
            return Err(Error::config(format!("{}: not a path from the directory's top", shown(path))));
        }
        tree.find(path).context(|| format!("{}: not in the directory", shown(path)))?;
    }
    let target = Target::create(directory, &tree, archive)?;
    match pack(&tree, &target, archive, options) {
        Ok(exported) => {
            target.keep()?;
            Ok(exported)
        }
        Err(error) => {
            target.throw_away();
            Err(error)
        }
    }
}

/// The archive while it is written: a file beside it.
struct Target {
    parent: OwnedFd,
    name: std::ffi::OsString,
    temporary: String,
    file: File,
    /// Which files are no part of the tree: this one, and the one that it will replace.
    own: Vec<(u64, u64)>,
}

impl Target {
    fn create(directory: &Path, tree: &Tree, archive: &Path) -> Result<Self> {
        let what = || format!("make the archive {}", shown(archive));
        let path = absolute(archive)?;
        let (Some(name), Some(parent)) = (path.file_name(), path.parent()) else {
            return Err(Error::config(format!("{}: not the path of a file", shown(archive))));
        };
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        // Whoever owns the tree must not say where the archive goes by a link in it.
        let parent = match parent.strip_prefix(absolute(directory)?) {
            Ok(inside) => {
                let inside = if inside.as_os_str().is_empty() { Path::new(".") } else { inside };
                let how = OpenHow::new().flags(flags).resolve(
                    ResolveFlag::RESOLVE_BENEATH
                        | ResolveFlag::RESOLVE_NO_SYMLINKS
                        | ResolveFlag::RESOLVE_NO_MAGICLINKS,
                );
                openat2(tree, inside, how).context(what)?
            }
            Err(_) => nix::fcntl::open(parent, flags, Mode::empty()).context(what)?,
        };
        let mut own = Vec::new();
        if let Ok(there) = nix::sys::stat::fstatat(&parent, name, nix::fcntl::AtFlags::AT_SYMLINK_NOFOLLOW) {
            if there.st_mode & libc::S_IFMT == libc::S_IFDIR {
                return Err(Error::config(format!("{}: is a directory", shown(archive))));
            }
            own.push((there.st_dev, there.st_ino));
        }
        let temporary = format!(".procrt-export-{}-{}", std::process::id(), crate::host::clock::ticks_since_boot());
        let flags = OFlag::O_RDWR | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let file = openat(&parent, temporary.as_str(), flags, Mode::from_bits_retain(0o666)).context(what)?;
        let stat = fstat(&file).context(what)?;
        own.push((stat.st_dev, stat.st_ino));
        Ok(Self { parent, name: name.to_owned(), temporary, file: File::from(file), own })
    }

    fn keep(self) -> Result<()> {
        let renamed = renameat(&self.parent, self.temporary.as_str(), &self.parent, self.name.as_os_str());
        if renamed.is_err() {
            self.throw_away();
        }
        renamed.context(|| format!("put the archive {} into its place", shown(Path::new(&self.name))))
    }

    fn throw_away(&self) {
        let _ = unlinkat(self.parent.as_fd(), self.temporary.as_str(), UnlinkatFlags::NoRemoveDir);
    }
}

/// What is written is also counted and hashed.
struct Counted<W> {
    inner: W,
    bytes: u64,
    hash: Sha256,
}

impl<W: Write> Write for Counted<W> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.bytes += written as u64;
        self.hash.update(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.inner.flush()
    }
}

type Archive<'a> = tar::Builder<GzEncoder<Counted<BufWriter<&'a File>>>>;

struct Packer<'a> {
    tree: &'a Tree,
    options: &'a ExportOptions,
    own: &'a [(u64, u64)],
    archive: Archive<'a>,
    /// Directories that the archive has already.
    directories: BTreeSet<PathBuf>,
    looked_at: usize,
    bytes: u64,
    files: Vec<Packed>,
    left_out: Vec<NotPacked>,
    refused: Vec<NotPacked>,
}

fn pack(tree: &Tree, target: &Target, archive: &Path, options: &ExportOptions) -> Result<Exported> {
    let counted = Counted { inner: BufWriter::new(&target.file), bytes: 0, hash: Sha256::new() };
    // No time, no name, and "unknown" as the operating system (RFC 1952, 2.3.1).
    let gzip = GzBuilder::new().mtime(0).operating_system(255).write(counted, Compression::best());
    let mut packer = Packer {
        tree,
        options,
        own: &target.own,
        archive: tar::Builder::new(gzip),
        directories: BTreeSet::new(),
        looked_at: 0,
        bytes: 0,
        files: Vec::new(),
        left_out: Vec::new(),
        refused: Vec::new(),
    };
    packer.directory(Path::new(""), 0)?;
    let Packer { archive: builder, bytes, files, left_out, refused, .. } = packer;
    let mut counted = builder.into_inner().and_then(GzEncoder::finish).context(|| "write the archive")?;
    counted.flush().context(|| "write the archive")?;
    if options.strict
        && let Some(first) = refused.iter().chain(left_out.iter().filter(|file| file.limited)).next()
    {
        return Err(Error::config(format!("{}: {}", shown(Path::new(&first.path)), first.reason)));
    }
    let sha256 = counted.hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(Exported { archive: archive.to_owned(), archive_bytes: counted.bytes, sha256, bytes, files, left_out, refused })
}

impl Packer<'_> {
    fn directory(&mut self, path: &Path, depth: usize) -> Result<()> {
        let names = match self.tree.list(path, LOOKED_AT - self.looked_at) {
            Ok(names) => names,
            Err(Errno::E2BIG) => {
                let top = if depth == 0 { "the directory".to_owned() } else { shown(path) };
                return Err(Error::config(format!("{top}: more than {LOOKED_AT} files and directories to look at")));
            }
            Err(errno) if depth == 0 => return Err(errno).context(|| "read the directory"),
            Err(errno) => {
                self.leave_out(path, true, why(errno), false);
                return Ok(());
            }
        };
        self.looked_at += names.len();
        if depth > 0 && is_cache(self.tree, path) {
            self.leave_out(path, true, "a cache (it has a CACHEDIR.TAG)", false);
            return Ok(());
        }
        for name in names {
            let path = path.join(&name);
            match self.tree.find(&path) {
                Ok(found) => self.entry(&path, &found, depth)?,
                Err(errno) => self.leave_out(&path, false, why(errno), false),
            }
        }
        Ok(())
    }

    fn entry(&mut self, path: &Path, found: &Found, depth: usize) -> Result<()> {
        let directory = found.kind() == FileKind::Directory;
        if self.options.exclude.contains(path) {
            self.leave_out(path, directory, "excluded", false);
            return Ok(());
        }
        if self.own.contains(&found.identity()) {
            self.leave_out(path, false, "the archive itself", false);
            return Ok(());
        }
        // A directory on the way to what is included goes in as far as that.
        let included = self.options.include.iter().any(|include| path.starts_with(include));
        let name = path.file_name().unwrap_or_default();
        if !included && let Some(reason) = names::left_out(name.as_encoded_bytes(), directory) {
            let include = &self.options.include;
            let outermost = |one: &Path| !one.ancestors().skip(1).any(|above| include.contains(above));
            let below: Vec<_> = include.iter().filter(|one| one.starts_with(path) && outermost(one)).cloned().collect();
            self.leave_out(path, directory, reason, false);
            for one in below.into_iter().filter(|_| directory) {
                match self.tree.find(&one) {
                    Ok(found) => self.entry(&one, &found, one.iter().count() - 1)?,
                    Err(errno) => self.leave_out(&one, false, why(errno), false),
                }
            }
            return Ok(());
        }
        match found.kind() {
            FileKind::Directory if depth + 1 >= DEPTH => {
                self.leave_out(path, true, format!("deeper than {DEPTH} directories"), true);
                Ok(())
            }
            FileKind::Directory => self.directory(path, depth + 1),
            FileKind::File => self.file(path, found),
            FileKind::Link => self.link(path, found),
            FileKind::Fifo => self.refuse(path, "a named pipe"),
            FileKind::Socket => self.refuse(path, "a socket"),
            FileKind::Device => self.refuse(path, "a device"),
        }
    }

    fn file(&mut self, path: &Path, found: &Found) -> Result<()> {
        if self.too_many(path) {
            return Ok(());
        }
        let (one, all) = (self.options.file_size, self.options.total_size);
        let content = match found.read(one.0) {
            Ok(Some(content)) => content,
            Ok(None) => {
                self.leave_out(path, false, format!("larger than {one}"), true);
                return Ok(());
            }
            Err(error) => {
                self.leave_out(path, false, error.to_string(), false);
                return Ok(());
            }
        };
        let size = content.len() as u64;
        if self.bytes + size > all.0 {
            self.leave_out(path, false, format!("all together would be more than {all}"), true);
            return Ok(());
        }
        self.parents(path)?;
        let mut header = header(tar::EntryType::Regular, if found.stat.st_mode & 0o111 == 0 { 0o644 } else { 0o755 });
        header.set_size(size);
        self.archive.append_data(&mut header, path, content.as_slice()).context(|| "write the archive")?;
        self.bytes += size;
        self.files.push(Packed { path: text(path), bytes: size, link: None });
        Ok(())
    }

    fn link(&mut self, path: &Path, found: &Found) -> Result<()> {
        let target = match found.target() {
            Ok(target) => target,
            Err(errno) => {
                self.leave_out(path, false, why(errno), false);
                return Ok(());
            }
        };
        if let Some(reason) = leaves_tree(path.parent().unwrap_or(Path::new("")), &target) {
            return self.refuse(path, format!("{reason}: {}", shown(&target)));
        }
        if self.too_many(path) {
            return Ok(());
        }
        self.parents(path)?;
        let mut header = header(tar::EntryType::Symlink, 0o777);
        header.set_size(0);
        self.archive.append_link(&mut header, path, &target).context(|| "write the archive")?;
        self.files.push(Packed { path: text(path), bytes: 0, link: Some(text(&target)) });
        Ok(())
    }

    /// The directories on the way to what goes in.
    fn parents(&mut self, path: &Path) -> Result<()> {
        let mut above: Vec<&Path> = path.ancestors().skip(1).filter(|one| !one.as_os_str().is_empty()).collect();
        above.reverse();
        for directory in above {
            if self.directories.insert(directory.to_owned()) {
                let mut header = header(tar::EntryType::Directory, 0o755);
                header.set_size(0);
                let empty = std::io::empty();
                self.archive.append_data(&mut header, directory, empty).context(|| "write the archive")?;
            }
        }
        Ok(())
    }

    fn too_many(&mut self, path: &Path) -> bool {
        let full = self.files.len() >= self.options.files;
        if full {
            self.leave_out(path, false, format!("more than {} files", self.options.files), true);
        }
        full
    }

    fn leave_out(&mut self, path: &Path, directory: bool, reason: impl Into<String>, limited: bool) {
        let path = text(path) + if directory { "/" } else { "" };
        self.left_out.push(NotPacked { path, reason: reason.into(), limited });
    }

    #[allow(clippy::unnecessary_wraps, reason = "an entry's ways end alike")]
    fn refuse(&mut self, path: &Path, reason: impl Into<String>) -> Result<()> {
        self.refused.push(NotPacked { path: text(path), reason: reason.into(), limited: false });
        Ok(())
    }
}

fn header(kind: tar::EntryType, mode: u32) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header
}

/// Whether a directory says of itself that it is a cache (bford.info/cachedir).
fn is_cache(tree: &Tree, path: &Path) -> bool {
    const SIGNATURE: &[u8] = b"Signature: 8a477f597d28d172789f06886806bc55";
    let Ok(found) = tree.find(&path.join("CACHEDIR.TAG")) else { return false };
    found.kind() == FileKind::File
        && found.read(4096).ok().flatten().is_some_and(|content| content.starts_with(SIGNATURE))
}

fn why(errno: Errno) -> String {
    match errno {
        Errno::ENOENT => "it went away meanwhile".to_owned(),
        Errno::ELOOP | Errno::ENOTDIR => "it became something else meanwhile".to_owned(),
        Errno::EXDEV => "another file system".to_owned(),
        _ => Error::from(errno).to_string(),
    }
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests;
