// SPDX-License-Identifier: MIT OR Apache-2.0
//! The hardware: board, CPU, memory, and how many bits the addresses of programs have.

use std::path::Path;

use serde::Serialize;
use sysinfo::{CpuRefreshKind, MemoryRefreshKind, RefreshKind, System};

/// One kind of core, and how many there are of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "assets", derive(schemars::JsonSchema))]
pub struct Core {
    /// What it is called: `Cortex-A76`, `AMD EPYC 7B13`.
    pub name: Option<String>,
    /// Who designed it: `ARM`, `AuthenticAMD`.
    pub vendor: Option<String>,
    /// On ARM, the designer's code in the main ID register, such as `0x41`.
    pub implementer: Option<String>,
    /// On ARM, the core's code there, such as `0xd0b`.
    pub part: Option<String>,
    /// How many of them the system sees, hardware threads counted.
    pub count: usize,
}

/// The machine.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "assets", derive(schemars::JsonSchema))]
pub struct Hardware {
    /// The board's or machine's model, from the device tree or DMI.
    pub board: Option<String>,
    /// The kinds of cores, in the order of their numbers.
    pub cores: Vec<Core>,
    /// How many physical cores there are.
    pub physical_cores: Option<usize>,
    /// Memory, in bytes.
    pub memory: Option<u64>,
    /// How many bits the CPU's virtual addresses have, where it says so (x86).
    pub virtual_address_bits: Option<u32>,
}

/// Bits of each processor's entry in /proc/cpuinfo that sysinfo does not give.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Details {
    implementer: Option<String>,
    part: Option<String>,
}

/// What /proc/cpuinfo says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct CpuInfo {
    processors: Vec<Details>,
    /// The last line of Raspberry Pi kernels.
    model: Option<String>,
    virtual_address_bits: Option<u32>,
}

fn parse_cpuinfo(content: &str) -> CpuInfo {
    let mut info = CpuInfo::default();
    for (key, value) in content.lines().filter_map(|line| line.split_once(':')) {
        let value = value.trim();
        match (key.trim(), info.processors.last_mut()) {
            ("processor", _) => info.processors.push(Details::default()),
            ("CPU implementer", Some(last)) => last.implementer = Some(value.to_owned()),
            ("CPU part", Some(last)) => last.part = Some(value.to_owned()),
            ("Model", _) => info.model = Some(value.to_owned()),
            ("address sizes", _) => {
                let bits = value.split(',').find_map(|part| part.trim().strip_suffix(" bits virtual"));
                info.virtual_address_bits = bits.and_then(|bits| bits.parse().ok());
            }
            _ => {}
        }
    }
    info
}

/// The text of a file of the kernel's, up to a NUL; none where it is empty or cannot be read.
fn read_word(path: &str) -> Option<String> {
    let bytes = std::fs::read(path).ok()?;
    let text = String::from_utf8_lossy(bytes.split(|&b| b == 0).next()?).trim().to_owned();
    Some(text).filter(|text| !text.is_empty())
}

fn board() -> Option<String> {
    let tree = ["/proc/device-tree/model", "/sys/firmware/devicetree/base/model"].into_iter().find_map(read_word);
    tree.or_else(|| {
        let product = read_word("/sys/class/dmi/id/product_name")?;
        let vendor = read_word("/sys/class/dmi/id/sys_vendor").unwrap_or_default();
        Some(format!("{vendor} {product}").trim().to_owned())
    })
}

/// Puts equal neighbours together.
fn count(cores: impl Iterator<Item = Core>) -> Vec<Core> {
    let mut kinds: Vec<Core> = Vec::new();
    for core in cores {
        match kinds.iter_mut().find(|kind| Core { count: core.count, ..(*kind).clone() } == core) {
            Some(kind) => kind.count += core.count,
            None => kinds.push(core),
        }
    }
    kinds
}

impl Hardware {
    /// Looks at the machine that this runs on. What cannot be found out is none.
    pub fn read() -> Self {
        let kinds = RefreshKind::nothing()
            .with_cpu(CpuRefreshKind::nothing())
            .with_memory(MemoryRefreshKind::nothing().with_ram());
        let system = System::new_with_specifics(kinds);
        let info = parse_cpuinfo(&std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default());
        let word = |text: &str| Some(text.trim().to_owned()).filter(|text| !text.is_empty());
        let core = |(number, cpu): (usize, &sysinfo::Cpu)| {
            let Details { implementer, part } = info.processors.get(number).cloned().unwrap_or_default();
            Core { name: word(cpu.brand()), vendor: word(cpu.vendor_id()), implementer, part, count: 1 }
        };
        Self {
            board: board().or(info.model.clone()),
            cores: count(system.cpus().iter().enumerate().map(core)),
            physical_cores: System::physical_core_count(),
            memory: Some(system.total_memory()).filter(|&bytes| bytes > 0),
            virtual_address_bits: info.virtual_address_bits,
        }
    }
}

