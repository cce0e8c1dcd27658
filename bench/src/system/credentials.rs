//! What a client sends to be known to a publisher, and the options with which the publisher accepts it.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, anyhow, ensure};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::SystemRandom;
use ring::signature::{Ed25519KeyPair, KeyPair};
use serde_json::json;
use sluice_tests::program;

use crate::load::events::TOPICS;

const ISSUER: &str = "https://issuer.example";
const AUDIENCE: &str = "sluice";

/// A credential of one client, which may publish to the topics of the load and to no others: each topic of a request is
/// compared with them.
#[derive(Debug)]
pub struct Credential {
    /// The options of the publisher.
    pub options: Vec<String>,
    /// The value of the header `Authorization`.
    pub authorization: String,
}

impl Credential {
    /// Makes a token with the publisher's own command, and the file of tokens in a folder.
    ///
    /// # Errors
    /// If the command fails, or the file cannot be written.
    pub fn token(dir: &Path) -> anyhow::Result<Self> {
        let topics = TOPICS.iter().flat_map(|topic| ["--topic", topic]);
        let made = Command::new(program::find("sluice-publisher"))
            .args(["token", "--name", "bench", "--scope", "publish"])
            .args(topics)
            .output()
            .context("cannot start sluice-publisher")?;
        ensure!(made.status.success(), "no token: {}", String::from_utf8_lossy(&made.stderr));
        let made = String::from_utf8(made.stdout)?;
        let (token, item) = made.split_once('\n').context("no item for the file of tokens")?;
        let file = dir.join("tokens.yaml");
        fs::write(&file, item)?;
        Ok(Self {
            options: vec!["--tokens".to_owned(), file.display().to_string()],
            authorization: format!("Bearer {token}"),
        })
    }

    /// Makes a JWT that is signed with Ed25519, and the file with the public key in a folder.
    ///
    /// # Errors
    /// If there are no random numbers, or the file cannot be written.
    pub fn jwt(dir: &Path) -> anyhow::Result<Self> {
        let pair = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).map_err(|_| anyhow!("no random numbers"))?;
        let pair = Ed25519KeyPair::from_pkcs8(pair.as_ref()).map_err(|error| anyhow!("{error}"))?;
        let expires = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs() + 24 * 3600;
        let header = json!({"typ": "JWT", "alg": "EdDSA", "kid": "bench"});
        let claims = json!({
            "iss": ISSUER, "aud": AUDIENCE, "sub": "bench", "scope": "publish", "topics": TOPICS, "exp": expires,
        });
        let message = format!("{}.{}", base64(header.to_string()), base64(claims.to_string()));
        let signature = base64(pair.sign(message.as_bytes()));
        let key = json!({"kty": "OKP", "crv": "Ed25519", "kid": "bench", "x": base64(pair.public_key())});
        let file = dir.join("keys.json");
        fs::write(&file, json!({"keys": [key]}).to_string())?;
        let file = file.display().to_string();
        let options = ["--jwt-issuer", ISSUER, "--jwt-audience", AUDIENCE, "--jwt-jwks", &file];
        Ok(Self {
            options: options.map(str::to_owned).to_vec(),
            authorization: format!("Bearer {message}.{signature}"),
        })
    }
}

fn base64(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}
