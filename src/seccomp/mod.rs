//! System call filters: a profile (`linux.seccomp`) to one classic BPF program, and the program to the kernel.
//!
//! [`plan()`] reads and decides, [`install()`] acts, [`support`] knows what there is. Within: `rules` is the profile checked and
//! in plain form, `numbers` and `arch` the calls of each architecture, `calls` what happens to each of them, and `code`
//! the instructions for that.
//!
//! The instructions are seccompiler's [`sock_filter`]. Its compiler is not used: it has one action for all rules, one
//! architecture, and does not know calls newer than the profile.

mod arch;
mod calls;
mod code;
mod explain;
mod filter;
mod install;
mod listener;
pub mod listing;
mod numbers;
mod plan;
mod rules;
pub mod support;
#[cfg(test)]
mod tests;

use seccompiler::sock_filter;
use serde::{Serialize, Serializer};

pub use arch::Machine;
pub use explain::{Explanation, Question, explain, has_call};
pub use filter::{Filter, Finished, from_digits, to_digits};
pub use install::{install, install_with_listener};
pub use listener::Listener;
pub use plan::{plan, plan_for};

/// A container's filter, ready to be installed.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SeccompPlan {
    /// `SECCOMP_FILTER_FLAG_*` bits.
    pub flags: u32,
    /// Whether to install the filter before privileges are dropped, as `process.noNewPrivileges` is not set and the kernel
    /// then asks for `CAP_SYS_ADMIN`; else it is installed last.
    pub early: bool,
    /// The answer, `SECCOMP_RET_*` with its data, to calls that no rule decides.
    pub default_answer: u32,
    /// The answer to calls newer than all that the profile names.
    pub newer_answer: u32,
    /// The ways of calling the kernel that there is code for, the machine's own first.
    pub architectures: Vec<&'static str>,
    /// How many rules decide something.
    pub rules: usize,
    /// How many calls they decide on the machine's own architecture.
    pub calls: usize,
    /// How many of the profile's names are of no call in any of these architectures.
    pub unknown_names: usize,
    /// The instructions; in JSON, each as `[code, jt, jf, k]`.
    #[serde(serialize_with = "instructions")]
    pub program: Vec<sock_filter>,
    /// Who is told of calls that the filter notifies of; none if there are none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub listener: Option<Listener>,
}

fn instructions<S: Serializer>(program: &[sock_filter], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(program.iter().map(|i| (i.code, i.jt, i.jf, i.k)))
}

impl SeccompPlan {
    /// A filter that is finished already, for this machine; of its rules nothing is known.
    pub fn of_program(program: Vec<sock_filter>) -> Self {
        Self {
            flags: 0,
            early: false,
            default_answer: libc::SECCOMP_RET_ERRNO | libc::EPERM as u32,
            newer_answer: libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32,
            architectures: Machine::OWN.architectures().take(1).collect(),
            rules: 0,
            calls: 0,
            unknown_names: 0,
            program,
            listener: None,
        }
    }

    /// What is installed.
    pub fn finished(&self) -> Finished<'_> {
        Finished { flags: self.flags, program: &self.program, listener: self.listener.as_ref() }
    }

    /// What the filter does, in a few short lines for a person.
    pub fn describe(&self) -> Vec<String> {
        let mut decides = vec![format!("{} by default", words(self.default_answer))];
        if self.newer_answer != self.default_answer {
            decides.push(format!("{} for calls newer than the profile", words(self.newer_answer)));
        }
        let architectures = self.architectures.join(", ");
        let mut rules = vec![format!("{} calls decided by {} rules, on {architectures}", self.calls, self.rules)];
        if self.unknown_names > 0 {
            rules.push(format!("{} names unknown there", self.unknown_names));
        }
        let when = if self.early { "before privileges are dropped" } else { "last, before the program starts" };
        let mut installed = vec![format!("{} instructions, installed {when}", self.program.len())];
        if self.flags != 0 {
            installed.push(format!("with flags {:#x}", self.flags));
        }
        let mut lines = vec![
            decides.join(", "),
            rules.join(", ") + "; a call made in any other way kills the process",
            installed.join(", "),
        ];
        lines.extend(self.listener.iter().map(|Listener { path, metadata }| {
            let beside = metadata.as_ref().map(|text| format!(", with {text:?}")).unwrap_or_default();
            format!("its listener goes to \"{}\"{beside}", path.display())
        }));
        lines
    }
}

/// An answer in words.
fn words(answer: u32) -> String {
    let data = answer & libc::SECCOMP_RET_DATA;
    match answer & libc::SECCOMP_RET_ACTION_FULL {
        libc::SECCOMP_RET_KILL_PROCESS => "kill the process".into(),
        libc::SECCOMP_RET_KILL_THREAD => "kill the thread".into(),
        libc::SECCOMP_RET_TRAP => "send SIGSYS".into(),
        libc::SECCOMP_RET_ERRNO => match nix::errno::Errno::from_raw(data as i32) {
            nix::errno::Errno::UnknownErrno => format!("fail with error {data}"),
            errno => format!("fail with {errno:?}"),
        },
        libc::SECCOMP_RET_TRACE => format!("ask the tracer, with {data}"),
        libc::SECCOMP_RET_USER_NOTIF => "ask the listener".into(),
        libc::SECCOMP_RET_LOG => "log and allow".into(),
        libc::SECCOMP_RET_ALLOW => "allow".into(),
        _ => format!("answer {answer:#x}"),
    }
}
