//! Limits of what an interface sends: token buckets, tc-tbf(8), through rtnetlink(7).
//!
//! A queueing discipline shapes what leaves an interface. So what a container receives is limited where it leaves the host, at the host's
//! end of the pair, and what it sends at its own end, where the sender waits instead of losing packets.

use rtnetlink::packet_core::{
    DefaultNla, NLM_F_ACK, NLM_F_CREATE, NLM_F_REPLACE, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload,
};
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::tc::{TcAttribute, TcHandle, TcMessage, TcOption};
use tokio_stream::StreamExt;

use super::NetworkError;
use super::link::{LinkView, Links, failed};
use crate::spec::RateLimit;

/// Attributes of TCA_OPTIONS and the link layer of `struct tc_ratespec`, linux/pkt_sched.h.
const TCA_TBF_PARMS: u16 = 1;
const TCA_TBF_RATE64: u16 = 4;
const TCA_TBF_BURST: u16 = 6;
const TC_LINKLAYER_ETHERNET: u8 = 1;

/// What may pass at once where nobody says: some packets as the kernel passes them on, which are up to 64 KiB and are cut where they
/// do not fit.
const LEAST_BURST: u64 = 32 * 1024;
/// A packet's Ethernet header, with a VLAN's tag.
const HEADER: u64 = 18;
/// How long a packet may wait for its turn: 50 ms. What comes later is dropped, and the sender slows down.
const LONGEST_WAIT_MS: u64 = 50;

/// Is a token bucket in the kernel's units, bytes and bytes in a second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Bucket {
    rate: u64,
    burst: u32,
    /// What may wait.
    limit: u32,
}

impl Bucket {
    /// Makes the bucket for a link with this MTU: a packet that is larger than the burst would never pass.
    fn of(limit: RateLimit, mtu: u32) -> Self {
        let rate = limit.rate.bytes();
        let burst = limit.burst.map_or_else(|| (rate / 100).max(LEAST_BURST), |burst| burst.0);
        let burst = burst.max(u64::from(mtu) + HEADER);
        let waiting = rate.saturating_mul(LONGEST_WAIT_MS) / 1000;
        let number = |value: u64| u32::try_from(value).unwrap_or(u32::MAX);
        Self { rate, burst: number(burst), limit: number(waiting.saturating_add(burst)) }
    }

    /// Makes the message that puts it at the root of a link, in the place of whatever is there.
    fn message(self, index: u32) -> TcMessage {
        let mut message = TcMessage::default();
        message.header.index = index.cast_signed();
        message.header.parent = TcHandle::ROOT;
        message.header.handle = TcHandle { major: 1, minor: 0 };
        message.attributes.push(TcAttribute::Kind("tbf".to_owned()));
        message.attributes.push(TcAttribute::Options(vec![
            TcOption::Other(DefaultNla::new(TCA_TBF_PARMS, self.parameters())),
            TcOption::Other(DefaultNla::new(TCA_TBF_RATE64, self.rate.to_ne_bytes().to_vec())),
            TcOption::Other(DefaultNla::new(TCA_TBF_BURST, self.burst.to_ne_bytes().to_vec())),
        ]));
        message
    }

    /// Makes `struct tc_tbf_qopt`: rate, peak rate (none), limit, and buffer and mtu, which TCA_TBF_BURST stands for.
    fn parameters(self) -> Vec<u8> {
        // struct tc_ratespec: cell_log, linklayer, overhead, cell_align, mpu, rate. Rates beyond its 32 bits are those of RATE64.
        let mut bytes = vec![0, TC_LINKLAYER_ETHERNET, 0, 0, 0, 0, 0, 0];
        bytes.extend(u32::try_from(self.rate).unwrap_or(u32::MAX).to_ne_bytes());
        bytes.extend([0; 12]);
        bytes.extend(self.limit.to_ne_bytes());
        bytes.extend([0; 8]);
        bytes
    }
}

impl Links {
    /// Limits what leaves a link.
    ///
    /// # Errors
    /// [`NetworkError::Unsupported`] where the kernel has no token buckets.
    pub(super) async fn limit(&self, link: &LinkView, limit: RateLimit) -> Result<(), NetworkError> {
        let operation = || format!("limit the interface {} to {}", link.name, limit.rate);
        let message = RouteNetlinkMessage::NewQueueDiscipline(Bucket::of(limit, link.mtu).message(link.index));
        let mut request = NetlinkMessage::from(message);
        request.header.flags = NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE | NLM_F_REPLACE;
        let lost = |_| NetworkError::WorkerLost("send a netlink request");
        let mut answers = self.handle.clone().request(request).map_err(lost)?;
        while let Some(answer) = answers.next().await {
            let NetlinkPayload::Error(message) = answer.payload else { continue };
            if message.code.is_none() {
                continue;
            }
            let source = message.to_io();
            return Err(match source.raw_os_error() {
                // "Specified qdisc kind is unknown"
                Some(libc::ENOENT) => NetworkError::Unsupported {
                    operation: operation(),
                    module: "sch_tbf",
                    config: "CONFIG_NET_SCH_TBF",
                },
                _ => failed(operation(), source),
            });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::ByteSize;

    fn limit(rate: &str, burst: Option<u64>) -> RateLimit {
        RateLimit { rate: rate.parse().unwrap(), burst: burst.map(ByteSize) }
    }

    #[test]
    fn a_bucket_holds_at_least_one_packet() {
        assert_eq!(Bucket::of(limit("8mbit", None), 1500), Bucket { rate: 1_000_000, burst: 32_768, limit: 82_768 });
        assert_eq!(Bucket::of(limit("8gbit", None), 1500).burst, 10_000_000);
        assert_eq!(Bucket::of(limit("8mbit", Some(100)), 9000).burst, 9018);
        assert_eq!(Bucket::of(limit("8mbit", Some(1 << 40)), 1500).burst, u32::MAX);
    }

    #[test]
    fn the_parameters_are_the_kernels_structure() {
        let bytes = Bucket { rate: 0x0102_0304, burst: 5, limit: 0x0a0b_0c0d }.parameters();
        assert_eq!(bytes.len(), 36);
        assert_eq!(bytes[8..12], 0x0102_0304_u32.to_ne_bytes());
        assert_eq!(bytes[24..28], 0x0a0b_0c0d_u32.to_ne_bytes());
    }
}
