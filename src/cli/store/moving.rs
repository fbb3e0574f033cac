//! `tollgate store migrate`, `export` and `import`.

use std::io;
use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;

use serde_json::json;

use crate::app::moving;
use crate::app::moving::Destination;
use crate::app::moving::MovingError;
use crate::app::moving::Source;
use crate::app::moving::Summary;
use crate::app::moving::Wishes;
use crate::cli::Exit;
use crate::cli::store::Whose;
use crate::cli::store::meaning;
use crate::cli::store::named;
use crate::cli::table::Side;
use crate::cli::table::write_table;
use crate::clock::Clock;
use crate::clock::SystemClock;
use crate::config::complaint::so_many;

/// Progress is said whenever so many more are through.
const STEP: u64 = 10_000;
/// Places that the summary names.
const NAMED_MAX: usize = 20;

/// Copy all records and all usage from one store into another: from a folder into Redis, back, or on to another of its kind.
///
/// What the target already holds stays as it is, so running it twice changes nothing. End the processes that use the source first: an
/// embedded store that is in use is refused, and what changes in a Redis meanwhile may be left behind. Peppers lie in no store:
/// where the target's config lacks one, the command says how it comes by it.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Migrate {
    /// The config that names the store to read.
    #[arg(long, value_name = "CONFIG")]
    from: PathBuf,
    /// The config that names the store to write.
    #[arg(long, value_name = "CONFIG")]
    to: PathBuf,
    #[command(flatten)]
    how: How,
}

/// Write all records and all usage into one file.
///
/// The file has mode 0600 and gets its name when it is complete. It holds keyed hashes of keys and no
/// key, and the wrapped signing keys. The peppers are not in it, and without them it opens nothing: back them up elsewhere. The
/// command names those it takes.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Export {
    #[command(flatten)]
    whose: Whose,
    /// The file to write, which must not be there yet. `-` for standard output: the summary then goes to standard error.
    #[arg(long, value_name = "FILE")]
    to: PathBuf,
    /// A backup that is there is replaced; anything else stays.
    #[arg(long)]
    replace: bool,
    /// Leave behind what cannot be read.
    #[arg(long)]
    skip_unreadable: bool,
    /// For machines: one JSON object.
    #[arg(long)]
    json: bool,
}

/// Write what `export` wrote into a store.
///
/// The whole file is read and proven before the first write; a mistake is named by its line and member. What the store already
/// holds stays as it is, so running it twice changes nothing; with --merge a damaged record is replaced. Exit code 1 when something
/// there still cannot be read.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Import {
    #[command(flatten)]
    whose: Whose,
    /// The file to read; `-` for standard input.
    #[arg(long, value_name = "FILE")]
    from: PathBuf,
    #[command(flatten)]
    how: How,
}

#[derive(Clone, Copy, Debug, clap::Args)]
struct How {
    /// The target may hold other things already: they stay, what it lacks is added, and what is damaged there is replaced.
    #[arg(long)]
    merge: bool,
    /// Leave behind what cannot be read.
    #[arg(long)]
    skip_unreadable: bool,
    /// For machines: one JSON object.
    #[arg(long)]
    json: bool,
}

impl Migrate {
    pub(super) async fn run(self, out: &mut dyn Write, complaints: &mut dyn Write) -> io::Result<Exit> {
        let (Some(from), Some(to)) = (named(&self.from, complaints)?, named(&self.to, complaints)?) else { return Ok(Exit::Failed) };
        let clock = clock();
        let mut progress = Progress::new(complaints);
        let outcome = moving::migrate(from, to, self.how.wishes(), &clock, &mut |what, count| progress.tell(what, count)).await;
        progress.end();
        tell("migrate", outcome, self.how.json, out, complaints)
    }
}

impl Export {
    pub(super) async fn run(self, out: &mut dyn Write, complaints: &mut dyn Write) -> io::Result<Exit> {
        let Some(from) = named(&self.whose.config, complaints)? else { return Ok(Exit::Failed) };
        let wishes = Wishes { merge: false, skip_unreadable: self.skip_unreadable };
        let clock = clock();
        let is_piped = self.to.as_os_str() == "-";
        let to = if is_piped { Destination::Stream(&mut *out) } else { Destination::File { path: &self.to, replaces: self.replace } };
        let mut progress = Progress::new(complaints);
        let outcome = moving::export(from, to, wishes, &clock, &mut |what, count| progress.tell(what, count)).await;
        progress.end();
        if let Ok(summary) = &outcome
            && !summary.peppers.is_empty()
        {
            let peppers = summary.peppers.join(", ");
            writeln!(complaints, "The peppers are not in the file, and no key opens anything without them. Keep apart: {peppers}.")?;
        }
        if is_piped {
            let mut summary = Vec::new();
            let exit = tell("export", outcome, self.json, &mut summary, complaints)?;
            return complaints.write_all(&summary).map(|()| exit);
        }
        tell("export", outcome, self.json, out, complaints)
    }
}

