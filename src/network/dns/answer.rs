//! One query, one decision. No socket and no clock here, so any bytes can be tried on it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::{A, AAAA, PTR};
use hickory_proto::rr::{DNSClass, Name, RData, Record, RecordType};

use super::names::{Found, NameView};

/// How long an answer may be kept, in seconds; Docker's value.
const TTL: u32 = 600;
/// The length of a message's header.
const HEADER: usize = 12;
/// The most we send in one datagram, whatever the client offers: what passes everywhere unfragmented.
const DATAGRAM: u16 = 1232;

/// Says what is to be done with a query.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Decision {
    /// These bytes are the answer.
    Reply(Vec<u8>),
    /// The name is not ours: the host's resolvers are asked.
    Forward,
    /// These bytes are no query.
    Drop,
}

/// Is the way a query came, which bounds the length of its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Transport {
    /// In a datagram.
    Udp,
    /// Over a connection.
    Tcp,
}

/// Decides on one query.
pub(super) fn decide(bytes: &[u8], transport: Transport, view: &NameView) -> Decision {
    let query = match Message::from_vec(bytes) {
        Ok(query) => query,
        Err(_) => return refuse(bytes, ResponseCode::FormErr),
    };
    if query.metadata.message_type != MessageType::Query {
        return Decision::Drop;
    }
    if query.metadata.op_code != OpCode::Query {
        return refuse(bytes, ResponseCode::NotImp);
    }
    if query.edns.as_ref().is_some_and(|edns| edns.version() > 0) {
        // RFC 6891, 6.1.3: the answer says which version we know.
        return refuse(bytes, ResponseCode::BADVERS);
    }
    let [question] = query.queries.as_slice() else { return refuse(bytes, ResponseCode::FormErr) };
    if question.query_class() != DNSClass::IN {
        return Decision::Forward;
    }
    match outcome(question, view) {
        Outcome::Ask => Decision::Forward,
        Outcome::Answer(code, records) => encode(&query, code, records, transport),
    }
}

/// Answers a query that cannot be carried out.
pub(super) fn refuse(bytes: &[u8], code: ResponseCode) -> Decision {
    let Some(&[high, low, flags, ..]) = bytes.get(..HEADER) else { return Decision::Drop };
    let is_response = flags & 0x80 != 0;
    if is_response {
        return Decision::Drop;
    }
    // The question is repeated where it can be read, so that the client finds its own.
    let message = match Message::from_vec(bytes) {
        Ok(query) => reply_to(&query, code),
        Err(_) => Message::error_msg(u16::from_be_bytes([high, low]), OpCode::from_u8(flags >> 3 & 0x0f), code),
    };
    message.to_vec().map_or(Decision::Drop, Decision::Reply)
}

enum Outcome {
    Answer(ResponseCode, Vec<Record>),
    Ask,
}

fn outcome(question: &Query, view: &NameView) -> Outcome {
    let name = question.name();
    let nothing = |code| Outcome::Answer(code, Vec::new());
    if let Some(address) = asked_address(name) {
        return match view.name_of(address) {
            Found::Here(text) => match Name::from_ascii(format!("{text}.")) {
                Ok(target) if question.query_type() == RecordType::PTR => {
                    Outcome::Answer(ResponseCode::NoError, vec![record(name, RData::PTR(PTR(target)))])
                }
                _ => nothing(ResponseCode::NoError),
            },
            Found::Elsewhere => nothing(ResponseCode::NXDomain),
            Found::Nowhere => Outcome::Ask,
        };
    }
    let Some(text) = plain_text(name) else { return Outcome::Ask };
    match view.addresses(&text) {
        // Where the name exists and this type of it does not, that is NODATA, so that clients do not give the name up.
        Found::Here(addresses) => {
            let asked = question.query_type();
            let data = addresses.into_iter().map(|address| match address {
                IpAddr::V4(address) => RData::A(A(address)),
                IpAddr::V6(address) => RData::AAAA(AAAA(address)),
            });
            let data = data.filter(|data| asked == RecordType::ANY || asked == data.record_type());
            Outcome::Answer(ResponseCode::NoError, data.map(|data| record(name, data)).collect())
        }
        Found::Elsewhere => nothing(ResponseCode::NXDomain),
        // A single label is a service that is not there; nobody outside is to learn of it.
        Found::Nowhere if name.num_labels() == 1 => nothing(ResponseCode::NXDomain),
        Found::Nowhere => Outcome::Ask,
    }
}

