//! A long wire: a relay that holds datagrams back, by more or less, and loses some. Not every kernel can do
//! that (sch_netem); this one is seeded, and each way has its own delay.

use std::collections::{BTreeMap, HashMap};
use std::net::{SocketAddr, UdpSocket};
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::{Machine, Network};
use crate::ntp_common::peers::Running;

/// Set in this program where it is to be a wire.
const VARIABLE: &str = "REFCLOCKD_TEST_WIRE";

/// What a wire is like.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Wire {
    /// Where whoever asks finds it, on its own machine.
    pub port: u16,
    /// Whom it leads to.
    pub server: SocketAddr,
    /// The least delay of requests, s.
    pub there: f64,
    /// That of replies, s.
    pub back: f64,
    /// The mean of what comes on top, which is distributed exponentially, each way, s.
    pub jitter: f64,
    /// The share that is lost, each way.
    pub loss: f64,
    /// Settles all that is random.
    pub seed: u64,
}

impl Wire {
    /// Lays it on that machine.
    pub fn lay(&self, network: &Network, machine: Machine, folder: &Path) -> Running {
        let mut command = network.on(machine, std::env::current_exe().unwrap());
        command.args(["--exact", "net_common::wire::be_a_wire", "--nocapture"]);
        command.env(VARIABLE, serde_json::to_string(self).unwrap());
        network.start(command, &folder.join(format!("wire-{}.log", self.port)))
    }

    /// Relays for ever.
    fn run(self) {
        let near = Arc::new(UdpSocket::bind(("127.0.0.1", self.port)).unwrap());
        let (there, back) = (Arc::new(Way::default()), Arc::new(Way::default()));
        for way in [&there, &back] {
            let way = Arc::clone(way);
            std::thread::spawn(move || way.deliver());
        }
        let mut far: HashMap<SocketAddr, Arc<UdpSocket>> = HashMap::new();
        let mut random = Random(self.seed);
        let mut octets = [0; 2048];
        loop {
            let Ok((len, from)) = near.recv_from(&mut octets) else { continue };
            let socket = far.entry(from).or_insert_with(|| {
                let socket = Arc::new(UdpSocket::bind("0.0.0.0:0").unwrap());
                socket.connect(self.server).unwrap();
                let (replies, near, back) = (Arc::clone(&socket), Arc::clone(&near), Arc::clone(&back));
                let mut random = Random(self.seed ^ u64::from(from.port()));
                std::thread::spawn(move || {
                    let mut octets = [0; 2048];
                    loop {
                        let Ok(len) = replies.recv(&mut octets) else { continue };
                        if let Some(delay) = self.delay(self.back, &mut random) {
                            back.put(delay, &octets[..len], Arc::clone(&near), Some(from));
                        }
                    }
                });
                socket
            });
            if let Some(delay) = self.delay(self.there, &mut random) {
                there.put(delay, &octets[..len], Arc::clone(socket), None);
            }
        }
    }

    /// How long a datagram is held back; `None`: it is lost.
    fn delay(&self, least: f64, random: &mut Random) -> Option<Duration> {
        let (lost, more) = (random.fraction() < self.loss, -self.jitter * (1.0 - random.fraction()).ln());
        (!lost).then(|| Duration::from_secs_f64(least + more))
    }
}

/// A datagram on its way.
type Held = (Vec<u8>, Arc<UdpSocket>, Option<SocketAddr>);

/// One direction: what is on its way, by when it arrives.
#[derive(Default)]
struct Way {
    held: Mutex<BTreeMap<(Instant, u64), Held>>,
    news: Condvar,
}

impl Way {
    fn put(&self, delay: Duration, octets: &[u8], socket: Arc<UdpSocket>, to: Option<SocketAddr>) {
        let mut held = self.held.lock().unwrap();
        let number = held.len() as u64;
        held.insert((Instant::now() + delay, number), (octets.to_vec(), socket, to));
        self.news.notify_one();
    }

    fn deliver(&self) {
        let mut held = self.held.lock().unwrap();
        loop {
            let now = Instant::now();
            held = match held.first_key_value().map(|((due, _), _)| *due) {
                None => self.news.wait(held).unwrap(),
                Some(due) if due > now => self.news.wait_timeout(held, due - now).unwrap().0,
                Some(_) => {
                    if let Some((_, (octets, socket, to))) = held.pop_first() {
                        // Nobody there: lost.
                        let _ = match to {
                            Some(to) => socket.send_to(&octets, to),
                            None => socket.send(&octets),
                        };
                    }
                    held
                }
            };
        }
    }
}

/// SplitMix64 (public domain, Sebastiano Vigna).
struct Random(u64);

impl Random {
    /// 0 to less than 1.
    fn fraction(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// No test: what this program does when it is started as a wire.
#[test]
fn be_a_wire() {
    if let Ok(wire) = std::env::var(VARIABLE) {
        serde_json::from_str::<Wire>(&wire).unwrap().run();
    }
}
