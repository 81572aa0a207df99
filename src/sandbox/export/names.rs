//! Names that are left out of an archive that others read: of secrets, of version control, of what can be installed again.
//!
//! A name is all that is looked at. A secret in a file of another name goes in.

/// Why what has this name is left out, if it is; upper and lower case are the same.
pub fn left_out(name: &[u8], directory: bool) -> Option<&'static str> {
    let name = String::from_utf8_lossy(name).to_ascii_lowercase();
    let name = name.as_str();
    if VERSION_CONTROL.contains(&name) {
        return Some("version control");
    }
    if directory && (DEPENDENCIES.contains(&name) || name.ends_with(".egg-info")) {
        return Some("dependencies or caches, which can be had again");
    }
    let secret = SECRETS.contains(&name)
        || directory && SECRET_DIRECTORIES.contains(&name)
        || !directory && secret_by_pattern(name);
    secret.then_some("its name looks like a secret's")
}

fn secret_by_pattern(name: &str) -> bool {
    // Examples, and the public halves of keys, are there to be given away.
    let example = [".example", ".sample", ".template", ".dist", ".pub"].iter().any(|end| name.ends_with(end));
    !example
        && (SECRET_BEGINNINGS.iter().any(|start| name.starts_with(start))
            || SECRET_ENDS.iter().any(|end| name.ends_with(end)))
}

const VERSION_CONTROL: &[&str] = &[".git", ".hg", ".svn", ".bzr", "cvs", "_darcs", ".jj", ".pijul", ".fossil", ".sl"];

const DEPENDENCIES: &[&str] = &[
    "node_modules",
    "bower_components",
    "jspm_packages",
    ".yarn",
    ".pnpm-store",
    ".npm",
    "vendor",
    "venv",
    ".venv",
    "virtualenv",
    "site-packages",
    "__pycache__",
    "__pypackages__",
    ".eggs",
    ".tox",
    ".nox",
    ".mypy_cache",
    ".pytest_cache",
    ".ruff_cache",
    ".cargo",
    ".gradle",
    ".m2",
    ".ivy2",
    ".bundle",
    "pods",
    ".terraform",
    ".next",
    ".nuxt",
    ".parcel-cache",
    ".direnv",
    ".cache",
    ".stack-work",
    "elm-stuff",
];

const SECRETS: &[&str] = &[
    ".env",
    ".envrc",
    ".netrc",
    "_netrc",
    ".npmrc",
    ".yarnrc.yml",
    ".pypirc",
    ".pgpass",
    ".my.cnf",
    ".mylogin.cnf",
    ".htpasswd",
    ".htdigest",
    ".git-credentials",
    ".dockercfg",
    ".dockerconfigjson",
    ".s3cfg",
    ".boto",
    "rclone.conf",
    ".vault-token",
    ".terraformrc",
    "kubeconfig",
    "wallet.dat",
    ".xauthority",
    ".iceauthority",
    "shadow",
    "gshadow",
    "shadow-",
    "gshadow-",
    "token",
    ".token",
];

const SECRET_DIRECTORIES: &[&str] =
    &[".ssh", ".gnupg", ".aws", ".azure", ".gcloud", ".kube", ".docker", ".password-store", ".secrets", "secrets"];

const SECRET_BEGINNINGS: &[&str] = &[
    ".env.",
    "id_rsa",
    "id_dsa",
    "id_ecdsa",
    "id_ed25519",
    "identity.",
    "ssh_host_",
    "credential",
    ".credential",
    "secret",
    ".secret",
    "passwords",
    "service-account",
    "service_account",
];

const SECRET_ENDS: &[&str] = &[
    ".env",
    ".pem",
    ".key",
    ".p8",
    ".p12",
    ".pfx",
    ".pkcs12",
    ".jks",
    ".keystore",
    ".kdb",
    ".kdbx",
    ".ppk",
    ".gpg",
    ".pgp",
    ".age",
    ".ovpn",
    ".tfstate",
    ".tfstate.backup",
    ".tfvars",
    ".token",
    "_token",
    "_history",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_known_by_their_names() {
        for name in [
            ".env",
            ".env.local",
            "prod.env",
            "id_rsa",
            "id_ed25519.old",
            "server.pem",
            "TLS.KEY",
            "credentials",
            "credentials.json",
            ".netrc",
            "terraform.tfstate",
            ".bash_history",
            "secrets.yaml",
            "release.keystore",
        ] {
            assert_eq!(left_out(name.as_bytes(), false), Some("its name looks like a secret's"), "{name}");
        }
        for name in [".env.example", "id_rsa.pub", "environment.rs", "keys.rs", "main.py", "token.rs", "history"] {
            assert_eq!(left_out(name.as_bytes(), false), None, "{name}");
        }
        assert!(left_out(b".ssh", true).is_some());
    }

    #[test]
    fn what_can_be_had_again_is_known_by_its_directory() {
        for name in ["node_modules", ".venv", "__pycache__", "Pods"] {
            assert!(left_out(name.as_bytes(), true).unwrap().starts_with("dependencies"), "{name}");
            assert_eq!(left_out(name.as_bytes(), false), None, "{name}");
        }
        // A file in the place of .git says where the repository is.
        assert_eq!(left_out(b".git", false), Some("version control"));
        assert_eq!(left_out(b".gitignore", false), None);
    }
}
