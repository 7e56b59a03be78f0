//! Waiting for a device to come back: until something happens where it would appear, and not for long.

use std::path::Path;

use tokio::io::unix::AsyncFd;

use crate::device::Backoff;
use crate::sys::appearance::Watch;

/// When to try a device again.
#[derive(Debug, Default)]
pub struct Comeback {
    backoff: Backoff,
    watch: Option<AsyncFd<Watch>>,
}

impl Comeback {
    /// Waits for the next try: at most what [`Backoff`] says, and little longer than until something
    /// happens in the folders that lead to the path. What happens before they are watched for the
    /// first time costs the first wait, half a second.
    pub async fn wait(&mut self, path: Option<&Path>) {
        let delay = self.backoff.next_delay().to_duration();
        let until = tokio::time::Instant::now() + delay;
        if let Some(path) = path
            && tokio::time::timeout_at(until, self.appearance(path)).await.is_ok()
        {
            // Rules are still at work on a device that has just come; and where trying is itself what
            // happens there, this is how often.
            tokio::time::sleep(delay / 10).await;
        } else {
            tokio::time::sleep_until(until).await;
        }
    }

    /// It works: begin anew next time.
    pub fn reset(&mut self) {
        *self = Self::default();
    }

    /// Waits for something to happen where the path leads; for ever where that cannot be watched.
    async fn appearance(&mut self, path: &Path) {
        if !self.watch.as_ref().is_some_and(|watch| watch.get_ref().is_of(path)) {
            self.watch = Watch::new(path).and_then(Watch::watch).ok();
        }
        let Some(watch) = &self.watch else { return std::future::pending().await };
        while let Ok(mut guard) = watch.readable().await {
            match guard.try_io(|watch| watch.get_ref().read()) {
                Ok(Ok(true)) => return,
                Ok(Ok(false)) | Err(_) => {}
                Ok(Err(_)) => break,
            }
        }
        self.watch = None;
        std::future::pending().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, Instant};

    #[test]
    fn what_appears_is_tried_at_once_and_nothing_else_is() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("gps0");
            let mut comeback = Comeback::default();
            let told = std::cell::Cell::new(false);
            // Without an end: only what happens in the folder can wake it.
            tokio::select! {
                () = async { comeback.appearance(&path).await; told.set(true) } => {}
                () = async {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    std::fs::write(folder.path().join("ttyACM0"), "").unwrap();
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    assert!(!told.get());
                    std::os::unix::fs::symlink("ttyACM0", &path).unwrap();
                    tokio::time::sleep(Duration::from_secs(10)).await;
                } => {}
            }
            assert!(told.get());
            // A folder that cannot be watched leaves the back-off.
            let before = Instant::now();
            Comeback::default().wait(Some(Path::new(""))).await;
            assert!(before.elapsed() >= Duration::from_millis(500));
        });
    }
}
