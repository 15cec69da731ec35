//! Users and groups, as the container's own files name them. Those files come with the image: they may be huge, links
//! to the host's, FIFOs, or nonsense.

use std::fs::File;
use std::io::Read;
use std::os::fd::BorrowedFd;

use rustix::fs::{FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use super::failure::StepError;
use crate::container::plan::UserChoice;

/// A longer passwd or group file is refused.
const LONGEST: u64 = 4 << 20;

/// Is a user in numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct ResolvedUser {
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) groups: Vec<u32>,
    pub(super) home: Option<String>,
    pub(super) keep_groups: bool,
}

/// Looks a user up in /etc/passwd and /etc/group below `root`.
pub(super) fn resolve(root: BorrowedFd<'_>, choice: &UserChoice) -> Result<ResolvedUser, StepError> {
    if choice.numeric {
        // Only HOME is looked for; a file that cannot be read has no entry for it.
        return numbers(choice, &read(root, "etc/passwd").unwrap_or_default());
    }
    let passwd = read(root, "etc/passwd")?;
    let group = read(root, "etc/group")?;
    find(choice, &passwd, &group)
}

fn read(root: BorrowedFd<'_>, path: &str) -> Result<String, StepError> {
    let error = |errno: Errno| StepError::from(errno).with_object(format!("/{path}")).with_exit_code(126);
    // O_NONBLOCK: opening a FIFO for reading would wait for a writer.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    let file = match rustix::fs::openat2(root, path, flags, Mode::empty(), resolve) {
        Ok(file) => file,
        Err(Errno::NOENT | Errno::NOTDIR) => return Ok(String::new()),
        Err(errno) => return Err(error(errno)),
    };
    let stat = rustix::fs::fstat(&file).map_err(error)?;
    if !FileType::from_raw_mode(stat.st_mode).is_file() {
        return Err(StepError::refused(format!("/{path} is not a regular file")));
    }
    if stat.st_size as u64 > LONGEST {
        return Err(StepError::refused(format!("/{path} has {} bytes, more than {LONGEST}", stat.st_size)));
    }
    let mut bytes = Vec::with_capacity(stat.st_size as usize + 1);
    File::from(file).take(LONGEST).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Is one line of passwd(5).
struct User<'a> {
    name: &'a str,
    uid: u32,
    gid: u32,
    home: &'a str,
}

fn users(text: &str) -> impl Iterator<Item = User<'_>> {
    text.lines().filter_map(|line| {
        let fields: Vec<_> = line.split(':').collect();
        let [name, _, uid, gid, _, home, ..] = fields[..] else { return None };
        Some(User { name, uid: uid.parse().ok()?, gid: gid.parse().ok()?, home })
    })
}

/// Yields name, id and members of each line of group(5).
fn groups(text: &str) -> impl Iterator<Item = (&str, u32, &str)> {
    text.lines().filter_map(|line| {
        let fields: Vec<_> = line.split(':').collect();
        let [name, _, gid, members, ..] = fields[..] else { return None };
        Some((name, gid.parse().ok()?, members))
    })
}

/// Takes `uid:gid` and groups as the numbers they are.
fn numbers(choice: &UserChoice, passwd: &str) -> Result<ResolvedUser, StepError> {
    let number = |text: &str| id(text).ok_or_else(|| StepError::refused(format!("`{text}` is no id")));
    let (uid, gid) = choice.user.split_once(':').unwrap_or((&choice.user, "0"));
    let (uid, gid) = (number(uid)?, number(gid)?);
    let groups = choice.groups.iter().map(|group| number(group)).collect::<Result<_, _>>()?;
    let entry = users(passwd).find(|entry| entry.uid == uid);
    let home = entry.map(|entry| entry.home.to_owned()).filter(|home| !home.is_empty());
    Ok(ResolvedUser { uid, gid, groups, home, keep_groups: choice.keep_groups })
}

