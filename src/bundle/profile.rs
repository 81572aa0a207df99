//! A seccomp profile in a file of its own: a configuration's section, or the form that engines take (Docker's
//! `--security-opt seccomp=FILE`, Podman's `/usr/share/containers/seccomp.json`), of which an engine makes such a section
//! for each container.
//!
//! That form has, beside the section's fields: `archMap`, which names the architectures that go with the machine's; and in
//! each rule `includes` and `excludes`, conditions under which it applies: `caps` that the container has (all of them, to
//! include; any of them, to exclude), `arches` of the machine by Go's names, `minKernel` of the running kernel. It also has
//! `comment`s, a single `name`, and Podman's `errno` and `defaultErrno` beside the numbers.

use std::io::Read;
use std::path::Path;

use nix::errno::Errno;
use oci_spec::runtime::LinuxSeccomp;
use serde_json::{Map, Value};

use super::CONFIG;
use super::load::parse;
use crate::error::{Context, Error, Result};

/// What an engine knows of the container and the machine when it makes a section of its form.
#[derive(Debug, Clone)]
pub struct Circumstances {
    /// The container's capabilities, by name.
    pub capabilities: Vec<String>,
    /// The machine, by Go's name (`amd64`).
    pub machine: &'static str,
    /// The machine's own architecture, by its name in a profile (`SCMP_ARCH_X86_64`).
    pub architecture: String,
    /// The running kernel's version and patch level.
    pub kernel: (u32, u32),
}

/// The capabilities that Docker gives a container.
pub const DOCKERS_CAPABILITIES: [&str; 14] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FSETID",
    "CAP_FOWNER",
    "CAP_MKNOD",
    "CAP_NET_RAW",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETFCAP",
    "CAP_SETPCAP",
    "CAP_NET_BIND_SERVICE",
    "CAP_SYS_CHROOT",
    "CAP_KILL",
    "CAP_AUDIT_WRITE",
];

/// A profile as it was found in a file.
#[derive(Debug)]
pub struct Profile {
    /// The section.
    pub section: LinuxSeccomp,
    /// What stands before `syscalls` in the path of a rule in the file: nothing, or `linux.seccomp.`.
    pub prefix: &'static str,
    /// Which rule of the file each rule of the section is.
    pub origin: Vec<usize>,
    /// What was made of the circumstances, a sentence each.
    pub notes: Vec<String>,
}

/// Reads the profile in the file at `path`, in the bundle if it is a directory, or from standard input if it is `-`.
///
/// # Errors
/// That it cannot be read; that it is no JSON; every value that is wrong, with its path under `linux.seccomp`, where of an
/// engine's file only the rules count that apply; that a configuration has no `linux.seccomp`.
pub fn read_profile(path: &Path, around: &Circumstances) -> Result<Profile> {
    let what = || format!("read the profile {path:?}");
    let text = if path == Path::new("-") {
        let mut text = Vec::new();
        std::io::stdin().lock().read_to_end(&mut text).context(what)?;
        text
    } else {
        let path = if path.is_dir() { path.join(CONFIG) } else { path.to_owned() };
        std::fs::read(path).context(what)?
    };
    from_text(&text, around).map_err(|error| error.context(format!("{path:?}")))
}

fn from_text(text: &[u8], around: &Circumstances) -> Result<Profile> {
    let value: Value = serde_json::from_slice(text).map_err(|error| Error::config(format!("is no JSON: {error}")))?;
    let Value::Object(mut file) = value else {
        return Err(Error::config("is not an object"));
    };
    if file.contains_key("linux") || file.contains_key("ociVersion") {
        let section = parse(text)?.linux().as_ref().and_then(|linux| linux.seccomp().clone());
        let section = section.ok_or_else(|| Error::config("has no linux.seccomp"))?;
        return Ok(Profile {
            origin: (0..rules(&section)).collect(),
            section,
            prefix: "linux.seccomp.",
            notes: vec![],
        });
    }
    let mut notes = Vec::new();
    let origin = flatten(&mut file, around, &mut notes)?;
    // What is wrong is found as in a configuration that is right but for this.
    let whole = serde_json::json!({"ociVersion": "1.0.0", "root": {"path": "/"}, "linux": {"seccomp": file}});
    let section = parse(whole.to_string().as_bytes())?.linux().as_ref().and_then(|linux| linux.seccomp().clone());
    let section = section.ok_or_else(|| Error::config("is no profile"))?;
    let origin = origin.unwrap_or_else(|| (0..rules(&section)).collect());
    Ok(Profile { section, prefix: "", origin, notes })
}

