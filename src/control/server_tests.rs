//! The socket: asked by the blocking client from another thread, and ill-treated.

use std::cell::RefCell;
use std::io::{Read, Write};
use std::os::unix::net as blocking;
use std::sync::Arc;

use super::*;
use crate::control::client::{AskError, ask, ask_line};
use crate::control::command::SetReply;
use crate::control::protocol::Request;
use crate::observe::Moment;
use crate::observe::report::made_up::{NOW, locked};
use crate::observe::report::{StatusReport, WhyReport};

const LIMIT: Duration = Duration::from_secs(5);

/// Runs a server beside a blocking asker on a thread of its own; gives back what each said.
fn beside<T: Send + 'static>(path: &Path, asker: impl FnOnce() -> T + Send + 'static) -> (T, Vec<String>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let said = Rc::new(RefCell::new(Vec::new()));
    let saying = Rc::clone(&said);
    let path = path.to_owned();
    let result = tokio::task::LocalSet::new().block_on(&runtime, async move {
        let (ready, is_ready) = tokio::sync::oneshot::channel();
        let mut ready = Some(ready);
        let look = || (Arc::new(locked()), Moment::from(NOW));
        let obey = |commission: Commission| {
            let reply = SetReply::new(&commission.command, "It is done.");
            commission.answer(Ok(reply));
        };
        let server = tokio::task::spawn_local(run(path, None, look, obey, move |state| {
            saying.borrow_mut().push(state.to_string());
            if let Some(ready) = ready.take() {
                ready.send(()).unwrap();
            }
        }));
        is_ready.await.unwrap();
        let (done, is_done) = tokio::sync::oneshot::channel();
        std::thread::spawn(move || drop(done.send(asker())));
        let result = is_done.await.unwrap();
        server.abort();
        drop(server.await);
        result
    });
    let said = said.borrow().clone();
    (result, said)
}

#[test]
fn asks_and_answers() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("made/for/it/api.sock");
    let socket = path.clone();
    let (answers, said) = beside(&path, move || {
        let mode = std::fs::metadata(&socket).unwrap().permissions().mode() & 0o777;
        let (line, status) = ask::<StatusReport>(&socket, &Request::Status, LIMIT).unwrap();
        let why = ask::<WhyReport>(&socket, &Request::Why { source: Some("Nobody".into()) }, LIMIT);
        (mode, line, status, why)
    });
    let (mode, line, status, why) = answers;
    assert_eq!(mode, MODE);
    assert_eq!(serde_json::from_str::<StatusReport>(&line).unwrap(), status);
    assert_eq!(status, StatusReport::new(&locked(), NOW));
    assert!(matches!(why, Err(AskError::Refused(body)) if body.code == "unknown_source"));
    assert_eq!(said.len(), 1, "{said:?}");
    assert!(!path.exists(), "the socket goes with its server");
}

#[test]
fn many_questions_on_one_connection_and_nonsense_between() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("api.sock");
    let socket = path.clone();
    let (text, _) = beside(&path, move || {
        let mut stream = blocking::UnixStream::connect(&socket).unwrap();
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        stream.write_all(b"{\"ask\":\"ping\"}\n\xff\xfe\n").unwrap();
        stream.write_all(&[b'x'; 100_000]).unwrap();
        stream.write_all(b"\n{\"ask\":\"ping\"}").unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        text
    });
    let kinds: Vec<&str> = text
        .lines()
        .map(|line| {
            ["refclockd.ping/1", "bad_request", "line_too_long"].into_iter().find(|k| line.contains(k)).unwrap()
        })
        .collect();
    assert_eq!(kinds, ["refclockd.ping/1", "bad_request", "line_too_long", "refclockd.ping/1"]);
}

#[test]
fn takes_over_a_dead_socket_but_not_a_living_one() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("api.sock");
    drop(blocking::UnixListener::bind(&path).unwrap());
    assert!(path.exists());
    let socket = path.clone();
    let (line, said) = beside(&path, move || ask_line(&socket, &Request::Ping, LIMIT));
    assert!(line.unwrap().contains("refclockd.ping/1"));
    assert!(said[0].starts_with("answering"), "{said:?}");

    let alive = blocking::UnixListener::bind(&path).unwrap();
    let before = inode(&path);
    let (after, said) = beside(&path, {
        let path = path.clone();
        move || inode(&path)
    });
    assert_eq!(before, after);
    assert!(said[0].contains("another program answers"), "{said:?}");
    drop(alive);
}

#[test]
fn leaves_alone_what_is_no_socket_and_goes_on_trying() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("api.sock");
    std::fs::write(&path, "precious").unwrap();
    let socket = path.clone();
    let (answer, said) = beside(&path, move || {
        assert_eq!(std::fs::read_to_string(&socket).unwrap(), "precious");
        std::fs::remove_file(&socket).unwrap();
        for _ in 0..50 {
            if let Ok(line) = ask_line(&socket, &Request::Ping, LIMIT) {
                return Some(line);
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        None
    });
    assert!(answer.is_some());
    assert!(said[0].contains("is not a socket") && said[1].starts_with("answering"), "{said:?}");
}

#[test]
fn a_crowd_is_told_to_come_back() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("api.sock");
    let socket = path.clone();
    let (line, _) = beside(&path, move || {
        let crowd: Vec<_> = (0..MOST_CONNECTIONS).map(|_| blocking::UnixStream::connect(&socket).unwrap()).collect();
        let line = ask_line(&socket, &Request::Ping, LIMIT);
        drop(crowd);
        line
    });
    assert!(line.unwrap().contains("busy"));
}

#[test]
fn nobody_there_is_told_apart() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("api.sock");
    let missing = ask_line(&path, &Request::Ping, LIMIT).unwrap_err();
    assert!(matches!(missing, AskError::NoDaemon { .. }) && missing.exit_code() == 69);
    drop(blocking::UnixListener::bind(&path).unwrap());
    assert!(matches!(ask_line(&path, &Request::Ping, LIMIT), Err(AskError::NoDaemon { .. })));
    std::fs::remove_file(&path).unwrap();
    let _silent = blocking::UnixListener::bind(&path).unwrap();
    let silent = ask_line(&path, &Request::Ping, Duration::from_millis(50)).unwrap_err();
    assert!(matches!(silent, AskError::TimedOut { .. }), "{silent}");
}

#[test]
fn a_hostile_answer_cannot_move_a_cursor() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("api.sock");
    let listener = blocking::UnixListener::bind(&path).unwrap();
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.write_all("{\"error\":{\"code\":\"x\",\"text\":\"\\u001b[2J\u{9b}2J\"}}\n".as_bytes()).unwrap();
    });
    let error = ask::<StatusReport>(&path, &Request::Status, LIMIT).unwrap_err();
    assert_eq!(error.to_string(), "\u{fffd}[2J\u{fffd}2J");
}

#[test]
fn commands_are_carried_out_and_answered() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("api.sock");
    let socket = path.clone();
    let (reply, _) = beside(&path, move || ask::<SetReply>(&socket, &Command::Step, LIMIT).unwrap().1);
    assert_eq!(
        (reply.schema.as_str(), reply.set.as_str(), reply.text.as_str()),
        ("refclockd.set/1", "step", "It is done.")
    );
}
