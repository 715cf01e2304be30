// SPDX-License-Identifier: MIT OR Apache-2.0
//! The drop-in that `enable` and `disable` keep: what was asked for besides the files of others.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use thiserror::Error;

use super::problem::ConfigError;
use super::resolve::{Source, resolve, resolve_part};
use super::{DROP_IN_DIRECTORIES, written};
use crate::files::Root;
use crate::platform::Platform;

/// The drop-in's name in the first of [`DROP_IN_DIRECTORIES`].
pub const NAME: &str = "90-enabled.toml";

/// How it begins, by which it is known again.
const HEADER: &str = "# Written by `qemu-persist enable` and `qemu-persist disable`.";

/// Why platforms cannot be enabled or disabled.
#[derive(Debug, Error)]
pub enum ToggleError {
    /// The configuration cannot be read as it is.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A file of that name is there, and somebody else wrote it.
    #[error(
        "{0} was not written by this program, or was changed to say more: rename it (to 50-local.toml, for example)"
    )]
    Foreign(PathBuf),
    /// A file that is read later says otherwise.
    #[error("{file} {says} {platform}, and is read after {NAME}: change it there")]
    Overruled {
        /// That file.
        file: PathBuf,
        /// What it does with the platform, `enables` or `disables`.
        says: &'static str,
        /// The platform.
        platform: &'static Platform,
    },
}

/// What the drop-in has to become.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Edit {
    /// This text.
    Write(String),
    /// It has nothing left to say.
    Remove,
}

/// Where the drop-in is.
pub fn path() -> PathBuf {
    Path::new(DROP_IN_DIRECTORIES[0]).join(NAME)
}

/// What makes the platforms of `enable` wanted and those of `disable` unwanted on a host that runs
/// those of `native` by itself; none where the drop-in need not change for it. What the other files
/// say already is not said again. A platform that the host runs by itself is noted, but never among
/// the wanted ones.
///
/// # Errors
/// See [`ToggleError`].
pub fn plan_toggle(
    root: &Root,
    native: &[&'static Platform],
    enable: &[&'static Platform],
    disable: &[&'static Platform],
) -> Result<Option<Edit>, ToggleError> {
    let path = path();
    let shown = root.outside(&path);
    let (mut sources, problems) = super::read(root);
    resolve_part(&sources, problems)?;
    // Another layer's file of this name is in force as long as ours is not there.
    let old = sources.iter().position(|source| source.path.file_name() == path.file_name());
    let old = old.map(|at| sources.remove(at));
    let (mut on, mut off) = match &old {
        Some(old) => lists(old).ok_or_else(|| ToggleError::Foreign(old.shown.clone()))?,
        // A mask.
        None if root.link_metadata(&path).is_ok() => return Err(ToggleError::Foreign(shown)),
        None => (Vec::new(), Vec::new()),
    };

    let others = resolve_part(&sources, Vec::new())?;
    let wanted = others.wanted(native);
    for platform in enable.iter().copied() {
        off.retain(|p| *p != platform);
        if !wanted.contains(&platform) && !others.names(platform) && !on.contains(&platform) {
            on.push(platform);
        }
    }
    for platform in disable.iter().copied() {
        on.retain(|p| *p != platform);
        if (wanted.contains(&platform) || others.names(platform)) && !off.contains(&platform) {
            off.push(platform);
        }
    }

    let lower = DROP_IN_DIRECTORIES[1..].iter().any(|directory| root.exists(&Path::new(directory).join(NAME)));
    let new = (lower || !on.is_empty() || !off.is_empty()).then(|| render(&on, &off));
    let unchanged = old.as_ref().map(lists).is_some_and(|old| new.is_some() && old == Some((on, off)));
    let content = new.clone().unwrap_or_default().into_bytes();
    check(root, &sources, Source { path: path.clone(), shown, content }, enable, disable)?;
    if unchanged || (old.is_none() && new.is_none()) {
        return Ok(None);
    }
    Ok(Some(new.map_or(Edit::Remove, Edit::Write)))
}

/// Whether the configuration with `ours` in it says what was asked for.
fn check(
    root: &Root,
    others: &[Source],
    ours: Source,
    enable: &[&'static Platform],
    disable: &[&'static Platform],
) -> Result<(), ToggleError> {
    let main_file = |source: &Source| source.path.ends_with(super::MAIN_FILE);
    let before = |source: &&Source| main_file(source) || source.path.file_name() < ours.path.file_name();
    let at = others.iter().filter(before).count();
    let mut all = others.to_vec();
    all.insert(at, ours);
    let loaded = resolve(&all, Vec::new())?;
    for (asked, overruling, key, says) in
        [(enable, &loaded.config.disable, "disable", "disables"), (disable, &loaded.config.enable, "enable", "enables")]
    {
        if let Some(platform) = asked.iter().copied().find(|p| overruling.contains(p)) {
            let file = loaded.origins.get(&format!("{key}.{}", platform.oci));
            let file = file.map(|file| root.outside(file)).unwrap_or_default();
            return Err(ToggleError::Overruled { file, says, platform });
        }
    }
    Ok(())
}

type Lists = (Vec<&'static Platform>, Vec<&'static Platform>);

/// What a drop-in of ours enables and disables; none where it is not ours or says more than that.
fn lists(source: &Source) -> Option<Lists> {
    let mut problems = Vec::new();
    let written = written::parse(&source.shown, &source.content, &mut problems);
    let ours = source.content.starts_with(HEADER.as_bytes()) || !source.path.starts_with(DROP_IN_DIRECTORIES[0]);
    (ours && problems.is_empty() && written.only_toggles()).then_some((written.enable, written.disable))
}

fn render(on: &[&'static Platform], off: &[&'static Platform]) -> String {
    let mut text =
        format!("{HEADER}\n# Changes are kept, but write anything else into a file of your own beside it.\n");
    for (key, platforms) in [("enable", on), ("disable", off)] {
        if !platforms.is_empty() {
            let names: Vec<_> = platforms.iter().map(|p| format!("\"{}\"", p.oci)).collect();
            let _ = writeln!(text, "{key} = [{}]", names.join(", "));
        }
    }
    text
}
