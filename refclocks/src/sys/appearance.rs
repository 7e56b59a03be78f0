//! What may make a device appear: changes in the folders that lead to its path (inotify(7)).

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, WatchDescriptor};

/// A chain of links longer than this is a loop, as for the kernel.
const MOST_LINKS: usize = 40;

/// A folder, and the name that is looked for in it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Place {
    folder: PathBuf,
    name: OsString,
}

/// Watches the folders that lead to a path, through every link on the way.
#[derive(Debug)]
pub struct Watch {
    inotify: Inotify,
    watched: Vec<(WatchDescriptor, OsString)>,
    places: Vec<Place>,
}

impl Watch {
    /// Watches as the path leads now.
    ///
    /// # Errors
    ///
    /// The system's, e.g. when the user has no watches left.
    pub fn new(path: &Path) -> io::Result<Self> {
        let inotify = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC)?;
        let places = places(path);
        // Made, moved there, or given to us: a udev rule sets group and mode after the device is made.
        let changes = AddWatchFlags::IN_CREATE | AddWatchFlags::IN_MOVED_TO | AddWatchFlags::IN_ATTRIB;
        let mut watched = Vec::new();
        for place in &places {
            watched.push((inotify.add_watch(&place.folder, changes)?, place.name.clone()));
        }
        Ok(Self { inotify, watched, places })
    }

    /// Does the path still lead through the same folders?
    pub fn is_of(&self, path: &Path) -> bool {
        self.places == places(path)
    }

    /// Takes what has happened; true if it may concern the path.
    ///
    /// # Errors
    ///
    /// The system's; [`io::ErrorKind::WouldBlock`] if nothing has.
    pub fn read(&self) -> io::Result<bool> {
        let events = self.inotify.read_events()?;
        Ok(events.iter().any(|event| match &event.name {
            Some(name) => self.watched.iter().any(|(wd, wanted)| *wd == event.wd && wanted == name),
            // A folder itself: removed, or its queue overflowed.
            None => true,
        }))
    }

    /// Waits for changes on the runtime's reactor.
    ///
    /// # Errors
    ///
    /// The system's.
    #[cfg(feature = "tokio")]
    pub fn watch(self) -> io::Result<tokio::io::unix::AsyncFd<Self>> {
        // SAFETY: the descriptor belongs to `self`, which the `AsyncFd` owns from here on and which
        // gives it to nobody else: it stays open, and the same file, for as long as it is watched.
        let watched = unsafe { tokio::io::unix::AsyncFd::register_with_interest(self, tokio::io::Interest::READABLE) };
        Ok(watched?)
    }
}

impl std::os::fd::AsRawFd for Watch {
    fn as_raw_fd(&self) -> std::os::fd::RawFd {
        self.inotify.as_fd().as_raw_fd()
    }
}

/// Does the path lead to another file than the open one, or to none? `false` where that cannot be said.
pub fn leads_elsewhere(path: &Path, open: &File) -> bool {
    let Ok(ours) = open.metadata() else { return false };
    match path.metadata() {
        Ok(there) => (there.dev(), there.ino()) != (ours.dev(), ours.ino()),
        Err(error) => error.kind() == io::ErrorKind::NotFound,
    }
}

/// The folders to watch: that of the path and of each link it leads through; of what is missing, the
/// nearest folder that exists.
fn places(path: &Path) -> Vec<Place> {
    let mut places = Vec::new();
    let mut path = path.to_path_buf();
    for _ in 0..MOST_LINKS {
        let mut here = path.as_path();
        while let (Some(folder), Some(name)) = (here.parent(), here.file_name()) {
            if folder.is_dir() {
                let place = Place { folder: folder.to_path_buf(), name: name.to_owned() };
                if !places.contains(&place) {
                    places.push(place);
                }
                break;
            }
            here = folder;
        }
        let Ok(target) = std::fs::read_link(&path) else { break };
        path = path.parent().unwrap_or(Path::new(OsStr::new("/"))).join(target);
    }
    places
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn every_folder_on_the_way_is_watched() {
        let root = tempfile::tempdir().unwrap();
        let (links, devices) = (root.path().join("links"), root.path().join("devices"));
        std::fs::create_dir(&links).unwrap();
        symlink("../devices/tty1", links.join("gps0")).unwrap();
        let folders = || places(&links.join("gps0")).into_iter().map(|p| p.name).collect::<Vec<_>>();
        // Where the link leads, the folder is missing: it is waited for.
        assert_eq!(folders(), ["gps0", "devices"]);
        std::fs::create_dir(&devices).unwrap();
        assert_eq!(folders(), ["gps0", "tty1"]);
        symlink("gps0", links.join("gps0.new")).unwrap();
        std::fs::rename(links.join("gps0.new"), links.join("gps0")).unwrap();
        assert_eq!(folders(), ["gps0"], "a link to itself ends");
    }

    #[test]
    fn only_what_concerns_the_path_is_told() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("gps0");
        let watch = Watch::new(&path).unwrap();
        assert_eq!(watch.read().unwrap_err().kind(), io::ErrorKind::WouldBlock);
        std::fs::write(root.path().join("other"), "").unwrap();
        assert!(!watch.read().unwrap());
        std::fs::write(&path, "").unwrap();
        assert!(watch.read().unwrap());
        // Given to us by a rule.
        std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        assert!(watch.read().unwrap());
        assert!(watch.is_of(&path));
    }

    #[test]
    fn a_device_made_anew_is_another_one() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("pps0");
        let open = File::create(&path).unwrap();
        assert!(!leads_elsewhere(&path, &open));
        std::fs::remove_file(&path).unwrap();
        assert!(leads_elsewhere(&path, &open));
        File::create(&path).unwrap();
        assert!(leads_elsewhere(&path, &open));
    }
}
