// SPDX-License-Identifier: MIT OR Apache-2.0
//! Vetting: what is wrong with a handler and its interpreter.

use std::path::PathBuf;

use crate::binfmt::rule::Rule;
use crate::platform::Platform;
use crate::qemu::{self, Interpreter, Suspicion, Translator, Trust};
use crate::record::FileIdentity;
use crate::snapshot::Snapshot;
use crate::target::Target;

/// Something that is wrong with a handler.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Defect {
    /// Another translator than QEMU holds the target.
    OtherTranslator(Translator),
    /// No `F`: the interpreter is looked for inside the container, where it is not.
    NoFixBinary,
    /// The interpreter is not there, and the kernel holds none.
    InterpreterMissing(String),
    /// With `F`, and the file that the kernel holds cannot be looked at any more.
    InterpreterDeleted(String),
    /// The kernel holds another file than the one on disk now.
    InterpreterStale,
    /// It needs a loader and libraries, which a container does not have.
    InterpreterDynamic(String),
    /// It is no program for this host, or a QEMU for another platform.
    InterpreterWrongMachine(String),
    /// Others than root could change it.
    InterpreterWritable(Suspicion),
    /// It does not belong to root.
    InterpreterOwner(Suspicion),
    /// Whether others could change it cannot be seen.
    InterpreterTrustUnknown(String),
    /// The interpreter's name demands `P`, and it is missing.
    WrongFlags,
    /// `C`: setuid programs gain their owner's rights, and the configuration does not ask for it.
    Credentials,
    /// The configuration names another interpreter, which is there: its path.
    NotConfigured(PathBuf),
}

impl Defect {
    /// Whether it is registered otherwise although it works, since that is what the configuration says.
    pub fn is_against_configuration(&self) -> bool {
        matches!(self, Self::Credentials | Self::NotConfigured(_))
    }

    /// Whether no handler with it is registered: it is none that counts as good, or whether its interpreter is safe is
    /// in doubt.
    pub fn keeps_from_registering(&self) -> bool {
        self.is_blocking() || matches!(self, Self::InterpreterTrustUnknown(_))
    }

    /// Whether a handler with it is none that counts as good. The others are only reported.
    pub fn is_blocking(&self) -> bool {
        !matches!(self, Self::Credentials | Self::NotConfigured(_) | Self::InterpreterTrustUnknown(_))
    }
}

/// Whether the configuration asks for the flag `C` of this target.
pub(super) fn may_have_credentials(snapshot: &Snapshot, target: &Target) -> bool {
    snapshot.config.credentials || target.rule.as_ref().is_some_and(|rule| rule.flags.credentials)
}

/// What speaks against registering `rule` for `target`, the flag `C` left aside.
pub fn vet(snapshot: &Snapshot, target: &Target, rule: &Rule) -> Vec<Defect> {
    let mut defects = Vec::new();
    if !rule.flags.fix_binary {
        defects.push(Defect::NoFixBinary);
    }
    if qemu::needs_preserve_argv0(&rule.interpreter) && !rule.flags.preserve_argv0 {
        defects.push(Defect::WrongFlags);
    }
    match snapshot.interpreters.get(&rule.interpreter) {
        Some(Ok(interpreter)) => vet_interpreter(snapshot, target, interpreter, &mut defects),
        Some(Err(why)) if why.starts_with(qemu::UNREADABLE) => {
            defects.push(Defect::InterpreterTrustUnknown(format!("{}: {why}", rule.interpreter.display())));
        }
        Some(Err(why)) => defects.push(Defect::InterpreterMissing(why.clone())),
        None => defects.push(Defect::InterpreterTrustUnknown("it was not looked at".to_owned())),
    }
    defects.extend(not_configured(snapshot, target, rule));
    defects
}

/// The same file by another name would be the same handler, but for what the name demands.
fn not_configured(snapshot: &Snapshot, target: &Target, rule: &Rule) -> Option<Defect> {
    let path = snapshot.config.interpreter_of(target.platform).filter(|_| target.rule.is_none())?;
    let wanted = snapshot.file_on_disk(path)?;
    let is_wanted = |held: &FileIdentity| held.is_same(wanted);
    let is_same = *path == *rule.interpreter || snapshot.file_on_disk(&rule.interpreter).is_some_and(is_wanted);
    (!is_same).then(|| Defect::NotConfigured(path.to_owned()))
}

fn vet_interpreter(snapshot: &Snapshot, target: &Target, interpreter: &Interpreter, defects: &mut Vec<Defect>) {
    let native = &snapshot.facts.native;
    let own = match (native.first(), snapshot.facts.machine.as_str()) {
        (Some(platform), _) => platform.to_string(),
        (None, "") => "this system, whose architecture is not known".to_owned(),
        (None, machine) => machine.to_owned(),
    };
    match &interpreter.program {
        None => defects.push(Defect::InterpreterWrongMachine("it is no ELF program".to_owned())),
        Some(program) => {
            // Whether an image's kernel and CPU run programs of the other half of its family is not
            // known: such programs are never given a handler, and are no interpreters either.
            let runs = |p: &Platform| if snapshot.live { native.contains(&p) } else { native.first() == Some(&p) };
            if !program.runs_on.is_some_and(runs) {
                let found = program.runs_on.map_or("an unknown platform".to_owned(), ToString::to_string);
                defects.push(Defect::InterpreterWrongMachine(format!("it is a program for {found}, not for {own}")));
            }
            if let Some(loader) = &program.loader {
                defects.push(Defect::InterpreterDynamic(loader.clone()));
            }
        }
    }
    if !interpreter.executable {
        defects.push(Defect::InterpreterWrongMachine("it has no permission to be executed".to_owned()));
    }
    let emulates = qemu::target_of(&interpreter.resolved).or_else(|| qemu::target_of(&interpreter.path));
    if let Some((platform, emulates)) = target.platform.zip(emulates).filter(|(p, emulates)| p.qemu != *emulates) {
        defects.push(Defect::InterpreterWrongMachine(format!("it is QEMU for {emulates}, not for {}", platform.qemu)));
    }
    match &interpreter.trust {
        Trust::Safe => {}
        Trust::Writable(why) => defects.push(Defect::InterpreterWritable(why.clone())),
        Trust::Owned(why) => defects.push(Defect::InterpreterOwner(why.clone())),
        Trust::Unknown(why) => defects.push(Defect::InterpreterTrustUnknown(why.clone())),
    }
}
