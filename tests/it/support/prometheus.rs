//! A real Prometheus, its tool, and what `k8s/prometheus/` asks it.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::io::Write;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::process::Stdio;
use std::sync::OnceLock;

use serde_json::Value;

use crate::support::folder::Folder;
use crate::support::http1::Client;
use crate::support::ports::free_port;
use crate::support::process::Process;

/// What Grafana puts in place of its variables; in the rate's range there are always some scrapes of a test.
const GRAFANA: [(&str, &str); 8] = [
    ("$__rate_interval", "1m"),
    ("$__range", "5m"),
    ("$job", ".+"),
    ("$instance", ".+"),
    ("$envoy", ".+"),
    ("$route", ".+"),
    ("$users", "tollgate-usage"),
    ("$user", "user-1"),
];

/// `k8s/prometheus`.
pub fn shelf() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("k8s/prometheus")
}

pub fn read(name: &str) -> String {
    std::fs::read_to_string(shelf().join(name)).unwrap_or_else(|error| panic!("k8s/prometheus/{name}: {error}"))
}

/// A YAML file of the shelf.
pub fn yaml(name: &str) -> Value {
    serde_yaml::from_str(&read(name)).unwrap_or_else(|error| panic!("k8s/prometheus/{name}: {error}"))
}

/// `prometheus` or `promtool`: the machine's, or what `tests/tools/prometheus.sh` unpacked.
fn tool(name: &str) -> Command {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    let folder = FOLDER.get_or_init(|| {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/tools/prometheus.sh");
        let output = Command::new(script).output().expect("tests/tools/prometheus.sh runs");
        assert!(output.status.success(), "`make outside` installs what is missing: {}", String::from_utf8_lossy(&output.stderr));
        PathBuf::from(String::from_utf8(output.stdout).expect("a path").trim())
    });
    Command::new(folder.join(name))
}

/// Runs promtool in a folder; all that it said.
///
/// # Panics
/// When it found anything wrong.
pub fn promtool(folder: &Path, arguments: &[&str], input: &str) -> String {
    let mut command = tool("promtool");
    command.current_dir(folder).args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("promtool runs");
    let mut stdin = child.stdin.take().expect("its input");
    let input = input.to_owned();
    let writer = std::thread::spawn(move || stdin.write_all(input.as_bytes()));
    let output = child.wait_with_output().expect("promtool ends");
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "promtool {arguments:?}: {}\n{said}", output.status);
    writer.join().expect("the writer").expect("promtool reads all of it");
    said
}

/// The rules of a file: each one's name, and the rule.
pub fn rules(name: &str) -> Vec<(String, Value)> {
    let file = yaml(name);
    let groups = file["groups"].as_array().unwrap_or_else(|| panic!("{name} has no groups"));
    let rules = groups.iter().flat_map(|group| group["rules"].as_array().expect("a group has rules"));
    let named = |rule: &Value| {
        let name = rule["alert"].as_str().or(rule["record"].as_str()).unwrap_or_else(|| panic!("neither alert nor record: {rule}"));
        (name.to_owned(), rule.clone())
    };
    rules.map(named).collect()
}

/// Every dashboard by the name of its file.
pub fn dashboards() -> BTreeMap<String, Value> {
    let files = std::fs::read_dir(shelf().join("dashboards")).expect("the dashboards").flatten();
    files
        .map(|file| {
            let name = file.file_name().into_string().expect("a name");
            let text = std::fs::read_to_string(file.path()).expect("readable");
            (name.clone(), serde_json::from_str(&text).unwrap_or_else(|error| panic!("{name}: {error}")))
        })
        .collect()
}

/// Every question of the dashboards, with the file and the panel that asks it. Grafana's variables are filled in.
pub fn questions() -> Vec<(String, String)> {
    let mut found = Vec::new();
    for (name, dashboard) in dashboards() {
        for panel in dashboard["panels"].as_array().expect("panels") {
            for target in panel["targets"].as_array().into_iter().flatten() {
                let asked = target["expr"].as_str().expect("a target asks something");
                let filled = GRAFANA.iter().fold(asked.to_owned(), |text, (variable, value)| text.replace(variable, value));
                assert!(!filled.contains('$'), "{name}: {filled}");
                found.push((format!("{name}: {}", panel["title"].as_str().expect("a title")), filled));
            }
        }
    }
    found
}

