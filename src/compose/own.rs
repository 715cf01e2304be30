// SPDX-License-Identifier: MIT OR Apache-2.0
//! Our own reader of Compose files.
//!
//! As compose-go has it (loader/loader.go): per file first variables, then `include`, then `extends`, then it is laid
//! over the files before it.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::interpolate::{Dialect, Interpolation};
use super::merge::{self, KEPT};
use super::paths::{give_context, is_remote, resolve};
use super::service::texts;
use super::surroundings::{Chosen, Surroundings, Variables, add_env_files, choose, plain};
use super::yaml::{self, Budget, Map, Node, Value};
use super::{ComposeError, Place, Project, Question, ReadBy, Remark, service, text_of_file};

/// How many files one reading opens, `include` and `extends` counted, each as often as it is named.
const MOST_FILES: usize = 200;
/// How many services may extend each other in a row, and files include each other.
const LONGEST: usize = 50;

/// Reads what `question` means in `surroundings` by our own reader alone.
///
/// # Errors
/// Where no file is found, one cannot be read or is wrong: with file and line.
pub fn read_own(question: &Question, surroundings: &Surroundings) -> Result<Project, ComposeError> {
    let mut reader = Reader::new();
    let chosen = choose(question, surroundings, &mut reader.budget, &mut reader.remarks)?;
    read_chosen(reader, chosen, surroundings)
}

pub(super) fn read_chosen(
    mut reader: Reader,
    chosen: Chosen,
    surroundings: &Surroundings,
) -> Result<Project, ComposeError> {
    let services = reader.model(&chosen.files, &chosen.directory, &chosen.variables, &[])?;
    let default_platform = chosen.default_platform();
    let budget = &mut reader.budget;
    let mut facts = service::Facts { variables: &chosen.variables, host: &surroundings.host, budget };
    let mut found = Vec::new();
    for (name, node) in services {
        found.push(service::of_node(&name, &node, &mut facts, &mut reader.remarks)?);
    }
    if found.is_empty() {
        reader.remarks.push(Remark::new("no service is in these files"));
    }
    let mut files = chosen.files;
    for file in reader.files {
        if !files.contains(&file) {
            files.push(file);
        }
    }
    let mut remarks = reader.remarks;
    remarks.dedup();
    Ok(Project { files, read_by: ReadBy::Own, services: found, profiles: chosen.profiles, default_platform, remarks })
}

/// One reading, with what it found and what it may still take.
#[derive(Debug)]
pub(super) struct Reader {
    pub(super) budget: Budget,
    pub(super) remarks: Vec<Remark>,
    files: Vec<PathBuf>,
}

/// The services of one file while it is read, and where its paths start.
struct Scope<'a> {
    file: &'a Path,
    directory: &'a Path,
    variables: &'a Variables,
}

impl Reader {
    pub(super) fn new() -> Self {
        Self { budget: Budget::new(), remarks: Vec::new(), files: Vec::new() }
    }

    fn open(&mut self, file: &Path, by: Option<&Place>) -> Result<Vec<Node>, ComposeError> {
        let told = |what: String| match by {
            Some(place) => ComposeError::wrong(place, what),
            None => ComposeError::Wrong { place: None, what },
        };
        if self.files.len() >= MOST_FILES {
            return Err(told(format!("more than {MOST_FILES} files are to be read; does one include itself?")));
        }
        self.files.push(file.to_owned());
        let text = text_of_file(file).map_err(|error| match by {
            Some(place) => ComposeError::wrong(place, format!("{}: {error}", file.display())),
            None => ComposeError::unreadable(file, error),
        })?;
        yaml::parse(&text, &Arc::from(file), &mut self.budget)
    }

    /// The services of `files`, laid over each other, with paths from `directory` on.
    fn model(
        &mut self,
        files: &[PathBuf],
        directory: &Path,
        variables: &Variables,
        included: &[(PathBuf, Place)],
    ) -> Result<Map, ComposeError> {
        let mut all = Map::new();
        for file in files {
            for document in self.open(file, included.last().map(|(_, place)| place))? {
                let scope = Scope { file, directory, variables };
                let mut services = self.document(document, &scope, included)?;
                for name in services.keys().cloned().collect::<Vec<_>>() {
                    self.extend(&name, &mut services, &scope, &mut Vec::new())?;
                }
                all = merge::merge(all, services)?;
                all.values().try_for_each(service::check)?;
            }
        }
        Ok(all
            .into_iter()
            .map(|(name, node)| {
                let mut node = merge::settled(node);
                give_context(&mut node);
                resolve(&mut node, directory);
                (name, node)
            })
            .collect())
    }

