//! A ring as it lies on the shelf, before it is wrapped.

use serde::Deserialize;
use serde::Serialize;
use zeroize::Zeroizing;

use crate::jose::ring::Line;
use crate::jose::ring::RetiredKey;
use crate::jose::ring::Ring;
use crate::jose::ring::RingError;
use crate::jose::ring::keys::Kind;
use crate::jose::ring::keys::Material;
use crate::jose::ring::keys::PublicKey;
use crate::jose::ring::keys::SecretText;
use crate::jose::ring::keys::SigningKey;
use crate::model::time::Timestamp;

/// A ring with EdDSA alone keeps the first format, so that sidecars of the first release read what newer ones turned.
const EDDSA_ALONE: u32 = 1;
const WITH_RS256: u32 = 2;

#[derive(Serialize, Deserialize)]
struct RingFile {
    format: u32,
    since: Timestamp,
    current: SecretText,
    next: SecretText,
    retired: Vec<RetiredText>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    rs256: Option<LineText>,
}

#[derive(Serialize, Deserialize)]
struct LineText {
    current: SecretText,
    next: SecretText,
    retired: Vec<RetiredText>,
}

#[derive(Serialize, Deserialize)]
struct RetiredText {
    #[serde(flatten)]
    public: Material,
    shown_until: Timestamp,
}

impl Ring {
    pub(in crate::jose) fn encode(&self) -> Result<Zeroizing<Vec<u8>>, RingError> {
        let LineText { current, next, retired } = LineText::of(&self.eddsa)?;
        let rs256 = self.rs256.as_ref().map(LineText::of).transpose()?;
        let format = if rs256.is_some() { WITH_RS256 } else { EDDSA_ALONE };
        let file = RingFile { format, since: self.since, current, next, retired, rs256 };
        serde_json::to_vec(&file).map(Zeroizing::new).map_err(|error| RingError::Unreadable(error.to_string()))
    }

    pub(in crate::jose) fn decode(bytes: &[u8]) -> Result<Self, RingError> {
        let file: RingFile =
            serde_json::from_slice(bytes).map_err(|_error| RingError::Unreadable("it is not a ring's record".to_owned()))?;
        let RingFile { format, since, current, next, retired, rs256 } = file;
        match (format, &rs256) {
            (EDDSA_ALONE, None) | (WITH_RS256, Some(_)) => {}
            (EDDSA_ALONE | WITH_RS256, _) => return Err(RingError::Unreadable("its keys do not go with its format".to_owned())),
            (unknown, _) => {
                return Err(RingError::Unreadable(format!(
                    "it has format {unknown}, and this release knows {EDDSA_ALONE} and {WITH_RS256}"
                )));
            }
        }
        let eddsa = LineText { current, next, retired }.read(Kind::Ed25519)?;
        Ok(Self { since, eddsa, rs256: rs256.map(|line| line.read(Kind::Rsa)).transpose()? })
    }
}

impl LineText {
    fn of(line: &Line) -> Result<Self, RingError> {
        let retired = line.retired.iter();
        Ok(Self {
            current: line.current.to_text()?,
            next: line.next.to_text()?,
            retired: retired.map(|key| RetiredText { public: key.public.material.clone(), shown_until: key.shown_until }).collect(),
        })
    }

    fn read(self, kind: Kind) -> Result<Line, RingError> {
        let retired = self.retired.into_iter();
        Ok(Line {
            current: SigningKey::from_text(kind, &self.current)?,
            next: SigningKey::from_text(kind, &self.next)?,
            retired: retired.map(|key| RetiredKey { public: PublicKey::of(key.public), shown_until: key.shown_until }).collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::jose::ring::Fresh;
    use crate::jose::ring::Lines;

    #[test]
    fn it_survives_being_written_and_read() {
        let now = Timestamp::from_unix_seconds(1_000_000);
        let later = now.plus(Duration::from_secs(60));
        for (lines, format) in [(Lines::EdDsa, "\"format\":1,"), (Lines::EdDsaAndRs256, "\"format\":2,")] {
            let fresh = Fresh::create(lines).unwrap();
            let ring = Ring::create(lines, now).unwrap().turn(fresh, Duration::from_secs(60), later);
            let written = ring.encode().unwrap();
            assert!(String::from_utf8_lossy(&written).contains(format));
            let read = Ring::decode(&written).unwrap();
            assert_eq!(read.jwks(later), ring.jwks(later));
            assert_eq!(read.eddsa.current.public, ring.eddsa.current.public);
            assert_eq!(read.since, ring.since);
            let other = String::from_utf8(written.to_vec())
                .unwrap()
                .replace("\"format\":1", "\"format\":9")
                .replace("\"format\":2", "\"format\":1");
            assert!(Ring::decode(other.as_bytes()).is_err());
        }
        for damaged in [&b"{}"[..], b"", b"[]", br#"{"format":1,"since":0,"current":"","next":"","retired":[]}"#] {
            assert!(Ring::decode(damaged).is_err());
        }
    }

    /// As the first release wrote it.
    #[test]
    fn the_first_releases_ring_is_read() {
        let seed = "nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A";
        let x = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo";
        let file = format!(
            r#"{{"format":1,"since":1000000000,"current":"{seed}","next":"{seed}","retired":[{{"x":"{x}","shown_until":2000000000}}]}}"#
        );
        let ring = Ring::decode(file.as_bytes()).unwrap();
        assert_eq!(ring.since, Timestamp::from_unix_seconds(1));
        assert_eq!(&*ring.eddsa.current.public.id, "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k");
        assert_eq!(ring.eddsa.retired[0].public, ring.eddsa.current.public);
        assert_eq!(ring.eddsa.retired[0].shown_until, Timestamp::from_unix_seconds(2));
        assert_eq!(*ring.encode().unwrap(), file.as_bytes(), "and written as it was");
    }
}
