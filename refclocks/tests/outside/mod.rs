//! Outside data, which is not part of the project.

use std::path::PathBuf;

/// The folder that a variable names. Without it a test is skipped, aloud; in CI it must be there.
pub fn folder(variable: &str) -> Option<PathBuf> {
    match std::env::var_os(variable) {
        Some(folder) => Some(folder.into()),
        None if std::env::var_os("REFCLOCKD_CI").is_some() => panic!("{variable} is not set, and CI needs it"),
        None => {
            println!("skipped: {variable} is not set");
            None
        }
    }
}
