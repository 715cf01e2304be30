// SPDX-License-Identifier: MIT OR Apache-2.0
//! `qemu-persist image`.

use std::io::{self, Read as _};
use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;

use super::{Failure, interrupted};
use crate::files::text_of;
use crate::host::engines::Kind;
use crate::image::check::{Checked, Checker, Search};
use crate::image::host::Host;
use crate::image::list;
use crate::image::profiles::Profile;
use crate::oci::platform::{ImagePlatform, NoPlatform};
use crate::oci::reference::Reference;
use crate::registry::settings::Places;
use crate::registry::trouble::Trouble;
use crate::registry::{Image, Registries, Source};
use crate::report::image::{self as show, Report, Told};
use crate::report::{Progress, Screen};
use crate::selftest::engine::Engine;

/// The most bytes of a list of images.
const LARGEST: u64 = 64 << 20;

/// What can be given with `image`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// What to do with images.
    #[command(subcommand)]
    pub action: Action,
}

/// What can be done with images.
#[derive(Debug, clap::Subcommand)]
pub enum Action {
    /// Say whether images run here, natively or emulated, before they are pulled
    Check(Check),
}

/// What can be given with `image check`.
#[derive(Debug, clap::Args)]
pub struct Check {
    /// The images, by their names: nginx, ghcr.io/owner/app:1.2, localhost:5000/app@sha256:…
    #[arg(value_name = "REF", required_unless_present = "from")]
    pub image: Vec<String>,
    /// Read the names of images from this file, or from standard input where it is `-`: one a line, lines with `image:`
    /// (Kubernetes' manifests), or JSON (`kubectl get pods -o json`)
    #[arg(long, value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
    pub from: Option<String>,
    /// What there is to say of whom is asked.
    #[command(flatten)]
    pub asking: Asking,
    /// Look at the images that an engine has here, instead of asking registries
    #[arg(long, conflicts_with_all = ["offline", "tags"])]
    pub local: bool,
    /// Where an image is not native, look among this many other tags of it for those that are, the newest first
    #[arg(long, value_name = "COUNT", num_args = 0..=1, default_missing_value = "20", require_equals = true,
          value_parser = clap::value_parser!(u16).range(1..=200))]
    pub tags: Option<u16>,
    /// Also say which registry was asked how often, and how often it may still be asked
    #[arg(long, short)]
    pub verbose: bool,
    /// One JSON object on stdout
    #[arg(long)]
    pub json: bool,
}

/// Whom it is about, and how they are asked.
#[derive(Debug, clap::Args)]
pub struct Asking {
    /// Answer for a host of this platform, such as linux/arm/v7, instead of this one
    #[arg(long, value_name = "PLATFORM", value_parser = parse_image_platform, conflicts_with = "for")]
    pub platform: Option<ImagePlatform>,
    /// Answer for a host of this kind, such as pi5 or pi4-32bit, instead of this one
    #[arg(long, value_name = "HOST", value_parser = Profile::named)]
    pub r#for: Option<&'static Profile>,
    /// Ask nobody: tell what was seen before
    #[arg(long)]
    pub offline: bool,
    /// How many seconds the registry of one image may take
    #[arg(long, value_name = "SECONDS", default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub timeout: u64,
}

impl Asking {
    /// The host that it is about.
    pub fn host(&self) -> Host {
        match (&self.platform, self.r#for) {
            (Some(platform), _) => Host::of_platform(platform),
            (None, Some(profile)) => profile.host(),
            (None, None) => Host::this(),
        }
    }

    /// Who is asked.
    pub fn registries(&self) -> Registries {
        Registries::new(&Places::from_environment(), self.offline, Duration::from_secs(self.timeout))
    }
}

/// Reads a platform with or without its system: `linux/arm/v7`, `arm/v7`, `arm64`.
fn parse_image_platform(text: &str) -> Result<ImagePlatform, NoPlatform> {
    let first = text.split('/').next().unwrap_or_default();
    let is_system = ["linux", "windows", "darwin", "freebsd"].contains(&first);
    if is_system { text.parse() } else { format!("linux/{text}").parse() }
}

impl Args {
    /// Whether the output is for programs.
    pub fn wants_json(&self) -> bool {
        let Action::Check(args) = &self.action;
        args.json
    }
}

/// Runs `image` and gives the exit code.
///
/// # Errors
/// [`Failure`], and those of reading and writing.
pub fn run(args: &Args, screen: &mut Screen) -> anyhow::Result<u8> {
    let Action::Check(args) = &args.action;
    check(args, screen)
}

/// What was given, and what it names.
type Given = (String, Result<Reference, String>);

