//! A shelf that takes its time: one check's questions together wait no longer than one may.

use std::sync::Arc;
use std::time::Duration;

use crate::check::Seen;
use crate::check::check;
use crate::check::doubles::NOW;
use crate::check::doubles::Shelf;
use crate::check::doubles::handle_text;
use crate::check::doubles::key_text;
use crate::check::reasons::Reason;
use crate::check::samples;
use crate::check::tests::CONSENT;
use crate::check::tests::House;
use crate::check::tests::LIVE_ID;
use crate::check::tests::MACHINE;
use crate::check::tests::OF_KEY;
use crate::check::tests::reason_of;
use crate::clock::monotonic;
use crate::model::caller::Environment;
use crate::model::client::ClientRecord;
use crate::model::grant::GrantRecord;
use crate::model::handle::HandleKind;
use crate::model::key::KeyRecord;
use crate::model::request::Method;
use crate::model::route::Auth;
use crate::model::user::UserRecord;
use crate::store::Answer;
use crate::store::Facts;
use crate::store::StoreError;

const PATIENCE: Duration = Duration::from_millis(100);

/// Every answer takes this long.
#[derive(Debug)]
struct Slow {
    shelf: Arc<Shelf>,
    each: Duration,
    patience: Option<Duration>,
}

impl Slow {
    fn later<'a, T: Send + Unpin + 'a>(&self, answer: Answer<'a, T>) -> Answer<'a, T> {
        let each = self.each;
        Answer::Pending(Box::pin(async move {
            tokio::time::sleep(each).await;
            answer.await
        }))
    }
}

impl Facts for Slow {
    fn key(&self, id: &str) -> Answer<'_, Result<Option<Arc<KeyRecord>>, StoreError>> {
        self.later(self.shelf.key(id))
    }

    fn key_by_digest(&self, digest: &[u8; 32]) -> Answer<'_, Result<Option<Arc<KeyRecord>>, StoreError>> {
        self.later(self.shelf.key_by_digest(digest))
    }

    fn user(&self, source: &str, subject: &str) -> Answer<'_, Result<Option<Arc<UserRecord>>, StoreError>> {
        self.later(self.shelf.user(source, subject))
    }

    fn grant(&self, id: &str) -> Answer<'_, Result<Option<Arc<GrantRecord>>, StoreError>> {
        self.later(self.shelf.grant(id))
    }

    fn client(&self, id: &str) -> Answer<'_, Result<Option<Arc<ClientRecord>>, StoreError>> {
        self.later(self.shelf.client(id))
    }

    fn patience(&self) -> Option<Duration> {
        self.patience
    }
}

// battery: R3
#[tokio::test(start_paused = true)]
async fn the_questions_of_one_check_share_its_patience() {
    let bearer = |text: String| ("authorization", format!("Bearer {text}"));
    let key = || ("x-api-key", key_text(Environment::Live, LIVE_ID, 'l'));
    let opaque = |grant, number| bearer(handle_text(HandleKind::Access, grant, number));
    // (the credential, how many questions, how long each answer takes, served)
    let table = [
        (key(), 2, 49, true),
        (key(), 2, 51, false),
        (key(), 2, 3_600_000, false),
        (opaque(MACHINE, 7), 2, 49, true),
        (opaque(CONSENT, 7), 3, 33, true),
        (opaque(CONSENT, 7), 3, 34, false),
        (opaque(OF_KEY, 3), 3, 33, true),
        (opaque(OF_KEY, 3), 3, 34, false),
    ];
    for ((name, value), questions, each, served) in table {
        let each = Duration::from_millis(each);
        for patience in [Some(PATIENCE), None] {
            let (mut gate, rules, parts) = House::new(Auth::Required).open();
            gate.facts = Arc::new(Slow { shelf: Arc::clone(&parts.0), each, patience });
            let request = samples::request(Method::Get, "/house", &[(name, &value)]);
            let began = monotonic();
            let mut seen = Seen::default();
            let ended = check(&request, &gate, &rules, &mut seen, NOW).await;
            let took = began.elapsed();
            if served || patience.is_none() {
                assert_eq!(reason_of(ended.as_ref()), Reason::Ok, "{name} {each:?}");
                assert!((each * questions..each * questions + Duration::from_millis(5)).contains(&took), "{took:?}");
            } else {
                assert_eq!(reason_of(ended.as_ref()), Reason::StoreUnavailable, "{name} {each:?}");
                assert!((PATIENCE..PATIENCE + Duration::from_millis(5)).contains(&took), "{took:?}");
            }
        }
    }
}
