//! Notices that somebody took rules away: the kernel tells of each change of nf_tables, to whoever joins the netlink group.
//!
//! Rules of the older kind, made with `iptables-legacy`, change without a word: there only looking again helps.

use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::netlink::{NETFILTER, SocketAddrNetlink};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};
use rustix::net::{bind, recv, send, socket_with};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::super::NetworkError;

/// The group in which changes of nf_tables are told, as a bit: NFNLGRP_NFTABLES of linux/netfilter/nfnetlink.h.
const GROUP: u32 = 1 << (7 - 1);
/// NFNL_SUBSYS_NFTABLES, the upper half of a message's type.
const SUBSYSTEM: u16 = 10;
// The lower half, of linux/netfilter/nf_tables.h.
const DELETED_TABLE: u16 = 2;
const DELETED_CHAIN: u16 = 5;
const DELETED_RULE: u16 = 8;
const NEW_GENERATION: u16 = 15;
const GET_GENERATION: u16 = 16;

/// Lengths of `struct nlmsghdr`, of that with `struct nfgenmsg`, of `struct nlattr`.
const HEADER: usize = 16;
const PREAMBLE: usize = HEADER + 4;
const ATTRIBUTE: usize = 4;

/// So long after the last deletion the rules are looked at: a flush tells of every rule singly.
const SETTLES: Duration = Duration::from_millis(50);
/// So often rules are looked at whose changes nobody tells.
const LOOKS_AGAIN: Duration = Duration::from_secs(5);

/// Waits for rules to be taken away that may be ours.
#[derive(Debug)]
pub struct RuleWatch {
    socket: Option<AsyncFd<OwnedFd>>,
}

impl RuleWatch {
    /// Begins to listen in the network namespace of the calling thread. `told` says whether the kernel tells of the changes.
    pub(super) fn start(told: bool) -> Result<Self, NetworkError> {
        let failed =
            |source| NetworkError::Netlink { operation: "listen to changes of firewall rules".to_owned(), source };
        let listen = || -> io::Result<Option<AsyncFd<OwnedFd>>> {
            let socket = match open() {
                // A kernel without nf_tables has no such rules.
                Err(Errno::PROTONOSUPPORT | Errno::AFNOSUPPORT) => return Ok(None),
                other => other?,
            };
            bind(&socket, &SocketAddrNetlink::new(0, GROUP))?;
            registered(socket).map(Some)
        };
        Ok(Self { socket: if told { listen().map_err(failed)? } else { None } })
    }

    /// Returns when rules were deleted that may be ours, and no more are for a moment. Nothing is lost if it is dropped.
    pub async fn changed(&mut self) {
        let Some(socket) = &self.socket else {
            return tokio::time::sleep(LOOKS_AGAIN).await;
        };
        while !deleted(socket).await {}
        while let Ok(true) = tokio::time::timeout(SETTLES, deleted(socket)).await {}
    }
}

#[expect(deprecated, reason = "the successor is an unsafe fn, and unsafe code is for src/sys, which has no tokio")]
fn registered(socket: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    AsyncFd::with_interest(socket, Interest::READABLE)
}

/// Waits for messages, reads what is there and says whether one of them tells of a deletion that concerns us.
async fn deleted(socket: &AsyncFd<OwnedFd>) -> bool {
    let Ok(mut ready) = socket.readable().await else {
        return std::future::pending().await;
    };
    let mut buffer = vec![0; 16 * 1024];
    let mut found = false;
    loop {
        match recv(socket.get_ref(), &mut buffer[..], RecvFlags::DONTWAIT) {
            Ok((length, _)) => found |= messages(buffer.get(..length).unwrap_or_default()).any(|one| one.concerns_us()),
            Err(Errno::INTR) => {}
            // More was told than fits: whatever it was.
            Err(Errno::NOBUFS) => found = true,
            Err(_) => {
                ready.clear_ready();
                return found;
            }
        }
    }
}

/// Asks the kernel how often its nf_tables have been changed in this network namespace; each transaction counts once.
pub(super) fn generation() -> Option<u32> {
    let socket = open().ok()?;
    bind(&socket, &SocketAddrNetlink::new(0, 0)).ok()?;
    let mut request = Vec::with_capacity(PREAMBLE);
    request.extend(u32::try_from(PREAMBLE).ok()?.to_ne_bytes());
    request.extend((SUBSYSTEM << 8 | GET_GENERATION).to_ne_bytes());
    // NLM_F_REQUEST, a sequence number, the port: the kernel fills in ours. Then family, version and resource are 0.
    request.extend(1_u16.to_ne_bytes());
    request.resize(PREAMBLE, 0);
    send(&socket, &request, SendFlags::empty()).ok()?;
    let mut buffer = [0; 512];
    // A request is carried out inside send(2), so the answer is there.
    let (length, _) = recv(&socket, &mut buffer[..], RecvFlags::DONTWAIT).ok()?;
    let answer = messages(buffer.get(..length)?).find(|message| message.kind == NEW_GENERATION)?;
    // NFTA_GEN_ID
    Some(u32::from_be_bytes(answer.attribute(1)?.try_into().ok()?))
}

