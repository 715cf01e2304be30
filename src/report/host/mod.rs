// SPDX-License-Identifier: MIT OR Apache-2.0
//! The text that `qemu-persist host` shows.

mod programs;

use std::fmt::Display;
use std::io;

use programs::{show_engine, show_qemu, show_translators};

use super::{Screen, Tone, escape};
use crate::emulator::{self, PACKAGE};
use crate::host::arm::Arm32;
use crate::host::cpu::{Core, Hardware};
use crate::host::survey::{BinfmtMisc, Place, Survey};
use crate::host::{Confinement, EtcPersistence, KernelSupport};

/// Columns before the value of a line: the label, right-aligned, a colon and a blank.
const LABEL: usize = 16;

/// Writes one labelled value, in colour where it fits on its line.
fn field(screen: &mut Screen, label: &str, tone: Option<Tone>, value: &str) -> io::Result<()> {
    let value = escape(value);
    let first = if label.is_empty() { " ".repeat(LABEL) } else { format!("{label:>width$}: ", width = LABEL - 2) };
    match tone {
        Some(tone) if LABEL + value.chars().count() <= 80 => {
            let shown = screen.tint(tone, &value);
            screen.line(format!("{first}{shown}"))
        }
        _ => screen.paragraph(&first, LABEL, &value),
    }
}

fn heading(screen: &mut Screen, text: &str) -> io::Result<()> {
    let shown = screen.tint(Tone::Strong, text);
    screen.line(shown)
}

/// A value, or that and why it is not known.
fn known(screen: &mut Screen, label: &str, value: Option<&str>, why: Option<&String>) -> io::Result<()> {
    if let Some(value) = value {
        return field(screen, label, None, value);
    }
    let text = why.map_or_else(|| "unknown".to_owned(), |why| format!("unknown ({why})"));
    field(screen, label, Some(Tone::Unknown), &text)
}

fn list(items: impl IntoIterator<Item = impl Display>) -> String {
    items.into_iter().map(|item| item.to_string()).collect::<Vec<_>>().join(", ")
}

/// Writes all that was found out, grouped, in 80 columns.
///
/// # Errors
/// Those of writing.
pub fn show(survey: &Survey, screen: &mut Screen) -> io::Result<()> {
    if !survey.facts.is_live() {
        heading(screen, &format!("System image {}", escape(&survey.root.display().to_string())))?;
        screen.line("")?;
    }
    if let Some(hardware) = &survey.hardware {
        show_hardware(survey, hardware, screen)?;
        screen.line("")?;
    }
    show_kernel(survey, screen)?;
    screen.line("")?;
    show_system(survey, screen)?;
    screen.line("")?;
    if let Some(binfmt_misc) = &survey.binfmt_misc {
        heading(screen, "binfmt_misc")?;
        show_binfmt_misc(survey, binfmt_misc, screen)?;
        screen.line("")?;
    }
    heading(screen, "Interpreters")?;
    show_qemu(&survey.qemu, screen)?;
    show_translators(&survey.translators, screen)?;
    screen.line("")?;
    heading(screen, "Container engines")?;
    if survey.engines.is_empty() {
        field(screen, "", Some(Tone::Faint), "none: neither docker, podman nor nerdctl is installed")?;
    }
    survey.engines.iter().try_for_each(|engine| show_engine(engine, screen))?;
    screen.flush()
}

fn core_text(core: &Core) -> String {
    let name = core.name.as_deref().unwrap_or("core of an unknown kind");
    let vendor = core.vendor.as_ref().map(|vendor| format!(" ({vendor})")).unwrap_or_default();
    let codes = match (&core.implementer, &core.part) {
        (Some(implementer), Some(part)) => format!(", implementer {implementer}, part {part}"),
        _ => String::new(),
    };
    format!("{} × {name}{vendor}{codes}", core.count)
}

