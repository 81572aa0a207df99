//! What config.json says about the process, and what of it cannot be.

use oci_spec::runtime::{
    Capabilities, IOPriorityClass, LinuxPersonalityDomain, LinuxSchedulerFlag, LinuxSchedulerPolicy, PosixRlimitType,
    Process, Scheduler, Spec,
};

use super::{CapabilitySets, ProcessPlan, Rlimit, affinity, memory_policy};
use crate::error::Faults;
use crate::host::lsm::{self, Label, Missing};
use crate::sys::process::SchedulerAttributes;

/// Decides about the process (config.md, "Process"; config-linux.md, "Personality"). A configuration need not have one
/// before `start`: then the plan has no arguments, and whoever would start it refuses. `missing` is what becomes of labels
/// for security modules that are not at work.
pub fn plan(spec: &Spec, missing: Missing, faults: &mut Faults) -> Option<ProcessPlan> {
    let linux = spec.linux().as_ref();
    let memory_policy = linux.and_then(|linux| linux.memory_policy().as_ref());
    let memory_policy = memory_policy.map(|policy| memory_policy::plan(policy, faults));
    let Some(process) = spec.process() else {
        return Some(ProcessPlan { memory_policy, ..ProcessPlan::default() });
    };
    let personality = personality(spec, faults);
    Some(ProcessPlan { personality, memory_policy, ..plan_one(process, missing, faults) })
}

/// Decides about a process that joins a container whose own is `container`: where `process` is silent, that is asked.
pub fn plan_joining(process: &Process, container: &ProcessPlan, missing: Missing, faults: &mut Faults) -> ProcessPlan {
    let plan = plan_one(process, missing, faults);
    let container = container.clone();
    ProcessPlan {
        umask: if process.user().umask().is_some() { plan.umask } else { container.umask },
        capabilities: if process.capabilities().is_some() { plan.capabilities } else { container.capabilities },
        rlimits: if plan.rlimits.is_empty() { container.rlimits } else { plan.rlimits },
        no_new_privileges: process.no_new_privileges().unwrap_or(container.no_new_privileges),
        oom_score_adj: plan.oom_score_adj.or(container.oom_score_adj),
        personality: container.personality,
        memory_policy: container.memory_policy,
        scheduler: plan.scheduler.or(container.scheduler),
        io_priority: plan.io_priority.or(container.io_priority),
        exec_affinity: if process.exec_cpu_affinity().is_some() { plan.exec_affinity } else { container.exec_affinity },
        apparmor_profile: plan.apparmor_profile.or(container.apparmor_profile),
        selinux_label: plan.selinux_label.or(container.selinux_label),
        ..plan
    }
}

/// Gives a variable of an environment its value, `NAME=VALUE`; what it was before is gone.
pub fn set_variable(env: &mut Vec<String>, variable: &str) {
    let name = variable.split_inclusive('=').next().unwrap_or_default();
    env.retain(|other| !other.starts_with(name));
    env.push(variable.to_owned());
}

/// The bit of a capability in a set, by its name.
pub fn capability_bit(name: &str) -> Option<u64> {
    let upper = name.to_ascii_uppercase();
    let name = if upper.starts_with("CAP_") { upper } else { format!("CAP_{upper}") };
    name.parse::<caps::Capability>().ok().map(|capability| 1 << capability.index())
}

