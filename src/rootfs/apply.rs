//! Making the root, step by step; the steps' order is the caller's (`init`).

use std::cell::RefCell;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use nix::fcntl::{AT_FDCWD, OFlag, OpenHow, ResolveFlag, open, openat2};
use nix::mount::{MntFlags, MsFlags, umount2};
use nix::sys::stat::{Mode, fstat, stat};
use nix::sys::statfs::{FsType, fstatfs};
use nix::unistd::{chdir, chroot, fchdir, pivot_root};

use super::inside::{Inside, Leaf};
use super::{Fresh, MountPlan, RootfsPlan, Switch, What};
use crate::error::{Context, Error, Result};
use crate::sys::mount::{
    AT_RECURSIVE, FileSystem, MountAttr, OPEN_TREE_CLONE, attr, c_string, mount_setattr, move_mount, open_tree,
};

/// Copies of the host's mounts that the root is made of, detached.
#[derive(Debug)]
pub struct Sources {
    root: Option<OwnedFd>,
    /// By the place in the plan's mounts, those that are open.
    pub(super) binds: Vec<Option<OwnedFd>>,
}

impl Sources {
    /// On the host's side, where the container's mounts are in its own user namespace, whose root may not look at what the
    /// host's may: opens all. Called in the container's mount namespace, what it opens is restricted as that is.
    ///
    /// # Errors
    /// Names the path that is not there.
    pub fn open_all(plan: &RootfsPlan) -> Result<Self> {
        let private = plan.propagation.0 == MsFlags::MS_PRIVATE.bits();
        let propagation = if private { MsFlags::MS_PRIVATE } else { MsFlags::MS_SLAVE };
        let root = match plan.fresh {
            // The container's own user makes it.
            Some(_) => None,
            None => Some(cut(copy_root(plan)?, propagation)?),
        };
        let mut binds = Vec::with_capacity(plan.mounts.len());
        for mount in &plan.mounts {
            binds.push(copy_source(mount)?.map(|tree| cut(tree, propagation)).transpose()?);
        }
        Ok(Self { root, binds })
    }

    /// On the host's side: opens what has to have its ids mapped there; mostly nothing.
    ///
    /// # Errors
    /// Names the path that is not there.
    pub fn open_mapped(plan: &RootfsPlan) -> Result<Option<Self>> {
        if plan.mounts.iter().all(|mount| mount.id_map.is_none()) {
            return Ok(None);
        }
        let propagation = MsFlags::from_bits_retain(plan.propagation.0);
        let mut binds = Vec::with_capacity(plan.mounts.len());
        for mount in &plan.mounts {
            let tree = mount.id_map.as_ref().map(|_| copy_source(mount)).transpose()?.flatten();
            let shared = propagation == MsFlags::MS_SHARED;
            binds.push(tree.map(|tree| if shared { Ok(tree) } else { cut(tree, propagation) }).transpose()?);
        }
        Ok(Some(Self { root: None, binds }))
    }

    /// What is open, in an order that [`Sources::received`] knows.
    pub fn into_list(self) -> Vec<OwnedFd> {
        self.root.into_iter().chain(self.binds.into_iter().flatten()).collect()
    }

    /// What [`Sources::open_all`] has opened, from the list of it.
    ///
    /// # Errors
    /// If some are missing.
    pub fn received(list: Vec<OwnedFd>, plan: &RootfsPlan) -> Result<Self> {
        let mut list = list.into_iter();
        let mut next = || list.next().map(Some).ok_or_else(|| Error::system("a mount's descriptor has not arrived"));
        let root = if plan.fresh.is_some() { None } else { next()? };
        let mut binds = Vec::with_capacity(plan.mounts.len());
        for mount in &plan.mounts {
            binds.push(if matches!(mount.what, What::Bind { .. }) { next()? } else { None });
        }
        Ok(Self { root, binds })
    }

    /// How many [`Sources::open_all`] opens.
    pub fn count(plan: &RootfsPlan) -> usize {
        usize::from(plan.fresh.is_none())
            + plan.mounts.iter().filter(|mount| matches!(mount.what, What::Bind { .. })).count()
    }

