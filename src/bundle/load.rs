//! Reading a bundle: one read of `config.json`, one parse; only when that fails is the fault looked for.

use std::fs::File;
use std::io::Read;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::fcntl::{OFlag, open, openat};
use nix::sys::stat::Mode;
use oci_spec::runtime::{LinuxResources, Process, Spec};
use serde_json::error::Category;

use super::{CONFIG, faults, nul, objects, validate};
use crate::error::{Context, Error, Faults, Result};

/// The largest `config.json`, in bytes: far above any that is written, and far below what reading would be felt.
const LARGEST: u64 = 64 << 20;

/// A bundle that was read.
#[derive(Debug, Clone)]
pub struct Bundle {
    /// The bundle's directory: absolute, without symbolic links.
    pub dir: PathBuf,
    /// Its configuration.
    pub spec: Spec,
    /// The root file system's directory: absolute, without symbolic links. Empty if a fault was recorded about it.
    pub rootfs: PathBuf,
}

/// Reads the bundle in `dir` and checks what belongs to no slice.
///
/// # Errors
/// Whatever [`read`] gives or records.
pub fn load(dir: &Path) -> Result<Bundle> {
    let mut faults = Faults::default();
    let bundle = read(dir, &mut faults)?;
    faults.into_result()?;
    Ok(bundle)
}

/// Reads the bundle in `dir` and records in `faults` what [`load`] would refuse, so that the slices' faults join them.
///
/// # Errors
/// `Kind::System` if the directory or its `config.json` cannot be read; `Kind::Config` if that is no JSON, or has
/// values of a wrong type: then nothing can be planned, and all such values are named at once.
pub fn read(dir: &Path, faults: &mut Faults) -> Result<Bundle> {
    let (dir_fd, dir) = resolve(dir).context(|| format!("open bundle {dir:?}"))?;
    let text = read_file(&dir_fd, Path::new(CONFIG)).context(|| format!("read {:?}", dir.join(CONFIG)))?;
    let spec = parse(&text)?;
    validate(&spec, faults);
    nul::check(&text, faults);
    let rootfs = spec.root().as_ref().map(|root| root.path().as_path()).filter(|path| !path.as_os_str().is_empty());
    let rootfs = rootfs.and_then(|path| match resolve_root(&dir, path) {
        Ok(path) => Some(path),
        Err(error) => {
            faults.add("root.path", error);
            None
        }
    });
    Ok(Bundle { dir, spec, rootfs: rootfs.unwrap_or_default() })
}

/// Reads a file that has one `process` object of a configuration in it, as `exec --process` takes it.
///
/// # Errors
/// As [`read`] has them, with paths that begin with `process`.
pub fn read_process(path: &Path) -> Result<Process> {
    let text = read_at_path(path)?;
    if let Some(process) = object(&text, path)? {
        return Ok(process);
    }
    // What is wrong is found as in a configuration that is right but for this.
    let whole = [br#"{"ociVersion":"1.0.0","root":{"path":"/"},"linux":{},"process":"#, &text[..], b"}"].concat();
    match parse(&whole).context(|| format!("{path:?}"))?.process() {
        Some(process) => Ok(process.clone()),
        None => Err(Error::config(format!("{path:?} is not a process"))),
    }
}

/// Reads a file, or with `-` standard input, that has one `linux.resources` object of a configuration in it, as `update
/// --resources` takes it.
///
/// # Errors
/// As [`read`] has them, with paths that begin with `linux.resources`.
pub fn read_resources(path: &Path) -> Result<LinuxResources> {
    let text = if path == Path::new("-") {
        let mut text = Vec::new();
        let mut input = std::io::stdin().lock().take(LARGEST + 1);
        input.read_to_end(&mut text).context(|| "read standard input")?;
        if text.len() as u64 > LARGEST {
            return Err(Error::config(format!("standard input has more than {LARGEST} bytes")));
        }
        text
    } else {
        read_at_path(path)?
    };
    if let Some(resources) = object(&text, path)? {
        return Ok(resources);
    }
    let start = br#"{"ociVersion":"1.0.0","root":{"path":"/"},"process":{"cwd":"/","args":["/"],"user":{"uid":0,"gid":0}},"linux":{"resources":"#;
    let whole = [start, &text[..], b"}}"].concat();
    let spec = parse(&whole).context(|| format!("{path:?}"))?;
    match spec.linux().as_ref().and_then(|linux| linux.resources().clone()) {
        Some(resources) => Ok(resources),
        None => Err(Error::config(format!("{path:?} is not resources"))),
    }
}

fn read_at_path(path: &Path) -> Result<Vec<u8>> {
    let here = open(".", OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())?;
    read_file(&here, path).context(|| format!("read {path:?}"))
}

/// The value of a JSON object; none if it has not what that takes.
fn object<T: serde::de::DeserializeOwned>(text: &[u8], path: &Path) -> Result<Option<T>> {
    match objects::from_slice(text) {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.classify() != Category::Data => Err(Error::config(format!("{path:?} is no JSON: {error}"))),
        _ => Ok(None),
    }
}

/// Opens a directory and asks the kernel for its path.
fn resolve(path: &Path) -> Result<(OwnedFd, PathBuf)> {
    let fd = open(path, OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())?;
    let path = std::fs::read_link(format!("/proc/self/fd/{}", fd.as_raw_fd())).context(|| "read /proc/self/fd")?;
    // It is in the container's state, which is JSON.
    if path.to_str().is_none() {
        return Err(Error::config(format!("the path {path:?} is not UTF-8")));
    }
    Ok((fd, path))
}

fn resolve_root(bundle: &Path, path: &Path) -> Result<PathBuf> {
    let (_, resolved) = resolve(&bundle.join(path)).context(|| format!("{path:?}"))?;
    if resolved == Path::new("/") {
        return Err(Error::config(format!("{path:?} is the host's own root directory")));
    }
    Ok(resolved)
}

fn read_file(dir: &OwnedFd, path: &Path) -> Result<Vec<u8>> {
    // Not to be stopped by a FIFO that nobody writes to.
    let fd = openat(dir, path, OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC, Mode::empty())?;
    let mut file = File::from(fd);
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(Error::config("not a regular file"));
    }
    let size = metadata.size();
    if size > LARGEST {
        return Err(Error::config(format!("{size} bytes are more than {LARGEST}")));
    }
    let mut text = vec![0; size as usize];
    let mut filled = 0;
    while filled < text.len() {
        match file.read(&mut text[filled..]) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error.into()),
        }
    }
    text.truncate(filled);
    Ok(text)
}

