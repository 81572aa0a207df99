//! What this kernel's seccomp can do, asked of it directly, and what there is of a profile.

use oci_spec::runtime::{LinuxSeccompAction, LinuxSeccompFilterFlag, LinuxSeccompOperator};

use super::Machine;
use super::rules;
use crate::sys;

const ACTIONS: [LinuxSeccompAction; 9] = [
    LinuxSeccompAction::ScmpActAllow,
    LinuxSeccompAction::ScmpActErrno,
    LinuxSeccompAction::ScmpActKill,
    LinuxSeccompAction::ScmpActKillProcess,
    LinuxSeccompAction::ScmpActKillThread,
    LinuxSeccompAction::ScmpActLog,
    LinuxSeccompAction::ScmpActNotify,
    LinuxSeccompAction::ScmpActTrace,
    LinuxSeccompAction::ScmpActTrap,
];

const OPERATORS: [LinuxSeccompOperator; 7] = [
    LinuxSeccompOperator::ScmpCmpEq,
    LinuxSeccompOperator::ScmpCmpGe,
    LinuxSeccompOperator::ScmpCmpGt,
    LinuxSeccompOperator::ScmpCmpLe,
    LinuxSeccompOperator::ScmpCmpLt,
    LinuxSeccompOperator::ScmpCmpMaskedEq,
    LinuxSeccompOperator::ScmpCmpNe,
];

const FLAGS: [LinuxSeccompFilterFlag; 4] = [
    LinuxSeccompFilterFlag::SeccompFilterFlagLog,
    LinuxSeccompFilterFlag::SeccompFilterFlagSpecAllow,
    LinuxSeccompFilterFlag::SeccompFilterFlagTsync,
    LinuxSeccompFilterFlag::SeccompFilterFlagWaitKillableRecv,
];

/// The actions that a profile can use with this version, by their names in a profile.
pub fn actions() -> Vec<String> {
    ACTIONS.iter().map(ToString::to_string).collect()
}

/// The actions of a profile that this kernel has. Asks the kernel.
pub fn supported_actions() -> Vec<String> {
    ACTIONS.iter().filter(|action| action_available(**action)).map(ToString::to_string).collect()
}

/// The operators that a profile can use, by their names in a profile.
pub fn operators() -> Vec<String> {
    OPERATORS.iter().map(ToString::to_string).collect()
}

/// The architectures that a filter has code for on this machine, by their names in a profile.
pub fn architectures() -> Vec<String> {
    Machine::OWN.abis().map(|abi| abi.oci().to_string()).collect()
}

/// The flags that this version knows, by their names in a profile.
pub fn known_flags() -> Vec<String> {
    FLAGS.iter().map(ToString::to_string).collect()
}

/// The flags that a profile can use with this version on this kernel. Asks the kernel.
pub fn supported_flags() -> Vec<String> {
    FLAGS.iter().filter(|flag| flag_available(**flag)).map(ToString::to_string).collect()
}

/// Whether a profile can use `action` with this version on this kernel. Linux 3.5 had the other actions already; only
/// about `LOG` and `KILL_PROCESS`, of 4.14, and `NOTIFY`, of 5.0, the kernel is asked (`SECCOMP_GET_ACTION_AVAIL`,
/// seccomp(2)).
pub fn action_available(action: LinuxSeccompAction) -> bool {
    match rules::base(action).0 {
        answer @ (libc::SECCOMP_RET_LOG | libc::SECCOMP_RET_KILL_PROCESS | libc::SECCOMP_RET_USER_NOTIF) => {
            sys::seccomp::action_available(answer)
        }
        _ => true,
    }
}

/// Whether a profile can use `flag` with this version on this kernel. Asks the kernel.
pub fn flag_available(flag: LinuxSeccompFilterFlag) -> bool {
    let needs = match flag {
        LinuxSeccompFilterFlag::SeccompFilterFlagWaitKillableRecv => libc::SECCOMP_FILTER_FLAG_NEW_LISTENER as u32,
        _ => 0,
    };
    sys::seccomp::flag_available(self::flag(flag) | needs)
}

/// The kernel's bit for `flag`.
pub(super) fn flag(flag: LinuxSeccompFilterFlag) -> u32 {
    let bit = match flag {
        LinuxSeccompFilterFlag::SeccompFilterFlagTsync => libc::SECCOMP_FILTER_FLAG_TSYNC,
        LinuxSeccompFilterFlag::SeccompFilterFlagLog => libc::SECCOMP_FILTER_FLAG_LOG,
        LinuxSeccompFilterFlag::SeccompFilterFlagSpecAllow => libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW,
        LinuxSeccompFilterFlag::SeccompFilterFlagWaitKillableRecv => libc::SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV,
    };
    bit as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_have_the_names_of_profiles_and_nothing_that_is_not_there() {
        assert!(actions().contains(&"SCMP_ACT_KILL_PROCESS".to_owned()));
        assert!(actions().contains(&"SCMP_ACT_NOTIFY".to_owned()));
        assert!(operators().contains(&"SCMP_CMP_MASKED_EQ".to_owned()));
        assert!(known_flags().contains(&"SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV".to_owned()));
        assert!(supported_flags().contains(&"SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV".to_owned()));
        assert!(supported_flags().contains(&"SECCOMP_FILTER_FLAG_LOG".to_owned()));
        #[cfg(target_arch = "x86_64")]
        assert_eq!(architectures(), ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"]);
    }

    #[test]
    fn the_kernel_is_asked_about_its_actions() {
        assert!(action_available(LinuxSeccompAction::ScmpActLog));
        assert!(action_available(LinuxSeccompAction::ScmpActAllow));
        assert!(action_available(LinuxSeccompAction::ScmpActNotify));
        // 0x7e000000 is no action.
        assert!(!sys::seccomp::action_available(0x7e00_0000));
        assert!(!sys::seccomp::flag_available(1 << 30));
    }
}
