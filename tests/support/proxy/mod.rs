//! Proxies that cut a connection at a chosen message, or hold responses back until they are lost. [`link`] is a
//! network that fails without regard to messages.

pub mod link;
pub mod postgres;
pub mod redis;

use std::io;
use std::marker::PhantomData;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// A running proxy for the protocol `P`.
#[derive(Debug)]
pub struct Proxy<P> {
    address: String,
    faults: Faults,
    protocol: PhantomData<P>,
}

impl<P: Protocol> Proxy<P> {
    /// Forwards to the server at `server`. It cuts nothing until it is armed, and holds nothing back until it is
    /// told to.
    pub async fn start(server: &str, cut: Cut) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port for the proxy");
        let address = listener.local_addr().expect("its address").to_string();
        let faults = Faults { cut_plan: CutPlan::new(cut), gate: Gate::new(), stalls: CutPlan::new(Cut::Before) };
        tokio::spawn(accept::<P>(listener, server.to_owned(), faults.clone()));
        Self { address, faults, protocol: PhantomData }
    }

    /// Returns the address to which clients connect.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Cuts at the next so many messages that `P` chooses.
    pub fn arm(&self, times: u64) {
        self.faults.cut_plan.arm(times);
    }

    /// Like [`Proxy::arm`], on this side of the messages from now on.
    pub fn arm_on(&self, side: Cut, times: u64) {
        self.faults.cut_plan.arm_on(side, times);
    }

    /// Returns the number of cuts made.
    pub fn cuts(&self) -> u64 {
        self.faults.cut_plan.done()
    }

    /// From now on no client receives the response to a message that `P` chooses.
    pub fn hold_responses(&self) {
        self.faults.gate.close();
    }

    /// Returns the number of chosen messages that are executed and whose response is held back at this moment.
    pub fn held(&self) -> u64 {
        self.faults.gate.held()
    }

    /// Ends the connections whose responses are held back, so that these are lost, and holds no further ones.
    pub fn lose_responses(&self) {
        self.faults.gate.lose();
    }
}

/// A protocol in which the proxy recognises the messages that matter to a test.
pub trait Protocol: 'static {
    /// Forwards one connection in both directions until it ends or a fault ends it.
    fn forward(client: TcpStream, server: TcpStream, faults: &Faults) -> impl Future<Output = io::Result<()>> + Send;
}

/// The faults that the connections of one proxy share.
#[derive(Debug, Clone)]
pub struct Faults {
    cut_plan: CutPlan,
    gate: Gate,
    /// The messages after which the proxy forwards nothing more from the client.
    stalls: CutPlan,
}

async fn accept<P: Protocol>(listener: TcpListener, server: String, faults: Faults) {
    while let Ok((client, _)) = listener.accept().await {
        let (server, faults) = (server.clone(), faults.clone());
        tokio::spawn(async move {
            // The end of either side ends the connection. The reason does not matter here.
            let _ = connect::<P>(client, &server, &faults).await;
        });
    }
}

async fn connect<P: Protocol>(client: TcpStream, server: &str, faults: &Faults) -> io::Result<()> {
    let server = TcpStream::connect(server).await?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    P::forward(client, server, faults).await
}

/// The side of a message on which the connection is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// The server never receives the message.
    Before,
    /// The server executes the message, and its response is lost.
    After,
}

/// The number of cuts that a proxy still has to make, and the number that it has made.
#[derive(Debug, Clone)]
pub(crate) struct CutPlan {
    plan: Arc<Mutex<Plan>>,
    done: Arc<AtomicU64>,
}

#[derive(Debug)]
struct Plan {
    side: Cut,
    left: u64,
    /// Counts how often the proxy was armed. A cut of an earlier time is not returned.
    armed: u64,
}

impl CutPlan {
    pub(crate) fn new(side: Cut) -> Self {
        Self { plan: Arc::new(Mutex::new(Plan { side, left: 0, armed: 0 })), done: Arc::default() }
    }

    /// Takes one cut, if any is left.
    pub(crate) fn take(&self) -> Option<Taken> {
        let mut plan = self.plan.lock().expect("the lock");
        plan.left = plan.left.checked_sub(1)?;
        Some(Taken { cut_plan: self.clone(), side: plan.side, armed: plan.armed, is_made: false })
    }

    pub(crate) fn arm(&self, times: u64) {
        let mut plan = self.plan.lock().expect("the lock");
        plan.left = times;
        plan.armed += 1;
    }

    pub(crate) fn arm_on(&self, side: Cut, times: u64) {
        self.plan.lock().expect("the lock").side = side;
        self.arm(times);
    }

    pub(crate) fn done(&self) -> u64 {
        self.done.load(Ordering::SeqCst)
    }
}

/// A cut that was taken. When the connection ends before the cut is made, because the server refused the message
/// or the client did not wait, the cut is returned for another connection.
#[derive(Debug)]
pub(crate) struct Taken {
    cut_plan: CutPlan,
    side: Cut,
    armed: u64,
    is_made: bool,
}

impl Taken {
    pub(crate) fn side(&self) -> Cut {
        self.side
    }

    /// The connection is about to be cut.
    pub(crate) fn make(mut self) {
        self.is_made = true;
        self.cut_plan.done.fetch_add(1, Ordering::SeqCst);
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        let mut plan = self.cut_plan.plan.lock().expect("the lock");
        if !self.is_made && plan.armed == self.armed {
            plan.left += 1;
        }
    }
}

/// Holds responses back while it is closed.
#[derive(Debug, Clone)]
pub(crate) struct Gate {
    state: watch::Sender<GateState>,
    held: Arc<AtomicU64>,
}

#[derive(Debug, Clone, Copy, Default)]
struct GateState {
    is_closed: bool,
    /// How often the responses that were held back have been lost.
    losses: u64,
}

impl Gate {
    pub(crate) fn new() -> Self {
        Self { state: watch::Sender::new(GateState::default()), held: Arc::default() }
    }

    pub(crate) fn close(&self) {
        self.state.send_modify(|state| state.is_closed = true);
    }

    /// Ends the connections whose responses are held back, and holds no further ones.
    pub(crate) fn lose(&self) {
        self.state.send_modify(|state| *state = GateState { is_closed: false, losses: state.losses + 1 });
    }

    /// Returns how many relevant responses are held back at this moment.
    pub(crate) fn held(&self) -> u64 {
        self.held.load(Ordering::SeqCst)
    }

    /// Waits as long as it is closed. Returns false when the response is lost and the connection must end.
    pub(crate) async fn pass(&self, counts: bool) -> bool {
        let mut state = self.state.subscribe();
        let before = *state.borrow_and_update();
        if !before.is_closed {
            return true;
        }
        let _held = counts.then(|| Held::count(&self.held));
        // The sender is part of this gate, so the wait cannot fail.
        let now = state.wait_for(|state| !state.is_closed || state.losses != before.losses).await.map(|state| *state);
        now.is_ok_and(|now| now.losses == before.losses)
    }
}

/// Counts a response for as long as it is held back.
struct Held(Arc<AtomicU64>);

impl Held {
    fn count(held: &Arc<AtomicU64>) -> Self {
        held.fetch_add(1, Ordering::SeqCst);
        Self(held.clone())
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}
