// SPDX-License-Identifier: MIT OR Apache-2.0
//! Plans, carried out on a small model of the kernel and of the files.

use proptest::prelude::*;

use super::emulator::{PACKAGES, add, reject};
use super::*;
use crate::assess::origin::{Origin, origin_of};
use crate::assess::plan::{Action, Manner, Plan, stand_in};
use crate::binfmt::fragment::path_of;
use crate::config::Emulator;

/// The kernel's table and /etc, changed as `apply` changes them, with a look at every moment.
pub(super) struct Model {
    pub(super) host: Host,
    next_inode: u64,
    /// Whether programs of each kind could be started at every moment so far.
    started: Vec<bool>,
}

impl Model {
    pub(super) fn new(host: Host) -> Self {
        let mut model = Self { host, next_inode: 1000, started: vec![true; 2] };
        model.started = model.starts();
        model
    }

    /// Whether a handler takes programs of each kind whose interpreter is there and runs here.
    fn starts(&self) -> Vec<bool> {
        let Some(table) = self.host.0.kernel.table() else { return vec![false; 2] };
        let here = |path: &Path| {
            let program = self.host.0.interpreters.get(path).and_then(|i| i.as_ref().ok()?.program.as_ref());
            program.is_some_and(|program| program.runs_on == Some(platform("arm64")))
        };
        let target = target("amd64");
        let winner = |head: &Vec<u8>| table.winner(head).filter(|_| table.enabled);
        target.heads.iter().map(|head| winner(head).is_some_and(|entry| here(&entry.interpreter))).collect()
    }

    fn look(&mut self) {
        let now = self.starts();
        for (always, now) in self.started.iter_mut().zip(now) {
            *always &= now;
        }
    }

    fn register(&mut self, rule: &Rule) -> Result<(), String> {
        if self.host.table().entry(&rule.name).is_some() {
            return Err(format!("{}: EEXIST", rule.name));
        }
        if rule.flags.fix_binary && !self.host.0.interpreters.get(&rule.interpreter).is_some_and(Result::is_ok) {
            return Err(format!("{}: ENOENT", rule.interpreter.display()));
        }
        self.next_inode += 1;
        let inode = self.next_inode;
        self.host.entry(rule, inode);
        self.look();
        Ok(())
    }

    fn unregister(&mut self, name: &str) {
        self.host.table().entries.retain(|entry| entry.name != name);
        self.look();
    }

    fn exchange(&mut self, rule: &Rule) -> Result<(), String> {
        let first = stand_in(&rule.name);
        let left = self.host.table().entry(&first).is_some();
        let stand_in = rule.renamed(if left { stand_in(&first) } else { first.clone() });
        self.unregister(&stand_in.name);
        self.register(&stand_in)?;
        self.unregister(&rule.name);
        self.register(rule)?;
        self.unregister(&stand_in.name);
        self.unregister(&first);
        Ok(())
    }

    fn enable(&mut self, name: &str, enabled: bool) {
        let entry = self.host.table().entries.iter_mut().find(|entry| entry.name == name);
        entry.unwrap().enabled = enabled;
        self.look();
    }

    fn carry_out(&mut self, action: &Action) -> Result<(), String> {
        match action {
            Action::Mount => return Err("there is nothing to be mounted".into()),
            Action::EnableAll => self.host.table().enabled = true,
            Action::Enable { name } => self.enable(name, true),
            Action::DisableCapturing { name } => self.enable(name, false),
            Action::Register { rule, manner, displaced } => {
                match manner {
                    Manner::New => self.register(rule)?,
                    Manner::Exchange => self.exchange(rule)?,
                }
                let ino = self.host.0.interpreters[&rule.interpreter].as_ref().unwrap().identity.ino;
                let inode = self.host.table().entry(&rule.name).unwrap().inode;
                self.host.record(rule, inode, ino, displaced.as_deref());
            }
            Action::Restore { rule } => self.register(rule)?,
            Action::Retire { name, restore } => {
                match restore {
                    Some(rule) => self.exchange(rule)?,
                    None => self.unregister(name),
                }
                self.host.0.registrations.entries.remove(name);
            }
            Action::WriteFragment { path, rule } => {
                assert_eq!(*path, path_of(&rule.name));
                self.host.ours(rule);
            }
            Action::WriteConfig { .. }
            | Action::RemoveConfig { .. }
            | Action::NoteRemoval { .. }
            | Action::LiftRemoval { .. } => return Err("nothing of that is asked for".into()),
            Action::RemoveFragment { path } => {
                let fragments = &mut self.host.0.fragments;
                let at = fragments.iter().position(|f| f.path == *path).ok_or("no such fragment")?;
                assert!(fragments[at].content.ours, "only what is ours is removed");
                let old = fragments.remove(at);
                for Overridden { path, content } in old.overridden {
                    self.host.add(fragment(path.to_str().unwrap(), content));
                }
            }
        }
        Ok(())
    }

