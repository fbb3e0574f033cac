//! Passwords: argon2id in a bounded pool that refuses overload, so that sign-ins can never slow a check.
//!
//! The pool has threads of its own, of low priority, and only while there is something to hash. Nothing here runs on the threads that
//! answer checks, and no more than the config's number of hashes is ever under way or waiting.

mod guesses;
mod hashing;

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::thread;

use tokio::sync::oneshot;
use zeroize::Zeroizing;

use crate::issuer::checks::Check;
use crate::issuer::checks::run;
use crate::issuer::problem::Code;
use crate::issuer::problem::Problem;
use crate::model::issuance;

pub(in crate::issuer) use crate::issuer::passwords::guesses::Guesses;

/// The longest password, in bytes of UTF-8. Longer ones are refused before anything is hashed.
pub const PASSWORD_BYTES_MAX: usize = 1024;
/// The shortest password that may be set, in characters.
pub const PASSWORD_CHARACTERS_MIN: usize = 8;
/// How much behind the process's other threads the pool's stand, where the system lets them.
const NICENESS: i32 = 19;

/// The pool, and what was guessed lately.
#[derive(Debug, Default)]
pub struct Passwords {
    pool: Arc<Mutex<Pool>>,
    guesses: Guesses,
}

/// What became of a comparison.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Compared {
    Wrong,
    Right,
    /// It is right, and the stored hash is weaker than the config asks for: store this one.
    RightAndOutdated(Arc<str>),
}

impl Passwords {
    /// The PHC text of a new password.
    ///
    /// # Errors
    /// 503 when the pool is full.
    pub async fn hash(&self, settings: issuance::Passwords, password: String) -> Result<Arc<str>, Problem> {
        let password = Zeroizing::new(password);
        let hashed = self.run(settings, move || hashing::hash(settings, password.as_bytes())).await?;
        hashed.map_err(|error| {
            tracing::error!(%error, "a password could not be hashed");
            Problem::new(Code::Unavailable, "passwords cannot be hashed now; try again")
        })
    }

    /// Compares. None as the stored hash (no such account, or one without a password) costs as much time and is wrong.
    ///
    /// # Errors
    /// 503 when the pool is full.
    pub async fn compare(&self, settings: issuance::Passwords, password: String, stored: Option<Arc<str>>) -> Result<Compared, Problem> {
        let password = Zeroizing::new(password);
        self.run(settings, move || hashing::compare(settings, password.as_bytes(), stored.as_deref())).await
    }

    /// What was guessed lately, by address and by account and address.
    pub(in crate::issuer) fn guesses(&self) -> &Guesses {
        &self.guesses
    }

    async fn run<T: Send + 'static>(&self, settings: issuance::Passwords, work: impl FnOnce() -> T + Send + 'static) -> Result<T, Problem> {
        let (answer, answered) = oneshot::channel();
        self.post(settings, Box::new(Posted { work, answer }))?;
        answered.await.map_err(|_gone| overloaded())
    }

    /// Refuses where no hash could be begun or wait now: what is refused anyhow is worth no other work.
    ///
    /// # Errors
    /// 503 when the pool is full.
    pub(in crate::issuer) fn refuse_surplus(&self, settings: issuance::Passwords) -> Result<(), Problem> {
        lock(&self.pool).make_room(settings)
    }

    fn post(&self, settings: issuance::Passwords, job: Box<dyn Job>) -> Result<(), Problem> {
        let mut pool = lock(&self.pool);
        pool.make_room(settings)?;
        if pool.running >= settings.workers {
            pool.waiting.push_back(job);
            return Ok(());
        }
        pool.running += 1;
        let shared = Arc::clone(&self.pool);
        let spawned = thread::Builder::new().name("passwords".to_owned()).spawn(move || work_off(&shared, job));
        spawned.map(drop).map_err(|error| {
            pool.running -= 1;
            tracing::error!(%error, "the password pool got no thread");
            overloaded()
        })
    }
}

