//! `hooks` of config.json, decided on.

use oci_spec::runtime;

use super::{Hook, HooksPlan};
use crate::error::Faults;

/// Decides on the hooks. That a program is there is not looked at: an earlier hook or a mount may bring it.
pub fn plan(hooks: &runtime::Hooks, faults: &mut Faults) -> HooksPlan {
    // Deprecated for those who write configurations; callers still send it.
    #[allow(deprecated)]
    let prestart = hooks.prestart();
    HooksPlan {
        prestart: kind("prestart", prestart.as_deref(), faults),
        create_runtime: kind("createRuntime", hooks.create_runtime().as_deref(), faults),
        create_container: kind("createContainer", hooks.create_container().as_deref(), faults),
        start_container: kind("startContainer", hooks.start_container().as_deref(), faults),
        poststart: kind("poststart", hooks.poststart().as_deref(), faults),
        poststop: kind("poststop", hooks.poststop().as_deref(), faults),
    }
}

fn kind(name: &str, hooks: Option<&[runtime::Hook]>, faults: &mut Faults) -> Vec<Hook> {
    let hooks = hooks.unwrap_or_default().iter().enumerate();
    hooks.map(|(index, given)| hook(&format!("hooks.{name}[{index}]"), given, faults)).collect()
}

fn hook(at: &str, given: &runtime::Hook, faults: &mut Faults) -> Hook {
    let path = given.path();
    if !path.is_absolute() {
        faults.add(format!("{at}.path"), format_args!("{:?} is not an absolute path", path.to_string_lossy()));
    }
    let args = given.args().clone().unwrap_or_default();
    let env = given.env().clone().unwrap_or_default();
    for (index, entry) in env.iter().enumerate() {
        if !entry.contains('=') {
            faults.add(format!("{at}.env[{index}]"), format_args!("{entry:?} is not NAME=value"));
        }
    }
    let indexed = |name: &'static str, strings: &[String]| -> Vec<(String, String)> {
        strings.iter().enumerate().map(|(index, text)| (format!("{name}[{index}]"), text.clone())).collect()
    };
    let path_text = ("path".to_owned(), path.to_string_lossy().into_owned());
    for (name, text) in indexed("args", &args).into_iter().chain(indexed("env", &env)).chain([path_text]) {
        if text.contains('\0') {
            faults.add(format!("{at}.{name}"), format_args!("{text:?} has a NUL character in it"));
        }
    }
    let timeout = given.timeout().and_then(|seconds| {
        let usable = u64::try_from(seconds).ok().filter(|seconds| *seconds > 0);
        if usable.is_none() {
            faults.add(format!("{at}.timeout"), format_args!("{seconds} is not greater than zero"));
        }
        usable
    });
    Hook { path: path.clone(), args, env, timeout }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn planned(hooks: &str) -> (HooksPlan, Faults) {
        let mut faults = Faults::default();
        let hooks = serde_json::from_str(hooks).unwrap();
        (plan(&hooks, &mut faults), faults)
    }

    #[test]
    fn hooks_are_planned_by_kind_and_in_order() {
        let (plan, faults) = planned(
            r#"{"prestart":[{"path":"/a"}],"createRuntime":[{"path":"/b","args":["b","x y"],"timeout":3},{"path":"/c"}],
                "createContainer":[{"path":"/d","args":["d"]}],"startContainer":[{"path":"/e","env":["A=1","B="]}],
                "poststart":[{"path":"/f"}],"poststop":[{"path":"/g","timeout":1}]}"#,
        );
        assert!(faults.is_empty());
        assert_eq!(
            plan.describe(),
            [
                "prestart hook /a",
                r#"createRuntime hook /b with the arguments ["x y"], killed after 3 s"#,
                "createRuntime hook /c",
                "createContainer hook /d",
                "startContainer hook /e",
                "poststart hook /f",
                "poststop hook /g, killed after 1 s",
            ]
        );
        assert_eq!(plan.start_container[0].env, ["A=1", "B="]);
        let text = serde_json::to_string(&plan).unwrap();
        assert_eq!(serde_json::from_str::<HooksPlan>(&text).unwrap(), plan);
        assert!(plan.kinds().iter().any(|(_, hooks)| !hooks.is_empty()));
        assert_eq!(planned("{}").0, HooksPlan::default());
    }

    #[test]
    fn every_fault_names_its_path_and_value() {
        let (_, faults) = planned(
            r#"{"prestart":[{"path":"/a"},{"path":"bin/b","timeout":0}],
                "poststop":[{"path":"/a","timeout":-1,"env":["A=1","B"],"args":["x","y\u0000z"]}]}"#,
        );
        assert_eq!(
            faults.into_result().unwrap_err().to_string(),
            "hooks.prestart[1].path: \"bin/b\" is not an absolute path; \
             hooks.prestart[1].timeout: 0 is not greater than zero; \
             hooks.poststop[0].env[1]: \"B\" is not NAME=value; \
             hooks.poststop[0].args[1]: \"y\\0z\" has a NUL character in it; \
             hooks.poststop[0].timeout: -1 is not greater than zero"
        );
    }
}
