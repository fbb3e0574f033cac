//! How the commands that speak to the resource API speak to people and machines.

use std::io;
use std::io::Write;

use serde_json::Value;
use serde_json::json;

use crate::cli::Exit;
use crate::cli::client::CliError;
use crate::cli::client::Client;
use crate::cli::client::Reach;
use crate::cli::client::Target;
use crate::cli::client::encode;
use crate::cli::table::Cell;
use crate::cli::table::show;
use crate::cli::table::write_record;
use crate::cli::table::write_records;

/// Records of one page.
const TOGETHER: usize = 500;

/// A command that speaks to the resource API.
pub(in crate::cli) trait Command: Sized {
    /// As it is typed.
    const NAME: &'static str;

    /// Where the caller's arguments say that the API is.
    fn reach(&self) -> &Reach;

    /// Does what was asked for.
    async fn perform(self, target: Target, voice: &mut Voice<'_>) -> Result<Exit, CliError>;

    /// Does it, and says how it ended.
    ///
    /// # Errors
    /// When one of the writers cannot be written to.
    async fn run(self, target: Target, out: &mut dyn Write, complaints: &mut dyn Write) -> io::Result<Exit> {
        let mut voice = Voice { out, complaints, json: self.reach().here.json };
        match self.perform(target, &mut voice).await {
            Ok(exit) => Ok(exit),
            Err(CliError::Output(error)) => Err(error),
            Err(CliError::Said(why)) => {
                writeln!(voice.complaints, "tollgate {}: {why}", Self::NAME)?;
                Ok(Exit::Failed)
            }
        }
    }
}

/// A command of several verbs.
pub(in crate::cli) trait Verbs: clap::Subcommand {
    const NAME: &'static str;
    const ABOUT: &'static str;
    const EXAMPLES: &'static str;

    async fn perform(self, target: Target, voice: &mut Voice<'_>) -> Result<Exit, CliError>;
}

/// Its arguments.
#[derive(Clone, Debug, clap::Args)]
#[command(about = V::ABOUT, after_help = V::EXAMPLES, subcommand_required = true, arg_required_else_help = true)]
pub(in crate::cli) struct Speaking<V: Verbs> {
    #[command(flatten)]
    reach: Reach,
    #[command(subcommand)]
    verb: V,
}

impl<V: Verbs> Command for Speaking<V> {
    const NAME: &'static str = V::NAME;

    fn reach(&self) -> &Reach {
        &self.reach
    }

    async fn perform(self, target: Target, voice: &mut Voice<'_>) -> Result<Exit, CliError> {
        self.verb.perform(target, voice).await
    }
}

/// How much of a list.
#[derive(Clone, Debug, clap::Args)]
pub(in crate::cli) struct Part {
    /// At most so many.
    #[arg(long, default_value_t = 200)]
    limit: usize,
    /// Go on behind the one of this id.
    #[arg(long, value_name = "ID")]
    after: Option<String>,
}

/// The writers of a command and how it should speak.
pub(in crate::cli) struct Voice<'o> {
    pub(in crate::cli) out: &'o mut dyn Write,
    pub(in crate::cli) complaints: &'o mut dyn Write,
    pub(in crate::cli) json: bool,
}

impl Voice<'_> {
    /// The one time that a secret is seen: alone on standard output, so that a script can take it. `remedy`: what to do where it cannot
    /// be written, and nobody will ever have it.
    pub(in crate::cli) fn hand_over(&mut self, record: &Value, member: &str, what: &str, remedy: &str) -> Result<(), CliError> {
        let written =
            if self.json { self.write_json(record) } else { writeln!(self.out, "{}", show(record, member)).map_err(CliError::from) };
        written.and_then(|()| Ok(self.out.flush()?)).map_err(|why| {
            CliError::said(format!("{what}\nThis was done, but the secret could not be written ({why}) and is lost: {remedy}"))
        })?;
        if !self.json {
            writeln!(self.complaints, "{what} Store it now: it is not shown again.")?;
        }
        Ok(())
    }

    /// What became of a change.
    pub(in crate::cli) fn done(&mut self, record: &Value, id: &str, words: &str) -> Result<(), CliError> {
        if self.json {
            return self.write_json(record);
        }
        writeln!(self.out, "{id} {words}")?;
        self.replication(record)
    }

