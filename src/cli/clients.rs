//! `tollgate clients`: OAuth applications.

use serde_json::Map;
use serde_json::Value;
use serde_json::json;

use crate::cli::Exit;
use crate::cli::client::CliError;
use crate::cli::client::Client;
use crate::cli::client::Target;
use crate::cli::client::encode;
use crate::cli::scopes::refuse_not_issued;
use crate::cli::table::Cell;
use crate::cli::table::show;
use crate::cli::voice::Gathered;
use crate::cli::voice::Part;
use crate::cli::voice::Verbs;
use crate::cli::voice::Voice;
use crate::cli::voice::or_none;

const EXAMPLES: &str = "\
Examples:
  tollgate clients create --name shop --redirect https://shop.example/back --scope orders:read
  tollgate clients create --name cli --kind native --redirect http://127.0.0.1/back
  tollgate clients create --name robot --grant client_credentials --scope orders:read
  SECRET=$(tollgate clients create …)            only the secret goes to standard output
  tollgate clients list
  tollgate clients show app_0123456789abcdefghij
  tollgate clients change app_0123456789abcdefghij --scope orders:read,orders:write
  tollgate clients rotate app_0123456789abcdefghij --grace 7d  old and new secret work for a week
  tollgate clients disable app_0123456789abcdefghij            until `enable`
  tollgate clients enable app_0123456789abcdefghij
  tollgate clients delete app_0123456789abcdefghij             with all that was given to it";

#[derive(Clone, Debug, clap::Subcommand)]
pub(in crate::cli) enum Clients {
    /// Register an application. Its secret goes to standard output, once; nothing can show it again.
    Create(New),
    /// List applications.
    List(Part),
    /// Show one application.
    Show(One),
    /// Change an application's name, redirects, scopes or tier.
    Change(Edit),
    /// Give an application a new secret; the old one works until the grace ends.
    Rotate(Rotation),
    /// Switch an application off: nothing that was given to it opens anything.
    Disable(One),
    /// Switch a disabled application on.
    Enable(One),
    /// Delete an application, with everything that was given to it.
    Delete(One),
}

#[derive(Clone, Debug, clap::Args)]
pub(in crate::cli) struct New {
    /// What people are asked about.
    #[arg(long, short)]
    name: String,
    /// `confidential` keeps a secret; `public` (in a browser) and `native` (on a device) do not.
    #[arg(long, default_value = "confidential", value_parser = ["confidential", "public", "native"])]
    kind: String,
    /// Where people are sent back to; several times.
    #[arg(long = "redirect", value_name = "URI")]
    redirects: Vec<String>,
    /// What it may ask for at the most; several times, or with commas.
    #[arg(long = "scope", short, value_delimiter = ',', value_name = "SCOPE")]
    scopes: Vec<String>,
    /// How it may get tokens; several times. Default: authorization_code and refresh_token.
    #[arg(long = "grant", value_name = "GRANT_TYPE")]
    grants: Vec<String>,
    /// Whose it is. Default: one's own.
    #[arg(long)]
    owner: Option<String>,
    /// The organisation.
    #[arg(long)]
    org: Option<String>,
    /// The tier of its tokens, whoever they are for. Default: the user's, or the config's default.
    #[arg(long)]
    tier: Option<String>,
}

#[derive(Clone, Debug, clap::Args)]
pub(in crate::cli) struct One {
    /// `app_…`
    id: String,
}

#[derive(Clone, Debug, clap::Args)]
pub(in crate::cli) struct Edit {
    /// `app_…`
    id: String,
    /// What people are asked about.
    #[arg(long, short)]
    name: Option<String>,
    /// All that people may be sent back to from now on; several times.
    #[arg(long = "redirect", value_name = "URI")]
    redirects: Option<Vec<String>>,
    /// All that it may ask for from now on; several times, or with commas.
    #[arg(long = "scope", short, value_delimiter = ',', value_name = "SCOPE")]
    scopes: Option<Vec<String>>,
    /// The tier, or `none` for the default.
    #[arg(long)]
    tier: Option<String>,
}

#[derive(Clone, Debug, clap::Args)]
pub(in crate::cli) struct Rotation {
    /// `app_…`
    id: String,
    /// How long the old secret still works.
    #[arg(long, default_value = "24h")]
    grace: String,
}

impl Verbs for Clients {
    const NAME: &'static str = "clients";
    const ABOUT: &'static str = "Register, look at, change and end OAuth applications";
    const EXAMPLES: &'static str = EXAMPLES;

