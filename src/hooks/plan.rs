//! What config.json says about hooks, and what of it cannot be.

use oci_spec::runtime::{Hook as SpecHook, Hooks};

use super::{Hook, HooksPlan};
use crate::error::Faults;

/// Decides about hooks.
pub fn plan(hooks: &Hooks, faults: &mut Faults) -> HooksPlan {
    #[allow(deprecated)] // prestart is, and engines still use it
    let prestart = hooks.prestart();
    HooksPlan {
        prestart: list("prestart", prestart.as_ref(), faults),
        create_runtime: list("createRuntime", hooks.create_runtime().as_ref(), faults),
        create_container: list("createContainer", hooks.create_container().as_ref(), faults),
        start_container: list("startContainer", hooks.start_container().as_ref(), faults),
        poststart: list("poststart", hooks.poststart().as_ref(), faults),
        poststop: list("poststop", hooks.poststop().as_ref(), faults),
    }
}

fn list(kind: &str, hooks: Option<&Vec<SpecHook>>, faults: &mut Faults) -> Vec<Hook> {
    let mut planned = Vec::new();
    for (index, hook) in hooks.into_iter().flatten().enumerate() {
        let at = |field: &str| format!("hooks.{kind}[{index}].{field}");
        let path = hook.path();
        if !path.is_absolute() {
            faults.add(at("path"), format_args!("{:?} is not an absolute path", path.display().to_string()));
        }
        let timeout = hook.timeout().map(|seconds| {
            if seconds <= 0 {
                faults.add(at("timeout"), format_args!("{seconds} is not greater than zero"));
            }
            u32::try_from(seconds).unwrap_or(u32::MAX)
        });
        let (args, env) = (hook.args().clone().unwrap_or_default(), hook.env().clone().unwrap_or_default());
        for (field, texts) in [("args", &args), ("env", &env)] {
            for (place, text) in texts.iter().enumerate() {
                if text.contains('\0') {
                    faults.add(at(&format!("{field}[{place}]")), format_args!("{text:?} has a NUL byte in it"));
                } else if field == "env" && text.find('=').is_none_or(|at| at == 0) {
                    faults
                        .add(at(&format!("{field}[{place}]")), format_args!("{text:?} is not of the form NAME=VALUE"));
                }
            }
        }
        planned.push(Hook { path: path.clone(), args, env, timeout });
    }
    planned
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrong_hooks_are_faults_by_their_place() {
        let hooks: Hooks = serde_json::from_str(
            r#"{"prestart":[{"path":"bin/x","timeout":0}],"poststop":[{"path":"/y","env":["A=b","C"],"timeout":-3}]}"#,
        )
        .unwrap();
        let mut faults = Faults::default();
        plan(&hooks, &mut faults);
        assert_eq!(
            faults.into_result().unwrap_err().to_string(),
            "hooks.prestart[0].path: \"bin/x\" is not an absolute path; hooks.prestart[0].timeout: 0 is not greater than \
             zero; hooks.poststop[0].timeout: -3 is not greater than zero; hooks.poststop[0].env[1]: \"C\" is not of the \
             form NAME=VALUE"
        );
    }
}
