//! What the operator needs to connect to the programs of resources with TLS: the CAs, which a reconcile knows, for the
//! observer.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore, crypto};
use sluice_service::client_tls;

use crate::controller::build::names::Names;

/// The CAs of the resources that speak TLS.
#[derive(Default)]
pub struct Trust(Mutex<HashMap<Key, Trusted>>);

/// Namespace and name of a resource.
pub type Key = (String, String);

struct Trusted {
    ca: Vec<u8>,
    client: reqwest::Client,
}

impl Trust {
    /// Remembers the CAs of a resource, in PEM.
    ///
    /// # Errors
    /// When the CAs cannot be read.
    pub fn set(&self, names: &Names, ca: &[u8], deadline: Duration) -> Result<(), String> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // The client of the same CAs has open connections.
        if all.get(&key(names)).is_none_or(|trusted| trusted.ca != ca) {
            all.insert(key(names), Trusted { ca: ca.to_vec(), client: client(ca, deadline)? });
        }
        Ok(())
    }

    /// Forgets a resource, which speaks no TLS.
    pub fn unset(&self, names: &Names) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&key(names));
    }

    /// Forgets these resources, which were deleted.
    pub fn forget<'a>(&self, resources: impl Iterator<Item = &'a Key>) {
        let gone: HashSet<_> = resources.collect();
        self.0.lock().unwrap_or_else(PoisonError::into_inner).retain(|key, _| !gone.contains(key));
    }

    /// Returns the client for the programs of a resource; `None` if they speak no TLS, as far as is known.
    pub fn client(&self, names: &Names) -> Option<reqwest::Client> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.get(&key(names)).map(|trusted| trusted.client.clone())
    }
}

/// Returns the namespace and name of a resource.
pub fn key(names: &Names) -> Key {
    (names.namespace.clone(), names.name.clone())
}

fn client(ca: &[u8], deadline: Duration) -> Result<reqwest::Client, String> {
    let mut roots = RootCertStore::empty();
    for ca in CertificateDer::pem_slice_iter(ca) {
        roots.add(ca.map_err(|error| error.to_string())?).map_err(|error| error.to_string())?;
    }
    let config = ClientConfig::builder_with_provider(Arc::new(crypto::ring::default_provider()));
    let config = config.with_safe_default_protocol_versions().map_err(|error| error.to_string())?;
    let config = config.with_root_certificates(roots).with_no_client_auth();
    client_tls::client(config).timeout(deadline).build().map_err(|error| error.to_string())
}