    /// In the child: the root file system's tree, opened if it is not yet, and the sources of bind mounts that are open, in
    /// the order of the mounts. The others are opened each at its turn, so that the kernel, which lists mounts in the order
    /// of their making, lists them in that of config.json; but all at once where mounts stay shared with the host's, since
    /// attaching the root takes `/` out of that (see [`Root::attach`]), and a source on it has to be copied before.
    ///
    /// # Errors
    /// Names the path that is not there.
    pub fn complete(given: Option<Self>, plan: &RootfsPlan) -> Result<(OwnedFd, Vec<Option<OwnedFd>>)> {
        let (root, mut binds) = given.map_or((None, Vec::new()), |given| (given.root, given.binds));
        let root = root.map_or_else(|| copy_root(plan), Ok)?;
        if plan.propagation.0 == MsFlags::MS_SHARED.bits() {
            binds.resize_with(plan.mounts.len(), || None);
            for (bind, mount) in binds.iter_mut().zip(&plan.mounts).filter(|(bind, _)| bind.is_none()) {
                *bind = copy_source(mount)?;
            }
        }
        Ok((root, binds))
    }

    /// All that is open.
    pub fn all(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.root.iter().chain(self.binds.iter().flatten()).map(AsFd::as_fd)
    }
}

/// Has a tree hear of the host's mounts no more than `propagation` says.
fn cut(tree: OwnedFd, propagation: MsFlags) -> Result<OwnedFd> {
    mount_setattr(&tree, true, &MountAttr { propagation: propagation.bits(), ..MountAttr::default() })?;
    Ok(tree)
}

fn copy_root(plan: &RootfsPlan) -> Result<OwnedFd> {
    if plan.fresh.is_some() {
        return Fresh::make();
    }
    copy_tree(&plan.root, true).context(|| format!("open the root file system {:?}", plan.root.display().to_string()))
}

/// A detached copy of a bind mount's source; none for another mount.
pub(super) fn copy_source(mount: &MountPlan) -> Result<Option<OwnedFd>> {
    let What::Bind { source, recursive } = &mount.what else {
        return Ok(None);
    };
    let what = || format!("mounts[{}].source: open {:?}", mount.index, source.display().to_string());
    let copied = copy_tree(source, *recursive).map_err(|error| match error.errno() {
        // Without what is mounted below it a mount is not copied in a user namespace: that may be there to hide something.
        Some(libc::EINVAL) if !recursive => error.context("with mounts below it, it takes rbind in a user namespace"),
        _ => error,
    });
    copied.context(what).map(Some)
}

fn copy_tree(path: &Path, recursive: bool) -> Result<OwnedFd> {
    let flags = OPEN_TREE_CLONE | if recursive { AT_RECURSIVE } else { 0 };
    Ok(open_tree(AT_FDCWD.as_raw_fd(), &c_string(path.as_os_str().as_encoded_bytes())?, flags)?)
}

/// The container's root while it is made.
#[derive(Debug)]
pub struct Root<'a> {
    pub(super) plan: &'a RootfsPlan,
    pub(super) fd: OwnedFd,
    /// What is otherwise than asked for.
    pub(super) notes: RefCell<Vec<String>>,
}

impl<'a> Root<'a> {
    /// Sets how the new mount namespace's mounts hear of the host's.
    ///
    /// # Errors
    /// As mount_setattr(2).
    pub fn set_propagation(plan: &RootfsPlan) -> Result<()> {
        if plan.switch == Switch::Chroot {
            return Ok(()); // these mounts are the host's
        }
        let (propagation, recursive) = plan.propagation;
        set_propagation_of(Path::new("/"), propagation, recursive)
            .context(|| "set the propagation of the host's mounts")
    }

    /// Attaches the root file system, where the mounts can go on it.
    ///
    /// # Errors
    /// As move_mount(2).
    pub fn attach(plan: &'a RootfsPlan, root: OwnedFd) -> Result<Self> {
        let what = || format!("mount the root file system {:?}", plan.root.display().to_string());
        // On top of `/` no path leads through the root before it is `/` itself: host paths keep their meaning.
        let place = if plan.switch == Switch::Chroot { plan.root.as_path() } else { Path::new("/") };
        if plan.switch == Switch::Chroot {
            let private = MountAttr { propagation: MsFlags::MS_PRIVATE.bits(), ..MountAttr::default() };
            mount_setattr(&root, true, &private).context(what)?;
        } else if plan.propagation.0 == MsFlags::MS_SHARED.bits() {
            // Otherwise the host's `/` would be covered too.
            set_propagation_of(place, MsFlags::MS_PRIVATE.bits(), false).context(what)?;
            // A copy of a shared mount is shared, which pivot_root(2) refuses of a new root; it is shared again afterwards.
            let private = MountAttr { propagation: MsFlags::MS_PRIVATE.bits(), ..MountAttr::default() };
            mount_setattr(&root, false, &private).context(what)?;
        }
        let place = open(place, OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty()).context(what)?;
        move_mount(&root, &place).context(what)?;
        Ok(Self { plan, fd: root, notes: RefCell::default() })
    }

