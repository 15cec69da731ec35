use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use super::SpecError;

/// More than any kernel can be built for (CONFIG_NR_CPUS); nodes of memory are fewer.
const MOST: u32 = 65_535;

/// Names CPUs, or nodes of memory, as cpuset(7) writes them: `0-3,5`. Never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CpuList(BTreeSet<u32>);

impl CpuList {
    /// Counts them.
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// Returns those that `other` lacks; `None` where it has all.
    pub fn without(&self, other: &Self) -> Option<Self> {
        let missing: BTreeSet<u32> = self.0.difference(&other.0).copied().collect();
        (!missing.is_empty()).then_some(Self(missing))
    }
}

impl FromStr for CpuList {
    type Err = SpecError;

    fn from_str(text: &str) -> Result<Self, SpecError> {
        let number = |part: &str| part.trim().parse::<u32>().ok();
        let mut all = BTreeSet::new();
        for part in text.trim().split(',') {
            let range = match part.split_once('-') {
                Some((first, last)) => number(first).zip(number(last)).filter(|(first, last)| first <= last),
                None => number(part).map(|one| (one, one)),
            };
            let (first, last) = range.ok_or_else(|| SpecError::CpuList(text.to_owned()))?;
            // What no kernel can have is cut off, so that a wish for it names what is missing and costs nothing.
            all.extend(first.min(MOST)..=last.min(MOST));
        }
        Ok(Self(all))
    }
}

impl fmt::Display for CpuList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut numbers = self.0.iter().copied().peekable();
        let mut comma = "";
        while let Some(first) = numbers.next() {
            let mut last = first;
            while let Some(next) = numbers.next_if_eq(&(last + 1)) {
                last = next;
            }
            match last {
                one if one == first => write!(f, "{comma}{one}")?,
                last => write!(f, "{comma}{first}-{last}")?,
            }
            comma = ",";
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_those_of_cpuset() {
        for (text, shown) in
            [("0", "0"), ("0-3,5\n", "0-3,5"), ("1,0", "0-1"), ("2, 2", "2"), ("0-2,4-4,6-7", "0-2,4,6-7")]
        {
            assert_eq!(text.parse::<CpuList>().unwrap().to_string(), shown, "{text}");
        }
        for text in ["", "x", "-1", "1-0", "0-", ",", "0,,1", "99999999999"] {
            assert!(text.parse::<CpuList>().is_err(), "{text}");
        }
    }

    #[test]
    fn what_is_missing_is_named() {
        let two: CpuList = "0-1".parse().unwrap();
        assert_eq!(two.count(), 2);
        assert_eq!(two.without(&two), None);
        let many: CpuList = "0-4294967295".parse().unwrap();
        assert_eq!(many.without(&two).unwrap().to_string(), "2-65535");
    }
}
