//! System calls that nix lacks, as thin typed functions. The only place of the crate where `unsafe` stands.
//!
//! Every function does one system call (or one that cannot be told from one), takes and gives descriptors as owned or
//! borrowed types, and answers `Err(Errno)`; what was being done is for the caller to say.

pub mod aside;
pub mod bpf;
pub mod child;
pub mod landlock;
pub mod memory;
pub mod mount;
pub mod netlink;
pub mod process;
pub mod seccomp;
pub mod socket;
pub mod terminal;

use nix::errno::Errno;

/// The result of a raw system call, with `errno` read where it failed.
fn check(result: libc::c_long) -> Result<libc::c_long, Errno> {
    if result < 0 { Err(Errno::last()) } else { Ok(result) }
}
