//! A bootstrap that fits a config: the quickstart's, with the config's own names, addresses and routes in the places where they differ.

use std::fmt::Write as _;
use std::net::IpAddr;
use std::net::SocketAddr;

use crate::config::boot::AccessLog;
use crate::config::boot::Boot;
use crate::config::boot::Listen;
use crate::config::boot::Tls;
use crate::config::bootstrap::Findings;
use crate::config::bootstrap::Judge;
use crate::config::bootstrap::clusters::Clusters;
use crate::config::bootstrap::issued::is_taken;
use crate::config::bootstrap::issued::own_port;
use crate::config::bootstrap::issued::served;
use crate::model::rules::Rules;

/// The same text as `envoy/quickstart/envoy.yaml`, here because an image is built from `src/` alone.
const TEMPLATE: &str = include_str!("template.yaml");

const REMOVALS: &str = "                        - remove: user
                        - remove: x-user-id
                        - remove: x-org-id
                        - remove: x-key-id
                        - remove: x-scopes
                        - remove: x-tier
";
const REGEX: &str =
    "user|x[-_]user[-_]id|x[-_]org[-_]id|x[-_]key[-_]id|x[-_]scopes|x[-_]tier|api-version|authorization|x-api-key|x-authorization";
/// As in the quickstart.
const PORT: u16 = 10000;
pub const ADMIN_PORT: u16 = 9901;
const HOPS: &str = "                use_remote_address: true\n";
const RAW: &str = "                      encode_raw_headers: true\n";
const SWITCH: &str = "                  # For answers by user and class of status beside the admitted requests (`tollgate usage --outcome answered`): take `#> `
                  # away here, and set `access_log: accepted` in tollgate.yaml. Tollgate does not wait for it, nor does any request.
";
const SWITCHED_OFF: &str = "#> ";
const ROUTES: &str = "                        # Everything else, known or not";
const CHECK: &str = "              - endpoint: { address: { pipe: { path: run/check.sock } } }\n";
const BREAKERS: &str = "      # At Envoy's default of 1024 a burst";
const UPSTREAM: &str = "    # Your service. Over TCP";

/// What Envoy may show to Tollgate beside what the config names: what is judged by, and what tracing needs.
const SHOWN_BESIDES: [&str; 6] =
    ["content-length", "transfer-encoding", "access-control-request-headers", ":protocol", "traceparent", "tracestate"];

/// Where a service is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upstream {
    pub host: String,
    pub port: u16,
}

impl std::str::FromStr for Upstream {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (host, port) = text.rsplit_once(':').ok_or("a host and a port, as in 127.0.0.1:8080")?;
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_' | b':');
        if host.is_empty() || !host.bytes().all(is_plain) {
            return Err(format!("`{host}` is no host"));
        }
        let port = port.parse().map_err(|_| format!("`{port}` is no port"))?;
        Ok(Self { host: host.to_owned(), port })
    }
}

/// What a config does not say: where the service is, and on which ports of this machine Envoy itself listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Front {
    pub upstream: Upstream,
    /// Where clients come in.
    pub port: u16,
    pub admin_port: u16,
}

/// Where Envoy listens if it is not told otherwise: where the issuer says that it is, on this machine.
pub fn port(rules: &Rules) -> u16 {
    own_port(rules).unwrap_or(PORT)
}

impl Front {
    /// A port of Envoy's that something else on this machine has too, and what that is.
    pub fn clash(&self, boot: &Boot) -> Option<String> {
        let near = |addr: SocketAddr| (addr.ip().is_loopback() || addr.ip().is_unspecified()).then_some(addr.port());
        let door = |listen: &Listen| match listen {
            Listen::Tcp { addr, .. } => near(*addr),
            Listen::Unix { .. } => None,
        };
        let Upstream { host, port } = &self.upstream;
        let is_near = host == "localhost" || host.parse().is_ok_and(|host: IpAddr| host.is_loopback());
        let others = [
            ("--admin-port", Some(self.admin_port)),
            ("--upstream", is_near.then_some(*port)),
            ("listen.check", door(&boot.check)),
            ("listen.control", boot.control.as_ref().and_then(door)),
            ("listen.issuer", boot.issuer.as_ref().and_then(door)),
            ("listen.ops", near(boot.ops.addr)),
        ];
        [("--port", self.port), ("--admin-port", self.admin_port)].iter().find_map(|(flag, port)| {
            let (other, _) = others.iter().find(|(other, theirs)| other != flag && *theirs == Some(*port))?;
            Some(format!("{flag} {port} is the port of {other} too: choose another"))
        })
    }
}

