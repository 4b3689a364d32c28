//! The bytes of a link: any stream in any pieces, any frames in any order, any pace.
//!
//! Checked: nothing panics; frames do not depend on how the stream is split; what a link writes is what
//! was queued, whole and in order; nobody without the secret opens a link.

#![no_main]

use std::io::IoSlice;
use std::sync::Arc;

use arbitrary::Arbitrary;
use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use rondo_core::env::{Class, Mono, Outbound};
use rondo_core::id::{BootEpoch, Life, NodeId, SessionId};
use rondo_net::frame::{Decoder, Frame, FrameError, HEADER_BYTES, Kind, encode};
use rondo_net::handshake::{HANDSHAKE_BYTES_MAX, Handshake, Identity, PROTOCOL, Step};
use rondo_net::link::{End, Link, Pace, SLICES_MAX};
use rondo_net::queue::{Pushed, QueueLimits, SendQueue};

const LIMIT: usize = 4096;
const LIMITS: QueueLimits =
    QueueLimits { bytes_max: 8 << 10, frames_max: 20, absurd_bytes: 64 << 10 };

#[derive(Arbitrary, Debug)]
enum Input {
    Stream { bytes: Vec<u8>, sizes: Vec<u8> },
    Frames { frames: Vec<AnyFrame>, damage: Option<(u16, u8)>, sizes: Vec<u8> },
    Stranger { dials: bool, frames: Vec<Said> },
    Link { steps: Vec<LinkStep> },
}

#[derive(Arbitrary, Clone, Debug)]
struct AnyFrame {
    kind: u8,
    version: u8,
    payload: Vec<u8>,
}

/// What a stranger says in a handshake.
#[derive(Arbitrary, Debug)]
enum Said {
    Anything(AnyFrame),
    /// What the other side would have said, with one byte changed.
    Almost {
        at: u16,
        flip: u8,
    },
    /// The last frame of the machine under test, as another kind.
    Echo {
        kind: u8,
    },
}

#[derive(Arbitrary, Debug)]
enum LinkStep {
    Push { reply: bool, parts: Vec<u16> },
    Load,
    Write(u16),
    Hear(AnyFrame),
    HearBytes(Vec<u8>),
    Wait(u16),
}

fuzz_target!(|input: Input| {
    match input {
        Input::Stream { bytes, sizes } => stream(&bytes, &sizes),
        Input::Frames { frames, damage, sizes } => whole_frames(&frames, damage, &sizes),
        Input::Stranger { dials, frames } => stranger(dials, &frames),
        Input::Link { steps } => link(&steps),
    }
});

fn kind(number: u8) -> Kind {
    const KINDS: [Kind; 7] = [
        Kind::Hello,
        Kind::Proof,
        Kind::Ready,
        Kind::Request,
        Kind::Reply,
        Kind::Heartbeat,
        Kind::Goodbye,
    ];
    KINDS[usize::from(number) % KINDS.len()]
}

impl AnyFrame {
    fn frame(&self) -> Frame {
        Frame { kind: kind(self.kind), version: self.version, payload: self.payload.clone().into() }
    }

    fn bytes(&self) -> Bytes {
        let Frame { kind, version, payload } = self.frame();
        encode(kind, version, payload)
    }
}

fn decode(bytes: &[u8], sizes: &[u8]) -> (Vec<Frame>, Option<FrameError>) {
    let mut decoder = Decoder::new(LIMIT);
    let (mut out, mut rest) = (Vec::new(), bytes);
    let mut sizes = sizes.iter().cycle();
    while !rest.is_empty() {
        let size = sizes.next().map_or(rest.len(), |&size| usize::from(size) + 1);
        let (piece, more) = rest.split_at(size.min(rest.len()));
        rest = more;
        decoder.push(piece);
        loop {
            match decoder.next_frame() {
                Ok(Some(frame)) => out.push(frame),
                Ok(None) => break,
                Err(error) => return (out, Some(error)),
            }
        }
        assert!(decoder.buffered() <= LIMIT + HEADER_BYTES, "more is held than one frame may have");
    }
    (out, None)
}

fn stream(bytes: &[u8], sizes: &[u8]) {
    assert_eq!(decode(bytes, sizes), decode(bytes, &[0]), "the split matters");
}

fn whole_frames(frames: &[AnyFrame], damage: Option<(u16, u8)>, sizes: &[u8]) {
    let fits = |frame: &&AnyFrame| frame.payload.len() <= LIMIT;
    let expected: Vec<Frame> = frames.iter().filter(fits).map(AnyFrame::frame).collect();
    let mut bytes = frames.iter().filter(fits).map(AnyFrame::bytes).collect::<Vec<_>>().concat();
    match damage {
        Some((at, flip)) if flip != 0 && !bytes.is_empty() => {
            let at = usize::from(at) % bytes.len();
            bytes[at] ^= flip;
            let (got, _) = decode(&bytes, sizes);
            assert!(expected.starts_with(&got) && got.len() < expected.len());
        }
        _ => assert_eq!(decode(&bytes, sizes), (expected, None)),
    }
}

fn identity(node: u128, secret: &[u8]) -> Arc<Identity> {
    Arc::new(Identity {
        cluster: "fuzz".into(),
        node: NodeId(node),
        life: Life { boot: BootEpoch(1), session: SessionId(7) },
        secret: Some(secret.to_vec()),
        protocol: PROTOCOL,
    })
}

