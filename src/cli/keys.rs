//! `tollgate keys`: make, look at, change and end API keys.

use std::io;
use std::io::Read;
use std::path::PathBuf;

use serde_json::Map;
use serde_json::Value;
use serde_json::json;

use crate::cli::Exit;
use crate::cli::client::CliError;
use crate::cli::client::Client;
use crate::cli::client::Target;
use crate::cli::client::encode;
use crate::cli::open_file;
use crate::cli::people::doubt_new_user;
use crate::cli::people::doubt_user;
use crate::cli::people::is_known;
use crate::cli::scopes::doubt;
use crate::cli::scopes::doubt_each;
use crate::cli::scopes::refuse_unlisted;
use crate::cli::table::Cell;
use crate::cli::table::show;
use crate::cli::table::show_when;
use crate::cli::voice::Gathered;
use crate::cli::voice::Part;
use crate::cli::voice::Verbs;
use crate::cli::voice::Voice;
use crate::cli::voice::filters;
use crate::cli::voice::or_none;
use crate::config::complaint::so_many;

/// Keys of one import request.
const TOGETHER: usize = 100;
/// The largest file of keys to import.
const IMPORT_BYTES_MAX: u64 = 256 * 1024 * 1024;
/// Bytes of one import request; the API takes 64 KiB.
const REQUEST_BYTES_MAX: usize = 60 * 1024;

/// What an answer cannot tell apart: whether other sidecars share the store.
const FROM_WHEN: &str = "from the next request on (where sidecars share a Redis, at the others within 0.75 s)";

