//! Asks the daemon: one question, one answer, with a time limit. Blocking; for the command line.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::reply::{ErrorBody, ErrorReply};
use crate::observe::plain::without_control;

/// The longest answer taken, bytes.
const LONGEST_REPLY: u64 = 4 << 20;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// No socket there, or nobody behind it.
    #[error("no daemon answers on {}", path.display())]
    NoDaemon {
        /// The socket.
        path: PathBuf,
    },
    /// Not allowed to ask.
    #[error("not allowed to ask on {}", path.display())]
    NotAllowed {
        /// The socket.
        path: PathBuf,
    },
    /// It is there and does not answer.
    #[error("the daemon on {} did not answer within {:.0} s", path.display(), after.as_secs_f64())]
    TimedOut {
        /// The socket.
        path: PathBuf,
        /// How long we waited.
        after: Duration,
    },
    /// The system says no.
    #[error("asking on {} failed: {source}", path.display())]
    Io {
        /// The socket.
        path: PathBuf,
        /// The system's words.
        source: io::Error,
    },
    /// The daemon answered with an error.
    #[error("{}", .0.text)]
    Refused(ErrorBody),
    /// The answer is not what this version understands.
    #[error("the daemon's answer is not understood: {0}")]
    NotUnderstood(String),
}

impl AskError {
    /// What a person can do about it, in one or two imperative sentences.
    pub fn action(&self) -> Option<String> {
        Some(match self {
            Self::NoDaemon { .. } => "Start it with `refclockd run -c FILE`, or name its socket with --socket PATH. \
                 `refclockd demo` shows it all without hardware."
                .into(),
            Self::NotAllowed { path } => {
                format!("Ask as root, or join the socket's group: see `ls -l {}`.", path.display())
            }
            Self::TimedOut { .. } => "Look at the daemon's log; if it hangs, restart it.".into(),
            Self::NotUnderstood(_) => "Use the `refclockd` of the same version as the daemon.".into(),
            Self::Io { .. } | Self::Refused(_) => return None,
        })
    }

    /// A code for programs.
    pub fn code(&self) -> &str {
        match self {
            Self::NoDaemon { .. } => "no_daemon",
            Self::NotAllowed { .. } => "not_allowed",
            Self::TimedOut { .. } => "timed_out",
            Self::Io { .. } => "io",
            Self::Refused(body) => &body.code,
            Self::NotUnderstood(_) => "not_understood",
        }
    }

    /// The exit code, after sysexits(3).
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::NoDaemon { .. } => 69,
            Self::NotAllowed { .. } => 77,
            Self::TimedOut { .. } => 75,
            Self::Io { .. } => 74,
            Self::Refused(body) => match body.code.as_str() {
                "unknown_source" => 64,
                "not_permitted" | "refused" => 77,
                "bad_configuration" => 78,
                "not_steered" | "not_configured" => 69,
                _ => 76,
            },
            Self::NotUnderstood(_) => 76,
        }
    }
}

/// Asks one question, or gives one command, and gives back the answer's line, made safe to print.
pub fn ask_line(path: &Path, request: &impl Serialize, limit: Duration) -> Result<String, AskError> {
    let (tell, told) = mpsc::channel();
    let question = serde_json::to_string(request).map_err(|error| AskError::NotUnderstood(error.to_string()))?;
    let socket = path.to_owned();
    // A full queue blocks connect() without a limit; so the limit is kept from outside. A thread
    // that hangs there ends with the program.
    let asker = thread::Builder::new().name("ask".into()).spawn(move || drop(tell.send(exchange(&socket, &question))));
    let io = |source: io::Error| match source.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => AskError::NoDaemon { path: path.into() },
        io::ErrorKind::PermissionDenied => AskError::NotAllowed { path: path.into() },
        _ => AskError::Io { path: path.into(), source },
    };
    asker.map_err(io)?;
    let line = match told.recv_timeout(limit) {
        Ok(line) => line.map_err(io)?,
        Err(_) => return Err(AskError::TimedOut { path: path.into(), after: limit }),
    };
    if line.is_empty() {
        return Err(AskError::NotUnderstood("it hung up without a word".into()));
    }
    Ok(without_control(&line).into_owned())
}

/// Asks one question and reads the answer: the line as it came, and what it says.
pub fn ask<T: DeserializeOwned>(
    path: &Path,
    request: &impl Serialize,
    limit: Duration,
) -> Result<(String, T), AskError> {
    let line = ask_line(path, request, limit)?;
    let not_understood = |error: serde_json::Error| AskError::NotUnderstood(error.to_string());
    let mut value: Value = serde_json::from_str(&line).map_err(not_understood)?;
    clean(&mut value);
    if value.get("error").is_some() {
        let reply: ErrorReply = serde_json::from_value(value).map_err(not_understood)?;
        return Err(AskError::Refused(reply.error));
    }
    let report = serde_json::from_value(value).map_err(not_understood)?;
    Ok((line, report))
}

fn exchange(path: &Path, question: &str) -> io::Result<String> {
    let mut stream = UnixStream::connect(path)?;
    let question = format!("{question}\n");
    // Who is turned away at the door may not get to ask, and is told why all the same.
    let asked = stream.write_all(question.as_bytes());
    let mut line = Vec::new();
    let heard = BufReader::new(stream.take(LONGEST_REPLY)).read_until(b'\n', &mut line);
    if line.is_empty() {
        asked.and(heard.map(drop))?;
    }
    while line.last().is_some_and(|byte| matches!(byte, b'\n' | b'\r')) {
        line.pop();
    }
    Ok(String::from_utf8_lossy(&line).into_owned())
}

/// JSON's escapes can carry what the line itself does not show.
fn clean(value: &mut Value) {
    match value {
        Value::String(text) => *text = without_control(text).into_owned(),
        Value::Array(values) => values.iter_mut().for_each(clean),
        Value::Object(fields) => fields.values_mut().for_each(clean),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}
