//! `tollgate check-config`: judges a config without starting anything.

use std::io::Write;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;

use serde::Serialize;

use crate::cli::Exit;
use crate::cli::reading::Reading;
use crate::config;
use crate::config::Boot;
use crate::config::Complaint;
use crate::config::Loaded;
use crate::config::boot::Listen;
use crate::config::boot::Peppers;
use crate::config::boot::RedisBoot;
use crate::config::bootstrap::Findings;
use crate::config::bootstrap::name_of;
use crate::model::issuance::Issuance;
use crate::model::issuance::Registration;
use crate::model::issuance::SignUp;
use crate::model::route::Auth;
use crate::model::route::Route;
use crate::model::rules::Rules;

/// Judge a config: every mistake and warning with its file, line and column.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct CheckConfig {
    /// The config file; instead of --config.
    pub file: Option<PathBuf>,
    /// The config file, as the other commands take it.
    #[arg(long, short, env = "TOLLGATE_CONFIG", default_value = "tollgate.yaml", value_name = "FILE")]
    pub config: PathBuf,
    /// What stands in front, an Envoy bootstrap or manifests of Istio or Envoy Gateway, `-` for standard input: what in it would open
    /// the gate or lose an identity is a mistake too.
    #[arg(long, value_name = "FILE")]
    pub envoy: Option<PathBuf>,
    #[command(flatten)]
    pub reading: Reading,
    /// For machines: one JSON object.
    #[arg(long)]
    pub json: bool,
}

const EXAMPLES: &str = "\
Examples:
  tollgate check-config                          ./tollgate.yaml
  tollgate check-config /etc/tollgate.yaml
  tollgate check-config --envoy envoy.yaml       both, and whether they fit each other
  kubectl kustomize k8s/overlays/istio | tollgate check-config --envoy -
  tollgate check-config --without-files          away from the machine that has the secrets";

/// What `--json` prints.
#[derive(Debug, Serialize)]
struct Report<'a> {
    good: bool,
    errors: &'a [Complaint],
    warnings: &'a [Complaint],
    #[serde(skip_serializing_if = "Option::is_none")]
    config_revision: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    issuer: Option<IssuerReport<'a>>,
    routes: Vec<RouteReport<'a>>,
}

/// What is issued, and what of it is switched on.
#[derive(Debug, Serialize)]
struct IssuerReport<'a> {
    /// None: this node issues nothing, and knows the tokens of those that do.
    listen: Option<String>,
    url: &'a str,
    resources: Vec<&'a str>,
    sign_up: &'static str,
    providers: Vec<&'a str>,
    registration: &'static str,
    compatibility: Vec<&'static str>,
    trusted_hops: u8,
}

#[derive(Debug, Serialize)]
struct RouteReport<'a> {
    name: &'a str,
    methods: Vec<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    host: Option<String>,
    path: String,
    auth: &'static str,
    scopes: String,
}

impl CheckConfig {
    /// # Errors
    /// When `out` cannot be written to.
    pub fn run(&self, out: &mut dyn Write) -> std::io::Result<Exit> {
        let path = self.file.as_deref().unwrap_or(&self.config);
        let loaded = self.reading.load(path);
        let found = self.envoy.as_ref().map(|envoy| beside(path, &loaded, envoy)).unwrap_or_default();
        let Findings { errors, warnings, judged } = found;
        let verdict = if warnings.is_empty() { "good, and fits these rules" } else { "no mistake found; see what is said above" };
        let (loaded, own_mistakes) = match loaded {
            Ok(loaded) if errors.is_empty() => {
                let warnings = loaded.warnings.into_iter().chain(warnings).collect();
                (Ok(Loaded { warnings, ..loaded }), 0)
            }
            Ok(_) => (Err(errors), 0),
            Err(mistakes) => {
                let own = mistakes.len();
                (Err(mistakes.into_iter().chain(errors).collect()), own)
            }
        };
        let front = self.envoy.as_deref().map(name_of).unwrap_or_default();
        match (&loaded, self.json) {
            (_, true) => write_json(&loaded, self.reading.without_files, out)?,
            (Ok(loaded), false) => {
                write_good(path, loaded, self.reading.without_files, out)?;
                if self.envoy.is_some() {
                    writeln!(out, "{front}: {verdict}")?;
                }
                for (word, said) in judged {
                    writeln!(out, "  {word:8} {said}")?;
                }
            }
            (Err(complaints), false) => {
                let (own, others) = complaints.split_at_checked(own_mistakes).unwrap_or_default();
                write_bad(&path.display().to_string(), own, out)?;
                write_bad(&front, others, out)?;
            }
        }
        Ok(if loaded.is_ok() { Exit::Good } else { Exit::Failed })
    }
}