    /// The services of one document, as they stand in it and what it includes.
    fn document(
        &mut self,
        mut document: Node,
        scope: &Scope<'_>,
        included: &[(PathBuf, Place)],
    ) -> Result<Map, ComposeError> {
        self.interpolate(&mut document, scope.variables, None, &mut Vec::new())?;
        let place = document.place.clone();
        let mut top = match document.value {
            Value::Map(map) => map,
            Value::Null => Map::new(),
            _ => return Err(ComposeError::wrong(&place, "a Compose file is a mapping, with `services:` in it")),
        };
        let include = top.remove("include");
        let services = top.remove("services").map_or_else(|| Ok(Map::new()), mapping_of("services"))?;
        let mut kept = Map::new();
        for (name, node) in services {
            if name.starts_with("x-") {
                continue;
            }
            let (tag, place) = (node.tag, node.place.clone());
            let mut map = mapping_of(&format!("the service `{name}`"))(node)?;
            self.look_at_keys(&name, &map);
            map.retain(|key, _| KEPT.contains(&key.as_str()));
            kept.insert(name, Node { value: Value::Map(map), tag, place });
        }
        if let Some(include) = include {
            for (name, node) in self.include(include, scope, included)? {
                // What includes counts more than what is included.
                let node = match kept.remove(&name) {
                    Some(over) => merge::merge(Map::from([(name.clone(), node)]), Map::from([(name.clone(), over)]))?
                        .remove(&name)
                        .unwrap_or_else(|| unreachable!("a merge loses no key")),
                    None => node,
                };
                kept.insert(name, node);
            }
        }
        Ok(kept)
    }

    /// Names keys that Compose would refuse, where they look like one that counts here.
    fn look_at_keys(&mut self, service: &str, map: &Map) {
        for (key, node) in map {
            let is_near = |known: &&&str| strsim::damerau_levenshtein(known, key) == 1;
            if let (false, Some(known)) = (KEPT.contains(&key.as_str()), KEPT.iter().find(is_near)) {
                let what = format!("Compose knows no `{key}`; is `{known}` meant?");
                self.remarks.push(Remark::new(what).at(&node.place).of(service));
            }
        }
    }

    fn interpolate(
        &mut self,
        node: &mut Node,
        variables: &Variables,
        service: Option<&str>,
        path: &mut Vec<String>,
    ) -> Result<(), ComposeError> {
        match &mut node.value {
            Value::Text { text, .. } if text.contains('$') => {
                let lookup = |name: &str| variables.get(name).cloned();
                let mut unset = BTreeSet::new();
                let (budget, dialect) = (&mut self.budget, Dialect::Compose);
                let done = Interpolation { dialect, lookup: &lookup, unset: &mut unset, budget }.apply(text);
                *text =
                    done.map_err(|fault| ComposeError::wrong(&node.place, format!("`{}`: {fault}", path.join("."))))?;
                for variable in unset {
                    let remark = Remark::unset(&variable).at(&node.place);
                    self.remarks.push(Remark { service: service.map(str::to_owned), ..remark });
                }
            }
            Value::Null | Value::Text { .. } => {}
            Value::List(list) => {
                for node in list {
                    self.interpolate(node, variables, service, path)?;
                }
            }
            Value::Map(map) => {
                let is_services = path.len() == 1 && path[0] == "services";
                for (key, node) in map {
                    path.push(key.clone());
                    self.interpolate(node, variables, if is_services { Some(key) } else { service }, path)?;
                    path.pop();
                }
            }
        }
        Ok(())
    }

    fn include(&mut self, node: Node, scope: &Scope<'_>, included: &[(PathBuf, Place)]) -> Result<Map, ComposeError> {
        let place = node.place.clone();
        if included.len() >= LONGEST {
            return Err(ComposeError::wrong(&place, "too many files include each other in a row"));
        }
        let entries = match node.value {
            Value::Null => Vec::new(),
            Value::List(list) => list,
            _ => return Err(ComposeError::wrong(&place, format!("`include` is a list, not {}", node.kind()))),
        };
        let mut all = Map::new();
        for entry in entries {
            let place = entry.place.clone();
            let (paths, folder, env_files) = match &entry.value {
                Value::Map(map) => (
                    texts(map.get("path"))?,
                    texts(map.get("project_directory"))?.into_iter().next(),
                    texts(map.get("env_file"))?,
                ),
                _ => (texts(Some(&entry))?, None, Vec::new()),
            };
            if let Some(remote) = paths.iter().find(|path| is_remote(path)) {
                let what = format!("`include` of {remote} is not followed: it is not on this host");
                self.remarks.push(Remark::new(what).at(&place));
                continue;
            }
            let files: Vec<PathBuf> = paths.iter().map(|path| plain(&scope.directory.join(path))).collect();
            let Some(main) = files.first().cloned() else {
                return Err(ComposeError::wrong(&place, "`include` names no file"));
            };
            if main == scope.file || included.iter().any(|(file, _)| *file == main) {
                let what = format!("{} includes itself, by way of this `include`", main.display());
                return Err(ComposeError::wrong(&place, what));
            }
            let parent = main.parent().unwrap_or(Path::new("/"));
            let directory = folder.map_or_else(|| parent.to_owned(), |folder| plain(&scope.directory.join(folder)));
            let size = scope.variables.iter().map(|(name, value)| name.len() + value.len()).sum();
            let too_large = |_| ComposeError::wrong(&place, "its variables make it too large");
            self.budget.take_text(size).map_err(too_large)?;
            let mut variables = scope.variables.clone();
            let env_files: Vec<PathBuf> = if env_files.is_empty() {
                [directory.join(".env")].into_iter().filter(|file| file.is_file()).collect()
            } else {
                env_files.iter().filter(|f| *f != "/dev/null").map(|f| scope.directory.join(f)).collect()
            };
            add_env_files(&env_files, &mut variables, &mut self.budget, &mut self.remarks)?;
            let mut stack = included.to_vec();
            stack.push((scope.file.to_owned(), place));
            let services = self.model(&files, &directory, &variables, &stack)?;
            all = merge::merge(all, services)?;
        }
        Ok(all)
    }

