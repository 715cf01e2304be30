// SPDX-License-Identifier: MIT OR Apache-2.0
//! The self-test as another user: whether the handlers reach the engines that this user has.
//!
//! Root starts this program anew in the part of [`become_user`], which leaves root's session, gives
//! up every right for good, and then becomes the program that this user would have started: what
//! runs from there on has nothing of root's, neither memory nor descriptors nor a terminal.

use std::ffi::{CString, OsStr, OsString};
use std::fmt;
use std::fs::{self, Metadata};
use std::io::{self, Write as _};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::errno::Errno;
use nix::sys::prctl;
use nix::sys::signal::Signal;
use nix::unistd::{
    Gid, Uid, User, chdir, close, getppid, getresgid, getresuid, initgroups, setresgid, setresuid, setsid,
};
use serde::Serialize;

use super::programs::USUAL_PATH;
use super::step::{Obstacle, Step as _};

/// The first argument by which this program is told to be [`become_user`].
pub const VERB: &str = "__as-user";
/// It could not become that user.
pub const NOT_BECOME: u8 = 125;

/// Whom the self-test ran as: its engines are those of this user.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "assets", derive(schemars::JsonSchema))]
pub struct RanAs {
    /// The user's name; none where no user of that number is known.
    pub name: Option<String>,
    /// The user's number.
    pub uid: u32,
}

impl RanAs {
    /// The user that this program runs as.
    pub fn current() -> Self {
        Self::of(Uid::effective())
    }

    /// The user `uid`.
    pub fn of(uid: Uid) -> Self {
        Self { name: User::from_uid(uid).ok().flatten().map(|user| user.name), uid: uid.as_raw() }
    }
}

impl fmt::Display for RanAs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.name {
            Some(name) => f.write_str(name),
            None => write!(f, "the user {}", self.uid),
        }
    }
}

/// A user that the self-test can run as.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// The name.
    pub name: String,
    /// The number.
    pub uid: Uid,
    group: Gid,
    home: PathBuf,
}

impl Account {
    /// The user `name`.
    ///
    /// # Errors
    /// Why the self-test does not run as that user, and what to do.
    pub fn named(name: &str) -> Result<Self, String> {
        let user = User::from_name(name).map_err(|e| format!("the user {name} could not be looked up: {e}"))?;
        let Some(user) = user else {
            return Err(format!("there is no user {name} here; `getent passwd` lists those that there are"));
        };
        if user.uid.is_root() {
            return Err(format!("{name} is root, for whom the self-test runs without --as-user"));
        }
        Ok(Self { name: user.name, uid: user.uid, group: user.gid, home: user.dir })
    }

    /// Whether this user has the home directory that engines want.
    ///
    /// # Errors
    /// That it is not there, and what to do.
    pub fn has_home(&self) -> Result<(), String> {
        if self.home.is_absolute() && self.home.is_dir() {
            return Ok(());
        }
        let (name, home) = (&self.name, self.home.display());
        Err(format!(
            "the user {name} has no home directory ({home} is none), in which engines keep a user's images and \
             settings: make it, or name another user"
        ))
    }

    /// The variables that a program of this user's is started with: those that a login would set, as far as engines
    /// look at them, and where a rootless Docker listens (dockerd-rootless-setuptool.sh puts its socket
    /// there; Podman and nerdctl find theirs by `XDG_RUNTIME_DIR`). `run` is where the directories for logged-in users
    /// are.
    fn environment(&self, run: &Path) -> Vec<(&'static str, OsString)> {
        let mut path = self.home.join("bin").into_os_string();
        path.push(":");
        path.push(USUAL_PATH);
        let name = OsString::from(&self.name);
        let mut variables = vec![
            ("HOME", self.home.clone().into_os_string()),
            ("USER", name.clone()),
            ("LOGNAME", name),
            ("PATH", path),
        ];
        let directory = run.join(self.uid.to_string());
        let owns = |path: &Path, is: fn(&Metadata) -> bool| {
            fs::symlink_metadata(path).is_ok_and(|found| found.uid() == self.uid.as_raw() && is(&found))
        };
        if !owns(&directory, Metadata::is_dir) {
            return variables;
        }
        for (variable, name, scheme) in
            [("DOCKER_HOST", "docker.sock", "unix://"), ("DBUS_SESSION_BUS_ADDRESS", "bus", "unix:path=")]
        {
            let socket = directory.join(name);
            if owns(&socket, |found| found.file_type().is_socket()) {
                let mut address = OsString::from(scheme);
                address.push(socket);
                variables.push((variable, address));
            }
        }
        variables.push(("XDG_RUNTIME_DIR", directory.into_os_string()));
        variables
    }
}

/// Becomes the user that the first of `arguments` names, and then this program, started with the others. Where
/// that fails it says why on standard error and gives [`NOT_BECOME`].
pub fn become_user(arguments: &[OsString]) -> u8 {
    let why = match arguments {
        [name, words @ ..] => match Account::named(&name.to_string_lossy()) {
            Ok(account) => match give_up_root(&account) {
                Ok(()) => start(&account, words),
                Err(obstacle) => obstacle.to_string(),
            },
            Err(why) => why,
        },
        [] => "not given a user".to_owned(),
    };
    // Nobody listens where this fails.
    let _ = writeln!(io::stderr(), "{why}");
    NOT_BECOME
}

