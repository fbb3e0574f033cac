//! API versions.

use std::sync::Arc;

use crate::config::compile::headers;
use crate::config::compile::names;
use crate::config::desk::Desk;
use crate::config::desk::Spot;
use crate::config::file::route::ApiVersionFile;
use crate::config::file::route::ApiVersionsFile;
use crate::model::api_version::ApiVersion;
use crate::model::api_version::ApiVersions;
use crate::model::api_version::Stage;
use crate::model::route::Ending;
use crate::model::route::PathTemplate;
use crate::model::rules::Place;

pub(super) fn api_versions(desk: &mut Desk<'_>, spot: &Spot, file: Option<&ApiVersionsFile>, places: &[Place]) -> Option<ApiVersions> {
    let file = file?;
    let header = match &file.header {
        Some(name) => headers::header_name(desk, &spot.key("header"), name),
        None => Some(Arc::from("api-version")),
    };
    if header.as_ref().is_some_and(|header| places.iter().any(|place| place.header == *header)) {
        desk.error(&spot.key("header"), "credentials come in this header");
    }
    let list = spot.key("versions");
    if file.versions.is_empty() {
        desk.missing(&list, "there is no version");
    }
    let mut versions: Vec<ApiVersion> = Vec::with_capacity(file.versions.len());
    for (index, written) in file.versions.iter().enumerate() {
        let spot = list.index(index);
        if versions.iter().any(|other| *other.name == written.name) {
            desk.error(&spot.key("name"), "two versions have the same name");
        }
        versions.push(version(desk, &spot, written, file));
    }
    let default = versions.iter().position(|version| *version.name == file.default);
    match default.and_then(|index| versions.get(index)) {
        Some(version) if version.stage == Stage::Retired => {
            desk.error(&spot.key("default"), "the default version is retired: requests that name none would all be refused");
        }
        Some(_) => {}
        None => desk.unknown_in(
            &list,
            &spot.key("default"),
            "API version",
            &file.default,
            file.versions.iter().map(|version| version.name.as_str()),
        ),
    }
    Some(ApiVersions { header: header?, versions, default: default? })
}

/// Complains where the file has no version of this name.
pub(super) fn known_version(desk: &mut Desk<'_>, spot: &Spot, version: &str, file: Option<&ApiVersionsFile>) {
    let known: Vec<&str> = file.into_iter().flat_map(|file| &file.versions).map(|version| version.name.as_str()).collect();
    if !known.contains(&version) {
        let list = Spot::default().key("api_versions").key("versions");
        desk.unknown_in(&list, spot, "API version", version, known);
    }
}

fn version(desk: &mut Desk<'_>, spot: &Spot, written: &ApiVersionFile, file: &ApiVersionsFile) -> ApiVersion {
    if !names::is_dotted_name(&written.name) {
        desk.error_expecting(&spot.key("name"), "this is no version name", "1 to 64 of `a-z A-Z 0-9 . _ -`");
    }
    if let Some(prefix) = &written.path_prefix {
        match PathTemplate::parse(prefix) {
            Ok(path) if path.variables().next().is_none() && path.ending == Ending::Exact => {}
            Ok(_) => desk.error_expecting(&spot.key("path_prefix"), "this is no prefix", "whole fixed segments such as `/api/v1`"),
            Err(error) => desk.error(&spot.key("path_prefix"), error.to_string()),
        }
    }
    if let Some(successor) = &written.successor {
        if *successor == written.name {
            desk.error(&spot.key("successor"), "a version does not follow itself");
        }
        known_version(desk, &spot.key("successor"), successor, Some(file));
    }
    if let Some(url) = &written.documentation
        && !is_link_target(url)
    {
        desk.error_expecting(&spot.key("documentation"), "this cannot stand in a `Link` header", "an http or https URL");
    }
    let stage = match (&written.deprecated, written.retired) {
        (Some(_), Some(true)) => {
            desk.error(spot, "`deprecated` and `retired: true` exclude each other");
            Stage::Retired
        }
        (None, Some(true)) => Stage::Retired,
        (Some(deprecated), _) => {
            if deprecated.sunset.is_some_and(|sunset| sunset.0 <= deprecated.since.0) {
                desk.error(&spot.key("deprecated").key("sunset"), "the sunset is not after `since`");
            }
            Stage::Deprecated { since: deprecated.since.0, sunset: deprecated.sunset.map(|sunset| sunset.0) }
        }
        (None, Some(false) | None) => Stage::Current,
    };
    ApiVersion {
        name: Arc::from(written.name.as_str()),
        path_prefix: written.path_prefix.as_deref().map(Arc::from),
        stage,
        documentation: written.documentation.as_deref().map(Arc::from),
        successor: written.successor.as_deref().map(Arc::from),
    }
}

fn is_link_target(url: &str) -> bool {
    let known_scheme = url.starts_with("https://") || url.starts_with("http://");
    known_scheme && url.len() <= 512 && url.bytes().all(|byte| byte.is_ascii_graphic() && !b"<>\"\\`{}|^".contains(&byte))
}
