//! `traces`: where spans go, and of which checks. The file rules; what it leaves open, OpenTelemetry's own variables say.

use http::Uri;

use crate::config::boot::Traces;
use crate::config::compile::doors;
use crate::config::desk::Desk;
use crate::config::desk::Spot;
use crate::config::file::listen::ParentFile;
use crate::config::file::listen::TracesFile;
use crate::config::file::scalars::Whole;

/// Where a collector listens by OpenTelemetry's specification.
const ENDPOINT: &str = "http://localhost:4317";
const SHARE: f64 = 0.01;
const PER_SECOND_MAX: u32 = 100;
const URL_FORMS: &str = "`http://host:port` or `https://host:port`";

const DISABLED: &str = "OTEL_SDK_DISABLED";
const ENDPOINTS: [&str; 2] = ["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"];
const PROTOCOLS: [&str; 2] = ["OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"];
const COMPRESSIONS: [&str; 2] = ["OTEL_EXPORTER_OTLP_TRACES_COMPRESSION", "OTEL_EXPORTER_OTLP_COMPRESSION"];
const EXPORTER: &str = "OTEL_TRACES_EXPORTER";
/// What stands for them here is `traces.ca`; no certificate of our own is shown.
const CERTIFICATES: [&str; 6] = [
    "OTEL_EXPORTER_OTLP_TRACES_CERTIFICATE",
    "OTEL_EXPORTER_OTLP_CERTIFICATE",
    "OTEL_EXPORTER_OTLP_TRACES_CLIENT_CERTIFICATE",
    "OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE",
    "OTEL_EXPORTER_OTLP_TRACES_CLIENT_KEY",
    "OTEL_EXPORTER_OTLP_CLIENT_KEY",
];
const SAMPLER: &str = "OTEL_TRACES_SAMPLER";
const SAMPLER_ARGUMENT: &str = "OTEL_TRACES_SAMPLER_ARG";

/// The variables that are asked here. Names and attributes of the service, headers and time limits are the exporter's own to read.
pub(in crate::config) fn variables<'a>() -> impl Iterator<Item = &'a str> {
    let alone = [DISABLED, EXPORTER, SAMPLER, SAMPLER_ARGUMENT];
    alone.into_iter().chain(ENDPOINTS).chain(PROTOCOLS).chain(COMPRESSIONS).chain(CERTIFICATES)
}

/// None: the environment switches them off.
pub(super) fn traces(desk: &mut Desk<'_>, spot: &Spot, written: &TracesFile) -> Option<Traces> {
    let endpoint = endpoint(desk, spot, written);
    let authorities = written.ca.as_ref().and_then(|path| {
        let spot = spot.key("ca");
        if !endpoint.starts_with("https:") {
            desk.error_expecting(&spot, "authorities are given, and the endpoint does not ask for TLS", "an endpoint with `https://`");
        }
        doors::certificate(desk, &spot, path);
        desk.read(&spot, path).map(|contents| contents.bytes.to_vec())
    });
    let (share, follows_parents) = sampler(desk, spot);
    let share = written.sample.map_or(share, |share| share.0);
    let per_second_max = Whole::or(written.max_per_second, PER_SECOND_MAX);
    let follows_parents = match written.parent {
        Some(ParentFile::Follow) => true,
        Some(ParentFile::Ignore) => false,
        None => follows_parents,
    };
    if desk.variable(DISABLED).is_some_and(|value| value.eq_ignore_ascii_case("true")) {
        desk.warn(spot, format!("nothing is traced: {DISABLED} is set"));
        return None;
    }
    match desk.variable(EXPORTER).as_deref() {
        Some("none") => {
            desk.warn(spot, format!("nothing is traced: {EXPORTER} is `none`"));
            return None;
        }
        Some("otlp") | None => {}
        Some(_) => desk.warn(spot, format!("{EXPORTER} names another exporter, and traces go by OTLP alone")),
    }
    for name in CERTIFICATES {
        if desk.variable(name).is_some() {
            desk.warn(spot, format!("{name} is not looked at; authorities are named by `ca` here, and no client certificate is shown"));
        }
    }
    Some(Traces { endpoint, authorities, share, follows_parents, per_second_max })
}

