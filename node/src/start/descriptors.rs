//! File descriptors: how many there are, and how many of them clients may take.
//!
//! The soft limit is raised to the hard one at start, because systems set it low for programs that cannot cope with more.
//! What the engine's files and the peers need is kept back: a store that cannot open its next file is worse than a client
//! that is refused (<https://github.com/redis/redis/issues/246>, <https://github.com/hashicorp/consul/issues/7527>).

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::http::limits::{
    CONNECTIONS_MAX, RESERVED_DESCRIPTORS_MAX, RESERVED_DESCRIPTORS_MIN, SPARE_CONNECTIONS_MAX,
};

/// Raises the soft limit to the hard one, and says how many descriptors there are.
#[must_use]
pub fn raise() -> usize {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let raised = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
    if let Err(error) = raised {
        tracing::debug!(%error, "the limit of open files stays as it is");
    }
    // No limit at all is `None`.
    let now = if raised.is_ok() { maximum } else { current };
    now.map_or(usize::MAX, |now| usize::try_from(now).unwrap_or(usize::MAX))
}

/// How many connections clients may have open, of so many descriptors.
#[must_use]
pub fn for_clients(descriptors: usize) -> usize {
    let reserved = (descriptors / 2).clamp(RESERVED_DESCRIPTORS_MIN, RESERVED_DESCRIPTORS_MAX);
    let rest = descriptors.saturating_sub(reserved + SPARE_CONNECTIONS_MAX);
    rest.clamp(1, CONNECTIONS_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_take_what_engine_and_peers_leave() {
        let given = [16, 64, 1024, 20_000, 1 << 20, usize::MAX].map(for_clients);
        assert_eq!(given, [1, 24, 504, 8192, 8192, 8192]);
    }
}
