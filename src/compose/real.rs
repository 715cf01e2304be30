// SPDX-License-Identifier: MIT OR Apache-2.0
//! Compose files as Docker Compose itself reads them: `docker compose config`, which needs no engine.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value as Json;

use super::surroundings::{Chosen, Surroundings, choose};
use super::yaml::{self, Budget, Map, Node, Tag, Value};
use super::{ComposeError, Place, Places, Project, Question, ReadBy, Remark, own, service, text_of_file};
use crate::files::text_of;
use crate::host::command::{self, Ending, Output};

/// How long Compose has to say its version, or its options.
const SHORT: Duration = Duration::from_secs(20);
/// How long it has to read files, which may stand in repositories elsewhere.
const LONG: Duration = Duration::from_secs(60);

/// Reads what `question` means here: by Docker Compose where it is installed, else by our own reader.
///
/// # Errors
/// Where no file is found, one cannot be read or is wrong: with file and line where they are known.
pub async fn read(question: &Question) -> Result<Project, ComposeError> {
    read_in(question, &Surroundings::own()?).await
}

/// As [`read`], in other surroundings. Docker Compose is looked for in their `PATH`.
///
/// # Errors
/// As [`read`].
pub async fn read_in(question: &Question, surroundings: &Surroundings) -> Result<Project, ComposeError> {
    let mut reader = own::Reader::new();
    let chosen = choose(question, surroundings, &mut reader.budget, &mut reader.remarks)?;
    let mut refused = None;
    if let Some(compose) = Compose::find(surroundings, &mut refused).await {
        match compose.config(question, surroundings).await {
            Ok(output) if output.succeeded() => match understand(&output, &chosen, surroundings, &compose.is) {
                Some(project) => return project,
                None => refused = Some("what it prints is not understood, or longer than 1 MiB".to_owned()),
            },
            Ok(output) => {
                let complaint = complaint(&output);
                if !is_of_another_file(&complaint) && matches!(output.ending, Ending::Exit(_)) {
                    return Err(locate(&complaint, question, surroundings, &chosen));
                }
                refused = Some(complaint);
            }
            Err(error) => refused = Some(error.to_string()),
        }
    }
    let mut project = own::read_chosen(reader, chosen, surroundings)?;
    if let Some(refused) = refused {
        let what = format!("Docker Compose does not read these files, so our own reader did: {refused}");
        project.remarks.insert(0, Remark::new(what));
    }
    Ok(project)
}

/// Docker Compose, as it is installed.
struct Compose {
    program: PathBuf,
    head: &'static [&'static str],
    is: ReadBy,
}

impl Compose {
    /// The plugin, else the program of its own. Why one that is there cannot be used goes to `refused`.
    async fn find(surroundings: &Surroundings, refused: &mut Option<String>) -> Option<Self> {
        let ways: [(&str, &'static [&'static str]); 2] = [("docker", &["compose"]), ("docker-compose", &[])];
        for (name, head) in ways {
            let path = surroundings.variables.get("PATH").map(String::as_str).unwrap_or_default();
            let Some(program) = command::find_in(name, path.as_ref()) else { continue };
            let is = ReadBy::Own;
            let compose = Self { program, head, is };
            let Ok(output) = compose.run(&["version", "--short"], surroundings, SHORT).await else { continue };
            let version = text_of(output.stdout.clone()).trim().trim_start_matches('v').to_owned();
            let major = version.split('.').next().and_then(|major| major.parse::<u32>().ok());
            match major.filter(|_| output.succeeded()) {
                Some(2..) if head.is_empty() => {
                    return Some(Self { is: ReadBy::StandaloneCompose { version }, ..compose });
                }
                Some(2..) => return Some(Self { is: ReadBy::DockerCompose { version }, ..compose }),
                Some(_) => *refused = Some(format!("{name} is of version {version}, which knows no `config --format`")),
                None => {}
            }
        }
        None
    }

    async fn run(
        &self,
        arguments: &[impl AsRef<std::ffi::OsStr>],
        surroundings: &Surroundings,
        limit: Duration,
    ) -> std::io::Result<Output> {
        let head = self.head.iter().map(OsString::from);
        let all: Vec<OsString> = head.chain(arguments.iter().map(|argument| argument.as_ref().to_owned())).collect();
        let quiet = [("COMPOSE_ANSI", "never"), ("DOCKER_CLI_HINTS", "false")];
        let variables = surroundings.variables.iter().map(|(name, value)| (name.as_str(), value.as_str())).chain(quiet);
        let variables: Vec<(&str, &str)> = variables.collect();
        command::run_in(&self.program, &all, &surroundings.directory, &variables, limit).await
    }

    async fn config(&self, question: &Question, surroundings: &Surroundings) -> std::io::Result<Output> {
        let help = text_of(self.run(&["config", "--help"], surroundings, SHORT).await?.stdout);
        let mut arguments: Vec<OsString> = Vec::new();
        let mut add = |option: &str, value: OsString| arguments.extend([option.into(), value]);
        // Services of all profiles are to be seen.
        add("--profile", "*".into());
        question.files.iter().for_each(|file| add("--file", file.into()));
        question.env_file.iter().for_each(|file| add("--env-file", file.into()));
        question.project_directory.iter().for_each(|folder| add("--project-directory", folder.into()));
        add("config", "--format=json".into());
        // What they refer to besides (secrets, files with variables of containers) need not be there.
        let wanted = ["--no-consistency", "--no-env-resolution"];
        arguments.extend(wanted.iter().filter(|option| help.contains(**option)).map(OsString::from));
        self.run(&arguments, surroundings, LONG).await
    }
}

