//! An exchange as the core takes it.

use refclocks::time::{Raw, Timestamp};

use super::measurement::Measurement;
use crate::core::leap::UtcMap;
use crate::core::measurement;
use crate::core::source::ServerSays;

impl Measurement {
    /// What the core takes of an exchange whose middle is `raw` on the core's scale.
    pub fn hand_over(&self, raw: Timestamp<Raw>, utc: &UtcMap) -> (measurement::Measurement, ServerSays) {
        let measurement =
            measurement::Measurement { raw, tai: utc.tai(self.reference, false), delay: Some(self.delay.seconds()) };
        let says = ServerSays {
            root_delay: self.root_delay,
            // What our own stamps may be off by is one more thing that no delay tells.
            root_dispersion: self.root_dispersion + self.stamp_error,
            stratum: self.stratum,
            refid: self.refid,
            leap: self.leap,
            stamps: self.stamps,
            ..ServerSays::default()
        };
        (measurement, says)
    }
}