/// Leaves root's session and with it the terminal, into which the user could otherwise type (`TIOCSTI`, ioctl_tty(2));
/// gives up root's rights, and makes sure that they are gone.
fn give_up_root(account: &Account) -> Result<(), Obstacle> {
    let parent = getppid();
    setsid().step("a session of its own")?;
    let name = CString::new(account.name.as_str()).step("the user's name")?;
    let (user, group) = (account.uid, account.group);
    initgroups(&name, group).step("the user's groups")?;
    setresgid(group, group, group).step("the user's group")?;
    setresuid(user, user, user).step("the user")?;
    is_given_up(account).step("giving up root")?;
    // After the change of user, which would undo it.
    prctl::set_pdeathsig(Signal::SIGTERM).step("the parent's death signal")?;
    if getppid() != parent {
        return Err(io::Error::other("it is gone")).step("the parent");
    }
    chdir(&account.home).step("the user's home directory")
}

/// That nothing of root's is left: securebits(7) or a security module could have kept it.
fn is_given_up(account: &Account) -> io::Result<()> {
    let (users, groups) = (getresuid()?, getresgid()?);
    let is_user = [users.real, users.effective, users.saved].iter().all(|uid| *uid == account.uid);
    let is_group = [groups.real, groups.effective, groups.saved].iter().all(|gid| *gid == account.group);
    let status = fs::read_to_string("/proc/self/status")?;
    let capable = status.lines().filter_map(|line| line.split_once(":\t"));
    let mut capable = capable.filter(|(key, _)| ["CapPrm", "CapEff", "CapAmb"].contains(key));
    let root = Uid::from_raw(0);
    if !is_user || !is_group || setresuid(root, root, root).is_ok() {
        return Err(io::Error::other("the kernel did not do it"));
    }
    if !capable.all(|(_, bits)| bits.trim().bytes().all(|digit| digit == b'0')) {
        return Err(io::Error::other("capabilities are left"));
    }
    Ok(())
}

/// Becomes this program, started by the user with `words`; gives why that failed.
fn start(account: &Account, words: &[OsString]) -> String {
    if let Err(e) = close_inherited() {
        return format!("/proc/self/fd: {e}");
    }
    let error = Command::new("/proc/self/exe")
        .arg0("qemu-persist")
        .args(words)
        .env_clear()
        .envs(account.environment(Path::new("/run/user")))
        .exec();
    format!("this program cannot be started by {}: {error}", account.name)
}

/// Closes what the caller of root's has left open, beside the three that everybody has.
fn close_inherited() -> io::Result<()> {
    let names = fs::read_dir("/proc/self/fd")?.map(|entry| entry.map(|entry| entry.file_name()));
    let names = names.collect::<io::Result<Vec<_>>>()?;
    let numbers = names.iter().filter_map(|name| OsStr::to_str(name)?.parse::<i32>().ok());
    for number in numbers.filter(|number| *number > 2) {
        match close(number) {
            // The one that the directory was read by.
            Ok(()) | Err(Errno::EBADF) => {}
            Err(e) => return Err(e.into()),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixListener;

    #[test]
    fn a_user_that_cannot_be_is_told_why() {
        assert!(Account::named("no-such-user-anywhere").unwrap_err().contains("there is no user"));
        assert!(Account::named("root").unwrap_err().contains("without --as-user"));
        assert!(Account::named("a\0b").is_err());
        let nowhere = |home: &str| Account {
            name: "somebody".into(),
            uid: Uid::from_raw(4500),
            group: Gid::from_raw(4500),
            home: home.into(),
        };
        assert!(nowhere("/nonexistent").has_home().unwrap_err().contains("/nonexistent is none"));
        assert!(nowhere("").has_home().is_err() && nowhere("tmp").has_home().is_err());
        assert!(nowhere("/tmp").has_home().is_ok());
    }

    #[test]
    fn only_what_is_the_users_own_is_offered_to_its_engines() {
        let run = tempfile::tempdir().unwrap();
        let own = Uid::effective();
        let account = |uid: Uid| Account { name: "n".into(), uid, group: Gid::effective(), home: "/h".into() };
        let given = |uid: Uid| {
            let variables = account(uid).environment(run.path());
            variables.into_iter().map(|(name, _)| name).collect::<Vec<_>>()
        };
        let base = ["HOME", "USER", "LOGNAME", "PATH"];
        assert_eq!(given(own), base);
        let directory = run.path().join(own.to_string());
        fs::create_dir(&directory).unwrap();
        fs::write(directory.join("docker.sock"), "").unwrap();
        assert_eq!(given(own), [&base[..], &["XDG_RUNTIME_DIR"]].concat(), "a file is no socket");
        fs::remove_file(directory.join("docker.sock")).unwrap();
        let _listener = UnixListener::bind(directory.join("docker.sock")).unwrap();
        assert_eq!(given(own), [&base[..], &["DOCKER_HOST", "XDG_RUNTIME_DIR"]].concat());
        // What somebody else has put at the place of another user's.
        let other = Uid::from_raw(own.as_raw() + 1);
        std::os::unix::fs::symlink(&directory, run.path().join(other.to_string())).unwrap();
        assert_eq!(given(other), base);
    }
}
