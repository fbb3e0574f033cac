//! The corridor's look-ups: what the shelf says about those behind a proof. Nothing is judged here, and a failure is handed on as data.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::Either;
use futures_util::future::select;
use tokio::time::Sleep;

use crate::check::Cached;
use crate::check::Gate;
use crate::check::prove::Proof;
use crate::check::remembered::Remembered;
use crate::check::resolve::ClientFact;
use crate::check::resolve::FoundFacts;
use crate::check::resolve::GrantFact;
use crate::check::resolve::KeyFact;
use crate::check::resolve::UserFact;
use crate::model::key::is_key_id;
use crate::model::rules::Managed;
use crate::model::rules::Rules;
use crate::model::rules::TokenId;
use crate::store::Answer;
use crate::store::Facts;
use crate::store::StoreError;

/// The facts behind a proof, or the failure to get them. Where the shelf is silent and some tier has a grace left, what was known last
/// stands in for what it did not say; whether this caller may live by that is for the next room to say.
pub(in crate::check) async fn find_facts(proof: &Proof<'_>, gate: &Gate, rules: &Rules) -> FoundFacts {
    let found = Asking::of(&*gate.facts).complete(proof, FoundFacts::NONE, gate, rules).await;
    match &gate.last_known {
        Some(last_known) if found.lack_an_answer() => match last_known.lapsed_for() {
            Some(lapsed_for) if has_grace(rules, lapsed_for) => {
                // What the shelf did say stays; the rest comes from memory.
                let remembered = Remembered(Arc::clone(last_known));
                let found = Asking::of(&remembered).complete(proof, found, gate, rules).await;
                FoundFacts { lapsed_for: Some(lapsed_for), ..found }
            }
            Some(_) | None => found,
        },
        Some(_) | None => found,
    }
}

/// Whether there are callers who may live by what was confirmed so long ago.
fn has_grace(rules: &Rules, lapsed_for: Duration) -> bool {
    rules.tiers.values().any(|tier| tier.lasts(lapsed_for))
}

/// One check's questions, which together wait no longer than one of them may.
struct Asking<'a> {
    facts: &'a dyn Facts,
    /// Begins with the first question that is not answered at once.
    patience: Option<Pin<Box<Sleep>>>,
    cached: Option<Cached>,
}

impl<'a> Asking<'a> {
    fn of(facts: &'a dyn Facts) -> Self {
        Self { facts, patience: None, cached: None }
    }

    /// Asks for whatever the proof needs and is not answered yet.
    async fn complete(&mut self, proof: &Proof<'_>, found: FoundFacts, gate: &Gate, rules: &Rules) -> FoundFacts {
        let FoundFacts { grant, client, acting, key, user, maker, lapsed_for, cached } = found;
        self.cached = cached;
        let grant = if grant.is_answered() { grant } else { self.find_grant(proof).await };
        let key = if key.is_answered() { key } else { self.find_key(proof, &grant, gate, rules).await };
        let client = if client.is_answered() { client } else { self.find_client(&grant).await };
        let acting = if acting.is_answered() { acting } else { self.find_acting(proof, &grant).await };
        let user = if user.is_answered() { user } else { self.find_user(proof, (&grant, &client), &key, rules).await };
        let maker = if maker.is_answered() { maker } else { self.find_maker(&key, rules).await };
        FoundFacts { grant, client, acting, key, user, maker, lapsed_for, cached: self.cached }
    }

    /// The grant that a token of our own names.
    async fn find_grant(&mut self, proof: &Proof<'_>) -> GrantFact {
        let id = match proof {
            Proof::Grant { id, .. } => Some(*id),
            Proof::Token(claims) => claims.grant.as_deref(),
            Proof::Nobody | Proof::OwnKey(_) | Proof::ForeignKey(_) | Proof::Principal(_) => None,
        };
        match id {
            Some(id) => GrantFact::FromStore(self.answer(self.facts.grant(id)).await),
            None => GrantFact::NotAsked,
        }
    }

    /// The client that a grant was given to.
    async fn find_client(&mut self, grant: &GrantFact) -> ClientFact {
        match grant.record().and_then(|record| record.client()) {
            Some(id) => ClientFact::FromStore(self.answer(self.facts.client(id.as_str())).await),
            None => ClientFact::NotAsked,
        }
    }

    /// The client that traded for a token, where it is not the grant's own.
    async fn find_acting(&mut self, proof: &Proof<'_>, grant: &GrantFact) -> ClientFact {
        let (Proof::Token(claims), Some(record)) = (proof, grant.record()) else { return ClientFact::NotAsked };
        match claims.acting_client(record) {
            Some(id) => ClientFact::FromStore(self.answer(self.facts.client(id)).await),
            None => ClientFact::NotAsked,
        }
    }

