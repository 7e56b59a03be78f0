//! Real peers, unmodified: chronyd as client and server, ntpdig as client. None of them touches this
//! machine's clock.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod ntp_common;

use std::time::Duration;

use ntp_common::peers::{chronyd_query, chronyd_server, ntpdig_query, text};
use ntp_common::{made_up_snapshot, peer, serve, unsynchronised_snapshot};
use refclockd::core::snapshot::Snapshot;
use refclockd::ntp::client::names::Names;
use refclockd::ntp::client::once::{OnceConfig, once};
use refclockd::ntp::client::{ClientConfig, ClientEvent, Orders, shell};
use refclocks::time::Span;

/// A snapshot of a clock that is 250 ms ahead of this machine's.
fn ahead() -> Snapshot {
    let mut snapshot = made_up_snapshot();
    snapshot.clock.tai += Span::from_millis(250);
    snapshot.system.reference_time = snapshot.system.reference_time.map(|at| at + Span::from_millis(250));
    snapshot
}

#[test]
fn chronyd_measures_our_time() {
    let Some(chronyd) = peer("REFCLOCKD_CHRONYD", "chronyd") else { return };
    let folder = tempfile::tempdir().unwrap();
    let workers = serve("127.0.0.1:0", ahead(), 1);
    let said = text(&chronyd_query(&chronyd, workers.address().port(), folder.path()));
    let wrong_by = said.split("System clock wrong by ").nth(1).and_then(|rest| rest.split_whitespace().next());
    let wrong_by: f64 = wrong_by.unwrap_or_else(|| panic!("{said}")).parse().unwrap();
    // chronyd's sign: what to add to its clock.
    assert!((wrong_by - 0.25).abs() < 0.005, "{said}");
}

#[test]
fn chronyd_does_not_use_us_while_we_have_no_time() {
    let Some(chronyd) = peer("REFCLOCKD_CHRONYD", "chronyd") else { return };
    let folder = tempfile::tempdir().unwrap();
    let workers = serve("127.0.0.1:0", unsynchronised_snapshot(), 1);
    let output = chronyd_query(&chronyd, workers.address().port(), folder.path());
    assert!(!output.status.success(), "{}", text(&output));
    assert!(workers.counters().totals().answered > 0);
}

#[test]
fn ntpdig_measures_our_time() {
    let Some(ntpdig) = peer("REFCLOCKD_NTPDIG", "ntpdig") else { return };
    let workers = serve("127.0.0.1:0", ahead(), 1);
    let said = ntpdig_query(&ntpdig, workers.address().port());
    // ntpdig's sign: what to add to its clock.
    let offset = said["offset"].as_f64().unwrap();
    // It stamps in user space; "precision" is how far it trusts its own reading.
    let trusted = said["precision"].as_f64().unwrap();
    assert!((offset - 0.25).abs() < 0.001 + trusted, "{said}");
    assert_eq!(said["stratum"], 1);
}

#[test]
fn we_measure_chronyds_time() {
    let Some(chronyd) = peer("REFCLOCKD_CHRONYD", "chronyd") else { return };
    let folder = tempfile::tempdir().unwrap();
    let (_chronyd, port) = chronyd_server(&chronyd, folder.path());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut config = ClientConfig { port, iburst: true, minpoll: 0, ..ClientConfig::new("127.0.0.1") };
        config.maxpoll = 0;
        let (sender, mut events) = tokio::sync::mpsc::unbounded_channel();
        let measured = async {
            let mut measured = Vec::new();
            while measured.len() < 3 {
                if let Some(ClientEvent::Measurement { measurement, .. }) = events.recv().await {
                    measured.push(measurement);
                }
            }
            measured
        };
        let measured = tokio::select! {
            () = shell::run(config, Names::on_a_thread(), Orders::none(), move |event| drop(sender.send(event))) => Vec::new(),
            measured = tokio::time::timeout(Duration::from_secs(15), measured) => measured.unwrap(),
        };
        for measurement in &measured {
            assert_eq!(measurement.stratum, 1);
            assert!(measurement.delay < Span::from_millis(5));
        }

        let query =
            OnceConfig { host: "127.0.0.1".into(), port, samples: 4, timeout: Duration::from_secs(5), version: 4 };
        let answers = once(&query, &Names::on_a_thread()).await.unwrap();
        let best = answers.best().unwrap();
        assert!(best.offset.seconds().abs() < 1e-3, "{best:?}");
    });
}
