//! `explain --recorded`: a line that the recording wrote, judged here by the config alone; or a `CheckRequest` in protobuf's JSON, which
//! holds its credential and is asked like any other request.

use std::ffi::OsStr;
use std::io::BufRead as _;
use std::io::BufReader;
use std::io::Read as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use crate::check::Seen;
use crate::check::decide::Denial;
use crate::check::decide::Exit;
use crate::check::decide::Particulars;
use crate::check::meter;
use crate::check::reasons::Reason;
use crate::check::rehearse::Buckets;
use crate::check::rehearse::Rehearsed;
use crate::check::rehearse::rehearse;
use crate::cli::client::CliError;
use crate::cli::open_file;
use crate::grpc::encode::Client;
use crate::grpc::show::Shown;
use crate::grpc::show::show_refusal;
use crate::issuer::explain::Explanation;
use crate::issuer::explain::Question;
use crate::issuer::explain::buckets_of;
use crate::issuer::explain::count_of;
use crate::issuer::explain::decision;
use crate::issuer::explain::refused;
use crate::issuer::explain::routes_of;
use crate::issuer::explain::steps_of;
use crate::jose::Assertions;
use crate::model::rules::DryRun;
use crate::model::rules::Rules;
use crate::recording::Record;
use crate::recording::asked::Asked;

/// A longer record is none of ours.
const BYTES_MAX: u64 = 1024 * 1024;

/// What a file held.
#[derive(Debug)]
pub(super) enum Recorded {
    Ours(Box<Record>),
    Envoys(Box<Asked>),
}

/// `FILE` or `FILE:LINE`.
pub(super) fn read(place: &OsStr) -> Result<Recorded, CliError> {
    let (path, line) = parts_of(place);
    let said = |why: String| CliError::said(format!("{}: {why}", path.display()));
    let file = open_file(path).map_err(|error| said(error.to_string()))?;
    let mut reader = BufReader::new(file);
    let mut text = Vec::new();
    for number in 1..=line.unwrap_or(1) {
        text.clear();
        let length = reader.by_ref().take(BYTES_MAX).read_until(b'\n', &mut text).map_err(|error| said(error.to_string()))?;
        if length == 0 {
            return Err(said(format!("there are {} lines", number - 1)));
        }
    }
    if line.is_none() && serde_json::from_slice::<serde::de::IgnoredAny>(&text).is_err() {
        // One message over many lines.
        reader.take(BYTES_MAX).read_to_end(&mut text).map_err(|error| said(error.to_string()))?;
    }
    match Record::read(&text) {
        Ok(record) => Ok(Recorded::Ours(Box::new(record))),
        Err(why) => match serde_json::from_slice(&text) {
            Ok(asked) => Ok(Recorded::Envoys(Box::new(asked))),
            Err(_) => Err(said(format!("{why}; and no CheckRequest in JSON either"))),
        },
    }
}

fn parts_of(place: &OsStr) -> (&Path, Option<usize>) {
    let bytes = place.as_bytes();
    let split = bytes.iter().rposition(|byte| *byte == b':').and_then(|colon| {
        let line = std::str::from_utf8(bytes.get(colon + 1..)?).ok()?.parse().ok()?;
        Some((Path::new(OsStr::from_bytes(bytes.get(..colon)?)), Some(line)))
    });
    split.unwrap_or((Path::new(place), None))
}

/// The question that Envoy's message asks.
pub(super) fn question_of(asked: &Asked) -> Result<Question, CliError> {
    let headers = asked.headers().map_err(CliError::said)?;
    let text = |(name, value): (String, Vec<u8>)| {
        String::from_utf8(value)
            .map(|value| (name.clone(), value))
            .map_err(|_error| CliError::said(format!("the value of `{name}` is no text")))
    };
    let http = &asked.attributes.request.http;
    Ok(Question {
        method: http.method.clone(),
        host: http.host.clone(),
        target: http.path.clone(),
        headers: headers.into_iter().map(text).collect::<Result<_, _>>()?,
        peer: asked.peer_address(),
        principal: asked.principal().map(str::to_owned),
        route: asked.chosen_route().map(str::to_owned),
        at: None,
    })
}

