//! `tollgate users`: the people and programs behind keys, and what they may hold at the most.

use std::io;
use std::io::BufRead;
use std::io::IsTerminal;
use std::io::Read;

use serde_json::Map;
use serde_json::Value;
use serde_json::json;
use zeroize::Zeroizing;

use crate::cli::Exit;
use crate::cli::client::CliError;
use crate::cli::client::Client;
use crate::cli::client::Target;
use crate::cli::client::encode;
use crate::cli::scopes::doubt_each;
use crate::cli::scopes::refuse_unlisted;
use crate::cli::table::Cell;
use crate::cli::table::show;
use crate::cli::table::show_when;
use crate::cli::voice::Gathered;
use crate::cli::voice::Part;
use crate::cli::voice::Verbs;
use crate::cli::voice::Voice;
use crate::cli::voice::or_none;

/// More than any password may have.
const PASSWORD_BYTES_MAX: u64 = 4096;

const EXAMPLES: &str = "\
Examples:
  tollgate users create alice --org acme --right conversations:read
  tollgate users list
  tollgate users show alice
  tollgate users change alice --tier pro --right conversations:read,customers:read
  tollgate users change alice --role admin
  tollgate users password alice < password-file  a line of standard input, never an argument
  tollgate users sign-out alice                  tokens from before now open nothing
  tollgate users disable alice                   nothing of hers opens anything, until `enable`
  tollgate users enable alice
  tollgate users invite --org acme               the link by which somebody joins
  tollgate users erase alice                     with her keys and her name, everywhere, for good";

#[derive(Clone, Debug, clap::Subcommand)]
pub(in crate::cli) enum Users {
    /// Make a user.
    Create(New),
    /// List users.
    List(Part),
    /// Show one user.
    Show(One),
    /// Change a user's organisation, role, tier or rights.
    Change(Edit),
    /// Set a user's password, read from standard input.
    Password(One),
    /// End what was issued to a user until now; its keys stay.
    SignOut(One),
    /// Switch a user off: nothing of it opens anything.
    Disable(One),
    /// Switch a disabled user on.
    Enable(One),
    /// Erase a user: its keys, its sessions, its name in counts and in the audit log.
    Erase(One),
    /// Make an invitation into an organisation. Its link goes to standard output, once.
    Invite(Invitation),
}

#[derive(Clone, Debug, clap::Args)]
pub(in crate::cli) struct New {
    /// What it is called.
    id: String,
    /// The organisation.
    #[arg(long)]
    org: Option<String>,
    /// What it is in its organisation.
    #[arg(long, value_parser = ["admin", "member"])]
    role: Option<String>,
    /// The tier. Default: the config's default.
    #[arg(long)]
    tier: Option<String>,
    /// What its credentials may hold at the most; several times, or with commas. Default: no ceiling.
    #[arg(long = "right", value_delimiter = ',', value_name = "SCOPE")]
    rights: Option<Vec<String>>,
}

#[derive(Clone, Debug, clap::Args)]
pub(in crate::cli) struct One {
    /// What it is called.
    id: String,
}

#[derive(Clone, Debug, clap::Args)]
pub(in crate::cli) struct Edit {
    /// What it is called.
    id: String,
    /// The organisation, or `none`.
    #[arg(long)]
    org: Option<String>,
    /// What it is in its organisation.
    #[arg(long, value_parser = ["admin", "member"])]
    role: Option<String>,
    /// The tier, or `none` for the default.
    #[arg(long)]
    tier: Option<String>,
    /// All that its credentials may hold from now on; several times, or with commas; an empty text for nothing.
    #[arg(long = "right", value_delimiter = ',', value_name = "SCOPE", conflicts_with = "no_ceiling")]
    rights: Option<Vec<String>>,
    /// Its credentials may hold whatever they are given.
    #[arg(long)]
    no_ceiling: bool,
}

