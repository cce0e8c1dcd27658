//! Tests the scripts that start the servers with TLS: a renewed certificate is used without a restart, and a pair that
//! does not match is not. Redis is the real one, and PostgreSQL a stand-in that records its signals.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};
use std::{fs, thread};

use k8s_openapi::api::core::v1::Secret;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore};
use support::tls::{certificate, value};

/// Much longer than the five seconds after which the scripts look at the files again.
const SOON: Duration = Duration::from_secs(40);
/// Three looks of a script.
const LOOKS: Duration = Duration::from_secs(16);

struct Pod {
    folder: PathBuf,
    child: Option<Child>,
}

impl Pod {
    /// Creates a folder with the files of a pod, and puts it in the place of the paths of the script.
    fn new(name: &str, script: &str) -> Self {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("tls-{name}-{}", std::process::id()));
        for sub in ["server", "config", "run", "bin"] {
            fs::create_dir_all(folder.join(sub)).unwrap();
        }
        let text = script
            .replace("/etc/sluice-tls/server", folder.join("server").to_str().unwrap())
            .replace("/etc/sluice/", &format!("{}/", folder.join("config").display()))
            .replace("/var/run/postgresql", folder.join("run").to_str().unwrap());
        fs::write(folder.join("config/start.sh"), text).unwrap();
        Self { folder, child: None }
    }

    fn program(&self, name: &str, text: &str) {
        let path = self.folder.join("bin").join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    fn start(&mut self, variables: &[(&str, String)]) {
        let path = format!("{}:{}", self.folder.join("bin").display(), std::env::var("PATH").unwrap());
        // Under nohup SIGHUP is ignored, and a shell cannot trap what was ignored when it began.
        let mut command = Command::new("env");
        command
            .args(["--default-signal=HUP", "sh"])
            .arg(self.folder.join("config/start.sh"))
            .env("PATH", path)
            .envs(variables.iter().cloned());
        let log = fs::File::create(self.folder.join("log")).unwrap();
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        self.child = Some(command.spawn().unwrap());
    }

    fn put(&self, secret: &Secret, keys: &[&str]) {
        for key in keys {
            fs::write(self.folder.join("server").join(key), value(secret, key)).unwrap();
        }
    }

    fn read(&self, file: &str) -> String {
        fs::read_to_string(self.folder.join(file)).unwrap_or_default()
    }

    /// Sends SIGTERM, and returns the exit code.
    fn stop(&mut self) -> Option<i32> {
        let mut child = self.child.take().unwrap();
        assert!(Command::new("kill").arg(child.id().to_string()).status().unwrap().success());
        let code = soon("the script ends", || child.try_wait().unwrap());
        code.code()
    }
}

impl Drop for Pod {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = Command::new("kill").arg(child.id().to_string()).status();
            let _ = child.wait();
        }
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// Waits until `check` returns a value, and returns it.
fn soon<T>(what: &str, mut check: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + SOON;
    loop {
        if let Some(found) = check() {
            return found;
        }
        assert!(Instant::now() < end, "{what}: not within {SOON:?}");
        thread::sleep(Duration::from_millis(50));
    }
}

/// Whether a server presents a certificate to a client that trusts its CA alone.
fn presents(port: u16, secret: &Secret) -> bool {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(&value(secret, "ca.crt")).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = config.with_root_certificates(roots).with_no_client_auth();
    let Ok(mut socket) = TcpStream::connect((Ipv4Addr::LOCALHOST, port)) else { return false };
    socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    let mut client = ClientConnection::new(Arc::new(config), ServerName::try_from("localhost").unwrap()).unwrap();
    while client.is_handshaking() {
        if client.complete_io(&mut socket).is_err() {
            return false;
        }
    }
    let own = CertificateDer::from_pem_slice(&value(secret, "tls.crt")).unwrap();
    client.peer_certificates().is_some_and(|chain| chain[0] == own)
}

