//! The service log: start-up, reloads, errors. Decisions have a log of their own.

use tracing_subscriber::EnvFilter;

/// In which form lines are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// For machines.
    #[default]
    Json,
    /// For people.
    Plain,
}

/// A filter that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum LoggingError {
    #[error("the log level {text:?} cannot be read: {why}; write error, warn, info, debug, trace, or target=level pairs")]
    Level { text: String, why: String },
}

/// Starts the service log on standard error, once a process; a second call changes nothing.
///
/// # Errors
/// [`LoggingError`] when `level` is no filter.
pub fn start(format: LogFormat, level: &str) -> Result<(), LoggingError> {
    let filter = EnvFilter::try_new(level).map_err(|error| LoggingError::Level { text: level.to_owned(), why: error.to_string() })?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let started = match format {
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
        LogFormat::Plain => builder.with_ansi(false).try_init(),
    };
    if started.is_err() {
        tracing::debug!("the service log was already started");
    }
    std::panic::set_hook(Box::new(|panic| {
        // The payload may hold what a client sent, so only the place is told.
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        tracing::error!(place, "panic");
    }));
    Ok(())
}
