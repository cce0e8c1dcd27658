//! Decides which certificates of a resource stay and which are issued anew, by what its Secrets have and by the time.
//!
//! Clients must trust a CA before it signs, and as long as something that it has signed is in use. So `ca.crt` of every
//! Secret has all CAs that count, and a certificate that is due waits until the CA is known everywhere.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use rustls::pki_types::CertificateDer;

use super::issue::{self, BACKDATED, LEAF_LIFE, Pair};
use super::{Files, inspect};

/// How long after its issue a CA signs nothing that can wait. Nodes update mounted Secrets within about two minutes.
const KNOWN_AFTER: SignedDuration = SignedDuration::from_hours(1);
/// The most CAs that clients trust. There are more than two only if somebody deletes the Secret of the CA repeatedly.
const MAX_CAS: usize = 8;

/// What the Secrets of a resource have. What is damaged is issued anew.
#[derive(Debug, Clone, Default)]
pub struct Existing {
    /// The CA.
    pub ca: Option<Files>,
    /// The certificates, by component.
    pub leaves: BTreeMap<String, Files>,
}

/// A certificate that a resource needs.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// The component.
    pub component: String,
    /// The subject, for people.
    pub subject: String,
    /// Names of hosts and addresses.
    pub names: Vec<String>,
}

/// What the Secrets of a resource should have.
#[derive(Debug, Clone)]
pub struct Issued {
    /// The CA.
    pub ca: Files,
    /// The certificates, by component.
    pub leaves: BTreeMap<String, Files>,
}

/// A certificate of a CA.
struct Authority {
    der: CertificateDer<'static>,
    inspected: inspect::Inspected,
}

/// Returns what the Secrets of a resource should have. What can stay is the same as before.
///
/// # Errors
/// When a certificate cannot be issued.
pub fn renew(
    namespace: &str,
    name: &str,
    existing: &Existing,
    wanted: &[Wanted],
    now: Timestamp,
) -> Result<Issued, rcgen::Error> {
    let stays = existing.ca.as_ref().and_then(usable).filter(|(_, ca)| ca.is_ca && now < ca.renewal());
    let pair = match stays {
        Some((pair, _)) => pair,
        None => issue::authority(namespace, name, now)?,
    };
    let authorities = authorities(existing, &pair, now);
    let begun = authorities.first().map_or(now, |ca| ca.inspected.not_before);
    let is_known = now >= begun + BACKDATED + KNOWN_AFTER;
    let bundle: String = authorities.iter().map(|ca| in_pem(&ca.der)).collect();
    let mut leaves = BTreeMap::new();
    for wanted in wanted {
        let stays = existing.leaves.get(&wanted.component).and_then(usable).filter(|(_, leaf)| {
            let is_due = now >= leaf.renewal() && (is_known || now >= leaf.not_after - KNOWN_AFTER);
            let is_trusted = authorities.iter().any(|ca| ca.inspected.subject == leaf.issuer);
            is_trusted && !is_due && names_of(&leaf.names) == names_of(&wanted.names)
        });
        let leaf = match stays {
            Some((pair, _)) => pair,
            None => issue::leaf(&pair, &wanted.subject, &wanted.names, now)?,
        };
        leaves.insert(wanted.component.clone(), Files { cert: leaf.cert, key: leaf.key, ca: bundle.clone() });
    }
    Ok(Issued { ca: Files { cert: pair.cert, key: pair.key, ca: bundle }, leaves })
}

/// Returns the certificate and the key of a Secret, if they belong together.
fn usable(files: &Files) -> Option<(Pair, inspect::Inspected)> {
    let chain = inspect::certificates(files.cert.as_bytes()).ok()?;
    let inspected = inspect::inspect(chain.first()?).ok()?;
    inspect::is_pair(chain, inspect::private_key(files.key.as_bytes()).ok()?).ok()?;
    Some((Pair { cert: files.cert.clone(), key: files.key.clone() }, inspected))
}

