//! Layouts: effective quorums, what is refused from outside, and where keys lie.

use proptest::prelude::{Strategy, any, prop, prop_assert, proptest};
use proptest::test_runner::{Config, FileFailurePersistence};
use rondo_core::config::{NODES_MAX, PARTITIONS_MAX, REPLICAS_MAX};
use rondo_core::id::{GroupId, KeyspaceId, LayoutVersion, NodeId, PartitionId, Token, Unit};
use rondo_core::layout::keyspace::{Keyspace, Level, partition, token};
use rondo_core::layout::{Group, Layout, LayoutParts, Quorums, Role};
use rondo_core::wire::layout::{decode_layout, encode_layout};

fn role(id: u128) -> Role {
    Role { node: NodeId(id), name: format!("n{id}"), weight: 1, zone: String::new() }
}

fn layout(nodes: u128) -> Layout {
    let wanted = Quorums { n: 3, r: 2, w: 2 };
    let roles = (1..=nodes).rev().map(role).collect();
    Layout::first(16, wanted, roles, vec![Keyspace::default_keyspace()])
}

/// Whether a layout with this change is still taken from outside.
fn taken(change: impl FnOnce(&mut LayoutParts)) -> bool {
    let mut parts = layout(4).parts().clone();
    change(&mut parts);
    Layout::from_parts(parts).is_some()
}

#[test]
fn who_has_enough_nodes_gets_the_quorums_that_were_asked_for() {
    for (n, r, w) in [(3, 2, 2), (3, 1, 3), (3, 3, 1), (3, 3, 3), (3, 1, 1), (5, 2, 4), (1, 1, 1)] {
        let wanted = Quorums { n, r, w };
        assert_eq!(wanted.effective(usize::from(n)), wanted);
        assert_eq!(wanted.effective(1000), wanted);
    }
}

#[test]
fn fewer_nodes_keep_quorums_that_overlap_and_answer() {
    let effective = |n, r, w, nodes| {
        let Quorums { n, r, w } = Quorums { n, r, w }.effective(nodes);
        (n, r, w)
    };
    assert_eq!(effective(3, 2, 2, 1), (1, 1, 1));
    assert_eq!(effective(3, 2, 2, 2), (2, 2, 2));
    assert_eq!(effective(3, 1, 3, 2), (2, 1, 2));
    assert_eq!(effective(3, 1, 1, 2), (2, 1, 1));
    assert_eq!(effective(5, 3, 3, 4), (4, 3, 3));
    for (n, r, w) in
        (1..=7).flat_map(|n| (1..=n).flat_map(move |r| (1..=n).map(move |w| (n, r, w))))
    {
        for nodes in 1..=9usize {
            let Quorums { n: n2, r: r2, w: w2 } = Quorums { n, r, w }.effective(nodes);
            assert_eq!(usize::from(n2), nodes.min(usize::from(n)));
            assert!((1..=n2).contains(&r2) && (1..=n2).contains(&w2));
            assert!(r + w <= n || r2 + w2 > n2, "{n} {r} {w} with {nodes} nodes: {r2} + {w2}");
        }
    }
}

#[test]
fn nonsense_quorums_do_not_panic() {
    for n in [0, 1, 255] {
        for (r, w) in [(0, 0), (0, 255), (255, 0), (255, 255)] {
            for nodes in [0, 1, 3, 255, 256, usize::MAX] {
                let Quorums { n, r, w } = Quorums { n, r, w }.effective(nodes);
                assert!(n >= 1 && (1..=n).contains(&r) && (1..=n).contains(&w));
            }
        }
    }
}

#[test]
fn the_order_of_the_roles_does_not_matter() {
    let wanted = Quorums { n: 3, r: 2, w: 2 };
    let sorted = Layout::first(16, wanted, (1..=4).map(role).collect(), Vec::new());
    let turned = Layout::first(16, wanted, (1..=4).rev().map(role).collect(), Vec::new());
    assert_eq!(sorted, turned);
}

#[test]
fn a_layout_answers_who_owns_what() {
    let layout = layout(4);
    assert!(layout.has(NodeId(4)) && !layout.has(NodeId(5)));
    assert_eq!(layout.units().count(), 16);
    for at in layout.units() {
        let primaries: Vec<NodeId> = layout.primaries(at).collect();
        assert_eq!(primaries.len(), 3);
        for node in (1..=4).map(NodeId) {
            assert_eq!(layout.is_primary(node, at), primaries.contains(&node));
        }
    }
    assert!(layout.keyspace("default").is_some() && layout.keyspace("other").is_none());
}

