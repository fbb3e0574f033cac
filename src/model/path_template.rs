//! Path templates as people write them: `/profiles/{profile_id}`, `/files/**`; and the templates that their variables fill.

use std::cmp::Ordering;
use std::fmt;
use std::sync::Arc;

use crate::model::path::Path;
use crate::model::route::Ending;
use crate::model::route::PathTemplate;
use crate::model::route::Segment;
use crate::model::route::TemplatePart;

/// Most segments of a template; the index recurses once per segment.
pub const TEMPLATE_LIMIT_SEGMENTS: usize = 64;
const NAME_LIMIT_BYTES: usize = 64;

/// Why a text is not a template.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    #[error("a path starts with `/`")]
    NoLeadingSlash,
    #[error("no request can have this path: {0}")]
    NotCanonical(&'static str),
    #[error("requests are compared in one form; write `{0}`")]
    OtherSpelling(String),
    #[error("`**` stands alone and only at the end (`/files/**`)")]
    MisplacedRest,
    #[error("`*` is no wildcard; write `{{name}}` for one segment or `/**` at the end for all that follow")]
    Star,
    #[error("`;` never stands in a template; `matrix_parameters: stripped` cuts it from requests")]
    Matrix,
    #[error("a variable takes a whole segment (`/users/{{id}}`), and braces have no other use")]
    Brace,
    #[error("a variable's name is 1 to 64 letters, digits and `_`, and starts with no digit: `{0}`")]
    VariableName(String),
    #[error("the variable `{0}` occurs twice")]
    DuplicateVariable(String),
    #[error("a template has at most 64 segments")]
    TooManySegments,
    #[error("the template is empty")]
    Empty,
}

impl PathTemplate {
    /// Reads `/literal/{variable}`, with an optional `/` or `/**` at the end, under the rules of a request's path.
    ///
    /// # Errors
    /// [`TemplateError`] says what to write instead.
    pub fn parse(text: &str) -> Result<Self, TemplateError> {
        let inner = text.strip_prefix('/').ok_or(TemplateError::NoLeadingSlash)?;
        let mut texts: Vec<&str> = inner.split('/').collect();
        let ending = match texts.last().copied() {
            Some("**") => Ending::Rest,
            Some("") => Ending::Slash,
            Some(_) | None => Ending::Exact,
        };
        if ending != Ending::Exact {
            texts.pop();
        }
        if texts.len() > TEMPLATE_LIMIT_SEGMENTS {
            return Err(TemplateError::TooManySegments);
        }
        let mut segments: Vec<Segment> = Vec::with_capacity(texts.len());
        for text in texts {
            let segment = parse_segment(text)?;
            if let Segment::Variable(name) = &segment
                && segments.contains(&segment)
            {
                return Err(TemplateError::DuplicateVariable(name.to_string()));
            }
            segments.push(segment);
        }
        Ok(Self { segments, ending })
    }

    /// The names of the variables, in order.
    pub fn variables(&self) -> impl Iterator<Item = &Arc<str>> {
        self.segments.iter().filter_map(|segment| match segment {
            Segment::Variable(name) => Some(name),
            Segment::Literal(_) => None,
        })
    }

    /// Whether this path is one of the template's. The index answers for all templates at once; this answers for one.
    pub fn matches(&self, path: &str) -> bool {
        let mut rest = path.strip_prefix('/');
        for segment in &self.segments {
            let Some(text) = rest else {
                return false;
            };
            let (found, next) = split_segment(text);
            let fits = match segment {
                Segment::Literal(literal) => &**literal == found,
                Segment::Variable(_) => !found.is_empty(),
            };
            if !fits {
                return false;
            }
            rest = next;
        }
        match self.ending {
            Ending::Exact => rest.is_none(),
            Ending::Slash => rest == Some(""),
            Ending::Rest => true,
        }
    }

    /// What the variable of this name stands for in a path that the template matches.
    pub fn value<'p>(&self, name: &str, path: &'p str) -> Option<&'p str> {
        let position = self.segments.iter().position(|segment| matches!(segment, Segment::Variable(own) if &**own == name))?;
        path.split('/').nth(position + 1)
    }
}

impl fmt::Display for PathTemplate {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for segment in &self.segments {
            match segment {
                Segment::Literal(text) => write!(out, "/{text}")?,
                Segment::Variable(name) => write!(out, "/{{{name}}}")?,
            }
        }
        out.write_str(match self.ending {
            Ending::Exact => "",
            Ending::Slash => "/",
            Ending::Rest => "/**",
        })
    }
}

/// The more specific template is the lesser: literal before variable before rest, leftmost first. Texts only break ties, so that
/// the order agrees with equality.
impl Ord for PathTemplate {
    fn cmp(&self, other: &Self) -> Ordering {
        self.ranks().cmp(other.ranks()).then_with(|| self.segments.cmp(&other.segments)).then_with(|| self.ending.cmp(&other.ending))
    }
}