/// Returns the CAs that clients must trust: the one that signs, which is the first, and former ones until nothing that
/// they have signed is valid. A Secret that was replaced is unknown here, so they stay at least for the life of what
/// they have signed.
fn authorities(existing: &Existing, signs: &Pair, now: Timestamp) -> Vec<Authority> {
    let mut all = parse(&signs.cert);
    all.truncate(1);
    let begun = all.first().map_or(now, |ca| ca.inspected.not_before);
    let issuers: Vec<_> =
        existing.leaves.values().filter_map(|leaf| inspect::first(leaf.cert.as_bytes()).ok()).collect();
    let former = match &existing.ca {
        Some(files) => vec![&files.cert, &files.ca],
        // Whoever deletes the Secret of the CA asks for another one. What the former one has signed stays valid.
        None => existing.leaves.values().map(|leaf| &leaf.ca).collect(),
    };
    let mut former: Vec<_> = former.into_iter().flat_map(|pem| parse(pem)).collect();
    former.sort_by_key(|ca| std::cmp::Reverse(ca.inspected.not_before));
    for ca in former {
        let signed = |leaf: &inspect::Inspected| leaf.issuer == ca.inspected.subject && now < leaf.not_after;
        let counts = now < begun + BACKDATED + LEAF_LIFE || issuers.iter().any(signed);
        let is_new = all.iter().all(|other| other.der != ca.der);
        if ca.inspected.is_ca && now < ca.inspected.not_after && counts && is_new && all.len() < MAX_CAS {
            all.push(ca);
        }
    }
    all
}

fn names_of(names: &[String]) -> BTreeSet<String> {
    names.iter().map(|name| name.to_ascii_lowercase()).collect()
}

/// Returns the certificates in a text that can be read.
fn parse(pem: &str) -> Vec<Authority> {
    let all = inspect::certificates(pem.as_bytes()).unwrap_or_default().into_iter();
    all.filter_map(|der| Some(Authority { inspected: inspect::inspect(&der).ok()?, der })).collect()
}