/// A password that is to be set.
struct New<'p>(&'p str);

impl New<'_> {
    const CHECKS: [Check<Self, String>; 2] = [
        Check { name: "a longest password", run: |new| is_short_enough(new.0) },
        Check { name: "a shortest password", run: |new| is_long_enough(new.0) },
    ];
}

fn is_short_enough(password: &str) -> Result<(), String> {
    if password.len() <= PASSWORD_BYTES_MAX { Ok(()) } else { Err(format!("must have at most {PASSWORD_BYTES_MAX} bytes")) }
}

fn is_long_enough(password: &str) -> Result<(), String> {
    let is_enough = password.chars().count() >= PASSWORD_CHARACTERS_MIN;
    if is_enough { Ok(()) } else { Err(format!("must have at least {PASSWORD_CHARACTERS_MIN} characters")) }
}

/// Refuses a password that may not be set; the texts never repeat it.
///
/// # Errors
/// 400 naming the field.
pub(in crate::issuer) fn check_new(field: &str, password: &str) -> Result<(), Problem> {
    run(&New::CHECKS, &New(password)).map_err(|issue| Problem::field(field, issue))
}

/// Refuses a password that is too long to be looked at.
///
/// # Errors
/// 400 naming the field.
pub(in crate::issuer) fn check_length(field: &str, password: &str) -> Result<(), Problem> {
    is_short_enough(password).map_err(|issue| Problem::field(field, issue))
}

fn overloaded() -> Problem {
    Problem::new(Code::Unavailable, "too many sign-ins are under way; try again in a moment").after(1)
}

#[derive(Default)]
struct Pool {
    running: usize,
    waiting: VecDeque<Box<dyn Job>>,
}

impl Pool {
    /// Whoever hung up waits for nothing, and is counted out where it matters.
    fn make_room(&mut self, settings: issuance::Passwords) -> Result<(), Problem> {
        let is_full = |pool: &Self| pool.running >= settings.workers && pool.waiting.len() >= settings.waiting;
        if is_full(self) {
            self.waiting.retain(|job| job.is_wanted());
        }
        if is_full(self) { Err(overloaded()) } else { Ok(()) }
    }
}

impl std::fmt::Debug for Pool {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "Pool({} running, {} waiting)", self.running, self.waiting.len())
    }
}

trait Job: Send {
    /// Whether anybody still waits for the answer.
    fn is_wanted(&self) -> bool;
    fn run(self: Box<Self>);
}

struct Posted<T, F> {
    work: F,
    answer: oneshot::Sender<T>,
}

impl<T: Send, F: FnOnce() -> T + Send> Job for Posted<T, F> {
    fn is_wanted(&self) -> bool {
        !self.answer.is_closed()
    }

    fn run(self: Box<Self>) {
        let Self { work, answer } = *self;
        if !answer.is_closed() {
            let _nobody_waits = answer.send(work());
        }
    }
}

/// Counts a thread out however it ends.
struct Place<'p> {
    pool: &'p Mutex<Pool>,
    is_left: bool,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        if !self.is_left {
            lock(self.pool).running -= 1;
        }
    }
}

fn work_off(pool: &Mutex<Pool>, first: Box<dyn Job>) {
    let mut place = Place { pool, is_left: false };
    // On Linux this is the calling thread's own; where it is not allowed, the pool's size is the bound.
    let _as_it_was = rustix::process::setpriority_process(None, NICENESS);
    first.run();
    loop {
        let mut locked = lock(pool);
        let Some(next) = locked.waiting.pop_front() else {
            // Counted out under the same lock, so that whoever comes now starts a thread instead of waiting for this one.
            locked.running -= 1;
            place.is_left = true;
            return;
        };
        drop(locked);
        next.run();
    }
}

fn lock(pool: &Mutex<Pool>) -> std::sync::MutexGuard<'_, Pool> {
    pool.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
