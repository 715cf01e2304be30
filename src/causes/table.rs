// SPDX-License-Identifier: MIT OR Apache-2.0
//! The table of causes. To add one, add a row, and one to the tests.
//!
//! Texts are those that the kernel, shells, Docker, containerd, Podman, BuildKit, QEMU, the dynamic
//! loader and language runtimes print.

use super::Sign::{Alone, Exit, Line, Signal};
use super::{Cause, Host, weigh};
use crate::finding::Severity;
use crate::parts;

/// All that are known.
pub static CAUSES: &[Cause] = &[
    Cause {
        id: "no-handler",
        title: "No handler of this host started the program: none is registered for its architecture, it is out of use, \
                or the container does not see it",
        signs: &[Line(&["exec format error"]), Line(&["cannot execute binary file"])],
        weigh: weigh::no_handler,
        cure: mend,
    },
    Cause {
        id: "wrong-program",
        title: "The program in the image is of another architecture than the image says, or no program at all (empty, \
                or a script without its first line `#!`)",
        signs: &[Line(&["exec format error"]), Line(&["cannot execute binary file"])],
        weigh: weigh::open,
        cure: |_| {
            "See what it is: `docker run --rm --entrypoint cat IMAGE /path/of/the/program | head -c 20 | xxd`, and what \
             the image says: `docker image inspect --format '{{.Os}}/{{.Architecture}}' IMAGE`."
                .to_owned()
        },
    },
    Cause {
        id: "handlers-masked",
        title: "A rootless engine's user namespace has a binfmt_misc of its own, which hides the host's handlers from its \
                containers until that namespace ends",
        signs: &[Line(&["exec format error"]), Line(&["cannot execute binary file"])],
        weigh: weigh::masked,
        cure: |_| {
            "See whether they reach the engines of a user: `sudo qemu-persist selftest --as-user NAME`. What ends the \
             namespace is, as that user, `podman system migrate` or `systemctl --user restart docker`; a container that \
             registers handlers in it (tonistiigi/binfmt) is what brings it about."
                .to_owned()
        },
    },
    Cause {
        id: "interpreter-not-held",
        title: "The handler's interpreter is looked for inside the container, where it is not: the handler has no flag F, \
                or its interpreter is no static program",
        signs: &[
            Line(&["exec", "no such file or directory"]),
            Line(&["cannot execute: required file not found"]),
            Alone("no such file or directory"),
        ],
        weigh: weigh::not_held,
        cure: mend,
    },
    Cause {
        id: "program-not-there",
        title: "The program, or the interpreter in its first line `#!`, is not in the image (a script that ends its lines \
                as Windows does has such a line)",
        signs: &[
            Line(&["exec", "no such file or directory"]),
            Line(&["executable file not found in $path"]),
            Line(&["cannot execute: required file not found"]),
            Alone("no such file or directory"),
        ],
        weigh: weigh::open,
        cure: |_| "Look into the image: `docker run --rm -it --entrypoint sh IMAGE`.".to_owned(),
    },
    Cause {
        id: "foreign-program-in-image",
        title: "A program of another architecture than its image's: QEMU starts it, and its libraries are not there",
        signs: &[Line(&["could not open '/lib", "ld-"])],
        weigh: weigh::open,
        cure: |_| {
            "Use an image of the program's own platform, or install the program for the image's: an amd64 program \
             wants `--platform linux/amd64`."
                .to_owned()
        },
    },
    Cause {
        id: "no-image-for-platform",
        title: "The image is not published for this host's platform",
        signs: &[
            Line(&["no matching manifest for"]),
            Line(&["no match for platform in manifest"]),
            Line(&["no image found in manifest list for architecture"]),
            Line(&["no image found in image index for architecture"]),
            Line(&["choosing an image from manifest list", "no image found"]),
            Line(&["does not provide the specified platform"]),
        ],
        weigh: weigh::open,
        cure: run_foreign,
    },
    Cause {
        id: "image-of-another-platform",
        title: "The image is of another platform than this host: a warning, and no more than that where a handler runs it",
        signs: &[
            Line(&["requested image's platform", "does not match the detected host platform"]),
            Line(&["wrong architecture"]),
            Line(&["wrong platform"]),
        ],
        weigh: weigh::open,
        cure: |_| {
            "Say that it is meant, and the warning goes: `--platform linux/amd64` (in Compose `platform: linux/amd64`). \
             That the handler works, `qemu-persist status` says."
                .to_owned()
        },
    },
    Cause {
        id: "large-pages",
        title: "The kernel's pages are larger than those that the program was laid out for, and QEMU cannot map it",
        signs: &[
            Line(&["failed to map segment from shared object"]),
            Line(&["unable to find a guest_base"]),
            Exit(133),
            Line(&["trace/breakpoint trap"]),
        ],
        weigh: weigh::large_pages,
        cure: small_pages,
    },
    Cause {
        id: "large-pages-native",
        title: "A program of this host's own architecture was built for smaller pages than its kernel's",
        signs: &[Line(&["unsupported system page size"]), Line(&["elf load command", "not page-aligned"])],
        weigh: weigh::large_pages_native,
        cure: kernel_with_small_pages,
    },
    Cause {
        id: "slow-emulation",
        title: "Under QEMU programs run several times slower than natively",
        signs: &[
            Line(&["slow", "qemu"]),
            Line(&["slow", "emulat"]),
            Line(&["slow performance"]),
            Line(&["container", "slow"]),
            Alone("slow"),
        ],
        weigh: weigh::open,
        cure: |_| {
            "See which containers run under emulation: `sudo qemu-persist status --containers`. For those look for an \
             image of this host's own platform, above all for databases, transcoders and compilers."
                .to_owned()
        },
    },
    Cause {
        id: "qemu-crashed",
        title: "The program, or QEMU under it, made an invalid memory access: a fault of QEMU's, of large pages, or of the \
                program",
        signs: &[
            Line(&["uncaught target signal 11"]),
            Line(&["uncaught target signal"]),
            Exit(139),
            Line(&["segmentation fault"]),
            Line(&["segfault"]),
        ],
        weigh: weigh::perhaps_large_pages,
        cure: |host| {
            let pages = host.snapshot.facts.page_size;
            if pages > 4096 {
                return format!("First the page size, which is {} KiB here: {}", pages / 1024, small_pages(host));
            }
            "Use a newer QEMU: `qemu-persist host` shows its version, and Debian's backports have a newer one. Where that \
             does not help, use an image for this host's own architecture."
                .to_owned()
        },
    },
    Cause {
        id: "missing-instructions",
        title: "The program uses instructions that the processor that QEMU shows it does not have (AVX, x86-64-v2 or \
                later), or the host's own one",
        signs: &[
            Line(&["cpu does not support x86-64-v"]),
            Line(&["cpu isa level is lower than required"]),
            Line(&["illegal instruction"]),
            Signal(4),
            Exit(132),
        ],
        weigh: weigh::open,
        cure: |_| {
            "See that no variable QEMU_CPU is set, use QEMU 7.2 or newer (AVX and AVX2), and otherwise an image for this \
             host's own architecture; there is none for the oldest processors (armv6)."
                .to_owned()
        },
    },
    Cause {
        id: "go-addresses",
        title: "A Go program from before Go 1.25.4 cannot use the addresses that QEMU gives it on this host",
        signs: &[Line(&["lfstack.push"]), Line(&["taggedpointerpack"]), Line(&["runtime: lfstack"])],
        weigh: weigh::wide_addresses,
        cure: |_| {
            "Use an image that was built with Go 1.25.4 or newer, or a kernel whose addresses have 47 bits at most, as \
             Raspberry Pi OS has; `qemu-persist host` shows them."
                .to_owned()
        },
    },
    Cause {
        id: "setuid-ignored",
        title: "Setuid programs gain no rights under emulation, since the handler has no flag C: deliberately",
        signs: &[
            Line(&["effective uid is not 0"]),
            Line(&["must be owned by uid 0 and have the setuid bit set"]),
            Line(&["sudo", "nosuid"]),
        ],
        weigh: weigh::open,
        cure: |_| {
            "Start the container as the user that it needs (`--user 0`), without sudo in it. With `credentials = true` in \
             the configuration the handlers have the flag C, and QEMU then runs with the rights of what it starts."
                .to_owned()
        },
    },
    Cause {
        id: "engine-32-bit",
        title: "A 64-bit image under a 32-bit Docker, whose seccomp filter ends it at its first system call",
        signs: &[Exit(159), Line(&["bad system call"])],
        weigh: weigh::narrow_userland,
        cure: |_| "Install the 64-bit Raspberry Pi OS: a 64-bit kernel alone is not enough.".to_owned(),
    },
    Cause {
        id: "no-module",
        title: "The running kernel's modules are gone, as they are from a kernel's upgrade until the next reboot, or it \
                was built without binfmt_misc",
        signs: &[Line(&["module binfmt_misc not found"]), Line(&["unknown filesystem type 'binfmt_misc'"])],
        weigh: weigh::no_module,
        cure: |_| "Reboot, and then see `qemu-persist status`.".to_owned(),
    },
    Cause {
        id: "name-taken",
        title: "A handler of that name is registered already",
        signs: &[
            Line(&["binfmt_misc/register", "file exists"]),
            Line(&["write register", "file exists"]),
            Line(&["write error: file exists"]),
            Line(&["failed to add binary format", "file exists"]),
        ],
        weigh: weigh::open,
        cure: |_| {
            "Let `sudo qemu-persist apply` look at it: it leaves a good handler alone and replaces a bad one."
                .to_owned()
        },
    },
    Cause {
        id: "rule-refused",
        title: "The kernel does not understand the rule, or its interpreter is not there",
        signs: &[
            Line(&["binfmt_misc/register", "invalid argument"]),
            Line(&["write register", "invalid argument"]),
            Line(&["write error: invalid argument"]),
            Line(&["failed to add binary format", "invalid argument"]),
        ],
        weigh: weigh::open,
        cure: |_| "Let `sudo qemu-persist apply` write the rule; it looks at what it has to name first.".to_owned(),
    },
    Cause {
        id: "native-captured",
        title: "A handler takes this host's own programs, QEMU itself among them, so that nothing can be started",
        signs: &[Line(&["too many levels of symbolic links"])],
        weigh: weigh::captured,
        cure: |_| {
            "Without starting anything, in a shell that still runs: `echo 0 > /proc/sys/fs/binfmt_misc/status`. Then \
             take the handler away that matches the host's own architecture, and write 1 there again. The service \
             does this by itself."
                .to_owned()
        },
    },
    Cause {
        id: "wrong-flags",
        title: "The interpreter is one that wants the handler to have the flag P, and it has not",
        signs: &[Line(&["has to be run using kernel binfmt-misc subsystem"])],
        weigh: weigh::no_preserve,
        cure: mend,
    },
    Cause {
        id: "no-code-generation",
        title: "QEMU may not make memory executable, which it needs to do anything",
        signs: &[Line(&["mprotect of jit buffer"])],
        weigh: weigh::open,
        cure: |_| {
            "Run it outside of a service with MemoryDenyWriteExecute=, and without SELinux or seccomp rules of that kind."
                .to_owned()
        },
    },
    Cause {
        id: "engine-not-allowed",
        title: "This user may not use the engine",
        signs: &[Line(&["permission denied while trying to connect", "docker"])],
        weigh: weigh::open,
        cure: |_| "Run it with sudo, or be a member of the group docker, which is as good as being root.".to_owned(),
    },
    Cause {
        id: "engine-down",
        title: "The engine does not run",
        signs: &[Line(&["cannot connect to the docker daemon"]), Line(&["failed to connect to the docker api"])],
        weigh: weigh::open,
        cure: |_| "Start it: `sudo systemctl start docker`.".to_owned(),
    },
    Cause {
        id: "build-not-loadable",
        title: "An image for several platforms at once cannot be loaded into Docker's classic image store",
        signs: &[
            Line(&["does not currently support exporting manifest lists"]),
            Line(&["multi-platform build is not supported for the docker driver"]),
            Line(&["multiple platforms feature is currently not supported for docker driver"]),
        ],
        weigh: weigh::open,
        cure: |_| {
            "Build for one platform with `--load`, or push what was built for several: `--push`. A builder of its own \
             for several: `docker buildx create --use`."
                .to_owned()
        },
    },
];