fn show_hardware(survey: &Survey, hardware: &Hardware, screen: &mut Screen) -> io::Result<()> {
    heading(screen, "Hardware")?;
    known(screen, "Board", hardware.board.as_deref(), survey.unknown.get("hardware.board"))?;
    for (number, core) in hardware.cores.iter().enumerate() {
        field(screen, if number == 0 { "CPU" } else { "" }, None, &core_text(core))?;
    }
    // Kept to whole tenths of a GiB, which the kernel's own share makes no round number.
    let memory = hardware.memory.map(|bytes| {
        let tenths = (bytes * 10) >> 30;
        format!("{}.{} GiB", tenths / 10, tenths % 10)
    });
    known(screen, "Memory", memory.as_deref(), None)
}

fn show_kernel(survey: &Survey, screen: &mut Screen) -> io::Result<()> {
    let facts = &survey.facts;
    heading(screen, "Kernel")?;
    if !facts.is_live() {
        let kernels = if survey.kernels.is_empty() { "none".to_owned() } else { list(&survey.kernels) };
        return field(screen, "Installed", None, &kernels);
    }
    field(screen, "Release", None, &facts.kernel_release)?;
    field(screen, "Architecture", None, &facts.machine)?;
    let native = if facts.native.is_empty() { "nothing that is known by name".into() } else { list(&facts.native) };
    field(screen, "Runs by itself", None, &native)?;
    if let Some(arm32) = &survey.arm32 {
        show_arm32(arm32, screen)?;
    }
    let usual = facts.page_size == 4096;
    let pages = format!("{} KiB", facts.page_size / 1024);
    let pages = if usual { pages } else { format!("{pages}, where programs for 4 KiB may fail under QEMU") };
    field(screen, "Page size", (!usual).then_some(Tone::Warning), &pages)?;
    if facts.page_size > 4096 && facts.native.first().is_some_and(|platform| platform.oci == "arm64") {
        let help = if survey.qemu.iter().any(|qemu| emulator::has(&qemu.path)) {
            format!("{PACKAGE}'s QEMU, which is for such pages, is installed")
        } else {
            format!("for them: the package {PACKAGE}, or `sudo qemu-persist fix page-size`")
        };
        field(screen, "", None, &help)?;
    }
    let cpu_bits = survey.hardware.as_ref().and_then(|h| h.virtual_address_bits);
    let bits = survey.address_bits.map(|bits| match cpu_bits {
        Some(cpu) => format!("{bits} for programs, of the CPU's {cpu}"),
        None => format!("{bits} for programs"),
    });
    known(screen, "Address bits", bits.as_deref(), survey.unknown.get("address_bits"))
}

fn show_arm32(arm32: &Arm32, screen: &mut Screen) -> io::Result<()> {
    let label = "32-bit ARM";
    if arm32.native.is_empty() {
        return field(screen, label, Some(Tone::Warning), "not by itself: only under QEMU");
    }
    // SWP belongs to v5 and before, and kernels refuse it unless they are asked to emulate it.
    let is_usual = arm32.refused.iter().all(|name| *name == "swp");
    let older = if is_usual { "v6" } else { "v7" };
    let refused = format!("programs from before {older} may not, for /proc/sys/abi refuses {}", list(&arm32.refused));
    let pages = "programs laid out for pages of 4 KiB do not start";
    let mut text = vec![format!("images for {} run by themselves", list(&arm32.native))];
    text.extend((!arm32.refused.is_empty()).then_some(refused));
    text.extend(arm32.large_pages.then(|| pages.to_owned()));
    let good = is_usual && !arm32.large_pages;
    field(screen, label, (!good).then_some(Tone::Warning), &text.join("; "))
}

