//! Which node of a cluster owns which slots, as a node tells it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use redis::{ConnectionInfo, Value, from_redis_value};
use tokio::time::timeout;

use super::error::{Fault, unexpected};
use super::open::open;
use super::tls::RedisTls;
use crate::LogError;

/// How long one node may take. The next one is asked after it.
const NODE_TIMEOUT: Duration = Duration::from_secs(1);

/// The host and the port of a node.
pub(super) type NodeAddress = (String, u16);

/// The owners of the slots.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct SlotMap {
    /// By the last slot of a range: the first one, and the node.
    ranges: BTreeMap<u16, (u16, NodeAddress)>,
    /// Slots that were moved since.
    moved: BTreeMap<u16, NodeAddress>,
}

impl SlotMap {
    /// Returns the owner of a slot; `None` when no node owns it.
    pub fn owner(&self, slot: u16) -> Option<&NodeAddress> {
        if let Some(node) = self.moved.get(&slot) {
            return Some(node);
        }
        let (_, (first, node)) = self.ranges.range(slot..).next()?;
        (*first <= slot).then_some(node)
    }

    /// Notes that a slot has another owner now.
    pub fn set(&mut self, slot: u16, node: NodeAddress) {
        self.moved.insert(slot, node);
    }

    /// Returns all owners.
    pub fn nodes(&self) -> BTreeSet<&NodeAddress> {
        self.ranges.values().map(|(_, node)| node).chain(self.moved.values()).collect()
    }

    /// Asks a node, within a second.
    ///
    /// # Errors
    /// When it does not answer, or is in no cluster.
    pub async fn fetch(node: &ConnectionInfo, host: &str, files: &RedisTls) -> Result<Self, LogError> {
        let answer = async {
            let mut connection = open(node, files, NODE_TIMEOUT, Some(NODE_TIMEOUT)).await?;
            // CLUSTER SHARDS would say the same, but some managed servers do not have it.
            let command = redis::cmd("CLUSTER").arg("SLOTS").to_owned();
            let answer: Value = command.query_async(&mut connection).await.map_err(Fault::from)?;
            Self::parse(answer, host)
        };
        timeout(NODE_TIMEOUT, answer).await.unwrap_or_else(|_| Err(LogError::Unavailable("it does not answer".into())))
    }

    /// Reads ranges of `first, last, [host, port, …] of the owner, replicas…`.
    fn parse(answer: Value, answering_host: &str) -> Result<Self, LogError> {
        let ranges: Vec<Vec<Value>> = from_redis_value(answer).map_err(|_| unexpected("CLUSTER SLOTS"))?;
        let mut map = Self::default();
        for range in ranges {
            let mut range = range.into_iter();
            let (Some(first), Some(last), Some(Value::Array(owner))) = (range.next(), range.next(), range.next())
            else {
                return Err(unexpected("CLUSTER SLOTS"));
            };
            let number = |value| from_redis_value::<u16>(value).map_err(|_| unexpected("CLUSTER SLOTS"));
            let mut owner = owner.into_iter();
            let (Some(host), Some(port)) = (owner.next(), owner.next()) else {
                return Err(unexpected("CLUSTER SLOTS"));
            };
            let host: Option<String> = from_redis_value(host).map_err(|_| unexpected("CLUSTER SLOTS"))?;
            let host = match host.as_deref() {
                // The node does not know its own address.
                None | Some("") => answering_host,
                // Nobody knows the address of this one.
                Some("?") => continue,
                Some(host) => host,
            };
            map.ranges.insert(number(last)?, (number(first)?, (host.to_owned(), number(port)?)));
        }
        if map.ranges.is_empty() { Err(LogError::Unavailable("it knows no owner of any slot".into())) } else { Ok(map) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(first: i64, last: i64, host: Value, port: i64) -> Value {
        let node = Value::Array(vec![host, Value::Int(port), Value::BulkString(b"id".to_vec()), Value::Array(vec![])]);
        Value::Array(vec![Value::Int(first), Value::Int(last), node.clone(), node])
    }

    #[test]
    fn a_slot_has_the_owner_of_its_range_or_the_one_to_which_it_was_moved() {
        let text = |host: &str| Value::BulkString(host.as_bytes().to_vec());
        let answer = Value::Array(vec![
            range(0, 99, text("a"), 1),
            range(200, 16_383, Value::Nil, 2),
            range(100, 149, text("?"), 3),
            range(150, 150, text(""), 4),
        ]);
        let mut map = SlotMap::parse(answer, "asked").unwrap();
        let owner = |map: &SlotMap, slot| map.owner(slot).map(|(host, port)| format!("{host}:{port}"));
        let found: Vec<_> = [0, 99, 100, 149, 150, 151, 200, 16_383].map(|slot| owner(&map, slot)).into();
        let (a, asked) = (Some("a:1".to_owned()), Some("asked:2".to_owned()));
        assert_eq!(found, [a.clone(), a, None, None, Some("asked:4".into()), None, asked.clone(), asked]);
        map.set(99, ("b".into(), 5));
        assert_eq!((owner(&map, 99), owner(&map, 98)), (Some("b:5".into()), Some("a:1".into())));
        assert_eq!(map.nodes().len(), 4);
        assert!(SlotMap::parse(Value::Array(vec![]), "asked").is_err());
    }
}
