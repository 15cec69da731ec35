//! How much goes through a connection and how long one byte takes there and back: within one namespace, across the bridge, through a
//! published port.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use crate::percentile;
use crate::project::{PUBLISHED, Place, Project};

/// How long a stream lasts, and the bytes after which it ends earlier.
const LASTS: Duration = Duration::from_secs(2);
const MOST: usize = 16 << 30;
const BLOCK: usize = 128 << 10;
/// How often a byte goes there and back.
const ROUNDS: usize = 10_000;

/// Measures all ways and prints a table.
pub fn measure(project: &Project) {
    let (host, a, b) = (Place::host(), project.place("a"), project.place("b"));
    let gateway = gateway(&a);
    let localhost = Ipv4Addr::LOCALHOST;
    println!("\ntraffic: one TCP connection for {LASTS:?}, and {ROUNDS} bytes there and back one after the other");
    println!("{:<40} {:>8} {:>6}   {:>8} {:>8} {:>6}", "", "Gbit/s", "ratio", "µs", "p99", "ratio");
    let ways = [
        ("loopback, within a container", &a, localhost, &a, localhost),
        ("container to container", &a, b.address(), &b, Ipv4Addr::UNSPECIFIED),
        ("container to host", &a, gateway, &host, gateway),
        ("host to container", &host, b.address(), &b, Ipv4Addr::UNSPECIFIED),
        ("host to its published port (DNAT)", &host, gateway, &b, Ipv4Addr::UNSPECIFIED),
        ("127.0.0.1 to the published port (proxy)", &host, localhost, &b, Ipv4Addr::UNSPECIFIED),
    ];
    let mut yardstick = None;
    for (name, client, to, server, at) in ways {
        // The published port of the host is taken, by the socket of the proxy: the way to the host goes to another.
        let listener = if std::ptr::eq(server, &raw const host) {
            host.inside(|| TcpListener::bind((at, PUBLISHED + 1))).expect("the port is free")
        } else {
            server.listen(at)
        };
        let to = SocketAddr::from((to, listener.local_addr().expect("it is bound").port()));
        let found = through(&listener, || client.inside(|| TcpStream::connect(to)).expect("somebody listens"));
        let (rate, median, late) = found;
        let (first_rate, first_median) = *yardstick.get_or_insert((rate, median));
        let micros = |time: Duration| time.as_nanos() as f64 / 1e3;
        println!(
            "{name:<40} {rate:>8.1} {:>6.2}   {:>8.1} {:>8.1} {:>6.2}",
            rate / first_rate,
            micros(median),
            micros(late),
            median.as_secs_f64() / first_median.as_secs_f64(),
        );
    }
}

/// Returns gigabits a second, and the median and the 99th percentile of a byte's way there and back.
fn through(listener: &TcpListener, connect: impl Fn() -> TcpStream) -> (f64, Duration, Duration) {
    let stream = thread::scope(|scope| {
        let reader = scope.spawn(|| drain(accept(listener)));
        fill(connect());
        reader.join().expect("it reads to the end")
    });
    let times = thread::scope(|scope| {
        scope.spawn(|| send_back(accept(listener)));
        there_and_back(connect())
    });
    (stream, percentile(&times, 50.0), percentile(&times, 99.0))
}

fn accept(listener: &TcpListener) -> TcpStream {
    let (stream, _) = listener.accept().expect("somebody connects");
    stream.set_nodelay(true).expect("TCP");
    stream
}

fn fill(mut stream: TcpStream) {
    let block = vec![0; BLOCK];
    let begun = Instant::now();
    let mut sent = 0;
    while begun.elapsed() < LASTS && sent < MOST {
        stream.write_all(&block).expect("it is read");
        sent += BLOCK;
    }
}

/// Reads to the end; returns gigabits a second from the first byte on.
fn drain(mut stream: TcpStream) -> f64 {
    let mut block = vec![0; BLOCK];
    let mut received = stream.read(&mut block).expect("it is sent");
    let begun = Instant::now();
    loop {
        match stream.read(&mut block).expect("it is sent") {
            0 => return received as f64 * 8.0 / 1e9 / begun.elapsed().as_secs_f64(),
            length => received += length,
        }
    }
}

fn send_back(mut stream: TcpStream) {
    let mut byte = [0];
    while stream.read(&mut byte).is_ok_and(|length| length == 1) {
        stream.write_all(&byte).expect("it is waited for");
    }
}

fn there_and_back(mut stream: TcpStream) -> Vec<Duration> {
    stream.set_nodelay(true).expect("TCP");
    let mut byte = [1];
    let mut round = || {
        let begun = Instant::now();
        stream.write_all(&byte).expect("it is read");
        stream.read_exact(&mut byte).expect("it comes back");
        begun.elapsed()
    };
    // The first ones meet caches that are cold.
    for _ in 0..ROUNDS / 10 {
        round();
    }
    let mut times: Vec<Duration> = (0..ROUNDS).map(|_| round()).collect();
    times.sort();
    times
}

/// Reads the gateway of a namespace from its table of routes.
fn gateway(place: &Place) -> Ipv4Addr {
    let table = place.inside(|| std::fs::read_to_string("/proc/thread-self/net/route")).expect("/proc is mounted");
    let routes = table.lines().skip(1).map(|line| line.split_ascii_whitespace().collect::<Vec<_>>());
    let default = routes.into_iter().find(|fields| fields[1] == "00000000").expect("it has a way out");
    Ipv4Addr::from(u32::from_str_radix(default[2], 16).expect("hexadecimal").to_ne_bytes())
}
