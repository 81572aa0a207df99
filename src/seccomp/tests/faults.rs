//! Profiles that are refused.

use super::*;

fn fault_of(value: Value) -> String {
    let mut faults = Faults::default();
    plan_for(&Machine::X86_64, &profile(value), true, &mut faults);
    faults.into_result().unwrap_err().to_string()
}

#[test]
fn a_program_too_long_for_the_kernel_is_a_fault() {
    let rules: Vec<Value> = (0..3000_u64).map(|at| allowing("lseek", &[(0, "GT", at, 0)])).collect();
    let fault = fault_of(json!({"defaultAction": "SCMP_ACT_ERRNO", "syscalls": rules}));
    assert!(fault.starts_with("linux.seccomp.syscalls: ") && fault.contains("more than the 4096"), "{fault}");
}

#[test]
fn faults_name_the_path_and_the_value() {
    let fault = fault_of(json!({"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 4096, "listenerPath": "run/x",
        "flags": ["SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"], "syscalls": [
        {"names": [], "action": "SCMP_ACT_ALLOW", "errnoRet": 1},
        {"names": ["read", ""], "action": "SCMP_ACT_NOTIFY"},
        {"names": ["lseek"], "action": "SCMP_ACT_TRACE", "errnoRet": 65536, "args": [
            {"index": 0, "value": 0, "op": "SCMP_CMP_EQ"}, {"index": 6, "value": 0, "op": "SCMP_CMP_EQ"}]},
    ]}));
    for part in [
        "linux.seccomp.defaultErrnoRet: 4096 is greater than 4095",
        "linux.seccomp.listenerPath: \"run/x\" is not an absolute path",
        "linux.seccomp.syscalls[0].names: empty",
        "linux.seccomp.syscalls[0].errnoRet: 1 has no meaning with SCMP_ACT_ALLOW",
        "linux.seccomp.syscalls[1].names[1]: \"\"",
        "linux.seccomp.syscalls[2].errnoRet: 65536 is greater than 65535",
        "linux.seccomp.syscalls[2].args[1].index: 6 is greater than 5",
    ] {
        assert!(fault.contains(part), "{part:?} in {fault:?}");
    }
}

#[test]
fn notification_needs_somebody_to_be_notified() {
    let syscalls = json!([{"names": ["read"], "action": "SCMP_ACT_NOTIFY"}]);
    let fault = fault_of(json!({"defaultAction": "SCMP_ACT_ALLOW", "listenerMetadata": "x", "syscalls": syscalls}));
    assert_eq!(
        fault,
        "linux.seccomp.listenerMetadata: \"x\" is for nobody: linux.seccomp.listenerPath is not set; \
         linux.seccomp.syscalls[0].action: SCMP_ACT_NOTIFY needs linux.seccomp.listenerPath"
    );
    let fault = fault_of(json!({"defaultAction": "SCMP_ACT_NOTIFY", "listenerPath": ""}));
    assert_eq!(fault, "linux.seccomp.defaultAction: SCMP_ACT_NOTIFY needs linux.seccomp.listenerPath");
    let fault = fault_of(json!({"defaultAction": "SCMP_ACT_ALLOW", "listenerPath": "/run/x",
        "flags": ["SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"]}));
    assert_eq!(
        fault,
        "linux.seccomp.flags[1]: SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV has no meaning without SCMP_ACT_NOTIFY"
    );
}

#[test]
fn rules_with_the_same_conditions_and_different_answers_are_a_fault() {
    let same = |action| rule("lseek", action, &[(0, "EQ", 1, 0)]);
    let fault = fault_of(denying(&[same("SCMP_ACT_ALLOW"), same("SCMP_ACT_TRAP")]));
    assert_eq!(
        fault,
        "linux.seccomp.syscalls[1].action: SCMP_ACT_TRAP contradicts the SCMP_ACT_ALLOW that linux.seccomp.syscalls[0] has \
         under the same conditions"
    );
    compile(denying(&[same("SCMP_ACT_ALLOW"), same("SCMP_ACT_ALLOW")]));
}
