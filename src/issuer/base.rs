//! An issuer whose URL has a path: everything is served under it too, as a proxy that does not cut it off sends it.

use axum::Router;
use axum::extract::Request;
use axum::http::Uri;
use axum::http::uri::PathAndQuery;
use tower::ServiceExt as _;

use crate::issuer::IssuerState;
use crate::issuer::pages::visit::base_of;

/// The same routes, with and without the issuer's path before them.
pub(in crate::issuer) fn under_issuer_path(state: IssuerState, router: Router) -> Router {
    let cut_off = move |mut request: Request| {
        let shorter = state.rules.load().issuance.as_ref().and_then(|issuance| without_base(request.uri(), base_of(&issuance.url)));
        if let Some(uri) = shorter {
            *request.uri_mut() = uri;
        }
        request
    };
    Router::new().fallback_service(router.map_request(cut_off))
}

/// The rest of the path where it begins with the base; none where it does not, or there is none.
fn without_base(uri: &Uri, base: &str) -> Option<Uri> {
    let rest = uri.path_and_query()?.as_str().strip_prefix(base).filter(|rest| !base.is_empty() && rest.starts_with('/'))?;
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = Some(rest.parse::<PathAndQuery>().ok()?);
    Uri::from_parts(parts).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_segments_are_cut_off() {
        for (uri, base, rest) in [
            ("/a/b/c?d=/a/b", "/a/b", Some("/c?d=/a/b")),
            ("/a/b/a/b/c", "/a/b", Some("/a/b/c")),
            ("/a/bc", "/a/b", None),
            ("/a/b", "/a/b", None),
            ("/a/b?x", "/a/b", None),
            ("/c", "/a/b", None),
            ("/c", "", None),
        ] {
            let found = without_base(&uri.parse().unwrap(), base).map(|uri| uri.to_string());
            assert_eq!(found.as_deref(), rest, "{uri}");
        }
    }
}
