//! `procrt seccomp`: what a profile means, and the program that it becomes.

use std::fmt::Write as _;
use std::path::PathBuf;

use nix::sys::utsname::uname;

use super::Run;
use super::global::Global;
use crate::bundle::{self, Circumstances, DOCKERS_CAPABILITIES, Profile};
use crate::error::{Context, Error, Faults, Result};
use crate::seccomp::{self, Machine, Question, SeccompPlan, listing};

/// Compile a seccomp profile, or explain what it does with a call
///
/// PROFILE is a file (- is standard input): a configuration with linux.seccomp in it, that section alone, or a profile as
/// engines take it, such as Docker's default.json or /usr/share/containers/seccomp.json. Of the last kind, with archMap,
/// includes and excludes, a section is made as an engine would do it for a container on this machine that has the
/// capabilities of Docker's containers; --cap adds more.
#[derive(Debug, clap::Args)]
#[command(
    arg_required_else_help = false,
    after_help = "\
Examples:
  procrt seccomp explain /usr/share/containers/seccomp.json clone 0x7c020011
  procrt seccomp compile bundle/config.json | less
  procrt seccomp compile profile.json --format raw > profile.bpf
"
)]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
#[command(max_term_width = 100)]
enum Action {
    /// Print the program that the kernel would get
    ///
    /// What the program answers to a call is what explain tells. It is what create installs, to the bit.
    #[command(after_help = "\
Formats:
  asm   the language of the kernel's tools/bpf/bpf_asm, with comments
  raw   struct sock_filter, eight bytes an instruction in this machine's byte order, as bwrap --seccomp takes it
  c     a definition in C

Examples:
  procrt seccomp compile profile.json
  procrt seccomp compile profile.json --format raw > profile.bpf
  procrt seccomp compile profile.json --machine aarch64 --format c
")]
    Compile {
        #[command(flatten)]
        profile: ProfileArgs,

        /// How to print it
        #[arg(long, short, value_name = "FORMAT", default_value = "asm")]
        format: Format,
    },

    /// Tell which rule decides a call, and what is done about it
    ///
    /// The rules about the call are listed in the order in which they are tried, for each architecture of the profile that
    /// has the call. Arguments that are left out are taken as unknown: what depends on them is said to.
    #[command(
        allow_negative_numbers = true,
        arg_required_else_help = false,
        after_help = "\
Examples:
  procrt seccomp explain profile.json mount               Is it allowed?
  procrt seccomp explain profile.json personality 8       With this argument?
  procrt seccomp explain profile.json 435 --arch x86_64   By number, on one architecture
  procrt seccomp explain bundle socket 40 --arch x86      Of a bundle's config.json
"
    )]
    Explain {
        #[command(flatten)]
        profile: ProfileArgs,

        /// The call, by name or number
        #[arg(value_name = "SYSCALL")]
        call: String,

        /// Its arguments from the first on: decimal, or hexadecimal with 0x
        #[arg(value_name = "ARGUMENT", value_parser = argument, num_args = 0..=6)]
        arguments: Vec<u64>,

        /// Only this architecture
        #[arg(long, value_name = "ARCH", value_parser = ["x86_64", "x86", "x32", "aarch64", "arm"])]
        arch: Option<String>,
    },
}

#[derive(Debug, clap::Args)]
struct ProfileArgs {
    /// The profile, a configuration, or a bundle; - is standard input
    #[arg(value_name = "PROFILE")]
    file: PathBuf,

    /// A capability that the container has beside those that Docker gives; ALL for all there are (may be repeated)
    #[arg(long = "cap", value_name = "CAP")]
    capabilities: Vec<String>,

    /// The machine that the filter is for [default: this one]
    #[arg(long, value_name = "MACHINE", value_parser = ["x86_64", "aarch64"])]
    machine: Option<String>,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Format {
    Asm,
    Raw,
    C,
}

impl Run for Args {
    const NAME: &'static str = "seccomp";

