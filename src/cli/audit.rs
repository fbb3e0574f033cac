//! `tollgate audit`: who did what, and whether the log is as it was written.

use serde_json::Value;
use serde_json::json;

use crate::cli::Exit;
use crate::cli::client::CliError;
use crate::cli::client::Client;
use crate::cli::client::Target;
use crate::cli::client::encode;
use crate::cli::table::Cell;
use crate::cli::table::show;
use crate::cli::voice::Gathered;
use crate::cli::voice::Verbs;
use crate::cli::voice::Voice;
use crate::cli::voice::filters;
use crate::config::complaint::so_many;

const EXAMPLES: &str = "\
Examples:
  tollgate audit list --from 2027-01-01
  tollgate audit list --actor alice --deed key.revoked
  tollgate audit list --subject 3fKq9ZxT0aBc          everything that was done to this key
  tollgate audit verify                               1 where something was changed

Entries are kept for 400 days. Of a user who was erased there is a pseudonym alone.
CHANGES has what a change changed, before -> after; of names, e-mail, tags and secrets only that
it changed. ADDRESS is the client's as far as `issuer.trusted_hops` counts the proxies before it;
of an Envoy on this machine that is not counted, 127.0.0.1.";

#[derive(Clone, Debug, clap::Subcommand)]
pub(in crate::cli) enum Audit {
    /// List entries.
    List(Filter),
    /// Look at every entry: its MAC, and the one before it.
    Verify,
}

#[derive(Clone, Debug, clap::Args)]
pub(in crate::cli) struct Filter {
    /// Only what this user, client or pseudonym did; or `operator`, or `nobody`.
    #[arg(long)]
    actor: Option<String>,
    /// Only what was done to this key, user, client, grant, …
    #[arg(long)]
    subject: Option<String>,
    /// Only deeds of this kind, such as `key.created`.
    #[arg(long)]
    deed: Option<String>,
    /// Only what concerns this organisation.
    #[arg(long)]
    org: Option<String>,
    /// The first day or time, such as 2027-01-01.
    #[arg(long, value_name = "WHEN")]
    from: Option<String>,
    /// The day or time to stop before.
    #[arg(long, value_name = "WHEN")]
    to: Option<String>,
    /// At most so many.
    #[arg(long, default_value_t = 1_000)]
    limit: usize,
    /// Go on behind this entry.
    #[arg(long, value_name = "ID")]
    after: Option<String>,
}

impl Verbs for Audit {
    const NAME: &'static str = "audit";
    const ABOUT: &'static str = "Who did what to which key, user or client, from where; and whether the log is as it was written";
    const EXAMPLES: &'static str = EXAMPLES;

    async fn perform(self, target: Target, voice: &mut Voice<'_>) -> Result<Exit, CliError> {
        match self {
            Audit::List(filter) => list(target, filter, voice).await,
            Audit::Verify => verify(target, voice).await,
        }
    }
}

async fn list(target: Target, filter: Filter, voice: &mut Voice<'_>) -> Result<Exit, CliError> {
    let Filter { actor, subject, deed, org, from, to, limit, after } = filter;
    let given = [("actor", &actor), ("subject", &subject), ("deed", &deed), ("organization", &org), ("from", &from), ("to", &to)];
    let client = Client::open(target).await?;
    let found = Gathered::read(&client, "/v1/audit", &filters(&given), limit, after).await?;
    voice.records(&found, "entries", &CELLS)?;
    Ok(Exit::Good)
}

const CELLS: [Cell; 8] = [
    Cell::when("time", "time").column("TIME"),
    Cell::made("actor", |entry| party(entry, "actor")).column("ACTOR"),
    Cell::of("via", "via").column("VIA"),
    Cell::of("deed", "deed").column("DEED"),
    Cell::made("subject", |entry| party(entry, "subject")).column("SUBJECT"),
    Cell::of("org", "organization").column("ORG"),
    Cell::of("address", "address").column("ADDRESS"),
    Cell::made("changes", changes).column("CHANGES"),
];

fn party(entry: &Value, name: &str) -> String {
    match (show(entry, name), show(entry, &format!("{name}_kind"))) {
        (id, kind) if id == "-" => kind,
        (id, kind) if kind == "erased" => format!("erased:{id}"),
        (id, _kind) => id,
    }
}

/// `scopes: a -> a b; email`: of what may be personal or a secret the name alone.
fn changes(entry: &Value) -> String {
    // No rights at all are another thing than rights without a ceiling.
    let is_empty = |value: &Value| value.as_array().is_some_and(Vec::is_empty);
    let value = |change: &Value, name: &str| if change.get(name).is_some_and(is_empty) { "none".to_owned() } else { show(change, name) };
    let said = |change: &Value| match change.get("after") {
        Some(_) => format!("{}: {} -> {}", show(change, "setting"), value(change, "before"), value(change, "after")),
        None => show(change, "setting"),
    };
    let changes: Vec<String> = entry.get("changes").and_then(Value::as_array).into_iter().flatten().map(said).collect();
    if changes.is_empty() { "-".to_owned() } else { changes.join("; ") }
}

async fn verify(target: Target, voice: &mut Voice<'_>) -> Result<Exit, CliError> {
    let client = Client::open(target).await?;
    let (mut entries, mut chains, mut unproven) = (0, 0, 0);
    let mut findings = Vec::new();
    let mut behind = String::new();
    loop {
        let mut report = client.call("GET", &format!("/v1/audit/verify{behind}"), None).await?;
        let number = |name: &str| report.get(name).and_then(Value::as_u64).unwrap_or_default();
        entries += number("entries");
        chains += number("chains");
        unproven += number("unproven");
        if let Some(Value::Array(some)) = report.get_mut("findings").map(Value::take) {
            findings.extend(some);
        }
        match report.get("next").and_then(Value::as_str) {
            Some(next) => behind = format!("?after={}", encode(next)),
            None => break,
        }
    }
    let exit = if findings.is_empty() { Exit::Good } else { Exit::Failed };
    if voice.json {
        let whole = findings.is_empty();
        voice.write_json(&json!({"entries": entries, "chains": chains, "unproven": unproven, "whole": whole, "findings": findings}))?;
        return Ok(exit);
    }
    for finding in &findings {
        writeln!(voice.out, "{}: {}", show(finding, "entry"), show(finding, "what"))?;
    }
    let verdict = if findings.is_empty() { "as written" } else { "NOT as written" };
    let (entries, chains) = (so_many(entries, "entry", "entries"), so_many(chains, "chain", "chains"));
    writeln!(voice.out, "{entries} in {chains}: {verdict}")?;
    if unproven > 0 {
        writeln!(
            voice.complaints,
            "{unproven} of them made under a pepper that is not configured any more: nobody can tell who wrote that."
        )?;
    }
    Ok(exit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_reads_as_from_what_to_what() {
        let entry = json!({"changes": [
            {"setting": "scopes", "before": [], "after": ["orders:read", "orders:write"]},
            {"setting": "active", "before": true, "after": false},
            {"setting": "expires_at", "before": "2027-01-15T08:00:00Z", "after": null},
            {"setting": "email"}
        ]});
        let expected = "scopes: none -> orders:read orders:write; active: yes -> no; expires_at: 2027-01-15T08:00:00Z -> -; email";
        assert_eq!(changes(&entry), expected);
        for entry in [json!({"changes": []}), json!({})] {
            assert_eq!(changes(&entry), "-");
        }
    }
}
