//! What networks add to `up` and `down` of a whole project.

use std::time::{Duration, Instant};

use crate::percentile;
use crate::project::Project;

const SERVICES: usize = 20;
const RUNS: usize = 10;

/// Measures projects without a network, on one network, and with a published port each; prints a table.
pub fn measure() {
    let kinds = [
        ("no network", (|_| "network_mode: none".to_owned()) as fn(usize) -> String),
        ("one network", |_| String::new()),
        ("one network, a port each", |number| format!("ports: ['{}:80']", 8100 + number)),
    ];
    let projects = kinds.map(|(_, network)| Project::of((0..SERVICES).map(|n| (format!("s{n}"), network(n)))));
    let mut times = kinds.map(|_| (Vec::new(), Vec::new()));
    for _ in 0..RUNS {
        for (project, (up, down)) in projects.iter().zip(&mut times) {
            up.push(time(project, &["up", "-d"]));
            down.push(time(project, &["down"]));
        }
    }
    println!(
        "\nup and down of {SERVICES} containers, {RUNS} times each; ms, and what each container's network adds to the median"
    );
    println!("{:<28} {:>24}   {:>24}", "", "up: min  median    adds", "down: min  median    adds");
    let mut least = None;
    for ((name, _), (mut up, mut down)) in kinds.iter().zip(times) {
        up.sort();
        down.sort();
        let (first_up, first_down) = *least.get_or_insert((percentile(&up, 50.0), percentile(&down, 50.0)));
        println!("{name:<28} {}   {}", columns(&up, first_up), columns(&down, first_down));
    }
}

fn time(project: &Project, words: &[&str]) -> Duration {
    let begun = Instant::now();
    project.compose(words);
    begun.elapsed()
}

fn columns(sorted: &[Duration], first: Duration) -> String {
    let millis = |time: Duration| time.as_secs_f64() * 1e3;
    let median = millis(percentile(sorted, 50.0));
    let adds = (median - millis(first)) / SERVICES as f64;
    format!("{:>8.1} {median:>7.1} {adds:>7.2}", millis(sorted[0]))
}