    /// Carries out what `wish` wants, and checks of each step that it touches nobody else's.
    pub(super) fn apply(&mut self, wish: &Wish) -> Result<Plan, TestCaseError> {
        let plan = assess(&self.host.0, wish).plan;
        for step in &plan.steps {
            self.check(&step.action)?;
        }
        for step in &plan.steps {
            if let Err(e) = self.carry_out(&step.action) {
                return Err(TestCaseError::fail(format!("{e} in {step:#?}\nof {:#?}", plan.steps)));
            }
        }
        Ok(plan)
    }

    /// No step removes an entry of others, but for one that it replaces for the same programs.
    fn check(&self, action: &Action) -> Result<(), TestCaseError> {
        let snapshot = &self.host.0;
        let held = |name: &str| snapshot.kernel.table().and_then(|table| table.entry(name));
        let ours = |name: &str| held(name).is_none_or(|entry| origin_of(snapshot, entry) == Origin::Ours);
        match action {
            Action::Register { rule, manner: Manner::Exchange, .. } => {
                let heads = target("amd64").heads;
                let same = held(&rule.name).is_some_and(|held| heads.iter().any(|head| held.matches(head)));
                prop_assert!(same || ours(&rule.name), "{action:?}");
                prop_assert!(ours(&stand_in(&rule.name)), "{action:?}");
            }
            Action::Retire { name, .. } => prop_assert!(ours(name), "{action:?}"),
            Action::DisableCapturing { .. } => prop_assert!(false, "there is none"),
            _ => {}
        }
        Ok(())
    }
}

const PATHS: [&str; 8] =
    [QEMU_P, QEMU, PACKAGES, "/opt/dynamic", "/opt/foreign", "/opt/gone", "/usr/bin/box64", "/usr/bin/qemu-arm-static"];
const NAMES: [&str; 5] = ["qemu-x86_64", "persist-x86_64", "other", "box64", "zz"];
const FLAGS: [&str; 5] = ["POF", "OF", "POCF", "O", ""];

fn any_rule() -> impl Strategy<Value = Rule> {
    use prop::sample::select;
    (select(&NAMES[..]), select(&PATHS[..]), select(&FLAGS[..]), 0..6_u8).prop_map(|(name, path, flags, kind)| {
        let mut rule = rule_for(if kind == 0 { "riscv64" } else { "amd64" }, name, path, flags);
        if kind == 1 || kind == 2 {
            // Programs of one kind only.
            rule.pattern.mask[16] = 0xff;
            rule.pattern.magic[16] = kind + 1;
        }
        rule
    })
}

/// An entry: its rule, whether it is enabled, and whether it is recorded as ours (stale or not).
fn any_entry() -> impl Strategy<Value = (Rule, bool, Option<bool>)> {
    (any_rule(), prop::bool::weighted(0.8), prop::option::weighted(0.3, any::<bool>()))
}

fn any_fragment() -> impl Strategy<Value = String> {
    let ours = || any_rule().prop_map(|rule| render(&rule.renamed("qemu-x86_64")));
    let theirs = any_rule().prop_map(|rule| format!("{rule}\n"));
    prop_oneof![ours(), ours(), theirs, Just("# nothing\n".to_owned()), Just("nonsense\n".to_owned())]
}

