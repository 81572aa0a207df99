//! The directory that an image is built from, and the one number that stands for all that goes into the image.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::dockerfile::{self, Taken};
use super::pattern::Ignored;
use crate::error::{Context as _, Error, Result};
use crate::sandbox::tree::{FileKind, Found, Tree, shown};

/// What a Dockerfile may be, in bytes.
const DOCKERFILE: u64 = 1 << 20;
/// How many files a directory may have.
const FILES: usize = 1 << 20;
/// Files by which what has changed can be told later; of more nothing is kept.
const REMEMBERED: usize = 10_000;

/// How an image is to be built.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Source {
    /// The directory.
    pub directory: PathBuf,
    /// The Dockerfile, a path from the directory's top; `Dockerfile` or `Containerfile` if None.
    pub file: Option<PathBuf>,
    /// The values of its `ARG`s.
    pub build_args: BTreeMap<String, String>,
    /// The stage that is built; the last if None.
    pub target: Option<String>,
}

/// What has been found in the directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Content {
    /// The directory's path without symbolic links.
    pub directory: PathBuf,
    /// The Dockerfile's path from its top.
    pub file: PathBuf,
    /// Stands for the Dockerfile, what it copies, the arguments and the stage.
    pub key: String,
    /// The same piece by piece, if those are not too many.
    pub pieces: Pieces,
    /// What the Dockerfile fetches from elsewhere: not in the key.
    pub remote: Vec<String>,
}

/// What stands for each piece of a key.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pieces(BTreeMap<String, String>);

impl Pieces {
    /// What differs between these and `later`, for people: names of files, at most six.
    pub fn changes(&self, later: &Self) -> Vec<String> {
        let mut changes: Vec<String> = Vec::new();
        for name in self.0.keys().chain(later.0.keys().filter(|name| !self.0.contains_key(*name))) {
            let change = match (self.0.get(name), later.0.get(name)) {
                (Some(one), Some(other)) if one == other => continue,
                (Some(_), Some(_)) => "changed",
                (Some(_), None) => "gone",
                (None, _) => "new",
            };
            changes.push(format!("{} {change}", shown(Path::new(name))));
        }
        let more = changes.len().saturating_sub(6);
        changes.truncate(6);
        if more > 0 {
            changes.push(format!("{more} more"));
        }
        changes
    }
}

/// Reads all that the image depends on.
///
/// # Errors
/// If there is no Dockerfile, or a file cannot be read.
pub fn read(source: &Source) -> Result<Content> {
    let directory =
        source.directory.canonicalize().context(|| format!("the directory {}", shown(&source.directory)))?;
    let tree = Tree::open(&directory)?;
    let (file, text) = dockerfile(&tree, source)?;
    let taken = dockerfile::taken(&String::from_utf8_lossy(&text));
    let ignore = file_if_there(&tree, Path::new(".dockerignore"))?;
    // Engines differ in which of these they read. Where it is not the plain one, nothing is taken for ignored: then a
    // change may count that is none.
    let others = [PathBuf::from(".containerignore"), PathBuf::from(format!("{}.dockerignore", file.display()))];
    let other = others.iter().any(|path| tree.find(path).is_ok());
    let ignored = match &ignore {
        Some(text) if !other => Ignored::read(&String::from_utf8_lossy(text)),
        _ => Ignored::default(),
    };
    let mut reader = Reader { tree: &tree, taken: &taken, ignored: &ignored, pieces: BTreeMap::new(), link: false };
    reader.walk("", 0)?;
    let mut pieces = reader.pieces;
    if reader.link && taken.everything.is_none() {
        let everything = Taken { everything: Some("a symbolic link".to_owned()), ..taken.clone() };
        let ignored = Ignored::default();
        let mut reader = Reader { tree: &tree, taken: &everything, ignored: &ignored, pieces, link: false };
        reader.walk("", 0)?;
        pieces = reader.pieces;
    }
    pieces.insert(file.display().to_string(), format!("Dockerfile {}", hex(&Sha256::digest(&text))));
    if let Some(text) = ignore {
        pieces.insert(".dockerignore".to_owned(), hex(&Sha256::digest(&text)));
    }
    // Arguments may be secret: what stays of them says nothing of short ones either.
    let arguments = serde_json::to_vec(&source.build_args).map_err(|error| Error::system(error.to_string()))?;
    let mut key = Sha256::new();
    key.update(b"procrt image 1\0");
    for part in [file.to_string_lossy().as_bytes(), source.target.as_deref().unwrap_or("").as_bytes(), &arguments] {
        key.update((part.len() as u64).to_le_bytes());
        key.update(part);
    }
    for (name, piece) in &pieces {
        for part in [name, piece] {
            key.update((part.len() as u64).to_le_bytes());
            key.update(part);
        }
    }
    if pieces.len() > REMEMBERED {
        pieces.clear();
    }
    Ok(Content { directory, file, key: hex(&key.finalize()), pieces: Pieces(pieces), remote: taken.remote })
}

fn dockerfile(tree: &Tree, source: &Source) -> Result<(PathBuf, Vec<u8>)> {
    let names = match &source.file {
        Some(file) => vec![file.clone()],
        None => vec![PathBuf::from("Dockerfile"), PathBuf::from("Containerfile")],
    };
    for name in &names {
        if let Some(text) = file_if_there(tree, name)? {
            return Ok((name.clone(), text));
        }
    }
    let names: Vec<String> = names.iter().map(|name| shown(name)).collect();
    Err(Error::config(format!("{}: there is no {}", shown(&source.directory), names.join(" or "))))
}