fn plan_one(process: &Process, missing: Missing, faults: &mut Faults) -> ProcessPlan {
    let args = process.args().clone().unwrap_or_default();
    match args.first() {
        None => faults.add("process.args", "is empty"),
        Some(program) if program.is_empty() => faults.add("process.args[0]", "is empty"),
        Some(_) => {}
    }
    let env = process.env().clone().unwrap_or_default();
    for (field, list) in [("args", &args), ("env", &env)] {
        for (index, text) in list.iter().enumerate().filter(|(_, text)| text.contains('\0')) {
            faults.add(format!("process.{field}[{index}]"), format_args!("{text:?} has a NUL byte in it"));
        }
    }
    for (index, text) in env.iter().enumerate() {
        if text.find('=').is_none_or(|at| at == 0) {
            faults.add(format!("process.env[{index}]"), format_args!("{text:?} is not of the form NAME=VALUE"));
        }
    }
    let cwd = process.cwd();
    if !cwd.is_absolute() {
        faults.add("process.cwd", format_args!("{:?} is not an absolute path", cwd.display().to_string()));
    }
    let user = process.user();
    let umask = user.umask().unwrap_or(0o022);
    if umask > 0o777 {
        faults.add("process.user.umask", format_args!("{umask} is more than 511 (0777)"));
    }
    for (field, id) in [("uid", user.uid()), ("gid", user.gid())] {
        if id == u32::MAX {
            faults.add(
                format!("process.user.{field}"),
                format_args!("{id} is no id: the kernel takes it for \"unchanged\""),
            );
        }
    }
    ProcessPlan {
        args,
        env,
        cwd: cwd.clone(),
        uid: user.uid(),
        gid: user.gid(),
        groups: user.additional_gids().clone().unwrap_or_default(),
        umask,
        capabilities: capabilities(process),
        rlimits: rlimits(process, faults),
        no_new_privileges: process.no_new_privileges().unwrap_or(false),
        oom_score_adj: process.oom_score_adj().inspect(|score| {
            if !(-1000..=1000).contains(score) {
                faults.add("process.oomScoreAdj", format_args!("{score} is not within -1000..=1000"));
            }
        }),
        personality: None,
        memory_policy: None,
        scheduler: process.scheduler().as_ref().and_then(|scheduler| self::scheduler(scheduler, faults)),
        io_priority: process.io_priority().as_ref().map(|priority| {
            let level = priority.priority();
            if !(0..=7).contains(&level) {
                faults.add("process.ioPriority.priority", format_args!("{level} is not within 0..=7"));
            }
            let class = match priority.class() {
                IOPriorityClass::IoprioClassRt => 1,
                IOPriorityClass::IoprioClassBe => 2,
                IOPriorityClass::IoprioClassIdle => 3,
            };
            (class, level.clamp(0, 7) as u16)
        }),
        exec_affinity: affinity::plan(process.exec_cpu_affinity().as_ref(), faults),
        apparmor_profile: lsm::plan(
            "process.apparmorProfile",
            process.apparmor_profile().as_deref(),
            Label::AppArmorProfile,
            missing,
            faults,
        ),
        selinux_label: lsm::plan(
            "process.selinuxLabel",
            process.selinux_label().as_deref(),
            Label::SelinuxProcess,
            missing,
            faults,
        ),
    }
}

fn mask(set: Option<&Capabilities>) -> u64 {
    set.into_iter()
        .flatten()
        .filter_map(|capability| format!("CAP_{capability}").parse::<caps::Capability>().ok())
        .fold(0, |mask, capability| mask | 1 << capability.index())
}

fn capabilities(process: &Process) -> CapabilitySets {
    let Some(sets) = process.capabilities() else {
        return CapabilitySets::default();
    };
    CapabilitySets {
        bounding: mask(sets.bounding().as_ref()),
        effective: mask(sets.effective().as_ref()),
        permitted: mask(sets.permitted().as_ref()),
        inheritable: mask(sets.inheritable().as_ref()),
        ambient: mask(sets.ambient().as_ref()),
    }
}