prop_compose! {
    fn any_host()(
        entries in prop::collection::vec(any_entry(), 0..5),
        on in prop::bool::weighted(0.9),
        vendors in prop::option::of(prop::sample::select(&FLAGS[..])),
        etc in prop::option::of(any_fragment()),
        late in prop::option::weighted(0.2, any_rule()),
        early in prop::option::weighted(0.2, any_rule()),
        installed in prop::bool::weighted(0.8),
        credentials in prop::bool::weighted(0.1),
        take_over in prop::bool::weighted(0.1),
        live in prop::bool::weighted(0.8),
        emulator in (prop::bool::weighted(0.4), prop::bool::weighted(0.5), prop::sample::select(&Emulator::ALL[..])),
        rejected in prop::bool::weighted(0.2),
    ) -> Host {
        let mut host = Host::empty();
        host.0.proofs.clear();
        add_bad_interpreters(&mut host);
        host.install("/usr/bin/qemu-arm-static");
        if !installed {
            host.uninstall(QEMU).uninstall(QEMU_P);
        }
        let (there, large_pages, when) = emulator;
        if there {
            add(&mut host);
        }
        if rejected {
            reject(&mut host, "6.12.1", identity(21));
        }
        host.0.facts.page_size = if large_pages { 16384 } else { 4096 };
        host.0.config.emulator = when;
        host.0.fragments.clear();
        if let Some(flags) = vendors {
            host.vendors(flags);
        }
        if let Some(text) = etc {
            host.etc(&text);
        }
        for (name, rule) in [("00-early.conf", early), ("zz-late.conf", late)] {
            if let Some(rule) = rule {
                host.add(fragment(&format!("/usr/lib/binfmt.d/{name}"), parse(&rule.to_string())));
            }
        }
        for (inode, (rule, enabled, recorded)) in (1..).zip(entries) {
            // The kernel has one of each name, and takes none with F whose interpreter is not there;
            // it may have gone since.
            // Nobody else uses a stand-in's name, and ours are for programs of both kinds.
            let odd = rule.name == "persist-x86_64" && (rule.pattern.mask[16] != 0xfe || rule.pattern.magic[18] != 0x3e);
            if host.table().entry(&rule.name).is_none() && !odd {
                host.entry(&rule, inode).enabled = enabled;
                let recorded = recorded.or((rule.name == "persist-x86_64").then_some(true));
                let recorded = recorded.filter(|_| rule.name.ends_with("-x86_64") && rule.pattern.mask[16] == 0xfe);
                if let Some(current) = recorded {
                    host.record(&rule, inode, if current { 11 } else { 10 }, None);
                }
            }
        }
        host.table().enabled = on;
        host.0.config.credentials = credentials;
        host.0.config.take_over = take_over;
        if !live {
            host.0.live = false;
            host.0.kernel = Kernel::NotAsked;
            host.0.registrations.entries.clear();
        }
        host
    }
}

fn wish(take_over: bool) -> Wish {
    Wish { take_over, ..Wish::default() }
}

/// What others have in the table, by name.
fn foreign(host: &Host) -> Vec<Rule> {
    let entries = host.0.kernel.table().map_or(&[][..], |table| &table.entries);
    let others = entries.iter().filter(|entry| origin_of(&host.0, entry) != Origin::Ours);
    let mut rules: Vec<_> = others.filter_map(Entry::rule).collect();
    rules.sort_by(|a, b| a.name.cmp(&b.name));
    rules
}

