//! Files that somebody cut, flipped, wiped or swapped: detected and set aside, never a wrong count and never silently empty.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use proptest::prelude::ProptestConfig;
use proptest::prelude::Strategy;
use proptest::prop_assert;
use proptest::prop_assert_eq;
use proptest::proptest;
use tempfile::TempDir;

use crate::usage::Ledger;
use crate::usage::LedgerError;
use crate::usage::tests::NOON;
use crate::usage::tests::counts;
use crate::usage::tests::folder;
use crate::usage::tests::line;
use crate::usage::tests::open;
use crate::usage::tests::small;
use crate::usage::tests::user;

type Counts = BTreeMap<(String, String), u64>;

/// A ledger of two segments with 100 counters.
fn filled() -> (TempDir, Counts) {
    let folder = folder();
    let ledger = open(folder.path());
    for number in 0..100_u32 {
        ledger.add(&line(&user(&format!("u{}", number % 10)), &format!("r{number}")), number + 1).unwrap();
    }
    let counts = counts(&ledger);
    (folder, counts)
}

fn reopen(folder: &Path) -> Result<Ledger, LedgerError> {
    Ledger::open(small(folder), NOON)
}

fn rewrite(path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = fs::read(path).unwrap();
    change(&mut bytes);
    fs::write(path, bytes).unwrap();
}

#[derive(Clone, Copy, Debug)]
enum Damage {
    Flip(usize, u8),
    Wipe(usize, usize),
    Cut(usize),
    Garbage(usize, u64),
}

impl Damage {
    fn any() -> impl Strategy<Value = Self> {
        let place = 0_usize..20_000;
        proptest::prop_oneof![
            (place.clone(), 0_u8..8).prop_map(|(place, bit)| Self::Flip(place, bit)),
            (place.clone(), 1_usize..200).prop_map(|(place, length)| Self::Wipe(place, length)),
            place.clone().prop_map(Self::Cut),
            (place, 0_u64..=u64::MAX).prop_map(|(place, bytes)| Self::Garbage(place, bytes)),
        ]
    }

