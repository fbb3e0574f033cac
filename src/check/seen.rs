//! What became known on a request's way, for the log, the metrics, the counts of refusals, and `explain`.

use std::sync::Arc;
use std::time::Duration;

use crate::check::decide::Denial;
use crate::check::decide::Exit;
use crate::check::decide::Particulars;
use crate::check::meter::Label;
use crate::model::caller::Caller;
use crate::model::route::Route;

/// Filled as rooms are passed; what was seen stays when a later room says no.
#[derive(Debug, Default)]
pub struct Seen<'r> {
    pub route: Option<&'r Route>,
    /// Under which name the request is counted.
    pub label: Label<'r>,
    pub caller: Option<Arc<Caller>>,
    /// The caller lives by its tier's grace: the shelf is silent, and so long ago what was known last was no longer confirmed.
    pub lapsed_for: Option<Duration>,
    /// None: nobody asked for an explanation, and none is written.
    pub steps: Option<Vec<Step>>,
    /// None: the check is not traced.
    pub witness: Option<&'r (dyn Witness + 'static)>,
}

/// Who is told of each leg of the way when it is over. It has a clock; the rooms have none.
pub trait Witness: Sync + std::fmt::Debug {
    fn passed(&self, leg: Leg);
}

/// A stretch of a check's way: a room, what is waited for between two rooms, and the door's own work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leg {
    Decode,
    Room(Room),
    /// What the caches said; none: nothing was looked up.
    FindFacts(Option<Cached>),
    TakeLimits,
    Encode,
    /// What was under way when the deadline passed, or panicked.
    CutOff,
}

impl Leg {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Decode => "decode",
            Self::Room(room) => room.as_str(),
            Self::FindFacts(_) => "find_facts",
            Self::TakeLimits => "take_limits",
            Self::Encode => "encode",
            Self::CutOff => "cut_off",
        }
    }
}

/// Whether a look-up was answered from memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cached {
    Hit,
    /// At least one question went to the store.
    Miss,
}

/// One room of the way, for `explain`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    pub room: Room,
    /// What the room yielded, or why it left.
    pub outcome: Result<String, String>,
}

/// The rooms in walking order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Room {
    FindRoute,
    TakeCredential,
    Guard,
    Prove,
    Resolve,
    Authorise,
    PinVersion,
    Prepare,
    Throttle,
    Meter,
}

impl Room {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::FindRoute => "find_route",
            Self::TakeCredential => "take_credential",
            Self::Guard => "guard",
            Self::Prove => "prove",
            Self::Resolve => "resolve",
            Self::Authorise => "authorise",
            Self::PinVersion => "pin_version",
            Self::Prepare => "prepare",
            Self::Throttle => "throttle",
            Self::Meter => "meter",
        }
    }
}

impl Seen<'_> {
    /// One that writes down each room's outcome.
    pub fn explaining() -> Self {
        Self { steps: Some(Vec::new()), ..Self::default() }
    }

    /// Hands a room's result on, and writes down what it was when somebody asked.
    pub(in crate::check) fn pass<T, E: Into<Exit>>(
        &mut self,
        room: Room,
        result: Result<T, E>,
        tell: impl FnOnce(&T) -> String,
    ) -> Result<T, Exit> {
        let result = result.map_err(Into::into);
        if let Some(steps) = &mut self.steps {
            let caller = self.caller.as_deref();
            steps.push(Step { room, outcome: result.as_ref().map(tell).map_err(|exit| why(exit, caller)) });
        }
        self.witnessed(Leg::Room(room));
        result
    }

    /// A leg of the way is over.
    pub(in crate::check) fn witnessed(&self, leg: Leg) {
        if let Some(witness) = self.witness {
            witness.passed(leg);
        }
    }
}

fn why(exit: &Exit, caller: Option<&Caller>) -> String {
    let (reason, internal) = match exit {
        Exit::Denied(Denial { reason, particulars: Particulars::Scopes(wanted), .. }) => {
            let held = caller.map(|caller| caller.scopes.to_string()).unwrap_or_default();
            return format!("{}: wants [{wanted}], has [{held}]", reason.row().label);
        }
        Exit::Denied(denial) => (denial.reason, denial.internal.as_deref()),
        Exit::Failed(fault) => (fault.reason, Some(&*fault.internal)),
    };
    match internal {
        Some(internal) => format!("{}: {internal}", reason.row().label),
        None => reason.row().label.to_owned(),
    }
}
