//! The specification's Linux fields, each with the test that sees what it does (`tests/fields/seen.txt`).

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use support::fields;

const ROWS: &str = include_str!("fields/seen.txt");

/// What a row says of its field.
#[derive(Debug, PartialEq)]
enum Seen {
    /// This test of this file sees it.
    By { file: &'static str, test: &'static str },
    /// Nothing is to be seen, for this reason.
    Not(&'static str),
}

fn rows() -> Vec<(&'static str, Seen)> {
    let rows = ROWS.lines().filter(|line| !line.starts_with('#'));
    rows.map(|line| {
        let (field, said) = line.split_once(' ').unwrap_or_else(|| panic!("{line}"));
        let (first, rest) = said.trim().split_once(' ').unwrap_or_else(|| panic!("{line}"));
        let seen = match first {
            "-" => Seen::Not(rest),
            file => Seen::By { file, test: rest },
        };
        (field, seen)
    })
    .collect()
}

/// The names of the test functions of a file.
fn tests_of(file: &str) -> BTreeSet<String> {
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(file)).unwrap_or_default();
    let mut tests = BTreeSet::new();
    let mut is_test = false;
    for line in text.lines().map(str::trim) {
        match line.strip_prefix("fn ").and_then(|rest| rest.split_once('(')) {
            Some((name, _)) if is_test => drop(tests.insert(name.to_owned())),
            _ => {}
        }
        // Between the attribute and its function there may be others.
        is_test = line == "#[test]" || is_test && line.starts_with("#[");
    }
    tests
}

#[test]
fn every_field_has_one_row_and_every_row_a_field() {
    let fields: BTreeSet<String> = fields::all().iter().map(|field| field.path.clone()).collect();
    assert_eq!(fields.len(), 174);
    let mut seen = BTreeSet::new();
    for (field, _) in rows() {
        assert!(fields.contains(field), "the row {field} is of no field");
        assert!(seen.insert(field.to_owned()), "the field {field} has two rows");
    }
    let without: Vec<_> = fields.difference(&seen).collect();
    assert!(without.is_empty(), "without a row: {without:#?}");
}

#[test]
fn every_test_that_a_row_names_is_there() {
    let mut files: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    let mut wrong = Vec::new();
    for (field, seen) in rows() {
        match seen {
            Seen::By { file, test } => {
                if !files.entry(file).or_insert_with(|| tests_of(file)).contains(test) {
                    wrong.push(format!("{field}: {file} has no test {test}"));
                }
            }
            Seen::Not(why) if why.len() < 20 => wrong.push(format!("{field}: {why:?} is no reason")),
            Seen::Not(_) => {}
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
