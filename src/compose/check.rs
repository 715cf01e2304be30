// SPDX-License-Identifier: MIT OR Apache-2.0
//! What becomes of the services of a Compose project on a host, and what to change in the file.

use super::workloads::{self, Workload};
use super::{EMULATE, Place, Project, Service};
use crate::image::check::Checked;
use crate::image::host::Host;
use crate::image::verdict::{Outcome, Verdict, judge_pinned};
use crate::oci::platform::ImagePlatform;
use crate::oci::reference::Reference;

/// One image that a service needs.
#[derive(Clone, Debug)]
pub struct Row {
    /// The service.
    pub service: String,
    /// The image, as the file has it; empty where there is none.
    pub image: String,
    /// Whether it is the base of what is built, and not what is run as it is.
    pub is_base: bool,
    /// What is known of the image, where its name is one.
    pub checked: Option<Checked>,
    /// What becomes of it, as the file stands.
    pub outcome: Outcome,
    /// What to know, and to do.
    pub remarks: Vec<Remark>,
    /// The `platform:` that the service should have; none where it is right as it is.
    pub wanted: Option<ImagePlatform>,
}

/// Something to know of a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Remark {
    /// It needs a `platform:` line.
    NeedsPlatform(ImagePlatform),
    /// Its `platform:` names what the image does not have.
    WrongPlatform {
        /// What stands there.
        pinned: String,
        /// Where.
        place: Option<Place>,
        /// What would run; none where nothing does.
        better: Option<ImagePlatform>,
    },
    /// Its `platform:` has it emulated for no reason.
    NeedlessPlatform {
        /// What stands there.
        pinned: ImagePlatform,
        /// Where.
        place: Option<Place>,
        /// What runs natively without it.
        native: ImagePlatform,
    },
    /// What it does should not be emulated.
    Unfit(&'static Workload),
}

impl Remark {
    /// Its stable name, in kebab case.
    pub fn id(&self) -> &'static str {
        match self {
            Self::NeedsPlatform(_) => "platform-needed",
            Self::WrongPlatform { .. } => "platform-wrong",
            Self::NeedlessPlatform { .. } => "platform-needless",
            Self::Unfit(_) => "unfit-workload",
        }
    }

    /// The line that it is about, where it is about one.
    pub fn place(&self) -> Option<&Place> {
        match self {
            Self::WrongPlatform { place, .. } | Self::NeedlessPlatform { place, .. } => place.as_ref(),
            Self::NeedsPlatform(_) | Self::Unfit(_) => None,
        }
    }

    /// What to do: one or two sentences.
    pub fn text(&self) -> String {
        let line = self.place().map_or(String::new(), |place| format!(" in line {}", place.line));
        match self {
            Self::NeedsPlatform(platform) => format!("Add `platform: {platform}`."),
            Self::WrongPlatform { pinned, better: Some(better), .. } => {
                format!("The platform{line}, {pinned}, is none that the image has: write {better}.")
            }
            Self::WrongPlatform { pinned, better: None, .. } => {
                format!("The platform{line}, {pinned}, is none that the image has.")
            }
            Self::NeedlessPlatform { pinned, native, .. } => {
                format!("Remove the platform{line}, {pinned}: the image has {native}, which runs natively.")
            }
            Self::Unfit(workload) => {
                format!("Should not be emulated: {}. The label {EMULATE}=true switches this off.", workload.reason)
            }
        }
    }
}

/// The images that `project` needs, each once.
pub fn references(project: &Project) -> Vec<Reference> {
    let mut references: Vec<Reference> = Vec::new();
    let needs = project.services.iter().flat_map(|service| needed(service, project));
    let images = needs.map(|needed| needed.image);
    for reference in images.filter_map(|image| image.parse::<Reference>().ok()) {
        if !references.contains(&reference) {
            references.push(reference);
        }
    }
    references
}

/// An image that a service needs, and in what way.
struct Needed<'a> {
    image: &'a str,
    is_base: bool,
    /// The platform that something names.
    platform: Option<&'a str>,
    /// Whether the Dockerfile names it.
    by_dockerfile: bool,
}

/// What `service` needs: what it is built from, or else the image that it names.
fn needed<'a>(service: &'a Service, project: &'a Project) -> Vec<Needed<'a>> {
    let pinned = service.platform.as_deref().or(project.default_platform.as_deref());
    let Some(build) = &service.build else {
        let image = service.image.as_deref();
        let needed = |image| Needed { image, is_base: false, platform: pinned, by_dockerfile: false };
        return image.map(needed).into_iter().collect();
    };
    let built_for = pinned.or(Some(build.built_for.as_str()).filter(|_| !build.platforms.is_empty()));
    let bases = build.bases.as_ref().map_or(&[][..], Vec::as_slice);
    let needed = |base: &'a super::Base| Needed {
        image: &base.image,
        is_base: true,
        platform: base.platform.as_deref().or(built_for),
        by_dockerfile: base.platform.is_some(),
    };
    bases.iter().map(needed).collect()
}

