//! `tollgate usage`: exact counts by user, key, route and period.

use serde_json::Value;
use serde_json::json;

use crate::cli::Exit;
use crate::cli::client::CliError;
use crate::cli::client::Client;
use crate::cli::client::Reach;
use crate::cli::client::Target;
use crate::cli::people::doubt_user;
use crate::cli::table::Side;
use crate::cli::table::show;
use crate::cli::table::show_when;
use crate::cli::table::write_table;
use crate::cli::voice;
use crate::cli::voice::Gathered;
use crate::cli::voice::Voice;
use crate::cli::voice::filters;

/// Exact counts by user, key, route and period.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Usage {
    #[command(flatten)]
    reach: Reach,
    /// Only this user's, as headers and metrics name it.
    #[arg(long, short)]
    user: Option<String>,
    /// Only this organisation's users.
    #[arg(long, conflicts_with = "user")]
    org: Option<String>,
    /// Only this key's.
    #[arg(long)]
    key: Option<String>,
    /// Only this route's.
    #[arg(long)]
    route: Option<String>,
    /// Only these: allowed, limited or refused; or by Envoy's access log what became of the allowed ones, by class of status: answered
    /// (all of these), answered_1xx to answered_5xx, unanswered. Default: what was decided.
    #[arg(long)]
    outcome: Option<String>,
    /// The length of a period: hour (kept 35 days), day (kept 400 days) or month.
    #[arg(long, short, default_value = "day", value_parser = ["hour", "day", "month"])]
    period: String,
    /// The first day or time, such as 2027-01-01. Default: a day, a month or a year ago, by period.
    #[arg(long, value_name = "WHEN")]
    from: Option<String>,
    /// The day or time to stop before. Default: now.
    #[arg(long, value_name = "WHEN")]
    to: Option<String>,
    /// At most so many rows.
    #[arg(long, default_value_t = 10_000)]
    limit: usize,
}

const EXAMPLES: &str = "\
Examples:
  tollgate usage --user alice
  tollgate usage --org acme --period month --from 2027-01-01
  tollgate usage --key 3fKq9ZxT0aBc --period hour --outcome limited
  tollgate usage --user alice --outcome answered
  tollgate usage --json | jq '[.data[] | .count] | add'";

impl voice::Command for Usage {
    const NAME: &'static str = "usage";

    fn reach(&self) -> &Reach {
        &self.reach
    }

    async fn perform(self, target: Target, voice: &mut Voice<'_>) -> Result<Exit, CliError> {
        let client = Client::open(target).await?;
        let Gathered { data: rows, next: after } = Gathered::read(&client, "/v1/usage", &self.query(), self.limit, None).await?;
        if voice.json {
            voice.write_json(&json!({"data": rows, "next": after}))?;
            return Ok(Exit::Good);
        }
        if rows.is_empty() {
            writeln!(voice.complaints, "There are no such counts. With Redis a request is among them after some two seconds.")?;
            if let Some(user) = &self.user {
                doubt_user(&client, user, voice).await?;
            }
            return Ok(Exit::Good);
        }
        let total: u64 = rows.iter().filter_map(|row| row.get("count").and_then(Value::as_u64)).sum();
        let columns = [
            ("START", Side::Left),
            ("USER", Side::Left),
            ("KEY", Side::Left),
            ("ROUTE", Side::Left),
            ("OUTCOME", Side::Left),
            ("COUNT", Side::Right),
        ];
        let mut lines: Vec<Vec<String>> = rows.iter().map(|row| self.line(row)).collect();
        lines.push(["", "", "", "", "total", &total.to_string()].map(str::to_owned).to_vec());
        write_table(voice.out, &columns, &lines)?;
        if after.is_some() {
            writeln!(
                voice.complaints,
                "There are more rows, which the total leaves out: ask for less at a time, or for a larger --limit."
            )?;
        }
        Ok(Exit::Good)
    }
}

impl Usage {
    fn query(&self) -> String {
        let given = filters(&[
            ("user", &self.user),
            ("organization", &self.org),
            ("key", &self.key),
            ("route", &self.route),
            ("outcome", &self.outcome),
            ("from", &self.from),
            ("to", &self.to),
        ]);
        format!("&period={}{given}", self.period)
    }

    fn line(&self, row: &Value) -> Vec<String> {
        let start = show_when(row, "start");
        let start = match self.period.as_str() {
            "hour" => start,
            "month" => start.get(..7).unwrap_or(&start).to_owned(),
            _ => start.get(..10).unwrap_or(&start).to_owned(),
        };
        let texts = ["user", "key", "route", "outcome", "count"].map(|name| show(row, name));
        std::iter::once(start).chain(texts).collect()
    }
}
