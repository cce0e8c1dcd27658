//! How much memory clients can take that send or read little. Every byte that a program allocates is written to, so
//! that its resident memory is all that it allocated, and not the pages alone that it has used so far.

use std::fs;
use std::time::Duration;

use rustix::process::{Resource, getrlimit, setrlimit};
use sluice_tests::certificates::{client_config, ours};
use sluice_tests::raw::{self, Raw};
use sluice_tests::wait::holds;
use sluice_tests::{Backend, Setup, System, wait_until};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

on_both_backends!(
    a_connection_that_sends_nothing_takes_little_memory,
    a_tls_connection_without_a_request_takes_no_buffers,
);

const PATIENCE: Duration = Duration::from_secs(120);
const KIB: u64 = 1 << 10;

/// Returns a system whose programs write to what they allocate and what they free.
async fn start(backend: Backend) -> System {
    Setup::new(backend).env("GLIBC_TUNABLES", "glibc.malloc.perturb=165").start().await
}

/// Returns this number of a process, in bytes.
fn memory(process: u32, field: &str) -> u64 {
    let path = format!("/proc/{process}/status");
    let status = fs::read_to_string(path).expect("the program runs");
    let line = status.lines().find_map(|line| line.strip_prefix(field)).expect("a field of /proc/PID/status");
    line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") * KIB
}

fn open_files(process: u32) -> usize {
    let path = format!("/proc/{process}/fd");
    fs::read_dir(path).expect("the program runs").count()
}

fn raise_limit() {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, rustix::process::Rlimit { current: limit.maximum, ..limit }).expect("more open files");
}

async fn a_connection_that_sends_nothing_takes_little_memory(backend: Backend) {
    const CONNECTIONS: usize = 2_000;
    raise_limit();
    let mut system = start(backend).await;
    let (address, process) = (system.ingest().address(), system.ingest().process().id());
    let (before, files) = (memory(process, "VmRSS:"), open_files(process));
    let mut idle = Vec::new();
    for _ in 0..CONNECTIONS {
        idle.push(TcpStream::connect(&address).await.expect("a connection"));
    }
    wait_until("all connections are accepted", PATIENCE, || async {
        let open = open_files(process);
        // Those of the test that were open before may have been closed meanwhile.
        holds(open + 10 >= files + CONNECTIONS, || format!("{open} open files"))
    })
    .await;
    // This request passes after they were registered.
    system.client.get("/healthz").await.assert_status(200);
    let each = memory(process, "VmRSS:").saturating_sub(before) / CONNECTIONS as u64;
    assert!(each < 8 * KIB, "{each} bytes for each connection");
    drop(idle);
}

async fn a_tls_connection_without_a_request_takes_no_buffers(backend: Backend) {
    const CONNECTIONS: usize = 2_000;
    raise_limit();
    let setup = Setup::new(backend).over_tls().await;
    let mut system = setup.env("GLIBC_TUNABLES", "glibc.malloc.perturb=165").start().await;
    let (address, process) = (system.ingest().address(), system.ingest().process().id());
    system.client.get("/healthz").await.assert_status(200);
    let config = client_config(Some(ours().authority.ca()), Some(&ours().client));
    let before = memory(process, "VmRSS:");
    let mut idle = Vec::new();
    for _ in 0..CONNECTIONS {
        let stream = TcpStream::connect(&address).await.expect("a connection");
        idle.push(raw::handshake(stream, config.clone()).await.expect("a handshake"));
    }
    // The handshake has ended for the server, too, when it has sent what this test does not read.
    system.client.get("/healthz").await.assert_status(200);
    let each = memory(process, "VmRSS:").saturating_sub(before) / CONNECTIONS as u64;
    println!("{each} bytes for each of {CONNECTIONS} TLS connections without a request");
    // With the buffers of hyper and of a record it would be 12 KiB more.
    assert!(each < 16 * KIB, "{each} bytes for each connection");
    drop(idle);
}

/// Asks for a large page, reads the beginning of the answer, and then nothing.
async fn begin_to_read(base: &str) -> Box<dyn Raw> {
    let (scheme, address) = base.split_once("://").expect("a URL");
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.set_recv_buffer_size(4096).expect("a small buffer");
    let socket = socket.connect(address.parse().expect("an address")).await.expect("a connection");
    let mut socket = raw::over(scheme, socket).await;
    let request = "GET /events?limit=1000 HTTP/1.1\r\nHost: sluice\r\n\r\n";
    socket.write_all(request.as_bytes()).await.expect("the server reads");
    socket.flush().await.expect("the server reads");
    let mut status = [0; 12];
    socket.read_exact(&mut status).await.expect("an answer");
    assert_eq!(&status, b"HTTP/1.1 200");
    socket
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_page_that_nobody_reads_takes_little_memory_of_the_publisher() {
    const READERS: u64 = 30;
    let mut system = start(Backend::RedisPostgres).await;
    // Ten MiB: more than the buffers of the kernel hold.
    let payload = "a".repeat(200 << 10);
    for id in 0..50 {
        let event = serde_json::json!({"topic": "large", "event_id": id.to_string(), "payload": payload});
        assert_eq!(system.client.publish(&event).await, 1);
    }
    system.wait_until_stored(50).await;
    let (base, process) = (system.base(), system.ingest().process().id());
    let before = memory(process, "VmHWM:");
    let mut readers = Vec::new();
    for _ in 0..READERS {
        readers.push(begin_to_read(&base).await);
    }
    // Until it no longer grows: each connection is full.
    let mut last = 0;
    for _ in 0..20 {
        tokio::time::sleep(Duration::from_millis(500)).await;
        let now = memory(process, "VmHWM:");
        if now == last {
            break;
        }
        last = now;
    }
    let each = last.saturating_sub(before) / READERS;
    // Two sessions of TLS, with the client and with the aggregator, each keep a record of 16 KiB in each direction.
    let sessions = if base.starts_with("https://") { 64 * KIB } else { 0 };
    assert!(each < 320 * KIB + sessions, "{each} bytes for each reader");
}
