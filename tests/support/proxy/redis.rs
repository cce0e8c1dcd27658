//! A proxy that knows which Redis command appends, and which answer is its answer.

use std::io;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};

use super::{Cut, Scissors};

/// A running proxy.
#[derive(Debug)]
pub struct RedisProxy {
    address: String,
    scissors: Scissors,
}

impl RedisProxy {
    /// Forwards to the server at `server`, and cuts nothing until it is armed.
    pub async fn start(server: &str, cut: Cut) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port for the proxy");
        let address = listener.local_addr().expect("its address").to_string();
        let scissors = Scissors::new(cut);
        tokio::spawn(accept(listener, server.to_owned(), scissors.clone()));
        Self { address, scissors }
    }

    /// Where clients connect.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Cuts at the next so many appends.
    pub fn arm(&self, times: u64) {
        self.scissors.arm(times);
    }

    /// How often it has cut.
    pub fn cuts(&self) -> u64 {
        self.scissors.done()
    }
}

async fn accept(listener: TcpListener, server: String, scissors: Scissors) {
    while let Ok((client, _)) = listener.accept().await {
        let (server, scissors) = (server.clone(), scissors.clone());
        tokio::spawn(async move {
            // Either side's end ends the connection; why does not matter here.
            let _ = serve(client, &server, scissors).await;
        });
    }
}

/// Answers come in the order of the commands, so a command's number is its answer's.
#[derive(Debug, Default)]
struct Order {
    commands: u64,
    swallow: Option<u64>,
}

async fn serve(client: TcpStream, server: &str, scissors: Scissors) -> io::Result<()> {
    let server = TcpStream::connect(server).await?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let order = Arc::new(Mutex::new(Order::default()));
    tokio::select! {
        end = relay_client(BufReader::new(from_client), to_server, &scissors, &order) => end,
        end = relay_server(BufReader::new(from_server), to_client, &scissors, &order) => end,
    }
}

async fn relay_client(
    mut client: BufReader<OwnedReadHalf>,
    mut server: OwnedWriteHalf,
    scissors: &Scissors,
    order: &Mutex<Order>,
) -> io::Result<()> {
    loop {
        let command = frame(&mut client).await?;
        {
            let mut order = order.lock().expect("the lock");
            // One cut ends the connection: a second append on it must not use up another.
            if order.swallow.is_none() && appends(&command) {
                match scissors.take() {
                    Some(Cut::Before) => {
                        scissors.cut_once();
                        return Ok(());
                    }
                    Some(Cut::After) => order.swallow = Some(order.commands),
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
    scissors: &Scissors,
    order: &Mutex<Order>,
) -> io::Result<()> {
    let mut answers = 0;
    loop {
        let answer = frame(&mut server).await?;
        if answer[0] != b'>' {
            if order.lock().expect("the lock").swallow == Some(answers) {
                scissors.cut_once();
                return Ok(());
            }
            answers += 1;
        }
        client.write_all(&answer).await?;
    }
}

/// Whether a command appends an entry: XADD itself, or the script that does it, which alone of
/// the publisher's scripts carries as much as an entry.
fn appends(command: &[u8]) -> bool {
    let name = command.splitn(4, |&b| b == b'\n').nth(2).unwrap_or_default().trim_ascii_end().to_ascii_uppercase();
    match &name[..] {
        b"XADD" => true,
        b"EVALSHA" | b"FCALL" => command.len() > 250,
        _ => false,
    }
}

/// One whole RESP value, as its bytes.
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
