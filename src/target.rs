// SPDX-License-Identifier: MIT OR Apache-2.0
//! Targets: what is wanted here, each a platform or a handler from the configuration.

use crate::binfmt::rule::{PROGRAM_HEAD, Pattern, Rule};
use crate::config::Config;
use crate::platform::Platform;

/// One thing that is wanted to work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// How people and scripts know it: `linux/amd64`, or the handler's name.
    pub subject: String,
    /// The conventional name of its entry and fragment.
    pub name: String,
    /// What programs it is about.
    pub pattern: Pattern,
    /// The platform, for a known one.
    pub platform: Option<&'static Platform>,
    /// The rule in full, for a handler from the configuration.
    pub rule: Option<Rule>,
    /// Beginnings of programs that have to be run: of a platform one at a fixed address and a
    /// position-independent one.
    pub heads: Vec<Vec<u8>>,
}

impl Target {
    fn of_platform(platform: &'static Platform) -> Self {
        Self {
            subject: platform.to_string(),
            name: platform.handler_name(),
            pattern: Pattern { offset: 0, magic: platform.magic.to_vec(), mask: platform.mask.to_vec() },
            platform: Some(platform),
            rule: None,
            heads: platform.sample_headers().map(|head| head.to_vec()).to_vec(),
        }
    }

    fn of_rule(rule: &Rule) -> Self {
        let Pattern { offset, magic, mask } = &rule.pattern;
        let mut head = vec![0; PROGRAM_HEAD];
        for (at, (magic, mask)) in magic.iter().zip(mask).enumerate() {
            head[offset + at] = magic & mask;
        }
        Self {
            subject: rule.name.clone(),
            name: rule.name.clone(),
            pattern: rule.pattern.clone(),
            platform: None,
            rule: Some(rule.clone()),
            heads: vec![head],
        }
    }

    /// Everything that `config` wants on a host that runs `native` by itself.
    pub fn all(config: &Config, native: &[&'static Platform]) -> Vec<Self> {
        let platforms = config.wanted(native).into_iter().map(Self::of_platform);
        let handlers = config.handlers.iter().map(|handler| Self::of_rule(&handler.rule));
        platforms.chain(handlers).collect()
    }

    /// Whether `pattern` takes one of its programs.
    pub fn is_taken_by(&self, pattern: &Pattern) -> bool {
        self.heads.iter().any(|head| pattern.matches(head))
    }

    /// Whether this is one of `platforms`, or all are meant.
    pub fn is_among(&self, platforms: &[&'static Platform]) -> bool {
        platforms.is_empty() || self.platform.is_some_and(|p| platforms.contains(&p))
    }
}
