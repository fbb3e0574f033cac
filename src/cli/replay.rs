//! `tollgate replay`: recorded requests under two configs, and where the two part.

use std::io;
use std::io::BufRead;
use std::io::BufReader;
use std::io::Read as _;
use std::io::Write;
use std::path::Path;
use std::path::PathBuf;

use crate::cli::Exit;
use crate::cli::client::CliError;
use crate::cli::open_file;
use crate::cli::reading::Reading;
use crate::cli::table::Side;
use crate::cli::table::write_table;
use crate::config;
use crate::config::complaint::so_many;
use crate::recording::BadRecord;
use crate::recording::Record;
use crate::recording::replay::Comparison;
use crate::recording::replay::Difference;
use crate::recording::replay::End;
use crate::recording::replay::Judge;

/// A longer line is no record of ours.
const LINE_BYTES_MAX: u64 = 1024 * 1024;
/// Whatever goes on for longer without an end of a line is no recording.
const SKIPPED_BYTES_MAX: u64 = 8 * 1024 * 1024;
/// More bad lines than this are counted and not named.
const BAD_LINES_NAMED: u64 = 20;

/// Judge recorded requests under two configs, and print where they end differently.
///
/// Offline: no store and no running process is asked. Credentials are not in a recording, so each request keeps the caller that it had;
/// routes, scopes, tenancy, environments, versions, tiers and limits are judged anew, limits on the recorded clock from full buckets.
/// Exit 0 when nothing differs, 1 when something does or a line could not be judged.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Replay {
    /// What `record` in the config wrote; `-` for standard input.
    pub records: PathBuf,
    /// The config to compare with.
    #[arg(long, value_name = "FILE")]
    pub before: PathBuf,
    /// The config that is to be.
    #[arg(long, value_name = "FILE")]
    pub after: PathBuf,
    #[command(flatten)]
    pub reading: Reading,
    /// For machines: one JSON object.
    #[arg(long)]
    pub json: bool,
}

const EXAMPLES: &str = "\
Examples:
  tollgate replay requests.jsonl --before tollgate.yaml --after next.yaml
  cat requests.jsonl.1 requests.jsonl | tollgate replay - --before tollgate.yaml --after next.yaml
  tollgate replay requests.jsonl --before a.yaml --after b.yaml --without-files   no secrets here
  tollgate explain --recorded requests.jsonl:17 --config next.yaml    why line 17 ends as it does";

impl Replay {
    /// # Errors
    /// When one of the writers cannot be written to.
    pub fn run(&self, out: &mut dyn Write, complaints: &mut dyn Write) -> io::Result<Exit> {
        let before = judge_of(&self.before, self.reading, complaints)?;
        let after = judge_of(&self.after, self.reading, complaints)?;
        let (Some(before), Some(after)) = (before, after) else { return Ok(Exit::Failed) };
        let compared = match self.open() {
            Ok(mut lines) => compare(&mut lines, before, after, complaints),
            Err(error) => Err(CliError::said(format!("{}: {error}", self.records.display()))),
        };
        match compared {
            Ok(comparison) => {
                if self.json {
                    serde_json::to_writer_pretty(&mut *out, &comparison)?;
                    writeln!(out)?;
                } else {
                    show(&comparison, out)?;
                }
                Ok(if comparison.different == 0 && comparison.bad_lines == 0 { Exit::Good } else { Exit::Failed })
            }
            Err(CliError::Output(error)) => Err(error),
            Err(CliError::Said(why)) => {
                writeln!(complaints, "tollgate replay: {why}")?;
                Ok(Exit::Failed)
            }
        }
    }

    fn open(&self) -> io::Result<Box<dyn BufRead>> {
        if self.records == Path::new("-") {
            return Ok(Box::new(BufReader::new(io::stdin())));
        }
        Ok(Box::new(BufReader::with_capacity(256 * 1024, open_file(&self.records)?)))
    }
}

/// None when the config is bad, which was then said.
fn judge_of(path: &Path, reading: Reading, complaints: &mut dyn Write) -> io::Result<Option<Judge>> {
    match reading.load(path) {
        Ok(loaded) => match Judge::new(loaded.rules) {
            Ok(judge) => Ok(Some(judge)),
            Err(error) => {
                writeln!(complaints, "tollgate replay: {error}")?;
                Ok(None)
            }
        },
        Err(mistakes) => {
            for mistake in &mistakes {
                writeln!(complaints, "{mistake}")?;
            }
            let is_elsewhere = config::load_without_files(path).is_ok();
            let hint = if is_elsewhere { "; where its files are elsewhere, --without-files passes over them" } else { "" };
            writeln!(complaints, "tollgate replay: {} cannot be used{hint}", path.display())?;
            Ok(None)
        }
    }
}

