//! The JSON Schema of the config file, draft 7, which editors read.

use schemars::SchemaGenerator;
use schemars::generate::SchemaSettings;
use serde_json::Value;

use crate::config::file::ConfigFile;
use crate::config::file::identity::KeyFile;

/// The schema as pretty JSON with a line end.
pub fn config_schema() -> String {
    let schema = schema_by(SchemaSettings::draft07().into_generator());
    let mut text = serde_json::to_string_pretty(&schema).unwrap_or_default();
    text.push('\n');
    text
}

/// The same, with the entries of `keys_file` among the definitions.
pub(super) fn schema_with_keys() -> Value {
    let mut generator = SchemaSettings::draft07().into_generator();
    generator.subschema_for::<KeyFile>();
    schema_by(generator)
}

fn schema_by(generator: SchemaGenerator) -> Value {
    let mut schema = generator.into_root_schema_for::<ConfigFile>().to_value();
    without_nulls(&mut schema);
    schema
}

/// A key without a value is refused, so the schema must not offer `null` for what may be absent.
fn without_nulls(schema: &mut Value) {
    match schema {
        Value::Object(members) => {
            members.values_mut().for_each(without_nulls);
            if members.get("default").is_some_and(Value::is_null) {
                members.remove("default");
            }
            let one_type = members.get_mut("type").and_then(Value::as_array_mut).and_then(|types| {
                types.retain(|name| name != "null");
                if types.len() == 1 { types.pop() } else { None }
            });
            if let Some(only) = one_type {
                members.insert("type".to_owned(), only);
            }
            let only_choice = members.get_mut("anyOf").and_then(Value::as_array_mut).and_then(|choices| {
                choices.retain(|choice| choice.get("type").is_none_or(|name| name != "null"));
                if choices.len() == 1 { choices.pop() } else { None }
            });
            if let Some(only) = only_choice {
                members.remove("anyOf");
                // Draft 7 ignores what stands beside a reference, so the description needs the reference wrapped.
                members.insert("allOf".to_owned(), Value::Array(vec![only]));
            }
        }
        Value::Array(items) => items.iter_mut().for_each(without_nulls),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}
