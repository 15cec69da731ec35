//! How fast a container's name server answers for a name of its own network.
//!
//! The least that can be called a server is a thread that sends back what it gets; dnsmasq is a peer that does such work.

use std::net::UdpSocket;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::percentile;
use crate::project::{Place, Project};

/// How many questions are asked one after the other.
const ALONE: usize = 20_000;
/// How many are asked while others are on their way, and how many of them at once.
const TOGETHER: usize = 100_000;
const ON_THE_WAY: usize = 32;
const PATIENCE: Duration = Duration::from_secs(1);

/// Asks all of them for `b` from within `a` and prints a table.
pub fn measure(project: &Project) {
    let place = project.place("a");
    println!(
        "\nnames: {ALONE} questions one after the other (µs), {TOGETHER} with {ON_THE_WAY} on their way (thousands a second)"
    );
    println!("{:<28} {:>8} {:>8} {:>8} {:>8}   {:>8}", "", "median", "p99", "p99.9", "most", "k/s");
    let done = AtomicBool::new(false);
    let echo = place.inside(|| UdpSocket::bind("127.0.0.1:5301")).expect("the port is free");
    echo.set_read_timeout(Some(Duration::from_millis(100))).expect("a socket has timeouts");
    thread::scope(|scope| {
        scope.spawn(|| serve_echo(&echo, &done));
        let client = || place.inside(|| UdpSocket::bind("127.0.0.1:0")).expect("ports are free");
        row("a thread that sends it back", &client(), "127.0.0.1:5301", b"b");
        row("mydocker, name of a service", &client(), "127.0.0.11:53", b"b");
        row("mydocker, name of nobody", &client(), "127.0.0.11:53", b"nobody");
        match Dnsmasq::start(&place) {
            Some(_running) => row("dnsmasq, name in its settings", &client(), "127.0.0.1:5302", b"b"),
            None => println!("dnsmasq is not installed"),
        }
        done.store(true, Ordering::Relaxed);
    });
}

fn serve_echo(socket: &UdpSocket, done: &AtomicBool) {
    let mut buffer = [0; 512];
    while !done.load(Ordering::Relaxed) {
        if let Ok((length, from)) = socket.recv_from(&mut buffer) {
            let _ = socket.send_to(&buffer[..length], from);
        }
    }
}

fn row(name: &str, socket: &UdpSocket, server: &str, asked: &[u8]) {
    socket.connect(server).expect("loopback is up");
    socket.set_read_timeout(Some(PATIENCE)).expect("a socket has timeouts");
    let times = one_by_one(socket, asked);
    let micros = |percent| percentile(&times, percent).as_nanos() as f64 / 1e3;
    let rate = many(socket, asked) / 1e3;
    let (median, late, later, last) = (micros(50.0), micros(99.0), micros(99.9), micros(100.0));
    println!("{name:<28} {median:>8.1} {late:>8.1} {later:>8.1} {last:>8.0}   {rate:>8.1}");
}

fn one_by_one(socket: &UdpSocket, asked: &[u8]) -> Vec<Duration> {
    let mut buffer = [0; 512];
    let mut times: Vec<Duration> = (0..ALONE)
        .map(|number| {
            let query = question(number as u16, asked);
            let begun = Instant::now();
            socket.send(&query).expect("there is a server");
            let length = socket.recv(&mut buffer).expect("an answer comes");
            assert!(length >= query.len() && buffer[..2] == query[..2], "it is the answer");
            begun.elapsed()
        })
        .collect();
    times.sort();
    times
}

/// Returns answers a second.
fn many(socket: &UdpSocket, asked: &[u8]) -> f64 {
    let mut buffer = [0; 512];
    let begun = Instant::now();
    for number in 0..TOGETHER + ON_THE_WAY {
        if number >= ON_THE_WAY {
            socket.recv(&mut buffer).expect("nothing is lost where no queue is full");
        }
        if number < TOGETHER {
            socket.send(&question(number as u16, asked)).expect("there is a server");
        }
    }
    TOGETHER as f64 / begun.elapsed().as_secs_f64()
}

/// Writes a question for an address: RFC 1035, section 4.1.
fn question(number: u16, name: &[u8]) -> Vec<u8> {
    let mut query = number.to_be_bytes().to_vec();
    // Recursion desired, one question.
    query.extend([1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    query.push(name.len() as u8);
    query.extend(name);
    // The root, A, IN.
    query.extend([0, 0, 1, 0, 1]);
    query
}

struct Dnsmasq(Child);

impl Dnsmasq {
    /// Starts it inside; `None` where it is not installed.
    fn start(place: &Place) -> Option<Self> {
        let words = ["-k", "-C", "/dev/null", "-p", "5302", "-a", "127.0.0.1", "-z", "--no-resolv", "--no-hosts"];
        let started = place.inside(|| {
            Command::new("dnsmasq")
                .args(words)
                .args(["--user=root", "--pid-file=", "--address=/b/10.9.9.9"])
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
        });
        let dnsmasq = Self(started.ok()?);
        // Until it listens, questions are refused.
        let socket = place.inside(|| UdpSocket::bind("127.0.0.1:0")).expect("ports are free");
        socket.connect("127.0.0.1:5302").expect("loopback is up");
        socket.set_read_timeout(Some(Duration::from_millis(20))).expect("a socket has timeouts");
        let deadline = Instant::now() + Duration::from_secs(5);
        while socket.send(&question(1, b"b")).is_err() || socket.recv(&mut [0; 512]).is_err() {
            assert!(Instant::now() < deadline, "dnsmasq answers");
        }
        Some(dnsmasq)
    }
}

impl Drop for Dnsmasq {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
