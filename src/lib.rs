//! procrt: an OCI container runtime for Linux, as a library.
//!
//! Everything follows three stages that never mix: a bundle is **read** ([`bundle`]), every slice **decides** what that
//! means as plain data ([`container::plan`]), and the engine **acts** on the data ([`container`] on the host's side,
//! [`init`] on the container's). Imports run downwards only: `cli → sandbox → container → init → slices → host → sys`.

pub mod bundle;
pub mod cgroup;
pub mod cli;
pub mod container;
pub mod error;
pub mod hooks;
pub mod host;
pub mod init;
pub mod namespaces;
pub mod process;
pub mod resctrl;
pub mod rootfs;
pub mod sandbox;
pub mod seccomp;
pub mod sys;
pub mod terminal;

pub use error::{Error, Result};
