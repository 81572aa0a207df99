//! NUMA memory policies (set_mempolicy(2)).

use nix::errno::Errno;

use super::check;

/// As many nodes as the kernel can be built for on any architecture (`MAX_NUMNODES`), and so the bits of a node mask.
pub const MOST_NODES: usize = 1024;

/// Sets this thread's memory policy, which its children inherit: `mode` is `MPOL_*` with `MPOL_F_*` flags, on the nodes of
/// those numbers, each below [`MOST_NODES`].
///
/// # Errors
/// `EINVAL` for a mode that this kernel does not know, and for nodes that are not there or that the control group does not
/// allow; `ENOSYS` without memory policies.
pub fn set_memory_policy(mode: u32, nodes: &[usize]) -> Result<(), Errno> {
    const BITS: usize = libc::c_ulong::BITS as usize;
    let mut mask = [0 as libc::c_ulong; MOST_NODES / BITS];
    for node in nodes {
        *mask.get_mut(node / BITS).ok_or(Errno::EINVAL)? |= 1 << (node % BITS);
    }
    let pointer = if nodes.is_empty() { std::ptr::null() } else { mask.as_ptr() };
    // The kernel takes one from the number of bits.
    let bits = if nodes.is_empty() { 0 } else { MOST_NODES + 1 };
    // SAFETY: the pointer is null for no bits, or leads to as many as are said, which outlive the call.
    check(unsafe { libc::syscall(libc::SYS_set_mempolicy, mode as libc::c_int, pointer, bits) })?;
    Ok(())
}

/// Whether this kernel has memory policies: one that is built without NUMA has none.
pub fn has_memory_policies() -> bool {
    let nothing = std::ptr::null_mut::<libc::c_int>();
    // SAFETY: all pointers are null, which asks for nothing.
    let answer = check(unsafe { libc::syscall(libc::SYS_get_mempolicy, nothing, nothing, 0, nothing, 0) });
    answer != Err(Errno::ENOSYS)
}
