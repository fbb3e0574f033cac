//! `tollgate openapi`: the document of the HTTP API, generated from its routes.

use std::io::Write;

use crate::cli::Exit;
use crate::issuer::openapi::document;
use crate::model::route::ErrorFormat;

/// Print the OpenAPI 3.1 document of the API that `listen.issuer` serves; a running one has it at `/openapi.json`.
#[derive(Clone, Copy, Debug, clap::Args)]
pub struct Openapi {
    /// In which form refusals are shown: what `issuer.errors` says.
    #[arg(long, value_enum, default_value_t = Errors::Standard)]
    errors: Errors,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Errors {
    Standard,
    Problem,
    Envelope,
    Result,
}

impl Openapi {
    /// # Errors
    /// When `out` cannot be written to.
    pub fn run(self, out: &mut dyn Write) -> std::io::Result<Exit> {
        let format = match self.errors {
            Errors::Standard => ErrorFormat::Standard,
            Errors::Problem => ErrorFormat::Problem,
            Errors::Envelope => ErrorFormat::Envelope,
            Errors::Result => ErrorFormat::Result,
        };
        let text = serde_json::to_string_pretty(&document(format)?)?;
        writeln!(out, "{text}")?;
        Ok(Exit::Good)
    }
}
