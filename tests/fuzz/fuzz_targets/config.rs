//! Any text is a config or a list of complaints, and every complaint can be printed.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tollgate::config::outside::Outside;
use tollgate::config::compile_text;

fuzz_target!(|text: &str| {
    match compile_text(text, &Outside::default()) {
        Ok((_boot, rules, _warnings)) => assert!(!rules.routes.is_empty()),
        Err(complaints) => assert!(!complaints.is_empty() && complaints.iter().all(|complaint| !complaint.to_string().is_empty())),
    }
});
