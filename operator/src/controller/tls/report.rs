//! Reports certificates in the status.

use jiff::{SignedDuration, Timestamp};

use super::ensure::Certificates;
use crate::controller::reason::Reason;
use crate::crd::{CertificateStatus, ConditionType, EventAggregatorStatus};

/// How long before its end a certificate of others is reported. The operator renews its own long before.
const SOON: SignedDuration = SignedDuration::from_hours(7 * 24);

/// Adds the certificates to the status. The condition Ready stays true and gets another reason when a certificate of
/// others ends soon.
pub fn report(certificates: Option<&Certificates>, status: &mut EventAggregatorStatus, now: Timestamp) {
    status.certificates = certificates.map(|all| all.list.clone()).unwrap_or_default();
    let Some(certificates) = certificates else { return };
    let ends_soon = |one: &&CertificateStatus| {
        let is_given = certificates.given.iter().any(|component| component.as_str() == one.component);
        is_given && one.not_after.0.duration_since(now) < SOON
    };
    let soonest = certificates.list.iter().filter(ends_soon).min_by_key(|one| one.not_after.0);
    let Some(soonest) = soonest else { return };
    let ready = status.conditions.iter_mut().find(|condition| condition.type_ == ConditionType::Ready.as_str());
    if let Some(ready) = ready.filter(|ready| ready.status == "True") {
        Reason::CertificateExpiring.as_str().clone_into(&mut ready.reason);
        ready.message = format!(
            "all components are ready, but the certificate in the key tls.crt of Secret {} ends at {}",
            soonest.secret_name, soonest.not_after.0
        );
    }
}
