// SPDX-License-Identifier: MIT OR Apache-2.0
//! A text is a rule or none, and what a rule is written as is that rule again.

#![no_main]

use libfuzzer_sys::fuzz_target;
use qemu_persist::binfmt::rule::Rule;

fuzz_target!(|text: &str| {
    let Ok(rule) = Rule::parse(text) else { return };
    assert_eq!(rule.check(), Ok(()));
    assert_eq!(Rule::parse(&rule.to_string()), Ok(rule));
});
