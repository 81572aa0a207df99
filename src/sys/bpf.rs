//! bpf(2), as far as a control group's device program needs it.

use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use nix::Result;
use nix::errno::Errno;
use serde::Serialize;

const BPF_PROG_LOAD: libc::c_long = 5;
const BPF_PROG_ATTACH: libc::c_long = 8;
const BPF_PROG_TYPE_CGROUP_DEVICE: u32 = 15;
const BPF_CGROUP_DEVICE: u32 = 6;
const BPF_F_ALLOW_MULTI: u32 = 2;
const BPF_F_REPLACE: u32 = 4;
const BPF_PROG_DETACH: libc::c_long = 9;
const BPF_PROG_GET_FD_BY_ID: libc::c_long = 13;
const BPF_OBJ_GET_INFO_BY_FD: libc::c_long = 15;
const BPF_PROG_QUERY: libc::c_long = 16;
/// The name that tells procrt's programs from others (`BPF_OBJ_NAME_LEN` bytes).
const NAME: [u8; 16] = *b"procrt_devices\0\0";

/// One instruction: `struct bpf_insn` of `linux/bpf.h`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[repr(C)]
pub struct Instruction {
    /// Class, operation and source.
    pub code: u8,
    /// The destination register in the low half, the source register in the high (little-endian machines; see [`Self::new`]).
    pub registers: u8,
    /// A jump's distance, or an offset into memory.
    pub offset: i16,
    /// The constant operand.
    pub immediate: i32,
}

impl Instruction {
    /// The instruction `code` on register numbers `destination` and `source`.
    pub const fn new(code: u8, destination: u8, source: u8, offset: i16, immediate: i32) -> Self {
        // A C bit-field: its order follows the machine's byte order.
        let registers =
            if cfg!(target_endian = "little") { destination | source << 4 } else { destination << 4 | source };
        Self { code, registers, offset, immediate }
    }
}

/// The part of `union bpf_attr` that `BPF_PROG_LOAD` reads.
#[repr(C)]
struct Load {
    program_type: u32,
    instruction_count: u32,
    instructions: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buffer: u64,
    kernel_version: u32,
    flags: u32,
    name: [u8; 16],
}

/// The part of `union bpf_attr` that `BPF_PROG_ATTACH` reads.
#[repr(C)]
struct Attach {
    target: u32,
    program: u32,
    kind: u32,
    flags: u32,
    replaced: u32,
}

