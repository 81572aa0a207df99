//! What the compiled programs answer.

mod docker;
mod faults;
mod interpreter;
mod process;

use oci_spec::runtime::LinuxSeccomp;
use serde_json::{Value, json};

use super::arch::{Abi, X32_BIT};
use super::numbers::{Name, number};
use super::plan::plan_for;
use super::{Machine, SeccompPlan, rules};
use crate::error::Faults;
use interpreter::{Call, run};

const ALLOW: u32 = libc::SECCOMP_RET_ALLOW;
const KILL: u32 = libc::SECCOMP_RET_KILL_PROCESS;
const EPERM: u32 = errno(1);
const ENOSYS: u32 = errno(38);

const fn errno(number: u32) -> u32 {
    libc::SECCOMP_RET_ERRNO | number
}

fn profile(value: Value) -> LinuxSeccomp {
    serde_json::from_value(value).unwrap()
}

fn compile_for(machine: &Machine, value: Value) -> SeccompPlan {
    let mut faults = Faults::default();
    let plan = plan_for(machine, &profile(value), true, &mut faults);
    faults.into_result().unwrap();
    plan
}

fn compile(value: Value) -> SeccompPlan {
    compile_for(&Machine::X86_64, value)
}

impl SeccompPlan {
    fn at(&self, arch: u32, number: u32, arguments: &[u64]) -> u32 {
        let mut all = [0xdead_beef_dead_beef; 6];
        all[..arguments.len()].copy_from_slice(arguments);
        run(&self.program, &Call { number, arch, arguments: all }).0
    }

    fn on(&self, abi: Abi, name: &str, arguments: &[u64]) -> u32 {
        self.at(abi.audit(), number(abi, Name::new(name)).unwrap(), arguments)
    }

    fn call(&self, name: &str, arguments: &[u64]) -> u32 {
        self.on(Abi::X86_64, name, arguments)
    }
}

/// A profile that allows only what `rules` say: `(call, arguments as [index, operator, value, second value])`.
fn allowing(call: &str, arguments: &[(usize, &str, u64, u64)]) -> Value {
    rule(call, "SCMP_ACT_ALLOW", arguments)
}

fn rule(call: &str, action: &str, arguments: &[(usize, &str, u64, u64)]) -> Value {
    let arguments: Vec<Value> = arguments
        .iter()
        .map(|(index, op, value, two)| {
            json!({"index": index, "op": format!("SCMP_CMP_{op}"), "value": value, "valueTwo": two})
        })
        .collect();
    json!({"names": [call], "action": action, "args": arguments})
}

fn denying(rules: &[Value]) -> Value {
    json!({"defaultAction": "SCMP_ACT_ERRNO", "architectures": ["SCMP_ARCH_X86", "SCMP_ARCH_X32"], "syscalls": rules})
}

#[test]
fn every_operator_is_exact_around_its_constant() {
    let interesting = |value: u64| {
        let mut values = vec![0, 1, u64::from(u32::MAX), 1 << 32, u64::MAX];
        for near in
            [value, value ^ 1 << 32, value ^ 1 << 63, value & 0xffff_ffff, value & !0xffff_ffff, value.swap_bytes()]
        {
            values.extend([near.wrapping_sub(1), near, near.wrapping_add(1), near ^ 0x10]);
        }
        values
    };
    let constants =
        [0, 1, 5, 0xffff_ffff, 1 << 32, (1 << 32) + 5, 0x7fff_ffff_ffff_ffff, 1 << 63, u64::MAX - 1, u64::MAX];
    for constant in constants {
        for two in [0, constant, 5 | 1 << 40] {
            let operators: [(&str, &dyn Fn(u64) -> bool); 7] = [
                ("NE", &|v| v != constant),
                ("LT", &|v| v < constant),
                ("LE", &|v| v <= constant),
                ("EQ", &|v| v == constant),
                ("GE", &|v| v >= constant),
                ("GT", &|v| v > constant),
                ("MASKED_EQ", &|v| v & constant == two & constant),
            ];
            for (operator, holds) in operators {
                for index in [0, 5] {
                    let plan = compile(denying(&[allowing("lseek", &[(index, operator, constant, two)])]));
                    for value in interesting(constant) {
                        let mut arguments = [0x1234_5678_9abc_def0; 6];
                        arguments[index] = value;
                        let expected = if holds(value) { ALLOW } else { EPERM };
                        assert_eq!(plan.call("lseek", &arguments), expected, "{value:#x} {operator} {constant:#x}");
                    }
                }
            }
        }
    }
}

