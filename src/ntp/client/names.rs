//! Host names, resolved on the `names` thread: getaddrinfo may block for many seconds. A program that
//! may have one thread only (`--single-thread`) is blocked by it.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::{Arc, OnceLock, mpsc};
use std::thread;

use tokio::sync::oneshot;

/// Why a name has no address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ResolveError {
    /// The system's resolver failed.
    #[error("{host}: {error}")]
    Failed {
        /// The name.
        host: String,
        /// The resolver's words.
        error: String,
    },
    /// The name exists and has no address.
    #[error("{host} has no address")]
    NoAddress {
        /// The name.
        host: String,
    },
    /// Nobody answers who is asked for in a group.
    #[error("nobody in {host} answers")]
    NoAnswer {
        /// The group.
        host: String,
    },
    /// The names thread could not be started.
    #[error("no thread to resolve names on: {error}")]
    NoThread {
        /// The system's words.
        error: String,
    },
}

type Answer = Result<Vec<SocketAddr>, ResolveError>;
type Queue = mpsc::Sender<Question>;

#[derive(Debug)]
struct Question {
    host: String,
    port: u16,
    answer: oneshot::Sender<Answer>,
}

/// Resolves names. Clones share the thread.
#[derive(Clone, Debug)]
pub struct Names {
    /// To the names thread, which starts with the first question that needs it and ends with the last
    /// handle; `None` without one.
    queue: Option<Arc<OnceLock<Result<Queue, String>>>>,
}

impl Names {
    /// A handle to the thread; starts nothing yet.
    pub fn on_a_thread() -> Self {
        Self { queue: Some(Arc::default()) }
    }

    /// Resolves on the calling thread, which stands still meanwhile.
    pub fn here() -> Self {
        Self { queue: None }
    }

    /// The addresses of a host. A literal address is its own, and needs no thread.
    ///
    /// # Errors
    ///
    /// [`ResolveError`]. Whoever asked tries again later.
    pub async fn resolve(&self, host: &str, port: u16) -> Answer {
        if let Ok(address) = host.parse() {
            return Ok(vec![SocketAddr::new(address, port)]);
        }
        let Some(queue) = &self.queue else { return look_up(host, port) };
        let queue = queue.get_or_init(|| start().map_err(|error| error.to_string()));
        let queue = queue.as_ref().map_err(|error| ResolveError::NoThread { error: error.clone() })?;
        let (answer, answered) = oneshot::channel();
        let ended = || ResolveError::NoThread { error: "it ended".into() };
        queue.send(Question { host: host.to_owned(), port, answer }).map_err(|_| ended())?;
        answered.await.map_err(|_| ended())?
    }
}

fn start() -> io::Result<Queue> {
    let (queue, questions) = mpsc::channel::<Question>();
    thread::Builder::new().name("names".into()).spawn(move || {
        for Question { host, port, answer } in questions {
            // Nobody waits for it any more: the asker has gone, or asks anew.
            if answer.is_closed() {
                continue;
            }
            let _ = answer.send(look_up(&host, port));
        }
    })?;
    Ok(queue)
}

/// Asks the system's resolver, and waits for it.
fn look_up(host: &str, port: u16) -> Answer {
    let host = host.to_owned();
    match (host.as_str(), port).to_socket_addrs() {
        Ok(addresses) => {
            let addresses: Vec<_> = addresses.collect();
            if addresses.is_empty() { Err(ResolveError::NoAddress { host }) } else { Ok(addresses) }
        }
        Err(error) => Err(ResolveError::Failed { host, error: error.to_string() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn literals_need_no_thread() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let names = Names::on_a_thread();
        let found = runtime.block_on(names.resolve("2001:db8::1", 123)).unwrap();
        assert_eq!(found, ["[2001:db8::1]:123".parse().unwrap()]);
        assert!(names.queue.is_some_and(|queue| queue.get().is_none()));
    }

    #[test]
    fn names_are_resolved_and_failures_are_values() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        for names in [Names::on_a_thread(), Names::here()] {
            let found = runtime.block_on(names.resolve("localhost", 4711)).unwrap();
            assert!(found.iter().all(|address| address.ip().is_loopback() && address.port() == 4711));
            assert!(matches!(
                runtime.block_on(names.resolve("name with spaces.invalid", 1)),
                Err(ResolveError::Failed { .. })
            ));
        }
    }
}
