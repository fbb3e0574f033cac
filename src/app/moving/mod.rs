//! Moving everything that a store holds: into another store, into a file, and back.
//!
//! - Bytes are moved as they are and keep their expiry; versions are each store's own.
//! - What the target holds already is not overwritten unless it is damaged, so moving twice changes nothing, and nothing that was revoked
//!   there meanwhile comes back to life.
//! - Both sides are read and compared before the first write and after the last one.
//! - The peppers, without which no key is worth anything, lie in no store. A target that lacks one is refused.

mod backup;
mod item;
pub(super) mod origin;
mod pour;
pub(super) mod side;
pub(super) mod survey;

#[cfg(test)]
mod tests;

use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;

pub use crate::app::moving::backup::Destination;
pub use crate::app::moving::backup::Source;

use crate::app::AppError;
use crate::app::moving::backup::Backup;
use crate::app::moving::backup::BackupError;
use crate::app::moving::backup::Draft;
use crate::app::moving::item::Item;
use crate::app::moving::origin::Origin;
use crate::app::moving::pour::Poured;
use crate::app::moving::pour::pour;
use crate::app::moving::side::Side;
use crate::app::moving::survey::Survey;
use crate::app::moving::survey::name_some;
use crate::app::open::load_peppers;
use crate::clock::Clock;
use crate::config::Loaded;
use crate::config::boot;
use crate::config::complaint::so_many;
use crate::secrets::Peppers;
use crate::store::CountsError;
use crate::store::Family;
use crate::store::RecordKey;
use crate::store::StoreError;
use crate::usage::UsageError;

/// A store as the operator names it: by its config.
#[derive(Debug)]
pub struct Named {
    /// The config's file.
    pub config: PathBuf,
    pub loaded: Loaded,
}

/// What the operator decided beforehand.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wishes {
    /// The target may hold other things; they stay, but for what is damaged.
    pub merge: bool,
    /// What cannot be read is left behind.
    pub skip_unreadable: bool,
}

/// What was moved, and what lies on both sides now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// What, how much of it at the source, and how much at the target.
    pub counts: Vec<(&'static str, u64, u64)>,
    /// Records.
    pub written: u64,
    /// Counts by hour, day and month, and last uses: the target has no less of any of them now.
    pub counted: u64,
    /// By how much hours, days and months rose at the target, all together.
    pub raised: u64,
    /// They lay at the target already.
    pub already_there: u64,
    /// Over before they could be written.
    pub expired: u64,
    pub unreadable: Vec<String>,
    /// They lie at the target with other contents, which were left alone.
    pub different: Vec<String>,
    /// They were damaged at the target, and are now as at the source.
    pub replaced: Vec<String>,
    /// At the target, and nobody can read them there.
    pub broken: Vec<String>,
    /// The peppers that the records need.
    pub peppers: Vec<String>,
}

/// Told how far it has come: what is being done, and how many items are through.
pub type Tell<'t> = dyn FnMut(&str, u64) + 't;

/// Why nothing, or not everything, was moved.
#[derive(Debug, thiserror::Error)]
pub enum MovingError {
    #[error(transparent)]
    Open(#[from] AppError),
    #[error("there is no store in {}", folder.display())]
    NoStore { folder: PathBuf },
    #[error("{} and {} name the same store; nothing was done", from.display(), to.display())]
    Same { from: PathBuf, to: PathBuf },
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Counts(#[from] CountsError),
    #[error("what was counted last cannot be read: {0}")]
    Usage(#[from] UsageError),
    #[error(transparent)]
    Backup(#[from] BackupError),
    #[error(
        "{} cannot be read ({named}); nothing was written. Repair or remove what is broken, or leave it behind with \
         --skip-unreadable; if it is all of a Redis's records, the config lacks the pepper that sealed them, or has another \
         secret under its id",
        so_many(*count, "record", "records")
    )]
    Unreadable { count: usize, named: String },
    #[error("{what}; nothing was written\n{remedy}")]
    Peppers { what: String, remedy: String },
    #[error(
        "{target} already holds {what} that the source has not, or has otherwise; nothing was written. \
         Name another folder or prefix, or keep what is there with --merge, which adds the rest and replaces what is damaged"
    )]
    NotEmpty { target: String, what: String },
    #[error(
        "none of the {count} records in {target} can be read; nothing was written. Does its config lack the pepper that sealed them, or \
         give another secret under its id?"
    )]
    Sealed { target: String, count: usize },
    #[error("{what} did not arrive unchanged; run it again, and ask whether something else writes there")]
    Differs { what: String },
}

