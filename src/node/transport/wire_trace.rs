//! Trace context to text and back: what `traceparent` is in messages, checked where it comes in.

use crate::core::trace::TraceContext;

/// The trace a task belongs to, out of a message; none if it is empty.
pub(super) fn trace_in(traceparent: &str) -> Result<Option<Box<TraceContext>>, String> {
    if traceparent.is_empty() {
        return Ok(None);
    }
    let trace = TraceContext::parse(traceparent);
    trace.map(|trace| Some(Box::new(trace))).map_err(|problem| format!("traceparent: {problem}"))
}

/// The same into a message.
pub fn trace_out(trace: Option<&TraceContext>) -> String {
    trace.map(TraceContext::to_string).unwrap_or_default()
}
