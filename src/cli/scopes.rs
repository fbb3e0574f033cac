//! Scopes that are probably slips of the pen: what the config's own list lacks is refused, and what merely no route wants is told.

use std::path::Path;
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

/// The config that was read, and from where; none: another process was named.
type Config<'c> = Option<&'c (PathBuf, Arc<Rules>)>;

/// Refuses scopes of keys, and rights of users, that the config does not have, where it lists every scope there is.
pub(in crate::cli) fn refuse_unlisted(given: &[String], config: Config<'_>) -> Result<(), CliError> {
    let Some((path, rules)) = config else { return Ok(()) };
    let Some(listed) = &rules.scopes else { return Ok(()) };
    let mut known: Vec<&str> = listed.iter().map(|scope| &**scope).chain(RESERVED).collect();
    known.sort_unstable();
    known.dedup();
    let is_known = |scope: Scope| {
        let alone = ScopeSet::new([scope]);
        known.iter().any(|known| alone.covers(known))
    };
    refuse_others(given, "scopes", path, &known, is_known)
}

/// Refuses scopes that no application may have.
pub(in crate::cli) fn refuse_not_issued(given: &[String], config: Config<'_>) -> Result<(), CliError> {
    let Some((path, rules)) = config else { return Ok(()) };
    let Some(issuance) = &rules.issuance else { return Ok(()) };
    let known: Vec<&str> = issuance.scopes.keys().map(|scope| &**scope).collect();
    refuse_others(given, "issuer.scopes", path, &known, |scope| issuance.scopes.contains_key(scope.as_str()))
}

/// What is no scope at all is for the API to say.
fn refuse_others(given: &[String], setting: &str, path: &Path, known: &[&str], is_known: impl Fn(Scope) -> bool) -> Result<(), CliError> {
    let Some(text) = given.iter().find(|text| Scope::parse(text).is_ok_and(|scope| !is_known(scope))) else { return Ok(()) };
    let hint = suggestion(text, known.iter().copied()).map(|hint| format!(" ({hint})")).unwrap_or_default();
    Err(CliError::said(format!("`{setting}` of {} has no `{text}`{hint}; nothing was done", path.display())))
}

/// Says where these, all that somebody has, open nothing by the config that was read, and what to do about it.
pub(in crate::cli) fn doubt(given: &[String], config: Config<'_>, remedy: &str, voice: &mut Voice<'_>) -> Result<(), CliError> {
    let Some((path, rules)) = config else { return Ok(()) };
    if given.iter().all(String::is_empty) && wanted(rules).next().is_some() {
        let path = path.display();
        writeln!(voice.complaints, "warning: no scopes: this opens the routes of {path} that want none, and no others; {remedy}")?;
    }
    doubt_each(given, config, remedy, voice)
}

/// Says which of these open nothing by the config that was read. It is no more than a warning: upstreams may ask for scopes too.
pub(in crate::cli) fn doubt_each(given: &[String], config: Config<'_>, remedy: &str, voice: &mut Voice<'_>) -> Result<(), CliError> {
    let Some((path, rules)) = config else { return Ok(()) };
    let path = path.display();
    for (scope, hint) in unwanted(given, rules) {
        let hint = hint.map(|hint| format!(" ({hint})")).unwrap_or_default();
        writeln!(
            voice.complaints,
            "warning: no route of {path} wants the scope `{scope}`{hint}; `tollgate check-config {path}` shows what each route wants; \
             {remedy}"
        )?;
    }
    Ok(())
}

/// Those that open nothing by these rules, each with what may have been meant.
fn unwanted<'s>(given: &'s [String], rules: &Rules) -> Vec<(&'s str, Option<String>)> {
    let opens = |held: &Scope| RESERVED.contains(&held.as_str()) || wanted(rules).any(|template| may_open(held, template));
    let unwanted = given.iter().filter(|text| Scope::parse(text).is_ok_and(|held| !opens(&held)));
    let known = || {
        let mut known: Vec<String> = wanted(rules).map(ToString::to_string).collect();
        known.sort_unstable();
        known.dedup();
        known
    };
    unwanted.map(|text| (text.as_str(), suggestion(text, known().iter().map(String::as_str)))).collect()
}

fn wanted(rules: &Rules) -> impl Iterator<Item = &ScopeTemplate> {
    rules.routes.iter().flat_map(|route| route.scopes.all_of.iter().chain(&route.scopes.any_of))
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

    #[test]
    fn what_the_config_lists_is_all_there_is() {
        let issuing = "issuer: { url: https://id.example, resources: [{ uri: https://api.example }], scopes: { \"orders:read\": Read } }\n";
        let routes = "routes: [{ path: /orders, scopes: { all_of: [\"orders:read\"] } }]";
        let listing = "scopes: [\"orders:read\", \"orders:write\"]\n";
        let near = "(did you mean `orders:read`?); nothing was done";
        let of_key = |hint: &str| Some(format!("`scopes` of own.yaml has no {hint}"));
        let of_client = |hint: &str| Some(format!("`issuer.scopes` of own.yaml has no {hint}"));
        for (more, held, key, client) in [
            ("", "order:read", None, None),
            (listing, "orders:read", None, None),
            (listing, "orders:*", None, None),
            (listing, "*", None, None),
            (listing, "tollgate:usage", None, None),
            (listing, "not a scope, which the API says", None, None),
            (listing, "order:read", of_key(&format!("`order:read` {near}")), None),
            (listing, "typo:*", of_key("`typo:*` (there is: `orders:read`, `orders:write`, "), None),
            (listing, "tollgate:useage", of_key("`tollgate:useage` (did you mean `tollgate:usage`?)"), None),
            (issuing, "orders:read", None, None),
            (issuing, "order:read", None, of_client(&format!("`order:read` {near}"))),
            // A wildcard is for keys.
            (issuing, "orders:*", None, of_client("`orders:*` (there is: `orders:read`)")),
        ] {
            let rules = compile_text(&format!("{more}{routes}"), &Outside::default()).unwrap().1;
            let config = ("own.yaml".into(), Arc::new(rules));
            let given = ["orders:read".to_owned(), held.to_owned()];
            for (said, expected) in [(refuse_unlisted(&given, Some(&config)), key), (refuse_not_issued(&given, Some(&config)), client)] {
                let said = said.err().map(|why| why.to_string());
                let is_right = match (&said, &expected) {
                    (Some(said), Some(expected)) => said.starts_with(expected),
                    (said, expected) => said == expected,
                };
                assert!(is_right, "{more}{held}: {said:?}");
            }
        }
    }
}