/// Copies everything from one store into another.
///
/// # Errors
/// [`MovingError`]; what was written until then stays, and a second run goes on from there.
pub async fn migrate(from: Named, to: Named, wishes: Wishes, clock: &Arc<dyn Clock>, tell: &mut Tell<'_>) -> Result<Summary, MovingError> {
    check_apart(&from, &to)?;
    let source = Side::open_source(from, clock)?;
    let survey = Survey::of(&mut Origin::store(&source), &mut |count| tell(&format!("reading {}", source.label()), count)).await?;
    check_readable(&survey, wishes)?;
    check_new_folder(&survey, Some(&source), &to)?;
    let target = Side::open(to, clock)?;
    check_peppers(&survey, Some(&source), Given::of(&target))?;
    transfer(&mut Origin::store(&source), &survey, &target, wishes, clock, tell).await
}

/// Writes everything that a store holds into a file, or a pipe.
///
/// # Errors
/// [`MovingError`]; there is no file then, or the old one.
pub async fn export(
    from: Named,
    to: Destination<'_>,
    wishes: Wishes,
    clock: &Arc<dyn Clock>,
    tell: &mut Tell<'_>,
) -> Result<Summary, MovingError> {
    let writing = format!("writing {}", to.name().display());
    to.check()?;
    let source = Side::open_source(from, clock)?;
    let survey = Survey::of(&mut Origin::store(&source), &mut |count| tell(&format!("reading {}", source.label()), count)).await?;
    check_readable(&survey, wishes)?;
    let peppers: Vec<String> = survey.peppers.iter().cloned().collect();
    let mut draft = Draft::begin(to, &when(clock), &peppers)?;
    let mut origin = Origin::store(&source);
    let (mut written, mut counted) = (0, 0);
    while let Some(items) = origin.next().await? {
        for item in &items {
            match item {
                Item::Record(record) if survey.unreadable.contains_key(&record.place()) => continue,
                Item::Record(_) => written += 1,
                Item::Count(_) | Item::Use(_) => counted += 1,
            }
            draft.add(item)?;
        }
        tell(&writing, written + counted);
    }
    draft.finish()?;
    let counts = count_both(&survey, &survey);
    let unreadable = survey.unreadable.keys().cloned().collect();
    Ok(Summary { counts, written, counted, unreadable, peppers, ..Summary::default() })
}

/// Writes what lies in a file or comes out of a pipe into a store, once all of it was read and proven.
///
/// # Errors
/// As [`migrate`].
pub async fn import(
    to: Named,
    from: Source<'_>,
    wishes: Wishes,
    clock: &Arc<dyn Clock>,
    tell: &mut Tell<'_>,
) -> Result<Summary, MovingError> {
    let mut backup = match from {
        Source::File(path) => Backup::open(path)?,
        Source::Stream(from) => Backup::receive(from, &to.loaded.boot.store_path)?,
    };
    let proving = format!("proving {}", backup.path().display());
    let survey = Survey::of(&mut Origin::backup(&mut backup)?, &mut |count| tell(&proving, count)).await?;
    check_readable(&survey, wishes)?;
    check_new_folder(&survey, None, &to)?;
    let target = Side::open(to, clock)?;
    check_peppers(&survey, None, Given::of(&target))?;
    transfer(&mut Origin::backup(&mut backup)?, &survey, &target, wishes, clock, tell).await
}

async fn transfer(
    origin: &mut Origin<'_>,
    source: &Survey,
    target: &Side,
    wishes: Wishes,
    clock: &Arc<dyn Clock>,
    tell: &mut Tell<'_>,
) -> Result<Summary, MovingError> {
    let reading = format!("reading {}", target.label());
    let found = Survey::of(&mut Origin::store(target), &mut |count| tell(&reading, count)).await?;
    if found.unreadable.len() > 1 && found.unreadable.len() == found.records.len() {
        return Err(MovingError::Sealed { target: target.label(), count: found.records.len() });
    }
    let foreign = found.missing_from(source);
    let counts = found.counts_missing_from(source, clock.now());
    if let (Some(what), false) = (name_both(foreign.into_iter().map(place_of).collect(), counts), wishes.merge) {
        return Err(MovingError::NotEmpty { target: target.label(), what });
    }
    let writing = format!("writing {}", target.label());
    let poured = pour(origin, source, &found, target, clock, &mut |count| tell(&writing, count)).await?;
    let after = Survey::of(&mut Origin::store(target), &mut |count| tell(&reading, count)).await?;
    let summary = sum_up(source, &found, &after, poured)?;
    match name_both(Vec::new(), source.counts_missing_from(&after, clock.now())) {
        Some(what) => Err(MovingError::Differs { what }),
        None => Ok(summary),
    }
}

