// SPDX-License-Identifier: MIT OR Apache-2.0
//! The programs of a host: emulators, translators, container engines.

use std::collections::BTreeMap;
use std::io;

use super::field;
use crate::host::engines::{Engine, State};
use crate::host::interpreters::Interpreter;
use crate::platform::{PLATFORMS, Platform};
use crate::report::{Screen, Tone};

/// The emulators of one package in one directory on a line of their own; where no package has
/// them, those of one version.
pub(super) fn show_qemu(qemu: &[Interpreter], screen: &mut Screen) -> io::Result<()> {
    if qemu.is_empty() {
        return field(screen, "QEMU", Some(Tone::Warning), "none found");
    }
    let mut groups: BTreeMap<(String, String), Vec<&Interpreter>> = BTreeMap::new();
    for interpreter in qemu {
        let directory = interpreter.path.parent().map(|dir| dir.display().to_string()).unwrap_or_default();
        groups.entry((directory, origin(interpreter))).or_default().push(interpreter);
    }
    for (number, ((directory, origin), members)) in groups.iter().enumerate() {
        field(screen, if number == 0 { "QEMU" } else { "" }, None, origin)?;
        let count =
            if members.len() == 1 { "1 user emulator".into() } else { format!("{} user emulators", members.len()) };
        let runs = |platform: &&Platform| members.iter().any(|i| i.runs == Some(*platform));
        let mut kinds: Vec<_> = PLATFORMS.iter().filter(runs).map(|p| p.oci.to_owned()).collect();
        let rarer = members.len() - kinds.len();
        kinds.extend((rarer > 0).then(|| format!("{rarer} more")));
        let text = format!("{count} in {directory}: {}", kinds.join(", "));
        field(screen, "", None, &text)?;
    }
    Ok(())
}

/// Where an interpreter comes from, and its version.
fn origin(interpreter: &Interpreter) -> String {
    let version = match (&interpreter.version, &interpreter.version_unknown) {
        (Some(version), _) => version.clone(),
        (None, Some(why)) => format!("version unknown ({why})"),
        (None, None) => "version unknown".to_owned(),
    };
    match &interpreter.package {
        Some(package) => format!("{package} {version}"),
        None if interpreter.version.is_none() => format!("from no package, {version}"),
        None => format!("{version}, from no package"),
    }
}

pub(super) fn show_translators(translators: &[Interpreter], screen: &mut Screen) -> io::Result<()> {
    if translators.is_empty() {
        return field(screen, "Others", Some(Tone::Faint), "neither box64, box86, FEX nor Rosetta");
    }
    translators.iter().try_for_each(|i| field(screen, &i.name, None, &format!("{}: {}", i.path.display(), origin(i))))
}

pub(super) fn show_engine(engine: &Engine, screen: &mut Screen) -> io::Result<()> {
    let label = engine.kind.program();
    if engine.stands_for_podman {
        return field(screen, label, None, &format!("{} runs podman", engine.path.display()));
    }
    let client = engine.client_version.as_deref().unwrap_or("of unknown version");
    field(screen, label, None, &format!("{client}, {}", engine.path.display()))?;
    let (tone, server) = server_text(engine);
    field(screen, "", Some(tone), &server)?;
    match &engine.endpoint {
        Some(endpoint) if !server.contains(endpoint) => field(screen, "", None, endpoint),
        _ => Ok(()),
    }
}

fn server_text(engine: &Engine) -> (Tone, String) {
    match &engine.state {
        State::NotAsked(why) => (Tone::Unknown, format!("engine not asked: {why}")),
        State::Unreachable(why) => (Tone::Warning, format!("engine not reachable: {why}")),
        State::Answered => {
            let version = engine.server_version.as_deref().unwrap_or("of unknown version");
            let platform = engine.server_platform.as_deref().unwrap_or("an unknown platform");
            let rights = match engine.rootless {
                Some(true) => "rootless",
                Some(false) => "as root",
                None => "rootless or not is unknown",
            };
            (Tone::Good, format!("server {version} on {platform}, {rights}"))
        }
    }
}
