//! The sandbox's documentation: its recipes do what it says, and its tables name all that there is.

mod support;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;
use support::{Outcome, PROCRT, skipped};

fn document(name: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(name)).unwrap()
}

/// A block of commands, and what they print.
struct Recipe {
    line: usize,
    needs: Vec<String>,
    script: String,
    printed: Option<String>,
}

fn recipes(text: &str) -> Vec<Recipe> {
    let mut recipes: Vec<Recipe> = Vec::new();
    let mut lines = text.lines().enumerate();
    while let Some((at, line)) = lines.next() {
        let Some(info) = line.strip_prefix("```").filter(|info| !info.is_empty()) else { continue };
        let body: Vec<&str> = lines.by_ref().map(|(_, line)| line).take_while(|line| *line != "```").collect();
        let body = body.join("\n") + "\n";
        let mut words = info.split(' ');
        match words.next() {
            Some("sh") => {
                let needs = words.find_map(|word| word.strip_prefix("needs=")).unwrap_or_default();
                let needs = needs.split(',').filter(|word| !word.is_empty()).map(str::to_owned).collect();
                recipes.push(Recipe { line: at + 1, needs, script: body, printed: None });
            }
            Some("text") => recipes.last_mut().expect("commands before what they print").printed = Some(body),
            _ => {}
        }
    }
    recipes
}

/// Runs a script as whoever follows the documentation would: in an empty directory, with procrt on PATH.
fn follow(script: &str) -> Outcome {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    fs::create_dir(at("here")).unwrap();
    fs::write(at("registries.conf"), "").unwrap();
    let storage = format!("[storage]\ndriver = \"vfs\"\ngraphroot = {:?}\nrunroot = {:?}\n", at("storage"), at("run"));
    fs::write(at("storage.conf"), storage).unwrap();
    // Others follow it on this machine too.
    let script = script.replace("agent", &format!("agent-{}", std::process::id()));
    let path = format!("{}:{}", PathBuf::from(PROCRT).parent().unwrap().display(), std::env::var("PATH").unwrap());
    let mut command = Command::new("bash");
    command.args(["-euc", &script]).current_dir(at("here")).stdin(Stdio::null());
    command.env("PATH", path).env("XDG_CACHE_HOME", at("cache"));
    command.env("CONTAINERS_STORAGE_CONF", at("storage.conf")).env("CONTAINERS_REGISTRIES_CONF", at("registries.conf"));
    let outcome = Outcome::of(&mut command);
    let _ = Command::new("umount").arg(at("storage")).stderr(Stdio::null()).status();
    outcome
}

fn is_there(program: &str) -> bool {
    std::env::split_paths(&std::env::var_os("PATH").unwrap()).any(|dir| dir.join(program).is_file())
}

#[test]
fn every_recipe_prints_what_stands_below_it() {
    let recipes = recipes(&document("docs/sandbox.md"));
    assert!(recipes.len() >= 10, "only {} recipes", recipes.len());
    for Recipe { line, needs, script, printed } in recipes {
        if let Some(missing) = needs.iter().find(|program| !is_there(program)) {
            skipped(&format!("the recipe in line {line} needs {missing}"));
            continue;
        }
        let outcome = follow(&script);
        assert_eq!(outcome.code(), 0, "line {line}: {outcome:#?}");
        if let Some(printed) = printed {
            assert_eq!(outcome.stdout, printed, "line {line}: {}", outcome.stderr);
        }
    }
}

/// The first columns of the table in the section of that title.
fn keys(text: &str, title: &str) -> BTreeSet<String> {
    let section = text.split(&format!("\n## {title}\n")).nth(1).unwrap().split("\n## ").next().unwrap();
    let cells = section.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next());
    cells.map(str::to_owned).collect()
}

fn fields(schema: &Value, at: &Value, path: &str, into: &mut BTreeSet<String>) {
    for (name, field) in at["properties"].as_object().unwrap() {
        let below = field["$ref"].as_str().map(|place| &schema["$defs"][place.trim_start_matches("#/$defs/")]);
        match below.filter(|below| below["properties"].is_object()) {
            Some(below) => fields(schema, below, &format!("{path}{name}."), into),
            None => drop(into.insert(format!("{path}{name}"))),
        }
    }
}

#[test]
fn every_field_of_a_policy_is_in_the_table() {
    let schema = Outcome::of(Command::new(PROCRT).args(["sandbox", "policy", "--schema"])).ok();
    let schema: Value = serde_json::from_str(&schema).unwrap();
    let mut all = BTreeSet::new();
    fields(&schema, &schema, "", &mut all);
    assert_eq!(keys(&document("docs/sandbox.md"), "The policy file"), all);
}

#[test]
fn every_key_of_a_result_is_in_the_table() {
    let outcome = follow("procrt sandbox run --result result.json -- true; cat result.json");
    let result: Value = serde_json::from_str(&outcome.ok()).unwrap();
    let all: BTreeSet<String> = result.as_object().unwrap().keys().cloned().collect();
    assert_eq!(keys(&document("docs/sandbox.md"), "The result"), all);
}

#[test]
fn the_readme_can_be_followed_literally() {
    let text = document("README.md");
    let section = text.split("\n## The sandbox\n").nth(1).unwrap().split("\n## ").next().unwrap();
    let commands: Vec<&str> = section.lines().filter_map(|line| line.strip_prefix("    ")).collect();
    assert!(commands.len() >= 5, "{commands:?}");
    // The first installs procrt, which is there already.
    let commands: Vec<&str> = commands.into_iter().filter(|line| !line.starts_with("hack/install")).collect();
    let outcome = follow(&commands.join("\n"));
    assert_eq!(outcome.code(), 0, "{outcome:#?}");
}