fn place_of(key: &RecordKey) -> String {
    format!("{}/{}", key.family.as_str(), key.id)
}

/// So many records, some by name, and so many counts; none where there are none.
fn name_both(records: Vec<String>, counts: usize) -> Option<String> {
    let many = so_many(records.len(), "record", "records");
    let records = (!records.is_empty()).then(|| format!("{many} ({})", name_some(records.into_iter())));
    let counts = (counts > 0).then(|| so_many(counts, "count", "counts"));
    let both: Vec<String> = records.into_iter().chain(counts).collect();
    (!both.is_empty()).then(|| both.join(" and "))
}

/// Compares both sides after the last write.
fn sum_up(source: &Survey, found: &Survey, after: &Survey, poured: Poured) -> Result<Summary, MovingError> {
    let (mut different, mut lost) = (Vec::new(), Vec::new());
    for key in source.missing_from(after) {
        if source.unreadable.contains_key(&place_of(key)) || after.unreadable.contains_key(&place_of(key)) {
            continue;
        }
        if found.records.contains_key(key) {
            different.push(place_of(key));
        } else {
            lost.push(place_of(key));
        }
    }
    // What was over before it was written, or has come to its end since, is no loss.
    if let (true, Some(what)) = (u64::try_from(lost.len()).unwrap_or(u64::MAX) > poured.over, name_both(lost, 0)) {
        return Err(MovingError::Differs { what });
    }
    Ok(Summary {
        counts: count_both(source, after),
        raised: poured.raised,
        written: poured.written,
        counted: poured.counted,
        already_there: poured.left,
        expired: poured.over,
        unreadable: source.unreadable.keys().cloned().collect(),
        different,
        replaced: poured.replaced,
        broken: after.unreadable.keys().cloned().collect(),
        peppers: source.peppers.iter().cloned().collect(),
    })
}

/// What there is on both sides, by its name.
fn count_both(source: &Survey, target: &Survey) -> Vec<(&'static str, u64, u64)> {
    let records = Family::ALL.into_iter().map(|family| (family.as_str(), source.count(family), target.count(family)));
    let tally = |survey: &Survey, name| survey.tallies.get(name).copied().unwrap_or_default();
    let counts = ["hours", "days", "months", "last uses"].into_iter().map(|name| (name, tally(source, name), tally(target, name)));
    records.chain(counts).chain([("requests", source.requests, target.requests)]).collect()
}

fn check_readable(survey: &Survey, wishes: Wishes) -> Result<(), MovingError> {
    if survey.unreadable.is_empty() || wishes.skip_unreadable {
        return Ok(());
    }
    let named = name_some(survey.unreadable.iter().map(|(place, why)| format!("{place}: {why}")));
    Err(MovingError::Unreadable { count: survey.unreadable.len(), named })
}

/// A store is not moved into itself.
fn check_apart(from: &Named, to: &Named) -> Result<(), MovingError> {
    let (one, other) = (&from.loaded.boot, &to.loaded.boot);
    let is_same = match (&one.redis, &other.redis) {
        (Some(one), Some(other)) => {
            let place = |redis: &boot::RedisBoot| (redis.mode.clone(), redis.servers.clone(), redis.database, Arc::clone(&redis.prefix));
            place(one) == place(other)
        }
        (None, None) => {
            let place = |path: &Path| path.canonicalize().unwrap_or_else(|_absent| path.to_owned());
            place(&one.store_path) == place(&other.store_path)
        }
        (Some(_), None) | (None, Some(_)) => false,
    };
    if is_same { Err(MovingError::Same { from: from.config.clone(), to: to.config.clone() }) } else { Ok(()) }
}

/// A target's peppers.
#[derive(Clone, Copy)]
struct Given<'t> {
    config: &'t Path,
    peppers: &'t Peppers,
    /// Where they lie, if the config leaves that to us.
    file: Option<&'t Path>,
}

impl<'t> Given<'t> {
    fn of(side: &'t Side) -> Self {
        Self { config: &side.name, peppers: &side.peppers, file: side.pepper_file.as_deref() }
    }
}

