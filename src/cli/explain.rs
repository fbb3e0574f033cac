//! `tollgate explain`: which rooms one request goes through, and why it ends as it does. Nothing is counted or taken.

use std::io;
use std::io::Write;
use std::net::IpAddr;

use serde_json::Value;

use crate::cli::Exit;
use crate::cli::client::CliError;
use crate::cli::client::Client;
use crate::cli::client::Reach;
use crate::cli::client::Target;
use crate::issuer::explain::Explanation;
use crate::issuer::explain::Question;

/// Walk one request through the rules, room by room, and say how it would end.
///
/// The running process answers, with the rules that are in force there; when none runs, the store is opened here. The request is
/// not counted, takes nothing from any limit, and is no failed guess. Exit 0 when it would be allowed, 1 when not.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Explain {
    #[command(flatten)]
    reach: Reach,
    /// `GET`, `POST` and so on, in capitals.
    method: String,
    /// A URL, or the path and query alone.
    #[arg(id = "asked", value_name = "URL")]
    url: String,
    /// A request header, `name: value`; may be given again.
    #[arg(long = "header", short = 'H', value_name = "HEADER")]
    headers: Vec<String>,
    /// The address that Envoy sees.
    #[arg(long, value_name = "ADDRESS")]
    peer: Option<IpAddr>,
    /// The peer's mTLS identity, for example `spiffe://cluster.local/ns/shop/sa/cart`.
    #[arg(long)]
    principal: Option<String>,
    /// The route that Envoy's `context_extensions` chose.
    #[arg(long)]
    route: Option<String>,
    /// Judge as if it were this Unix second.
    #[arg(long, value_name = "SECONDS")]
    at: Option<u64>,
}

const EXAMPLES: &str = "\
Examples:
  tollgate explain GET /api/v1/conversations -H \"x-api-key: $KEY\"
  tollgate explain POST https://api.example.com/api/v1/knowledge -H \"authorization: Bearer $JWT\"
  tollgate explain GET /api/v1/customers -H \"x-api-key: $KEY\" --at 1893456000    expired by then?";

impl Explain {
    pub(in crate::cli) fn reach(&self) -> &Reach {
        &self.reach
    }

    /// # Errors
    /// When one of the writers cannot be written to.
    pub async fn run(self, target: Target, out: &mut dyn Write, complaints: &mut dyn Write) -> io::Result<Exit> {
        let json = self.reach.json;
        match self.ask(target).await {
            Ok(explanation) => {
                if json {
                    writeln!(out, "{}", serde_json::to_string_pretty(&explanation)?)?;
                } else {
                    show(&explanation, out)?;
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

    async fn ask(self, target: Target) -> Result<Explanation, CliError> {
        let mut headers = Vec::with_capacity(self.headers.len());
        for header in &self.headers {
            match header.split_once(':') {
                Some((name, value)) => headers.push((name.trim().to_owned(), value.trim().to_owned())),
                None => return Err(CliError::said("a header has a colon; write -H 'name: value'")),
            }
        }
        let (host, path) = split_url(&self.url);
        let question = Question {
            method: self.method,
            host,
            target: path,
            headers,
            peer: self.peer,
            principal: self.principal,
            route: self.route,
            at: self.at,
        };
        let body = serde_json::to_value(&question).map_err(|error| CliError::said(error.to_string()))?;
        let answer: Value = Client::open(target).await?.call("POST", "/v1/explain", Some(&body)).await?;
        serde_json::from_value(answer).map_err(|error| CliError::said(format!("an answer of another release: {error}")))
    }
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

fn show(explanation: &Explanation, out: &mut dyn Write) -> io::Result<()> {
    let width = explanation.steps.iter().map(|step| step.room.len()).max().unwrap_or_default();
    for step in &explanation.steps {
        let mark = if step.passed { "pass" } else { "STOP" };
        let line = format!("  {mark}  {:width$}  {}", step.room, step.outcome);
        writeln!(out, "{}", line.trim_end())?;
    }
    writeln!(out)?;
    writeln!(out, "{}  {} ({})", explanation.decision.to_uppercase(), explanation.reason, explanation.status)?;
    for (label, value) in [("route", &explanation.route), ("user", &explanation.user)] {
        if let Some(value) = value {
            writeln!(out, "  {label:16}{value}")?;
        }
    }
    for (name, value) in &explanation.sets {
        writeln!(out, "  {:16}{name}: {value}", "sets")?;
    }
    if !explanation.removes.is_empty() {
        writeln!(out, "  {:16}{}", "removes", explanation.removes.join(", "))?;
    }
    writeln!(out, "  {:16}{}", "config revision", explanation.config_revision)
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