/// What `docker compose config` has printed; none where it is no such thing.
fn understand(
    output: &Output,
    chosen: &Chosen,
    surroundings: &Surroundings,
    by: &ReadBy,
) -> Option<Result<Project, ComposeError>> {
    let mut json: Json = serde_json::from_slice(&output.stdout).ok()?;
    let services = match json.get_mut("services").map(Json::take) {
        Some(Json::Object(services)) => services,
        None | Some(Json::Null) => serde_json::Map::new(),
        Some(_) => return None,
    };
    // It knows no lines; our own reader does, and reads the same files.
    let own = own::read_chosen(own::Reader::new(), chosen.clone(), surroundings).ok();
    let nowhere = Place { file: Arc::from(Path::new("")), line: 0 };
    let mut remarks = warnings(&output.stderr, own.as_ref());
    let mut budget = Budget::new();
    let mut facts = service::Facts { variables: &chosen.variables, host: &surroundings.host, budget: &mut budget };
    let mut found = Vec::new();
    for (name, value) in services {
        let mut node = node_of(value, &nowhere);
        if let Value::Map(map) = &mut node.value {
            map.remove("label_file");
        }
        let known = own.as_ref().and_then(|own| {
            let at = own.services.binary_search_by(|service| service.name.cmp(&name)).ok()?;
            own.services.get(at)
        });
        let before = remarks.len();
        let mut service = match service::of_node(&name, &node, &mut facts, &mut remarks) {
            Ok(service) => service,
            Err(error) => return Some(Err(error)),
        };
        service.places = known.map_or_else(Places::default, |known| known.places.clone());
        for remark in &mut remarks[before..] {
            remark.place.clone_from(&service.places.build);
        }
        found.push(service);
    }
    found.sort_by(|a, b| a.name.cmp(&b.name));
    Some(Ok(Project {
        files: own.map_or_else(|| chosen.files.clone(), |own| own.files),
        read_by: by.clone(),
        services: found,
        profiles: chosen.profiles.clone(),
        default_platform: chosen.default_platform(),
        remarks,
    }))
}

/// JSON as a node. Every `$` is printed as `$$`, so that what is printed can be read again as a Compose file.
fn node_of(json: Json, place: &Place) -> Node {
    let value = match json {
        Json::Null => Value::Null,
        Json::String(text) => Value::Text { text: text.replace("$$", "$"), plain: false },
        Json::Array(list) => Value::List(list.into_iter().map(|json| node_of(json, place)).collect()),
        Json::Object(map) => {
            Value::Map(map.into_iter().map(|(key, json)| (key, node_of(json, place))).collect::<Map>())
        }
        other => Value::Text { text: other.to_string(), plain: false },
    };
    Node { value, tag: Tag::None, place: place.clone() }
}