#[test]
fn what_was_taken_apart_is_put_together_again() {
    let layout = layout(4);
    assert_eq!(Layout::from_parts(layout.parts().clone()), Some(layout));
}

#[test]
fn an_unsound_layout_is_refused() {
    assert!(taken(|_| {}));
    assert!(!taken(|parts| parts.partitions = 0));
    assert!(!taken(|parts| parts.partitions = 12));
    assert!(!taken(|parts| parts.partitions = 1 << 15));
    assert!(!taken(|parts| parts.partitions = 8), "fewer partitions than owners");
    assert!(!taken(|parts| parts.groups[0].quorums.n = 0));
    assert!(!taken(|parts| parts.groups[0].quorums = Quorums { n: 0, r: 0, w: 0 }));
    assert!(!taken(|parts| parts.groups[0].quorums.n = 255));
    assert!(!taken(|parts| parts.groups[0].quorums.r = 0));
    assert!(!taken(|parts| parts.groups[0].quorums.w = 4));
    assert!(!taken(|parts| parts.roles.clear()));
    assert!(!taken(|parts| parts.roles.swap(0, 1)));
    assert!(!taken(|parts| parts.roles[1] = parts.roles[0].clone()), "a node has two roles");
    assert!(!taken(|parts| parts.groups[0].owners.clear()));
    assert!(!taken(|parts| parts.groups[0].owners.truncate(47)));
    assert!(!taken(|parts| parts.groups[0].owners[0] = 4), "there are four roles");
    assert!(
        !taken(|parts| parts.groups[0].owners[1] = parts.groups[0].owners[0]),
        "an owner is there twice"
    );
    assert!(!taken(|parts| parts.groups.clear()));
    assert!(!taken(|parts| parts.groups.push(parts.groups[0].clone())), "a group is there twice");
    assert!(!taken(|parts| parts.groups[0].id = GroupId(1)), "a keyspace without its group");
    let keyspace = Keyspace::default_keyspace;
    assert!(!taken(|parts| parts.keyspaces.push(keyspace())));
    assert!(!taken(|parts| {
        parts.keyspaces.push(Keyspace { id: KeyspaceId(2), ..keyspace() });
    }));
    assert!(!taken(|parts| {
        parts.keyspaces.push(Keyspace { name: "other".to_owned(), ..keyspace() });
    }));
}

#[test]
fn more_nodes_or_partitions_than_the_limits_are_refused() {
    let first = Layout::first(1, wanted_of_one(), vec![role(1)], Vec::new());
    let many = |roles: u16, partitions: u16| LayoutParts {
        version: LayoutVersion(1),
        partitions,
        roles: (1..=u128::from(roles)).map(role).collect(),
        keyspaces: Vec::new(),
        groups: vec![Group {
            id: GroupId::FIRST,
            wanted: Quorums { n: 1, r: 1, w: 1 },
            quorums: Quorums { n: 1, r: 1, w: 1 },
            owners: vec![0; usize::from(partitions)],
        }],
        ..first.parts().clone()
    };
    assert!(Layout::from_parts(many(NODES_MAX as u16, PARTITIONS_MAX)).is_some());
    assert!(Layout::from_parts(many(NODES_MAX as u16 + 1, 16)).is_none());
    assert!(Layout::from_parts(many(16, PARTITIONS_MAX * 2)).is_none());
}

/// Two groups: `default` with N = 3 on four nodes, and `wide` with N = 1, which the last node owns alone.
fn two_groups() -> Layout {
    let mut parts = layout(4).parts().clone();
    let wanted = Quorums { n: 1, r: 1, w: 1 };
    let (id, owners) = (GroupId(7), vec![3; 16]);
    parts.groups.push(Group { id, wanted, quorums: wanted, owners });
    let wide = Keyspace {
        id: KeyspaceId(2),
        name: "wide".to_owned(),
        group: id,
        ..Keyspace::default_keyspace()
    };
    parts.keyspaces.push(wide);
    parts.last_keyspace = KeyspaceId(2);
    Layout::from_parts(parts).expect("a sound layout")
}

#[test]
fn each_group_has_its_own_owners_and_quorums() {
    let layout = two_groups();
    let unit =
        layout.unit(KeyspaceId(2), token(KeyspaceId(2), b"k")).expect("the keyspace is there");
    assert_eq!(unit.group, GroupId(7));
    assert_eq!(layout.primaries(unit).collect::<Vec<_>>(), [NodeId(4)]);
    let other =
        layout.unit(KeyspaceId(1), token(KeyspaceId(1), b"k")).expect("the keyspace is there");
    assert_eq!(
        (other.group, other.partition),
        (GroupId::FIRST, layout.partition(token(KeyspaceId(1), b"k")))
    );
    assert_eq!(layout.primaries(other).count(), 3);
    assert_eq!(layout.units().count(), 32);
    assert_eq!(layout.unit(KeyspaceId(3), token(KeyspaceId(3), b"k")), None);
    let elsewhere = Unit { group: GroupId(8), ..unit };
    assert_eq!(
        layout.primaries(elsewhere).count(),
        0,
        "a group that is not here has no owner here"
    );
}

