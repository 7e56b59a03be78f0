//! The shell of the interface: binds the socket, answers whoever asks, survives everything.

use std::fmt;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use refclocks::Backoff;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::command::{Answer, Command, Commission, may_command};
use super::lines::{Line, Lines};
use super::protocol::{self, Said};
use super::reply::{ErrorReply, to_line};
use crate::observe::Look;

/// Owner and group may ask.
const MODE: u32 = 0o660;
/// Askers at once; more are told to come back.
const MOST_CONNECTIONS: usize = 32;
/// An asker that says nothing for so long is let go.
const IDLE: Duration = Duration::from_secs(60);
/// An asker that does not take its answer for so long is let go.
const SLOW_READER: Duration = Duration::from_secs(5);
/// A command that takes longer is answered that it does.
const CARRIED_OUT: Duration = Duration::from_secs(4);
/// How long whoever holds the path may take to show that it lives.
const PROBE: Duration = Duration::from_secs(1);
/// How often we look whether the path is still ours.
const STILL_OURS_EVERY: Duration = Duration::from_secs(10);
/// When accepting fails (too many open files), so long until the next try.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// Where the socket stands.
#[derive(Debug)]
pub enum ServerState {
    /// It answers.
    Listening {
        /// The socket.
        path: PathBuf,
    },
    /// It does not, and is tried again.
    Unavailable {
        /// Why.
        error: BindError,
        /// Until the next try.
        again_in: Duration,
    },
    /// The path was taken away from under us; it is bound anew.
    Lost {
        /// The socket.
        path: PathBuf,
    },
}

impl fmt::Display for ServerState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Listening { path } => write!(f, "answering on {}", path.display()),
            Self::Unavailable { error, .. } => write!(f, "no control socket: {error}; trying again"),
            Self::Lost { path } => write!(f, "{} was removed by somebody; making it anew", path.display()),
        }
    }
}

/// Why the socket could not be bound.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// The folder is not there and could not be made.
    #[error("cannot make the folder {}: {source}", folder.display())]
    Folder {
        /// The folder.
        folder: PathBuf,
        /// The system's words.
        source: io::Error,
    },
    /// Something that is no socket has the path.
    #[error("{} exists and is not a socket", path.display())]
    NotASocket {
        /// The path.
        path: PathBuf,
    },
    /// Another daemon answers there.
    #[error("another program answers on {}", path.display())]
    InUse {
        /// The path.
        path: PathBuf,
    },
    /// The system says no.
    #[error("cannot listen on {}: {source}", path.display())]
    Io {
        /// The path.
        path: PathBuf,
        /// The system's words.
        source: io::Error,
    },
}

impl BindError {
    /// What a person can do about it, in one imperative sentence.
    pub fn action(&self) -> String {
        match self {
            Self::Folder { folder, .. } => {
                format!("Make {} and give it to the daemon's user, or set `[control] socket`.", folder.display())
            }
            Self::NotASocket { path } => format!("Move {} away, or set `[control] socket`.", path.display()),
            Self::InUse { .. } => "Stop the other daemon, or set `[control] socket` to another path.".into(),
            Self::Io { .. } => "Check the folder's owner, and set `[control] socket` if need be.".into(),
        }
    }
}

/// Answers on the socket at `path` for as long as the future lives; it never ends by itself. What
/// happens to the socket is handed to `tell`, once for each change. To be spawned on the main
/// thread's `LocalSet`; dropping it closes and removes the socket.
///
/// `bound` is a socket that may be bound already. A command is handed to `commission` if its sender may
/// command; whoever carries it out answers it.
pub async fn run(
    path: PathBuf,
    mut bound: Option<Bound>,
    look: impl Look + 'static,
    commission: impl Fn(Commission) + 'static,
    mut tell: impl FnMut(&ServerState),
) {
    let desk = Rc::new(Desk { look, commission });
    let mut backoff = Backoff::default();
    let mut told = String::new();
    loop {
        let ready = match bound.take() {
            Some(bound) => Ok(bound),
            None => bind(&path).await,
        };
        match ready {
            Ok(bound) => {
                backoff.reset();
                told.clear();
                tell(&ServerState::Listening { path: path.clone() });
                serve(&bound, &desk).await;
                tell(&ServerState::Lost { path: path.clone() });
            }
            Err(error) => {
                let again_in = backoff.next_delay().to_duration();
                let text = error.to_string();
                if text != told {
                    tell(&ServerState::Unavailable { error, again_in });
                    told = text;
                }
                sleep(again_in).await;
            }
        }
    }
}

/// Who answers questions, and who takes commands.
struct Desk<L, C> {
    look: L,
    commission: C,
}

impl<L: Look, C: Fn(Commission)> Desk<L, C> {
    async fn answer(&self, line: &str, stream: &UnixStream) -> String {
        match protocol::parse(line) {
            Ok(Said::Ask(question)) => protocol::answer(&question, &self.look),
            Ok(Said::Set(command)) => match self.carry_out(command, stream).await {
                Ok(reply) => to_line(&reply),
                Err(error) => error.to_line(),
            },
            Err(error) => error.to_line(),
        }
    }

