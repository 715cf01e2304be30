// SPDX-License-Identifier: MIT OR Apache-2.0
//! Native instead of emulated: other tags of the same repository, and the same application by LinuxServer.io.

use std::cmp::Ordering;

use serde::Serialize;

use super::check::{Checker, Search};
use super::verdict::{Verdict, judge};
use crate::oci::platform::ImagePlatform;
use crate::oci::reference::{DOCKER_HUB, Reference};

/// Registries whose images are for everybody: the names of others are told to nobody else.
const PUBLIC: [&str; 3] = [DOCKER_HUB, "ghcr.io", "quay.io"];

/// What runs natively in place of an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alternative {
    /// The image.
    pub reference: Reference,
    /// The platform of it that runs.
    pub platform: ImagePlatform,
    /// How sure it is that it does the same.
    pub sureness: Sureness,
}

/// How sure it is that an image does the same as another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "assets", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Sureness {
    /// It is another tag of the same repository: most likely another version.
    SameRepository,
    /// It has the name of the application, and somebody else has packed it.
    SameName,
}

impl Sureness {
    /// What there is to know before it is used.
    pub fn caution(self) -> &'static str {
        match self {
            Self::SameRepository => "the same repository, probably another version",
            Self::SameName => "the same name, packed by LinuxServer.io: its volumes and variables differ",
        }
    }
}

/// Looks for what runs natively in place of `reference`.
pub(super) fn find(checker: &Checker<'_>, reference: &Reference) -> Vec<Alternative> {
    let mut found: Vec<Alternative> = Vec::new();
    let mut tags: Vec<String> = vec!["latest".to_owned()];
    if let Search::Tags(most) = checker.search {
        let mut listed = checker.registries.tags(reference).unwrap_or_default();
        listed.retain(|tag| tag != "latest");
        listed.sort_by(|one, other| newest_first(one, other));
        tags.extend(listed.into_iter().take(most));
    }
    let others = tags.iter().filter(|tag| reference.digest().is_some() || Some(tag.as_str()) != reference.tag());
    let others = others.map(|tag| (reference.with_tag(tag), Sureness::SameRepository));
    let repacked = format!("lscr.io/linuxserver/{}", reference.name()).parse::<Reference>().ok();
    let repacked = repacked.filter(|_| PUBLIC.contains(&reference.registry()));
    for (other, sureness) in others.chain(repacked.map(|repacked| (repacked, Sureness::SameName))) {
        let Ok(image) = checker.look(&other) else { continue };
        let outcome = judge(&image.platforms, checker.host);
        if let (Verdict::Native, None, Some(platform)) = (outcome.verdict, outcome.danger, outcome.platform) {
            found.push(Alternative { reference: other, platform, sureness });
        }
    }
    found
}

/// Orders tags as versions, the newest first: numbers in them count as such, and what has none comes last.
fn newest_first(one: &str, other: &str) -> Ordering {
    let has_number = |tag: &str| tag.starts_with(|c: char| c.is_ascii_digit()) || tag.starts_with('v');
    has_number(other).cmp(&has_number(one)).then_with(|| natural(other, one))
}

fn natural(one: &str, other: &str) -> Ordering {
    let (mut one, mut other) = (one.trim_start_matches('v'), other.trim_start_matches('v'));
    loop {
        let digits = |text: &str| text.bytes().take_while(u8::is_ascii_digit).count();
        match (digits(one), digits(other)) {
            (0, 0) => {
                let (Some(a), Some(b)) = (one.chars().next(), other.chars().next()) else {
                    // `1.2` is newer than `1.2-rc1`, and older than `1.2.1`.
                    return match (one.chars().next(), other.chars().next()) {
                        (None, Some('-')) => Ordering::Greater,
                        (Some('-'), None) => Ordering::Less,
                        (a, b) => a.cmp(&b),
                    };
                };
                if a != b {
                    return a.cmp(&b);
                }
                (one, other) = (&one[a.len_utf8()..], &other[b.len_utf8()..]);
            }
            (length, other_length) => {
                let (a, b) = (one[..length].trim_start_matches('0'), other[..other_length].trim_start_matches('0'));
                let order = a.len().cmp(&b.len()).then_with(|| a.cmp(b));
                if order != Ordering::Equal {
                    return order;
                }
                (one, other) = (&one[length..], &other[other_length..]);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn tags_are_ordered_as_versions() {
        let mut tags = vec!["1.9", "stable", "v2.0.0", "1.10", "1.10-rc1", "1.10.1", "alpine", "20240101"];
        tags.sort_by(|one, other| newest_first(one, other));
        assert_eq!(tags, ["20240101", "v2.0.0", "1.10.1", "1.10", "1.10-rc1", "1.9", "stable", "alpine"]);
    }

    proptest! {
        #[test]
        fn the_order_is_one(tags in prop::collection::vec("[v0-9a.-]{0,6}", 3)) {
            let [a, b, c] = [&tags[0], &tags[1], &tags[2]];
            prop_assert_eq!(newest_first(a, b), newest_first(b, a).reverse());
            if newest_first(a, b).is_le() && newest_first(b, c).is_le() {
                prop_assert!(newest_first(a, c).is_le(), "{} {} {}", a, b, c);
            }
        }
    }
}