#[test]
fn redis_uses_a_renewed_certificate_without_a_restart_and_serves_no_plain_port() {
    let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
    // The script asks the port of the pod.
    let script =
        include_str!("../src/controller/build/redis-tls.sh").replace("redis-cli ", &format!("redis-cli -p {port} "));
    let mut pod = Pod::new("redis", &script);
    let built = support::objects("sealed.yaml");
    let map = built.config_maps.iter().find_map(|map| map.data.as_ref()?.get("redis.conf")).unwrap();
    let config = map
        .replace("/etc/sluice-tls/server", pod.folder.join("server").to_str().unwrap())
        .replace("tls-port 6379", &format!("tls-port {port}"))
        .replace("dir /data", &format!("dir {}", pod.folder.display()));
    assert!(config.contains("\nport 0\n"), "{config}");
    fs::write(pod.folder.join("config/redis.conf"), config).unwrap();
    let [first, second, third] = ["a", "b", "c"].map(|name| certificate("x", name, &["localhost"]));
    pod.put(&first, &["tls.crt", "tls.key"]);
    let password = "secret".to_owned();
    pod.start(&[("REDIS_PASSWORD", password.clone()), ("REDISCLI_AUTH", password)]);
    soon("the server presents its certificate", || presents(port, &first).then_some(()));
    let ping = |arguments: &[&str]| {
        let mut command = Command::new("redis-cli");
        command.args(["-p", &port.to_string()]).args(arguments).arg("ping").env("REDISCLI_AUTH", "secret");
        String::from_utf8_lossy(&command.output().unwrap().stdout).trim().to_owned()
    };
    assert_eq!(ping(&["--tls", "--insecure"]), "PONG");
    assert_ne!(ping(&[]), "PONG", "it speaks TLS alone");

    pod.put(&second, &["tls.crt", "tls.key"]);
    soon("the renewed certificate", || presents(port, &second).then_some(()));
    // Half of a pair is refused, and the former one is used on.
    pod.put(&third, &["tls.key"]);
    thread::sleep(LOOKS);
    assert!(presents(port, &second), "{}", pod.read("log"));
    pod.put(&third, &["tls.crt"]);
    soon("the next certificate", || presents(port, &third).then_some(()));
    assert_eq!(pod.stop(), Some(0), "{}", pod.read("log"));
}

/// Serves until SIGTERM, and records SIGHUP.
const POSTGRES: &str = r#"#!/bin/sh
case "$1" in
  --version) echo "postgres (PostgreSQL) 17.4"; exit ;;
  --single) cat >/dev/null; exit ;;
esac
trap 'cat "$COPIES/tls.crt" "$COPIES/tls.key" >"$LOADED"' HUP
trap 'echo stopped >"$STOPPED"; exit 3' TERM
cat "$COPIES/tls.crt" "$COPIES/tls.key" >"$LOADED"
while :; do sleep 0.1; done
"#;

#[test]
fn postgres_gets_private_copies_of_its_certificate_and_is_told_of_a_renewed_one() {
    let built = support::objects("sealed.yaml");
    let maps = built.config_maps.iter().filter_map(|map| map.data.as_ref());
    let data = maps.clone().find(|data| data.contains_key("postgresql.conf")).unwrap();
    assert!(data["pg_hba.conf"].lines().all(|line| !line.starts_with("host ")), "no plain connection");
    assert!(!data["start.sh"].contains("exec postgres -D"), "the script has another end");
    let mut pod = Pod::new("postgres", &data["start.sh"]);
    pod.program("postgres", POSTGRES);
    fs::create_dir_all(pod.folder.join("pgdata")).unwrap();
    fs::write(pod.folder.join("pgdata/PG_VERSION"), "17").unwrap();
    let [first, second, third] = ["a", "b", "c"].map(|name| certificate("x", name, &["localhost"]));
    pod.put(&first, &["tls.crt", "tls.key"]);
    let path = |name: &str| pod.folder.join(name).to_str().unwrap().to_owned();
    let variables = [
        ("PGDATA", path("pgdata")),
        ("POSTGRES_MAJOR", "17".to_owned()),
        ("POSTGRES_PASSWORD", "secret".to_owned()),
        ("COPIES", path("run/tls")),
        ("LOADED", path("loaded")),
        ("STOPPED", path("stopped")),
    ];
    pod.start(&variables);
    let text =
        |secret: &Secret| [value(secret, "tls.crt"), value(secret, "tls.key")].map(|v| String::from_utf8(v).unwrap());
    let loaded = |pod: &Pod, secret: &Secret| pod.read("loaded") == text(secret).concat();
    soon("the server loads its certificate", || loaded(&pod, &first).then_some(()));
    let mode = fs::metadata(pod.folder.join("run/tls/tls.key")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600, "PostgreSQL refuses a key that others can read");
    pod.put(&second, &["tls.crt", "tls.key"]);
    soon("the renewed certificate", || loaded(&pod, &second).then_some(()));
    pod.put(&third, &["tls.crt", "tls.key"]);
    soon("the next certificate", || loaded(&pod, &third).then_some(()));
    assert_eq!(pod.stop(), Some(3), "the exit code is that of the server");
    assert_eq!(pod.read("stopped"), "stopped\n", "the server was told to stop, and did");
}
