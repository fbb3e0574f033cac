//! A canonical path is its own canonical form, has no dot segment, and no escape that could be a delimiter.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tollgate::model::request::Host;
use tollgate::model::request::Path;
use tollgate::model::request::split_target;
use tollgate::model::route::PathTemplate;

fuzz_target!(|bytes: &[u8]| {
    if let Ok((raw, _query)) = split_target(bytes)
        && let Ok(path) = Path::parse(raw)
    {
        let text = path.as_str();
        assert!(text.starts_with('/'));
        assert!(!text.split('/').any(|segment| segment == "." || segment == ".."));
        assert!(!text.contains("//") && !text.contains('\\') && !text.contains('?'));
        let lower = text.to_ascii_lowercase();
        assert!(!["%2f", "%5c", "%00", "%2e", "%25"].iter().any(|escape| lower.contains(escape)), "{text}");
        assert!(Path::parse(text.as_bytes()).is_ok_and(|again| again.as_str() == text));
    }
    if let Ok(host) = Host::parse(bytes) {
        assert!(!host.name.is_empty() && host.name.is_ascii());
        assert!(Host::parse(host.name.as_bytes()).is_ok_and(|again| again.name == host.name));
    }
    if let Ok(text) = std::str::from_utf8(bytes) {
        let _ = PathTemplate::parse(text);
    }
});
