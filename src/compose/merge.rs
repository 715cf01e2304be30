// SPDX-License-Identifier: MIT OR Apache-2.0
//! How one file's service is laid over another's (docs.docker.com/reference/compose-file/merge), for what is looked at.

use super::yaml::{Map, Node, Tag, Value};
use super::{ComposeError, Place};

/// What is kept of a service.
pub(super) const KEPT: [&str; 7] = ["build", "extends", "image", "label_file", "labels", "platform", "profiles"];

/// `over` laid over `base`, both services or whatever stands in one.
///
/// A value that `!reset` takes away stays as what it is, so that it also takes away what earlier files say; at the end it
/// reads as nothing.
pub(super) fn merge(base: Map, over: Map) -> Result<Map, ComposeError> {
    let mut merged = base;
    for (key, over) in over {
        let node = match merged.remove(&key) {
            Some(base) if over.tag == Tag::None => value(&key, base, over)?,
            _ => over,
        };
        merged.insert(key, node);
    }
    Ok(merged)
}

/// `node` as what others are laid over once its own file is read: its tags are for earlier files' words on the same
/// service, not for those on what extends or includes it (compose-go takes them by their path, loader/reset.go).
pub(super) fn settled(mut node: Node) -> Node {
    let kept = |node: &Node| node.tag != Tag::Reset;
    node.value = match node.value {
        Value::Map(map) => {
            Value::Map(map.into_iter().filter(|(_, node)| kept(node)).map(|(key, node)| (key, settled(node))).collect())
        }
        Value::List(list) => Value::List(list.into_iter().filter(kept).map(settled).collect()),
        other => other,
    };
    node.tag = Tag::None;
    node
}

fn value(key: &str, base: Node, over: Node) -> Result<Node, ComposeError> {
    if base.tag == Tag::Reset {
        return Ok(over);
    }
    let (base, over) = match key {
        "build" => (build(base), build(over)),
        "labels" | "args" | "additional_contexts" => {
            let (mut pairs, place) = (pairs(base)?, over.place.clone());
            pairs.extend(self::pairs(over)?);
            return Ok(Node { value: Value::Map(pairs), tag: Tag::None, place });
        }
        _ => (base, over),
    };
    if over.is_null() {
        return Ok(base);
    }
    let place = over.place.clone();
    let value = match (base.value, over.value) {
        (Value::Map(base), Value::Map(over)) => Value::Map(merge(base, over)?),
        (Value::List(mut base), Value::List(over)) => {
            base.extend(over);
            Value::List(base)
        }
        (Value::Null | Value::Text { .. }, over) => over,
        (Value::Map(_), over) => return Err(cannot(key, &place, "a mapping", &over)),
        (Value::List(_), over) => return Err(cannot(key, &place, "a list", &over)),
    };
    Ok(Node { value, tag: base.tag, place })
}

fn cannot(key: &str, place: &Place, base: &str, over: &Value) -> ComposeError {
    let over = Node { value: over.clone(), tag: Tag::None, place: place.clone() };
    ComposeError::wrong(place, format!("`{key}` is {base} elsewhere, over which {} cannot be laid", over.kind()))
}

/// `build: FOLDER` is short for `build: {context: FOLDER}`.
pub(super) fn build(node: Node) -> Node {
    match node.value {
        Value::Text { .. } => {
            let (tag, place) = (node.tag, node.place.clone());
            let map = Map::from([("context".to_owned(), Node { tag: Tag::None, ..node })]);
            Node { value: Value::Map(map), tag, place }
        }
        _ => node,
    }
}

/// A mapping, which may be written as a list of `NAME=VALUE`.
pub(super) fn pairs(node: Node) -> Result<Map, ComposeError> {
    let place = node.place;
    match node.value {
        Value::Null => Ok(Map::new()),
        Value::Map(map) => Ok(map),
        Value::List(list) => list.into_iter().map(|node| pair(&node)).collect(),
        Value::Text { .. } => Err(ComposeError::wrong(&place, "a mapping or a list of NAME=VALUE is wanted here")),
    }
}

fn pair(node: &Node) -> Result<(String, Node), ComposeError> {
    let Value::Text { text, .. } = &node.value else {
        return Err(ComposeError::wrong(&node.place, format!("NAME=VALUE is wanted here, not {}", node.kind())));
    };
    let place = node.place.clone();
    Ok(match text.split_once('=') {
        Some((name, value)) => (name.to_owned(), Node::text(value, place)),
        None => (text.clone(), Node { value: Value::Null, tag: Tag::None, place }),
    })
}
