// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a service says, out of what was read.

use std::collections::{BTreeMap, BTreeSet};

use super::surroundings::Variables;
use super::yaml::{Budget, Map, Node, Tag, Value};
use super::{ComposeError, Place, Places, Remark, Service, build, merge};
use crate::oci::platform::ImagePlatform;

/// What a service is read with.
pub(super) struct Facts<'a> {
    pub(super) variables: &'a Variables,
    pub(super) host: &'a ImagePlatform,
    pub(super) budget: &'a mut Budget,
}

/// The service `name`, which is a mapping.
pub(super) fn of_node(
    name: &str,
    node: &Node,
    facts: &mut Facts<'_>,
    remarks: &mut Vec<Remark>,
) -> Result<Service, ComposeError> {
    let empty = Map::new();
    let map = node.as_map().unwrap_or(&empty);
    let get = |key: &str| map.get(key).filter(|node| node.tag != Tag::Reset);
    let place = |key: &str| get(key).map(|node| node.place.clone());
    if let Some(labels) = get("label_file") {
        let what = "the labels in its `label_file` are not read";
        remarks.push(Remark::new(what).at(&labels.place).of(name));
    }
    let platform = text(get("platform"), "platform")?;
    let build = get("build").map(|node| build::of_node(name, node, platform.as_deref(), facts, remarks)).transpose()?;
    Ok(Service {
        name: name.to_owned(),
        image: text(get("image"), "image")?,
        platform,
        build: build.flatten(),
        labels: labels(get("labels"))?,
        profiles: names(get("profiles"), "profiles")?,
        places: Places {
            service: Some(node.place.clone()),
            image: place("image"),
            platform: place("platform"),
            build: place("build"),
        },
    })
}

/// Whether what a service says so far is of the right kinds, which Compose asks of each file for itself.
pub(super) fn check(node: &Node) -> Result<(), ComposeError> {
    let Some(map) = node.as_map() else { return Ok(()) };
    let get = |map: &Map, key: &str| map.get(key).filter(|node| node.tag != Tag::Reset).cloned();
    for key in ["image", "platform"] {
        text(get(map, key).as_ref(), key)?;
    }
    names(get(map, "profiles").as_ref(), "profiles")?;
    labels(get(map, "labels").as_ref())?;
    let Some(build) = get(map, "build").map(merge::build) else { return Ok(()) };
    let Some(map) = build.as_map() else {
        let what = format!("`build` is a folder or a mapping, not {}", build.kind());
        return Err(ComposeError::wrong(&build.place, what));
    };
    for key in ["context", "dockerfile", "dockerfile_inline", "target"] {
        text(get(map, key).as_ref(), key)?;
    }
    names(get(map, "platforms").as_ref(), "platforms")?;
    values(get(map, "args").as_ref())?;
    values(get(map, "additional_contexts").as_ref())?;
    Ok(())
}

/// A list of texts, each of which is there once.
pub(super) fn names(node: Option<&Node>, key: &str) -> Result<Vec<String>, ComposeError> {
    let Some(node) = node else { return Ok(Vec::new()) };
    let Value::List(list) = &node.value else {
        return Err(ComposeError::wrong(&node.place, format!("`{key}` must be a list of texts, not {}", node.kind())));
    };
    let (mut names, mut seen) = (Vec::new(), BTreeSet::new());
    for node in list {
        let name = text(Some(node), key)?.unwrap_or_default();
        if seen.insert(name.clone()) {
            names.push(name);
        }
    }
    Ok(names)
}

fn labels(node: Option<&Node>) -> Result<BTreeMap<String, String>, ComposeError> {
    Ok(values(node)?.into_iter().map(|(name, value)| (name, value.unwrap_or_default())).collect())
}

/// A mapping of texts, each of which may have none.
pub(super) fn values(node: Option<&Node>) -> Result<BTreeMap<String, Option<String>>, ComposeError> {
    let Some(node) = node else { return Ok(BTreeMap::new()) };
    if node.is_null() {
        return Err(ComposeError::wrong(&node.place, "a mapping or a list of NAME=VALUE is wanted here, not nothing"));
    }
    let map = merge::pairs(node.clone())?;
    map.into_iter().filter(|(_, node)| node.tag != Tag::Reset).map(|(name, node)| Ok((name, scalar(&node)?))).collect()
}

