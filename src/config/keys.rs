//! `[keys]`: the file of symmetric keys, and reading it.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::Arc;

use super::diagnostic::Diagnostic;
use super::model::Config;
use super::value::Section;
use crate::ntp::keys::file::{Dialect, parse};
use crate::ntp::keys::{Key, KeyTable};

/// Others may read it, or somebody but the owner may write it. The group may read it: that is how a
/// daemon that is not root gets at a file of root's.
const TOO_OPEN: u32 = 0o027;

/// A file of more octets than this is not one of keys.
const LONGEST: u64 = 1 << 20;

/// Symmetric keys, as configured and as read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Keys {
    /// The file.
    pub file: PathBuf,
    /// Whose way of writing it is in.
    pub dialect: Dialect,
    /// What is in it. `None`: not read, or cannot be.
    pub table: Option<Arc<KeyTable>>,
}

impl Keys {
    /// The key of that number, if it could be read.
    pub fn get(&self, id: u32) -> Option<Arc<Key>> {
        self.table.as_ref()?.get(id).cloned()
    }

    /// Reads the file. Returns what is wrong with it, in words; no secret is among them.
    pub fn read(&mut self) -> Vec<String> {
        let name = self.file.display();
        let text = fs::metadata(&self.file).and_then(|about| {
            if !about.is_file() || about.len() > LONGEST {
                return Err(std::io::Error::other("it is not a file of keys"));
            }
            Ok((fs::read(&self.file)?, about.mode()))
        });
        let (text, mode) = match text {
            Ok(read) => read,
            Err(error) => {
                self.table = None;
                return vec![format!(
                    "{name} cannot be read: {error}. Until it can, no key is known. \
                     Let the daemon's group read it: `chgrp refclockd {name}; chmod 640 {name}`."
                )];
            }
        };
        let (table, found) = parse(&String::from_utf8_lossy(&text), self.dialect);
        self.table = Some(Arc::new(table));
        let too_open = (mode & TOO_OPEN != 0).then(|| {
            let who = if mode & 0o004 != 0 { "everybody can read" } else { "others than its owner can change" };
            format!("{name} holds secrets, and {who} it. Mend that with `chmod 640 {name}`.")
        });
        too_open.into_iter().chain(found.iter().map(|found| format!("{name}, {found}."))).collect()
    }
}

impl Config {
    /// Reads the key file, if there is one. Returns what is wrong with it or with the use of it, in
    /// words: nothing of that stops the daemon. A server whose key is not known is not asked.
    pub fn read_keys(&mut self) -> Vec<String> {
        let Some(keys) = &mut self.keys else { return Vec::new() };
        let mut said = keys.read();
        if keys.table.is_some() {
            let listened_to = self.broadcast_clients.iter().map(|client| &client.each);
            let listened_to = listened_to.chain(self.passive_peers.iter().map(|peer| &peer.each));
            let asked = self.servers.iter().chain(self.pools.iter().map(|pool| &pool.each)).chain(listened_to);
            for (name, key) in asked.filter_map(|s| Some((&s.name, s.key?))) {
                if keys.get(key).is_none() {
                    let file = keys.file.display();
                    said.push(format!("{name} is not asked: key {key} is not in {file}."));
                }
            }
        }
        said
    }
}

/// Reads `[keys]`.
pub(super) fn keys(section: &Section<'_, '_>, out: &mut Vec<Diagnostic>) -> Option<Keys> {
    section.only(&["file", "format"], out);
    let dialects = [("chrony", Dialect::Chrony), ("ntp", Dialect::Ntp)];
    let dialect = section.choice("format", "format", &dialects, out).unwrap_or(Dialect::Chrony);
    section.required("file", "/etc/refclockd/keys", out)?;
    Some(Keys { file: section.path("file", out)?, dialect, table: None })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn keys(file: PathBuf) -> Keys {
        Keys { file, dialect: Dialect::Chrony, table: None }
    }

    #[test]
    fn a_file_that_is_too_open_is_read_with_a_word() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("keys");
        fs::write(&file, "1 MD5 tulipsandroses\n").unwrap();
        for (mode, word) in [
            (0o600, None),
            (0o640, None),
            (0o644, Some("everybody can read")),
            (0o660, Some("others than its owner can change")),
        ] {
            fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
            let mut keys = keys(file.clone());
            let said = keys.read();
            assert!(keys.get(1).is_some(), "{mode:o}");
            assert_eq!(said.len(), usize::from(word.is_some()), "{mode:o}: {said:?}");
            assert!(word.is_none_or(|word| said[0].contains(word)), "{said:?}");
        }
    }

    #[test]
    fn what_cannot_be_read_is_told_and_has_no_keys() {
        let folder = tempfile::tempdir().unwrap();
        for path in [folder.path().join("missing"), folder.path().to_owned(), "/dev/zero".into()] {
            let mut keys = keys(path);
            assert!(keys.read()[0].contains("cannot be read"));
            assert_eq!(keys.table, None);
        }
    }

    #[test]
    fn a_key_that_a_server_wants_and_the_file_lacks_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("keys");
        fs::write(&file, "1 MD5 tulipsandroses\n2 MD5 HEX:zz\n").unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
        let text = format!(
            "[keys]\nfile = \"{}\"\n[[server]]\naddress = \"a\"\nkey = 1\n[[pool]]\naddress = \"b\"\nkey = 2\n",
            file.display()
        );
        let (mut config, warnings) = Config::from_toml("test.toml", &text).unwrap();
        assert!(warnings.is_empty());
        let said = config.read_keys();
        assert_eq!(said.len(), 2);
        assert!(said[0].contains("line 2: its key is not pairs") && !said[0].contains("zz"), "{said:?}");
        assert!(said[1].contains("b is not asked: key 2"), "{said:?}");
    }
}
