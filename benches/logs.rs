//! How fast output goes from pipes to logs and from logs to a reader, beside `cat` in the same run.
//!
//! Prints figures and ratios; it never fails for being slow. `cargo bench --bench logs [MIB]`

use std::error::Error;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use mydocker::logs::{
    ContainerOutput, Line, LogQuery, LogReader, LogWriter, Mux, MuxOptions, Progress, Pump, make_stdio_pipe,
};

const SERVICES: usize = 4;
/// The bytes of a line, newline included.
const LINE: usize = 100;

type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

#[derive(Clone, Copy)]
enum Shape {
    Blocks,
    Lines,
}

impl Shape {
    fn name(self) -> &'static str {
        match self {
            Self::Blocks => "writes of 64 KiB",
            Self::Lines => "a write a line",
        }
    }

    fn size(self) -> usize {
        match self {
            Self::Blocks => 64 * 1024 / LINE * LINE,
            Self::Lines => LINE,
        }
    }
}

fn main() -> Outcome<()> {
    let mib = std::env::args().skip(1).find_map(|word| word.parse::<usize>().ok()).unwrap_or(512);
    let lines = mib * (1 << 20) / SERVICES / LINE;
    println!("{SERVICES} services, lines of {LINE} bytes, {mib} MiB in all");
    let base = tempfile::tempdir()?;
    for shape in [Shape::Blocks, Shape::Lines] {
        let lines = if matches!(shape, Shape::Lines) { lines / 4 } else { lines };
        // The first run makes the files' pages; only the others count.
        let mut best = [Duration::MAX; 2];
        for _ in 0..3 {
            best[0] = best[0].min(through_cat(base.path(), shape, lines)?);
            best[1] = best[1].min(through_pumps(base.path(), shape, lines)?);
        }
        let bytes = (lines * LINE * SERVICES) as f64 / 1e6;
        let [cat, ours] = best.map(|time| bytes / time.as_secs_f64());
        println!("{:18} cat {cat:6.0} MB/s   pump {ours:6.0} MB/s   ratio {:.2}", shape.name(), ours / cat);
    }
    through_pumps(base.path(), Shape::Blocks, lines)?;
    replay(base.path(), lines)?;
    println!("most memory ever resident: {}", peak_memory()?);
    Ok(())
}

/// Writes numbered lines.
fn write_lines(writer: OwnedFd, shape: Shape, lines: usize) -> JoinHandle<Outcome<()>> {
    std::thread::spawn(move || {
        let mut pipe = File::from(writer);
        let mut block = vec![b'x'; shape.size()];
        let mut number = 0;
        while number < lines {
            let count = (shape.size() / LINE).min(lines - number);
            for line in block.chunks_exact_mut(LINE).take(count) {
                write!(&mut line[..], "{number:010}")?;
                line[LINE - 1] = b'\n';
                number += 1;
            }
            pipe.write_all(&block[..count * LINE])?;
        }
        Ok(())
    })
}

fn join(threads: Vec<JoinHandle<Outcome<()>>>) -> Outcome<()> {
    for thread in threads {
        thread.join().map_err(|_| "a writer panicked")??;
    }
    Ok(())
}

fn service_directory(base: &Path, service: usize) -> Outcome<PathBuf> {
    let directory = base.join(service.to_string());
    fs::create_dir_all(&directory)?;
    Ok(directory)
}

fn through_cat(base: &Path, shape: Shape, lines: usize) -> Outcome<Duration> {
    let mut cats: Vec<Child> = Vec::new();
    let mut writers = Vec::new();
    let mut paths = Vec::new();
    for service in 0..SERVICES {
        let path = service_directory(base, service)?.join("cat");
        let (reader, writer) = make_stdio_pipe(0, 0)?;
        cats.push(Command::new("cat").stdin(reader).stdout(File::create(&path)?).spawn()?);
        writers.push(writer);
        paths.push(path);
    }
    let start = Instant::now();
    join(writers.into_iter().map(|writer| write_lines(writer, shape, lines)).collect())?;
    for cat in &mut cats {
        cat.wait()?;
    }
    let time = start.elapsed();
    for path in paths {
        fs::remove_file(path)?;
    }
    Ok(time)
}

fn through_pumps(base: &Path, shape: Shape, lines: usize) -> Outcome<Duration> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut time = Duration::ZERO;
    runtime.block_on(async {
        let mut pumps = tokio::task::JoinSet::new();
        let mut writers = Vec::new();
        for service in 0..SERVICES {
            let directory = service_directory(base, service)?;
            let _ = fs::remove_file(directory.join("log"));
            let (stdout, writer) = make_stdio_pipe(0, 0)?;
            let (stderr, _) = make_stdio_pipe(0, 0)?;
            let log = LogWriter::open(&directory, None)?;
            let mut pump = Pump::new(ContainerOutput::Pipes { stdout, stderr }, log)?;
            pumps.spawn(async move { pump.run(std::future::pending()).await });
            writers.push(writer);
        }
        let start = Instant::now();
        let threads = writers.into_iter().map(|writer| write_lines(writer, shape, lines)).collect();
        pumps.join_all().await;
        join(threads)?;
        time = start.elapsed();
        Outcome::Ok(())
    })?;
    for service in 0..SERVICES {
        check_log(&service_directory(base, service)?.join("log"), lines)?;
    }
    Ok(time)
}

/// Looks whether every line is there, once, in order.
fn check_log(path: &Path, lines: usize) -> Outcome<()> {
    let mut log = BufReader::with_capacity(1 << 20, File::open(path)?);
    let mut text = Vec::new();
    let mut number = 0;
    while log.read_until(b'\n', &mut text)? > 0 {
        let line = Line::parse(&text[..text.len() - 1]).ok_or("not a record")?;
        if line.partial || line.text.len() != LINE - 1 || line.text[..10] != *format!("{number:010}").as_bytes() {
            return Err(format!("line {number} of {} is wrong", path.display()).into());
        }
        number += 1;
        text.clear();
    }
    if number == lines { Ok(()) } else { Err(format!("{number} lines of {lines}").into()) }
}

fn replay(base: &Path, lines: usize) -> Outcome<()> {
    for (name, terminal) in [("replay to a file", false), ("replay to a terminal", true)] {
        let options = MuxOptions { prefix: true, colour: terminal, timestamps: false, terminal };
        let mut best = Duration::MAX;
        for _ in 0..3 {
            let mut mux = Mux::new(File::create("/dev/null")?, options);
            let mut reader = LogReader::new(LogQuery::default());
            for service in 0..SERVICES {
                let id = reader.add_source(&service_directory(base, service)?)?;
                mux.add_name(id, &format!("service-{service}"));
            }
            let start = Instant::now();
            while reader.read(&mut mux)? == Progress::More {}
            mux.finish()?;
            best = best.min(start.elapsed());
        }
        let bytes = (lines * LINE * SERVICES) as f64 / 1e6;
        println!("{name:22} {:6.0} MB/s of output", bytes / best.as_secs_f64());
    }
    Ok(())
}

fn peak_memory() -> Outcome<String> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    Ok(line.unwrap_or("unknown").trim().to_owned())
}
