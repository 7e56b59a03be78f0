//! An NTP client that knows the truth: one exchange, and how far the server's stamps lie outside of it.

use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use crate::truth::Truth;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// Seconds from 1900 to 1970.
const ERA: i64 = 2_208_988_800;
const SECOND: i64 = 1_000_000_000;

/// What a server said.
#[derive(Clone, Copy, Debug)]
pub struct Answer {
    /// 0 no warning, 1 a second will be inserted, 2 left out, 3 not synchronised.
    pub leap: u8,
    pub stratum: u8,
    /// How far T2 or T3 lies outside of the time that truly passed between request and reply, ns.
    pub outside: i64,
    /// What the server claims: half its root delay and its root dispersion, ns.
    pub distance: i64,
}

impl Answer {
    /// Is it further off than it claims?
    pub fn is_wrong(&self) -> bool {
        self.leap < 3 && self.outside > self.distance
    }
}

/// Asks once.
pub fn ask(server: SocketAddr) -> Result<Answer> {
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    socket.set_read_timeout(Some(Duration::from_millis(500)))?;
    let mut packet = [0u8; 48];
    packet[0] = 0x23;
    // Any stamp does; the reply must bear it.
    packet[40..48].copy_from_slice(&0x0123_4567_89ab_cdef_u64.to_be_bytes());
    let request = packet;
    let truth = Truth::read()?;
    let before = truth.utc_nanos(truth.count());
    socket.send_to(&request, server)?;
    let received = socket.recv(&mut packet)?;
    let after = truth.utc_nanos(truth.count());
    if received < 48 || packet[24..32] != request[40..48] {
        return Err("not the answer".into());
    }
    let outside = [stamp(&packet[32..40]), stamp(&packet[40..48])]
        .map(|at| (before - at).max(at - after).max(0))
        .into_iter()
        .max()
        .unwrap_or_default();
    let short = |at: usize| {
        let bits = u32::from_be_bytes([packet[at], packet[at + 1], packet[at + 2], packet[at + 3]]);
        (i64::from(bits) * SECOND) >> 16
    };
    Ok(Answer { leap: packet[0] >> 6, stratum: packet[1], outside, distance: short(4) / 2 + short(8) })
}

/// Asks this machine's server again and again.
pub fn hammer(seconds: f64) -> Result<()> {
    let (mut answered, mut unsynchronised, mut wrong) = (0, 0, 0);
    let begun = std::time::Instant::now();
    while begun.elapsed().as_secs_f64() < seconds {
        if let Ok(answer) = ask(([127, 0, 0, 1], 123).into()) {
            answered += 1;
            unsynchronised += i32::from(answer.leap == 3);
            wrong += i32::from(answer.is_wrong());
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    println!(
        "JUDGED {{\"answered\":{answered},\"answered_unsynchronised\":{unsynchronised},\"answered_wrong\":{wrong}}}"
    );
    Ok(())
}

/// An NTP timestamp of this era as nanoseconds since 1970.
fn stamp(bytes: &[u8]) -> i64 {
    let bits = bytes.iter().fold(0u64, |bits, byte| bits << 8 | u64::from(*byte));
    ((bits >> 32) as i64 - ERA) * SECOND + ((u128::from(bits as u32) * SECOND as u128) >> 32) as i64
}
