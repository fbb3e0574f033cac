//! House rules that the compiler cannot hold: the arrows between rooms, grouped imports, unfinished marks, stray paths, configs that
//! drift from their schema.
//!
//! The arrows are the table in the head of `src/lib.rs`. A finding names file, line and the rule.

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

const WIRE: &[&str] = &["tonic::", "envoy_types::", "prost::", "axum::", "hyper::"];

const RULES: &[Rule] = &[
    Rule {
        place: "src/model/",
        except: &[],
        banned: &[
            "crate::check",
            "crate::store",
            "crate::grpc",
            "crate::issuer",
            "crate::ops",
            "crate::tasks",
            "crate::app",
            "crate::clock",
            "crate::telemetry",
            "crate::usage",
            "crate::cli",
            "tokio::",
            "async fn",
            "std::env",
        ],
        why: "the model is pure: it knows no other room, no clock, no waiting",
    },
    Rule {
        place: "src/model/",
        except: &["src/model/rules.rs"],
        banned: &["crate::jose", "crate::config"],
        why: "the nouns stand below everything",
    },
    Rule {
        place: "src/check/",
        except: &["src/check/mod.rs", "src/check/find_facts.rs", "src/check/identify_caller.rs", "src/check/tests/patience.rs"],
        banned: &[
            "async fn",
            ".await",
            "tokio::",
            "crate::config",
            "crate::grpc",
            "crate::issuer",
            "crate::ops",
            "crate::tasks",
            "crate::app",
            "crate::clock",
            "crate::telemetry",
            "crate::cli",
        ],
        why: "a room is a plain function from data to verdict",
    },
    Rule {
        place: "src/check/mod.rs",
        except: &[],
        banned: &["crate::config", "crate::grpc", "crate::issuer", "crate::ops", "crate::tasks", "crate::app", "crate::clock", "embedded"],
        why: "the corridor knows the rooms and the shelf's contract, no concrete store and no door",
    },
    Rule {
        place: "src/check/find_facts.rs",
        except: &[],
        banned: &["crate::config", "crate::grpc", "crate::issuer", "crate::ops", "crate::tasks", "crate::app", "crate::clock", "embedded"],
        why: "the corridor's look-ups know the shelf's contract, no concrete store and no door",
    },
    Rule { place: "src/check/", except: &[], banned: WIRE, why: "wire types stop at the doors" },
    Rule { place: "src/model/", except: &[], banned: WIRE, why: "wire types stop at the doors" },
    Rule { place: "src/store/", except: &[], banned: WIRE, why: "wire types stop at the doors" },
    Rule { place: "src/usage/", except: &[], banned: WIRE, why: "wire types stop at the doors" },
    Rule { place: "src/jose/", except: &[], banned: WIRE, why: "wire types stop at the doors" },
    Rule { place: "src/config/", except: &[], banned: WIRE, why: "wire types stop at the doors" },
    Rule {
        place: "src/store/",
        except: &["src/store/shared/tests/"],
        banned: &["crate::check", "crate::grpc", "crate::issuer", "crate::ops", "crate::config", "crate::app", "crate::tasks"],
        why: "the shelf knows only the nouns",
    },
    Rule {
        place: "src/usage/",
        except: &[],
        banned: &["crate::check", "crate::grpc", "crate::issuer", "crate::ops", "crate::config", "crate::app", "crate::tasks"],
        why: "the ledger knows only the nouns and the shelf's contract",
    },
    Rule {
        place: "src/jose/",
        except: &[],
        banned: &["crate::check::mod", "crate::grpc", "crate::issuer", "crate::ops", "crate::config", "crate::app", "crate::tasks"],
        why: "jose stands below the rooms",
    },
    Rule {
        place: "src/config/",
        except: &[],
        banned: &[
            "crate::check",
            "crate::store",
            "crate::grpc",
            "crate::issuer",
            "crate::ops",
            "crate::app",
            "crate::tasks",
            "crate::usage",
        ],
        why: "config compiles what people write; it runs nothing",
    },
    Rule {
        place: "src/grpc/",
        except: &[],
        banned: &["crate::issuer", "crate::ops", "crate::config", "crate::app", "crate::tasks", "store::embedded"],
        why: "the doors never meet, and no door knows a concrete store",
    },
    Rule {
        place: "src/issuer/",
        except: &[],
        banned: &["crate::grpc", "crate::ops", "crate::config", "crate::app", "crate::tasks", "store::embedded"],
        why: "the doors never meet, and no door knows a concrete store",
    },
    Rule {
        place: "src/ops/",
        except: &[],
        banned: &["crate::grpc", "crate::issuer", "crate::app", "crate::tasks", "store::embedded"],
        why: "the doors never meet, and no door knows a concrete store",
    },
    Rule {
        place: "src/",
        except: &["src/usage/"],
        banned: &["unsafe {", "unsafe fn", "unsafe impl"],
        why: "only the ledger's room may hold unsafe code",
    },
    Rule { place: "src/", except: &[], banned: &["use crate::{"], why: "one module per use, so that these arrows can be read" },
    Rule { place: "src/", except: &[], banned: &["todo!", "unimplemented!", "FIXME", "TODO"], why: "nothing is left unfinished" },
    Rule { place: "tests/", except: &["tests/it/tidy.rs"], banned: &["#[ignore"], why: "no test is skipped" },
];

#[test]
fn arrows_and_house_rules_hold() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut findings = Vec::new();
    for file in sources(root) {
        let name = file.strip_prefix(root).expect("a file of the checkout").to_string_lossy().into_owned();
        let text = std::fs::read_to_string(&file).expect("readable source");
        for rule in RULES {
            if !name.starts_with(rule.place) || rule.except.iter().any(|except| name.starts_with(except)) {
                continue;
            }
            for (number, line) in product_lines(&text) {
                for banned in rule.banned {
                    if line.contains(banned) {
                        findings.push(format!("{name}:{number}: `{banned}`: {}", rule.why));
                    }
                }
            }
        }
    }
    assert!(findings.is_empty(), "{} findings:\n{}", findings.len(), findings.join("\n"));
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
    let stem = file.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
    let folder = file.parent().expect("a folder");
    if matches!(stem, "main" | "lib") {
        return true;
    }
    let (name, owner) = if stem == "mod" {
        (folder.file_name().and_then(|name| name.to_str()).unwrap_or_default(), folder.parent().expect("a folder"))
    } else {
        (stem, folder)
    };
    let declared = |owner: PathBuf| {
        std::fs::read_to_string(owner).is_ok_and(|text| {
            text.lines().any(|line| {
                let line = line.trim();
                // `pub`, `pub(crate)`, `pub(in crate::issuer)`: whatever may stand before it.
                let (before, declaration) = line.split_at(line.find("mod ").unwrap_or(0));
                declaration == format!("mod {name};") && (before.is_empty() || before.starts_with("pub"))
            })
        })
    };
    declared(owner.join("mod.rs")) || declared(owner.join("lib.rs")) || declared(owner.join("main.rs"))
}

/// Lines of the product: neither comments nor what follows the test module's head.
fn product_lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.lines()
        .enumerate()
        .map(|(index, line)| (index + 1, line))
        .take_while(|(_, line)| line.trim() != "#[cfg(test)]")
        .filter(|(_, line)| !line.trim_start().starts_with("//"))
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
