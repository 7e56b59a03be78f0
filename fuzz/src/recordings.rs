//! Recordings.

use refclockd::recording::fault::{Fault, Faults, What};
use refclockd::recording::replay::{ReplayError, Scene, replay};
use refclocks::Timestamp;

/// A recording. Replayed twice, the same is decided and the same comes of its datagrams; what cannot be read is told with its line.
pub fn recording(data: &[u8]) {
    let lines = data.split(|b| *b == b'\n').count();
    let run = || {
        let mut decided = Vec::new();
        let said = replay(data, None, |scene| match scene {
            Scene::Told(_, event) => assert!(!event.to_string().is_empty()),
            Scene::Decided(snapshot) => decided.push(refclockd::recording::digest(snapshot)),
            Scene::Heard(_, bytes) => assert!(2 * bytes.len() < data.len()),
            Scene::Line(_) => {}
        });
        (said.map(|r| (r.calls, r.compared, r.different, r.otherwise, r.first)).map_err(|e| e.to_string()), decided)
    };
    let first = run();
    assert_eq!(first, run(), "the same, decided twice");
    match replay(data, None, |_| {}) {
        Ok(replayed) => {
            assert!(replayed.different <= replayed.compared && replayed.calls + replayed.compared < lines as u64 + 1);
        }
        Err(ReplayError::Line { line, .. }) => assert!((2..=lines).contains(&line), "{line} of {lines}"),
        Err(_) => return,
    }
    let whats = [What::Lose(0.2), What::Delay(0.1), What::Corrupt(0.3), What::Unplug(1.0, 5.0)];
    let fault = |what| ["GPS", "server"].map(|source| Fault { source: source.into(), what });
    let mut faults = Faults::new(whats.into_iter().flat_map(fault).collect(), 1, Timestamp::from_parts(1000, 0));
    let _ = replay(data, Some(&mut faults), |_| {});
}
