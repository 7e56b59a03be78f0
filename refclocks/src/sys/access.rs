//! Why a path may not be used, and what would let us.

use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use nix::unistd::{getegid, geteuid, getgroups};

use crate::device::Remedy;

/// To read and to write.
const BOTH: u32 = 0o6;

/// Who we are, as far as a mode cares.
struct Us {
    uid: u32,
    gids: Vec<u32>,
}

/// What would let us use a path that was refused to us.
pub fn remedy(path: &Path) -> Remedy {
    let mut gids: Vec<u32> = getgroups().unwrap_or_default().iter().map(|gid| gid.as_raw()).collect();
    gids.push(getegid().as_raw());
    let us = Us { uid: geteuid().as_raw(), gids };
    match fs::metadata(path) {
        Ok(meta) => by_mode(&us, &meta, |database, id| {
            // Small local files: the name service might block, or want what we may not have.
            name_in(&fs::read_to_string(database).unwrap_or_default(), id)
        }),
        // It lies behind a folder that is closed to us.
        Err(_) => Remedy::StartAsRoot,
    }
}

fn by_mode(us: &Us, meta: &Metadata, name: impl Fn(&str, u32) -> Option<String>) -> Remedy {
    let (mode, owner, group) = (meta.mode(), meta.uid(), meta.gid());
    let ours = match () {
        () if owner == us.uid => mode >> 6,
        () if us.gids.contains(&group) => mode >> 3,
        () => mode,
    };
    if us.uid == 0 || ours & BOTH == BOTH {
        return Remedy::Unconfine;
    }
    let user = name("/etc/passwd", us.uid).unwrap_or_else(|| us.uid.to_string());
    // What root's group may is not for others.
    match name("/etc/group", group).filter(|_| group != 0 && (mode >> 3) & BOTH == BOTH) {
        Some(group) => Remedy::JoinGroup { group, user },
        None => Remedy::OwnIt { user },
    }
}

/// The id of a name in passwd(5) or group(5), which are small local files.
pub fn id_of(database: &str, name: &str) -> Option<u32> {
    id_in(&fs::read_to_string(database).unwrap_or_default(), name)
}

fn id_in(database: &str, name: &str) -> Option<u32> {
    database.lines().find_map(|line| {
        let mut fields = line.split(':');
        (fields.next()? == name).then(|| fields.nth(1)?.parse().ok())?
    })
}

/// The name of an id in passwd(5) or group(5).
fn name_in(database: &str, id: u32) -> Option<String> {
    database.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(id)).then(|| name.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn names_are_found_by_id() {
        let group = "root:x:0:\nbroken\ndialout:x:20:gpsd,me\n";
        assert_eq!(name_in(group, 20).as_deref(), Some("dialout"));
        assert_eq!(name_in(group, 21), None);
        assert_eq!((id_in(group, "dialout"), id_in(group, "broken"), id_in(group, "")), (Some(20), None, None));
    }

    #[test]
    fn the_mode_tells_what_would_help() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let name = |database: &str, _| Some(if database == "/etc/group" { "dialout" } else { "refclockd" }.to_owned());
        let with = |mode: u32, uid: u32, gids: &[u32]| {
            fs::set_permissions(file.path(), fs::Permissions::from_mode(mode)).unwrap();
            by_mode(&Us { uid, gids: gids.to_vec() }, &file.path().metadata().unwrap(), name)
        };
        let meta = file.path().metadata().unwrap();
        let (owner, group, other) = (meta.uid(), meta.gid(), meta.uid() + 1000);
        let user = String::from("refclockd");
        assert_eq!(with(0o600, other, &[]), Remedy::OwnIt { user: user.clone() });
        if group != 0 {
            assert_eq!(with(0o660, other, &[]), Remedy::JoinGroup { group: "dialout".into(), user: user.clone() });
        } else {
            assert_eq!(with(0o660, other, &[]), Remedy::OwnIt { user });
        }
        // The mode is no obstacle.
        assert_eq!(with(0o660, other, &[group]), Remedy::Unconfine);
        assert_eq!(with(0o666, other, &[]), Remedy::Unconfine);
        assert_eq!(with(0o600, owner, &[]), Remedy::Unconfine);
    }
}
