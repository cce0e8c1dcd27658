//! A minimal fake API server: it stores the objects that it receives, sends their changes to watches, and records the
//! requests.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::body::Body as Answer;
use http::{Method, Request, Response, StatusCode};
use kube::Client;
use kube::client::{Body, ClientBuilder};
use serde_json::{Value, json};
use sluice_operator::api_request_metrics;
use tokio::sync::mpsc;

use super::patches::{add_defaults, apply, keep_replicas, merge, note_manager, strategic_merge};

/// A fake API server.
#[derive(Clone, Default)]
pub struct Api {
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    /// Objects by path, such as `/apis/apps/v1/namespaces/accounts/statefulsets/x`.
    objects: BTreeMap<String, Value>,
    calls: Vec<String>,
    bodies: Vec<(String, Value)>,
    refused: Vec<(String, u16, String)>,
    /// The latest applied object, by path. A field of it that the next one does not have is removed.
    applied: BTreeMap<String, Value>,
    delayed: Vec<(String, Duration)>,
    version: u64,
    /// All changes, each with its version and the path of its object.
    changes: Vec<(u64, String, Value)>,
    /// The watches, each with the path of its kind.
    watches: Vec<(String, mpsc::UnboundedSender<Value>)>,
}

impl Api {
    /// Returns a client of this server, created as the operator creates its own.
    pub fn client(&self) -> Client {
        let (service, mut handle) = tower_test::mock::pair::<Request<Body>, Response<Answer>>();
        let api = self.clone();
        tokio::spawn(async move {
            while let Some((request, respond)) = handle.next_request().await {
                let api = api.clone();
                tokio::spawn(async move { respond.send_response(api.answer(request).await) });
            }
        });
        ClientBuilder::new(service, "default").with_layer(&api_request_metrics::counted()).build()
    }

    /// Stores an object.
    pub fn put(&self, path: &str, object: Value) {
        let mut state = self.state.lock().unwrap();
        let event = if state.objects.contains_key(path) { "MODIFIED" } else { "ADDED" };
        state.objects.insert(path.into(), object.clone());
        state.announce(event, path, object);
    }

    /// Returns a stored object.
    pub fn get(&self, path: &str) -> Option<Value> {
        self.state.lock().unwrap().objects.get(path).cloned()
    }

    /// Removes a stored object.
    pub fn remove(&self, path: &str) {
        self.state.lock().unwrap().objects.remove(path);
    }

    /// Changes a stored object.
    pub fn change(&self, path: &str, change: impl FnOnce(&mut Value)) {
        let mut state = self.state.lock().unwrap();
        let object = state.objects.get_mut(path).unwrap();
        change(object);
        let object = object.clone();
        state.announce("MODIFIED", path, object);
    }

    /// From now on, calls that begin with this text receive an error.
    pub fn refuse(&self, call: &str, status: u16) {
        self.refuse_saying(call, status, "the fake API server refuses");
    }

    /// The same with this message.
    pub fn refuse_saying(&self, call: &str, status: u16, message: &str) {
        self.state.lock().unwrap().refused.push((call.into(), status, message.into()));
    }

    /// Ends what `refuse` began.
    pub fn allow(&self, call: &str) {
        self.state.lock().unwrap().refused.retain(|(refused, ..)| refused != call);
    }

    /// From now on, calls that begin with this text are answered after this time.
    pub fn delay(&self, call: &str, time: Duration) {
        self.state.lock().unwrap().delayed.push((call.into(), time));
    }

    /// Returns the calls since the last time, as `VERB last/parts/of/the/path`.
    pub fn calls(&self) -> Vec<String> {
        std::mem::take(&mut self.state.lock().unwrap().calls)
    }

    /// Returns the same without the calls that only read.
    pub fn writes(&self) -> Vec<String> {
        let reads = |call: &String| ["LIST ", "GET ", "WATCH "].iter().any(|verb| call.starts_with(verb));
        self.calls().into_iter().filter(|call| !reads(call)).collect()
    }

    /// Returns the bodies of the calls that begin with this text.
    pub fn bodies(&self, call: &str) -> Vec<Value> {
        let state = self.state.lock().unwrap();
        state.bodies.iter().filter(|(name, _)| name.starts_with(call)).map(|(_, body)| body.clone()).collect()
    }