    /// What was made otherwise than asked for, as this kernel does not let a user namespace's root do it: sentences.
    pub fn take_notes(&self) -> Vec<String> {
        self.notes.take()
    }

    /// Furnishes a root that was made for the container. The caller's umask must be 0.
    ///
    /// # Errors
    /// Names the path.
    pub fn furnish(&mut self) -> Result<()> {
        if let Some(fresh) = &self.plan.fresh
            && let Some(over) = fresh.furnish(self.fd.as_fd(), self.plan.bind_devices)?
        {
            // Not on top of the other one, which would cover the old root when that is to be unmounted.
            let what = || "put the root in its place";
            let place = format!("/proc/self/fd/{}", self.fd.as_raw_fd());
            umount2(place.as_str(), MntFlags::MNT_DETACH).context(what)?;
            move_mount(&over, open_directory(Path::new("/")).context(what)?).context(what)?;
            self.fd = over;
        }
        Ok(())
    }

    pub(super) fn inside(&self) -> Inside<'_> {
        Inside(self.fd.as_fd())
    }

    /// Opens the pty multiplexer of the container's own devpts.
    ///
    /// # Errors
    /// If the root has none.
    pub fn open_ptmx(&self) -> Result<OwnedFd> {
        open_ptmx(self.fd.as_fd())
    }

    /// Puts the terminal on /dev/console.
    ///
    /// # Errors
    /// As open_tree(2) and move_mount(2).
    pub fn attach_console(&self, terminal: impl AsFd) -> Result<()> {
        let what = || "mount the terminal on \"/dev/console\"";
        let tree = open_tree(terminal.as_fd().as_raw_fd(), c"", OPEN_TREE_CLONE).context(what)?;
        let place = self.inside().open_or_make(Path::new("/dev/console"), Leaf::File)?;
        move_mount(tree, place).context(what)
    }

    /// Makes the working directory where it is missing.
    ///
    /// # Errors
    /// Names the path.
    pub fn make_cwd(&self) -> Result<()> {
        let cwd = &self.plan.cwd;
        self.inside()
            .open_or_make(cwd, Leaf::Directory)
            .context(|| format!("process.cwd: {:?}", cwd.display().to_string()))?;
        Ok(())
    }

    /// Makes the root this process's `/`.
    ///
    /// # Errors
    /// As pivot_root(2).
    pub fn become_slash(&self) -> Result<()> {
        fchdir(&self.fd).context(|| "enter the root")?;
        match self.plan.switch {
            Switch::Pivot => {
                let old = open_directory(Path::new("/")).context(|| "open the old root")?;
                // The old root ends up on top of the new one, and is taken off again.
                pivot_root(".", ".").context(|| "pivot_root (on a ramdisk, --no-pivot does without)")?;
                if self.plan.propagation.0 == MsFlags::MS_SHARED.bits() {
                    // The unmounting must not reach the host. By now the new root is not below the old one any more, so
                    // that what is shared in it stays so.
                    let slave = MountAttr { propagation: MsFlags::MS_SLAVE.bits(), ..MountAttr::default() };
                    mount_setattr(&old, true, &slave).context(|| "cut the old root off")?;
                }
                umount2(".", MntFlags::MNT_DETACH).context(|| "unmount the old root")?;
            }
            Switch::Move | Switch::Chroot => chroot(".").context(|| "chroot")?,
        }
        chdir("/").context(|| "enter the new root")?;
        if self.plan.fresh.is_some() {
            // Nothing above it, and nothing left over it.
            let (root, above) = (fstat(&self.fd)?, stat("..")?);
            if (root.st_dev, root.st_ino) != (above.st_dev, above.st_ino) {
                return Err(Error::system("the new root is not the top"));
            }
        }
        if let Some((propagation, recursive)) = self.plan.final_propagation {
            set_propagation_of(Path::new("/"), propagation, recursive).context(|| "linux.rootfsPropagation")?;
        }
        Ok(())
    }

    /// Hides and write-protects what the configuration says, and last the root itself.
    ///
    /// # Errors
    /// Names the path.
    pub fn protect(&self) -> Result<()> {
        self.make_paths_readonly()?;
        self.mask_paths()?;
        if self.plan.readonly {
            let readonly = MountAttr { set: attr::RDONLY, ..MountAttr::default() };
            mount_setattr(&self.fd, false, &readonly).context(|| "make the root read-only")?;
        }
        Ok(())
    }

    fn make_paths_readonly(&self) -> Result<()> {
        for path in &self.plan.readonly_paths {
            let what = || format!("make {:?} read-only", path.display().to_string());
            let Some(place) = self.open_if_there(path).context(what)? else {
                continue;
            };
            let tree = open_tree(place.as_raw_fd(), c"", OPEN_TREE_CLONE | AT_RECURSIVE).context(what)?;
            mount_setattr(&tree, false, &MountAttr { set: attr::RDONLY, ..MountAttr::default() }).context(what)?;
            move_mount(tree, place).context(what)?;
        }
        Ok(())
    }

    fn mask_paths(&self) -> Result<()> {
        let mut null: Option<OwnedFd> = None;
        let mut empty: Option<OwnedFd> = None;
        for path in &self.plan.masked {
            let what = || format!("mask {:?}", path.display().to_string());
            let Some(place) = self.open_if_there(path).context(what)? else {
                continue;
            };
            let directory = fstat(&place).context(what)?.st_mode & libc::S_IFMT == libc::S_IFDIR;
            let source = if directory { &mut empty } else { &mut null };
            let tree = match source {
                Some(fd) => open_tree(fd.as_raw_fd(), c"", OPEN_TREE_CLONE).context(what)?,
                None if directory => self.empty_directory().context(what)?,
                None => self.null_device().context(what)?,
            };
            move_mount(&tree, place).context(what)?;
            source.get_or_insert(tree);
        }
        Ok(())
    }

    fn open_if_there(&self, path: &Path) -> Result<Option<OwnedFd>> {
        match self.inside().open(path, OFlag::O_PATH) {
            Ok(fd) => Ok(Some(fd)),
            Err(nix::errno::Errno::ENOENT | nix::errno::Errno::ENOTDIR) => Ok(None),
            Err(errno) => Err(errno.into()),
        }
    }

    /// A detached mount of an empty, read-only directory.
    fn empty_directory(&self) -> Result<OwnedFd> {
        let fs = FileSystem::open(c"tmpfs")?;
        fs.set(c"mode", Some(c"755"))?;
        self.label(&fs, "tmpfs")?;
        fs.create()?;
        Ok(fs.mount(attr::RDONLY | attr::NOSUID | attr::NODEV | attr::NOEXEC)?)
    }

    /// A detached mount of the container's /dev/null, which an image cannot have made something else of.
    fn null_device(&self) -> Result<OwnedFd> {
        let null =
            self.inside().open(Path::new("/dev/null"), OFlag::O_PATH).context(|| "open \"/dev/null\" in the root")?;
        let stat = fstat(&null)?;
        if stat.st_mode & libc::S_IFMT != libc::S_IFCHR || stat.st_rdev != libc::makedev(1, 3) {
            return Err(Error::system("\"/dev/null\" in the root is not the null device"));
        }
        Ok(open_tree(null.as_raw_fd(), c"", OPEN_TREE_CLONE)?)
    }
}

/// Opens the pty multiplexer of the devpts of the container whose root is `root`.
///
/// # Errors
/// If the root has none.
pub fn open_ptmx(root: BorrowedFd) -> Result<OwnedFd> {
    let what = || "open \"/dev/pts/ptmx\" in the root (a terminal needs a devpts mount on /dev/pts)";
    // To open a device or a FIFO that an image has there would do something already.
    let place = Inside(root).open(Path::new("/dev/pts"), OFlag::O_PATH | OFlag::O_DIRECTORY).context(what)?;
    if fstatfs(&place).context(what)?.filesystem_type() != FsType(libc::DEVPTS_SUPER_MAGIC) {
        return Err(Error::config(what()));
    }
    let how = OpenHow::new()
        .flags(OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC)
        .resolve(ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_XDEV | ResolveFlag::RESOLVE_NO_SYMLINKS);
    openat2(place, "ptmx", how).context(what)
}

fn set_propagation_of(path: &Path, propagation: u64, recursive: bool) -> Result<()> {
    Ok(mount_setattr(open_directory(path)?, recursive, &MountAttr { propagation, ..MountAttr::default() })?)
}

fn open_directory(path: &Path) -> Result<OwnedFd> {
    Ok(open(path, OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())?)
}