/// A text that is not empty; a number or truth is none, as Compose has it.
pub(super) fn text(node: Option<&Node>, key: &str) -> Result<Option<String>, ComposeError> {
    let Some(node) = node else { return Ok(None) };
    let wrong = |place: &Place, kind: &str| ComposeError::wrong(place, format!("`{key}` must be a text, not {kind}"));
    match &node.value {
        Value::Text { text, plain } if *plain && as_go(text).is_some() => {
            Err(wrong(&node.place, &format!("the number or truth {text}; write it in quotes")))
        }
        Value::Text { text, .. } => Ok(Some(text.clone()).filter(|text| !text.is_empty())),
        _ => Err(wrong(&node.place, node.kind())),
    }
}

/// A text, or a list of them.
pub(super) fn texts(node: Option<&Node>) -> Result<Vec<String>, ComposeError> {
    let Some(node) = node.filter(|node| node.tag != Tag::Reset) else { return Ok(Vec::new()) };
    let text = |node: &Node| match &node.value {
        Value::Text { text, .. } => Ok(text.clone()),
        _ => Err(ComposeError::wrong(&node.place, format!("a text is wanted here, not {}", node.kind()))),
    };
    match &node.value {
        Value::Null => Ok(Vec::new()),
        Value::List(list) => list.iter().map(text).collect(),
        _ => Ok(vec![text(node)?]),
    }
}

fn scalar(node: &Node) -> Result<Option<String>, ComposeError> {
    match &node.value {
        Value::Null => Ok(None),
        Value::Text { text, plain } => Ok(Some(as_go(text).filter(|_| *plain).unwrap_or_else(|| text.clone()))),
        _ => Err(ComposeError::wrong(&node.place, format!("a text is wanted here, not {}", node.kind()))),
    }
}

/// What Compose makes of a number or truth that stands without quotes, where a text is wanted: `1.10` becomes `1.1`.
/// None for what is neither.
pub(super) fn as_go(text: &str) -> Option<String> {
    match text {
        "true" | "True" | "TRUE" => return Some("true".to_owned()),
        "false" | "False" | "FALSE" => return Some("false".to_owned()),
        _ => {}
    }
    let (sign, digits) = match text.as_bytes().first()? {
        b'-' => ("-", &text[1..]),
        b'+' => ("", &text[1..]),
        _ => ("", text),
    };
    if !digits.starts_with(|c: char| c.is_ascii_digit() || c == '.') {
        return None;
    }
    let bare = digits.replace('_', "");
    let radix = |head: &str, radix| {
        let number = bare.strip_prefix(head).filter(|rest| !rest.starts_with(['+', '-']))?;
        i64::from_str_radix(number, radix).ok()
    };
    let whole = radix("0x", 16)
        .or_else(|| radix("0o", 8))
        .or_else(|| radix("0b", 2))
        .or_else(|| if bare.len() > 1 { radix("0", 8) } else { None })
        .or_else(|| radix("", 10));
    if let Some(number) = whole {
        return Some(format!("{}{number}", if number == 0 { "" } else { sign }));
    }
    let is_float = |c: char| c.is_ascii_digit() || "+-.eE".contains(c);
    let number: f64 = bare.parse().ok().filter(|_| digits.chars().all(is_float))?;
    let (mantissa, exponent) = { format!("{number:e}") }.split_once('e').map(|(m, e)| (m.to_owned(), e.to_owned()))?;
    let exponent: i32 = exponent.parse().ok()?;
    Some(if number != 0.0 && !(-4..21).contains(&exponent) {
        let way = if exponent < 0 { '-' } else { '+' };
        format!("{sign}{mantissa}e{way}{:02}", exponent.abs())
    } else {
        format!("{sign}{number}")
    })
}
