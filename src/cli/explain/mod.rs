//! `tollgate explain`: which route governs one request, which rooms it goes through, and why it ends as it does. Nothing is counted or taken.

mod curl;
mod recorded;
mod show;

use std::ffi::OsString;
use std::io;
use std::io::IsTerminal as _;
use std::io::Read as _;
use std::io::Write;
use std::net::IpAddr;

use serde_json::Value;

use crate::cli::Exit;
use crate::cli::client::CliError;
use crate::cli::client::Client;
use crate::cli::client::Here;
use crate::cli::client::Target;
use crate::cli::explain::curl::Curl;
use crate::cli::explain::recorded::Recorded;
use crate::cli::explain::show::Paint;
use crate::cli::explain::show::show;
use crate::config;
use crate::issuer::explain::Explanation;
use crate::issuer::explain::Question;

/// Longest curl command that is read from standard input.
const CURL_BYTES_MAX: u64 = 1024 * 1024;

/// Walk one request through the rules: every route with hit or miss, every room, and how it would end.
///
/// The running process answers, with the rules that are in force there; when none runs, the store is opened here. The request is
/// not counted, takes nothing from any limit, and is no failed guess. A recorded request has no credential any more: it is judged
/// here, by the config alone, for the caller that it had. Exit 0 when it would be allowed, 1 when not.
#[derive(Clone, Debug, clap::Args)]
#[command(override_usage = USAGE, after_help = EXAMPLES)]
pub struct Explain {
    #[command(flatten)]
    here: Here,
    /// `GET`, `POST` and so on, in capitals.
    #[arg(required_unless_present_any = ["curl", "recorded"], requires = "url")]
    method: Option<String>,
    /// A URL, or the path and query alone.
    #[arg(value_name = "URL")]
    url: Option<String>,
    /// A request header, `name: value`; may be given again.
    #[arg(long = "header", short = 'H', value_name = "HEADER")]
    headers: Vec<String>,
    /// A curl command, pasted whole in quotes; `-` reads it from standard input.
    #[arg(long, value_name = "COMMAND", conflicts_with_all = ["method", "recorded"], allow_hyphen_values = true)]
    curl: Option<String>,
    /// A line that `record` in the config wrote (the first, or that of the number), or a CheckRequest as JSON.
    #[arg(long, value_name = "FILE[:LINE]", conflicts_with_all = ["method", "headers", "peer", "principal", "chosen_route"])]
    recorded: Option<OsString>,
    /// The address that Envoy sees.
    #[arg(long, value_name = "ADDRESS")]
    peer: Option<IpAddr>,
    /// The peer's mTLS identity, for example `spiffe://cluster.local/ns/shop/sa/cart`.
    #[arg(long)]
    principal: Option<String>,
    /// The route that Envoy's `context_extensions` chose.
    #[arg(id = "chosen_route", long = "route", value_name = "ROUTE")]
    route: Option<String>,
    /// Judge as if it were this Unix second.
    #[arg(long, value_name = "SECONDS")]
    at: Option<u64>,
    /// No colours, whatever it is printed to; the variable NO_COLOR says the same.
    #[arg(long, env = "NO_COLOR", hide_env = true, num_args = 0..=1, require_equals = true, default_missing_value = "1", value_name = "ANY")]
    no_color: Option<String>,
}

const USAGE: &str = "\
tollgate explain [OPTIONS] <METHOD> <URL>
       tollgate explain [OPTIONS] --curl <COMMAND>
       tollgate explain [OPTIONS] --recorded <FILE[:LINE]>";

const EXAMPLES: &str = "\
Examples:
  tollgate explain GET /api/v1/conversations -H \"x-api-key: $KEY\"
  tollgate explain POST https://api.example.com/api/v1/knowledge -H \"authorization: Bearer $JWT\"
  tollgate explain GET /api/v1/customers -H \"x-api-key: $KEY\" --at 1893456000    expired by then?
  tollgate explain --curl \"curl -H 'x-api-key: $KEY' https://api.example.com/api/v1/customers\"
  tollgate explain --recorded requests.jsonl:17 --config next.yaml";

impl Explain {
    pub(in crate::cli) fn here(&self) -> &Here {
        &self.here
    }

    /// Explains what needs neither a process nor a store; none where one must be asked.
    ///
    /// # Errors
    /// When one of the writers cannot be written to.
    pub fn run_alone(&self, out: &mut dyn Write, complaints: &mut dyn Write) -> io::Result<Option<Exit>> {
        let Some(place) = &self.recorded else { return Ok(None) };
        let explained = match recorded::read(place) {
            Ok(Recorded::Envoys(_)) => return Ok(None),
            Ok(Recorded::Ours(record)) => match config::load(&self.here.config) {
                Ok(loaded) => recorded::explain(&record, loaded.rules),
                Err(mistakes) => {
                    for mistake in &mistakes {
                        writeln!(complaints, "{mistake}")?;
                    }
                    Err(CliError::said(format!("{} cannot be used; name a good config with --config", self.here.config.display())))
                }
            },
            Err(why) => Err(why),
        };
        self.end(explained, out, complaints).map(Some)
    }

