//! Placeholder until the real room arrives.

use std::sync::Arc;

use crate::check::decide::Denial;
use crate::check::find_route::Found;
use crate::model::caller::Caller;
use crate::model::request::Request;
use crate::model::rules::Rules;

#[derive(Debug, Default)]
pub struct Pinned {
    version: Option<Arc<str>>,
    response: Vec<(&'static str, String)>,
}

impl Pinned {
    pub fn version(&self) -> Option<&Arc<str>> {
        self.version.as_ref()
    }

    pub fn response(&self) -> &[(&'static str, String)] {
        &self.response
    }
}

pub fn pin_version(_request: &Request<'_>, _found: &Found<'_, '_>, caller: Option<&Caller>, rules: &Rules) -> Result<Pinned, Denial> {
    let versions = rules.api_versions.as_ref();
    let pinned = versions.and_then(|versions| {
        let named = caller.and_then(|caller| caller.pinned_version.clone());
        named.or_else(|| versions.versions.get(versions.default).map(|version| Arc::clone(&version.name)))
    });
    Ok(Pinned { version: pinned, response: Vec::new() })
}
