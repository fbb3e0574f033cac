//! Other spellings of the headers that tell an upstream who is calling. CGI and what descends from it read `x_user_id`, and `x_user-id`
//! too, as `x-user-id`, so whoever may send one could be taken for another.

use std::sync::Arc;

use crate::model::rules::Rules;

/// How many dashes and underscores a name has whose spellings are all listed: with three, seven others.
const SEPARATORS_MAX: usize = 3;

/// What to take out of every request, worked out once for all of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LookAlikes {
    /// Spellings that nothing else in the rules names, each once.
    pub strangers: Vec<Arc<str>>,
    /// Those that are also the name of another header that the rules set or remove: the assertion's, the version's, a credential's.
    pub contested: Vec<Arc<str>>,
    /// Names that have too many spellings to list. What a request has that looks like one of them goes, too.
    pub long: Vec<Arc<str>>,
}

impl LookAlikes {
    /// Of the headers of these rules.
    pub fn of(rules: &Rules) -> Self {
        let identity: Vec<_> = rules.identity_headers.iter().map(|header| &header.name).collect();
        let assertion = rules.assertion.as_ref().map(|assertion| &assertion.header);
        let version = rules.api_versions.iter().map(|versions| &versions.header);
        let credentials = rules.places.iter().map(|place| &place.header);
        let others: Vec<_> = assertion.into_iter().chain(version).chain(credentials).collect();
        let mut found = Self::default();
        for name in identity.iter().copied().chain(assertion) {
            let Spellings { listed, are_all } = Spellings::of(name);
            if !are_all {
                found.long.push(Arc::clone(name));
            }
            for spelling in listed {
                let is_spelling = |known: &Arc<str>| known.eq_ignore_ascii_case(&spelling);
                // Whoever configures several spellings sets or removes each of them anyhow.
                let is_known = identity.iter().copied().chain(&found.strangers).chain(&found.contested).any(is_spelling);
                let is_contested = others.iter().copied().any(is_spelling);
                match (is_known, is_contested) {
                    (true, _) => {}
                    (false, true) => found.contested.push(spelling),
                    (false, false) => found.strangers.push(spelling),
                }
            }
        }
        found
    }
}

/// The other spellings of a name that many servers take for the same one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spellings {
    /// None for a name of one word.
    pub listed: Vec<Arc<str>>,
    /// Whether there are no more than these. A long name has too many to list; of it only the usual one is here.
    pub are_all: bool,
}

impl Spellings {
    pub fn of(name: &str) -> Self {
        let separators = name.bytes().filter(|byte| matches!(byte, b'-' | b'_')).count();
        if separators > SEPARATORS_MAX {
            let usual = if name.contains('-') { name.replace('-', "_") } else { name.replace('_', "-") };
            return Self { listed: vec![usual.into()], are_all: false };
        }
        // The usual one, all underscores, is the first.
        let spellings = (0_u32..1 << separators).rev().map(|underscores| spelled(name, underscores));
        Self { listed: spellings.filter(|spelling| spelling != name).map(Arc::from).collect(), are_all: true }
    }
}

/// The name with an underscore for each separator whose bit is set, and a dash for the others.
fn spelled(name: &str, mut underscores: u32) -> String {
    let mut spell = |letter| match letter {
        '-' | '_' => {
            let spelled = if underscores & 1 == 1 { '_' } else { '-' };
            underscores >>= 1;
            spelled
        }
        other => other,
    };
    name.chars().map(&mut spell).collect()
}

/// Whether such a server would take one name for the other, which is another.
pub fn looks_like(name: &[u8], other: &str) -> bool {
    let fold = |byte: u8| if byte == b'_' { b'-' } else { byte.to_ascii_lowercase() };
    name.len() == other.len()
        && !name.eq_ignore_ascii_case(other.as_bytes())
        && name.iter().zip(other.as_bytes()).all(|(left, right)| fold(*left) == fold(*right))
}
