//! House rules that the compiler cannot hold: the arrows between rooms, grouped imports, unfinished marks, stray paths, configs that
//! drift from their schema.
//!
//! A finding names file, line and the rule.

use std::collections::BTreeSet;
use std::path::Path;
use std::path::PathBuf;

use serde_json::Value;

/// A place, and what its text must not mention.
struct Rule {
    place: &'static str,
    except: &'static [&'static str],
    banned: &'static [&'static str],
    why: &'static str,
}

/// What holds for tests too.
const EVERYWHERE: &str = "src/";
const WIRE: &[&str] = &["tonic::", "envoy_types::", "prost::", "axum::", "hyper::"];
const ENGINES: &[&str] = &["store::embedded", "store::shared"];

/// Each room, and the rooms that it may use: those that use nothing first.
const ARROWS: &[(&str, &[&str])] = &[
    // `rules` alone: the keys that prove tokens are among what a reload may change.
    ("model", &["jose"]),
    ("outbound", &[]),
    ("clock", &["model"]),
    ("secrets", &["model", "store"]),
    ("jose", &["model", "secrets", "store"]),
    ("store", &["clock", "model", "secrets"]),
    ("usage", &["model", "store"]),
    ("config", &["jose", "model"]),
    ("stats", &["model", "store"]),
    // The corridor and its rooms know the shelf's contract, no concrete store, no door and no config.
    ("check", &["jose", "model", "secrets", "store", "usage"]),
    ("telemetry", &["check", "clock", "model"]),
    ("listen", &["model", "telemetry"]),
    ("recording", &["check", "jose", "model", "secrets", "telemetry"]),
    ("tasks", &["clock", "config", "jose", "model", "outbound", "secrets", "store", "usage"]),
    // The doors never meet.
    ("grpc", &["check", "clock", "listen", "model", "recording", "secrets", "stats", "telemetry"]),
    ("issuer", &["check", "clock", "jose", "listen", "model", "outbound", "secrets", "stats", "store"]),
    ("ops", &["listen", "model", "stats", "telemetry"]),
    (
        "app",
        &[
            "check",
            "clock",
            "config",
            "grpc",
            "issuer",
            "jose",
            "listen",
            "model",
            "ops",
            "recording",
            "secrets",
            "stats",
            "store",
            "tasks",
            "telemetry",
            "usage",
        ],
    ),
    ("cli", &["app", "check", "clock", "config", "grpc", "issuer", "jose", "model", "recording", "store", "telemetry"]),
];

const RULES: &[Rule] = &[
    Rule {
        place: "src/model/",
        except: &[],
        banned: &["tokio::", "async fn", "std::env"],
        why: "the model is pure: it knows no waiting and no surroundings",
    },
    Rule { place: "src/model/", except: &["src/model/rules.rs"], banned: &["crate::jose"], why: "the nouns stand below everything" },
    Rule {
        place: "src/check/",
        except: &["src/check/mod.rs", "src/check/find_facts.rs", "src/check/identify_caller.rs"],
        banned: &["async fn", ".await", "tokio::"],
        why: "a room is a plain function from data to verdict",
    },
    Rule { place: "src/check/", except: &[], banned: WIRE, why: "wire types stop at the doors" },
    Rule { place: "src/model/", except: &[], banned: WIRE, why: "wire types stop at the doors" },
    Rule { place: "src/store/", except: &[], banned: WIRE, why: "wire types stop at the doors" },
    Rule { place: "src/usage/", except: &[], banned: WIRE, why: "wire types stop at the doors" },
    Rule { place: "src/jose/", except: &[], banned: WIRE, why: "wire types stop at the doors" },
    Rule { place: "src/config/", except: &[], banned: WIRE, why: "wire types stop at the doors" },
    Rule { place: "src/check/", except: &[], banned: ENGINES, why: "the rooms know the shelf's contract, no concrete store" },
    Rule { place: "src/grpc/", except: &[], banned: ENGINES, why: "no door knows a concrete store" },
    Rule { place: "src/issuer/", except: &[], banned: ENGINES, why: "no door knows a concrete store" },
    Rule { place: "src/ops/", except: &[], banned: ENGINES, why: "no door knows a concrete store" },
    Rule {
        place: EVERYWHERE,
        except: &["src/usage/"],
        banned: &["unsafe {", "unsafe fn", "unsafe impl"],
        why: "only the ledger's room may hold unsafe code",
    },
    Rule { place: EVERYWHERE, except: &[], banned: &["use crate::{"], why: "one module per use, so that these arrows can be read" },
    Rule { place: EVERYWHERE, except: &[], banned: &["todo!", "unimplemented!", "FIXME", "TODO"], why: "nothing is left unfinished" },
    Rule { place: EVERYWHERE, except: &[], banned: &["#[ignore"], why: "no test is skipped" },
    Rule { place: "tests/", except: &["tests/it/tidy.rs"], banned: &["#[ignore"], why: "no test is skipped" },
];

