//! One failing run as one page that needs nothing else: the picture, what is wrong, the report, the events.
//!
//! The page speaks of the key that the first violation names, because a whole run cannot be read: what happened around that
//! key is drawn and listed, the rest is counted. Every text from the run is escaped; there is no script.

mod words;

mod diagram;

use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::report;
use crate::run::Outcome;
use crate::scenario::Scenario;
use crate::watch::trace::Line;

const STYLE: &str = "
:root{color-scheme:light dark;--ink:#1c1e21;--dim:#6b7280;--line:#d4d7dc;--paper:#fff;--bad:#c81e1e;--ok:#2563eb;--client:#0f766e}
@media(prefers-color-scheme:dark){:root{--ink:#e6e8eb;--dim:#9aa1ac;--line:#3a3f47;--paper:#15171a;--bad:#ff6b6b;
--ok:#7aa7ff;--client:#4fd1c5}}
body{font:14px/1.5 system-ui,sans-serif;color:var(--ink);background:var(--paper);margin:2rem auto;max-width:1400px;padding:0 1rem}
h1{font-size:1.4rem}h2{font-size:1.1rem;margin-top:2rem}pre,td,text{font-family:ui-monospace,monospace;font-size:12px}
pre{white-space:pre-wrap;border:1px solid var(--line);padding:.8rem}table{border-collapse:collapse}
td{padding:1px 10px;border-bottom:1px solid var(--line);vertical-align:top;overflow-wrap:anywhere}
dl{display:grid;grid-template-columns:max-content 1fr;gap:2px 12px}dd{margin:0}.ok{color:var(--ok)}.client{color:var(--client)}
.bad{color:var(--bad)}.dim{color:var(--dim)}figure{margin:0;overflow-x:auto}svg text{fill:var(--ink)}
svg text.small{font-size:10px;fill:var(--dim)}svg text.bad{font-size:12px}
svg .lane{stroke:var(--line)}svg .msg{stroke:var(--ok);marker-end:url(#tip)}svg .lost{stroke:var(--bad);stroke-dasharray:4 3}
svg .call{stroke:var(--client);stroke-width:6;opacity:.55}
svg .down{fill:url(#down)}svg .paused{fill:url(#paused)}svg .fault{stroke:var(--bad);stroke-dasharray:2 4}
svg text.bad{fill:var(--bad)}svg text.said{font-size:9px;fill:var(--dim);text-anchor:middle}
svg .clock{stroke:var(--client);fill:none}svg .true{stroke:var(--line);stroke-dasharray:1 3}
";
/// What the signs of the picture mean.
const LEGEND: &str = "<dl id=\"legend\">
<dt class=\"ok\">&#8595; blue</dt><dd>a message, from where it was sent to where it arrived; its kind stands beside the arrow</dd>
<dt class=\"bad\">&#8595; red, dashed</dt><dd>a message that was lost</dd>
<dt class=\"client\">&#9646; bar</dt><dd>an attempt of a client, from the call to its answer; the words stand on the left, with the \
millisecond</dd>
<dt>&#9679; dot</dt><dd>what a node stored: the operations whose values it keeps side by side</dd>
<dt class=\"client\">bent line</dt><dd>a node's clock: right of the dotted line it is ahead of the true time, left of it behind</dd>
<dt class=\"bad\">hatched red</dt><dd>a node that is down</dd>
<dt class=\"dim\">hatched grey</dt><dd>a node that does not run, or answers late</dd>
<dt class=\"bad\">dotted red</dt><dd>a fault begins or ends; the words stand on the right</dd>
</dl>";
/// How many events the table has at most.
const ROWS_MAX: usize = 1_500;

/// The page of a run whose trace was kept. `name` is what people call it; a shrunk scenario may have another seed.
#[must_use]
pub fn page(name: &str, scenario: &Scenario, outcome: &Outcome) -> String {
    let key = failing_key(outcome);
    let story = story(&outcome.transcript, key);
    let mut page =
        String::from("<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">");
    let title = format!("{name}: {}", outcome.verdict.word());
    let title = escaped(&title);
    let _ = write!(
        page,
        "<title>{title}</title><style>{STYLE}</style></head><body>\n<h1>{title}</h1>\n"
    );
    let _ = writeln!(
        page,
        "<p class=\"dim\">{}, hash {:016x}</p>",
        escaped(&report::gist(scenario)),
        outcome.hash
    );
    page.push_str("<h2>What is wrong</h2>\n<ul id=\"violations\">\n");
    if outcome.violations.is_empty() {
        page.push_str("<li>Nothing that an oracle knows of: all of them hold.</li>\n");
    }
    for violation in &outcome.violations {
        let what = escaped(&violation.what);
        let _ = writeln!(
            page,
            "<li><b class=\"bad\">{}</b> at event {}: {what}</li>",
            violation.oracle, violation.at
        );
    }
    let about = key.map_or("all keys".to_owned(), |key| format!("k{key}"));
    let rest = outcome.transcript.len() - story.len();
    let _ = writeln!(
        page,
        "</ul>\n<h2>What happened to {about}</h2>\n<p class=\"dim\">{rest} lines of the run are about \
        something else and not shown. Time goes down; long silences are shortened.</p>"
    );
    let _ = writeln!(page, "{LEGEND}");
    let _ = writeln!(page, "<figure>{}</figure>", diagram::svg(scenario, outcome, &story, key));
    let _ =
        writeln!(page, "<h2>Report</h2>\n<pre>{}</pre>", escaped(&report::text(scenario, outcome)));
    page.push_str("<h2>Events</h2>\n<table id=\"events\">\n");
    for line in story.iter().take(ROWS_MAX) {
        let class =
            if matches!(line.kind.as_str(), "lost" | "fault" | "trouble") { "bad" } else { "" };
        let event = line.event.map_or(String::new(), |event| event.to_string());
        let (at, node, kind, text) =
            (line.at.text(), line.node, escaped(&line.kind), escaped(&line.text));
        let _ = writeln!(
            page,
            "<tr class=\"{class}\"><td>{event}<td>{at}<td>n{node}<td>{kind}<td>{text}</tr>"
        );
    }
    page.push_str("</table>\n");
    if story.len() > ROWS_MAX {
        let _ = writeln!(page, "<p>{} more are left out.</p>", story.len() - ROWS_MAX);
    }
    page.push_str("</body></html>\n");
    page
}

/// The first key that the evidence names.
fn failing_key(outcome: &Outcome) -> Option<u32> {
    outcome.violations.iter().find_map(|violation| key_in(&violation.what))
}

fn key_in(text: &str) -> Option<u32> {
    text.split(|c: char| !c.is_ascii_alphanumeric())
        .find_map(|word| word.strip_prefix('k')?.parse().ok())
}

/// The lines about a key, and those about whole nodes.
fn story(lines: &[Line], key: Option<u32>) -> Vec<&Line> {
    // Answers name only the question, so the questions say which key each is about.
    let mut about: BTreeMap<&str, u32> = BTreeMap::new();
    for line in lines {
        if let (Some(name), Some(key)) = (question(line), key_in(&line.text)) {
            about.entry(name).or_insert(key);
        }
    }
    let belongs = |line: &&Line| match line.kind.as_str() {
        "disk" | "datagram" => false,
        "message" | "lost" | "store" | "call" | "answer" | "final" => {
            let asked = question(line).and_then(|name| about.get(name).copied());
            let of = asked.or_else(|| key_in(&line.text));
            of.is_some() && (key.is_none() || of == key)
        }
        _ => true,
    };
    lines.iter().filter(belongs).collect()
}

/// What the messages, or the client's lines, of one question have in common.
fn question(line: &Line) -> Option<&str> {
    match line.kind.as_str() {
        "message" | "lost" => line.text.split(' ').find(|word| word.starts_with('#')),
        "call" | "answer" => line.text.split(" attempt").next(),
        _ => None,
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::generator;
    use crate::oracle::Violation;
    use crate::run;

    /// A run in which the key of the last operation is said to have failed.
    fn made() -> (Scenario, Outcome, u32) {
        let scenario = generator::scenario(4);
        let key = scenario.operations.last().expect("a workload").key;
        let mut outcome = run::run(&scenario, true);
        let what = format!("k{key}: <script>\"x\" & y</script>");
        outcome.violations = vec![Violation::of_the_simulator(what)];
        (scenario, outcome, key)
    }

    #[test]
    fn the_page_is_whole_and_fetches_nothing() {
        let (scenario, outcome, key) = made();
        let page = page("seed 4", &scenario, &outcome);
        let told = format!("k{key}: &lt;script&gt;&quot;x&quot; &amp; y&lt;/script&gt;");
        assert!(page.contains(&told));
        for stranger in ["<script", "http:", "https:", "src=", "@import"] {
            assert!(!page.contains(stranger), "{stranger}");
        }
        for tag in ["svg", "table", "ul", "pre", "figure", "html"] {
            let opened = page.matches(&format!("<{tag}")).count();
            assert_eq!((opened, page.matches(&format!("</{tag}>")).count()), (1, 1), "{tag}");
        }
        assert!(page.contains("<dl id=\"legend\">"));
        let lanes = page.matches("class=\"lane\"").count();
        assert_eq!(lanes, scenario.cluster.nodes as usize + 1, "the nodes and the clients");
        assert!(page.contains("class=\"msg\"") && page.contains("class=\"call\""));
    }

    #[test]
    fn a_run_in_which_nothing_is_wrong_says_so() {
        let (scenario, mut outcome, _) = made();
        outcome.violations.clear();
        let page = page("seed 4", &scenario, &outcome);
        assert!(page.contains("<li>Nothing that an oracle knows of"));
        assert!(!page.contains("<ul id=\"violations\">\n</ul>"));
    }

    /// Whatever the events say stands in the picture too, word for word or in other words, but never cut.
    #[test]
    fn no_text_of_the_picture_is_cut_and_none_is_debug_output() {
        for seed in [4, 7, 11] {
            let scenario = generator::scenario(seed);
            let outcome = run::run(&scenario, true);
            let story = story(&outcome.transcript, None);
            let svg = diagram::svg(&scenario, &outcome, &story, None);
            let (mut shown, mut rest) = (Vec::new(), svg.as_str());
            while let Some((_, text)) = rest.split_once("</title><tspan") {
                let (text, after) = text.split_once("</text>").expect("it ends");
                let spans = text.split("</tspan>").filter_map(|span| Some(span.split_once('>')?.1));
                shown.push(spans.collect::<Vec<_>>().join(" "));
                rest = after;
            }
            assert!(shown.len() > 10, "{}", shown.len());
            for debug in [" {", "{ ", "_ms:", "Some("] {
                let found = shown.iter().find(|text| text.contains(debug));
                assert_eq!(found, None, "seed {seed}");
            }
            let answers = story.iter().take(300).filter(|line| line.kind == "answer");
            for line in answers {
                let words = line.text.replace(" attempt 1:", ":");
                let whole = format!("{} {}", line.at.ms(), escaped(&words));
                let is_shown =
                    shown.iter().any(|text| text.replace(' ', "") == whole.replace(' ', ""));
                assert!(is_shown, "seed {seed}: {whole}");
            }
        }
    }

    #[test]
    fn only_lines_about_the_key_are_told_answers_too() {
        let (_, outcome, key) = made();
        let story = story(&outcome.transcript, Some(key));
        assert!(
            story
                .iter()
                .any(|line| line.text.contains(" state ") || line.text.contains(" highest "))
        );
        let stranger = |line: &&&Line| line.kind == "store" && key_in(&line.text) != Some(key);
        assert_eq!(story.iter().find(stranger), None);
    }

    #[test]
    fn a_trace_does_not_change_the_run() {
        let scenario = generator::scenario(4);
        let (with, without) = (run::run(&scenario, true), run::run(&scenario, false));
        assert_eq!(with.hash, without.hash);
        assert!(!with.transcript.is_empty() && without.transcript.is_empty());
        let messages = |it: &&Line| it.kind == "message";
        let instant = |it: &&Line| it.sent.is_some_and(|(_, sent)| sent == it.at);
        let (all, wrong) = (
            with.transcript.iter().filter(messages).count(),
            with.transcript.iter().filter(messages).filter(instant).count(),
        );
        assert!(all > 0 && wrong == 0, "{wrong} of {all} messages took no time");
    }
}
