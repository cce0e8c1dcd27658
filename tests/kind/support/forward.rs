//! A port of a pod, reached through the API server: addresses of pods exist only inside the cluster.

use std::net::SocketAddr;

use k8s_openapi::api::core::v1::Pod;
use kube::{Api, Client};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// An address on this machine whose connections end in a pod of a given name, whichever pod that is
/// at the time; while there is none they are closed.
#[derive(Debug)]
pub struct Forward {
    address: SocketAddr,
    task: JoinHandle<()>,
}

impl Forward {
    /// Begins to listen.
    pub async fn start(client: &Client, namespace: &str, pod: &str, port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("its address");
        let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
        let task = tokio::spawn(accept(listener, pods, pod.to_owned(), port));
        Self { address, task }
    }

    /// Where it listens.
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

/// What goes wrong here the client sees as a connection that ends.
async fn join(mut connection: TcpStream, pods: Api<Pod>, pod: String, port: u16) {
    let _ = connection.set_nodelay(true);
    let Ok(mut forwarder) = pods.portforward(&pod, &[port]).await else { return };
    let Some(mut stream) = forwarder.take_stream(port) else { return };
    let refused = forwarder.take_error(port);
    // It also resolves, to nothing, when all is well and nobody will report anything any more.
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