fn in_pem(der: &CertificateDer<'_>) -> String {
    // The format of what is issued, so that a bundle does not depend on where a certificate comes from.
    let config = pem::EncodeConfig::new().set_line_ending(pem::LineEnding::LF);
    pem::encode_config(&pem::Pem::new("CERTIFICATE", der.to_vec()), config)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAMES: [&str; 2] = ["shop-redis.shops.svc", "shop-redis"];

    fn start() -> Timestamp {
        "2026-01-01T00:00:00Z".parse().unwrap()
    }

    fn days(count: i64) -> SignedDuration {
        SignedDuration::from_hours(24 * count)
    }

    fn wanted(names: &[&str]) -> Vec<Wanted> {
        let names = names.iter().map(|name| (*name).to_owned()).collect();
        vec![Wanted { component: "redis".to_owned(), subject: "shop-redis".to_owned(), names }]
    }

    fn run(existing: &Existing, now: Timestamp) -> Issued {
        renew("shops", "shop", existing, &wanted(&NAMES), now).unwrap()
    }

    fn next(issued: &Issued) -> Existing {
        Existing { ca: Some(issued.ca.clone()), leaves: issued.leaves.clone() }
    }

    fn redis(issued: &Issued) -> &Files {
        &issued.leaves["redis"]
    }

    /// Whether a client that trusts these CAs accepts the server.
    fn accepts(ca: &str, server: &Files, name: &str, now: Timestamp) -> Result<(), String> {
        inspect::is_trusted(&inspect::certificates(server.cert.as_bytes()).unwrap(), ca.as_bytes(), name, now)
    }

    #[test]
    fn a_client_that_trusts_the_ca_accepts_the_certificate_for_its_names_and_time_alone() {
        let now = start();
        let issued = run(&Existing::default(), now);
        let redis = redis(&issued);
        for name in NAMES {
            assert_eq!(accepts(&redis.ca, redis, name, now), Ok(()), "{name}");
        }
        assert!(accepts(&redis.ca, redis, "shop-redis.other.svc", now).is_err());
        assert!(accepts(&redis.ca, redis, NAMES[0], now + days(91)).is_err());
        let other = run(&Existing::default(), now);
        assert!(accepts(&other.ca.ca, redis, NAMES[0], now).is_err(), "each resource has a CA of its own");
        assert!(
            inspect::is_pair(
                inspect::certificates(redis.cert.as_bytes()).unwrap(),
                inspect::private_key(redis.key.as_bytes()).unwrap()
            )
            .is_ok()
        );
    }

    #[test]
    fn what_is_good_stays_and_is_renewed_after_two_thirds_of_its_life() {
        let issued = run(&Existing::default(), start());
        let later = run(&next(&issued), start() + days(59));
        assert_eq!((&later.ca, &later.leaves), (&issued.ca, &issued.leaves));
        let renewed = run(&next(&issued), start() + days(61));
        assert_eq!(renewed.ca, issued.ca);
        assert_ne!(redis(&renewed).cert, redis(&issued).cert);
        assert_eq!(accepts(&redis(&issued).ca, redis(&renewed), NAMES[0], start() + days(61)), Ok(()));
    }

    #[test]
    fn what_is_missing_damaged_or_lacks_a_name_is_issued_anew() {
        let now = start() + days(1);
        let issued = run(&Existing::default(), start());
        let mut existing = next(&issued);
        existing.leaves.get_mut("redis").unwrap().key = run(&Existing::default(), now).leaves["redis"].key.clone();
        assert_ne!(redis(&run(&existing, now)).cert, redis(&issued).cert, "the key is that of another one");
        existing.leaves.get_mut("redis").unwrap().cert = "x".to_owned();
        assert_ne!(redis(&run(&existing, now)).cert, "x");
        existing.leaves.clear();
        let again = run(&existing, now);
        assert_eq!(again.ca, issued.ca);
        assert_ne!(redis(&again).cert, redis(&issued).cert);
        let more =
            renew("shops", "shop", &next(&issued), &wanted(&["shop-redis", "shop.example", "10.0.0.7"]), now).unwrap();
        assert_eq!(accepts(&more.ca.ca, redis(&more), "shop.example", now), Ok(()));
        assert_eq!(accepts(&more.ca.ca, redis(&more), "10.0.0.7", now), Ok(()));
        assert_eq!(
            redis(
                &renew("shops", "shop", &next(&more), &wanted(&["shop-redis", "shop.example", "10.0.0.7"]), now)
                    .unwrap()
            ),
            redis(&more)
        );
    }

    /// A former CA is trusted until nothing of it is valid, and what a new one signs is trusted before it is used.
    #[test]
    fn clients_trust_both_cas_while_certificates_of_both_are_used() {
        let mut now = start();
        let mut issued = run(&Existing::default(), now);
        let first = issued.ca.cert.clone();
        // It would take a long time to look at each day.
        while issued.ca.cert == first {
            now += days(20);
            let before = issued.clone();
            issued = run(&next(&before), now);
            assert_eq!(accepts(&before.ca.ca, redis(&issued), NAMES[0], now), Ok(()), "a client that is behind");
        }
        let age = now.duration_since(start());
        assert!(age > days(3650 * 2 / 3 - 2) && age < days(3650 * 2 / 3 + 21), "{age:?}");
        let changed = now;
        let mut last_of_former = now;
        while now < changed + days(120) {
            let before = issued.clone();
            issued = run(&next(&before), now);
            assert_eq!(accepts(&issued.ca.ca, redis(&before), NAMES[0], now), Ok(()), "a server that is a day behind");
            assert_eq!(accepts(&before.ca.ca, redis(&issued), NAMES[0], now), Ok(()), "a client that is a day behind");
            if issued.ca.ca.contains(&first) {
                last_of_former = now;
            }
            now += days(2);
        }
        assert_eq!(issued.ca.ca, issued.ca.cert, "the former CA is forgotten");
        let kept = last_of_former.duration_since(changed);
        assert!(kept > days(87) && kept < days(91), "{kept:?}");
    }

    #[test]
    fn a_certificate_that_is_due_waits_until_a_new_ca_is_known() {
        let issued = run(&Existing::default(), start());
        let due = start() + days(61);
        // Somebody deletes the Secret of the CA.
        let existing = Existing { ca: None, ..next(&issued) };
        let changed = run(&existing, due);
        assert_ne!(changed.ca.cert, issued.ca.cert);
        assert_eq!(redis(&changed).cert, redis(&issued).cert, "no client trusts the new CA yet");
        assert_eq!(accepts(&redis(&changed).ca, redis(&changed), NAMES[0], due), Ok(()), "both are trusted");
        let minutes = |count| SignedDuration::from_mins(count);
        assert_eq!(redis(&run(&next(&changed), due + minutes(59))).cert, redis(&issued).cert);
        let renewed = run(&next(&changed), due + minutes(61));
        assert_ne!(redis(&renewed).cert, redis(&issued).cert);
        assert_eq!(accepts(&redis(&changed).ca, redis(&renewed), NAMES[0], due + minutes(61)), Ok(()));
        // What ends before that does not wait.
        let end = start() + days(90) - minutes(30);
        assert_ne!(redis(&run(&existing, end)).cert, redis(&issued).cert);
    }

    #[test]
    fn the_bundle_is_bounded_however_often_a_ca_is_deleted() {
        let mut issued = run(&Existing::default(), start());
        for day in 0..20 {
            issued = run(&Existing { ca: None, leaves: issued.leaves }, start() + days(day));
        }
        assert_eq!(parse(&issued.ca.ca).len(), MAX_CAS);
        assert!(issued.ca.ca.starts_with(&issued.ca.cert));
    }
}
