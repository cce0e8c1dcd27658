//! The cluster under test, and the command line tools that the tests use on it.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};

/// The prefix of the context's name of every kind cluster.
const CONTEXT: &str = "kind-";

/// How long a command is repeated while the API server fails.
const PATIENCE: Duration = Duration::from_secs(60);

static CLUSTER: LazyLock<Cluster> = LazyLock::new(Cluster::find);

struct Cluster {
    kubeconfig: PathBuf,
}

impl Cluster {
    /// Returns the cluster of the current context. Panics unless it is a kind cluster on this machine, because the
    /// tests kill processes and drain nodes.
    fn find() -> Self {
        let named = ["SLUICE_KIND_KUBECONFIG", "KUBECONFIG"].iter().find_map(std::env::var_os);
        let kubeconfig = PathBuf::from(named.expect("SLUICE_KIND_KUBECONFIG or KUBECONFIG names the cluster"));
        let config = Kubeconfig::read_from(&kubeconfig).expect("a kubeconfig");
        let context = config.current_context.clone().unwrap_or_default();
        let named = config.contexts.iter().find(|named| named.name == context);
        let cluster = named.and_then(|named| Some(named.context.as_ref()?.cluster.clone())).unwrap_or_default();
        let found = config.clusters.iter().find(|named| named.name == cluster);
        let server = found.and_then(|named| named.cluster.as_ref()?.server.clone()).unwrap_or_default();
        let is_local =
            ["https://127.0.0.1:", "https://localhost:", "https://[::1]:"].iter().any(|own| server.starts_with(own));
        let from = kubeconfig.display();
        assert!(
            context.starts_with(CONTEXT),
            "these tests cause faults, so they run only on a kind cluster: the current context of {from} must be \
             \"{CONTEXT}NAME\", and is {context:?}"
        );
        assert!(
            is_local,
            "these tests kill processes in the nodes, which must be containers on this machine: the cluster of \
             context {context:?} in {from} is at {server:?}, and not at 127.0.0.1"
        );
        Self { kubeconfig }
    }
}

/// Returns the root folder of the repository.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().expect("the repository")
}

/// Returns the folder of all files that the tests on the cluster write.
pub fn work() -> PathBuf {
    std::env::var_os("SLUICE_KIND_DIR").map_or_else(|| root().join("target/kind"), PathBuf::from)
}

/// Returns a client that belongs to the async runtime of the caller. Each test has its own runtime.
pub async fn client() -> Client {
    let config = Kubeconfig::read_from(&CLUSTER.kubeconfig).expect("a kubeconfig");
    let config = Config::from_custom_kubeconfig(config, &KubeConfigOptions::default()).await.expect("a configuration");
    Client::try_from(config).expect("a client")
}

/// Runs blocking code, such as the tools below, on a thread where it does not block the async runtime.
pub async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(work).await.expect("no panic")
}

/// Returns the command for a tool that `make kind-up` built, or for the one on the path.
fn tool(name: &str) -> Command {
    let built = work().join("bin").join(name);
    let mut command = Command::new(if built.exists() { built } else { PathBuf::from(name) });
    command.env("KUBECONFIG", &CLUSTER.kubeconfig);
    command
}

/// Runs `kubectl`, which must succeed, and returns its standard output. Runs it again while the API server itself
/// fails, for up to a minute.
pub fn kubectl(args: &[&str]) -> String {
    kubectl_with(args, "")
}

/// Like [`kubectl`], with this standard input.
pub fn kubectl_with(args: &[&str], input: &str) -> String {
    let started = Instant::now();
    loop {
        let output = try_kubectl(args, input);
        if !server_failed(&output) || started.elapsed() > PATIENCE {
            return succeeded("kubectl", args, output);
        }
        std::thread::sleep(Duration::from_secs(1));
    }
}

/// Returns whether a command failed because the API server, or its etcd, could not serve it. On a busy machine both
/// may be too slow, or be restarted by their probes.
fn server_failed(output: &Output) -> bool {
    let signs = ["etcdserver: ", "(InternalError)", "(ServiceUnavailable)", "(Timeout)", "connection refused"];
    let errors = String::from_utf8_lossy(&output.stderr);
    !output.status.success() && signs.iter().any(|sign| errors.contains(sign))
}

/// Runs `kubectl`, which may fail, with this standard input.
pub fn try_kubectl(args: &[&str], input: &str) -> Output {
    output_of(tool("kubectl").args(args), input)
}

/// Returns the kubeconfig of the cluster.
pub fn kubeconfig() -> &'static Path {
    &CLUSTER.kubeconfig
}

/// Runs a command to its end, with this standard input.
pub fn output_of(command: &mut Command, input: &str) -> Output {
    let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let mut child = child.expect("the program starts");
    let mut pipe = child.stdin.take().expect("its input");
    // The program may end without having read all of its input.
    let _ = pipe.write_all(input.as_bytes());
    drop(pipe);
    child.wait_with_output().expect("the program ends")
}

/// Runs `helm`, which must succeed, and returns its standard output. Runs it again while the API server itself fails,
/// for up to a minute, but not an installation, which cannot be repeated: the name is then in use.
pub fn helm(args: &[&str]) -> String {
    let started = Instant::now();
    loop {
        let output = try_helm(args);
        let is_final = args.first() == Some(&"install") || started.elapsed() > PATIENCE;
        if is_final || !server_failed(&output) {
            return succeeded("helm", args, output);
        }
        std::thread::sleep(Duration::from_secs(1));
    }
}

/// Runs `helm`, which may fail.
pub fn try_helm(args: &[&str]) -> Output {
    tool("helm").args(args).stdin(Stdio::null()).output().expect("helm")
}

/// Runs a command on a node, which is a container on this machine, and returns its standard output.
pub fn on_node(node: &str, args: &[&str]) -> String {
    let output = Command::new("docker").args(["exec", node]).args(args).stdin(Stdio::null()).output();
    succeeded(&format!("docker exec {node}"), args, output.expect("docker"))
}

fn succeeded(program: &str, args: &[&str], output: Output) -> String {
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {args:?}: {}\n{text}\n{errors}", output.status);
    text
}
