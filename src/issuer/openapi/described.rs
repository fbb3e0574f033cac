//! Routes that are described here and not where they are served: each of these functions stands for a handler of another area and is
//! never called. The tests hold them to what is served.

#![expect(dead_code, reason = "each stands for a handler, and only its description is used")]

use utoipa::OpenApi;

use crate::issuer::accounts::invitations::InvitationView;
use crate::issuer::accounts::invitations::Made;
use crate::issuer::accounts::organizations::OrganizationView;
use crate::issuer::accounts::own_sessions::OwnSessionView;
use crate::issuer::accounts::own_sessions::SessionView;
use crate::issuer::audit::list::EntryView;
use crate::issuer::audit::verify::Report;
use crate::issuer::oauth::clients::resource::ClientView;
use crate::issuer::oauth::clients::resource::Issued;
use crate::issuer::oauth::introspect::Answer;
use crate::issuer::oauth::metadata::Metadata;
use crate::issuer::oauth::token::mint::Success;
use crate::issuer::openapi::answers::Asked;
use crate::issuer::openapi::answers::Conditional;
use crate::issuer::openapi::answers::Conflicting;
use crate::issuer::openapi::answers::Judged;
use crate::issuer::openapi::answers::Missing;
use crate::issuer::openapi::answers::WithBody;
use crate::issuer::openapi::bodies::AuthorizationForm;
use crate::issuer::openapi::bodies::ClientChangeBody;
use crate::issuer::openapi::bodies::ClientRotationBody;
use crate::issuer::openapi::bodies::InvitationBody;
use crate::issuer::openapi::bodies::NewClientBody;
use crate::issuer::openapi::bodies::NewUserBody;
use crate::issuer::openapi::bodies::OrganizationChangeBody;
use crate::issuer::openapi::bodies::Repeatable;
use crate::issuer::openapi::bodies::RingRotationBody;
use crate::issuer::openapi::bodies::TokenForm;
use crate::issuer::openapi::bodies::TokenNameForm;
use crate::issuer::openapi::bodies::UserChangeBody;
use crate::issuer::openapi::schemas::KeySet;
use crate::issuer::openapi::schemas::Unconfirmed;
use crate::issuer::ring::RingView;
use crate::issuer::users::view::PersonView;
use crate::issuer::views::Changed;
use crate::issuer::views::PageView;
use crate::issuer::views::Row;

/// All of them.
#[derive(OpenApi)]
#[openapi(paths(
    list_users,
    create_user,
    show_user,
    change_user,
    erase_user,
    list_organizations,
    show_organization,
    change_organization,
    list_invitations,
    create_invitation,
    revoke_invitation,
    list_sessions,
    show_own_session,
    end_sessions,
    end_session,
    list_clients,
    create_client,
    show_client,
    change_client,
    delete_client,
    rotate_client,
    remove_client_secret,
    list_audit,
    verify_audit,
    show_ring,
    rotate_ring,
    authorize,
    authorize_by_form,
    token,
    revoke_token,
    introspect_token,
    jwks,
    metadata
))]
pub(in crate::issuer) struct Described;

/// The users within the caller's reach.
#[utoipa::path(get, path = "/v1/users", operation_id = "list_users", tag = "users",
    params(("organization" = Option<String>, Query, description = "Only this organisation's."), ("limit" = Option<u16>, Query, description = "How many at the most.", minimum = 1, maximum = 500), ("after" = Option<String>, Query, description = "The `next` of the page before.")),
    responses((status = 200, description = "A page of users.", body = PageView<Row<PersonView>>), Judged, Missing))]
fn list_users() {}

/// Makes a user, who never holds more than its maker.
#[utoipa::path(post, path = "/v1/users", operation_id = "create_user", tag = "users",
    params(Repeatable),
    request_body = NewUserBody,
    responses((status = 201, description = "The user.", body = PersonView), Judged, WithBody, Missing, Conflicting, Conditional))]
fn create_user() {}

/// One user.
#[utoipa::path(get, path = "/v1/users/{id}", operation_id = "show_user", tag = "users",
    params(("id" = String, Path, description = "Its id."), ("source" = Option<String>, Query, description = "Whose user it is; `local` where it is absent.")),
    responses((status = 200, description = "The user.", body = PersonView), Judged, Missing))]
fn show_user() {}

/// Changes what is named of a user.
#[utoipa::path(patch, path = "/v1/users/{id}", operation_id = "change_user", tag = "users",
    params(("id" = String, Path, description = "Its id."), ("source" = Option<String>, Query, description = "Whose user it is; `local` where it is absent."), ("if-match" = Option<String>, Header, description = "The `etag` of what was read.")),
    request_body = UserChangeBody,
    responses((status = 200, description = "As it is now.", body = PersonView), (status = 202, description = "It is done; no replica has confirmed it yet.", body = Changed<PersonView>), Judged, WithBody, Missing, Conflicting, Conditional))]
