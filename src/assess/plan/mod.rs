// SPDX-License-Identifier: MIT OR Apache-2.0
//! The plan: which actions would make every target work, now and after the next boot, and take
//! back what is no longer wanted.

mod desired;
mod entries;
mod fragments;
mod leftovers;
mod urgent;

use std::path::{Path, PathBuf};

use serde::Serialize;

pub(in crate::assess) use desired::{desired, made_rule};
use entries::{clear_stand_ins, plan_entry};
use fragments::plan_fragment;
use leftovers::plan_leftovers;

use super::look::Look;
use crate::binfmt::fragment;
use crate::binfmt::rule::Rule;
use crate::host::Confinement;
use crate::platform::Platform;
use crate::record;
use crate::snapshot::{Kernel, Snapshot};

/// What a run is to do about the note that `remove` was the last word.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Removal {
    /// Leave it as it is.
    #[default]
    AsIs,
    /// Write it.
    Note,
    /// Take it away.
    Lift,
}

/// What a run is allowed and asked to do, beyond the configuration.
#[derive(Clone, Debug, Default)]
pub struct Wish {
    /// The platforms that the run is limited to; empty for everything that is wanted.
    pub only: Vec<&'static Platform>,
    /// Displace other translators, and handlers of others that have the `C` flag.
    pub take_over: bool,
    /// Change the kernel's table even in a container or chroot, and go on where it would refuse.
    pub force: bool,
    /// What to do about the note that `remove` was the last word.
    pub removal: Removal,
}

/// How a rule comes into the kernel's table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "assets", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Manner {
    /// Under a name that is free.
    New,
    /// In the place of an entry of that name, without a moment in which programs would not run.
    Exchange,
}

/// One thing to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "assets", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case", tag = "action")]
pub enum Action {
    /// Mount binfmt_misc, which loads the kernel's module where it is one.
    Mount,
    /// Turn handlers on as a whole.
    EnableAll,
    /// Register a rule.
    Register {
        /// The rule.
        rule: Rule,
        /// How.
        manner: Manner,
        /// What it replaces and `remove` gives back.
        displaced: Option<Box<Rule>>,
    },
    /// Enable an entry that is disabled.
    Enable {
        /// Its name.
        name: String,
    },
    /// Remove an entry of ours, and give back what it had replaced.
    Retire {
        /// Its name.
        name: String,
        /// What to register in its place.
        restore: Option<Rule>,
    },
    /// Register a rule of the distribution again, that a fragment of ours had overridden.
    Restore {
        /// The rule.
        rule: Rule,
    },
    /// Disable an entry that captures the host's own programs.
    DisableCapturing {
        /// Its name.
        name: String,
    },
    /// Write a fragment of ours.
    WriteFragment {
        /// Where.
        path: PathBuf,
        /// What it restores at boot.
        rule: Rule,
    },
    /// Withdraw a fragment of ours.
    RemoveFragment {
        /// Where it is.
        path: PathBuf,
    },
    /// Write the drop-in of `enable` and `disable`.
    WriteConfig {
        /// Where.
        path: PathBuf,
        /// Its text.
        content: String,
    },
    /// Remove that drop-in, which has nothing left to say.
    RemoveConfig {
        /// Where it is.
        path: PathBuf,
    },
    /// Write down that nothing is wanted any more. Nothing else is done where that fails.
    NoteRemoval {
        /// Where.
        path: PathBuf,
    },
    /// Take that note away.
    LiftRemoval {
        /// Where it is.
        path: PathBuf,
    },
}

