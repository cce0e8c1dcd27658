//! Who sends the spans.

use opentelemetry::{Key, KeyValue};
use opentelemetry_sdk::Resource;

/// Returns the attributes of this process: those of `OTEL_SERVICE_NAME` and `OTEL_RESOURCE_ATTRIBUTES`, and for what these do
/// not say the name and the version of the program and the name of the instance.
pub(crate) fn of(service: &'static str, instance: Option<String>) -> Resource {
    let given = Resource::builder().build();
    let is_given = |key: &'static str| given.get(&Key::from_static_str(key)).is_some();
    let mut builder = Resource::builder();
    // Without a name OpenTelemetry makes one of its own.
    if given.get(&Key::from_static_str("service.name")).is_none_or(|name| name.as_str().starts_with("unknown_service"))
    {
        builder = builder.with_service_name(service);
    }
    if !is_given("service.version") {
        builder = builder.with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")));
    }
    if let Some(instance) = instance.filter(|_| !is_given("service.instance.id")) {
        builder = builder.with_attribute(KeyValue::new("service.instance.id", instance));
    }
    builder.build()
}