fn record(name: &Name, data: RData) -> Record {
    Record::from_rdata(name.clone(), TTL, data)
}

/// Reads `4.3.2.1.in-addr.arpa` as 1.2.3.4, and the 32 digits before `ip6.arpa` as an address of IPv6 (RFC 3596, 2.5).
fn asked_address(name: &Name) -> Option<IpAddr> {
    let text = plain_text(name)?.to_ascii_lowercase();
    if let Some(digits) = text.strip_suffix(".ip6.arpa") {
        return reversed_v6(digits).map(IpAddr::V6);
    }
    let reversed: Ipv4Addr = text.strip_suffix(".in-addr.arpa")?.parse().ok()?;
    let [a, b, c, d] = reversed.octets();
    Some(Ipv4Addr::new(d, c, b, a).into())
}

/// Reads `b.a.9.8…` with the last digit first.
fn reversed_v6(digits: &str) -> Option<Ipv6Addr> {
    const DIGITS: usize = 32;
    let digit = |text: &str| if text.len() == 1 { u128::from_str_radix(text, 16).ok() } else { None };
    let digits: Vec<u128> = digits.split('.').map(digit).collect::<Option<_>>()?;
    let bits = digits.iter().rev().fold(0_u128, |bits, digit| bits << 4 | digit);
    (digits.len() == DIGITS).then(|| Ipv6Addr::from_bits(bits))
}

/// Returns the name as dotted text where its labels are text.
fn plain_text(name: &Name) -> Option<String> {
    let labels: Result<Vec<&str>, _> = name.iter().map(std::str::from_utf8).collect();
    labels.ok().map(|labels| labels.join("."))
}

fn reply_to(query: &Message, code: ResponseCode) -> Message {
    let mut reply = Message::response(query.metadata.id, query.metadata.op_code);
    reply.metadata.recursion_desired = query.metadata.recursion_desired;
    reply.metadata.recursion_available = true;
    reply.metadata.response_code = code;
    reply.add_queries(query.queries.iter().cloned());
    if query.edns.is_some() {
        let mut edns = Edns::new();
        edns.set_max_payload(DATAGRAM);
        reply.set_edns(edns);
    }
    reply
}