#[test]
fn narrow_architectures_compare_the_lower_half() {
    let plan = compile(denying(&[allowing("lseek", &[(0, "EQ", 5, 0)]), allowing("dup2", &[(0, "GE", 7, 0)])]));
    for abi in [Abi::X86, Abi::X32] {
        assert_eq!(plan.on(abi, "lseek", &[5]), ALLOW);
        assert_eq!(plan.on(abi, "lseek", &[5 | 1 << 32]), ALLOW);
        assert_eq!(plan.on(abi, "lseek", &[6]), EPERM);
        assert_eq!(plan.on(abi, "dup2", &[1 << 32]), EPERM);
        assert_eq!(plan.on(abi, "dup2", &[7]), ALLOW);
    }
    assert_eq!(plan.call("lseek", &[5 | 1 << 32]), EPERM);
}

#[test]
fn conditions_of_a_rule_are_all_needed_and_rules_are_alternatives() {
    let plan = compile(denying(&[
        allowing("lseek", &[(0, "EQ", 1, 0), (1, "GT", 10, 0)]),
        allowing("lseek", &[(2, "EQ", 2, 0)]),
    ]));
    assert_eq!(plan.call("lseek", &[1, 11, 0]), ALLOW);
    assert_eq!(plan.call("lseek", &[1, 10, 0]), EPERM);
    assert_eq!(plan.call("lseek", &[0, 11, 0]), EPERM);
    assert_eq!(plan.call("lseek", &[0, 0, 2]), ALLOW);
    assert_eq!(plan.call("lseek", &[1, 11, 2]), ALLOW);
}

#[test]
fn any_condition_suffices_when_one_argument_has_two() {
    let plan = compile(denying(&[allowing("lseek", &[(0, "EQ", 1, 0), (0, "EQ", 2, 0), (1, "EQ", 3, 0)])]));
    assert_eq!(plan.call("lseek", &[1, 0]), ALLOW);
    assert_eq!(plan.call("lseek", &[2, 0]), ALLOW);
    assert_eq!(plan.call("lseek", &[0, 3]), ALLOW);
    assert_eq!(plan.call("lseek", &[0, 0]), EPERM);
}

#[test]
fn the_first_rule_that_holds_decides() {
    let plan = compile(denying(&[
        allowing("lseek", &[(0, "LT", 10, 0)]),
        rule("lseek", "SCMP_ACT_KILL_PROCESS", &[(0, "LT", 20, 0)]),
        rule("lseek", "SCMP_ACT_TRAP", &[(1, "EQ", 1, 0)]),
    ]));
    assert_eq!(plan.call("lseek", &[9, 1]), ALLOW);
    assert_eq!(plan.call("lseek", &[10, 1]), KILL);
    assert_eq!(plan.call("lseek", &[20, 1]), libc::SECCOMP_RET_TRAP);
    assert_eq!(plan.call("lseek", &[20, 0]), EPERM);
}

#[test]
fn a_rule_without_conditions_decides_alone_wherever_it_stands() {
    for swap in [false, true] {
        let mut rules = vec![rule("lseek", "SCMP_ACT_KILL", &[(0, "EQ", 1, 0)]), allowing("lseek", &[])];
        if swap {
            rules.swap(0, 1);
        }
        rules.push(rule("lseek", "SCMP_ACT_TRAP", &[]));
        assert_eq!(compile(denying(&rules)).call("lseek", &[1]), ALLOW);
    }
}

#[test]
fn a_rule_that_says_what_the_default_says_decides_nothing() {
    let plan = compile(denying(&[rule("lseek", "SCMP_ACT_ERRNO", &[]), allowing("lseek", &[(0, "EQ", 1, 0)])]));
    assert_eq!(plan.call("lseek", &[1]), ALLOW);
    assert_eq!((plan.rules, plan.calls), (1, 1));
}

#[test]
fn constants_of_one_argument_are_told_apart() {
    let rules: Vec<Value> = (0..40_u64)
        .map(|at| {
            let action = if at % 3 == 0 { "SCMP_ACT_TRAP" } else { "SCMP_ACT_ALLOW" };
            rule("lseek", action, &[(at as usize / 20, "EQ", at | (at / 10) << 32, 0)])
        })
        .collect();
    let plan = compile(denying(&rules));
    for at in 0..40_u64 {
        let value = at | (at / 10) << 32;
        let arguments = if at < 20 { [value, 99] } else { [99, value] };
        assert_eq!(plan.call("lseek", &arguments), if at % 3 == 0 { libc::SECCOMP_RET_TRAP } else { ALLOW }, "{at}");
        assert_eq!(plan.call("lseek", &arguments.map(|v| v ^ 1 << 40)), EPERM, "{at}");
    }
}

