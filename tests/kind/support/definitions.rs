//! Definitions of kinds of others, which are installed for a test: from their Go module if Go is here, and otherwise
//! from their repository. They are the only thing that the tests fetch while they run.

use std::process::Command;
use std::time::Duration;

use serde_json::Value;
use sluice_tests::wait::holds;
use sluice_tests::wait_until;

use super::cluster::{blocking, kubectl};
use super::objects::SOON;

/// How often a module is asked for, and how long the test waits in between.
const ATTEMPTS: u32 = 6;
const PAUSE: Duration = Duration::from_secs(10);

/// Where definitions are.
#[derive(Debug, Clone, Copy)]
pub struct Definitions {
    /// The Go module.
    pub module: &'static str,
    /// The repository on GitHub that has it at its top.
    pub repository: &'static str,
    /// The version.
    pub version: &'static str,
    /// The checksum of the module, as in a `go.sum`. So the public database of checksums is not needed.
    pub sum: &'static str,
    /// The files, below the top.
    pub files: &'static [&'static str],
}

/// Installs the definition in a file, and waits until the API server has the kind.
pub async fn install(file: String) {
    let applied = file.clone();
    blocking(move || kubectl(&["apply", "--server-side", "-f", &applied])).await;
    // `kubectl wait`, and a filter in an output of `kubectl`, fail at once while the definition has no condition at all.
    wait_until("the API server has the kind", SOON, || async {
        let file = file.clone();
        let said = blocking(move || kubectl(&["get", "-f", &file, "-o", "json"])).await;
        let definition: Value = serde_json::from_str(&said).expect("a definition");
        let conditions = definition["status"]["conditions"].as_array();
        let established = |one: &Value| one["type"] == "Established" && one["status"] == "True";
        holds(conditions.is_some_and(|all| all.iter().any(established)), || format!("{conditions:?}"))
    })
    .await;
}

impl Definitions {
    /// Installs them, and waits until the API server has the kinds.
    pub async fn install(self) {
        let root = blocking(move || match Command::new("go").arg("version").output() {
            Ok(_) => self.folder(),
            Err(_) => format!("https://raw.githubusercontent.com/{}/refs/tags/{}", self.repository, self.version),
        })
        .await;
        for file in self.files {
            install(format!("{root}/{file}")).await;
        }
    }

    /// Downloads the module, unless it is here already, and returns its folder.
    fn folder(self) -> String {
        let wanted = format!("{}@{}", self.module, self.version);
        let mut said = Vec::new();
        for attempt in 0..ATTEMPTS {
            if attempt > 0 {
                std::thread::sleep(PAUSE);
            }
            let mut download = Command::new("go");
            download.args(["mod", "download", "-json", &wanted]).current_dir("/").env("GONOSUMDB", self.module);
            let done = download.output().expect("Go runs");
            let answer: Value = serde_json::from_slice(&done.stdout).unwrap_or_default();
            if let Some(folder) = answer["Dir"].as_str() {
                assert_eq!(answer["Sum"], self.sum, "the checksum of {wanted}");
                return folder.to_owned();
            }
            said.push(format!("{answer} {}", String::from_utf8_lossy(&done.stderr)));
        }
        panic!("Go cannot download {wanted}: {said:#?}");
    }
}