/// What stands in front is judged too where nothing but files is missing.
fn beside(path: &Path, loaded: &Result<Loaded, Vec<Complaint>>, envoy: &Path) -> Findings {
    let spare = if loaded.is_err() { config::load_without_files(path).ok() } else { None };
    let readable = loaded.as_ref().ok().or(spare.as_ref());
    readable.map(|loaded| config::bootstrap::judge(envoy, &loaded.boot, &loaded.rules)).unwrap_or_default()
}

fn write_json(loaded: &Result<Loaded, Vec<Complaint>>, without_files: bool, out: &mut dyn Write) -> std::io::Result<()> {
    let report = match loaded {
        Ok(loaded) => Report {
            good: true,
            errors: &[],
            warnings: &loaded.warnings,
            config_revision: (!without_files).then_some(&*loaded.rules.revision),
            issuer: loaded.rules.issuance.as_ref().map(|issuance| issuer_report(&loaded.boot, issuance)),
            routes: loaded.rules.routes.iter().map(|route| route_report(route)).collect(),
        },
        Err(complaints) => {
            Report { good: false, errors: complaints, warnings: &[], config_revision: None, issuer: None, routes: Vec::new() }
        }
    };
    serde_json::to_writer_pretty(&mut *out, &report)?;
    writeln!(out)
}

fn write_bad(name: &str, complaints: &[Complaint], out: &mut dyn Write) -> std::io::Result<()> {
    if complaints.is_empty() {
        return Ok(());
    }
    for complaint in complaints {
        writeln!(out, "{complaint}")?;
    }
    let mistakes = if complaints.len() == 1 { "mistake" } else { "mistakes" };
    writeln!(out, "{name}: {} {mistakes}", complaints.len())
}

fn write_good(path: &Path, loaded: &Loaded, without_files: bool, out: &mut dyn Write) -> std::io::Result<()> {
    for warning in &loaded.warnings {
        writeln!(out, "warning: {warning}")?;
    }
    // The revision is also that of the files.
    match without_files {
        true => writeln!(out, "{}: good, whatever is in the files that are elsewhere", path.display())?,
        false => writeln!(out, "{}: good, revision {}", path.display(), loaded.rules.revision)?,
    }
    write_doors(&loaded.boot, out)?;
    write_callers(&loaded.rules, out)?;
    if let Some(issuance) = &loaded.rules.issuance {
        write_issuance(&issuer_report(&loaded.boot, issuance), out)?;
    }
    write_routes(&loaded.rules, out)
}

fn write_doors(boot: &Boot, out: &mut dyn Write) -> std::io::Result<()> {
    writeln!(out, "  check    {}", show(&boot.check))?;
    if let Some(control) = &boot.control {
        writeln!(out, "  control  {}", show(control))?;
    }
    writeln!(out, "  ops      {}", boot.ops.addr)?;
    match &boot.redis {
        None => writeln!(out, "  store    {}", boot.store_path.display())?,
        Some(redis) => {
            writeln!(out, "  store    Redis, {}", show_redis(redis))?;
            writeln!(out, "  folder   {}", boot.store_path.display())?;
        }
    }
    writeln!(out, "  ledger   {}", boot.ledger_path.display())?;
    match &boot.peppers {
        Peppers::Generated => writeln!(out, "  peppers  generated in the store's folder"),
        Peppers::Given(peppers) => {
            let ids: Vec<&str> = peppers.iter().map(|pepper| &*pepper.id).collect();
            writeln!(out, "  peppers  {}", ids.join(", "))
        }
    }
}