impl Action {
    /// What it is called in logs and in JSON.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Mount => "mount",
            Self::EnableAll => "enable_all",
            Self::Register { .. } => "register",
            Self::Enable { .. } => "enable",
            Self::Retire { .. } => "retire",
            Self::Restore { .. } => "restore",
            Self::DisableCapturing { .. } => "disable_capturing",
            Self::WriteFragment { .. } => "write_fragment",
            Self::RemoveFragment { .. } => "remove_fragment",
            Self::WriteConfig { .. } => "write_config",
            Self::RemoveConfig { .. } => "remove_config",
            Self::NoteRemoval { .. } => "note_removal",
            Self::LiftRemoval { .. } => "lift_removal",
        }
    }

    /// Whether it is about a file, and not about the kernel's table.
    pub fn is_about_a_file(&self) -> bool {
        match self {
            Self::Mount
            | Self::EnableAll
            | Self::Register { .. }
            | Self::Enable { .. }
            | Self::Retire { .. }
            | Self::Restore { .. }
            | Self::DisableCapturing { .. } => false,
            Self::WriteFragment { .. }
            | Self::RemoveFragment { .. }
            | Self::WriteConfig { .. }
            | Self::RemoveConfig { .. }
            | Self::NoteRemoval { .. }
            | Self::LiftRemoval { .. } => true,
        }
    }

    /// The handler or file that it is about; empty for the table as a whole.
    pub fn handler(&self) -> String {
        match self {
            Self::Mount | Self::EnableAll => String::new(),
            Self::Register { rule, .. } | Self::Restore { rule } => rule.name.clone(),
            Self::Enable { name } | Self::Retire { name, .. } | Self::DisableCapturing { name } => name.clone(),
            Self::WriteFragment { path, .. }
            | Self::RemoveFragment { path }
            | Self::WriteConfig { path, .. }
            | Self::RemoveConfig { path }
            | Self::NoteRemoval { path }
            | Self::LiftRemoval { path } => path.display().to_string(),
        }
    }
}

/// An action, for what, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "assets", derive(schemars::JsonSchema))]
pub struct Step {
    /// What to do.
    #[serde(flatten)]
    pub action: Action,
    /// The target that it is for; none for the host as a whole.
    pub subject: Option<String>,
    /// Why, in one sentence.
    pub why: String,
}

/// A target that no step can make work, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unmet {
    /// The target.
    pub subject: String,
    /// The id of the finding that tells it.
    pub id: &'static str,
    /// Why, in one sentence.
    pub message: String,
    /// What to do.
    pub advice: String,
}

/// A handler that this program registered, and that stays though nothing wants it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "assets", derive(schemars::JsonSchema))]
pub struct Left {
    /// Its name.
    pub handler: String,
    /// The distribution's file that registers the same.
    pub path: PathBuf,
}

/// What is to be done.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    /// The steps, in their order.
    pub steps: Vec<Step>,
    /// What is not taken back.
    pub left: Vec<Left>,
    /// What cannot be done.
    pub unmet: Vec<Unmet>,
}

impl Plan {
    /// Whether a step changes what the fragment of `look`'s target says.
    pub fn changes_fragment(&self, look: &Look<'_>) -> bool {
        let own = fragment::path_of(&look.target.name);
        let changes = |action: &Action| match action {
            Action::WriteFragment { path, .. } | Action::RemoveFragment { path } => *path == own,
            _ => false,
        };
        self.steps.iter().any(|step| changes(&step.action))
    }

    /// Whether a step gives `look`'s target another handler than it has.
    fn replaces(&self, look: &Look<'_>) -> bool {
        let own = |step: &&Step| step.subject.as_ref() == Some(&look.target.subject);
        let gives = |step: &Step| matches!(step.action, Action::Register { .. } | Action::Enable { .. });
        self.steps.iter().filter(own).any(gives)
    }

    fn push(&mut self, subject: Option<&str>, action: Action, why: impl Into<String>) {
        self.steps.push(Step { action, subject: subject.map(str::to_owned), why: why.into() });
    }
}

/// The name under which a rule of ours stands where the conventional one is not to be had, and in
/// while the conventional one is exchanged. It is not `qemu-*`, which other tools flush.
pub fn stand_in(name: &str) -> String {
    match name.strip_prefix("qemu-") {
        Some(rest) => format!("persist-{rest}"),
        None => format!("{name}-next"),
    }
}

/// The name that a stand-in of this name stands in for; none for a name that is none of a stand-in.
pub fn stood_in_for(name: &str) -> Option<String> {
    let base = name.strip_suffix("-next").map(str::to_owned);
    base.or_else(|| Some(format!("qemu-{}", name.strip_prefix("persist-")?)))
}