/// How many bits the addresses have that the kernel gives to programs which ask for no more: 39,
/// 47, 48. It is the length of the highest address of `maps` (proc_pid_maps(5)), the top of the
/// stack, which lies right below the end of a program's half; no CPU or kernel file says it on
/// arm64, where it is a choice made when the kernel is built. A kernel with 52 bits counts as 48,
/// since it hands out higher addresses only on request.
fn bits_of_highest(maps: &str) -> Option<u32> {
    let end = |line: &str| u64::from_str_radix(line.split_once('-')?.1.split(' ').next()?, 16).ok();
    // The upper half is the kernel's; x86 shows its page of old time calls there.
    let highest = maps.lines().filter_map(end).filter(|&end| (1..=1 << 63).contains(&end)).max()?;
    Some(64 - (highest - 1).leading_zeros())
}

/// How many bits the addresses of programs have on this kernel.
///
/// # Errors
/// Why that cannot be told.
pub fn address_bits() -> Result<u32, String> {
    if cfg!(target_pointer_width = "32") {
        return Err("this is a 32-bit program, which sees 32-bit addresses only".to_owned());
    }
    let path = Path::new("/proc/self/maps");
    let maps = std::fs::read_to_string(path).map_err(|e| format!("{}: {e}", path.display()))?;
    bits_of_highest(&maps).ok_or_else(|| format!("{}: no addresses in it", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PI5: &str = "processor\t: 0\nBogoMIPS\t: 108.00\nFeatures\t: fp asimd\nCPU implementer\t: 0x41\n\
        CPU architecture: 8\nCPU variant\t: 0x4\nCPU part\t: 0xd0b\nCPU revision\t: 1\n\n\
        processor\t: 1\nBogoMIPS\t: 108.00\nCPU implementer\t: 0x41\nCPU architecture: 8\nCPU variant\t: 0x4\n\
        CPU part\t: 0xd0b\nCPU revision\t: 1\n\nRevision\t: d04170\nSerial\t\t: 0123456789abcdef\n\
        Model\t\t: Raspberry Pi 5 Model B Rev 1.0\n";
    const PI4_32: &str = "processor\t: 0\nmodel name\t: ARMv7 Processor rev 3 (v7l)\nBogoMIPS\t: 108.00\n\
        Features\t: half thumb\nCPU implementer\t: 0x41\nCPU architecture: 7\nCPU variant\t: 0x0\n\
        CPU part\t: 0xd08\nCPU revision\t: 3\n\nHardware\t: BCM2711\nRevision\t: c03114\n\
        Model\t\t: Raspberry Pi 4 Model B Rev 1.4\n";
    const X86: &str = "processor\t: 0\nvendor_id\t: AuthenticAMD\nmodel\t\t: 1\nmodel name\t: AMD EPYC\n\
        address sizes\t: 48 bits physical, 57 bits virtual\npower management:\n\n";

    #[test]
    fn cpuinfo_is_read() {
        let pi5 = parse_cpuinfo(PI5);
        let part = |part: &str| Details { implementer: Some("0x41".into()), part: Some(part.into()) };
        assert_eq!(pi5.processors, [part("0xd0b"), part("0xd0b")]);
        assert_eq!(pi5.model.as_deref(), Some("Raspberry Pi 5 Model B Rev 1.0"));
        let pi4 = parse_cpuinfo(PI4_32);
        assert_eq!(pi4.processors, [part("0xd08")]);
        assert_eq!(pi4.model.as_deref(), Some("Raspberry Pi 4 Model B Rev 1.4"));
        let x86 = parse_cpuinfo(X86);
        assert_eq!((x86.processors, x86.model), (vec![Details::default()], None));
        assert_eq!(x86.virtual_address_bits, Some(57));
        assert_eq!(parse_cpuinfo("CPU part : 1\n:\n"), CpuInfo::default());
    }

    #[test]
    fn address_bits_are_those_of_the_highest_address() {
        let line = |end: &str| format!("5555-{end} rw-p 00000000 00:00 0   [stack]\n");
        for (end, bits) in [
            ("7ffd1c5fe000", 47),
            ("800000000000", 47),
            ("7fffffffff", 39),
            ("fffff7ff0000", 48),
            ("7fffc0000000", 47),
            ("3ffd0000000", 42),
            ("ffffd0000", 36),
        ] {
            let maps = format!("{}{}", line(end), "ffffffffff600000-ffffffffff601000 --xp 0 00:00 0 [vsyscall]\n");
            assert_eq!(bits_of_highest(&maps), Some(bits), "{end}");
        }
        assert_eq!(bits_of_highest(""), None);
        assert_eq!(bits_of_highest("-\nx-y\n0-0 x"), None);
    }

    #[test]
    fn equal_cores_are_counted() {
        let core = |name: &str| Core { name: Some(name.into()), count: 1, ..Core::default() };
        let kinds = count([core("A55"), core("A76"), core("A55")].into_iter());
        assert_eq!(kinds.iter().map(|k| k.count).collect::<Vec<_>>(), [2, 1]);
    }

    #[test]
    fn this_machine_has_a_cpu() {
        let hardware = Hardware::read();
        assert!(!hardware.cores.is_empty() && hardware.memory.is_some());
        assert!(address_bits().is_ok_and(|bits| (32..=57).contains(&bits)));
    }
}
