//! The alerts: those about each resource, which are in its PrometheusRule, and those about the operator, which are in that
//! of the chart. `sluice-operator rules` prints all of them for a Prometheus that has no operator of its own. Each has a
//! section in `docs/runbooks.md`; a test of the chart compares both.

/// An expression that is above 0 while a counter has grown within a window. A counter that has just appeared has grown too,
/// which `increase` does not see.
macro_rules! grown {
    ($metric:literal, $window:literal) => {
        concat!(
            "sum by (*) (increase(",
            $metric,
            "{@}[",
            $window,
            "])) > 0 or sum by (*) (",
            $metric,
            "{@} unless ",
            $metric,
            "{@} offset ",
            $window,
            ") > 0"
        )
    };
}

mod of_operator;
mod of_programs;
mod rules;

pub use of_operator::OF_OPERATOR;
pub use of_programs::OF_PROGRAMS;
pub use rules::{Group, Rule, Set, file, of_resource};

/// The labels by which a metric of a program belongs to a resource. The PodMonitor of a resource sets the second one.
const RESOURCE_LABELS: &str = "namespace, eventaggregator";
/// The address of the runbooks, unless the settings have another one: the file in the repository.
pub const RUNBOOKS: &str = "docs/runbooks.md";

/// An alert.
///
/// In its expressions `{@}` stands for the labels by which metrics are selected, which may be followed by others
/// (`{@,code="a"}`), and `(*)` for the labels of a resource, likewise. In its texts `@` stands for the name of the resource.
#[derive(Debug)]
pub struct Alert {
    /// Its name.
    pub name: &'static str,
    /// The expression, which has a value while something is wrong.
    pub(crate) expr: &'static str,
    /// The expression that takes its place where the labels select everything.
    pub(crate) everywhere: Option<&'static str>,
    /// For how long the expression must have a value.
    pub(crate) for_: Option<&'static str>,
    /// How soon somebody must act.
    pub(crate) severity: Severity,
    /// What is wrong, in a few words.
    pub(crate) summary: &'static str,
    /// What that means.
    pub(crate) description: &'static str,
}

/// How soon somebody must act.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Severity {
    /// At once: events may be lost, or nothing works.
    Critical,
    /// Before long.
    Warning,
    /// It is worth a look.
    Info,
}

impl Severity {
    /// Returns the value of the label.
    const fn as_str(self) -> &'static str {
        match self {
            Self::Critical => "critical",
            Self::Warning => "warning",
            Self::Info => "info",
        }
    }
}

impl Alert {
    /// Returns the expression for metrics with these labels; with none, for those of all resources.
    fn expression(&self, labels: &str) -> String {
        let expr = self.everywhere.filter(|_| labels.is_empty()).unwrap_or(self.expr);
        let expr = if labels.is_empty() {
            expr.replace("{@,", "{").replace("{@}", "")
        } else {
            expr.replace("{@", &format!("{{{labels}"))
        };
        expr.replace("by (*", &format!("by ({RESOURCE_LABELS}"))
    }
}