fn file_if_there(tree: &Tree, path: &Path) -> Result<Option<Vec<u8>>> {
    let found = match tree.find(path) {
        Err(Errno::ENOENT) => return Ok(None),
        found => found.context(|| shown(path))?,
    };
    if found.kind() != FileKind::File {
        return Err(Error::config(format!("{}: not a regular file", shown(path))));
    }
    match found.read(DOCKERFILE).context(|| shown(path))? {
        None => Err(Error::config(format!("{}: larger than 1 MiB", shown(path)))),
        content => Ok(content),
    }
}

struct Reader<'a> {
    tree: &'a Tree,
    taken: &'a Taken,
    ignored: &'a Ignored,
    pieces: BTreeMap<String, String>,
    /// Whether a link is on the way to what is taken.
    link: bool,
}

impl Reader<'_> {
    fn walk(&mut self, directory: &str, depth: usize) -> Result<()> {
        let what = || format!("read {}", shown(Path::new(if directory.is_empty() { "." } else { directory })));
        if depth > 200 {
            return Err(Errno::ELOOP).context(what);
        }
        for name in self.tree.list(Path::new(directory), FILES).context(what)? {
            // A name that is no text cannot be named by a Dockerfile, but a directory that has it can be.
            let name = name.to_string_lossy().into_owned();
            let path = if directory.is_empty() { name } else { format!("{directory}/{name}") };
            let ignored = self.ignored.has(&path);
            if ignored && !self.ignored.takes_back() {
                continue;
            }
            let found = self.tree.find(Path::new(&path)).context(|| format!("read {}", shown(Path::new(&path))))?;
            if found.kind() == FileKind::Directory {
                self.walk(&path, depth + 1)?;
            }
            // What is behind a link is not looked for: everything counts then.
            self.link |= found.kind() == FileKind::Link
                && self.taken.patterns.iter().any(|pattern| pattern.leads_through(&path));
            if !ignored && self.taken.has(&path) {
                let piece = piece(&found).context(|| format!("read {}", shown(Path::new(&path))))?;
                self.pieces.insert(path, piece);
            }
        }
        Ok(())
    }
}

/// What stands for one file: its kind, whether it may be executed and by whom, its content.
fn piece(found: &Found) -> Result<String> {
    let mode = found.stat.st_mode & 0o7777;
    Ok(match found.kind() {
        FileKind::File => {
            let mut hash = Sha256::new();
            let mut file = found.reader()?;
            let mut part = vec![0; 1 << 16];
            loop {
                match file.read(&mut part)? {
                    0 => break,
                    length => hash.update(&part[..length]),
                }
            }
            format!("file {mode:o} {}", hex(&hash.finalize()))
        }
        FileKind::Directory => format!("directory {mode:o}"),
        FileKind::Link => format!("link {}", found.target()?.display()),
        // No engine copies these.
        FileKind::Fifo | FileKind::Socket | FileKind::Device => "special".to_owned(),
    })
}

/// Bytes as hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn key(directory: &Path) -> String {
        read(&Source { directory: directory.to_owned(), ..Source::default() }).unwrap().key
    }

    fn write(directory: &Path, files: &[(&str, &str)]) {
        for (path, text) in files {
            let path = directory.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
    }

    #[test]
    fn the_key_changes_with_what_is_copied_and_with_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path();
        write(
            dir,
            &[("Dockerfile", "FROM scratch\nCOPY src/*.c lib /\n"), ("src/a.c", "1"), ("lib/x/y", "2"), ("z", "")],
        );
        let first = key(dir);
        assert_eq!(first, key(dir));
        write(dir, &[("z", "changed"), ("src/a.h", "new"), ("other/file", "new")]);
        assert_eq!(first, key(dir));
        write(dir, &[("lib/x/y", "3")]);
        let second = key(dir);
        assert_ne!(first, second);
        write(dir, &[("src/b.c", "")]);
        let third = key(dir);
        assert_ne!(second, third);
        write(dir, &[(".dockerignore", "**/b.c\n")]);
        let fourth = key(dir);
        write(dir, &[("src/b.c", "ignored now")]);
        assert_eq!(fourth, key(dir));
        let source = Source {
            directory: dir.to_owned(),
            build_args: [("A".to_owned(), "1".to_owned())].into(),
            ..Source::default()
        };
        assert_ne!(read(&source).unwrap().key, fourth);
    }

    #[test]
    fn what_is_behind_a_link_counts() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path();
        write(dir, &[("Dockerfile", "FROM scratch\nCOPY current/x /\n"), ("v1/x", "1")]);
        std::os::unix::fs::symlink("v1", dir.join("current")).unwrap();
        let first = key(dir);
        write(dir, &[("v1/x", "2")]);
        assert_ne!(first, key(dir));
    }

    #[test]
    fn what_changed_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let source = Source { directory: dir.path().to_owned(), ..Source::default() };
        write(dir.path(), &[("Containerfile", "FROM scratch\nCOPY . /\n"), ("a", "1"), ("b", "1")]);
        let first = read(&source).unwrap();
        assert_eq!(first.file, Path::new("Containerfile"));
        write(dir.path(), &[("a", "2"), ("c", "")]);
        fs::remove_file(dir.path().join("b")).unwrap();
        let changes = first.pieces.changes(&read(&source).unwrap().pieces);
        assert_eq!(changes, [r#""a" changed"#, r#""b" gone"#, r#""c" new"#]);
    }

    #[test]
    fn without_a_dockerfile_there_is_nothing_to_build() {
        let dir = tempfile::tempdir().unwrap();
        let error = read(&Source { directory: dir.path().to_owned(), ..Source::default() }).unwrap_err();
        assert!(error.to_string().ends_with(r#"there is no "Dockerfile" or "Containerfile""#), "{error}");
    }
}
