//! Which landlock the kernel has; the rest is the crate landlock's.

/// The version of landlock's interface (landlock(7)): 1 since Linux 5.13; 0 if there is none, or it was not chosen at boot.
pub fn abi() -> u32 {
    const VERSION: u32 = 1;
    let nothing = std::ptr::null::<libc::c_void>();
    // SAFETY: with this flag the call takes no structure, and answers a number.
    let answer = unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, nothing, 0_usize, VERSION) };
    u32::try_from(answer).unwrap_or(0)
}