/// What would mend the handlers, as `status` says it.
fn mend(host: &Host<'_>) -> String {
    let advice =
        host.findings.iter().find(|finding| finding.severity == Severity::Critical && !finding.advice.is_empty());
    advice.map_or_else(
        || "See what `qemu-persist status` says, and prove it: `sudo qemu-persist selftest`.".to_owned(),
        |finding| finding.advice.clone(),
    )
}

fn run_foreign(host: &Host<'_>) -> String {
    let wanted = host.looks.iter().find_map(|look| look.target.platform);
    let platform = wanted.map_or_else(|| "linux/amd64".to_owned(), ToString::to_string);
    format!(
        "See what there is: `docker manifest inspect IMAGE`. Then say which to run: `docker run --platform {platform} IMAGE` \
         (in Compose `platform: {platform}`), for which this host needs a handler: `sudo qemu-persist apply`. Look at the \
         very tag: not every one has every platform."
    )
}

fn small_pages(host: &Host<'_>) -> String {
    parts::small_pages(host.snapshot, weigh::endangered_by_pages(host).next())
}

fn kernel_with_small_pages(host: &Host<'_>) -> String {
    let small = || "Look whether the program can be had for this host's pages, which have 4 KiB.".to_owned();
    parts::kernel_with_small_pages(&host.snapshot.facts).unwrap_or_else(small)
}
