//! `tollgate schema`: what is generated from the code: the JSON Schema of the config file, and the references.

use std::io::Write;

use crate::check::reasons;
use crate::cli::Exit;
use crate::config::reference::settings;
use crate::config::schema::config_schema;
use crate::telemetry::reference::markdown;

/// Print the JSON Schema (draft 7) of the config file, or one of the references in Markdown.
#[derive(Clone, Copy, Debug, clap::Args)]
#[group(multiple = false)]
pub struct Schema {
    /// Every setting of the config file instead: type, default, bounds, meaning.
    #[arg(long)]
    settings: bool,
    /// Every metric instead: type, labels and their values, meaning.
    #[arg(long)]
    metrics: bool,
    /// Every outcome of a check instead: what it is, log and metric label, public code and text, HTTP and gRPC status.
    #[arg(long)]
    reasons: bool,
}

impl Schema {
    /// # Errors
    /// When `out` cannot be written to.
    pub fn run(self, out: &mut dyn Write) -> std::io::Result<Exit> {
        let text = if self.settings {
            settings()
        } else if self.metrics {
            markdown().map_err(std::io::Error::other)?
        } else if self.reasons {
            reasons::markdown()
        } else {
            config_schema()
        };
        out.write_all(text.as_bytes())?;
        Ok(Exit::Good)
    }
}