fn resource_number(typ: PosixRlimitType) -> u32 {
    match typ {
        PosixRlimitType::RlimitCpu => libc::RLIMIT_CPU,
        PosixRlimitType::RlimitFsize => libc::RLIMIT_FSIZE,
        PosixRlimitType::RlimitData => libc::RLIMIT_DATA,
        PosixRlimitType::RlimitStack => libc::RLIMIT_STACK,
        PosixRlimitType::RlimitCore => libc::RLIMIT_CORE,
        PosixRlimitType::RlimitRss => libc::RLIMIT_RSS,
        PosixRlimitType::RlimitNproc => libc::RLIMIT_NPROC,
        PosixRlimitType::RlimitNofile => libc::RLIMIT_NOFILE,
        PosixRlimitType::RlimitMemlock => libc::RLIMIT_MEMLOCK,
        PosixRlimitType::RlimitAs => libc::RLIMIT_AS,
        PosixRlimitType::RlimitLocks => libc::RLIMIT_LOCKS,
        PosixRlimitType::RlimitSigpending => libc::RLIMIT_SIGPENDING,
        PosixRlimitType::RlimitMsgqueue => libc::RLIMIT_MSGQUEUE,
        PosixRlimitType::RlimitNice => libc::RLIMIT_NICE,
        PosixRlimitType::RlimitRtprio => libc::RLIMIT_RTPRIO,
        PosixRlimitType::RlimitRttime => libc::RLIMIT_RTTIME,
    }
}

fn rlimits(process: &Process, faults: &mut Faults) -> Vec<Rlimit> {
    let mut planned: Vec<Rlimit> = Vec::new();
    for (index, limit) in process.rlimits().iter().flatten().enumerate() {
        let name = limit.typ().to_string();
        if planned.iter().any(|other| other.name == name) {
            faults.add(format!("process.rlimits[{index}].type"), format_args!("{name:?} is there twice"));
        }
        if limit.soft() > limit.hard() {
            faults.add(
                format!("process.rlimits[{index}].soft"),
                format_args!("{} is more than the hard limit {}", limit.soft(), limit.hard()),
            );
        }
        planned.push(Rlimit { name, resource: resource_number(limit.typ()), soft: limit.soft(), hard: limit.hard() });
    }
    planned
}

fn personality(spec: &Spec, faults: &mut Faults) -> Option<u64> {
    let personality = spec.linux().as_ref()?.personality().as_ref()?;
    if personality.flags().as_ref().is_some_and(|flags| !flags.is_empty()) {
        faults.unsupported("linux.personality.flags", "the specification has no flags");
    }
    Some(match personality.domain() {
        LinuxPersonalityDomain::PerLinux => 0,
        LinuxPersonalityDomain::PerLinux32 => 8,
    })
}

