//! Every setting as a page of Markdown, made of the JSON Schema that editors read. An entry is two lines in a terminal and a list on the
//! web: what may be written and what holds otherwise, then what it means.

use std::collections::BTreeMap;

use serde_json::Map;
use serde_json::Value;

use crate::config::schema::schema_with_keys;

const HEAD: &str = "# Settings

Every setting of `tollgate.yaml`, as `tollgate schema --settings` prints it. [tollgate.schema.json](tollgate.schema.json) says the same to
editors; `tollgate check-config` says what is wrong with a file, and where. Unknown settings are refused. Relative paths are relative to the
folder of the file. `[]` stands for each entry of a list, `<name>` for a name of one's own. A changed file is taken up while Tollgate runs,
but for settings that need a restart. [quickstart/tollgate.yaml](quickstart/tollgate.yaml) is a file to begin with.
";
const WIDTH: usize = 140;
const REFERENCE: &str = "#/definitions/";
const DEFAULT: &str = "Default: ";
/// The entries of `keys_file`, which is a file of its own.
const KEY: &str = "KeyFile";

/// The reference.
pub fn settings() -> String {
    let schema = schema_with_keys();
    let nothing = Map::new();
    let shapes = schema.get("definitions").and_then(Value::as_object).unwrap_or(&nothing);
    let mut page = Page { shapes, shared: shared(&schema, shapes), text: HEAD.to_owned() };
    let (sections, alone): (Vec<_>, Vec<_>) = properties(&schema).partition(|(_, node)| page.inner(node).is_some());
    page.heading("##", "Single settings");
    for (name, node) in alone {
        page.entry(name, node, is_required(&schema, name));
    }
    for (name, node) in sections {
        page.heading("##", &format!("`{name}`"));
        page.entry(name, node, is_required(&schema, name));
    }
    page.heading("##", "Entries of the file `keys_file`");
    if let Some(key) = shapes.get(KEY) {
        page.entries("[].", key);
    }
    page.heading("##", "Shapes that several settings have");
    for (name, heading) in page.shared.clone() {
        page.shape(&name, &heading);
    }
    page.text.trim_end().to_owned() + "\n"
}

struct Page<'s> {
    shapes: &'s Map<String, Value>,
    /// Told at the end: by name of the definition, its heading.
    shared: BTreeMap<String, String>,
    text: String,
}

impl<'s> Page<'s> {
    fn heading(&mut self, depth: &str, text: &str) {
        let before = if self.text.ends_with("\n\n") { "" } else { "\n" };
        self.text.push_str(&format!("{before}{depth} {text}\n\n"));
    }

    /// A setting, and what stands inside of it.
    fn entry(&mut self, path: &str, node: &'s Value, is_required: bool) {
        let (meaning, default) = parted(description(node));
        let kind = self.kind(node);
        let otherwise = match default {
            Some(default) => format!("; default: {default}"),
            None if is_required => "; required".to_owned(),
            None => String::new(),
        };
        self.paragraph("- ", "  ", &format!("`{path}` ({kind}{otherwise})"));
        self.paragraph("  ", "  ", &meaning);
        let (name, shape) = self.follow(node.get("items").unwrap_or(node));
        if name.is_none_or(|name| !self.shared.contains_key(name)) {
            self.choices("  ", shape);
        }
        if let Some((within, shape)) = self.inner(node) {
            self.entries(&format!("{path}{within}"), shape);
        }
    }

    fn entries(&mut self, path: &str, shape: &'s Value) {
        for (name, node) in properties(shape) {
            self.entry(&format!("{path}{name}"), node, is_required(shape, name));
        }
    }

    /// What several settings have.
    fn shape(&mut self, name: &str, heading: &str) {
        let Some(shape) = self.shapes.get(name) else { return };
        self.heading("###", heading);
        self.paragraph("", "", description(shape));
        self.text.push('\n');
        self.choices("", shape);
        self.entries("", shape);
        for way in shape.get("anyOf").and_then(Value::as_array).into_iter().flatten() {
            self.entries("", self.follow(way).1);
        }
    }

    /// The values of a closed list that are explained.
    fn choices(&mut self, indent: &str, shape: &Value) {
        for (value, meaning) in choices(shape) {
            if let Some(meaning) = meaning {
                self.paragraph(&format!("{indent}- "), &format!("{indent}  "), &format!("`{value}`: {meaning}"));
            }
        }
    }

    /// A text whose lines begin so, the first one and the others.
    fn paragraph(&mut self, first: &str, others: &str, text: &str) {
        let mut line = first.to_owned();
        let mut is_begun = false;
        for word in unbroken(text) {
            if is_begun && line.chars().count() + 1 + word.chars().count() > WIDTH {
                self.text.push_str(&format!("{line}\n"));
                line = others.to_owned();
            } else if is_begun {
                line.push(' ');
            }
            line.push_str(word);
            is_begun = true;
        }
        self.text.push_str(&format!("{line}\n"));
    }

