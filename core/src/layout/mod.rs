//! Who owns which keys? A layout is an immutable value: the keyspaces, the roles of the nodes, and the
//! assignment of partitions to nodes that is computed from them. No clock, no membership view and no
//! message plays a part here; how a layout comes to be live is the business of `formation` and `change`.

pub mod keyspace;

pub mod placement;

mod agreed;

pub mod live;

pub mod staged;

pub mod next;

pub use agreed::{Group, Layout, LayoutParts, LayoutRef, Quorums, Role};
