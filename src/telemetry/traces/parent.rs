//! `traceparent` (W3C Trace Context): whose trace a check belongs to. What cannot be read is no parent.

use opentelemetry::trace::SpanId;
use opentelemetry::trace::TraceId;

/// The span that asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parent {
    pub trace: TraceId,
    pub span: SpanId,
    /// Whoever asked records it.
    pub sampled: bool,
}

impl Parent {
    /// From the values of all `traceparent` lines: one of two has no single meaning.
    pub fn of_lines<'a>(mut lines: impl Iterator<Item = &'a [u8]>) -> Option<Self> {
        match (lines.next(), lines.next()) {
            (Some(line), None) => Self::read(line),
            (None, _) | (Some(_), Some(_)) => None,
        }
    }

    fn read(text: &[u8]) -> Option<Self> {
        let mut parts = std::str::from_utf8(text).ok()?.splitn(5, '-');
        let mut next = |length| parts.next().filter(|part| part.len() == length && part.bytes().all(is_digit));
        let (version, trace, span, flags) = (next(2)?, next(32)?, next(16)?, next(2)?);
        // The first version ends here, a later one may go on, and the last is none.
        if version == "ff" || (version == "00" && parts.next().is_some()) {
            return None;
        }
        let (trace, span) = (TraceId::from_hex(trace).ok()?, SpanId::from_hex(span).ok()?);
        let sampled = u8::from_str_radix(flags, 16).ok()? & 1 == 1;
        (trace != TraceId::INVALID && span != SpanId::INVALID).then_some(Self { trace, span, sampled })
    }
}

fn is_digit(byte: u8) -> bool {
    matches!(byte, b'0'..=b'9' | b'a'..=b'f')
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use opentelemetry::propagation::TextMapPropagator as _;
    use opentelemetry::trace::TraceContextExt as _;
    use opentelemetry_sdk::propagation::TraceContextPropagator;
    use proptest::prelude::proptest;

    use super::*;

    const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
    const SPAN: &str = "b7ad6b7169203331";

    fn read(text: &str) -> Option<Parent> {
        Parent::of_lines(std::iter::once(text.as_bytes()))
    }

    fn parent(sampled: bool) -> Option<Parent> {
        Some(Parent { trace: TraceId::from_hex(TRACE).unwrap(), span: SpanId::from_hex(SPAN).unwrap(), sampled })
    }

    #[test]
    fn a_parent_is_read_by_the_grammar_alone() {
        let zeros = "0".repeat(32);
        let table = [
            (format!("00-{TRACE}-{SPAN}-01"), parent(true)),
            (format!("00-{TRACE}-{SPAN}-00"), parent(false)),
            (format!("00-{TRACE}-{SPAN}-03"), parent(true)),
            (format!("00-{TRACE}-{SPAN}-fe"), parent(false)),
            (format!("01-{TRACE}-{SPAN}-01"), parent(true)),
            (format!("cc-{TRACE}-{SPAN}-01-what-comes-later"), parent(true)),
            (format!("cc-{TRACE}-{SPAN}-01what-comes-later"), None),
            (format!("00-{TRACE}-{SPAN}-01-"), None),
            (format!("00-{TRACE}-{SPAN}-01-more"), None),
            (format!("ff-{TRACE}-{SPAN}-01"), None),
            (format!("00-{zeros}-{SPAN}-01"), None),
            (format!("00-{TRACE}-{}-01", &zeros[..16]), None),
            (format!("00-{}-{SPAN}-01", TRACE.to_uppercase()), None),
            (format!("00-+{}-{SPAN}-01", &TRACE[1..]), None),
            (format!("00-{}-{SPAN}-01", &TRACE[1..]), None),
            (format!("00-{TRACE}-{SPAN}-1"), None),
            (format!("00-{TRACE}-{SPAN}"), None),
            (format!(" 00-{TRACE}-{SPAN}-01"), None),
            (format!("0-{TRACE}-{SPAN}-01"), None),
            (format!("00-{TRACE}-{SPAN}-0g"), None),
            ("-".repeat(55), None),
            (String::new(), None),
        ];
        for (text, expected) in table {
            assert_eq!(read(&text), expected, "{text:?}");
        }
        assert_eq!(Parent::of_lines(std::iter::once(&b"\xff"[..])), None);
        let text = format!("00-{TRACE}-{SPAN}-01");
        assert_eq!(Parent::of_lines([text.as_bytes(), text.as_bytes()].into_iter()), None, "two of them");
        assert_eq!(Parent::of_lines(std::iter::empty()), None);
    }

    /// What OpenTelemetry's own reader makes of it.
    fn read_by_the_library(text: &str) -> Option<Parent> {
        let headers = HashMap::from([("traceparent".to_owned(), text.to_owned())]);
        let context = TraceContextPropagator::new().extract(&headers);
        let span = context.span().span_context().clone();
        span.is_valid().then(|| Parent { trace: span.trace_id(), span: span.span_id(), sampled: span.is_sampled() })
    }

    proptest! {
        #[test]
        fn what_is_read_is_what_the_library_reads(trace in "[0-9a-f]{32}", span in "[0-9a-f]{16}", flags in "0[01]") {
            let text = format!("00-{trace}-{span}-{flags}");
            assert_eq!(read(&text), read_by_the_library(&text));
        }

        #[test]
        fn what_the_library_refuses_is_refused(text in "[0-9a-fF+ -]{0,60}") {
            if read(&text).is_some() {
                assert_eq!(read(&text), read_by_the_library(&text), "{text:?}");
            }
        }
    }
}