fn rules(section: &LinuxSeccomp) -> usize {
    section.syscalls().as_ref().map_or(0, Vec::len)
}

/// Makes a section of an engine's form; answers which rules are left, if it is one.
fn flatten(
    file: &mut Map<String, Value>,
    around: &Circumstances,
    notes: &mut Vec<String>,
) -> Result<Option<Vec<usize>>> {
    if let Some(map) = file.remove("archMap").filter(|map| !map.is_null()) {
        let entries = map.as_array().ok_or_else(|| Error::config("archMap: is not a list"))?;
        if file.get("architectures").and_then(Value::as_array).is_some_and(|list| !list.is_empty()) {
            return Err(Error::config("architectures: cannot be beside archMap"));
        }
        let own = entries.iter().find(|entry| entry["architecture"] == around.architecture.as_str());
        if let Some(own) = own {
            let sub = own["subArchitectures"].as_array().cloned().unwrap_or_default();
            let all: Vec<Value> = std::iter::once(own["architecture"].clone()).chain(sub).collect();
            file.insert("architectures".to_owned(), Value::Array(all));
        }
        notes.push(format!("the architectures are those of archMap for {}", around.architecture));
    }
    number_of_name(file, "defaultErrno", "defaultErrnoRet").context(|| "defaultErrno")?;
    let Some(Value::Array(syscalls)) = file.get_mut("syscalls") else {
        return Ok(None);
    };
    let mut origin = Vec::new();
    let mut conditional = false;
    let total = syscalls.len();
    for (at, mut rule) in std::mem::take(syscalls).into_iter().enumerate() {
        if let Value::Object(rule) = &mut rule {
            let here = |field: &str| format!("syscalls[{at}].{field}");
            rule.remove("comment");
            let includes = rule.remove("includes");
            let excludes = rule.remove("excludes");
            conditional |= [&includes, &excludes]
                .into_iter()
                .flatten()
                .any(|value| value.as_object().is_some_and(|conditions| !conditions.is_empty()));
            let wanted = conditions(includes.as_ref(), around, true).context(|| here("includes"))?;
            let unwanted = conditions(excludes.as_ref(), around, false).context(|| here("excludes"))?;
            if !wanted || unwanted {
                continue;
            }
            if let Some(name) = rule.remove("name").filter(|name| name != "") {
                if rule.get("names").and_then(Value::as_array).is_some_and(|names| !names.is_empty()) {
                    return Err(Error::config(format!("{}: cannot be beside names", here("name"))));
                }
                rule.insert("names".to_owned(), Value::Array(vec![name]));
            }
            number_of_name(rule, "errno", "errnoRet").context(|| here("errno"))?;
        }
        origin.push(at);
        syscalls.push(rule);
    }
    if conditional {
        let (version, level) = around.kernel;
        notes.push(format!(
            "{} of {total} rules apply on {} with Linux {version}.{level} and {}",
            origin.len(),
            around.machine,
            capabilities(&around.capabilities)
        ));
    }
    Ok(Some(origin))
}

