//! Erasing what all sidecars told of one user.

use std::collections::BTreeSet;
use std::sync::Arc;

use futures_util::future::join_all;

use crate::model::usage::Span;
use crate::store::StoreError;
use crate::store::shared::link::Call;
use crate::store::shared::link::script::Script;
use crate::store::shared::usage::SharedCounts;

/// Places that one call removes, all of one user.
const KEYS_TOGETHER: usize = 256;

static FORGET: Script = Script::new("forget_counts", include_str!("../scripts/forget_counts.lua"));
static FORGET_NAME: Script = Script::new("forget_name", include_str!("../scripts/forget_name.lua"));

impl SharedCounts {
    /// Every hour, day and month of a user that is kept, its place in the lists, and the last uses of its keys.
    pub(super) async fn forget_user(&self, user: &str) -> Result<(), StoreError> {
        let user: Arc<str> = Arc::from(user);
        let months = self.months().await?;
        let mut keys: BTreeSet<Arc<str>> = BTreeSet::new();
        for month in &months {
            // What its keys were called is known from the counts alone; one that cannot be read goes like the others.
            let mut counts = Vec::new();
            match self.export_user(*month, &user, &mut counts, &mut keys).await {
                Ok(()) | Err(StoreError::Corrupt { .. }) => {}
                Err(error @ StoreError::Unavailable(_)) => return Err(error),
            }
        }
        let now = self.clock.now();
        let mut places: Vec<Vec<u8>> = Vec::new();
        for span in [Span::Hour, Span::Day] {
            places.extend((span.oldest_kept(now)..=span.index(now).saturating_add(1)).map(|period| self.names.counts(span, period, &user)));
        }
        places.extend(months.iter().map(|month| self.names.counts(Span::Month, *month, &user)));
        for some in places.chunks(KEYS_TOGETHER) {
            self.run(Call { script: &FORGET, keys: some.to_vec(), args: Vec::new() }).await?;
        }
        let lists = months.iter().map(|month| {
            self.run(Call { script: &FORGET_NAME, keys: vec![self.names.users(*month)], args: vec![user.as_bytes().to_vec()] })
        });
        let uses = keys.iter().map(|key| self.run(Call { script: &FORGET, keys: vec![self.names.last_use(key)], args: Vec::new() }));
        for answer in join_all(lists).await.into_iter().chain(join_all(uses).await) {
            answer?;
        }
        // Should the user be counted again, it is entered into the lists again.
        self.forget_listed();
        Ok(())
    }
}