impl PartialOrd for PathTemplate {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PathTemplate {
    fn ranks(&self) -> impl Iterator<Item = u8> {
        let ending = match self.ending {
            Ending::Exact => 2,
            Ending::Slash => 3,
            Ending::Rest => 4,
        };
        let segments = self.segments.iter().map(|segment| match segment {
            Segment::Literal(_) => 0,
            Segment::Variable(_) => 1,
        });
        segments.chain(std::iter::once(ending))
    }
}

/// The first segment of a text and what follows its slash; none: the path ends here.
pub(in crate::model) fn split_segment(text: &str) -> (&str, Option<&str>) {
    match text.split_once('/') {
        Some((segment, next)) => (segment, Some(next)),
        None => (text, None),
    }
}

fn parse_segment(text: &str) -> Result<Segment, TemplateError> {
    if let Some(name) = text.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')) {
        return Ok(Segment::Variable(parse_variable(name)?));
    }
    if text.contains(['{', '}']) {
        return Err(TemplateError::Brace);
    }
    if text.contains("**") {
        return Err(TemplateError::MisplacedRest);
    }
    if text.contains('*') {
        return Err(TemplateError::Star);
    }
    if text.contains(';') {
        return Err(TemplateError::Matrix);
    }
    let as_path = format!("/{text}");
    let path = Path::parse(as_path.as_bytes()).map_err(|error| TemplateError::NotCanonical(error.issue))?;
    if path.as_str() != as_path {
        return Err(TemplateError::OtherSpelling(path.as_str().trim_start_matches('/').to_owned()));
    }
    if text.is_empty() {
        return Err(TemplateError::NotCanonical("an empty segment (`//`)"));
    }
    Ok(Segment::Literal(Arc::from(text)))
}

fn parse_variable(name: &str) -> Result<Arc<str>, TemplateError> {
    let starts_well = name.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_');
    if !starts_well || name.len() > NAME_LIMIT_BYTES || !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
        return Err(TemplateError::VariableName(name.to_owned()));
    }
    Ok(Arc::from(name))
}

