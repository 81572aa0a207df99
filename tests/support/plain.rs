//! A plain user, who has no entry anywhere and no privilege, and calls the program on bundles of its own.

use std::fs;
use std::os::unix::fs::{MetadataExt, lchown};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use serde_json::json;

use super::{Bundle, PROCRT, image};

/// Its user and group id: nobody else's on any machine.
pub const ID: u32 = 61_983;

/// A plain user, by its user and group id.
#[derive(Debug, Clone, Copy)]
pub struct User(pub u32);

impl User {
    /// The program, called by the user.
    pub fn procrt(self) -> Command {
        self.command(program())
    }

    /// Any program, called by the user, with nothing in its environment but where programs are.
    pub fn command(self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new("setpriv");
        let id = self.0.to_string();
        command.args(["--reuid", &id, "--regid", &id, "--clear-groups", "--", "env", "--ignore-environment"]);
        command.arg(format!("PATH={}", std::env::var("PATH").unwrap())).arg(program);
        command
    }
}

/// The program, where the user can reach it: it may be below somebody's home.
pub fn program() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        let built = Path::new(PROCRT);
        let open = |dir: &Path| fs::metadata(dir).is_ok_and(|dir| dir.mode() & 0o001 != 0);
        if built.ancestors().all(open) {
            return built.to_owned();
        }
        // One for all the tests of a process, which the machine's next start removes.
        let copy = std::env::temp_dir().join(format!("procrt-test-program-{}", std::process::id()));
        image::install(built, &copy);
        copy
    })
}

/// Whether the tests themselves run as a plain user: what takes root is not theirs to test then.
pub fn is_plain() -> bool {
    !nix::unistd::geteuid().is_root()
}

/// The first subordinate id of the user that the tests run as (subuid(5)), who has as many as a container needs.
pub fn subordinate() -> u32 {
    let uid = nix::unistd::geteuid().to_string();
    let name = nix::unistd::User::from_uid(nix::unistd::geteuid()).unwrap().map_or(uid.clone(), |user| user.name);
    let text = fs::read_to_string("/etc/subuid").unwrap_or_default();
    let mut lines = text.lines().map(|line| line.split(':').collect::<Vec<_>>());
    let line = lines.find(|line| line[0] == name || line[0] == uid).expect("this user has no line in /etc/subuid");
    line[1].parse().unwrap()
}

/// A configuration of root's as one of the plain user's that the tests run as: root inside is that user, and everybody else
/// one of its subordinate ids.
pub fn adapt(config: &mut serde_json::Value) {
    let maps = |own: u32| json!([{"containerID": 0, "hostID": own, "size": 1}, {"containerID": 1, "hostID": subordinate(), "size": 65535}]);
    let linux = &mut config["linux"];
    linux["namespaces"].as_array_mut().unwrap().push(json!({"type": "user"}));
    linux["uidMappings"] = maps(nix::unistd::geteuid().as_raw());
    linux["gidMappings"] = maps(nix::unistd::getegid().as_raw());
}

impl Bundle {
    /// The bundle is the plain user's, in a user namespace in which that is root: as `procrt spec --rootless` has it, but with
    /// a network of its own.
    pub fn plain(mut self) -> Self {
        self.user = Some(User(ID));
        for mount in self.config["mounts"].as_array_mut().unwrap() {
            if mount["type"] == "devpts" {
                // No other group is mapped.
                mount["options"].as_array_mut().unwrap().retain(|option| option != "gid=5");
            }
        }
        let mapping = json!([{"containerID": 0, "hostID": ID, "size": 1}]);
        let bundle = self.namespace("user", None).set("/linux/uidMappings", mapping.clone());
        let bundle = bundle.set("/linux/gidMappings", mapping);
        give(bundle.path());
        bundle
    }
}

/// Gives a directory and all in it to the user.
pub fn give(path: &Path) {
    lchown(path, Some(ID), Some(ID)).unwrap();
    if fs::symlink_metadata(path).unwrap().is_dir() {
        for entry in fs::read_dir(path).unwrap() {
            give(&entry.unwrap().path());
        }
    }
}