    async fn answer(&self, request: Request<Body>) -> Response<Answer> {
        let (parts, body) = request.into_parts();
        let body = body.collect_bytes().await.unwrap();
        let body: Value = serde_json::from_slice(&body).unwrap_or(Value::Null);
        let path = parts.uri.path().to_owned();
        let query = parts.uri.query().unwrap_or("").to_owned();
        let short = short(&path);
        let verb = match parts.method {
            Method::GET if query.contains("watch=true") => "WATCH",
            Method::GET if !short.contains('/') => "LIST",
            Method::GET => "GET",
            Method::POST => "CREATE",
            Method::PATCH => match parts.headers["content-type"].to_str().unwrap() {
                "application/apply-patch+yaml" => "APPLY",
                "application/strategic-merge-patch+json" => "STRATEGIC",
                _ => "MERGE",
            },
            Method::PUT => "REPLACE",
            _ => "DELETE",
        };
        let call = format!("{verb} {short}");
        let delay = {
            let mut state = self.state.lock().unwrap();
            state.calls.push(call.clone());
            state.bodies.push((call.clone(), body.clone()));
            state.delayed.iter().find(|(delayed, _)| call.starts_with(delayed)).map(|(_, time)| *time)
        };
        if let Some(delay) = delay {
            tokio::time::sleep(delay).await;
        }
        let mut state = self.state.lock().unwrap();
        if let Some((_, code, message)) = state.refused.iter().find(|(refused, ..)| call.starts_with(refused)) {
            return failure_saying(*code, message);
        }
        state.answer(verb, &path, &query, body)
    }
}

impl State {
    /// Answers a request.
    fn answer(&mut self, verb: &str, path: &str, query: &str, body: Value) -> Response<Answer> {
        let manager = query.split('&').find_map(|pair| pair.strip_prefix("fieldManager="));
        match verb {
            "LIST" => {
                let prefix = format!("{path}/");
                let items: Vec<_> = self
                    .objects
                    .iter()
                    .filter(|(path, object)| path.starts_with(&prefix) && is_selected(object, query))
                    .map(|(_, object)| object.clone())
                    .collect();
                let metadata = json!({"resourceVersion": self.version.to_string()});
                success(&json!({"apiVersion": "v1", "kind": "List", "metadata": metadata, "items": items}))
            }
            "WATCH" => self.watch(path, query),
            "GET" => self.objects.get(path).map_or_else(|| failure(404), success),
            "CREATE" => {
                let path = &format!("{path}/{}", body["metadata"]["name"].as_str().unwrap_or("event"));
                if self.objects.contains_key(path) {
                    return failure(409);
                }
                self.store(path, body)
            }
            "APPLY" => {
                let last = self.applied.insert(path.to_owned(), body.clone()).unwrap_or_default();
                let before = self.objects.get(path).cloned().unwrap_or_default();
                let mut object = before.clone();
                apply(&mut object, &last, &body);
                keep_replicas(&mut object, &before);
                note_manager(&mut object, manager, "Apply");
                self.store(path, object)
            }
            "REPLACE" => {
                let version = self.objects.get(path).map(|object| object["metadata"]["resourceVersion"].clone());
                match version {
                    Some(version) if version == body["metadata"]["resourceVersion"] => self.store(path, body),
                    Some(_) => failure(409),
                    None => failure(404),
                }
            }
            "MERGE" | "STRATEGIC" => {
                let path = path.trim_end_matches("/status");
                let Some(before) = self.objects.get(path).cloned() else { return failure(404) };
                let mut object = before.clone();
                if verb == "MERGE" {
                    merge(&mut object, &body)
                } else {
                    strategic_merge(&mut object, &body)
                }
                if object["metadata"]["managedFields"] == before["metadata"]["managedFields"] {
                    note_manager(&mut object, manager, "Update");
                }
                add_defaults(&mut object);
                self.announce("MODIFIED", path, object.clone());
                object["metadata"]["resourceVersion"] = json!(self.version.to_string());
                self.objects.insert(path.to_owned(), object.clone());
                success(&object)
            }
            "DELETE" => match self.objects.remove(path) {
                Some(object) => {
                    self.announce("DELETED", path, object.clone());
                    success(&object)
                }
                None => failure(404),
            },
            _ => failure(405),
        }
    }