/// Whether a fragment of others makes the entry `name` just as it is.
fn others_register(host: &Host, name: &str) -> bool {
    let entry = host.0.kernel.table().and_then(|table| table.entry(name));
    let rules = host.0.fragments.iter().filter(|f| !f.content.ours).flat_map(|f| &f.content.rules);
    entry.is_some_and(|entry| rules.into_iter().any(|rule| rule.name == name && entry.does_what(rule)))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..ProptestConfig::default() })]

    /// A plan mends what it can at once: after it nothing is left to do, and a target either works
    /// or is told to be out of reach. Programs that could be started before can be started at every
    /// moment of it.
    #[test]
    fn a_plan_is_carried_out_once(host in any_host(), take_over in prop::bool::weighted(0.2)) {
        let before = format!("{host:?}");
        let mut model = Model::new(host);
        let started = model.started.clone();
        let first = model.apply(&wish(take_over))?;
        prop_assert_eq!(&model.started, &started, "programs could not be started for a moment: {:#?}\n{}", first.steps, before);
        let after = assess(&model.host.0, &wish(take_over));
        prop_assert!(after.plan.steps.is_empty(), "{:#?}\nafter {:#?}\non {}", after.plan.steps, first.steps, before);
        let look = &after.looks[0];
        let works = if model.host.0.live { look.works_now() } else { look.works_after_boot() };
        let stood_aside = after.plan.unmet.iter().any(|unmet| unmet.subject == "linux/amd64");
        prop_assert_eq!(works, !stood_aside, "{:#?}\nafter {:#?}\non {}", after.plan.unmet, first.steps, before);
        // Without --take-over nothing of this is undone the next time.
        let later = assess(&model.host.0, &wish(false)).plan.steps;
        prop_assert!(later.is_empty(), "{:#?}\nafter {:#?}\non {}", later, first.steps, before);
    }

    /// What is taken back is all of ours, and what it had replaced is there again.
    #[test]
    fn remove_gives_back(host in any_host(), take_over in prop::bool::weighted(0.2)) {
        let before = format!("{host:?}");
        let others = foreign(&host);
        let mut model = Model::new(host);
        let applied = model.apply(&wish(take_over))?;
        // What our fragment says as well could have come from it, at the boot before.
        let fragments = model.host.0.fragments.iter().filter(|f| f.content.ours);
        let written: Vec<_> = fragments.flat_map(|f| f.content.rules.clone()).collect();
        model.host.0.targets.clear();
        let removed = model.apply(&wish(false))?;
        let left = foreign(&model.host);
        let story = format!("{:#?}\nthen {:#?}\non {}", applied.steps, removed.steps, before);
        for rule in others.iter().filter(|rule| !written.contains(rule)) {
            // What could not be registered again is covered, and never taken away.
            prop_assert!(left.contains(rule), "{} is gone after {}", rule, story);
        }
        prop_assert!(model.host.0.fragments.iter().all(|f| !f.content.ours), "fragments {}", story);
        let names: Vec<_> = model.host.0.registrations.entries.keys().cloned().collect();
        // What the distribution registers itself stays.
        let vendors = |name: &String| others_register(&model.host, name);
        let names: Vec<_> = names.into_iter().filter(|name| !vendors(name)).collect();
        for name in names {
            let entry = model.host.0.kernel.table().and_then(|table| table.entry(&name));
            prop_assert!(entry.is_none(), "{} stays after {}", name, story);
        }
        let later = assess(&model.host.0, &wish(false)).plan.steps;
        prop_assert!(later.is_empty(), "{:#?} after {}", later, story);
    }
}

#[test]
fn what_somebody_registered_while_a_stand_in_stood_in_is_left_to_them() {
    let stood_in = |recorded: &str| {
        let mut host = Host::healthy();
        let theirs = host.table().entry("qemu-x86_64").and_then(Entry::rule).unwrap();
        let stand_in = theirs.renamed(stand_in("qemu-x86_64"));
        host.entry(&stand_in, 77);
        host.record(&theirs.renamed(recorded.to_owned()), if recorded == "qemu-x86_64" { 0 } else { 77 }, 11, None);
        host.assess().plan.steps.into_iter().map(|step| (step.action.name(), step.action.handler())).collect::<Vec<_>>()
    };
    let retired = ("retire", "persist-x86_64".to_owned());
    assert_eq!(stood_in("persist-x86_64"), [retired]);
    // What an exchange was to replace is replaced.
    assert_eq!(stood_in("qemu-x86_64"), [("register", "qemu-x86_64".to_owned())]);
}