/// A name counts before a number, as in Docker: a user may be called `1000`.
fn find(choice: &UserChoice, passwd: &str, group: &str) -> Result<ResolvedUser, StepError> {
    let asked = if choice.user.is_empty() { "0" } else { &choice.user };
    let (user, asked_group) = match asked.split_once(':') {
        Some((user, group)) => (user, Some(group)),
        None => (asked, None),
    };
    let entry = users(passwd)
        .find(|entry| entry.name == user)
        .or_else(|| id(user).and_then(|uid| users(passwd).find(|entry| entry.uid == uid)));
    let uid = match (&entry, id(user)) {
        (Some(entry), _) => entry.uid,
        (None, Some(uid)) => uid,
        (None, None) if user == "root" => 0,
        (None, None) => {
            let error = StepError::refused(format!("no user `{user}` in the container's /etc/passwd"));
            return Err(error.with_hint("a number needs no entry there: `--user 1000:1000`"));
        }
    };
    let gid = match asked_group {
        Some(name) => find_group(name, group)?,
        None => entry.as_ref().map_or(0, |entry| entry.gid),
    };
    let mut all: Vec<u32> = Vec::new();
    if let (Some(entry), None) = (&entry, asked_group) {
        let member = |members: &str| members.split(',').any(|name| name == entry.name);
        all.extend(groups(group).filter(|(_, _, members)| member(members)).map(|(_, gid, _)| gid));
    }
    for name in &choice.groups {
        all.push(find_group(name, group)?);
    }
    all.sort_unstable();
    all.dedup();
    let home = entry.map(|entry| entry.home.to_owned()).filter(|home| !home.is_empty());
    Ok(ResolvedUser { uid, gid, groups: all, home, keep_groups: choice.keep_groups })
}

/// Reads a number in digits alone: `+0` is a name.
fn id(text: &str) -> Option<u32> {
    text.parse().ok().filter(|_| text.bytes().all(|byte| byte.is_ascii_digit()))
}

fn find_group(name: &str, group: &str) -> Result<u32, StepError> {
    let entry = groups(group).find(|(have, ..)| *have == name).map(|(_, gid, _)| gid);
    entry.or_else(|| id(name)).ok_or_else(|| {
        StepError::refused(format!("no group `{name}` in the container's /etc/group"))
            .with_hint("a number needs no entry there")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\nweb:x:33:33::/srv:/bin/false\nbroken\n1000:x:7:8::/odd:\n";
    const GROUP: &str = "root:x:0:\nadm:x:4:web,root\nweb:x:33:\nlog:x:40:web\n";

    fn look(user: &str, groups: &[&str]) -> Result<(u32, u32, Vec<u32>), String> {
        let groups = groups.iter().map(|g| (*g).to_owned()).collect();
        let choice = UserChoice { user: user.to_owned(), groups, ..UserChoice::default() };
        find(&choice, PASSWD, GROUP).map(|u| (u.uid, u.gid, u.groups)).map_err(|e| e.object.unwrap_or_default())
    }

    #[test]
    fn users_are_found_by_name_and_number() {
        assert_eq!(look("", &[]), Ok((0, 0, vec![4])));
        assert_eq!(look("web", &[]), Ok((33, 33, vec![4, 40])));
        assert_eq!(look("33", &["root"]), Ok((33, 33, vec![0, 4, 40])));
        assert_eq!(look("web:adm", &[]), Ok((33, 4, vec![])));
        assert_eq!(look("1000", &[]), Ok((7, 8, vec![])));
        assert_eq!(look("5000:6000", &["7000"]), Ok((5000, 6000, vec![7000])));
        assert_eq!(look("5000", &[]), Ok((5000, 0, vec![])));
    }

    #[test]
    fn unknown_names_are_refused() {
        assert!(look("nosuch", &[]).unwrap_err().contains("`nosuch`"));
        assert!(look("0:nosuch", &[]).unwrap_err().contains("`nosuch`"));
        assert!(look("", &["nosuch"]).is_err());
        assert!(look("+0", &[]).is_err() && look("0:+0", &[]).is_err());
    }

    #[test]
    fn numbers_are_nobodys_names() {
        let choice = UserChoice {
            user: "1000:4".to_owned(),
            groups: vec!["40".to_owned(), "4".to_owned()],
            numeric: true,
            ..UserChoice::default()
        };
        let user = numbers(&choice, PASSWD).unwrap();
        assert_eq!((user.uid, user.gid, user.groups, user.home), (1000, 4, vec![40, 4], None));
        let web = numbers(&UserChoice { user: "33:33".to_owned(), ..choice }, PASSWD).unwrap();
        assert_eq!(web.home.as_deref(), Some("/srv"));
    }

    #[test]
    fn root_needs_no_file() {
        let choice = UserChoice { user: "root".to_owned(), ..UserChoice::default() };
        assert_eq!(find(&choice, "", "").unwrap(), ResolvedUser::default());
    }
}
