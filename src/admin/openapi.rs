//! The API's description (OpenAPI 3.1), made from the table of routes, so that no route is missing from it or stands in it
//! alone; what bodies hold is written beside this file.

use serde_json::{Map, Value, json};

use super::console::File;
use super::routes::{Access, Endpoint, ROUTES, Route};
use crate::domain::overrides::Subject;

/// The schemas of bodies and answers.
const SCHEMAS: &str = include_str!("openapi.schemas.json");

/// The whole description.
pub(super) fn description() -> Value {
    let mut paths = Map::new();
    for route in ROUTES {
        let path = paths.entry(route.path).or_insert_with(|| json!({}));
        if let Some(operations) = path.as_object_mut() {
            operations.insert(route.method.to_ascii_lowercase(), operation(route));
        }
    }
    let schemas: Value = serde_json::from_str(SCHEMAS).unwrap_or_default();
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Anticamera: the operators' API",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "Every change can be previewed (dry_run=true), names the revision that was seen (If-Match), is written into the audit log before it is in force, and can be undone by one call.",
            "license": {"name": "EUPL-1.2", "identifier": "EUPL-1.2"},
        },
        "servers": [{"url": "/"}],
        "paths": paths,
        "components": {
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
            "schemas": schemas,
        },
    })
}

fn operation(route: &Route) -> Value {
    let security = match route.access {
        Access::Open => json!([]),
        Access::Look => json!([{}, {"token": []}]),
        Access::Needs(_) => json!([{"token": []}]),
    };
    let mut operation = json!({
        "operationId": operation_id(route),
        "summary": route.about,
        "security": security,
        "parameters": parameters(route),
        "responses": responses(route),
    });
    if let Some(members) = operation.as_object_mut() {
        if let Access::Needs(role) = route.access {
            members.insert("description".to_owned(), Value::from(format!("Needs the role {role}.")));
        }
        if let Some((media, schema, required)) = body(route.endpoint) {
            let body = json!({"required": required, "content": {media: {"schema": schema}}});
            members.insert("requestBody".to_owned(), body);
        }
    }
    operation
}

/// Such as `post_rooms_room_rate`.
fn operation_id(route: &Route) -> String {
    let path = route.path.trim_start_matches("/admin/v1").replace(['{', '}'], "").replace(['/', '-', '.'], "_");
    format!("{}{path}", route.method.to_ascii_lowercase())
}

fn parameters(route: &Route) -> Vec<Value> {
    let text = |place: &str, name: &str, required: bool, about: &str| json!({"in": place, "name": name, "required": required, "description": about, "schema": {"type": "string"}});
    let mut parameters = Vec::new();
    if route.path.contains("{room}") {
        parameters.push(text("path", "room", true, "the room's name"));
    }
    if route.path.contains("{id}") {
        parameters.push(text("path", "id", true, "the id in the list"));
    }
    let query: &[(&str, &str)] = match route.endpoint {
        Endpoint::History => &[("room", "only this room"), ("seconds", "only the last so many seconds")],
        Endpoint::AuditLog => &[("last", "so many lines, 100 by default, 1000 at most")],
        Endpoint::Codes => &[("class", "only this class")],
        Endpoint::Preview => &[
            ("scene", "a page of the list"),
            ("lang", "a language"),
            ("message", "a message to be looked at instead of the room's"),
        ],
        _ => &[],
    };
    parameters.extend(query.iter().map(|(name, about)| text("query", name, false, about)));
    if can_be_previewed(route.endpoint) {
        let about = "answer with a preview and change nothing";
        let dry_run = json!({"in": "query", "name": "dry_run", "required": false, "description": about, "schema": {"type": "boolean", "default": false}});
        parameters.push(dry_run);
    }
    let seen = if is_of_a_room(route.endpoint) {
        Some("the revision that was seen, as the ETag of the status has it")
    } else {
        is_handed_out(route.endpoint).then_some("the revision that was seen, as the ETag of the list has it")
    };
    parameters.extend(seen.map(|about| text("header", "If-Match", false, about)));
    parameters
}

