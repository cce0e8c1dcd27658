//! TLS in the pods: their certificates and the CAs that they trust, as files, and the settings that name them.
//!
//! Certificates are not part of any hash: a renewed one replaces no pods. The programs read the files again by
//! themselves, and the start scripts tell the servers to.

use k8s_openapi::api::core::v1::{Container, EnvVar, KeyToPath, SecretVolumeSource, Service, ServicePort, Volume};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::names::Component;
use super::{pod, set};
use crate::certificates::{CA, CERT, KEY};
use crate::contract::{METRICS_PORT, env};
use crate::controller::plan::{Backend, ExternalPlan, Plan};

/// Directories of files, each the mount of a volume. They are not below that of the ConfigMap, which is read-only.
const DIRECTORY: &str = "/etc/sluice-tls";
/// The volume with the certificate of a program or server.
const SERVER: &str = "server";
/// The volume with the certificate that publishers show to aggregators.
const CLIENT: &str = "client";
/// The name of the volumes for the endpoint of spans.
const COLLECTOR: &str = "collector";
/// The variables of the CAs, the certificate and the key for PostgreSQL.
const POSTGRES_VARIABLES: [&str; 3] = ["PGSSLROOTCERT", "PGSSLCERT", "PGSSLKEY"];
/// Name of the port of metrics and probes.
const METRICS: &str = "metrics";

/// Adds the volumes of a program to its container, with the settings that name their files, and returns them.
pub(super) fn of_program(plan: &Plan, component: Component, container: &mut Container) -> Vec<Volume> {
    let mut files = Files { plan, volumes: Vec::new(), container };
    if plan.has_metrics_port() {
        files.set(env::METRICS_LISTEN, format!("[::]:{METRICS_PORT}"));
        files.container.ports.get_or_insert_default().push(pod::port(METRICS, METRICS_PORT));
    }
    if let Some(tls) = &plan.tls {
        files.server(component);
        files.set(env::TLS_CERT, path(SERVER, CERT));
        files.set(env::TLS_KEY, path(SERVER, KEY));
        files.set(env::REQUIRE_TLS, "true".to_owned());
        if let (Some(aggregator), Some(client)) =
            (tls.secrets.get(&Component::Aggregator), tls.secrets.get(&Component::Client))
        {
            files.of_queries(component, aggregator, client);
        }
    }
    files.of_backend(Component::Redis, &plan.redis, [env::REDIS_CA, env::REDIS_CERT, env::REDIS_KEY]);
    if component == Component::Aggregator {
        files.of_backend(Component::Postgres, &plan.postgres, POSTGRES_VARIABLES);
    }
    if let Some(tracing) = &plan.tracing {
        let variables = [env::OTLP_CA, env::OTLP_CERT, env::OTLP_KEY];
        files.of_others(COLLECTOR, tracing.ca.as_ref(), tracing.cert.as_deref(), variables);
    }
    files.volumes
}

/// Adds the volume of a server to its container, and returns it, if the resource has TLS.
pub(super) fn of_server(plan: &Plan, component: Component, container: &mut Container) -> Vec<Volume> {
    let mut files = Files { plan, volumes: Vec::new(), container };
    files.server(component);
    files.volumes
}

/// Lets the container of our program and that of the programs of PostgreSQL connect to a managed PostgreSQL with TLS.
/// Returns the volume that both mount.
pub(super) fn of_backup(plan: &Plan, ours: &mut Container, theirs: &mut Container) -> Vec<Volume> {
    of_upgrade(plan, theirs);
    let mut files = Files { plan, volumes: Vec::new(), container: ours };
    files.of_backend(Component::Postgres, &plan.postgres, POSTGRES_VARIABLES);
    files.volumes
}

/// Lets a container of the programs of PostgreSQL connect to a managed PostgreSQL with TLS. Returns the volume that it
/// mounts.
pub(super) fn of_upgrade(plan: &Plan, theirs: &mut Container) -> Vec<Volume> {
    let mut files = Files { plan, volumes: Vec::new(), container: theirs };
    files.of_backend(Component::Postgres, &plan.postgres, POSTGRES_VARIABLES);
    if plan.tls.is_some() {
        files.set("PGSSLMODE", "verify-full".to_owned());
        files.set("PGSSLROOTCERT", path("postgres-ca", CA));
    }
    files.volumes
}

/// Returns the parameters with which programs connect to a managed PostgreSQL.
pub(super) fn postgres_parameters() -> String {
    format!("?sslmode=verify-full&sslrootcert={}", path("postgres-ca", CA))
}

/// Returns the scheme of the URLs of programs.
pub(super) fn scheme(plan: &Plan) -> &'static str {
    if plan.tls.is_some() { "https" } else { "http" }
}

/// Returns the port that probes ask.
pub(super) fn probed_port(plan: &Plan) -> &'static str {
    if plan.has_metrics_port() { METRICS } else { "http" }
}

/// Says in the Service of a program that it speaks TLS. Its port has the same name with TLS and without, so that pods of
/// before stay reachable until they are replaced.
pub(super) fn with_protocol(plan: &Plan, mut service: Service) -> Service {
    if plan.tls.is_some() {
        let ports = service.spec.as_mut().and_then(|spec| spec.ports.as_mut());
        for port in ports.into_iter().flatten() {
            port.app_protocol = Some("https".to_owned());
        }
    }
    service
}

