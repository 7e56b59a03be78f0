//! What recordings that tests make begin with.

use refclockd::core::leap::UtcMap;
use refclockd::core::steering::StepPolicy;
use refclockd::recording::{Header, VERSION};
use refclocks::sys::clock::Bracket;
use refclocks::time::{Span, Timestamp, Utc};

/// True UTC at the beginning, when the raw counter read 1000 s and the system's clock was 3 ms ahead.
pub const START: Timestamp<Utc> = Timestamp::from_parts(1_795_319_390, 0);

/// The first line; `at` is the beginning.
pub fn header(at: Bracket) -> Header {
    Header {
        refclockd_recording: VERSION,
        program: "test".into(),
        at,
        clock: UtcMap::default().tai(START + Span::from_millis(3), false),
        utc: UtcMap::default(),
        table_until: None,
        step: StepPolicy::default(),
        holdover_budget: 1e-3,
        local: None,
        memory: refclockd::core::memory::Memory::default().to_text(),
    }
}
