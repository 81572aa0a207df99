//! What this kernel and machine can do, and its procfs.

pub mod clock;
pub mod procfs;