#[derive(Clone, Debug, clap::Args)]
pub(in crate::cli) struct Invitation {
    /// The organisation. Default: one's own.
    #[arg(long)]
    org: Option<String>,
    /// What the new user becomes.
    #[arg(long, value_parser = ["admin", "member"])]
    role: Option<String>,
    /// What it may hold at the most; several times, or with commas. Default: the config's.
    #[arg(long = "right", value_delimiter = ',', value_name = "SCOPE")]
    rights: Option<Vec<String>>,
}

impl Verbs for Users {
    const NAME: &'static str = "users";
    const ABOUT: &'static str = "Make, look at, change and erase users";
    const EXAMPLES: &'static str = EXAMPLES;

    async fn perform(self, target: Target, voice: &mut Voice<'_>) -> Result<Exit, CliError> {
        // Read before the store is opened: nobody waits for a hand that types.
        let password = match &self {
            Users::Password(_) => Zeroizing::new(read_password()?),
            Users::Create(_)
            | Users::List(_)
            | Users::Show(_)
            | Users::Change(_)
            | Users::SignOut(_)
            | Users::Disable(_)
            | Users::Enable(_)
            | Users::Erase(_)
            | Users::Invite(_) => Zeroizing::default(),
        };
        let config = target.config.clone();
        let client = Client::open(target).await?;
        match self {
            Users::Create(new) => {
                let rights = new.rights.as_deref().unwrap_or_default();
                refuse_unlisted(rights, config.as_ref())?;
                let user = client.call("POST", "/v1/users", Some(&new.body())).await?;
                voice.done(&user, &new.id, "made")?;
                doubt_each(rights, config.as_ref(), &mending(&new.id), voice)
            }
            Users::List(part) => {
                let found = Gathered::part(&client, "/v1/users", "", part).await?;
                voice.records(&found, "users", &CELLS)
            }
            Users::Show(one) => {
                let user = client.call("GET", &path_of(&one.id), None).await?;
                voice.record(&user, &CELLS)
            }
            Users::Change(edit) => {
                let rights = edit.rights.as_deref().unwrap_or_default();
                refuse_unlisted(rights, config.as_ref())?;
                let user = client.call("PATCH", &path_of(&edit.id), Some(&edit.body()?)).await?;
                voice.record(&user, &CELLS)?;
                doubt_each(rights, config.as_ref(), &mending(&edit.id), voice)
            }
            Users::Password(one) => {
                change(&client, &one.id, json!({"password": *password}), "has the new password, and is signed out everywhere", voice).await
            }
            Users::SignOut(one) => {
                change(&client, &one.id, json!({"valid_from": "now"}), "signed out: tokens from before open nothing", voice).await
            }
            Users::Disable(one) => {
                change(&client, &one.id, json!({"active": false}), "disabled: nothing of it opens anything", voice).await
            }
            Users::Enable(one) => change(&client, &one.id, json!({"active": true}), "enabled", voice).await,
            Users::Erase(one) => {
                let answer = client.call("DELETE", &path_of(&one.id), None).await?;
                voice.done(&answer, &one.id, "erased, with its keys")
            }
            Users::Invite(invitation) => {
                let rights = invitation.rights.as_deref().unwrap_or_default();
                refuse_unlisted(rights, config.as_ref())?;
                // Asked before: what is shown once must not be lost to a second question.
                let members = match &invitation.org {
                    Some(org) => client.call("GET", &format!("/v1/users?limit=1&organization={}", encode(org)), None).await?,
                    None => Value::Null,
                };
                let is_new = members.get("data").and_then(Value::as_array).is_some_and(Vec::is_empty);
                let made = client.call("POST", "/v1/invitations", Some(&invitation.body())).await?;
                let words = format!(
                    "an invitation into {}{}, until {} UTC.",
                    show(&made, "organization"),
                    if is_new { " (nobody is in it yet: whoever comes by this begins it)" } else { "" },
                    show_when(&made, "expires_at")
                );
                let remedy = format!("DELETE /v1/invitations/{} takes it back", show(&made, "id"));
                voice.hand_over(&made, "url", &words, &remedy)?;
                doubt_each(rights, config.as_ref(), &remedy, voice)
            }
        }?;
        Ok(Exit::Good)
    }
}

