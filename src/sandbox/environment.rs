//! What is in a sandbox's environment: constants, and what the policy names. Nothing is inherited by itself.

use super::caller::Caller;
use super::policy::Policy;
use crate::error::{Faults, Result};

/// Where programs are looked for.
pub const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The name of the user in a sandbox whose uid there is not 0.
pub const USER: &str = "sandbox";

/// The home directory where a backend has none that is better: writable, and empty at the beginning.
pub const HOME: &str = "/tmp";

/// Names of variables that hold secrets as a rule: `*` stands for anything. Case does not count.
pub const SECRETS: [&str; 24] = [
    "*PASSWORD*",
    "*PASSWD*",
    "*PASSPHRASE*",
    "*SECRET*",
    "*CREDENTIAL*",
    "*TOKEN",
    "*TOKEN_*",
    "*_KEY",
    "*_KEY_*",
    "*APIKEY*",
    "*PRIVATE_KEY*",
    "*_PAT",
    "*_PWD",
    "*_DSN",
    "*_AUTH",
    "*CONNECTION_STRING*",
    "AWS_*",
    "AZURE_*",
    "GCP_*",
    "GOOGLE_*",
    "DATABASE_URL",
    "DOCKER_AUTH_CONFIG",
    "KUBECONFIG",
    "SSH_AUTH_SOCK",
];

/// The pattern of [`SECRETS`] that a variable's name matches.
pub fn secret(name: &str) -> Option<&'static str> {
    let name = name.to_ascii_uppercase();
    SECRETS.into_iter().find(|pattern| {
        let (head, tail) = (pattern.strip_prefix('*'), pattern.strip_suffix('*'));
        match (head, tail) {
            (Some(head), Some(_)) => name.contains(head.trim_end_matches('*')),
            (Some(head), None) => name.ends_with(head),
            (None, Some(tail)) => name.starts_with(tail),
            (None, None) => name == *pattern,
        }
    })
}

/// The whole environment of a sandbox, `NAME=VALUE`, in alphabetical order: PATH, HOME, USER, LOGNAME, SHELL, LANG, with a
/// terminal TERM, and what `policy` sets and passes on of the caller's. A variable that is to be passed on and is not there
/// is left out; one that is set goes before one that is passed on.
///
/// # Errors
/// Every name that is none, and every one that looks like a secret's and is not among those allowed, with its field.
pub fn build(policy: &Policy, caller: &Caller) -> Result<Vec<String>> {
    let mut faults = Faults::default();
    let variables = variables(policy, caller, &mut faults);
    faults.into_result()?;
    Ok(variables.into_iter().map(|(name, value)| format!("{name}={value}")).collect())
}