const EXAMPLES: &str = "\
Examples:
  tollgate keys create --user alice --scope conversations:read --expires 90d
  tollgate keys create --user alice --env test --tier pro --rate-limit 60
  KEY=$(tollgate keys create --user ci)          only the key goes to standard output
  tollgate keys list --user alice
  tollgate keys show 3fKq9ZxT0aBc
  tollgate keys change 3fKq9ZxT0aBc --scope conversations:read,customers:read --tier pro
  tollgate keys rotate 3fKq9ZxT0aBc --grace 7d   old and new secret work for a week
  tollgate keys rotate 3fKq9ZxT0aBc --grace 0s   the old one has leaked
  tollgate keys disable 3fKq9ZxT0aBc             until `enable`
  tollgate keys enable 3fKq9ZxT0aBc
  tollgate keys revoke 3fKq9ZxT0aBc              for good
  tollgate keys import old-keys.json             [{\"sha256\": \"…\", \"name\": \"…\", \"user\": \"…\"}, …]
  tollgate keys new-file-entry --user ci >> keys.yaml";

#[derive(Clone, Debug, clap::Subcommand)]
pub(in crate::cli) enum Keys {
    /// Make a key. Its text goes to standard output, once; nothing can show it again.
    Create(New),
    /// List keys.
    List(Filter),
    /// Show one key.
    Show(One),
    /// Change a key's name, scopes, tier, limit, API version or expiry.
    Change(Edit),
    /// Give a key a new secret; its id stays, and the old secret works until the grace ends.
    Rotate(Rotation),
    /// Switch a key off until it is enabled again.
    Disable(One),
    /// Switch a disabled key on.
    Enable(One),
    /// End a key for good.
    Revoke(One),
    /// Take in keys made elsewhere, known by the SHA-256 of their texts.
    Import(Import),
    /// Make a key for the keys file: the entry goes to standard output, the key to standard error. Nothing is stored.
    NewFileEntry(New),
}

#[derive(Clone, Debug, clap::Args)]
pub(in crate::cli) struct New {
    /// Whom the key acts for; made if there is no such user.
    #[arg(long, short)]
    user: String,
    /// For people. Default: `key`.
    #[arg(long, short)]
    name: Option<String>,
    /// The organisation. Default: the user's.
    #[arg(long)]
    org: Option<String>,
    /// A key for the sandbox (`test`) is kept from live routes.
    #[arg(long, default_value = "live", value_parser = ["live", "test"])]
    env: String,
    /// What it may do; may be given several times, or with commas.
    #[arg(long = "scope", short, value_delimiter = ',', value_name = "SCOPE")]
    scopes: Vec<String>,
    /// The tier. Default: the user's, or the config's default.
    #[arg(long)]
    tier: Option<String>,
    /// Requests per minute for this key alone, beside the tier's limits.
    #[arg(long, value_name = "PER_MINUTE")]
    rate_limit: Option<u32>,
    /// The API version that the key is pinned to.
    #[arg(long, value_name = "VERSION")]
    api_version: Option<String>,
    /// When it ends: a length such as 90d, 12h, 30m, or a time such as 2027-01-31T00:00:00Z. Default: never.
    #[arg(long, value_name = "WHEN")]
    expires: Option<String>,
    /// Before this time it opens nothing.
    #[arg(long, value_name = "TIME")]
    not_before: Option<String>,
}

#[derive(Clone, Debug, clap::Args)]
pub(in crate::cli) struct Filter {
    /// Only this user's.
    #[arg(long, short)]
    user: Option<String>,
    /// Only this organisation's.
    #[arg(long)]
    org: Option<String>,
    /// Only those in this state: active, disabled, revoked, expired, scheduled.
    #[arg(long)]
    state: Option<String>,
    #[command(flatten)]
    part: Part,
}

#[derive(Clone, Debug, clap::Args)]
pub(in crate::cli) struct One {
    /// The key's id: the 12 characters after `_sk_`.
    id: String,
}

#[derive(Clone, Debug, clap::Args)]
pub(in crate::cli) struct Edit {
    /// The key's id: the 12 characters after `_sk_`.
    id: String,
    /// For people.
    #[arg(long, short)]
    name: Option<String>,
    /// All that it may do from now on; several times, or with commas; an empty text for nothing.
    #[arg(long = "scope", short, value_delimiter = ',', value_name = "SCOPE")]
    scopes: Option<Vec<String>>,
    /// The tier, or `none` for the default.
    #[arg(long)]
    tier: Option<String>,
    /// Requests per minute for this key alone, or `none`.
    #[arg(long, value_name = "PER_MINUTE")]
    rate_limit: Option<String>,
    /// The API version that the key is pinned to, or `none`.
    #[arg(long, value_name = "VERSION")]
    api_version: Option<String>,
    /// When it ends: a length such as 90d, a time, or `none` for never.
    #[arg(long, value_name = "WHEN")]
    expires: Option<String>,
    /// Before this time it opens nothing; `none` for at once.
    #[arg(long, value_name = "TIME")]
    not_before: Option<String>,
}

#[derive(Clone, Debug, clap::Args)]
pub(in crate::cli) struct Rotation {
    /// The key's id: the 12 characters after `_sk_`.
    id: String,
    /// How long the old secret still works: 0s to 30d.
    #[arg(long, default_value = "24h")]
    grace: String,
    /// Renew the expiry too: a length such as 90d, or a time.
    #[arg(long, value_name = "WHEN")]
    expires: Option<String>,
}

#[derive(Clone, Debug, clap::Args)]
pub(in crate::cli) struct Import {
    /// JSON: a list of `{sha256, name, user, …}`, or an object with such a list as `keys`; `-` for standard input.
    file: PathBuf,
}

impl Verbs for Keys {
    const NAME: &'static str = "keys";
    const ABOUT: &'static str = "Make, look at, change and end API keys";
    const EXAMPLES: &'static str = EXAMPLES;

    async fn perform(self, target: Target, voice: &mut Voice<'_>) -> Result<Exit, CliError> {
        // Read before the store is opened: a missing file needs no store.
        let entries = match &self {
            Keys::Import(import) => read_entries(import)?,
            Keys::Create(_)
            | Keys::List(_)
            | Keys::Show(_)
            | Keys::Change(_)
            | Keys::Rotate(_)
            | Keys::Disable(_)
            | Keys::Enable(_)
            | Keys::Revoke(_)
            | Keys::NewFileEntry(_) => Vec::new(),
        };
        let config = target.config.clone();
        let client = Client::open(target).await?;
        match self {
            Keys::Create(new) => {
                refuse_unlisted(&new.scopes, config.as_ref())?;
                let was_known = is_known(&client, &new.user).await;
                let key = client.call("POST", "/v1/keys", Some(&new.body())).await?;
                let name = new.name.as_ref().map(|name| format!(" ({name})")).unwrap_or_default();
                let id = show(&key, "id");
                let words = format!("key {id}{name} for {}.", show(&key, "user"));
                voice.hand_over(&key, "key", &words, &format!("`tollgate keys revoke {id}` ends the key"))?;
                doubt(&new.scopes, config.as_ref(), &mending(&id), voice)?;
                if !was_known && is_known(&client, &new.user).await {
                    doubt_new_user(&client, &new.user, voice).await?;
                }
            }
            Keys::List(filter) => {
                let query = filters(&[("user", &filter.user), ("organization", &filter.org), ("state", &filter.state)]);
                let found = Gathered::part(&client, "/v1/keys", &query, filter.part).await?;
                voice.records(&found, "keys", &CELLS)?;
                if let (Some(user), true) = (&filter.user, found.data.is_empty() && !voice.json) {
                    doubt_user(&client, user, voice).await?;
                }
            }
            Keys::Show(one) => {
                let key = client.call("GET", &path_of(&one.id), None).await?;
                voice.record(&key, &CELLS)?;
            }
            Keys::Change(edit) => {
                let scopes = edit.scopes.as_deref().unwrap_or_default();
                refuse_unlisted(scopes, config.as_ref())?;
                let key = client.call("PATCH", &path_of(&edit.id), Some(&edit.body()?)).await?;
                voice.record(&key, &CELLS)?;
                doubt_each(scopes, config.as_ref(), &mending(&edit.id), voice)?;
            }
            Keys::Rotate(rotation) => {
                let mut body = Map::from_iter([("grace".to_owned(), json!(rotation.grace))]);
                set_expiry(&mut body, rotation.expires.as_deref());
                let key = client.call("POST", &format!("{}/rotate", path_of(&rotation.id)), Some(&Value::Object(body))).await?;
                let until = match show_when(&key, "old_secret_until").as_str() {
                    "-" => "The old secret has ended.".to_owned(),
                    until => format!("The old secret works until {until} UTC."),
                };
                let id = show(&key, "id");
                let words = format!("new secret for key {id}. {until}");
                voice.hand_over(&key, "key", &words, &format!("`tollgate keys rotate {id}` makes another"))?;
            }
            Keys::Disable(one) => {
                let key = client.call("PATCH", &path_of(&one.id), Some(&json!({"active": false}))).await?;
                voice.done(&key, &show(&key, "id"), &format!("disabled: it opens nothing {FROM_WHEN}; `keys enable` turns it on again"))?;
            }
            Keys::Enable(one) => {
                let key = client.call("PATCH", &path_of(&one.id), Some(&json!({"active": true}))).await?;
                voice.done(&key, &show(&key, "id"), &format!("enabled; it is {}", show(&key, "state")))?;
            }
            Keys::Revoke(one) => {
                let key = client.call("DELETE", &path_of(&one.id), None).await?;
                voice.done(&key, &show(&key, "id"), &format!("revoked for good, {FROM_WHEN}"))?;
            }
            Keys::Import(_) => return import(&client, &entries, voice).await,
            Keys::NewFileEntry(new) => {
                refuse_unlisted(&new.scopes, config.as_ref())?;
                let entry = client.call("POST", "/v1/keys/file-entry", Some(&new.body())).await?;
                if voice.json {
                    voice.write_json(&entry)?;
                } else {
                    write!(voice.out, "{}", show(&entry, "yaml"))?;
                    writeln!(voice.complaints, "{}", show(&entry, "key"))?;
                    writeln!(
                        voice.complaints,
                        "This is the key. Store it now: it is not shown again. Nothing was stored here; the entry makes it valid."
                    )?;
                }
                doubt(&new.scopes, config.as_ref(), "its `scopes` can be changed in the entry", voice)?;
            }
        }
        Ok(Exit::Good)
    }
}

const CELLS: [Cell; 17] = [
    Cell::of("id", "id").column("ID"),
    Cell::of("name", "name").column("NAME"),
    Cell::made("key", |key| format!("{}…", show(key, "display"))),
    Cell::of("state", "state").column("STATE"),
    Cell::of("user", "user").column("USER"),
    Cell::of("organisation", "organization").column("ORG"),
    Cell::of("environment", "environment").column("ENV"),
    Cell::of("scopes", "scopes").column("SCOPES"),
    Cell::of("tier", "tier").column("TIER"),
    Cell::of("rate limit", "rate_limit"),
    Cell::of("api version", "version"),
    Cell::when("created", "created_at"),
    Cell::when("not before", "not_before"),
    Cell::when("expires", "expires_at").column("EXPIRES"),
    Cell::when("old secret until", "old_secret_until"),
    Cell::when("last used", "last_used_at").column("LAST USED"),
    Cell::of("last route", "last_used_route"),
];

impl New {
    fn body(&self) -> Value {
        let mut body =
            Map::from_iter([("user".to_owned(), json!(self.user)), ("name".to_owned(), json!(self.name.as_deref().unwrap_or("key")))]);
        let mut set = |name: &str, value: Option<Value>| {
            body.extend(value.map(|value| (name.to_owned(), value)));
        };
        set("organization", self.org.as_ref().map(|org| json!(org)));
        set("environment", Some(json!(self.env)));
        set("scopes", Some(json!(scopes_of(&self.scopes))));
        set("tier", self.tier.as_ref().map(|tier| json!(tier)));
        set("rate_limit", self.rate_limit.map(|limit| json!(limit)));
        set("version", self.api_version.as_ref().map(|version| json!(version)));
        set("not_before", self.not_before.as_ref().map(|instant| json!(instant)));
        set_expiry(&mut body, self.expires.as_deref());
        Value::Object(body)
    }
}

impl Edit {
    fn body(&self) -> Result<Value, CliError> {
        let mut body = Map::new();
        let mut set = |name: &str, value: Option<Value>| {
            body.extend(value.map(|value| (name.to_owned(), value)));
        };
        set("name", self.name.as_ref().map(|name| json!(name)));
        set("scopes", self.scopes.as_ref().map(|scopes| json!(scopes_of(scopes))));
        set("tier", self.tier.as_deref().map(or_none));
        set("version", self.api_version.as_deref().map(or_none));
        set("not_before", self.not_before.as_deref().map(or_none));
        // What is no number goes as it is: the API says what it expects.
        let limit = |text: &String| text.parse::<u64>().map_or_else(|_error| or_none(text), |limit| json!(limit));
        set("rate_limit", self.rate_limit.as_ref().map(limit));
        set_expiry(&mut body, self.expires.as_deref());
        if body.is_empty() {
            return Err(CliError::said("nothing to change; see `tollgate keys change --help`"));
        }
        Ok(Value::Object(body))
    }
}

fn scopes_of(given: &[String]) -> Vec<&str> {
    given.iter().map(String::as_str).filter(|scope| !scope.is_empty()).collect()
}

fn mending(id: &str) -> String {
    format!("`tollgate keys change {id} --scope …` mends it, `tollgate keys revoke {id}` ends the key")
}

/// A length, a time, or `none`.
fn set_expiry(body: &mut Map<String, Value>, expires: Option<&str>) {
    let Some(text) = expires else { return };
    let is_length = text.len() > 1 && text.get(..text.len() - 1).is_some_and(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()));
    let (name, value) = match text {
        "none" => ("expires_at", Value::Null),
        text if is_length => ("expires_in", json!(text)),
        text => ("expires_at", json!(text)),
    };
    body.insert(name.to_owned(), value);
}

fn path_of(id: &str) -> String {
    format!("/v1/keys/{}", encode(id))
}

fn read_entries(import: &Import) -> Result<Vec<Value>, CliError> {
    let name = import.file.display();
    let unreadable = |error: io::Error| CliError::said(format!("{name}: {error}"));
    let mut text = String::new();
    let source: Box<dyn Read> =
        if import.file.as_os_str() == "-" { Box::new(io::stdin()) } else { Box::new(open_file(&import.file).map_err(unreadable)?) };
    let length = source.take(IMPORT_BYTES_MAX + 1).read_to_string(&mut text).map_err(unreadable)?;
    if u64::try_from(length).is_ok_and(|length| length > IMPORT_BYTES_MAX) {
        return Err(CliError::said(format!("{name} is larger than {} MiB", IMPORT_BYTES_MAX >> 20)));
    }
    let place = |error: serde_json::Error| CliError::said(format!("{name} is not JSON: line {}, column {}", error.line(), error.column()));
    let mut value: Value = serde_json::from_str(&text).map_err(place)?;
    let list = if value.is_object() { value.get_mut("keys").map(Value::take).unwrap_or_default() } else { value };
    match list {
        Value::Array(entries) if !entries.is_empty() => Ok(entries),
        Value::Array(_) | Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Object(_) => {
            Err(CliError::said(format!("{name} holds no list of keys; expected [{{\"sha256\": …, \"name\": …, \"user\": …}}, …]")))
        }
    }
}

async fn import(client: &Client, entries: &[Value], voice: &mut Voice<'_>) -> Result<Exit, CliError> {
    let mut imported = Vec::new();
    let mut failed = Vec::new();
    let mut is_accepted = true;
    let mut first = 0;
    while let Some(rest) = entries.get(first..).filter(|rest| !rest.is_empty()) {
        let some = head_that_fits(rest);
        let mut report = client.call("POST", "/v1/keys/import", Some(&json!({"keys": some}))).await?;
        is_accepted &= report.get("accepted_at_the_gate").and_then(Value::as_bool).unwrap_or_default();
        for (name, list) in [("imported", &mut imported), ("failed", &mut failed)] {
            let Some(Value::Array(items)) = report.get_mut(name).map(Value::take) else { continue };
            // The report counts from the start of its request, people from the start of their file.
            list.extend(items.into_iter().map(|mut item| {
                let index = item.get("index").and_then(Value::as_u64).unwrap_or_default();
                if let Some(members) = item.as_object_mut() {
                    members.insert("index".to_owned(), json!(first as u64 + index));
                }
                item
            }));
        }
        first += some.len();
    }
    let exit = if failed.is_empty() { Exit::Good } else { Exit::Failed };
    if voice.json {
        voice.write_json(&json!({"imported": imported, "failed": failed, "accepted_at_the_gate": is_accepted}))?;
        return Ok(exit);
    }
    writeln!(voice.out, "{} of {} imported", imported.len(), so_many(entries.len(), "key", "keys"))?;
    for failure in &failed {
        let index = failure.get("index").and_then(Value::as_u64).unwrap_or_default();
        let why = match failure.get("details") {
            Some(details) => {
                // The API names the member by its place in the request, which the file knows nothing of.
                let field = show(details, "field");
                format!("{} {}", field.rsplit('.').next().unwrap_or_default(), show(details, "issue"))
            }
            None => show(failure, "message"),
        };
        writeln!(voice.complaints, "entry {}: {why}", index + 1)?;
    }
    if !is_accepted {
        writeln!(voice.complaints, "The gate does not look at imported keys yet: set `imported_keys` in the config.")?;
    }
    Ok(exit)
}

/// As many entries as one request may hold; at least one, whose size the API judges.
fn head_that_fits(entries: &[Value]) -> &[Value] {
    let mut bytes = 0;
    let fits = |entry: &&Value| {
        bytes += entry.to_string().len() + 1;
        bytes < REQUEST_BYTES_MAX
    };
    let count = entries.iter().take(TOGETHER).take_while(fits).count().max(1);
    entries.get(..count).unwrap_or(entries)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_imported_from_a_file() {
        for file in ["/dev/zero", "/"] {
            let said = read_entries(&Import { file: file.into() }).unwrap_err().to_string();
            assert!(said.contains("it is no regular file"), "{said}");
        }
    }
}
