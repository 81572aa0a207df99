//! Mounting, in the order of config.json.

use std::ffi::CString;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag};
use nix::sys::stat::{Mode, fstat, mkdirat};
use nix::sys::statfs::{PROC_SUPER_MAGIC, fstatfs};
use nix::unistd::symlinkat;

use super::apply::{Root, copy_source};
use super::copy_up::copy_up;
use super::fresh::lay_over;
use super::inside::Leaf;
use super::{MountPlan, Switch, What, label};
use crate::error::{Context, Error, Result};
use crate::host::caller::in_initial_user_namespace;
use crate::sys::mount::{
    AT_RECURSIVE, FileSystem, MountAttr, OPEN_TREE_CLONE, attr, c_string, mount_setattr, move_mount, open_tree,
};

/// The inode number of every procfs's root directory (linux/proc_fs.h, `PROC_ROOT_INO`).
const PROC_ROOT: libc::ino_t = 1;

impl Root<'_> {
    /// Mounts everything that `mounts` names; `binds` are the sources of its bind mounts that are open already.
    ///
    /// # Errors
    /// Names the mount by its place, source and destination.
    pub fn mount_all(&self, binds: Vec<Option<OwnedFd>>) -> Result<()> {
        let mut binds = binds.into_iter();
        for mount in &self.plan.mounts {
            let bind = match binds.next().flatten() {
                None => copy_source(mount)?,
                open => open,
            };
            self.mount_one(mount, bind).map_err(|error| {
                let what = match &mount.what {
                    What::Bind { source, .. } => format!("bind {:?}", source.display().to_string()),
                    What::FileSystem { name, .. } => format!("mount {name:?}"),
                    What::Cgroups { .. } => "mount \"cgroup\"".to_owned(),
                    What::Overlay { lower, .. } => format!("overlay {:?}", lower.display().to_string()),
                    What::Remount => "remount".to_owned(),
                };
                error.context(format!(
                    "mounts[{}]: {what} on {:?}",
                    mount.index,
                    mount.destination.display().to_string()
                ))
            })?;
        }
        Ok(())
    }

    fn mount_one(&self, mount: &MountPlan, bind: Option<OwnedFd>) -> Result<()> {
        match &mount.what {
            What::Bind { .. } => {
                let tree = bind.ok_or_else(|| Error::system("its source was not opened"))?;
                let stat = fstat(&tree)?;
                let directory = stat.st_mode & libc::S_IFMT == libc::S_IFDIR;
                if mount.destination == Path::new("/proc")
                    && (stat.st_ino != PROC_ROOT || fstatfs(&tree)?.filesystem_type() != PROC_SUPER_MAGIC)
                {
                    return Err(Error::config(
                        "its source is not the root of a procfs, which is what belongs on /proc",
                    ));
                }
                let place = self.place(mount, if directory { Leaf::Directory } else { Leaf::File })?;
                set_attributes(&tree, mount)?;
                move_mount(tree, place)?;
            }
            What::FileSystem { name, hosts, .. } => {
                let place = self.place(mount, Leaf::Directory)?;
                let tree = match self.make_file_system(mount, &place) {
                    Err(error) if error.errno() == Some(libc::EPERM) => self.hosts_own(mount, name, *hosts, error)?,
                    tree => tree?,
                };
                move_mount(tree, place)?;
            }
            What::Cgroups { binds, links } => self.mount_cgroups(mount, binds, links)?,
            What::Overlay { lower, data } => {
                let place = self.place(mount, Leaf::Directory)?;
                let fs = FileSystem::open(c"tmpfs")?;
                configure(&fs, "tmpfs", "tmpfs", data, &place)?;
                self.label(&fs, "tmpfs")?;
                create(&fs)?;
                let memory = fs.mount(attr::NOSUID | attr::NODEV)?;
                move_mount(&memory, place)?;
                move_mount(lay_over(lower, memory.as_fd(), mount.attributes.set, self.plan.bind_devices)?, memory)?;
            }
            What::Remount => {
                let place = self.inside().open(&mount.destination, OFlag::O_PATH)?;
                set_attributes(&place, mount)?;
            }
        }
        Ok(())
    }

    /// A detached mount of a new file system, which is to go on `place`.
    fn make_file_system(&self, mount: &MountPlan, place: &OwnedFd) -> Result<OwnedFd> {
        let What::FileSystem { name, source, data, copy_up: copies, .. } = &mount.what else {
            return Err(Error::system("it is no new file system"));
        };
        let fs = FileSystem::open(&c_string(name.as_str())?).map_err(|errno| {
            if errno == Errno::ENODEV {
                Error::unsupported("this kernel does not know the file system")
            } else {
                errno.into()
            }
        })?;
        configure(&fs, name, source, data, place)?;
        if !label::is_own(data) {
            self.label(&fs, name)?;
        }
        create(&fs)?;
        let tree = fs.mount(if *copies { 0 } else { mount.attributes.set })?;
        self.label_root(&tree, name)?;
        if *copies {
            copy_up(self.inside(), &mount.destination, tree.as_fd()).context(|| "copy what is below it")?;
            set_attributes(&tree, mount)?;
        } else if !mount.recursive.is_empty() || !mount.propagation.is_empty() {
            set_attributes(&tree, &MountPlan { attributes: super::Attributes::default(), ..mount.clone() })?;
        }
        Ok(tree)
    }

    /// A copy of the host's own mount of the file system `name`, at `hosts`, in the place of a new one, which the kernel has
    /// refused: of a namespace that is the host's, the root of a user namespace mounts none.
    fn hosts_own(&self, mount: &MountPlan, name: &str, hosts: Option<&str>, refused: Error) -> Result<OwnedFd> {
        if self.plan.switch == Switch::Chroot || in_initial_user_namespace()? {
            return Err(refused);
        }
        let Some(path) = hosts else {
            let why = "in a user namespace, it is mounted where nothing covers a part of the one that is there already";
            let hidden = matches!(name, "proc" | "sysfs");
            return Err(if hidden { refused.context(why) } else { refused });
        };
        let tree = open_tree(AT_FDCWD.as_raw_fd(), &c_string(path)?, OPEN_TREE_CLONE | AT_RECURSIVE)
            .map_err(|errno| refused.clone().context(format!("bind the host's {path:?} instead ({errno})")))?;
        set_attributes(&tree, mount)?;
        self.notes.borrow_mut().push(format!(
            "mounts[{}]: the host's {path:?} is bound on {:?}: a user namespace mounts no {name:?} of what it shares with the host",
            mount.index,
            mount.destination.display().to_string()
        ));
        Ok(tree)
    }

    /// A handle on the mount's destination, made where it is missing.
    fn place(&self, mount: &MountPlan, leaf: Leaf) -> Result<OwnedFd> {
        // What says things about processes and the kernel must be where everything later looks for it: a link in the
        // image could otherwise have it somewhere else while the masks and checks go by the name.
        if matches!(&mount.what, What::FileSystem { name, .. } if name == "proc" || name == "sysfs") {
            match self.inside().open(&mount.destination, OFlag::O_PATH | OFlag::O_NOFOLLOW) {
                Ok(fd) if fstat(&fd)?.st_mode & libc::S_IFMT != libc::S_IFDIR => {
                    return Err(Error::config("the destination is not a directory"));
                }
                Ok(fd) => return Ok(fd),
                Err(Errno::ENOENT) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        let place = self.inside().open_or_make(&mount.destination, leaf)?;
        // The plan has let through only what may be inside /proc by name; a link in the image can say otherwise.
        let named = mount.destination.starts_with("/proc");
        if !named && fstatfs(&place)?.filesystem_type() == PROC_SUPER_MAGIC {
            return Err(Error::config("a symbolic link leads the destination into /proc"));
        }
        Ok(place)
    }

    fn mount_cgroups(
        &self,
        mount: &MountPlan,
        binds: &[(String, std::path::PathBuf)],
        links: &[(String, String)],
    ) -> Result<()> {
        let copy = |directory: &Path| -> Result<OwnedFd> {
            let path = c_string(directory.as_os_str().as_encoded_bytes())?;
            let tree = open_tree(AT_FDCWD.as_raw_fd(), &path, OPEN_TREE_CLONE)
                .context(|| format!("open {:?}", directory.display().to_string()))?;
            set_attributes(&tree, mount)?;
            Ok(tree)
        };
        let place = self.place(mount, Leaf::Directory)?;
        if let [(name, directory)] = binds
            && name.is_empty()
        {
            return Ok(move_mount(copy(directory)?, place)?);
        }
        let fs = FileSystem::open(c"tmpfs")?;
        fs.set(c"mode", Some(c"755"))?;
        self.label(&fs, "tmpfs")?;
        fs.create()?;
        let tree = fs.mount(mount.attributes.set & !attr::RDONLY)?;
        // A detached tree takes no mounts before Linux 6.15, so it goes to its place first.
        move_mount(&tree, place)?;
        for (name, directory) in binds {
            mkdirat(&tree, name.as_str(), Mode::from_bits_retain(0o755))?;
            let place = nix::fcntl::openat(
                &tree,
                name.as_str(),
                OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC,
                Mode::empty(),
            )?;
            move_mount(copy(directory)?, place)?;
        }
        for (name, target) in links {
            symlinkat(target.as_str(), &tree, name.as_str())?;
        }
        if mount.attributes.set & attr::RDONLY != 0 {
            mount_setattr(&tree, false, &MountAttr { set: attr::RDONLY, ..MountAttr::default() })?;
        }
        Ok(())
    }
}

/// Gives the file system its parameters.
fn configure(
    fs: &FileSystem,
    name: &str,
    source: &str,
    data: &[(String, Option<String>)],
    place: &OwnedFd,
) -> Result<()> {
    let refused = |what: String, errno: Errno| {
        let error = Error::from(errno).context(what);
        match fs.complaint() {
            Some(complaint) => error.context(complaint),
            None => error,
        }
    };
    fs.set(c"source", Some(&c_string(source)?)).map_err(|errno| refused(format!("source {source:?}"), errno))?;
    for (key, value) in data {
        let value: Option<CString> = value.as_deref().map(c_string).transpose()?;
        fs.set(&c_string(key.as_str())?, value.as_deref())
            .map_err(|errno| refused(format!("option {key:?}"), errno))?;
    }
    if name == "tmpfs" && !data.iter().any(|(key, _)| key == "mode") {
        // A tmpfs over a directory looks like the directory.
        let mode = format!("{:o}", fstat(place)?.st_mode & 0o7777);
        fs.set(c"mode", Some(&c_string(mode)?))?;
    }
    Ok(())
}

fn create(fs: &FileSystem) -> Result<()> {
    fs.create().map_err(|errno| match fs.complaint() {
        Some(complaint) => Error::from(errno).context(complaint),
        None => errno.into(),
    })
}

/// Changes the attributes and the propagation of a mount as its plan says.
fn set_attributes(tree: &impl AsFd, mount: &MountPlan) -> Result<()> {
    for (attributes, recursive) in [(mount.recursive, true), (mount.attributes, false)] {
        if !attributes.is_empty() {
            let change = MountAttr { set: attributes.set, clear: attributes.clear, ..MountAttr::default() };
            mount_setattr(tree, recursive, &change).context(|| "set its attributes")?;
        }
    }
    for (propagation, recursive) in &mount.propagation {
        let change = MountAttr { propagation: *propagation, ..MountAttr::default() };
        mount_setattr(tree, *recursive, &change).context(|| "set its propagation")?;
    }
    Ok(())
}
