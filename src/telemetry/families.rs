//! How a metric is made: with its help, and with what may stand in its labels, so that the reference is printed from the same.

use std::cell::RefCell;

use prometheus::Gauge;
use prometheus::GaugeVec;
use prometheus::HistogramOpts;
use prometheus::HistogramVec;
use prometheus::IntCounter;
use prometheus::IntCounterVec;
use prometheus::IntGauge;
use prometheus::IntGaugeVec;
use prometheus::Opts;
use prometheus::Registry;
use prometheus::core::Collector;

/// A metric of ours, whether it has a series yet or not.
#[derive(Clone, Debug)]
pub struct Family {
    pub name: String,
    pub help: String,
    pub kind: FamilyKind,
    pub labels: Vec<Label>,
}

/// The type that Prometheus is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FamilyKind {
    Counter,
    Gauge,
    Histogram,
}

impl FamilyKind {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// A label, and what may stand in it.
#[derive(Clone, Copy, Debug)]
pub struct Label {
    pub name: &'static str,
    pub values: Values,
}

/// What may stand in a label. Nothing that a client sends is among it.
#[derive(Clone, Copy, Debug)]
pub enum Values {
    /// These alone.
    Listed(&'static [&'static str]),
    /// What these words say, such as the names of routes.
    Described(&'static str),
}

pub const fn one_of(name: &'static str, values: &'static [&'static str]) -> Label {
    Label { name, values: Values::Listed(values) }
}

pub const fn some(name: &'static str, words: &'static str) -> Label {
    Label { name, values: Values::Described(words) }
}

pub(super) struct Maker<'r> {
    registry: &'r Registry,
    families: RefCell<Vec<Family>>,
}

impl<'r> Maker<'r> {
    pub(super) fn new(registry: &'r Registry) -> Self {
        Self { registry, families: RefCell::default() }
    }

    /// All that was made.
    pub(super) fn finish(self) -> Vec<Family> {
        self.families.into_inner()
    }

    fn register<C: Collector + Clone + 'static>(&self, collector: C, kind: FamilyKind, labels: &[Label]) -> Result<C, prometheus::Error> {
        self.registry.register(Box::new(collector.clone()))?;
        let made = collector.desc().into_iter();
        let made = made.map(|desc| Family { name: desc.fq_name.clone(), help: desc.help.clone(), kind, labels: labels.to_vec() });
        self.families.borrow_mut().extend(made);
        Ok(collector)
    }

    pub(super) fn counter(&self, name: &str, help: &str) -> Result<IntCounter, prometheus::Error> {
        self.register(IntCounter::with_opts(options(name, help))?, FamilyKind::Counter, &[])
    }

    pub(super) fn counters<const N: usize>(&self, name: &str, help: &str, labels: [Label; N]) -> Result<IntCounterVec, prometheus::Error> {
        self.register(IntCounterVec::new(options(name, help), &names(labels))?, FamilyKind::Counter, &labels)
    }

    /// With a series for every combination of what is listed.
    pub(super) fn counters_at_zero<const N: usize>(
        &self,
        name: &str,
        help: &str,
        labels: [Label; N],
    ) -> Result<IntCounterVec, prometheus::Error> {
        let counters = self.counters(name, help, labels)?;
        for values in combinations(&labels) {
            counters.get_metric_with_label_values(&values)?;
        }
        Ok(counters)
    }

    pub(super) fn gauge(&self, name: &str, help: &str) -> Result<IntGauge, prometheus::Error> {
        self.register(IntGauge::with_opts(options(name, help))?, FamilyKind::Gauge, &[])
    }

    pub(super) fn gauges<const N: usize>(&self, name: &str, help: &str, labels: [Label; N]) -> Result<IntGaugeVec, prometheus::Error> {
        self.register(IntGaugeVec::new(options(name, help), &names(labels))?, FamilyKind::Gauge, &labels)
    }

    pub(super) fn seconds(&self, name: &str, help: &str) -> Result<Gauge, prometheus::Error> {
        self.register(Gauge::with_opts(options(name, help))?, FamilyKind::Gauge, &[])
    }

    pub(super) fn timestamps<const N: usize>(&self, name: &str, help: &str, labels: [Label; N]) -> Result<GaugeVec, prometheus::Error> {
        self.register(GaugeVec::new(options(name, help), &names(labels))?, FamilyKind::Gauge, &labels)
    }

    pub(super) fn histograms<const N: usize>(
        &self,
        name: &str,
        help: &str,
        labels: [Label; N],
        buckets: &[f64],
    ) -> Result<HistogramVec, prometheus::Error> {
        let options = HistogramOpts::from(options(name, help)).buckets(buckets.to_vec());
        self.register(HistogramVec::new(options, &names(labels))?, FamilyKind::Histogram, &labels)
    }
}

/// Every combination of the values that are listed; a label whose values are only described leaves none.
fn combinations(labels: &[Label]) -> Vec<Vec<&'static str>> {
    labels.iter().fold(vec![Vec::new()], |begun, label| {
        let values = match label.values {
            Values::Listed(values) => values,
            Values::Described(_) => &[],
        };
        begun.iter().flat_map(|begun| values.iter().map(|value| [begun.as_slice(), &[*value]].concat())).collect()
    })
}

fn names<const N: usize>(labels: [Label; N]) -> [&'static str; N] {
    labels.map(|label| label.name)
}

fn options(name: &str, help: &str) -> Opts {
    Opts::new(format!("tollgate_{name}"), help)
}