fn change_user() {}

/// Erases a user everywhere: records, keys, counts, and its name in the audit log.
#[utoipa::path(delete, path = "/v1/users/{id}", operation_id = "erase_user", tag = "users",
    params(("id" = String, Path, description = "Its id."), ("source" = Option<String>, Query, description = "Whose user it is; `local` where it is absent."), ("if-match" = Option<String>, Header, description = "The `etag` of what was read.")),
    responses((status = 204, description = "It is gone."), (status = 202, description = "It is done; no replica has confirmed it yet.", body = Unconfirmed), Judged, Missing, Conflicting, Conditional))]
fn erase_user() {}

/// The organisations within the caller's reach.
#[utoipa::path(get, path = "/v1/organizations", operation_id = "list_organizations", tag = "organizations",
    params(("limit" = Option<u16>, Query, description = "How many at the most.", minimum = 1, maximum = 500), ("after" = Option<String>, Query, description = "The `next` of the page before.")),
    responses((status = 200, description = "A page of organisations.", body = PageView<OrganizationView>), Judged, Missing))]
fn list_organizations() {}

/// One organisation.
#[utoipa::path(get, path = "/v1/organizations/{id}", operation_id = "show_organization", tag = "organizations",
    params(("id" = String, Path, description = "Its id.")),
    responses((status = 200, description = "The organisation.", body = OrganizationView), Judged, Missing))]
fn show_organization() {}

/// Changes what is named of an organisation.
#[utoipa::path(patch, path = "/v1/organizations/{id}", operation_id = "change_organization", tag = "organizations",
    params(("id" = String, Path, description = "Its id."), ("if-match" = Option<String>, Header, description = "The `etag` of what was read.")),
    request_body = OrganizationChangeBody,
    responses((status = 200, description = "As it is now.", body = OrganizationView), (status = 202, description = "It is done; no replica has confirmed it yet.", body = Changed<OrganizationView>), Judged, WithBody, Missing, Conflicting, Conditional))]
fn change_organization() {}

/// The invitations within the caller's reach.
#[utoipa::path(get, path = "/v1/invitations", operation_id = "list_invitations", tag = "invitations",
    params(("limit" = Option<u16>, Query, description = "How many at the most.", minimum = 1, maximum = 500), ("after" = Option<String>, Query, description = "The `next` of the page before.")),
    responses((status = 200, description = "A page of invitations.", body = PageView<InvitationView>), Judged, Missing))]
fn list_invitations() {}

/// Invites into an organisation. The text to hand over is in this answer and nowhere else.
#[utoipa::path(post, path = "/v1/invitations", operation_id = "create_invitation", tag = "invitations",
    params(Repeatable),
    request_body = InvitationBody,
    responses((status = 201, description = "The invitation.", body = Made<'_>), Judged, WithBody, Missing, Conflicting, Conditional))]
fn create_invitation() {}

/// Takes an invitation back.
#[utoipa::path(delete, path = "/v1/invitations/{id}", operation_id = "revoke_invitation", tag = "invitations",
    params(("id" = String, Path, description = "Its id.")),
    responses((status = 204, description = "It is gone."), (status = 202, description = "It is done; no replica has confirmed it yet.", body = Unconfirmed), Judged, Missing, Conflicting, Conditional))]
fn revoke_invitation() {}

/// The caller's own sessions at the pages.
#[utoipa::path(get, path = "/v1/sessions", operation_id = "list_sessions", tag = "sessions",
    params(("user" = Option<String>, Query, description = "Whose; the caller's own where it is absent.")),
    responses((status = 200, description = "All of them.", body = PageView<SessionView>), Judged, Missing))]
fn list_sessions() {}

/// The session of this browser, and the `csrf_token` that its changes carry as `x-csrf-token`.
#[utoipa::path(get, path = "/v1/sessions/self", operation_id = "show_own_session", tag = "sessions", security(("session" = [])),
    responses((status = 200, description = "The session that this request came in.", body = OwnSessionView), Judged, Missing))]
fn show_own_session() {}

/// Signs the caller out everywhere.
#[utoipa::path(delete, path = "/v1/sessions", operation_id = "end_sessions", tag = "sessions",
    params(("user" = Option<String>, Query, description = "Whose; the caller's own where it is absent.")),
    responses((status = 204, description = "It is gone."), Judged, Missing, Conflicting, Conditional))]
fn end_sessions() {}