fn scheduler(scheduler: &Scheduler, faults: &mut Faults) -> Option<SchedulerAttributes> {
    let policy = match scheduler.policy() {
        LinuxSchedulerPolicy::SchedOther => libc::SCHED_OTHER,
        LinuxSchedulerPolicy::SchedFifo => libc::SCHED_FIFO,
        LinuxSchedulerPolicy::SchedRr => libc::SCHED_RR,
        LinuxSchedulerPolicy::SchedBatch => libc::SCHED_BATCH,
        LinuxSchedulerPolicy::SchedIdle => libc::SCHED_IDLE,
        LinuxSchedulerPolicy::SchedDeadline => libc::SCHED_DEADLINE,
        LinuxSchedulerPolicy::SchedIso => {
            faults.unsupported("process.scheduler.policy", "\"SCHED_ISO\" is not in Linux");
            return None;
        }
    };
    let realtime = matches!(policy, libc::SCHED_FIFO | libc::SCHED_RR);
    let nice = scheduler.nice().unwrap_or(0);
    if !(-20..=19).contains(&nice) {
        faults.add("process.scheduler.nice", format_args!("{nice} is not within -20..=19"));
    }
    let priority = scheduler.priority().unwrap_or(0);
    if realtime && !(1..=99).contains(&priority) {
        faults.add("process.scheduler.priority", format_args!("{priority} is not within 1..=99"));
    } else if !realtime && priority != 0 {
        faults.add("process.scheduler.priority", format_args!("{priority} is for SCHED_FIFO and SCHED_RR alone"));
    }
    let deadline = [scheduler.runtime(), scheduler.deadline(), scheduler.period()].map(|value| value.unwrap_or(0));
    if policy != libc::SCHED_DEADLINE && deadline != [0, 0, 0] {
        faults.add("process.scheduler", "runtime, deadline and period are for SCHED_DEADLINE alone");
    }
    let flags = scheduler.flags().iter().flatten().fold(0, |flags, flag| {
        flags
            | match flag {
                LinuxSchedulerFlag::SchedResetOnFork => 0x01,
                LinuxSchedulerFlag::SchedFlagReclaim => 0x02,
                LinuxSchedulerFlag::SchedFlagDLOverrun => 0x04,
                LinuxSchedulerFlag::SchedFlagKeepPolicy => 0x08,
                LinuxSchedulerFlag::SchedFlagKeepParams => 0x10,
                LinuxSchedulerFlag::SchedFlagUtilClampMin => 0x20,
                LinuxSchedulerFlag::SchedFlagUtilClampMax => 0x40,
            }
    });
    Some(SchedulerAttributes {
        policy: policy as u32,
        flags,
        nice,
        priority: priority.max(0) as u32,
        runtime: deadline[0],
        deadline: deadline[1],
        period: deadline[2],
        ..SchedulerAttributes::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn planned(process: &str) -> (Option<ProcessPlan>, String) {
        let spec: Spec = serde_json::from_str(&format!(r#"{{"ociVersion":"1.0.0","process":{process}}}"#)).unwrap();
        let mut faults = Faults::default();
        let plan = plan(&spec, Missing::Refused, &mut faults);
        (plan, faults.into_result().err().map(|error| error.to_string()).unwrap_or_default())
    }

    #[test]
    fn a_process_has_a_command_and_an_absolute_directory() {
        let (_, faults) = planned(r#"{"user":{},"cwd":"tmp","args":[],"env":["A=1","B"]}"#);
        assert_eq!(
            faults,
            r#"process.args: is empty; process.env[1]: "B" is not of the form NAME=VALUE; process.cwd: "tmp" is not an absolute path"#
        );
    }

    #[test]
    fn capabilities_are_bit_masks() {
        let (plan, faults) = planned(
            r#"{"user":{},"cwd":"/","args":["x"],"capabilities":{"bounding":["CAP_CHOWN","CAP_CHECKPOINT_RESTORE"],
                "effective":["CAP_NET_BIND_SERVICE"]}}"#,
        );
        assert_eq!(faults, "");
        let sets = plan.unwrap().capabilities;
        assert_eq!((sets.bounding, sets.effective, sets.permitted), (1 | 1 << 40, 1 << 10, 0));
    }

    #[test]
    fn limits_named_twice_or_upside_down_are_faults() {
        let (_, faults) = planned(
            r#"{"user":{},"cwd":"/","args":["x"],"rlimits":[{"type":"RLIMIT_CORE","soft":5,"hard":4},
                {"type":"RLIMIT_CORE","soft":1,"hard":4}]}"#,
        );
        assert_eq!(
            faults,
            r#"process.rlimits[0].soft: 5 is more than the hard limit 4; process.rlimits[1].type: "RLIMIT_CORE" is there twice"#
        );
    }

    #[test]
    fn a_scheduler_is_checked_for_its_policy() {
        let (plan, faults) = planned(
            r#"{"user":{},"cwd":"/","args":["x"],"scheduler":{"policy":"SCHED_FIFO","priority":5,"flags":["SCHED_RESET_ON_FORK"]}}"#,
        );
        let attributes = plan.unwrap().scheduler.unwrap();
        assert_eq!((faults.as_str(), attributes.policy, attributes.priority, attributes.flags), ("", 1, 5, 1));
        let (_, faults) = planned(r#"{"user":{},"cwd":"/","args":["x"],"scheduler":{"policy":"SCHED_RR","nice":40}}"#);
        assert_eq!(
            faults,
            "process.scheduler.nice: 40 is not within -20..=19; process.scheduler.priority: 0 is not within 1..=99"
        );
    }
}
