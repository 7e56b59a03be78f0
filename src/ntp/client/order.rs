//! What the owner of a client wants of it while it runs.

use tokio::sync::mpsc::UnboundedReceiver;

/// What the owner wants of a client while it runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Poll at this interval, log2 s, as far as the configuration and the server allow.
    Poll(i8),
    /// A few quick polls, beginning now.
    Burst,
    /// Ask again; also a server that had refused.
    Online,
    /// Ask no more.
    Offline,
}

/// The orders as they come.
#[derive(Debug)]
pub struct Orders(UnboundedReceiver<Order>);

impl From<UnboundedReceiver<Order>> for Orders {
    fn from(channel: UnboundedReceiver<Order>) -> Self {
        Self(channel)
    }
}

impl Orders {
    /// Nobody gives any.
    pub fn none() -> Self {
        Self(tokio::sync::mpsc::unbounded_channel().1)
    }

    /// The next one; never, once nobody is left to give any.
    pub(super) async fn next(&mut self) -> Order {
        match self.0.recv().await {
            Some(order) => order,
            None => std::future::pending().await,
        }
    }

    /// Waits for this one; others mean nothing meanwhile.
    pub(super) async fn wait_for(&mut self, awaited: Order) {
        while self.next().await != awaited {}
    }
}
