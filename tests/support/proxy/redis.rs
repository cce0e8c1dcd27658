//! A proxy that recognises the Redis command that appends, and the response to it.

use std::collections::VecDeque;
use std::io;
use std::sync::Mutex;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

use super::{Cut, CutPlan, Faults, Gate, Protocol, Proxy, Taken};

/// The protocol of Redis. The proxy acts on each command that appends.
#[derive(Debug)]
pub enum Redis {}

/// A proxy before Redis.
pub type RedisProxy = Proxy<Redis>;

/// Responses arrive in the order of the commands, so a command and its response have the same number.
#[derive(Debug, Default)]
struct Order {
    commands: u64,
    /// The numbers of the appends that have no response yet.
    appends: VecDeque<u64>,
    /// An append was queued in a transaction, and its EXEC executes it.
    is_queued: bool,
    /// The append whose response must not be forwarded.
    cut: Option<(u64, Taken)>,
}

impl Order {
    /// Whether a command executes an append: the EXEC, if the append is in a transaction.
    fn appends(&mut self, command: &[u8]) -> bool {
        match &name(command)[..] {
            b"MULTI" => self.is_queued = false,
            b"XADD" => self.is_queued = true,
            b"EXEC" => return std::mem::take(&mut self.is_queued),
            // The script that appends. It is the only script of the publisher whose arguments are as large as an
            // entry.
            b"EVALSHA" | b"FCALL" => return command.len() > 250,
            _ => {}
        }
        false
    }
}

impl Protocol for Redis {
    async fn forward(client: TcpStream, server: TcpStream, faults: &Faults) -> io::Result<()> {
        let (from_client, to_client) = client.into_split();
        let (from_server, to_server) = server.into_split();
        let order = Mutex::new(Order::default());
        tokio::select! {
            end = relay_client(BufReader::new(from_client), to_server, &faults.cut_plan, &order) => end,
            end = relay_server(BufReader::new(from_server), to_client, &faults.gate, &order) => end,
        }
    }
}

async fn relay_client(
    mut client: BufReader<OwnedReadHalf>,
    mut server: OwnedWriteHalf,
    cut_plan: &CutPlan,
    order: &Mutex<Order>,
) -> io::Result<()> {
    loop {
        let command = frame(&mut client).await?;
        {
            let mut order = order.lock().expect("the lock");
            if order.appends(&command) {
                let number = order.commands;
                order.appends.push_back(number);
                // One cut ends the connection: a second append on it must not use up another cut.
                let cut = if order.cut.is_none() { cut_plan.take() } else { None };
                match cut {
                    Some(cut) if cut.side() == Cut::Before => {
                        cut.make();
                        return Ok(());
                    }
                    Some(cut) => order.cut = Some((number, cut)),
                    None => {}
                }
            }
            order.commands += 1;
        }
        server.write_all(&command).await?;
    }
}

async fn relay_server(
    mut server: BufReader<OwnedReadHalf>,
    mut client: OwnedWriteHalf,
    gate: &Gate,
    order: &Mutex<Order>,
) -> io::Result<()> {
    let mut number = 0;
    loop {
        let response = frame(&mut server).await?;
        if response[0] != b'>' {
            let is_done = is_append(number, &response, &mut order.lock().expect("the lock"));
            if is_done && !gate.pass(true).await {
                return Ok(());
            }
            let cut = order.lock().expect("the lock").cut.take_if(|(append, _)| *append == number);
            // An error is not an append: the cut is returned for another one.
            if let Some((_, cut)) = cut.filter(|_| response[0] != b'-') {
                cut.make();
                return Ok(());
            }
            number += 1;
        }
        client.write_all(&response).await?;
    }
}

/// Whether this response, with this number, confirms an append.
fn is_append(number: u64, response: &[u8], order: &mut Order) -> bool {
    let is_append = order.appends.front() == Some(&number);
    if is_append {
        order.appends.pop_front();
    }
    is_append && response[0] != b'-'
}

/// Returns the name of a command, in capitals.
fn name(command: &[u8]) -> Vec<u8> {
    command.splitn(4, |&b| b == b'\n').nth(2).unwrap_or_default().trim_ascii_end().to_ascii_uppercase()
}

/// Reads one complete RESP value, as its bytes.
async fn frame(from: &mut BufReader<OwnedReadHalf>) -> io::Result<Vec<u8>> {
    let mut out = Vec::new();
    let mut left = 1_u64;
    while left > 0 {
        left -= 1;
        let start = out.len();
        if from.read_until(b'\n', &mut out).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let line = String::from_utf8_lossy(&out[start + 1..]).trim_end().to_owned();
        let length = line.parse::<i64>().unwrap_or(-1).max(-1);
        match out[start] {
            b'$' | b'=' | b'!' if length >= 0 => {
                let end = out.len();
                out.resize(end + length as usize + 2, 0);
                from.read_exact(&mut out[end..]).await?;
            }
            b'*' | b'~' | b'>' if length > 0 => left += length as u64,
            b'%' if length > 0 => left += 2 * length as u64,
            b'|' if length > 0 => left += 2 * length as u64 + 1,
            _ => {}
        }
    }
    Ok(out)
}