/// The bootstrap's text. `config` is how the config file is called in it.
pub fn write(config: &str, boot: &Boot, rules: &Rules, front: &Front) -> String {
    let upstream = &front.upstream;
    let names = Judge { file: &"".into(), boot, rules, clusters: Clusters::default(), findings: Findings::default() };
    let body = TEMPLATE.split_once("\nadmin:").map_or(TEMPLATE, |(_, body)| body);
    let removals = names.identity_names().iter().fold(String::new(), |mut text, name| {
        let _ = writeln!(text, "                        - remove: {name}");
        text
    });
    let mut shown: Vec<String> = names.needed_names().iter().map(|name| name.to_string()).collect();
    shown.extend(SHOWN_BESIDES.map(str::to_owned));
    let patterns = shown.iter().fold(String::new(), |mut text, name| {
        let _ = writeln!(text, "                          - exact: \"{name}\"");
        text
    });
    let allowed = format!(
        "{RAW}                      # What Tollgate judges by. Cookies and the rest of a request are none of its business.
                      allowed_headers:
                        patterns:
{patterns}"
    );
    let expression = expression(&names);
    let hops = match rules.trusted_hops {
        0 => HOPS.to_owned(),
        hops => format!("{HOPS}                # As trusted_hops in {config}.\n                xff_num_trusted_hops: {hops}\n"),
    };
    let service = format!(
        "    # Your service.
    - name: upstream
      type: {}
      connect_timeout: 1s
      load_assignment:
        cluster_name: upstream
        endpoints:
          - lb_endpoints:
              - endpoint: {{ address: {} }}
",
        kind_of(&upstream.host),
        socket(&upstream.host, upstream.port)
    );
    let issuer = boot.issuer.as_ref().map(|listen| (issuer_routes(rules), issuer_cluster(listen))).unwrap_or_default();
    let body = match boot.access_log {
        AccessLog::Refused => body.to_owned(),
        AccessLog::Accepted => {
            let switched_on = format!("                  # Answers, for `access_log: accepted` in {config}. Nobody waits for them.\n");
            body.replacen(SWITCH, &switched_on, 1).replace(SWITCHED_OFF, "")
        }
    };
    let port = |port: u16| format!("port_value: {port} ");
    let body = body
        .replacen(&port(PORT), &port(front.port), 1)
        .replacen(&port(ADMIN_PORT), &port(front.admin_port), 1)
        .replacen(REMOVALS, &removals, 1)
        .replacen(REGEX, &expression, 1)
        .replacen(HOPS, &hops, 1)
        .replacen(RAW, &allowed, 1)
        .replacen(ROUTES, &format!("{}{ROUTES}", issuer.0), 1)
        .replacen(CHECK, &format!("              - endpoint: {{ address: {} }}\n", address(&boot.check)), 1)
        .replacen(BREAKERS, &format!("{}{BREAKERS}", transport(&boot.check)), 1);
    let body = body.split_once(UPSTREAM).map_or(body.as_str(), |(before, _)| before);
    format!(
        "# An Envoy for {config}, by `tollgate envoy init`. `tollgate check-config --envoy` tells when the two no longer fit each other.

{}admin:{body}{}{service}",
        runtime(&expression),
        issuer.1
    )
}

/// Every name that Tollgate may change; a name and its look-alikes are one alternative where they can be, because Envoy bounds the size.
fn expression(names: &Judge<'_>) -> String {
    let all = names.changed_names();
    let has_twins = |name: &str| all.contains(&*name.replace('_', "-")) && all.contains(&*name.replace('-', "_"));
    let is_covered = |name: &str| name.contains('_') && has_twins(name);
    let has_twin = |name: &str| name.contains('-') && !name.contains('_') && has_twins(name);
    let kept = all.iter().filter(|name| !is_covered(name));
    let kept: Vec<String> = kept.map(|name| if has_twin(name) { literal(name).replace('-', "[-_]") } else { literal(name) }).collect();
    kept.join("|")
}

/// Envoy refuses expressions of more than about as many steps as this has bytes, if it is not told otherwise.
fn runtime(expression: &str) -> &'static str {
    const PLAIN_BYTES_MAX: usize = 125;
    if expression.len() <= PLAIN_BYTES_MAX {
        return "";
    }
    "# The expression of decoder_header_mutation_rules is longer than Envoy's default lets it be (100 steps).
layered_runtime:
  layers:
    - name: expressions
      static_layer: { re2.max_program_size.error_level: 10000 }

"
}

/// A name that stands for itself in a regular expression.
fn literal(name: &str) -> String {
    name.chars().fold(String::new(), |mut text, letter| {
        match letter {
            'a'..='z' | '0'..='9' | '-' | '_' => text.push(letter),
            '^' => text.push_str("\\\\^"),
            odd => {
                let _ = write!(text, "[{odd}]");
            }
        }
        text
    })
}

