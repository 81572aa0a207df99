//! Docker's default profile, as dockerd 20.10 sends it.

use super::*;
use oci_spec::runtime::Spec;

fn docker() -> LinuxSeccomp {
    let spec: Spec = serde_json::from_str(include_str!("../../../tests/configs/docker-default.json")).unwrap();
    spec.linux().as_ref().unwrap().seccomp().clone().unwrap()
}

fn compiled() -> SeccompPlan {
    let mut faults = Faults::default();
    let plan = plan_for(&Machine::X86_64, &docker(), false, &mut faults);
    faults.into_result().unwrap();
    plan
}

#[test]
fn docker_containers_may_and_may_not_do_what_docker_says() {
    let plan = compiled();
    assert_eq!(plan.architectures, ["x86_64", "x86", "x32"]);
    assert!(plan.early);
    for abi in [Abi::X86_64, Abi::X86, Abi::X32] {
        for call in ["read", "openat", "execve", "futex", "ptrace", "chroot", "faccessat2", "sendmsg", "personality"] {
            let expected = if call == "personality" { EPERM } else { ALLOW };
            assert_eq!(plan.on(abi, call, &[77]), expected, "{call} on {abi:?}");
        }
        for call in [
            "mount",
            "umount2",
            "setns",
            "unshare",
            "bpf",
            "keyctl",
            "init_module",
            "pivot_root",
            "reboot",
            "userfaultfd",
        ] {
            assert_eq!(plan.on(abi, call, &[0]), EPERM, "{call} on {abi:?}");
        }
        assert_eq!(plan.on(abi, "clone3", &[0]), ENOSYS);
        for value in [0, 8, 0x20000, 0x20008, 0xffff_ffff] {
            assert_eq!(plan.on(abi, "personality", &[value]), ALLOW, "{value:#x}");
            assert_eq!(plan.on(abi, "personality", &[value ^ 4]), EPERM, "{value:#x}");
        }
        let thread = 0x003d_0f00;
        assert_eq!(plan.on(abi, "clone", &[thread]), ALLOW);
        for namespace in [0x0002_0000, 0x0200_0000, 0x0400_0000, 0x0800_0000, 0x1000_0000, 0x2000_0000, 0x4000_0000] {
            assert_eq!(plan.on(abi, "clone", &[thread | namespace]), EPERM, "{namespace:#x}");
        }
    }
    assert_eq!(plan.call("personality", &[8 | 1 << 32]), EPERM);
    for call in ["socketcall", "ipc", "_llseek", "waitpid"] {
        assert_eq!(plan.on(Abi::X86, call, &[1]), ALLOW, "{call}");
    }
    assert_eq!(plan.call("mseal", &[]), ENOSYS);
    assert_eq!(plan.on(Abi::X86, "mseal", &[]), ENOSYS);
    assert_eq!(plan.at(Abi::Aarch64.audit(), 63, &[]), KILL);
}

#[test]
fn dockers_program_is_short_and_quick_to_run() {
    let plan = compiled();
    assert!(plan.program.len() < 400, "{} instructions", plan.program.len());
    let arch = Abi::X86_64.audit();
    let longest = (0..500).map(|number| run(&plan.program, &Call { number, arch, arguments: [0; 6] }).1).max().unwrap();
    assert!(longest <= 32, "{longest} steps");
}

/// In an optimized build, `cargo test --release --lib dockers_profile_compiles -- --nocapture` says how long it takes.
#[test]
fn dockers_profile_compiles_in_microseconds() {
    let profile = docker();
    let mut times: Vec<_> = (0..400)
        .map(|_| {
            let start = std::time::Instant::now();
            let mut faults = Faults::default();
            let plan = plan_for(&Machine::X86_64, &profile, false, &mut faults);
            let time = start.elapsed();
            assert!(plan.program.len() > 1 && faults.is_empty());
            time
        })
        .collect();
    times.sort_unstable();
    let (first, median) = (times[0], times[times.len() / 2]);
    println!("fastest {first:?}, median {median:?}, {} instructions", compiled().program.len());
    // An unoptimized build is some twenty times slower; a machine under load must not fail this.
    let limit = if cfg!(debug_assertions) { 5_000 } else { 100 };
    assert!(first.as_micros() < limit, "{first:?}");
}
