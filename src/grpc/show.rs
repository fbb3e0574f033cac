//! An end as the client would see it, for `explain`: what [`encode`] writes, read back.

use bytes::Bytes;
use envoy_types::pb::envoy::config::core::v3::HeaderValueOption;
use envoy_types::pb::envoy::service::auth::v3::CheckResponse;
use envoy_types::pb::envoy::service::auth::v3::check_response::HttpResponse;
use prost::Message as _;

use crate::check::Seen;
use crate::check::decide::Exit;
use crate::check::decide::Grant;
use crate::grpc::encode;
use crate::grpc::encode::About;
use crate::grpc::encode::Client;
use crate::model::rules::DryRun;
use crate::model::rules::FaultAnswer;
use crate::model::rules::Rules;
use crate::model::time::Timestamp;

/// What the client is told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Shown {
    /// None: whatever the upstream says, or Envoy's `status_on_error`.
    pub status: Option<u16>,
    pub headers: Vec<(String, String)>,
    pub body: Option<String>,
}

/// What an allow adds to the upstream's answer.
pub fn show_allow(grant: &Grant<'_>, seen: &Seen<'_>, rules: &Rules, client: Client, now: Timestamp) -> Shown {
    read(&encode::allow(grant, &about(seen, rules, client, now)))
}

/// What a refusal says.
pub fn show_refusal(exit: &Exit, seen: &Seen<'_>, rules: &Rules, client: Client, now: Timestamp) -> Shown {
    let about = about(seen, rules, client, now);
    match (exit, rules.fault_answer) {
        (Exit::Denied(denial), _) => read(&encode::deny(denial, &about)),
        (Exit::Failed(_), FaultAnswer::RpcError) => Shown::default(),
        (Exit::Failed(fault), FaultAnswer::ErrorResponse) => read(&encode::error_response(fault, &about)),
        (Exit::Failed(fault), FaultAnswer::Deny) => read(&encode::deny_fault(fault, &about)),
    }
}

fn about<'a>(seen: &'a Seen<'_>, rules: &'a Rules, client: Client, now: Timestamp) -> About<'a> {
    About {
        route: seen.route,
        caller: seen.caller.as_deref(),
        lapsed_for: seen.lapsed_for,
        errors: rules.errors,
        revision: &rules.revision,
        dry_run: rules.dry_run == DryRun::On,
        request_id: Some("req_of_each_request"),
        client,
        now,
    }
}

fn read(bytes: &Bytes) -> Shown {
    // It was written a moment ago, so it can be read.
    let Ok(response) = CheckResponse::decode(bytes.clone()) else { return Shown::default() };
    match response.http_response {
        Some(HttpResponse::OkResponse(ok)) => Shown { status: None, headers: pairs(ok.response_headers_to_add), body: None },
        Some(HttpResponse::DeniedResponse(denied) | HttpResponse::ErrorResponse(denied)) => Shown {
            status: denied.status.and_then(|status| u16::try_from(status.code).ok()),
            headers: pairs(denied.headers),
            body: Some(denied.body),
        },
        None => Shown::default(),
    }
}

fn pairs(headers: Vec<HeaderValueOption>) -> Vec<(String, String)> {
    headers.into_iter().filter_map(|option| option.header).map(|header| (header.key, header.value)).collect()
}
