//! Ids of containers as engines give them.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::OciError;

/// The longest id in bytes.
const LONGEST: usize = 1024;
/// A file's name may have 255 bytes; a container's cgroup and a lock beside it need some more than the id.
const LONGEST_NAME: usize = 200;
/// So many bytes of a longer id stay to be recognised in its directory's name.
const KEPT: usize = 100;

/// Is the id of a container: 1 to 1,024 of the characters `A-Z a-z 0-9 _ + , - .`, a dot not first.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct OciId(String);

impl OciId {
    /// Returns the text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the name of its directory and its cgroup: the id, or its beginning and a digest where it is too long for
    /// a file's name. `~` is in no id, so that the two kinds never meet.
    pub fn file_name(&self) -> String {
        if self.0.len() <= LONGEST_NAME {
            return self.0.clone();
        }
        let digest: String = Sha256::digest(&self.0).iter().map(|byte| format!("{byte:02x}")).collect();
        format!("{}~{digest}", &self.0[..KEPT])
    }
}

impl FromStr for OciId {
    type Err = OciError;

    fn from_str(text: &str) -> Result<Self, OciError> {
        let bad = |reason: &str| OciError::Id { id: text.chars().take(80).collect(), reason: reason.to_owned() };
        let fits = |letter: char| letter.is_ascii_alphanumeric() || "_+,-.".contains(letter);
        match text.chars().find(|letter| !fits(*letter)) {
            _ if text.is_empty() => Err(bad("it is empty")),
            _ if text.len() > LONGEST => Err(bad("it has more than 1024 bytes")),
            Some(letter) => {
                let letter = letter.escape_default();
                Err(bad(&format!("invalid character `{letter}`: it is made of A-Z a-z 0-9 _ + , - .")))
            }
            // Its directory would be hidden, or one that every directory has.
            None if text.starts_with('.') => Err(bad("it begins with a dot")),
            None => Ok(Self(text.to_owned())),
        }
    }
}

impl TryFrom<String> for OciId {
    type Error = OciError;

    fn try_from(text: String) -> Result<Self, OciError> {
        text.parse()
    }
}

impl From<OciId> for String {
    fn from(id: OciId) -> Self {
        id.0
    }
}

impl fmt::Display for OciId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_could_leave_the_directory_is_refused() {
        for bad in ["", ".", "..", ".a", "a/b", "../x", "a b", "a\n", "é", "~", &"a".repeat(1025)] {
            assert!(bad.parse::<OciId>().is_err(), "{bad:?}");
        }
        let error = "a/b\n".parse::<OciId>().unwrap_err().to_string();
        assert!(error.starts_with("invalid container ID `a/b\n`: invalid character `/`"), "{error}");
        for good in ["a", "a..", "1_2+3,4-5.6", "-rf"] {
            assert_eq!(good.parse::<OciId>().unwrap().file_name(), good);
        }
    }

    #[test]
    fn long_ids_have_short_names_of_their_own() {
        let names: Vec<_> = ["x", "y"]
            .map(|end| format!("{}{end}", "a".repeat(1023)).parse::<OciId>().unwrap().file_name())
            .into_iter()
            .collect();
        assert!(names[0] != names[1] && names.iter().all(|name| name.len() < 200 && name.parse::<OciId>().is_err()));
    }
}
