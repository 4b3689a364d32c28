//! `rondo-sim`.
fn main() {
    let seed = std::env::args().nth(1).and_then(|s| s.parse().ok()).unwrap_or(1);
    let out = rondo_sim::run::run(&rondo_sim::generator::scenario(seed), true);
    for line in &out.transcript {
        println!("{line}");
    }
    println!("{} {:016x} {} {:?}", out.verdict.word(), out.hash, out.events, out.violations);
    println!("{:?}", out.history.troubles);
}
