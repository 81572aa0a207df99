//! What procrt would do with real configurations (`tests/configs`), as `procrt explain` says it: in words, and as JSON.
//!
//! What differs between machines is taken out: the bundle's path, and how control groups are laid out.

mod support;

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use support::Bundle;

const CONFIGS: [&str; 7] =
    ["cri-sandbox", "docker-default", "everything", "minimal", "podman", "spec", "spec-rootless"];

fn config_file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/configs").join(name).with_extension("json")
}

/// A bundle with the configuration of that name, on a root of the test's.
fn bundle(name: &str) -> Bundle {
    let mut bundle = Bundle::sleeping();
    bundle.config = serde_json::from_str(&fs::read_to_string(config_file(name)).unwrap()).unwrap();
    bundle = bundle.set("/root/path", json!("rootfs"));
    bundle.write();
    bundle
}

fn explain(bundle: &Bundle, options: &[&str]) -> String {
    let outcome = bundle.call(&[&["explain", "--bundle", bundle.path().to_str().unwrap()], options].concat());
    assert!(outcome.stderr.lines().all(|line| line.contains("warning: ")), "{outcome:?}");
    outcome.ok().replace(bundle.path().to_str().unwrap(), "[bundle]")
}

#[test]
fn every_configuration_is_explained_in_words() {
    for name in CONFIGS {
        let text = explain(&bundle(name), &[]);
        let mut lines = Vec::new();
        let mut in_groups = false;
        for line in text.lines() {
            if !line.starts_with(' ') {
                in_groups = line.ends_with("Make the control groups");
                lines.push(line.to_owned());
                lines.extend(in_groups.then(|| "     [as this machine has them]".to_owned()));
            } else if let Some((mount, _)) = line.split_once(" <- the container's control group") {
                lines.push(format!("{mount} <- [the container's control groups]"));
            } else if !in_groups {
                lines.push(line.to_owned());
            }
        }
        insta::assert_snapshot!(format!("{name}.txt"), lines.join("\n"));
    }
}

#[test]
fn the_plan_as_json_is_what_machines_read() {
    for name in ["minimal", "everything"] {
        let mut plan: Value = serde_json::from_str(&explain(&bundle(name), &["--json"])).unwrap();
        let object = plan.as_object_mut().unwrap();
        assert!(object.remove("cgroup").is_some());
        insta::assert_json_snapshot!(format!("{name}.json"), plan);
    }
}

#[test]
fn every_file_of_the_folder_is_explained() {
    let mut names: Vec<String> = fs::read_dir(config_file("x").parent().unwrap())
        .unwrap()
        .map(|entry| entry.unwrap().path().file_stem().unwrap().to_string_lossy().into_owned())
        .collect();
    names.sort();
    assert_eq!(names, CONFIGS);
}

#[test]
fn what_spec_writes_is_what_the_folder_has() {
    for (name, options) in [("spec", &["spec"][..]), ("spec-rootless", &["spec", "--rootless"])] {
        let bundle = Bundle::sleeping();
        bundle.call(&[options, &["--bundle", bundle.path().to_str().unwrap()]].concat()).ok();
        assert_eq!(
            fs::read_to_string(bundle.join("config.json")).unwrap(),
            fs::read_to_string(config_file(name)).unwrap()
        );
    }
}

#[test]
fn a_control_group_is_named_with_what_is_written_to_it() {
    let bundle = bundle("podman");
    let text = explain(&bundle, &[]);
    let path = bundle.config["linux"]["cgroupsPath"].as_str().unwrap();
    assert!(text.contains(&format!("{path} (")) || text.contains(&format!("{path}\n")), "{text}");
    for value in ["268435456", "2048"] {
        assert!(text.contains(&format!("write \"{value}\" to ")), "{value}: {text}");
    }
}

#[test]
fn explaining_makes_nothing() {
    for name in CONFIGS {
        let bundle = bundle(name);
        explain(&bundle, &[]);
        assert!(!bundle.store().exists());
    }
    let error = Bundle::sleeping().call(&["explain", "--bundle", "/nonexistent"]).refused();
    assert_eq!(error, "open bundle \"/nonexistent\": no such file or directory (os error 2)");
}

/// The configuration that `procrt spec` writes runs, its terminal aside.
#[test]
fn what_spec_writes_runs() {
    for name in ["spec", "spec-rootless"] {
        let bundle = bundle(name)
            .set("/process/terminal", json!(false))
            .set("/process/args", json!(["/bin/sh", "-c", "id -u; hostname; touch /x"]));
        let outcome = bundle.run();
        assert_eq!(outcome.stdout, "0\nprocrt\n", "{outcome:?}");
        assert!(outcome.stderr.contains("Read-only file system"), "{outcome:?}");
    }
}
