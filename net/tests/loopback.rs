//! Whole networks over the loopback device: messages arrive in order, links come back, and whoever does
//! not belong is refused with a reason on both sides.

use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use rondo_core::budget::Memory;
use rondo_core::config::{MEMORY_BYTES_USUAL, MESSAGE_BYTES_MAX};
use rondo_core::env::{Address, Class, Network, Outbound, PROTOCOL_NEWEST};
use rondo_core::id::{BootEpoch, Life, NodeId, SessionId};
use rondo_core::inbox::{Arrival, Inbox, InboxReader};
use rondo_net::frame::{Decoder, Frame, Kind, encode};
use rondo_net::handshake::{Handshake, Identity, PROTOCOL, Step};
use rondo_net::refusal::{Refusal, RefusalCode};
use rondo_net::status::{LinkState, LinkStatus};
use rondo_net::tcp::{Options, TcpNetwork};
use smallvec::smallvec;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

const DEADLINE: Duration = Duration::from_secs(20);

struct Node {
    id: NodeId,
    life: Life,
    network: TcpNetwork,
    memory: Memory,
    reader: InboxReader,
    arrived: Vec<Arrival>,
}

fn life(boot: u64) -> Life {
    Life { boot: BootEpoch(boot), session: SessionId(boot) }
}

fn options(node: u128) -> Options {
    Options {
        listen: Address("127.0.0.1:0".into()),
        next_free: false,
        node: NodeId(node),
        life: life(1),
        cluster: "test".into(),
        secret: Some(b"sesame".to_vec()),
        heartbeat_ms: 50,
        silence_ms: 1000,
        handshake_ms: 5000,
    }
}

impl Node {
    fn start(options: Options) -> Node {
        Node::try_start(options).expect("a free port")
    }

    fn try_start(options: Options) -> std::io::Result<Node> {
        let (inbox, reader) = Inbox::new(Memory::new(MEMORY_BYTES_USUAL));
        let (id, life) = (options.node, options.life);
        let memory = inbox.memory().clone();
        let network = TcpNetwork::start(options, inbox, [id.0 as u8; 32])?;
        Ok(Node { id, life, network, memory, reader, arrived: Vec::new() })
    }

    fn address(&self) -> Address {
        Address(self.network.address().to_string())
    }

    fn link(&self, to: NodeId) -> LinkStatus {
        let links = self.network.links();
        links.into_iter().find(|link| link.node == to).expect("routed")
    }

    fn send(&self, to: NodeId, number: u32) -> bool {
        let bytes = Bytes::copy_from_slice(&number.to_le_bytes());
        self.network.send(to, |_| Some(Outbound { class: Class::Reply, parts: smallvec![bytes] }))
    }

    async fn next(&mut self) -> Arrival {
        if self.arrived.is_empty() {
            let batch =
                poll_fn(|context| self.reader.poll_batch(context, &mut self.arrived, usize::MAX));
            timeout(DEADLINE, batch).await.expect("something arrives");
            self.arrived.reverse();
        }
        self.arrived.pop().expect("a batch is not empty")
    }

    /// The next message and its sender.
    async fn receive(&mut self) -> (NodeId, u32) {
        match self.next().await {
            Arrival::Peer(from, bytes) => {
                (from, u32::from_le_bytes(bytes[..].try_into().expect("four bytes")))
            }
            _ => panic!("not a peer's message"),
        }
    }
}

fn introduce(a: &Node, b: &Node) {
    a.network.route(b.id, b.life, "b", &b.address());
    b.network.route(a.id, a.life, "a", &a.address());
}

async fn until(what: &str, condition: impl Fn() -> bool) {
    let met = async {
        while !condition() {
            sleep(Duration::from_millis(2)).await;
        }
    };
    timeout(DEADLINE, met).await.unwrap_or_else(|_| panic!("not in time: {what}"));
}