async fn change(client: &Client, id: &str, body: Value, words: &str, voice: &mut Voice<'_>) -> Result<(), CliError> {
    let user = client.call("PATCH", &path_of(id), Some(&body)).await?;
    voice.done(&user, id, words)
}

const CELLS: [Cell; 13] = [
    Cell::of("id", "id").column("ID"),
    Cell::of("source", "source").column("SOURCE"),
    Cell::of("state", "state").column("STATE"),
    Cell::of("organisation", "organization").column("ORG"),
    Cell::of("role", "role").column("ROLE"),
    Cell::of("tier", "tier").column("TIER"),
    Cell::made("rights", rights).column("RIGHTS"),
    Cell::of("e-mail", "email"),
    Cell::of("password", "has_password"),
    Cell::of("online", "online"),
    Cell::when("last operation", "last_operation_at"),
    Cell::when("tokens from", "valid_from"),
    Cell::when("created", "created_at"),
];

fn rights(user: &Value) -> String {
    match user.get("rights") {
        None | Some(Value::Null) => "no ceiling".to_owned(),
        Some(_) => show(user, "rights"),
    }
}

/// One line, which no terminal shows as it is typed.
fn read_password() -> Result<String, CliError> {
    if io::stdin().is_terminal() {
        return Err(CliError::said(
            "the terminal would show it: hand the password over on standard input, as in  read -rs P; tollgate users password … <<<\"$P\"",
        ));
    }
    let mut line = String::new();
    io::stdin().lock().take(PASSWORD_BYTES_MAX).read_line(&mut line).map_err(|error| CliError::said(format!("standard input: {error}")))?;
    Ok(line.trim_end_matches(['\r', '\n']).to_owned())
}

impl New {
    fn body(&self) -> Value {
        let mut body = Map::from_iter([("id".to_owned(), json!(self.id))]);
        body.extend(self.org.as_ref().map(|org| ("organization".to_owned(), json!(org))));
        body.extend(self.role.as_ref().map(|role| ("role".to_owned(), json!(role))));
        body.extend(self.tier.as_ref().map(|tier| ("tier".to_owned(), json!(tier))));
        body.extend(self.rights.as_ref().map(|rights| ("rights".to_owned(), scopes(rights))));
        Value::Object(body)
    }
}

impl Edit {
    fn body(&self) -> Result<Value, CliError> {
        let mut body = Map::new();
        body.extend(self.org.as_ref().map(|org| ("organization".to_owned(), or_none(org))));
        body.extend(self.role.as_ref().map(|role| ("role".to_owned(), json!(role))));
        body.extend(self.tier.as_ref().map(|tier| ("tier".to_owned(), or_none(tier))));
        body.extend(self.rights.as_ref().map(|rights| ("rights".to_owned(), scopes(rights))));
        body.extend(self.no_ceiling.then(|| ("rights".to_owned(), Value::Null)));
        if body.is_empty() {
            return Err(CliError::said("nothing to change; see `tollgate users change --help`"));
        }
        Ok(Value::Object(body))
    }
}

impl Invitation {
    fn body(&self) -> Value {
        let mut body = Map::new();
        body.extend(self.org.as_ref().map(|org| ("organization".to_owned(), json!(org))));
        body.extend(self.role.as_ref().map(|role| ("role".to_owned(), json!(role))));
        body.extend(self.rights.as_ref().map(|rights| ("rights".to_owned(), scopes(rights))));
        Value::Object(body)
    }
}

fn scopes(given: &[String]) -> Value {
    json!(given.iter().filter(|scope| !scope.is_empty()).collect::<Vec<_>>())
}

fn mending(id: &str) -> String {
    format!("`tollgate users change {id} --right …` mends it")
}

fn path_of(id: &str) -> String {
    format!("/v1/users/{}", encode(id))
}