/// What can be known of the target before its folder is made: a refusal leaves no new folder behind.
fn check_new_folder(survey: &Survey, source: Option<&Side>, to: &Named) -> Result<(), MovingError> {
    let boot = &to.loaded.boot;
    if boot.redis.is_some() || boot.store_path.exists() || survey.peppers.is_empty() {
        return Ok(());
    }
    match boot.peppers {
        boot::Peppers::Given(_) => {
            let peppers = load_peppers(boot)?;
            check_peppers(survey, source, Given { config: &to.config, peppers: &peppers, file: None })
        }
        boot::Peppers::Generated => {
            let missing: Vec<&str> = survey.peppers.iter().map(String::as_str).collect();
            let what = format!(
                "the records were made with the peppers {}, and {} would have new ones made: no key would be accepted there",
                missing.join(", "),
                to.config.display()
            );
            let remedy = remedy(&missing, source, &to.config, Some(&Peppers::file_in(&boot.store_path)));
            Err(MovingError::Peppers { what, remedy })
        }
    }
}

/// Every pepper that the records were made with must be the target's too, or no key would open anything there.
fn check_peppers(survey: &Survey, source: Option<&Side>, target: Given<'_>) -> Result<(), MovingError> {
    let has = |id: &str| target.peppers.ids().any(|known| known == id);
    let missing: Vec<&str> = survey.peppers.iter().map(String::as_str).filter(|id| !has(id)).collect();
    if !missing.is_empty() {
        let what = format!(
            "the records were made with the peppers {}, and {} has only {}: no key would be accepted there",
            missing.join(", "),
            target.config.display(),
            target.peppers.ids().collect::<Vec<_>>().join(", ")
        );
        return Err(MovingError::Peppers { what, remedy: remedy(&missing, source, target.config, target.file) });
    }
    let other = source.and_then(|source| survey.peppers.iter().find(|id| !source.peppers.share(target.peppers, id)));
    if let Some(id) = other {
        return Err(MovingError::Peppers {
            what: format!("the pepper {id} of {} is another one than the source's", target.config.display()),
            remedy: "Both must be given the same secret for it.".to_owned(),
        });
    }
    let Some(locked) = survey.locked_rings(target.peppers).into_iter().next() else { return Ok(()) };
    let config = target.config.display();
    Err(MovingError::Peppers {
        what: format!("{locked}\nWith the peppers of {config} no process would start"),
        remedy: format!(
            "Name the pepper's file in {config} under `peppers:`, as the config does that the records were made with. Such a file is text \
             unless it begins with `hex:`; the pepper file in a store's folder has hexadecimal digits, which is another secret."
        ),
    })
}

/// How the target comes by the peppers, in commands. `file`: where its own lie, or would.
fn remedy(missing: &[&str], source: Option<&Side>, target: &Path, file: Option<&Path>) -> String {
    let made = source.and_then(|source| source.pepper_file.as_ref());
    match (made, file) {
        (Some(from), Some(to)) => {
            let folder = to.parent().filter(|folder| !folder.exists());
            let make = folder.map(|folder| format!("mkdir -p -m 700 {} && ", folder.display())).unwrap_or_default();
            format!("Give it the same file: {make}cp -p {} {}", from.display(), to.display())
        }
        (Some(from), None) => missing
            .iter()
            .flat_map(|id| {
                let file = format!("pepper-{id}");
                [
                    format!("Make a file of it: (umask 077; awk '$1 == \"{id}\" {{ print \"hex:\" $2 }}' {} > {file})", from.display()),
                    format!("and name it in {} under `peppers:`: - {{ id: {id}, secret: {{ file: ./{file} }} }}", target.display()),
                ]
            })
            .collect::<Vec<_>>()
            .join("\n"),
        (None, file) => {
            let copied = file.map(|file| format!("Put the pepper file of the store that it was made from at {}, or name", file.display()));
            let first = copied.as_deref().unwrap_or("Name");
            format!("{first} them in {} under `peppers:`, as the config does that the records were made with.", target.display())
        }
    }
}

/// Now, as people write it.
fn when(clock: &Arc<dyn Clock>) -> String {
    let seconds = i64::try_from(clock.now().unix_seconds()).unwrap_or(i64::MAX);
    jiff::Timestamp::from_second(seconds).map_or_else(|_error| seconds.to_string(), |time| time.to_string())
}
