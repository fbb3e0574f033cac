//! Pure: the file's shape and what was read for it, in; [`Boot`], [`Rules`] and every mistake, out.

mod api_versions;
mod doors;
mod headers;
mod issuance;
mod issuers;
mod keys;
mod limits;
mod names;
mod providers;
mod redis;
mod routes;
mod scopes;
pub(in crate::config) mod traces;

use std::num::NonZeroU32;
use std::path::Path;
use std::sync::Arc;

use aws_lc_rs::digest;
use zeroize::Zeroizing;

use crate::config::boot::Boot;
use crate::config::complaint::Complaint;
use crate::config::desk::Desk;
use crate::config::desk::Spot;
use crate::config::file::ConfigFile;
use crate::config::file::identity::ImportedKeysFile;
use crate::config::file::route::ErrorsFile;
use crate::config::file::route::FaultsFile;
use crate::config::file::route::LimitsFailureFile;
use crate::config::file::scalars::Whole;
use crate::config::outside::Outside;
use crate::config::yaml::Node;
use crate::model::hex::write_hex;
use crate::model::look_alikes::LookAlikes;
use crate::model::route::ErrorFormat;
use crate::model::rules::DryRun;
use crate::model::rules::FaultAnswer;
use crate::model::rules::ImportedKeys;
use crate::model::rules::LimitsFailure;
use crate::model::rules::Rules;

/// What came of it. `made` is complete only where `errors` is empty.
pub(in crate::config) struct Compiled {
    pub(in crate::config) made: Option<(Boot, Rules)>,
    pub(in crate::config) errors: Vec<Complaint>,
    pub(in crate::config) warnings: Vec<Complaint>,
}

pub(in crate::config) fn compile(name: &Arc<str>, text: &str, base: &Path, tree: &Node, file: &ConfigFile, outside: &Outside) -> Compiled {
    let mut desk = Desk::new(Arc::clone(name), tree, base.to_owned(), outside);
    let mut revision = Revision::of(text);
    let made = everything(&mut desk, &mut revision, file);
    Compiled { made, errors: desk.errors, warnings: desk.warnings }
}

