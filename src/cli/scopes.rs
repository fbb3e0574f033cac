//! Scopes that no route wants: nothing is wrong with them, and they are nearly always slips of the pen.

use std::path::PathBuf;
use std::sync::Arc;

use crate::cli::client::CliError;
use crate::cli::voice::Voice;
use crate::config::complaint::suggestion;
use crate::model::route::ScopeTemplate;
use crate::model::route::TemplatePart;
use crate::model::rules::Rules;
use crate::model::scope::RESERVED;
use crate::model::scope::Scope;
use crate::model::scope::ScopeSet;

/// Says which of these open nothing by the config that was read. It is no more than a warning: upstreams may ask for scopes too.
pub(in crate::cli) fn doubt(given: &[String], config: Option<&(PathBuf, Arc<Rules>)>, voice: &mut Voice<'_>) -> Result<(), CliError> {
    let Some((path, rules)) = config else { return Ok(()) };
    let path = path.display();
    for (scope, hint) in unwanted(given, rules) {
        let hint = hint.map(|hint| format!(" ({hint})")).unwrap_or_default();
        writeln!(
            voice.complaints,
            "warning: no route of {path} wants the scope `{scope}`{hint}; `tollgate check-config {path}` shows what each route wants"
        )?;
    }
    Ok(())
}

/// Those that open nothing by these rules, each with what may have been meant.
fn unwanted<'s>(given: &'s [String], rules: &Rules) -> Vec<(&'s str, Option<String>)> {
    let wanted = || rules.routes.iter().flat_map(|route| route.scopes.all_of.iter().chain(&route.scopes.any_of));
    let opens = |held: &Scope| RESERVED.contains(&held.as_str()) || wanted().any(|template| may_open(held, template));
    let unwanted = given.iter().filter(|text| Scope::parse(text).is_ok_and(|held| !opens(&held)));
    let known = || {
        let mut known: Vec<String> = wanted().map(ToString::to_string).collect();
        known.sort_unstable();
        known.dedup();
        known
    };
    unwanted.map(|text| (text.as_str(), suggestion(text, known().iter().map(String::as_str)))).collect()
}

/// Whether this scope meets the demand, for some value of the variables where it has any.
fn may_open(held: &Scope, template: &ScopeTemplate) -> bool {
    let (leading, is_fixed) = match template.0.as_slice() {
        [] => return false,
        [TemplatePart::Text(text)] => (&**text, true),
        [TemplatePart::Text(text), ..] => (&**text, false),
        [TemplatePart::Variable(_), ..] => ("", false),
    };
    match held.as_str().strip_suffix('*') {
        _ if is_fixed => ScopeSet::new([held.clone()]).covers(leading),
        Some(above) if above.is_empty() || above.ends_with(':') => leading.starts_with(above) || above.starts_with(leading),
        Some(_) | None => !held.is_reserved() && fills(&template.0, held.as_str()),
    }
}

/// Whether the parts make this text; no variable is ever empty.
fn fills(parts: &[TemplatePart], text: &str) -> bool {
    match parts.split_first() {
        None => text.is_empty(),
        Some((TemplatePart::Text(own), rest)) => text.strip_prefix(&**own).is_some_and(|text| fills(rest, text)),
        Some((TemplatePart::Variable(_), rest)) => (1..=text.len()).filter_map(|end| text.get(end..)).any(|text| fills(rest, text)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::compile_text;
    use crate::config::outside::Outside;

    #[test]
    fn what_opens_nothing_is_told_with_what_may_have_been_meant() {
        let fixed = "scopes: { all_of: [\"orders:read\"], any_of: [\"orders:write\", \"tollgate:usage\"] }";
        let open = "scopes: { all_of: [\"{service}:use\"] }";
        for (wants, held, expected) in [
            (fixed, "orders:read", None),
            (fixed, "orders:write", None),
            (fixed, "orders:*", None),
            (fixed, "*", None),
            (fixed, "tollgate:usage", None),
            (fixed, "tollgate:keys", None),
            (fixed, "not a scope, which the API says", None),
            (fixed, "order:read", Some("did you mean `orders:read`?")),
            (fixed, "typo:*", Some("there is: `orders:read`, `orders:write`, `tollgate:usage`")),
            (fixed, "tollgate:useage", Some("did you mean `tollgate:usage`?")),
            (open, "mail:use", None),
            (open, "mail:*", None),
            (open, "*", None),
            (open, "mail:uze", Some("there is: `{service}:use`")),
            (open, ":use", Some("there is: `{service}:use`")),
            (open, "tollgate:use", Some("there is: `{service}:use`")),
        ] {
            let text = format!("routes: [{{ path: \"/{{service}}\", {wants} }}]");
            let rules = compile_text(&text, &Outside::default()).unwrap().1;
            let expected = expected.map(|hint| (held, Some(hint.to_owned())));
            assert_eq!(unwanted(&[held.to_owned()], &rules), Vec::from_iter(expected), "{wants}");
        }
        let rules = compile_text("routes: [{ path: /open, auth: public }]", &Outside::default()).unwrap().1;
        assert_eq!(unwanted(&["a:b".to_owned()], &rules), [("a:b", None)]);
    }
}
