// SPDX-License-Identifier: MIT OR Apache-2.0
//! `qemu-persist compose`.

use std::path::PathBuf;

use super::image::Asking;
use crate::compose::check::{self, Remark, Row};
use crate::compose::{Project, Question, Surroundings};
use crate::image::check::{Checker, Search};
use crate::image::host::Host;
use crate::registry::Registries;
use crate::report::compose::{self as show, Report};
use crate::report::{Progress, Screen};

/// What can be given with `compose`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// What to do with Compose files.
    #[command(subcommand)]
    pub action: Action,
}

/// What can be done with Compose files.
#[derive(Debug, clap::Subcommand)]
pub enum Action {
    /// Say of every service whether it runs here, natively or emulated, and what to change
    Check(Check),
    /// Print a compose.override.yaml with the platform lines that the services need here
    Fix(Fix),
}

/// Which project.
#[derive(Debug, clap::Args)]
pub struct Files {
    /// The Compose files, the later ones over the earlier; without any, those that Compose would take from here
    #[arg(value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
    pub file: Vec<PathBuf>,
    /// Only what is without a profile, and what is of this one; without it, all services are looked at
    #[arg(long, value_name = "NAME")]
    pub profile: Vec<String>,
    /// Take variables from this file instead of .env
    #[arg(long, value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
    pub env_file: Vec<PathBuf>,
    /// Take relative paths from this folder instead of that of the first file
    #[arg(long, value_name = "DIR", value_hint = clap::ValueHint::DirPath)]
    pub project_directory: Option<PathBuf>,
}

/// What can be given with `compose check`.
#[derive(Debug, clap::Args)]
pub struct Check {
    /// Which project.
    #[command(flatten)]
    pub files: Files,
    /// Whom it is about, and how registries are asked.
    #[command(flatten)]
    pub asking: Asking,
    /// One JSON object on stdout
    #[arg(long)]
    pub json: bool,
}

/// What can be given with `compose fix`.
#[derive(Debug, clap::Args)]
pub struct Fix {
    /// Which project.
    #[command(flatten)]
    pub files: Files,
    /// Whom it is about, and how registries are asked.
    #[command(flatten)]
    pub asking: Asking,
}

impl Args {
    /// Whether the output is for programs.
    pub fn wants_json(&self) -> bool {
        matches!(&self.action, Action::Check(args) if args.json)
    }
}

/// Runs `compose` and gives the exit code.
///
/// # Errors
/// A project that cannot be read, and those of writing.
pub fn run(args: &Args, screen: &mut Screen) -> anyhow::Result<u8> {
    match &args.action {
        Action::Check(args) => {
            let (project, rows, host, registries) = look(&args.files, &args.asking, Search::Usual, args.json, screen)?;
            let report = Report::new(&project, &rows, &host, registries.quotas());
            show::show(&report, args.json, screen)?;
            Ok(report.exit_code)
        }
        Action::Fix(args) => fix(args, screen),
    }
}

/// Reads the project, and looks at all its images.
fn look(
    files: &Files,
    asking: &Asking,
    search: Search,
    quiet: bool,
    screen: &mut Screen,
) -> anyhow::Result<(Project, Vec<Row>, Host, Registries)> {
    let question = Question {
        files: files.file.clone(),
        profiles: files.profile.clone(),
        env_file: files.env_file.clone(),
        project_directory: files.project_directory.clone(),
    };
    let reactor = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let host = asking.host();
    let surroundings = Surroundings { host: host.engine.clone(), ..Surroundings::own()? };
    let mut project = reactor.block_on(async {
        tokio::select! {
            project = crate::compose::read_in(&question, &surroundings) => project.map_err(anyhow::Error::from),
            // Compose has ended with its future.
            code = super::interrupted() => std::process::exit(code.unwrap_or(130).into()),
        }
    })?;
    if !files.profile.is_empty() {
        let active = project.profiles.clone();
        project.services.retain(|service| service.is_active(&active));
    }
    let registries = asking.registries();
    super::image::tell_broken(&registries, screen);
    let references = check::references(&project);
    let progress = Progress::new(quiet);
    let found = {
        let checker = Checker::new(&registries, &host, if asking.offline { Search::Nothing } else { search });
        super::image::check_all(&checker, &references, progress)?
    };
    let find = |reference: &_| found.iter().find(|checked| checked.reference == *reference).cloned();
    let rows = check::check(&project, &host, find);
    Ok((project, rows, host, registries))
}

/// Prints the override. What cannot be told is said on standard error, and is not in it.
fn fix(args: &Fix, screen: &mut Screen) -> anyhow::Result<u8> {
    let (_project, rows, _host, _registries) = look(&args.files, &args.asking, Search::Nothing, false, screen)?;
    let mut lines: Vec<(String, String)> = Vec::new();
    let mut unknown = 0;
    for row in &rows {
        if let Some(wanted) = &row.wanted {
            if !lines.iter().any(|(service, _)| *service == row.service) {
                lines.push((row.service.clone(), wanted.to_string()));
            }
        } else if row.checked.as_ref().is_none_or(|checked| checked.image.is_err()) {
            unknown += 1;
            screen.error(&anyhow::anyhow!("{}: {}: {}", row.service, row.image, row.outcome.because));
        } else if row.remarks.iter().any(|remark| matches!(remark, Remark::WrongPlatform { .. })) {
            screen.error(&anyhow::anyhow!("{}: {}: {}", row.service, row.image, row.outcome.because));
        }
    }
    if lines.is_empty() && unknown == 0 {
        screen.line("# No service needs a `platform:` line here, or has a needless one.")?;
    }
    if !lines.is_empty() {
        screen.line(crate::compose::override_file(&lines).trim_end())?;
    }
    screen.flush()?;
    Ok(if unknown > 0 { 3 } else { 0 })
}