fn show_system(survey: &Survey, screen: &mut Screen) -> io::Result<()> {
    let facts = &survey.facts;
    heading(screen, "System")?;
    let distribution = Some(facts.distribution.pretty_name.as_str()).filter(|name| !name.is_empty());
    let distribution = distribution.or(Some(facts.distribution.id.as_str()).filter(|id| !id.is_empty()));
    known(screen, "Distribution", distribution, Some(&"no os-release file names it".to_owned()))?;
    match (facts.userland, survey.userland_differs) {
        (Some(own), Some(true)) => {
            let text = format!("{own}, which is not the kernel's architecture");
            field(screen, "Userland", Some(Tone::Warning), &text)?;
        }
        (own, _) => {
            known(screen, "Userland", own.map(ToString::to_string).as_deref(), survey.unknown.get("userland"))?;
        }
    }
    let init = survey.init.as_ref().map(|init| match &init.version {
        Some(version) => format!("{} ({version})", init.name),
        None if facts.systemd && init.name != "systemd" => format!("{}; systemd is there too", init.name),
        None => init.name.clone(),
    });
    known(screen, "Init", init.as_deref(), survey.unknown.get("init"))?;
    match &facts.confinement {
        Confinement::None => {}
        Confinement::Chroot => field(screen, "Inside", Some(Tone::Warning), "a chroot")?,
        Confinement::Container(name) => {
            field(screen, "Inside", Some(Tone::Warning), &format!("a container ({name})"))?;
        }
    }
    if facts.user_namespace {
        let label = if facts.confinement == Confinement::None { "Inside" } else { "" };
        field(screen, label, Some(Tone::Warning), "a user namespace, where uid 0 is not the host's root")?;
    }
    match facts.etc {
        EtcPersistence::Persistent => Ok(()),
        EtcPersistence::Overlay => {
            field(screen, "/etc", Some(Tone::Warning), "an overlay in memory: changes are lost at the next boot")
        }
        EtcPersistence::Tmpfs => {
            field(screen, "/etc", Some(Tone::Warning), "in memory: changes are lost at the next boot")
        }
    }
}

