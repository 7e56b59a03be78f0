//! The gpsd shell, beside something that speaks as gpsd does: over a Unix socket and by a host's name; gone,
//! and back again.
#![cfg(feature = "tokio")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::cell::RefCell;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use refclocks::gpsd::{Config, Stream};
use refclocks::shell::gpsd::{Address, GpsdConfig, run};
use refclocks::time::Timestamp;
use refclocks::{DevicePhase, Report};

/// A session as of a gpsd: it greets, is asked, sends three seconds from `second` on, and ends.
fn speak(mut stream: impl Read + Write, second: i64) {
    stream.write_all(b"{\"class\":\"VERSION\",\"release\":\"3.25\",\"proto_major\":3,\"proto_minor\":15}\r\n").unwrap();
    let mut asked = String::new();
    BufReader::new(&mut stream).read_line(&mut asked).unwrap();
    assert!(asked.starts_with("?WATCH={\"enable\":true,"), "{asked}");
    for at in second..second + 3 {
        let toff = format!(
            "{{\"class\":\"TOFF\",\"device\":\"/dev/gps0\",\"real_sec\":{at},\"real_nsec\":0,\"clock_sec\":{at},\"clock_nsec\":5}}\r\n"
        );
        stream.write_all(toff.as_bytes()).unwrap();
    }
}

/// Runs the shell until it has had so many samples; returns the seconds they name, and its phases.
fn follow(address: Address, samples: usize) -> (Vec<i64>, Vec<DevicePhase>) {
    let session =
        Config { device: None, not_before: Timestamp::from_parts(1_751_328_000, 0), last_good: Timestamp::EPOCH };
    let seen = Rc::new(RefCell::new((Vec::new(), Vec::new())));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let inside = Rc::clone(&seen);
        // This name leads to two addresses, and nobody listens at the first.
        let resolve = async |host: &str, port: u16| match host {
            "receiver.example.org" => {
                Ok(vec![SocketAddr::from(([127, 0, 0, 2], port)), SocketAddr::from(([127, 0, 0, 1], port))])
            }
            _ => Err(io::Error::other("no such host")),
        };
        let shell = run(GpsdConfig { address, session }, resolve, move |stream, delivery| {
            let (seconds, phases) = &mut *inside.borrow_mut();
            match (stream, delivery.report) {
                (Stream::Message, Report::Sample(sample)) => seconds.push(sample.reference.whole_seconds()),
                (Stream::Message, Report::State(state)) => phases.push(state.phase),
                _ => {}
            }
        });
        let enough = async {
            while seen.borrow().0.len() < samples {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::select! {
            () = shell => unreachable!("a shell never ends"),
            enough = tokio::time::timeout(Duration::from_secs(30), enough) => enough.expect("samples"),
        }
    });
    Rc::into_inner(seen).unwrap().into_inner()
}

const SECOND: i64 = 1_795_319_391;

#[test]
fn over_a_unix_socket_that_appears_late_and_comes_back() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("gpsd.sock");
    let there = path.clone();
    let gpsd = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(700));
        let listener = UnixListener::bind(&there).unwrap();
        for session in 0..2 {
            speak(listener.accept().unwrap().0, SECOND + 10 * session);
        }
    });
    let (seconds, phases) = follow(Address::Unix(path), 6);
    gpsd.join().unwrap();
    assert_eq!(seconds, [0, 1, 2, 10, 11, 12].map(|s| SECOND + s));
    use DevicePhase::{Absent, Good, Opening};
    assert_eq!(phases[..6], [Absent, Opening, Good, Absent, Opening, Good]);
}

#[test]
fn by_a_name_with_several_addresses() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let gpsd = std::thread::spawn(move || speak(listener.accept().unwrap().0, SECOND));
    let (seconds, _) = follow(Address::Tcp("receiver.example.org".into(), port), 3);
    gpsd.join().unwrap();
    assert_eq!(seconds.len(), 3);
}

#[test]
fn addresses_are_written_as_they_are_read() {
    let text = |address: Address| address.to_string();
    assert_eq!(text(Address::Tcp("::1".into(), 2947)), "[::1]:2947");
    assert_eq!(text(Address::Tcp("time.example.org".into(), 2947)), "time.example.org:2947");
    assert_eq!(text(Address::Unix(Path::new("/run/x").into())), "/run/x");
}