/// A node with a secret talks to somebody with another one, who tries whatever comes to mind.
fn stranger(dials: bool, said: &[Said]) {
    let node = identity(1, b"right");
    let other = identity(2, b"wrong");
    let (mut machine, mut shadow, mut last) = if dials {
        let (machine, first) = Handshake::dial(node, NodeId(2), [1; 32]);
        (machine, Handshake::accept(other, [2; 32]), Some(first))
    } else {
        let (shadow, first) = Handshake::dial(other, NodeId(1), [2; 32]);
        let mut machine = Handshake::accept(node, [1; 32]);
        let last = answer(machine.on_frame(&frame(&first)));
        (machine, shadow, last)
    };
    for said in said {
        let heard = match said {
            Said::Anything(frame) => frame.frame(),
            Said::Almost { at, flip } => {
                let Some(next) =
                    last.as_ref().and_then(|last| answer(shadow.on_frame(&frame(last))))
                else {
                    return;
                };
                let mut next = frame(&next);
                let mut payload = next.payload.to_vec();
                let at = usize::from(*at) % payload.len();
                payload[at] ^= flip;
                next.payload = payload.into();
                next
            }
            Said::Echo { kind: number } => match &last {
                Some(last) => Frame { kind: kind(*number), ..frame(last) },
                None => return,
            },
        };
        if heard.payload.len() > HANDSHAKE_BYTES_MAX {
            return;
        }
        match machine.on_frame(&heard) {
            Step::Open(_, peer) => panic!("a stranger is taken for {peer:?}"),
            Step::Send(bytes) => last = Some(bytes),
            Step::Refuse(bytes, _) => {
                frame(&bytes);
                return;
            }
            Step::Refused(_) => return,
        }
    }
}

fn answer(step: Step) -> Option<Bytes> {
    match step {
        Step::Send(bytes) | Step::Refuse(bytes, _) => Some(bytes),
        Step::Open(bytes, _) => bytes,
        Step::Refused(_) => None,
    }
}

fn frame(bytes: &[u8]) -> Frame {
    let mut decoder = Decoder::new(HANDSHAKE_BYTES_MAX);
    decoder.push(bytes);
    decoder.next_frame().expect("our own frames are good").expect("and whole")
}

fn link(steps: &[LinkStep]) {
    let pace = Pace { heartbeat_ms: 100, silence_ms: 1000 };
    let mut now = Mono(0);
    let mut link = Link::new(pace, 1, Decoder::new(10), now);
    let mut other = Link::new(pace, 1, Decoder::new(10), now);
    let mut queue = SendQueue::new(LIMITS);
    let (mut pushed, mut heard) = (Vec::new(), Vec::new());
    for step in steps {
        match step {
            LinkStep::Push { reply, parts } => {
                let class = if *reply { Class::Reply } else { Class::Request };
                let part = |&len: &u16| Bytes::from(vec![len as u8; usize::from(len % 5000)]);
                let message = Outbound { class, parts: parts.iter().take(4).map(part).collect() };
                match queue.push(1, &message) {
                    Pushed::Queued => pushed.push((class, Bytes::from(message.parts.concat()))),
                    Pushed::Dropped => assert_eq!(class, Class::Request),
                    Pushed::TooLong => panic!("four short parts are never too long"),
                    Pushed::Absurd => return,
                }
                assert!(queue.bytes() <= LIMITS.absurd_bytes + HEADER_BYTES * (pushed.len() + 1));
            }
            LinkStep::Load => link.load(&mut queue),
            LinkStep::Write(max) => {
                write(&mut link, &mut other, usize::from(*max), now, &mut heard)
            }
            LinkStep::Hear(frame) => {
                if hear(&mut link, &frame.bytes(), now).is_err() {
                    return;
                }
            }
            LinkStep::HearBytes(bytes) => {
                if hear(&mut link, bytes, now).is_err() {
                    return;
                }
            }
            LinkStep::Wait(ms) => {
                now = now.plus_ms(u64::from(*ms));
                match link.on_time(now) {
                    Ok(next) => assert!(next > now, "the next look is in the future"),
                    Err(end) => {
                        assert!(matches!(end, End::Silent(ms) if ms >= 1000));
                        return;
                    }
                }
            }
        }
    }
    link.load(&mut queue);
    write(&mut link, &mut other, usize::MAX, now, &mut heard);
    assert_eq!(heard, pushed, "what was queued arrives, whole and in order");
}

fn write(
    link: &mut Link,
    other: &mut Link,
    max: usize,
    now: Mono,
    heard: &mut Vec<(Class, Bytes)>,
) {
    let mut left = max;
    loop {
        let mut slices = [IoSlice::new(&[]); SLICES_MAX];
        let count = link.slices(&mut slices);
        let mut bytes: Vec<u8> = slices[..count].iter().flat_map(|slice| slice.to_vec()).collect();
        bytes.truncate(left);
        if bytes.is_empty() {
            return;
        }
        left -= bytes.len();
        link.on_written(bytes.len(), now);
        heard.extend(hear(other, &bytes, now).expect("a link writes good frames"));
    }
}

fn hear(link: &mut Link, bytes: &[u8], now: Mono) -> Result<Vec<(Class, Bytes)>, End> {
    link.read_buffer().extend_from_slice(bytes);
    link.on_read(now);
    let mut out = Vec::new();
    while let Some(message) = link.next_message()? {
        out.push(message);
    }
    Ok(out)
}
