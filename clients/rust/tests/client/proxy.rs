//! A proxy before the server that loses requests and answers, holds them back, or answers itself.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// What happens to one request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// The server never gets it.
    LoseRequest,
    /// The server answers it, and the client does not get the answer.
    LoseAnswer,
    /// The client gets only the start of the answer.
    CutAnswer,
    /// The server answers it, and the client gets an answer that does not end soon.
    LongAnswer,
    /// The proxy answers with this status, and with this `Retry-After` if it is not empty.
    Answer(u16, &'static str),
}

/// A request that arrived.
#[derive(Debug, Clone)]
pub struct Seen {
    pub at: Instant,
    pub key: String,
    pub authorization: String,
    pub body: Vec<u8>,
}

impl Seen {
    pub fn events(&self) -> usize {
        self.body.iter().filter(|byte| **byte == b'\n').count()
    }

    /// Returns the id of its first event.
    pub fn first_id(&self) -> String {
        let first = self.body.split(|byte| *byte == b'\n').next().unwrap();
        let event: serde_json::Value = serde_json::from_slice(first).unwrap();
        event["event_id"].as_str().unwrap().to_owned()
    }
}

/// A running proxy.
pub struct Proxy {
    address: String,
    shared: Arc<Shared>,
}

struct Shared {
    server: String,
    faults: Mutex<VecDeque<Fault>>,
    seen: Mutex<Vec<Seen>>,
    /// How many requests may pass in total; those beyond wait.
    passes: watch::Sender<u64>,
    held: watch::Sender<u64>,
}

impl Proxy {
    /// Starts a proxy before the server at this address. All requests pass.
    pub async fn start(server: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let shared = Arc::new(Shared {
            server: server.to_owned(),
            faults: Mutex::default(),
            seen: Mutex::default(),
            passes: watch::Sender::new(u64::MAX),
            held: watch::Sender::new(0),
        });
        tokio::spawn(accept(listener, shared.clone()));
        Self { address, shared }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Does this to the next requests.
    pub fn next(&self, faults: &[Fault]) {
        self.shared.faults.lock().unwrap().extend(faults.iter().cloned());
    }

    /// Lets only so many more requests pass; the others are held back.
    pub fn pass_only(&self, requests: u64) {
        self.shared.passes.send_replace(requests);
    }

    /// Lets all requests pass.
    pub fn pass_all(&self) {
        self.pass_only(u64::MAX);
    }

    /// Returns the number of requests that are held back now.
    pub fn held(&self) -> u64 {
        *self.shared.held.borrow()
    }

    /// Returns the requests that arrived, in their order.
    pub fn seen(&self) -> Vec<Seen> {
        self.shared.seen.lock().unwrap().clone()
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    while let Ok((client, _)) = listener.accept().await {
        let shared = shared.clone();
        // The end of either side ends the connection. The reason does not matter here.
        tokio::spawn(async move {
            let _ = serve(client, &shared).await;
        });
    }
}

async fn serve(client: TcpStream, shared: &Shared) -> io::Result<()> {
    client.set_nodelay(true)?;
    let mut client = BufReader::new(client);
    loop {
        let (head, body) = message(&mut client).await?;
        let value = |name| header(&head, name).unwrap_or_default();
        let (key, authorization) = (value("idempotency-key"), value("authorization"));
        shared.seen.lock().unwrap().push(Seen { at: Instant::now(), key, authorization, body: body.clone() });
        shared.pass().await;
        let fault = shared.faults.lock().unwrap().pop_front();
        if fault == Some(Fault::LoseRequest) {
            return Ok(());
        }
        if let Some(Fault::Answer(status, retry_after)) = fault {
            let retry_after =
                if retry_after.is_empty() { String::new() } else { format!("retry-after: {retry_after}\r\n") };
            let body = r#"{"code":"of_the_proxy","detail":"as the test wants it"}"#;
            let answer = format!("HTTP/1.1 {status} S\r\n{retry_after}content-length: {}\r\n\r\n{body}", body.len());
            client.write_all(answer.as_bytes()).await?;
            continue;
        }
        let mut server = BufReader::new(TcpStream::connect(&shared.server).await?);
        server.write_all(&[head.as_bytes(), &body].concat()).await?;
        let (head, body) = message(&mut server).await?;
        let answer = [head.as_bytes(), &body].concat();
        match fault {
            Some(Fault::LoseAnswer) => return Ok(()),
            Some(Fault::LongAnswer) => {
                client.write_all(b"HTTP/1.1 202 Accepted\r\ncontent-length: 1000000000\r\n\r\n").await?;
                loop {
                    client.write_all(&[b' '; 4096]).await?;
                }
            }
            Some(Fault::CutAnswer) => return client.write_all(&answer[..answer.len() - 1]).await,
            _ => client.write_all(&answer).await?,
        }
    }
}

impl Shared {
    async fn pass(&self) {
        let mut passes = self.passes.subscribe();
        self.held.send_modify(|held| *held += 1);
        let take = |left: &mut u64| {
            let may_pass = *left > 0;
            *left = if *left == u64::MAX { *left } else { left.saturating_sub(1) };
            may_pass
        };
        loop {
            let mut may_pass = false;
            self.passes.send_if_modified(|left| {
                may_pass = take(left);
                false
            });
            if may_pass {
                break;
            }
            let _ = passes.changed().await;
        }
        self.held.send_modify(|held| *held -= 1);
    }
}

/// Reads a request or an answer: its head, and its body.
async fn message(from: &mut BufReader<TcpStream>) -> io::Result<(String, Vec<u8>)> {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if from.read_line(&mut head).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    let length = header(&head, "content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
    let mut body = vec![0; length];
    from.read_exact(&mut body).await?;
    Ok((head, body))
}

fn header(head: &str, name: &str) -> Option<String> {
    let mut lines = head.lines().filter_map(|line| line.split_once(':'));
    lines.find(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim().to_owned())
}
