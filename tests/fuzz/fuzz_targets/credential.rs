//! Any header lines are one credential, none, or a denial; and a key text is read without a panic.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use tollgate::check::find_route::find_route;
use tollgate::check::take_credential::take_credential;
use tollgate::config::outside::Outside;
use tollgate::config::compile_text;
use tollgate::model::key_text::read_key;
use tollgate::model::request::Headers;
use tollgate::model::request::Host;
use tollgate::model::request::Method;
use tollgate::model::request::Path;
use tollgate::model::request::Request;
use tollgate::model::rules::Rules;

const CONFIG: &str = include_str!("credential.yaml");

static RULES: LazyLock<Rules> = LazyLock::new(|| compile_text(CONFIG, &Outside::default()).expect("the config of this target is good").1);

fuzz_target!(|bytes: &[u8]| {
    if let Ok(text) = std::str::from_utf8(bytes) {
        let _ = read_key("tg", text);
    }
    let mut lines = bytes.split(|byte| *byte == b'\n');
    let query = lines.next().and_then(|line| std::str::from_utf8(line).ok());
    let names = ["authorization", "x-api-key", "x-authorization", "cookie"];
    let entries: Vec<(&[u8], &[u8])> = lines
        .filter_map(|line| line.split_first())
        .map(|(which, value)| (names[usize::from(*which) % names.len()].as_bytes(), value))
        .collect();
    for path in ["/a", "/b", "/c"] {
        let request = Request {
            method: Method::Get,
            host: Host::parse(b"example.com").expect("a host"),
            path: Path::parse(path.as_bytes()).expect("a path"),
            query,
            headers: Headers::new(entries.clone()),
            peer_address: None,
            principal: None,
            chosen_route: None,
        };
        let found = match find_route(&request, &RULES) {
            Ok(found) => found,
            // An upgrade, which no route here opts into.
            Err(_) => continue,
        };
        let _ = take_credential(&request, &found, &RULES);
    }
});