fn can_be_previewed(endpoint: Endpoint) -> bool {
    let other = matches!(endpoint, Endpoint::LeakGuardReset | Endpoint::Drain);
    is_of_a_room(endpoint) || is_handed_out(endpoint) || other
}

fn is_handed_out(endpoint: Endpoint) -> bool {
    matches!(endpoint, Endpoint::CodeCreate | Endpoint::CodeRevoke | Endpoint::PassCreate | Endpoint::PassRevoke)
}

fn is_of_a_room(endpoint: Endpoint) -> bool {
    matches!(endpoint, Endpoint::Change(_) | Endpoint::Thaw | Endpoint::Undo)
}

fn reference(schema: &str) -> Value {
    json!({"$ref": format!("#/components/schemas/{schema}")})
}

/// Media type, schema, and whether a body must be there.
fn body(endpoint: Endpoint) -> Option<(&'static str, Value, bool)> {
    let (schema, required) = match endpoint {
        Endpoint::Change(Subject::Rate) => ("RateWish", true),
        Endpoint::Change(Subject::State) => ("StateWish", true),
        Endpoint::Change(Subject::Message) => ("MessageWish", true),
        Endpoint::Change(Subject::Freeze) => ("FreezeWish", false),
        Endpoint::Undo => ("UndoWish", false),
        Endpoint::CodeCreate => ("CodeWish", true),
        Endpoint::PassCreate => ("PassWish", true),
        Endpoint::Diff => return Some(("application/toml", json!({"type": "string"}), true)),
        _ => return None,
    };
    Some(("application/json", reference(schema), required))
}

