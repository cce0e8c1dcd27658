//! Schemas of topics and their versions.

use serde_json::{Value, json};
use sluice_schema::{Definition, MAX_SCHEMAS, MAX_TOTAL_BYTES, MAX_VERSIONS, Policy};
use sluice_store::StoreError;
use sluice_store::schemas::{PutSchema, StoredSchema};

use crate::stores::TestStore;

fn definition(policy: Policy, schema: &Value) -> Definition {
    Definition::new(policy, schema).expect("a schema")
}

async fn put(test: &TestStore, topic: &str, schema: &Value) -> PutSchema {
    test.store.put_schema(topic, &definition(Policy::Refuse, schema)).await.expect("a schema")
}

async fn in_force(test: &TestStore) -> Vec<(String, u32, String)> {
    let schemas = test.store.schemas().await.expect("schemas");
    schemas.into_iter().map(|StoredSchema { topic, version, schema, .. }| (topic, version, schema)).collect()
}

pub async fn a_schema_is_put_changed_and_removed_and_its_versions_are_kept(test: TestStore) {
    let topic = "a \"topic\" of 'many' %characters_ ü";
    assert_eq!(test.store.schema(topic, None).await.unwrap(), None);
    assert_eq!(put(&test, topic, &json!({"type": "object"})).await, PutSchema::Added(1));
    assert_eq!(put(&test, topic, &json!({"type": "object"})).await, PutSchema::Unchanged(1));
    let counted = definition(Policy::Count, &json!({"type": "object"}));
    assert_eq!(test.store.put_schema(topic, &counted).await.unwrap(), PutSchema::Changed(2));
    assert_eq!(put(&test, "b", &json!(true)).await, PutSchema::Added(1));
    assert_eq!(put(&test, "B", &json!(false)).await, PutSchema::Added(1));
    let expected = [("B", 1, "false"), (topic, 2, r#"{"type":"object"}"#), ("b", 1, "true")];
    assert_eq!(in_force(&test).await, expected.map(|(topic, version, schema)| (topic.into(), version, schema.into())));
    let first = test.store.schema(topic, Some(1)).await.unwrap().expect("the first version");
    let second = test.store.schema(topic, None).await.unwrap().expect("the version in force");
    assert_eq!((first.policy, second.policy, second.version), (Policy::Refuse, Policy::Count, 2));
    assert!(first.created_at <= second.created_at && first.removed_at.is_none());
    assert_eq!(test.store.schema(topic, Some(3)).await.unwrap(), None);

    assert!(test.store.delete_schema(topic).await.unwrap());
    assert!(!test.store.delete_schema(topic).await.unwrap());
    assert!(!test.store.delete_schema("never").await.unwrap());
    assert_eq!(test.store.schema(topic, None).await.unwrap(), None);
    assert_eq!(test.store.schema(topic, Some(2)).await.unwrap().map(|schema| schema.policy), Some(Policy::Count));
    assert_eq!(put(&test, topic, &json!({"type": "object"})).await, PutSchema::Added(3));
    let versions = test.store.schema_versions(topic).await.unwrap();
    let versions: Vec<_> = versions.iter().map(|v| (v.version, v.removed_at.is_some(), v.schema.is_empty())).collect();
    assert_eq!(versions, [(3, false, true), (2, true, true), (1, false, true)]);
}

pub async fn schemas_are_bounded_by_their_number_their_size_and_the_number_of_versions(test: TestStore) {
    for n in 0..=MAX_VERSIONS {
        put(&test, "t0", &json!({"title": n.to_string()})).await;
    }
    let versions = test.store.schema_versions("t0").await.unwrap();
    assert_eq!(versions.len(), MAX_VERSIONS as usize);
    assert_eq!((versions[0].version, test.store.schema("t0", Some(1)).await.unwrap()), (MAX_VERSIONS + 1, None));
    // The size is that in bytes.
    let large = json!({"title": "ü".repeat(30_000)});
    let many = MAX_TOTAL_BYTES / 60_012;
    for n in 1..=many {
        assert_eq!(put(&test, &format!("t{n}"), &large).await, PutSchema::Added(1), "{n}");
    }
    assert_eq!(put(&test, "t0", &large).await, PutSchema::TooLarge);
    for n in many + 1..MAX_SCHEMAS {
        assert_eq!(put(&test, &format!("t{n}"), &json!(true)).await, PutSchema::Added(1));
    }
    assert_eq!(put(&test, "one more", &json!(true)).await, PutSchema::TooMany);
    assert_eq!(put(&test, "t1", &json!(true)).await, PutSchema::Changed(2));
    assert_eq!(in_force(&test).await.len(), MAX_SCHEMAS);
}

pub async fn of_schemas_that_are_put_at_once_each_is_a_version(test: TestStore) {
    let puts = (0..10).map(|n| {
        let test = &test;
        async move {
            let schema = json!({"title": n.to_string()});
            loop {
                match test.store.put_schema("t", &definition(Policy::Refuse, &schema)).await {
                    Err(StoreError::Conflict(_) | StoreError::Unavailable(_)) => tokio::task::yield_now().await,
                    put => return put.expect("a schema"),
                }
            }
        }
    });
    let mut versions: Vec<_> = futures::future::join_all(puts)
        .await
        .into_iter()
        .map(|put| match put {
            PutSchema::Added(version) | PutSchema::Changed(version) => version,
            other => panic!("{other:?}"),
        })
        .collect();
    versions.sort_unstable();
    assert_eq!(versions, (1..=10).collect::<Vec<_>>());
    assert_eq!(in_force(&test).await.len(), 1);
}

pub async fn the_versions_of_topics_that_were_removed_long_ago_are_forgotten(test: TestStore) {
    for n in 0..=100 {
        put(&test, &format!("t{n}"), &json!(true)).await;
        assert!(test.store.delete_schema(&format!("t{n}")).await.unwrap());
    }
    put(&test, "kept", &json!(true)).await;
    assert!(test.store.schema_versions("t0").await.unwrap().is_empty(), "the one that was removed first");
    for topic in ["t1", "t100", "kept"] {
        assert_eq!(test.store.schema_versions(topic).await.unwrap().len(), 1, "{topic}");
    }
}
