// SPDX-License-Identifier: MIT OR Apache-2.0
//! Other programs that register handlers: while one runs, the names that it takes are left to it.
//!
//! `systemd-binfmt FILE` writes nothing that could be seen before it registers: it opens the entry to
//! remove it, finds that there is none, and goes on. It fails where the name is taken right then.

use std::path::Path;

/// What they are called in /proc/PID/stat, which holds 15 bytes of a name.
const REGISTRARS: [&str; 2] = ["systemd-binfmt", "update-binfmts"];

/// Whether one runs now. A process that starts while this looks is not seen, but has to load its
/// libraries and read its files before it gets so far.
pub(super) fn registrar_runs() -> bool {
    is_among(Path::new("/proc"))
}

fn is_among(processes: &Path) -> bool {
    let Ok(processes) = std::fs::read_dir(processes) else { return false };
    let names = processes.flatten().filter(|entry| entry.file_name().as_encoded_bytes()[0].is_ascii_digit());
    names.filter_map(|entry| std::fs::read_to_string(entry.path().join("stat")).ok()).any(|stat| is_one(&stat))
}

/// Reads `PID (NAME) STATE ...`, of proc_pid_stat(5). A dead one that nobody has waited for does nothing.
fn is_one(stat: &str) -> bool {
    let parts = stat.split_once('(').and_then(|(_, rest)| rest.rsplit_once(") "));
    parts.is_some_and(|(name, rest)| REGISTRARS.contains(&name) && !rest.starts_with(['Z', 'X']))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_is_known_by_its_name() {
        let dir = tempfile::tempdir().unwrap();
        let process = |id: &str, name: &str| {
            std::fs::create_dir(dir.path().join(id)).unwrap();
            std::fs::write(dir.path().join(id).join("stat"), format!("{id} ({name} 1 1\n")).unwrap();
        };
        process("1", "systemd) S");
        process("77", "systemd-binfmt2) R");
        process("78", "systemd-binfmt) Z");
        process("self", "systemd-binfmt) R");
        assert!(!is_among(dir.path()) && !is_among(&dir.path().join("gone")));
        process("402", "systemd-binfmt) D");
        assert!(is_among(dir.path()));
    }
}
