//! An issuer of JWTs: its keys, a server that publishes them, and the tokens that it signs.

use std::path::PathBuf;
use std::process::Command;
use std::sync::{Arc, LazyLock, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::SystemRandom;
use ring::rsa;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair, RSA_PKCS1_SHA256, RsaKeyPair,
};
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::{Value, json};
use sluice_tests::Setup;
use sluice_tests::certificates::Identity;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

/// What the programs are told to accept.
pub const ISSUER: &str = "https://issuer.example";
pub const AUDIENCE: &str = "sluice";

/// An RSA key in PKCS#8, made by openssl, because ring does not make any.
static RSA_KEY: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let arguments = ["pkcs8", "-topk8", "-nocrypt", "-outform", "DER"];
    let script = format!("openssl genrsa 2048 2>/dev/null | openssl {}", arguments.join(" "));
    let made = Command::new("sh").args(["-c", &script]).output().expect("sh");
    assert!(made.status.success(), "`make setup` says what to install: {}", String::from_utf8_lossy(&made.stderr));
    made.stdout
});

/// A pair of keys with its id.
pub struct Key {
    pub kid: String,
    pair: Pair,
}

enum Pair {
    Rs256(RsaKeyPair),
    Es256(EcdsaKeyPair),
    EdDsa(Ed25519KeyPair),
}

impl Key {
    pub fn rs256(kid: &str) -> Self {
        Self { kid: kid.to_owned(), pair: Pair::Rs256(RsaKeyPair::from_pkcs8(&RSA_KEY).expect("a key")) }
    }

    pub fn es256(kid: &str) -> Self {
        let random = SystemRandom::new();
        let key = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).expect("a key");
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, key.as_ref(), &random).expect("a key");
        Self { kid: kid.to_owned(), pair: Pair::Es256(pair) }
    }

    pub fn eddsa(kid: &str) -> Self {
        let key = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).expect("a key");
        Self { kid: kid.to_owned(), pair: Pair::EdDsa(Ed25519KeyPair::from_pkcs8(key.as_ref()).expect("a key")) }
    }

    pub fn algorithm(&self) -> &'static str {
        match &self.pair {
            Pair::Rs256(_) => "RS256",
            Pair::Es256(_) => "ES256",
            Pair::EdDsa(_) => "EdDSA",
        }
    }

    /// Returns the public key as the issuer publishes it.
    pub fn jwk(&self) -> Value {
        let kid = &self.kid;
        match &self.pair {
            Pair::Rs256(pair) => {
                let rsa::PublicKeyComponents { n, e } = rsa::PublicKeyComponents::<Vec<u8>>::from(pair.public());
                json!({"kty": "RSA", "kid": kid, "use": "sig", "alg": "RS256", "n": base64(n), "e": base64(e)})
            }
            Pair::Es256(pair) => {
                let (x, y) = pair.public_key().as_ref()[1..].split_at(32);
                json!({"kty": "EC", "crv": "P-256", "kid": kid, "use": "sig", "x": base64(x), "y": base64(y)})
            }
            Pair::EdDsa(pair) => json!({"kty": "OKP", "crv": "Ed25519", "kid": kid, "x": base64(pair.public_key())}),
        }
    }

    pub fn sign(&self, message: &[u8]) -> Vec<u8> {
        match &self.pair {
            Pair::Rs256(pair) => {
                let mut signature = vec![0; pair.public().modulus_len()];
                pair.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), message, &mut signature).expect("a signature");
                signature
            }
            Pair::Es256(pair) => pair.sign(&SystemRandom::new(), message).expect("a signature").as_ref().to_vec(),
            Pair::EdDsa(pair) => pair.sign(message).as_ref().to_vec(),
        }
    }

    pub fn header(&self) -> Value {
        json!({"typ": "JWT", "alg": self.algorithm(), "kid": self.kid})
    }

    /// Returns a token with these claims.
    pub fn token(&self, claims: &Value) -> String {
        self.token_with(&self.header(), claims)
    }

    /// Returns a token with another header.
    pub fn token_with(&self, header: &Value, claims: &Value) -> String {
        signed(header, claims, |message| self.sign(message))
    }
}

