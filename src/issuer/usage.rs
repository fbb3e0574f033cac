//! `/v1/usage`: exact counts by user, key, route, outcome and period. Who keeps them is behind [`UsageRead`].

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::RawQuery;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::http::HeaderValue;
use axum::http::header;
use axum::response::IntoResponse;
use axum::response::Response;
use serde::Serialize;
use utoipa::ToSchema;

use crate::issuer::IssuerState;
use crate::issuer::actor::Actor;
use crate::issuer::actor::Reach;
use crate::issuer::actor::USAGE;
use crate::issuer::callers::Asker;
use crate::issuer::checks::Check;
use crate::issuer::checks::hold;
use crate::issuer::checks::run;
use crate::issuer::names::read_instant;
use crate::issuer::openapi::answers::Judged;
use crate::issuer::openapi::schemas::FormatName;
use crate::issuer::openapi::schemas::OutcomeChoice;
use crate::issuer::openapi::schemas::OutcomeName;
use crate::issuer::openapi::schemas::PeriodName;
use crate::issuer::parameters::Parameters;
use crate::issuer::problem::Code;
use crate::issuer::problem::Problem;
use crate::issuer::users;
use crate::issuer::users::LOCAL;
use crate::issuer::views::PageView;
use crate::issuer::views::show_time;
use crate::model::caller::Namespace;
use crate::model::caller::SourceName;
use crate::model::caller::UserId;
use crate::model::rules::Rules;
use crate::model::time::Timestamp;
use crate::model::usage::Outcome;
use crate::model::usage::ROWS_MAX;
use crate::model::usage::Span;
use crate::model::usage::UsagePage;
use crate::model::usage::UsageQuery;
use crate::stats::StatRow;
use crate::store::Answer;

/// Every answer, whatever its class.
const ANSWERED: &str = "answered";
/// Rows of one page, unless it asks for more.
const ROWS_DEFAULT: usize = 1000;

/// Why there are no counts to show.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UsageError {
    #[error("the cursor is none of ours")]
    Cursor,
    #[error("the counts cannot be read: {0}")]
    Unavailable(String),
}

/// The counts, flushed or not.
pub trait UsageRead: Send + Sync + std::fmt::Debug + 'static {
    fn read<'a>(&'a self, asked: &'a UsageQuery) -> Answer<'a, Result<UsagePage, UsageError>>;
    /// Erases what was counted of a user (as it is rendered in counts), flushed or not.
    fn forget<'a>(&'a self, user: &'a str) -> Answer<'a, Result<(), UsageError>>;
}

/// All counts there are of these users, or of everybody, by user, route and outcome: months are kept always.
///
/// # Errors
/// Those of reading.
pub async fn sum_up(counts: &dyn UsageRead, users: Option<BTreeSet<Arc<str>>>, now: Timestamp) -> Result<Vec<StatRow>, UsageError> {
    let mut query = UsageQuery::between(Span::Month, Timestamp::default(), now.plus(Duration::from_secs(1)));
    query.outcomes = &Outcome::DECIDED;
    query.users = users;
    let mut sums: BTreeMap<(Arc<str>, Arc<str>, Outcome), u64> = BTreeMap::new();
    loop {
        let page = counts.read(&query).await?;
        for row in page.rows {
            let sum = sums.entry((row.user, row.route, row.outcome)).or_default();
            *sum = sum.saturating_add(row.count);
        }
        query.after = page.next;
        if query.after.is_none() {
            break;
        }
    }
    let row = |((user, route, outcome), count): ((Arc<str>, Arc<str>, Outcome), u64)| StatRow {
        user: user.to_string(),
        route: route.to_string(),
        outcome: outcome.as_str(),
        count,
    };
    Ok(sums.into_iter().map(row).collect())
}

/// Knows of no counts: for a store that is looked at without its ledger.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoUsage;

impl UsageRead for NoUsage {
    fn read<'a>(&'a self, _asked: &'a UsageQuery) -> Answer<'a, Result<UsagePage, UsageError>> {
        Answer::ready(Err(UsageError::Unavailable("this process has no ledger".to_owned())))
    }

