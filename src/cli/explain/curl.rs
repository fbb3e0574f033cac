//! A curl command as people paste it, read as far as it says what is asked. Nothing is run, no file is read, and an option that is not
//! known here is named: it might have changed the request.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// What the command would send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Curl {
    pub(super) method: String,
    pub(super) url: String,
    pub(super) headers: Vec<(String, String)>,
}

/// Options that say nothing of what the gate sees, and take no value.
const SILENT: [&str; 40] = [
    "-s",
    "--silent",
    "-S",
    "--show-error",
    "-v",
    "--verbose",
    "-i",
    "--include",
    "--show-headers",
    "-k",
    "--insecure",
    "-L",
    "--location",
    "-f",
    "--fail",
    "--fail-with-body",
    "-N",
    "--no-buffer",
    "-g",
    "--globoff",
    "-#",
    "--progress-bar",
    "--no-progress-meter",
    "-0",
    "--http1.0",
    "--http1.1",
    "--http2",
    "--http2-prior-knowledge",
    "--http3",
    "--path-as-is",
    "-4",
    "--ipv4",
    "-6",
    "--ipv6",
    "-O",
    "--remote-name",
    "-q",
    "--tcp-nodelay",
    "--ssl-reqd",
    "-J",
];

/// The same with a value.
const SILENT_WITH_VALUE: [&str; 28] = [
    "-o",
    "--output",
    "-w",
    "--write-out",
    "-m",
    "--max-time",
    "--connect-timeout",
    "--retry",
    "--retry-delay",
    "--retry-max-time",
    "--cacert",
    "--capath",
    "-E",
    "--cert",
    "--key",
    "--cert-type",
    "--resolve",
    "--connect-to",
    "-x",
    "--proxy",
    "--unix-socket",
    "-D",
    "--dump-header",
    "--limit-rate",
    "--max-redirs",
    "-c",
    "--cookie-jar",
    "--stderr",
];

/// # Errors
/// In words for people; no value of the command is repeated, because it may be a credential.
pub(super) fn read(text: &str) -> Result<Curl, String> {
    let mut words = words(text)?.into_iter().peekable();
    if words.peek().is_some_and(|word| word == "curl" || word.ends_with("/curl")) {
        words.next();
    }
    let mut read = Reading::default();
    let mut only_urls = false;
    while let Some(word) = words.next() {
        if only_urls || !word.starts_with('-') || word == "-" {
            read.add_url(word)?;
        } else if word == "--" {
            only_urls = true;
        } else if word.starts_with("--") {
            let mut value = || words.next().ok_or_else(|| format!("{word} has no value"));
            read.option(&word, &mut value)?;
        } else {
            read.cluster(&word, &mut || words.next())?;
        }
    }
    read.finish()
}

