//! Handshakes as transcripts: what each side says, and how it ends.

use std::sync::Arc;

use bytes::Bytes;
use proptest::prelude::{any, prop, prop_assert, proptest};
use rondo_core::config::NAME_BYTES_MAX;
use rondo_core::id::{BootEpoch, Life, NodeId, SessionId};
use rondo_net::frame::{Decoder, Frame, Kind};
use rondo_net::handshake::{HANDSHAKE_BYTES_MAX, Handshake, Identity, PROTOCOL, Step};

const A: NodeId = NodeId(0xaaaa_aaaa << 96 | 1);
const B: NodeId = NodeId(0xbbbb_bbbb << 96 | 2);

fn identity(node: NodeId) -> Identity {
    Identity {
        cluster: "harbour".into(),
        node,
        life: Life { boot: BootEpoch(node.0 as u64 * 10), session: SessionId(7) },
        secret: Some(b"sesame".to_vec()),
        protocol: PROTOCOL,
    }
}

fn frame(bytes: &[u8]) -> Frame {
    let mut decoder = Decoder::new(HANDSHAKE_BYTES_MAX);
    decoder.push(bytes);
    let frame = decoder.next_frame().expect("a good frame").expect("a whole frame");
    assert_eq!(decoder.buffered(), 0, "one frame at a time");
    frame
}

fn short(node: NodeId) -> &'static str {
    if node == A { "a" } else { "b" }
}

/// What a frame says, in words; random-looking bytes by their first four.
fn words(frame: &Frame) -> String {
    let payload = &frame.payload[..];
    match frame.kind {
        Kind::Hello => format!("Hello v{}, {} bytes", frame.version, payload.len()),
        Kind::Goodbye => {
            format!("Goodbye {}: {}", payload[0], String::from_utf8_lossy(&payload[1..]))
        }
        kind => {
            let hex = payload[..4].iter().map(|byte| format!("{byte:02x}")).collect::<String>();
            format!("{kind:?} {hex}.. {} bytes", payload.len())
        }
    }
}

/// One side of a conversation, and what it has to say next.
struct Side {
    name: &'static str,
    machine: Handshake,
    story: Vec<String>,
}

impl Side {
    /// Takes a frame and returns the answer.
    fn hear(&mut self, frame: &Frame) -> Option<Bytes> {
        let (answer, end) = match self.machine.on_frame(frame) {
            Step::Send(bytes) => (Some(bytes), None),
            Step::Open(bytes, peer) => {
                let end = format!(
                    "open to {}, boot {}, protocol {}, features {:b}",
                    short(peer.node),
                    peer.life.boot.0,
                    peer.protocol,
                    peer.features
                );
                (bytes, Some(end))
            }
            Step::Refuse(bytes, refusal) => {
                (Some(bytes), Some(format!("refuses {:?}", refusal.code)))
            }
            Step::Refused(refusal) => {
                (None, Some(format!("is refused {:?}: {refusal}", refusal.code)))
            }
        };
        if let Some(bytes) = &answer {
            self.story.push(format!("{}: {}", self.name, words(&self::frame(bytes))));
        }
        if let Some(end) = end {
            self.story.push(format!("  {} {end}", self.name));
        }
        answer
    }
}

/// Lets `dialler` call `callee`, where `acceptor` answers.
fn transcript(dialler: Identity, callee: NodeId, acceptor: Identity) -> String {
    let (machine, first) = Handshake::dial(Arc::new(dialler), callee, [1; 32]);
    let mut dialler = Side { name: "dialler", machine, story: Vec::new() };
    let machine = Handshake::accept(Arc::new(acceptor), [2; 32]);
    let mut acceptor = Side { name: "acceptor", machine, story: Vec::new() };
    let mut story = vec![format!("dialler: {}", words(&frame(&first)))];
    let mut said = Some(first);
    let mut turn = 0;
    while let Some(bytes) = said {
        let side = if turn % 2 == 0 { &mut acceptor } else { &mut dialler };
        said = side.hear(&frame(&bytes));
        story.append(&mut side.story);
        turn += 1;
    }
    story.join("\n")
}

