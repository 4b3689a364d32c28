//! The space-time diagram: a lane for the clients and one for each node, time going down, an arrow for each message.
//!
//! Lost messages end red, dead and paused nodes are hatched. Beside each node stands what it stored, and a strip bends with
//! the error of its clock. What clients say stands on the left of their lane, what goes wrong on the right of all lanes. No text
//! is cut: a long one takes several lines, and the next stands below.
//! Steps of time are compressed: a step's height grows with the logarithm of its length.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use super::{escaped, words};
use crate::fault::{Fault, Kind};
use crate::rt::Time;
use crate::run::Outcome;
use crate::scenario::Scenario;
use crate::watch::trace::Line;

const LANE: f64 = 220.0;
/// The width of the clients' lane, and of what is said about faults.
const CLIENTS: f64 = 340.0;
const FAULTS: f64 = 380.0;
const TOP: f64 = 50.0;
/// How far a strip is from its lane, and how far it bends to either side.
const STRIP: f64 = 26.0;
const BEND: f64 = 12.0;
/// The least distance of two lines of text.
const TEXT: f64 = 11.0;
/// How many lines are drawn; the table has more.
const DRAWN_MAX: usize = 500;
/// How many letters a line has beside a node's lane, beside the clients', and beside all lanes.
const STORED_LETTERS: usize = 30;
const SAID_LETTERS: usize = 44;
const FAULT_LETTERS: usize = 48;

/// The diagram of the lines of a story.
pub(super) fn svg(
    scenario: &Scenario,
    outcome: &Outcome,
    story: &[&Line],
    key: Option<u32>,
) -> String {
    let drawn = &story[..story.len().min(DRAWN_MAX)];
    let mut times: BTreeSet<Time> =
        drawn.iter().flat_map(|line| [line.at, line.sent.map_or(line.at, |sent| sent.1)]).collect();
    times.insert(Time::default());
    let mut diagram = Diagram {
        out: String::new(),
        places: places(&times),
        scenario,
        said_to: TOP,
        failed_to: TOP,
        stored_to: vec![TOP; scenario.cluster.nodes as usize],
    };
    // Texts that had to give way may end below the last line.
    let mut body = std::mem::take(&mut diagram.out);
    diagram.clocks(story);
    diagram.silences(drawn);
    diagram.calls(outcome, key);
    drawn.iter().for_each(|line| diagram.line(line));
    std::mem::swap(&mut body, &mut diagram.out);
    let (width, height) = (diagram.right() + FAULTS, diagram.lowest() + 30.0);
    let _ = write!(
        diagram.out,
        "<svg width=\"{width}\" height=\"{height}\" viewBox=\"0 0 {width} {height}\" role=\"img\">{DEFS}"
    );
    diagram.lanes(height);
    diagram.out + &body + "</svg>"
}

const DEFS: &str = "<defs><marker id=\"tip\" viewBox=\"0 0 8 8\" refX=\"8\" refY=\"4\" markerWidth=\"7\" \
    markerHeight=\"7\" orient=\"auto\"><path d=\"M0 0L8 4L0 8z\" fill=\"var(--ok)\"/></marker><pattern \
    id=\"down\" width=\"6\" height=\"6\" patternUnits=\"userSpaceOnUse\" \
    patternTransform=\"rotate(45)\"><path d=\"M0 0V6\" stroke=\"var(--bad)\" \
    stroke-width=\"2\"/></pattern><pattern id=\"paused\" width=\"6\" height=\"6\" \
    patternUnits=\"userSpaceOnUse\" patternTransform=\"rotate(-45)\"><path d=\"M0 0V6\" stroke=\"var(--dim)\" \
    stroke-width=\"2\"/></pattern></defs>";

/// Where each time is drawn.
fn places(times: &BTreeSet<Time>) -> BTreeMap<Time, f64> {
    let (mut y, mut before) = (TOP, Time::default());
    let mut place = |at: Time| {
        let ms = (at.0 - before.0) as f64 / 1e6;
        (y, before) = (y + 9.0 + 6.0 * (1.0 + ms).ln(), at);
        (at, y)
    };
    times.iter().map(|&at| place(at)).collect()
}

struct Diagram<'a> {
    out: String,
    places: BTreeMap<Time, f64>,
    scenario: &'a Scenario,
    /// Down to where the clients' texts go, those about faults, and those of each node: the next one stands below.
    said_to: f64,
    failed_to: f64,
    stored_to: Vec<f64>,
}

