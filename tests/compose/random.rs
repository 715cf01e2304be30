// SPDX-License-Identifier: MIT OR Apache-2.0
//! Small projects made at random: our own reader and Docker Compose say the same of each, or both refuse it.

use std::path::PathBuf;

use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use qemu_persist::compose::Question;

use super::{Bench, both};

fn word() -> impl Strategy<Value = String> {
    let words = [
        "x",
        "a:1",
        "$V",
        "${V}",
        "${V:-d}",
        "${E:-d}",
        "${E-d}",
        "${N:+r}",
        "${V:+r}",
        "${N:-${V}}",
        "$$V",
        "1.10",
        "010",
        "true",
        "null",
        "~",
        "0x1f",
        "-0",
        "1e3",
        "1_000",
        "yes",
        "a b",
        ".5",
        "+7",
        "2024-01",
        "''",
        "\"\"",
        "0o17",
        "1e30",
    ];
    prop::sample::select(words.to_vec()).prop_flat_map(|word| {
        let quoted = format!("'{}'", word.trim_matches(['\'', '"']));
        prop_oneof![Just(word.to_owned()), Just(quoted)]
    })
}

/// Entries of a mapping, or of a list of `NAME=VALUE`.
fn pairs() -> impl Strategy<Value = String> {
    let entries = prop::collection::btree_map("[a-c]", word(), 0..3);
    let tag = prop::sample::select(vec!["", "", "", "!override ", "!reset "]);
    (entries, any::<bool>(), tag).prop_map(|(entries, is_list, tag)| {
        let bare = |value: &String| value.trim_matches(['\'', '"']).to_owned();
        let rows: Vec<String> = entries
            .iter()
            .map(|(name, value)| if is_list { format!("'{name}={}'", bare(value)) } else { format!("{name}: {value}") })
            .collect();
        if is_list { format!("{tag}[{}]", rows.join(", ")) } else { format!("{tag}{{{}}}", rows.join(", ")) }
    })
}

fn build() -> impl Strategy<Value = String> {
    let long = (pairs(), prop::option::of("[a-b]")).prop_map(|(args, target)| {
        let target = target.map(|name| format!(", target: {name}")).unwrap_or_default();
        format!("{{context: ./ctx, args: {args}{target}}}")
    });
    prop_oneof![Just("./ctx".to_owned()), Just("{dockerfile: Other}".to_owned()), long]
}

fn service() -> impl Strategy<Value = String> {
    let image = word().prop_map(|word| format!("image: {word}"));
    let platform = prop::sample::select(vec!["linux/amd64", "linux/${V}", "!reset null", "!reset", "''"]);
    let profiles = prop::collection::btree_set("[p-r]", 0..3);
    let parts = (
        prop::option::weighted(0.8, image),
        prop::option::of(platform.prop_map(|platform| format!("platform: {platform}"))),
        prop::option::of(pairs().prop_map(|labels| format!("labels: {labels}"))),
        prop::option::of(build().prop_map(|build| format!("build: {build}"))),
        prop::option::of(profiles.prop_map(|names| format!("profiles: {:?}", names.into_iter().collect::<Vec<_>>()))),
        prop::option::weighted(0.2, "[s-u]".prop_map(|name| format!("extends: {name}"))),
    );
    parts.prop_map(|(a, b, c, d, e, f)| {
        let rows: Vec<String> = [a, b, c, d, e, f].into_iter().flatten().collect();
        rows.iter().fold(String::new(), |text, row| text + "    " + row + "\n")
    })
}

fn file() -> impl Strategy<Value = String> {
    prop::collection::btree_map("[s-u]", service(), 1..4).prop_map(|services| {
        services.iter().fold("services:\n".to_owned(), |text, (name, body)| {
            text + &if body.is_empty() { format!("  {name}: {{}}\n") } else { format!("  {name}:\n{body}") }
        })
    })
}

#[test]
fn both_readers_say_the_same_of_any_small_project() {
    let Some(bench) = Bench::new() else { return };
    let cases = std::env::var("PROPTEST_CASES").ok().and_then(|count| count.parse().ok()).unwrap_or(60);
    let config = Config { cases, failure_persistence: None, ..Config::default() };
    let at = bench.surroundings(&bench.project(), &[("V", "v"), ("E", "")]);
    let question = Question { files: vec!["1.yaml".into(), "2.yaml".into()], ..Question::default() };
    let one = Question { files: vec![PathBuf::from("1.yaml")], ..Question::default() };
    let counts = std::cell::Cell::new((0, 0));
    // The same projects each time, unless more are asked for: what is found by chance is a test of its own then.
    let mut runner = match std::env::var_os("PROPTEST_CASES") {
        None => TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha)),
        Some(_) => TestRunner::new(config),
    };
    runner
        .run(&(file(), file()), |(first, second)| {
            bench.write(&[("1.yaml", &first), ("2.yaml", &second)]);
            for question in [&one, &question] {
                let (read, refused) = counts.get();
                counts.set(match both(question, &at) {
                    Ok(_) => (read + 1, refused),
                    Err(_) => (read, refused + 1),
                });
            }
            Ok(())
        })
        .unwrap();
    let (read, refused) = counts.get();
    assert!(read > refused / 4, "of the projects {read} were read and {refused} refused: that proves little");
}