#[test]
fn arrows_and_house_rules_hold() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut findings = Vec::new();
    for path in sources(root) {
        let (file, for_tests) = (below(root, &path), is_for_tests(&path));
        let text = std::fs::read_to_string(&path).expect("readable source");
        for rule in RULES {
            let is_elsewhere = !file.starts_with(rule.place) || rule.except.iter().any(|except| file.starts_with(except));
            if is_elsewhere || (for_tests && rule.place != EVERYWHERE) {
                continue;
            }
            for (number, line) in product_lines(&text) {
                for banned in rule.banned {
                    if line.contains(banned) {
                        findings.push(format!("{file}:{number}: `{banned}`: {}", rule.why));
                    }
                }
            }
        }
    }
    assert!(findings.is_empty(), "{} findings:\n{}", findings.len(), findings.join("\n"));
}

/// Nothing is used that the table lacks, and the table has nothing that is not used.
#[test]
fn every_room_uses_what_it_may() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let house = std::fs::read_to_string(root.join("src/lib.rs")).expect("the house");
    let rooms: BTreeSet<&str> = house.lines().filter_map(|line| line.strip_prefix("pub mod ")?.strip_suffix(';')).collect();
    assert_eq!(ARROWS.iter().map(|(room, _)| *room).collect::<BTreeSet<_>>(), rooms);
    let mut unused: BTreeSet<(&str, &str)> = ARROWS.iter().flat_map(|(room, uses)| uses.iter().map(|used| (*room, *used))).collect();
    let mut findings = Vec::new();
    for file in product(root) {
        let Some((room, uses)) = ARROWS.iter().find(|(room, _)| is_of(&file, room)) else { continue };
        let text = std::fs::read_to_string(root.join(&file)).expect("readable source");
        for (number, line) in product_lines(&text) {
            for rest in line.split("crate::").skip(1) {
                let used = rest.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_').next().unwrap_or_default();
                if let Some(known) = uses.iter().find(|known| **known == used) {
                    unused.remove(&(*room, *known));
                } else if rooms.contains(used) && used != *room {
                    findings.push(format!("{file}:{number}: `{room}` may not use `{used}`"));
                }
            }
        }
    }
    assert!(findings.is_empty(), "{} findings:\n{}", findings.len(), findings.join("\n"));
    assert!(unused.is_empty(), "arrows that nothing needs: {unused:?}");
}

fn is_of(file: &str, room: &str) -> bool {
    file.strip_prefix("src/").and_then(|rest| rest.strip_prefix(room)).is_some_and(|rest| rest.starts_with('/') || rest == ".rs")
}

#[test]
fn what_only_tests_have_is_told_from_the_product() {
    let text = "use a;\n// b\n#[cfg(test)]\nmod c;\nuse d;\n#[cfg(test)]\nfn e() {\n    f();\n}\nuse g;\n    #[cfg(test)]\n    h: u8,\n#[cfg(test)]\nmod tests {\n    use i;\n}\n";
    let lines: Vec<(usize, &str)> = product_lines(text).into_iter().collect();
    assert_eq!(lines, [(1, "use a;"), (5, "use d;"), (10, "use g;")]);
}

#[test]
fn every_source_file_is_compiled() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let dead: Vec<String> = sources(root)
        .into_iter()
        .filter(|file| file.starts_with(root.join("src")))
        .filter(|file| !is_declared(file))
        .map(|file| file.display().to_string())
        .collect();
    assert!(dead.is_empty(), "no `mod` declares: {dead:?}");
}

