//! Every field of the specification with a value that it may not have: status 1, the value's JSON path in the sentence,
//! and nothing made.

mod support;

use std::fs;
use std::path::Path;

use procrt::container::CreateOptions;
use procrt::container::plan::plan;
use serde_json::{Value, json};
use support::Bundle;
use support::fields::{self, Field};

/// Values that are of no type that the field may have, or that are none of its numbers or words.
fn wrong_values(field: &Field) -> Vec<Value> {
    let mut values = vec![json!([]), json!({}), json!([[]]), json!({"a": {}})];
    // Where a value may be missing, null is none.
    values.extend(field.is_required().then_some(Value::Null));
    match field.typ() {
        "string" => values.extend([json!(5), json!(-1.5), json!(true)]),
        "boolean" => values.extend([json!(0), json!(1), json!("true"), json!("")]),
        "integer" => {
            values.extend([json!("1"), json!(""), json!(true), json!(0.5), json!(1e300), json!(-1e300)]);
            values.extend(
                field.limit("minimum").and_then(Value::as_i64).and_then(|least| Some(json!(least.checked_sub(1)?))),
            );
            if let Some(most) = field.limit("maximum").and_then(Value::as_u64) {
                values.extend(most.checked_add(1).map(|over| json!(over)));
            }
            values.push(serde_json::from_str("18446744073709551616").unwrap());
            values.push(serde_json::from_str("-9223372036854775809").unwrap());
        }
        other => panic!("{}: {other}", field.path),
    }
    if field.limit("enum").is_some() {
        values.extend([json!("NOPE"), json!(""), json!("\u{0}"), json!({"NOPE": null})]);
    }
    values
}

/// What the schema does not have and procrt takes, as callers of other runtimes expect.
fn is_taken(field: &Field, value: &Value) -> bool {
    match field.path.as_str() {
        // The bits above the permissions are set-user-ID and so on.
        "linux.devices[].fileMode" => value.as_u64().is_some_and(|mode| mode <= 0o7777),
        // As if it were not there.
        "linux.rootfsPropagation" => value == "",
        _ => false,
    }
}

/// Whether a sentence is about the value at `path` alone, or about a part of it.
fn names(sentence: &str, path: &str) -> bool {
    sentence.strip_prefix(path).is_some_and(|rest| rest.starts_with([':', '.', '[']))
        && sentence.split("; ").all(|fault| fault.starts_with(path))
}

/// What is said of a bundle whose `config.json` is `config`; nothing if there is nothing to say.
fn fault(bundle: &Path, config: &Value) -> Option<String> {
    fs::write(bundle.join("config.json"), config.to_string()).unwrap();
    let options = CreateOptions { id: "fields".to_owned(), bundle: bundle.to_owned(), ..CreateOptions::default() };
    plan(&options).err().map(|error| error.to_string())
}

#[test]
fn a_value_that_a_field_may_not_have_is_named_by_its_path() {
    let bundle = Bundle::sleeping();
    let mut silent = Vec::new();
    let mut tried = 0;
    for field in fields::all() {
        for value in wrong_values(field) {
            let mut config = bundle.config.clone();
            field.set(&mut config, value.clone());
            tried += 1;
            let said = fault(bundle.path(), &config);
            if !said.as_ref().is_some_and(|said| names(said, &field.rendered())) && !is_taken(field, &value) {
                silent.push(format!("{} {value}: {said:?}", field.path));
            }
        }
    }
    assert!(tried > 1500, "{tried}");
    assert!(silent.is_empty(), "{} of {tried}:\n{}", silent.len(), silent.join("\n"));
}

#[test]
fn an_object_or_a_list_that_is_another_thing_is_named_by_its_path() {
    let bundle = Bundle::sleeping();
    let mut silent = Vec::new();
    let mut paths: Vec<String> = fields::all().iter().flat_map(Field::around).collect();
    paths.sort();
    paths.dedup();
    assert!(paths.len() > 40, "{paths:?}");
    for path in paths {
        let inside = fields::all().iter().find(|field| field.around().contains(&path)).unwrap();
        for value in [json!(5), json!("x"), json!(true), json!([[1]]), json!({"": []}), json!([]), json!({})] {
            let mut config = bundle.config.clone();
            inside.set(&mut config, inside.sample());
            let place = fields::place(&mut config, &path);
            if value.is_array() && place.is_array() && value != json!([[1]]) || value.is_object() && place.is_object() {
                continue;
            }
            *place = value.clone();
            let said = fault(bundle.path(), &config);
            let rendered = path.replace("[]", "[0]").replace("{}", ".x");
            if !said.as_ref().is_some_and(|said| names(said, &rendered)) {
                silent.push(format!("{path} {value}: {said:?}"));
            }
        }
    }
    assert!(silent.is_empty(), "{}:\n{}", silent.len(), silent.join("\n"));
}

#[test]
fn the_program_refuses_every_field_with_status_1_and_makes_nothing() {
    let mut bundle = Bundle::sleeping();
    let config = bundle.config.clone();
    for (number, field) in fields::all().iter().enumerate() {
        let values = wrong_values(field);
        let value = &values[number % values.len()];
        if is_taken(field, value) {
            continue;
        }
        bundle.config = config.clone();
        field.set(&mut bundle.config, value.clone());
        let said = if number % 2 == 0 { bundle.create().refused() } else { bundle.run().refused() };
        assert!(names(&said, &field.rendered()), "{} {value}: {said}", field.path);
        assert!(!bundle.store().exists(), "{} {value}", field.path);
    }
    assert_eq!(bundle.leftovers(), Vec::<String>::new());
}

/// No text that the kernel takes has one: it would end there.
#[test]
fn a_text_with_a_nul_in_it_is_named_by_its_path() {
    let bundle = Bundle::sleeping();
    let mut silent = Vec::new();
    for field in fields::all().iter().filter(|field| field.typ() == "string") {
        // What is handed on as it is, and what is for other platforms.
        if ["annotations{}", "process.commandLine", "process.user.username"].contains(&field.path.as_str()) {
            continue;
        }
        let sample = field.sample();
        for text in [format!("{}\0", sample.as_str().unwrap()), "/a\0b".to_owned(), "\0".to_owned()] {
            let mut config = bundle.config.clone();
            field.set(&mut config, json!(text));
            let said = fault(bundle.path(), &config);
            // A free key may stand in brackets.
            let places = [field.rendered(), field.path.replace("[]", "[0]").replace("{}", "[\"x\"]")];
            if !said.as_ref().is_some_and(|said| places.iter().any(|place| said.contains(place))) {
                silent.push(format!("{} {text:?}: {said:?}", field.path));
            }
        }
    }
    assert!(silent.is_empty(), "{}:\n{}", silent.len(), silent.join("\n"));
}