/// Returns a token that is signed by a function.
pub fn signed(header: &Value, claims: &Value, sign: impl FnOnce(&[u8]) -> Vec<u8>) -> String {
    let message = format!("{}.{}", base64(header.to_string()), base64(claims.to_string()));
    let signature = base64(sign(message.as_bytes()));
    format!("{message}.{signature}")
}

pub fn base64(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// Returns the time so many seconds from now.
pub fn in_seconds(seconds: i64) -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("a time after 1970").as_secs() as i64 + seconds
}

/// Returns claims that are accepted, of a subject with these scopes.
pub fn claims(sub: &str, scope: &str) -> Value {
    json!({"iss": ISSUER, "aud": AUDIENCE, "sub": sub, "scope": scope, "exp": in_seconds(3_600)})
}

/// Answers one request for the keys.
async fn answer(mut stream: impl AsyncRead + AsyncWrite + Unpin, state: &Mutex<State>) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") && stream.read_buf(&mut head).await.is_ok_and(|read| read > 0) {}
    let answer = {
        let mut state = state.lock().expect("the state");
        state.requests += 1;
        if state.is_away {
            "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".to_owned()
        } else {
            let body = json!({"keys": state.keys}).to_string();
            format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len())
        }
    };
    let _ = stream.write_all(answer.as_bytes()).await;
    let _ = stream.shutdown().await;
}

/// A server with the keys of the issuer.
pub struct Issuer {
    pub url: String,
    state: Arc<Mutex<State>>,
}

struct State {
    keys: Vec<Value>,
    is_away: bool,
    requests: u64,
}

impl Issuer {
    pub async fn start(keys: &[&Key]) -> Self {
        Self::serve(keys, None).await
    }

    /// Starts a server that speaks TLS with this certificate.
    pub async fn start_with_tls(keys: &[&Key], identity: &Identity) -> Self {
        let chain = CertificateDer::from_pem_file(&identity.cert).expect("a certificate");
        let key = PrivateKeyDer::from_pem_file(&identity.key).expect("a key");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let config = config.expect("versions").with_no_client_auth().with_single_cert(vec![chain], key);
        Self::serve(keys, Some(TlsAcceptor::from(Arc::new(config.expect("a certificate"))))).await
    }

    async fn serve(keys: &[&Key], tls: Option<TlsAcceptor>) -> Self {
        let state = State { keys: keys.iter().map(|key| key.jwk()).collect(), is_away: false, requests: 0 };
        let state = Arc::new(Mutex::new(state));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let scheme = if tls.is_some() { "https" } else { "http" };
        let url = format!("{scheme}://{}/keys", listener.local_addr().expect("an address"));
        let served = state.clone();
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.expect("a connection");
                match &tls {
                    None => answer(stream, &served).await,
                    Some(tls) => {
                        if let Ok(stream) = tls.accept(stream).await {
                            answer(stream, &served).await;
                        }
                    }
                }
            }
        });
        Self { url, state }
    }

    /// Publishes other keys.
    pub fn publish(&self, keys: &[&Key]) {
        self.state.lock().expect("the state").keys = keys.iter().map(|key| key.jwk()).collect();
    }

    /// Answers with errors, or no longer.
    pub fn is_away(&self, is_away: bool) {
        self.state.lock().expect("the state").is_away = is_away;
    }

    /// Returns how often the keys were asked for.
    pub fn requests(&self) -> u64 {
        self.state.lock().expect("the state").requests
    }
}

/// Has all programs of a system accept the JWTs of an issuer whose keys are at a URL or in a file.
pub fn accepting(setup: Setup, jwks: &str) -> Setup {
    setup.env("SLUICE_JWT_ISSUER", ISSUER).env("SLUICE_JWT_AUDIENCE", AUDIENCE).env("SLUICE_JWT_JWKS", jwks)
}

/// Writes a file of keys as a whole.
pub fn write_keys(path: &PathBuf, keys: &[&Key]) {
    let keys: Vec<_> = keys.iter().map(|key| key.jwk()).collect();
    let next = path.with_extension("next");
    std::fs::write(&next, json!({"keys": keys}).to_string()).expect("the next file");
    std::fs::rename(next, path).expect("the file");
}