fn encode(query: &Message, code: ResponseCode, records: Vec<Record>, transport: Transport) -> Decision {
    let mut reply = reply_to(query, code);
    reply.metadata.authoritative = true;
    reply.add_answers(records);
    let limit = match transport {
        Transport::Udp => usize::from(query.max_payload().min(DATAGRAM)),
        Transport::Tcp => usize::from(u16::MAX),
    };
    loop {
        match reply.to_vec() {
            Ok(bytes) if bytes.len() <= limit => return Decision::Reply(bytes),
            // What does not fit is left out and the client told so; it asks again over TCP.
            Ok(_) if reply.answers.pop().is_some() => reply.metadata.truncation = true,
            _ => return Decision::Drop,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::names::tests::entry;
    use super::*;
    use crate::network::dns::NameTable;
    use proptest::prelude::*;

    fn view() -> NameView {
        let table = NameTable::new();
        table.insert(entry("p_n", "p-web-1", 2, &["web"])).unwrap();
        let mut dual = entry("p_n", "p-dual-1", 4, &["dual"]);
        dual.addresses.push("fd00:1::2".parse().unwrap());
        table.insert(dual).unwrap();
        table.insert(entry("p_other", "p-db-1", 3, &["db", "db.example.test"])).unwrap();
        for last in 10..110 {
            table.insert(entry("p_n", &format!("p-many-{last}"), last, &["many"])).unwrap();
        }
        table.view(["p_n".to_owned()])
    }

    fn query(name: &str, kind: RecordType) -> Vec<u8> {
        let mut message = Message::new(4711, MessageType::Query, OpCode::Query);
        message.metadata.recursion_desired = true;
        message.add_query(Query::query(Name::from_ascii(name).unwrap(), kind));
        message.to_vec().unwrap()
    }

    fn reply(bytes: &[u8], transport: Transport) -> Message {
        match decide(bytes, transport, &view()) {
            Decision::Reply(bytes) => Message::from_vec(&bytes).unwrap(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn own_names_are_answered() {
        let message = reply(&query("WeB.", RecordType::A), Transport::Udp);
        assert_eq!((message.metadata.id, message.metadata.response_code), (4711, ResponseCode::NoError));
        assert_eq!(message.answers.len(), 1);
        assert_eq!(message.answers[0].ttl, 600);
        assert_eq!(message.answers[0].data, RData::A(A(Ipv4Addr::new(10, 11, 0, 2))));
        assert!(message.answers[0].name.eq_case(&Name::from_ascii("WeB.").unwrap()), "the asker's spelling is kept");
        let message = reply(&query("web.", RecordType::AAAA), Transport::Udp);
        assert_eq!((message.metadata.response_code, message.answers.len()), (ResponseCode::NoError, 0));
        let message = reply(&query("2.0.11.10.in-addr.arpa.", RecordType::PTR), Transport::Udp);
        assert_eq!(message.answers[0].data.to_string(), "p-web-1.p_n.");
    }

    #[test]
    fn addresses_of_both_families_are_answered_each_to_its_question() {
        let own: Ipv6Addr = "fd00:1::2".parse().unwrap();
        let asked = |name: &str, kind| reply(&query(name, kind), Transport::Udp);
        let message = asked("dual.", RecordType::AAAA);
        assert_eq!(message.answers.iter().map(|a| a.data.clone()).collect::<Vec<_>>(), [RData::AAAA(AAAA(own))]);
        assert_eq!(asked("dual.", RecordType::A).answers.len(), 1);
        assert_eq!(asked("dual.", RecordType::ANY).answers.len(), 2);
        let message = asked("dual.", RecordType::MX);
        assert_eq!((message.metadata.response_code, message.answers.len()), (ResponseCode::NoError, 0));
        let reversed = "2.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.1.0.0.0.0.0.d.f.ip6.arpa.";
        assert_eq!(asked(reversed, RecordType::PTR).answers[0].data.to_string(), "p-dual-1.p_n.");
        for name in ["0.d.f.ip6.arpa.", &format!("10.{reversed}"), "x.ip6.arpa."] {
            assert_eq!(decide(&query(name, RecordType::PTR), Transport::Udp, &view()), Decision::Forward, "{name}");
        }
    }

    #[test]
    fn what_is_not_to_leave_does_not_leave() {
        for name in ["nosuch.", "db.", "db.example.test.", "p-db-1.", "wpad."] {
            let message = reply(&query(name, RecordType::A), Transport::Udp);
            assert_eq!(message.metadata.response_code, ResponseCode::NXDomain, "{name}");
        }
        let message = reply(&query("3.0.11.10.in-addr.arpa.", RecordType::PTR), Transport::Udp);
        assert_eq!(message.metadata.response_code, ResponseCode::NXDomain);
        for (name, kind) in
            [("example.test.", RecordType::A), ("8.8.8.8.in-addr.arpa.", RecordType::PTR), (".", RecordType::NS)]
        {
            assert_eq!(decide(&query(name, kind), Transport::Udp, &view()), Decision::Forward, "{name}");
        }
    }

    #[test]
    fn long_answers_are_cut_over_udp_alone() {
        let message = reply(&query("many.", RecordType::A), Transport::Udp);
        assert!(message.metadata.truncation && message.answers.len() > 20);
        assert!(message.to_vec().unwrap().len() <= 512);
        let message = reply(&query("many.", RecordType::A), Transport::Tcp);
        assert!(!message.metadata.truncation);
        assert_eq!(message.answers.len(), 100);
    }

    #[test]
    fn what_is_no_query_gets_no_answer_or_a_refusal() {
        let good = query("web.", RecordType::A);
        for length in 0..HEADER {
            assert_eq!(decide(&good[..length], Transport::Udp, &view()), Decision::Drop);
        }
        let cut = reply(&good[..good.len() - 1], Transport::Udp);
        assert_eq!((cut.metadata.id, cut.metadata.response_code), (4711, ResponseCode::FormErr));
        let mut response = good.clone();
        response[2] |= 0x80;
        assert_eq!(decide(&response, Transport::Udp, &view()), Decision::Drop);
        let mut update = good;
        update[2] |= 5 << 3;
        assert_ne!(decide(&update, Transport::Udp, &view()), Decision::Forward);
    }

    #[test]
    fn other_types_of_our_names_are_no_data() {
        for kind in [RecordType::AAAA, RecordType::HTTPS, RecordType::SVCB, RecordType::MX, RecordType::TXT] {
            let message = reply(&query("web.", kind), Transport::Udp);
            assert_eq!((message.metadata.response_code, message.answers.len()), (ResponseCode::NoError, 0), "{kind}");
            let message = reply(&query("nosuch.", kind), Transport::Udp);
            assert_eq!(message.metadata.response_code, ResponseCode::NXDomain, "{kind}");
        }
        assert_eq!(reply(&query("web.", RecordType::ANY), Transport::Udp).answers.len(), 1);
        assert_eq!(decide(&query("example.test.", RecordType::HTTPS), Transport::Udp, &view()), Decision::Forward);
    }

    #[test]
    fn only_one_question_of_the_usual_kind_is_answered() {
        for count in [0, 2] {
            let mut message = Message::new(7, MessageType::Query, OpCode::Query);
            for _ in 0..count {
                message.add_query(Query::query(Name::from_ascii("web.").unwrap(), RecordType::A));
            }
            let message = reply(&message.to_vec().unwrap(), Transport::Udp);
            assert_eq!((message.metadata.id, message.metadata.response_code), (7, ResponseCode::FormErr), "{count}");
        }
        for opcode in (1..16_u8).filter(|opcode| *opcode != 5) {
            let mut bytes = query("web.", RecordType::A);
            bytes[2] |= opcode << 3;
            let Decision::Reply(bytes) = decide(&bytes, Transport::Udp, &view()) else { panic!("{opcode}") };
            assert_eq!((bytes[2] >> 3 & 0x0f, bytes[3] & 0x0f), (opcode, 4), "NOTIMP, of the same operation");
        }
    }

    #[test]
    fn what_the_client_takes_is_what_it_gets() {
        let of = |offered: u16, version: u8| {
            let mut message = Message::from_vec(&query("many.", RecordType::A)).unwrap();
            let mut edns = Edns::new();
            edns.set_max_payload(offered).set_version(version);
            message.set_edns(edns);
            reply(&message.to_vec().unwrap(), Transport::Udp)
        };
        // RFC 6891, 6.2.3: less than 512 means 512.
        for (offered, most) in [(0, 512), (100, 512), (512, 512), (900, 900), (1232, 1232), (4096, 1232), (65535, 1232)]
        {
            let message = of(offered, 0);
            let length = message.to_vec().unwrap().len();
            assert!(length <= most && length > most - 32, "{offered}: {length}");
            assert!(message.metadata.truncation && message.edns.is_some(), "{offered}");
        }
        let message = of(1232, 1);
        // It has its number, 16, in common with BADSIG.
        assert_eq!((u16::from(message.metadata.response_code), message.answers.len()), (16, 0));
        assert_eq!(message.edns.unwrap().version(), 0);
    }

    #[test]
    fn what_has_been_found_to_be_hard_is_borne() {
        let corpus = include_str!("../../../tests/dns_corpus.txt");
        let packets = corpus.lines().filter_map(|line| line.split('#').next()).map(str::trim).filter(|l| !l.is_empty());
        let mut count = 0;
        for packet in packets {
            let digits: Vec<char> = packet.chars().collect();
            let byte = |pair: &[char]| u8::from_str_radix(&pair.iter().collect::<String>(), 16).unwrap();
            let bytes: Vec<u8> = digits.chunks(2).map(byte).collect();
            for transport in [Transport::Udp, Transport::Tcp] {
                if let Decision::Reply(reply) = decide(&bytes, transport, &view()) {
                    Message::from_vec(&reply).unwrap();
                }
            }
            count += 1;
        }
        assert!(count > 40, "{count}");
    }

    proptest! {
        #[test]
        fn no_bytes_stop_it(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
            let _ = decide(&bytes, Transport::Udp, &view());
        }

        #[test]
        fn no_damage_to_a_query_stops_it(at in 0_usize..21, byte in any::<u8>(), tail in proptest::collection::vec(any::<u8>(), 0..40)) {
            let mut bytes = query("web.", RecordType::A);
            if let Some(place) = bytes.get_mut(at) {
                *place = byte;
            }
            bytes.extend(tail);
            let _ = decide(&bytes, Transport::Tcp, &view());
        }
    }
}
