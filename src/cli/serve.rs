//! `tollgate serve`: the program itself.

use std::io::Write;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;

use tokio::signal::unix::Signal;
use tokio::signal::unix::SignalKind;
use tokio::signal::unix::signal;

use crate::app;
use crate::app::Ended;
use crate::app::Running;
use crate::app::Start;
use crate::cli::Exit;
use crate::clock::SystemClock;
use crate::config::Boot;
use crate::config::boot::LogFormat;
use crate::config::boot::LogLevel;
use crate::config::load_watched;
use crate::telemetry::logging;

/// More threads than this only wait for each other, unless the config says otherwise.
const WORKERS_MAX: usize = 4;

/// Answer Envoy's checks until SIGTERM.
///
/// SIGHUP reads the config again at once; a changed file is noticed within three seconds. SIGTERM or SIGINT ends in order: health
/// turns to NOT_SERVING, checks are answered for `lifecycle.drain_delay` (5s) more, running ones are finished, usage is flushed, exit 0.
/// A second signal ends at once with exit 1; nothing that was counted is lost by it.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Serve {
    /// The config file.
    #[arg(long, short, env = "TOLLGATE_CONFIG", default_value = "tollgate.yaml", value_name = "FILE")]
    pub config: PathBuf,
}

const EXAMPLES: &str = "\
Examples:
  tollgate serve                                 with ./tollgate.yaml
  tollgate serve --config /etc/tollgate.yaml
  curl -s http://127.0.0.1:9464/readyz           what it says about itself";

impl Serve {
    /// Serves until it is told to end.
    ///
    /// # Errors
    /// When `complaints` cannot be written to, or the system gives no threads or signals.
    pub fn run(&self, complaints: &mut dyn Write) -> std::io::Result<Exit> {
        let (loaded, watched) = load_watched(&self.config);
        let loaded = match loaded {
            Ok(loaded) => loaded,
            Err(mistakes) => {
                for mistake in &mistakes {
                    writeln!(complaints, "{mistake}")?;
                }
                writeln!(complaints, "{} cannot be used; nothing was started", self.config.display())?;
                return Ok(Exit::Failed);
            }
        };
        if let Err(error) = start_logging(&loaded.boot) {
            writeln!(complaints, "{error}")?;
            return Ok(Exit::Failed);
        }
        for warning in &loaded.warnings {
            tracing::warn!(%warning, "the config is good, with a warning");
        }
        let workers = loaded.boot.workers.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from).min(WORKERS_MAX));
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(workers).thread_name("tollgate").enable_all().build()?;
        let watch = Some((self.config.clone(), watched));
        let start = Start { loaded, watch, clock: Arc::new(SystemClock), decisions: Box::new(std::io::stdout()) };
        let exit = runtime.block_on(serve(start, &self.config));
        // Whatever still blocks a thread has nothing left to save.
        runtime.shutdown_background();
        exit
    }
}

async fn serve(start: Start, config: &Path) -> std::io::Result<Exit> {
    // Asked for before anything runs, so that no signal ends the process in its own way.
    let mut signals = Signals::new()?;
    let running = match app::start(start).await {
        Ok(running) => running,
        Err(error) => {
            tracing::error!(%error, "nothing was started");
            return Ok(Exit::Failed);
        }
    };
    let issuer = running.issuer_address().map(tracing::field::display);
    tracing::info!(config = %config.display(), check = %running.check_address(), issuer, ops = %running.ops_address(), "serving");
    let told = tokio::select! {
        () = signals.next() => true,
        () = running.failed() => false,
    };
    if told {
        tracing::info!("ending: health is NOT_SERVING, running checks are finished");
    } else {
        tracing::error!("usage is not flushed or not published any more; ending, so that a fresh start can do so from what is on the disk");
    }
    tokio::select! {
        ended = end(running) => Ok(if told { ended } else { Exit::Failed }),
        () = signals.next() => {
            tracing::warn!("told twice: ending at once");
            Ok(Exit::Failed)
        }
    }
}

async fn end(running: Running) -> Exit {
    match running.shutdown().await {
        Ended::Cleanly => {
            tracing::info!("ended in order");
            Exit::Good
        }
        Ended::Cut => {
            tracing::warn!("ended; checks that outlasted the grace were cut and not let through");
            Exit::Good
        }
        Ended::Unpublished => {
            tracing::error!("ended; Redis lacks the last counts, which are in this sidecar's folder: the next start on it tells them");
            Exit::Failed
        }
        Ended::Unflushed => {
            tracing::error!("ended without the last flush; the counts are in the ledger, and the next start flushes them");
            Exit::Failed
        }
    }
}

/// SIGTERM and SIGINT.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

fn start_logging(boot: &Boot) -> Result<(), logging::LoggingError> {
    let format = match boot.log.format {
        LogFormat::Json => logging::LogFormat::Json,
        LogFormat::Text => logging::LogFormat::Plain,
    };
    let level = match boot.log.level {
        LogLevel::Error => "error",
        LogLevel::Warn => "warn",
        LogLevel::Info => "info",
        LogLevel::Debug => "debug",
        LogLevel::Trace => "trace",
    };
    logging::start(format, level)
}