#[test]
fn two_nodes_of_one_cluster_open_a_link() {
    insta::assert_snapshot!(transcript(identity(A), B, identity(B)), @r#"
    dialler: Hello v1, 106 bytes
    acceptor: Hello v1, 106 bytes
    dialler: Proof 9334e04c.. 32 bytes
    acceptor: Ready 05bd0565.. 32 bytes
      acceptor open to a, boot 10, protocol 2, features 1
      dialler open to b, boot 20, protocol 2, features 1
    "#);
}

#[test]
fn without_secrets_the_name_of_the_cluster_is_proof() {
    let open = |node| Identity { secret: None, ..identity(node) };
    insta::assert_snapshot!(transcript(open(A), B, open(B)), @r#"
    dialler: Hello v1, 106 bytes
    acceptor: Hello v1, 106 bytes
    dialler: Proof 9d93e33e.. 32 bytes
    acceptor: Ready a068be71.. 32 bytes
      acceptor open to a, boot 10, protocol 2, features 0
      dialler open to b, boot 20, protocol 2, features 0
    "#);
}

#[test]
fn a_wrong_secret_is_refused_by_whoever_is_called() {
    let wrong = Identity { secret: Some(b"open".to_vec()), ..identity(A) };
    insta::assert_snapshot!(transcript(wrong, B, identity(B)), @r#"
    dialler: Hello v1, 106 bytes
    acceptor: Hello v1, 106 bytes
    dialler: Proof 16e31ea1.. 32 bytes
    acceptor: Goodbye 6: wrong cluster secret: node aaaaaaaa000000000000000000000001 does not have the one of node bbbbbbbb000000000000000000000002
      acceptor refuses Secret
      dialler is refused Secret: wrong cluster secret: node aaaaaaaa000000000000000000000001 does not have the one of node bbbbbbbb000000000000000000000002
    "#);
}

#[test]
fn a_missing_secret_is_called_missing() {
    let open = Identity { secret: None, ..identity(A) };
    insta::assert_snapshot!(transcript(open.clone(), B, identity(B)), @r#"
    dialler: Hello v1, 106 bytes
    acceptor: Goodbye 6: wrong cluster secret: there is one here, none there
      acceptor refuses Secret
      dialler is refused Secret: wrong cluster secret: there is one here, none there
    "#);
    let open = Identity { node: B, ..open };
    insta::assert_snapshot!(transcript(identity(A), B, open), @r#"
    dialler: Hello v1, 106 bytes
    acceptor: Goodbye 6: wrong cluster secret: there is none here, one there
      acceptor refuses Secret
      dialler is refused Secret: wrong cluster secret: there is none here, one there
    "#);
}

#[test]
fn another_cluster_is_refused_by_name() {
    let other = Identity { cluster: "harbor".into(), ..identity(A) };
    insta::assert_snapshot!(transcript(other, B, identity(B)), @r#"
    dialler: Hello v1, 105 bytes
    acceptor: Goodbye 3: cluster is "harbour" here, "harbor" there
      acceptor refuses Cluster
      dialler is refused Cluster: cluster is "harbour" here, "harbor" there
    "#);
}

#[test]
fn a_node_that_moved_away_is_not_mistaken_for_who_lives_there_now() {
    let c = NodeId(0xcccc_cccc << 96 | 3);
    insta::assert_snapshot!(transcript(identity(A), c, identity(B)), @r#"
    dialler: Hello v1, 106 bytes
    acceptor: Goodbye 4: I am not node cccccccc000000000000000000000003, I am node bbbbbbbb000000000000000000000002
      acceptor refuses WrongNode
      dialler is refused WrongNode: I am not node cccccccc000000000000000000000003, I am node bbbbbbbb000000000000000000000002
    "#);
}

#[test]
fn a_node_that_calls_itself_notices() {
    insta::assert_snapshot!(transcript(identity(A), B, identity(A)), @r#"
    dialler: Hello v1, 106 bytes
    acceptor: Goodbye 5: node bbbbbbbb000000000000000000000002 is not here: its address is that of node aaaaaaaa000000000000000000000001, which called itself there; the other was replaced, has moved, or advertises a wrong address
      acceptor refuses Myself
      dialler is refused Myself: node bbbbbbbb000000000000000000000002 is not here: its address is that of node aaaaaaaa000000000000000000000001, which called itself there; the other was replaced, has moved, or advertises a wrong address
    "#);
}

#[test]
fn versions_agree_on_the_newest_that_both_speak() {
    let newer = Identity { protocol: 1..=3, ..identity(A) };
    let newest = Identity { protocol: 2..=9, ..identity(B) };
    insta::assert_snapshot!(transcript(newer.clone(), B, newest.clone()), @r#"
    dialler: Hello v1, 106 bytes
    acceptor: Hello v1, 106 bytes
    dialler: Proof 03610e97.. 32 bytes
    acceptor: Ready 864d2132.. 32 bytes
      acceptor open to a, boot 10, protocol 3, features 1
      dialler open to b, boot 20, protocol 3, features 1
    "#);
    insta::assert_snapshot!(transcript(newest, A, Identity { protocol: 1..=1, ..identity(A) }), @r#"
    dialler: Hello v1, 106 bytes
    acceptor: Goodbye 2: protocol 1..1 here, 2..9 there
      acceptor refuses Protocol
      dialler is refused Protocol: protocol 1..1 here, 2..9 there
    "#);
}

/// A stranger without the secret calls b in the name of a, and answers b's challenge with whatever it can
/// get: b's own words, or a proof that b makes as a dialler at the same time.
#[test]
fn reflected_words_prove_nothing() {
    let mut acceptor = Handshake::accept(Arc::new(identity(B)), [2; 32]);
    let (_, hello_of_a) = Handshake::dial(Arc::new(identity(A)), B, [1; 32]);
    let Step::Send(challenge) = acceptor.on_frame(&frame(&hello_of_a)) else {
        panic!("b takes the hello");
    };

    // b happens to dial the stranger, who echoes b's own challenge to get a proof over it.
    let (mut dialler, _) = Handshake::dial(Arc::new(identity(B)), A, [2; 32]);
    let Step::Refuse(_, refusal) = dialler.on_frame(&frame(&challenge)) else {
        panic!("b recognises itself");
    };
    assert!(refusal.text.contains("called itself"), "{refusal}");

    // The stranger repeats a's hello instead and gets a proof by b, but one made in b's own role.
    let (mut dialler, _) = Handshake::dial(Arc::new(identity(B)), A, [2; 32]);
    let Step::Send(proof) = dialler.on_frame(&frame(&hello_of_a)) else {
        panic!("b proves itself to whom it has called");
    };
    let proof = frame(&proof);
    let Step::Refuse(_, refusal) = acceptor.on_frame(&proof) else {
        panic!("b's own proof is no proof of a");
    };
    assert!(refusal.text.contains("wrong cluster secret"), "{refusal}");

    // Nor does it serve as the answer to b's call.
    let echo = Frame { kind: Kind::Ready, ..proof };
    assert!(matches!(dialler.on_frame(&echo), Step::Refuse(..)));
}

#[test]
fn a_proof_is_worthless_for_the_next_handshake() {
    let (mut dialler, hello) = Handshake::dial(Arc::new(identity(A)), B, [1; 32]);
    let mut first = Handshake::accept(Arc::new(identity(B)), [2; 32]);
    let Step::Send(challenge) = first.on_frame(&frame(&hello)) else { panic!("taken") };
    let Step::Send(proof) = dialler.on_frame(&frame(&challenge)) else { panic!("taken") };
    assert!(matches!(first.on_frame(&frame(&proof)), Step::Open(..)));

    let mut second = Handshake::accept(Arc::new(identity(B)), [3; 32]);
    second.on_frame(&frame(&hello));
    assert!(matches!(second.on_frame(&frame(&proof)), Step::Refuse(..)));
}

#[test]
fn what_later_versions_append_to_a_hello_is_covered_but_not_read() {
    let (_, hello) = Handshake::dial(Arc::new(identity(A)), B, [1; 32]);
    let mut longer = frame(&hello);
    longer.payload = [&longer.payload[..], b"more"].concat().into();
    let step = Handshake::accept(Arc::new(identity(B)), [2; 32]).on_frame(&longer);
    assert!(matches!(step, Step::Send(_)));
}

#[test]
fn a_hello_that_is_cut_or_foreign_is_malformed() {
    let (_, hello) = Handshake::dial(Arc::new(identity(A)), B, [1; 32]);
    let whole = frame(&hello);
    let refused = |payload: Bytes| {
        let frame = Frame { payload, ..whole.clone() };
        match Handshake::accept(Arc::new(identity(B)), [2; 32]).on_frame(&frame) {
            Step::Refuse(_, refusal) => refusal.text,
            step => panic!("taken: {step:?}"),
        }
    };
    for len in 0..whole.payload.len() {
        assert_eq!(refused(whole.payload.slice(..len)), "this is not the hello of a node");
    }
    assert_eq!(
        refused(Bytes::from_static(b"GET / HTTP/1.1\r\n")),
        "this is not the hello of a node"
    );
    let mut name = whole.payload[..98].to_vec();
    name.push(u8::try_from(NAME_BYTES_MAX + 1).expect("fits"));
    name.resize(99 + NAME_BYTES_MAX + 1, b'x');
    assert_eq!(refused(name.into()), "this is not the hello of a node");
}

#[test]
fn the_longest_name_fits_into_a_hello() {
    let long = |node| Identity { cluster: "x".repeat(NAME_BYTES_MAX), ..identity(node) };
    assert!(transcript(long(A), B, long(B)).contains("acceptor open to a"));
}

proptest! {
    /// Whatever one changed bit in one frame does, nobody takes the other for somebody else.
    #[test]
    fn one_changed_bit_opens_no_link(which in 0usize..4, at in any::<prop::sample::Index>(), bit in 0u8..8) {
        let (mut dialler, first) = Handshake::dial(Arc::new(identity(A)), B, [1; 32]);
        let mut acceptor = Handshake::accept(Arc::new(identity(B)), [2; 32]);
        let (mut said, mut opened) = (first, [false, false]);
        for turn in 0..4 {
            let mut heard = frame(&said);
            if turn == which {
                let mut payload = heard.payload.to_vec();
                let at = at.index(payload.len());
                payload[at] ^= 1 << bit;
                heard.payload = payload.into();
            }
            let side = if turn % 2 == 0 { &mut acceptor } else { &mut dialler };
            match side.on_frame(&heard) {
                Step::Send(bytes) => said = bytes,
                Step::Open(bytes, _) => {
                    opened[turn % 2] = true;
                    let Some(bytes) = bytes else { break };
                    said = bytes;
                }
                Step::Refuse(..) | Step::Refused(_) => break,
            }
        }
        prop_assert!(!opened[1], "the dialler heard changed words");
        prop_assert!(which == 3 || !opened[0], "the acceptor heard changed words");
    }
}
