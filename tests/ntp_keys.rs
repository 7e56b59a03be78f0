//! Symmetric keys with real peers, unmodified: chronyd as client and as server, ntpdig as client.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod ntp_common;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use ntp_common::peers::{chronyd_query_with, chronyd_server_with, text};
use ntp_common::{handle, made_up_snapshot, peer};
use refclockd::ntp::access::Access;
use refclockd::ntp::client::names::Names;
use refclockd::ntp::client::{ClientConfig, ClientEvent, Orders, Rejected, shell};
use refclockd::ntp::keys::KeyTable;
use refclockd::ntp::keys::file::{Dialect, parse};
use refclockd::ntp::served::Served;
use refclockd::ntp::worker::{self, Workers};

/// In chrony's words.
const KEYS: &str = "1 MD5 ASCII:tulipsandroses\n2 SHA1 HEX:2E0A7F7D6C5B4A3928170605040302010F0E0D0C\n\
    3 SHA256 ASCII:longer-than-a-block-of-the-hash-is-no-problem-for-the-hash-of-the-key-and-the-packet\n\
    4 SHA512 HEX:00112233445566778899aabbccddeeff\n5 AES128 HEX:00112233445566778899aabbccddeeff\n\
    6 AES256 HEX:00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff\n";

/// The same numbers, other secrets.
const OTHER_KEYS: &str = "1 MD5 ASCII:rosesandtulips\n5 AES128 HEX:ffeeddccbbaa99887766554433221100\n";

fn keys(text: &str) -> Arc<KeyTable> {
    let (table, found) = parse(text, Dialect::Chrony);
    assert_eq!(found, []);
    Arc::new(table)
}

fn serve_with(table: Arc<KeyTable>) -> Workers {
    let served = Served::new(handle(made_up_snapshot()), Access::default());
    served.keys.store(table);
    worker::bind("127.0.0.1:0".parse().unwrap(), 1).unwrap().spawn(&served).unwrap()
}

fn key_file(folder: &Path, text: &str) -> PathBuf {
    let file = folder.join("keys");
    fs::write(&file, text).unwrap();
    file
}

#[test]
fn chronyd_takes_our_signatures_and_we_take_its() {
    let Some(chronyd) = peer("REFCLOCKD_CHRONYD", "chronyd") else { return };
    let folder = tempfile::tempdir().unwrap();
    let workers = serve_with(keys(KEYS));
    let lines = [format!("keyfile {}", key_file(folder.path(), KEYS).display())];
    let port = workers.address().port();
    std::thread::scope(|scope| {
        for what in ["key 1", "key 2", "key 3", "key 3 version 4", "key 4", "key 4 version 4", "key 5", "key 6"] {
            let (chronyd, lines) = (&chronyd, &lines);
            scope.spawn(move || {
                let said = text(&chronyd_query_with(chronyd, port, what, lines));
                assert!(said.contains("System clock wrong by"), "{what}: {said}");
            });
        }
    });
    let totals = workers.counters().totals();
    assert!(totals.answered >= 24 && totals.refused_keys == 0, "{totals:?}");
}

#[test]
fn chronyd_with_other_secrets_gets_a_crypto_nak_and_does_not_believe_us() {
    let Some(chronyd) = peer("REFCLOCKD_CHRONYD", "chronyd") else { return };
    let folder = tempfile::tempdir().unwrap();
    let workers = serve_with(keys(KEYS));
    let lines = [format!("keyfile {}", key_file(folder.path(), OTHER_KEYS).display())];
    let output = chronyd_query_with(&chronyd, workers.address().port(), "key 5", &lines);
    assert!(!output.status.success(), "{}", text(&output));
    let totals = workers.counters().totals();
    assert!(totals.refused_keys > 0 && totals.refused_keys == totals.answered, "{totals:?}");
}

#[test]
fn ntpdig_takes_our_signatures() {
    let Some(ntpdig) = peer("REFCLOCKD_NTPDIG", "ntpdig") else { return };
    let folder = tempfile::tempdir().unwrap();
    // ntpdig's file is in ntpd's words.
    let text = "1 MD5 tulipsandroses\n2 SHA1 2E0A7F7D6C5B4A3928170605040302010F0E0D0C\n";
    let (table, found) = parse(text, Dialect::Ntp);
    assert_eq!(found, []);
    let workers = serve_with(Arc::new(table));
    let file = key_file(folder.path(), text);
    let redirect = "import os, socket\nreal = socket.getaddrinfo\nport = int(os.environ['NTP_TEST_PORT'])\n\
        socket.getaddrinfo = lambda host, asked, *rest: real(host, port if asked == 123 else asked, *rest)\n";
    fs::write(folder.path().join("sitecustomize.py"), redirect).unwrap();
    for id in ["1", "2"] {
        let output = Command::new(&ntpdig)
            .args(["-4", "-j", "-t", "3", "-a", id, "-k"])
            .arg(&file)
            .arg("127.0.0.1")
            .env("PYTHONPATH", folder.path())
            .env("NTP_TEST_PORT", workers.address().port().to_string())
            .output()
            .unwrap();
        assert!(output.status.success(), "key {id}: {}", ntp_common::peers::text(&output));
    }
    let totals = workers.counters().totals();
    assert!(totals.answered >= 2 && totals.refused_keys == 0, "{totals:?}");
}

/// What a client with a key hears first of a server: a measurement, or why not.
async fn first_word(port: u16, table: &KeyTable, key: u32, version: u8) -> Result<(), Rejected> {
    let config = ClientConfig {
        port,
        iburst: true,
        minpoll: 0,
        maxpoll: 0,
        version,
        key: table.get(key).cloned(),
        ..ClientConfig::new("127.0.0.1")
    };
    let (sender, mut events) = tokio::sync::mpsc::unbounded_channel();
    let heard = async {
        loop {
            match events.recv().await {
                Some(ClientEvent::Measurement { .. }) => return Ok(()),
                Some(ClientEvent::Rejected { reason, .. }) => return Err(reason),
                _ => {}
            }
        }
    };
    let sink = move |event| drop(sender.send(event));
    tokio::select! {
        () = shell::run(config, Names::on_a_thread(), Orders::none(), sink) => unreachable!("it never ends"),
        heard = tokio::time::timeout(Duration::from_secs(15), heard) => heard.expect("the server is silent"),
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

#[test]
fn we_measure_a_chronyd_that_signs() {
    let Some(chronyd) = peer("REFCLOCKD_CHRONYD", "chronyd") else { return };
    let folder = tempfile::tempdir().unwrap();
    let line = format!("keyfile {}\n", key_file(folder.path(), KEYS).display());
    let (_chronyd, port) = chronyd_server_with(&chronyd, folder.path(), &line);
    let table = keys(KEYS);
    for (key, version) in [(1, 4), (2, 4), (3, 4), (3, 3), (4, 3), (5, 4), (6, 4)] {
        assert_eq!(runtime().block_on(first_word(port, &table, key, version)), Ok(()), "key {key} version {version}");
    }
}

#[test]
fn our_client_and_server_agree_or_say_why_not() {
    let workers = serve_with(keys(KEYS));
    let port = workers.address().port();
    for key in 1..=6 {
        assert_eq!(runtime().block_on(first_word(port, &keys(KEYS), key, 4)), Ok(()), "key {key}");
    }
    let refused = runtime().block_on(first_word(port, &keys(OTHER_KEYS), 5, 4));
    assert_eq!(refused, Err(Rejected::CryptoNak { key: 5 }));
}