#[test]
fn every_action_and_number_reaches_the_kernel_whole() {
    for (action, number, answer) in [
        ("SCMP_ACT_KILL", None, 0),
        ("SCMP_ACT_KILL_THREAD", None, 0),
        ("SCMP_ACT_KILL_PROCESS", None, 0x8000_0000),
        ("SCMP_ACT_TRAP", None, 0x0003_0000),
        ("SCMP_ACT_ERRNO", None, 0x0005_0001),
        ("SCMP_ACT_ERRNO", Some(0), 0x0005_0000),
        ("SCMP_ACT_ERRNO", Some(4095), 0x0005_0fff),
        ("SCMP_ACT_TRACE", None, 0x7ff0_0001),
        ("SCMP_ACT_TRACE", Some(0xffff), 0x7ff0_ffff),
        ("SCMP_ACT_NOTIFY", None, 0x7fc0_0000),
        ("SCMP_ACT_LOG", None, 0x7ffc_0000),
    ] {
        let mut syscall = json!({"names": ["lseek"], "action": action});
        let mut as_default = json!({"defaultAction": action});
        if let Some(number) = number {
            syscall["errnoRet"] = json!(number);
            as_default["defaultErrnoRet"] = json!(number);
        }
        as_default["listenerPath"] = json!("/agent");
        let plan = compile(json!({"defaultAction": "SCMP_ACT_ALLOW", "listenerPath": "/agent", "syscalls": [syscall]}));
        assert_eq!(plan.listener.is_some(), action == "SCMP_ACT_NOTIFY");
        assert_eq!(plan.call("lseek", &[]), answer, "{action}");
        assert_eq!(plan.call("read", &[]), ALLOW);
        assert_eq!(compile(as_default).call("read", &[]), answer, "{action}");
    }
}

#[test]
fn calls_newer_than_the_profile_are_not_there_if_the_default_refuses() {
    for (default, newer) in [
        ("SCMP_ACT_ERRNO", ENOSYS),
        ("SCMP_ACT_TRAP", ENOSYS),
        ("SCMP_ACT_KILL", ENOSYS),
        ("SCMP_ACT_KILL_PROCESS", ENOSYS),
        ("SCMP_ACT_TRACE", 0x7ff0_0001),
        ("SCMP_ACT_LOG", libc::SECCOMP_RET_LOG),
        ("SCMP_ACT_ALLOW", ALLOW),
    ] {
        let profile = json!({"defaultAction": default, "syscalls": [
            {"names": ["read", "openat2"], "action": "SCMP_ACT_ERRNO", "errnoRet": 7},
            {"names": ["faccessat2"], "action": default},
        ]});
        let plan = compile(profile);
        let arch = Abi::X86_64.audit();
        assert_eq!(plan.at(arch, 0, &[]), errno(7));
        assert_eq!(plan.at(arch, 437, &[]), errno(7));
        assert_eq!(plan.at(arch, 438, &[]), plan.default_answer);
        assert_eq!(plan.at(arch, 439, &[]), plan.default_answer);
        assert_eq!(plan.at(arch, 440, &[]), newer);
        assert_eq!(plan.at(arch, X32_BIT - 1, &[]), newer);
    }
    let nothing_named = compile(json!({"defaultAction": "SCMP_ACT_ERRNO"}));
    assert_eq!(nothing_named.at(Abi::X86_64.audit(), 0, &[]), EPERM);
    assert_eq!(nothing_named.at(Abi::X86_64.audit(), 9999, &[]), EPERM);
}

#[test]
fn calls_made_in_a_way_that_is_not_listed_kill_the_process() {
    let plan =
        compile(json!({"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_MIPS", "SCMP_ARCH_ARM"]}));
    assert_eq!(plan.architectures, ["x86_64"]);
    for arch in [Abi::X86.audit(), Abi::Aarch64.audit(), Abi::Arm.audit(), 8, 0] {
        assert_eq!(plan.at(arch, 3, &[]), KILL);
    }
    let native = Abi::X86_64.audit();
    assert_eq!(plan.at(native, X32_BIT - 1, &[]), ALLOW);
    assert_eq!(plan.at(native, X32_BIT, &[]), KILL);
    assert_eq!(plan.at(native, 0x8000_0000, &[]), KILL);
    assert_eq!(plan.at(native, u32::MAX - 1, &[]), KILL);
    assert_eq!(plan.at(native, u32::MAX, &[]), ALLOW);
}