/// Every part is compiled before any missing one ends the work, so that all mistakes are found.
fn everything(desk: &mut Desk<'_>, revision: &mut Revision, file: &ConfigFile) -> Option<(Boot, Rules)> {
    let root = Spot::default();
    let boot = doors::boot(desk, &root, file);
    let brand = names::brand(desk, &root.key("key_brand"), file.key_brand.as_deref());
    let places = headers::places(desk, &root.key("credentials"), file);
    let api_versions = api_versions::api_versions(desk, &root.key("api_versions"), file.api_versions.as_ref(), &places);
    let assertion = headers::assertion(desk, &root.key("upstream_assertion"), file.upstream_assertion.as_ref());
    let identity_headers = headers::identity_headers(desk, &root, file, &places, assertion.as_ref(), api_versions.as_ref());
    let tiers = limits::tiers(desk, &root.key("tiers"), &file.tiers);
    if let Some(tier) = &file.default_tier {
        limits::known_tier(desk, &root.key("default_tier"), tier, file);
    }
    let declared = scopes::Declared::new(desk, &root.key("scopes"), file);
    let sources = issuers::sources(desk, &root, file, revision, &declared);
    let issuance = issuance::issuance(desk, &root, file, revision, &declared);
    let routes = routes::routes(desk, &root.key("routes"), file, &declared, &tiers);
    let guard = limits::guard(desk, &root.key("guard"), &file.guard);
    let file_keys = keys::file_keys(desk, revision, &root.key("keys_file"), file, &brand, &declared);
    if file.dry_run == Some(true) {
        desk.warn(
            &root.key("dry_run"),
            "nobody is refused: verdicts are logged and counted, and every request goes through; for a trial only",
        );
    }
    let (mut sources, (routes, route_index)) = (sources?, routes?);
    if let Some(issuance) = &issuance {
        sources.issuers.push(issuance::own_issuer(issuance, sources.local.clone()));
    }
    let mut rules = Rules {
        revision: revision.text(),
        routes,
        route_index,
        errors: error_format(file.errors),
        places,
        key_brand: brand,
        imported_keys: match file.imported_keys {
            Some(ImportedKeysFile::Accepted) => ImportedKeys::Accepted,
            Some(ImportedKeysFile::Refused) | None => ImportedKeys::Refused,
        },
        local: sources.local,
        issuers: sources.issuers,
        scopes: file.scopes.as_ref().map(|scopes| scopes.iter().map(|scope| Arc::from(&**scope)).collect()),
        issuance: issuance.map(Arc::new),
        mesh: sources.mesh,
        tiers,
        default_tier: file.default_tier.as_deref().map(Arc::from),
        identity_headers,
        assertion,
        api_versions,
        look_alikes: LookAlikes::default(),
        guard: guard?,
        header_limits: limits::headers(&file.header_limits),
        trusted_hops: Whole::or(file.trusted_hops, 0),
        dry_run: match file.dry_run {
            Some(true) => DryRun::On,
            Some(false) | None => DryRun::Off,
        },
        limits_failure: match file.failure.limits {
            Some(LimitsFailureFile::LocalShare) | None => LimitsFailure::LocalShare,
            Some(LimitsFailureFile::Deny) => LimitsFailure::Deny,
            Some(LimitsFailureFile::Pass) => LimitsFailure::Pass,
        },
        fault_answer: match file.faults {
            Some(FaultsFile::RpcError) | None => FaultAnswer::RpcError,
            Some(FaultsFile::ErrorResponse) => FaultAnswer::ErrorResponse,
            Some(FaultsFile::Deny) => FaultAnswer::Deny,
        },
        file_keys: file_keys?,
        log_allows: file.logging.allows.map_or(1.0, |share| share.0),
        usage_series_limit: Whole::or(file.metrics.usage_series, 1_000),
    };
    rules.look_alikes = LookAlikes::of(&rules);
    Some((boot?, rules))
}

fn error_format(written: Option<ErrorsFile>) -> ErrorFormat {
    match written {
        Some(ErrorsFile::Standard) | None => ErrorFormat::Standard,
        Some(ErrorsFile::Problem) => ErrorFormat::Problem,
        Some(ErrorsFile::Envelope) => ErrorFormat::Envelope,
        Some(ErrorsFile::Result) => ErrorFormat::Result,
    }
}

/// The fingerprint of everything that reloads.
struct Revision(digest::Context);

impl Revision {
    fn of(text: &str) -> Self {
        let mut revision = Self(digest::Context::new(&digest::SHA256));
        revision.add("config", text.as_bytes());
        revision
    }

    /// Each part has a label and a length, so that no two sets of parts read alike.
    fn add(&mut self, label: &str, bytes: &[u8]) {
        self.0.update(label.as_bytes());
        self.0.update(&[0]);
        self.0.update(&u64::try_from(bytes.len()).unwrap_or(u64::MAX).to_be_bytes());
        self.0.update(bytes);
    }

    /// The revision is public, so a secret goes in by a slow hash: twelve digits in a log must not help to guess it.
    fn add_secret(&mut self, label: &str, secret: &[u8]) {
        const ROUNDS: NonZeroU32 = match NonZeroU32::new(50_000) {
            Some(rounds) => rounds,
            None => NonZeroU32::MIN,
        };
        let mut slow = Zeroizing::new([0_u8; 32]);
        aws_lc_rs::pbkdf2::derive(aws_lc_rs::pbkdf2::PBKDF2_HMAC_SHA256, ROUNDS, b"tollgate config revision", secret, slow.as_mut());
        self.add(label, slow.as_ref());
    }

    fn text(&self) -> Arc<str> {
        let mut digits = write_hex(self.0.clone().finish().as_ref());
        digits.truncate(12);
        Arc::from(digits)
    }
}
