// SPDX-License-Identifier: MIT OR Apache-2.0
//! The health of a host: every wanted platform, and what was found.

use std::io;
use std::path::PathBuf;

use serde::Serialize;

use super::{Screen, Tone, escape, span};
use crate::assess::Assessment;
use crate::assess::checks::SERVICE_CHECKS;
use crate::assess::look::{Look, Standing};
use crate::assess::origin::{Currency, Origin};
use crate::assess::proven::Proven;
use crate::binfmt::rule::Flags;
use crate::finding::{self, Finding, Health};
use crate::host::{Package, command};
use crate::platform::Platform;
use crate::selftest::buildkit::offers::{self, Offers};
use crate::selftest::running::{EmulatedContainer, Running};
use crate::service::Service;
use crate::snapshot::Snapshot;

/// What `status` tells.
#[derive(Debug, Serialize)]
#[cfg_attr(feature = "assets", derive(schemars::JsonSchema))]
pub struct Report {
    /// The version of this form.
    pub schema: u32,
    /// What the findings come to.
    pub verdict: Health,
    /// The exit code that goes with it.
    pub exit_code: u8,
    /// The host's own architecture, as `uname -m` says it.
    pub machine: String,
    /// Whether handlers are on as a whole; none where the table cannot be seen.
    pub enabled: Option<bool>,
    /// Every platform that is wanted.
    pub platforms: Vec<PlatformReport>,
    /// The containers that run under emulation now, where they were asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub containers: Option<Vec<EmulatedContainer>>,
    /// The builder that `docker buildx build` uses now, where it was asked for and buildx is installed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub builder: Option<Offers>,
    /// The service.
    pub service: Service,
    /// When all this was seen, in seconds since boot; none for an image.
    pub boot_seconds: Option<u64>,
    /// What was found.
    pub findings: Vec<Finding>,
}

/// What is told of one platform or handler.
#[derive(Debug, Serialize)]
#[cfg_attr(feature = "assets", derive(schemars::JsonSchema))]
pub struct PlatformReport {
    /// `linux/amd64`, or a handler's name.
    pub subject: String,
    /// What its findings come to, with those of the host that concern every platform.
    pub verdict: Health,
    /// The handler that runs its programs now.
    pub handler: Option<HandlerReport>,
    /// The handler that will after the next boot; none for none.
    pub at_boot: Option<BootReport>,
    /// What is proven.
    pub proof: Proven,
}

/// What is told of the handler that wins.
#[derive(Debug, Serialize)]
#[cfg_attr(feature = "assets", derive(schemars::JsonSchema))]
pub struct HandlerReport {
    /// Its name in the kernel's table.
    pub entry: String,
    /// The interpreter's path, as it was registered.
    #[serde(serialize_with = "crate::report::paths::serialize")]
    pub interpreter: PathBuf,
    /// Where that leads; none where it is gone.
    #[serde(serialize_with = "crate::report::paths::serialize")]
    pub resolved: Option<PathBuf>,
    /// The package that it belongs to, and its version, from dpkg's database.
    pub package: Option<Package>,
    /// The flags.
    pub flags: Flags,
    /// Whether the kernel runs the file that is on disk now.
    pub interpreter_on_disk: Currency,
    /// Where the handler comes from.
    pub origin: Origin,
}

/// What is told of the next boot.
#[derive(Debug, Serialize)]
#[cfg_attr(feature = "assets", derive(schemars::JsonSchema))]
pub struct BootReport {
    /// The interpreter that it will have.
    #[serde(serialize_with = "crate::report::paths::serialize")]
    pub interpreter: PathBuf,
    /// Where the handler comes from.
    pub origin: Origin,
    /// Whether it is good.
    pub good: bool,
}

