//! The options that a sandbox's policy is made of: one for each field.

use std::path::PathBuf;
use std::str::FromStr;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use serde::de::DeserializeOwned;

use crate::error::Result;
use crate::sandbox::{Amount, Bind, Cpus, Level, NetworkMode, Policy, Rlimit, Seccomp, Size, Time};

#[derive(Debug, clap::Args)]
pub struct Options {
    /// Begin with the policy in FILE, JSON or TOML; options go before its fields, and add to its lists [- is standard
    /// input]
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,

    /// How strong the confinement is: off (limits alone), default (of the process itself; needs nothing), enhanced
    /// (namespaces and a root of its own; what is taken if nothing is said), container (with --rootfs), maximum (a kernel
    /// of its own)
    #[arg(long, value_name = "LEVEL", value_parser = words::<Level>(&["off", "default", "enhanced", "container", "maximum"]))]
    #[arg(hide_possible_values = true, help_heading = "Confinement")]
    level: Option<Level>,

    /// The filter of system calls: default, none, or a profile's FILE
    #[arg(long, value_name = "default|none|FILE", help_heading = "Confinement", value_parser = seccomp)]
    seccomp: Option<Seccomp>,

    /// Have this OCI runtime run it, a path or a name on PATH
    #[arg(long, value_name = "PATH", help_heading = "Confinement")]
    runtime: Option<PathBuf>,

    /// An argument for that runtime, before its command (may be repeated)
    #[arg(long, value_name = "ARG", help_heading = "Confinement", allow_hyphen_values = true)]
    runtime_arg: Vec<String>,

    /// Memory of all processes together, tmpfs included [default: 1G]
    #[arg(long, value_name = "SIZE", help_heading = "Limits")]
    memory: Option<Size>,

    /// Swap beside the memory [default: 0]
    #[arg(long, value_name = "SIZE", help_heading = "Limits")]
    swap: Option<Size>,

    /// Processors: 0.5, 2, or 50% of one
    #[arg(long, value_name = "SHARE", help_heading = "Limits")]
    cpus: Option<Cpus>,

    /// Processes and threads [default: 256]
    #[arg(long, value_name = "COUNT", help_heading = "Limits", value_parser = clap::value_parser!(u32).range(1..))]
    pids: Option<u32>,

    /// Bytes a second from and to each disk
    #[arg(long, value_name = "SIZE", help_heading = "Limits")]
    io_bps: Option<Size>,

    /// Time; when it is over, all processes get TERM, and after --grace KILL [default: 5m]
    #[arg(long, value_name = "TIME", help_heading = "Limits")]
    timeout: Option<Time>,

    /// Time between TERM and KILL [default: 1s]
    #[arg(long, value_name = "TIME", help_heading = "Limits")]
    grace: Option<Time>,

    /// Bytes of standard output and error together; what is more is thrown away
    #[arg(long, value_name = "SIZE", help_heading = "Limits")]
    output_limit: Option<Size>,

    /// The size of each tmpfs that can be written to [default: 64M]
    #[arg(long, value_name = "SIZE", help_heading = "Limits")]
    tmpfs_size: Option<Size>,

    /// A limit of setrlimit(2) for each process: as, core, cpu, data, fsize, memlock, nofile, nproc or stack (may be
    /// repeated) [default: core=0 nofile=1024]
    #[arg(long = "rlimit", value_name = "NAME=AMOUNT", help_heading = "Limits", value_parser = rlimit)]
    rlimits: Vec<(Rlimit, Amount)>,

    /// Show PATH, to be read and executed; at DEST if that is given (may be repeated)
    #[arg(long, value_name = "PATH[:DEST]", help_heading = "Files")]
    ro: Vec<Bind>,

    /// Show PATH, to be written too (may be repeated)
    #[arg(long, value_name = "PATH[:DEST]", help_heading = "Files")]
    rw: Vec<Bind>,

    /// Keep PATH out of reach, whatever else is said (may be repeated)
    #[arg(long, value_name = "PATH", help_heading = "Files")]
    deny: Vec<PathBuf>,

    /// Show PATH; what is written there is thrown away at the end (may be repeated)
    #[arg(long, value_name = "PATH[:DEST]", help_heading = "Files")]
    overlay: Vec<Bind>,

    /// Have a copy of DIR at /workspace, and throw it away at the end
    #[arg(long, value_name = "DIR", help_heading = "Files")]
    workspace: Option<PathBuf>,

    /// Have DIR at /out, to be written to
    #[arg(long, value_name = "DIR", help_heading = "Files")]
    out: Option<PathBuf>,

    /// Take the directory DIR as the root file system, read-only, not the host's system directories
    #[arg(long, value_name = "DIR", help_heading = "Files")]
    rootfs: Option<PathBuf>,

