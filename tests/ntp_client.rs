//! Our own client against our own server: the shell's life through good and bad times.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod ntp_common;

use std::net::SocketAddr;
use std::time::Duration;

use ntp_common::{handle, made_up_snapshot, serve, unsynchronised_snapshot};
use refclockd::ntp::access::Access;
use refclockd::ntp::client::names::Names;
use refclockd::ntp::client::once::{OnceConfig, OnceError, once};
use refclockd::ntp::client::{ClientConfig, ClientEvent, Measurement, Orders, Rejected, ServerState, shell};
use refclockd::ntp::served::Served;
use refclockd::ntp::worker;
use refclocks::sys::clock;
use refclocks::time::{Span, Timestamp, Utc};
use tokio::sync::mpsc;

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

fn quick(server: SocketAddr) -> ClientConfig {
    ClientConfig {
        port: server.port(),
        iburst: true,
        minpoll: 0,
        maxpoll: 0,
        ..ClientConfig::new(server.ip().to_string())
    }
}

/// Runs a shell and its story beside each other until the story is told.
fn with_shell<F: Future<Output = ()>>(
    config: ClientConfig,
    story: impl FnOnce(mpsc::UnboundedReceiver<ClientEvent>) -> F,
) {
    let (sender, events) = mpsc::unbounded_channel();
    runtime().block_on(async {
        let story = tokio::time::timeout(Duration::from_secs(20), story(events));
        tokio::select! {
            () = shell::run(config, Names::on_a_thread(), Orders::none(), move |event| drop(sender.send(event))) => {}
            told = story => told.expect("the story is told within 20 s"),
        }
    });
}

async fn state(
    events: &mut mpsc::UnboundedReceiver<ClientEvent>,
    wanted: impl Fn(&ServerState) -> bool,
) -> ServerState {
    loop {
        if let ClientEvent::State { state, .. } = events.recv().await.unwrap()
            && wanted(&state)
        {
            return state;
        }
    }
}

async fn measurement(events: &mut mpsc::UnboundedReceiver<ClientEvent>) -> Measurement {
    loop {
        if let ClientEvent::Measurement { measurement, .. } = events.recv().await.unwrap() {
            return measurement;
        }
    }
}

/// System clock - server by a measurement just made, s.
fn offset(measurement: &Measurement) -> f64 {
    let now = clock::bracket();
    let local: Timestamp<Utc> = (now.realtime - (now.raw_after - measurement.at)).reinterpret();
    (local - measurement.reference).seconds()
}

#[test]
fn measures_the_servers_time() {
    let workers = serve("127.0.0.1:0", made_up_snapshot(), 1);
    with_shell(quick(workers.address()), |mut events| async move {
        let measurement = measurement(&mut events).await;
        assert!(offset(&measurement).abs() < 1e-3, "{measurement:?}");
        assert!(measurement.delay < Span::from_millis(20));
        assert_eq!((measurement.stratum, measurement.refid.name()), (1, Some("PPS")));
    });
}

#[test]
fn a_server_that_gets_its_time_is_noticed() {
    let snapshot = handle(unsynchronised_snapshot());
    let served = Served::new(snapshot.clone(), Access::default());
    let workers = worker::bind("[::1]:0".parse().unwrap(), 1).unwrap().spawn(&served).unwrap();
    with_shell(quick(workers.address()), |mut events| async move {
        let unusable = state(&mut events, |state| matches!(state, ServerState::Unusable { .. })).await;
        assert!(matches!(unusable, ServerState::Unusable { reason: Rejected::Unsynchronised { .. }, .. }));
        snapshot.store(made_up_snapshot().into());
        state(&mut events, |state| matches!(state, ServerState::Answering { .. })).await;
    });
}

#[test]
fn a_server_that_goes_away_and_comes_back_is_a_state() {
    let workers = serve("127.0.0.1:0", made_up_snapshot(), 1);
    let address = workers.address();
    with_shell(quick(address), |mut events| async move {
        measurement(&mut events).await;
        workers.stop();
        // ICMP says that nobody listens there.
        state(&mut events, |state| matches!(state, ServerState::Unreachable { .. })).await;
        let _again = serve(&address.to_string(), made_up_snapshot(), 1);
        state(&mut events, |state| matches!(state, ServerState::Answering { .. })).await;
    });
}

#[test]
fn a_name_without_an_address_is_a_state() {
    let config = ClientConfig::new("name with spaces.invalid");
    with_shell(config, |mut events| async move {
        state(&mut events, |state| matches!(state, ServerState::Unresolved(_))).await;
    });
}

#[test]
fn several_hosts_can_be_asked_once() {
    let (good, lost) =
        (serve("127.0.0.1:0", made_up_snapshot(), 1), serve("127.0.0.1:0", unsynchronised_snapshot(), 1));
    let config = |address: SocketAddr| OnceConfig {
        host: "127.0.0.1".into(),
        port: address.port(),
        samples: 4,
        timeout: Duration::from_secs(3),
        version: 4,
    };
    let silent = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let closed = std::net::UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    runtime().block_on(async {
        let names = Names::on_a_thread();
        let answers = once(&config(good.address()), &names).await.unwrap();
        assert_eq!((answers.asked, answers.exchanges.len()), (4, 4));
        assert!(answers.best().unwrap().offset.seconds().abs() < 1e-3);

        let error = once(&config(lost.address()), &names).await.unwrap_err();
        assert!(matches!(error, OnceError::Rejected { reason: Rejected::Unsynchronised { .. }, .. }));

        let error = once(&config(closed), &names).await.unwrap_err();
        assert!(matches!(error, OnceError::Unreachable { .. }), "{error}");

        let patience = OnceConfig { timeout: Duration::from_millis(300), ..config(silent.local_addr().unwrap()) };
        assert!(matches!(once(&patience, &names).await.unwrap_err(), OnceError::Silent { .. }));
    });
}

#[test]
fn answers_of_older_versions_are_understood() {
    let workers = serve("127.0.0.1:0", made_up_snapshot(), 1);
    for version in 1..=4 {
        let config = OnceConfig {
            host: "127.0.0.1".into(),
            port: workers.address().port(),
            samples: 1,
            timeout: Duration::from_secs(3),
            version,
        };
        assert!(runtime().block_on(once(&config, &Names::on_a_thread())).is_ok());
    }
}

#[test]
fn polls_may_be_parts_of_a_second() {
    let workers = serve("127.0.0.1:0", made_up_snapshot(), 1);
    let config = ClientConfig { minpoll: -6, maxpoll: -6, iburst: false, ..quick(workers.address()) };
    with_shell(config, |mut events| async move {
        let first = measurement(&mut events).await;
        let mut last = first;
        for _ in 0..128 {
            last = measurement(&mut events).await;
            assert!(offset(&last).abs() < 1e-3, "{last:?}");
        }
        // 64 a second, or fewer where the machine is busy; never more.
        let took = (last.at - first.at).seconds();
        assert!((1.95..15.0).contains(&took), "{took}");
    });
}
