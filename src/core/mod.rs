//! Everything that decides. Input and `now` go in; commands, events and the next deadline are asked
//! for. Nothing here reads a clock, draws a random number, or touches a file or a socket, so that a
//! year of operation replays in seconds, bit for bit.

pub mod bank;
mod bias;
pub mod by_hand;
pub mod day;
pub mod delays;
pub mod edge;
pub mod engine;
pub mod estimator;
pub mod event;
pub mod holdover;
mod labels;
pub mod last_good;
pub mod leap;
pub mod leap_list;
pub mod leap_vote;
mod lines;
pub mod local;
pub mod measurement;
pub mod memory;
pub mod noise;
pub mod numerics;
pub mod pairing;
pub mod polling;
pub mod quantity;
pub mod sawtooth;
pub mod selection;
pub mod snapshot;
pub mod source;
pub mod state;
pub mod steering;
pub mod temperature;
pub mod timebase;
pub mod verdict;
