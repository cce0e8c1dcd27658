//! The Secrets to which a resource refers.

use std::collections::BTreeSet;

use super::spec::EventAggregatorSpec;

impl EventAggregatorSpec {
    /// Returns the names of the Secrets of others that the operator reads.
    pub fn secret_names(&self) -> BTreeSet<&str> {
        let externals = [&self.redis.external, &self.postgres.external].into_iter().flatten();
        let of_externals = externals.flat_map(|external| {
            let ca = external.ca_secret.as_ref().map(|secret| &secret.name);
            let cert = external.cert_secret.as_ref().map(|secret| &secret.name);
            [Some(&external.secret_ref.name), ca, cert]
        });
        let backup = self.postgres.managed.backup.as_ref().map(|backup| &backup.to);
        let from = self.restore_from.as_ref().map(|restore| &restore.from);
        let buckets = backup.into_iter().chain(from).filter_map(|place| place.s3.as_ref());
        let of_buckets = buckets.map(|s3| Some(&s3.credentials_secret));
        let sentinel = [self.redis.sentinel.as_ref().map(|sentinel| &sentinel.secret_name)];
        let tokens = self.auth.as_ref().and_then(|auth| auth.tokens.as_ref()).map(|secret| &secret.name);
        let jwt = self.auth.as_ref().and_then(|auth| auth.jwt.as_ref()).map(|jwt| &jwt.ca_secret.name);
        let of_tracing = self.tracing.iter().flat_map(|tracing| {
            let headers = tracing.headers_secret.as_ref().map(|secret| &secret.name);
            let ca = tracing.ca_secret.as_ref().map(|secret| &secret.name);
            [headers, ca, tracing.cert_secret.as_ref().map(|secret| &secret.name)]
        });
        let tls = &self.tls.secrets;
        let of_tls = [&tls.publisher, &tls.aggregator, &tls.client, &tls.redis, &tls.postgres].map(Option::as_ref);
        of_externals
            .chain(of_buckets)
            .chain(sentinel)
            .chain([tokens, jwt])
            .chain(of_tracing)
            .chain(of_tls)
            .flatten()
            .map(String::as_str)
            .collect()
    }
}
