//! Forwards a local port to a pod through the API server, because the addresses of pods are reachable only
//! inside the cluster.

use std::net::SocketAddr;

use k8s_openapi::api::core::v1::Pod;
use kube::{Api, Client};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// A local address whose connections are forwarded to the pod that has a given name at the time of the
/// connection. While there is no such pod, connections are closed.
#[derive(Debug)]
pub struct Forward {
    address: SocketAddr,
    task: JoinHandle<()>,
}

impl Forward {
    /// Starts to listen, on a free port.
    pub async fn start(client: &Client, namespace: &str, pod: &str, port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("its address");
        let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
        let task = tokio::spawn(accept(listener, pods, pod.to_owned(), port));
        Self { address, task }
    }

    /// Returns the local address.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Forward {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept(listener: TcpListener, pods: Api<Pod>, pod: String, port: u16) {
    while let Ok((connection, _)) = listener.accept().await {
        tokio::spawn(join(connection, pods.clone(), pod.clone(), port));
    }
}

/// Forwards one connection. After an error the client sees only that the connection is closed.
async fn join(mut connection: TcpStream, pods: Api<Pod>, pod: String, port: u16) {
    let _ = connection.set_nodelay(true);
    let Ok(mut forwarder) = pods.portforward(&pod, &[port]).await else { return };
    let Some(mut stream) = forwarder.take_stream(port) else { return };
    let refused = forwarder.take_error(port);
    // This future also completes, with `None`, when there was no error and none can follow.
    let refused = async {
        let reported = match refused {
            Some(error) => error.await,
            None => None,
        };
        if reported.is_none() {
            std::future::pending::<()>().await;
        }
    };
    tokio::select! {
        _ = copy_bidirectional(&mut connection, &mut stream) => {}
        () = refused => {}
    }
    forwarder.abort();
}
