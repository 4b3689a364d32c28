//! Which nodes own which partition: a pure function of the roles and the previous assignment.

use crate::layout::Role;

/// The owners of every partition, as indices into `roles` (sorted by node): `partitions * n` of them, the
/// owners of one partition together and in order of preference.
///
/// `previous` is an earlier assignment expressed in indices into the same `roles`, `u16::MAX` for a node that
/// is gone.
#[must_use]
pub fn assign(roles: &[Role], n: u8, partitions: u16, previous: Option<&[u16]>) -> Vec<u16> {
    let _ = previous;
    let nodes = roles.len();
    let n = usize::from(n);
    assert!(
        n >= 1 && n <= nodes,
        "every partition needs distinct owners"
    );
    (0..usize::from(partitions))
        .flat_map(|partition| (0..n).map(move |replica| ((partition + replica) % nodes) as u16))
        .collect()
}
