//! A network that fails, whatever the protocol: connections are refused, silent, slow, or reset.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// The most bytes that are forwarded at once, and that a slow network delays at once.
const CHUNK: usize = 16 * 1024;

/// The state of a network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Network {
    /// Everything is forwarded.
    Open,
    /// Connections stay open, and nothing is forwarded in either direction (a black hole).
    Silent,
    /// Connections stay open, and only what clients send is forwarded: servers do the work, and nobody learns it.
    Mute,
    /// Each chunk arrives so much later.
    Slow(Duration),
    /// Connections end, and new ones end at once.
    Refused,
}

/// The path between clients and one server. Its state can change at any moment.
#[derive(Debug)]
pub struct Link {
    address: String,
    state: watch::Sender<State>,
}

#[derive(Debug, Clone, Copy)]
struct State {
    network: Network,
    /// Counts the moments at which every connection ended.
    resets: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Direction {
    ToServer,
    ToClient,
}

impl Link {
    /// Forwards to the server at `server`, over an open network.
    pub async fn start(server: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port for the link");
        let address = listener.local_addr().expect("its address").to_string();
        let state = watch::Sender::new(State { network: Network::Open, resets: 0 });
        tokio::spawn(accept(listener, server.to_owned(), state.subscribe()));
        Self { address, state }
    }

    /// Returns the address to which clients connect.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Changes the state of the network. What a silent or mute network held back is forwarded once it is open.
    pub fn set(&self, network: Network) {
        self.state.send_modify(|state| {
            state.network = network;
            state.resets += u64::from(network == Network::Refused);
        });
    }

    /// Ends all connections. What was held back is lost.
    pub fn reset(&self) {
        self.state.send_modify(|state| state.resets += 1);
    }
}

async fn accept(listener: TcpListener, server: String, state: watch::Receiver<State>) {
    while let Ok((client, _)) = listener.accept().await {
        if state.borrow().network != Network::Refused {
            let (server, state) = (server.clone(), state.clone());
            tokio::spawn(async move {
                // The end of either side ends the connection. The reason does not matter here.
                let _ = connect(client, &server, state).await;
            });
        }
    }
}

async fn connect(client: TcpStream, server: &str, mut state: watch::Receiver<State>) -> io::Result<()> {
    let resets = state.borrow().resets;
    let server = TcpStream::connect(server).await?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    tokio::select! {
        end = forward(from_client, to_server, Direction::ToServer, state.clone()) => end,
        end = forward(from_server, to_client, Direction::ToClient, state.clone()) => end,
        _ = state.wait_for(|state| state.resets != resets) => Ok(()),
    }
}

async fn forward(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    direction: Direction,
    mut state: watch::Receiver<State>,
) -> io::Result<()> {
    let mut chunk = vec![0; CHUNK];
    loop {
        let length = from.read(&mut chunk).await?;
        let is_passable = |state: &State| match state.network {
            Network::Silent => false,
            Network::Mute => direction == Direction::ToServer,
            _ => true,
        };
        let Ok(network) = state.wait_for(is_passable).await.map(|state| state.network) else { return Ok(()) };
        if let Network::Slow(delay) = network {
            tokio::time::sleep(delay).await;
        }
        if length == 0 {
            return Ok(());
        }
        to.write_all(&chunk[..length]).await?;
    }
}