pub(super) fn parse(text: &[u8]) -> Result<Spec> {
    let mut spec = objects::from_slice(text).or_else(|error| faults::explain(text, &error))?;
    forget_missing_limit(&mut spec, text);
    Ok(spec)
}

/// Takes `linux.resources.pids` out where it has no limit: oci-spec makes a limit of 0 of that, which is another thing.
fn forget_missing_limit(spec: &mut Spec, text: &[u8]) {
    let resources = spec.linux_mut().as_mut().and_then(|linux| linux.resources_mut().as_mut());
    let Some(resources) = resources.filter(|all| all.pids().as_ref().is_some_and(|pids| pids.limit() == 0)) else {
        return;
    };
    let whole: serde_json::Value = serde_json::from_slice(text).unwrap_or_default();
    if whole.pointer("/linux/resources/pids/limit").is_none() {
        resources.set_pids(None);
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;
    use std::time::Duration;

    use super::*;
    use crate::bundle::{default_spec, render};
    use crate::error::Kind;

    /// A bundle whose configuration is the default one after `change`.
    fn bundle(change: impl FnOnce(&mut serde_json::Value)) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("rootfs")).unwrap();
        let mut value = serde_json::from_str(&render(&default_spec(None)).unwrap()).unwrap();
        change(&mut value);
        std::fs::write(dir.path().join(CONFIG), value.to_string()).unwrap();
        dir
    }

    #[test]
    fn a_bundle_is_read_and_its_paths_are_resolved() {
        let dir = bundle(|_| ());
        let link = tempfile::tempdir().unwrap();
        let link = link.path().join("link");
        symlink(dir.path(), &link).unwrap();
        let bundle = load(&link).unwrap();
        assert_eq!(bundle.dir, dir.path().canonicalize().unwrap());
        assert_eq!(bundle.rootfs, bundle.dir.join("rootfs"));
        assert_eq!(bundle.spec.hostname().as_deref(), Some("procrt"));
    }

    #[test]
    fn an_absolute_root_is_taken_as_it_is() {
        let root = tempfile::tempdir().unwrap();
        let dir = bundle(|spec| spec["root"]["path"] = root.path().to_str().unwrap().into());
        assert_eq!(load(dir.path()).unwrap().rootfs, root.path().canonicalize().unwrap());
    }

    #[test]
    fn a_missing_bundle_or_configuration_is_named() {
        let error = load(Path::new("/nonexistent")).unwrap_err();
        assert_eq!(error.to_string(), r#"open bundle "/nonexistent": no such file or directory (os error 2)"#);
        let dir = tempfile::tempdir().unwrap();
        let error = load(dir.path()).unwrap_err();
        assert!(error.to_string().ends_with(r#"/config.json": no such file or directory (os error 2)"#), "{error}");
    }

    #[test]
    fn a_fifo_or_directory_as_configuration_does_not_hang() {
        let dir = tempfile::tempdir().unwrap();
        nix::unistd::mkfifo(&dir.path().join(CONFIG), Mode::S_IRWXU).unwrap();
        assert!(load(dir.path()).unwrap_err().to_string().ends_with("not a regular file"));
        std::fs::remove_file(dir.path().join(CONFIG)).unwrap();
        std::fs::create_dir(dir.path().join(CONFIG)).unwrap();
        assert!(load(dir.path()).unwrap_err().to_string().ends_with("not a regular file"));
    }

    #[test]
    fn a_root_that_is_missing_or_no_directory_is_named() {
        let dir = bundle(|spec| spec["root"]["path"] = "nowhere".into());
        let error = load(dir.path()).unwrap_err();
        assert_eq!(error.to_string(), r#"root.path: "nowhere": no such file or directory (os error 2)"#);
        let dir = bundle(|spec| spec["root"]["path"] = CONFIG.into());
        let error = load(dir.path()).unwrap_err();
        assert_eq!(error.to_string(), r#"root.path: "config.json": not a directory (os error 20)"#);
    }

    #[test]
    fn a_root_that_is_the_hosts_is_refused_also_behind_a_link() {
        let dir = bundle(|spec| spec["root"]["path"] = "link".into());
        for target in ["/", "/proc/self/root", "../../../../../../../.."] {
            symlink(target, dir.path().join("link")).unwrap();
            let error = load(dir.path()).unwrap_err();
            assert_eq!(error.to_string(), r#"root.path: "link" is the host's own root directory"#, "{target}");
            std::fs::remove_file(dir.path().join("link")).unwrap();
        }
    }

    #[test]
    fn faults_of_the_root_and_the_rest_are_reported_together() {
        let dir = bundle(|spec| {
            spec["ociVersion"] = "2.0.0".into();
            spec["root"]["path"] = "nowhere".into();
        });
        let error = load(dir.path()).unwrap_err();
        assert_eq!(error.kind(), Kind::Config);
        assert_eq!(
            error.to_string(),
            "ociVersion: \"2.0.0\" is not supported (1.x is); \
             root.path: \"nowhere\": no such file or directory (os error 2)"
        );
    }

    #[test]
    fn a_list_is_no_configuration() {
        assert_eq!(parse(b" [\"1.0.0\"]").unwrap_err().to_string(), "config.json: a list is not an object");
    }

    #[test]
    fn no_limit_of_processes_is_told_from_a_limit_of_none() {
        let limit = |pids: serde_json::Value| {
            let dir = bundle(|spec| spec["linux"]["resources"] = serde_json::json!({"pids": pids}));
            let resources = load(dir.path()).unwrap().spec.linux().as_ref().unwrap().resources().clone().unwrap();
            resources.pids().as_ref().map(oci_spec::runtime::LinuxPids::limit)
        };
        assert_eq!(limit(serde_json::json!({})), None);
        assert_eq!(limit(serde_json::json!({"limit": 0})), Some(0));
        assert_eq!(limit(serde_json::json!({"limit": -1})), Some(-1));
    }

    fn thread_time() -> Duration {
        nix::time::ClockId::CLOCK_THREAD_CPUTIME_ID.now().unwrap().into()
    }

    /// Against the plain reading of the same text, since machines and guests differ by far more than a mistake would.
    #[test]
    fn ten_megabytes_take_little_longer_than_their_json() {
        let dir = bundle(|spec| {
            let environment: Vec<_> = (0..100_000).map(|i| format!("VARIABLE_{i}={}", "x".repeat(90))).collect();
            spec["process"]["env"] = environment.into();
        });
        let text = std::fs::read(dir.path().join(CONFIG)).unwrap();
        assert!(text.len() > 10_000_000);
        // Of its own time: what else the machine does is not counted.
        let begin = thread_time();
        let value: serde_json::Value = serde_json::from_slice(&text).unwrap();
        let plain = thread_time().saturating_sub(begin);
        drop(value);
        let begin = thread_time();
        load(dir.path()).unwrap();
        let took = thread_time().saturating_sub(begin);
        println!("{took:?} against {plain:?}");
        assert!(took < plain * 10 + Duration::from_millis(200), "{took:?} against {plain:?}");
    }

    #[test]
    fn more_than_the_limit_is_refused_unread() {
        let dir = tempfile::tempdir().unwrap();
        File::create(dir.path().join(CONFIG)).unwrap().set_len(LARGEST + 1).unwrap();
        let error = load(dir.path()).unwrap_err();
        assert!(error.to_string().ends_with("67108865 bytes are more than 67108864"), "{error}");
    }
}
