//! What an image says of how it is run, as a policy and a command.

use std::ffi::OsString;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;
use nix::sys::stat::Mode;

use super::Ready;
use super::engine::{ImageConfig, read_in_root};
use crate::error::{Context, Error, Result};
use crate::rootfs::{Inside, Leaf};
use crate::sandbox::{Level, Policy};

impl Ready {
    /// The command, with the image's entry point before it, or the image's own if `command` is empty; and `policy` with the
    /// image's root, variables, working directory and user where it leaves them open.
    ///
    /// `secret` says which names look like secrets': such variables come from the image only if the policy names them.
    /// They are the second answer.
    ///
    /// # Errors
    /// If there is no command, the policy has another root, or the image's user is not in its `/etc/passwd`.
    pub fn apply(
        &self,
        policy: &mut Policy,
        command: Vec<OsString>,
        secret: impl Fn(&str) -> bool,
    ) -> Result<(Vec<OsString>, Vec<String>)> {
        if policy.files.rootfs.is_some() {
            return Err(Error::config("files.rootfs: the image is the root file system"));
        }
        policy.files.rootfs = Some(self.rootfs.clone());
        policy.level.get_or_insert(Level::Container);
        let config = &self.image.config;
        let mut left_out = Vec::new();
        for variable in &config.env {
            let (name, value) = variable.split_once('=').unwrap_or((variable, ""));
            let environment = &mut policy.environment;
            if environment.pass.iter().any(|passed| passed == name) {
                continue;
            }
            if secret(name) && !environment.allow_secret.iter().any(|allowed| allowed == name) {
                left_out.push(name.to_owned());
                continue;
            }
            environment.set.entry(name.to_owned()).or_insert_with(|| value.to_owned());
        }
        if policy.files.cwd.is_none() && policy.files.workspace.is_none() {
            policy.files.cwd = Some(working_directory(config));
        }
        if policy.user.is_none() && !config.user.is_empty() {
            policy.user = Some(user(&self.rootfs, &config.user)?);
        }
        let words = |list: &[String]| list.iter().map(OsString::from).collect::<Vec<_>>();
        let rest = if command.is_empty() { words(&config.cmd) } else { command };
        let whole = [words(&config.entrypoint), rest].concat();
        if whole.is_empty() {
            return Err(Error::config("CMD: the image has no command, and none is given"));
        }
        Ok((whole, left_out))
    }
}

fn working_directory(config: &ImageConfig) -> PathBuf {
    Path::new("/").join(&config.working_dir)
}

/// What an engine would add when it runs a container: the working directory, which a Dockerfile may name without making it,
/// and the names of this machine.
pub(super) fn furnish(rootfs: &Path, config: &ImageConfig) -> Result<()> {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let root = nix::fcntl::open(rootfs, flags, Mode::empty()).context(|| "open the root")?;
    let inside = Inside(root.as_fd());
    inside.open_or_make(&working_directory(config), Leaf::Directory)?;
    let hosts = inside.open_or_make(Path::new("/etc/hosts"), Leaf::File)?;
    let stat = nix::sys::stat::fstat(&hosts).context(|| "look at /etc/hosts in the root")?;
    if stat.st_size == 0 && stat.st_mode & libc::S_IFMT == libc::S_IFREG {
        let write = || {
            let path = format!("/proc/self/fd/{}", hosts.as_raw_fd());
            std::fs::write(&path, "127.0.0.1\tlocalhost\n::1\tlocalhost\n")?;
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644))
        };
        write().context(|| "write /etc/hosts in the root")?;
    }
    Ok(())
}

/// `USER` as numbers, `UID:GID`: names are looked up in the image.
fn user(rootfs: &Path, user: &str) -> Result<String> {
    let (name, group) = user.split_once(':').map_or((user, None), |(name, group)| (name, Some(group)));
    let passwd = read_in_root(rootfs, "/etc/passwd").unwrap_or_default();
    let entry = |name: &str| {
        let column = usize::from(name.parse::<u32>().is_ok()) * 2;
        let mut lines = passwd.lines().map(|line| line.split(':').collect::<Vec<_>>());
        let fields = lines.find(|fields| fields.get(column) == Some(&name))?;
        Some((fields.get(2)?.parse::<u32>().ok()?, fields.get(3)?.parse::<u32>().ok()?))
    };
    let (uid, own_group) = match (entry(name), name.parse::<u32>()) {
        (Some((uid, gid)), _) => (uid, Some(gid)),
        (None, Ok(uid)) => (uid, None),
        (None, Err(_)) => return Err(Error::config(format!("USER {user:?}: no {name:?} in the image's /etc/passwd"))),
    };
    let gid = match group {
        None => own_group.unwrap_or(0),
        Some(group) => match group.parse::<u32>() {
            Ok(gid) => gid,
            Err(_) => group_id(rootfs, group)
                .ok_or_else(|| Error::config(format!("USER {user:?}: no {group:?} in the image's /etc/group")))?,
        },
    };
    Ok(format!("{uid}:{gid}"))
}

fn group_id(rootfs: &Path, name: &str) -> Option<u32> {
    let groups = read_in_root(rootfs, "/etc/group")?;
    let line = groups.lines().find(|line| line.split(':').next() == Some(name))?;
    line.split(':').nth(2)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn users_are_looked_up_in_the_image() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("etc")).unwrap();
        fs::write(dir.path().join("etc/passwd"), "root:x:0:0::/:/bin/sh\napp:x:7:8::/:/bin/sh\n").unwrap();
        fs::write(dir.path().join("etc/group"), "web:x:9:\n").unwrap();
        for (user_of_image, expected) in
            [("app", "7:8"), ("7", "7:8"), ("app:web", "7:9"), ("55", "55:0"), ("55:66", "55:66"), ("root:5", "0:5")]
        {
            assert_eq!(user(dir.path(), user_of_image).unwrap(), expected);
        }
        assert!(user(dir.path(), "nobody").is_err() && user(dir.path(), "app:none").is_err());
        // The host's is not looked at, whatever the image's file is.
        fs::remove_file(dir.path().join("etc/passwd")).unwrap();
        std::os::unix::fs::symlink("/etc/passwd", dir.path().join("etc/passwd")).unwrap();
        assert!(user(dir.path(), "root").is_err());
    }
}
