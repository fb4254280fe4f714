//! Spans of requests and rounds.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use opentelemetry::propagation::{Extractor, TextMapPropagator as _};
use opentelemetry::trace::{
    Span as _, SpanKind, Status, TraceContextExt as _, Tracer as _, TracerProvider as _,
};
use opentelemetry::{Context, KeyValue};
use opentelemetry_otlp::{Protocol, SpanExporter, WithExportConfig as _, WithHttpConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::{
    BatchConfigBuilder, BatchSpanProcessor, IdGenerator as _, RandomIdGenerator, Sampler, SamplingDecision,
    SdkTracer, SdkTracerProvider, ShouldSample as _,
};
use tokio::runtime::Handle;

use super::TracesError;
use super::carrier::{Carrier, PATIENCE};
use super::config::TracingConfig;
use crate::dataplane::decide::Decision;
use crate::dataplane::node::connection::Outcome;
use crate::dataplane::node::identity::Identity;
use crate::platform::net::tls;

/// Maximum number of spans that wait to be sent. Others are lost.
const QUEUE: usize = 2048;
/// Maximum number of spans in one request to the collector.
const BATCH: usize = 512;
/// Maximum time that a span waits before it is sent.
const DELAY: Duration = Duration::from_secs(1);
/// Time limit for the last request to the collector on shutdown.
const LAST_WORDS: Duration = Duration::from_secs(2);
/// Header that names the trace of a request (W3C Trace Context).
const TRACEPARENT: &str = "traceparent";

/// Reads the files that a configuration names, without starting an exporter.
pub fn check(config: &TracingConfig) -> Result<(), TracesError> {
    tls::client(config.ca_file.as_deref())?;
    Ok(())
}

/// Exporter of spans, or none by default.
#[derive(Clone, Debug, Default)]
pub struct Traces(Option<Arc<Collector>>);

#[derive(Debug)]
struct Collector {
    provider: SdkTracerProvider,
    tracer: SdkTracer,
    sample: Sampler,
}

impl Traces {
    /// Starts the exporter of this node's spans, if it is configured. Must be called in a runtime, which carries the spans.
    pub fn start(config: Option<&TracingConfig>, node: &Identity) -> Result<Self, TracesError> {
        let Some(config) = config else { return Ok(Self::default()) };
        let exporter = SpanExporter::builder()
            .with_http()
            .with_http_client(Carrier::new(config.ca_file.as_deref(), Handle::current())?)
            .with_endpoint(config.otlp_endpoint.as_str())
            .with_protocol(Protocol::HttpBinary)
            .with_timeout(PATIENCE)
            .build()
            .map_err(|error| TracesError::Exporter(error.to_string()))?;
        let batches = BatchConfigBuilder::default()
            .with_max_queue_size(QUEUE)
            .with_max_export_batch_size(BATCH)
            .with_scheduled_delay(DELAY)
            .build();
        let resource = Resource::builder()
            .with_service_name("halligand")
            .with_attributes([
                KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
                KeyValue::new("service.instance.id", node.node_id.to_string()),
                KeyValue::new("halligan.data_plane", node.data_plane_id.to_string()),
            ])
            .build();
        let provider = SdkTracerProvider::builder()
            .with_span_processor(BatchSpanProcessor::new(exporter, batches))
            // Requests that are not traced never reach the SDK.
            .with_sampler(Sampler::AlwaysOn)
            .with_resource(resource)
            .build();
        let (tracer, sample) = (provider.tracer("halligan"), Sampler::TraceIdRatioBased(config.sample));
        Ok(Self(Some(Arc::new(Collector { provider, tracer, sample }))))
    }

    /// Decides whether a request is traced, before anything else is known of it: as its own trace states, or at random if
    /// it has none. `header` returns the value of a header of a trusted peer.
    #[must_use]
    pub fn request<'h>(&self, header: impl Fn(&'static str) -> Option<&'h str>) -> Trace {
        let Some(collector) = &self.0 else { return Trace(None) };
        let parent = header(TRACEPARENT).map(Parent::context).unwrap_or_default();
        let followed = if parent.has_active_span() {
            parent.span().span_context().is_sampled()
        } else {
            collector.draws()
        };
        if followed { collector.follow("authorize", SpanKind::Server, parent) } else { Trace(None) }
    }

    /// Traces a round with the control plane. Rounds are few, so all of them are traced.
    #[must_use]
    pub fn round(&self, name: &'static str) -> Trace {
        let Some(collector) = &self.0 else { return Trace(None) };
        collector.follow(name, SpanKind::Client, Context::new())
    }

    /// Sends waiting spans, within a short time limit. The call blocks; later spans are lost.
    pub fn close(&self) {
        if let Some(collector) = &self.0 {
            // Lost spans do not prevent the shutdown.
            let _ = collector.provider.shutdown_with_timeout(LAST_WORDS);
        }
    }
}

impl Collector {
    /// Decides at random whether a request without a trace gets one.
    fn draws(&self) -> bool {
        let id = RandomIdGenerator::default().new_trace_id();
        let drawn = self.sample.should_sample(None, id, "", &SpanKind::Server, &[], &[]);
        drawn.decision == SamplingDecision::RecordAndSample
    }

    fn follow(self: &Arc<Self>, name: &'static str, kind: SpanKind, parent: Context) -> Trace {
        let (collector, started) = (Arc::clone(self), SystemTime::now());
        Trace(Some(Box::new(Followed { collector, name, kind, parent, started })))
    }
}

