//! A document of a provider that is fetched once for all who wait, renewed in the background, and kept while the provider is down.

use std::future::Future;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

use tokio::sync::OwnedMutexGuard;

use crate::issuer::federation::fetch::FetchError;
use crate::model::time::Timestamp;

/// From when on it is renewed.
const FRESH: Duration = Duration::from_secs(60 * 60);
/// After a failure nobody asks again for so long.
const PAUSE: Duration = Duration::from_secs(5);
/// Who shows a key that we do not know makes us look at most this often.
const RENEW_AT_MOST_EVERY: Duration = Duration::from_secs(30);

/// One document.
#[derive(Debug)]
pub(super) struct Kept<T> {
    what: &'static str,
    seen: Mutex<Seen<T>>,
    flight: Arc<tokio::sync::Mutex<()>>,
}

#[derive(Debug)]
struct Seen<T> {
    value: Option<Arc<T>>,
    fetched: Option<Timestamp>,
    /// When the last attempt began, however it ended.
    tried: Option<Timestamp>,
}

impl<T: Send + Sync + 'static> Kept<T> {
    pub(super) fn new(what: &'static str) -> Arc<Self> {
        Arc::new(Self {
            what,
            seen: Mutex::new(Seen { value: None, fetched: None, tried: None }),
            flight: Arc::new(tokio::sync::Mutex::new(())),
        })
    }

    /// What is known. Only who needs it first waits for the provider; later it is renewed behind everybody's back.
    pub(super) async fn get<F, A>(self: &Arc<Self>, now: Timestamp, fetch: F) -> Option<Arc<T>>
    where
        F: FnOnce() -> A + Send + 'static,
        A: Future<Output = Result<T, FetchError>> + Send + 'static,
    {
        if let Some(value) = self.value() {
            if !self.is_fresh(now)
                && !self.was_tried_within(RENEW_AT_MOST_EVERY, now)
                && let Ok(turn) = Arc::clone(&self.flight).try_lock_owned()
            {
                let kept = Arc::clone(self);
                tokio::spawn(async move { kept.renew(turn, now, fetch()).await });
            }
            return Some(value);
        }
        let turn = Arc::clone(&self.flight).lock_owned().await;
        if self.value().is_none() && !self.was_tried_within(PAUSE, now) {
            self.renew(turn, now, fetch()).await;
        }
        self.value()
    }

    /// Another one than this, if the provider has one by now.
    pub(super) async fn newer<A>(&self, than: &Arc<T>, now: Timestamp, fetch: impl FnOnce() -> A) -> Option<Arc<T>>
    where
        A: Future<Output = Result<T, FetchError>>,
    {
        let turn = Arc::clone(&self.flight).lock_owned().await;
        let is_known = self.value().is_some_and(|value| !Arc::ptr_eq(&value, than));
        if !is_known && !self.was_tried_within(RENEW_AT_MOST_EVERY, now) {
            self.renew(turn, now, fetch()).await;
        }
        self.value().filter(|value| !Arc::ptr_eq(value, than))
    }

    async fn renew(&self, _turn: OwnedMutexGuard<()>, now: Timestamp, fetching: impl Future<Output = Result<T, FetchError>>) {
        self.change(|seen| seen.tried = Some(now));
        match fetching.await {
            Ok(value) => self.change(|seen| {
                seen.value = Some(Arc::new(value));
                seen.fetched = Some(now);
            }),
            Err(error) => tracing::warn!(what = self.what, %error, "a provider of sign-ins gave no document; what was known is kept"),
        }
    }

    fn value(&self) -> Option<Arc<T>> {
        self.change(|seen| seen.value.clone())
    }

    fn is_fresh(&self, now: Timestamp) -> bool {
        self.change(|seen| seen.fetched.is_some_and(|fetched| now < fetched.plus(FRESH)))
    }

    fn was_tried_within(&self, pause: Duration, now: Timestamp) -> bool {
        self.change(|seen| seen.tried.is_some_and(|tried| now < tried.plus(pause)))
    }

    fn change<R>(&self, change: impl FnOnce(&mut Seen<T>) -> R) -> R {
        change(&mut self.seen.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU32;
    use std::sync::atomic::Ordering;

    use super::*;

    const NOW: Timestamp = Timestamp::from_unix_seconds(1_800_000_000);

    struct Source {
        asked: AtomicU32,
        answers: Mutex<Option<u32>>,
    }

    impl Source {
        fn new(answer: Option<u32>) -> Arc<Self> {
            Arc::new(Self { asked: AtomicU32::new(0), answers: Mutex::new(answer) })
        }

        async fn fetch(self: Arc<Self>) -> Result<u32, FetchError> {
            self.asked.fetch_add(1, Ordering::SeqCst);
            tokio::task::yield_now().await;
            self.answers.lock().unwrap().ok_or(FetchError::NotJson)
        }
    }

    fn get(kept: &Arc<Kept<u32>>, source: &Arc<Source>, after: u64) -> impl Future<Output = Option<u32>> + Send + use<> {
        let (kept, source) = (Arc::clone(kept), Arc::clone(source));
        async move { kept.get(NOW.plus(Duration::from_secs(after)), move || source.fetch()).await.map(|value| *value) }
    }

    // oauth: S8
    #[tokio::test]
    async fn however_many_wait_the_provider_is_asked_once() {
        let (kept, source) = (Kept::new("test"), Source::new(Some(7)));
        let waiting: Vec<_> = (0..100).map(|_| tokio::spawn(get(&kept, &source, 0))).collect();
        for one in waiting {
            assert_eq!(one.await.unwrap(), Some(7));
        }
        assert_eq!(source.asked.load(Ordering::SeqCst), 1);
    }

    // oauth: S8
    #[tokio::test]
    async fn a_provider_that_is_down_is_left_in_peace_and_what_was_known_is_kept() {
        let (kept, source) = (Kept::new("test"), Source::new(None));
        let waiting: Vec<_> = (0..100).map(|_| tokio::spawn(get(&kept, &source, 0))).collect();
        for one in waiting {
            assert_eq!(one.await.unwrap(), None);
        }
        assert_eq!(get(&kept, &source, 4).await, None);
        assert_eq!(source.asked.load(Ordering::SeqCst), 1);
        *source.answers.lock().unwrap() = Some(7);
        assert_eq!(get(&kept, &source, 5).await, Some(7));
        *source.answers.lock().unwrap() = None;
        assert_eq!(get(&kept, &source, 3599).await, Some(7));
        assert_eq!(source.asked.load(Ordering::SeqCst), 2);
        // Stale: asked in the background, at most every half minute, and the old one serves.
        for after in 4000..4050 {
            assert_eq!(get(&kept, &source, after).await, Some(7));
            for _ in 0..4 {
                tokio::task::yield_now().await;
            }
        }
        assert_eq!(source.asked.load(Ordering::SeqCst), 4);
    }

    // oauth: S8
    #[tokio::test]
    async fn an_unknown_key_brings_one_look_in_half_a_minute() {
        let (kept, source) = (Kept::new("test"), Source::new(Some(7)));
        let first = kept
            .get(NOW, {
                let source = Arc::clone(&source);
                move || source.fetch()
            })
            .await
            .unwrap();
        *source.answers.lock().unwrap() = Some(8);
        for (after, expected) in [(1, None), (29, None), (30, Some(8)), (31, Some(8))] {
            let newer = kept.newer(&first, NOW.plus(Duration::from_secs(after)), || Arc::clone(&source).fetch()).await;
            assert_eq!(newer.map(|value| *value), expected, "{after}");
        }
        assert_eq!(source.asked.load(Ordering::SeqCst), 2);
    }
}