    /// Begin in the directory DIR, as the sandbox sees it [default: /workspace if there is one, else this directory, which
    /// can be written to]
    #[arg(long, value_name = "DIR", help_heading = "Files")]
    cwd: Option<PathBuf>,

    /// Keep home directories out of sight, but for what is named [default: true]
    #[arg(long, value_name = "BOOL", help_heading = "Files", num_args = 0..=1, require_equals = true)]
    #[arg(default_missing_value = "true", hide_possible_values = true)]
    hide_home: Option<bool>,

    /// Which network: none, loopback (one of its own), or host [default: none]
    #[arg(long, value_name = "MODE", help_heading = "Network", hide_possible_values = true)]
    #[arg(value_parser = words::<NetworkMode>(&["none", "loopback", "host"]))]
    network: Option<NetworkMode>,

    /// With --network host: connect to this TCP port, and to no other (may be repeated)
    #[arg(long, value_name = "PORT", help_heading = "Network")]
    allow_tcp: Vec<u16>,

    /// The ids inside, numbers [default: the caller's]
    #[arg(long, value_name = "UID[:GID]", help_heading = "Identity and environment")]
    user: Option<String>,

    /// Set a variable (may be repeated)
    #[arg(long, value_name = "NAME=VALUE", help_heading = "Identity and environment", value_parser = variable)]
    env: Vec<(String, String)>,

    /// Pass a variable of this environment on (may be repeated)
    #[arg(long, value_name = "NAME", help_heading = "Identity and environment")]
    pass_env: Vec<String>,

    /// Let a variable in whose name looks like a secret's (may be repeated)
    #[arg(long, value_name = "NAME", help_heading = "Identity and environment")]
    allow_secret_env: Vec<String>,
}

impl Options {
    /// The policy that they are: the file's, with what is said here before its fields and added to its lists.
    ///
    /// # Errors
    /// As [`Policy::load`].
    pub fn policy(self) -> Result<Policy> {
        let mut policy = self.policy.as_deref().map_or_else(|| Ok(Policy::default()), Policy::load)?;
        set(&mut policy.level, self.level);
        set(&mut policy.seccomp, self.seccomp);
        set(&mut policy.runtime, self.runtime);
        policy.runtime_args.extend(self.runtime_arg);
        set(&mut policy.limits.memory, self.memory);
        set(&mut policy.limits.swap, self.swap);
        set(&mut policy.limits.cpus, self.cpus);
        set(&mut policy.limits.pids, self.pids);
        set(&mut policy.limits.io_bps, self.io_bps);
        set(&mut policy.limits.timeout, self.timeout);
        set(&mut policy.limits.grace, self.grace);
        set(&mut policy.limits.output, self.output_limit);
        set(&mut policy.limits.tmpfs_size, self.tmpfs_size);
        policy.limits.rlimits.extend(self.rlimits);
        policy.files.ro.extend(self.ro);
        policy.files.rw.extend(self.rw);
        policy.files.deny.extend(self.deny);
        policy.files.overlay.extend(self.overlay);
        set(&mut policy.files.workspace, self.workspace);
        set(&mut policy.files.out, self.out);
        set(&mut policy.files.rootfs, self.rootfs);
        set(&mut policy.files.cwd, self.cwd);
        set(&mut policy.files.hide_home, self.hide_home);
        set(&mut policy.network.mode, self.network);
        policy.network.allow_tcp.extend(self.allow_tcp);
        set(&mut policy.user, self.user);
        policy.environment.set.extend(self.env);
        policy.environment.pass.extend(self.pass_env);
        policy.environment.allow_secret.extend(self.allow_secret_env);
        Ok(policy)
    }
}

fn set<T>(field: &mut Option<T>, option: Option<T>) {
    if option.is_some() {
        *field = option;
    }
}

/// A parser of words, each a variant of `T` as a policy file has it.
fn words<T: DeserializeOwned + Clone + Send + Sync + 'static>(
    words: &'static [&'static str],
) -> impl TypedValueParser<Value = T> {
    PossibleValuesParser::new(words).try_map(|word| serde_json::from_value(word.into()))
}

#[allow(clippy::unnecessary_wraps, reason = "what a parser is to clap")]
fn seccomp(text: &str) -> std::result::Result<Seccomp, String> {
    Ok(Seccomp::from(text.to_owned()))
}

fn rlimit(text: &str) -> std::result::Result<(Rlimit, Amount), String> {
    let (name, amount) = text.split_once('=').ok_or_else(|| format!("{text:?} is not NAME=AMOUNT"))?;
    let name = serde_json::from_value(name.into()).map_err(|error| error.to_string())?;
    Ok((name, Amount::from_str(amount)?))
}