/// Whose tokens are believed, and what callers may be.
fn write_callers(rules: &Rules, out: &mut dyn Write) -> std::io::Result<()> {
    let own = rules.issuance.as_ref().map(|issuance| &*issuance.url);
    let others = rules.issuers.iter().filter(|issuer| Some(&*issuer.issuer) != own);
    let others: Vec<String> = others.map(|issuer| format!("{} ({})", issuer.source.name.as_str(), issuer.issuer)).collect();
    if !others.is_empty() {
        writeln!(out, "  tokens   {}", others.join(", "))?;
    }
    let mark = |name: &Arc<str>| if rules.default_tier.as_ref() == Some(name) { " (default)" } else { "" };
    let tiers: Vec<String> = rules.tiers.keys().map(|name| format!("{name}{}", mark(name))).collect();
    if tiers.is_empty() { Ok(()) } else { writeln!(out, "  tiers    {}", tiers.join(", ")) }
}

fn issuer_report<'a>(boot: &Boot, issuance: &'a Issuance) -> IssuerReport<'a> {
    IssuerReport {
        listen: boot.issuer.as_ref().map(show),
        url: &issuance.url,
        resources: issuance.resources.iter().map(|resource| &*resource.uri).collect(),
        sign_up: match issuance.sign_up {
            SignUp::Open => "open",
            SignUp::Invited => "invited",
            SignUp::Closed => "closed",
        },
        providers: issuance.providers.iter().map(|provider| &*provider.name).collect(),
        registration: match issuance.registration {
            Registration::Off => "off",
            Registration::WithToken(_) => "with a token",
            Registration::Open => "open",
        },
        compatibility: issuance.compatibility.iter().map(|spelling| spelling.as_str()).collect(),
        trusted_hops: issuance.trusted_hops,
    }
}

fn write_issuance(report: &IssuerReport<'_>, out: &mut dyn Write) -> std::io::Result<()> {
    let IssuerReport { listen, url, resources, sign_up, providers, registration, compatibility, trusted_hops } = report;
    writeln!(out, "  issuer   {}", listen.as_deref().unwrap_or("not on this node"))?;
    writeln!(out, "  url      {url}, for {}", resources.join(", "))?;
    let elsewhere = if providers.is_empty() { String::new() } else { format!("; sign-in also by {}", providers.join(", ")) };
    writeln!(out, "  people   sign-up {sign_up}{elsewhere}")?;
    writeln!(out, "  clients  registration of their own {registration}")?;
    if !compatibility.is_empty() {
        writeln!(out, "  seeds    {}", compatibility.join(", "))?;
    }
    match trusted_hops {
        0 => Ok(()),
        hops => writeln!(out, "  proxies  {hops} before the issuer trusted about x-forwarded-for"),
    }
}

fn show_redis(redis: &RedisBoot) -> String {
    let servers: Vec<String> = redis.servers.iter().map(ToString::to_string).collect();
    let tls = if redis.tls.is_some() { ", TLS" } else { "" };
    format!("{}{tls}: {}", redis.mode, servers.join(", "))
}

fn show(listen: &Listen) -> String {
    match listen {
        Listen::Tcp { addr, tls: None } => addr.to_string(),
        Listen::Tcp { addr, tls: Some(tls) } if tls.client_ca.is_some() => format!("{addr} (mTLS)"),
        Listen::Tcp { addr, tls: Some(_) } => format!("{addr} (TLS)"),
        Listen::Unix { path, mode, .. } => format!("unix:{} (mode {mode:04o})", path.display()),
    }
}