fn open() -> Result<OwnedFd, Errno> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, Some(NETFILTER))
}

/// Is one message of the subsystem nf_tables.
struct Message<'a> {
    kind: u16,
    attributes: &'a [u8],
}

impl<'a> Message<'a> {
    fn attribute(&self, wanted: u16) -> Option<&'a [u8]> {
        let mut rest = self.attributes;
        while let Some((length, kind)) = half(rest, 0).zip(half(rest, 2)) {
            let length = usize::from(length);
            if kind & 0x3fff == wanted {
                return rest.get(ATTRIBUTE..length);
            }
            rest = rest.get(length.max(ATTRIBUTE).next_multiple_of(4)..)?;
        }
        None
    }

    fn name(&self, attribute: u16) -> &'a str {
        let bytes = self.attribute(attribute).unwrap_or_default();
        std::str::from_utf8(bytes).unwrap_or_default().trim_end_matches('\0')
    }

    /// Whether what is deleted is ours, or a chain that has a jump of ours.
    fn concerns_us(&self) -> bool {
        let (table, chain) = match self.kind {
            // NFTA_TABLE_NAME; NFTA_CHAIN_TABLE and _NAME; NFTA_RULE_TABLE and _CHAIN
            DELETED_TABLE => (self.name(1), ""),
            DELETED_CHAIN => (self.name(1), self.name(3)),
            DELETED_RULE => (self.name(1), self.name(2)),
            _ => return false,
        };
        let of_a_jump = matches!(chain, "" | "FORWARD" | "DOCKER-USER" | "PREROUTING" | "OUTPUT" | "POSTROUTING");
        table == super::nftables::TABLE
            || (matches!(table, "filter" | "nat") && (of_a_jump || chain.starts_with("MYDOCKER-")))
    }
}

/// Cuts what one recv(2) gave into messages, without those of other subsystems.
fn messages(mut bytes: &[u8]) -> impl Iterator<Item = Message<'_>> {
    let all = std::iter::from_fn(move || {
        let length = usize::try_from(u32::from_ne_bytes(bytes.get(..4)?.try_into().ok()?)).ok()?;
        let kind = half(bytes, 4)?;
        let message = bytes.get(..length)?;
        bytes = bytes.get(length.max(HEADER).next_multiple_of(4)..).unwrap_or_default();
        Some((kind, message.get(PREAMBLE..).unwrap_or_default()))
    });
    all.filter(|(kind, _)| kind >> 8 == SUBSYSTEM).map(|(kind, attributes)| Message { kind: kind & 0xff, attributes })
}

fn half(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(kind: u16, names: &[(u16, &str)]) -> Vec<u8> {
        let mut attributes = Vec::new();
        for (number, name) in names {
            attributes.extend(u16::try_from(ATTRIBUTE + name.len() + 1).unwrap().to_ne_bytes());
            attributes.extend(number.to_ne_bytes());
            attributes.extend(name.bytes());
            attributes.push(0);
            attributes.resize(attributes.len().next_multiple_of(4), 0);
        }
        let mut bytes = u32::try_from(PREAMBLE + attributes.len()).unwrap().to_ne_bytes().to_vec();
        bytes.extend((SUBSYSTEM << 8 | kind).to_ne_bytes());
        bytes.resize(PREAMBLE, 0);
        bytes.extend(attributes);
        bytes
    }

    #[test]
    fn only_deletions_that_may_be_ours_count() {
        let cases = [
            (DELETED_RULE, &[(1, "filter"), (2, "FORWARD")][..], true),
            (DELETED_RULE, &[(1, "nat"), (2, "MYDOCKER-DNAT")], true),
            (DELETED_RULE, &[(1, "nat"), (2, "KUBE-SERVICES")], false),
            (DELETED_CHAIN, &[(1, "filter"), (3, "MYDOCKER-FORWARD")], true),
            (DELETED_TABLE, &[(1, "filter")], true),
            (DELETED_TABLE, &[(1, "mydocker")], true),
            (DELETED_TABLE, &[(1, "firewalld")], false),
            (6, &[(1, "filter"), (2, "FORWARD")], false),
        ];
        for (kind, names, concerns) in cases {
            let bytes = [message(6, &[(1, "x")]), message(kind, names)].concat();
            assert_eq!(messages(&bytes).any(|one| one.concerns_us()), concerns, "{kind} {names:?}");
        }
    }

    #[test]
    fn what_is_cut_off_is_no_message() {
        let whole = message(DELETED_RULE, &[(1, "filter"), (2, "FORWARD")]);
        for length in 0..whole.len() {
            assert!(!messages(&whole[..length]).any(|one| one.concerns_us()), "{length}");
        }
        assert_eq!(messages(&[0; 64]).count(), 0);
    }

    #[test]
    fn each_transaction_is_counted() {
        let thread = std::thread::spawn(|| {
            nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
            let before = generation().unwrap();
            let made = std::process::Command::new("nft").args(["add", "table", "inet", "x"]).status().unwrap();
            assert!(made.success());
            assert_eq!(generation().unwrap(), before + 1);
        });
        thread.join().unwrap();
    }
}