/// The metrics that PromQL names, recorded ones included; labels and their values do not count.
pub fn metrics_in(expression: &str) -> BTreeSet<String> {
    let mut bare = String::new();
    let (mut depth, mut in_text) = (0, false);
    for character in expression.chars() {
        match character {
            '"' => in_text = !in_text,
            '{' if !in_text => depth += 1,
            '}' if !in_text => depth -= 1,
            other if !in_text && depth == 0 => bare.push(other),
            _ => {}
        }
    }
    let is_word = |character: char| character.is_ascii_alphanumeric() || matches!(character, '_' | ':');
    let words = bare.split(|character| !is_word(character));
    let is_metric = |word: &&str| ["tollgate_", "envoy_", "process_"].iter().any(|start| word.starts_with(start)) || word.contains(':');
    // A subquery's step is no metric.
    words.filter(is_metric).filter(|word| word.starts_with(|first: char| first.is_ascii_lowercase())).map(str::to_owned).collect()
}

/// A running Prometheus with the jobs and rules of `prometheus.yaml`, quicker than usual.
#[derive(Debug)]
pub struct Prometheus {
    port: u16,
    _process: Process,
}

impl Prometheus {
    /// Scrapes these two, every two seconds.
    pub fn start(folder: &Folder, tollgate_port: u16, envoy_port: u16) -> Self {
        let shelf = shelf();
        let changes = [
            ("127.0.0.1:9464".to_owned(), format!("127.0.0.1:{tollgate_port}")),
            ("127.0.0.1:9901".to_owned(), format!("127.0.0.1:{envoy_port}")),
            ("_interval: 15s".to_owned(), "_interval: 2s".to_owned()),
            ("_interval: 60s".to_owned(), "_interval: 2s".to_owned()),
            ("[recording.yaml, alerts.yaml]".to_owned(), format!("[{0}/recording.yaml, {0}/alerts.yaml]", shelf.display())),
        ];
        let config = changes.iter().fold(read("prometheus.yaml"), |text, (from, to)| {
            assert!(text.contains(from), "prometheus.yaml has no `{from}` any more");
            text.replace(from, to)
        });
        folder.write("prometheus.yaml", &config);
        let port = free_port();
        let mut command = tool("prometheus");
        command.args(["--config.file=prometheus.yaml", "--storage.tsdb.path=prometheus", "--log.level=warn"]);
        command.arg(format!("--web.listen-address=127.0.0.1:{port}"));
        let is_ready = || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok() && Client::new(port).get("/-/ready", &[]).status == 200;
        let process = Process::start("prometheus", command, folder.path()).ready(is_ready);
        Self { port, _process: process }
    }

    /// Asks its API; the data of the answer.
    ///
    /// # Panics
    /// When it answers with anything but success.
    pub fn api(&self, target: &str) -> Value {
        let reply = Client::new(self.port).get(&format!("/api/v1/{target}"), &[]);
        let mut answer = reply.json();
        assert_eq!(answer["status"], "success", "{target}: {answer}");
        answer["data"].take()
    }

    /// A question in PromQL, as of now: labels and value of each series.
    pub fn ask(&self, question: &str) -> Vec<(BTreeMap<String, String>, f64)> {
        let query: String = form_urlencoded::Serializer::new(String::new()).append_pair("query", question).finish();
        let data = self.api(&format!("query?{query}"));
        let number = |value: &Value| value[1].as_str().and_then(|text| text.parse().ok()).unwrap_or_else(|| panic!("{question}: {value}"));
        if data["resultType"] == "scalar" {
            return vec![(BTreeMap::new(), number(&data["result"]))];
        }
        let series = data["result"].as_array().unwrap_or_else(|| panic!("{question}: {data}"));
        let labels = |series: &Value| serde_json::from_value(series["metric"].clone()).expect("labels");
        series.iter().map(|series| (labels(series), number(&series["value"]))).collect()
    }

    /// The one value of a question, or zero when there is no series yet.
    pub fn value(&self, question: &str) -> f64 {
        let series = self.ask(question);
        assert!(series.len() <= 1, "{question}: {series:?}");
        series.first().map_or(0.0, |(_, value)| *value)
    }
}
