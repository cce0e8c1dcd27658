//! What the operator needs to connect to the programs of resources with TLS: the CAs and its certificate, which a
//! reconcile knows, for the observer.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore, crypto};
use sluice_service::client_tls;

use crate::controller::build::names::Names;

/// The clients for the resources that speak TLS.
#[derive(Default)]
pub struct Trust(Mutex<HashMap<Key, (Trusted, reqwest::Client)>>);

/// Namespace and name of a resource.
pub type Key = (String, String);

/// With what the operator connects to the aggregators of a resource, in PEM.
#[derive(Clone, PartialEq, Eq)]
pub struct Trusted {
    /// The CAs that have signed the certificate of the aggregators.
    pub ca: Vec<u8>,
    /// The certificate that the operator shows.
    pub cert: Vec<u8>,
    /// Its private key.
    pub key: Vec<u8>,
}

impl std::fmt::Debug for Trusted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The key is a secret.
        f.debug_struct("Trusted").finish_non_exhaustive()
    }
}

impl Trust {
    /// Remembers the certificates of a resource.
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn set(&self, names: &Names, trusted: &Trusted, deadline: Duration) -> Result<(), String> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // The client with the same certificates has open connections.
        if all.get(&key(names)).is_none_or(|(known, _)| known != trusted) {
            all.insert(key(names), (trusted.clone(), client(trusted, deadline)?));
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
        all.get(&key(names)).map(|(_, client)| client.clone())
    }
}

/// Returns the namespace and name of a resource.
pub fn key(names: &Names) -> Key {
    (names.namespace.clone(), names.name.clone())
}

fn client(trusted: &Trusted, deadline: Duration) -> Result<reqwest::Client, String> {
    let mut roots = RootCertStore::empty();
    for ca in CertificateDer::pem_slice_iter(&trusted.ca) {
        roots.add(ca.map_err(|error| error.to_string())?).map_err(|error| error.to_string())?;
    }
    let config = ClientConfig::builder_with_provider(Arc::new(crypto::ring::default_provider()));
    let config = config.with_safe_default_protocol_versions().map_err(|error| error.to_string())?;
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&trusted.cert).collect();
    let private = PrivateKeyDer::from_pem_slice(&trusted.key).map_err(|error| error.to_string())?;
    let config = config
        .with_root_certificates(roots)
        .with_client_auth_cert(chain.map_err(|error| error.to_string())?, private)
        .map_err(|error| error.to_string())?;
    client_tls::client(config).timeout(deadline).build().map_err(|error| error.to_string())
}
