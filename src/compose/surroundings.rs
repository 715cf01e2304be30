// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which files a question means, and which variables they may use.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::yaml::Budget;
use super::{ComposeError, Question, Remark, dotenv, text_of_file};
use crate::oci::platform::ImagePlatform;

/// Variables by their names.
pub type Variables = BTreeMap<String, String>;

/// Names of Compose files, the first that is there counts (compose-go, cli/options.go).
const NAMES: [&str; 4] = ["compose.yaml", "compose.yml", "docker-compose.yml", "docker-compose.yaml"];
/// The same of what is laid over it.
const OVERRIDES: [&str; 4] =
    ["compose.override.yml", "compose.override.yaml", "docker-compose.override.yml", "docker-compose.override.yaml"];

/// What Compose files are read in.
#[derive(Clone, Debug)]
pub struct Surroundings {
    /// The folder that relative paths start in.
    pub directory: PathBuf,
    /// The environment.
    pub variables: Variables,
    /// The platform of the machine that builds.
    pub host: ImagePlatform,
}

impl Surroundings {
    /// Those of this program.
    ///
    /// # Errors
    /// Where the current folder cannot be told.
    pub fn own() -> Result<Self, ComposeError> {
        let text = |value: std::ffi::OsString| value.into_string().ok();
        Ok(Self {
            directory: std::env::current_dir().map_err(ComposeError::NoFolder)?,
            variables: std::env::vars_os().filter_map(|(name, value)| Some((text(name)?, text(value)?))).collect(),
            host: ImagePlatform::new("linux", std::env::consts::ARCH, ""),
        })
    }
}

/// What a question means in its surroundings.
#[derive(Clone, Debug)]
pub(super) struct Chosen {
    pub(super) files: Vec<PathBuf>,
    /// The project's folder.
    pub(super) directory: PathBuf,
    /// The environment, and what `.env` adds to it.
    pub(super) variables: Variables,
    pub(super) profiles: Vec<String>,
}

impl Chosen {
    pub(super) fn default_platform(&self) -> Option<String> {
        self.variables.get("DOCKER_DEFAULT_PLATFORM").filter(|value| !value.is_empty()).cloned()
    }
}

/// What `question` means. As Compose has it, `.env` may name the Compose files, and the folder of those may have another.
pub(super) fn choose(
    question: &Question,
    surroundings: &Surroundings,
    budget: &mut Budget,
    remarks: &mut Vec<Remark>,
) -> Result<Chosen, ComposeError> {
    let at = |path: &Path| plain(&surroundings.directory.join(path));
    let mut files: Vec<PathBuf> = question.files.iter().map(|file| at(file)).collect();
    if question.files.iter().any(|file| file.as_os_str() == "-") {
        let what = "a Compose file on standard input is not read; name a file".to_owned();
        return Err(ComposeError::Wrong { place: None, what });
    }
    let folder = |files: &[PathBuf]| {
        let named = question.project_directory.as_deref().map(at);
        named.or_else(|| Some(files.first()?.parent()?.to_owned()))
    };
    let mut variables = surroundings.variables.clone();
    let env_files = |folder: &Path, variables: &Variables| -> Vec<PathBuf> {
        if !question.env_file.is_empty() {
            return question.env_file.iter().map(|file| at(file)).collect();
        }
        match variables.get("COMPOSE_ENV_FILES").filter(|names| !names.is_empty()) {
            Some(names) => names.split(',').map(|name| at(Path::new(name))).collect(),
            None if is_true(variables.get("COMPOSE_DISABLE_ENV_FILE")) => Vec::new(),
            None => [folder.join(".env")].into_iter().filter(|file| file.is_file()).collect(),
        }
    };
    let first = folder(&files).unwrap_or_else(|| surroundings.directory.clone());
    let from = env_files(&first, &surroundings.variables);
    add_env_files(&from, &mut variables, budget, remarks)?;
    if files.is_empty() {
        if let Some(names) = variables.get("COMPOSE_FILE").filter(|names| !names.is_empty()) {
            let separator = variables.get("COMPOSE_PATH_SEPARATOR").filter(|text| !text.is_empty());
            files = names.split(separator.map_or(":", String::as_str)).map(|name| at(Path::new(name))).collect();
        } else {
            files = look_for(&first, remarks)?;
        }
    }
    let directory = folder(&files).unwrap_or_else(|| first.clone());
    let again = env_files(&directory, &surroundings.variables);
    if again != from {
        add_env_files(&again, &mut variables, budget, remarks)?;
    }
    let mut profiles = question.profiles.clone();
    if let (true, Some(names)) = (profiles.is_empty(), variables.get("COMPOSE_PROFILES")) {
        profiles = names.split(',').map(str::trim).filter(|name| !name.is_empty()).map(str::to_owned).collect();
    }
    Ok(Chosen { files, directory, variables, profiles })
}

fn look_for(folder: &Path, remarks: &mut Vec<Remark>) -> Result<Vec<PathBuf>, ComposeError> {
    let mut first = |folder: &Path, names: &[&str]| {
        let mut there = names.iter().map(|name| folder.join(name)).filter(|file| file.is_file());
        let found = there.next()?;
        if let Some(other) = there.next() {
            let what = format!("{} is there too, and not read: {} counts", other.display(), found.display());
            remarks.push(Remark::new(what));
        }
        Some(found)
    };
    for folder in folder.ancestors() {
        if let Some(file) = first(folder, &NAMES) {
            return Ok([Some(file), first(folder, &OVERRIDES)].into_iter().flatten().collect());
        }
    }
    Err(ComposeError::NoFile(folder.to_owned()))
}

/// Adds what the `.env` files say, of which the later count more; what is in `variables` already stays.
pub(super) fn add_env_files(
    files: &[PathBuf],
    variables: &mut Variables,
    budget: &mut Budget,
    remarks: &mut Vec<Remark>,
) -> Result<(), ComposeError> {
    let mut found = Variables::new();
    for file in files {
        let text = text_of_file(file).map_err(|error| ComposeError::unreadable(file, error))?;
        if budget.take_text(text.len()).is_err() {
            let what = format!("{}: files with variables are too large together", file.display());
            return Err(ComposeError::Wrong { place: None, what });
        }
        let mut unset = BTreeSet::new();
        let name: Arc<Path> = Arc::from(file.as_path());
        dotenv::read(&text, &name, variables, &mut found, &mut unset, budget)?;
        for variable in unset {
            let remark = Remark::unset(&variable);
            remarks.push(Remark { what: format!("{}: {}", file.display(), remark.what), ..remark });
        }
    }
    for (name, value) in found {
        variables.entry(name).or_insert(value);
    }
    Ok(())
}

/// As Go's `strconv.ParseBool()`.
fn is_true(value: Option<&String>) -> bool {
    value.is_some_and(|value| ["1", "t", "T", "TRUE", "true", "True"].contains(&value.as_str()))
}

/// `path` without `.` and `..`, which Compose takes away by the text alone (Go's `filepath.Clean()`).
pub(super) fn plain(path: &Path) -> PathBuf {
    use std::path::Component;
    let mut plain = PathBuf::new();
    for component in path.components() {
        match component {
            Component::CurDir => {}
            Component::ParentDir => {
                plain.pop();
            }
            other => plain.push(other),
        }
    }
    plain
}
