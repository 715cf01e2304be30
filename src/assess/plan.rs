// SPDX-License-Identifier: MIT OR Apache-2.0
//! The plan: which actions would make every target work, now and after the next boot, and take
//! back what is no longer wanted.

use std::path::{Path, PathBuf};

use serde::Serialize;

use super::look::{Defect, Look, Origin, is_recorded, vet, would_work_at_boot};
use crate::binfmt::entry::Entry;
use crate::binfmt::fragment::{self, Fragment};
use crate::binfmt::rule::{Flags, Rule};
use crate::host::Confinement;
use crate::platform::Platform;
use crate::qemu;
use crate::snapshot::{Kernel, Snapshot};
use crate::target::Target;

/// What a run is allowed and asked to do, beyond the configuration.
#[derive(Clone, Debug, Default)]
pub struct Wish {
    /// The platforms that the run is limited to; empty for everything that is wanted.
    pub only: Vec<&'static Platform>,
    /// Displace other translators, and handlers of others that have the `C` flag.
    pub take_over: bool,
    /// Change the kernel's table even in a container or chroot, and go on where it would refuse.
    pub force: bool,
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
        displaced: Option<Rule>,
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
        }
    }

    /// The handler or file that it is about; empty for the table as a whole.
    pub fn handler(&self) -> String {
        match self {
            Self::Mount | Self::EnableAll => String::new(),
            Self::Register { rule, .. } | Self::Restore { rule } => rule.name.clone(),
            Self::Enable { name } | Self::Retire { name, .. } | Self::DisableCapturing { name } => name.clone(),
            Self::WriteFragment { path, .. } | Self::RemoveFragment { path } => path.display().to_string(),
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

/// What is to be done.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    /// The steps, in their order.
    pub steps: Vec<Step>,
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

/// The rule that a target should have, and whether a fragment of others restores it at boot.
fn desired(snapshot: &Snapshot, look: &Look<'_>) -> Result<Rule, Unmet> {
    let target = look.target;
    let fits = |rule: &Rule| {
        let credentials = rule.flags.credentials && !snapshot.config.credentials && target.rule.is_none();
        !credentials && vet(snapshot, target, rule).iter().all(|defect| !defect.is_blocking() && !is_doubt(defect))
    };
    let configured = snapshot.config.interpreters.iter().find(|(platform, _)| Some(*platform) == target.platform);
    if let Some(rule) = &target.rule {
        return if fits(rule) { Ok(rule.clone()) } else { Err(refuse(snapshot, target, rule)) };
    }
    if let Some((_, path)) = configured {
        let rule = make_rule(snapshot, target, path);
        return if fits(&rule) { Ok(rule) } else { Err(refuse(snapshot, target, &rule)) };
    }
    let others = snapshot.fragments.iter().filter(|fragment| !fragment.content.ours);
    let overridden = snapshot.fragments.iter().flat_map(|f| &f.overridden).map(|o| &o.content);
    let written = others.map(|fragment| &fragment.content).chain(overridden).flat_map(|content| &content.rules);
    let named = |rule: &&Rule| rule.name == target.name && target.heads.iter().all(|head| rule.pattern.matches(head));
    if let Some(rule) = written.filter(named).find(|rule| fits(rule)) {
        return Ok(rule.clone());
    }
    let Some(platform) = target.platform else { return Err(no_qemu(snapshot, target)) };
    let rules = qemu::candidates(platform).map(|path| make_rule(snapshot, target, &path));
    if let Some(rule) = rules.iter().find(|rule| fits(rule)) {
        return Ok(rule.clone());
    }
    let present = |rule: &&Rule| snapshot.interpreters.get(&rule.interpreter).is_some_and(Result::is_ok);
    Err(match rules.iter().find(present) {
        Some(rule) => refuse(snapshot, target, rule),
        None => no_qemu(snapshot, target),
    })
}

/// Whether a defect leaves open whether the interpreter is safe: enough not to register it.
fn is_doubt(defect: &Defect) -> bool {
    matches!(defect, Defect::InterpreterTrustUnknown(_))
}

fn make_rule(snapshot: &Snapshot, target: &Target, interpreter: &Path) -> Rule {
    let flags = Flags {
        preserve_argv0: qemu::needs_preserve_argv0(interpreter),
        open_binary: true,
        credentials: snapshot.config.credentials,
        fix_binary: true,
    };
    Rule { name: target.name.clone(), pattern: target.pattern.clone(), interpreter: interpreter.to_owned(), flags }
}

fn refuse(snapshot: &Snapshot, target: &Target, rule: &Rule) -> Unmet {
    let defects = vet(snapshot, target, rule);
    let defect = defects.iter().find(|d| d.is_blocking() || is_doubt(d));
    let (id, message, advice) = defect.map_or_else(
        || ("credentials-flag", "its flag C is not asked for by the configuration".to_owned(), String::new()),
        |defect| super::checks::describe_defect(snapshot, target, &rule.interpreter, defect),
    );
    Unmet { subject: target.subject.clone(), id, message, advice }
}

fn no_qemu(snapshot: &Snapshot, target: &Target) -> Unmet {
    Unmet {
        subject: target.subject.clone(),
        id: "no-qemu",
        message: format!("no QEMU that can run {} programs is installed", target.subject),
        advice: super::advice::install_qemu(snapshot),
    }
}

/// Makes the plan for what `looks` saw of the wanted targets.
pub fn plan(snapshot: &Snapshot, looks: &[Look<'_>], wish: &Wish) -> Plan {
    let mut plan = Plan::default();
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
            clear_stand_in(snapshot, look, &mut plan);
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

fn plan_entry(snapshot: &Snapshot, look: &Look<'_>, desired: Result<&Rule, &Unmet>, wish: &Wish, plan: &mut Plan) {
    let target = look.target;
    let subject = Some(target.subject.as_str());
    let take_over = wish.take_over || snapshot.config.take_over;
    if let Some(winner) = &look.winner {
        let foreign_credentials = winner.defects.contains(&Defect::Credentials);
        let overridable = matches!(winner.origin, Origin::Distribution(_) | Origin::Ours) || take_over;
        if winner.is_good() && !(foreign_credentials && overridable) {
            rename_stand_in(snapshot, look, desired.ok(), plan);
            return;
        }
        let translator = winner.defects.iter().find_map(|defect| match defect {
            Defect::OtherTranslator(translator) => Some(translator.name()),
            _ => None,
        });
        if let Some(name) = translator.filter(|_| !take_over) {
            plan.unmet.push(Unmet {
                subject: target.subject.clone(),
                id: "other-translator",
                message: format!("{name} runs {} programs here (entry {})", target.subject, winner.entry.name),
                advice: format!(
                    "To let QEMU run them instead, which works in every container: {}.",
                    super::advice::take_over(snapshot)
                ),
            });
            return;
        }
    }
    let Ok(desired) = desired else { return };
    let table = snapshot.kernel.table();
    let why = super::checks::why_not_working(look);
    let same = |entry: &Entry| !entry.enabled && entry.does_what(desired) && entry.name == desired.name;
    // A disabled entry may hold another file than the one on disk; only our record can tell.
    let disabled = table.and_then(|table| table.entry(&desired.name)).filter(|_| look.disabled.is_some());
    if let Some(entry) = disabled.filter(|entry| same(entry) && is_current(snapshot, target, entry)) {
        plan.push(subject, Action::Enable { name: entry.name.clone() }, why);
        return;
    }
    let Some(holder) = table.and_then(|table| table.entry(&desired.name)) else {
        plan.push(subject, Action::Register { rule: desired.clone(), manner: Manner::New, displaced: None }, why);
        return;
    };
    if may_displace(snapshot, target, holder) {
        let given_back = holder.rule().filter(|_| !is_ours(snapshot, holder));
        let displaced = given_back.or_else(|| displaced_before(snapshot, &holder.name));
        plan.push(subject, Action::Register { rule: desired.clone(), manner: Manner::Exchange, displaced }, why);
        return;
    }
    let name = stand_in(&desired.name);
    let taken = table.is_some_and(|table| table.entry(&name).is_some());
    let manner = if taken { Manner::Exchange } else { Manner::New };
    let why = format!("{why}; the name {} is left to its holder", desired.name);
    plan.push(subject, Action::Register { rule: desired.renamed(name), manner, displaced: None }, why);
}

fn is_current(snapshot: &Snapshot, target: &Target, entry: &Entry) -> bool {
    super::look::stand(snapshot, target, entry, true).currency != super::look::Currency::Stale
}

fn displaced_before(snapshot: &Snapshot, name: &str) -> Option<Rule> {
    snapshot.registrations.entries.get(name)?.displaced.clone()
}

fn is_ours(snapshot: &Snapshot, entry: &Entry) -> bool {
    super::look::origin_of(snapshot, entry) == Origin::Ours
}

/// Whether the holder of the conventional name may be replaced: it is for the same programs, and
/// could be registered again, since its interpreter is there.
fn may_displace(snapshot: &Snapshot, target: &Target, holder: &Entry) -> bool {
    let reachable = !holder.flags.fix_binary
        || snapshot.interpreters.get(&holder.interpreter).is_some_and(Result::is_ok)
        || is_ours(snapshot, holder);
    target.heads.iter().any(|head| holder.matches(head)) && reachable
}

/// Gives the rule of a stand-in that wins the conventional name, where that is free by now.
fn rename_stand_in(snapshot: &Snapshot, look: &Look<'_>, desired: Option<&Rule>, plan: &mut Plan) {
    let Some(table) = snapshot.kernel.table() else { return };
    let name = stand_in(&look.target.name);
    let wins = look.winner.as_ref().is_some_and(|winner| winner.entry.name == name);
    let ours = table.entry(&name).is_some_and(|entry| is_recorded(snapshot, entry));
    let Some(rule) = desired.filter(|rule| wins && ours && table.entry(&rule.name).is_none()) else { return };
    let why = format!("the name {} is free, under which other tools look for it", rule.name);
    let register = Action::Register { rule: rule.clone(), manner: Manner::New, displaced: None };
    plan.push(Some(&look.target.subject), register, why);
}

/// Clears a stand-in that a run left behind, unless it is what runs programs after this plan.
fn clear_stand_in(snapshot: &Snapshot, look: &Look<'_>, plan: &mut Plan) {
    let Some(table) = snapshot.kernel.table() else { return };
    let (own, name) = (&look.target.name, stand_in(&look.target.name));
    if !table.entry(&name).is_some_and(|entry| is_recorded(snapshot, entry)) {
        return;
    }
    let mut replaced = false;
    for step in &plan.steps {
        match &step.action {
            // This clears it by itself.
            Action::Register { rule, manner: Manner::Exchange, .. } if rule.name == *own => return,
            Action::Register { rule, .. } if rule.name == name => return,
            Action::Register { rule, .. } => replaced |= rule.name == *own,
            Action::Enable { name: enabled } => replaced |= enabled == own,
            _ => {}
        }
    }
    let wins = look.target.heads.iter().any(|head| table.winner(head).is_some_and(|entry| entry.name == name));
    if replaced || !wins {
        let why = "it stood in for the handler, and is needed no more";
        plan.push(Some(&look.target.subject), Action::Retire { name, restore: None }, why);
    }
}

fn plan_fragment(snapshot: &Snapshot, look: &Look<'_>, desired: Option<&Rule>, wish: &Wish, plan: &mut Plan) {
    let target = look.target;
    let subject = Some(target.subject.as_str());
    let path = fragment::path_of(&target.name);
    let ours = look.fragment.filter(|fragment| fragment.content.ours);
    let foreign = look.fragment.filter(|fragment| fragment.is_administrators());
    let vendors = vendors_rule(look.fragment).filter(|rule| desired == Some(rule));
    match (ours, desired) {
        (Some(_), _) if vendors.is_some() => {
            let why = "the distribution's own fragment is good, so ours is not needed";
            plan.push(subject, Action::RemoveFragment { path }, why);
        }
        (Some(ours), None) if !look.works_after_boot() => {
            let _ = ours;
            let why = "the interpreter that it names is no good any more";
            plan.push(subject, Action::RemoveFragment { path }, why);
        }
        (Some(ours), Some(rule)) if ours.content.rules != [rule.clone()] => {
            let why = "it names another rule than the one that is wanted";
            plan.push(subject, Action::WriteFragment { path, rule: rule.clone() }, why);
        }
        (None, Some(rule))
            if foreign.is_none()
                && !restored_at_boot(look, wish.take_over || snapshot.config.take_over)
                && would_work_at_boot(snapshot, target, &format!("{}.conf", target.name), rule) =>
        {
            let why = "no file in binfmt.d restores a good handler at boot";
            plan.push(subject, Action::WriteFragment { path, rule: rule.clone() }, why);
        }
        _ => {}
    }
}

/// Whether the files of others restore a handler at boot with which nothing is to be mended.
fn restored_at_boot(look: &Look<'_>, take_over: bool) -> bool {
    let Some(boot) = &look.boot else { return false };
    let mended = boot.defects.contains(&Defect::Credentials) && matches!(boot.origin, Origin::Distribution(_));
    let translator = boot.defects.iter().any(|d| matches!(d, Defect::OtherTranslator(_)));
    let left_alone = translator && !take_over;
    (boot.is_good() && !mended) || left_alone
}

/// The rule of the distribution's own fragment of that name, whether ours overrides it or not; none
/// where the administrator's does.
fn vendors_rule(fragment: Option<&Fragment>) -> Option<Rule> {
    let fragment = fragment?;
    let overridden = fragment.overridden.iter().map(|o| &o.content);
    if !fragment.is_vendors() && !fragment.content.ours {
        return None;
    }
    let own = fragment.is_vendors().then_some(&fragment.content);
    own.into_iter().chain(overridden).find_map(|content| content.rules.first().cloned())
}

/// Whether the kernel would not take `rule`, since its interpreter is known to be gone.
fn is_hopeless(snapshot: &Snapshot, rule: &Rule) -> bool {
    rule.flags.fix_binary && snapshot.interpreters.get(&rule.interpreter).is_some_and(Result::is_err)
}

/// Takes back what is ours and no longer wanted.
fn plan_leftovers(snapshot: &Snapshot, looks: &[Look<'_>], wish: &Wish, kernel: bool, plan: &mut Plan) {
    let why = "nothing that is wanted needs it any more";
    let wanted = |name: &str| looks.iter().any(|look| look.target.name == name || stand_in(&look.target.name) == name);
    let meant = |name: &str| wish.only.is_empty() || wish.only.iter().any(|p| p.handler_name() == name);
    for fragment in snapshot.fragments.iter().filter(|fragment| fragment.content.ours) {
        let name = fragment.name.trim_end_matches(".conf");
        if wanted(name) || !meant(name) {
            continue;
        }
        plan.push(None, Action::RemoveFragment { path: fragment.path.clone() }, why);
        let restore = vendors_rule(Some(fragment));
        let held = snapshot.kernel.table().is_some_and(|table| table.entry(name).is_some());
        if let Some(rule) = restore.filter(|rule| kernel && !held && !is_hopeless(snapshot, rule)) {
            let why = "the distribution's own handler, which ours had overridden";
            plan.push(None, Action::Restore { rule }, why);
        }
    }
    let entries = snapshot.kernel.table().filter(|_| kernel).map_or(&[][..], |table| &table.entries);
    for entry in entries.iter().filter(|entry| is_ours(snapshot, entry)) {
        let base = stood_in_for(&entry.name).unwrap_or_else(|| entry.name.clone());
        let runs = |look: &Look<'_>| look.winner.as_ref().is_some_and(|winner| winner.entry.name == entry.name);
        let needed = looks.iter().any(|look| runs(look) && !plan.replaces(look));
        if wanted(&entry.name) || needed || !meant(&base) {
            continue;
        }
        let fragment = snapshot.fragments.iter().find(|f| f.name == format!("{}.conf", entry.name));
        let vendors = vendors_rule(fragment);
        let displaced = displaced_before(snapshot, &entry.name);
        // What the distribution would have registered itself is not taken away.
        if displaced.is_none() && vendors.as_ref().is_some_and(|rule| entry.enabled && entry.does_what(rule)) {
            continue;
        }
        let restore = displaced.or(vendors).filter(|rule| !is_hopeless(snapshot, rule));
        plan.push(None, Action::Retire { name: entry.name.clone(), restore }, why);
    }
}
