//! What is checked of a configuration as a whole: its version, its required parts, and what no slice owns.

use oci_spec::runtime::Spec;

use crate::error::Faults;

/// Checks what belongs to no slice: the version, the required sections, host and domain name, annotations.
pub fn validate(spec: &Spec, faults: &mut Faults) {
    for (path, what) in check(spec) {
        faults.add(path, what);
    }
}

/// What is wrong, as pairs of JSON path and reason.
pub(super) fn check(spec: &Spec) -> Vec<(&'static str, String)> {
    let mut found = Vec::new();
    if let Some(reason) = version_fault(spec.version()) {
        found.push(("ociVersion", reason));
    }
    match spec.root() {
        None => found.push(("root", "is missing".to_owned())),
        Some(root) if root.path().as_os_str().is_empty() => found.push(("root.path", "is missing or empty".to_owned())),
        Some(_) => {}
    }
    if spec.linux().is_none() {
        found.push(("linux", missing_linux(spec)));
        return found;
    }
    if spec.annotations().as_ref().is_some_and(|annotations| annotations.contains_key("")) {
        found.push(("annotations", "a key is empty".to_owned()));
    }
    found
}

/// Says that there is no `linux` section, and which other platform the configuration is for.
fn missing_linux(spec: &Spec) -> String {
    let others = [
        ("windows", spec.windows().is_some()),
        ("solaris", spec.solaris().is_some()),
        ("zos", spec.zos().is_some()),
        ("vm", spec.vm().is_some()),
    ];
    match others.iter().find(|(_, present)| *present) {
        Some((name, _)) => format!("is missing: the configuration is for {name}, and only linux is supported"),
        None => "is missing".to_owned(),
    }
}

/// Why `version` is not a semantic version of major 1, if it is not.
fn version_fault(version: &str) -> Option<String> {
    if version.is_empty() {
        return Some("is missing or empty".to_owned());
    }
    match major(version) {
        None => Some(format!("{version:?} is not a version of the form 1.2.3")),
        Some("1") => None,
        Some(_) => Some(format!("{version:?} is not supported (1.x is)")),
    }
}

/// The major number of a semantic version (semver.org 2.0.0), or nothing if it is not one.
fn major(version: &str) -> Option<&str> {
    let (version, build) = version.split_once('+').map_or((version, None), |(version, build)| (version, Some(build)));
    let (core, pre) = version.split_once('-').map_or((version, None), |(core, pre)| (core, Some(pre)));
    let identifiers = |text: &str| {
        text.split('.').all(|part| !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-'))
    };
    if !build.into_iter().chain(pre).all(identifiers) {
        return None;
    }
    let numbers: Vec<&str> = core.split('.').collect();
    let number = |text: &&str| {
        !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) && (text.len() == 1 || !text.starts_with('0'))
    };
    (numbers.len() == 3 && numbers.iter().all(number)).then(|| numbers[0])
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn sentences(value: serde_json::Value) -> Vec<String> {
        let spec: Spec = serde_json::from_value(value).unwrap();
        check(&spec).into_iter().map(|(path, what)| format!("{path}: {what}")).collect()
    }

    fn whole() -> serde_json::Value {
        json!({
            "ociVersion": "1.0.2-dev",
            "root": {"path": "rootfs"},
            "process": {"cwd": "/", "user": {}, "args": ["sh"]},
            "hostname": "a",
            "linux": {"namespaces": [{"type": "uts", "path": "/proc/1/ns/uts"}]},
        })
    }

    #[test]
    fn a_whole_configuration_has_no_fault() {
        assert_eq!(sentences(whole()), Vec::<String>::new());
    }

    #[test]
    fn versions_of_major_1_are_taken_and_others_refused() {
        for good in ["1.0.0", "1.0.0-rc5", "1.0.2-dev", "1.3.0", "1.99.0+build.1", "1.2.0-rc.1+a-b"] {
            assert_eq!(version_fault(good), None, "{good}");
        }
        for bad in
            ["", "1", "1.0", "v1.0.0", "01.0.0", "1.0.0-", "1.0.0+", "1.0.0-a..b", "1.0.0 ", "0.9.0", "2.0.0", "11.0.0"]
        {
            assert!(version_fault(bad).is_some(), "{bad}");
        }
        assert_eq!(version_fault("2.0.0").unwrap(), r#""2.0.0" is not supported (1.x is)"#);
    }

    #[test]
    fn everything_that_is_missing_is_named() {
        assert_eq!(
            sentences(json!({"root": {"path": ""}})),
            ["ociVersion: is missing or empty", "root.path: is missing or empty", "linux: is missing"]
        );
        assert!(sentences(json!({})).contains(&"root: is missing".to_owned()));
    }

    #[test]
    fn a_configuration_for_another_platform_alone_is_refused() {
        let mut spec = whole();
        spec["vm"] = json!({"kernel": {"path": "/k"}});
        assert_eq!(sentences(spec.clone()), Vec::<String>::new());
        spec.as_object_mut().unwrap().remove("linux");
        assert_eq!(sentences(spec), ["linux: is missing: the configuration is for vm, and only linux is supported"]);
    }

    #[test]
    fn an_annotation_without_a_key_is_refused() {
        let mut spec = whole();
        spec["annotations"] = json!({"": "x", "a": ""});
        assert_eq!(sentences(spec), ["annotations: a key is empty"]);
    }
}
