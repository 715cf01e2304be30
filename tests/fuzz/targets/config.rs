// SPDX-License-Identifier: MIT OR Apache-2.0
//! Any bytes can stand in a configuration, in two files of which the second follows a line of `%%`:
//! they mean something that can be shown and loaded again, or every mistake is told.

#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use qemu_persist::config::{Config, ConfigError, Loaded};
use qemu_persist::files::Root;
use qemu_persist::platform::PLATFORMS;
use qemu_persist::report::config::toml;

fn load<'f>(files: impl IntoIterator<Item = (&'f str, &'f [u8])>) -> Result<Loaded, ConfigError> {
    Config::from_files(files.into_iter().map(|(path, content)| (Path::new(path), content)))
}

fuzz_target!(|bytes: &[u8]| {
    let cut = bytes.windows(4).position(|window| window == b"\n%%\n");
    let (first, second) = cut.map_or((bytes, &b""[..]), |at| (&bytes[..=at], &bytes[at + 4..]));
    let loaded = match load([("a.toml", first), ("b.toml", second)]) {
        Ok(loaded) => loaded,
        Err(error) => {
            assert!(!error.problems.is_empty());
            let text = error.to_string();
            assert!(text.chars().all(|c| c == '\n' || !c.is_control()), "{text:?}");
            return;
        }
    };
    let native = [&PLATFORMS[0]];
    assert!(!loaded.config.wanted(&native).contains(&native[0]));
    let text = toml(&Root::live(), &loaded);
    let again = load([("c.toml", text.as_bytes())]).unwrap_or_else(|error| panic!("{text}\n{error}"));
    // A file's tables are read in the order of their keys, whatever order they were merged in.
    let mut config = loaded.config;
    config.interpreters.sort_by_key(|(platform, _)| platform.oci);
    assert_eq!(again.config, config, "{text}");
});
