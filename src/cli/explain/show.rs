//! An explanation for people: the route table, the rooms, the end.

use std::io;
use std::io::Write;

use crate::issuer::explain::ExplainedRoute;
use crate::issuer::explain::Explanation;

/// Whether letters may be coloured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Paint {
    Plain,
    Coloured,
}

impl Paint {
    fn good(self, text: &str) -> String {
        self.with("32", text)
    }

    fn bad(self, text: &str) -> String {
        self.with("31", text)
    }

    fn faint(self, text: &str) -> String {
        self.with("2", text)
    }

    fn bold(self, text: &str) -> String {
        self.with("1", text)
    }

    fn with(self, code: &str, text: &str) -> String {
        match self {
            Self::Plain => text.to_owned(),
            Self::Coloured => format!("\u{1b}[{code}m{text}\u{1b}[0m"),
        }
    }
}

pub(super) fn show(explanation: &Explanation, paint: Paint, out: &mut dyn Write) -> io::Result<()> {
    show_routes(explanation, paint, out)?;
    show_rooms(explanation, paint, out)?;
    show_end(explanation, paint, out)
}

fn show_routes(explanation: &Explanation, paint: Paint, out: &mut dyn Write) -> io::Result<()> {
    // Where one was hit, those that are about something else are only counted.
    let is_hit = explanation.routes.iter().any(|route| route.hit);
    let (routes, others): (Vec<&ExplainedRoute>, Vec<&ExplainedRoute>) = explanation.routes.iter().partition(|route| route.path || !is_hit);
    if routes.is_empty() {
        return Ok(());
    }
    let width = |cell: fn(&ExplainedRoute) -> &str| routes.iter().map(|route| cell(route).chars().count()).max().unwrap_or(0);
    let (name, pattern) = (width(|route| &route.name).max(5), width(|route| &route.pattern).max(7));
    let heading = format!("{:4}  {:name$}  {:pattern$}  host  path  method  why", "", "route", "matches");
    writeln!(out, "{}", paint.faint(&heading))?;
    for route in &routes {
        let mark = |fits: bool| if fits { "yes" } else { "-" };
        let fits = format!("{:4}  {:4}  {:6}", mark(route.host), mark(route.path), mark(route.method));
        let cells = format!("{:name$}  {:pattern$}  {fits}  {}", route.name, route.pattern, plain(&route.why));
        if route.hit {
            writeln!(out, "{}  {}", paint.good("hit "), paint.bold(&cells))?;
        } else {
            writeln!(out, "{}", paint.faint(&format!("miss  {cells}")))?;
        }
    }
    if !others.is_empty() {
        writeln!(out, "{}", paint.faint(&format!("      and {} of another path", others.len())))?;
    }
    writeln!(out)
}

fn show_rooms(explanation: &Explanation, paint: Paint, out: &mut dyn Write) -> io::Result<()> {
    let width = explanation.steps.iter().map(|step| step.room.len()).max().unwrap_or_default();
    for step in &explanation.steps {
        let mark = if step.passed { paint.good("pass") } else { paint.bad("STOP") };
        let line = format!("{mark}  {:width$}  {}", step.room, plain(&step.outcome));
        writeln!(out, "{}", line.trim_end())?;
    }
    writeln!(out)
}

fn show_end(explanation: &Explanation, paint: Paint, out: &mut dyn Write) -> io::Result<()> {
    let word = explanation.decision.to_uppercase();
    let word = if explanation.decision == "allow" { paint.good(&word) } else { paint.bad(&word) };
    let status = if explanation.status == 0 { String::new() } else { format!(" ({})", explanation.status) };
    let trial = if explanation.dry_run && explanation.decision != "allow" { "; dry run: it goes through all the same" } else { "" };
    writeln!(out, "{word}  {}{status}{trial}", explanation.reason)?;
    let mut line = |label: &str, value: &str| writeln!(out, "  {}{}", paint.faint(&format!("{label:16}")), plain(value));
    for (label, value) in [("route", &explanation.route), ("user", &explanation.user)] {
        if let Some(value) = value {
            line(label, value)?;
        }
    }
    match &explanation.counted {
        Some(count) => {
            let key = count.key_id.as_ref().map(|key| format!(", key {key}")).unwrap_or_default();
            line("would count", &format!("{} {} for {}{key} on {}", count.cost, count.outcome, count.user, count.route))?;
        }
        None => line("would count", "nothing")?,
    }
    for bucket in &explanation.buckets {
        let per = format!("{} of {} left, {} a minute", bucket.remaining, bucket.burst, bucket.requests_per_minute);
        line("bucket", &format!("{}: {per}", bucket.policy))?;
    }
    for (name, value) in &explanation.sets {
        line("to upstream", &format!("{name}: {value}"))?;
    }
    if !explanation.removes.is_empty() {
        line("not to upstream", &explanation.removes.join(", "))?;
    }
    for (name, value) in &explanation.headers {
        line("to client", &format!("{name}: {value}"))?;
    }
    if let Some(body) = explanation.body.as_ref().filter(|body| !body.is_empty()) {
        line("body", body)?;
    }
    line("config revision", &explanation.config_revision)
}