/// Configs that lie beside the code, those of the overlays among them, are held against the schema that is committed.
#[test]
fn every_config_fits_the_schema() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let schema = std::fs::read_to_string(root.join("envoy/tollgate.schema.json")).expect("the schema");
    let schema: Value = serde_json::from_str(&schema).expect("JSON");
    let mut files = files_below(&["benches", "envoy", "k8s"].map(|folder| root.join(folder)), "tollgate.yaml");
    assert!(files.iter().filter(|file| file.starts_with(root.join("k8s"))).count() >= 5, "{files:?}");
    files.push(root.join("tests/it/good_config/full.yaml"));
    for file in files {
        let text = std::fs::read_to_string(&file).expect("readable");
        let config: Value = serde_yaml::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        assert_eq!(misfits(&config, &schema, &schema, ""), Vec::<String>::new(), "{}", file.display());
        // A config that no overlay carries is judged by nobody else.
        let kustomization = file.with_file_name("kustomization.yaml");
        let is_carried =
            !file.starts_with(root.join("k8s")) || std::fs::read_to_string(kustomization).is_ok_and(|text| text.contains("tollgate.yaml"));
        assert!(is_carried, "{} is in no kustomization", file.display());
    }
    for (mistake, expected) in [
        ("{ routes: [{ path: /a }], lifecycle: { drain_for: 1s } }", ".lifecycle: there is no drain_for"),
        ("{ routes: [{ path: /a, auth: maybe }] }", ".routes[0].auth: maybe is none of what may stand here"),
        ("{ routes: [{ path: [] }] }", ".routes[0].path: this is no string"),
        ("{ routes: [{}] }", ".routes[0]: path is missing"),
        ("{ routes: [{ path: /a, cost: 0 }] }", ".routes[0].cost: 0 is out of bounds"),
        ("{ routes: [], tiers: { free: { grace: 5 } } }", ".tiers.free.grace: this is no string"),
        ("{ routes: [], listen: { check: { adress: a } } }", ".listen.check: it has none of the forms that it may have"),
    ] {
        let config: Value = serde_yaml::from_str(mistake).expect("YAML");
        assert!(
            misfits(&config, &schema, &schema, "").contains(&expected.to_owned()),
            "{mistake}: {:?}",
            misfits(&config, &schema, &schema, "")
        );
    }
}

