// SPDX-License-Identifier: MIT OR Apache-2.0
//! What holds of the parsers whatever they are given: no panic, and reading what was written gives
//! the same again.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::{select, subsequence};

use qemu_persist::binfmt::entry::{Entry, Recognises};
use qemu_persist::binfmt::fragment;
use qemu_persist::binfmt::rule::{Flags, Pattern, Rule};
use qemu_persist::config::{Config, CustomHandler, Emulator, Loaded, Runtime};
use qemu_persist::files::Root;
use qemu_persist::platform::{PLATFORMS, Platform};
use qemu_persist::report::config::toml;

fn flags() -> impl Strategy<Value = Flags> {
    subsequence(vec!['P', 'O', 'C', 'F'], 0..=4)
        .prop_map(|letters| Flags::parse_lenient(&letters.iter().collect::<String>()).0)
}

fn interpreter() -> impl Strategy<Value = PathBuf> {
    r"/[[:print:]é\x{2028}&&[^:]]{0,40}".prop_map(PathBuf::from)
}

fn pattern() -> impl Strategy<Value = Pattern> {
    (vec((any::<u8>(), any::<u8>()), 1..40), 0_usize..200).prop_map(|(bytes, offset)| {
        let (magic, mask) = bytes.into_iter().unzip();
        Pattern { offset, magic, mask }
    })
}

fn rule() -> impl Strategy<Value = Rule> {
    (r"[!-~&&[^/:]]{1,30}", pattern(), interpreter(), flags())
        .prop_map(|(name, pattern, interpreter, flags)| Rule { name, pattern, interpreter, flags })
        .prop_filter("what the kernel takes", |rule| rule.check().is_ok())
}

/// Text made of the pieces that a parser looks for, in any order.
fn pieces(pieces: &'static [&'static str]) -> impl Strategy<Value = String> {
    vec(prop_oneof![4 => select(pieces).prop_map(str::to_owned), 1 => "[ -~]{0,6}", 1 => any::<char>().prop_map(String::from)], 0..40)
        .prop_map(|pieces| pieces.concat())
}

const RULE_PIECES: &[&str] = &[
    ":",
    ":M:",
    "M",
    "E",
    "::",
    "/usr/bin/qemu",
    r"\x7f",
    r"\xff",
    r"\x",
    "ELF",
    "POCF",
    "255",
    "name",
    "\n",
    "#",
    ";",
];
const ENTRY_PIECES: &[&str] = &[
    "enabled\n",
    "disabled\n",
    "interpreter ",
    "/usr/bin/qemu",
    "flags: ",
    "POCF",
    "offset ",
    "0",
    "255",
    "magic ",
    "7f45",
    "mask ",
    "ffff",
    "extension .",
    "jar",
    "\n",
    "\r\n",
    " ",
];
const CONFIG_PIECES: &[&str] = &[
    "platforms",
    "enable",
    "disable",
    "take_over",
    "credentials",
    "emulator",
    "'never'",
    "proof_max_age",
    "[interpreters]\n",
    "[selftest]\n",
    "[[handler]]\n",
    "[handler]\n",
    "runtime",
    "timeout",
    "large_pages_are_critical",
    "name",
    "magic",
    "mask",
    "offset",
    "interpreter",
    "flags",
    " = ",
    "'auto'",
    "true",
    "'8d'",
    "['amd64']",
    "[",
    "]",
    "{",
    "}",
    "'amd64'",
    "'x86_64'",
    ", ",
    "'/usr/bin/q'",
    r"'\x7fELF'",
    r"'\xff\xff\xff\xff'",
    "\"\\x7f\"",
    "255",
    "-1",
    "0x10",
    "'F'",
    "'PF'",
    "\n",
    "\n",
    "\n",
    "#",
    "\t",
    "\r\n",
    ".",
    "\"",
    "\"\"\"",
    "'",
    "1979-05-27",
    "1e9",
    "amd64",
    "'qemu-aarch64'",
];

fn platform() -> impl Strategy<Value = &'static Platform> {
    select(PLATFORMS.iter().collect::<Vec<_>>())
}

fn duration() -> impl Strategy<Value = Duration> {
    (0_u64..3_155_760_000, 0_u32..1_000_000_000)
        .prop_map(|(seconds, nanos)| Duration::new(seconds, nanos))
        .prop_filter("longer than nothing", |duration| !duration.is_zero())
}

