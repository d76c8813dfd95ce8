use super::DOCUMENT;
use super::written::{self, TAGS};
use crate::http::router;
use axum::Router;
use serde_json::Value;
use std::collections::BTreeSet;
use std::{env, fs};

/// Routes that may be without a document for now: none. Each other one makes the document untrue.
const UNDOCUMENTED: [&str; 0] = [];

fn document() -> Value {
    serde_json::from_str(DOCUMENT).unwrap()
}

/// Every path that the router answers, however it was added: by what the router says of itself.
fn routed() -> BTreeSet<String> {
    let said = format!("{:?}", router::forms(router::api(Router::new())));
    let mut rest = said.split_once("paths: {").expect("it lists its paths").1;
    let mut paths = BTreeSet::new();
    while let Some((_, quoted)) = rest.split_once('"') {
        let (path, behind) = quoted.split_once('"').expect("a path ends");
        paths.insert(path.to_owned());
        rest = behind;
        if rest.starts_with('}') {
            break;
        }
    }
    paths
}

/// `LLMCHAT_WRITE_OPENAPI=1 cargo test --lib http::docs` writes it anew.
#[test]
#[expect(clippy::disallowed_methods, reason = "of the source: what a crash leaves half is written again")]
fn the_document_that_is_served_is_that_of_the_routes() {
    let written = written::document();
    if env::var_os("LLMCHAT_WRITE_OPENAPI").is_some() {
        fs::write(concat!(env!("CARGO_MANIFEST_DIR"), "/data/docs/openapi.json"), &written).unwrap();
    } else if written != DOCUMENT {
        let stale = DOCUMENT.lines().zip(written.lines()).find(|(old, new)| old != new);
        panic!("data/docs/openapi.json is stale, write it anew: {stale:?}");
    }
}

fn each_operation(document: &Value, mut check: impl FnMut(&str, &str, &Value)) {
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            check(path, method, operation);
        }
    }
}

#[test]
fn every_route_has_a_document_and_every_document_a_route() {
    let document = document();
    let documented: BTreeSet<String> = document["paths"].as_object().unwrap().keys().cloned().collect();
    let routed = routed();
    assert!(routed.len() > 30 && routed.contains("/api/chat/completions"), "the list is read: {routed:?}");
    let missing: Vec<_> =
        routed.difference(&documented).filter(|path| !UNDOCUMENTED.contains(&path.as_str())).collect();
    assert!(missing.is_empty(), "without a document, see the top of src/http/docs/mod.rs: {missing:?}");
    let stale: Vec<_> = documented.difference(&routed).collect();
    assert!(stale.is_empty(), "documented, and not there: {stale:?}");
}

#[test]
fn every_operation_says_what_it_is_and_how_it_ends() {
    let document = document();
    let tags: BTreeSet<&str> = TAGS.iter().map(|(name, _)| *name).collect();
    let mut names = BTreeSet::new();
    each_operation(&document, |path, method, operation| {
        let at = format!("{method} {path}");
        assert!(operation["summary"].as_str().is_some_and(|summary| !summary.is_empty()), "{at}: no summary");
        assert!(operation["tags"].as_array().unwrap().iter().all(|tag| tags.contains(tag.as_str().unwrap())), "{at}");
        assert!(names.insert(operation["operationId"].as_str().unwrap().to_owned()), "{at}: a name twice");
        let answers = operation["responses"].as_object().unwrap();
        assert!(answers.keys().any(|status| status.starts_with('2')), "{at}: no success");
        assert!(answers.contains_key("500"), "{at}: every route may break");
        if path.starts_with("/api/") {
            assert!(answers.contains_key("429") && answers.contains_key("503"), "{at}: every client may be refused");
        }
        let wanted: BTreeSet<&str> = path.split(['{', '}']).skip(1).step_by(2).collect();
        let params = operation["parameters"].as_array().cloned().unwrap_or_default();
        let told: BTreeSet<&str> =
            params.iter().filter(|param| param["in"] == "path").map(|param| param["name"].as_str().unwrap()).collect();
        assert_eq!(wanted, told, "{at}: the parts of the path");
    });
    assert!(names.len() > 35, "{names:?}");
}

#[test]
fn every_reference_leads_somewhere_and_nothing_is_named_for_nothing() {
    let document = document();
    let mut named = BTreeSet::new();
    references(&document, &mut named);
    let there: BTreeSet<String> = document["components"]["schemas"].as_object().unwrap().keys().cloned().collect();
    assert_eq!(named.difference(&there).collect::<Vec<_>>(), Vec::<&String>::new());
    assert!(there.contains("Error") && there.contains("Question"), "{there:?}");
}

fn references(value: &Value, named: &mut BTreeSet<String>) {
    match value {
        Value::Object(fields) => {
            if let Some(name) = fields.get("$ref").and_then(Value::as_str) {
                named.insert(name.strip_prefix("#/components/schemas/").expect("a schema of this document").to_owned());
            }
            fields.values().for_each(|value| references(value, named));
        }
        Value::Array(values) => values.iter().for_each(|value| references(value, named)),
        _ => {}
    }
}

#[test]
fn a_failure_has_its_status_and_all_codes_of_it() {
    let document = document();
    let codes = |path: &str, method: &str, status: &str| {
        let schema = &document["paths"][path][method]["responses"][status]["content"]["application/json"]["schema"];
        schema["allOf"][1]["properties"]["code"]["enum"].clone()
    };
    assert_eq!(
        codes("/api/chat/completions", "post", "503"),
        serde_json::json!(["CIRCUIT_OPEN", "SERVICE_UNAVAILABLE"])
    );
    assert_eq!(codes("/api/agents", "post", "403"), serde_json::json!(["ADMIN_REQUIRED", "CROSS_SITE"]));
    assert_eq!(codes("/api/agents", "get", "403"), Value::Null, "everybody may see agents");
}