/// Whether conditions hold: all kinds of them and all capabilities if `all`, any kind and any capability otherwise. There may
/// be none, which holds if all have to.
fn conditions(conditions: Option<&Value>, around: &Circumstances, all: bool) -> Result<bool> {
    let Some(conditions) = conditions.filter(|value| !value.is_null()) else {
        return Ok(all);
    };
    let object = conditions.as_object().ok_or_else(|| Error::config("is not an object"))?;
    let mut results = Vec::new();
    for (kind, value) in object {
        let list = || -> Result<Vec<&str>> {
            let list = value.as_array().map(|list| list.iter().map(Value::as_str).collect::<Option<Vec<_>>>());
            list.flatten().ok_or_else(|| Error::config(format!("{kind}: is not a list of strings")))
        };
        match kind.as_str() {
            _ if value.is_null() => {}
            "caps" => {
                let has = |name: &&str| around.capabilities.iter().any(|own| own == name);
                let caps = list()?;
                if !caps.is_empty() {
                    results.push(if all { caps.iter().all(has) } else { caps.iter().any(has) });
                }
            }
            "arches" => {
                let arches = list()?;
                if !arches.is_empty() {
                    results.push(arches.contains(&around.machine));
                }
            }
            "minKernel" => {
                let version = value.as_str().unwrap_or_default();
                if !version.is_empty() {
                    let version = kernel_version(version);
                    let version = version.ok_or_else(|| Error::config(format!("minKernel: {value} is no version")))?;
                    results.push(around.kernel >= version);
                }
            }
            _ => return Err(Error::config(format!("{kind}: there is no such condition"))),
        }
    }
    Ok(if all { results.iter().all(|holds| *holds) } else { results.iter().any(|holds| *holds) })
}

/// A set of capabilities in few words.
fn capabilities(names: &[String]) -> String {
    let others: Vec<&str> =
        names.iter().map(String::as_str).filter(|name| !DOCKERS_CAPABILITIES.contains(name)).collect();
    match (names.len() - others.len() == DOCKERS_CAPABILITIES.len(), others.is_empty()) {
        (true, true) => "the capabilities that Docker gives".to_owned(),
        (true, false) => format!("the capabilities that Docker gives, {}", others.join(", ")),
        (false, _) => format!("the capabilities {}", names.join(", ")),
    }
}

