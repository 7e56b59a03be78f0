//! The SHM shell: one look a second at a segment that may be made anew.

use std::time::Duration;

use super::comeback::Comeback;
use super::{Delivery, Look, Tap};
use crate::device::{DevicePhase, DeviceReason, DeviceState, Remedy};
use crate::report::Report;
use crate::shm::ShmReader;
use crate::sys::clock::{bracket, raw_now};
use crate::sys::shm::{Facts, Layout, ShmSegment, find, own_uid};
use crate::time::{Raw, Span, Timestamp};

/// How often to look.
const LOOK: Duration = Duration::from_secs(1);
/// Silence after which the writer is stale.
const QUIET: Span = Span::from_whole_seconds(8);

/// Which unit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShmConfig {
    /// Unit, 0 to 255.
    pub unit: u8,
    /// Use a segment that others than root and we can write.
    pub trust_owner: bool,
}

/// Reads a unit for ever. `attached` is its segment, if it is attached already.
pub async fn run(config: ShmConfig, attached: Option<ShmSegment>, sink: impl FnMut(Delivery)) {
    run_tapped(config, attached, Tap::default(), sink).await;
}

/// The same, with each copy in which a sample waits for a tap as well.
pub async fn run_tapped(config: ShmConfig, mut attached: Option<ShmSegment>, tap: Tap, mut sink: impl FnMut(Delivery)) {
    let mut shell = Shell { reader: ShmReader::default(), phase: None, tap, sink: &mut sink };
    let mut comeback = Comeback::default();
    loop {
        let found = match &attached {
            Some(segment) => Ok(segment.facts()),
            None => find(config.unit),
        };
        match found.map_err(Ok).and_then(|f| judge(f, config.unit, config.trust_owner).map(|()| f).map_err(Err)) {
            Ok(facts) => match attached.take().map_or_else(|| ShmSegment::attach(facts), Ok) {
                Ok(segment) => {
                    comeback.reset();
                    // What lies there from before we came is not a sample of now.
                    segment.clear_valid();
                    follow(&segment, &config, &mut shell).await;
                }
                Err(error) => shell.io(&config, &error),
            },
            Err(Ok(error)) => shell.io(&config, &error),
            Err(Err(reason)) => {
                // Somebody may mend it; then it is another one.
                attached = None;
                shell.become_state(DevicePhase::Faulty, reason);
            }
        }
        comeback.wait(None).await;
    }
}

/// May this segment be read, and believed?
pub(super) fn judge(facts: Facts, unit: u8, trust_owner: bool) -> Result<(), DeviceReason> {
    if Layout::of_size(facts.size).is_none() {
        return Err(DeviceReason::SegmentSize { unit, found: facts.size });
    }
    let trusted_owner = facts.uid == 0 || facts.uid == own_uid();
    // Units from 2 on are open to all by custom; 0 and 1 are not.
    let open_to_others = unit < 2 && facts.mode & 0o022 != 0;
    if !trust_owner && (!trusted_owner || open_to_others) {
        return Err(DeviceReason::SegmentOwner { unit, uid: facts.uid, mode: facts.mode });
    }
    Ok(())
}

/// Looks once a second until the segment has been made anew.
async fn follow<S: FnMut(Delivery)>(segment: &ShmSegment, config: &ShmConfig, shell: &mut Shell<'_, S>) {
    let opened = raw_now();
    let mut last: Option<Timestamp<Raw>> = None;
    shell.become_state(DevicePhase::Opening, DeviceReason::Silent);
    loop {
        let (copy, after) = segment.copy();
        let now = bracket();
        if copy.valid != 0 {
            shell.tap.look(&now, || Look::Segment(copy, after));
        }
        match shell.reader.read(&copy, after, &now) {
            Some(Ok(sample)) => {
                segment.clear_valid();
                last = Some(now.raw_after);
                shell.become_state(DevicePhase::Good, DeviceReason::Delivering);
                shell.tell(Report::Sample(sample));
            }
            Some(Err(_)) => segment.clear_valid(),
            None => {}
        }
        let silence = now.raw_after - last.unwrap_or(opened);
        if silence > QUIET {
            if last.is_some() {
                shell.become_state(DevicePhase::Stale, DeviceReason::Quiet { silence });
            }
            // Somebody may have removed the segment; those who come later share another.
            if find(config.unit).is_ok_and(|facts| facts.id != segment.facts().id) {
                return;
            }
        }
        tokio::time::sleep(LOOK).await;
    }
}

struct Shell<'a, S> {
    reader: ShmReader,
    phase: Option<DevicePhase>,
    tap: Tap,
    sink: &'a mut S,
}

impl<S: FnMut(Delivery)> Shell<'_, S> {
    fn tell(&mut self, report: Report) {
        (self.sink)(Delivery { at: raw_now(), report, health: self.reader.health() });
    }

    fn become_state(&mut self, phase: DevicePhase, reason: DeviceReason) {
        if self.phase.replace(phase) != Some(phase) {
            self.tell(Report::State(DeviceState { phase, reason, since: raw_now() }));
        }
    }

    fn io(&mut self, config: &ShmConfig, error: &std::io::Error) {
        let (phase, reason) = refused(config.unit, error);
        self.become_state(phase, reason);
    }
}

/// Why a unit could not be attached.
pub(super) fn refused(unit: u8, error: &std::io::Error) -> (DevicePhase, DeviceReason) {
    let path = format!("SHM unit {unit}");
    match error.raw_os_error() {
        // Units 0 and 1 are root's by custom.
        Some(libc::EACCES | libc::EPERM) => {
            (DevicePhase::Faulty, DeviceReason::PermissionDenied { path, remedy: Remedy::StartAsRoot })
        }
        _ => super::explain_open(path, error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_segment_of_another_owner_or_size_is_refused_with_the_command_that_mends_it() {
        let ours = Facts { id: 1, uid: own_uid(), mode: 0o600, size: 96 };
        assert_eq!(judge(ours, 0, false), Ok(()));
        assert_eq!(judge(Facts { size: 80, ..ours }, 0, false), Ok(()), "32-bit time");
        assert_eq!(judge(Facts { mode: 0o666, ..ours }, 2, false), Ok(()), "open by custom");
        let refused = |facts, unit| {
            let reason = judge(facts, unit, false).unwrap_err();
            (reason.to_string(), reason.action().unwrap())
        };
        let (said, action) = refused(Facts { size: 88, ..ours }, 1);
        assert_eq!(said, "SHM unit 1 has 88 bytes, not 96 or 80: whoever made it means something else");
        assert!(action.contains("ipcrm -M 0x4e545031"), "{action}");
        let stranger = Facts { uid: 12_345, ..ours };
        let (said, action) = refused(stranger, 0);
        assert_eq!(said, "SHM unit 0 belongs to uid 12345 with mode 600: others than root and we can write it");
        assert!(action.contains("ipcrm -M 0x4e545030") && action.contains("trust_owner = true"), "{action}");
        assert_eq!(judge(stranger, 0, true), Ok(()));
        // One of ours that all may write.
        assert!(judge(Facts { mode: 0o666, ..ours }, 1, false).is_err());
    }
}
