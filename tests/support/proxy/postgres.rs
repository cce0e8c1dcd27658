//! A proxy that recognises in the Postgres protocol where a transaction commits.

use std::io;
use std::sync::Mutex;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

use super::{Cut, CutPlan, Faults, Protocol, Proxy, Taken};

/// A transaction whose client sent less than this since the last COMMIT carried no batch.
const BATCH_BYTES: usize = 1_000;
/// The first message of a connection may ask for encryption instead of starting.
const ENCRYPTION_REQUESTS: [u32; 2] = [80_877_103, 80_877_104];

/// The protocol of PostgreSQL. The proxy acts on each COMMIT of a transaction that carried a batch.
#[derive(Debug)]
pub enum Postgres {}

/// A proxy before PostgreSQL.
pub type PostgresProxy = Proxy<Postgres>;

impl PostgresProxy {
    /// Forwards nothing more from the client, and keeps both connections open, once the server waits for the data of
    /// the next so many COPY statements. So the server sees a client that is frozen or cut off.
    pub fn stall_copies(&self, times: u64) {
        self.faults.stalls.arm(times);
    }

    /// Returns the number of COPY statements that were stalled.
    pub fn stalled(&self) -> u64 {
        self.faults.stalls.done()
    }
}

/// The state that both sides of a connection share.
#[derive(Debug, Default)]
struct Commit {
    /// Nothing more is forwarded from the client.
    is_stalled: bool,
    /// Its transaction carried a batch.
    has_batch: bool,
    /// Its response must not be forwarded.
    cut: Option<Taken>,
}

impl Protocol for Postgres {
    async fn forward(client: TcpStream, server: TcpStream, faults: &Faults) -> io::Result<()> {
        let (mut from_client, mut to_client) = client.into_split();
        let (mut from_server, mut to_server) = server.into_split();
        start_up(&mut from_client, &mut to_client, &mut from_server, &mut to_server).await?;
        let commit = Mutex::new(Commit::default());
        tokio::select! {
            end = relay_client(from_client, to_server, &faults.cut_plan, &commit) => end,
            end = relay_server(from_server, to_client, faults, &commit) => end,
        }
    }
}

/// The messages before the first typed one.
async fn start_up(
    from_client: &mut OwnedReadHalf,
    to_client: &mut OwnedWriteHalf,
    from_server: &mut OwnedReadHalf,
    to_server: &mut OwnedWriteHalf,
) -> io::Result<()> {
    loop {
        let length = from_client.read_u32().await?;
        let mut message = vec![0; (length as usize).saturating_sub(4)];
        from_client.read_exact(&mut message).await?;
        to_server.write_u32(length).await?;
        to_server.write_all(&message).await?;
        let code = message.first_chunk().map(|bytes| u32::from_be_bytes(*bytes));
        if !code.is_some_and(|code| ENCRYPTION_REQUESTS.contains(&code)) {
            return Ok(());
        }
        to_client.write_u8(from_server.read_u8().await?).await?;
    }
}

/// Forwards from client to server, message by message.
async fn relay_client(
    mut client: OwnedReadHalf,
    mut server: OwnedWriteHalf,
    cut_plan: &CutPlan,
    commit: &Mutex<Commit>,
) -> io::Result<()> {
    let mut since_commit = 0;
    loop {
        let (kind, message) = read(&mut client).await?;
        since_commit += message.len();
        if commits(kind, &message) {
            let has_batch = since_commit > BATCH_BYTES;
            since_commit = 0;
            let cut = if has_batch { cut_plan.take() } else { None };
            match cut {
                Some(cut) if cut.side() == Cut::Before => {
                    cut.make();
                    return Ok(());
                }
                cut => *commit.lock().expect("the lock") = Commit { has_batch, cut, is_stalled: false },
            }
        }
        if commit.lock().expect("the lock").is_stalled {
            std::future::pending::<()>().await;
        }
        write(&mut server, kind, &message).await?;
    }
}

/// Forwards from server to client, message by message, up to the response that must be lost.
async fn relay_server(
    mut server: OwnedReadHalf,
    mut client: OwnedWriteHalf,
    faults: &Faults,
    commit: &Mutex<Commit>,
) -> io::Result<()> {
    loop {
        let (kind, message) = read(&mut server).await?;
        if kind == b'C' && message.starts_with(b"COMMIT") {
            let Commit { has_batch, cut, .. } = std::mem::take(&mut *commit.lock().expect("the lock"));
            if let Some(cut) = cut {
                cut.make();
                return Ok(());
            }
            if !faults.gate.pass(has_batch).await {
                return Ok(());
            }
        } else if kind == b'G' {
            if let Some(stall) = faults.stalls.take() {
                stall.make();
                commit.lock().expect("the lock").is_stalled = true;
            }
        } else if kind == b'E' {
            // Nothing is committed: the cut is returned for another transaction.
            drop(commit.lock().expect("the lock").cut.take());
        }
        write(&mut client, kind, &message).await?;
    }
}

/// Whether a message of the client ends with a COMMIT, as a simple query or as the Parse of a statement.
fn commits(kind: u8, message: &[u8]) -> bool {
    let text = match kind {
        b'Q' => message.split(|&b| b == 0).next().unwrap_or_default(),
        // Parse consists of the statement's name, a zero byte, and the text.
        b'P' => message.split(|&b| b == 0).nth(1).unwrap_or_default(),
        _ => return false,
    };
    text.trim_ascii_end().last_chunk::<6>().is_some_and(|end| end.eq_ignore_ascii_case(b"COMMIT"))
}

async fn read(from: &mut OwnedReadHalf) -> io::Result<(u8, Vec<u8>)> {
    let kind = from.read_u8().await?;
    let length = from.read_u32().await?;
    let mut message = vec![0; (length as usize).saturating_sub(4)];
    from.read_exact(&mut message).await?;
    Ok((kind, message))
}

async fn write(to: &mut OwnedWriteHalf, kind: u8, message: &[u8]) -> io::Result<()> {
    let mut out = Vec::with_capacity(5 + message.len());
    out.push(kind);
    out.extend_from_slice(&(message.len() as u32 + 4).to_be_bytes());
    out.extend_from_slice(message);
    to.write_all(&out).await
}