/// What a request brings must not move a terminal's cursor.
fn plain(text: &str) -> String {
    text.chars().map(|letter| if letter.is_control() { '\u{fffd}' } else { letter }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::issuer::explain::ExplainedBucket;
    use crate::issuer::explain::ExplainedCount;
    use crate::issuer::explain::ExplainedStep;

    fn explanation() -> Explanation {
        let route = |name: &str, hit, why: &str| ExplainedRoute {
            name: name.into(),
            hit,
            host: true,
            path: hit,
            method: true,
            pattern: "GET /things".into(),
            why: why.into(),
        };
        Explanation {
            config_revision: "0123456789ab".into(),
            decision: "deny".into(),
            reason: "insufficient_scope".into(),
            status: 403,
            dry_run: false,
            route: Some("things".into()),
            user: Some("alice".into()),
            steps: vec![ExplainedStep { room: "authorise".into(), passed: false, outcome: "no\u{1b}[2J".into() }],
            sets: Vec::new(),
            removes: Vec::new(),
            routes: vec![
                route("things", true, "fits"),
                ExplainedRoute { path: true, ..route("any", false, "less specific") },
                route("others", false, "another path"),
            ],
            headers: vec![("content-type".into(), "application/json".into())],
            body: Some("{}".into()),
            counted: Some(ExplainedCount {
                user: "alice".into(),
                key_id: None,
                route: "things".into(),
                outcome: "refused".into(),
                cost: 1,
            }),
            buckets: vec![ExplainedBucket { policy: "free".into(), requests_per_minute: 60, burst: 10, remaining: 9 }],
        }
    }

    #[test]
    fn columns_stand_under_each_other_and_nothing_moves_the_cursor() {
        let mut out = Vec::new();
        show(&explanation(), Paint::Plain, &mut out).unwrap();
        let expected = "      route   matches      host  path  method  why
hit   things  GET /things  yes   yes   yes     fits
miss  any     GET /things  yes   yes   yes     less specific
      and 1 of another path

STOP  authorise  no\u{fffd}[2J

DENY  insufficient_scope (403)
  route           things
  user            alice
  would count     1 refused for alice on things
  bucket          free: 9 of 10 left, 60 a minute
  to client       content-type: application/json
  body            {}
  config revision 0123456789ab
";
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }

    #[test]
    fn where_nothing_is_hit_every_route_says_why() {
        let mut explanation = explanation();
        explanation.routes.iter_mut().for_each(|route| route.hit = false);
        let mut out = Vec::new();
        show(&explanation, Paint::Plain, &mut out).unwrap();
        let shown = String::from_utf8(out).unwrap();
        assert_eq!(shown.lines().filter(|line| line.starts_with("miss  ")).count(), 3, "{shown}");
    }

    #[test]
    fn a_trial_refuses_nobody() {
        for (decision, dry_run, expected) in [
            ("deny", true, "DENY  insufficient_scope (403); dry run: it goes through all the same\n"),
            ("fault", true, "FAULT  insufficient_scope (403); dry run: it goes through all the same\n"),
            ("deny", false, "DENY  insufficient_scope (403)\n"),
            ("allow", true, "ALLOW  insufficient_scope (403)\n"),
        ] {
            let mut out = Vec::new();
            show(&Explanation { decision: decision.into(), dry_run, ..explanation() }, Paint::Plain, &mut out).unwrap();
            let shown = String::from_utf8(out).unwrap();
            assert!(shown.contains(expected), "{shown}");
        }
    }

    #[test]
    fn colours_add_nothing_but_themselves() {
        let shown = |paint| {
            let mut out = Vec::new();
            show(&explanation(), paint, &mut out).unwrap();
            String::from_utf8(out).unwrap()
        };
        let mut coloured = shown(Paint::Coloured);
        assert!(coloured.contains("\u{1b}[31mDENY\u{1b}[0m"));
        for code in ["32", "31", "2", "1", "0"] {
            coloured = coloured.replace(&format!("\u{1b}[{code}m"), "");
        }
        assert_eq!(coloured, shown(Paint::Plain));
    }
}