/// Ends one session.
#[utoipa::path(delete, path = "/v1/sessions/{id}", operation_id = "end_session", tag = "sessions",
    params(("id" = String, Path, description = "Its id."), ("user" = Option<String>, Query, description = "Whose; the caller's own where it is absent.")),
    responses((status = 204, description = "It is gone."), Judged, Missing, Conflicting, Conditional))]
fn end_session() {}

/// The OAuth clients within the caller's reach.
#[utoipa::path(get, path = "/v1/clients", operation_id = "list_clients", tag = "clients",
    params(("limit" = Option<u16>, Query, description = "How many at the most.", minimum = 1, maximum = 500), ("after" = Option<String>, Query, description = "The `next` of the page before.")),
    responses((status = 200, description = "A page of clients.", body = PageView<Row<ClientView>>), Judged, Missing))]
fn list_clients() {}

/// Registers an OAuth client. Its secret is in this answer and nowhere else.
#[utoipa::path(post, path = "/v1/clients", operation_id = "create_client", tag = "clients",
    params(Repeatable),
    request_body = NewClientBody,
    responses((status = 201, description = "The client.", body = Issued<'_>), Judged, WithBody, Missing, Conflicting, Conditional))]
fn create_client() {}

/// One client.
#[utoipa::path(get, path = "/v1/clients/{id}", operation_id = "show_client", tag = "clients",
    params(("id" = String, Path, description = "Its id.")),
    responses((status = 200, description = "The client.", body = ClientView), Judged, Missing))]
fn show_client() {}

/// Changes what is named of a client.
#[utoipa::path(patch, path = "/v1/clients/{id}", operation_id = "change_client", tag = "clients",
    params(("id" = String, Path, description = "Its id."), ("if-match" = Option<String>, Header, description = "The `etag` of what was read.")),
    request_body = ClientChangeBody,
    responses((status = 200, description = "As it is now.", body = ClientView), (status = 202, description = "It is done; no replica has confirmed it yet.", body = Changed<ClientView>), Judged, WithBody, Missing, Conflicting, Conditional))]
fn change_client() {}

/// Deletes a client; what it was granted ends with it.
#[utoipa::path(delete, path = "/v1/clients/{id}", operation_id = "delete_client", tag = "clients",
    params(("id" = String, Path, description = "Its id."), ("if-match" = Option<String>, Header, description = "The `etag` of what was read.")),
    responses((status = 204, description = "It is gone."), (status = 202, description = "It is done; no replica has confirmed it yet.", body = Unconfirmed), Judged, Missing, Conflicting, Conditional))]
fn delete_client() {}

/// Gives a client a second secret.
#[utoipa::path(post, path = "/v1/clients/{id}/rotate", operation_id = "rotate_client", tag = "clients",
    params(("id" = String, Path, description = "Its id."), ("if-match" = Option<String>, Header, description = "The `etag` of what was read.")),
    request_body = ClientRotationBody,
    responses((status = 200, description = "As it is now.", body = Issued<'_>), (status = 202, description = "It is done; no replica has confirmed it yet.", body = Changed<Issued<'_>>), Judged, WithBody, Missing, Conflicting, Conditional))]
fn rotate_client() {}

/// Ends one of a client's secrets.
#[utoipa::path(delete, path = "/v1/clients/{id}/secrets/{which}", operation_id = "remove_client_secret", tag = "clients",
    params(("id" = String, Path, description = "Its id."), ("which" = String, Path, description = "Which of them."), ("if-match" = Option<String>, Header, description = "The `etag` of what was read.")),
    responses((status = 200, description = "The client.", body = ClientView), (status = 202, description = "It is done; no replica has confirmed it yet.", body = Changed<ClientView>), (status = 204, description = "It is gone."), Judged, Missing, Conflicting, Conditional))]
fn remove_client_secret() {}

/// Who did what to whom, from where, within the caller's reach.
#[utoipa::path(get, path = "/v1/audit", operation_id = "list_audit", tag = "audit",
    params(("subject" = Option<String>, Query, description = "Done to this one."), ("actor" = Option<String>, Query, description = "Done by this one."), ("deed" = Option<String>, Query, description = "Only this deed."), ("organization" = Option<String>, Query, description = "Only about this organisation."), ("from" = Option<String>, Query, description = "A day or a time."), ("to" = Option<String>, Query, description = "A day or a time."), ("limit" = Option<u16>, Query, description = "How many at the most.", minimum = 1, maximum = 500), ("after" = Option<String>, Query, description = "The `next` of the page before.")),
    responses((status = 200, description = "A page of entries.", body = PageView<Row<EntryView>>), Judged, Missing))]
