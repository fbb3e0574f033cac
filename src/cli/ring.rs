//! `tollgate ring`: the issuer's signing keys.

use serde_json::Value;
use serde_json::json;

use crate::cli::Exit;
use crate::cli::client::CliError;
use crate::cli::client::Client;
use crate::cli::client::Target;
use crate::cli::table::Cell;
use crate::cli::voice::Gathered;
use crate::cli::voice::Verbs;
use crate::cli::voice::Voice;

const EXAMPLES: &str = "\
Examples:
  tollgate ring show
  tollgate ring rotate                  the next keys sign; tokens of the old ones live on
  tollgate ring rotate --emergency      a key has leaked: every token signed until now ends";

#[derive(Clone, Debug, clap::Subcommand)]
pub(in crate::cli) enum Ring {
    /// Show the keys. No private half is ever shown.
    Show,
    /// Let the next keys sign.
    Rotate(Rotation),
}

#[derive(Clone, Debug, clap::Args)]
pub(in crate::cli) struct Rotation {
    /// A key has leaked: throw all of them away, and with them every token that they signed.
    #[arg(long)]
    emergency: bool,
}

impl Verbs for Ring {
    const NAME: &'static str = "ring";
    const ABOUT: &'static str = "Look at the keys that sign tokens, and turn them";
    const EXAMPLES: &'static str = EXAMPLES;

    async fn perform(self, target: Target, voice: &mut Voice<'_>) -> Result<Exit, CliError> {
        perform(self, target, voice).await.map(|()| Exit::Good)
    }
}

const CELLS: [Cell; 4] = [
    Cell::of("kid", "kid").column("KID"),
    Cell::of("algorithm", "alg").column("ALGORITHM"),
    Cell::of("state", "state").column("STATE"),
    Cell::when("published until", "published_until").column("PUBLISHED UNTIL"),
];

async fn perform(command: Ring, target: Target, voice: &mut Voice<'_>) -> Result<(), CliError> {
    let client = Client::open(target).await?;
    let mut ring = match command {
        Ring::Show => client.call("GET", "/v1/ring", None).await?,
        Ring::Rotate(Rotation { emergency }) => client.call("POST", "/v1/ring/rotate", Some(&json!({"emergency": emergency}))).await?,
    };
    if voice.json {
        return voice.write_json(&ring);
    }
    let data = match ring.get_mut("data").map(Value::take) {
        Some(Value::Array(keys)) => keys,
        Some(_) | None => Vec::new(),
    };
    voice.records(&Gathered { data, next: None }, "signing keys", &CELLS)
}
