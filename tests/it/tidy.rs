//! House rules that the compiler cannot hold: the arrows between rooms, grouped imports, unfinished marks, stray paths.
//!
//! The arrows are the table in the head of `src/lib.rs`. A finding names file, line and the rule.

use std::path::Path;
use std::path::PathBuf;

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
    let mut found = Vec::new();
    let mut open = vec![root.join("src"), root.join("tests")];
    while let Some(folder) = open.pop() {
        for entry in std::fs::read_dir(&folder).expect("a readable folder").flatten() {
            let path = entry.path();
            if path.is_dir() {
                open.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}