    fn forget<'a>(&'a self, _user: &'a str) -> Answer<'a, Result<(), UsageError>> {
        Answer::ready(Ok(()))
    }
}

#[derive(Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = UsageRow)]
struct RowView {
    #[schema(format = DateTime)]
    start: String,
    user: Arc<str>,
    key: Option<Arc<str>>,
    route: Arc<str>,
    #[schema(value_type = OutcomeName)]
    outcome: &'static str,
    count: u64,
}

/// Exact counts of whoever lies within the caller's reach, by period, user, key, route and outcome. As CSV, what a table's program would
/// run as a formula has an apostrophe before it, and `next` is in the header `x-next`.
#[utoipa::path(get, path = "/v1/usage", operation_id = "read_usage", tag = "usage",
    params(
        ("user" = Option<String>, Query, description = "Only this user's, as the gate names it."),
        ("organization" = Option<String>, Query, description = "Only this organisation's users'; not beside `user`."),
        ("key" = Option<String>, Query, description = "Only this key's; empty: only those without one."),
        ("route" = Option<String>, Query, description = "Only this route's."),
        ("outcome" = Option<OutcomeChoice>, Query, description = "Only these. Absent: what the gate decided, which is `allowed`, `limited` \
            and `refused`. `answered`: what became of admitted requests by Envoy's access log, by class of status."),
        ("period" = Option<PeriodName>, Query, description = "The length of a row's period, in UTC; `day` where it is absent."),
        ("from" = Option<String>, Query, description = "A day or a time; the period that it lies in is the first."),
        ("to" = Option<String>, Query, description = "A day or a time; periods that begin then or later are left out."),
        ("format" = Option<FormatName>, Query, description = "In the place of `accept`."),
        ("limit" = Option<u16>, Query, description = "How many rows at the most.", minimum = 1, maximum = 10_000),
        ("after" = Option<String>, Query, description = "The `next` of the page before."),
    ),
    responses(
        (status = 200, description = "A page of counts.", headers(("x-next")), content(
            (PageView<RowView> = "application/json"),
            (String = "text/csv", example = "start,user,key,route,outcome,count\r\n")
        )),
        Judged
    ))]
pub(in crate::issuer) async fn query(
    State(state): State<IssuerState>,
    asker: Asker,
    headers: HeaderMap,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    let (asked, form) = read(&state, &asker, &headers, query.as_deref()).await?;
    let counts = state.usage.read(&asked).await?;
    let data: Vec<RowView> = counts
        .rows
        .into_iter()
        .map(|row| RowView {
            start: show_time(row.start),
            user: row.user,
            key: row.key,
            route: row.route,
            outcome: row.outcome.as_str(),
            count: row.count,
        })
        .collect();
    Ok(match form {
        Form::Json => Json(PageView { data, next: counts.next }).into_response(),
        Form::Csv => write_csv(&data, counts.next.as_deref()),
    })
}