fn endpoint(desk: &mut Desk<'_>, spot: &Spot, written: &TracesFile) -> String {
    if let Some(name) = COMPRESSIONS.into_iter().find(|name| desk.variable(name).is_some()) {
        desk.error(spot, format!("{name} is set, and traces are sent as they are; unset it"));
    }
    if let Some(url) = &written.endpoint {
        if !is_endpoint(url) {
            desk.error_expecting(&spot.key("endpoint"), "this is no collector's address", URL_FORMS);
        }
        return url.clone();
    }
    let Some((name, url)) = first(desk, ENDPOINTS) else { return ENDPOINT.to_owned() };
    if !is_endpoint(&url) {
        desk.error_expecting(spot, format!("{name} is no collector's address"), URL_FORMS);
    }
    if let Some((name, protocol)) = first(desk, PROTOCOLS).filter(|(_, protocol)| protocol != "grpc") {
        desk.warn(spot, format!("{name} asks for `{}`, and OTLP is spoken over gRPC alone", protocol.escape_debug()));
    }
    url
}

/// The one that says most: of traces alone, then of all signals.
fn first(desk: &Desk<'_>, names: [&'static str; 2]) -> Option<(&'static str, String)> {
    names.into_iter().find_map(|name| Some((name, desk.variable(name)?)))
}

/// A user or a password there would be shown by logs.
fn is_endpoint(url: &str) -> bool {
    url.parse::<Uri>().is_ok_and(|url| {
        let host = url.authority().is_some_and(|authority| !authority.host().is_empty() && !authority.as_str().contains('@'));
        host && matches!(url.scheme_str(), Some("http" | "https")) && matches!(url.path(), "" | "/") && url.query().is_none()
    })
}

