//! Folders that root made and the daemon's user is to write.

use std::ffi::OsStr;
use std::fs::{self, Metadata, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, fchown, lchown};
use std::path::Path;

use nix::unistd::User;
use tracing::warn;

use crate::config::Config;

/// Others than the owner may write in it.
const SHARED: u32 = 0o022;

/// Gives the folder of the state, and that of the control socket, to the user.
pub(super) fn give(config: &Config, user: &User) {
    let socket = config.control_socket.file_name();
    let control = config.control_socket.parent().zip(socket).map(|(folder, socket)| (folder, vec![socket]));
    let state = (config.state_dir.as_path(), vec![OsStr::new("drift.toml"), OsStr::new("drift.toml.new")]);
    for (folder, ours) in std::iter::once(state).chain(control) {
        if let Err(error) = give_folder(folder, &ours, user) {
            warn!(
                "{} could not be given to {}: {error}. Do it with `chown {} {0}`.",
                folder.display(),
                user.name,
                user.name
            );
        }
    }
}

/// Makes a folder for the user, or gives away one of root's that holds nothing but what we made.
/// Any other is somebody's, or shared, and left as it is.
fn give_folder(folder: &Path, ours: &[&OsStr], user: &User) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    // Through a link, or where somebody else may put something, root would give away another's file.
    let handle = OpenOptions::new().read(true).custom_flags(libc::O_DIRECTORY | libc::O_NOFOLLOW).open(folder)?;
    if !is_roots_alone(&handle.metadata()?) {
        return Ok(());
    }
    let names: Vec<_> = fs::read_dir(folder)?.map(|entry| entry.map(|e| e.file_name())).collect::<io::Result<_>>()?;
    if names.iter().any(|name| !ours.contains(&name.as_os_str())) {
        return Ok(());
    }
    let owner = (Some(user.uid.as_raw()), Some(user.gid.as_raw()));
    for name in names {
        lchown(folder.join(name), owner.0, owner.1)?;
    }
    fchown(&handle, owner.0, owner.1)
}

/// Is the folder of this path one that only root writes?
pub(super) fn lies_with_root(path: &Path) -> bool {
    path.parent().and_then(|folder| fs::symlink_metadata(folder).ok()).is_some_and(|meta| is_roots_alone(&meta))
}

fn is_roots_alone(folder: &Metadata) -> bool {
    folder.uid() == 0 && folder.mode() & SHARED == 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};

    /// Only root can give something away.
    fn nobody() -> Option<User> {
        if !nix::unistd::geteuid().is_root() {
            assert!(std::env::var_os("REFCLOCKD_CI").is_none(), "CI runs as root");
            println!("skipped: not root");
            return None;
        }
        User::from_name("nobody").unwrap()
    }

    #[test]
    fn what_root_made_for_us_is_given_and_nothing_else() {
        let Some(user) = nobody() else { return };
        let place = tempfile::tempdir().unwrap();
        let owner = |path: &str| fs::symlink_metadata(place.path().join(path)).unwrap().uid();
        let nobody = user.uid.as_raw();
        let give = |folder: &str| give_folder(&place.path().join(folder), &[OsStr::new("drift.toml")], &user);

        give("new/state").unwrap();
        assert_eq!((owner("new"), owner("new/state")), (0, nobody));

        // An earlier life as root.
        fs::create_dir(place.path().join("old")).unwrap();
        fs::write(place.path().join("old/drift.toml"), "version = 1").unwrap();
        give("old").unwrap();
        assert_eq!((owner("old"), owner("old/drift.toml")), (nobody, nobody));

        // A folder of other things, one that others write, and a link to one.
        fs::create_dir(place.path().join("etc")).unwrap();
        fs::write(place.path().join("etc/shadow"), "").unwrap();
        give("etc").unwrap();
        fs::create_dir(place.path().join("tmp")).unwrap();
        fs::set_permissions(place.path().join("tmp"), fs::Permissions::from_mode(0o1777)).unwrap();
        give("tmp").unwrap();
        symlink(place.path().join("etc"), place.path().join("link")).unwrap();
        assert!(give("link").is_err());
        assert_eq!([owner("etc"), owner("etc/shadow"), owner("tmp"), owner("link")], [0; 4]);
    }
}