/// The first two numbers of a kernel's release.
pub fn kernel_version(text: &str) -> Option<(u32, u32)> {
    let mut numbers = text.split(|c: char| !c.is_ascii_digit()).map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

/// An error number by its name, which Podman's form has beside the number.
fn number_of_name(object: &mut Map<String, Value>, name: &str, number: &str) -> Result<()> {
    let Some(text) = object.remove(name).filter(|text| !text.is_null() && text != "") else { return Ok(()) };
    let known = (1..=libc::EHWPOISON).find(|errno| text == format!("{:?}", Errno::from_raw(*errno)).as_str());
    let known = known.ok_or_else(|| Error::config(format!("{text} is no error's name")))?;
    match object.get(number).and_then(Value::as_i64) {
        Some(given) if given != i64::from(known) => {
            Err(Error::config(format!("{text} is {known}, and {number} is {given}")))
        }
        _ => {
            object.insert(number.to_owned(), known.into());
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn around() -> Circumstances {
        Circumstances {
            capabilities: vec!["CAP_CHOWN".into(), "CAP_KILL".into()],
            machine: "amd64",
            architecture: "SCMP_ARCH_X86_64".into(),
            kernel: (5, 14),
        }
    }

    fn read(value: &Value) -> Result<Profile> {
        from_text(value.to_string().as_bytes(), &around())
    }

    #[test]
    fn an_engines_rules_apply_under_their_conditions() {
        let allow = |name: &str, includes: Value, excludes: Value| {
            json!({"names": [name], "action": "SCMP_ACT_ALLOW", "args": [], "comment": "x",
                "includes": includes, "excludes": excludes})
        };
        let file = json!({"defaultAction": "SCMP_ACT_ERRNO", "defaultErrno": "ENOSYS", "defaultErrnoRet": 38,
        "archMap": [{"architecture": "SCMP_ARCH_ARM", "subArchitectures": []},
            {"architecture": "SCMP_ARCH_X86_64", "subArchitectures": ["SCMP_ARCH_X86"]}],
        "syscalls": [
            allow("a", json!({}), json!(null)),
            allow("b", json!({"caps": ["CAP_CHOWN", "CAP_KILL"]}), json!({})),
            allow("no1", json!({"caps": ["CAP_CHOWN", "CAP_BPF"]}), json!({})),
            allow("no2", json!({}), json!({"caps": ["CAP_BPF", "CAP_KILL"]})),
            allow("c", json!({"arches": ["amd64", "x32"], "minKernel": "5.14"}), json!({"arches": ["s390"]})),
            allow("no3", json!({"minKernel": "5.15"}), json!({})),
            allow("no4", json!({}), json!({"minKernel": "4.8"})),
            {"name": "d", "action": "SCMP_ACT_ERRNO", "errno": "EPERM", "errnoRet": 1},
        ]});
        let profile = read(&file).unwrap();
        assert_eq!(profile.origin, [0, 1, 4, 7]);
        let names: Vec<&String> =
            profile.section.syscalls().iter().flatten().flat_map(oci_spec::runtime::LinuxSyscall::names).collect();
        assert_eq!(names, ["a", "b", "c", "d"]);
        assert_eq!(profile.section.default_errno_ret(), Some(38));
        assert_eq!(profile.section.architectures().as_ref().unwrap().len(), 2);
        assert_eq!(profile.notes.len(), 2, "{:?}", profile.notes);
        assert_eq!(profile.prefix, "");
    }

    #[test]
    fn a_section_alone_and_a_configuration_are_profiles_too() {
        let section =
            json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["a"], "action": "SCMP_ACT_LOG"}]});
        let alone = read(&section).unwrap();
        let whole =
            read(&json!({"ociVersion": "1.0.0", "root": {"path": "/"}, "linux": {"seccomp": section}})).unwrap();
        assert_eq!(alone.section, whole.section);
        assert_eq!((alone.prefix, whole.prefix), ("", "linux.seccomp."));
        assert_eq!(alone.origin, [0]);
    }

    #[test]
    fn what_is_wrong_is_named() {
        let rule = |rule: Value| json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule]});
        for (file, part) in [
            (json!([]), "is not an object"),
            (json!({"ociVersion": "1.0.0", "root": {"path": "/"}}), "has no linux.seccomp"),
            (json!({"archMap": 1}), "archMap: is not a list"),
            (json!({"archMap": [], "architectures": ["SCMP_ARCH_X86"]}), "architectures: cannot be beside archMap"),
            (rule(json!({"name": "a", "names": ["b"]})), "syscalls[0].name: cannot be beside names"),
            (rule(json!({"includes": {"moon": []}})), "syscalls[0].includes: moon: there is no such condition"),
            (rule(json!({"excludes": {"caps": "x"}})), "syscalls[0].excludes: caps: is not a list of strings"),
            (rule(json!({"includes": {"minKernel": "new"}})), "minKernel: \"new\" is no version"),
            (rule(json!({"names": ["a"], "action": "SCMP_ACT_ERRNO", "errno": "EFOO"})), "is no error's name"),
            (
                rule(json!({"names": ["a"], "action": "SCMP_ACT_ERRNO", "errno": "EPERM", "errnoRet": 2})),
                "syscalls[0].errno: \"EPERM\" is 1, and errnoRet is 2",
            ),
            (rule(json!({"names": ["a"], "action": "SCMP_ACT_MAYBE"})), "linux.seccomp.syscalls[0].action"),
            (json!({"defaultAction": "x"}), "linux.seccomp.defaultAction"),
        ] {
            let error = read(&file).unwrap_err().to_string();
            assert!(error.contains(part), "{part:?} in {error:?}");
        }
        assert!(from_text(b"{", &around()).unwrap_err().to_string().starts_with("is no JSON: "));
    }
}
