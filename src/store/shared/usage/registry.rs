//! Who writes under a name. Two processes with one name would hide each other's counts, so each run registers before it tells.

use redis::Value;

use crate::store::StoreError;
use crate::store::shared::link::Call;
use crate::store::shared::link::script::Script;
use crate::store::shared::usage::SharedCounts;
use crate::store::shared::usage::names;
use crate::store::shared::usage::text;

/// How long a run holds its name without renewing it.
const HOLD_MS: u64 = 5_000;
/// How long a name that nobody renews is remembered: longer than any count that it stands for is told again.
const REMEMBERED_MS: u64 = 400 * 24 * 3600 * 1000;

static HOLD: Script = Script::new("hold_writer", include_str!("../scripts/hold_writer.lua"));

/// How a name stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Held {
    /// Nobody had it, and now we do: it is new, or the store forgot it.
    New,
    /// We had it; renewed this often.
    Ours { renewed: u64 },
    /// The last run's, and now ours.
    Taken,
    /// An older run's, and now ours: the store was thrown back.
    Older,
    /// A run of the same history may be alive; it renewed it this often.
    Busy { renewed: u64 },
    /// It belongs to somebody we do not know.
    Foreign,
}

impl SharedCounts {
    /// Registers or renews, as long as nobody else has the name.
    ///
    /// # Errors
    /// When there is no answer.
    pub async fn hold(&self, writer: u128, nonce: u128, earlier: &[u128]) -> Result<Held, StoreError> {
        self.register(writer, nonce, earlier, HOLD_MS).await
    }

    /// Gives the name back, so that the next run need not wait.
    ///
    /// # Errors
    /// When there is no answer.
    pub async fn let_go(&self, writer: u128, nonce: u128) -> Result<(), StoreError> {
        self.register(writer, nonce, &[], 0).await.map(drop)
    }

    async fn register(&self, writer: u128, nonce: u128, earlier: &[u128], hold_ms: u64) -> Result<Held, StoreError> {
        let place = self.names.writer(writer);
        let mut args = vec![names::of_writer(nonce).into_bytes(), text(hold_ms), text(REMEMBERED_MS)];
        args.extend(earlier.iter().map(|nonce| names::of_writer(*nonce).into_bytes()));
        let answer = self.run(Call { script: &HOLD, keys: vec![place], args }).await?;
        let unreadable = || StoreError::Unavailable("Redis answered a writer's registration with something else".to_owned());
        let Value::Array(answer) = answer else { return Err(unreadable()) };
        let [Value::BulkString(word), Value::Int(renewed), Value::Int(_)] = answer.as_slice() else { return Err(unreadable()) };
        let renewed = renewed.unsigned_abs();
        match word.as_slice() {
            b"new" => Ok(Held::New),
            b"held" => Ok(Held::Ours { renewed }),
            b"taken" => Ok(Held::Taken),
            b"older" => Ok(Held::Older),
            b"busy" => Ok(Held::Busy { renewed }),
            b"foreign" => Ok(Held::Foreign),
            _ => Err(unreadable()),
        }
    }
}
