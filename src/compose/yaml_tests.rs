// SPDX-License-Identifier: MIT OR Apache-2.0

use std::fmt::Write as _;

use super::*;

fn read(text: &str) -> Result<Vec<Node>, String> {
    parse(text, &Arc::from(Path::new("f.yaml")), &mut Budget::new()).map_err(|error| error.to_string())
}

fn show(node: &Node) -> String {
    match &node.value {
        Value::Null => "null".into(),
        Value::Text { text, .. } => text.clone(),
        Value::List(list) => format!("[{}]", list.iter().map(show).collect::<Vec<_>>().join(", ")),
        Value::Map(map) => {
            let entries: Vec<String> =
                map.iter().map(|(key, node)| format!("{key}@{}: {}", node.place.line, show(node))).collect();
            format!("{{{}}}", entries.join(", "))
        }
    }
}

#[test]
fn nodes_know_their_lines_and_merge_keys_fill_what_is_missing() {
    let text = "x: &a\n  image: one\n  b: 1\ny:\n  <<: *a\n  image: two\nz: {<<: [{b: 5}, *a]}\n\"<<\": q\n";
    assert_eq!(
        show(&read(text).unwrap()[0]),
        "{<<@8: q, x@1: {b@3: 1, image@2: one}, y@4: {b@3: 1, image@6: two}, z@7: {b@7: 5, image@2: one}}"
    );
    assert_eq!(read("a: 1\n---\nb: 2\n").unwrap().len(), 2);
    assert_eq!(read("").unwrap().len(), 0);
}

#[test]
fn mistakes_are_told_with_their_lines() {
    for (text, message) in [
        ("a: 1\nb: [\n", "f.yaml:"),
        ("a: 1\nb:\n  c: 1\n  c: 2\n", "f.yaml:4: the key `c` is here twice, first in line 3"),
        ("a: &x\n  b: *x\n", "f.yaml:2:"),
        ("a: *nothing\n", "f.yaml:1:"),
        ("[a, b]: 1\n", "f.yaml:1: a key is a text"),
        ("a:\n  <<: 5\n", "f.yaml:2: `<<` takes in mappings"),
        ("a: b: c\n", "f.yaml:1:"),
        ("a:\n\t- b\n", "f.yaml:2:"),
    ] {
        let error = read(text).unwrap_err();
        assert!(error.contains(message), "{text:?}: {error}");
    }
}

#[test]
fn hostile_files_end_soon() {
    let mut laughs = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..20 {
        let row = vec![format!("*a{}", level - 1); 10].join(", ");
        writeln!(laughs, "a{level}: &a{level} [{row}]").unwrap();
    }
    assert!(read(&laughs).unwrap_err().contains("too large"));
    let text = "x".repeat(900_000);
    let long = format!("a: &a {text}\nb: [{}]\n", vec!["*a"; 20_000].join(","));
    assert!(read(&long).unwrap_err().contains("too large"));
    let merges = format!("a0: &a0 {{{}}}\n", (0..90).map(|n| format!("k{n}: 1")).collect::<Vec<_>>().join(", "))
        + &(0..4000).fold(String::new(), |text, n| text + &format!("m{n}: {{<<: *a0}}\n"));
    assert!(read(&merges).unwrap_err().contains("too large"));
    assert!(read(&"[".repeat(500_000)).is_err());
    assert!(read(&"{a: ".repeat(200_000)).is_err());
    assert!(read(&"- ".repeat(400_000)).is_err());
    assert!(read(&"? ".repeat(400_000)).is_err());
    assert!(read(&format!("a: {}", "&x ".repeat(300_000))).is_err());
    let steps = (0..900).fold(String::new(), |text, n| text + &" ".repeat(n) + "a:\n");
    assert!(read(&steps).unwrap_err().contains("nested too deeply"));
    assert!(read(&"\"".repeat(1_000_001)).is_err());
    assert!(read(&"a\n".repeat(400_000)).is_ok());
}