    /// # Errors
    /// When one of the writers cannot be written to.
    pub async fn run(self, target: Target, out: &mut dyn Write, complaints: &mut dyn Write) -> io::Result<Exit> {
        let explained = self.ask(target).await;
        self.end(explained, out, complaints)
    }

    fn end(&self, explained: Result<Explanation, CliError>, out: &mut dyn Write, complaints: &mut dyn Write) -> io::Result<Exit> {
        match explained {
            Ok(explanation) => {
                if self.here.json {
                    writeln!(out, "{}", serde_json::to_string_pretty(&explanation)?)?;
                } else {
                    let is_plain = self.no_color.as_ref().is_some_and(|text| !text.is_empty()) || !io::stdout().is_terminal();
                    show(&explanation, if is_plain { Paint::Plain } else { Paint::Coloured }, out)?;
                }
                Ok(if explanation.decision == "allow" { Exit::Good } else { Exit::Failed })
            }
            Err(CliError::Output(error)) => Err(error),
            Err(CliError::Said(why)) => {
                writeln!(complaints, "tollgate explain: {why}")?;
                Ok(Exit::Failed)
            }
        }
    }

    async fn ask(&self, target: Target) -> Result<Explanation, CliError> {
        let question = self.question()?;
        let body = serde_json::to_value(&question).map_err(|error| CliError::said(error.to_string()))?;
        let answer: Value = Client::open(target).await?.call("POST", "/v1/explain", Some(&body)).await?;
        serde_json::from_value(answer).map_err(|error| CliError::said(format!("an answer of another release: {error}")))
    }

    fn question(&self) -> Result<Question, CliError> {
        if let Some(place) = &self.recorded {
            return match recorded::read(place)? {
                Recorded::Envoys(asked) => Ok(Question { at: self.at, ..recorded::question_of(&asked)? }),
                Recorded::Ours(_) => Err(CliError::said("the file changed while it was read")),
            };
        }
        let Curl { method, url, mut headers } = match &self.curl {
            Some(text) => curl::read(&pasted(text)?).map_err(CliError::said)?,
            None => {
                Curl { method: self.method.clone().unwrap_or_default(), url: self.url.clone().unwrap_or_default(), headers: Vec::new() }
            }
        };
        for header in &self.headers {
            match header.split_once(':') {
                Some((name, value)) => headers.push((name.trim().to_owned(), value.trim().to_owned())),
                None => return Err(CliError::said("a header has a colon; write -H 'name: value'")),
            }
        }
        let (host, path) = split_url(&url);
        // A `Host` that was given by hand is the authority that Envoy sees.
        let given = headers.iter().position(|(name, _)| name.eq_ignore_ascii_case("host")).map(|at| headers.remove(at).1);
        Ok(Question {
            method,
            host: given.unwrap_or(host),
            target: path,
            headers,
            peer: self.peer,
            principal: self.principal.clone(),
            route: self.route.clone(),
            at: self.at,
        })
    }
}

/// The command itself, or what stands on standard input.
fn pasted(text: &str) -> Result<String, CliError> {
    if text != "-" {
        return Ok(text.to_owned());
    }
    let mut read = String::new();
    io::stdin().take(CURL_BYTES_MAX).read_to_string(&mut read).map_err(|error| CliError::said(format!("standard input: {error}")))?;
    Ok(read)
}

/// Host and target of a URL; a bare path is of some host.
fn split_url(url: &str) -> (String, String) {
    let Some(rest) = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://")) else {
        return ("localhost".to_owned(), url.to_owned());
    };
    match rest.find(['/', '?']) {
        Some(end) => {
            let (host, target) = rest.split_at(end);
            (host.to_owned(), if target.starts_with('/') { target.to_owned() } else { format!("/{target}") })
        }
        None => (rest.to_owned(), "/".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::split_url;

    #[test]
    fn a_url_has_a_host_and_a_target() {
        let cases = [
            ("/a?b=c", "localhost", "/a?b=c"),
            ("https://api.example.com/a/b?c", "api.example.com", "/a/b?c"),
            ("http://api.example.com:8080", "api.example.com:8080", "/"),
            ("https://api.example.com?x=1", "api.example.com", "/?x=1"),
        ];
        for (url, host, target) in cases {
            assert_eq!(split_url(url), (host.to_owned(), target.to_owned()), "{url}");
        }
    }
}
