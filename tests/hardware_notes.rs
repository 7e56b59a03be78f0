//! Every configuration that is shipped is one: `refclockd check` has nothing to say against it. And every page of
//! hardware-notes/ has its configuration, and that its page.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

fn shipped(folder: &str, extension: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(folder)).unwrap();
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|e| e == extension));
    paths.sort();
    paths
}

fn name(path: &Path) -> String {
    path.file_stem().unwrap().to_str().unwrap().to_owned()
}

#[test]
fn every_configuration_is_usable_as_it_stands() {
    let configurations = [shipped("conf", "toml"), shipped("conf/boards", "toml")].concat();
    assert!(configurations.len() >= 11, "{configurations:?}");
    for path in configurations {
        let output =
            Command::new(env!("CARGO_BIN_EXE_refclockd")).args(["check", "--json", "-c"]).arg(&path).output().unwrap();
        let said: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        assert!(output.status.success() && said["usable"] == true, "{}: {said}", path.display());
        assert_eq!(said["found"], serde_json::json!([]), "{}: no warnings either", path.display());
    }
}

#[test]
fn every_board_has_a_page_and_a_configuration() {
    let index = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("hardware-notes/README.md")).unwrap();
    let pages: Vec<String> = shipped("hardware-notes", "md").iter().map(|path| name(path)).collect();
    let boards: Vec<String> = shipped("conf/boards", "toml").iter().map(|path| name(path)).collect();
    let with_boards: Vec<&String> =
        pages.iter().filter(|p| !["README", "raspberry-pi"].contains(&p.as_str())).collect();
    assert_eq!(boards.iter().collect::<Vec<_>>(), with_boards);
    for page in &pages[1..] {
        assert!(index.contains(&format!("({page}.md)")), "{page} is not in the index");
    }
    for (path, board) in shipped("conf/boards", "toml").iter().zip(&boards) {
        let text = fs::read_to_string(path).unwrap();
        assert!(text.lines().next().unwrap().ends_with(&format!("hardware-notes/{board}.md")), "{board}");
        let page = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("hardware-notes/{board}.md")));
        assert!(page.unwrap().contains(&format!("(../conf/boards/{board}.toml)")), "{board}");
    }
}