async fn connected(a: &Node, b: &Node) {
    let open = |x: &Node, y: &Node| {
        let link = x.link(y.id);
        link.state == LinkState::Open && link.hears
    };
    until("links open", || open(a, b) && open(b, a)).await;
}

/// Starts a node on a port that an earlier life of it is about to give back.
async fn restart(options: Options) -> Node {
    let bound = async {
        loop {
            match Node::try_start(options.clone()) {
                Ok(node) => return node,
                Err(error) => {
                    assert_eq!(error.kind(), std::io::ErrorKind::AddrInUse);
                    sleep(Duration::from_millis(2)).await;
                }
            }
        }
    };
    timeout(DEADLINE, bound).await.expect("the port becomes free")
}

#[tokio::test]
async fn two_nodes_exchange_many_messages_in_order() {
    let (mut a, mut b) = (Node::start(options(1)), Node::start(options(2)));
    introduce(&a, &b);
    connected(&a, &b).await;
    for number in 0..100_000 {
        a.send(b.id, number);
        b.send(a.id, number);
    }
    for number in 0..100_000 {
        assert_eq!(b.receive().await, (a.id, number));
        assert_eq!(a.receive().await, (b.id, number));
    }
    assert_eq!((a.link(b.id).dropped, b.link(a.id).dropped), (0, 0));
    until("everything is written", || a.link(b.id).queue_bytes == 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_nodes_on_several_threads_keep_the_order_of_each_link() {
    let mut nodes = [1, 2, 3].map(|id| Node::start(options(id)));
    for (x, y) in [(0, 1), (0, 2), (1, 2)] {
        introduce(&nodes[x], &nodes[y]);
        connected(&nodes[x], &nodes[y]).await;
    }
    let ids = [1, 2, 3].map(NodeId);
    for node in &nodes {
        let (from, network) = (node.id, node.network.clone());
        tokio::spawn(async move {
            for number in 0..50_000u32 {
                for to in ids.into_iter().filter(|to| *to != from) {
                    let bytes = Bytes::copy_from_slice(&number.to_le_bytes());
                    network.send(to, |_| {
                        Some(Outbound { class: Class::Reply, parts: smallvec![bytes] })
                    });
                }
            }
        });
    }
    for node in &mut nodes {
        let mut expected = [0u32; 4];
        for _ in 0..100_000 {
            let (from, number) = node.receive().await;
            let next = &mut expected[from.0 as usize];
            assert_eq!(number, *next, "from {from}");
            *next += 1;
        }
    }
}

#[tokio::test]
async fn large_messages_pass_unharmed() {
    let (a, mut b) = (Node::start(options(1)), Node::start(options(2)));
    introduce(&a, &b);
    connected(&a, &b).await;
    let large = Bytes::from((0..8u32 << 20).map(|n| (n % 251) as u8).collect::<Vec<_>>());
    let head = Bytes::from_static(b"head");
    let parts = smallvec![head.clone(), large.clone()];
    a.network.send(b.id, |_| Some(Outbound { class: Class::Request, parts }));
    a.send(b.id, 7);
    match b.next().await {
        Arrival::Peer(from, bytes) => {
            assert_eq!(from, a.id);
            assert!(bytes == [head, large].concat(), "changed on the way");
        }
        _ => panic!("not a peer's message"),
    }
    assert_eq!(b.receive().await, (a.id, 7));
}

/// A million bytes each, until the links take no more: neither side keeps more than its budget, and the peer that reads
/// nothing is not given up, for it is not silent.
#[tokio::test]
async fn a_node_that_takes_nothing_stops_its_peers_instead_of_filling_up() {
    let (a, mut b) = (Node::start(options(1)), Node::start(options(2)));
    introduce(&a, &b);
    connected(&a, &b).await;
    let value = Bytes::from(vec![7; 1_000_000]);
    let mut taken = 0;
    let mut refused = 0;
    while refused < 50 {
        let parts = smallvec![value.clone()];
        match a.network.send(b.id, |_| Some(Outbound { class: Class::Request, parts })) {
            true => (taken, refused) = (taken + 1, 0),
            false => refused += 1,
        }
        sleep(Duration::from_millis(5)).await;
    }
    let (leaving, arriving) = (a.memory.leaving.gauge(), b.memory.arriving.gauge());
    assert!(leaving.peak <= leaving.max, "{leaving:?}");
    assert!(arriving.peak <= MESSAGE_BYTES_MAX + (2 << 20), "one peer's part: {arriving:?}");
    sleep(Duration::from_millis(1_500)).await;
    assert_eq!(a.link(b.id).state, LinkState::Open, "{:?}", a.link(b.id));
    for _ in 0..taken {
        assert!(
            matches!(b.next().await, Arrival::Peer(from, bytes) if from == a.id && bytes == value)
        );
    }
    until("all is given back", || a.memory.leaving.gauge().used == 0).await;
    assert_eq!(b.memory.arriving.gauge().used, 0);
}

#[tokio::test]
async fn a_peer_that_restarts_on_its_port_is_found_again() {
    let (mut a, b) = (Node::start(options(1)), Node::start(options(2)));
    introduce(&a, &b);
    connected(&a, &b).await;
    let listen = b.address();
    drop(b);
    until("the loss is noticed", || a.link(NodeId(2)).state != LinkState::Open).await;
    assert!(a.link(NodeId(2)).trouble.is_some());
    assert!(!a.send(NodeId(2), 0), "a message without a link does not leave, and that is said");

    let mut b = restart(Options { life: life(2), listen, ..options(2) }).await;
    introduce(&a, &b);
    connected(&a, &b).await;
    let link = a.link(b.id);
    assert_eq!((link.life, link.reconnects, link.trouble), (Some(life(2)), 1, None));
    assert!(a.send(b.id, 1));
    assert!(b.send(a.id, 2));
    assert_eq!(b.receive().await, (a.id, 1));
    assert_eq!(a.receive().await, (b.id, 2));
}

#[tokio::test]
async fn a_peer_that_moves_is_dialled_at_its_new_address() {
    let a = Node::start(options(1));
    a.network.route(NodeId(2), life(1), "b", &Address("127.0.0.1:1".into()));
    until("nobody listens at port 1", || a.link(NodeId(2)).trouble.is_some()).await;
    let mut b = Node::start(options(2));
    a.network.route(b.id, b.life, "b", &b.address());
    until("found", || a.link(NodeId(2)).state == LinkState::Open).await;
    a.send(b.id, 1);
    assert_eq!(b.receive().await, (a.id, 1));

    drop(b);
    let mut b = Node::start(Options { life: life(2), ..options(2) });
    a.network.route(
        b.id,
        b.life,
        "b",
        &Address(format!("localhost:{}", b.network.address().port())),
    );
    until("found by name", || a.link(NodeId(2)).life == Some(life(2))).await;
    until("open", || a.link(NodeId(2)).state == LinkState::Open).await;
    a.send(b.id, 2);
    assert_eq!(b.receive().await, (a.id, 2));
}

/// Peers know which life of a node counts. A process on a copy of its directory dials them as eagerly as the node itself,
/// and each of its calls took the node's own link away (<https://github.com/etcd-io/etcd/issues/10254>).
#[tokio::test]
async fn a_process_on_a_copy_takes_no_link_away() {
    let (mut a, b) =
        (Node::start(options(1)), Node::start(Options { life: life(5), ..options(2) }));
    introduce(&a, &b);
    connected(&a, &b).await;
    let second = Life { session: SessionId(99), ..life(5) };
    let copies = [second, life(3), life(8)].map(|life| Node::start(Options { life, ..options(2) }));
    for (copy, said) in
        copies.iter().zip(["start 5 of it is another process", "start 5 was seen", ""])
    {
        copy.network.route(a.id, a.life, "a", &a.address());
        if copy.life.boot > b.life.boot {
            // Whether it counts is not known before it has said more.
            until("taken", || copy.link(a.id).state == LinkState::Open).await;
            continue;
        }
        until("refused", || copy.link(a.id).refusal.is_some()).await;
        let refusal = copy.link(a.id).refusal.expect("refused");
        assert_eq!(refusal.code, RefusalCode::NotCounted);
        assert!(refusal.code.needs_people(), "it is tried again seldom");
        assert!(refusal.text.contains(said) && refusal.text.contains("process of b"), "{refusal}");
        assert_eq!(copy.link(a.id).reconnects, 0, "no link was open");
    }
    for number in 0..1000 {
        b.send(a.id, number);
        assert_eq!(a.receive().await, (b.id, number));
    }
    let (here, there) = (a.link(b.id), b.link(a.id));
    assert_eq!((here.reconnects, here.trouble, here.hears), (0, None, true));
    assert_eq!((there.reconnects, there.trouble), (0, None));

    // Now the later one counts: the earlier one's links end on both sides.
    a.network.route(copies[2].id, life(8), "b", &copies[2].address());
    until("the link goes to the later one", || a.link(b.id).life == Some(life(8))).await;
    until("the earlier one is refused", || {
        b.link(a.id).refusal.is_some_and(|r| r.code == RefusalCode::NotCounted)
    })
    .await;
}

/// Starts two nodes that do not belong together and returns how each sees the other.
async fn strangers(a: Options, b: Options) -> [LinkStatus; 2] {
    let (a, b) = (Node::start(a), Node::start(b));
    introduce(&a, &b);
    until("both refuse", || a.link(b.id).refusal.is_some() && b.link(a.id).refusal.is_some()).await;
    assert_eq!((a.link(b.id).reconnects, b.link(a.id).hears), (0, false));
    a.send(b.id, 1);
    assert_eq!(a.link(b.id).dropped, 1, "there is no link");
    [a.link(b.id), b.link(a.id)]
}

#[tokio::test]
async fn a_wrong_secret_is_refused_on_both_sides_with_the_reason() {
    let wrong = Options { secret: Some(b"open".to_vec()), ..options(2) };
    for link in strangers(options(1), wrong).await {
        assert_eq!(link.refusal.map(|refusal| refusal.code), Some(RefusalCode::Secret));
        let trouble = link.trouble.expect("said");
        assert!(trouble.contains("wrong cluster secret"), "{trouble}");
    }
}

#[tokio::test]
async fn another_cluster_is_refused_on_both_sides_with_the_reason() {
    let other = Options { cluster: "other".into(), ..options(2) };
    for link in strangers(options(1), other).await {
        assert_eq!(link.refusal.map(|refusal| refusal.code), Some(RefusalCode::Cluster));
    }
}

#[tokio::test]
async fn datagrams_reach_numbers_and_names_and_bear_the_senders_address() {
    let (a, mut b) = (Node::start(options(1)), Node::start(options(2)));
    let name = Address(format!("localhost:{}", b.network.address().port()));
    for to in [b.address(), name] {
        let mut got = None;
        for _ in 0..100 {
            a.network.datagram(&to, Bytes::from_static(b"hello"));
            let next = timeout(Duration::from_millis(200), b.next()).await;
            if let Ok(Arrival::Datagram(from, bytes)) = next {
                got = Some((from, bytes));
                break;
            }
        }
        assert_eq!(got, Some((a.address(), Bytes::from_static(b"hello"))), "to {}", to.0);
    }
}

#[tokio::test]
async fn a_taken_port_is_an_error_that_names_it() {
    let a = Node::start(options(1));
    let error = Node::try_start(Options { listen: a.address(), ..options(2) }).err();
    let error = error.expect("taken").to_string();
    assert!(error.contains(&a.network.address().port().to_string()), "{error}");
    let next = Options { listen: a.address(), next_free: true, ..options(2) };
    assert_ne!(Node::start(next).network.address(), a.network.address());
}

#[tokio::test]
async fn options_that_make_no_sense_are_refused() {
    let error = |options| Node::try_start(options).err().expect("refused").to_string();
    assert!(error(Options { cluster: String::new(), ..options(1) }).contains("0 bytes"));
    assert!(error(Options { secret: Some(vec![]), ..options(1) }).contains("secret is empty"));
    assert!(error(Options { silence_ms: 100, ..options(1) }).contains("three heartbeats"));
}

#[tokio::test]
async fn a_node_that_stops_says_its_last_words_and_goodbye() {
    let (a, mut b) = (Node::start(options(1)), Node::start(options(2)));
    introduce(&a, &b);
    connected(&a, &b).await;
    for number in 0..1000 {
        a.send(b.id, number);
    }
    a.network.stop().await;
    for number in 0..1000 {
        assert_eq!(b.receive().await, (a.id, number));
    }
    until("b knows why", || {
        let link = b.link(a.id);
        link.refusal.is_some_and(|refusal| refusal.code == RefusalCode::Stopping) && !link.hears
    })
    .await;
    assert_ne!(a.link(b.id).state, LinkState::Open);
    drop(a);
    let a = Node::start(Options { life: life(2), ..options(1) });
    introduce(&a, &b);
    connected(&a, &b).await;
}

fn identity(id: u128) -> Identity {
    Identity {
        cluster: "test".into(),
        node: NodeId(id),
        life: life(1),
        secret: Some(b"sesame".to_vec()),
        protocol: PROTOCOL,
    }
}

/// Opens a link to `node` by hand, as `id`, and returns the stream.
async fn call_by_hand(node: &Node, id: u128) -> TcpStream {
    let me = identity(id);
    let mut stream = TcpStream::connect(node.network.address()).await.expect("it listens");
    let (mut handshake, first) = Handshake::dial(Arc::new(me), node.id, [9; 32]);
    stream.write_all(&first).await.expect("open");
    loop {
        match handshake.on_frame(&read_frame(&mut stream).await.expect("an answer")) {
            Step::Send(bytes) => stream.write_all(&bytes).await.expect("open"),
            Step::Open(None, _) => return stream,
            step => panic!("no link: {step:?}"),
        }
    }
}

/// The next frame, or `None` at the end of the stream.
async fn read_frame(stream: &mut TcpStream) -> Option<Frame> {
    let read = async {
        let mut decoder = Decoder::new(1 << 20);
        loop {
            if let Some(frame) = decoder.next_frame().expect("a good frame") {
                return Some(frame);
            }
            let byte = stream.read_u8().await.ok()?;
            decoder.push(&[byte]);
        }
    };
    timeout(DEADLINE, read).await.expect("an answer in time")
}

#[tokio::test]
async fn a_peer_that_falls_silent_is_given_up_and_hears_heartbeats_until_then() {
    let mut a = Node::start(Options { silence_ms: 300, ..options(1) });
    let mut stream = call_by_hand(&a, 2).await;
    a.network.route(NodeId(2), life(1), "b", &Address("127.0.0.1:1".into()));
    until("heard", || a.link(NodeId(2)).hears).await;
    let mut heartbeats = 0;
    while let Some(frame) = read_frame(&mut stream).await {
        assert_eq!(frame.kind, Kind::Heartbeat);
        heartbeats += 1;
    }
    assert!(heartbeats > 1, "{heartbeats} heartbeats");
    until("given up", || !a.link(NodeId(2)).hears).await;

    let mut again = call_by_hand(&a, 2).await;
    let message = encode(Kind::Reply, PROTOCOL_NEWEST, Bytes::copy_from_slice(&7u32.to_le_bytes()));
    again.write_all(&message).await.expect("open");
    assert_eq!(a.receive().await, (NodeId(2), 7));
}

#[tokio::test]
async fn a_peer_that_dials_again_ends_its_earlier_link() {
    let mut a = Node::start(options(1));
    let mut first = call_by_hand(&a, 2).await;
    let mut second = call_by_hand(&a, 2).await;
    while let Some(frame) = read_frame(&mut first).await {
        if frame.kind == Kind::Goodbye {
            break;
        }
        assert_eq!(frame.kind, Kind::Heartbeat);
    }
    let message = encode(Kind::Reply, PROTOCOL_NEWEST, Bytes::copy_from_slice(&7u32.to_le_bytes()));
    second.write_all(&message).await.expect("open");
    assert_eq!(a.receive().await, (NodeId(2), 7));
}

#[tokio::test]
async fn rubbish_is_answered_with_a_reason() {
    let a = Node::start(options(1));
    for rubbish in [&b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"[..], &[0; 64]] {
        let mut stream = TcpStream::connect(a.network.address()).await.expect("it listens");
        stream.write_all(rubbish).await.expect("open");
        let frame = read_frame(&mut stream).await.expect("an answer");
        assert_eq!(frame.kind, Kind::Goodbye);
        assert_eq!(Refusal::decode(&frame.payload).code, RefusalCode::Malformed);
    }
    // An open link that turns into rubbish ends in the same way.
    let mut stream = call_by_hand(&a, 2).await;
    stream.write_all(&[0xff; 64]).await.expect("open");
    let frame = read_frame(&mut stream).await.expect("an answer");
    assert_eq!(Refusal::decode(&frame.payload).code, RefusalCode::Malformed);
}

/// Their time is far away, so what makes room is that peers speak and they do not.
#[tokio::test]
async fn strangers_who_say_nothing_shut_no_peer_out() {
    let mut a = Node::start(Options { handshake_ms: 600_000, ..options(1) });
    let mut streams = Vec::new();
    for _ in 0..80 {
        let stream = TcpStream::connect(a.network.address()).await;
        streams.push(stream.expect("it listens"));
    }
    let b = Node::start(options(2));
    introduce(&a, &b);
    connected(&a, &b).await;
    b.send(a.id, 1);
    assert_eq!(a.receive().await, (b.id, 1));
    for stream in &mut streams[..16] {
        assert!(read_frame(stream).await.is_none(), "the oldest made room");
    }
    let youngest = streams.last_mut().expect("eighty");
    let waits = timeout(Duration::from_millis(50), read_frame(youngest)).await;
    assert!(waits.is_err(), "the youngest is still listened to");
}

#[tokio::test]
async fn a_stranger_who_says_nothing_is_soon_gone() {
    let a = Node::start(Options { handshake_ms: 50, ..options(1) });
    let mut stream = TcpStream::connect(a.network.address()).await.expect("it listens");
    assert!(timeout(DEADLINE, read_frame(&mut stream)).await.expect("in time").is_none());
}

/// Sockets that have said who they claim to be and say nothing more hold their places longer than silent ones.
#[tokio::test]
async fn eighty_sockets_that_wait_in_their_handshake_shut_no_peer_out() {
    let a = Node::start(Options { handshake_ms: 600_000, ..options(1) });
    let b = Node::start(options(2));
    let me = Arc::new(identity(66));
    let mut idle = Vec::new();
    for _ in 0..80 {
        let mut stream = TcpStream::connect(a.network.address()).await.expect("it listens");
        let (_, hello) = Handshake::dial(Arc::clone(&me), a.id, [9; 32]);
        stream.write_all(&hello).await.expect("sent");
        // Answered: it has its place, or has been turned away.
        read_frame(&mut stream).await.expect("an answer");
        idle.push(stream);
    }
    introduce(&a, &b);
    connected(&a, &b).await;
}
