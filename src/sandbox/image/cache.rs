//! Where unpacked images are kept: `$XDG_CACHE_HOME/procrt/images`, or `~/.cache/procrt/images`.
//!
//! `KEY/` is an image, with `rootfs/` and `image.json`; `projects/` says which one a directory had last. What is named
//! `.new-…` or `.old-…` is on its way. A directory of an image that is in use is locked (flock(2)), shared.

use std::fs::{self, DirBuilder, File};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::context::{Content, Pieces, hex};
use super::engine::{Engine, ImageConfig};
use super::unpack::Unpacked;
use crate::error::{Context, Error, Result};
use crate::sandbox::cache_directory;
use crate::sandbox::tree::shown;

/// The directory of all images.
#[derive(Debug, Clone)]
pub struct Cache(PathBuf);

/// What is remembered of an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Image {
    /// Stands for what it was made of.
    pub key: String,
    /// The engine that built it.
    pub engine: Engine,
    /// Its name there.
    pub tag: String,
    /// When, RFC 3339.
    pub built: String,
    /// How it is run.
    pub config: ImageConfig,
    /// What it came to.
    #[serde(flatten)]
    pub unpacked: Unpacked,
}

/// Which image a directory had last.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Project {
    /// The directory.
    pub directory: PathBuf,
    /// The Dockerfile in it.
    pub file: PathBuf,
    /// The stage.
    pub target: Option<String>,
    /// The image's key.
    pub key: String,
    /// What the key stands for.
    pub pieces: Pieces,
}

impl Cache {
    /// The user's, made if it is missing.
    ///
    /// # Errors
    /// If there is neither `XDG_CACHE_HOME` nor `HOME`, or it cannot be made.
    pub fn of_user() -> Result<Self> {
        Self::at(cache_directory()?.join("images"))
    }

    /// The one at `path`, made if it is missing.
    ///
    /// # Errors
    /// If it cannot be made, or belongs to somebody else.
    pub fn at(path: PathBuf) -> Result<Self> {
        let what = || format!("the cache {}", shown(&path));
        let projects = path.join("projects");
        DirBuilder::new().recursive(true).mode(0o700).create(&projects).context(what)?;
        if fs::metadata(&path).context(what)?.uid() != nix::unistd::geteuid().as_raw() {
            return Err(Error::config("it belongs to another user")).context(what);
        }
        let cache = Self(path);
        cache.sweep();
        Ok(cache)
    }

