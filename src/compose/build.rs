// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the `build:` of a service says, and which images its Dockerfile builds on.

use std::path::PathBuf;

use super::dockerfile::{self, Recipe};
use super::paths::is_remote;
use super::service::{Facts, names, text, values};
use super::yaml::{Map, Node, Tag};
use super::{Base, Build, ComposeError, Context, Dockerfile, Remark, merge, text_of_file};
use crate::oci::platform::ImagePlatform;

/// The `build:` of the service `name`; none where it says nothing.
pub(super) fn of_node(
    name: &str,
    node: &Node,
    platform: Option<&str>,
    facts: &mut Facts<'_>,
    remarks: &mut Vec<Remark>,
) -> Result<Option<Build>, ComposeError> {
    if node.is_null() {
        return Ok(None);
    }
    let node = merge::build(node.clone());
    let place = &node.place;
    let map: &Map = node
        .as_map()
        .ok_or_else(|| ComposeError::wrong(place, format!("`build` is a folder or a mapping, not {}", node.kind())))?;
    let get = |key: &str| map.get(key).filter(|node| node.tag != Tag::Reset);
    let context = text(get("context"), "context")?.unwrap_or_else(|| ".".to_owned());
    let context = if is_remote(&context) { Context::Remote(context) } else { Context::Folder(PathBuf::from(context)) };
    let file = text(get("dockerfile"), "dockerfile")?.unwrap_or_else(|| "Dockerfile".to_owned());
    let dockerfile = match (text(get("dockerfile_inline"), "dockerfile_inline")?, &context) {
        (Some(text), _) => Dockerfile::Inline(text),
        (None, _) if is_remote(&file) => Dockerfile::Remote(file),
        (None, Context::Folder(folder)) => Dockerfile::File(folder.join(file)),
        (None, Context::Remote(_)) => Dockerfile::Remote(file),
    };
    let given = |(name, value): (String, Option<String>)| {
        let value = value.or_else(|| facts.variables.get(&name).cloned())?;
        Some((name, value))
    };
    let args = values(get("args"))?.into_iter().filter_map(given).collect();
    let contexts = values(get("additional_contexts"))?;
    let platforms = names(get("platforms"), "platforms")?;
    let mut build = Build {
        built_for: built_for(platform, &platforms, facts),
        context,
        dockerfile,
        platforms,
        target: text(get("target"), "target")?,
        args,
        additional_contexts: contexts.into_iter().map(|(name, value)| (name, value.unwrap_or_default())).collect(),
        bases: Ok(Vec::new()),
    };
    let mut notes = Vec::new();
    build.bases = bases(&build, facts, &mut notes);
    remarks.extend(notes.into_iter().map(|note| Remark::new(note).at(place).of(name)));
    Ok(Some(build))
}

/// What `docker compose up` builds for: the service's platform, else the default one, else this host's where it is among
/// those of the build (or there are none), else the first of them.
fn built_for(platform: Option<&str>, platforms: &[String], facts: &Facts<'_>) -> String {
    let default = facts.variables.get("DOCKER_DEFAULT_PLATFORM").map(String::as_str).filter(|name| !name.is_empty());
    if let Some(named) = platform.or(default) {
        return named.to_owned();
    }
    let is_host = |name: &&String| name.parse::<ImagePlatform>().is_ok_and(|platform| platform == *facts.host);
    match platforms {
        [] => facts.host.to_string(),
        [first, ..] => platforms.iter().find(is_host).unwrap_or(first).clone(),
    }
}

fn bases(build: &Build, facts: &mut Facts<'_>, notes: &mut Vec<String>) -> Result<Vec<Base>, String> {
    let (text, name) = match &build.dockerfile {
        Dockerfile::Inline(text) => (text.clone(), "dockerfile_inline".to_owned()),
        Dockerfile::File(file) => {
            let name = file.display().to_string();
            (text_of_file(file).map_err(|error| format!("{name}: {error}"))?, name)
        }
        Dockerfile::Remote(file) => {
            let context = match &build.context {
                Context::Remote(context) => format!("{context}, "),
                Context::Folder(_) => String::new(),
            };
            return Err(format!("its Dockerfile is not on this host: {context}{file}"));
        }
    };
    if facts.budget.take_text(text.len()).is_err() {
        return Err(format!("{name} is not read: the Dockerfiles of this project are too large together"));
    }
    let recipe = Recipe {
        args: &build.args,
        contexts: &build.additional_contexts,
        target: build.target.as_deref(),
        platform: build.built_for.parse().map_err(|error| format!("`{}`: {error}", build.built_for))?,
        host: facts.host.clone(),
    };
    let mut found = Vec::new();
    let bases =
        dockerfile::bases(&text, &recipe, facts.budget, &mut found).map_err(|error| format!("{name}: {error}"))?;
    notes.extend(found.into_iter().map(|note| format!("{name}:{note}")));
    Ok(bases)
}
