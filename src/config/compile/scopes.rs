//! Scopes, wherever the file names them.

use std::sync::Arc;

use crate::config::complaint::did_you_mean;
use crate::config::desk::Desk;
use crate::config::desk::Spot;
use crate::config::desk::shorten;
use crate::config::file::ConfigFile;
use crate::model::path_template::parse_template;
use crate::model::route::ScopeTemplate;
use crate::model::route::TemplatePart;
use crate::model::scope::RESERVED;
use crate::model::scope::Scope;
use crate::model::scope::ScopeSet;

/// The scopes that there are, where the file lists them; and those that applications can be given.
pub(super) struct Declared<'f> {
    all: Option<&'f [String]>,
    offered: Vec<&'f str>,
}

impl<'f> Declared<'f> {
    pub(super) fn new(desk: &mut Desk<'_>, spot: &Spot, file: &'f ConfigFile) -> Self {
        let offered = file.issuer.iter().flat_map(|issuer| issuer.scopes.keys()).map(String::as_str).collect();
        let Some(written) = file.scopes.as_deref() else { return Self { all: None, offered } };
        for (index, text) in written.iter().enumerate() {
            match Scope::parse(text) {
                Ok(scope) if scope.is_reserved() => known_reserved(desk, &spot.index(index), &scope),
                Ok(_) if text.contains('*') => desk.error(&spot.index(index), "the list names single scopes, no wildcards"),
                Ok(_) => {}
                Err(error) => desk.error(&spot.index(index), error.to_string()),
            }
        }
        Self { all: Some(written), offered }
    }

    pub(super) fn check(&self, desk: &mut Desk<'_>, spot: &Spot, scope: &Scope) {
        if scope.is_reserved() {
            // These exist whether the file lists them or not.
            known_reserved(desk, spot, scope);
            return;
        }
        let Some(declared) = self.all else { return };
        let alone = ScopeSet::new([scope.clone()]);
        if !declared.iter().any(|known| alone.covers(known)) {
            desk.unknown_in(&Spot::default().key("scopes"), spot, "scope", scope.as_str(), declared.iter().map(String::as_str));
        }
    }

    /// A scope that a route wants and no application can be given, where the file does not say that there is such a scope all the same.
    fn doubt(&self, desk: &mut Desk<'_>, spot: &Spot, scope: &Scope) {
        let is_known = self.all.is_some() || self.offered.is_empty() || scope.is_reserved() || scope.as_str().contains('*');
        if is_known || self.offered.contains(&scope.as_str()) {
            return;
        }
        let hint = did_you_mean(scope.as_str(), self.offered.iter().copied()).map(|hint| format!(" ({hint})")).unwrap_or_default();
        desk.warn(
            spot,
            format!("`issuer.scopes` has no `{scope}`{hint}: no application can be given it; right for keys alone, if `scopes` lists it"),
        );
    }
}

fn known_reserved(desk: &mut Desk<'_>, spot: &Spot, scope: &Scope) {
    if !RESERVED.contains(&scope.as_str()) {
        desk.unknown(spot, "reserved scope", scope.as_str(), RESERVED);
    }
}

/// Scopes that somebody holds.
pub(super) fn held(desk: &mut Desk<'_>, spot: &Spot, written: &[String], declared: &Declared<'_>) -> Arc<ScopeSet> {
    let mut scopes = Vec::with_capacity(written.len());
    for (index, text) in written.iter().enumerate() {
        let spot = spot.index(index);
        match Scope::parse(text) {
            Ok(scope) => {
                declared.check(desk, &spot, &scope);
                scopes.push(scope);
            }
            Err(error) => desk.error(&spot, format!("`{}` is no scope: {error}", shorten(text))),
        }
    }
    Arc::new(ScopeSet::new(scopes))
}

/// Scopes that a route wants. Its variables are those of the path.
pub(super) fn wanted(
    desk: &mut Desk<'_>,
    spot: &Spot,
    written: &[String],
    variables: &[Arc<str>],
    declared: &Declared<'_>,
) -> Vec<ScopeTemplate> {
    let mut templates = Vec::with_capacity(written.len());
    for (index, text) in written.iter().enumerate() {
        let spot = spot.index(index);
        let Some(parts) = template(desk, &spot, text, variables) else { continue };
        let mut filled = String::new();
        let mut fixed = true;
        for part in &parts {
            match part {
                TemplatePart::Text(text) => filled.push_str(text),
                TemplatePart::Variable(_) => {
                    filled.push('x');
                    fixed = false;
                }
            }
        }
        match Scope::parse(&filled) {
            Ok(scope) if fixed => {
                declared.check(desk, &spot, &scope);
                declared.doubt(desk, &spot, &scope);
            }
            // What a caller writes into the path must never be able to name a right of administration.
            Ok(scope) if scope.is_reserved() => desk.error(&spot, "`tollgate:` scopes are fixed texts and take no variables"),
            Ok(_) => {}
            Err(error) => desk.error(&spot, format!("`{}` is no scope: {error}", shorten(text))),
        }
        templates.push(ScopeTemplate(parts));
    }
    templates
}

/// A text with variables of the path in it.
pub(super) fn template(desk: &mut Desk<'_>, spot: &Spot, text: &str, variables: &[Arc<str>]) -> Option<Vec<TemplatePart>> {
    let parts = match parse_template(text) {
        Ok(parts) => parts,
        Err(error) => {
            desk.error(spot, error.to_string());
            return None;
        }
    };
    for part in &parts {
        match part {
            TemplatePart::Variable(name) if !variables.contains(name) => {
                desk.unknown(spot, "path variable", name, variables.iter().map(|known| &**known));
            }
            TemplatePart::Variable(_) | TemplatePart::Text(_) => {}
        }
    }
    Some(parts)
}