/// Reads a template of a scope or of `count_as`: text with `{variable}` in it. Whether the path has these variables is for the
/// caller to check, against [`PathTemplate::variables`].
///
/// # Errors
/// [`TemplateError`] for nothing at all, braces that do not pair, and names that are none.
pub fn parse_template(text: &str) -> Result<Vec<TemplatePart>, TemplateError> {
    if text.is_empty() {
        return Err(TemplateError::Empty);
    }
    let mut parts = Vec::new();
    let mut rest = text;
    while let Some((plain, after)) = rest.split_once('{') {
        let (name, next) = after.split_once('}').ok_or(TemplateError::Brace)?;
        if plain.contains('}') {
            return Err(TemplateError::Brace);
        }
        if !plain.is_empty() {
            parts.push(TemplatePart::Text(Arc::from(plain)));
        }
        parts.push(TemplatePart::Variable(parse_variable(name)?));
        rest = next;
    }
    if rest.contains('}') {
        return Err(TemplateError::Brace);
    }
    if !rest.is_empty() {
        parts.push(TemplatePart::Text(Arc::from(rest)));
    }
    Ok(parts)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn template(text: &str) -> PathTemplate {
        PathTemplate::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    #[test]
    fn what_people_write_is_read_and_shown_alike() {
        for text in ["/", "/**", "/a", "/a/", "/a/**", "/{x}", "/{x}/", "/{x}/{y}/**", "/a.b/{profile_id}/c-d", "/a%20b/x:y"] {
            assert_eq!(template(text).to_string(), text);
        }
        assert_eq!(template("/"), PathTemplate { segments: vec![], ending: Ending::Slash });
        assert_eq!(
            template("/p/{id}"),
            PathTemplate { segments: vec![Segment::Literal("p".into()), Segment::Variable("id".into())], ending: Ending::Exact }
        );
    }

    #[test]
    fn mistakes_are_named() {
        let long_name = format!("/{{{}}}", "a".repeat(65));
        let many = "/a".repeat(65);
        for (text, expected) in [
            ("", "a path starts with `/`"),
            ("a", "a path starts with `/`"),
            ("*", "a path starts with `/`"),
            ("//", "no request can have this path: an empty segment (`//`)"),
            ("/a//b", "no request can have this path: an empty segment (`//`)"),
            ("/a/../b", "no request can have this path: a dot segment"),
            ("/a/%2e%2e", "no request can have this path: a dot is percent-encoded"),
            ("/a?b", "no request can have this path: a character that must be percent-encoded, or may not occur at all"),
            ("/a b", "no request can have this path: a character that must be percent-encoded, or may not occur at all"),
            ("/adm%69n", "requests are compared in one form; write `admin`"),
            ("/a%c3%bc", "requests are compared in one form; write `a%C3%BC`"),
            ("/**/a", "`**` stands alone and only at the end (`/files/**`)"),
            ("/a**", "`**` stands alone and only at the end (`/files/**`)"),
            ("/a/*", "`*` is no wildcard; write `{name}` for one segment or `/**` at the end for all that follow"),
            ("/a;b", "`;` never stands in a template; `matrix_parameters: stripped` cuts it from requests"),
            ("/a{b}", "a variable takes a whole segment (`/users/{id}`), and braces have no other use"),
            ("/{a}b", "a variable takes a whole segment (`/users/{id}`), and braces have no other use"),
            ("/{a", "a variable takes a whole segment (`/users/{id}`), and braces have no other use"),
            ("/{}", "a variable's name is 1 to 64 letters, digits and `_`, and starts with no digit: ``"),
            ("/{1a}", "a variable's name is 1 to 64 letters, digits and `_`, and starts with no digit: `1a`"),
            ("/{a-b}", "a variable's name is 1 to 64 letters, digits and `_`, and starts with no digit: `a-b`"),
            ("/{a}{b}", "a variable's name is 1 to 64 letters, digits and `_`, and starts with no digit: `a}{b`"),
            ("/{x}/{x}", "the variable `x` occurs twice"),
            (many.as_str(), "a template has at most 64 segments"),
        ] {
            assert_eq!(PathTemplate::parse(text).unwrap_err().to_string(), expected, "{text}");
        }
        assert!(matches!(PathTemplate::parse(&long_name), Err(TemplateError::VariableName(_))));
    }

    // battery: P16 P17
    #[test]
    fn a_template_matches_its_paths_and_only_those() {
        let table: &[(&str, &[&str], &[&str])] = &[
            ("/", &["/"], &["/a"]),
            ("/a", &["/a"], &["/", "/a/", "/a/b", "/A", "/a.", "/ab"]),
            ("/a/", &["/a/"], &["/a", "/a/b"]),
            ("/a/**", &["/a", "/a/", "/a/b", "/a/b/c/"], &["/", "/ab", "/b"]),
            ("/**", &["/", "/a", "/a/b/"], &[]),
            ("/p/{id}", &["/p/1", "/p/**"], &["/p", "/p/", "/p/1/", "/p/1/2", "/q/1"]),
            ("/{x}/{y}/**", &["/a/b", "/a/b/c"], &["/a", "/a/", "/"]),
        ];
        for (text, matched, others) in table {
            for path in *matched {
                assert!(template(text).matches(path), "{text} {path}");
            }
            for path in *others {
                assert!(!template(text).matches(path), "{text} {path}");
            }
        }
    }

    #[test]
    fn variables_have_their_segments_values() {
        let template = template("/v1/{service}/x/{endpoint}/**");
        assert_eq!(template.value("service", "/v1/users/x/list/more"), Some("users"));
        assert_eq!(template.value("endpoint", "/v1/users/x/list/more"), Some("list"));
        assert_eq!(template.value("v1", "/v1/users/x/list/more"), None);
        assert_eq!(template.variables().map(|name| &**name).collect::<Vec<_>>(), ["service", "endpoint"]);
    }

    #[test]
    fn the_more_specific_comes_first() {
        let ordered = ["/a/b", "/a/b/**", "/a/{x}", "/a/{x}/**", "/a", "/a/", "/a/**", "/{x}/b", "/{x}/{y}", "/{x}", "/{x}/**", "/", "/**"];
        let mut sorted: Vec<PathTemplate> = ordered.iter().rev().map(|text| template(text)).collect();
        sorted.sort();
        assert_eq!(sorted.iter().map(ToString::to_string).collect::<Vec<_>>(), ordered);
    }

    #[test]
    fn scope_templates_are_read() {
        let text = |text: &str| TemplatePart::Text(text.into());
        let variable = |name: &str| TemplatePart::Variable(name.into());
        assert_eq!(parse_template("conversations:read"), Ok(vec![text("conversations:read")]));
        assert_eq!(parse_template("{service}"), Ok(vec![variable("service")]));
        assert_eq!(parse_template("{service}/{endpoint}"), Ok(vec![variable("service"), text("/"), variable("endpoint")]));
        assert_eq!(parse_template("a{b}c{d}"), Ok(vec![text("a"), variable("b"), text("c"), variable("d")]));
        assert_eq!(parse_template(""), Err(TemplateError::Empty));
        for text in ["{", "}", "a}", "{a", "a}b{c}", "{a}}"] {
            assert_eq!(parse_template(text), Err(TemplateError::Brace), "{text}");
        }
        for text in ["{}", "{a b}", "{{a}"] {
            assert!(matches!(parse_template(text), Err(TemplateError::VariableName(_))), "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_text_breaks_the_readers(text in "[a-b/{}*;%._ 2e?]{0,30}") {
            if let Ok(template) = PathTemplate::parse(&text) {
                prop_assert_eq!(template.to_string(), text.clone());
            }
            let _ = parse_template(&text);
        }
    }
}