/// What it warns of, without its date and level. Where a variable is missing our own reader knows.
fn warnings(stderr: &[u8], own: Option<&Project>) -> Vec<Remark> {
    let (mut unset, mut others) = (BTreeSet::new(), BTreeSet::new());
    for line in String::from_utf8_lossy(stderr).lines() {
        let Some((_, quoted)) = line.split_once("level=warning msg=") else { continue };
        let text = serde_json::from_str(quoted).unwrap_or_else(|_| quoted.to_owned());
        let name = text.strip_prefix("The \"").and_then(|rest| rest.split_once("\" variable is not set"));
        match name {
            Some((variable, _)) => _ = unset.insert(variable.to_owned()),
            None if text.contains("obsolete") => {}
            None => _ = others.insert(Remark::new(text)),
        }
    }
    let mut remarks: BTreeSet<Remark> = others;
    for remark in own.iter().flat_map(|own| &own.remarks) {
        if remark.variable.as_ref().is_some_and(|variable| unset.contains(variable)) {
            remarks.insert(remark.clone());
        }
    }
    let placed: BTreeSet<_> = remarks.iter().filter_map(|remark| remark.variable.clone()).collect();
    let unplaced = unset.iter().filter(|variable| !placed.contains(*variable));
    remarks.into_iter().chain(unplaced.map(|variable| Remark::unset(variable))).collect()
}

/// All that it says besides warnings.
fn complaint(output: &Output) -> String {
    let stderr = String::from_utf8_lossy(&output.stderr);
    let lines: Vec<&str> =
        stderr.lines().map(str::trim).filter(|line| !line.is_empty() && !line.contains("level=warning")).collect();
    if lines.is_empty() { output.complaint() } else { lines.join("; ") }
}

/// Whether it only misses a file that gives containers their variables or labels, which is nothing to us.
fn is_of_another_file(complaint: &str) -> bool {
    ["env file ", "label file "].iter().any(|what| complaint.contains(what)) && complaint.contains("not found")
}

/// Its complaint with the place that it is about: where our own reader finds fault, else what it names.
fn locate(complaint: &str, question: &Question, surroundings: &Surroundings, chosen: &Chosen) -> ComposeError {
    let own = own::read_own(question, surroundings);
    if let Err(ComposeError::Wrong { place: Some(place), what }) = own {
        return ComposeError::wrong(&place, format!("{what} (Docker Compose: {complaint})"));
    }
    let mut place = None;
    // It often names the file: `validating FILE: …`.
    let named = chosen.files.iter().find(|file| complaint.contains(&format!("{}:", file.display())));
    for file in named.map_or(&*chosen.files, std::slice::from_ref) {
        let Ok(text) = text_of_file(file) else { continue };
        let documents = yaml::parse(&text, &Arc::from(file.as_path()), &mut Budget::new()).unwrap_or_default();
        for document in &documents {
            place = named_in(complaint, document).or(place);
        }
    }
    ComposeError::Wrong { place, what: complaint.to_owned() }
}

/// What `complaint` names in `document`: by its path (`services.web.image`), or a service in quotes.
fn named_in(complaint: &str, document: &Node) -> Option<Place> {
    let is_end = |c: char| c.is_whitespace() || "'\",;:()".contains(c);
    let mut found = None;
    for word in complaint.split(is_end).map(|word| word.trim_end_matches('.')) {
        let mut at = document;
        let mut depth = 0;
        let mut rest = word;
        while let Some(map) = at.as_map() {
            // Names of services may have dots in them: the longest that fits.
            let fits = |key: &&String| {
                rest.strip_prefix(key.as_str()).is_some_and(|tail| tail.is_empty() || tail.starts_with('.'))
            };
            let Some(key) = map.keys().filter(fits).max_by_key(|key| key.len()) else { break };
            (at, depth) = (&map[key], depth + 1);
            rest = rest[key.len()..].trim_start_matches('.');
        }
        if depth > 1 {
            // What is not allowed there is named apart.
            let words: Vec<&str> = complaint.split(is_end).collect();
            let child = words.iter().find_map(|word| at.as_map()?.get(*word));
            return Some(child.unwrap_or(at).place.clone());
        }
        let services = document.as_map().and_then(|map| map.get("services")).and_then(Node::as_map);
        let is_quoted = complaint.contains(&format!("\"{word}\""));
        found = found.or_else(|| services.filter(|_| is_quoted)?.get(word).map(|node| node.place.clone()));
    }
    found
}