/// Makes the plan for what `looks` saw of the wanted targets.
pub fn plan(snapshot: &Snapshot, looks: &[Look<'_>], wish: &Wish) -> Plan {
    let mut plan = Plan::default();
    let note = PathBuf::from(record::REMOVED);
    match (wish.removal, snapshot.removed) {
        // First, so that nobody registers again what is taken back after it.
        (Removal::Note, false) => {
            plan.push(None, Action::NoteRemoval { path: note }, "`remove` holds until `apply` or `enable`");
        }
        (Removal::Lift, true) => {
            plan.push(None, Action::LiftRemoval { path: note }, "what the configuration says is wanted again");
        }
        _ => {}
    }
    let may_touch_kernel = snapshot.live && (wish.force || !is_confined(snapshot));
    let table = snapshot.kernel.table().filter(|_| may_touch_kernel);
    if may_touch_kernel && snapshot.kernel == Kernel::NotMounted && !looks.is_empty() {
        plan.push(None, Action::Mount, "binfmt_misc is not mounted, so the kernel has no handlers");
    }
    if let Some(table) = table {
        for entry in super::checks::capturing(snapshot) {
            let why = "it captures the host's own programs, so that nothing can be started";
            plan.push(None, Action::DisableCapturing { name: entry.name.clone() }, why);
        }
        if !table.enabled && !looks.is_empty() {
            plan.push(None, Action::EnableAll, "handlers are turned off as a whole");
        }
    }
    for look in looks.iter().filter(|look| look.target.is_among(&wish.only)) {
        let desired = desired(snapshot, look);
        plan_fragment(snapshot, look, desired.as_ref().ok(), wish, &mut plan);
        if table.is_some() {
            plan_entry(snapshot, look, desired.as_ref(), wish, &mut plan);
            clear_stand_ins(snapshot, look, &mut plan);
        }
        if let Err(unmet) = desired {
            let works = if snapshot.live { look.works_now() } else { look.works_after_boot() };
            if !works {
                plan.unmet.push(unmet);
            }
        } else if !snapshot.live && !look.works_after_boot() && !plan.changes_fragment(look) {
            plan.unmet.push(blocked_at_boot(snapshot, look));
        }
    }
    plan_leftovers(snapshot, looks, wish, table.is_some(), &mut plan);
    plan
}

/// What in an image keeps a good handler from being registered at boot, though there is one: a file
/// that is not ours to change.
fn blocked_at_boot(snapshot: &Snapshot, look: &Look<'_>) -> Unmet {
    let subject = look.target.subject.clone();
    let rm = |path: &Path| {
        let (rm, apply) = (super::advice::remove(snapshot, path), super::advice::apply(snapshot));
        format!("Correct it, or {rm}, then {apply}.")
    };
    if let Some(fragment) = look.fragment.filter(|fragment| fragment.is_administrators()) {
        let id = match () {
            () if fragment.masked => "fragment-masked",
            () if !fragment.content.broken.is_empty() || fragment.unreadable.is_some() => "fragment-broken",
            () if fragment.content.rules.is_empty() => "fragment-empty",
            () => "fragment-administrator",
        };
        let message = format!("{} is the administrator's own, and registers no good handler", fragment.path.display());
        return Unmet { subject, id, message, advice: rm(&fragment.path) };
    }
    let (message, advice) = match &look.boot {
        Some(boot) => {
            let what = format!("{}, which is no good, is registered later at boot, and wins", boot.entry.name);
            (what, super::advice::yield_at_boot(snapshot, boot))
        }
        None => ("nothing registers it at boot".to_owned(), String::new()),
    };
    Unmet { subject, id: "not-persistent", message, advice }
}

/// Whether the kernel's table is that of a host around this process: in a chroot, and in a
/// container that has no table of its own.
pub fn is_confined(snapshot: &Snapshot) -> bool {
    match snapshot.facts.confinement {
        Confinement::None => false,
        Confinement::Chroot => true,
        Confinement::Container(_) => !snapshot.facts.user_namespace,
    }
}
