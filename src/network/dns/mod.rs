//! The name server of each container, at 127.0.0.11:53 inside its network namespace.
//!
//! | file | what it does |
//! |---|---|
//! | `names` | who is called what in which network ([`NameTable`]), and what one container may see of it ([`NameView`]) |
//! | `answer` | a query's bytes in; the reply's bytes, or "ask others", out: no socket, no clock |
//! | `forward` | asks the host's resolvers, with a bound on time |
//! | `server` | the two sockets, opened inside by a thread that enters, served from outside |

mod answer;
mod forward;
mod names;
mod server;

pub use forward::Resolvers;
pub use names::{NameEntry, NameTable, NameView};
pub use server::{DNS_ADDRESS, DnsSockets, open_dns_sockets, resolv_conf, serve};
