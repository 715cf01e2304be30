// SPDX-License-Identifier: MIT OR Apache-2.0
//! The kernel's text of an entry is read or refused, and what an entry is shown as is that entry
//! again.

#![no_main]

use libfuzzer_sys::fuzz_target;
use qemu_persist::binfmt::entry::Entry;

fuzz_target!(|text: &str| {
    let Ok(entry) = Entry::parse("name", text) else { return };
    assert_eq!(Entry::parse("name", &entry.to_string()), Ok(entry.clone()));
    if let Some(rule) = entry.rule() {
        assert!(entry.does_what(&rule));
        entry.matches(text.as_bytes());
    }
});