async fn read(state: &IssuerState, asker: &Asker, headers: &HeaderMap, query: Option<&str>) -> Result<(UsageQuery, Form), Problem> {
    const WHEN: &str = "must be a day such as 2027-01-31 or a time such as 2027-01-31T00:00:00Z";
    let now = state.clock.now();
    let mut parameters = Parameters::read(query)?;
    let span = parameters.parsed("period", read_period, "must be one of: hour, day, month")?.unwrap_or(Span::Day);
    let from = parameters.parsed("from", read_when, WHEN)?;
    let to = parameters.parsed("to", read_when, WHEN)?.unwrap_or_else(|| now.plus(Duration::from_secs(1)));
    let user = parameters.text("user");
    let organization = parameters.text("organization");
    if user.is_some() && organization.is_some() {
        return Err(Problem::field("organization", "must be absent where `user` is given"));
    }
    let reach = asker.actor.reach(USAGE)?;
    let users = within(state, asker, &reach, user.as_deref(), organization.as_deref()).await?;
    let form = parameters.parsed("format", Form::read, "must be one of: json, csv")?.unwrap_or_else(|| Form::accepted(headers));
    let outcomes = Outcome::ALL.map(Outcome::as_str).join(", ");
    let read_limit = |text: &str| text.parse().ok().filter(|limit| (1..=ROWS_MAX).contains(limit));
    let asked = UsageQuery {
        span,
        from: from.unwrap_or_else(|| to.minus(default_reach(span))),
        to,
        users,
        key: parameters.text("key").map(Arc::from),
        route: parameters.text("route").map(Arc::from),
        outcomes: parameters
            .parsed("outcome", read_outcomes, format!("must be one of: {ANSWERED}, {outcomes}"))?
            .unwrap_or(&Outcome::DECIDED),
        limit: parameters.parsed("limit", read_limit, format!("must be a whole number from 1 to {ROWS_MAX}"))?.unwrap_or(ROWS_DEFAULT),
        after: parameters.text("after"),
    };
    parameters.finish("user, organization, key, route, outcome, period, from, to, format, limit, after")?;
    if asked.to <= asked.from {
        return Err(Problem::field("to", "must lie after `from`"));
    }
    Ok((asked, form))
}

/// Whose counts are shown: those asked for, as far as somebody reaches. None: everybody's.
pub(in crate::issuer) async fn within(
    state: &IssuerState,
    asker: &Asker,
    reach: &Reach,
    user: Option<&str>,
    organization: Option<&str>,
) -> Result<Option<BTreeSet<Arc<str>>>, Problem> {
    if run(&OfOrganization::CHECKS, &OfOrganization { asker, reach, organization }).is_err() {
        return Ok(Some(BTreeSet::new()));
    }
    let reached = match (reach, organization) {
        (Reach::Everything, None) => None,
        (Reach::Everything | Reach::Organization(_), Some(organization)) => Some(members(state, organization).await?),
        (Reach::Organization(own), None) => Some(members(state, own).await?),
        (Reach::Own(own), _) => {
            let rules = state.rules.load_full();
            let mut names = BTreeSet::from([Arc::from(render(&rules, LOCAL, own).as_str())]);
            if let Actor::Caller(caller) = &asker.actor {
                names.insert(Arc::from(caller.user.as_str()));
            }
            Some(names)
        }
    };
    let Some(user) = user else { return Ok(reached) };
    let is_reached = run(&OfUser::CHECKS, &OfUser { user, reached: reached.as_ref() }).is_ok();
    Ok(Some(if is_reached { BTreeSet::from([Arc::from(user)]) } else { BTreeSet::new() }))
}

/// Counts of an organisation.
pub(in crate::issuer) struct OfOrganization<'a> {
    asker: &'a Asker,
    reach: &'a Reach,
    organization: Option<&'a str>,
}

impl OfOrganization<'_> {
    pub(in crate::issuer) const CHECKS: [Check<Self>; 1] = [Check {
        name: "the organisation whose counts somebody asks for is its own",
        run: |counts| match (counts.organization, counts.reach) {
            (None, _) | (Some(_), Reach::Everything) => Ok(()),
            (Some(asked), Reach::Organization(own)) => hold(*asked == **own),
            (Some(asked), Reach::Own(_)) => hold(counts.asker.actor.organization().is_some_and(|own| **own == *asked)),
        },
    }];
}

/// Counts of a user.
pub(in crate::issuer) struct OfUser<'a> {
    user: &'a str,
    /// None: everybody.
    reached: Option<&'a BTreeSet<Arc<str>>>,
}

impl OfUser<'_> {
    pub(in crate::issuer) const CHECKS: [Check<Self>; 1] = [Check {
        name: "the user whose counts somebody asks for lies within reach",
        run: |counts| hold(counts.reached.is_none_or(|reached| reached.contains(counts.user))),
    }];
}