fn compare(lines: &mut dyn BufRead, mut before: Judge, mut after: Judge, complaints: &mut dyn Write) -> Result<Comparison, CliError> {
    let mut comparison = Comparison::default();
    let mut number = 0;
    let mut line = Vec::new();
    loop {
        line.clear();
        let length = (&mut *lines).take(LINE_BYTES_MAX).read_until(b'\n', &mut line).map_err(unreadable)?;
        if length == 0 {
            break;
        }
        number += 1;
        let is_whole = line.last() == Some(&b'\n') || u64::try_from(length).is_ok_and(|length| length < LINE_BYTES_MAX);
        let judged = if is_whole {
            judge(&line, &mut before, &mut after)
        } else {
            skip_line(&mut (&mut *lines).take(SKIPPED_BYTES_MAX)).map_err(unreadable)?;
            Err(BadRecord::NoRecord("the line is longer than 1 MiB".to_owned()))
        };
        match judged {
            Ok(None) => {}
            Ok(Some((record, one, other))) => comparison.add(number, &record, one, other),
            Err(why) => {
                comparison.bad_lines += 1;
                if comparison.bad_lines <= BAD_LINES_NAMED {
                    writeln!(complaints, "line {number}: {why}")?;
                }
            }
        }
    }
    comparison.finish();
    Ok(comparison)
}

/// None for a blank line.
fn judge(line: &[u8], before: &mut Judge, after: &mut Judge) -> Result<Option<(Record, End, End)>, BadRecord> {
    if line.trim_ascii().is_empty() {
        return Ok(None);
    }
    let record = Record::read(line)?;
    let (one, other) = (before.judge(&record)?, after.judge(&record)?);
    Ok(Some((record, one, other)))
}

fn skip_line(lines: &mut io::Take<impl BufRead>) -> io::Result<()> {
    loop {
        if lines.limit() == 0 {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "a line goes on for more than 8 MiB"));
        }
        let waiting = lines.fill_buf()?;
        let (used, is_end) = match waiting.iter().position(|byte| *byte == b'\n') {
            Some(at) => (at + 1, true),
            None => (waiting.len(), waiting.is_empty()),
        };
        lines.consume(used);
        if is_end {
            return Ok(());
        }
    }
}

fn unreadable(error: io::Error) -> CliError {
    CliError::said(format!("the records cannot be read: {error}"))
}

fn show(comparison: &Comparison, out: &mut dyn Write) -> io::Result<()> {
    if !comparison.differences.is_empty() {
        let columns = [
            ("COUNT", Side::Right),
            ("BEFORE", Side::Left),
            ("AFTER", Side::Left),
            ("ROUTE", Side::Left),
            ("LINE", Side::Right),
            ("FOR EXAMPLE", Side::Left),
        ];
        let rows: Vec<Vec<String>> = comparison.differences.iter().map(row).collect();
        write_table(out, &columns, &rows)?;
        writeln!(out)?;
    }
    let ends = if comparison.different == 1 { "ends" } else { "end" };
    writeln!(out, "{}, {} {ends} differently", so_many(comparison.requests, "request", "requests"), comparison.different)?;
    let notes = [
        (comparison.unlike_recorded, "otherwise under --before than when recorded (limits begin with full buckets here)"),
        (comparison.unknown, "by a credential that nobody read when recorded: their end is `unknown`"),
        (comparison.sampled, "from a sample: limits see too few of them (`record.sample`)"),
        (comparison.bad_lines, "of the lines could not be judged"),
    ];
    for (count, note) in notes.iter().filter(|(count, _)| *count > 0) {
        writeln!(out, "  {count} {note}")?;
    }
    Ok(())
}