    /// What may be written.
    fn kind(&self, node: &'s Value) -> String {
        let (name, shape) = self.follow(node);
        if let Some(heading) = name.and_then(|name| self.shared.get(name)) {
            return format!("[{heading}](#{})", heading.replace(' ', "-"));
        }
        let choices = choices(shape);
        if !choices.is_empty() {
            let values: Vec<String> = choices.iter().map(|(value, _)| format!("`{value}`")).collect();
            return format!("one of {}", values.join(", "));
        }
        if let Some(ways) = shape.get("anyOf").and_then(Value::as_array) {
            return ways.iter().map(|way| self.kind(way)).collect::<Vec<_>>().join(" or ");
        }
        match shape.get("type").and_then(Value::as_str) {
            Some("array") => format!("list, each {}", shape.get("items").map(|items| self.kind(items)).unwrap_or_default()),
            Some("object") => match shape.get("additionalProperties").filter(|values| values.is_object()) {
                Some(values) => format!("mapping of names, each to {}", self.kind(values)),
                None => "mapping".to_owned(),
            },
            Some("integer") => format!("whole number{}", bounds(shape)),
            Some("number") => format!("number{}", bounds(shape)),
            Some("boolean") => "`true` or `false`".to_owned(),
            Some(_) | None => "text".to_owned(),
        }
    }

    /// The settings inside of one, and how their paths go on; none where they are told at the end.
    fn inner(&self, node: &'s Value) -> Option<(&'static str, &'s Value)> {
        let (name, shape) = self.follow(node);
        if name.is_some_and(|name| self.shared.contains_key(name)) {
            return None;
        }
        if properties(shape).next().is_some() {
            return Some((".", shape));
        }
        let (within, items) = match (shape.get("items"), shape.get("additionalProperties")) {
            (Some(items), _) => ("[].", items),
            (None, Some(values)) => (".<name>.", values),
            (None, None) => return None,
        };
        self.inner(items).map(|(_, shape)| (within, shape))
    }

    /// The shape that a reference names.
    fn follow(&self, node: &'s Value) -> (Option<&'s str>, &'s Value) {
        let reference = node.get("$ref").or_else(|| node.pointer("/allOf/0/$ref")).and_then(Value::as_str);
        let name = reference.and_then(|reference| reference.strip_prefix(REFERENCE));
        match name.and_then(|name| self.shapes.get_key_value(name)) {
            Some((name, shape)) => (Some(name), shape),
            None => (None, node),
        }
    }
}

/// What more than one setting has, or what is a text in a form of its own.
fn shared(schema: &Value, shapes: &Map<String, Value>) -> BTreeMap<String, String> {
    let written = schema.to_string();
    let is_shared = |(name, shape): &(&String, &Value)| {
        let is_scalar = properties(shape).next().is_none() && choices(shape).is_empty();
        is_scalar || written.matches(&format!("\"{REFERENCE}{name}\"")).count() > 1
    };
    shapes.iter().filter(is_shared).map(|(name, _)| (name.clone(), words(name))).collect()
}

/// `GuardLimitFile`: guard limit.
fn words(name: &str) -> String {
    let bare = ["File", "Place", "s"].iter().fold(name, |name, end| name.strip_suffix(end).unwrap_or(name));
    let mut text = String::new();
    for character in bare.chars() {
        if character.is_ascii_uppercase() && !text.is_empty() {
            text.push(' ');
        }
        text.push(character.to_ascii_lowercase());
    }
    text
}

fn properties(shape: &Value) -> impl Iterator<Item = (&str, &Value)> {
    shape.get("properties").and_then(Value::as_object).into_iter().flatten().map(|(name, node)| (name.as_str(), node))
}

fn is_required(shape: &Value, name: &str) -> bool {
    shape.get("required").and_then(Value::as_array).is_some_and(|names| names.iter().any(|required| required == name))
}

/// The values of a closed list, each with what it means where that is said.
fn choices(shape: &Value) -> Vec<(&str, Option<&str>)> {
    let mut found = Vec::new();
    let ways = shape.get("oneOf").and_then(Value::as_array);
    for node in std::iter::once(shape).chain(ways.into_iter().flatten()) {
        let meaning = node.get("description").and_then(Value::as_str).filter(|_| node.get("const").is_some());
        let values = node.get("enum").and_then(Value::as_array).into_iter().flatten().chain(node.get("const"));
        found.extend(values.filter_map(Value::as_str).map(|value| (value, meaning)));
    }
    found
}

