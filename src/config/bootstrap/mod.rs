//! What stands in front, held against the rules: what in it would open the gate, drop an identity, or turn our trouble into a client's.
//!
//! A file is an Envoy bootstrap, or manifests of Istio and Envoy Gateway, several in one file, as `kubectl kustomize` prints them. Only
//! settings that matter to Tollgate are looked at; whether a file is good otherwise is for `envoy --mode validate` and the schemas of the
//! kinds to say. What a file cannot decide (code, an outside processor, rules that come over xDS) is named as not judged.

mod after;
mod answers;
mod around;
mod attached;
mod before;
mod chosen;
mod clusters;
mod deployed;
mod doors;
mod filter;
mod gateway;
mod headers;
mod ignored;
pub mod init;
mod issued;
mod istio;
mod listeners;
mod lists;
mod manifests;
mod origin;
mod passage;
mod patched;
mod patches;
mod peers;
mod runtime;
mod secrets;
mod source;
mod strip;
mod summary;
mod target;
mod tree;
mod trust;
mod unjudged;
mod unread;
mod way;
mod workloads;

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use crate::config::boot::Boot;
use crate::config::bootstrap::clusters::Clusters;
use crate::config::bootstrap::ignored::read_document;
use crate::config::bootstrap::manifests::Manifests;
use crate::config::bootstrap::manifests::texts_within;
use crate::config::bootstrap::manifests::unfolded;
use crate::config::bootstrap::passage::filters_of;
use crate::config::bootstrap::passage::gates_of;
pub use crate::config::bootstrap::source::name_of;
use crate::config::bootstrap::summary::summed_up;
use crate::config::bootstrap::target::Surroundings;
use crate::config::bootstrap::tree::all;
use crate::config::bootstrap::tree::all_of_type;
use crate::config::bootstrap::tree::at;
use crate::config::bootstrap::tree::member;
use crate::config::bootstrap::tree::odd_numbers;
use crate::config::bootstrap::tree::spelled_twice;
use crate::config::bootstrap::tree::text;
use crate::config::complaint::Complaint;
use crate::config::yaml::Node;
use crate::model::rules::Rules;

/// A file, or a text within one, has no more documents than this.
const MOST_DOCUMENTS: usize = 512;

/// What was found.
#[derive(Clone, Debug, Default)]
pub struct Findings {
    /// What is unsafe, or cannot work.
    pub errors: Vec<Complaint>,
    /// What is meant, perhaps, and must not be forgotten.
    pub warnings: Vec<Complaint>,
    /// What was looked at, by a word each.
    pub judged: Vec<(&'static str, String)>,
}

/// Reads what stands in front and says what in it does not fit the config.
pub fn judge(path: &Path, boot: &Boot, rules: &Rules) -> Findings {
    let name: Arc<str> = Arc::from(name_of(path));
    let trouble = |wrong: String| Findings { errors: vec![Complaint::about_file(&name, wrong)], ..Findings::default() };
    match source::read(path).map(String::from_utf8) {
        Ok(Ok(text)) => judge_text(&name, &text, boot, rules),
        Ok(Err(_)) => trouble("it is not UTF-8 text".to_owned()),
        Err(error) => trouble(error.to_string()),
    }
}

/// The same for a text under a name.
pub fn judge_text(name: &Arc<str>, text: &str, boot: &Boot, rules: &Rules) -> Findings {
    let mut errors = Vec::new();
    let mut documents = Vec::new();
    for (lines, document) in split(name, text, &mut errors) {
        documents.extend(read_document(name, lines, &document, &mut errors));
    }
    let inner: Vec<(String, u32)> = documents.iter().flat_map(unfolded).flat_map(texts_within).collect();
    for (text, line) in inner {
        for (lines, document) in split(name, &text, &mut errors) {
            documents.extend(read_document(name, lines.saturating_add(line), &document, &mut errors));
        }
    }
    if !errors.is_empty() {
        return Findings { errors, ..Findings::default() };
    }
    let documents: Vec<&Node> = documents.iter().flat_map(unfolded).collect();
    let mut judge = Judge { file: name, boot, rules, clusters: Clusters::default(), findings: Findings::default() };
    judge.everything(&documents);
    let mut findings = judge.findings;
    findings.judged = summed_up(&documents);
    for list in [&mut findings.errors, &mut findings.warnings] {
        list.sort_by_key(|complaint| (complaint.line, complaint.column));
        list.dedup();
    }
    findings
}

/// The documents of a text, and how many lines are above each.
fn split(file: &Arc<str>, text: &str, errors: &mut Vec<Complaint>) -> Vec<(u32, String)> {
    let mut documents = vec![(0, String::new())];
    for (number, line) in (0..).zip(text.lines()) {
        if let Some(rest) = line.strip_prefix("---").filter(|rest| rest.is_empty() || rest.starts_with([' ', '\t'])) {
            if documents.len() > MOST_DOCUMENTS {
                let wrong = format!("there are more than {MOST_DOCUMENTS} documents in it: judge them in several files");
                errors.push(Complaint::about_file(file, wrong));
                return Vec::new();
            }
            documents.push((number, format!("    {}\n", rest.get(1..).unwrap_or_default())));
        } else if let Some((_, document)) = documents.last_mut() {
            document.push_str(line);
            document.push('\n');
        }
    }
    let has_content = |document: &str| document.lines().any(|line| !line.trim().is_empty() && !line.trim_start().starts_with('#'));
    documents.retain(|(_, document)| has_content(document));
    if documents.is_empty() { vec![(0, String::new())] } else { documents }
}

struct Judge<'a> {
    file: &'a Arc<str>,
    boot: &'a Boot,
    rules: &'a Rules,
    /// Of the bootstrap that is being judged.
    clusters: Clusters<'a>,
    findings: Findings,
}

