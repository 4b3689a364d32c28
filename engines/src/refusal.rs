//! Which errors of a disk pass by themselves.

use std::io;

/// Whether an error of the disk passes by itself: there is no room, or no descriptor. What was to be done is not done, and
/// may be tried again.
pub(crate) fn passes(error: &io::Error) -> bool {
    use io::ErrorKind::{QuotaExceeded, ResourceBusy, StorageFull};
    matches!(error.kind(), QuotaExceeded | ResourceBusy | StorageFull)
}