/// What of a value does not fit a part of the schema, as far as our schema goes: every keyword that it uses but patterns.
fn misfits(value: &Value, shape: &Value, schema: &Value, place: &str) -> Vec<String> {
    let parts = |keyword: &str| shape[keyword].as_array().into_iter().flatten();
    let named = shape["$ref"].as_str().and_then(|name| schema.pointer(name.strip_prefix('#')?));
    let mut found: Vec<String> = named.into_iter().chain(parts("allOf")).flat_map(|part| misfits(value, part, schema, place)).collect();
    for keyword in ["anyOf", "oneOf"] {
        let mut ways = parts(keyword).peekable();
        let is_list = ways.peek().is_some_and(|way| way.get("enum").or(way.get("const")).is_some());
        if ways.peek().is_some() && !ways.any(|way| misfits(value, way, schema, place).is_empty()) {
            let wrong = if is_list {
                format!("{} is none of what may stand here", plain(value))
            } else {
                "it has none of the forms that it may have".to_owned()
            };
            found.push(format!("{place}: {wrong}"));
        }
    }
    let is_of_type = match shape["type"].as_str() {
        Some("object") => value.is_object(),
        Some("array") => value.is_array(),
        Some("string") => value.is_string(),
        Some("integer") => value.is_u64(),
        Some("number") => value.is_number(),
        Some("boolean") => value.is_boolean(),
        Some(other) => panic!("{place}: a type that this test does not know: {other}"),
        None => true,
    };
    if !is_of_type {
        found.push(format!("{place}: this is no {}", plain(&shape["type"])));
        return found;
    }
    let listed = shape["enum"].as_array().cloned().or_else(|| shape.get("const").map(|only| vec![only.clone()]));
    if listed.is_some_and(|listed| !listed.contains(value)) {
        found.push(format!("{place}: {} is none of what may stand here", plain(value)));
    }
    if let Some(number) = value.as_f64()
        && (shape["minimum"].as_f64().is_some_and(|least| number < least) || shape["maximum"].as_f64().is_some_and(|most| number > most))
    {
        found.push(format!("{place}: {number} is out of bounds"));
    }
    for (index, item) in value.as_array().into_iter().flatten().enumerate() {
        found.extend(misfits(item, &shape["items"], schema, &format!("{place}[{index}]")));
    }
    let members = value.as_object().into_iter().flatten();
    for (name, member) in members {
        match (shape["properties"].get(name), &shape["additionalProperties"]) {
            (Some(property), _) => found.extend(misfits(member, property, schema, &format!("{place}.{name}"))),
            (None, Value::Bool(false)) => found.push(format!("{place}: there is no {name}")),
            (None, others) => found.extend(misfits(member, others, schema, &format!("{place}.{name}"))),
        }
    }
    let missing = parts("required").filter_map(Value::as_str).filter(|name| value.get(name).is_none());
    found.extend(missing.map(|name| format!("{place}: {name} is missing")));
    found
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn is_declared(file: &Path) -> bool {
    matches!(file.file_stem().and_then(|stem| stem.to_str()), Some("main" | "lib")) || declaration(file).is_some()
}

/// The line that declares a module, and the one before it; of the house's own: none.
fn declaration(file: &Path) -> Option<(String, String)> {
    let (name, owner) = match file.file_stem()?.to_str()? {
        "main" | "lib" => return None,
        "mod" => (file.parent()?.file_name()?.to_str()?, file.parent()?.parent()?),
        stem => (stem, file.parent()?),
    };
    ["mod.rs", "lib.rs", "main.rs"].into_iter().find_map(|place| {
        let text = std::fs::read_to_string(owner.join(place)).ok()?;
        let lines: Vec<&str> = text.lines().map(str::trim).collect();
        let at = lines.iter().position(|line| {
            // `pub`, `pub(crate)`, `pub(in crate::issuer)`: whatever may stand before it.
            let (before, declaration) = line.split_at(line.find("mod ").unwrap_or(0));
            declaration == format!("mod {name};") && (before.is_empty() || before.starts_with("pub"))
        })?;
        Some((lines[at].to_owned(), at.checked_sub(1).map(|before| lines[before].to_owned()).unwrap_or_default()))
    })
}

/// Whether a file is compiled for tests alone: it is declared so, or a folder above it is.
fn is_for_tests(file: &Path) -> bool {
    let folders = file.ancestors().skip(1).map(|folder| folder.join("mod.rs")).filter(|owner| owner.exists() && owner != file);
    std::iter::once(file.to_owned()).chain(folders).any(|file| declaration(&file).is_some_and(|(_, before)| before == TEST_ONLY))
}

const TEST_ONLY: &str = "#[cfg(test)]";

/// Lines of the product: neither comments nor what is compiled for tests alone.
fn product_lines(text: &str) -> Vec<(usize, &str)> {
    let mut lines = text.lines().enumerate().map(|(index, line)| (index + 1, line));
    let mut found = Vec::new();
    while let Some((number, line)) = lines.next() {
        if line.trim() == TEST_ONLY {
            let item = lines.next().map(|(_, line)| line).unwrap_or_default();
            if item.ends_with('{') {
                let end = format!("{}}}", " ".repeat(item.len() - item.trim_start().len()));
                lines.by_ref().find(|(_, line)| *line == end);
            }
        } else if !line.trim_start().starts_with("//") {
            found.push((number, line));
        }
    }
    found
}

/// The files that are not for tests alone, by their names below the checkout.
fn product(root: &Path) -> Vec<String> {
    sources(root).into_iter().filter(|file| !is_for_tests(file)).map(|file| below(root, &file)).collect()
}

fn below(root: &Path, file: &Path) -> String {
    file.strip_prefix(root).expect("a file of the checkout").to_string_lossy().into_owned()
}

fn sources(root: &Path) -> Vec<PathBuf> {
    files_below(&[root.join("src"), root.join("tests")], ".rs")
}

/// The files in and below some folders whose names end so, in order.
fn files_below(folders: &[PathBuf], ending: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut open = folders.to_vec();
    while let Some(folder) = open.pop() {
        for entry in std::fs::read_dir(&folder).expect("a readable folder").flatten() {
            let path = entry.path();
            if path.is_dir() {
                open.push(path);
            } else if path.to_string_lossy().ends_with(ending) {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}