impl Import {
    pub(super) async fn run(self, out: &mut dyn Write, complaints: &mut dyn Write) -> io::Result<Exit> {
        let Some(to) = named(&self.whose.config, complaints)? else { return Ok(Exit::Failed) };
        let clock = clock();
        let is_piped = self.from.as_os_str() == "-";
        let from = if is_piped { Source::Stream(Box::new(io::stdin())) } else { Source::File(&self.from) };
        let mut progress = Progress::new(complaints);
        let outcome = moving::import(to, from, self.how.wishes(), &clock, &mut |what, count| progress.tell(what, count)).await;
        progress.end();
        tell("import", outcome, self.how.json, out, complaints)
    }
}

impl How {
    const fn wishes(self) -> Wishes {
        Wishes { merge: self.merge, skip_unreadable: self.skip_unreadable }
    }
}

/// Says how far it has come: at the end of each part, and now and then in between.
struct Progress<'w> {
    complaints: &'w mut dyn Write,
    what: String,
    count: u64,
    said: u64,
}

impl<'w> Progress<'w> {
    fn new(complaints: &'w mut dyn Write) -> Self {
        Self { complaints, what: String::new(), count: 0, said: 0 }
    }

    fn tell(&mut self, what: &str, count: u64) {
        if what != self.what {
            self.end();
            what.clone_into(&mut self.what);
            self.said = 0;
        }
        self.count = count;
        if count - self.said >= STEP {
            self.say();
        }
    }

    fn end(&mut self) {
        if !self.what.is_empty() && (self.count > self.said || self.count == 0) {
            self.say();
        }
        self.what.clear();
    }

    fn say(&mut self) {
        self.said = self.count;
        // Whoever does not listen misses nothing that the summary does not say.
        let _nobody_listens = writeln!(self.complaints, "{}: {}", self.what, so_many(self.count, "record or count", "records and counts"));
    }
}

fn clock() -> Arc<dyn Clock> {
    Arc::new(SystemClock)
}

fn tell(
    command: &str,
    outcome: Result<Summary, MovingError>,
    json: bool,
    out: &mut dyn Write,
    complaints: &mut dyn Write,
) -> io::Result<Exit> {
    let summary = match outcome {
        Ok(summary) => summary,
        Err(error) => {
            writeln!(complaints, "tollgate store {command}: {error}")?;
            return Ok(Exit::Failed);
        }
    };
    if json {
        write_json(&summary, out)?;
    } else {
        write_summary(&summary, out)?;
    }
    if !summary.different.is_empty() {
        let many = so_many(summary.different.len(), "record", "records");
        writeln!(
            complaints,
            "warning: the target has {many} otherwise, which stay as they are there: what the source has of them is not used"
        )?;
    }
    if summary.broken.is_empty() {
        return Ok(Exit::Good);
    }
    let many = so_many(summary.broken.len(), "record", "records");
    writeln!(complaints, "tollgate store {command}: the target has {many} still that cannot be read; `tollgate store check` says why")?;
    Ok(Exit::Failed)
}

fn write_json(summary: &Summary, out: &mut dyn Write) -> io::Result<()> {
    let counts: serde_json::Map<String, serde_json::Value> =
        summary.counts.iter().map(|(what, from, to)| ((*what).to_owned(), json!({"source": from, "target": to}))).collect();
    let report = json!({
        "counts": counts,
        "written": summary.written,
        "counted": summary.counted,
        "already_there": summary.already_there,
        "expired": summary.expired,
        "unreadable": summary.unreadable,
        "different": summary.different,
        "replaced": summary.replaced,
        "broken": summary.broken,
        "peppers": summary.peppers,
    });
    writeln!(out, "{report:#}")
}

pub(super) fn write_summary(summary: &Summary, out: &mut dyn Write) -> io::Result<()> {
    let columns = [("WHAT", Side::Left), ("SOURCE", Side::Right), ("TARGET", Side::Right), ("MEANING", Side::Left)];
    let row = |(what, from, to): &(&str, u64, u64)| vec![(*what).to_owned(), from.to_string(), to.to_string(), meaning(what).to_owned()];
    write_table(out, &columns, &summary.counts.iter().map(row).collect::<Vec<_>>())?;
    let unreadable = u64::try_from(summary.unreadable.len()).unwrap_or(u64::MAX);
    let parts = [
        (summary.written, "written"),
        (u64::try_from(summary.replaced.len()).unwrap_or(u64::MAX), "replaced"),
        (summary.already_there, "already there"),
        (summary.expired, "expired by now"),
        (unreadable, "left behind"),
    ];
    let records: u64 = parts.iter().map(|(count, _)| count).sum();
    let became: Vec<String> = parts.iter().filter(|(count, _)| *count > 0).map(|(count, became)| format!("{count} {became}")).collect();
    let became = if became.is_empty() { String::new() } else { format!(" ({})", became.join(", ")) };
    let counted = so_many(summary.counted, "count", "counts");
    writeln!(out, "{}{became} and {counted}: {} in all", so_many(records, "record", "records"), records + summary.counted)?;
    let lists = [
        ("that cannot be read, left behind", &summary.unreadable),
        ("damaged at the target, replaced", &summary.replaced),
        ("with other contents at the target, which stay", &summary.different),
        ("at the target that still cannot be read", &summary.broken),
    ];
    for (what, places) in lists {
        if !places.is_empty() {
            writeln!(out, "{} {what}:", places.len())?;
            for place in places.iter().take(NAMED_MAX) {
                writeln!(out, "  {place}")?;
            }
        }
    }
    Ok(())
}
