//! The system call ABIs that a filter can hold code for, grouped by the machine whose kernel can take calls from them.

use oci_spec::runtime::Arch;

/// One way of calling the kernel: its numbers, and the width of its arguments.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Abi {
    X86_64,
    X86,
    /// 32-bit pointers in 64-bit mode. The kernel reports it as x86_64, with bit 30 set in the number.
    X32,
    Aarch64,
    Arm,
}

/// Bit 30 of a call's number: `__X32_SYSCALL_BIT` of the kernel's `arch/x86/include/uapi/asm/unistd.h`.
pub(super) const X32_BIT: u32 = 0x4000_0000;

impl Abi {
    /// `seccomp_data.arch` of a call made this way: `AUDIT_ARCH_*` of `linux/audit.h`.
    pub(super) const fn audit(self) -> u32 {
        match self {
            Self::X86_64 | Self::X32 => 0xc000_003e,
            Self::X86 => 0x4000_0003,
            Self::Aarch64 => 0xc000_00b7,
            Self::Arm => 0x4000_0028,
        }
    }

    /// The name as people write it.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::X86_64 => "x86_64",
            Self::X86 => "x86",
            Self::X32 => "x32",
            Self::Aarch64 => "aarch64",
            Self::Arm => "arm",
        }
    }

    /// The name in a profile.
    pub(super) const fn oci(self) -> Arch {
        match self {
            Self::X86_64 => Arch::ScmpArchX86_64,
            Self::X86 => Arch::ScmpArchX86,
            Self::X32 => Arch::ScmpArchX32,
            Self::Aarch64 => Arch::ScmpArchAarch64,
            Self::Arm => Arch::ScmpArchArm,
        }
    }

    /// Whether arguments are compared in 64 bits. Where the ABI's are 32 bits wide only the low half may be looked at:
    /// what `int $0x80` leaves in the upper halves of a 64-bit process's registers is shown to the filter, but not used by
    /// the kernel, so comparing it would let a caller choose the answer.
    pub(super) const fn wide(self) -> bool {
        matches!(self, Self::X86_64 | Self::Aarch64)
    }
}

/// A kind of machine: the ABIs that its kernel takes calls from.
#[derive(Debug, Clone, Copy)]
pub struct Machine {
    /// The one that every filter has code for, as libseccomp does it, whatever the profile lists.
    pub(super) native: Abi,
    /// Those that a profile may add.
    pub(super) others: &'static [Abi],
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
compile_error!("no system call numbers for this architecture: add it to src/seccomp/arch.rs and numbers.rs");

impl Machine {
    /// PCs: x86_64, x86 and x32.
    pub const X86_64: Self = Self { native: Abi::X86_64, others: &[Abi::X86, Abi::X32] };
    /// 64-bit ARM: aarch64 and arm.
    pub const AARCH64: Self = Self { native: Abi::Aarch64, others: &[Abi::Arm] };
    /// The machine this was built for.
    pub const OWN: Self = if cfg!(target_arch = "aarch64") { Self::AARCH64 } else { Self::X86_64 };

    /// The machine by the name of its own architecture, as people write it.
    pub fn named(name: &str) -> Option<Self> {
        [Self::X86_64, Self::AARCH64].into_iter().find(|machine| machine.native.name() == name)
    }

    /// Its own architecture's name in a profile.
    pub fn architecture(&self) -> String {
        self.native.oci().to_string()
    }

    /// Go's name for it, which engines' profiles have.
    pub fn go_name(&self) -> &'static str {
        if self.native == Abi::Aarch64 { "arm64" } else { "amd64" }
    }

    /// The names of its architectures, as people write them.
    pub fn architectures(&self) -> impl Iterator<Item = &'static str> + use<> {
        self.abis().map(Abi::name)
    }

    /// All ABIs, the native one first.
    pub(super) fn abis(&self) -> impl Iterator<Item = Abi> + use<> {
        std::iter::once(self.native).chain(self.others.iter().copied())
    }

    /// The ABIs that a filter for `listed` has code for. A profile may list architectures of other machines: this
    /// machine's kernel never sees a call of theirs, so there is nothing to write for them.
    pub(super) fn select(&self, listed: &[Arch]) -> Vec<Abi> {
        self.abis().filter(|&abi| abi == self.native || listed.contains(&abi.oci())).collect()
    }
}