#[test]
fn a_layout_keeps_its_name_when_the_program_is_renewed() {
    let first = encode_layout(&layout(4));
    assert_eq!(first[0], 2, "all of it has a place in the first generation");
    let both = encode_layout(&two_groups());
    assert_eq!(both[0], 3, "a second group has none there");
    for bytes in [first, both] {
        let layout = decode_layout(&bytes).expect("it was just written");
        assert_eq!(encode_layout(&layout), bytes);
    }
}

#[test]
fn the_largest_layout_can_be_read() {
    let roles = (1..=REPLICAS_MAX as u128).map(role).collect();
    let n = u8::try_from(REPLICAS_MAX).expect("a few");
    let layout = Layout::first(PARTITIONS_MAX, Quorums { n, r: n, w: n }, roles, Vec::new());
    assert_eq!(decode_layout(&encode_layout(&layout)).expect("it was just written"), layout);
}

#[test]
fn a_level_is_read_and_written_as_text() {
    for level in [Level::One, Level::Quorum, Level::All] {
        assert_eq!(level.to_string().to_uppercase().parse::<Level>().expect("a level"), level);
    }
    let refused = "two".parse::<Level>().expect_err("no level").to_string();
    assert_eq!(refused, "malformed: the consistency level is one, quorum or all");
}

/// Tokens are on every disk: they must never change.
#[test]
fn tokens_are_pinned() {
    let known = [
        token(KeyspaceId(1), b"user:1"),
        token(KeyspaceId(2), b"user:1"),
        token(KeyspaceId(1), b""),
    ];
    insta::assert_snapshot!(format!("{:x?}", known.map(|token| token.0)), @"[5ba2bf073be374e9, 41aa3f46734f771a, b40711a88c703975]");
}

#[test]
fn the_top_bits_of_a_token_are_its_partition() {
    assert_eq!(partition(Token(u64::MAX), 1), PartitionId(0));
    assert_eq!(partition(Token(u64::MAX), 256), PartitionId(255));
    assert_eq!(partition(Token(1 << 56), 256), PartitionId(1));
    assert_eq!(partition(Token((1 << 56) - 1), 256), PartitionId(0));
    assert_eq!(partition(Token(u64::MAX), PARTITIONS_MAX), PartitionId(PARTITIONS_MAX - 1));
}

fn wanted_of_one() -> Quorums {
    Quorums { n: 1, r: 1, w: 1 }
}

fn parts() -> impl Strategy<Value = LayoutParts> {
    let quorums = (0u8..5, 0u8..5, 0u8..5).prop_map(|(n, r, w)| Quorums { n, r, w });
    let roles = prop::collection::vec((0u128..6).prop_map(role), 0..5);
    let owners = prop::collection::vec(0u16..6, 0..20);
    (any::<u64>(), 0u16..10, quorums.clone(), quorums, roles, owners).prop_map(
        |(version, partitions, wanted, quorums, roles, owners)| {
            let version = LayoutVersion(version);
            let keyspaces = vec![Keyspace::default_keyspace()];
            let groups = vec![Group { id: GroupId::FIRST, wanted, quorums, owners }];
            let first = Layout::first(1, wanted_of_one(), vec![role(1)], keyspaces.clone());
            LayoutParts { version, partitions, roles, keyspaces, groups, ..first.parts().clone() }
        },
    )
}

/// Cases that failed once are kept here, and are run first.
const FAILURES: FileFailurePersistence = FileFailurePersistence::Direct("tests/layout.regressions");

proptest! {
    #![proptest_config(Config { cases: 2000, failure_persistence: Some(Box::new(FAILURES)), ..Config::default() })]

    /// Whatever arrives, checking it does not panic, and what is taken can be asked anything.
    #[test]
    fn a_layout_from_outside_is_refused_or_works(parts in parts(), raw in any::<u64>()) {
        if let Some(layout) = Layout::from_parts(parts) {
            let group = &layout.groups()[0];
            let at = Unit { group: group.id, partition: layout.partition(Token(raw)) };
            let n = usize::from(group.quorums.n);
            prop_assert!(layout.primaries(at).count() == n && n >= 1);
        }
    }
}
