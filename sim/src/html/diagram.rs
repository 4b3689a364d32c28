//! The space-time diagram: a lane for the clients and one for each node, time going down, an arrow for each message.
//!
//! Lost messages end red, dead and paused nodes are hatched, and beside each node stand its clock's error and what it stored.
//! Steps of time are compressed: a step's height grows with the logarithm of its length.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use super::escaped;
use crate::rt::Time;
use crate::run::Outcome;
use crate::scenario::{Fault, Kind, Scenario};
use crate::trace::Line;

const LANE: f64 = 210.0;
const LEFT: f64 = 190.0;
const TOP: f64 = 50.0;
/// How many lines are drawn; the table has more.
const DRAWN_MAX: usize = 500;
/// How much of a text stands beside a lane.
const TEXT_MAX: usize = 30;

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
    let mut diagram = Diagram { out: String::new(), places: places(&times), scenario };
    let (width, height) =
        (LEFT + LANE * f64::from(scenario.cluster.nodes + 1), diagram.height() + 30.0);
    let _ = write!(
        diagram.out,
        "<svg width=\"{width}\" height=\"{height}\" viewBox=\"0 0 {width} {height}\" role=\"img\">{DEFS}"
    );
    diagram.lanes(height);
    diagram.silences(drawn);
    diagram.calls(outcome, key);
    drawn.iter().for_each(|line| diagram.line(line));
    let _ = write!(diagram.out, "</svg>");
    diagram.out
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
}

impl Diagram<'_> {
    fn height(&self) -> f64 {
        self.places.values().last().copied().unwrap_or(TOP)
    }

    /// The place of the first drawn time from `at` on.
    fn y(&self, at: Time) -> f64 {
        self.places.range(at..).next().map_or(self.height(), |(_, &y)| y)
    }

    fn lanes(&mut self, height: f64) {
        let clocks = self.scenario.clocks.iter().enumerate();
        let names = clocks.map(|(node, clock)| {
            format!("n{node}  clock {:+} ms, {:+} ppm", clock.offset_ms, clock.drift_ppm)
        });
        for (lane, name) in std::iter::once("clients".to_owned()).chain(names).enumerate() {
            let x = LEFT - LANE / 2.0 + lane as f64 * LANE;
            let _ = write!(
                self.out,
                "<text x=\"{x}\" y=\"20\" text-anchor=\"middle\">{name}</text>\
                     <line class=\"lane\" x1=\"{x}\" x2=\"{x}\" y1=\"30\" y2=\"{height}\"/>"
            );
        }
    }

    /// Hatches where a node is down or paused.
    fn silences(&mut self, lines: &[&Line]) {
        let mut down: BTreeMap<u32, Time> =
            (0..self.scenario.cluster.nodes).map(|node| (node, Time::default())).collect();
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
                    if fault.ends_a_process() && !matches!(fault.what, Kind::Restart { .. }) {
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
                let x = LEFT - LANE / 2.0 + (id % 8) as f64 * 8.0 - 28.0;
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
        let (x, y, text) = (x_of(line.node), self.y(line.at), escaped(&line.text));
        let short: String = line.text.chars().take(TEXT_MAX).collect();
        let short = escaped(&short);
        let _ = match (line.kind.as_str(), line.sent) {
            (kind @ ("message" | "lost"), Some((from, sent))) => {
                let class = if kind == "lost" { "lost" } else { "msg" };
                let (x1, y1) = (x_of(from), self.y(sent));
                write!(
                    self.out,
                    "<line class=\"{class}\" x1=\"{x1}\" y1=\"{y1}\" x2=\"{x}\" y2=\"{y}\"><title>{text}</title></line>"
                )
            }
            ("fault" | "mend" | "heal" | "trouble", _) => {
                let right = LEFT + LANE * f64::from(self.scenario.cluster.nodes + 1);
                write!(
                    self.out,
                    "<line class=\"fault\" x1=\"0\" x2=\"{right}\" y1=\"{y}\" y2=\"{y}\"/>\
                         <text class=\"bad\" x=\"2\" y=\"{}\">{} {short}<title>{text}</title></text>",
                    y - 2.0,
                    line.kind
                )
            }
            ("store" | "final", _) => {
                write!(
                    self.out,
                    "<circle cx=\"{x}\" cy=\"{y}\" r=\"3\" fill=\"var(--ink)\"/>\
                         <text class=\"small\" x=\"{}\" y=\"{}\">{short}<title>{text}</title></text>",
                    x + 9.0,
                    y + 3.0
                )
            }
            ("call" | "answer", _) => {
                write!(
                    self.out,
                    "<text class=\"small\" x=\"{}\" y=\"{}\">{} {short}<title>{text}</title></text>",
                    2.0,
                    y + 3.0,
                    line.at.ms()
                )
            }
            _ => Ok(()),
        };
    }
}

fn x_of(node: u32) -> f64 {
    LEFT + LANE / 2.0 + f64::from(node) * LANE
}

/// For how long a fault pauses its nodes, when it does.
fn paused_ms(fault: &Fault) -> Option<u64> {
    let value = serde_json::to_value(&fault.what).ok()?;
    value.get("pause")?.get("for_ms")?.as_u64()
}