#[derive(Default)]
struct Reading {
    method: Option<String>,
    url: Option<String>,
    headers: Vec<(String, String)>,
    /// Given by options of their own; a header of the same name comes first.
    implied: Vec<(&'static str, String)>,
    /// Names that are not to be sent.
    without: Vec<String>,
    data: Vec<String>,
    body: Body,
    head: bool,
    get: bool,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Body {
    #[default]
    None,
    Form,
    Json,
    Multipart,
    File,
}

impl Reading {
    /// `-sSL`, `-XPOST`, `-H 'a: b'`.
    fn cluster(&mut self, word: &str, next: &mut dyn FnMut() -> Option<String>) -> Result<(), String> {
        let mut rest = word.get(1..).unwrap_or_default();
        while let Some(letter) = rest.chars().next() {
            let option = format!("-{letter}");
            rest = rest.get(letter.len_utf8()..).unwrap_or_default();
            if SILENT.contains(&option.as_str()) || matches!(letter, 'G' | 'I') {
                self.option(&option, &mut || Err(format!("{option} takes no value")))?;
                continue;
            }
            let attached = (!rest.is_empty()).then(|| rest.to_owned());
            return self.option(&option, &mut || attached.clone().or_else(&mut *next).ok_or_else(|| format!("{option} has no value")));
        }
        Ok(())
    }

    fn option(&mut self, name: &str, value: &mut dyn FnMut() -> Result<String, String>) -> Result<(), String> {
        match name {
            "-X" | "--request" => self.method = Some(value()?),
            "-H" | "--header" => self.add_header(&value()?)?,
            "--url" => self.add_url(value()?)?,
            "-u" | "--user" => self.imply("authorization", format!("Basic {}", STANDARD.encode(value()?))),
            "--oauth2-bearer" => self.imply("authorization", format!("Bearer {}", value()?)),
            "-A" | "--user-agent" => self.imply("user-agent", value()?),
            "-e" | "--referer" => self.imply("referer", value()?),
            "-b" | "--cookie" => {
                let text = value()?;
                if !text.contains('=') {
                    return Err("-b names a file, which is not read; write the cookies out".to_owned());
                }
                self.imply("cookie", text);
            }
            "--compressed" => self.imply("accept-encoding", "deflate, gzip, br, zstd".to_owned()),
            "-d" | "--data" | "--data-raw" | "--data-binary" | "--data-ascii" | "--data-urlencode" => {
                let text = value()?;
                self.data.push(text);
                self.body = if self.body == Body::Json { Body::Json } else { Body::Form };
            }
            "--json" => {
                self.data.push(value()?);
                self.body = Body::Json;
            }
            "-F" | "--form" | "--form-string" => {
                value()?;
                self.body = Body::Multipart;
            }
            "-T" | "--upload-file" => {
                value()?;
                self.body = Body::File;
            }
            "-I" | "--head" => self.head = true,
            "-G" | "--get" => self.get = true,
            known if SILENT.contains(&known) => {}
            known if SILENT_WITH_VALUE.contains(&known) => {
                value()?;
            }
            unknown => return Err(format!("the curl option {unknown} is not known here; leave it out if it does not change the request")),
        }
        Ok(())
    }

    fn imply(&mut self, name: &'static str, value: String) {
        self.implied.retain(|(known, _)| *known != name);
        self.implied.push((name, value));
    }

    fn add_header(&mut self, text: &str) -> Result<(), String> {
        if text.starts_with('@') {
            return Err("-H names a file, which is not read; write the headers out".to_owned());
        }
        match (text.split_once(':'), text.strip_suffix(';')) {
            // curl leaves such a header out, also where it would send one by itself.
            (Some((name, value)), _) if value.trim().is_empty() => self.without.push(name.trim().to_ascii_lowercase()),
            (Some((name, value)), _) => self.headers.push((name.trim().to_owned(), value.trim().to_owned())),
            (None, Some(name)) => self.headers.push((name.trim().to_owned(), String::new())),
            (None, None) => return Err("a header of the curl command has no colon".to_owned()),
        }
        Ok(())
    }

    fn add_url(&mut self, text: String) -> Result<(), String> {
        match self.url.replace(text) {
            None => Ok(()),
            Some(_) => Err("the curl command names two URLs (or a value without quotes holds a blank)".to_owned()),
        }
    }

    fn finish(self) -> Result<Curl, String> {
        let Self { method, url, headers, implied, without, data, body, head, get } = self;
        let mut url = url.ok_or("the curl command names no URL")?;
        // No fragment is ever sent.
        url.truncate(url.find('#').unwrap_or(url.len()));
        if !url.contains("://") {
            url.insert_str(0, "http://");
        }
        if get && !data.is_empty() {
            let sign = if url.contains('?') { '&' } else { '?' };
            url.push(sign);
            url.push_str(&data.join("&"));
        }
        let body = if get { Body::None } else { body };
        let usual = match body {
            _ if head => "HEAD",
            Body::None => "GET",
            Body::Form | Body::Json | Body::Multipart => "POST",
            Body::File => "PUT",
        };
        let content_type = match body {
            Body::None | Body::File => None,
            Body::Form => Some("application/x-www-form-urlencoded"),
            Body::Json => Some("application/json"),
            Body::Multipart => Some("multipart/form-data"),
        };
        let accept = if body == Body::Json { "application/json" } else { "*/*" };
        let by_itself = [("accept", Some(accept)), ("content-type", content_type)];
        let by_itself = by_itself.into_iter().filter_map(|(name, value)| Some((name, value?.to_owned())));
        let is_given =
            |name: &str| headers.iter().any(|(given, _)| given.eq_ignore_ascii_case(name)) || without.iter().any(|gone| gone == name);
        let added: Vec<(String, String)> = implied
            .into_iter()
            .chain(by_itself)
            .filter(|(name, _)| !is_given(name))
            .map(|(name, value)| (name.to_owned(), value))
            .collect();
        Ok(Curl { method: method.unwrap_or_else(|| usual.to_owned()), url, headers: headers.into_iter().chain(added).collect() })
    }
}

/// A command line as a shell splits it: quotes, backslashes, `$'…'`, lines that go on. What a shell would compute is refused.
fn words(text: &str) -> Result<Vec<String>, String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut letters = text.trim().chars().peekable();
    while let Some(letter) = letters.next() {
        match letter {
            ' ' | '\t' | '\n' | '\r' => words.extend(word.take()),
            '\\' => match letters.next() {
                // The line goes on.
                Some('\n') => {}
                Some('\r') if letters.peek() == Some(&'\n') => {
                    letters.next();
                }
                Some(plain) => word.get_or_insert_default().push(plain),
                None => return Err("the command ends with a backslash".to_owned()),
            },
            '\'' => word.get_or_insert_default().push_str(&quoted(&mut letters, Quotes::Single)?),
            '"' => word.get_or_insert_default().push_str(&quoted(&mut letters, Quotes::Double)?),
            '$' if letters.peek() == Some(&'\'') => {
                letters.next();
                word.get_or_insert_default().push_str(&quoted(&mut letters, Quotes::Escapes)?);
            }
            '$' | '`' => return Err(computed()),
            '|' | ';' | '<' | '>' | '(' | ')' => {
                return Err(format!("`{letter}` ends the curl command; paste it alone, or put quotes round the value"));
            }
            '&' if word.is_none() => return Err("`&` ends the curl command; paste it alone".to_owned()),
            plain => word.get_or_insert_default().push(plain),
        }
    }
    words.extend(word);
    Ok(words)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Quotes {
    Single,
    Double,
    /// `$'…'`
    Escapes,
}

fn quoted(letters: &mut dyn Iterator<Item = char>, quotes: Quotes) -> Result<String, String> {
    let unclosed = || "a quote of the command is not closed".to_owned();
    let mut text = String::new();
    loop {
        match (letters.next().ok_or_else(unclosed)?, quotes) {
            ('\'', Quotes::Single | Quotes::Escapes) | ('"', Quotes::Double) => return Ok(text),
            ('\\', Quotes::Double) => match letters.next().ok_or_else(unclosed)? {
                '\n' => {}
                plain @ ('"' | '\\' | '$' | '`') => text.push(plain),
                other => text.extend(['\\', other]),
            },
            ('$' | '`', Quotes::Double) => return Err(computed()),
            ('\\', Quotes::Escapes) => match letters.next().ok_or_else(unclosed)? {
                'n' => text.push('\n'),
                'r' => text.push('\r'),
                't' => text.push('\t'),
                plain @ ('\'' | '"' | '\\') => text.push(plain),
                digits @ ('u' | 'x') => {
                    let length = if digits == 'u' { 4 } else { 2 };
                    let code: String = (0..length).map_while(|_| letters.next()).collect();
                    let letter = u32::from_str_radix(&code, 16).ok().and_then(char::from_u32);
                    text.push(letter.ok_or("an escape in $'…' means no character")?);
                }
                other => return Err(format!("the escape \\{other} in $'…' is not known here")),
            },
            (plain, _) => text.push(plain),
        }
    }
}

fn computed() -> String {
    "a shell would put something in the place of `$…`; write the value out, or let the shell do it: --curl \"curl …\"".to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ok(text: &str) -> (String, String, Vec<(String, String)>) {
        let Curl { method, url, headers } = read(text).unwrap_or_else(|why| panic!("{text}: {why}"));
        (method, url, headers)
    }

    fn headers(text: &str) -> Vec<String> {
        ok(text).2.into_iter().map(|(name, value)| format!("{name}: {value}")).collect()
    }

    #[test]
    fn methods_and_urls_are_those_of_curl() {
        for (text, method, url) in [
            ("curl https://a.example/x?y=z", "GET", "https://a.example/x?y=z"),
            ("https://a.example/x", "GET", "https://a.example/x"),
            ("/usr/bin/curl -sSL a.example/x#part", "GET", "http://a.example/x"),
            ("curl -XPOST https://a/x", "POST", "https://a/x"),
            ("curl -X 'PATCH' --url https://a/x", "PATCH", "https://a/x"),
            ("curl -I https://a/x", "HEAD", "https://a/x"),
            ("curl -d a=b https://a/x", "POST", "https://a/x"),
            ("curl --json '{}' https://a/x", "POST", "https://a/x"),
            ("curl -F f=@x https://a/x", "POST", "https://a/x"),
            ("curl -T file https://a/x", "PUT", "https://a/x"),
            ("curl -G -d a=b -d c=d https://a/x?y", "GET", "https://a/x?y&a=b&c=d"),
            ("curl -o /dev/null -w '%{http_code}' -m5 --compressed https://a/x", "GET", "https://a/x"),
            ("curl 'https://a/x' \\\n  -H 'a: b' \\\r\n  --data-raw $'a=\\'\\u0041\\n'", "POST", "https://a/x"),
            ("curl -- https://a/x", "GET", "https://a/x"),
            ("curl https://a/x?a=1&b=2", "GET", "https://a/x?a=1&b=2"),
        ] {
            let (read_method, read_url, _) = ok(text);
            assert_eq!((read_method.as_str(), read_url.as_str()), (method, url), "{text}");
        }
    }

    #[test]
    fn headers_are_those_that_curl_would_send() {
        assert_eq!(headers("curl -H 'x-api-key: k' -H'A:b' https://a"), ["x-api-key: k", "A: b", "accept: */*"]);
        assert_eq!(headers("curl -H Accept: -H 'X-Empty;' https://a"), ["X-Empty: "]);
        assert_eq!(headers("curl -u alice:secret https://a")[0], "authorization: Basic YWxpY2U6c2VjcmV0");
        assert_eq!(headers("curl -u alice:secret -H 'Authorization: Bearer t' https://a"), ["Authorization: Bearer t", "accept: */*"]);
        assert_eq!(
            headers("curl --oauth2-bearer t -b a=b -A me -H accept: https://a"),
            ["authorization: Bearer t", "cookie: a=b", "user-agent: me"]
        );
        assert_eq!(headers("curl --json {} https://a"), ["accept: application/json", "content-type: application/json"]);
    }

    #[test]
    fn what_is_not_known_is_named_and_no_value_is() {
        for (text, told) in [
            ("curl --aws-sigv4 secret https://a", "--aws-sigv4"),
            ("curl -sZ https://a", "-Z"),
            ("curl -K secret", "-K"),
            ("curl", "no URL"),
            ("curl -H", "-H has no value"),
            ("curl https://a https://secret", "two URLs"),
            ("curl -H 'secret' https://a", "no colon"),
            ("curl -H @secret https://a", "file"),
            ("curl -b secret https://a", "file"),
            ("curl -H \"x: $SECRET\" https://a", "write the value out"),
            ("curl $(secret)", "write the value out"),
            ("curl https://a | secret", "paste it alone"),
            ("curl https://a && secret", "paste it alone"),
            ("curl 'https://secret", "not closed"),
            ("curl https://secret \\", "backslash"),
        ] {
            let why = read(text).expect_err(text);
            assert!(why.contains(told) && !why.contains("secret"), "{text}: {why}");
        }
    }
}
