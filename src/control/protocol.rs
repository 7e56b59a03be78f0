//! Questions and answers: one line in, one line out. Pure.

use serde::{Deserialize, Serialize};

use crate::core::snapshot::Snapshot;
use crate::observe::Moment;
use crate::observe::report::{SatellitesReport, SourcesReport, StatusReport, WhyReport};

/// A question.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "snake_case")]
pub enum Request {
    /// How is the whole?
    Status,
    /// How is each source?
    Sources,
    /// Why?
    Why {
        /// Only this source.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        source: Option<String>,
    },
    /// What do the receivers see?
    Satellites,
    /// Is anybody there?
    Ping,
}

/// What can be asked.
const QUESTIONS: &str = "status, sources, why, satellites, ping";

/// The answer to what cannot be answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorReply {
    /// The error.
    pub error: ErrorBody,
}

/// What went wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorBody {
    /// `bad_request`, `unknown_question`, `unknown_source`, `line_too_long`, `busy` or `internal`.
    pub code: String,
    /// In a sentence or two.
    pub text: String,
}

impl ErrorReply {
    /// An error.
    pub fn new(code: &str, text: impl Into<String>) -> Self {
        Self { error: ErrorBody { code: code.into(), text: text.into() } }
    }

    /// As a line, without its end.
    pub fn to_line(&self) -> String {
        to_line(self)
    }
}

/// The answer to `ping`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PingReply {
    /// Name and version of this layout.
    pub schema: String,
    /// Version of the daemon.
    pub version: String,
    /// What can be asked.
    pub asks: Vec<String>,
}

/// Answers one line from a snapshot at the reader's now. Whatever the line is, the answer is one
/// JSON object without line ends.
pub fn handle_line(line: &str, snapshot: &Snapshot, now: impl Into<Moment>) -> String {
    match parse(line) {
        Ok(request) => answer(&request, snapshot, now.into()),
        Err(error) => error.to_line(),
    }
}

fn parse(line: &str) -> Result<Request, ErrorReply> {
    let value: serde_json::Value = serde_json::from_str(line)
        .map_err(|error| ErrorReply::new("bad_request", format!("That is not one JSON object: {error}.")))?;
    match value.get("ask").map(|ask| ask.as_str()) {
        Some(Some(ask)) if QUESTIONS.split(", ").any(|known| known == ask) => serde_json::from_value(value)
            .map_err(|error| ErrorReply::new("bad_request", format!("That question is not well put: {error}."))),
        Some(Some(_)) => Err(ErrorReply::new("unknown_question", format!("Questions are: {QUESTIONS}."))),
        _ => Err(ErrorReply::new("bad_request", "Ask like this: {\"ask\":\"status\"}.")),
    }
}

fn answer(request: &Request, snapshot: &Snapshot, now: Moment) -> String {
    match request {
        Request::Status => to_line(&StatusReport::new(snapshot, now)),
        Request::Sources => to_line(&SourcesReport::new(snapshot, now.raw)),
        Request::Satellites => to_line(&SatellitesReport::new(snapshot, now.raw)),
        Request::Why { source } => match WhyReport::new(snapshot, now.raw, source.as_deref()) {
            Some(report) => to_line(&report),
            None => unknown_source(snapshot).to_line(),
        },
        Request::Ping => to_line(&PingReply {
            schema: "refclockd.ping/1".into(),
            version: env!("CARGO_PKG_VERSION").into(),
            asks: QUESTIONS.split(", ").map(Into::into).collect(),
        }),
    }
}

fn unknown_source(snapshot: &Snapshot) -> ErrorReply {
    let names: Vec<&str> = snapshot.sources.iter().map(|s| s.name.as_str()).collect();
    let text = match names.as_slice() {
        [] => "No source is configured.".to_owned(),
        names => format!("No source has that name. Sources are: {}.", names.join(", ")),
    };
    ErrorReply::new("unknown_source", crate::observe::plain::plain(&text))
}

fn to_line(reply: &impl Serialize) -> String {
    serde_json::to_string(reply).unwrap_or_else(|_| {
        r#"{"error":{"code":"internal","text":"The answer could not be written as JSON."}}"#.to_owned()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::report::made_up::{NOW, holdover, locked};
    use proptest::prelude::*;

    fn ask(line: &str) -> serde_json::Value {
        serde_json::from_str(&handle_line(line, &locked(), NOW)).unwrap()
    }

    fn error_code(line: &str) -> String {
        serde_json::from_value::<ErrorReply>(ask(line)).unwrap().error.code
    }

    #[test]
    fn each_question_has_its_answer() {
        for (question, schema) in [
            (r#"{"ask":"status"}"#, "refclockd.status/1"),
            (r#"{"ask":"sources"}"#, "refclockd.sources/1"),
            (r#"{"ask":"why"}"#, "refclockd.why/1"),
            (r#"{"ask":"why","source":"GPS"}"#, "refclockd.why/1"),
            (r#"{"ask":"satellites","since":"a later version"}"#, "refclockd.satellites/1"),
            (r#" {"ask":"ping"} "#, "refclockd.ping/1"),
        ] {
            assert_eq!(ask(question)["schema"], schema, "{question}");
        }
    }

    #[test]
    fn what_cannot_be_answered_gets_an_error() {
        assert_eq!(error_code(""), "bad_request");
        assert_eq!(error_code("status"), "bad_request");
        assert_eq!(error_code("[1,2]"), "bad_request");
        assert_eq!(error_code(r#"{"ask":3}"#), "bad_request");
        assert_eq!(error_code(r#"{"ask":"why","source":3}"#), "bad_request");
        assert_eq!(error_code(r#"{"ask":"shutdown"}"#), "unknown_question");
        assert_eq!(error_code(r#"{"ask":"why","source":"nobody"}"#), "unknown_source");
        assert_eq!(error_code(&"[".repeat(60_000)), "bad_request");
    }

    proptest! {
        #[test]
        fn any_line_gets_one_line(line in any::<String>()) {
            let reply = handle_line(&line, &holdover(), NOW);
            prop_assert!(!reply.contains('\n'));
            prop_assert!(serde_json::from_str::<serde_json::Value>(&reply).unwrap().is_object());
        }
    }

    #[test]
    fn requests_are_written_as_they_are_read() {
        let why = Request::Why { source: Some("GPS".into()) };
        for request in [Request::Status, Request::Sources, why, Request::Why { source: None }, Request::Ping] {
            let line = serde_json::to_string(&request).unwrap();
            assert_eq!(parse(&line).unwrap(), request, "{line}");
        }
    }
}