/// The share, and whether parents are followed, as the environment says.
fn sampler(desk: &mut Desk<'_>, spot: &Spot) -> (f64, bool) {
    let Some(name) = desk.variable(SAMPLER) else { return (SHARE, true) };
    let (sampler, follows_parents) = match name.strip_prefix("parentbased_") {
        Some(sampler) => (sampler, true),
        None => (name.as_str(), false),
    };
    match sampler {
        "always_on" => (1.0, follows_parents),
        "always_off" => (0.0, follows_parents),
        "traceidratio" => {
            let share = desk.variable(SAMPLER_ARGUMENT).map_or(Some(1.0), |share| share.parse().ok());
            let share = share.filter(|share| (0.0..=1.0).contains(share)).unwrap_or_else(|| {
                desk.warn(spot, format!("{SAMPLER_ARGUMENT} is no share from 0 to 1; {SHARE} is taken"));
                SHARE
            });
            (share, follows_parents)
        }
        _ => {
            desk.warn(spot, format!("{SAMPLER} names no sampler that is known here; {SHARE} and parents are taken"));
            (SHARE, true)
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::config::boot::Traces;
    use crate::config::compile_text;
    use crate::config::outside::Outside;

    /// What comes of a `traces` section under these variables, and what is said about it.
    fn compiled(traces: &str, variables: &[(&str, &str)]) -> (Result<Option<Traces>, String>, String) {
        let text = format!("traces: {traces}\nroutes: [{{ name: all, path: /open, auth: public }}]\n");
        let variables = variables.iter().map(|(name, value)| ((*name).to_owned(), value.as_bytes().to_vec()));
        let told = |complaints: Vec<crate::config::Complaint>| complaints.iter().map(|one| one.to_string() + "\n").collect::<String>();
        match compile_text(&text, &Outside::of([], variables)) {
            Ok((boot, _, warnings)) => (Ok(boot.traces), told(warnings)),
            Err(mistakes) => (Err(told(mistakes)), String::new()),
        }
    }

    fn taken(traces: &str, variables: &[(&str, &str)]) -> (String, f64, bool, u32) {
        let (made, _) = compiled(traces, variables);
        let traces = made.unwrap().unwrap();
        (traces.endpoint, traces.share, traces.follows_parents, traces.per_second_max)
    }

    #[test]
    fn the_file_rules_and_the_environment_says_the_rest() {
        let plain = |share, follows| ("http://localhost:4317".to_owned(), share, follows, 100);
        assert_eq!(taken("{}", &[]), plain(0.01, true));
        let samplers = [
            ("always_on", None, plain(1.0, false)),
            ("always_off", None, plain(0.0, false)),
            ("traceidratio", Some("0.5"), plain(0.5, false)),
            ("traceidratio", None, plain(1.0, false)),
            ("parentbased_always_on", None, plain(1.0, true)),
            ("parentbased_always_off", None, plain(0.0, true)),
            ("parentbased_traceidratio", Some("0.25"), plain(0.25, true)),
            ("parentbased_traceidratio", Some("2"), plain(0.01, true)),
            ("jaeger_remote", None, plain(0.01, true)),
            ("", None, plain(0.01, true)),
        ];
        for (sampler, argument, expected) in samplers {
            let argument = argument.map(|share| ("OTEL_TRACES_SAMPLER_ARG", share));
            let variables: Vec<_> = [("OTEL_TRACES_SAMPLER", sampler)].into_iter().chain(argument).collect();
            assert_eq!(taken("{}", &variables), expected, "{sampler} {argument:?}");
            let own = taken("{ sample: 0.75, parent: ignore, max_per_second: 7, endpoint: \"http://c:1\" }", &variables);
            assert_eq!(own, ("http://c:1".to_owned(), 0.75, false, 7), "{sampler}");
        }
        let (general, special) =
            (("OTEL_EXPORTER_OTLP_ENDPOINT", "http://all:4317/"), ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "https://traces:4317"));
        assert_eq!(taken("{}", &[general]).0, "http://all:4317/");
        assert_eq!(taken("{}", &[general, special]).0, "https://traces:4317");
    }

    #[test]
    fn nothing_is_traced_unless_the_file_says_so() {
        let text = "routes: [{ name: all, path: /open, auth: public }]\n";
        let variables = [("OTEL_EXPORTER_OTLP_ENDPOINT".to_owned(), b"http://all:4317".to_vec())];
        assert_eq!(compile_text(text, &Outside::of([], variables)).unwrap().0.traces, None);
        let (made, warnings) = compiled("{}", &[("OTEL_SDK_DISABLED", "true")]);
        assert_eq!(made, Ok(None));
        assert!(warnings.contains("OTEL_SDK_DISABLED is set"), "{warnings}");
        let (made, warnings) = compiled("{}", &[("OTEL_TRACES_EXPORTER", "none")]);
        assert_eq!(made, Ok(None));
        assert!(warnings.contains("OTEL_TRACES_EXPORTER is `none`"), "{warnings}");
        let (made, warnings) = compiled("{}", &[("OTEL_TRACES_EXPORTER", "otlp")]);
        assert!(made.unwrap().is_some() && !warnings.contains("OTEL"), "{warnings}");
        let (made, warnings) = compiled("{}", &[("OTEL_SDK_DISABLED", "false")]);
        assert!(made.unwrap().is_some() && !warnings.contains("OTEL"), "{warnings}");
    }

    #[test]
    fn what_cannot_be_is_said() {
        for endpoint in
            ["collector:4317", "grpc://c:4317", "http://", "http://me:secret@c:4317", "http://c:4318/v1/traces", "http://c?a=b", ""]
        {
            let (made, _) = compiled(&format!("{{ endpoint: \"{endpoint}\" }}"), &[]);
            let told = made.unwrap_err();
            assert!(told.contains("no collector's address") && !told.contains("secret"), "{endpoint}: {told}");
            if !endpoint.is_empty() {
                let (made, _) = compiled("{}", &[("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint)]);
                assert!(made.unwrap_err().contains("OTEL_EXPORTER_OTLP_ENDPOINT is no"), "{endpoint}");
            }
        }
        let table = [
            ("{ sample: 1.5 }", "traces.sample: found 1.5; expected a number in plain digits from 0 to 1"),
            ("{ max_per_second: 0 }", "found 0; expected a whole number in plain digits, 1 to 10000"),
            ("{ max_per_second: 99999999999 }", "found 99999999999; expected a whole number in plain digits, 1 to 10000"),
            ("{ endpoint: \"http://c:4317\", ca: ca.pem }", "does not ask for TLS"),
            ("{ endpoint: \"https://c:4317\", ca: ca.pem }", "there is no such file"),
        ];
        for (traces, expected) in table {
            let (made, _) = compiled(traces, &[]);
            let told = made.unwrap_err();
            assert!(told.contains(expected), "{traces}: {told}");
        }
        let (made, _) = compiled("{}", &[("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip")]);
        assert!(made.unwrap_err().contains("OTEL_EXPORTER_OTLP_COMPRESSION is set"));
        let variables = [("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c:4318"), ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf")];
        assert!(compiled("{}", &variables).1.contains("over gRPC alone"));
        assert!(compiled("{}", &[("OTEL_TRACES_EXPORTER", "zipkin")]).1.contains("names another exporter"));
        for name in super::CERTIFICATES {
            assert!(compiled("{}", &[(name, "/ca.pem")]).1.contains(&format!("{name} is not looked at")), "{name}");
        }
        assert!(compiled("{}", &[("OTEL_TRACES_SAMPLER", "mine")]).1.contains("no sampler that is known"));
    }
}