fn kind_of(host: &str) -> &'static str {
    if host.parse::<IpAddr>().is_ok() { "STATIC" } else { "STRICT_DNS" }
}

fn socket(host: &str, port: u16) -> String {
    format!("{{ socket_address: {{ address: \"{host}\", port_value: {port} }} }}")
}

/// Where a listener of this machine is reached.
fn address(listen: &Listen) -> String {
    match listen {
        Listen::Unix { path, .. } => format!("{{ pipe: {{ path: {} }} }}", quoted(&path.display().to_string())),
        Listen::Tcp { addr, .. } => {
            let near = match addr {
                SocketAddr::V4(addr) if addr.ip().is_unspecified() => "127.0.0.1".to_owned(),
                SocketAddr::V6(addr) if addr.ip().is_unspecified() => "::1".to_owned(),
                SocketAddr::V4(_) | SocketAddr::V6(_) => addr.ip().to_string(),
            };
            socket(&near, addr.port())
        }
    }
}

fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

fn transport(check: &Listen) -> String {
    let Listen::Tcp { tls: Some(tls), .. } = check else { return String::new() };
    let Tls { client_ca, .. } = tls;
    let certificate = match client_ca {
        None => "",
        Some(_) => {
            "            # Who this Envoy is: a certificate that client_ca believes. ../mtls of the shipped files renews it without a restart.
            tls_certificates:
              - { certificate_chain: { filename: ./tls/client.crt }, private_key: { filename: ./tls/client.key } }
"
        }
    };
    format!(
        "      transport_socket:
        name: envoy.transport_sockets.tls
        typed_config:
          \"@type\": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext
          common_tls_context:
            alpn_protocols: [h2]
            tls_params: {{ tls_minimum_protocol_version: TLSv1_3, tls_maximum_protocol_version: TLSv1_3 }}
{certificate}            validation_context:
              # Whose certificates are believed, and for which name: that of listen.check.tls.cert.
              trusted_ca: {{ filename: ./tls/authority.crt }}
              match_typed_subject_alt_names:
                - {{ san_type: DNS, matcher: {{ exact: tollgate.internal }} }}
"
    )
}

fn issuer_routes(rules: &Rules) -> String {
    let prefixes = served(rules).into_iter().map(|served| served.prefix).filter(|prefix| !is_taken(rules, prefix));
    let routes = prefixes.fold(String::new(), |mut text, prefix| {
        let _ = write!(
            text,
            "                        - match: {{ path_separated_prefix: {} }}
                          route: {{ cluster: issuer, timeout: 15s }}
",
            quoted(&prefix)
        );
        text
    });
    format!(
        "                        # What the issuer serves. Tollgate is asked here too: a route of each, `auth: public`, stands in its config.\n{routes}"
    )
}

fn issuer_cluster(listen: &Listen) -> String {
    format!(
        "    # Tollgate's own issuer.
    - name: issuer
      type: STATIC
      connect_timeout: 1s
      load_assignment:
        cluster_name: issuer
        endpoints:
          - lb_endpoints:
              - endpoint: {{ address: {} }}

",
        address(listen)
    )
}

