//! An S3 server of our own: moto's, which `scripts/moto` installs.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use crate::process::Process;
use crate::wait::wait_blocking;
use crate::{dirs, ports};

/// An S3 server with an empty bucket.
#[derive(Debug)]
pub struct S3Server {
    port: u16,
    _process: Process,
}

/// The name of the bucket.
pub const BUCKET: &str = "backups";

impl S3Server {
    /// Starts a server, and creates the bucket.
    pub fn start() -> Self {
        let (port, log) = (ports::free(), dirs::fresh("s3").join("s3.log"));
        let args = ["-H", "127.0.0.1", "-p", &port.to_string()].map(str::to_owned);
        let process = Process::start(&program(), &args, &[], None, &log);
        let server = Self { port, _process: process };
        wait_blocking("the S3 server has the bucket", Duration::from_secs(60), || {
            let mut create = Command::new("curl");
            let status =
                create.args(["-sf", "-o", "/dev/null", "-X", "PUT", &format!("{}/{BUCKET}", server.endpoint())]);
            crate::wait::holds(status.status().is_ok_and(|status| status.success()), || crate::process::tail(&log, 3))
        });
        server
    }

    /// Returns its URL.
    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Returns the variables with which a program uses it.
    pub fn variables(&self) -> [(String, String); 5] {
        [
            ("AWS_ENDPOINT_URL", self.endpoint().as_str()),
            ("AWS_ALLOW_HTTP", "true"),
            ("AWS_ACCESS_KEY_ID", "key"),
            ("AWS_SECRET_ACCESS_KEY", "secret"),
            ("AWS_REGION", "us-east-1"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
    }
}

/// Returns moto's program: in the folder of the build, beside which a test runs.
fn program() -> PathBuf {
    let test = std::env::current_exe().expect("the path of this test");
    let found = test.ancestors().map(|folder| folder.join("moto/bin/moto_server")).find(|path| path.exists());
    found.expect("moto's S3 server: `scripts/moto` installs it")
}
