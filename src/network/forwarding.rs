//! `net.ipv4.ip_forward`: set when the first network needs it, put back when the last one goes, if it was us.

use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::NetworkError;
use super::state::StateDir;
use crate::store::Record;

/// The switch of the network namespace that the calling thread stands in.
const SWITCH: &str = "/proc/sys/net/ipv4/ip_forward";
const RECORD: &str = "forwarding.json";

/// Says that forwarding was off and that we switched it on; there is no file where it was on already.
#[derive(Debug, Serialize, Deserialize)]
struct SwitchedOn {
    /// The boot in which it was; after another boot the record says nothing.
    boot: String,
}

impl Record for SwitchedOn {
    const VERSION: u32 = 1;
}

/// Switches forwarding on where it is off. Recorded before it is done.
pub(super) fn enable(state: &StateDir) -> Result<(), NetworkError> {
    if read()? {
        return Ok(());
    }
    state.write(RECORD, &SwitchedOn { boot: boot() })?;
    write("1")
}

/// Switches forwarding off again if it was we who switched it on.
pub(super) fn restore(state: &StateDir) -> Result<(), NetworkError> {
    let of_this_boot = match state.read::<SwitchedOn>(RECORD)? {
        Some(record) => record.boot == boot(),
        // That it is there says what matters. Whoever keeps a run directory over a reboot and damages it then is alone.
        None if state.was_damaged(RECORD)? => true,
        None => return Ok(()),
    };
    if of_this_boot {
        write("0")?;
    }
    state.remove(RECORD)
}

fn read() -> Result<bool, NetworkError> {
    let path = Path::new(SWITCH);
    let text = fs::read_to_string(path).map_err(|source| NetworkError::State {
        operation: "read",
        path: path.to_owned(),
        source,
    })?;
    Ok(text.trim() == "1")
}

fn write(value: &str) -> Result<(), NetworkError> {
    let path = Path::new(SWITCH);
    fs::write(path, value).map_err(|source| NetworkError::Sysctl {
        path: path.to_owned(),
        value: value.to_owned(),
        source,
    })
}

fn boot() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned()
}