    /// What a maker that was killed has left.
    fn sweep(&self) {
        for entry in fs::read_dir(&self.0).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let maker = name.strip_prefix(".new-").or_else(|| name.strip_prefix(".old-"));
            let maker = maker.and_then(|rest| rest.split('-').next()?.parse::<u32>().ok());
            if maker.is_some_and(|pid| !Path::new(&format!("/proc/{pid}")).exists()) {
                let _ = fs::remove_dir_all(entry.path());
            }
        }
    }

    /// A new directory of nobody else's.
    ///
    /// # Errors
    /// If it cannot be made.
    pub fn scratch(&self, key: &str) -> Result<PathBuf> {
        let path = self.0.join(format!(".new-{}-{key}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        DirBuilder::new().mode(0o700).create(&path).context(|| format!("make {}", shown(&path)))?;
        Ok(path)
    }

    /// Puts what was made in `scratch` into its place. If somebody else was faster, theirs stays.
    ///
    /// # Errors
    /// If it cannot be renamed.
    pub fn keep(&self, scratch: &Path, image: &Image) -> Result<()> {
        write(&scratch.join("image.json"), image)?;
        match fs::rename(scratch, self.0.join(&image.key)) {
            Err(error) if matches!(error.kind(), ErrorKind::DirectoryNotEmpty | ErrorKind::AlreadyExists) => {
                let _ = fs::remove_dir_all(scratch);
                Ok(())
            }
            renamed => renamed.context(|| format!("put {} into its place", shown(scratch))),
        }
    }

    /// The image of that key, its root, and a lock that keeps it there; None if it is not there.
    ///
    /// # Errors
    /// If it is there and cannot be read.
    pub fn image(&self, key: &str) -> Result<Option<(Image, PathBuf, File)>> {
        let path = self.0.join(key);
        let what = || format!("the image {}", shown(&path));
        let lock = match File::open(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            opened => opened.context(what)?,
        };
        lock.lock_shared().context(what)?;
        // Removed while the lock was waited for.
        let there = fs::metadata(&path).is_ok_and(|now| lock.metadata().is_ok_and(|ours| ours.ino() == now.ino()));
        match read(&path.join("image.json"))? {
            Some(image) if there => Ok(Some((image, path.join("rootfs"), lock))),
            _ => Ok(None),
        }
    }

    /// Removes an image. False if it is in use.
    ///
    /// # Errors
    /// If it cannot be removed.
    pub fn remove(&self, key: &str) -> Result<bool> {
        let path = self.0.join(key);
        let what = || format!("remove the image {}", shown(&path));
        let lock = match File::open(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(true),
            opened => opened.context(what)?,
        };
        if lock.try_lock().is_err() {
            return Ok(false);
        }
        let away = self.0.join(format!(".old-{}-{key}", std::process::id()));
        fs::rename(&path, &away).context(what)?;
        fs::remove_dir_all(&away).context(what)?;
        Ok(true)
    }

    /// Which file remembers a directory's image.
    fn project_file(&self, directory: &Path, file: &Path, target: Option<&str>) -> PathBuf {
        self.0.join("projects").join(project_id(directory, file, target) + ".json")
    }

    /// What is remembered of the directory that `content` was read from.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn project(&self, content: &Content, target: Option<&str>) -> Result<Option<Project>> {
        read(&self.project_file(&content.directory, &content.file, target))
    }

    /// All that is remembered.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn projects(&self) -> Result<Vec<Project>> {
        let directory = self.0.join("projects");
        let mut projects = Vec::new();
        for entry in fs::read_dir(&directory).context(|| shown(&directory))? {
            let path = entry.context(|| shown(&directory))?.path();
            if path.extension().is_some_and(|end| end == "json") {
                projects.extend(read::<Project>(&path)?);
            }
        }
        projects.sort_by(|a, b| (&a.directory, &a.file, &a.target).cmp(&(&b.directory, &b.file, &b.target)));
        Ok(projects)
    }

    /// Remembers a directory's image.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn remember(&self, project: &Project) -> Result<()> {
        write(&self.project_file(&project.directory, &project.file, project.target.as_deref()), project)
    }

    /// Forgets a directory's image.
    ///
    /// # Errors
    /// If it cannot be removed.
    pub fn forget(&self, project: &Project) -> Result<()> {
        let file = self.project_file(&project.directory, &project.file, project.target.as_deref());
        fs::remove_file(&file).context(|| format!("remove {}", shown(&file)))
    }

    /// Whether a directory has the image of that key.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn is_wanted(&self, key: &str) -> Result<bool> {
        Ok(self.projects()?.iter().any(|project| project.key == key))
    }
}

/// A short name for a directory, its Dockerfile and the stage.
pub fn project_id(directory: &Path, file: &Path, target: Option<&str>) -> String {
    let mut hash = Sha256::new();
    for part in [directory.as_os_str().as_encoded_bytes(), file.as_os_str().as_encoded_bytes()] {
        hash.update(part);
        hash.update([0]);
    }
    hash.update(target.unwrap_or_default());
    hex(&hash.finalize())[..16].to_owned()
}

fn read<T: DeserializeOwned>(path: &Path) -> Result<Option<T>> {
    let text = match fs::read(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        text => text.context(|| format!("read {}", shown(path)))?,
    };
    let value = serde_json::from_slice(&text);
    value.map(Some).map_err(|error| Error::system(format!("{}: {error}", shown(path))))
}

fn write(path: &Path, value: &impl Serialize) -> Result<()> {
    let what = || format!("write {}", shown(path));
    let beside = path.with_extension(format!("new-{}", std::process::id()));
    let text = serde_json::to_vec(value).map_err(|error| Error::system(error.to_string())).context(what)?;
    File::create(&beside).and_then(|mut file| file.write_all(&text)).context(what)?;
    fs::rename(&beside, path).context(what)
}
