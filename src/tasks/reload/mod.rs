//! Takes a changed config into force, whole, and leaves the old rules in force while the new file is bad.
//!
//! Two ways lead here: SIGHUP, which reads at once, and a look at the contents of every file that the config depends on. What the
//! look finds must be there twice in a row: a file that is being written changes between the two. Whatever happens to the files,
//! some whole set of rules is in force.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::signal::unix::SignalKind;
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::config;
use crate::config::Boot;
use crate::config::Complaint;
use crate::config::Loaded;
use crate::config::Watched;
use crate::model::rules::Rules;
use crate::model::time::Timestamp;

const LOOK_EVERY: Duration = Duration::from_secs(2);
/// The second look at a change comes sooner.
const CONFIRM_AFTER: Duration = Duration::from_millis(500);
/// More complaints than anybody reads in a log.
const COMPLAINTS_LOGGED: usize = 20;

/// What became of reloads, for readiness detail and metrics.
#[derive(Debug)]
pub struct ReloadStatus(Mutex<ReloadReport>);

/// See [`ReloadStatus`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReloadReport {
    /// When the rules in force were read.
    pub last_ok: Timestamp,
    /// The revision in force.
    pub revision: Arc<str>,
    /// Why the newest config is not the one in force.
    pub last_error: Option<Arc<str>>,
    /// Settings that the newest good config changes and only a restart takes into force.
    pub restart_needed: Vec<&'static str>,
    /// Configs taken into force after the first.
    pub successes: u64,
    pub failures: u64,
}

impl ReloadStatus {
    /// As it is after start-up.
    pub fn new(revision: Arc<str>, now: Timestamp) -> Self {
        Self(Mutex::new(ReloadReport { last_ok: now, revision, last_error: None, restart_needed: Vec::new(), successes: 0, failures: 0 }))
    }

    pub fn report(&self) -> ReloadReport {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn change(&self, change: impl FnOnce(&mut ReloadReport)) {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

/// The state of watching: what is in force, and what was seen since.
#[derive(Debug)]
pub struct Reload {
    path: PathBuf,
    rules: Arc<ArcSwap<Rules>>,
    status: Arc<ReloadStatus>,
    /// What the process was started with.
    boot: Boot,
    /// What was judged last, good or bad. It is not judged again until it changes.
    judged: Watched,
    /// A change that was seen once.
    seen_once: Option<Watched>,
}

/// What one look came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Looked {
    /// Everything is as it was judged.
    Unchanged,
    /// Something changed; the next look confirms it.
    Changed,
    /// New rules are in force.
    Reloaded { revision: Arc<str>, restart_needed: Vec<&'static str> },
    /// The new config is bad, and the old rules stay.
    Refused(Vec<Complaint>),
}

impl Reload {
    /// Watches the config that `boot` came from; `rules` holds what is in force.
    pub fn new(path: PathBuf, boot: Boot, watched: Watched, rules: Arc<ArcSwap<Rules>>, status: Arc<ReloadStatus>) -> Self {
        Self { path, rules, status, boot, judged: watched, seen_once: None }
    }

    /// One look at the files; takes a change into force when it is seen for the second time.
    pub fn poll_once(&mut self, now: Timestamp) -> Looked {
        let current = self.judged.again();
        if current == self.judged {
            self.seen_once = None;
            return Looked::Unchanged;
        }
        if self.seen_once.as_ref() != Some(&current) {
            self.seen_once = Some(current);
            return Looked::Changed;
        }
        self.read_now(now)
    }

    /// Reads the config now and takes it into force if it is good.
    pub fn read_now(&mut self, now: Timestamp) -> Looked {
        self.seen_once = None;
        let (loaded, watched) = config::load_watched(&self.path);
        self.judged = watched;
        match loaded {
            Ok(loaded) => self.take(loaded, now),
            Err(complaints) => {
                let first = complaints.first().map(ToString::to_string).unwrap_or_default();
                let more = complaints.len().saturating_sub(1);
                let summary: Arc<str> = if more == 0 { Arc::from(first) } else { Arc::from(format!("{first} (and {more} more)")) };
                self.status.change(|report| {
                    report.failures += 1;
                    report.last_error = Some(summary);
                });
                Looked::Refused(complaints)
            }
        }
    }

    fn take(&mut self, loaded: Loaded, now: Timestamp) -> Looked {
        let restart_needed = self.boot.differences(&loaded.boot);
        let revision = Arc::clone(&loaded.rules.revision);
        for warning in &loaded.warnings {
            tracing::warn!(%warning, "the config is good, with a warning");
        }
        self.rules.store(Arc::new(loaded.rules));
        self.status.change(|report| {
            report.successes += 1;
            report.last_ok = now;
            report.revision = Arc::clone(&revision);
            report.last_error = None;
            report.restart_needed.clone_from(&restart_needed);
        });
        Looked::Reloaded { revision, restart_needed }
    }
}

/// Runs until `shutdown`; `after` hears of every reload, good or bad.
///
/// # Errors
/// When SIGHUP cannot be listened for.
pub async fn run(
    mut reload: Reload,
    clock: Arc<dyn Clock>,
    mut after: impl FnMut(&Looked) + Send,
    shutdown: CancellationToken,
) -> std::io::Result<()> {
    let mut hangups = tokio::signal::unix::signal(SignalKind::hangup())?;
    let mut wait = LOOK_EVERY;
    loop {
        let asked = tokio::select! {
            () = shutdown.cancelled() => return Ok(()),
            _ = hangups.recv() => true,
            () = tokio::time::sleep(wait) => false,
        };
        let now = clock.now();
        // Reading files and compiling may take long, and checks share these threads.
        let step = tokio::task::spawn_blocking(move || {
            let looked = if asked { reload.read_now(now) } else { reload.poll_once(now) };
            (reload, looked)
        });
        let (back, looked) = step.await.map_err(std::io::Error::other)?;
        reload = back;
        wait = if looked == Looked::Changed { CONFIRM_AFTER } else { LOOK_EVERY };
        tell(&looked);
        after(&looked);
    }
}

fn tell(looked: &Looked) {
    match looked {
        Looked::Unchanged | Looked::Changed => {}
        Looked::Reloaded { revision, restart_needed } if restart_needed.is_empty() => {
            tracing::info!(%revision, "the config was reloaded");
        }
        Looked::Reloaded { revision, restart_needed } => {
            let settings = restart_needed.join(", ");
            tracing::warn!(%revision, settings, "the config was reloaded; these settings change only with a restart");
        }
        Looked::Refused(complaints) => {
            for complaint in complaints.iter().take(COMPLAINTS_LOGGED) {
                tracing::error!(%complaint, "the config is bad; the old rules stay in force");
            }
        }
    }
}

#[cfg(test)]
mod tests;
