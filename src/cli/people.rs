//! Names of users that may be typing errors. Whoever may not see all users is told nothing about them.

use serde_json::Value;

use crate::cli::client::CliError;
use crate::cli::client::Client;
use crate::cli::client::encode;
use crate::cli::table::show;
use crate::cli::voice::Gathered;
use crate::cli::voice::Voice;
use crate::config::complaint::did_you_mean;

/// Users that are looked through for one of a like name.
const USERS_MAX: usize = 5_000;

/// Says where no user is called so. It is no more than a hint: those of JWT issuers may stand in the counts alone.
pub(in crate::cli) async fn doubt_user(client: &Client, user: &str, voice: &mut Voice<'_>) -> Result<(), CliError> {
    let Some(names) = all_names(client).await else { return Ok(()) };
    let bare = user.split_once(':').map_or(user, |(_source, bare)| bare);
    if names.iter().any(|known| known.split_once(':').map_or(&**known, |(_source, known)| known) == bare) {
        return Ok(());
    }
    let hint = nearest(user, &names).map(|hint| format!(" ({hint})")).unwrap_or_default();
    Ok(writeln!(voice.complaints, "No user of this store is called `{user}`{hint}; those of JWT issuers need not be in it.")?)
}

/// Whether a user of this name can be seen.
pub(in crate::cli) async fn is_known(client: &Client, user: &str) -> bool {
    client.call("GET", &format!("/v1/users/{}", encode(user)), None).await.is_ok()
}

/// Says that a user was made by the way, where another has nearly the same name.
pub(in crate::cli) async fn doubt_new_user(client: &Client, user: &str, voice: &mut Voice<'_>) -> Result<(), CliError> {
    let Some(names) = all_names(client).await else { return Ok(()) };
    let others: Vec<String> = names.into_iter().filter(|known| known != user).collect();
    match nearest(user, &others) {
        Some(hint) => Ok(writeln!(
            voice.complaints,
            "warning: there was no user `{user}`, and now there is ({hint}); `tollgate users erase {user}` ends it with its keys"
        )?),
        None => Ok(()),
    }
}

fn nearest(user: &str, names: &[String]) -> Option<String> {
    did_you_mean(user, names.iter().map(String::as_str))
}

async fn all_names(client: &Client) -> Option<Vec<String>> {
    match Gathered::read(client, "/v1/users", "", USERS_MAX, None).await {
        Ok(Gathered { data, next: None }) => Some(data.iter().map(name_of).collect()),
        Ok(_) | Err(_) => None,
    }
}

/// As counts name it.
fn name_of(user: &Value) -> String {
    match show(user, "source").as_str() {
        "local" => show(user, "id"),
        source => format!("{source}:{}", show(user, "id")),
    }
}
