//! A proxy that recognises the Redis command that appends, and the response to it.

use std::collections::VecDeque;
use std::io;
use std::sync::Mutex;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};

use super::{Cut, CutPlan, Gate, Taken};

/// A running proxy.
#[derive(Debug)]
pub struct RedisProxy {
    address: String,
    cut_plan: CutPlan,
    gate: Gate,
}

impl RedisProxy {
    /// Forwards to the server at `server`. It cuts nothing until it is armed, and holds nothing back until it is
    /// told to.
    pub async fn start(server: &str, cut: Cut) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port for the proxy");
        let address = listener.local_addr().expect("its address").to_string();
        let (cut_plan, gate) = (CutPlan::new(cut), Gate::new());
        tokio::spawn(accept(listener, server.to_owned(), cut_plan.clone(), gate.clone()));
        Self { address, cut_plan, gate }
    }

    /// Returns the address to which clients connect.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Cuts at the next so many appends.
    pub fn arm(&self, times: u64) {
        self.cut_plan.arm(times);
    }

    /// Returns the number of cuts made.
    pub fn cuts(&self) -> u64 {
        self.cut_plan.done()
    }

    /// From now on no client receives the response to an append.
    pub fn hold_answers(&self) {
        self.gate.close();
    }

    /// Returns the number of connections with an append that is done and whose response is held back.
    pub fn kept(&self) -> u64 {
        self.gate.kept()
    }

    /// Ends the connections whose responses are held back, so that these are lost, and holds no further ones.
    pub fn lose_answers(&self) {
        self.gate.lose();
    }
}

async fn accept(listener: TcpListener, server: String, cut_plan: CutPlan, gate: Gate) {
    while let Ok((client, _)) = listener.accept().await {
        let (server, cut_plan, gate) = (server.clone(), cut_plan.clone(), gate.clone());
        tokio::spawn(async move {
            // The end of either side ends the connection. The reason does not matter here.
            let _ = serve(client, &server, &cut_plan, &gate).await;
        });
    }
}

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

async fn serve(client: TcpStream, server: &str, cut_plan: &CutPlan, gate: &Gate) -> io::Result<()> {
    let server = TcpStream::connect(server).await?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let order = Mutex::new(Order::default());
    tokio::select! {
        end = relay_client(BufReader::new(from_client), to_server, cut_plan, &order) => end,
        end = relay_server(BufReader::new(from_server), to_client, gate, &order) => end,
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
    let mut answers = 0;
    loop {
        let answer = frame(&mut server).await?;
        if answer[0] != b'>' {
            let is_done = is_append(answers, &answer, &mut order.lock().expect("the lock"));
            if is_done && !gate.pass(true).await {
                return Ok(());
            }
            let cut = order.lock().expect("the lock").cut.take_if(|(number, _)| *number == answers);
            // An error is not an append: the cut is returned for another one.
            if let Some((_, cut)) = cut.filter(|_| answer[0] != b'-') {
                cut.make();
                return Ok(());
            }
            answers += 1;
        }
        client.write_all(&answer).await?;
    }
}

/// Whether this response, with this number, confirms an append.
fn is_append(number: u64, answer: &[u8], order: &mut Order) -> bool {
    let is_append = order.appends.front() == Some(&number);
    if is_append {
        order.appends.pop_front();
    }
    is_append && answer[0] != b'-'
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