impl<'a> Judge<'a> {
    fn everything(&mut self, documents: &[&'a Node]) {
        let manifests = Manifests::among(documents);
        if manifests.is_empty() {
            for document in documents {
                self.bootstrap(document);
            }
            return;
        }
        self.istio(&manifests);
        self.mesh(documents);
        self.gateway(&manifests);
        self.unjudged(&manifests);
        for document in &manifests.bootstraps {
            self.bootstrap(document);
        }
        self.around(&manifests);
        let has_tollgate = self.deployed(&manifests);
        if let Some(first) = documents.first().filter(|_| !manifests.asks() && has_tollgate) {
            self.warn(first, "", "nobody in this file asks Tollgate, whose pods are here")
                .hint("judge what asks (the Envoy, the mesh, the Gateway) in one file with these pods, each behind ---");
        } else if let Some(first) = documents.first().filter(|_| !manifests.asks()) {
            let wrong = "no AuthorizationPolicy in this file has the action CUSTOM, no SecurityPolicy has extAuth, and there is no bootstrap: nobody is asked";
            self.say(first, "", wrong).hint("judge the files of one workload or Gateway together");
        }
    }

    fn bootstrap(&mut self, root: &'a Node) {
        self.clusters = Clusters::of(root);
        self.spelled_once(root);
        let managers = all_of_type(root, ".HttpConnectionManager");
        let (mut filter_names, mut asked) = (BTreeSet::new(), BTreeSet::new());
        for manager in &managers {
            let gates = self.asking(filters_of(manager));
            let Some(first) = gates.first() else { continue };
            self.client_address(manager);
            self.spelling(manager);
            self.order(filters_of(manager), *first);
            self.routes(manager, *first);
            for gate in gates.into_iter().chain(self.upgrades(manager)) {
                self.filter(root, gate.config);
                self.patience(gate.config);
                self.cluster(gate.config);
                filter_names.extend(at(gate.entry, &["name"]).and_then(text));
                asked.extend(at(gate.config, &["grpc_service", "envoy_grpc", "cluster_name"]).and_then(text));
            }
        }
        if filter_names.is_empty() {
            self.say(root, "", "no HTTP connection manager has an ext_authz filter, so nobody is asked")
                .hint("add envoy.filters.http.ext_authz");
            return;
        }
        for manager in &managers {
            self.routes_elsewhere(manager);
        }
        let (without_gate, with_gate): (Vec<&Node>, Vec<&Node>) =
            managers.into_iter().partition(|manager| gates_of(filters_of(manager)).is_empty());
        let around = Surroundings::of(root, &with_gate);
        for place in without_gate.into_iter().chain(all_of_type(root, ".tcp_proxy.v3.TcpProxy")) {
            self.unguarded(root, place, &around);
        }
        for route in all(root, &|node| member(node, "typed_per_filter_config").is_some()) {
            self.exemption(route, &filter_names);
        }
        self.listeners(root);
        self.doors(root, &asked);
        self.peers(root);
        self.access_log(root);
        self.origin(root);
        self.written_down(root);
        self.answers(root);
        self.beside_the_listeners(root);
        self.issuer(root);
        self.admin(root);
    }

    fn spelled_once(&mut self, root: &Node) {
        for (parent, entry) in spelled_twice(root) {
            let wrong = format!("{} stands here twice, in two spellings, and which of them is in force cannot be told", entry.key);
            self.say(parent, &entry.key, wrong).hint("leave one of them out");
        }
        for (place, field, written) in odd_numbers(root) {
            let wrong = format!("`{written}` is not the same number to everybody: `0100` is 64 to Envoy");
            self.say(place, field, wrong).hint("plain digits, or a text in quotes");
        }
    }

    fn say(&mut self, parent: &Node, field: &str, wrong: impl Into<String>) -> Hint<'_> {
        self.findings.errors.push(complaint(self.file, parent, field, wrong.into()));
        Hint(self.findings.errors.last_mut())
    }

    /// What stands in the file and cannot be told from it is never passed over in silence.
    fn not_judged(&mut self, parent: &Node, field: &str, what: &str) {
        self.warn(parent, field, format!("not judged: {what}")).hint("look for yourself, or say it in a way that can be read here");
    }

    fn warn(&mut self, parent: &Node, field: &str, wrong: impl Into<String>) -> Hint<'_> {
        self.findings.warnings.push(complaint(self.file, parent, field, wrong.into()));
        Hint(self.findings.warnings.last_mut())
    }
}

fn complaint(file: &Arc<str>, parent: &Node, field: &str, wrong: String) -> Complaint {
    let place = member(parent, field).map_or(parent.place, |node| node.place);
    Complaint { file: Arc::clone(file), line: place.line, column: place.column, field: field.to_owned(), wrong, expected: None, hint: None }
}

/// Lets a complaint that was just made say how to mend it.
struct Hint<'a>(Option<&'a mut Complaint>);

impl Hint<'_> {
    fn hint(self, text: impl Into<String>) {
        if let Some(complaint) = self.0 {
            complaint.hint = Some(text.into());
        }
    }
}

#[cfg(test)]
mod tests;
