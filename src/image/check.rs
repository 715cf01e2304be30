// SPDX-License-Identifier: MIT OR Apache-2.0
//! Checking images: many at once, each for itself.

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;

use super::alternatives::{self, Alternative};
use super::host::Host;
use super::verdict::{Outcome, Verdict, judge};
use crate::oci::reference::Reference;
use crate::registry::trouble::Trouble;
use crate::registry::{Image, Registries};

/// How many images are asked for at the same time.
pub const AT_ONCE: usize = 16;

/// What was found of an image.
#[derive(Clone, Debug)]
pub struct Checked {
    /// The image.
    pub reference: Reference,
    /// What there is to know of it, or why nothing is.
    pub image: Result<Image, Trouble>,
    /// What becomes of it.
    pub outcome: Outcome,
    /// What runs natively in its place.
    pub alternatives: Vec<Alternative>,
}

impl Checked {
    /// What was found of the image `reference` for `host`.
    pub fn new(reference: Reference, image: Result<Image, Trouble>, host: &Host) -> Self {
        let outcome = match &image {
            Ok(image) => judge(&image.platforms, host),
            Err(trouble) => Outcome::unknown(trouble.to_string(), trouble.advice()),
        };
        Self { reference, image, outcome, alternatives: Vec::new() }
    }
}

/// What else is looked for where an image is not native.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Search {
    /// Nothing.
    Nothing,
    /// The tag `latest`, and the same application by LinuxServer.io.
    Usual,
    /// That, and as many other tags of the repository, the newest first.
    Tags(usize),
}

/// Looks at images for one host.
pub struct Checker<'a> {
    /// Who is asked.
    pub registries: &'a Registries,
    /// The host.
    pub host: &'a Host,
    /// What else is looked for.
    pub search: Search,
    known: Mutex<HashMap<Reference, Result<Image, Trouble>>>,
}

impl<'a> Checker<'a> {
    /// One that asks `registries` for `host`.
    pub fn new(registries: &'a Registries, host: &'a Host, search: Search) -> Self {
        Self { registries, host, search, known: Mutex::default() }
    }

    /// What there is to know of `reference`, which is asked for once.
    ///
    /// # Errors
    /// Why nothing is.
    pub fn look(&self, reference: &Reference) -> Result<Image, Trouble> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner).get(reference).cloned();
        if let Some(known) = known {
            return known;
        }
        let found = self.registries.look(reference);
        self.known.lock().unwrap_or_else(PoisonError::into_inner).insert(reference.clone(), found.clone());
        found
    }

    fn check(&self, reference: &Reference) -> Checked {
        let mut checked = Checked::new(reference.clone(), self.look(reference), self.host);
        let is_native = checked.outcome.verdict == Verdict::Native && checked.outcome.danger.is_none();
        let is_there = checked.image.is_ok();
        if is_there && !is_native && self.search != Search::Nothing {
            checked.alternatives = alternatives::find(self, reference);
        }
        checked
    }

    /// Checks `references`, and gives what was found of each in their order. `tell` is told how many are done.
    pub fn check_all(&self, references: &[Reference], tell: &dyn Fn(usize)) -> Vec<Checked> {
        let next = AtomicUsize::new(0);
        let mut found: Vec<Option<Checked>> = references.iter().map(|_| None).collect();
        std::thread::scope(|scope| {
            let (sender, receiver) = mpsc::channel();
            for _ in 0..references.len().min(AT_ONCE) {
                let (sender, next) = (sender.clone(), &next);
                scope.spawn(move || {
                    loop {
                        let at = next.fetch_add(1, Ordering::Relaxed);
                        let Some(reference) = references.get(at) else { break };
                        // Nobody listens any more only where this ends as a whole.
                        let _ = sender.send((at, self.check(reference)));
                    }
                });
            }
            drop(sender);
            for (done, (at, checked)) in receiver.into_iter().enumerate() {
                tell(done + 1);
                if let Some(place) = found.get_mut(at) {
                    *place = Some(checked);
                }
            }
        });
        found.into_iter().flatten().collect()
    }
}