fn write_routes(rules: &Rules, out: &mut dyn Write) -> std::io::Result<()> {
    let reports: Vec<RouteReport<'_>> = rules.routes.iter().map(|route| route_report(route)).collect();
    let rows: Vec<[String; 4]> = reports
        .iter()
        .map(|route| {
            let methods = if route.methods.is_empty() { "*".to_owned() } else { route.methods.join(",") };
            let target = format!("{}{}", route.host.as_deref().unwrap_or_default(), route.path);
            [methods, target, route.auth.to_owned(), route.scopes.clone()]
        })
        .collect();
    let counted = if rows.len() == 1 { "1 route".to_owned() } else { format!("{} routes", rows.len()) };
    writeln!(out, "{counted}:")?;
    let width = |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0);
    let (methods_width, target_width, auth_width) = (width(0), width(1), width(2));
    for [methods, target, auth, scopes] in &rows {
        let line = format!("  {methods:methods_width$}  {target:target_width$}  {auth:auth_width$}  {scopes}");
        writeln!(out, "{}", line.trim_end())?;
    }
    Ok(())
}

fn route_report(route: &Route) -> RouteReport<'_> {
    let host = route.matcher.host.as_deref().map(|host| match route.matcher.port {
        Some(port) => format!("{host}:{port}"),
        None => host.to_owned(),
    });
    RouteReport {
        name: &route.name,
        methods: route.matcher.methods.iter().map(|method| method.as_str()).collect(),
        host,
        path: route.matcher.path.to_string(),
        auth: match route.auth {
            Auth::Required => "required",
            Auth::Optional => "optional",
            Auth::Public => "public",
        },
        scopes: scopes(route),
    }
}