/// Value of a `traceparent` header. Its companion `tracestate` is ignored, since anybody can write anything into it.
struct Parent<'h>(&'h str);

impl<'h> Parent<'h> {
    /// Parses the trace that it names, or returns an empty context if it is invalid. The SDK alone would accept ids that
    /// are too short.
    fn context(value: &'h str) -> Context {
        let known = value.split('-').take(4);
        let hexadecimal = |part: &str| part.bytes().all(|byte| byte.is_ascii_hexdigit());
        if !known.clone().all(hexadecimal) || !known.map(str::len).eq([2, 32, 16, 2]) {
            return Context::new();
        }
        TraceContextPropagator::new().extract_with_context(&Context::new(), &Self(value))
    }
}

impl Extractor for Parent<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        (key == TRACEPARENT).then_some(self.0)
    }

    fn keys(&self) -> Vec<&str> {
        vec![TRACEPARENT]
    }
}

/// Request or round that may be traced. It records no span if it is dropped without a result.
#[derive(Debug)]
pub struct Trace(Option<Box<Followed>>);

#[derive(Debug)]
struct Followed {
    collector: Arc<Collector>,
    name: &'static str,
    kind: SpanKind,
    parent: Context,
    started: SystemTime,
}

impl Trace {
    /// Records a span for a decision whose event is `event`.
    pub fn decided(self, decision: &Decision, event: &str) {
        let Some(followed) = self.0 else { return };
        let mut told = vec![
            KeyValue::new("halligan.decision", if decision.allowed() { "allow" } else { "deny" }),
            KeyValue::new("halligan.reason", decision.reason().code()),
            KeyValue::new("halligan.event", event.to_owned()),
        ];
        let found = decision.facts();
        told.extend(found.deployment.map(|id| KeyValue::new("halligan.deployment", id.to_string())));
        told.extend(found.route.map(|route| KeyValue::new("http.route", Arc::clone(route))));
        told.extend(found.permission.map(|needed| KeyValue::new("halligan.permission", needed.as_str())));
        followed.end(told, Status::Unset);
    }

    /// Records a span for a round of sync.
    pub fn synced(self, outcome: Outcome) {
        let Some(followed) = self.0 else { return };
        let status =
            if outcome == Outcome::Renewed { Status::Unset } else { Status::error(outcome.as_str()) };
        followed.end(vec![KeyValue::new("halligan.outcome", outcome.as_str())], status);
    }

    /// Records a span for a round of reconciliation. `calls` is the number of calls, or `None` if it failed.
    pub fn reconciled(self, calls: Option<usize>) {
        let Some(followed) = self.0 else { return };
        let status = if calls.is_some() { Status::Unset } else { Status::error("waits") };
        let calls = i64::try_from(calls.unwrap_or_default()).unwrap_or(i64::MAX);
        followed.end(vec![KeyValue::new("halligan.calls", calls)], status);
    }
}

impl Followed {
    /// Makes the span, which ends now.
    fn end(self, attributes: Vec<KeyValue>, status: Status) {
        let Self { collector, name, kind, parent, started } = self;
        let tracer = &collector.tracer;
        let builder = tracer.span_builder(name).with_kind(kind).with_start_time(started);
        let mut span = tracer.build_with_context(builder.with_attributes(attributes), &parent);
        span.set_status(status);
        span.end();
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::protocol::id::{DataPlaneId, NodeId};

    const SAMPLED: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    /// Returns traces of a node whose collector is never called.
    fn traces(sample: f64) -> Traces {
        let config = format!("otlp_endpoint = 'http://127.0.0.1:9'\nsample = {sample:?}");
        let node = Identity {
            node_id: NodeId::new("nod_a").unwrap(),
            data_plane_id: DataPlaneId::new("dpl_a").unwrap(),
            issuer: "https://control.example".into(),
        };
        Traces::start(Some(&toml::from_str(&config).unwrap()), &node).unwrap()
    }

    #[tokio::test]
    async fn a_request_is_followed_as_its_trace_says() {
        let (none, all) = (traces(0.0), traces(1.0));
        assert!(none.request(|_| Some(SAMPLED)).0.is_some());
        // A later version of the header may have more parts.
        let later = format!("{}-more", SAMPLED.replacen("00", "01", 1));
        assert!(none.request(|_| Some(&later)).0.is_some());
        let left_out = SAMPLED.replace("-01", "-00");
        assert!(all.request(|_| Some(&left_out)).0.is_none());
        assert!(Traces::default().request(|_| Some(SAMPLED)).0.is_none());
        assert!(Traces::default().round("sync").0.is_none());
        for unreadable in [
            "",
            "00",
            "00-0af-b7-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-1",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-02",
            "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01",
            "00-+af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
            "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        ] {
            assert!(none.request(|_| Some(unreadable)).0.is_none(), "{unreadable}");
            let own = all.request(|_| Some(unreadable)).0.unwrap();
            assert!(!own.parent.has_active_span(), "{unreadable}");
        }
    }

    #[tokio::test]
    async fn of_requests_without_a_trace_the_share_that_was_asked_for_is_followed() {
        let some = traces(0.25);
        let followed = (0..4000).filter(|_| some.request(|_| None).0.is_some()).count();
        // A standard deviation is about twenty-seven.
        assert!((750..1250).contains(&followed), "{followed} of 4000");
    }
}
