// SPDX-License-Identifier: MIT OR Apache-2.0
//! The README's screens of images and Compose files are what the program shows.

use crate::client::Client;
use crate::needs;
use crate::registries::{Flavour, PROGRAM, Platform, Registry};

const BOTH: [Platform<'static>; 2] = [("linux", "amd64", ""), ("linux", "arm64", "v8")];

/// What the README asks about, with the platforms that these images have at their registries.
const IMAGES: [(&str, &str, &[Platform<'static>]); 3] = [
    ("library/nginx", "1.27", &BOTH),
    ("library/mariadb", "11", &BOTH),
    ("mssql/server", "2022-latest", &[("linux", "amd64", "")]),
];

#[test]
fn the_screens_are_what_is_shown() {
    needs!(PROGRAM);
    let registry = Registry::plain().start();
    for (name, tag, platforms) in IMAGES {
        registry.content.index(name, tag, Flavour::Attested, platforms);
    }
    let client = Client::new();
    client.lead(&["docker.io", "mcr.microsoft.com"].map(|name| (name, registry.address())));
    client.write("project/.env", "");
    let readme = include_str!("../../README.md");
    let mut compared = Vec::new();
    for block in readme.split("```console\n").skip(1) {
        let screen = block.split("```").next().unwrap();
        // A file that is shown comes first, as `cat` shows it.
        let mut rest = screen;
        while let Some(after) = rest.strip_prefix("$ ") {
            let (command, after) = after.split_once('\n').unwrap();
            let end = after.find("\n$ ").map_or(after.len(), |at| at + 1);
            let (shown, next) = after.split_at(end);
            rest = next;
            let words: Vec<&str> = command.split(' ').collect();
            match words[..] {
                ["cat", file] => client.write(&format!("project/{file}"), shown),
                ["qemu-persist", verb @ ("image" | "compose"), ..] => {
                    let ran = client.run_in(&client.path("project"), &words[1..]);
                    assert_eq!(ran.out, shown, "{command}: {ran:?}");
                    compared.push(verb);
                }
                _ => {}
            }
        }
    }
    assert_eq!(compared, ["image", "compose"]);
}