    /// Lays the service `name` over what it extends. Which services are being extended is in `chain`.
    fn extend(
        &mut self,
        name: &str,
        services: &mut Map,
        scope: &Scope<'_>,
        chain: &mut Vec<(PathBuf, String)>,
    ) -> Result<(), ComposeError> {
        let Some(node) = services.get(name) else { return Ok(()) };
        let Some(extends) = node.as_map().and_then(|map| map.get("extends")) else { return Ok(()) };
        let extends = extends.clone();
        let place = &extends.place;
        let link = (scope.file.to_owned(), name.to_owned());
        if chain.len() >= LONGEST {
            return Err(ComposeError::wrong(place, "too many services extend each other in a row"));
        }
        if chain.contains(&link) {
            let row = chain.iter().map(|(_, name)| name.as_str()).collect::<Vec<_>>().join(" extends ");
            let what = format!("services extend each other in a circle: {row} extends {name}");
            return Err(ComposeError::wrong(place, what));
        }
        let (base, file) = match &extends.value {
            Value::Map(map) => (texts(map.get("service"))?.pop(), texts(map.get("file"))?.pop()),
            _ => (texts(Some(&extends))?.pop(), None),
        };
        let missing = || ComposeError::wrong(place, "`extends` names no service");
        let base = base.filter(|base| !base.is_empty()).ok_or_else(missing)?;
        if let Some(file) = file.as_deref().filter(|file| is_remote(file)) {
            let what = format!("what it extends is not read: {file} is not on this host");
            self.remarks.push(Remark::new(what).at(place).of(name));
            return drop_extends(services, name, None);
        }
        chain.push(link);
        let base = match file {
            None => {
                if !services.contains_key(&base) {
                    let what = format!("the service `{name}` extends `{base}`, which is not in this file");
                    return Err(ComposeError::wrong(place, what));
                }
                self.extend(&base, services, scope, chain)?;
                services[&base].clone()
            }
            Some(file) => self.base_in(&plain(&scope.directory.join(file)), &base, place, scope, chain)?,
        };
        chain.pop();
        // What is extended again and again must not grow without bounds.
        self.budget.take(base.size()).map_err(|_| ComposeError::wrong(place, "`extends` makes it too large"))?;
        drop_extends(services, name, Some(merge::settled(base)))
    }

    /// The service `base` of another file.
    fn base_in(
        &mut self,
        file: &Path,
        base: &str,
        place: &Place,
        scope: &Scope<'_>,
        chain: &mut Vec<(PathBuf, String)>,
    ) -> Result<Node, ComposeError> {
        let directory = file.parent().unwrap_or(Path::new("/"));
        let inner = Scope { file, directory, variables: scope.variables };
        let mut services = Map::new();
        for mut document in self.open(file, Some(place))? {
            if let Value::Map(map) = &mut document.value {
                map.remove("include");
            }
            services = merge::merge(services, self.document(document, &inner, &[])?)?;
        }
        self.extend(base, &mut services, &inner, chain)?;
        let mut node = services.remove(base).ok_or_else(|| {
            ComposeError::wrong(
                place,
                format!("`extends` names the service `{base}`, which {} has not", file.display()),
            )
        })?;
        resolve(&mut node, directory);
        Ok(node)
    }
}

/// Lays the service `name` over `base`, and takes its `extends` away.
fn drop_extends(services: &mut Map, name: &str, base: Option<Node>) -> Result<(), ComposeError> {
    let Some(Node { value: Value::Map(mut map), tag, place }) = services.remove(name) else { return Ok(()) };
    map.remove("extends");
    if let Some(Node { value: Value::Map(mut base), .. }) = base {
        base.remove("extends");
        map = merge::merge(base, map)?;
    }
    services.insert(name.to_owned(), Node { value: Value::Map(map), tag, place });
    Ok(())
}

fn mapping_of(what: &str) -> impl FnOnce(Node) -> Result<Map, ComposeError> {
    move |node| match node.value {
        Value::Map(map) => Ok(map),
        Value::Null => Ok(Map::new()),
        _ => Err(ComposeError::wrong(&node.place, format!("{what} must be a mapping, not {}", node.kind()))),
    }
}
