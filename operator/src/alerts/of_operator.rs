//! The alerts about the operator and about the state of each resource, which only the operator knows. The chart selects the
//! metrics of its own release: those that begin with `sluice_operator_`.

use super::{Alert, Severity};

/// All alerts about the operator.
pub const OF_OPERATOR: &[Alert] = &[
    Alert {
        name: "SluiceOperatorWithoutLeader",
        // The sum is also not 1 when no operator runs, and when Prometheus cannot read their metrics.
        expr: "(sum(sluice_operator_leader) or vector(0)) != 1",
        everywhere: None,
        for_: Some("5m"),
        severity: Severity::Warning,
        summary: "The number of Sluice operators that act is {{ $value }} and not 1",
        description: "While no operator acts, changes of EventAggregators have no effect. Publishing and storing go on.",
    },
    Alert {
        name: "SluiceOperatorReconcilesFail",
        expr: "sum by (result) (increase(sluice_operator_reconciles_total{result!~\"Done|Unchanged\"}[5m])) > 0",
        everywhere: None,
        for_: Some("10m"),
        severity: Severity::Warning,
        summary: "Reconciles of the Sluice operator end with {{ $labels.result }}",
        description: "What the spec of a resource asks for is not done. The condition Ready of the EventAggregators and \
                      their events say why.",
    },
    Alert {
        name: "SluiceOperatorSchemaIsOlder",
        expr: "max(sluice_operator_missing_schema_fields) > 0",
        everywhere: None,
        for_: Some("10m"),
        severity: Severity::Warning,
        summary: "The installed CustomResourceDefinition of EventAggregators lacks {{ $value }} fields of the operator",
        description: "The API server drops fields that the definition does not have. Apply the definition of the \
                      operator's version.",
    },
    Alert {
        name: "SluiceResourceNotReady",
        expr: "max by (namespace, name) (sluice_operator_resource_condition{condition=\"Ready\"}) == 0",
        everywhere: None,
        for_: Some("15m"),
        severity: Severity::Warning,
        summary: "The EventAggregator {{ $labels.namespace }}/{{ $labels.name }} is not Ready",
        description: "A server, a replica or something else that was asked for is missing. The reason and the message of \
                      the condition Ready say what.",
    },
    Alert {
        name: "SluiceBackupFailed",
        expr: "max by (namespace, name) (sluice_operator_resource_condition{condition=\"BackedUp\"}) == 0",
        everywhere: None,
        for_: Some("1h"),
        severity: Severity::Warning,
        summary: "The EventAggregator {{ $labels.namespace }}/{{ $labels.name }} has no recent backup",
        description: "The last backup failed or is overdue. Events that are stored now would be lost with the volume of \
                      PostgreSQL.",
    },
    Alert {
        name: "SluiceResourceCertificateEnds",
        expr: "min by (namespace, name, component) \
               (sluice_operator_resource_certificate_expiry_timestamp_seconds) - time() < 604800",
        everywhere: None,
        for_: Some("15m"),
        severity: Severity::Warning,
        summary: "The certificate of {{ $labels.component }} of {{ $labels.namespace }}/{{ $labels.name }} ends within 7 \
                  days",
        description: "After that, connections to this component fail. The operator renews its own certificates long \
                      before; one from a Secret of yours must be renewed there.",
    },
    Alert {
        name: "SluiceVolumeFillsUp",
        expr: "max by (namespace, eventaggregator) (sluice_store_bytes) / on (namespace, eventaggregator) \
               max by (namespace, eventaggregator) (label_replace(sluice_operator_resource_volume_bytes\
               {component=\"postgres\"}, \"eventaggregator\", \"$1\", \"name\", \"(.*)\")) > 0.8",
        everywhere: None,
        for_: Some("15m"),
        severity: Severity::Warning,
        summary: "The tables of {{ $labels.namespace }}/{{ $labels.eventaggregator }} take {{ $value | \
                  humanizePercentage }} of the volume of PostgreSQL",
        description: "The write-ahead log needs room too. When the volume is full, nothing more is stored, and events \
                      wait in Redis until publishing is refused.",
    },
];
