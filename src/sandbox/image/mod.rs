//! Development environments: the image that a directory's Dockerfile describes, built by the engine that is there, and
//! unpacked as a root file system.
//!
//! An image is kept by a key, which stands for the Dockerfile and all that it copies: the same key needs no building, and
//! another one says that the image is stale. What a build fetches from elsewhere (`FROM` with a name that moves, `ADD` of an address,
//! what `RUN` downloads) is not in it.

mod cache;
mod context;
mod dockerfile;
mod engine;
mod pattern;
mod run;
mod unpack;

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde::Serialize;

pub use cache::{Cache, Image, Project};
pub use context::Source;
pub use engine::{Engine, ImageConfig};
pub use unpack::Unpacked;

use crate::error::{Context, Error, Result};
use crate::host::clock;
use cache::project_id;
use context::Content;

/// What is there of a directory's image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase", tag = "state")]
pub enum State {
    /// No image was built yet, or it was removed.
    Missing,
    /// It is what would be built now.
    Fresh,
    /// It was built from something else.
    Stale {
        /// What has changed since, for people.
        changes: Vec<String>,
    },
}

/// How to go about building.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct BuildOptions {
    /// The engine; the first that answers if None.
    pub engine: Option<Engine>,
    /// Build although there is one, and every step anew.
    pub no_cache: bool,
}

/// An image that can be run, as long as this lives: nobody removes it meanwhile.
#[derive(Debug)]
pub struct Ready {
    /// The image.
    pub image: Image,
    /// Its root file system.
    pub rootfs: PathBuf,
    /// What was there before.
    pub before: State,
    /// What the build has fetched from elsewhere, which may be something else by now.
    pub remote: Vec<String>,
    _lock: File,
}

/// If `rootfs` is an image's of a cache: a lock on the image, which keeps others from removing it as long as this lives.
pub fn keep_in_place(rootfs: &Path) -> Option<File> {
    let image = rootfs.parent().filter(|image| rootfs.ends_with("rootfs") && image.join("image.json").is_file())?;
    let lock = File::open(image).ok()?;
    lock.lock_shared().ok()?;
    Some(lock)
}

/// What is there of the image of `source`.
///
/// # Errors
/// If the directory cannot be read.
pub fn state(cache: &Cache, source: &Source) -> Result<State> {
    state_of(cache, source, &context::read(source)?)
}

fn state_of(cache: &Cache, source: &Source, content: &Content) -> Result<State> {
    if cache.image(&content.key)?.is_some() {
        return Ok(State::Fresh);
    }
    let Some(project) = cache.project(content, source.target.as_deref())? else { return Ok(State::Missing) };
    if project.key == content.key || cache.image(&project.key)?.is_none() {
        return Ok(State::Missing);
    }
    let mut changes = project.pieces.changes(&content.pieces);
    if changes.is_empty() {
        changes.push("the build arguments, or very many files".to_owned());
    }
    Ok(State::Stale { changes })
}

/// The image of `source`: the one that is there if it is fresh, and else a new one. `tell` hears what is there before
/// anything is built.
///
/// # Errors
/// [`crate::error::Kind::Unsupported`] if no engine answers; if it cannot be built, or what it is built from changes meanwhile.
pub fn build(cache: &Cache, source: &Source, options: BuildOptions, tell: impl FnOnce(&State)) -> Result<Ready> {
    let content = context::read(source)?;
    let before = state_of(cache, source, &content)?;
    tell(&before);
    if !options.no_cache
        && let Some((image, rootfs, lock)) = cache.image(&content.key)?
    {
        remember(cache, source, &content)?;
        return Ok(Ready { image, rootfs, before, remote: content.remote, _lock: lock });
    }
    let engine = Engine::find(options.engine)?;
    let scratch = cache.scratch(&content.key)?;
    let made = make(cache, engine, source, &content, options, &scratch);
    if made.is_err() {
        let _ = fs::remove_dir_all(&scratch);
    }
    made?;
    remember(cache, source, &content)?;
    match cache.image(&content.key)? {
        Some((image, rootfs, lock)) => Ok(Ready { image, rootfs, before, remote: content.remote, _lock: lock }),
        None => Err(Error::system("the image was removed as soon as it was built")),
    }
}

fn make(
    cache: &Cache,
    engine: Engine,
    source: &Source,
    content: &Content,
    options: BuildOptions,
    scratch: &Path,
) -> Result<()> {
    let project = project_id(&content.directory, &content.file, source.target.as_deref());
    let tag = format!("localhost/procrt-sandbox:{project}");
    let id = engine.build(source, content, &tag, options.no_cache, scratch)?;
    if context::read(source)?.key != content.key {
        return Err(Error::system("what the image is built from has changed while it was built"));
    }
    let config = engine.config(&id)?;
    let rootfs = scratch.join("rootfs");
    fs::create_dir(&rootfs).context(|| "make the root")?;
    let unpacked = engine.archive(&id, |archive| unpack::unpack(archive, &rootfs))?;
    run::furnish(&rootfs, &config)?;
    let _ = fs::remove_file(scratch.join("id"));
    let built = clock::rfc3339(SystemTime::now());
    let image = Image { key: content.key.clone(), engine, tag, built, config, unpacked };
    if options.no_cache && !cache.remove(&content.key)? {
        return Err(Error::system("the image is in use: it cannot be replaced"));
    }
    cache.keep(scratch, &image)
}

/// Remembers the directory's image, and removes the one that it had before if nobody else has it.
fn remember(cache: &Cache, source: &Source, content: &Content) -> Result<()> {
    let before = cache.project(content, source.target.as_deref())?;
    if before.as_ref().is_some_and(|project| project.key == content.key) {
        return Ok(());
    }
    cache.remember(&Project {
        directory: content.directory.clone(),
        file: content.file.clone(),
        target: source.target.clone(),
        key: content.key.clone(),
        pieces: content.pieces.clone(),
    })?;
    if let Some(before) = before
        && !cache.is_wanted(&before.key)?
    {
        // One that is in use stays, until the directory's images are invalidated.
        cache.remove(&before.key)?;
    }
    Ok(())
}

/// Removes the images of a directory, or all if None; answers the directories whose images are gone.
///
/// # Errors
/// Names the first that is in use; those before it are gone.
pub fn invalidate(cache: &Cache, directory: Option<&Path>) -> Result<Vec<PathBuf>> {
    // A directory that is gone may have had an image.
    let directory = directory.map(|path| path.canonicalize().or_else(|_| std::path::absolute(path)));
    let directory = directory.transpose().context(|| "the directory")?;
    let all = cache.projects()?;
    let of = |project: &&Project| directory.as_ref().is_none_or(|directory| *directory == project.directory);
    let (chosen, others): (Vec<&Project>, Vec<&Project>) = all.iter().partition(of);
    let mut gone = Vec::new();
    for project in chosen {
        let image = cache.image(&project.key)?.map(|(image, _, _)| image);
        if !others.iter().any(|other| other.key == project.key) && !cache.remove(&project.key)? {
            let directory = project.directory.display().to_string();
            return Err(Error::system(format!("the image of {directory:?} is in use by a sandbox")));
        }
        cache.forget(project)?;
        if let Some(image) = image {
            let tag = project_id(&project.directory, &project.file, project.target.as_deref());
            image.engine.forget(&format!("localhost/procrt-sandbox:{tag}"));
        }
        gone.push(project.directory.clone());
    }
    Ok(gone)
}
