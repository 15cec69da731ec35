#![doc = include_str!("README.md")]

mod contract;
mod http;
mod wiring;

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use mydocker::namespaces::network::in_namespace;

use contract::Cubes;
pub(crate) use http::Manner;

/// What goes wrong with one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Answered with 500, nothing done.
    Status500,
    /// Never answered, nothing done; ends with [`Daemon::go_on`].
    Hang,
    /// Done, and then never answered.
    HangAfter,
    /// The connection is reset, nothing done.
    Reset,
    /// Done, and then the connection is reset.
    ResetAfter,
    /// Answered with what is neither HTTP nor JSON of any use, nothing done.
    Garbage,
    /// Closed in the middle of the answer, when it has been carried out.
    CutOff,
}

#[derive(Default)]
struct Behaviour {
    /// Counts requests from the last [`Daemon::fail_at`].
    count: usize,
    fault: Option<(usize, Fault)>,
    redirects: bool,
    manner: Manner,
    /// Whether a request is being held up now.
    is_held: bool,
    generation: usize,
    log: Vec<String>,
    is_over: bool,
}

struct Shared {
    cubes: Mutex<Cubes>,
    behaviour: Mutex<Behaviour>,
    changed: Condvar,
}

/// A stand-in for polycubed in one network namespace, until it is dropped.
pub(crate) struct Daemon {
    shared: Arc<Shared>,
    pub(crate) address: SocketAddr,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Daemon {
    /// Starts it: it listens in `host` at 127.0.0.1, port 9000, and takes interfaces from there.
    pub(crate) fn start(host: OwnedFd) -> Self {
        let listen = || TcpListener::bind(("127.0.0.1", 9000)).expect("polycubed's port is free");
        let listener = in_namespace(std::os::fd::AsFd::as_fd(&host), listen).expect("the host's namespace");
        let address = listener.local_addr().expect("a listening socket");
        let shared = Arc::new(Shared {
            cubes: Mutex::new(Cubes::new(host)),
            behaviour: Mutex::new(Behaviour::default()),
            changed: Condvar::new(),
        });
        let server = Arc::clone(&shared);
        std::thread::spawn(move || {
            while let Ok((stream, _)) = listener.accept() {
                if lock(&server.behaviour).is_over {
                    return;
                }
                let shared = Arc::clone(&server);
                std::thread::spawn(move || shared.serve(stream));
            }
        });
        Self { shared, address }
    }

    /// Makes the n-th request from now go wrong, the first being 1.
    pub(crate) fn fail_at(&self, number: usize, fault: Fault) {
        let mut behaviour = lock(&self.shared.behaviour);
        behaviour.count = 0;
        behaviour.fault = Some((number, fault));
    }

    /// Ends all faults, and what hangs.
    pub(crate) fn go_on(&self) {
        let mut behaviour = lock(&self.shared.behaviour);
        behaviour.fault = None;
        behaviour.is_held = false;
        behaviour.generation += 1;
        self.shared.changed.notify_all();
    }

    /// Answers every request with a 308 first.
    pub(crate) fn redirect(&self, redirects: bool) {
        lock(&self.shared.behaviour).redirects = redirects;
    }

    /// Puts answers on the wire in this way.
    pub(crate) fn answer_in(&self, manner: Manner) {
        lock(&self.shared.behaviour).manner = manner;
    }

    /// Returns the requests that the contract does not promise an answer to.
    pub(crate) fn violations(&self) -> Vec<String> {
        lock(&self.shared.cubes).violations.clone()
    }

    /// Waits until a request hangs; `false` where `is_over` says before that none will.
    pub(crate) fn wait_for_hang(&self, mut is_over: impl FnMut() -> bool) -> bool {
        let mut behaviour = lock(&self.shared.behaviour);
        loop {
            if behaviour.is_held {
                return true;
            }
            if is_over() {
                return false;
            }
            let pause = std::time::Duration::from_millis(5);
            behaviour = self.shared.changed.wait_timeout(behaviour, pause).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Returns the requests since the last call, `METHOD path`.
    pub(crate) fn take_log(&self) -> Vec<String> {
        std::mem::take(&mut lock(&self.shared.behaviour).log)
    }

    /// Counts the requests since the last [`fail_at`](Self::fail_at).
    pub(crate) fn count(&self) -> usize {
        lock(&self.shared.behaviour).count
    }

    /// Loses all state as a restart does; the interfaces of the host stay the host's.
    pub(crate) fn restart(&self) {
        lock(&self.shared.cubes).lose_all();
    }

    /// Lists the cubes, `service name`.
    pub(crate) fn cubes(&self) -> Vec<String> {
        lock(&self.shared.cubes).list()
    }

    /// Lists a cube's ports.
    pub(crate) fn ports(&self, cube: &str) -> Vec<String> {
        lock(&self.shared.cubes).port_names(cube)
    }

    /// Counts the entries of all nat cubes.
    pub(crate) fn entries(&self) -> usize {
        lock(&self.shared.cubes).entries()
    }

    /// Makes the nat cubes forget that their entries can be listed.
    pub(crate) fn hide_entries(&self) {
        lock(&self.shared.cubes).lists_entries = false;
    }

    /// Asks it as another client would.
    pub(crate) fn ask(&self, method: &str, path: &str, body: &str) -> (u16, String) {
        let request = http::Request {
            method: method.to_owned(),
            path: path.to_owned(),
            body: body.to_owned(),
            content_type: Some("application/json".to_owned()),
            has_referer: false,
        };
        let answer = lock(&self.shared.cubes).answer(&request);
        (answer.status, answer.body)
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        lock(&self.shared.behaviour).is_over = true;
        self.go_on();
        if !std::thread::panicking() {
            assert_eq!(self.violations(), Vec::<String>::new(), "requests that the contract promises nothing of");
        }
        lock(&self.shared.cubes).lose_all();
        // The listener lies in another namespace: a connection from there wakes it.
        let address = self.address;
        let host = lock(&self.shared.cubes).host();
        let _ = in_namespace(std::os::fd::AsFd::as_fd(&host), || TcpStream::connect(address));
    }
}

impl Shared {
    fn serve(&self, mut stream: TcpStream) {
        let Some(request) = http::read(&mut stream) else { return };
        let (fault, redirects, manner) = {
            let mut behaviour = lock(&self.behaviour);
            let is_second = request.path.ends_with("?again");
            if !is_second {
                behaviour.count += 1;
                behaviour.log.push(format!("{} {}", request.method, request.path));
            }
            let count = behaviour.count;
            let fault = behaviour.fault.filter(|(number, _)| *number == count).map(|(_, fault)| fault);
            (fault, behaviour.redirects && !is_second, behaviour.manner)
        };
        if redirects {
            http::write(&mut stream, &http::Response::redirect(&format!("{}?again", request.path)), manner);
            return;
        }
        match fault {
            Some(Fault::Status500) => {
                http::write(&mut stream, &http::Response::plain(500, "the service has thrown an exception"), manner);
                return;
            }
            Some(Fault::Garbage) => {
                let _ = std::io::Write::write_all(&mut stream, b"\x00\xff 200 is fine\r\n\r\n{]");
                return;
            }
            Some(Fault::Hang) => return self.hold(&stream),
            Some(Fault::Reset) => return http::reset(&stream),
            _ => {}
        }
        let answer = lock(&self.cubes).answer(&request);
        match fault {
            Some(Fault::HangAfter) => self.hold(&stream),
            Some(Fault::ResetAfter) => http::reset(&stream),
            Some(Fault::CutOff) => {
                let _ = std::io::Write::write_all(&mut stream, b"HTTP/1.1 200 OK\r\nContent-Length: 4711\r\n\r\n{");
            }
            _ => http::write(&mut stream, &answer, manner),
        }
        if manner == Manner::KeptAlive {
            // The client's to close.
            let _ = std::io::Read::read(&mut stream, &mut [0]);
        }
    }

    /// Keeps the connection open and says nothing.
    fn hold(&self, _stream: &TcpStream) {
        let mut behaviour = lock(&self.behaviour);
        behaviour.is_held = true;
        let generation = behaviour.generation;
        self.changed.notify_all();
        while behaviour.generation == generation {
            behaviour = self.changed.wait(behaviour).unwrap_or_else(PoisonError::into_inner);
        }
    }
}