pub(super) fn variable(text: &str) -> std::result::Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or_else(|| format!("{text:?} is not NAME=VALUE"))?;
    Ok((name.to_owned(), value.to_owned()))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use clap::{Args, FromArgMatches};
    use serde_json::Value;

    use super::*;

    fn described() -> clap::Command {
        Options::augment_args(clap::Command::new("x"))
    }

    fn parse(args: &[&str]) -> std::result::Result<Policy, String> {
        let args = std::iter::once("x").chain(args.iter().copied());
        let matches = described().try_get_matches_from(args).map_err(|error| error.to_string())?;
        let options = Options::from_arg_matches(&matches).map_err(|error| error.to_string())?;
        options.policy().map_err(|error| error.to_string())
    }

    /// Every field of the schema that is not an object of fields itself: its path, and what is said of it.
    fn fields(schema: &Value, at: &Value, path: &str, into: &mut Vec<(String, String)>) {
        for (name, field) in at["properties"].as_object().unwrap() {
            let path = format!("{path}{name}");
            let below = field["$ref"].as_str().map(|place| &schema["$defs"][place.trim_start_matches("#/$defs/")]);
            match below.filter(|below| below["properties"].is_object()) {
                Some(below) => fields(schema, below, &format!("{path}."), into),
                None => into.push((path, field["description"].as_str().unwrap_or_default().to_owned())),
            }
        }
    }

    #[test]
    fn every_option_is_a_field_and_every_field_an_option() {
        let schema = serde_json::to_value(schemars::schema_for!(Policy)).unwrap();
        let mut all = Vec::new();
        fields(&schema, &schema, "", &mut all);
        assert!(all.iter().any(|(path, _)| path == "limits.memory"), "{all:?}");
        let mut named = BTreeSet::new();
        for (path, text) in &all {
            let option = text.split("(`--").nth(1).unwrap_or_else(|| panic!("{path} names no option: {text}"));
            let end = option.find(|c: char| !c.is_ascii_lowercase() && c != '-').unwrap();
            assert!(named.insert(option[..end].to_owned()), "{path}: --{} is another field's", &option[..end]);
        }
        let command = described();
        let options = command.get_arguments().filter_map(clap::Arg::get_long).map(str::to_owned);
        let options: BTreeSet<String> = options.filter(|name| name != "policy").collect();
        assert_eq!(named, options);
    }

    #[test]
    fn options_are_the_policy() {
        let policy = parse(&[
            "--level",
            "default",
            "--memory",
            "64M",
            "--cpus=50%",
            "--ro",
            "/a:/b",
            "--rlimit",
            "nofile=7",
            "--env",
            "A=b=c",
            "--network=host",
            "--allow-tcp",
            "80",
            "--hide-home=false",
            "--seccomp",
            "/p.json",
        ]);
        let json = serde_json::json!({
            "level": "default", "seccomp": "/p.json",
            "limits": {"memory": "64M", "cpus": 0.5, "rlimits": {"nofile": 7}},
            "files": {"ro": ["/a:/b"], "hide_home": false},
            "network": {"mode": "host", "allow_tcp": [80]},
            "environment": {"set": {"A": "b=c"}},
        });
        assert_eq!(policy.unwrap(), serde_json::from_value::<Policy>(json).unwrap());
        assert_eq!(parse(&["--hide-home"]).unwrap().files.hide_home, Some(true));
    }

    #[test]
    fn options_go_before_the_file_and_add_to_its_lists() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("policy.json");
        std::fs::write(&file, r#"{"limits": {"pids": 5, "memory": "1M"}, "files": {"ro": ["/a"]}}"#).unwrap();
        let policy = parse(&["--policy", file.to_str().unwrap(), "--memory", "2M", "--ro", "/b"]).unwrap();
        assert_eq!((policy.limits.pids, policy.limits.memory), (Some(5), Some(Size(2 << 20))));
        assert_eq!(policy.files.ro.iter().map(|bind| bind.source.to_str().unwrap()).collect::<Vec<_>>(), ["/a", "/b"]);
    }

    #[test]
    fn a_wrong_value_is_named_with_its_option() {
        for (args, parts) in [
            (["--memory", "12Q"], ["--memory", "\"12Q\" is not a size"]),
            (["--timeout", "soon"], ["--timeout", "\"soon\" is not a time"]),
            (["--cpus", "0"], ["--cpus", "smallest share"]),
            (["--pids", "0"], ["--pids", "0 is not in"]),
            (["--level", "high"], ["--level", "'high'"]),
            (["--rlimit", "x=1"], ["--rlimit", "unknown variant `x`"]),
            (["--rlimit", "as"], ["--rlimit", "not NAME=AMOUNT"]),
            (["--ro", "/a:b"], ["--ro", "not absolute"]),
            (["--allow-tcp", "99999"], ["--allow-tcp", "99999"]),
            (["--env", "A"], ["--env", "not NAME=VALUE"]),
        ] {
            let error = parse(&args).unwrap_err();
            assert!(parts.iter().all(|part| error.contains(part)), "{args:?}: {error}");
        }
    }
}