/// How the recorded request ends under these rules.
pub(super) fn explain(record: &Record, rules: Rules) -> Result<Explanation, CliError> {
    let rules = rules.without_assertion();
    let bad = |why: String| CliError::said(format!("the record cannot be judged: {why}"));
    let now = record.at().map_err(|why| bad(why.to_string()))?;
    let known = record.known().map_err(|why| bad(why.to_string()))?;
    let headers = record.request.headers().map_err(bad)?;
    let request = record.request.plain(&headers).map_err(|error| bad(error.to_string()))?;
    let assertions = Assertions::ephemeral(now).map_err(|error| bad(error.to_string()))?;
    let mut seen = Seen::explaining();
    let rehearsed = rehearse(&request, &known, &rules, &mut Buckets::default(), &assertions, &mut seen, now);
    let client = if request.is_grpc() { Client::Grpc } else { Client::Http };
    let mut explanation = Explanation {
        config_revision: rules.revision.to_string(),
        decision: "unknown".to_owned(),
        reason: "credential_unread".to_owned(),
        status: 0,
        dry_run: rules.dry_run == DryRun::On,
        route: seen.route.map(|route| route.name.to_string()),
        user: seen.caller.as_ref().map(|caller| caller.user.to_string()),
        steps: Vec::new(),
        sets: Vec::new(),
        removes: Vec::new(),
        routes: routes_of(&request, &rules),
        headers: Vec::new(),
        body: None,
        counted: None,
        buckets: Vec::new(),
    };
    match &rehearsed {
        Rehearsed::Admitted(prepared, admission) => {
            end(&mut explanation, prepared.reason());
            explanation.sets = prepared.set().iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
            explanation.removes = prepared.remove().iter().map(ToString::to_string).collect();
            explanation.buckets = buckets_of(admission);
            explanation.counted = match meter::meter(prepared, &seen.label, now) {
                meter::Usage::Add { line, cost } => Some(count_of(&line, cost)),
                meter::Usage::Uncounted => None,
            };
        }
        Rehearsed::Refused(exit) => {
            let reason = match exit {
                Exit::Denied(denial) => denial.reason,
                Exit::Failed(fault) => fault.reason,
            };
            end(&mut explanation, reason);
            let Shown { status, headers, body } = show_refusal(exit, &seen, &rules, client, now);
            explanation.status = status.unwrap_or(explanation.status);
            explanation.headers = headers;
            explanation.body = body;
            explanation.counted = refused(exit, &seen, now);
            if let Exit::Denied(Denial { particulars: Particulars::Limits(admission), .. }) = exit {
                explanation.buckets = buckets_of(admission);
            }
        }
        Rehearsed::CredentialUnread => {}
    }
    explanation.steps = steps_of(&mut seen);
    Ok(explanation)
}

fn end(explanation: &mut Explanation, reason: Reason) {
    explanation.decision = decision(reason).to_owned();
    explanation.reason = reason.row().label.to_owned();
    explanation.status = reason.row().http;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_file_is_named_with_or_without_a_line() {
        let table: &[(&[u8], &[u8], Option<usize>)] = &[
            (b"requests.jsonl", b"requests.jsonl", None),
            (b"requests.jsonl:17", b"requests.jsonl", Some(17)),
            (b"a:b:3", b"a:b", Some(3)),
            (b"a:b", b"a:b", None),
            (b"a:", b"a:", None),
            (b"\xff\xfe:2", b"\xff\xfe", Some(2)),
            (b"\xff\xfe", b"\xff\xfe", None),
        ];
        for (place, path, line) in table {
            assert_eq!(parts_of(OsStr::from_bytes(place)), (Path::new(OsStr::from_bytes(path)), *line));
        }
    }

    #[test]
    fn only_a_file_is_read() {
        for place in ["/dev/zero", "/dev/zero:9", "/"] {
            let said = read(OsStr::new(place)).unwrap_err().to_string();
            assert!(said.contains("it is no regular file"), "{said}");
        }
    }
}
