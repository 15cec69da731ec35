//! Notices that somebody took rules away: the kernel tells of each change of nf_tables, to whoever joins the netlink group.
//!
//! Rules of the older kind, made with `iptables-legacy`, change without a word: there only looking again helps.

use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{RecvFlags, SendFlags, SocketFlags, bind, recv, send};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::super::NetworkError;
use super::super::nfnetlink::{Message, NF_TABLES, NLM_F_REQUEST, message, messages, open};
use super::super::readiness::watch;

/// The group in which changes of nf_tables are told, as a bit: NFNLGRP_NFTABLES of linux/netfilter/nfnetlink.h.
const GROUP: u32 = 1 << (7 - 1);
// Kinds of messages, of linux/netfilter/nf_tables.h.
const DELETED_TABLE: u8 = 2;
const DELETED_CHAIN: u8 = 5;
const DELETED_RULE: u8 = 8;
const NEW_GENERATION: u8 = 15;
const GET_GENERATION: u8 = 16;

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
            let socket = match open(SocketFlags::NONBLOCK) {
                // A kernel without nf_tables has no such rules.
                Err(Errno::PROTONOSUPPORT | Errno::AFNOSUPPORT) => return Ok(None),
                other => other?,
            };
            bind(&socket, &SocketAddrNetlink::new(0, GROUP))?;
            watch(socket, Interest::READABLE).map(Some)
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

/// Waits for messages, reads what is there and says whether one of them tells of a deletion that concerns us.
async fn deleted(socket: &AsyncFd<OwnedFd>) -> bool {
    let Ok(mut ready) = socket.readable().await else {
        return std::future::pending().await;
    };
    let mut buffer = vec![0; 16 * 1024];
    let mut found = false;
    loop {
        match recv(socket.get_ref(), &mut buffer[..], RecvFlags::DONTWAIT) {
            Ok((length, _)) => found |= messages(buffer.get(..length).unwrap_or_default()).any(concerns_us),
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
    let socket = open(SocketFlags::NONBLOCK).ok()?;
    bind(&socket, &SocketAddrNetlink::new(0, 0)).ok()?;
    send(&socket, &message(NF_TABLES, GET_GENERATION, NLM_F_REQUEST, 0, &[]), SendFlags::empty()).ok()?;
    let mut buffer = [0; 512];
    // A request is carried out inside send(2), so the answer is there.
    let (length, _) = recv(&socket, &mut buffer[..], RecvFlags::DONTWAIT).ok()?;
    let answer = messages(buffer.get(..length)?).find(|message| message.kind(NF_TABLES) == Some(NEW_GENERATION))?;
    // NFTA_GEN_ID
    Some(u32::from_be_bytes(answer.attributes().value(1)?.try_into().ok()?))
}

/// Whether what is deleted is ours, or a chain that has a jump of ours.
fn concerns_us(message: Message<'_>) -> bool {
    let name = |attribute: u16| {
        let bytes = message.attributes().value(attribute).unwrap_or_default();
        std::str::from_utf8(bytes).unwrap_or_default().trim_end_matches('\0')
    };
    let (table, chain) = match message.kind(NF_TABLES) {
        // NFTA_TABLE_NAME; NFTA_CHAIN_TABLE and _NAME; NFTA_RULE_TABLE and _CHAIN
        Some(DELETED_TABLE) => (name(1), ""),
        Some(DELETED_CHAIN) => (name(1), name(3)),
        Some(DELETED_RULE) => (name(1), name(2)),
        _ => return false,
    };
    let of_a_jump = matches!(chain, "" | "FORWARD" | "DOCKER-USER" | "PREROUTING" | "OUTPUT" | "POSTROUTING");
    table == super::nftables::TABLE
        || (matches!(table, "filter" | "nat") && (of_a_jump || chain.starts_with("MYDOCKER-")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::nfnetlink::tests::attribute;

    fn deleted(kind: u8, names: &[(u16, &str)]) -> Vec<u8> {
        let named = names.iter().flat_map(|(number, name)| attribute(*number, format!("{name}\0").as_bytes()));
        message(NF_TABLES, kind, 0, 0, &named.collect::<Vec<u8>>())
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
            let bytes = [deleted(6, &[(1, "x")]), deleted(kind, names)].concat();
            assert_eq!(messages(&bytes).any(concerns_us), concerns, "{kind} {names:?}");
        }
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
