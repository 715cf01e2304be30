// SPDX-License-Identifier: MIT OR Apache-2.0
//! Any file can stand in binfmt.d; each of its rules, written by us, is read as that rule again.

#![no_main]

use libfuzzer_sys::fuzz_target;
use qemu_persist::binfmt::fragment::{parse, render};

fuzz_target!(|text: &str| {
    let content = parse(text);
    assert!(content.broken.iter().all(|(line, _)| (1..=text.lines().count()).contains(line)));
    for rule in content.rules {
        let again = parse(&render(&rule));
        assert!(again.ours && again.broken.is_empty());
        assert_eq!(again.rules, [rule]);
    }
});