#[cfg(test)]
pub(super) fn front(upstream: &str) -> Front {
    Front { upstream: upstream.parse().unwrap(), port: PORT, admin_port: ADMIN_PORT }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use crate::config::bootstrap::judge_text;
    use crate::config::compile_text;
    use crate::config::outside::Outside;

    use super::*;

    const ISSUING: &str = "issuer: { url: http://127.0.0.1:10000, trusted_hops: 1, resources: [{ uri: https://api.example }] }";

    #[test]
    fn what_it_writes_fits_every_config() {
        let configs = [
            "routes: [{ path: /a }]".to_owned(),
            "listen: { check: 'unix:./run/check.sock' }\nidentity_headers: { who: '{user}', x_odd-one: '{org}' }\nroutes: [{ path: /a }]"
                .to_owned(),
            "listen: { check: 127.0.0.1:9999 }\ntrusted_hops: 2\nroutes: [{ path: /a }]".to_owned(),
            "access_log: accepted\nroutes: [{ path: /a }]".to_owned(),
            format!("listen: {{ issuer: 127.0.0.1:8080 }}\n{ISSUING}\nroutes: [{{ path: /a }}]"),
            format!("listen: {{ issuer: 127.0.0.1:8080 }}\n{ISSUING}\nroutes: [{{ path: /v1/a }}]"),
        ];
        for config in configs {
            let (boot, rules, _) = compile_text(&config, &Outside::default()).unwrap_or_else(|mistakes| panic!("{config}: {mistakes:?}"));
            for upstream in ["127.0.0.1:8080", "shop.internal:80", "[::1]:80"] {
                let text = write("tollgate.yaml", &boot, &rules, &front(upstream));
                let found = judge_text(&Arc::from("envoy.yaml"), &text, &boot, &rules);
                assert!(found.errors.is_empty() && found.warnings.is_empty(), "{config}: {found:?}\n{text}");
                assert!(text.contains("cluster: issuer") == boot.issuer.is_some());
                let is_taken = boot.access_log == AccessLog::Accepted;
                assert!(text.contains(" - name: envoy.access_loggers.http_grpc") && text.contains(SWITCHED_OFF) != is_taken, "{text}");
                assert!(!text.contains("run/upstream.sock"), "every part of the template was found");
            }
        }
    }

    #[test]
    fn an_api_keeps_what_is_its_own_and_the_issuer_gets_the_rest() {
        for (routes, absent) in
            [("{ path: /a }", ""), ("{ path: /v1/a }", "/v1"), ("{ path: /v10/a }", ""), ("{ path: /openapi.json }", "/openapi.json")]
        {
            let config = format!("listen: {{ issuer: 127.0.0.1:8080 }}\n{ISSUING}\nroutes: [{routes}]");
            let (boot, rules, _) = compile_text(&config, &Outside::default()).unwrap();
            let text = write("tollgate.yaml", &boot, &rules, &front("127.0.0.1:80"));
            for prefix in ["/oauth", "/sign-in", "/v1", "/openapi.json", "/.well-known/oauth-authorization-server"] {
                assert_eq!(text.contains(&format!("path_separated_prefix: \"{prefix}\" ")), prefix != absent, "{prefix} for {routes}");
            }
        }
    }

    #[test]
    fn its_ports_are_asked_for_and_nobody_elses() {
        let config =
            format!("listen: {{ check: 127.0.0.1:9191, issuer: 0.0.0.0:8001, ops: 127.0.0.1:9464 }}\n{ISSUING}\nroutes: [{{ path: /a }}]");
        let config = config.replace(":10000,", ":8000,");
        let (boot, rules, _) = compile_text(&config, &Outside::default()).unwrap();
        assert_eq!(port(&rules), 8000, "where the issuer says that it is");
        let elsewhere = config.replace("http://127.0.0.1:8000", "https://id.example");
        assert!(elsewhere != config && port(&compile_text(&elsewhere, &Outside::default()).unwrap().1) == PORT);
        let on = |port, admin_port, upstream: &str| Front { port, admin_port, ..front(upstream) };
        let asked = on(8000, 8002, "127.0.0.1:10000");
        let text = write("tollgate.yaml", &boot, &rules, &asked);
        assert!(
            text.contains("address: 127.0.0.1, port_value: 8000 }") && text.contains("address: 127.0.0.1, port_value: 8002 }"),
            "{text}"
        );
        let found = judge_text(&Arc::from("envoy.yaml"), &text, &boot, &rules);
        assert!(found.errors.is_empty() && found.warnings.is_empty(), "{found:?}");
        for (front, expected) in [
            (asked, None),
            (on(8000, 8000, "a:1"), Some("--port 8000 is the port of --admin-port too")),
            (on(8000, 9464, "a:1"), Some("--admin-port 9464 is the port of listen.ops too")),
            (on(8001, 8002, "a:1"), Some("--port 8001 is the port of listen.issuer too")),
            (on(9191, 8002, "a:1"), Some("--port 9191 is the port of listen.check too")),
            (on(8080, 8002, "[::1]:8080"), Some("--port 8080 is the port of --upstream too")),
            (on(8080, 8002, "shop.internal:8080"), None),
        ] {
            let clash = front.clash(&boot);
            assert!(clash.as_deref().map(|said| said.split_once(": choose").unwrap().0) == expected, "{front:?}: {clash:?}");
        }
    }

    #[test]
    fn the_template_is_the_quickstart() {
        assert!(
            TEMPLATE == include_str!("../../../envoy/quickstart/envoy.yaml"),
            "cp envoy/quickstart/envoy.yaml src/config/bootstrap/template.yaml"
        );
    }

    #[test]
    fn an_upstream_is_a_host_and_a_port() {
        for bad in ["", "a", ":80", "a:", "a:99999", "a b:80", "a\":80", "a:80:"] {
            assert!(bad.parse::<Upstream>().is_err(), "{bad}");
        }
        assert_eq!("[::1]:80".parse(), Ok(Upstream { host: "::1".to_owned(), port: 80 }));
    }
}
