//! `rondo-sim`.
fn main() {
    let args: Vec<String> = std::env::args().collect();
    let from: u64 = args[1].parse().unwrap();
    let to: u64 = args[2].parse().unwrap();
    for seed in from..to {
        let out = rondo_sim::run::run(&rondo_sim::generator::scenario(seed), args.len() > 3);
        for line in &out.transcript {
            println!("{line}");
        }
        println!(
            "{seed} {} {:016x} {} {}ms ops {} {:?}",
            out.verdict.word(),
            out.hash,
            out.events,
            out.lived.ms(),
            out.history.ops.len(),
            out.struck
        );
        for v in out.violations.iter().take(5) {
            println!("   {} @{} {}", v.oracle, v.at.0, v.what);
        }
    }
}