fn list_audit() {}

/// Whether the audit log is whole. For operators.
#[utoipa::path(get, path = "/v1/audit/verify", operation_id = "verify_audit", tag = "audit",
    params(("after" = Option<String>, Query, description = "The `next` of the page before.")),
    responses((status = 200, description = "What was found.", body = Report), Judged, Missing))]
fn verify_audit() {}

/// The signing keys. For operators.
#[utoipa::path(get, path = "/v1/ring", operation_id = "show_ring", tag = "ring",
    responses((status = 200, description = "The ring.", body = RingView), Judged, Missing))]
fn show_ring() {}

/// Turns the ring, in order or in an emergency. For operators.
#[utoipa::path(post, path = "/v1/ring/rotate", operation_id = "rotate_ring", tag = "ring",
    request_body = RingRotationBody,
    responses((status = 200, description = "The ring.", body = RingView), Judged, WithBody, Missing, Conflicting, Conditional))]
fn rotate_ring() {}

/// RFC 6749 section 4.1.1 with PKCE (S256), resource indicators and `iss` in the answer.
#[utoipa::path(get, path = "/oauth/authorize", operation_id = "authorize", tag = "oauth", security(()),
    params(AuthorizationForm),
    responses((status = 200, description = "The page of consent.", body = String, content_type = "text/html"), (status = 302, description = "Back to the client, or on to the sign-in page."), (status = 303, description = "On to the sign-in page."), (status = 400, description = "A page: there is no client to go back to.", body = String, content_type = "text/html"), (status = 403, description = "A page.", body = String, content_type = "text/html"), (status = 404, description = "Nothing is issued here."), (status = 429, description = "Too many."), (status = 503, description = "Not now.")))]
fn authorize() {}

/// The same by a form: RFC 6749 section 4.1.1 with PKCE (S256), resource indicators and `iss` in the answer.
#[utoipa::path(post, path = "/oauth/authorize", operation_id = "authorize_by_form", tag = "oauth", security(()),
    request_body(content = AuthorizationForm, content_type = "application/x-www-form-urlencoded"),
    responses((status = 200, description = "The page of consent.", body = String, content_type = "text/html"), (status = 302, description = "Back to the client, or on to the sign-in page."), (status = 303, description = "On to the sign-in page."), (status = 400, description = "A page: there is no client to go back to.", body = String, content_type = "text/html"), (status = 403, description = "A page.", body = String, content_type = "text/html"), (status = 404, description = "Nothing is issued here."), (status = 413, description = "The form is too large."), (status = 415, description = "The body is no form."), (status = 429, description = "Too many."), (status = 503, description = "Not now.")))]
fn authorize_by_form() {}

/// RFC 6749: `authorization_code`, `refresh_token`, `client_credentials`; token exchange (RFC 8693).
#[utoipa::path(post, path = "/oauth/token", operation_id = "token", tag = "oauth", security((), ("client" = [])),
    request_body(content = TokenForm, content_type = "application/x-www-form-urlencoded"),
    responses((status = 200, description = "The tokens.", body = Success<'_>), Asked))]
fn token() {}

/// RFC 7009.
#[utoipa::path(post, path = "/oauth/revoke", operation_id = "revoke_token", tag = "oauth", security((), ("client" = [])),
    request_body(content = TokenNameForm, content_type = "application/x-www-form-urlencoded"),
    responses((status = 200, description = "The token opens nothing any more, or never did."), Asked))]
fn revoke_token() {}

/// RFC 7662, for the client that the token is of and for resource servers.
#[utoipa::path(post, path = "/oauth/introspect", operation_id = "introspect_token", tag = "oauth", security((), ("client" = [])),
    request_body(content = TokenNameForm, content_type = "application/x-www-form-urlencoded"),
    responses((status = 200, description = "What is known of the token; `active: false` and nothing more of one that opens nothing.", body = Answer<'_>), Asked))]
fn introspect_token() {}

/// The keys that access tokens are signed with (RFC 7517).
#[utoipa::path(get, path = "/oauth/jwks", operation_id = "jwks", tag = "oauth", security(()),
    responses((status = 200, description = "The keys.", body = KeySet, content_type = "application/jwk-set+json"), (status = 404, description = "Nothing is issued here."), (status = 503, description = "Not now.")))]
fn jwks() {}

/// RFC 8414.
#[utoipa::path(get, path = "/.well-known/oauth-authorization-server", operation_id = "metadata", tag = "oauth", security(()),
    responses((status = 200, description = "The document.", body = Metadata<'_>), (status = 404, description = "Nothing is issued here."), (status = 503, description = "Not now.")))]
fn metadata() {}