/// Adds the port of metrics to the Service of a program that only the cluster can reach.
pub(super) fn with_metrics(plan: &Plan, service: Service) -> Service {
    let mut service = with_protocol(plan, service);
    if plan.has_metrics_port() {
        let ports = service.spec.get_or_insert_default().ports.get_or_insert_default();
        ports.push(ServicePort {
            name: Some(METRICS.to_owned()),
            port: METRICS_PORT,
            target_port: Some(IntOrString::String(METRICS.to_owned())),
            protocol: Some("TCP".to_owned()),
            ..ServicePort::default()
        });
    }
    service
}

/// Returns the Service of the publishers' metrics. It is not that of clients, which can be open to the world.
pub(super) fn metrics_service(plan: &Plan) -> Option<Service> {
    if !plan.has_metrics_port() {
        return None;
    }
    let mut service = set::service(plan, Component::Publisher, METRICS, METRICS_PORT);
    service.metadata.name = Some(plan.names.publisher_metrics());
    Some(service)
}

/// The files of a container.
struct Files<'a> {
    plan: &'a Plan,
    volumes: Vec<Volume>,
    container: &'a mut Container,
}

impl Files<'_> {
    fn server(&mut self, component: Component) {
        let secret = self.plan.tls.as_ref().and_then(|tls| tls.secrets.get(&component));
        if let Some(secret) = secret {
            self.mount(SERVER, secret, &[(CERT, CERT), (KEY, KEY)]);
        }
    }

    /// Adds the CAs that are trusted for a server.
    fn ca(&mut self, server: &str, secret: &str, key: &str) {
        self.mount(&format!("{server}-ca"), secret, &[(key, CA)]);
    }

    /// Adds what publishers and aggregators need for the queries that publishers forward: each trusts the other's CA.
    fn of_queries(&mut self, component: Component, aggregator: &str, client: &str) {
        if component == Component::Publisher {
            self.ca("aggregator", aggregator, CA);
            self.set(env::QUERY_CA, path("aggregator-ca", CA));
            self.mount(CLIENT, client, &[(CERT, CERT), (KEY, KEY)]);
            self.set(env::QUERY_CERT, path(CLIENT, CERT));
            self.set(env::QUERY_KEY, path(CLIENT, KEY));
        } else {
            self.ca(CLIENT, client, CA);
            self.set(env::TLS_CLIENT_CA, path("client-ca", CA));
        }
    }

    /// Adds what is needed to connect to Redis or PostgreSQL. `variables` are those of the CAs, the certificate and the
    /// key of an external one. The URL of a managed PostgreSQL names the file.
    fn of_backend<T, C>(&mut self, component: Component, backend: &Backend<T, C>, variables: [&str; 3]) {
        let name = component.as_str();
        let [ca_variable, ..] = variables;
        match backend {
            Backend::Managed(_) => {
                let plan = self.plan;
                let Some(secret) = plan.tls.as_ref().and_then(|tls| tls.secrets.get(&component)) else { return };
                self.ca(name, secret, CA);
                if component == Component::Redis {
                    self.set(ca_variable, path("redis-ca", CA));
                }
            }
            // The URL names the file here too. CloudNativePG renews its certificates itself.
            Backend::Cluster(_) => {
                let secret = self.plan.names.cluster_authority();
                self.ca(name, &secret, CA);
            }
            Backend::External(ExternalPlan { ca, cert, .. }) => {
                self.of_others(name, ca.as_ref(), cert.as_deref(), variables);
            }
        }
    }

    /// Adds what is needed to connect to a server of others: the CAs that are trusted, and the certificate of the pods.
    /// `variables` are those of the CAs, the certificate and the key.
    fn of_others(&mut self, name: &str, ca: Option<&(String, String)>, cert: Option<&str>, variables: [&str; 3]) {
        let [ca_variable, cert_variable, key_variable] = variables;
        if let Some((secret, key)) = ca {
            self.ca(name, secret, key);
            self.set(ca_variable, path(&format!("{name}-ca"), CA));
        }
        if let Some(secret) = cert {
            let volume = format!("{name}-cert");
            self.mount(&volume, secret, &[(CERT, CERT), (KEY, KEY)]);
            self.set(cert_variable, path(&volume, CERT));
            self.set(key_variable, path(&volume, KEY));
        }
    }

    /// Mounts keys of a Secret as files, each `(key, file)`.
    fn mount(&mut self, name: &str, secret: &str, keys: &[(&str, &str)]) {
        // Where the pod has a group, the files belong to it. Where the cluster may assign none, only root and everybody
        // are left, and nobody else is in the container.
        let mode = if self.plan.fixed_user_ids { 0o440 } else { 0o444 };
        let items = keys.iter().map(|(key, path)| KeyToPath { key: (*key).into(), path: (*path).into(), mode: None });
        let source = SecretVolumeSource {
            secret_name: Some(secret.to_owned()),
            default_mode: Some(mode),
            items: Some(items.collect()),
            optional: None,
        };
        let volume = format!("tls-{name}");
        self.volumes.push(Volume { name: volume.clone(), secret: Some(source), ..Volume::default() });
        let mut mount = pod::mount(&volume, &format!("{DIRECTORY}/{name}"));
        mount.read_only = Some(true);
        self.container.volume_mounts.get_or_insert_default().push(mount);
    }

    fn set(&mut self, variable: &str, value: String) {
        let variables: &mut Vec<EnvVar> = self.container.env.get_or_insert_default();
        variables.push(pod::env(variable, value));
    }
}

fn path(volume: &str, file: &str) -> String {
    format!("{DIRECTORY}/{volume}/{file}")
}