impl Diagram<'_> {
    fn height(&self) -> f64 {
        self.places.values().last().copied().unwrap_or(TOP)
    }

    /// The lowest of all that is drawn.
    fn lowest(&self) -> f64 {
        let stored = self.stored_to.iter().copied().fold(self.height(), f64::max);
        stored.max(self.said_to).max(self.failed_to)
    }

    /// The place of the first drawn time from `at` on.
    fn y(&self, at: Time) -> f64 {
        self.places.range(at..).next().map_or(self.height(), |(_, &y)| y)
    }

    /// Where the lanes end and the faults begin.
    fn right(&self) -> f64 {
        CLIENTS + LANE * f64::from(self.scenario.hosts())
    }

    fn lanes(&mut self, height: f64) {
        let nodes = (0..self.scenario.hosts()).map(|node| (x_of(node), format!("n{node}")));
        let clients = (CLIENTS - 40.0, "clients".to_owned());
        for (x, name) in std::iter::once(clients).chain(nodes) {
            let _ = write!(
                self.out,
                "<text x=\"{x}\" y=\"20\" text-anchor=\"middle\">{name}</text>\
                     <line class=\"lane\" x1=\"{x}\" x2=\"{x}\" y1=\"30\" y2=\"{height}\"/>"
            );
        }
    }

    /// A strip for each clock: to the right of the dotted line it is ahead, to the left behind.
    fn clocks(&mut self, lines: &[&Line]) {
        let ahead = |line: &&&Line| line.ahead_ms.map(|ms| (line.node, line.at, ms));
        let samples: Vec<(u32, Time, i64)> = lines.iter().filter_map(|line| ahead(&line)).collect();
        let most = samples.iter().map(|(_, _, ms)| ms.unsigned_abs()).max().unwrap_or(0);
        for node in 0..self.scenario.hosts() {
            let x = x_of(node) - STRIP;
            let mut path = String::new();
            let mut last = None;
            for &(_, at, ms) in samples.iter().filter(|(of, _, _)| *of == node) {
                let (bent, y) = (x + BEND * ms as f64 / most.max(1) as f64, self.y(at));
                let step = if last.is_some() {
                    format!("V{y:.1}H{bent:.1}")
                } else {
                    format!("M{bent:.1} {TOP}")
                };
                path.push_str(&step);
                last = Some(ms);
            }
            let (end, ppm) = (self.height(), self.scenario.skew(node).drift_ppm);
            let _ = write!(
                self.out,
                "<line class=\"true\" x1=\"{x}\" x2=\"{x}\" y1=\"{TOP}\" y2=\"{end}\"/>\
                     <path class=\"clock\" d=\"{}\"><title>the clock of n{node}: {BEND} px are {most} ms; it drifts by \
                     {ppm} ppm</title></path><text class=\"small\" x=\"{}\" y=\"36\" text-anchor=\"middle\">clock \
                     {:+} ms</text>",
                if path.is_empty() { format!("M{x} {TOP}") } else { format!("{path}V{end}") },
                x_of(node),
                last.unwrap_or(self.scenario.skew(node).offset_ms),
            );
        }
    }

    /// Hatches where a node is down or paused.
    fn silences(&mut self, lines: &[&Line]) {
        let mut down: BTreeMap<u32, Time> =
            (0..self.scenario.hosts()).map(|node| (node, Time::default())).collect();
        let mut spans = Vec::new();
        for line in lines {
            match line.kind.as_str() {
                "boot" => spans
                    .extend(down.remove(&line.node).map(|from| (line.node, from, line.at, "down"))),
                "exit" => _ = down.entry(line.node).or_insert(line.at),
                "fault" => {
                    let is_it = |fault: &&Fault| format!("{:?}", fault.what) == line.text;
                    let Some(fault) = self.scenario.faults.iter().find(is_it) else { continue };
                    if let Some(ms) = paused_ms(fault) {
                        spans.extend(
                            fault
                                .nodes()
                                .into_iter()
                                .map(|node| (node, line.at, line.at.plus_ms(ms), "paused")),
                        );
                    }
                    if fault.ends_a_process() && !matches!(fault.what, Kind::Restart(_)) {
                        fault
                            .nodes()
                            .into_iter()
                            .for_each(|node| _ = down.entry(node).or_insert(line.at));
                    }
                }
                _ => {}
            }
        }
        let end = self.places.keys().last().copied().unwrap_or_default();
        spans.extend(down.into_iter().map(|(node, from)| (node, from, end, "down")));
        for (node, from, to, class) in spans {
            let (x, y) = (x_of(node) - 7.0, self.y(from));
            let height = (self.y(to) - y).max(3.0);
            let _ = write!(
                self.out,
                "<rect class=\"{class}\" x=\"{x}\" y=\"{y}\" width=\"14\" height=\"{height}\"/>"
            );
        }
    }

    /// A bar in the clients' lane for each attempt on the key.
    fn calls(&mut self, outcome: &Outcome, key: Option<u32>) {
        let ops = outcome
            .history
            .ops
            .iter()
            .enumerate()
            .filter(|(_, op)| key.is_none_or(|key| op.key == key));
        for (id, op) in ops {
            for attempt in
                op.attempts.iter().filter(|attempt| self.places.contains_key(&attempt.called_at))
            {
                let end = attempt.end.as_ref().map_or(attempt.called_at, |end| end.at);
                let x = CLIENTS - 40.0 + (id % 8) as f64 * 8.0 - 28.0;
                let (from, to) =
                    (self.y(attempt.called_at), self.y(end).max(self.y(attempt.called_at) + 4.0));
                let _ = write!(
                    self.out,
                    "<line class=\"call\" x1=\"{x}\" x2=\"{x}\" y1=\"{from}\" y2=\"{to}\">\
                         <title>op {id} through n{}</title></line>",
                    attempt.node
                );
            }
        }
    }

    fn line(&mut self, line: &Line) {
        let (x, y) = (x_of(line.node), self.y(line.at));
        match (line.kind.as_str(), line.sent) {
            (kind @ ("message" | "lost"), Some((from, sent))) => {
                let class = if kind == "lost" { "lost" } else { "msg" };
                let (x1, y1) = (x_of(from), self.y(sent));
                // Near the receiver, where arrows that cross are apart.
                let (at_x, at_y) = (x + (x1 - x) * 0.22, y + (y1 - y) * 0.22 - 2.0);
                let _ = write!(
                    self.out,
                    "<line class=\"{class}\" x1=\"{x1}\" y1=\"{y1}\" x2=\"{x}\" y2=\"{y}\"><title>{}</title></line>\
                         <text class=\"said\" x=\"{at_x}\" y=\"{at_y}\">{}</text>",
                    escaped(&line.text),
                    escaped(said(&line.text))
                );
            }
            (kind @ ("fault" | "mend" | "heal" | "trouble"), _) => {
                let right = self.right();
                let _ = write!(
                    self.out,
                    "<line class=\"fault\" x1=\"0\" x2=\"{right}\" y1=\"{y}\" y2=\"{y}\"/>"
                );
                let what = self.fault(kind, line);
                let from = (y + 3.0).max(self.failed_to + TEXT);
                let lines = words::lines(&what, FAULT_LETTERS);
                self.failed_to = self.text("bad", right + 4.0, from, &lines, &line.text);
            }
            ("store" | "final", _) => {
                let _ =
                    write!(self.out, "<circle cx=\"{x}\" cy=\"{y}\" r=\"3\" fill=\"var(--ink)\"/>");
                let before = self.stored_to.get(line.node as usize).copied().unwrap_or(TOP);
                let from = (y + 3.0).max(before + TEXT);
                let lines = words::lines(&words::stored(&line.text), STORED_LETTERS);
                let to = self.text("small", x + 9.0, from, &lines, &line.text);
                if let Some(stored_to) = self.stored_to.get_mut(line.node as usize) {
                    *stored_to = to;
                }
            }
            ("call" | "answer", _) => {
                let what = format!("{} {}", line.at.ms(), line.text.replace(" attempt 1:", ":"));
                let from = (y + 3.0).max(self.said_to + TEXT);
                let lines = words::lines(&what, SAID_LETTERS);
                self.said_to = self.text("small", 2.0, from, &lines, &line.text);
            }
            _ => {}
        }
    }

    /// Lines of text below each other; all of it is told where the mouse rests. Returns where the last one stands.
    fn text(&mut self, class: &str, x: f64, from: f64, lines: &[String], whole: &str) -> f64 {
        let mut y = from;
        let _ = write!(self.out, "<text class=\"{class}\"><title>{}</title>", escaped(whole));
        for (at, line) in lines.iter().enumerate() {
            y = from + TEXT * at as f64;
            let _ = write!(self.out, "<tspan x=\"{x}\" y=\"{y}\">{}</tspan>", escaped(line));
        }
        self.out.push_str("</text>");
        y
    }

    /// A fault, its end, the end of all faults, or a node in trouble, in words.
    fn fault(&self, kind: &str, line: &Line) -> String {
        let told = |fault: &Fault| words::fault(&fault.what);
        match kind {
            "fault" => {
                let is_it = |fault: &&Fault| format!("{:?}", fault.what) == line.text;
                self.scenario.faults.iter().find(is_it).map_or(line.text.clone(), told)
            }
            "mend" => {
                let number = line.text.rsplit(' ').next().and_then(|n| n.parse::<usize>().ok());
                let fault = number.and_then(|number| self.scenario.faults.get(number));
                fault.map_or(line.text.clone(), |fault| format!("over: {}", told(fault)))
            }
            "heal" => "all faults are over; the final checks begin".to_owned(),
            _ => format!("trouble at n{}: {}", line.node, line.text),
        }
    }
}

fn x_of(node: u32) -> f64 {
    CLIENTS + LANE / 2.0 + f64::from(node) * LANE
}

/// What kind of message it is: `query` of `from n1: #1.1 query k0`.
fn said(text: &str) -> &str {
    let words = text.split(": ").nth(1).unwrap_or(text).split(' ');
    words.into_iter().find(|word| !word.starts_with('#')).unwrap_or_default()
}

/// For how long a fault pauses its nodes, when it does.
fn paused_ms(fault: &Fault) -> Option<u64> {
    let value = serde_json::to_value(&fault.what).ok()?;
    value.get("pause")?.get("for_ms")?.as_u64()
}