/// Loads a `BPF_PROG_TYPE_CGROUP_DEVICE` program: it answers 1 to allow an access to a device and 0 to refuse it.
///
/// # Errors
/// `EPERM` without `CAP_BPF` and `CAP_NET_ADMIN` (or `CAP_SYS_ADMIN`), `EINVAL` if the verifier refuses the program.
pub fn load_device_program(instructions: &[Instruction]) -> Result<OwnedFd> {
    let load = Load {
        program_type: BPF_PROG_TYPE_CGROUP_DEVICE,
        instruction_count: instructions.len() as u32,
        instructions: instructions.as_ptr() as u64,
        license: c"Apache-2.0".as_ptr() as u64,
        log_level: 0,
        log_size: 0,
        log_buffer: 0,
        kernel_version: 0,
        flags: 0,
        name: NAME,
    };
    // SAFETY: `load` has the kernel's layout, its size is given, and its two pointers lead to `instructions` and to a
    // static string, both of which outlive the call; the kernel only reads them.
    let fd = Errno::result(unsafe { libc::syscall(libc::SYS_bpf, BPF_PROG_LOAD, &raw const load, size_of::<Load>()) })?;
    // SAFETY: on success the kernel answers a new descriptor (close-on-exec), which nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

/// Attaches a device program to the cgroup2 directory `cgroup`, beside those that it and its ancestors may have
/// (`BPF_F_ALLOW_MULTI`): an access is allowed only if all allow it. The cgroup keeps it until it is removed. With
/// `replaced`, it takes the place of that one in the same instant (`BPF_F_REPLACE`).
///
/// # Errors
/// `EPERM` without the privilege, or if an ancestor's program forbids others; `EBADF` if `cgroup` is not cgroup2's;
/// `ENOENT` if `replaced` is not attached to it.
pub fn attach_device_program(cgroup: BorrowedFd, program: BorrowedFd, replaced: Option<BorrowedFd>) -> Result<()> {
    let attach = Attach {
        target: cgroup.as_raw_fd() as u32,
        program: program.as_raw_fd() as u32,
        kind: BPF_CGROUP_DEVICE,
        flags: BPF_F_ALLOW_MULTI | if replaced.is_some() { BPF_F_REPLACE } else { 0 },
        replaced: replaced.map_or(0, |fd| fd.as_raw_fd() as u32),
    };
    // SAFETY: `attach` has the kernel's layout and its size is given; it holds no pointer.
    let done = unsafe { libc::syscall(libc::SYS_bpf, BPF_PROG_ATTACH, &raw const attach, size_of::<Attach>()) };
    Errno::result(done).map(drop)
}

/// Takes a device program away from the cgroup2 directory `cgroup`.
///
/// # Errors
/// `ENOENT` if it is not attached to it.
pub fn detach_device_program(cgroup: BorrowedFd, program: BorrowedFd) -> Result<()> {
    let attach = Attach {
        target: cgroup.as_raw_fd() as u32,
        program: program.as_raw_fd() as u32,
        kind: BPF_CGROUP_DEVICE,
        flags: 0,
        replaced: 0,
    };
    // SAFETY: `attach` has the kernel's layout and its size is given; it holds no pointer.
    let done = unsafe { libc::syscall(libc::SYS_bpf, BPF_PROG_DETACH, &raw const attach, size_of::<Attach>()) };
    Errno::result(done).map(drop)
}

/// The part of `union bpf_attr` that `BPF_PROG_QUERY` reads and writes.
#[repr(C)]
struct Query {
    target: u32,
    kind: u32,
    flags: u32,
    attach_flags: u32,
    ids: u64,
    count: u32,
}

/// The device programs of procrt's that are attached to the cgroup2 directory `cgroup` itself, as descriptors.
///
/// # Errors
/// `EPERM` without `CAP_SYS_ADMIN`.
pub fn own_device_programs(cgroup: BorrowedFd) -> Result<Vec<OwnedFd>> {
    // The kernel attaches no more than 64 to one cgroup (BPF_CGROUP_MAX_PROGS).
    let mut ids = [0_u32; 64];
    let mut query = Query {
        target: cgroup.as_raw_fd() as u32,
        kind: BPF_CGROUP_DEVICE,
        flags: 0,
        attach_flags: 0,
        ids: ids.as_mut_ptr() as u64,
        count: ids.len() as u32,
    };
    // SAFETY: `query` has the kernel's layout and its size is given; `ids` is as long as it says, and outlives the call.
    Errno::result(unsafe { libc::syscall(libc::SYS_bpf, BPF_PROG_QUERY, &raw mut query, size_of::<Query>()) })?;
    let count = (query.count as usize).min(ids.len());
    let mut own = Vec::new();
    for id in &ids[..count] {
        // `union bpf_attr` for this command: the id, and two words that are not used.
        let by_id = [*id, 0, 0];
        // SAFETY: `by_id` has the kernel's layout, its size is given, and it holds no pointer.
        let fd = Errno::result(unsafe {
            libc::syscall(libc::SYS_bpf, BPF_PROG_GET_FD_BY_ID, by_id.as_ptr(), size_of_val(&by_id))
        });
        let fd = match fd {
            // SAFETY: on success the kernel answers a new descriptor (close-on-exec), which nobody else owns.
            Ok(fd) => unsafe { OwnedFd::from_raw_fd(fd as i32) },
            // It has been taken away meanwhile.
            Err(Errno::ENOENT) => continue,
            Err(errno) => return Err(errno),
        };
        if program_name(&fd)? == NAME {
            own.push(fd);
        }
    }
    Ok(own)
}

/// The part of `struct bpf_prog_info` up to the name.
#[repr(C)]
#[derive(Default)]
struct Info {
    kind_and_id: [u32; 2],
    tag: [u8; 8],
    lengths: [u32; 2],
    pointers: [u64; 2],
    load_time: u64,
    created_by: u32,
    map_ids: u32,
    maps: u64,
    name: [u8; 16],
}

/// The part of `union bpf_attr` that `BPF_OBJ_GET_INFO_BY_FD` reads and writes.
#[repr(C)]
struct GetInfo {
    object: u32,
    length: u32,
    info: u64,
}

fn program_name(program: &OwnedFd) -> Result<[u8; 16]> {
    let mut info = Info::default();
    let get =
        GetInfo { object: program.as_raw_fd() as u32, length: size_of::<Info>() as u32, info: (&raw mut info) as u64 };
    // SAFETY: `get` has the kernel's layout and its size is given; `info` is as long as it says, all of its fields may have
    // any value, and the zeroes in it ask for no more data; it outlives the call.
    let done = unsafe { libc::syscall(libc::SYS_bpf, BPF_OBJ_GET_INFO_BY_FD, &raw const get, size_of::<GetInfo>()) };
    Errno::result(done)?;
    Ok(info.name)
}
