//! Serving NTP on every address that can be had, sooner or later.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tracing::{info, warn};

use crate::config::Config;
use crate::core::snapshot::Snapshot;
use crate::ntp::access::Access;
use crate::ntp::served::Served;
use crate::ntp::worker::{self, Workers};

/// A port that could not be had is tried again so often.
const BIND_AGAIN: Duration = Duration::from_secs(5);

/// Serves NTP on every address; one that cannot be had is tried again.
pub fn listen(config: &Config, published: &Arc<ArcSwap<Snapshot>>) -> Rc<RefCell<Vec<Workers>>> {
    let serving = Rc::new(RefCell::new(Vec::new()));
    let Some(serve) = &config.serve else { return serving };
    let access = Access::from_lists(serve.allow.iter().copied(), serve.deny.iter().copied());
    let served = Served::new(Arc::clone(published), access);
    let threads = serve.workers;
    for address in serve.listen.iter().copied() {
        match serve_on(address, threads, &served) {
            Ok(workers) => serving.borrow_mut().extend(workers),
            Err(error) => {
                warn!("NTP is not served on {address}: {error}. Trying again every 5 s.");
                let (serving, served) = (Rc::clone(&serving), served.clone());
                tokio::task::spawn_local(async move {
                    loop {
                        tokio::time::sleep(BIND_AGAIN).await;
                        if let Ok(workers) = serve_on(address, threads, &served) {
                            info!("NTP is served on {address} now");
                            return serving.borrow_mut().extend(workers);
                        }
                    }
                });
            }
        }
    }
    serving
}

/// Serves one address on that many threads, and returns them; with none, on a task of this one.
fn serve_on(address: SocketAddr, threads: usize, served: &Served) -> Result<Option<Workers>, String> {
    let listener = worker::bind(address, threads).map_err(|e| match e.action() {
        Some(action) => format!("{e}. {action}"),
        None => e.to_string(),
    })?;
    if threads > 0 {
        return listener.spawn(served).map(Some).map_err(|e| e.to_string());
    }
    tokio::task::spawn_local(listener.inline(served).map_err(|e| e.to_string())?.run());
    Ok(None)
}