/// `a:read b:write`, then `(c:read | d:read)` of which one is enough.
fn scopes(route: &Route) -> String {
    let all = route.scopes.all_of.iter().map(ToString::to_string);
    let any: Vec<String> = route.scopes.any_of.iter().map(ToString::to_string).collect();
    let any = (!any.is_empty()).then(|| format!("({})", any.join(" | ")));
    all.chain(any).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(text: &str, json: bool) -> (Exit, String) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tollgate.yaml");
        std::fs::write(&path, text).unwrap();
        let mut out = Vec::new();
        let exit =
            CheckConfig { file: Some(path), config: PathBuf::new(), envoy: None, reading: Reading::default(), json }.run(&mut out).unwrap();
        let said = String::from_utf8(out).unwrap();
        (exit, said.replace(&format!("{}/", folder.path().display()), ""))
    }

    const GOOD: &str = "listen: { check: 0.0.0.0:9191 }\nroutes:\n  - { path: '/a/{id}', methods: [GET, POST], scopes: { all_of: [a:read], any_of: [b, c] } }\n  - { path: /open, host: Api.Example.com, auth: public }\n";

    #[test]
    fn a_good_config_is_summed_up_and_its_warnings_listed() {
        let (exit, said) = run(GOOD, false);
        assert_eq!(exit, Exit::Good);
        let lines: Vec<&str> = said.lines().collect();
        assert!(lines[0].starts_with("warning: tollgate.yaml:1:18: listen.check: "), "{said}");
        assert!(lines[1].starts_with("tollgate.yaml: good, revision "), "{said}");
        assert!(lines.contains(&"2 routes:"), "{said}");
        assert!(lines.contains(&"  GET,POST  /a/{id}               required  a:read (b | c)"), "{said}");
        assert!(lines.contains(&"  *         api.example.com/open  public"), "{said}");
    }

    #[test]
    fn what_was_judged_is_summed_up_where_nothing_is_wrong() {
        let folder = tempfile::tempdir().unwrap();
        let (path, envoy) = (folder.path().join("tollgate.yaml"), folder.path().join("envoy.yaml"));
        let secret = "secret: { env: TOLLGATE_NO_SUCH_VARIABLE }";
        let issuers =
            "issuers: [{ name: corp, issuer: 'https://id.corp.example', audience: a, keys: { jwks_url: 'https://id.corp.example/jwks' } }]";
        let tiers = "tiers: { free: { requests_per_minute: 60 }, pro: { requests_per_minute: 300 } }\ndefault_tier: free";
        let rules = format!(
            "listen: {{ check: 'unix:./run/check.sock' }}\npeppers: [{{ id: p1, {secret} }}]\n{issuers}\n{tiers}\nroutes: [{{ path: /a }}]\n"
        );
        let identity = "identity_headers: { user: '{user}', x-user-id: '{user}', x-org-id: '{org}', x-key-id: '{key}', x-scopes: '{scopes}', x-tier: '{tier}' }\n";
        std::fs::write(&path, format!("{rules}{identity}")).unwrap();
        std::fs::write(&envoy, include_str!("../../envoy/quickstart/envoy.yaml")).unwrap();
        let check = |json| CheckConfig {
            file: Some(path.clone()),
            config: PathBuf::new(),
            envoy: Some(envoy.clone()),
            reading: Reading { without_files: true },
            json,
        };
        let mut out = Vec::new();
        assert_eq!(check(false).run(&mut out).unwrap(), Exit::Good);
        let said = String::from_utf8(out).unwrap();
        let (own, front) = said.split_once("envoy.yaml: good, and fits these rules\n").unwrap();
        for line in ["  tokens   corp (https://id.corp.example)", "  tiers    free (default), pro"] {
            assert!(own.lines().any(|said| said == line), "{line:?} in\n{own}");
        }
        assert_eq!(
            front,
            "  listens  public 127.0.0.1:10000\n\
             \x20 admin    127.0.0.1:9901\n\
             \x20 routes   2\n\
             \x20 asks     tollgate, 0.250s at most\n\
             \x20 clusters tollgate unix:run/check.sock, upstream unix:run/upstream.sock\n"
        );
        let mut out = Vec::new();
        check(true).run(&mut out).unwrap();
        let report: serde_json::Value = serde_json::from_slice(&out).unwrap();
        let mut fields: Vec<&String> = report.as_object().unwrap().keys().collect();
        fields.sort();
        assert_eq!(fields, ["errors", "good", "routes", "warnings"]);
    }

    const ISSUING: &str = "listen: { check: 127.0.0.1:9191, issuer: 127.0.0.1:8080 }\nissuer:\n  url: https://id.example.com\n  resources: [{ uri: https://api.example.com }]\n  scopes: { a: Read }\n  sign_up: open\n  registration: { open: true }\n  compatibility: [get_token, tinyoauth]\n  trusted_hops: 1\nroutes:\n  - { path: /a }\n";

    #[test]
    fn what_is_issued_is_summed_up_too() {
        let (exit, said) = run(ISSUING, false);
        assert_eq!(exit, Exit::Good, "{said}");
        for line in [
            "  issuer   127.0.0.1:8080",
            "  url      https://id.example.com, for https://api.example.com",
            "  people   sign-up open",
            "  clients  registration of their own open",
            "  seeds    get_token, tinyoauth",
            "  proxies  1 before the issuer trusted about x-forwarded-for",
        ] {
            assert!(said.lines().any(|said| said == line), "{line:?} in\n{said}");
        }
        let (_, said) = run(ISSUING, true);
        let report: serde_json::Value = serde_json::from_str(&said).unwrap();
        assert_eq!(report["issuer"]["compatibility"], serde_json::json!(["get_token", "tinyoauth"]));
        let (_, said) = run(&ISSUING.replace(", issuer: 127.0.0.1:8080", ""), false);
        assert!(said.contains("  issuer   not on this node\n"), "{said}");
        assert!(!run(GOOD, false).1.contains("issuer"));
    }

    #[test]
    fn a_bad_config_fails_with_every_mistake() {
        let (exit, said) = run("routes:\n  - { path: a, auth: public }\n  - { path: /b, cost: 0 }\n", false);
        assert_eq!(exit, Exit::Failed);
        assert_eq!(
            said,
            "tollgate.yaml:2:13: routes[0].path: a path starts with `/`\n\
             tollgate.yaml:3:23: routes[1].cost: found 0; expected a whole number in plain digits, 1 to 1000000\n\
             tollgate.yaml: 2 mistakes\n"
        );
    }

    #[test]
    fn what_is_elsewhere_is_passed_over_and_what_stands_in_front_judged_all_the_same() {
        let folder = tempfile::tempdir().unwrap();
        let (path, envoy) = (folder.path().join("tollgate.yaml"), folder.path().join("envoy.yaml"));
        let elsewhere = "listen:
  check: { address: 127.0.0.1:9191, tls: { cert: /nowhere/a.crt, key: /nowhere/a.key, client_ca: /nowhere/ca.crt } }
peppers: [{ id: p1, secret: { file: /nowhere/p1 } }, { id: p2, secret: { env: TOLLGATE_NO_SUCH_VARIABLE } }]
issuers:
  - { name: a, issuer: 'https://a', audience: b, keys: { jwks_file: /nowhere/jwks }, algorithms: [ES256] }
  - { name: c, issuer: 'https://c', audience: b, keys: { hmac_secret: { file: /nowhere/hmac } }, algorithms: [HS256] }
keys_file: /nowhere/keys.yaml
routes: [{ path: /a }]
";
        let run = |config: &str, without_files: bool| {
            std::fs::write(&path, config).unwrap();
            std::fs::write(&envoy, "static_resources: {}\n").unwrap();
            let mut out = Vec::new();
            let check = CheckConfig {
                file: Some(path.clone()),
                config: PathBuf::new(),
                envoy: Some(envoy.clone()).filter(|_| config.contains("/nowhere")),
                reading: Reading { without_files },
                json: false,
            };
            let exit = check.run(&mut out).unwrap();
            (exit, String::from_utf8(out).unwrap().replace(&format!("{}/", folder.path().display()), ""))
        };
        let (exit, said) = run(elsewhere, false);
        assert_eq!(exit, Exit::Failed);
        for path in ["a.crt", "a.key", "ca.crt", "p1", "jwks", "hmac", "keys.yaml"] {
            assert!(said.contains(&format!("there is no such file: /nowhere/{path} (")), "{path} in {said}");
        }
        assert!(said.contains("envoy.yaml:1:1: no HTTP connection manager") && said.contains("\nenvoy.yaml: 1 mistake\n"), "{said}");
        let (exit, said) = run(elsewhere, true);
        assert_eq!(exit, Exit::Failed);
        assert!(said.starts_with("envoy.yaml:1:1: no HTTP connection manager") && !said.contains("tollgate.yaml"), "{said}");
        // A mistake stays one, and a file that is here is judged.
        let (exit, said) = run(&elsewhere.replace("path: /a", "path: a"), true);
        assert!(exit == Exit::Failed && said.ends_with("a path starts with `/`\ntollgate.yaml: 1 mistake\n"), "{said}");
        std::fs::write(folder.path().join("short"), "short").unwrap();
        let (_, said) = run(&elsewhere.replace("/nowhere/p1", "short"), true);
        assert!(said.contains("peppers[0].secret: the secret has 5 bytes"), "{said}");
        let (exit, said) = run("peppers: [{ id: p1, secret: { file: nowhere } }]\nroutes: [{ path: /a }]\n", true);
        assert!(
            exit == Exit::Good && said.contains("tollgate.yaml: good, whatever is in the files") && said.contains("  peppers  p1"),
            "{said}"
        );
    }

    #[test]
    fn machines_read_the_same() {
        let (exit, said) = run(GOOD, true);
        let report: serde_json::Value = serde_json::from_str(&said).unwrap();
        assert_eq!(exit, Exit::Good);
        assert_eq!(report["good"], true);
        assert_eq!(report["warnings"][0]["line"], 1);
        assert_eq!(report["routes"][0]["name"], "GET,POST /a/{id}");
        let (exit, said) = run("routes: []\n", true);
        let report: serde_json::Value = serde_json::from_str(&said).unwrap();
        assert_eq!((exit, &report["good"]), (Exit::Failed, &serde_json::Value::Bool(false)));
        assert_eq!(report["errors"][0]["field"], "routes");
    }
}
