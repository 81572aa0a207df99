//! A bundle: the directory that holds a container's `config.json` and its root file system.
//!
//! [`load`] reads and checks it, and names everything that is wrong by its JSON path; [`default_spec`] is the
//! configuration that `procrt spec` writes. What concerns one slice alone (mounts, mappings, resources, …) is checked
//! by that slice when it plans.

// Paths stand in messages quoted and escaped.
#![allow(clippy::unnecessary_debug_formatting)]

mod faults;
mod id;
mod load;
mod nul;
mod objects;
mod path;
mod profile;
mod spec;
mod validate;

pub use id::check_id;
pub use load::{Bundle, load, read, read_process, read_resources};
pub use profile::{Circumstances, DOCKERS_CAPABILITIES, Profile, kernel_version, read_profile};
pub use spec::{default_spec, render, write_default};
pub use validate::validate;

/// The newest version of the runtime specification that is understood.
pub const OCI_VERSION: &str = "1.3.0";

/// The oldest version of the runtime specification that is understood.
pub const OCI_VERSION_MIN: &str = "1.0.0";

/// The name of a bundle's configuration.
pub const CONFIG: &str = "config.json";
