//! Times and browsers as people say them.

use std::borrow::Cow;

use crate::model::time::Timestamp;

/// What of a browser's own words tells which one it is: many claim to be others too, so the first that fits is it.
const BROWSERS: [(&str, &str); 9] = [
    ("Edg", "Edge"),
    ("OPR/", "Opera"),
    ("SamsungBrowser/", "Samsung Internet"),
    ("Firefox/", "Firefox"),
    ("FxiOS/", "Firefox"),
    ("CriOS/", "Chrome"),
    ("Chrome/", "Chrome"),
    ("Safari/", "Safari"),
    ("curl/", "curl"),
];
const SYSTEMS: [(&str, &str); 7] = [
    ("iPhone", "iPhone"),
    ("iPad", "iPad"),
    ("Android", "Android"),
    ("Windows", "Windows"),
    ("CrOS", "ChromeOS"),
    ("Mac OS X", "macOS"),
    ("Linux", "Linux"),
];
/// What is shown of one that we do not know.
const UNKNOWN_CHARACTERS_MAX: usize = 40;

/// A short name of the browser that calls itself so.
pub(super) fn browser(agent: Option<&str>) -> String {
    let Some(agent) = agent.filter(|agent| !agent.is_empty()) else { return "A browser".to_owned() };
    let known = |list: &[(&str, &'static str)]| list.iter().find(|(mark, _)| agent.contains(mark)).map(|(_, name)| *name);
    match (known(&BROWSERS), known(&SYSTEMS)) {
        (Some(browser), Some(system)) => format!("{browser} on {system}"),
        (Some(name), None) | (None, Some(name)) => name.to_owned(),
        (None, None) if agent.chars().count() <= UNKNOWN_CHARACTERS_MAX => agent.to_owned(),
        (None, None) => format!("{}…", agent.chars().take(UNKNOWN_CHARACTERS_MAX).collect::<String>()),
    }
}

/// Such as `21 Nov 2026, 13:20 UTC`.
pub(super) fn time(instant: Timestamp) -> String {
    let seconds = i64::try_from(instant.unix_seconds()).unwrap_or(i64::MAX);
    jiff::Timestamp::from_second(seconds)
        .map_or_else(|_error| seconds.to_string(), |time| time.strftime("%-d %b %Y, %H:%M UTC").to_string())
}

/// How somebody signed in.
pub(super) fn method<'a>(method: &'a str, label: Option<&'a str>) -> Cow<'a, str> {
    match (method, label) {
        ("password", _) => Cow::Borrowed("with a password"),
        (method, label) => Cow::Owned(format!("with {}", label.unwrap_or(method))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn browsers_have_short_names() {
        for (agent, name) in [
            ("Mozilla/5.0 (X11; Linux x86_64; rv:130.0) Gecko/20100101 Firefox/130.0", "Firefox on Linux"),
            (
                "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.0.0 Safari/537.36 Edg/126",
                "Edge on Windows",
            ),
            (
                "Mozilla/5.0 (Linux; Android 10; K) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.0.0 Mobile Safari/537.36",
                "Chrome on Android",
            ),
            (
                "Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.5 Safari/604.1",
                "Safari on iPhone",
            ),
            ("curl/8.9.1", "curl"),
            ("my own", "my own"),
            ("", "A browser"),
        ] {
            assert_eq!(browser(Some(agent)), name, "{agent}");
        }
        assert_eq!(browser(Some(&"ä".repeat(41))), format!("{}…", "ä".repeat(40)));
        assert_eq!(browser(None), "A browser");
    }

    #[test]
    fn times_are_said_in_utc() {
        assert_eq!(time(Timestamp::from_unix_seconds(1_795_267_200)), "21 Nov 2026, 13:20 UTC");
        assert_eq!(time(Timestamp::from_unix_seconds(0)), "1 Jan 1970, 00:00 UTC");
    }
}