    /// Stores an object as an API server does: with a uid, a version and a generation.
    fn store(&mut self, path: &str, mut object: Value) -> Response<Answer> {
        let old = self.objects.get(path);
        let generation = old.and_then(|old| old["metadata"]["generation"].as_i64()).unwrap_or(0) + 1;
        object["metadata"]["uid"] = json!(format!("uid-of-{path}"));
        object["metadata"]["resourceVersion"] = json!((self.version + 1).to_string());
        object["metadata"]["generation"] = json!(generation);
        if let Some(status) = old.map(|old| old["status"].clone()).filter(Value::is_object) {
            object["status"] = status;
        }
        add_defaults(&mut object);
        let event = if old.is_some() { "MODIFIED" } else { "ADDED" };
        self.announce(event, path, object.clone());
        self.objects.insert(path.into(), object.clone());
        success(&object)
    }

    /// Gives a change the next version, and sends it to the watches of the object's kind.
    fn announce(&mut self, event: &str, path: &str, mut object: Value) {
        self.version += 1;
        object["metadata"]["resourceVersion"] = json!(self.version.to_string());
        let change = json!({"type": event, "object": object});
        self.watches.retain(|(kind, watch)| !is_of(path, kind) || watch.send(change.clone()).is_ok());
        self.changes.push((self.version, path.to_owned(), change));
    }

    /// Starts a watch: the changes after the version in the query, and then the others when they happen.
    fn watch(&mut self, kind: &str, query: &str) -> Response<Answer> {
        let version = query.split('&').find_map(|pair| pair.strip_prefix("resourceVersion="));
        let version: u64 = version.and_then(|version| version.parse().ok()).unwrap_or(0);
        let (sender, mut receiver) = mpsc::unbounded_channel();
        for (_, _, change) in self.changes.iter().filter(|(at, path, _)| *at > version && is_of(path, kind)) {
            sender.send(change.clone()).unwrap();
        }
        self.watches.push((kind.to_owned(), sender));
        let lines = futures::stream::poll_fn(move |task| {
            receiver.poll_recv(task).map(|change| change.map(|change| Ok::<_, Infallible>(format!("{change}\n"))))
        });
        Response::new(Answer::from_stream(lines))
    }
}

/// Whether the object at `path` is of the kind at the path `kind`.
fn is_of(path: &str, kind: &str) -> bool {
    path.strip_prefix(kind).is_some_and(|rest| rest.starts_with('/'))
}

/// Returns a path without its group, version and namespace.
fn short(path: &str) -> String {
    let parts: Vec<_> = path.trim_matches('/').split('/').collect();
    let parts = match parts.as_slice() {
        [_, _, "namespaces", _, rest @ ..] | [_, _, _, "namespaces", _, rest @ ..] => rest,
        ["api", _, rest @ ..] | ["apis", _, _, rest @ ..] => rest,
        other => other,
    };
    parts.join("/")
}

/// Whether the selectors in a query select an object.
fn is_selected(object: &Value, query: &str) -> bool {
    let query = query.replace("%2F", "/").replace("%3D", "=").replace("%2C", ",");
    let selector = |name: &str| query.split('&').find_map(|pair| pair.strip_prefix(name));
    let by_labels = selector("labelSelector=").is_none_or(|labels| match labels.contains("managed-by") {
        true => labelled(object),
        false => labels
            .split(',')
            .all(|label| label.split_once('=').is_some_and(|(key, value)| object["metadata"]["labels"][key] == value)),
    });
    let name = selector("fieldSelector=metadata.name=");
    by_labels && name.is_none_or(|name| object["metadata"]["name"] == name)
}

fn labelled(object: &Value) -> bool {
    object["metadata"]["labels"]["app.kubernetes.io/managed-by"] == "sluice-operator"
        || object["kind"] == "HorizontalPodAutoscaler"
}

fn success(object: &Value) -> Response<Answer> {
    Response::builder().status(StatusCode::OK).body(Answer::from(object.to_string().into_bytes())).unwrap()
}

fn failure(code: u16) -> Response<Answer> {
    failure_saying(code, "the fake API server refuses")
}

fn failure_saying(code: u16, message: &str) -> Response<Answer> {
    let reason = match code {
        403 => "Forbidden",
        404 => "NotFound",
        409 => "Conflict",
        422 => "Invalid",
        _ => "InternalError",
    };
    let status = json!({
        "apiVersion": "v1", "kind": "Status", "metadata": {}, "status": "Failure",
        "message": message, "reason": reason, "code": code
    });
    Response::builder().status(code).body(Answer::from(status.to_string().into_bytes())).unwrap()
}