    /// Whoever made a stored key for another. Most keys were made by their own users, and ask nothing here.
    async fn find_maker(&mut self, key: &KeyFact, rules: &Rules) -> UserFact {
        let KeyFact::FromStore(Ok(Some(record))) = key else { return UserFact::NotAsked };
        match record.notes.made_by() {
            Some(maker) => self.find_user_of(rules.local.name.as_str(), maker.as_str()).await,
            None => UserFact::NotAsked,
        }
    }

    /// The key behind a proof: the file's keys first, then the shelf's.
    async fn find_key(&mut self, proof: &Proof<'_>, grant: &GrantFact, gate: &Gate, rules: &Rules) -> KeyFact {
        match proof {
            Proof::Nobody | Proof::Principal(_) => KeyFact::NotAsked,
            Proof::OwnKey(own) => self.find_key_of_id(own.id, rules).await,
            Proof::ForeignKey(text) => self.find_imported_key(text, gate).await,
            Proof::Grant { .. } => self.find_key_of_grant(grant, rules).await,
            Proof::Token(claims) if claims.grant.is_some() => self.find_key_of_grant(grant, rules).await,
            Proof::Token(claims) => match (rules.issuers.get(claims.issuer).map(|issuer| issuer.token_id), &claims.token_id) {
                (Some(TokenId::NamesKey), Some(id)) if is_key_id(id) => self.find_key_of_id(id, rules).await,
                (Some(TokenId::NamesKey), Some(_)) => KeyFact::FromStore(Ok(None)),
                (Some(TokenId::NamesKey), None) | (Some(TokenId::Ignored) | None, _) => KeyFact::NotAsked,
            },
        }
    }

    async fn find_key_of_grant(&mut self, grant: &GrantFact, rules: &Rules) -> KeyFact {
        match grant.record().and_then(|record| record.key()) {
            Some(id) => self.find_key_of_id(id.as_str(), rules).await,
            None => KeyFact::NotAsked,
        }
    }

    async fn find_key_of_id(&mut self, id: &str, rules: &Rules) -> KeyFact {
        match rules.file_keys.get(id) {
            Some(record) => KeyFact::InFile(Arc::clone(record)),
            None => KeyFact::FromStore(self.answer(self.facts.key(id)).await),
        }
    }

    async fn find_imported_key(&mut self, text: &str, gate: &Gate) -> KeyFact {
        let mut found = Ok(None);
        for digest in gate.peppers.imported_digests(text.as_bytes()) {
            found = self.answer(self.facts.key_by_digest(&digest)).await;
            if !matches!(found, Ok(None)) {
                break;
            }
        }
        KeyFact::FromStore(found)
    }

    /// The user behind a proof, where one rules: a managed issuer's subject, whoever gave a grant, the owner of a client that acts for
    /// itself, or a stored key's user.
    async fn find_user(&mut self, proof: &Proof<'_>, (grant, client): (&GrantFact, &ClientFact), key: &KeyFact, rules: &Rules) -> UserFact {
        match proof {
            Proof::Nobody | Proof::Principal(_) => return UserFact::NotAsked,
            Proof::OwnKey(_) | Proof::ForeignKey(_) | Proof::Grant { .. } => {}
            Proof::Token(claims) => match rules.issuers.get(claims.issuer) {
                Some(issuer) if issuer.managed == Managed::Yes => {
                    return self.find_user_of(issuer.source.name.as_str(), claims.subject.as_str()).await;
                }
                Some(_) | None => {}
            },
        }
        let user = match (key, grant.record()) {
            // The file alone rules, and says nothing of users.
            (KeyFact::InFile(_), _) => None,
            (KeyFact::FromStore(Ok(Some(record))), _) => Some(&record.user),
            (KeyFact::NotAsked, Some(grant)) => grant.user().or_else(|| client.record().and_then(|client| client.owner.as_ref())),
            (KeyFact::NotAsked, None) | (KeyFact::FromStore(Ok(None) | Err(_)), _) => None,
        };
        match user {
            Some(user) => self.find_user_of(rules.local.name.as_str(), user.as_str()).await,
            None => UserFact::NotAsked,
        }
    }

    async fn find_user_of(&mut self, source: &str, subject: &str) -> UserFact {
        UserFact::FromStore(self.answer(self.facts.user(source, subject)).await)
    }

    async fn answer<T: Unpin>(&mut self, answer: Answer<'_, Result<T, StoreError>>) -> Result<T, StoreError> {
        // Nearly always it is there, and then nothing else is asked.
        if matches!(answer, Answer::Ready(_)) {
            self.cached.get_or_insert(Cached::Hit);
            return answer.await;
        }
        self.cached = Some(Cached::Miss);
        let Some(patience) = self.facts.patience() else { return answer.await };
        let left = self.patience.get_or_insert_with(|| Box::pin(tokio::time::sleep(patience)));
        match select(answer, left.as_mut()).await {
            Either::Left((answer, _)) => answer,
            Either::Right(((), _)) => Err(StoreError::Unavailable("the facts behind the request did not come in time".to_owned())),
        }
    }
}
