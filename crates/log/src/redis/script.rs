//! Lua scripts, called by their hash and loaded when the server does not have them.

use redis::{Cmd, FromRedisValue, ToRedisArgs};

use super::connect::Link;
use super::error::Fault;
use super::node::Request;

/// A script and its hash.
pub(super) struct Script {
    code: &'static str,
    hash: String,
}

impl Script {
    /// Creates a script from its source.
    pub fn new(code: &'static str) -> Self {
        Self { code, hash: redis::Script::new(code).get_hash().to_owned() }
    }

    /// Returns a call with these keys, to which the caller adds the arguments.
    pub fn call<K: ToRedisArgs>(&self, keys: &[K]) -> Cmd {
        let mut call = redis::cmd("EVALSHA");
        call.arg(&self.hash).arg(keys.len()).arg(keys);
        call
    }

    /// Returns the request for a call.
    pub fn request<'a>(&self, call: &'a Cmd) -> Request<'a> {
        Request::Script(call, self.code)
    }

    /// Runs the call: one round trip, unless the server does not have the script.
    pub async fn run<T: FromRedisValue>(&self, link: &Link, call: &Cmd) -> Result<T, Fault> {
        link.script(call, self.code).await
    }
}