#[test]
fn x32_has_numbers_of_its_own() {
    let plan = compile(json!({"defaultAction": "SCMP_ACT_ERRNO", "architectures": ["SCMP_ARCH_X32"], "syscalls": [
        {"names": ["read", "execve"], "action": "SCMP_ACT_ALLOW"},
    ]}));
    let arch = Abi::X86_64.audit();
    assert_eq!(plan.at(arch, 59, &[]), ALLOW);
    assert_eq!(plan.at(arch, X32_BIT, &[]), ALLOW);
    assert_eq!(plan.at(arch, X32_BIT + 520, &[]), ALLOW);
    assert_eq!(plan.at(arch, X32_BIT + 59, &[]), EPERM);
    assert_eq!(plan.at(arch, 520, &[]), ENOSYS);
    assert_eq!(plan.at(arch, X32_BIT + 521, &[]), ENOSYS);
    assert_eq!(plan.at(arch, u32::MAX, &[]), ENOSYS);
}

#[test]
fn arm_is_compiled_by_its_own_numbers() {
    let plan = compile_for(
        &Machine::AARCH64,
        json!({"defaultAction": "SCMP_ACT_ERRNO",
            "architectures": ["SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM", "SCMP_ARCH_X86"], "syscalls": [
            {"names": ["openat", "set_tls", "clone3"], "action": "SCMP_ACT_ALLOW"},
        ]}),
    );
    assert_eq!(plan.architectures, ["aarch64", "arm"]);
    assert_eq!(plan.on(Abi::Aarch64, "openat", &[]), ALLOW);
    assert_eq!(plan.on(Abi::Aarch64, "read", &[]), EPERM);
    assert_eq!(plan.on(Abi::Aarch64, "openat2", &[]), ENOSYS);
    assert_eq!(plan.on(Abi::Arm, "openat", &[]), ALLOW);
    assert_eq!(plan.on(Abi::Arm, "set_tls", &[]), ALLOW);
    assert_eq!(plan.on(Abi::Arm, "openat2", &[]), ENOSYS);
    assert_eq!(plan.on(Abi::Arm, "get_tls", &[]), ENOSYS);
    assert_eq!(plan.at(Abi::X86.audit(), 3, &[]), KILL);

    // Private calls are no newer than others: one that is named gets what its rule says, be it the default.
    let named = compile_for(
        &Machine::AARCH64,
        json!({"defaultAction": "SCMP_ACT_ERRNO", "architectures": ["SCMP_ARCH_ARM"], "syscalls": [
            {"names": ["get_tls"], "action": "SCMP_ACT_ERRNO"}, {"names": ["read"], "action": "SCMP_ACT_ALLOW"},
        ]}),
    );
    assert_eq!(named.on(Abi::Arm, "get_tls", &[]), EPERM);
    assert_eq!(named.on(Abi::Arm, "set_tls", &[]), ENOSYS);
}

#[test]
fn rules_for_socket_and_ipc_calls_hold_through_their_multiplexers() {
    let x86 = |plan: &SeccompPlan, name: &str, arguments: &[u64]| plan.on(Abi::X86, name, arguments);
    let plan =
        compile(denying(&[allowing("socket", &[]), allowing("shmat", &[]), allowing("bind", &[(0, "EQ", 3, 0)])]));
    assert_eq!(x86(&plan, "socket", &[]), ALLOW);
    assert_eq!(x86(&plan, "socketcall", &[1]), ALLOW);
    assert_eq!(x86(&plan, "socketcall", &[1 | 1 << 32]), ALLOW);
    assert_eq!(x86(&plan, "socketcall", &[2]), EPERM);
    assert_eq!(x86(&plan, "ipc", &[(1 << 16) + 21]), ALLOW);
    assert_eq!(x86(&plan, "ipc", &[22]), EPERM);
    assert_eq!(x86(&plan, "bind", &[3]), ALLOW);

    // The conditions cannot be seen there, so what is stricter than the default is so without them.
    let plan = compile(json!({"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86"], "syscalls": [
        rule("socket", "SCMP_ACT_ERRNO", &[(0, "EQ", 38, 0), (0, "EQ", 40, 0)]),
        rule("socket", "SCMP_ACT_TRAP", &[(0, "EQ", 41, 0)]),
        rule("socket", "SCMP_ACT_ERRNO", &[(0, "MASKED_EQ", 0xffff_ffff, 1)]),
    ]}));
    assert_eq!(x86(&plan, "socketcall", &[1]), EPERM);
    assert_eq!(x86(&plan, "socketcall", &[2]), ALLOW);
    assert_eq!(x86(&plan, "socket", &[2]), ALLOW);

    // The first in the profile decides there as well.
    let plan = compile(denying(&[
        allowing("socket", &[]),
        rule("socketcall", "SCMP_ACT_TRAP", &[(0, "LE", 2, 0)]),
        allowing("bind", &[]),
    ]));
    assert_eq!(x86(&plan, "socketcall", &[1]), ALLOW);
    assert_eq!(x86(&plan, "socketcall", &[2]), libc::SECCOMP_RET_TRAP);
}