    async fn carry_out(&self, command: Command, stream: &UnixStream) -> Answer {
        let peer = stream.peer_cred().map(|peer| peer.uid());
        if !peer.is_ok_and(|uid| may_command(uid, nix::unistd::geteuid().as_raw())) {
            let text = "Only root and the daemon's own user may command. Others that reach this socket may ask.";
            return Err(ErrorReply::new("not_permitted", text));
        }
        let (answer, answered) = oneshot::channel();
        (self.commission)(Commission { command, answer: Some(answer) });
        match timeout(CARRIED_OUT, answered).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => Err(ErrorReply::new("internal", "It was not carried out. Look at the daemon's log.")),
            Err(_) => Err(ErrorReply::new("busy", "It is taking long. Look at the log for what comes of it.")),
        }
    }
}

/// A socket of ours; removes itself, unless the path is somebody else's by then.
#[derive(Debug)]
pub struct Bound {
    listener: UnixListener,
    path: PathBuf,
    inode: Option<(u64, u64)>,
}

impl Bound {
    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn is_still_ours(&self) -> bool {
        inode(&self.path) == self.inode
    }
}

impl Drop for Bound {
    fn drop(&mut self) {
        if self.inode.is_some() && self.is_still_ours() {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

fn inode(path: &Path) -> Option<(u64, u64)> {
    std::fs::symlink_metadata(path).ok().map(|meta| (meta.dev(), meta.ino()))
}

/// Binds the socket, making its folder.
///
/// # Errors
///
/// [`BindError`], with the reason and what to do.
pub async fn bind(path: &Path) -> Result<Bound, BindError> {
    let io = |source| BindError::Io { path: path.into(), source };
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        std::fs::create_dir_all(folder).map_err(|source| BindError::Folder { folder: folder.into(), source })?;
    }
    match std::fs::symlink_metadata(path) {
        Ok(meta) if !meta.file_type().is_socket() => return Err(BindError::NotASocket { path: path.into() }),
        // A socket that somebody listens on takes the connection, or has its queue full. Only a
        // refusal tells that nobody is left.
        Ok(_) => match timeout(PROBE, UnixStream::connect(path)).await {
            Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused => {
                std::fs::remove_file(path).map_err(io)?;
            }
            Ok(Err(error)) if error.kind() == io::ErrorKind::PermissionDenied => return Err(io(error)),
            _ => return Err(BindError::InUse { path: path.into() }),
        },
        Err(_) => {}
    }
    let listener = UnixListener::bind(path).map_err(io)?;
    let bound = Bound { listener, inode: inode(path), path: path.into() };
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(MODE)).map_err(io)?;
    Ok(bound)
}

/// Returns when the path is no longer ours.
async fn serve<L: Look + 'static, C: Fn(Commission) + 'static>(bound: &Bound, desk: &Rc<Desk<L, C>>) {
    let mut askers = JoinSet::new();
    let mut check = tokio::time::interval(STILL_OURS_EVERY);
    loop {
        tokio::select! {
            accepted = bound.listener.accept() => match accepted {
                Ok((stream, _)) if askers.len() < MOST_CONNECTIONS => {
                    askers.spawn_local(answer(stream, Rc::clone(desk)));
                }
                Ok((stream, _)) => {
                    let busy = ErrorReply::new("busy", "Too many ask at once. Come back in a moment.");
                    let _ = stream.try_write(format!("{}\n", busy.to_line()).as_bytes());
                }
                Err(_) => sleep(ACCEPT_PAUSE).await,
            },
            Some(_) = askers.join_next() => {}
            _ = check.tick() => if !bound.is_still_ours() {
                return;
            },
        }
    }
}

/// Answers one asker until it leaves, is silent or does not take its answers.
async fn answer<L: Look, C: Fn(Commission)>(mut stream: UnixStream, desk: Rc<Desk<L, C>>) {
    let mut lines = Lines::default();
    let mut buffer = vec![0; 4096];
    loop {
        let Ok(Ok(count)) = timeout(IDLE, stream.read(&mut buffer)).await else { return };
        let whole = match buffer.get(..count) {
            Some([]) | None => lines.finish().into_iter().collect(),
            Some(bytes) => lines.push(bytes),
        };
        for line in whole {
            let mut reply = match line {
                Line::Whole(line) => desk.answer(&line, &stream).await,
                Line::TooLong => ErrorReply::new("line_too_long", "A question has at most 64 KiB.").to_line(),
            };
            reply.push('\n');
            if !matches!(timeout(SLOW_READER, stream.write_all(reply.as_bytes())).await, Ok(Ok(()))) {
                return;
            }
        }
        if count == 0 {
            return;
        }
    }
}

#[cfg(test)]
#[path = "server_tests.rs"]
mod tests;