async fn members(state: &IssuerState, organization: &str) -> Result<BTreeSet<Arc<str>>, Problem> {
    let rules = state.rules.load_full();
    let records = users::of_organization(state, organization).await?;
    Ok(records.iter().map(|record| Arc::from(render(&rules, &record.source, &record.subject).as_str())).collect())
}

/// In which form counts are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Json,
    Csv,
}

impl Form {
    fn read(text: &str) -> Option<Self> {
        match text {
            "json" => Some(Self::Json),
            "csv" => Some(Self::Csv),
            _ => None,
        }
    }

    /// CSV for whoever names it before JSON, or alone.
    fn accepted(headers: &HeaderMap) -> Self {
        let accept = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let known = accept.split(',').filter_map(|range| match range.split(';').next().unwrap_or_default().trim() {
            "text/csv" => Some(Self::Csv),
            "application/json" => Some(Self::Json),
            _ => None,
        });
        known.into_iter().next().unwrap_or(Self::Json)
    }
}

/// RFC 4180. The cursor of the next page is in a header, for a row of a table it is not.
fn write_csv(rows: &[RowView], next: Option<&str>) -> Response {
    let mut text = String::from("start,user,key,route,outcome,count\r\n");
    for row in rows {
        let key = row.key.as_deref().unwrap_or_default();
        for cell in [row.start.as_str(), &row.user, key, &row.route, row.outcome] {
            push_cell(&mut text, cell);
            text.push(',');
        }
        text.push_str(&row.count.to_string());
        text.push_str("\r\n");
    }
    let mut response = ([(header::CONTENT_TYPE, "text/csv; charset=utf-8; header=present")], text).into_response();
    if let Some(next) = next.and_then(|next| HeaderValue::from_str(next).ok()) {
        response.headers_mut().insert("x-next", next);
    }
    response
}

/// Names come from callers, and a table's program would run what looks like a formula: an apostrophe before it stops that.
fn push_cell(text: &mut String, cell: &str) {
    text.push('"');
    if cell.starts_with(['=', '+', '-', '@', '\t', '\r']) {
        text.push('\'');
    }
    text.push_str(&cell.replace('"', "\"\""));
    text.push('"');
}

impl From<UsageError> for Problem {
    fn from(error: UsageError) -> Self {
        match error {
            UsageError::Cursor => Self::field("after", "must be the `next` of the page before"),
            UsageError::Unavailable(why) => {
                tracing::error!(why, "the counts cannot be read");
                Self::new(Code::Unavailable, "the counts cannot be read now; the log and `tollgate store check` say why")
            }
        }
    }
}

/// As the gate names the user in headers and counts.
pub(in crate::issuer) fn render(rules: &Rules, source: &str, subject: &crate::model::caller::Subject) -> UserId {
    let issuers = rules.issuers.iter().map(|issuer| &issuer.source);
    let known = std::iter::once(&rules.local).chain(issuers).find(|known| known.name.as_str() == source);
    match known {
        Some(known) => UserId::new(&known.name, subject, known.namespace),
        None => UserId::new(&SourceName::new(source), subject, Namespace::Named),
    }
}

fn read_period(text: &str) -> Option<Span> {
    match text {
        "hour" => Some(Span::Hour),
        "day" => Some(Span::Day),
        "month" => Some(Span::Month),
        _ => None,
    }
}

/// Answers are never shown beside decisions: whoever sums up rows would count requests twice.
fn read_outcomes(text: &str) -> Option<&'static [Outcome]> {
    match text {
        ANSWERED => Some(&Outcome::ANSWERS),
        _ => Outcome::ALL.into_iter().find(|outcome| outcome.as_str() == text).map(Outcome::alone),
    }
}

fn read_when(text: &str) -> Option<Timestamp> {
    if text.len() == 10 { read_instant(&format!("{text}T00:00:00Z")) } else { read_instant(text) }
}

/// How far back an answer reaches when nothing is said.
const fn default_reach(span: Span) -> Duration {
    let days = match span {
        Span::Hour => 1,
        Span::Day => 30,
        Span::Month => 365,
    };
    Duration::from_secs(days * 86_400)
}
