//! Authentication in the pods: the file of tokens, the CAs for the keys of the issuer, and the settings that name them. The
//! tokens are part of no hash: the programs read a changed file by themselves.

use k8s_openapi::api::core::v1::{Container, KeyToPath, SecretVolumeSource, Volume};

use super::pod;
use crate::contract::{TOKENS_FILE, env};
use crate::controller::plan::Plan;

const TOKENS: &str = "/etc/sluice-tokens";
const JWT_CA: &str = "/etc/sluice-jwt-ca";

/// Adds the volumes to the container of a program, with the settings, and returns them.
pub(super) fn of_program(plan: &Plan, container: &mut Container) -> Vec<Volume> {
    let Some(auth) = &plan.auth else { return Vec::new() };
    let mode = if plan.fixed_user_ids { 0o440 } else { 0o444 };
    let mut volumes = Vec::new();
    let mut mount = |name: &str, folder: &str, secret: &str, key: &str, file: &str| {
        let item = KeyToPath { key: key.to_owned(), path: file.to_owned(), mode: None };
        let source = SecretVolumeSource {
            secret_name: Some(secret.to_owned()),
            default_mode: Some(mode),
            items: Some(vec![item]),
            optional: None,
        };
        volumes.push(Volume { name: name.to_owned(), secret: Some(source), ..Volume::default() });
        let mut mount = pod::mount(name, folder);
        mount.read_only = Some(true);
        container.volume_mounts.get_or_insert_default().push(mount);
    };
    mount("tokens", TOKENS, &auth.secret, TOKENS_FILE, TOKENS_FILE);
    let mut variables = vec![pod::env(env::TOKENS, format!("{TOKENS}/{TOKENS_FILE}"))];
    if let Some((jwt, _)) = &auth.jwt {
        mount("jwt-ca", JWT_CA, &jwt.ca_secret.name, &jwt.ca_secret.key, "ca.crt");
        variables.extend([
            pod::env(env::JWT_ISSUER, jwt.issuer.clone()),
            pod::env(env::JWT_AUDIENCE, jwt.audience.clone()),
            pod::env(env::JWT_JWKS, jwt.jwks_url.clone()),
            pod::env(env::JWT_CA, format!("{JWT_CA}/ca.crt")),
        ]);
        variables.extend(jwt.scopes_claim.iter().map(|claim| pod::env(env::JWT_SCOPES_CLAIM, claim.clone())));
        variables.extend(jwt.topics_claim.iter().map(|claim| pod::env(env::JWT_TOPICS_CLAIM, claim.clone())));
    }
    let rates =
        [(env::REQUESTS_PER_SECOND, auth.requests_per_second), (env::EVENTS_PER_SECOND, auth.events_per_second)];
    variables.extend(rates.into_iter().filter_map(|(name, rate)| Some(pod::env(name, rate?.to_string()))));
    container.env.get_or_insert_default().extend(variables);
    volumes
}
