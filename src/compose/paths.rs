// SPDX-License-Identifier: MIT OR Apache-2.0
//! Paths in Compose files.

use std::path::Path;

use super::merge;
use super::surroundings::plain;
use super::yaml::{Node, Tag, Value};

/// Whether a path is no file or folder of this host: a Git repository, an archive, an artifact of a registry. The same
/// tests as Docker's (github.com/compose-spec/compose-go, paths/context.go).
pub(super) fn is_remote(path: &str) -> bool {
    ["https://", "http://", "git://", "ssh://", "github.com/", "git@", "oci://"]
        .iter()
        .any(|head| path.starts_with(head))
}

/// Paths of builds are those from the folder of the file where they stand.
pub(super) fn resolve(service: &mut Node, directory: &Path) {
    let Value::Map(service) = &mut service.value else { return };
    let absolute = |node: &mut Node| {
        if let Value::Text { text, .. } = &mut node.value {
            if !is_remote(text) && !text.contains("://") && !text.starts_with("service:") {
                *text = plain(&directory.join(&*text)).to_string_lossy().into_owned();
            }
        }
    };
    if let Some(Node { value: Value::Map(extends), .. }) = service.get_mut("extends") {
        extends.get_mut("file").into_iter().for_each(absolute);
    }
    let Some(build) = service.remove("build") else { return };
    let mut build = merge::build(build);
    if let Value::Map(build) = &mut build.value {
        build.get_mut("context").into_iter().for_each(absolute);
        if let Some(contexts) = build.remove("additional_contexts") {
            let place = contexts.place.clone();
            if let Ok(mut map) = merge::pairs(contexts) {
                map.values_mut().for_each(absolute);
                build.insert("additional_contexts".to_owned(), Node { value: Value::Map(map), tag: Tag::None, place });
            }
        }
    }
    service.insert("build".to_owned(), build);
}

/// A build that says no context has the folder of its project.
pub(super) fn give_context(service: &mut Node) {
    let Value::Map(service) = &mut service.value else { return };
    if let Some(Node { value: Value::Map(build), place, .. }) = service.get_mut("build") {
        build.entry("context".to_owned()).or_insert_with(|| Node::text(".", place.clone()));
    }
}