/// The same in parts; what is wrong goes to `faults`.
pub(super) fn variables(
    policy: &Policy,
    caller: &Caller,
    faults: &mut Faults,
) -> std::collections::BTreeMap<String, String> {
    let user = policy.user.as_deref().map(|user| user.split(':').next().unwrap_or_default());
    let root = user.map_or(caller.is_root(), |uid| uid == "0");
    let name = if root { "root" } else { USER };
    let constants =
        [("PATH", PATH), ("HOME", HOME), ("USER", name), ("LOGNAME", name), ("SHELL", "/bin/sh"), ("LANG", "C.UTF-8")];
    let mut all: std::collections::BTreeMap<String, String> =
        constants.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    if caller.terminal {
        let plain = |c: char| c.is_ascii_alphanumeric() || "._+-".contains(c);
        let kind = caller.variable("TERM").and_then(|kind| kind.to_str());
        let kind = kind.filter(|kind| !kind.is_empty() && kind.len() < 64 && kind.chars().all(plain));
        all.insert("TERM".to_owned(), kind.unwrap_or("xterm").to_owned());
    }
    let mut check = |path: String, name: &str| {
        if name.is_empty() || name.contains(['=', '\0']) {
            faults.add(path, format_args!("{name:?} is not the name of a variable"));
            return false;
        }
        let allowed = policy.environment.allow_secret.iter().any(|other| other == name);
        if let Some(pattern) = secret(name).filter(|_| !allowed) {
            faults.add(
                path,
                format_args!(
                    "{name:?} looks like the name of a secret ({pattern}): it is let in with --allow-secret-env {name} \
                     (environment.allow_secret)"
                ),
            );
            return false;
        }
        true
    };
    let mut texts = Vec::new();
    for (at, name) in policy.environment.pass.iter().enumerate() {
        let path = format!("environment.pass[{at}]");
        if check(path.clone(), name)
            && let Some(value) = caller.variable(name)
        {
            match value.to_str() {
                Some(value) => texts.push((path, name, value)),
                None => texts.push((path, name, "\0")),
            }
        }
    }
    for (name, value) in &policy.environment.set {
        let path = format!("environment.set.{name}");
        if check(path.clone(), name) {
            texts.push((path, name, value));
        }
    }
    for (path, name, value) in texts {
        if value.contains('\0') {
            faults.add(path, format_args!("the value of {name:?} is not UTF-8, or has a NUL byte in it"));
        }
        all.insert(name.clone(), value.to_owned());
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn caller(variables: &[(&str, &str)]) -> Caller {
        let variables = variables.iter().map(|(name, value)| (name.into(), value.into())).collect();
        Caller { uid: 1000, gid: 1000, cwd: "/".into(), home: None, terminal: false, variables }
    }

    fn policy(json: serde_json::Value) -> Policy {
        serde_json::from_value(json).unwrap()
    }

    #[test]
    fn it_is_constants_and_nothing_of_the_callers() {
        let env = build(&Policy::default(), &caller(&[("PATH", "/evil"), ("FOO", "bar"), ("TERM", "vt100")])).unwrap();
        let wanted =
            ["HOME=/tmp", "LANG=C.UTF-8", "LOGNAME=sandbox", &format!("PATH={PATH}"), "SHELL=/bin/sh", "USER=sandbox"];
        assert_eq!(env, wanted);
    }

    #[test]
    fn what_is_named_is_set_or_passed_on() {
        let policy = policy(serde_json::json!({
            "user": "0:0",
            "environment": {"set": {"A": "1", "LANG": "C"}, "pass": ["B", "A", "GONE"]}
        }));
        let env = build(&policy, &caller(&[("A", "2"), ("B", "3")])).unwrap();
        for variable in ["A=1", "B=3", "LANG=C", "USER=root"] {
            assert!(env.iter().any(|other| other == variable), "{variable} in {env:?}");
        }
        assert!(!env.iter().any(|variable| variable.starts_with("GONE")));
    }

    #[test]
    fn a_terminal_has_its_kind_if_that_is_a_word() {
        for (kind, wanted) in [("screen-256color", "TERM=screen-256color"), ("a\nb", "TERM=xterm"), ("", "TERM=xterm")]
        {
            let caller = Caller { terminal: true, ..caller(&[("TERM", kind)]) };
            assert!(build(&Policy::default(), &caller).unwrap().iter().any(|variable| variable == wanted));
        }
    }

    #[test]
    fn names_of_secrets_are_refused_all_at_once_unless_they_are_allowed() {
        for name in [
            "GITHUB_TOKEN",
            "API_KEY",
            "MY_PASSWORD_1",
            "AWS_REGION",
            "aws_x",
            "DB_PASSWD",
            "NPM_TOKEN_X",
            "CLIENT_SECRET",
            "SSH_AUTH_SOCK",
            "TOKEN",
            "DATABASE_URL",
        ] {
            assert!(secret(name).is_some(), "{name}");
        }
        for name in ["PATH", "MONKEY", "KEYBOARD", "PWD", "OLDPWD", "TOKENIZERS", "AUTHOR", "LC_ALL", "MY_AWS"] {
            assert!(secret(name).is_none(), "{name}: {:?}", secret(name));
        }
        let refused = policy(serde_json::json!({
            "environment": {"set": {"A_TOKEN": "1", "": "x"}, "pass": ["B_KEY", "C=D"], "allow_secret": ["C_KEY"]}
        }));
        let error = build(&refused, &caller(&[])).unwrap_err().to_string();
        for part in [
            "environment.set.A_TOKEN: ",
            "(*TOKEN)",
            "--allow-secret-env A_TOKEN",
            "environment.pass[0]: \"B_KEY\"",
            "environment.pass[1]: \"C=D\" is not the name",
            "environment.set.: \"\" is not the name",
        ] {
            assert!(error.contains(part), "{part}: {error}");
        }
        let allowed = policy(serde_json::json!({"environment": {"set": {"A_KEY": "1"}, "allow_secret": ["A_KEY"]}}));
        assert!(build(&allowed, &caller(&[])).unwrap().contains(&"A_KEY=1".to_owned()));
    }
}
