//! Clearing away what expired.

use crate::store::Family;
use crate::store::RecordKey;
use crate::store::StoreError;
use crate::store::shared::commit::Args;
use crate::store::shared::commit::EXPIRY_MARGIN;
use crate::store::shared::commit::family_position;
use crate::store::shared::link::script::Script;
use crate::store::shared::places::place_text;
use crate::store::shared::places::read_place;
use crate::store::shared::records::SharedRecords;
use crate::store::shared::replies;

static DUE: Script = Script::new("due", include_str!("scripts/due.lua"));
static SWEEP: Script = Script::new("sweep", include_str!("scripts/sweep.lua"));

/// Expired records that one script clears away.
const SWEPT_TOGETHER: usize = 64;

impl SharedRecords {
    /// Clears away some of the records that expired more than an hour ago; how many.
    ///
    /// # Errors
    /// When the store gives no answer.
    pub async fn sweep(&self) -> Result<usize, StoreError> {
        let until = self.clock().now().minus(EXPIRY_MARGIN);
        let args = vec![(until.as_nanos() / 1_000_000).to_string().into_bytes(), SWEPT_TOGETHER.to_string().into_bytes()];
        let answer = self.bulk(&DUE, vec![self.places().expiries()], args).await?;
        let due: Vec<String> =
            replies::list(answer).ok_or_else(|| replies::unexpected("a sweep"))?.into_iter().filter_map(replies::text).collect();
        let records: Vec<RecordKey> = due.iter().filter_map(|place| read_place(place)).collect();
        if records.is_empty() {
            return Ok(0);
        }
        let mut keys = vec![self.places().expiries()];
        keys.extend(Family::ALL.map(|family| self.places().index(family)));
        keys.extend(records.iter().map(|key| self.places().record(key)));
        let mut args = Args::default();
        args.text(&replies::write_instant(until));
        args.number(Family::ALL.len() as u64);
        for key in &records {
            args.number(family_position(key.family));
            args.text(&place_text(key));
            args.text(&key.id);
        }
        let cleared = self.bulk(&SWEEP, keys, args.0).await?;
        Ok(replies::number(&cleared).and_then(|cleared| usize::try_from(cleared).ok()).unwrap_or(0))
    }
}