impl Report {
    /// What is to be told of `snapshot`. `package_of` finds the package of a file.
    pub fn new(
        snapshot: &Snapshot,
        assessment: Assessment<'_>,
        package_of: impl Fn(&std::path::Path) -> Option<Package>,
    ) -> Self {
        let host_wide: Vec<_> = assessment.findings.iter().filter(|f| f.subject.is_none()).cloned().collect();
        let platforms = assessment.looks.iter().map(|look| {
            let own = assessment.findings.iter().filter(|f| f.subject.as_ref() == Some(&look.target.subject));
            let worst = own.chain(host_wide.iter().filter(|f| BREAKS_ALL.contains(&f.id)));
            PlatformReport {
                subject: look.target.subject.clone(),
                verdict: Health::of(worst),
                handler: look.winner.as_ref().map(|w| HandlerReport::new(snapshot, w, &package_of)),
                at_boot: look.boot.as_ref().map(BootReport::new),
                proof: proof_of(look),
            }
        });
        Self {
            schema: 1,
            platforms: platforms.collect(),
            verdict: Health::of(&assessment.findings),
            exit_code: finding::exit_code(&assessment.findings),
            machine: snapshot.facts.machine.clone(),
            enabled: snapshot.kernel.table().map(|table| table.enabled),
            containers: None,
            builder: None,
            service: snapshot.service.clone(),
            boot_seconds: snapshot.live.then_some(snapshot.boot_seconds),
            findings: assessment.findings,
        }
    }

    /// Adds what the container engines said of the containers that run under emulation.
    pub fn add_containers(&mut self, running: Running) {
        self.containers = Some(running.containers);
        self.add_findings(running.findings);
    }

    /// Adds what Docker's client said of builds, and why they may work for what has no handler.
    pub fn add_builder(&mut self, asked: offers::Asked) {
        let is_off = self.enabled == Some(false);
        let missing = self.platforms.iter().filter(|platform| is_off || platform.handler.is_none());
        // A handler of the configuration's own has another name.
        let missing = missing.filter_map(|platform| {
            Platform::named(&platform.subject).filter(|known| known.to_string() == platform.subject)
        });
        self.add_findings(offers::findings(&asked, missing, command::find));
        self.builder = asked.offers;
    }

    fn add_findings(&mut self, findings: Vec<Finding>) {
        self.findings.extend(findings);
        self.verdict = Health::of(&self.findings);
        self.exit_code = finding::exit_code(&self.findings);
    }
}

/// Findings of the host as a whole with which no platform works.
const BREAKS_ALL: [&str; 10] = [
    "native-captured",
    "globally-off",
    "not-mounted",
    "binfmt-missing",
    "reboot-pending",
    "masked-namespace",
    "proc-read-only",
    "table-unreadable",
    "unsupported-host",
    "config-invalid",
];

fn proof_of(look: &Look<'_>) -> Proven {
    look.proven.clone()
}

impl HandlerReport {
    fn new(
        snapshot: &Snapshot,
        standing: &Standing,
        package_of: &impl Fn(&std::path::Path) -> Option<Package>,
    ) -> Self {
        let entry = &standing.entry;
        let resolved = snapshot.interpreters.get(&entry.interpreter).and_then(|i| i.as_ref().ok());
        let resolved = resolved.map(|interpreter| interpreter.resolved.clone());
        Self {
            entry: entry.name.clone(),
            interpreter: entry.interpreter.clone(),
            package: resolved.as_deref().and_then(package_of),
            resolved,
            flags: entry.flags,
            interpreter_on_disk: standing.currency,
            origin: standing.origin.clone(),
        }
    }
}

impl BootReport {
    fn new(standing: &Standing) -> Self {
        Self {
            interpreter: standing.entry.interpreter.clone(),
            origin: standing.origin.clone(),
            good: standing.is_good(),
        }
    }
}

/// How long ago something was.
pub fn ago(seconds: u64) -> String {
    format!("{} ago", span(seconds))
}

fn origin(origin: &Origin) -> String {
    match origin {
        Origin::Ours => "qemu-persist".to_owned(),
        Origin::Distribution(path) => format!("the distribution ({})", path.display()),
        Origin::Administrator(path) => format!("the administrator ({})", path.display()),
        Origin::BinfmtSupport => "binfmt-support".to_owned(),
        Origin::Foreign => "elsewhere: no file on this host registers it".to_owned(),
    }
}

