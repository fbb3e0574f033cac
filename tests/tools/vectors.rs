//! Runs the JSON web signature, key and crypto vectors of Project Wycheproof through the wrapper's signature layer.
//!
//! `cargo run --example vectors -- DIR` (or `make vectors DIR=…`). Every case must end as its file says, or as the list of exceptions
//! below says, and every exception must be needed; otherwise the exit code is 1.
//!
//! `json_web_encryption_test.json` and the `jwe` cases of the crypto file are out of scope: encrypted tokens are not offered, and a
//! five-part token is refused by its form before any of them could matter (the unit tests show that).

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::indexing_slicing,
    reason = "a tool for people, over data that it checks itself"
)]

use std::process::ExitCode;

use serde::Deserialize;
use serde_json::Value;
use tollgate::jose::KeySet;
use tollgate::jose::algorithm;
use tollgate::jose::verify_signature;

const FILES: [&str; 3] = ["json_web_signature_test.json", "json_web_key_test.json", "json_web_crypto_test.json"];

/// Cases that are called invalid although they are byte for byte the text of another case that is called valid: the padding that
/// their names speak of is not in the file.
const TWINS: [(&str, u32, u32); 2] = [(FILES[0], 367, 357), (FILES[0], 370, 357)];

/// Cases that are called valid and are refused on purpose.
const EXCEPTIONS: [(&str, &[u32], &str); 4] = [
    (FILES[0], &[320, 321, 322, 323, 325, 326, 327, 328], "PS384 and PS512 are not offered"),
    (FILES[0], &[346, 350], "PS384 is not offered (and the key says PS256)"),
    (FILES[0], &[347, 351], "P-521 is not offered (and the key names its algorithm ES521)"),
    (FILES[0], &[372, 373], "a character outside base64url stands in the signed text; two spellings must never both verify"),
];

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct File {
    number_of_tests: usize,
    test_groups: Vec<Group>,
}

#[derive(Deserialize)]
struct Group {
    public: Option<Value>,
    private: Value,
    tests: Vec<Case>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Case {
    tc_id: u32,
    comment: String,
    jws: Option<Value>,
    result: String,
}

#[derive(Default)]
struct Counts {
    accepted: usize,
    refused: usize,
    excepted: usize,
    out_of_scope: usize,
    unexpected: usize,
}

fn main() -> ExitCode {
    let Some(folder) = std::env::args_os().nth(1) else {
        eprintln!("name the folder that holds {}", FILES.join(", "));
        return ExitCode::from(2);
    };
    let mut failed = false;
    for name in FILES {
        let path = std::path::Path::new(&folder).join(name);
        let file: File = match std::fs::read(&path).map_err(|error| error.to_string()).and_then(|text| {
            let file = serde_json::from_slice(&text);
            file.map_err(|error| error.to_string())
        }) {
            Ok(file) => file,
            Err(error) => {
                eprintln!("{}: {error}", path.display());
                return ExitCode::from(2);
            }
        };
        let counts = run(name, &file);
        let total = counts.accepted + counts.refused + counts.excepted + counts.out_of_scope + counts.unexpected;
        println!(
            "{name}: {total} cases: {} accepted, {} refused, {} excepted, {} out of scope, {} unexpected",
            counts.accepted, counts.refused, counts.excepted, counts.out_of_scope, counts.unexpected
        );
        if total != file.number_of_tests {
            println!("{name}: the file announces {} cases", file.number_of_tests);
        }
        failed |= counts.unexpected > 0 || total != file.number_of_tests;
    }
    if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

fn run(name: &str, file: &File) -> Counts {
    let mut counts = Counts::default();
    for group in &file.test_groups {
        let keys = read_keys(group.public.as_ref().unwrap_or(&group.private));
        for case in &group.tests {
            let Some(token) = &case.jws else {
                counts.out_of_scope += 1;
                continue;
            };
            // The JSON serialisation is shown as its text.
            let token = token.as_str().map_or_else(|| token.to_string(), str::to_owned);
            let verified = keys.as_ref().is_ok_and(|keys| verify_signature(&token, keys, &algorithm::ALL).is_ok());
            let exception = EXCEPTIONS.iter().any(|(file, cases, _why)| *file == name && cases.contains(&case.tc_id));
            let twin = TWINS.iter().any(|(file, case_id, other)| {
                let is_same = |other_case: &Case| other_case.tc_id == *other && other_case.result == "valid" && other_case.jws == case.jws;
                *file == name && *case_id == case.tc_id && group.tests.iter().any(is_same)
            });
            match (case.result == "valid", verified, exception || twin) {
                (true, true, false) => counts.accepted += 1,
                (false, false, false) => counts.refused += 1,
                (true, false, true) => counts.excepted += 1,
                (false, true, true) if twin => counts.excepted += 1,
                _ => {
                    counts.unexpected += 1;
                    println!(
                        "{name} {} {}: said to be {}, verified: {verified}, exception: {exception}",
                        case.tc_id, case.comment, case.result
                    );
                }
            }
        }
    }
    counts
}

/// The group's keys through the very reader that reads an issuer's.
fn read_keys(keys: &Value) -> Result<KeySet, String> {
    let set = if keys.get("keys").is_some() { keys.clone() } else { serde_json::json!({ "keys": [keys] }) };
    let symmetric = set["keys"].as_array().is_some_and(|keys| keys.iter().any(|key| key["kty"] == "oct"));
    let read = if symmetric { KeySet::from_secret_jwks } else { KeySet::from_jwks };
    read(set.to_string().as_bytes(), &algorithm::ALL).map_err(|error| error.to_string())
}
