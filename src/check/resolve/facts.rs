//! What the corridor learnt about those behind a proof, failures included.

use std::sync::Arc;
use std::time::Duration;

use crate::check::Cached;
use crate::model::client::ClientRecord;
use crate::model::grant::GrantRecord;
use crate::model::key::KeyRecord;
use crate::model::user::UserRecord;
use crate::store::StoreError;

/// What the corridor learnt about the key behind a proof.
#[derive(Clone, Debug)]
pub enum KeyFact {
    NotAsked,
    /// A key of the file needs no user's record: the file alone rules.
    InFile(Arc<KeyRecord>),
    FromStore(Result<Option<Arc<KeyRecord>>, StoreError>),
}

/// What the corridor learnt about another record behind a proof.
#[derive(Clone, Debug)]
pub enum Fact<T> {
    NotAsked,
    FromStore(Result<Option<Arc<T>>, StoreError>),
}

/// A user behind a proof.
pub type UserFact = Fact<UserRecord>;

/// The grant that a token of our own stands on.
pub type GrantFact = Fact<GrantRecord>;

/// An OAuth client that holds such a token.
pub type ClientFact = Fact<ClientRecord>;

/// What the corridor fetched for a proof, failures included.
#[derive(Clone, Debug)]
pub struct FoundFacts {
    pub grant: GrantFact,
    /// The client that the grant was given to.
    pub client: ClientFact,
    /// The one that traded another's token for this one, and acts with it.
    pub acting: ClientFact,
    pub key: KeyFact,
    /// In whose name the credential stands: the owner of a client that acts for itself.
    pub user: UserFact,
    /// Who made the key, where that was another than its user.
    pub maker: UserFact,
    /// Set: some of it is from memory, and so long ago the memory's confirmation lost its force.
    pub lapsed_for: Option<Duration>,
    /// None: nothing was looked up.
    pub cached: Option<Cached>,
}

impl FoundFacts {
    pub const NONE: Self = Self {
        grant: Fact::NotAsked,
        client: Fact::NotAsked,
        acting: Fact::NotAsked,
        key: KeyFact::NotAsked,
        user: Fact::NotAsked,
        maker: Fact::NotAsked,
        lapsed_for: None,
        cached: None,
    };

    /// Whether the shelf was asked for something and was silent.
    pub fn lack_an_answer(&self) -> bool {
        let users = [&self.user, &self.maker];
        let clients = [&self.client, &self.acting];
        self.key.lacks_an_answer()
            || self.grant.lacks_an_answer()
            || users.into_iter().any(Fact::lacks_an_answer)
            || clients.into_iter().any(Fact::lacks_an_answer)
    }
}

impl KeyFact {
    /// As [`FoundFacts::lack_an_answer`]. A record that cannot be read was an answer.
    pub fn lacks_an_answer(&self) -> bool {
        matches!(self, Self::FromStore(Err(StoreError::Unavailable(_))))
    }

    /// Whether it was asked for and the shelf said something.
    pub fn is_answered(&self) -> bool {
        match self {
            Self::NotAsked | Self::FromStore(Err(StoreError::Unavailable(_))) => false,
            Self::InFile(_) | Self::FromStore(Ok(_) | Err(StoreError::Corrupt { .. })) => true,
        }
    }
}

impl<T> Fact<T> {
    /// As [`FoundFacts::lack_an_answer`]. A record that cannot be read was an answer.
    pub fn lacks_an_answer(&self) -> bool {
        matches!(self, Self::FromStore(Err(StoreError::Unavailable(_))))
    }

    /// Whether it was asked for and the shelf said something.
    pub fn is_answered(&self) -> bool {
        match self {
            Self::NotAsked | Self::FromStore(Err(StoreError::Unavailable(_))) => false,
            Self::FromStore(Ok(_) | Err(StoreError::Corrupt { .. })) => true,
        }
    }

    /// The record, where there is one.
    pub fn record(&self) -> Option<&Arc<T>> {
        match self {
            Self::FromStore(Ok(record)) => record.as_ref(),
            Self::NotAsked | Self::FromStore(Err(_)) => None,
        }
    }
}
