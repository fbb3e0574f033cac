//! OAuth clients that nobody here wrote, against Tollgate behind Envoy, and against a certified server as control: a check that fails
//! there says nothing about us.

use std::net::TcpStream;

use crate::support::folder::Folder;
use crate::support::issuing::Issuing;
use crate::support::issuing::MadeClient;
use crate::support::issuing::PASSWORD;
use crate::support::issuing::REDIRECT_URI;
use crate::support::issuing::RESOURCE;
use crate::support::issuing::Report;
use crate::support::issuing::USER;
use crate::support::issuing::run_script;
use crate::support::issuing::scripts;
use crate::support::node_tool::node;
use crate::support::ports::free_port;
use crate::support::process::Process;

const SCRIPTS: [&str; 3] = ["oauth4webapi", "openid_client", "hostile"];

/// What the control does not offer: it keeps no record of a JWT, and its bare pages have no button that says no.
const UNSUPPORTED_BY_THE_CONTROL: &str = "introspection_of_a_jwt revocation_of_a_jwt deny";

struct Clients {
    confidential: MadeClient,
    other: MadeClient,
    native: MadeClient,
}

fn environment<'a>(issuer: &'a str, clients: &'a Clients) -> Vec<(&'a str, &'a str)> {
    vec![
        ("ISSUER", issuer),
        ("RESOURCE", RESOURCE),
        ("SCOPE", "conversations:read customers:read"),
        ("REDIRECT_URI", REDIRECT_URI),
        ("TEST_USER", USER),
        ("TEST_PASSWORD", PASSWORD),
        ("CLIENT_ID", &clients.confidential.id),
        ("CLIENT_SECRET", &clients.confidential.secret),
        ("OTHER_CLIENT_ID", &clients.other.id),
        ("OTHER_CLIENT_SECRET", &clients.other.secret),
        ("PUBLIC_CLIENT_ID", &clients.native.id),
    ]
}

fn run(script: &str, issuer: &str, clients: &Clients, more: &[(&str, &str)]) -> Report {
    let mut environment = environment(issuer, clients);
    environment.extend(more);
    run_script(script, &environment)
}

// oauth: D5 N7
#[test]
fn outside_clients_complete_every_flow_and_hostile_ones_are_refused() {
    let issuing = Issuing::start("");
    let clients = Clients {
        confidential: issuing.confidential("oauth4webapi"),
        other: issuing.confidential("another one"),
        native: issuing.native("native"),
    };
    for script in SCRIPTS {
        let report = run(script, &issuing.url, &clients, &[]);
        assert!(report.failed.is_empty() && report.unsupported.is_empty(), "{script}: {report:#?}");
    }
}

#[test]
fn the_same_checks_hold_on_a_certified_server() {
    let port = free_port();
    let issuer = format!("http://127.0.0.1:{port}");
    let made = |id: &str, secret: &str| MadeClient { id: id.to_owned(), secret: secret.to_owned() };
    let clients = Clients {
        confidential: made("confidential", "a secret of the tests, one"),
        other: made("other", "a secret of the tests, two"),
        native: made("native", ""),
    };
    let folder = Folder::new();
    let mut command = node();
    command.arg(scripts().join("control.mjs"));
    command.envs(environment(&issuer, &clients));
    let _control = Process::start("control", command, folder.path()).ready(|| TcpStream::connect(("127.0.0.1", port)).is_ok());
    for script in SCRIPTS {
        let report = run(script, &issuer, &clients, &[("DISCOVERY", "oidc"), ("SKIP", UNSUPPORTED_BY_THE_CONTROL)]);
        assert!(report.failed.is_empty(), "{script}: {report:#?}");
    }
}