    fn apply(self, bytes: &mut Vec<u8>) {
        let length = bytes.len();
        match self {
            Self::Flip(place, bit) => bytes[place % length] ^= 1 << bit,
            Self::Wipe(place, count) => {
                let start = place % length;
                bytes[start..length.min(start + count)].fill(0);
            }
            Self::Cut(place) => bytes.truncate(place % length),
            Self::Garbage(place, garbage) => {
                let start = place % length;
                for (byte, new) in bytes[start..].iter_mut().zip(garbage.to_le_bytes()) {
                    *byte = new;
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    // battery: X10
    #[test]
    fn whatever_was_damaged_no_count_is_wrong_and_no_loss_is_silent(file in 0_usize..3, damage in Damage::any()) {
        let (folder, before) = filled();
        let name = ["segment-000000", "segment-000001", "dictionary"][file];
        rewrite(&folder.path().join(name), |bytes| damage.apply(bytes));
        match reopen(folder.path()) {
            Err(error) => prop_assert!(error.to_string().contains("segment-00000") || error.to_string().contains("dictionary"), "{}", error),
            Ok(ledger) => {
                let after = counts(&ledger);
                for (line, count) in &after {
                    prop_assert_eq!(before.get(line), Some(count), "{:?}", line);
                }
                prop_assert!(after.len() == before.len() || !ledger.recovery().is_clean(), "{} lines are gone unseen", before.len() - after.len());
                // What is left of it works.
                ledger.add(&line(&user("new"), "new"), 3).unwrap();
                ledger.add(&line(&user("u1"), "r1"), 3).unwrap();
                drop(ledger);
                prop_assert!(reopen(folder.path()).is_ok());
            }
        }
    }

    #[test]
    fn arbitrary_files_are_refused_and_never_a_panic(segment in proptest::collection::vec(0_u8..=255, 0..9000), names in proptest::collection::vec(0_u8..=255, 0..200)) {
        let folder = folder();
        fs::write(folder.path().join("segment-000000"), segment).unwrap();
        prop_assert!(reopen(folder.path()).is_err());
        fs::write(folder.path().join("dictionary"), names).unwrap();
        prop_assert!(reopen(folder.path()).is_err());
    }
}

// battery: X10
#[test]
fn files_that_are_missing_or_of_another_ledger_refuse_the_start() {
    let refused = |what: &str, change: &dyn Fn(&Path), expected: &str| {
        let (folder, _) = filled();
        change(folder.path());
        let error = reopen(folder.path()).expect_err(what).to_string();
        assert!(error.contains(expected), "{what}: {error}");
    };
    let remove = |name: &'static str| move |folder: &Path| fs::remove_file(folder.join(name)).unwrap();
    refused("no dictionary", &remove("dictionary"), "it is missing");
    refused("no first segment", &remove("segment-000000"), "it is missing");
    refused("no second segment", &remove("segment-000001"), "it is missing");
    let (other, _) = filled();
    let of_other = |name: &'static str, to: &'static str| {
        let from = other.path().join(name);
        move |folder: &Path| {
            fs::copy(&from, folder.join(to)).unwrap();
        }
    };
    refused("another's segment", &of_other("segment-000001", "segment-000001"), "belongs to another ledger");
    refused("another's dictionary", &of_other("dictionary", "dictionary"), "belongs to another ledger");
    refused("a wiped segment", &|folder| rewrite(&folder.join("segment-000000"), |bytes| bytes.fill(0)), "does not begin");
    refused("an empty dictionary", &|folder| rewrite(&folder.join("dictionary"), Vec::clear), "cut short");
    refused(
        "a swapped segment",
        &|folder| fs::rename(folder.join("segment-000001"), folder.join("segment-000000")).unwrap(),
        "another segment",
    );
}

#[test]
fn a_format_of_the_future_is_named() {
    let (folder, _) = filled();
    rewrite(&folder.path().join("dictionary"), |bytes| {
        bytes[8] = 9;
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(&bytes[..12]);
        hasher.update(&bytes[16..32]);
        bytes[12..16].copy_from_slice(&hasher.finalize().to_le_bytes());
    });
    let error = reopen(folder.path()).unwrap_err();
    assert!(matches!(error, LedgerError::Version { found: 9, known: 1, .. }), "{error}");
}

#[test]
fn killed_while_beginning_a_slot_leaves_no_trace() {
    let (folder, before) = filled();
    // The slot behind the last one is filled in part, and has no head.
    rewrite(&folder.path().join("segment-000001"), |bytes| {
        let slot = 4096 + 36 * 64;
        bytes[slot + 8..slot + 40].fill(7);
    });
    let ledger = reopen(folder.path()).unwrap();
    assert!(ledger.recovery().is_clean(), "{:?}", ledger.recovery());
    assert_eq!(counts(&ledger), before);
    ledger.add(&line(&user("new"), "new"), 3).unwrap();
    assert_eq!(counts(&ledger)[&("new".into(), "new".into())], 3);
}

#[test]
fn killed_between_publishing_a_slot_and_moving_the_mark_on_keeps_it() {
    let (folder, before) = filled();
    let path = folder.path().join("segment-000001");
    let mark = |bytes: &[u8]| <[u8; 8]>::try_from(&bytes[64..72]).unwrap();
    let mark_before = mark(&fs::read(&path).unwrap());
    reopen(folder.path()).unwrap().add(&line(&user("late"), "late"), 3).unwrap();
    rewrite(&path, |bytes| {
        assert_ne!(mark(bytes), mark_before);
        bytes[64..72].copy_from_slice(&mark_before);
    });
    let ledger = reopen(folder.path()).unwrap();
    assert!(ledger.recovery().is_clean(), "{:?}", ledger.recovery());
    assert_eq!(counts(&ledger).len(), before.len() + 1);
    assert_eq!(counts(&ledger)[&("late".into(), "late".into())], 3);
}

#[test]
fn killed_while_appending_a_name_leaves_no_trace() {
    for cut in 1..15 {
        let (folder, before) = filled();
        let path = folder.path().join("dictionary");
        let whole = {
            let ledger = reopen(folder.path()).unwrap();
            ledger.add(&line(&user("u0"), "abc"), 1).unwrap();
            fs::read(&path).unwrap()
        };
        // The slot is not there yet when the name is not.
        let (folder, _) = (filled().0, drop(folder));
        let mut torn = whole;
        torn.truncate(torn.len() - cut);
        let own = fs::read(folder.path().join("dictionary")).unwrap();
        let tail = torn[own.len().min(torn.len())..].to_vec();
        rewrite(&folder.path().join("dictionary"), |bytes| bytes.extend_from_slice(&tail));
        let ledger = reopen(folder.path()).unwrap();
        assert!(ledger.recovery().is_clean(), "{:?}", ledger.recovery());
        assert_eq!(counts(&ledger), before);
        ledger.add(&line(&user("u0"), "another"), 1).unwrap();
        drop(ledger);
        assert_eq!(counts(&reopen(folder.path()).unwrap()).len(), before.len() + 1);
    }
}
