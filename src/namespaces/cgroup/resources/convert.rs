//! From cgroup v1's scales, which the runtime specification has, to v2's.

/// Returns `cpu.weight`, 1 to 10000, 100 the default.
///
/// Shares go from 2 to 262144 with 1024 the default. The curve through these three pairs is runc's since 1.3: a straight
/// line between the ends, as it was before, makes the default of one scale 39 in the other.
pub(super) fn cpu_weight(shares: u64) -> u64 {
    if shares <= 2 {
        return 1;
    }
    if shares >= 262_144 {
        return 10_000;
    }
    #[expect(clippy::cast_precision_loss, reason = "18 bits fit into a double")]
    let log = (shares as f64).log2();
    let exponent = (log * log + 125.0 * log) / 612.0 - 7.0 / 34.0;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 1 and 10000")]
    let weight = 10f64.powf(exponent).ceil() as u64;
    weight.clamp(1, 10_000)
}

/// Returns `io.weight`, 1 to 10000, for a weight of 10 to 1000.
pub(super) fn io_weight(weight: u16) -> u64 {
    1 + u64::from(weight.saturating_sub(10)) * 9999 / 990
}

/// Returns what a file of v2 has for a limit: -1, or any negative number, is none.
pub(super) fn most(limit: i64) -> String {
    if limit < 0 { "max".to_owned() } else { limit.to_string() }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn shares_convert_as_in_runc() {
        assert_eq!([2, 512, 1024, 2048, 262_144].map(cpu_weight), [1, 59, 100, 174, 10_000]);
        assert_eq!([10, 20, 1000].map(io_weight), [1, 102, 10_000]);
        assert_eq!([most(-1), most(5)], ["max", "5"]);
    }

    proptest! {
        #[test]
        fn a_weight_keeps_its_order_and_its_range(a in 0u64..300_000, b in 0u64..300_000) {
            let (small, large) = (cpu_weight(a.min(b)), cpu_weight(a.max(b)));
            prop_assert!(1 <= small && small <= large && large <= 10_000);
        }

        #[test]
        fn an_io_weight_keeps_its_range(weight in 10u16..=1000) {
            prop_assert!((1..=10_000).contains(&io_weight(weight)));
        }
    }
}
