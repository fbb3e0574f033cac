//! What all pages share: the head, the style sheet and its digest.

use std::sync::LazyLock;

use askama::Template;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::secrets::sha256;

const STYLE: &str = "\
:root{color-scheme:light dark;--page:#f4f5f7;--card:#fff;--text:#1a1d21;--soft:#565d66;--line:#7b838d;--mark:#1650b8;--on-mark:#fff;\
--bad:#a3161b;--bad-back:#fdeceb}\
@media(prefers-color-scheme:dark){:root{--page:#14171a;--card:#1e2226;--text:#eceef0;--soft:#aab2bb;--line:#7d8690;--mark:#8ab4ff;\
--on-mark:#0b1526;--bad:#ffb3ae;--bad-back:#3a1d1d}}\
*{box-sizing:border-box}\
body{margin:0;min-height:100vh;background:var(--page);color:var(--text);font:1rem/1.5 system-ui,sans-serif;display:flex;\
align-items:center;justify-content:center;padding:1.5rem}\
main{width:100%;max-width:27rem;background:var(--card);padding:2rem;border-radius:.75rem;box-shadow:0 1px 3px rgb(0 0 0/.2);\
overflow-wrap:anywhere}\
main.wide{max-width:44rem}\
.site{margin:0 0 .25rem;color:var(--soft);font-weight:600}\
h1{font-size:1.5rem;line-height:1.25;margin:0 0 1rem}h2{font-size:1.1rem;margin:2rem 0 .5rem}\
label{display:block;margin:1rem 0 .25rem;font-weight:600}\
.hint,.note{color:var(--soft);font-size:.875rem}.hint{margin:.25rem 0 0}\
input{width:100%;padding:.625rem .75rem;border:1px solid var(--line);border-radius:.375rem;background:var(--card);color:inherit;font:inherit}\
.done{border-left:4px solid var(--mark);padding:.75rem 1rem;margin:0 0 1rem}\
.wrong{margin:.25rem 0 0;color:var(--bad);font-size:.875rem;font-weight:600}\
[aria-invalid]{border:2px solid var(--bad)}\
label .note{font-weight:400}\
button,.button{display:block;width:100%;margin-top:1.25rem;padding:.625rem 1rem;border:1px solid var(--mark);border-radius:.375rem;\
background:var(--mark);color:var(--on-mark);font:inherit;font-weight:600;text-align:center;text-decoration:none;cursor:pointer}\
.quiet,.button{background:transparent;color:var(--mark)}\
.choice{display:flex;gap:.75rem}\
.button{margin-top:.75rem}\
a{color:var(--mark)}\
:focus-visible{outline:3px solid var(--mark);outline-offset:2px}\
.complaint{background:var(--bad-back);color:var(--bad);border-left:4px solid var(--bad);padding:.75rem 1rem;margin:0 0 1rem}\
ul{padding-left:1.25rem}.list{list-style:none;padding:0;margin:0}\
.list li{display:flex;gap:1rem;align-items:center;justify-content:space-between;padding:.625rem 0;border-top:1px solid var(--line)}\
.list button{width:auto;margin:0;padding:.25rem .75rem;white-space:nowrap}\
code{font-size:.875em}.secret{display:block;padding:.75rem;border:1px dashed var(--line);border-radius:.375rem;user-select:all}\
dl{display:grid;grid-template-columns:auto 1fr;gap:.25rem 1rem;margin:0}dt{color:var(--soft)}dd{margin:0}\
@media(max-width:30rem){body{padding:.75rem}main{padding:1.25rem}}";

static DIGEST: LazyLock<String> = LazyLock::new(|| STANDARD.encode(sha256(STYLE.as_bytes())));

#[derive(Template)]
#[template(
    ext = "html",
    source = r#"<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="robots" content="noindex">
<meta name="referrer" content="no-referrer">
<title>{{ title }} &middot; {{ site }}</title>
<style>{{ style|safe }}</style>
</head>
<body>
<main{% if is_wide %} class="wide"{% endif %}>
<p class="site">{{ site }}</p>
{{ body|safe }}
</main>
</body>
</html>
"#
)]
struct Frame<'a> {
    /// What people sign in to.
    site: &'a str,
    title: &'a str,
    style: &'a str,
    is_wide: bool,
    /// Written by another template, and escaped there.
    body: &'a str,
}

/// A whole page around this body.
pub(super) fn frame(site: &str, title: &str, body: &str) -> Option<String> {
    let is_wide = body.contains("class=\"list\"");
    Frame { site, title, style: STYLE, is_wide, body }.render().ok()
}

/// By what the policy knows the style sheet.
pub(super) fn style_digest() -> &'static str {
    &DIGEST
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The colours of a palette: `--name:#rgb`.
    fn colour(palette: &str, name: &str) -> [f64; 3] {
        let (_, after) = palette.split_once(&format!("--{name}:#")).unwrap();
        let digits: String = after.chars().take_while(char::is_ascii_hexdigit).collect();
        let pair = |index: usize| match digits.len() {
            3 => digits[index..=index].repeat(2),
            _ => digits[index * 2..index * 2 + 2].to_owned(),
        };
        [0, 1, 2].map(|index| f64::from(u8::from_str_radix(&pair(index), 16).unwrap()) / 255.0)
    }

    /// WCAG 2.2: relative luminance and contrast.
    fn contrast(one: [f64; 3], other: [f64; 3]) -> f64 {
        let linear = |part: f64| if part <= 0.04045 { part / 12.92 } else { ((part + 0.055) / 1.055).powf(2.4) };
        let luminance = |[red, green, blue]: [f64; 3]| 0.2126 * linear(red) + 0.7152 * linear(green) + 0.0722 * linear(blue);
        let (one, other) = (luminance(one), luminance(other));
        (one.max(other) + 0.05) / (one.min(other) + 0.05)
    }

    #[test]
    fn everything_can_be_read_by_day_and_by_night() {
        let (light, dark) = STYLE.split_once("prefers-color-scheme:dark").unwrap();
        for palette in [light, dark] {
            for (text, ground, least) in [
                ("text", "card", 7.0),
                ("soft", "card", 4.5),
                ("mark", "card", 4.5),
                ("on-mark", "mark", 4.5),
                ("bad", "bad-back", 4.5),
                ("bad", "card", 4.5),
                ("line", "card", 3.0),
            ] {
                let found = contrast(colour(palette, text), colour(palette, ground));
                assert!(found >= least, "--{text} on --{ground}: {found:.2}");
            }
        }
    }
}