    /// A list, and how to go on where it is not all.
    pub(in crate::cli) fn records(&mut self, found: &Gathered, what: &str, cells: &[Cell]) -> Result<(), CliError> {
        if self.json {
            return self.write_json(&json!({"data": found.data, "next": found.next}));
        }
        if found.data.is_empty() {
            writeln!(self.complaints, "There are no such {what}.")?;
        } else {
            write_records(self.out, cells, &found.data)?;
        }
        if let Some(next) = &found.next {
            writeln!(self.complaints, "There are more: go on with --after {next}")?;
        }
        Ok(())
    }

    /// One record, with everything that people ask of it.
    pub(in crate::cli) fn record(&mut self, record: &Value, cells: &[Cell]) -> Result<(), CliError> {
        if self.json {
            return self.write_json(record);
        }
        write_record(self.out, cells, record)?;
        self.replication(record)
    }

    fn replication(&mut self, record: &Value) -> Result<(), CliError> {
        if record.get("replicated") == Some(&Value::Bool(false)) {
            writeln!(
                self.complaints,
                "No replica of Redis has it yet: a failover right now could undo it for a moment. Ask again to make sure."
            )?;
        }
        Ok(())
    }

    pub(in crate::cli) fn write_json(&mut self, value: &Value) -> Result<(), CliError> {
        let text = serde_json::to_string_pretty(value).map_err(io::Error::from)?;
        Ok(writeln!(self.out, "{text}")?)
    }
}

/// Records of a list, page by page, and where the list goes on.
pub(in crate::cli) struct Gathered {
    pub(in crate::cli) data: Vec<Value>,
    pub(in crate::cli) next: Option<String>,
}

impl Gathered {
    /// This part of the records of a path. `query` is empty, or begins with `&`.
    pub(in crate::cli) async fn part(client: &Client, path: &str, query: &str, part: Part) -> Result<Self, CliError> {
        Self::read(client, path, query, part.limit, part.after).await
    }

    /// At most `most` records of this path. `query` is empty, or begins with `&`.
    pub(in crate::cli) async fn read(
        client: &Client,
        path: &str,
        query: &str,
        most: usize,
        mut after: Option<String>,
    ) -> Result<Self, CliError> {
        let mut data = Vec::new();
        while data.len() < most {
            let behind = after.as_ref().map(|after| format!("&after={}", encode(after))).unwrap_or_default();
            let limit = (most - data.len()).min(TOGETHER);
            let mut page = client.call("GET", &format!("{path}?limit={limit}{query}{behind}"), None).await?;
            if let Some(Value::Array(some)) = page.get_mut("data").map(Value::take) {
                data.extend(some);
            }
            after = page.get("next").and_then(Value::as_str).map(str::to_owned);
            if after.is_none() {
                break;
            }
        }
        Ok(Self { data, next: after })
    }
}

/// What a member is changed to: `none` clears it.
pub(in crate::cli) fn or_none(text: &str) -> Value {
    if text == "none" { Value::Null } else { json!(text) }
}

/// The part of a query that names these filters.
pub(in crate::cli) fn filters(given: &[(&str, &Option<String>)]) -> String {
    given.iter().filter_map(|(name, value)| value.as_ref().map(|value| format!("&{name}={}", encode(value)))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Full;

    impl Write for Full {
        fn write(&mut self, _bytes: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::BrokenPipe.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_secret_that_reached_nobody_is_a_failure_that_names_what_has_it() {
        for json in [false, true] {
            let mut complaints = Vec::new();
            let mut voice = Voice { out: &mut Full, complaints: &mut complaints, json };
            let made = json!({"id": "3fKq9ZxT0aBc", "key": "tg_live_sk_secret"});
            // A reader that is gone is no reason for silence here, as it is elsewhere.
            let Err(CliError::Said(why)) = voice.hand_over(&made, "key", "key 3fKq9ZxT0aBc.", "end it") else { panic!("{json}") };
            assert!(why.starts_with("key 3fKq9ZxT0aBc.\n") && why.ends_with("is lost: end it") && !why.contains("tg_live"), "{why}");
            assert_eq!(complaints, b"");
        }
    }
}