fn given(args: &Check) -> anyhow::Result<Vec<Given>> {
    let mut names = args.image.clone();
    if let Some(from) = &args.from {
        let text = read(from)?;
        let place = if from == "-" { "standard input" } else { from };
        names.extend(list::read(&text).map_err(|why| Failure::Usage(format!("{place}: {why}")))?);
    }
    let name = |name: String| {
        let reference = name.parse::<Reference>().map_err(|e| e.to_string());
        (name, reference)
    };
    Ok(names.into_iter().map(name).collect())
}

fn read(from: &str) -> anyhow::Result<String> {
    let mut content = Vec::new();
    if from == "-" {
        io::stdin().lock().take(LARGEST + 1).read_to_end(&mut content).context("standard input")?;
    } else {
        let mut open = || std::fs::File::open(Path::new(from))?.take(LARGEST + 1).read_to_end(&mut content);
        open().map_err(|e| Failure::Usage(format!("--from {from}: {e}")))?;
    }
    if content.len() as u64 > LARGEST {
        return Err(Failure::Usage(format!("{from}: it is longer than {LARGEST} bytes")).into());
    }
    Ok(text_of(content))
}

fn check(args: &Check, screen: &mut Screen) -> anyhow::Result<u8> {
    let given = given(args)?;
    let host = args.asking.host();
    if args.local {
        return check_local(args, &given, &host, screen);
    }
    let registries = args.asking.registries();
    tell_broken(&registries, screen);
    let search = args.tags.map_or(Search::Usual, |tags| Search::Tags(tags.into()));
    let checker = Checker::new(&registries, &host, if args.asking.offline { Search::Nothing } else { search });
    let mut references: Vec<Reference> = Vec::new();
    for reference in given.iter().filter_map(|(_, reference)| reference.as_ref().ok()) {
        if !references.contains(reference) {
            references.push(reference.clone());
        }
    }
    let found = check_all(&checker, &references, Progress::new(args.json))?;
    let told = given.iter().map(|(name, reference)| match reference {
        Err(why) => Told::no_name(name, why),
        Ok(reference) => match found.iter().find(|checked| checked.reference == *reference) {
            Some(checked) => Told::new(name, checked),
            None => Told::no_name(name, "it was not looked at"),
        },
    });
    let report = Report::new(&host, told.collect(), registries.quotas());
    show::show(&report, args.json, args.verbose, screen)?;
    Ok(report.exit_code)
}

/// Says which settings of engines cannot be heeded.
pub(super) fn tell_broken(registries: &Registries, screen: &mut Screen) {
    for (path, why) in &registries.settings.broken {
        screen.error(&anyhow::anyhow!("{} is not heeded: {why}", path.display()));
    }
}

/// Checks `references`, and says how far that is. A signal ends the process.
///
/// # Errors
/// Those of the system.
pub(super) fn check_all(
    checker: &Checker<'_>,
    references: &[Reference],
    progress: Progress,
) -> io::Result<Vec<Checked>> {
    let total = references.len();
    let work = || checker.check_all(references, &|done| progress.tell(&format!("{done} of {total} images")));
    let found = super::unless_interrupted(work, |code| {
        crate::registry::close();
        progress.clear();
        std::process::exit(code.into());
    });
    progress.clear();
    found
}

/// Looks at what an engine has: the first one that has any of it.
fn check_local(args: &Check, given: &[Given], host: &Host, screen: &mut Screen) -> anyhow::Result<u8> {
    let engines: Vec<Engine> = Kind::ALL.into_iter().filter_map(Engine::find).collect();
    if engines.is_empty() {
        return Err(
            Failure::Usage("--local: there is no engine here: neither docker, podman nor nerdctl".into()).into()
        );
    }
    let reactor = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let look = async |name: &str| {
        let mut why = Trouble::NotFound;
        for engine in &engines {
            match engine.inspect_image(name).await {
                Ok(Some(here)) => {
                    let platforms = vec![here.image_platform()];
                    return Ok(Image { digest: here.id().to_owned(), platforms, source: Source::default() });
                }
                Ok(None) => {}
                Err(said) => why = Trouble::Engine(format!("{}: {said}", engine.kind)),
            }
        }
        Err(why)
    };
    let told = reactor.block_on(async {
        let work = async {
            let mut told = Vec::new();
            for (name, reference) in given {
                // An id is no name, and engines know it nevertheless.
                let stand_in = || "local".parse::<Reference>().map_err(|e| e.to_string());
                match reference.clone().or_else(|_| stand_in()) {
                    Ok(reference) => {
                        let checked = Checked::new(reference, look(name).await, host);
                        told.push(Told::new(name, &checked));
                    }
                    Err(why) => told.push(Told::no_name(name, &why)),
                }
            }
            Ok(told)
        };
        tokio::select! {
            told = work => told,
            code = interrupted() => Err(code),
        }
    });
    let told = match told {
        Ok(told) => told,
        Err(code) => return Ok(code?),
    };
    let report = Report::new(host, told, std::collections::BTreeMap::new());
    show::show(&report, args.json, args.verbose, screen)?;
    Ok(report.exit_code)
}
