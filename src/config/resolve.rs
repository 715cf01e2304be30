// SPDX-License-Identifier: MIT OR Apache-2.0
//! From what was written to what is meant: files are merged in their order, later ones win.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::problem::{ConfigError, Place, Problem};
use super::written::{self, Asked, Written};
use super::{AUTO_ANYWHERE, Config, CustomHandler, Loaded};
use crate::platform::{PLATFORMS, Platform};

/// The content of a file, its path within the tree, and its name in messages.
#[derive(Clone)]
pub(super) struct Source {
    pub(super) path: PathBuf,
    pub(super) shown: PathBuf,
    pub(super) content: Vec<u8>,
}

/// Merges `sources`. `problems` are those that came up in reading them.
pub(super) fn resolve(sources: &[Source], mut problems: Vec<Problem>) -> Result<Loaded, ConfigError> {
    let merged = merge(sources, &mut problems);
    problems.extend(merged.name_conflicts());
    if problems.is_empty() {
        let files = sources.iter().map(|s| s.path.clone()).collect();
        Ok(Loaded { config: merged.config, origins: merged.origins, files })
    } else {
        Err(error(sources, problems))
    }
}

/// What `sources` say together, whether or not it can be used so: some of the files may be left out.
pub(super) fn resolve_part(sources: &[Source], mut problems: Vec<Problem>) -> Result<Config, ConfigError> {
    let merged = merge(sources, &mut problems);
    if problems.is_empty() { Ok(merged.config) } else { Err(error(sources, problems)) }
}

fn error(sources: &[Source], problems: Vec<Problem>) -> ConfigError {
    ConfigError { problems, files: sources.iter().map(|s| s.shown.clone()).collect() }
}

fn merge(sources: &[Source], problems: &mut Vec<Problem>) -> Merged {
    let mut merged = Merged::default();
    for source in sources {
        let written = written::parse(&source.shown, &source.content, problems);
        merged.add(&source.path, written);
    }
    merged
}

#[derive(Default)]
struct Merged {
    config: Config,
    origins: BTreeMap<String, PathBuf>,
    /// Where the names of the handlers are, in their order.
    places: Vec<Place>,
}

impl Merged {
    fn add(&mut self, path: &Path, written: Written) {
        fn set<T>(value: Option<T>, slot: &mut T, key: &str) -> Option<String> {
            value.map(|value| {
                *slot = value;
                key.to_owned()
            })
        }
        let platforms = written.platforms.map(|asked| match asked {
            Asked::Auto => None,
            Asked::Listed(platforms) => Some(platforms),
        });
        let config = &mut self.config;
        let mut keys: Vec<String> = [
            set(platforms, &mut config.platforms, "platforms"),
            set(written.take_over, &mut config.take_over, "take_over"),
            set(written.credentials, &mut config.credentials, "credentials"),
            set(written.emulator, &mut config.emulator, "emulator"),
            set(written.proof_max_age, &mut config.proof_max_age, "proof_max_age"),
            set(written.selftest_runtime, &mut config.selftest_runtime, "selftest.runtime"),
            set(written.selftest_timeout, &mut config.selftest_timeout, "selftest.timeout"),
            set(
                written.large_pages_are_critical,
                &mut config.large_pages_are_critical,
                "selftest.large_pages_are_critical",
            ),
            set(written.back_off_after, &mut config.back_off_after, "service.back_off_after"),
        ]
        .into_iter()
        .flatten()
        .collect();
        let mut toggle = |wanted: Vec<&'static Platform>, enabled: bool| {
            let (to, from) = if enabled {
                (&mut config.enable, &mut config.disable)
            } else {
                (&mut config.disable, &mut config.enable)
            };
            let (name, other) = if enabled { ("enable", "disable") } else { ("disable", "enable") };
            for platform in wanted {
                from.retain(|p| *p != platform);
                self.origins.remove(&format!("{other}.{}", platform.oci));
                if !to.contains(&platform) {
                    to.push(platform);
                }
                keys.push(format!("{name}.{}", platform.oci));
            }
        };
        toggle(written.enable, true);
        toggle(written.disable, false);
        for (platform, interpreter) in written.interpreters {
            keys.push(format!("interpreters.{}", platform.oci));
            match config.interpreters.iter_mut().find(|(p, _)| *p == platform) {
                Some((_, old)) => *old = interpreter,
                None => config.interpreters.push((platform, interpreter)),
            }
        }
        for (rule, place) in written.handlers {
            keys.push(format!("handler.{}", rule.name));
            if let Some(at) = config.handlers.iter().position(|h| h.rule.name == rule.name) {
                (config.handlers[at].rule, self.places[at]) = (rule, place);
            } else {
                config.handlers.push(CustomHandler { rule });
                self.places.push(place);
            }
        }
        self.origins.extend(keys.into_iter().map(|key| (key, path.to_owned())));
    }

    /// Handlers with the name of one that a wanted platform gets. What `"auto"` means depends on the
    /// host, and whether a configuration is right must not: whatever it may want anywhere counts.
    fn name_conflicts(&self) -> Vec<Problem> {
        let Config { platforms, enable, disable, .. } = &self.config;
        let may_want = |p: &'static Platform| {
            let listed = platforms.as_ref().map_or_else(|| AUTO_ANYWHERE.contains(&p.oci), |list| list.contains(&p));
            (listed || enable.contains(&p)) && !disable.contains(&p)
        };
        let handlers = self.config.handlers.iter().zip(&self.places);
        handlers
            .filter_map(|(handler, place)| {
                let name = &handler.rule.name;
                let platform = PLATFORMS.iter().find(|p| p.handler_name() == *name && may_want(p))?;
                let message = format!(
                    "\"{name}\" is the name of the handler that {platform} gets, which `platforms` or `enable` may \
                     ask for: choose another name, or put \"{}\" into `disable`",
                    platform.oci
                );
                Some(Problem::new(place.clone(), message))
            })
            .collect()
    }
}