/// Calls of x86_64 whose neighbours get other answers, so that no runs can be made of them.
fn scattered() -> Vec<Value> {
    syscalls::x86_64::Sysno::iter()
        .map(|call| json!({"names": [call.name()], "action": "SCMP_ACT_TRACE", "errnoRet": call.id() + 1000}))
        .collect()
}

#[test]
fn more_calls_than_a_jump_reaches_are_decided_each() {
    let plan = compile(denying(&scattered()));
    assert!(plan.calls > 300);
    for call in syscalls::x86_64::Sysno::iter() {
        assert_eq!(plan.call(call.name(), &[]), libc::SECCOMP_RET_TRACE | (call.id() as u32 + 1000), "{call}");
    }
    assert_eq!(plan.at(Abi::X86_64.audit(), 350, &[]), EPERM);
}

#[test]
fn lists_of_rules_longer_than_a_jump_reaches_are_decided_each() {
    let rules: Vec<Value> = (0..600_u64)
        .map(|at| {
            let action = ["SCMP_ACT_ALLOW", "SCMP_ACT_TRAP"][at as usize % 2];
            let call = ["lseek", "dup2", "read"][at as usize / 200];
            // The last two hundred are ranges, downwards.
            let operator = if call == "read" { "GE" } else { "EQ" };
            rule(call, action, &[(0, operator, 10_000 - at, 0)])
        })
        .collect();
    let plan = compile(json!({"defaultAction": "SCMP_ACT_ERRNO", "syscalls": rules}));
    assert!(plan.program.len() > 3 * 256);
    for at in 0..600_u64 {
        let expected = [ALLOW, libc::SECCOMP_RET_TRAP][at as usize % 2];
        let call = ["lseek", "dup2", "read"][at as usize / 200];
        assert_eq!(plan.call(call, &[10_000 - at]), expected, "{at}");
        assert_eq!(plan.call(call, &[1]), EPERM, "{at}");
    }
    assert_eq!(plan.call("write", &[1]), EPERM);
}

#[test]
fn names_of_no_call_are_left_out() {
    let plan = compile(denying(&[allowing("no_such_call", &[]), allowing("set_tls", &[]), allowing("read", &[])]));
    assert_eq!((plan.unknown_names, plan.calls), (2, 1));
    assert_eq!(plan.call("read", &[]), ALLOW);
}

#[test]
fn the_kernels_order_of_strictness() {
    let notify = libc::SECCOMP_RET_USER_NOTIF;
    let order = [KILL, 0, libc::SECCOMP_RET_TRAP, EPERM, notify, libc::SECCOMP_RET_TRACE, libc::SECCOMP_RET_LOG, ALLOW];
    assert!(order.is_sorted_by(|a, b| rules::strictness(*a) < rules::strictness(*b)));
}

#[test]
fn a_plan_is_told_in_a_few_lines() {
    let plan = compile(json!({"defaultAction": "SCMP_ACT_ERRNO", "flags": ["SECCOMP_FILTER_FLAG_LOG"], "syscalls": [
        {"names": ["read", "no_such_call"], "action": "SCMP_ACT_ALLOW"}, {"names": ["open", "dup"], "action": "SCMP_ACT_LOG"},
    ]}));
    assert_eq!(
        plan.describe(),
        [
            "fail with EPERM by default, fail with ENOSYS for calls newer than the profile",
            "3 calls decided by 2 rules, on x86_64, 1 names unknown there; a call made in any other way kills the process",
            "14 instructions, installed last, before the program starts, with flags 0x2",
        ]
    );
    let json = serde_json::to_value(&plan).unwrap();
    assert_eq!(json["program"][0], json!([0x20, 0, 0, 4]));
}