fn responses(route: &Route) -> Value {
    let (media, schema) = match route.endpoint {
        Endpoint::Metrics => ("text/plain", json!({"type": "string"})),
        Endpoint::Preview | Endpoint::Console(File::Page) => ("text/html", json!({"type": "string"})),
        Endpoint::Console(File::Script) => ("text/javascript", json!({"type": "string"})),
        Endpoint::Console(File::Style) => ("text/css", json!({"type": "string"})),
        Endpoint::Events => ("text/event-stream", json!({"type": "string"})),
        Endpoint::Status => ("application/json", reference("Status")),
        Endpoint::History => ("application/json", reference("History")),
        Endpoint::Overrides => ("application/json", reference("Overrides")),
        Endpoint::Diff => ("application/json", reference("Diff")),
        Endpoint::Codes => ("application/json", reference("Codes")),
        Endpoint::CodeCreate => ("application/json", reference("CodeAnswer")),
        Endpoint::Passes => ("application/json", reference("Passes")),
        Endpoint::PassCreate => ("application/json", reference("PassAnswer")),
        Endpoint::CodeRevoke | Endpoint::PassRevoke => ("application/json", reference("TakingBackAnswer")),
        Endpoint::Drain => ("application/json", reference("DrainAnswer")),
        endpoint if is_of_a_room(endpoint) => ("application/json", reference("ChangeAnswer")),
        _ => ("application/json", json!({"type": "object"})),
    };
    let mut responses = Map::new();
    responses.insert("200".to_owned(), json!({"description": "done", "content": {media: {"schema": schema}}}));
    let mut refused = |code: &str, about: &str| {
        let content = json!({"application/problem+json": {"schema": reference("Problem")}});
        responses.insert(code.to_owned(), json!({"description": about, "content": content}));
    };
    refused("403", "another site's page asked, another host was meant, or the role is not enough");
    if route.access != Access::Open {
        refused("401", "the token is wrong, has expired or is missing");
        refused("429", "too many wrong tokens");
    }
    if route.path.contains('{') {
        refused("404", "there is none of this name");
    }
    if route.method == "POST" {
        refused("422", "values out of range, or a file with faults");
    }
    if is_of_a_room(route.endpoint) {
        refused("409", "there is nothing to undo, or another node leads the line");
    }
    if is_of_a_room(route.endpoint) || is_handed_out(route.endpoint) {
        refused("412", "somebody else changed something since: the members revision and changes say what");
    }
    if can_be_previewed(route.endpoint) {
        refused("507", "the change could not be written down, and was not made");
    }
    if route.endpoint == Endpoint::Reload {
        refused("409", "keys that need a restart");
    }
    if matches!(route.endpoint, Endpoint::Ready | Endpoint::Events) {
        refused("503", "not now");
    }
    Value::Object(responses)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::super::books::Books;
    use super::super::command::Mode;
    use super::super::handouts::{self, Asking};
    use super::super::status::tests::status;
    use super::super::status::{CertificateStatus, OverrideStatus, ReloadStatus, SayingStatus, Stage, Status};
    use super::*;
    use crate::config;
    use crate::domain::overrides::Wish;
    use crate::domain::time::Unix;

    /// A configuration with a room, and a class that codes prove.
    const CONFIG: &str = "[server]\nlisten = [\"127.0.0.1:0\"]\n[portal]\nurl = \"http://127.0.0.1:9\"\n\
                          [[room]]\nname = \"fair\"\npaths = [\"/fair/**\"]\nadmission_rate = \"5/s\"\n\
                          [[class]]\nname = \"office\"\nproof = [ { kind = \"invitation_code\", dir = \"codes\" } ]\n";

    #[test]
    fn codes_and_passes_are_as_described() {
        let directory = tempfile::tempdir().unwrap();
        let config = config::parse(CONFIG, directory.path()).unwrap();
        let books = Books::of(&config.admin.state_dir);
        let asking = Asking { config: &config, books: &books, by: "ann", now: Unix(1_900_000_000_000), seen: None };
        let schemas: Value = serde_json::from_str(SCHEMAS).unwrap();
        let check = |schema: &str, answer: &Value| check(&schemas, &schemas[schema], answer, schema);
        for mode in [Mode::Preview, Mode::Apply] {
            let code = serde_json::from_value(json!({"class": "office", "identity": "office 1"})).unwrap();
            check("CodeAnswer", &handouts::make_code(asking, code, mode).unwrap());
            let pass = serde_json::from_value(json!({"room": "fair", "name": "probe"})).unwrap();
            check("PassAnswer", &handouts::make_pass(asking, pass, mode).unwrap());
        }
        let (codes, passes) = (handouts::codes_listed(asking, None).unwrap(), handouts::passes_listed(asking).unwrap());
        check("Codes", &codes);
        check("Passes", &passes);
        let id = |list: &Value| list[0]["id"].as_str().unwrap().to_owned();
        let code = handouts::revoke_code(asking, &id(&codes["codes"]), Mode::Apply).unwrap();
        let pass = handouts::revoke_pass(asking, &id(&passes["passes"]), Mode::Apply).unwrap();
        check("TakingBackAnswer", &code);
        check("TakingBackAnswer", &pass);
        assert_eq!((&code["result"], &pass["result"]), (&json!("revoked"), &json!("revoked")));
    }

    /// Every schema that is referred to.
    fn references(value: &Value, found: &mut BTreeSet<String>) {
        match value {
            Value::Object(members) => {
                if let Some(name) = members.get("$ref").and_then(Value::as_str) {
                    found.insert(name.strip_prefix("#/components/schemas/").expect("a schema").to_owned());
                }
                members.values().for_each(|member| references(member, found));
            }
            Value::Array(members) => members.iter().for_each(|member| references(member, found)),
            _ => {}
        }
    }

    #[test]
    fn every_route_stands_in_it_and_nothing_else() {
        let description = description();
        let mut described = BTreeSet::new();
        for (path, operations) in description["paths"].as_object().unwrap() {
            described.extend(operations.as_object().unwrap().keys().map(|method| (path.clone(), method.clone())));
        }
        let routed: BTreeSet<(String, String)> =
            ROUTES.iter().map(|route| (route.path.to_owned(), route.method.to_ascii_lowercase())).collect();
        assert_eq!(described, routed);
        assert_eq!(routed.len(), ROUTES.len(), "no route twice");
    }

    #[test]
    fn it_has_the_shape_of_a_description() {
        let description = description();
        assert_eq!(description["openapi"], "3.1.0");
        let mut ids = BTreeSet::new();
        for (path, operations) in description["paths"].as_object().unwrap() {
            for (method, operation) in operations.as_object().unwrap() {
                let at = format!("{method} {path}");
                assert!(ids.insert(operation["operationId"].as_str().unwrap().to_owned()), "{at}");
                assert!(!operation["summary"].as_str().unwrap().is_empty(), "{at}");
                assert!(operation["responses"]["200"]["description"].is_string(), "{at}");
                let named: BTreeSet<&str> = operation["parameters"]
                    .as_array()
                    .unwrap()
                    .iter()
                    .filter(|parameter| parameter["in"] == "path")
                    .map(|parameter| parameter["name"].as_str().unwrap())
                    .collect();
                let in_path: BTreeSet<&str> =
                    path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}')).collect();
                assert_eq!(named, in_path, "{at}");
                assert!(method != "get" || operation.get("requestBody").is_none(), "{at}");
            }
        }
    }

    #[test]
    fn every_schema_is_there_and_used() {
        let mut used = BTreeSet::new();
        references(&description(), &mut used);
        let schemas = serde_json::from_str::<Value>(SCHEMAS).expect("JSON");
        let there: BTreeSet<String> = schemas.as_object().unwrap().keys().cloned().collect();
        assert_eq!(used, there);
    }

    /// Holds a value against a schema: the same members, and values of the types allowed.
    fn check(schemas: &Value, schema: &Value, value: &Value, at: &str) {
        if let Some(name) = schema["$ref"].as_str() {
            let name = name.rsplit('/').next().unwrap();
            return check(schemas, &schemas[name], value, at);
        }
        if let Some(choices) = schema["anyOf"].as_array() {
            if value.is_null() {
                assert!(choices.iter().any(|choice| choice["type"] == "null"), "{at} is null");
                return;
            }
            let choice = choices.iter().find(|choice| choice["type"] != "null").unwrap();
            return check(schemas, choice, value, at);
        }
        let kind = match value {
            Value::Null => "null",
            Value::Bool(_) => "boolean",
            Value::Number(number) if number.is_f64() => "number",
            Value::Number(_) => "integer",
            Value::String(_) => "string",
            Value::Array(_) => "array",
            Value::Object(_) => "object",
        };
        let types: Vec<&str> = match &schema["type"] {
            Value::Array(types) => types.iter().filter_map(Value::as_str).collect(),
            Value::String(one) => vec![one],
            _ => return,
        };
        let fits = types.contains(&kind) || (kind == "integer" && types.contains(&"number"));
        assert!(fits, "{at} is {kind}, not {types:?}");
        if let (Some(properties), Some(members)) = (schema["properties"].as_object(), value.as_object()) {
            let described: BTreeSet<&String> = properties.keys().collect();
            assert_eq!(members.keys().collect::<BTreeSet<_>>(), described, "{at}");
            for (name, member) in members {
                check(schemas, &properties[name], member, &format!("{at}.{name}"));
            }
        }
        if let Some(members) = value.as_array() {
            members.iter().for_each(|member| check(schemas, &schema["items"], member, &format!("{at}[]")));
        }
    }

    #[test]
    fn a_status_is_as_described() {
        let saying = SayingStatus { wish: Wish::Freeze, by: "ann".into(), since: Unix(1), until: None };
        let mut full = Status {
            certificates: vec![CertificateStatus { name: "a".into(), expires_at: Unix(1), days_left: -3 }],
            overrides: vec![OverrideStatus {
                room: "fair".into(),
                subject: Subject::Freeze,
                value: saying.clone(),
                before: Some(saying),
                revision: 3,
            }],
            ..status(Stage::Serving)
        };
        full.configuration.last_reload =
            Some(ReloadStatus { at: Unix(1), result: "applied", details: vec!["x".into()] });
        let schemas: Value = serde_json::from_str(SCHEMAS).unwrap();
        let shown = serde_json::to_value(full).unwrap();
        check(&schemas, &schemas["Status"], &shown, "status");
    }
}