fn bounds(shape: &Value) -> String {
    match (shape.get("minimum"), shape.get("maximum")) {
        (Some(least), Some(most)) => format!(", {least} to {most}"),
        (Some(least), None) => format!(", at least {least}"),
        (None, Some(most)) => format!(", at most {most}"),
        (None, None) => String::new(),
    }
}

fn description(node: &Value) -> &str {
    node.get("description").and_then(Value::as_str).unwrap_or_default()
}

/// What a description says, and what holds where the setting is absent.
fn parted(description: &str) -> (String, Option<String>) {
    let description = description.replace('\n', " ");
    let Some((before, rest)) = description.split_once(DEFAULT) else { return (description, None) };
    let (default, after) = rest.split_once(". ").unwrap_or((rest.trim_end_matches('.'), ""));
    ([before.trim(), after.trim()].join(" ").trim().to_owned(), Some(default.to_owned()))
}

/// The words of a text; what stands in backticks is one.
fn unbroken(text: &str) -> Vec<&str> {
    let mut is_code = false;
    text.split(|character: char| {
        is_code ^= character == '`';
        character.is_whitespace() && !is_code
    })
    .filter(|word| !word.is_empty())
    .collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_reference_is_that_of_the_schema() {
        let reference = include_str!("../../envoy/settings.md");
        assert_eq!(reference, settings(), "write it anew: tollgate schema --settings > envoy/settings.md");
    }

    /// Every setting of every shape: where it stands, the setting, whether it must be given.
    fn every_setting(schema: &Value) -> Vec<(String, Value, bool)> {
        let shapes = schema["definitions"].as_object().unwrap().iter().map(|(name, shape)| (name.as_str(), shape));
        let all = shapes.chain([("file", schema)]).flat_map(|(of, shape)| {
            properties(shape).map(move |(name, node)| (format!("{of}.{name}"), node.clone(), is_required(shape, name)))
        });
        all.collect()
    }

    #[test]
    fn every_setting_says_what_it_is_and_what_holds_without_it() {
        let schema = schema_with_keys();
        let settings = every_setting(&schema);
        assert!(settings.len() > 200, "{}", settings.len());
        let mut poor = Vec::new();
        for (place, node, is_required) in settings {
            let (meaning, default) = parted(description(&node));
            let is_whole = ['.', ')'].iter().any(|end| description(&node).ends_with(*end)) && meaning.len() >= 10;
            // Mappings and lists say inside what holds without them.
            let named = node.pointer("/allOf/0/$ref").and_then(|name| schema.pointer(name.as_str()?.strip_prefix('#')?));
            let is_many = ["object", "array"].iter().any(|kind| named.unwrap_or(&node)["type"] == *kind);
            let needs_default = !is_many && !is_required;
            if !is_whole || (needs_default && default.is_none()) || (is_required && default.is_some()) {
                poor.push(format!("{place}: {}", description(&node)));
            }
        }
        assert!(poor.is_empty(), "{} settings:\n{}", poor.len(), poor.join("\n"));
        for (name, shape) in schema["definitions"].as_object().unwrap() {
            let explained = choices(shape).iter().filter(|(_, meaning)| meaning.is_some()).count();
            assert!(explained == 0 || explained == choices(shape).len(), "{name}: some of its values are not explained");
        }
    }

    #[test]
    fn links_lead_somewhere_and_lines_are_short() {
        let page = settings();
        let headings: Vec<String> = page
            .lines()
            .filter_map(|line| line.strip_prefix("## ").or_else(|| line.strip_prefix("### ")))
            .map(|heading| heading.replace('`', "").replace(' ', "-").to_lowercase())
            .collect();
        assert_eq!(headings.iter().collect::<BTreeSet<_>>().len(), headings.len(), "{headings:?}");
        for link in page.split("](#").skip(1) {
            let anchor = link.split(')').next().unwrap().to_owned();
            assert!(headings.contains(&anchor), "no {anchor}");
        }
        let long: Vec<&str> = page.lines().filter(|line| line.chars().count() > WIDTH).collect();
        assert!(long.is_empty(), "{long:#?}");
    }

    #[test]
    fn a_default_is_parted_from_what_is_said() {
        let cases = [
            ("A. Default: `b.c`, d. E.", "A. E.", Some("`b.c`, d")),
            ("A. Default: `b`.", "A.", Some("`b`")),
            ("Default: b; c.", "", Some("b; c")),
            ("A.", "A.", None),
        ];
        for (text, meaning, default) in cases {
            assert_eq!(parted(text), (meaning.to_owned(), default.map(str::to_owned)), "{text}");
        }
    }
}
