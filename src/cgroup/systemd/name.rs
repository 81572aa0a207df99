//! Where systemd puts a container: `linux.cgroupsPath` in its form `slice:prefix:name`, and the path that comes of it.
//!
//! Pure.

use std::path::{Path, PathBuf};

use crate::error::Faults;

/// The prefix of the unit's name, if the configuration has no path at all.
const DEFAULT_PREFIX: &str = "procrt";
/// systemd's limit on the name of a unit.
const LONGEST: usize = 255;
const FIELD: &str = "linux.cgroupsPath";

/// A scope, and the slice it is in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    /// The slice's name, such as `machine-a.slice`, or `-.slice`.
    pub slice: String,
    /// The scope's name, such as `docker-ID.scope`.
    pub scope: String,
}

impl Place {
    /// Reads `path`, the configuration's `linux.cgroupsPath`. Of what is empty or missing, the slice is `system.slice`, or
    /// the user manager's `user.slice`; and without any path the unit is `procrt-ID.scope`.
    pub fn new(path: Option<&Path>, id: &str, user: bool, faults: &mut Faults) -> Self {
        let text = path.map_or_else(|| format!(":{DEFAULT_PREFIX}:{id}"), |path| path.to_string_lossy().into_owned());
        let mut parts = text.split(':');
        let (Some(slice), Some(prefix), Some(name), None) = (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            let what = "is not of systemd's form, slice:prefix:name, which --systemd-cgroup needs";
            faults.add(FIELD, format_args!("{text:?} {what}"));
            return Self { slice: String::new(), scope: String::new() };
        };
        let slice = match slice {
            "" if user => "user.slice",
            "" => "system.slice",
            "-" => "-.slice",
            slice => slice,
        };
        if let Err(why) = check_slice(slice) {
            faults.add(FIELD, format_args!("{text:?}: {slice:?} is not the name of a slice: {why}"));
        }
        let scope = match prefix {
            "" => format!("{name}.scope"),
            prefix => format!("{prefix}-{name}.scope"),
        };
        if name.is_empty() {
            faults.add(FIELD, format_args!("{text:?} has no name"));
        } else if Path::new(name).extension().is_some_and(|extension| extension == "slice") {
            faults.add(FIELD, format_args!("{text:?}: {name:?} is a slice, which has no processes of its own"));
        } else if let Err(why) = check_unit(&scope) {
            faults.add(FIELD, format_args!("{text:?}: {scope:?} is not the name of a unit: {why}"));
        }
        Self { slice: slice.to_owned(), scope }
    }

    /// The scope's control group below that of its manager (systemd.slice(5)): `a-b.slice` is `a.slice/a-b.slice`.
    pub fn path(&self) -> PathBuf {
        let mut path = PathBuf::new();
        let name = self.slice.strip_suffix(".slice").unwrap_or(&self.slice);
        if name != "-" {
            let ends = name.match_indices('-').map(|(at, _)| at).chain([name.len()]);
            path.extend(ends.map(|end| format!("{}.slice", &name[..end])));
        }
        path.join(&self.scope)
    }
}

fn check_slice(slice: &str) -> Result<(), String> {
    check_unit(slice)?;
    let name = slice.strip_suffix(".slice").ok_or("it does not end with \".slice\"")?;
    if name == "-" {
        return Ok(());
    }
    if name.is_empty() {
        return Err("it is nothing but its ending".to_owned());
    }
    if name.starts_with('-') || name.ends_with('-') || name.contains("--") {
        return Err("a dash stands between two words".to_owned());
    }
    Ok(())
}

/// What systemd takes as a unit's name (systemd.unit(5)).
fn check_unit(name: &str) -> Result<(), String> {
    if name.len() > LONGEST {
        return Err(format!("it is longer than {LONGEST} bytes"));
    }
    match name.chars().find(|c| !c.is_ascii_alphanumeric() && !"_.\\-@:".contains(*c)) {
        Some('/') => Err("it has a slash in it (a sub-slice is named with a dash, \"a-b.slice\")".to_owned()),
        Some(wrong) => Err(format!("it has {wrong:?} in it")),
        None if name.starts_with('.') => Err("it begins with a dot".to_owned()),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(path: &str) -> (String, String) {
        let mut faults = Faults::default();
        let place = Place::new(Some(Path::new(path)), "c", false, &mut faults);
        let message = faults.into_result().err().map(|error| error.to_string()).unwrap_or_default();
        (place.path().display().to_string(), message)
    }

    #[test]
    fn a_slice_is_in_the_slices_that_its_name_begins_with() {
        let pairs = [
            ("system.slice:docker:c", "system.slice/docker-c.scope"),
            ("a-b-c.slice:p:n", "a.slice/a-b.slice/a-b-c.slice/p-n.scope"),
            ("-.slice:p:n", "p-n.scope"),
            ("-:p:n", "p-n.scope"),
            (":p:n", "system.slice/p-n.scope"),
            ("machine.slice::n", "machine.slice/n.scope"),
            ("kubepods-pod1_2.slice:cri-containerd:0", "kubepods.slice/kubepods-pod1_2.slice/cri-containerd-0.scope"),
        ];
        for (written, path) in pairs {
            assert_eq!(place(written), (path.to_owned(), String::new()), "{written}");
        }
    }

    #[test]
    fn without_a_path_the_id_is_the_name() {
        let mut faults = Faults::default();
        let of = |user, faults: &mut Faults| Place::new(None, "c", user, faults).path().display().to_string();
        assert_eq!(of(false, &mut faults), "system.slice/procrt-c.scope");
        assert_eq!(of(true, &mut faults), "user.slice/procrt-c.scope");
        assert!(faults.is_empty());
    }

    #[test]
    fn what_is_no_name_is_said() {
        let long = format!("system.slice:p:{}", "n".repeat(250));
        let pairs = [
            ("/a/b", "is not of systemd's form"),
            ("a.slice:b", "is not of systemd's form"),
            ("a.slice:b:c:d", "is not of systemd's form"),
            ("foo/bar.slice:p:n", "it has a slash in it"),
            ("../x.slice:p:n", "it has a slash in it"),
            ("..:p:n", "begins with a dot"),
            ("foo:p:n", "does not end with \".slice\""),
            ("a--b.slice:p:n", "a dash stands between two words"),
            ("-a.slice:p:n", "a dash stands between two words"),
            ("a-.slice:p:n", "a dash stands between two words"),
            (".slice:p:n", "begins with a dot"),
            ("a b.slice:p:n", "it has ' ' in it"),
            ("system.slice:p:", "has no name"),
            ("system.slice:p:n.slice", "has no processes of its own"),
            ("system.slice:p/../..:n", "it has a slash in it"),
            ("system.slice:p:a+b", "it has '+' in it"),
            (&long, "it is longer than 255 bytes"),
        ];
        for (written, why) in pairs {
            let error = place(written).1;
            assert!(error.starts_with("linux.cgroupsPath: ") && error.contains(why), "{written}: {error}");
        }
    }
}