    async fn perform(self, target: Target, voice: &mut Voice<'_>) -> Result<Exit, CliError> {
        let config = target.config.clone();
        let client = Client::open(target).await?;
        match self {
            Clients::Create(new) => {
                refuse_not_issued(&new.scopes, config.as_ref())?;
                let made = client.call("POST", "/v1/clients", Some(&new.body())).await?;
                let id = show(&made, "id");
                let words = format!("{id} ({})", show(&made, "name"));
                if made.get("client_secret").is_some() {
                    let remedy =
                        format!("`tollgate clients delete {id}` ends the application, `tollgate clients rotate {id}` gives it another");
                    voice.hand_over(&made, "client_secret", &format!("the secret of {words}."), &remedy)
                } else {
                    voice.done(&made, &words, "registered; it has no secret")
                }
            }
            Clients::List(part) => {
                let found = Gathered::part(&client, "/v1/clients", "", part).await?;
                voice.records(&found, "applications", &CELLS)
            }
            Clients::Show(one) => {
                let found = client.call("GET", &path_of(&one.id), None).await?;
                voice.record(&found, &CELLS)
            }
            Clients::Change(edit) => {
                refuse_not_issued(edit.scopes.as_deref().unwrap_or_default(), config.as_ref())?;
                let changed = client.call("PATCH", &path_of(&edit.id), Some(&edit.body()?)).await?;
                voice.record(&changed, &CELLS)
            }
            Clients::Rotate(rotation) => {
                let path = format!("{}/rotate", path_of(&rotation.id));
                let made = client.call("POST", &path, Some(&json!({"grace": rotation.grace}))).await?;
                let words = format!("a new secret of {}; the one before works for {}.", rotation.id, rotation.grace);
                voice.hand_over(&made, "client_secret", &words, &format!("`tollgate clients rotate {}` makes another", rotation.id))
            }
            Clients::Disable(one) => {
                let changed = client.call("PATCH", &path_of(&one.id), Some(&json!({"active": false}))).await?;
                voice.done(&changed, &one.id, "disabled: nothing that was given to it opens anything")
            }
            Clients::Enable(one) => {
                let changed = client.call("PATCH", &path_of(&one.id), Some(&json!({"active": true}))).await?;
                voice.done(&changed, &one.id, "enabled")
            }
            Clients::Delete(one) => {
                let answer = client.call("DELETE", &path_of(&one.id), None).await?;
                voice.done(&answer, &one.id, "deleted, with everything that was given to it")
            }
        }?;
        Ok(Exit::Good)
    }
}

const CELLS: [Cell; 13] = [
    Cell::of("id", "id").column("ID"),
    Cell::of("name", "name").column("NAME"),
    Cell::of("kind", "kind").column("KIND"),
    Cell::of("active", "active").column("ACTIVE"),
    Cell::of("owner", "owner").column("OWNER"),
    Cell::of("organisation", "organization").column("ORG"),
    Cell::of("proves itself", "token_endpoint_auth_method"),
    Cell::of("redirects", "redirect_uris"),
    Cell::of("grants", "grant_types"),
    Cell::of("scopes", "scopes").column("SCOPES"),
    Cell::of("tier", "tier"),
    Cell::of("access tokens", "access_tokens"),
    Cell::when("created", "created_at"),
];

impl New {
    fn body(&self) -> Value {
        let mut body = Map::from_iter([
            ("name".to_owned(), json!(self.name)),
            ("kind".to_owned(), json!(self.kind)),
            ("scopes".to_owned(), json!(self.scopes)),
        ]);
        let mut set = |name: &str, value: Option<Value>| body.extend(value.map(|value| (name.to_owned(), value)));
        set("redirect_uris", (!self.redirects.is_empty()).then(|| json!(self.redirects)));
        set("grant_types", (!self.grants.is_empty()).then(|| json!(self.grants)));
        set("owner", self.owner.as_ref().map(|owner| json!(owner)));
        set("organization", self.org.as_ref().map(|org| json!(org)));
        set("tier", self.tier.as_ref().map(|tier| json!(tier)));
        Value::Object(body)
    }
}

impl Edit {
    fn body(&self) -> Result<Value, CliError> {
        let mut body = Map::new();
        body.extend(self.name.as_ref().map(|name| ("name".to_owned(), json!(name))));
        body.extend(self.redirects.as_ref().map(|redirects| ("redirect_uris".to_owned(), json!(redirects))));
        body.extend(self.scopes.as_ref().map(|scopes| ("scopes".to_owned(), json!(scopes))));
        body.extend(self.tier.as_ref().map(|tier| ("tier".to_owned(), or_none(tier))));
        if body.is_empty() {
            return Err(CliError::said("nothing to change; see `tollgate clients change --help`"));
        }
        Ok(Value::Object(body))
    }
}

fn path_of(id: &str) -> String {
    format!("/v1/clients/{}", encode(id))
}