fn proof(proven: &Proven) -> String {
    match proven {
        Proven::Yes { seconds_ago } => format!("a container ran {}", ago(*seconds_ago)),
        Proven::Expired { seconds_ago } => format!("a container ran {}, which is too long", ago(*seconds_ago)),
        Proven::Void { reason } => format!("none that counts: {reason}"),
        Proven::Failed { .. } => "the last self-test failed".to_owned(),
        Proven::Never => "none".to_owned(),
    }
}

/// Shows the health of the host.
///
/// # Errors
/// Those of writing.
pub fn show(report: &Report, json: bool, screen: &mut Screen) -> io::Result<()> {
    if json {
        return screen.json(report);
    }
    for platform in &report.platforms {
        show_platform(platform, report.enabled.is_some(), screen)?;
    }
    if let Some(containers) = &report.containers {
        show_containers(containers, screen)?;
    }
    if let Some(Offers { name, driver, platforms }) = &report.builder {
        screen.line(screen.tint(Tone::Strong, &escape(&format!("builder {name} (driver {driver})"))))?;
        let none = "none that it says: it does not run".to_owned();
        let platforms = if platforms.is_empty() { none } else { platforms.join(", ") };
        super::row("platforms", &escape(&platforms), screen)?;
    }
    let of_service = |finding: &&Finding| SERVICE_CHECKS.iter().any(|check| check.id == finding.id);
    let health = Health::of(report.findings.iter().filter(of_service));
    super::service::show(&report.service, report.boot_seconds, health.into(), screen)?;
    if !report.findings.is_empty() {
        screen.line("")?;
    }
    for finding in &report.findings {
        super::finding(finding, screen)?;
    }
    screen.line("")?;
    let word = screen.tint(report.verdict.into(), report.verdict.word());
    screen.line(format!("Verdict: {word}"))
}

fn show_containers(containers: &[EmulatedContainer], screen: &mut Screen) -> io::Result<()> {
    let heading =
        if containers.is_empty() { "no container is known to run under emulation" } else { "emulated containers" };
    screen.line(screen.tint(Tone::Strong, heading))?;
    for container in containers {
        let platform = container.platform.as_deref().unwrap_or("unknown platform");
        let through =
            container.interpreter.as_ref().map_or("interpreter not seen".to_owned(), |path| path.display().to_string());
        let EmulatedContainer { engine, name, image, .. } = container;
        screen.paragraph("  ", 2, &escape(&format!("{engine} {name}: {image}, {platform}, {through}")))?;
    }
    Ok(())
}

/// `table` is whether the kernel's table could be seen.
fn show_platform(platform: &PlatformReport, table: bool, screen: &mut Screen) -> io::Result<()> {
    let subject = escape(&platform.subject);
    let word = screen.tint(platform.verdict.into(), platform.verdict.word());
    screen.line(format!("{} {word}", screen.tint(Tone::Strong, &subject)))?;
    let mut row = |label: &str, text: &str| super::row(label, text, screen);
    let boot = platform.at_boot.as_ref().map_or("nothing registers it".to_owned(), |boot| {
        let what = if boot.good { "registered by" } else { "a handler that is no good, by" };
        format!("{what} {}", origin(&boot.origin))
    });
    let Some(handler) = &platform.handler else {
        // A system image has no kernel, so that the next boot is all there is.
        match &platform.at_boot {
            Some(boot) if !table => row("interpreter", &boot.interpreter.display().to_string())?,
            _ => row("handler", "none")?,
        }
        return row("at boot", &boot);
    };
    let flags = handler.flags.to_string();
    let flags = if flags.is_empty() { "no flags".to_owned() } else { format!("flags {flags}") };
    row("handler", &format!("{}, {flags}", handler.entry))?;
    row("interpreter", &handler.interpreter.display().to_string())?;
    let on_disk = match handler.interpreter_on_disk {
        Currency::Current => "the file on disk",
        Currency::Stale => "an older file than the one on disk",
        Currency::Unknown => "not known whether the file on disk",
        Currency::NotHeld => "opened anew at every start",
    };
    let version = match &handler.package {
        Some(package) => format!("{} {}; {on_disk}", package.name, package.version),
        None => format!("no package's; {on_disk}"),
    };
    row("version", &version)?;
    row("from", &origin(&handler.origin))?;
    row("at boot", &boot)?;
    row("proof", &proof(&platform.proof))
}
