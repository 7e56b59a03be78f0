//! How a server stands, in words.

use std::fmt;
use std::net::SocketAddr;

use super::names::ResolveError;
use super::rejection::{KissCode, Rejected};

/// How a server stands.
#[derive(Clone, Debug, PartialEq)]
pub enum ServerState {
    /// The operator wants it not to be asked.
    Offline,
    /// It is to be asked with a key that there is not, so it is not asked.
    NoKey {
        /// The key's number.
        key: u32,
    },
    /// Its name is being resolved.
    Resolving,
    /// Its name has no address; tried again.
    Unresolved(ResolveError),
    /// The system says that it cannot be reached; tried again.
    Unreachable {
        /// The address tried.
        address: SocketAddr,
        /// The system's words.
        error: String,
    },
    /// Asked, and nothing came yet.
    Silent {
        /// The address asked.
        address: SocketAddr,
    },
    /// It answers.
    Answering {
        /// Its address.
        address: SocketAddr,
    },
    /// It answers, but nothing that could be used.
    Unusable {
        /// Its address.
        address: SocketAddr,
        /// Why not.
        reason: Rejected,
    },
    /// A network is listened to, and nobody is heard.
    Listening,
    /// A network ought to be listened to, and cannot be; tried again.
    Deaf(Deafness),
    /// It is heard, what it broadcasts.
    Overheard {
        /// Its address.
        address: SocketAddr,
        /// Why it cannot be used, if it cannot.
        reason: Option<Rejected>,
    },
    /// It answers, and our access rules say not to heed it.
    Restricted {
        /// Its address.
        address: SocketAddr,
    },
    /// It wants no requests from us, and gets none until the operator says otherwise.
    Refused {
        /// Its address.
        address: SocketAddr,
        /// How it said so.
        kiss: KissCode,
    },
}

/// Why what is sent to an address cannot be heard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deafness {
    /// The address.
    pub place: SocketAddr,
    /// Why, in words.
    pub reason: String,
    /// What a person can do about it.
    pub action: Option<String>,
}

impl fmt::Display for ServerState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Offline => f.write_str("taken offline by the operator"),
            Self::NoKey { key } => write!(f, "not asked: there is no key {key}"),
            Self::Resolving => f.write_str("looking up its address"),
            Self::Unresolved(error) => write!(f, "{error}"),
            Self::Unreachable { address, error } => write!(f, "{address} cannot be reached: {error}"),
            Self::Silent { address } => write!(f, "{address} does not answer"),
            Self::Answering { address } => write!(f, "{address} answers"),
            Self::Unusable { address, reason } => write!(f, "{address} answers, but {reason}"),
            Self::Listening => f.write_str("nobody is heard"),
            Self::Deaf(Deafness { place, reason, .. }) => write!(f, "broadcasts to {place} are not heard: {reason}"),
            Self::Overheard { address, reason: None } => write!(f, "{address} is heard"),
            Self::Overheard { address, reason: Some(reason) } => write!(f, "{address} is heard, but {reason}"),
            Self::Restricted { address } => write!(f, "{address} answers, and a `restrict` rule says not to heed it"),
            Self::Refused { address, kiss } => write!(f, "{address} wants no requests from us ({})", kiss.as_str()),
        }
    }
}

impl ServerState {
    /// What a person can do about it.
    pub fn action(&self) -> Option<String> {
        match self {
            Self::Offline => Some("Bring it back with `refclockd set online`.".into()),
            Self::NoKey { key } => {
                Some(format!("Add key {key} to the file that [keys] names, or see what is wrong with its line."))
            }
            Self::Unusable { reason: Rejected::CryptoNak { .. } | Rejected::NotSigned { .. }, .. }
            | Self::Overheard { reason: Some(Rejected::NotSigned { .. }), .. } => {
                Some("Compare number, type and secret of the key here and there.".into())
            }
            Self::Unresolved(ResolveError::NoAnswer { .. }) => {
                Some("See that servers of the group are up, with the same key, and within its `ttl`.".into())
            }
            Self::Unresolved(_) => Some("Check the name, and that this machine can resolve names.".into()),
            Self::Unreachable { address, .. } => Some(format!("Check the route: `ip route get {}`.", address.ip())),
            Self::Silent { address } => {
                Some(format!("Check that UDP port {} of {} is not blocked.", address.port(), address.ip()))
            }
            Self::Restricted { .. } => Some("Loosen the rule for its address, or add one for `source`.".into()),
            Self::Refused { .. } => Some("Use another server, or ask its operator.".into()),
            Self::Listening => {
                Some("See that somebody broadcasts there, with the same key: `tcpdump udp port 123`.".into())
            }
            Self::Deaf(deafness) => deafness.action.clone(),
            Self::Resolving | Self::Answering { .. } | Self::Unusable { .. } | Self::Overheard { .. } => None,
        }
    }
}
