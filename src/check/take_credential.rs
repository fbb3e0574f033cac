//! Placeholder until the real room arrives.

use std::sync::Arc;

use crate::check::decide::Denial;
use crate::check::find_route::Found;
use crate::check::reasons::Reason;
use crate::model::key::KeyForm;
use crate::model::key::OwnKey;
use crate::model::key::read_key;
use crate::model::request::Request;
use crate::model::request::Single;
use crate::model::route::Auth;
use crate::model::rules::ImportedKeys;
use crate::model::rules::Rules;

#[derive(Debug)]
pub enum Credential<'m> {
    None,
    Own(OwnKey<'m>),
    Foreign(&'m str),
    Token(&'m str),
    Opaque(&'m str),
    Principal(&'m str),
}

#[derive(Debug)]
pub struct Shown<'m> {
    pub credential: Credential<'m>,
    pub paired_key: Option<&'m str>,
    pub headers: Vec<Arc<str>>,
    pub query_parameter: Option<Arc<str>>,
}

pub fn take_credential<'m>(request: &Request<'m>, found: &Found<'_, '_>, rules: &Rules) -> Result<Shown<'m>, Denial> {
    let shown = |credential, headers| Ok(Shown { credential, paired_key: None, headers, query_parameter: None });
    if found.route.auth == Auth::Public || found.preflight() {
        return shown(Credential::None, Vec::new());
    }
    for place in &rules.places {
        if let Single::Once(value) = request.headers.single(&place.header) {
            let text = std::str::from_utf8(value).map_err(|_| Denial::new(Reason::MalformedCredential))?;
            let text = match &place.scheme {
                Some(scheme) => text.strip_prefix(&**scheme).and_then(|rest| rest.strip_prefix(' ')).unwrap_or(text),
                None => text,
            };
            let credential = match read_key(&rules.key_brand, text) {
                KeyForm::Own(own) => Credential::Own(own),
                KeyForm::Damaged => return Err(Denial::new(Reason::MalformedCredential)),
                KeyForm::Foreign if rules.imported_keys == ImportedKeys::Accepted => Credential::Foreign(text),
                KeyForm::Foreign => Credential::Opaque(text),
            };
            return shown(credential, vec![Arc::clone(&place.header)]);
        }
    }
    match request.principal {
        Some(principal) => shown(Credential::Principal(principal), Vec::new()),
        None if found.route.auth == Auth::Optional => shown(Credential::None, Vec::new()),
        None => Err(Denial::new(Reason::MissingCredential)),
    }
}
