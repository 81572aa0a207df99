//! `procrt engines`: which of the machine's engines know this program, and what registers it.

use std::fs;
use std::path::Path;
use std::process::Command;

const PROCRT: &str = env!("CARGO_BIN_EXE_procrt");

/// What the command says, where PATH and the configuration are in `place`.
fn engines(place: &Path) -> String {
    let output = Command::new(PROCRT)
        .args(["engines", "--etc"])
        .arg(place.join("etc"))
        .env("PATH", place.join("bin"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// A machine with these programs and nothing configured.
fn machine(programs: &[&str]) -> tempfile::TempDir {
    let place = tempfile::tempdir().unwrap();
    fs::create_dir_all(place.path().join("bin")).unwrap();
    for program in programs {
        fs::write(place.path().join("bin").join(program), "").unwrap();
    }
    place
}

fn configure(place: &Path, file: &str, text: &str) {
    let path = place.join("etc").join(file);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

#[test]
fn without_engines_it_says_which_ones_it_looked_for() {
    let text = engines(machine(&[]).path());
    assert_eq!(text, "No engine is found on PATH: neither Docker, containerd, Podman, Buildah nor CRI-O.\n");
}

#[test]
fn each_engine_that_is_there_gets_its_lines() {
    let place = machine(&["dockerd", "containerd", "buildah", "crio"]);
    let text = engines(place.path());
    for name in ["Docker", "containerd (Kubernetes)", "Podman and Buildah", "CRI-O (Kubernetes)"] {
        assert!(text.contains(&format!("{name}: not registered\n")), "{text}");
    }
    assert!(text.contains(&format!(r#"{{ "runtimes": {{ "procrt": {{ "path": "{PROCRT}" }} }} }}"#)), "{text}");
    assert!(text.contains(&format!("BinaryName = \"{PROCRT}\"\n")), "{text}");
    assert!(text.contains(&format!("procrt = [\"{PROCRT}\"]\n")), "{text}");
    assert!(text.contains(&format!("runtime_path = \"{PROCRT}\"\n")), "{text}");
    let only = engines(machine(&["podman"]).path());
    assert!(only.starts_with("Podman and Buildah: not registered\n") && !only.contains("Docker"), "{only}");
}

#[test]
fn what_it_prints_registers_it() {
    let place = machine(&["dockerd", "containerd", "podman", "crio"]);
    let text = engines(place.path());
    let mut file = String::new();
    for line in text.lines() {
        if let Some(path) = line.strip_prefix("    Add to ") {
            file = path.trim_end_matches(':').to_owned();
        } else if let Some(line) = line.strip_prefix("        ") {
            let old = fs::read_to_string(&file).unwrap_or_default();
            let below = Path::new(&file).strip_prefix(place.path().join("etc")).unwrap();
            configure(place.path(), below.to_str().unwrap(), &format!("{old}{line}\n"));
        }
    }
    let text = engines(place.path());
    assert!(!text.contains("not registered"), "{text}");
    let docker = place.path().join("etc/docker/daemon.json");
    assert!(text.contains(&format!("Docker: registered in {}\n", docker.display())), "{text}");
}

#[test]
fn neither_a_comment_nor_another_program_counts() {
    let place = machine(&["podman"]);
    let text = format!("[engine.runtimes]\n# procrt = [\"{PROCRT}\"]\nother = [\"{PROCRT}-old\"]\n");
    configure(place.path(), "containers/containers.conf", &text);
    assert!(engines(place.path()).contains("Podman and Buildah: not registered"));
    configure(place.path(), "containers/containers.conf.d/procrt.conf", &format!("procrt = [\"{PROCRT}\"]\n"));
    assert!(engines(place.path()).contains("containers.conf.d/procrt.conf"));
}