fn row(difference: &Difference) -> Vec<String> {
    let end = |end: &End| format!("{} {}", end.decision, end.reason);
    let route = |end: &End| end.route.clone().unwrap_or_else(|| "-".to_owned());
    let (one, other) = (route(&difference.before), route(&difference.after));
    let routes = if one == other { one } else { format!("{one} -> {other}") };
    let after = match difference.headers.as_slice() {
        [] => end(&difference.after),
        changed => format!("{} (other {})", end(&difference.after), changed.join(", ")),
    };
    vec![difference.count.to_string(), end(&difference.before), after, routes, difference.line.to_string(), difference.request.clone()]
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULES: &str = "routes:\n  - { name: things, path: /things, scopes: { all_of: [things:read] } }\n";

    fn line(second: u64, scopes: &str) -> String {
        let caller = format!(
            r#"{{"user":"alice","source":"local","subject":"alice","proven_by":"key","key_id":"AAAAAAAAAAAA","scopes":{scopes},"environment":"live"}}"#
        );
        let header = r#"{"key":"authorization","value":"Bearer hashed.00.hashed"}"#;
        let request = format!(
            r#"{{"attributes":{{"request":{{"http":{{"method":"GET","host":"h","path":"/things?a=b","headerMap":{{"headers":[{header}]}}}}}}}}}}"#
        );
        let verdict = r#"{"decision":"allow","reason":"ok","status":200,"route":"things","config_revision":"0"}"#;
        format!(r#"{{"v":1,"ts":"2027-01-01T00:00:{second:02}.000000Z","request":{request},"verdict":{verdict},"caller":{caller}}}"#)
    }

    fn replay(records: &str, after: &str, json: bool) -> (Exit, String, String) {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            std::fs::write(folder.path().join(name), text).unwrap();
            folder.path().join(name)
        };
        let replay = Replay {
            records: write("records", records),
            before: write("a.yaml", RULES),
            after: write("b.yaml", after),
            reading: Reading::default(),
            json,
        };
        let (mut out, mut complaints) = (Vec::new(), Vec::new());
        let exit = replay.run(&mut out, &mut complaints).unwrap();
        (exit, String::from_utf8(out).unwrap(), String::from_utf8(complaints).unwrap())
    }

    #[test]
    fn secrets_that_are_elsewhere_are_passed_over_where_that_is_wished() {
        let elsewhere = format!("{RULES}peppers: [{{ id: p1, secret: {{ file: /nowhere/p1 }} }}]\n");
        let folder = tempfile::tempdir().unwrap();
        let (records, rules) = (folder.path().join("records"), folder.path().join("a.yaml"));
        std::fs::write(&records, line(0, r#"["things:read"]"#)).unwrap();
        std::fs::write(&rules, elsewhere).unwrap();
        for (without_files, expected) in [(false, Exit::Failed), (true, Exit::Good)] {
            let reading = Reading { without_files };
            let replay = Replay { records: records.clone(), before: rules.clone(), after: rules.clone(), reading, json: false };
            let (mut out, mut complaints) = (Vec::new(), Vec::new());
            assert_eq!(replay.run(&mut out, &mut complaints).unwrap(), expected);
            let said = String::from_utf8(complaints).unwrap();
            assert_eq!(said.contains("--without-files"), !without_files, "{said}");
        }
    }

    #[test]
    fn what_differs_is_counted_by_kind_with_an_example() {
        let records = format!("{}\n{}\n", line(0, r#"["things:read"]"#), line(1, r#"["things:read","things:write"]"#));
        assert_eq!(replay(&records, RULES, false), (Exit::Good, "2 requests, 0 end differently\n".to_owned(), String::new()));
        let stricter = RULES.replace("things:read", "things:write");
        let (exit, out, _) = replay(&records, &stricter, false);
        assert_eq!(exit, Exit::Failed);
        assert_eq!(
            out,
            "COUNT  BEFORE    AFTER                    ROUTE   LINE  FOR EXAMPLE\n    \
             1  allow ok  deny insufficient_scope  things     1  GET /things\n\n\
             2 requests, 1 ends differently\n"
        );
        let renamed = RULES.replace("name: things", "name: stuff");
        let (_, out, _) = replay(&records, &renamed, true);
        let told: serde_json::Value = serde_json::from_str(&out).unwrap();
        assert_eq!(told["differences"][0]["after"]["route"], "stuff");
        assert_eq!((told["requests"].as_u64(), told["different"].as_u64()), (Some(2), Some(2)));
    }

    #[test]
    fn bad_lines_are_named_by_number_and_the_rest_is_judged() {
        let long = "x".repeat(2 * 1024 * 1024);
        let other = line(0, "[]").replace("\"v\":1", "\"v\":9");
        let good = line(0, r#"["things:read"]"#);
        let (exit, out, complaints) = replay(&format!("{good}\n{{\n\n{long}\n{other}\n{good}"), RULES, false);
        assert_eq!(exit, Exit::Failed);
        assert!(out.starts_with("2 requests, 0 end differently\n  3 of the lines could not be judged"), "{out}");
        for named in ["line 2: not a record", "line 4: not a record: the line is longer", "line 5: a record of format 9"] {
            assert!(complaints.contains(named), "{complaints}");
        }
    }

    #[test]
    fn what_never_ends_is_no_recording() {
        let folder = tempfile::tempdir().unwrap();
        let rules = folder.path().join("a.yaml");
        std::fs::write(&rules, RULES).unwrap();
        let judge = || judge_of(&rules, Reading::default(), &mut Vec::new()).unwrap().unwrap();
        let endless = compare(&mut BufReader::with_capacity(1 << 20, io::repeat(b'x')), judge(), judge(), &mut Vec::new());
        assert!(endless.is_err_and(|error| error.to_string().contains("goes on for more than 8 MiB")));
        let replay = Replay { records: "/dev/zero".into(), before: rules.clone(), after: rules, reading: Reading::default(), json: false };
        let mut complaints = Vec::new();
        assert_eq!(replay.run(&mut Vec::new(), &mut complaints).unwrap(), Exit::Failed);
        assert!(String::from_utf8(complaints).unwrap().contains("/dev/zero: it is no regular file"));
    }

    #[test]
    fn a_bad_config_or_a_missing_file_is_said() {
        let (exit, _, complaints) = replay("", "routes: 7\n", false);
        assert!(exit == Exit::Failed && complaints.contains("b.yaml cannot be used"), "{complaints}");
        let replay = Replay {
            records: "/nowhere/at/all".into(),
            before: PathBuf::new(),
            after: PathBuf::new(),
            reading: Reading::default(),
            json: false,
        };
        assert_eq!(replay.run(&mut Vec::new(), &mut Vec::new()).unwrap(), Exit::Failed);
    }
}