fn config() -> impl Strategy<Value = Config> {
    let lists = (
        option::of(subsequence(PLATFORMS.iter().collect::<Vec<_>>(), 0..=10)),
        subsequence(PLATFORMS.iter().collect::<Vec<_>>(), 0..=10).prop_shuffle(),
        any::<prop::sample::Index>(),
    );
    let handlers = vec(rule(), 0..4).prop_map(|rules| {
        let rules: BTreeMap<_, _> = rules.into_iter().map(|rule| (rule.name.clone(), rule)).collect();
        rules.into_values().filter(|rule| !rule.name.starts_with("qemu-")).map(|rule| CustomHandler { rule }).collect()
    });
    let interpreters = vec((platform(), interpreter()), 0..4).prop_map(|list| {
        // Files have their tables in the order of their keys.
        let by_name: BTreeMap<_, _> = list.into_iter().map(|(p, path)| (p.oci, (p, path))).collect();
        by_name.into_values().collect()
    });
    let flags = (any::<bool>(), any::<bool>(), any::<bool>());
    let emulator = select(&Emulator::ALL[..]);
    let rest = (flags, emulator, duration(), select(&Runtime::ALL[..]), duration(), 1..=1_000_000_u32);
    (lists, handlers, interpreters, rest).prop_map(|((platforms, toggled, cut), handlers, interpreters, rest)| {
        let (enable, disable) = toggled.split_at(cut.index(toggled.len() + 1));
        let (flags, emulator, proof_max_age, selftest_runtime, selftest_timeout, back_off_after) = rest;
        let (take_over, credentials, large_pages_are_critical) = flags;
        Config {
            platforms,
            enable: enable.to_vec(),
            disable: disable.to_vec(),
            handlers,
            interpreters,
            take_over,
            credentials,
            emulator,
            proof_max_age,
            selftest_runtime,
            selftest_timeout,
            large_pages_are_critical,
            back_off_after,
        }
    })
}

/// Reads one file; whatever is wrong is told in text that can be shown.
fn read_config(content: &[u8]) -> Option<Config> {
    match Config::from_files([(Path::new("c.toml"), content)]) {
        Ok(loaded) => Some(loaded.config),
        Err(error) => {
            assert!(!error.problems.is_empty() && !error.summary().is_empty());
            assert!(error.to_string().chars().all(|c| c == '\n' || !c.is_control()));
            None
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_rule_is_read_as_it_was_written(rule in rule()) {
        prop_assert_eq!(Rule::parse(&rule.to_string()), Ok(rule));
    }

    #[test]
    fn any_text_is_a_rule_or_none(text in prop_oneof![any::<String>(), pieces(RULE_PIECES)]) {
        if let Ok(rule) = Rule::parse(&text) {
            prop_assert_eq!(rule.check(), Ok(()));
            prop_assert_eq!(Rule::parse(&rule.to_string()), Ok(rule));
        }
    }

    #[test]
    fn an_entry_is_read_as_the_kernel_shows_it(rule in rule(), enabled in any::<bool>(), extension in option::of("[a-z]{0,9}")) {
        let mut entry = Entry { enabled, ..Entry::of_rule(&rule) };
        if let Some(extension) = extension {
            entry.recognises = Recognises::Extension(extension);
        } else {
            prop_assert_eq!(entry.rule(), Some(rule));
        }
        prop_assert_eq!(Entry::parse(&entry.name, &entry.to_string()), Ok(entry));
    }

    #[test]
    fn any_text_is_an_entry_or_none(text in prop_oneof![any::<String>(), pieces(ENTRY_PIECES)]) {
        if let Ok(entry) = Entry::parse("name", &text) {
            prop_assert_eq!(Entry::parse("name", &entry.to_string()), Ok(entry));
        }
    }

    #[test]
    fn a_fragment_is_read_as_it_was_written(rule in rule()) {
        let content = fragment::parse(&fragment::render(&rule));
        prop_assert_eq!((content.ours, content.rules, content.broken), (true, vec![rule], vec![]));
    }

    #[test]
    fn any_text_is_a_fragment(text in prop_oneof![any::<String>(), pieces(RULE_PIECES)]) {
        let content = fragment::parse(&text);
        prop_assert!(content.broken.iter().all(|(line, _)| (1..=text.lines().count()).contains(line)));
        for rule in content.rules {
            prop_assert_eq!(fragment::parse(&fragment::render(&rule)).rules, vec![rule]);
        }
    }

    #[test]
    fn the_configuration_in_effect_can_be_loaded_again(config in config()) {
        let loaded = Loaded { config, ..Loaded::default() };
        let text = toml(&Root::live(), &loaded);
        let again = Config::from_files([(Path::new("c.toml"), text.as_bytes())]);
        prop_assert!(again.is_ok(), "{}\n{}", text, again.unwrap_err());
        prop_assert_eq!(again.unwrap().config, loaded.config);
    }

    #[test]
    fn any_bytes_are_a_configuration_or_none(content in prop_oneof![
        vec(any::<u8>(), 0..200),
        any::<String>().prop_map(String::into_bytes),
        pieces(CONFIG_PIECES).prop_map(String::into_bytes),
    ]) {
        read_config(&content);
    }

    #[test]
    fn one_wrong_byte_is_told_of_or_harmless(config in config(), at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let mut content = toml(&Root::live(), &Loaded { config, ..Loaded::default() }).into_bytes();
        let at = at.index(content.len());
        content[at] = byte;
        if let Some(config) = read_config(&content) {
            let text = toml(&Root::live(), &Loaded { config: config.clone(), ..Loaded::default() });
            prop_assert_eq!(read_config(text.as_bytes()), Some(config));
        }
    }
}