fn show_binfmt_misc(survey: &Survey, state: &BinfmtMisc, screen: &mut Screen) -> io::Result<()> {
    let (tone, kernel) = match (survey.facts.kernel_support, state.built_in) {
        (KernelSupport::Present, Some(false)) => (Tone::Good, "a module, loaded"),
        (KernelSupport::Present, _) => (Tone::Good, "built in"),
        (KernelSupport::Loadable, _) => (Tone::Warning, "a module, not loaded"),
        (KernelSupport::RebootPending, _) => {
            (Tone::Bad, "the modules of the running kernel are gone: reboot into the new one")
        }
        (KernelSupport::Missing, _) => (Tone::Bad, "this kernel was built without it"),
        (KernelSupport::Unknown | KernelSupport::NotAsked, _) => (Tone::Unknown, "unknown (no modules are in sight)"),
    };
    field(screen, "In the kernel", Some(tone), kernel)?;
    let (tone, place) = match state.place {
        Some(Place::Mounted) => (Tone::Good, "mounted"),
        Some(Place::Automount) => (Tone::Good, "mounted when first touched (automount)"),
        Some(Place::NotMounted) => (Tone::Warning, "not mounted"),
        Some(Place::Covered) => (Tone::Bad, "covered by another file system"),
        None => return known(screen, "File system", None, survey.unknown.get("binfmt_misc.place")),
    };
    let (tone, place) = if state.read_only { (Tone::Bad, format!("{place}, read-only")) } else { (tone, place.into()) };
    field(screen, "File system", Some(tone), &place)?;
    match state.private {
        Some(false) => Ok(()),
        Some(true) => {
            let text = "this user namespace's own, which hides the host's handlers";
            field(screen, "Table", Some(Tone::Warning), text)
        }
        None => known(screen, "Table", None, survey.unknown.get("binfmt_misc.private")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::engines::{Engine, Kind, State};
    use crate::host::interpreters::Interpreter;
    use crate::host::{Distribution, Facts};
    use crate::platform::Platform;
    use std::collections::BTreeMap;
    use std::sync::{Arc, Mutex};

    #[derive(Clone, Default)]
    struct Paper(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Paper {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn pi5() -> Survey {
        let platform = |name| Platform::named(name).unwrap();
        let core = Core {
            name: Some("Cortex-A76".into()),
            vendor: Some("ARM".into()),
            implementer: Some("0x41".into()),
            part: Some("0xd0b".into()),
            count: 4,
        };
        let emulator = |name: &str| Interpreter {
            name: name.into(),
            path: format!("/usr/local/bin/qemu-{name}").into(),
            aliases: Vec::new(),
            runs: Platform::named(name),
            built_for: Some(platform("arm64")),
            package: None,
            version: Some("8.0.4\u{1b}[2J".into()),
            version_unknown: None,
        };
        let mut docker = Engine::of(Kind::Docker, "/usr/bin/docker".into());
        docker.state = State::Unreachable(
            "permission denied while trying to connect to the docker API at a very long place".into(),
        );
        Survey {
            schema: 1,
            root: "/".into(),
            facts: Facts {
                machine: "aarch64".into(),
                kernel_release: "6.12.25+rpt-rpi-2712".into(),
                boot_id: String::new(),
                page_size: 16384,
                userland: Some(platform("arm")),
                native: vec![platform("arm64"), platform("arm")],
                distribution: Distribution::default(),
                confinement: Confinement::None,
                user_namespace: false,
                etc: EtcPersistence::Overlay,
                etc_below: Vec::new(),
                proc_sys_read_only: false,
                kernel_support: KernelSupport::RebootPending,
                systemd: true,
            },
            userland_differs: Some(true),
            hardware: Some(Hardware {
                board: Some("Raspberry Pi 5 Model B Rev 1.0".into()),
                cores: vec![core],
                physical_cores: Some(4),
                memory: Some(8_447_000_000),
                virtual_address_bits: None,
            }),
            address_bits: Some(47),
            arm32: Some(Arm32 { native: vec!["v7", "v6", "v5"], refused: vec!["setend"], large_pages: true }),
            init: None,
            kernels: Vec::new(),
            binfmt_misc: Some(BinfmtMisc {
                built_in: None,
                place: Some(Place::Automount),
                read_only: false,
                private: Some(false),
            }),
            qemu: vec![emulator("x86_64"), emulator("i386"), emulator("alpha")],
            translators: Vec::new(),
            engines: vec![docker],
            unknown: BTreeMap::from([("init", "/proc/1/comm cannot be read".to_owned())]),
        }
    }

    #[test]
    fn every_line_fits_and_nothing_escapes() {
        let paper = Paper::default();
        show(&pi5(), &mut Screen::plain(paper.clone())).unwrap();
        let text = String::from_utf8(paper.0.lock().unwrap().clone()).unwrap();
        for line in text.lines() {
            assert!(line.chars().count() <= 80 && !line.chars().any(char::is_control), "{line:?}");
        }
        for expected in [
            "         Board: Raspberry Pi 5 Model B Rev 1.0\n",
            "           CPU: 4 × Cortex-A76 (ARM), implementer 0x41, part 0xd0b\n",
            "        Memory: 7.8 GiB\n",
            "     Page size: 16 KiB, where programs for 4 KiB may fail under QEMU\n",
            "                for them: the package qemu-persist-emulator, or `sudo\n",
            "  Distribution: unknown (no os-release file names it)\n",
            "      Userland: linux/arm, which is not the kernel's architecture\n",
            "          Init: unknown (/proc/1/comm cannot be read)\n",
            "          /etc: an overlay in memory: changes are lost at the next boot\n",
            " In the kernel: the modules of the running kernel are gone: reboot",
            "          QEMU: 8.0.4\\u{1b}[2J, from no package\n",
            "                3 user emulators in /usr/local/bin: amd64, 386, 1 more\n",
            "                engine not reachable: permission denied while",
        ] {
            assert!(text.contains(expected), "{expected:?} is not in\n{text}");
        }
    }

    #[test]
    fn scripts_get_one_object_with_everything() {
        let value = serde_json::to_value(pi5()).unwrap();
        assert_eq!((&value["schema"], &value["page_size"]), (&1.into(), &16384.into()));
        assert_eq!(value["native"], serde_json::json!(["linux/arm64", "linux/arm"]));
        assert_eq!((&value["init"], &value["unknown"]["init"]), (&().into(), &"/proc/1/comm cannot be read".into()));
        assert_eq!(
            (&value["engines"][0]["kind"], &value["engines"][0]["state"]),
            (&"docker".into(), &"unreachable".into())
        );
    }
}
