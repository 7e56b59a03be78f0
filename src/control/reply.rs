//! What every answer has: it is one line, and may be an error.

use serde::{Deserialize, Serialize};

/// The answer to what cannot be answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorReply {
    /// The error.
    pub error: ErrorBody,
}

/// What went wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorBody {
    /// `bad_request`, `unknown_question`, `unknown_command`, `unknown_source`, `not_permitted`,
    /// `not_steered`, `refused`, `bad_configuration`, `not_configured`, `line_too_long`, `busy` or
    /// `internal`.
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

/// An answer as a line, without its end.
pub fn to_line(reply: &impl Serialize) -> String {
    serde_json::to_string(reply).unwrap_or_else(|_| {
        r#"{"error":{"code":"internal","text":"The answer could not be written as JSON."}}"#.to_owned()
    })
}
