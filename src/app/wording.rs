//! The door to Envoy lends its words to `explain`, which stands in another door: the two meet here alone.

use crate::check::Seen;
use crate::check::decide::Exit;
use crate::check::decide::Grant;
use crate::grpc::encode::Client;
use crate::grpc::show::Shown;
use crate::grpc::show::show_allow;
use crate::grpc::show::show_refusal;
use crate::issuer::explain::Told;
use crate::issuer::explain::Wording;
use crate::model::rules::Rules;
use crate::model::time::Timestamp;

/// Words an end as the door to Envoy does.
#[derive(Clone, Copy, Debug)]
pub(super) struct DoorsWording;

impl Wording for DoorsWording {
    fn told(&self, ended: &Result<Grant<'_>, Exit>, seen: &Seen<'_>, rules: &Rules, is_grpc: bool, now: Timestamp) -> Told {
        let client = if is_grpc { Client::Grpc } else { Client::Http };
        let Shown { status, headers, body } = match ended {
            Ok(grant) => show_allow(grant, seen, rules, client, now),
            Err(exit) => show_refusal(exit, seen, rules, client, now),
        };
        Told { status, headers, body }
    }
}
