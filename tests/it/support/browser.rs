//! A browser without a script engine: cookies, forms, redirects followed one by one.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::support::http1::Client;
use crate::support::http1::Reply;

/// One person's browser, on one origin.
#[derive(Debug)]
pub struct Browser {
    client: Client,
    /// `http://127.0.0.1:port`
    origin: String,
    pub cookies: BTreeMap<String, String>,
}

/// A form of a page.
#[derive(Clone, Debug)]
pub struct Form {
    pub action: String,
    pub fields: Vec<(String, String)>,
    /// Names of the fields that take a password.
    pub passwords: Vec<String>,
    pub buttons: Vec<(String, String)>,
}

impl Browser {
    pub fn new(port: u16) -> Self {
        Self { client: Client::new(port), origin: format!("http://127.0.0.1:{port}"), cookies: BTreeMap::new() }
    }

    pub fn get(&mut self, target: &str) -> Reply {
        self.send("GET", target, "")
    }

    pub fn submit(&mut self, form: &Form, values: &[(&str, &str)], button: Option<&(String, String)>) -> Reply {
        let mut fields: BTreeMap<String, String> = form.fields.iter().cloned().collect();
        fields.extend(values.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        fields.extend(button.cloned());
        let body = form_body(fields.iter().map(|(name, value)| (name.as_str(), value.as_str())));
        let target = self.local(&form.action).expect("a form of our own");
        self.send("POST", &target, &body)
    }

    /// What a script of a page of this origin asks for.
    pub fn call(&mut self, method: &str, target: &str, csrf_token: Option<&str>, body: &Value) -> Reply {
        let mut headers = vec![("content-type", "application/json"), ("sec-fetch-mode", "cors")];
        headers.extend(csrf_token.map(|token| ("x-csrf-token", token)));
        let body = if body.is_null() { String::new() } else { body.to_string() };
        self.exchange(method, target, &headers, &body)
    }

    fn send(&mut self, method: &str, target: &str, body: &str) -> Reply {
        let mut headers = vec![("accept", "text/html"), ("sec-fetch-mode", "navigate")];
        if method == "POST" {
            headers.push(("content-type", "application/x-www-form-urlencoded"));
        }
        self.exchange(method, target, &headers, body)
    }

    fn exchange(&mut self, method: &str, target: &str, special: &[(&str, &str)], body: &str) -> Reply {
        let cookies: Vec<String> = self.cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let cookies = cookies.join("; ");
        let mut headers = special.to_vec();
        headers.push(("sec-fetch-site", "same-origin"));
        if !cookies.is_empty() {
            headers.push(("cookie", &cookies));
        }
        let host = self.origin.trim_start_matches("http://").to_owned();
        if method != "GET" {
            headers.push(("origin", self.origin.as_str()));
        }
        let reply = self.client.raw(&crate::support::http1::message(method, target, &host, &headers, body.as_bytes()));
        for line in reply.headers("set-cookie") {
            let (pair, rest) = line.split_once(';').unwrap_or((line, ""));
            let (name, value) = pair.split_once('=').expect("a cookie's name");
            if value.is_empty() || rest.to_ascii_lowercase().contains("max-age=0") {
                self.cookies.remove(name);
            } else {
                self.cookies.insert(name.to_owned(), value.to_owned());
            }
        }
        reply
    }

    /// The target on our own origin; none where a redirect leads elsewhere.
    fn local(&self, location: &str) -> Option<String> {
        match location.strip_prefix(&self.origin) {
            Some(target) => Some(target.to_owned()),
            None => location.starts_with('/').then(|| location.to_owned()),
        }
    }

    /// Signs in on our page.
    pub fn sign_in(&mut self, user: &str, password: &str) {
        let page = self.get("/sign-in").text();
        let reply = self.submit(&forms(&page)[0], &[("name", user), ("password", password)], None);
        assert_eq!(reply.status, 303, "{}", reply.text());
    }

    /// Signs in and consents wherever it is asked to, until it is sent elsewhere: there.
    pub fn authorize(&mut self, target: &str, user: &str, password: &str) -> String {
        let mut reply = self.get(target);
        for _step in 0..20 {
            if let Some(location) = reply.header("location") {
                let location = location.to_owned();
                match self.local(&location) {
                    Some(target) => reply = self.get(&target),
                    None => return location,
                }
                continue;
            }
            assert_eq!(reply.status, 200, "{}", reply.text());
            let forms = forms(&reply.text());
            reply = match forms.iter().find(|form| !form.passwords.is_empty()) {
                Some(form) => {
                    let secret = form.passwords[0].as_str();
                    let name = form.fields.iter().map(|(name, _)| name.as_str()).find(|name| ["username", "name", "user"].contains(name));
                    self.submit(form, &[(name.expect("a field for the name"), user), (secret, password)], form.buttons.first())
                }
                None => {
                    let yes = |button: &&(String, String)| ["approve", "allow"].contains(&button.1.as_str());
                    let form = forms.iter().find(|form| form.buttons.iter().any(|button| yes(&button)));
                    let form = form.unwrap_or_else(|| panic!("neither a form nor a redirect: {}", reply.text()));
                    self.submit(form, &[], form.buttons.iter().find(yes))
                }
            };
        }
        panic!("never sent back to the client");
    }
}

/// A form's body.
pub fn form_body<'a>(fields: impl IntoIterator<Item = (&'a str, &'a str)>) -> String {
    form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish()
}

/// One parameter of a URL.
pub fn parameter(url: &str, name: &str) -> Option<String> {
    let (_, query) = url.split_once('?')?;
    form_urlencoded::parse(query.as_bytes()).find(|(known, _)| known == name).map(|(_, value)| value.into_owned())
}

/// The forms of a page, as far as our own pages go.
pub fn forms(html: &str) -> Vec<Form> {
    html.split("<form").skip(1).filter_map(|rest| rest.split_once("</form>").map(|(form, _)| form)).map(read_form).collect()
}

fn read_form(form: &str) -> Form {
    let (head, body) = form.split_once('>').expect("a form's tag");
    let mut read =
        Form { action: attribute(head, "action").unwrap_or_default(), fields: Vec::new(), passwords: Vec::new(), buttons: Vec::new() };
    for tag in body.split("<input").skip(1).filter_map(|rest| rest.split_once('>').map(|(tag, _)| tag)) {
        let Some(name) = attribute(tag, "name") else { continue };
        match attribute(tag, "type").as_deref() {
            Some("password") => read.passwords.push(name),
            Some("checkbox" | "submit") => {}
            Some(_) | None => read.fields.push((name, attribute(tag, "value").unwrap_or_default())),
        }
    }
    for tag in body.split("<button").skip(1).filter_map(|rest| rest.split_once('>').map(|(tag, _)| tag)) {
        if let Some(name) = attribute(tag, "name") {
            read.buttons.push((name, attribute(tag, "value").unwrap_or_default()));
        }
    }
    read
}

fn attribute(tag: &str, name: &str) -> Option<String> {
    let (_, rest) = tag.split_once(&format!(" {name}=\""))?;
    let (value, _) = rest.split_once('"')?;
    Some(["&quot;\"", "&#34;\"", "&#39;'", "&lt;<", "&gt;>", "&#60;<", "&#62;>", "&#38;&", "&amp;&"].iter().fold(
        value.to_owned(),
        |text, pair| {
            let (entity, plain) = pair.split_at(pair.len() - 1);
            text.replace(entity, plain)
        },
    ))
}
