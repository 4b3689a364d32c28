//! Which errors of a disk pass by themselves.

use std::io;

/// Whether an error of the disk passes by itself: there is no room, or no descriptor. What was to be done is not done, and
/// may be tried again.
pub(crate) fn passes(error: &io::Error) -> bool {
    lacks_room(error) || error.kind() == io::ErrorKind::ResourceBusy
}

/// Whether an error of the disk says that there is no room.
pub(crate) fn lacks_room(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::QuotaExceeded | io::ErrorKind::StorageFull)
}