/// What becomes of each image of `project` on `host`. `find` gives what is known of an image.
pub fn check(project: &Project, host: &Host, find: impl Fn(&Reference) -> Option<Checked>) -> Vec<Row> {
    let mut rows = Vec::new();
    for service in &project.services {
        let needs = needed(service, project);
        if needs.is_empty() {
            let because = match &service.build {
                Some(build) => match &build.bases {
                    Err(why) => format!("it is built here, and from what is not known: {why}"),
                    Ok(_) => "it is built from nothing else".to_owned(),
                },
                None => "it names neither an image nor what to build".to_owned(),
            };
            let outcome = Outcome::unknown(because, String::new());
            rows.push(Row {
                service: service.name.clone(),
                image: String::new(),
                is_base: service.build.is_some(),
                checked: None,
                outcome,
                remarks: Vec::new(),
                wanted: None,
            });
        }
        rows.extend(needs.into_iter().map(|needed| row(service, &needed, host, &find)));
    }
    rows
}

fn row(service: &Service, needed: &Needed<'_>, host: &Host, find: &impl Fn(&Reference) -> Option<Checked>) -> Row {
    let reference = needed.image.parse::<Reference>();
    let checked = reference.as_ref().ok().and_then(find);
    let mut row = Row {
        service: service.name.clone(),
        image: needed.image.to_owned(),
        is_base: needed.is_base,
        outcome: match (&reference, &checked) {
            (Err(why), _) => Outcome::unknown(format!("this is no name of an image: {why}"), String::new()),
            (Ok(_), None) => Outcome::unknown("it was not looked at".to_owned(), String::new()),
            (Ok(_), Some(checked)) => checked.outcome.clone(),
        },
        checked,
        remarks: Vec::new(),
        wanted: None,
    };
    let Some(Ok(image)) = row.checked.as_ref().map(|checked| checked.image.clone()) else { return row };
    let free = row.outcome.clone();
    let runs = |outcome: &Outcome| matches!(outcome.verdict, Verdict::Native | Verdict::Emulated);
    let place = if needed.by_dockerfile { None } else { service.places.platform.clone() };
    match needed.platform {
        Some(text) => {
            let pinned = text.parse::<ImagePlatform>().or_else(|_| format!("linux/{text}").parse());
            let outcome = pinned.as_ref().ok().and_then(|pinned| judge_pinned(&image.platforms, pinned, host));
            let better = free.platform.clone().filter(|_| runs(&free));
            if let (Ok(pinned), Some(outcome)) = (pinned, outcome) {
                row.outcome = outcome;
                let native = better.filter(|_| free.verdict == Verdict::Native && free.danger.is_none());
                if let Some(native) = native.filter(|_| row.outcome.verdict != Verdict::Native) {
                    row.wanted = Some(native.clone()).filter(|_| !needed.by_dockerfile);
                    row.remarks.push(Remark::NeedlessPlatform { pinned, place, native });
                }
            } else {
                let because = format!("the image does not have {text}");
                row.outcome = Outcome { verdict: Verdict::CannotRun, ..Outcome::unknown(because, String::new()) };
                row.wanted = better.clone().filter(|_| !needed.by_dockerfile);
                row.remarks.push(Remark::WrongPlatform { pinned: text.to_owned(), place, better });
            }
        }
        None if free.needs_platform && runs(&free) => {
            if let Some(platform) = free.platform.clone() {
                let then = free.danger.as_ref().map_or(String::new(), |danger| format!("; even then {danger}"));
                row.outcome = Outcome {
                    verdict: Verdict::CannotRun,
                    because: format!("the image has no {}, and nothing says to take {platform}{then}", host.engine),
                    ..free
                };
                row.wanted = Some(platform.clone());
                row.remarks.push(Remark::NeedsPlatform(platform));
            }
        }
        None => {}
    }
    let is_emulated = row.outcome.emulation.is_some();
    let is_asked_about = is_emulated && !needed.is_base && !service.is_meant_to_be_emulated();
    if let Some(workload) = workloads::unfit(needed.image).filter(|_| is_asked_about) {
        row.remarks.push(Remark::Unfit(workload));
    }
    row
}
