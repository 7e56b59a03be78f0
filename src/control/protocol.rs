//! Questions, commands and answers: one line in, one line out. Pure.

use serde::{Deserialize, Serialize};

use super::command::{COMMANDS, Command};
use super::reply::{ErrorReply, to_line};
use crate::core::snapshot::Snapshot;
use crate::observe::Look;
use crate::observe::report::{ClientsReport, SatellitesReport, SourcesReport, StatusReport, WhyReport};

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
    /// Who has asked for the time?
    Clients {
        /// So many of them at most; a hundred, if that is not said.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        most: Option<u32>,
    },
    /// Is anybody there?
    Ping,
}

/// Clients told of, if nobody says how many.
const USUALLY_MOST: usize = 100;

/// What can be asked.
const QUESTIONS: &str = "status, sources, why, satellites, clients, ping";

/// The answer to `ping`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PingReply {
    /// Name and version of this layout.
    pub schema: String,
    /// Version of the daemon.
    pub version: String,
    /// What can be asked.
    pub asks: Vec<String>,
    /// What can be commanded.
    #[serde(default)]
    pub sets: Vec<String>,
}

/// What a line says.
#[derive(Clone, Debug, PartialEq)]
pub enum Said {
    /// A question.
    Ask(Request),
    /// A command.
    Set(Command),
}

/// Answers one line from what the reader sees. Whatever the line is, the answer is one
/// JSON object without line ends. Commands are somebody else's to carry out.
pub fn handle_line(line: &str, look: &impl Look) -> String {
    match parse(line) {
        Ok(Said::Ask(request)) => answer(&request, look),
        Ok(Said::Set(_)) => ErrorReply::new("not_permitted", "Questions only.").to_line(),
        Err(error) => error.to_line(),
    }
}

/// Understands a line.
///
/// # Errors
///
/// What is wrong with it, as an answer.
pub fn parse(line: &str) -> Result<Said, ErrorReply> {
    let value: serde_json::Value = serde_json::from_str(line)
        .map_err(|error| ErrorReply::new("bad_request", format!("That is not one JSON object: {error}.")))?;
    if let Some(set) = value.get("set") {
        let known = set.as_str().is_some_and(|set| COMMANDS.split(", ").any(|known| known == set));
        if !known {
            return Err(ErrorReply::new("unknown_command", format!("Commands are: {COMMANDS}.")));
        }
        return serde_json::from_value(value)
            .map(Said::Set)
            .map_err(|error| ErrorReply::new("bad_request", format!("That command is not well put: {error}")));
    }
    match value.get("ask").map(|ask| ask.as_str()) {
        Some(Some(ask)) if QUESTIONS.split(", ").any(|known| known == ask) => serde_json::from_value(value)
            .map(Said::Ask)
            .map_err(|error| ErrorReply::new("bad_request", format!("That question is not well put: {error}."))),
        Some(Some(_)) => Err(ErrorReply::new("unknown_question", format!("Questions are: {QUESTIONS}."))),
        _ => Err(ErrorReply::new("bad_request", "Ask like this: {\"ask\":\"status\"}.")),
    }
}

/// Answers a question from what the reader sees.
pub fn answer(request: &Request, look: &impl Look) -> String {
    let (snapshot, now) = look.look();
    let snapshot: &Snapshot = &snapshot;
    match request {
        Request::Status => {
            let report = StatusReport::new(snapshot, now).with_requests(look.served()).with_feeds(&look.fed(), now);
            to_line(&report.with_cards(&look.cards()).with_outages(&look.outages()))
        }
        Request::Sources => to_line(&SourcesReport::new(snapshot, now.raw)),
        Request::Satellites => to_line(&SatellitesReport::new(snapshot, now.raw)),
        Request::Clients { most } => {
            let most = most.map_or(USUALLY_MOST, |most| usize::try_from(most).unwrap_or(usize::MAX));
            to_line(&ClientsReport::new(snapshot, now.raw, look.clients(), most))
        }
        Request::Why { source } => match WhyReport::new(snapshot, now.raw, source.as_deref()) {
            Some(report) => to_line(&report),
            None => unknown_source(snapshot).to_line(),
        },
        Request::Ping => to_line(&PingReply {
            schema: "refclockd.ping/1".into(),
            version: env!("CARGO_PKG_VERSION").into(),
            asks: QUESTIONS.split(", ").map(Into::into).collect(),
            sets: COMMANDS.split(", ").map(Into::into).collect(),
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::report::made_up::{NOW, holdover, locked};
    use proptest::prelude::*;
    use std::sync::Arc;

    /// Where these tests look.
    fn seeing(snapshot: Snapshot) -> impl Look {
        let snapshot = Arc::new(snapshot);
        move || (Arc::clone(&snapshot), NOW.into())
    }

    fn ask(line: &str) -> serde_json::Value {
        serde_json::from_str(&handle_line(line, &seeing(locked()))).unwrap()
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
            (r#"{"ask":"clients"}"#, "refclockd.clients/1"),
            (r#"{"ask":"clients","most":4000000000}"#, "refclockd.clients/1"),
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
        assert_eq!(error_code(r#"{"ask":"clients","most":-1}"#), "bad_request");
        assert_eq!(error_code(r#"{"ask":"shutdown"}"#), "unknown_question");
        assert_eq!(error_code(r#"{"ask":"why","source":"nobody"}"#), "unknown_source");
        assert_eq!(error_code(&"[".repeat(60_000)), "bad_request");
    }

    proptest! {
        #[test]
        fn any_line_gets_one_line(line in any::<String>()) {
            let reply = handle_line(&line, &seeing(holdover()));
            prop_assert!(!reply.contains('\n'));
            prop_assert!(serde_json::from_str::<serde_json::Value>(&reply).unwrap().is_object());
        }
    }

    #[test]
    fn requests_are_written_as_they_are_read() {
        let why = Request::Why { source: Some("GPS".into()) };
        for request in [Request::Status, Request::Sources, why, Request::Why { source: None }, Request::Ping] {
            let line = serde_json::to_string(&request).unwrap();
            assert_eq!(parse(&line).unwrap(), Said::Ask(request), "{line}");
        }
        let to = "2026-11-26 12:00:00".parse().unwrap();
        let source = Some("GPS".to_owned());
        for command in [
            Command::Step,
            Command::Time { to },
            Command::Offline { source },
            Command::Online { source: None },
            Command::Burst { source: None },
            Command::ForgetClients,
            Command::Reload,
        ] {
            let line = serde_json::to_string(&command).unwrap();
            assert_eq!(parse(&line).unwrap(), Said::Set(command), "{line}");
        }
    }

    #[test]
    fn commands_are_told_apart_from_what_is_none() {
        let error = |line: &str| parse(line).unwrap_err().error;
        assert_eq!(error(r#"{"set":"shutdown"}"#).code, "unknown_command");
        assert_eq!(error(r#"{"set":3}"#).code, "unknown_command");
        assert_eq!(error(r#"{"set":"time"}"#).code, "bad_request");
        assert!(error(r#"{"set":"time","to":"noon"}"#).text.contains("That is not a time"));
        assert_eq!(error_code(r#"{"set":"step"}"#), "not_permitted");
    }
}
