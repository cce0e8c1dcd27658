//! What all commands use: the client of the API server, the namespace, and the deadline of a request.

use std::future::Future;

use anyhow::Context as _;
use kube::api::{ApiResource, DynamicObject};
use kube::config::{KubeConfigOptions, Kubeconfig, KubeconfigError};
use kube::{Api, Client, Config, Resource};
use sluice_operator::controller::build::names::Names;
use sluice_operator::crd::EventAggregator;

use crate::global::Global;
use crate::outcome::Late;

/// A command's view of the cluster.
pub struct Context {
    /// The options.
    pub global: Global,
    /// The client; `None` where the programs are reached by their URL and there is no kubeconfig.
    client: anyhow::Result<Client>,
    /// The namespace of the resource.
    pub namespace: String,
}

impl Context {
    /// Reads the kubeconfig that the options name.
    pub async fn new(global: Global) -> Self {
        match configuration(&global).await {
            Ok(config) => {
                let namespace = global.namespace.clone().unwrap_or_else(|| config.default_namespace.clone());
                let client = Client::try_from(config).context("the kubeconfig cannot be used");
                Self { global, client, namespace }
            }
            Err(error) => {
                let namespace = global.namespace.clone().unwrap_or_else(|| "default".to_owned());
                Self { global, client: Err(error), namespace }
            }
        }
    }

    /// Returns the view of a client that exists already.
    pub fn with(global: Global, client: Client) -> Self {
        let namespace = global.namespace.clone().unwrap_or_else(|| client.default_namespace().to_owned());
        Self { global, client: Ok(client), namespace }
    }

    /// Returns the client of the API server.
    ///
    /// # Errors
    /// If the kubeconfig cannot be read.
    pub fn client(&self) -> anyhow::Result<Client> {
        match &self.client {
            Ok(client) => Ok(client.clone()),
            Err(error) => Err(anyhow::anyhow!("{error:#}")),
        }
    }

    /// Returns the names of the objects of a resource.
    pub fn names(&self, name: &str) -> Names {
        Names { name: name.to_owned(), namespace: self.namespace.clone() }
    }

    /// Returns the API of objects in the namespace.
    ///
    /// # Errors
    /// If the kubeconfig cannot be read.
    pub fn api<K>(&self) -> anyhow::Result<Api<K>>
    where
        K: Resource<Scope = kube::core::NamespaceResourceScope>,
        K::DynamicType: Default,
    {
        Ok(Api::namespaced(self.client()?, &self.namespace))
    }

    /// Returns the API of the resources in the namespace. They are read without types, so that the plugin also shows
    /// one that another version wrote.
    ///
    /// # Errors
    /// If the kubeconfig cannot be read.
    pub fn resources(&self) -> anyhow::Result<Api<DynamicObject>> {
        Ok(Api::namespaced_with(self.client()?, &self.namespace, &kind()))
    }

    /// Returns the API of the resources in all namespaces.
    ///
    /// # Errors
    /// If the kubeconfig cannot be read.
    pub fn all_resources(&self) -> anyhow::Result<Api<DynamicObject>> {
        Ok(Api::all_with(self.client()?, &kind()))
    }

    /// Waits for an answer of the API server.
    ///
    /// # Errors
    /// Those of the answer, and [`Late`] after `--request-timeout`.
    pub async fn answer<T>(&self, what: &str, answer: impl Future<Output = kube::Result<T>>) -> anyhow::Result<T> {
        match tokio::time::timeout(self.global.request_timeout, answer).await {
            Ok(answer) => answer.map_err(explained).with_context(|| what.to_owned()),
            Err(_) => {
                let within = self.global.request_timeout;
                Err(Late(format!("{what}: the API server did not answer within {within:?}")).into())
            }
        }
    }
}

/// Returns the kind of the resources.
fn kind() -> ApiResource {
    ApiResource::erase::<EventAggregator>(&())
}

/// Returns an error of the API server in the words of `kubectl`.
fn explained(error: kube::Error) -> anyhow::Error {
    match error {
        kube::Error::Api(status) if !status.message.is_empty() => {
            anyhow::anyhow!("{} ({}, {})", status.message, status.reason, status.code)
        }
        error => anyhow::Error::new(error),
    }
}

async fn configuration(global: &Global) -> anyhow::Result<Config> {
    let options = KubeConfigOptions {
        context: global.context.clone(),
        cluster: global.cluster.clone(),
        user: global.user.clone(),
    };
    let kubeconfig = match &global.kubeconfig {
        Some(file) => Some(Kubeconfig::read_from(file).with_context(|| format!("--kubeconfig: {}", file.display()))?),
        None => match Kubeconfig::read() {
            Ok(kubeconfig) => Some(kubeconfig),
            // A file that is not there: within a pod, the service account is used.
            Err(KubeconfigError::ReadConfig(error, _)) if error.kind() == std::io::ErrorKind::NotFound => None,
            Err(KubeconfigError::FindPath) => None,
            Err(error) => return Err(error).context("the kubeconfig cannot be used"),
        },
    };
    let mut config = match kubeconfig {
        Some(kubeconfig) => Config::from_custom_kubeconfig(kubeconfig, &options).await?,
        None => Config::incluster()
            .map_err(|_| anyhow::anyhow!("there is no kubeconfig: set KUBECONFIG or --kubeconfig"))?,
    };
    if let Some(user) = &global.impersonate {
        config.auth_info.impersonate = Some(user.clone());
        config.auth_info.impersonate_groups =
            Some(global.impersonate_groups.clone()).filter(|groups| !groups.is_empty());
    }
    Ok(config)
}
