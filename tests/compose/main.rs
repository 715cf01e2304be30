// SPDX-License-Identifier: MIT OR Apache-2.0
//! Our own reader of Compose files beside Docker Compose itself, of Debian 13's package (tests/compose.sh).

#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "a test may panic, and says aloud why it is skipped")]

mod cases;
mod programs;
mod random;
mod stacks;

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use qemu_persist::compose::{
    ComposeError, Places, Project, Question, ReadBy, Service, Surroundings, Variables, read_in, read_own,
};
use qemu_persist::oci::platform::ImagePlatform;

/// Where Docker Compose is; none where tests/compose.sh has not fetched it, and that is said.
fn compose() -> Option<PathBuf> {
    let cache = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cache/compose");
    let folders = std::fs::read_dir(&cache).into_iter().flatten().filter_map(|entry| Some(entry.ok()?.path()));
    let found = folders.map(|folder| folder.join("docker-compose")).find(|program| program.is_file());
    if found.is_none() {
        eprintln!("skipped: tests/compose.sh has not fetched Docker Compose into {}", cache.display());
    }
    found
}

/// A folder with a project in it, and beside it the only Docker Compose that is found.
struct Bench {
    folder: tempfile::TempDir,
}

impl Bench {
    fn new() -> Option<Self> {
        let compose = compose()?;
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(folder.path().join("project")).unwrap();
        std::fs::create_dir_all(folder.path().join("bin")).unwrap();
        symlink(&compose, folder.path().join("bin/docker-compose")).unwrap();
        Some(Self { folder })
    }

    fn project(&self) -> PathBuf {
        self.folder.path().canonicalize().unwrap().join("project")
    }

    fn write(&self, files: &[(&str, &str)]) {
        for (name, text) in files {
            let path = self.project().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
    }

    /// `docker-compose` alone is in `PATH`, and no plugin is in the home folder.
    fn surroundings(&self, directory: &Path, variables: &[(&str, &str)]) -> Surroundings {
        let home = self.folder.path().to_str().unwrap().to_owned();
        let path = format!("{home}/bin");
        let all = [("HOME", home.as_str()), ("DOCKER_CONFIG", home.as_str()), ("PATH", path.as_str())];
        let all = all.iter().chain(variables).map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Surroundings {
            directory: directory.to_owned(),
            variables: all.collect::<Variables>(),
            host: ImagePlatform::new("linux", "arm64", ""),
        }
    }
}

fn real(question: &Question, surroundings: &Surroundings) -> Result<Project, ComposeError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(read_in(question, surroundings))
}

/// Without what only our own reader knows.
fn bare(services: &[Service]) -> Vec<Service> {
    services.iter().map(|service| Service { places: Places::default(), ..service.clone() }).collect()
}

/// What both say, which is the same; `Err` where both refuse.
fn both(question: &Question, surroundings: &Surroundings) -> Result<Project, (ComposeError, ComposeError)> {
    let theirs = real(question, surroundings);
    let ours = read_own(question, surroundings);
    match (theirs, ours) {
        (Ok(theirs), Ok(ours)) => {
            assert_eq!(
                theirs.read_by,
                ReadBy::StandaloneCompose { version: version(&theirs) },
                "{:#?}",
                theirs.remarks
            );
            for (theirs, ours) in bare(&theirs.services).iter().zip(&bare(&ours.services)) {
                assert_eq!(theirs, ours);
            }
            assert_eq!(theirs.services.len(), ours.services.len(), "{theirs:#?}");
            assert_eq!((&theirs.files, &theirs.default_platform), (&ours.files, &ours.default_platform));
            assert_eq!(theirs.services, ours.services, "places");
            Ok(theirs)
        }
        (Err(theirs), Err(ours)) => Err((theirs, ours)),
        (theirs, ours) => panic!("Docker Compose: {}\nour own reader: {}", show(theirs), show(ours)),
    }
}

fn version(project: &Project) -> String {
    match &project.read_by {
        ReadBy::DockerCompose { version } | ReadBy::StandaloneCompose { version } => version.clone(),
        ReadBy::Own => String::new(),
    }
}

fn show(result: Result<Project, ComposeError>) -> String {
    result.map_or_else(|error| error.to_string(), |project| format!("{:?}", bare(&project.services)))
}
