//! A u-blox receiver that is made up: it has settings, keeps them, and has its own opinions. For tests beside
//! the code and for those that go through a port: whoever has it as a module brings `Frame` and `message`.

use std::collections::BTreeMap;

use super::{Frame, message};

/// Class of settings, the port's number among them, and the key of the first UART's speed.
const CFG: u8 = 0x06;
const PORT: u8 = 0x00;
pub const BAUD: u32 = 0x4052_0001;

/// A receiver on a line.
pub struct Receiver {
    pub protocol: u8,
    /// The port that we are on, and its speed.
    pub port: u8,
    pub baud: u32,
    /// By message and, for CFG-MSG, the message it is about; or by key.
    pub messages: BTreeMap<Vec<u8>, Vec<u8>>,
    pub keys: BTreeMap<u32, u32>,
    /// Numbers of settings, first bytes of CFG-MSG, or keys that it does not have.
    pub lacks: Vec<u32>,
    /// Those that it acknowledges and leaves as they are, and those that it does not tell.
    pub ignores: Vec<u32>,
    pub hides: Vec<u32>,
    /// Every setting it was sent.
    pub sets: usize,
}

impl Receiver {
    pub fn new(protocol: u8) -> Self {
        let (messages, keys) = (BTreeMap::new(), BTreeMap::from([(BAUD, 9600)]));
        let none = Vec::new;
        let mut receiver = Self {
            protocol,
            port: 1,
            baud: 9600,
            messages,
            keys,
            lacks: none(),
            ignores: none(),
            hides: none(),
            sets: 0,
        };
        let mut port = vec![0; 20];
        (port[0], port[12], port[14]) = (1, 7, 3);
        port[8..12].copy_from_slice(&9600u32.to_le_bytes());
        receiver.messages.insert(vec![PORT], port);
        receiver.messages.insert(vec![0x31], vec![0; 32]);
        receiver.messages.insert(vec![0x24], vec![0; 36]);
        receiver.messages.insert(vec![0x08], vec![0xe8, 3, 1, 0, 1, 0]);
        receiver.messages.insert(vec![0x3d], vec![0; 28]);
        receiver.messages.insert(vec![0x71], vec![0; 40]);
        receiver
    }

    /// What it answers to one message.
    pub fn hears(&mut self, bytes: &[u8]) -> Vec<Vec<u8>> {
        let Frame { class, id, payload } = Frame::from_bytes(bytes).unwrap();
        let ack = |taken: bool| message(0x05, u8::from(taken), &[class, id]);
        match (class, id) {
            (0x0a, 0x04) => {
                let mut version = vec![0; 70];
                version.splice(40..53, format!("PROTVER={:02}.00", self.protocol).bytes());
                vec![message(0x0a, 0x04, &version)]
            }
            (CFG, 0x8a) => vec![ack(self.set_keys(payload))],
            (CFG, 0x8b) => {
                let keys: Vec<u32> = payload[4..].as_chunks::<4>().0.iter().map(|k| u32::from_le_bytes(*k)).collect();
                if keys.iter().any(|key| self.lacks.contains(key) || self.hides.contains(key)) {
                    return vec![ack(false)];
                }
                let mut answer = vec![1, 0, 0, 0];
                for key in keys {
                    answer.extend(key.to_le_bytes());
                    let value = self.keys.get(&key).copied().unwrap_or(0);
                    answer.extend(&value.to_le_bytes()[..length(key)]);
                }
                vec![message(CFG, 0x8b, &answer), ack(true)]
            }
            (CFG, id) => {
                // CFG-MSG is of one message each; CFG-TP5 is asked for by a pulse's number.
                let about = if id == 1 { vec![id, payload[0], payload[1]] } else { vec![id] };
                let number = if id == 1 { 256 + u32::from(payload[1]) } else { id.into() };
                let asked = payload.len() <= if id == 1 { 2 } else { 1 };
                if self.lacks.contains(&number) {
                    return vec![ack(false)];
                }
                if asked && self.hides.contains(&number) {
                    return vec![];
                }
                if asked {
                    let answer = self.messages.get(&about).cloned();
                    let answer = answer.unwrap_or_else(|| [&about[1..], &[0; 6][..]].concat());
                    return vec![message(CFG, id, &answer), ack(true)];
                }
                self.sets += 1;
                if !self.ignores.contains(&number) {
                    let kept = match id {
                        1 => {
                            let mut rates = vec![payload[0], payload[1], 0, 0, 0, 0, 0, 0];
                            rates[2 + usize::from(self.port)] = payload[2];
                            rates
                        }
                        PORT => {
                            self.baud = u32::from_le_bytes(*payload[8..].first_chunk().unwrap());
                            payload.to_vec()
                        }
                        _ => payload.to_vec(),
                    };
                    self.messages.insert(about, kept);
                }
                vec![ack(true)]
            }
            _ => vec![],
        }
    }

    fn set_keys(&mut self, payload: &[u8]) -> bool {
        assert_eq!(payload[1], 1, "volatile memory only");
        self.sets += 1;
        let mut rest = &payload[4..];
        let mut pairs = Vec::new();
        while let Some((key, after)) = rest.split_first_chunk::<4>() {
            let key = u32::from_le_bytes(*key);
            let (value, after) = after.split_at(length(key));
            pairs.push((key, value.iter().rev().fold(0, |sum, byte| sum << 8 | u32::from(*byte))));
            rest = after;
        }
        if pairs.iter().any(|(key, _)| self.lacks.contains(key)) {
            return false;
        }
        for (key, value) in pairs {
            if !self.ignores.contains(&key) {
                self.keys.insert(key, value);
                if key == BAUD && self.port == 1 {
                    self.baud = value;
                }
            }
        }
        true
    }
}

/// Bytes of a key's value.
fn length(key: u32) -> usize {
    [0, 1, 1, 2, 4][(key >> 28 & 7) as usize]
}
