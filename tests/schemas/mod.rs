//! The schemas of JSON files in `tools/schema`.

use std::path::Path;

use serde_json::Value;

fn read(name: &str) -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tools/schema").join(format!("{name}.schema.json"));
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

/// Fails if the value does not fit the schema of that name.
pub fn assert_fits(value: &Value, name: &str) {
    let mut found = Vec::new();
    misfits(value, &read(name), name, &mut found);
    assert!(found.is_empty(), "{found:#?}");
}

/// As much of JSON Schema as our schemas use; gives the places that do not fit.
fn misfits(value: &Value, schema: &Value, at: &str, found: &mut Vec<String>) {
    if let Some(file) = schema["$ref"].as_str() {
        return misfits(value, &read(file.trim_end_matches(".schema.json")), at, found);
    }
    if let Some(schemas) = schema["anyOf"].as_array() {
        let of_each = schemas.iter().map(|schema| {
            let mut found = Vec::new();
            misfits(value, schema, at, &mut found);
            found
        });
        found.extend(of_each.min_by_key(Vec::len).unwrap_or_default());
        return;
    }
    let types = match &schema["type"] {
        Value::String(name) => vec![name.as_str()],
        Value::Array(names) => names.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    };
    let is = |name: &str| match name {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        "string" => value.is_string(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        other => panic!("the schema at {at} has the type {other}"),
    };
    if !types.is_empty() && !types.into_iter().any(is) {
        found.push(format!("{at}: {value} is not {}", schema["type"]));
    }
    if let Some(known) = schema["enum"].as_array().filter(|known| !known.contains(value)) {
        found.push(format!("{at}: {value} is none of {known:?}"));
    }
    if schema["minimum"].as_f64().zip(value.as_f64()).is_some_and(|(least, value)| value < least) {
        found.push(format!("{at}: {value} is too small"));
    }
    if let Some(items) = value.as_array() {
        let count = items.len() as u64;
        let (least, most) = (schema["minItems"].as_u64(), schema["maxItems"].as_u64());
        if least.is_some_and(|least| count < least) || most.is_some_and(|most| count > most) {
            found.push(format!("{at}: {count} items"));
        }
        items.iter().enumerate().for_each(|(i, item)| misfits(item, &schema["items"], &format!("{at}/{i}"), found));
    }
    let Some(map) = value.as_object() else { return };
    for key in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        if !map.contains_key(key) {
            found.push(format!("{at}: {key} is missing"));
        }
    }
    for (key, item) in map {
        let (known, others) = (&schema["properties"][key], &schema["additionalProperties"]);
        if !known.is_null() || others.is_object() {
            misfits(item, if known.is_null() { others } else { known }, &format!("{at}/{key}"), found);
        } else if others == &Value::Bool(false) {
            found.push(format!("{at}: {key} is not known"));
        }
    }
}
