//! Which service manager is asked, and how it is reached.

use std::fs;
use std::os::unix::fs::chown;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::json;

use crate::support::{Bundle, Outcome, PROCRT, skipped};
use crate::{Scope, cgroup_of, property, systemctl, systemd};

#[test]
fn without_systemd_the_option_is_refused_at_once() {
    if Path::new("/run/systemd/system").is_dir() {
        skipped("systemd runs here");
        return;
    }
    let bundle = Bundle::sleeping();
    bundle.write();
    for command in ["create", "run"] {
        let call = ["--systemd-cgroup", command, "--bundle", bundle.path().to_str().unwrap(), bundle.id()];
        let error = bundle.call(&call).refused();
        assert!(error.starts_with("--systemd-cgroup: systemd is not this machine's service manager"), "{error}");
    }
    assert!(bundle.leftovers().is_empty());
}

#[test]
fn the_bus_serves_where_systemds_own_socket_does_not() {
    if !systemd() || !Path::new("/run/dbus/system_bus_socket").exists() {
        return;
    }
    let scope = Scope(Bundle::sleeping());
    scope.write();
    // What is no socket is one that nobody listens at.
    let hide = "mount --bind /dev/null /run/systemd/private && exec \"$@\"";
    let inside = |args: &[&str]| {
        let mut command = Command::new("unshare");
        command.args(["-m", "sh", "-c", hide, "sh", PROCRT, "--root", scope.store().to_str().unwrap()]);
        Outcome::of(command.args(args).stdin(Stdio::null()))
    };
    inside(&["--systemd-cgroup", "create", "--bundle", scope.path().to_str().unwrap(), scope.id()]).ok();
    assert_eq!(cgroup_of(scope.pid()), format!("0::/system.slice/{}", scope.unit()));
    inside(&["delete", "--force", scope.id()]).ok();
    assert_eq!(property(&scope.unit(), "LoadState"), "not-found");
}

#[test]
fn a_process_that_systemd_numbers_otherwise_is_not_given_to_it() {
    if !systemd() {
        return;
    }
    let bundle = Bundle::sleeping();
    bundle.write();
    let store = bundle.store();
    let procrt = [PROCRT, "--root", store.to_str().unwrap(), "--systemd-cgroup"];
    let create = ["create", "--bundle", bundle.path().to_str().unwrap(), bundle.id()];
    let mut command = Command::new("unshare");
    let error = Outcome::of(command.args(["--pid", "--fork", "--mount-proc"]).args(procrt).args(create)).refused();
    assert!(error.contains("different PID namespaces"), "{error}");
}

/// The user manager of `nobody`, as long as the value lives.
struct UserManager;

impl UserManager {
    const UID: &str = "65534";

    fn start() -> Option<Self> {
        let outcome = systemctl(&["start", "user@65534.service"]);
        if outcome.code() != 0 || !Path::new("/run/user/65534/systemd/private").exists() {
            skipped("no user manager can be started");
            return None;
        }
        Some(Self)
    }

    /// A program as that user, and as root of a user namespace of its own if so asked.
    fn command(root: bool, args: &[&str]) -> Outcome {
        let ids = ["--reuid", Self::UID, "--regid", Self::UID, "--clear-groups"];
        let mut command = Command::new("setpriv");
        command.args(ids).args(["env", "XDG_RUNTIME_DIR=/run/user/65534"]);
        if root {
            command.args(["unshare", "-Urmn"]);
        }
        Outcome::of(command.args(args).stdin(Stdio::null()).current_dir("/"))
    }
}

impl Drop for UserManager {
    fn drop(&mut self) {
        systemctl(&["stop", "user@65534.service"]);
    }
}

#[test]
fn a_users_container_is_a_scope_of_the_users_manager() {
    if !systemd() {
        return;
    }
    let Some(_manager) = UserManager::start() else { return };
    for root in [false, true] {
        scope_of_user(root);
    }
}

/// As that user, or as root of a user namespace of the user's.
fn scope_of_user(root: bool) {
    let one = json!([{"containerID": 0, "hostID": if root { 0 } else { 65534 }, "size": 1}]);
    let bundle = Bundle::sleeping().namespace("user", None).without_namespace("network");
    let bundle = bundle.set("/linux/uidMappings", one.clone()).set("/linux/gidMappings", one);
    let bundle = bundle.without_mount("/dev/pts").without_mount("/sys").without_mount("/dev/mqueue");
    // Only the host's root holds devices back: they are left to the user namespace.
    let rules = json!([{"allow": false, "access": "rwm"}]);
    let bundle = bundle.set("/linux/resources", json!({"pids": {"limit": 17}, "devices": rules}));
    bundle.write();
    chown(bundle.inside(""), Some(65534), Some(65534)).unwrap();
    let store = "/run/user/65534/procrt-test";
    let procrt = |args: &[&str]| UserManager::command(root, &[&[PROCRT, "--root", store], args].concat());
    procrt(&["--systemd-cgroup", "create", "--bundle", bundle.path().to_str().unwrap(), bundle.id()]).ok();
    let unit = format!("procrt-{}.scope", bundle.id());
    let shown = |name: &str| {
        let show = ["systemctl", "--user", "show", "--value", "--property", name, &unit];
        UserManager::command(false, &show).ok()
    };
    let group = format!("/user.slice/user-65534.slice/user@65534.service/user.slice/{unit}");
    assert_eq!((shown("ControlGroup"), shown("TasksMax")), (group.clone(), "17".to_owned()));
    assert_eq!(fs::read_to_string(format!("/sys/fs/cgroup{group}/pids.max")).unwrap(), "17\n");
    if !root {
        // From a session's control group, which is not the user's, the manager has to bring it in.
        procrt(&["start", bundle.id()]).ok();
        let said = procrt(&["exec", bundle.id(), "sh", "-c", "cat /proc/self/cgroup"]).ok();
        assert_eq!(said, "0::/");
    }
    procrt(&["delete", "--force", bundle.id()]).ok();
    assert_eq!(shown("LoadState"), "not-found");
    // Nobody says where the manager is.
    let ids = ["--reuid", UserManager::UID, "--clear-groups", "env", "-i", PROCRT, "--root", store, "--systemd-cgroup"];
    let create = ["create", "--bundle", bundle.path().to_str().unwrap(), bundle.id()];
    let error = Outcome::of(Command::new("setpriv").args(ids).args(create)).refused();
    assert!(error.contains("neither XDG_RUNTIME_DIR nor DBUS_SESSION_BUS_ADDRESS"), "{error}");
}