    fn run(self, _: &Global) -> Result<i32> {
        match self.action {
            Action::Compile { profile, format } => compile(&profile, format),
            Action::Explain { profile, call, arguments, arch } => explain(&profile, &call, &arguments, arch.as_deref()),
        }
    }
}

/// A number as people write it; a negative one is what a C program passes for it.
fn argument(text: &str) -> std::result::Result<u64, String> {
    let (negative, digits) = text.strip_prefix('-').map_or((false, text), |digits| (true, digits));
    let number = match digits.strip_prefix("0x").or_else(|| digits.strip_prefix("0X")) {
        Some(digits) => u64::from_str_radix(digits, 16),
        None => digits.parse(),
    };
    let number = number.map_err(|_| format!("{text:?} is no number of at most 64 bits"))?;
    Ok(if negative { number.wrapping_neg() } else { number })
}

fn read(args: &ProfileArgs) -> Result<(Machine, Profile, SeccompPlan)> {
    let machine = args.machine.as_deref().and_then(Machine::named).unwrap_or(Machine::OWN);
    let mut capabilities: Vec<String> = DOCKERS_CAPABILITIES.map(str::to_owned).to_vec();
    for name in &args.capabilities {
        let name = name.to_ascii_uppercase();
        if name == "ALL" {
            capabilities = caps::all().iter().map(ToString::to_string).collect();
            capabilities.sort();
            continue;
        }
        let name = if name.starts_with("CAP_") { name } else { format!("CAP_{name}") };
        if crate::process::capability_bit(&name).is_none() {
            return Err(Error::config(format!("--cap: {name:?} is not a known capability")));
        }
        if !capabilities.contains(&name) {
            capabilities.push(name);
        }
    }
    let release = uname().context(|| "read the kernel's version")?.release().to_string_lossy().into_owned();
    let circumstances = Circumstances {
        capabilities,
        machine: machine.go_name(),
        architecture: machine.architecture(),
        kernel: bundle::kernel_version(&release).unwrap_or_default(),
    };
    let profile = bundle::read_profile(&args.file, &circumstances)?;
    let mut faults = Faults::default();
    let plan = seccomp::plan_for(&machine, &profile.section, true, &mut faults);
    faults.into_result()?;
    Ok((machine, profile, plan))
}

fn compile(args: &ProfileArgs, format: Format) -> Result<i32> {
    let (_, profile, plan) = read(args)?;
    match format {
        Format::Raw => super::print(listing::raw(&plan.program)),
        Format::C => super::print(listing::c(&plan.program)),
        Format::Asm => {
            let mut text = String::new();
            for line in profile.notes.iter().chain(&plan.describe()[..2]) {
                let _ = writeln!(text, "; {line}");
            }
            let _ = writeln!(text, "; {} instructions", plan.program.len());
            super::print(text + &listing::assembly(&plan.program))
        }
    }
}

fn explain(args: &ProfileArgs, call: &str, arguments: &[u64], architecture: Option<&str>) -> Result<i32> {
    let (machine, profile, plan) = read(args)?;
    if let Some(name) = architecture.filter(|name| !plan.architectures.contains(name)) {
        return Err(Error::config(format!(
            "--arch {name}: not an architecture of this profile: it has {}, and a call made in any other way kills the \
             process",
            plan.architectures.join(", ")
        )));
    }
    let rule = |at: usize| {
        let at = profile.origin.get(at).copied().unwrap_or(at);
        format!("{}syscalls[{at}]", profile.prefix)
    };
    let question = Question { call, arguments, architecture };
    let explanations = seccomp::explain(&machine, &profile.section, question, &rule);
    if explanations.is_empty() {
        let known = machine.architectures().any(|name| seccomp::has_call(name, call));
        let what = if known { "not a call of this profile's architectures" } else { "no call that is known" };
        return Err(Error::config(format!("{call:?} is {what} ({})", plan.architectures.join(", "))));
    }
    let mut text = String::new();
    for note in &profile.notes {
        let _ = writeln!(text, "{note}");
    }
    for explanation in explanations {
        let (last, lines) =
            explanation.lines.split_last().map_or(("", &[][..]), |(last, lines)| (last.as_str(), lines));
        let (first, lines) = lines.split_first().map_or(("", lines), |(first, lines)| (first.as_str(), lines));
        let _ = writeln!(text, "{}: {first}", explanation.architecture);
        for line in lines {
            let _ = writeln!(text, "    {line}");
        }
        let _ = writeln!(text, "  {last}");
    }
    super::print(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_numbers_as_people_write_them() {
        assert_eq!(argument("10"), Ok(10));
        assert_eq!(argument("0xFF"), Ok(255));
        assert_eq!(argument("-100"), Ok(0xffff_ffff_ffff_ff9c));
        assert_eq!(argument("0xffffffffffffffff"), Ok(u64::MAX));
        assert!(argument("0x10000000000000000").is_err());
        assert!(argument("O_RDONLY").is_err());
    }
}
