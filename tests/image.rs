// SPDX-License-Identifier: MIT OR Apache-2.0
//! Every state of the files, in a system image for arm64 that this host works on with `--root`.

#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "a test may panic, and says aloud why it is skipped")]

mod tree;

use std::ffi::OsStr;

use tree::{Image, OURS, QEMU, QEMU_P, VENDORS, ours, rule};

#[test]
fn a_good_fragment_of_the_distribution_is_adopted() {
    let image = Image::new();
    let before = image.listing();
    image.expect_good();
    assert!(image.listing() == before);
    let platform = &image.status().json()["platforms"][0];
    assert_eq!(platform["at_boot"]["origin"]["kind"], "distribution");
    assert_eq!(platform["at_boot"]["good"], true);
}

#[test]
fn without_any_fragment_ours_is_written() {
    let image = Image::without_fragment();
    let before = image.listing();
    image.expect(&["not-persistent"], 2, 1, 0);
    assert_eq!(image.changes_since(&before), ["+/etc/binfmt.d", "+/etc/binfmt.d/qemu-x86_64.conf"]);
    assert_eq!(image.read(OURS), ours(QEMU, "OF"));
    assert_eq!(image.listing()[OURS].1, 0o644);
    image.expect_good();
    assert_eq!(image.status().json()["platforms"][0]["at_boot"]["origin"]["kind"], "ours");
}

#[test]
fn the_advice_names_the_image() {
    let image = Image::without_fragment();
    let advice = image.status().advice("not-persistent");
    image.follow(&advice);
    image.expect_good();
}

#[test]
fn the_flag_c_of_the_distribution_is_overridden() {
    let image = Image::new();
    image.write(VENDORS, rule(QEMU_P, "OCPF"));
    let before = image.listing();
    image.expect(&["credentials-flag"], 1, 1, 0);
    assert_eq!(image.changes_since(&before), ["+/etc/binfmt.d", "+/etc/binfmt.d/qemu-x86_64.conf"]);
    assert_eq!(image.read(OURS), ours(QEMU_P, "POF"));
    image.expect_good();
}

#[test]
fn the_flag_c_is_left_where_the_configuration_asks_for_it() {
    let image = Image::new();
    image.write("/etc/qemu-persist/config.toml", "platforms = [\"amd64\"]\ncredentials = true\n");
    image.write(VENDORS, rule(QEMU_P, "OCPF"));
    image.expect_good();
}

#[test]
fn a_mask_is_the_administrators_word() {
    let image = Image::new();
    image.link("/dev/null", OURS);
    let said = image.expect(&["fragment-masked"], 2, 2, 2);
    assert_eq!(image.listing()[OURS].0, 'l');
    image.follow(&said.advice("fragment-masked"));
    image.expect_good();
}

#[test]
fn a_mask_of_something_else_is_no_matter() {
    let image = Image::new();
    image.link("/dev/null", "/etc/binfmt.d/python3.11.conf");
    image.write("/usr/lib/binfmt.d/python3.11.conf", "broken\n");
    image.expect_good();
}

#[test]
fn a_fragment_of_comments_masks_too() {
    for content in ["", "# nothing\n; nothing\n\n"] {
        let image = Image::new();
        image.write(OURS, content);
        let said = image.expect(&["fragment-empty"], 2, 2, 2);
        assert_eq!(image.read(OURS), content);
        image.follow(&said.advice("fragment-empty"));
        image.expect_good();
    }
}

#[test]
fn the_administrators_own_good_fragment_is_left_alone() {
    let image = Image::without_fragment();
    image.write(OURS, rule(QEMU, "F"));
    let before = image.listing();
    image.expect(&["fragment-administrator"], 0, 0, 0);
    assert!(image.listing() == before);
}

#[test]
fn the_administrators_own_bad_fragment_is_reported() {
    for (text, id) in [(rule(QEMU, "O"), "no-fix-binary"), (rule("/opt/qemu-x86_64", "F"), "interpreter-missing")] {
        let image = Image::new();
        image.write(OURS, &text);
        let said = image.expect(&[id, "fragment-administrator"], 2, 2, 2);
        assert_eq!(image.read(OURS), text);
        image.follow(&said.advice("fragment-administrator"));
        image.expect_good();
    }
}

#[test]
fn lines_that_are_no_rule_are_told_with_their_number() {
    let image = Image::new();
    image.write(OURS, "# a comment\n:qemu-x86_64:M::\\x7f\n");
    let said = image.expect(&["fragment-broken"], 2, 2, 2);
    assert!(said.out.contains("/etc/binfmt.d/qemu-x86_64.conf:2: "), "{}", said.out);
    image.follow(&said.advice("fragment-broken"));
    image.expect_good();
}

#[test]
fn a_broken_fragment_of_the_distribution_is_overridden() {
    let image = Image::new();
    image.write(VENDORS, "nonsense\n");
    image.expect(&["fragment-broken", "not-persistent"], 2, 1, 0);
    assert_eq!(image.read(OURS), ours(QEMU_P, "POF"));
    image.expect_good();
}

#[test]
fn no_interpreter_is_told_with_the_package_to_install() {
    let image = Image::new();
    image.remove(QEMU);
    let before = image.listing();
    let said = image.expect(&["interpreter-missing", "no-qemu", "not-persistent"], 2, 2, 2);
    assert!(said.advice("no-qemu").contains("qemu-user-static"));
    assert!(image.listing() == before);
}

#[test]
fn an_interpreter_of_no_use_is_never_written() {
    for (make, id) in [
        ((|image| image.program(QEMU, "amd64")) as fn(&Image), "interpreter-wrong-machine"),
        // Not every CPU of its own architecture runs that.
        (|image| image.program(QEMU, "arm"), "interpreter-wrong-machine"),
        (|image| image.write(QEMU, "#!/bin/sh\n"), "interpreter-wrong-machine"),
        (|image| image.mode(QEMU, 0o644), "interpreter-wrong-machine"),
        (|image| image.mode(QEMU, 0o777), "interpreter-writable"),
        (|image| image.mode("/usr/bin", 0o777), "interpreter-writable"),
        (|image| image.mode("/", 0o777), "interpreter-writable"),
        (make_dynamic, "interpreter-dynamic"),
        (make_for_arm, "interpreter-wrong-machine"),
    ] {
        for image in [Image::new(), Image::without_fragment()] {
            make(&image);
            let before = image.listing();
            let said = image.expect(&[id, "not-persistent"], 2, 2, 2);
            assert!(image.listing() == before);
            if id == "interpreter-writable" {
                image.follow(&said.advice(id));
                assert_eq!(image.status().code, 0, "{}", image.status().out);
            }
        }
    }
}

/// Turns the program header of type `PT_NOTE` or another one into a `PT_INTERP`: what asks for a
/// loader is a dynamic program.
fn make_dynamic(image: &Image) {
    let mut program = std::fs::read(image.at(QEMU)).unwrap();
    let number = |at: usize| usize::try_from(u64::from_le_bytes(program[at..at + 8].try_into().unwrap())).unwrap();
    let headers = number(32);
    let loader = b"/lib/ld-linux-aarch64.so.1\0";
    let at = program.len();
    let mut header = program[headers..headers + 56].to_vec();
    header[..4].copy_from_slice(&3u32.to_le_bytes());
    header[8..16].copy_from_slice(&(at as u64).to_le_bytes());
    header[32..40].copy_from_slice(&(loader.len() as u64).to_le_bytes());
    header[40..48].copy_from_slice(&(loader.len() as u64).to_le_bytes());
    // A new table of program headers at the end: the loader's, and the old ones.
    let count = u16::from_le_bytes(program[56..58].try_into().unwrap());
    let old = program[headers..headers + 56 * usize::from(count)].to_vec();
    program.extend_from_slice(loader);
    let table = program.len() as u64;
    program.extend(header);
    program.extend(old);
    program[32..40].copy_from_slice(&table.to_le_bytes());
    program[56..58].copy_from_slice(&(count + 1).to_le_bytes());
    image.write(QEMU, program);
    image.mode(QEMU, 0o755);
}

fn make_for_arm(image: &Image) {
    image.program("/usr/bin/qemu-arm-static", "arm64");
    image.remove(QEMU);
    image.link("qemu-arm-static", QEMU);
}

#[test]
fn an_interpreter_of_another_users_is_not_trusted() {
    if !tree::is_root() {
        return;
    }
    for path in [QEMU, "/usr/bin", "/usr"] {
        let image = Image::new();
        std::os::unix::fs::chown(image.at(path), Some(1234), None).unwrap();
        let said = image.expect(&["interpreter-owner", "not-persistent"], 2, 2, 2);
        image.follow(&said.advice("interpreter-owner"));
        image.expect_good();
    }
}

#[test]
fn an_interpreter_that_a_group_could_change_is_not_trusted() {
    if !tree::is_root() {
        return;
    }
    let image = Image::new();
    image.mode(QEMU, 0o775);
    image.expect_good();
    std::os::unix::fs::chown(image.at(QEMU), None, Some(1234)).unwrap();
    let said = image.expect(&["interpreter-writable", "not-persistent"], 2, 2, 2);
    image.follow(&said.advice("interpreter-writable"));
    image.expect_good();
}

#[test]
fn a_link_on_the_way_that_others_could_change_is_not_trusted() {
    let image = Image::new();
    image.mode("/usr/libexec/qemu-binfmt", 0o777);
    // The other way to it is safe, so our own fragment takes that one.
    image.expect(&["interpreter-writable", "not-persistent"], 2, 1, 0);
    assert_eq!(image.read(OURS), ours(QEMU, "OF"));

    let image = Image::without_fragment();
    image.link("/usr/bin", "/tmp/link");
    image.mode("/tmp", 0o1777);
    image.link("/tmp/link", "/opt/directory");
    image.write(VENDORS, rule("/opt/directory/qemu-x86_64-static", "F"));
    image.expect(&["interpreter-writable", "not-persistent"], 2, 1, 0);
    assert_eq!(image.read(OURS), ours(QEMU, "OF"));
}

#[test]
fn wrong_flags_of_the_distribution_are_overridden() {
    for (flags, id, interpreter) in
        [("OP", "no-fix-binary", QEMU_P), ("OF", "wrong-flags", QEMU_P), ("", "no-fix-binary", QEMU)]
    {
        let image = Image::new();
        image.write(VENDORS, rule(interpreter, flags));
        image.expect(&[id, "not-persistent"][..], 2, 1, 0);
        assert_eq!(image.read(OURS), ours(QEMU_P, "POF"));
        image.expect_good();
    }
}

#[test]
fn ours_is_withdrawn_when_the_distribution_has_a_good_one_again() {
    let image = Image::without_fragment();
    image.apply();
    image.link("../../bin/qemu-x86_64-static", QEMU_P);
    image.write(VENDORS, rule(QEMU_P, "OPF"));
    let before = image.listing();
    image.expect(&[], 0, 1, 0);
    assert_eq!(image.changes_since(&before), [format!("-{OURS}")]);
    image.expect_good();
}

#[test]
fn ours_is_withdrawn_when_its_interpreter_is_gone() {
    let image = Image::without_fragment();
    image.apply();
    image.remove(QEMU);
    let before = image.listing();
    // What can be done is done, and the platform does not work all the same.
    let checked = image.run(&["apply", "--check", "--json"]);
    assert_eq!((checked.code, &checked.json()["changed"]), (2, &true.into()), "{}", checked.out);
    assert_eq!(image.status().ids(), ["interpreter-missing", "no-qemu", "not-persistent"]);
    assert_eq!(image.apply().code, 2);
    assert_eq!(image.changes_since(&before), [format!("-{OURS}")]);
    image.expect(&["no-qemu", "not-persistent"], 2, 2, 2);
}

#[test]
fn ours_follows_the_interpreter() {
    let image = Image::without_fragment();
    image.apply();
    image.program("/usr/local/bin/qemu-x86_64", "arm64");
    let config = "platforms = [\"amd64\"]\n[interpreters]\namd64 = \"/usr/local/bin/qemu-x86_64\"\n";
    image.write("/etc/qemu-persist/config.toml", config);
    image.expect(&["other-interpreter"], 1, 1, 0);
    assert_eq!(image.read(OURS), ours("/usr/local/bin/qemu-x86_64", "OF"));
    image.expect_good();
}

#[test]
fn ours_is_withdrawn_with_the_platform() {
    let image = Image::without_fragment();
    image.apply();
    image.write("/etc/qemu-persist/config.toml", "platforms = []\n");
    let before = image.listing();
    image.expect(&["nothing-wanted"], 0, 1, 0);
    assert_eq!(image.changes_since(&before), [format!("-{OURS}")]);
}

#[test]
fn platforms_are_enabled_and_disabled() {
    let image = Image::without_fragment();
    image.program("/usr/bin/qemu-i386-static", "arm64");
    image.apply();
    let before = image.listing();
    let enabled = image.run(&["enable", "linux/386", "--json"]);
    assert_eq!((enabled.code, &enabled.json()["changed"]), (0, &true.into()), "{enabled:?}");
    let dropin = "/etc/qemu-persist/config.toml.d";
    let fragment = "/etc/binfmt.d/qemu-i386.conf";
    let expected = [format!("+{fragment}"), format!("+{dropin}"), format!("+{dropin}/90-enabled.toml")];
    assert_eq!(image.changes_since(&before), expected);
    image.expect_good();
    let again = image.run(&["enable", "linux/386", "--json"]);
    assert_eq!((again.code, &again.json()["changed"]), (0, &false.into()), "{again:?}");
    let disabled = image.run(&["disable", "linux/386", "--json"]);
    assert_eq!((disabled.code, &disabled.json()["changed"]), (0, &true.into()), "{disabled:?}");
    assert_eq!(image.changes_since(&before), [format!("+{dropin}")]);
    assert_eq!(image.run(&["enable", "linux/arm64"]).code, 64);
    assert_eq!(image.run(&["enable", "linux/arm"]).code, 64);
    assert_eq!(image.changes_since(&before), [format!("+{dropin}")]);
}

#[test]
fn remove_stays_removed() {
    let image = Image::without_fragment();
    let pristine = image.listing();
    image.apply();
    let before = image.listing();
    assert_eq!(image.run(&["remove", "--check"]).code, 1);
    assert!(image.listing() == before);
    let removed = image.run(&["remove", "--json"]);
    assert_eq!((removed.code, &removed.json()["changed"]), (0, &true.into()), "{removed:?}");
    let record = ["+/etc/binfmt.d", "+/var", "+/var/lib", "+/var/lib/qemu-persist", "+/var/lib/qemu-persist/removed"];
    assert_eq!(image.changes_since(&pristine), record);
    let status = image.status();
    assert_eq!((status.code, status.ids()), (0, vec!["removed".to_owned()]));
    let again = image.run(&["remove", "--json"]);
    assert_eq!((again.code, &again.json()["changed"]), (0, &false.into()), "{again:?}");
    assert_eq!(image.run(&["remove", "--check"]).code, 0);
    // To want less is not to want again.
    let disabled = image.run(&["disable", "linux/386", "--json"]);
    assert_eq!(disabled.code, 0, "{disabled:?}");
    assert_eq!(image.changes_since(&pristine), record);
    assert_eq!(image.apply().code, 0);
    assert_eq!(image.read(OURS), ours(QEMU, "OF"));
    image.expect_good();
}

#[test]
fn remove_from_an_untouched_image_leaves_nothing_but_its_record() {
    let image = Image::new();
    let before = image.listing();
    assert_eq!(image.run(&["remove"]).code, 0);
    let record = ["+/var", "+/var/lib", "+/var/lib/qemu-persist", "+/var/lib/qemu-persist/removed"];
    assert_eq!(image.changes_since(&before), record);
}

#[test]
fn links_out_of_the_image_stay_inside() {
    let outside = tempfile::tempdir().unwrap();
    let image = Image::without_fragment();
    let target = outside.path().to_str().unwrap();
    image.link(target, "/etc/binfmt.d");
    let applied = image.apply();
    assert_eq!(applied.code, 2, "{applied:?}");
    assert!(applied.json()["failed"][0]["error"].is_string(), "{applied:?}");
    assert_eq!(std::fs::read_dir(outside.path()).unwrap().count(), 0);
    // The same directory inside is the one that is meant.
    std::fs::create_dir_all(image.at(target)).unwrap();
    assert_eq!(image.apply().code, 0);
    assert_eq!(image.read(&format!("{target}/qemu-x86_64.conf")), ours(QEMU, "OF"));
    assert_eq!(std::fs::read_dir(outside.path()).unwrap().count(), 0);

    // An interpreter that is only on this host is none of the image's.
    let image = Image::new();
    image.remove(QEMU);
    let probe = Image::new();
    image.link(probe.at(QEMU).to_str().unwrap(), QEMU);
    image.expect(&["interpreter-missing", "no-qemu", "not-persistent"], 2, 2, 2);
}

#[test]
fn what_cannot_be_written_is_told_and_not_half_done() {
    let image = Image::without_fragment();
    image.program("/usr/bin/qemu-i386-static", "arm64");
    image.write("/etc/qemu-persist/config.toml", "platforms = [\"amd64\", \"386\"]\n");
    let before = image.listing();
    let script = "mount --bind \"$1\" \"$1\"; mount -o remount,bind,ro \"$1\"; shift
        for verb in apply remove 'enable riscv64'; do
            \"$0\" $verb --root \"$1\" 2>&1; echo \"exit $?\"
        done";
    let script = script.replace("\"$0\"", env!("CARGO_BIN_EXE_qemu-persist")).replace("shift", "");
    let script = format!("set +e; {script}");
    let ran = tree::in_namespace(&script, &[image.path().as_os_str()]);
    if ran.err.contains("unshare") {
        eprintln!("skipped: {}", ran.err.trim());
        return;
    }
    assert_eq!(ran.out.matches("exit 2").count(), 3, "{ran:?}");
    let said: Vec<_> = ran.out.split("exit 2").collect();
    let paths = ["/etc/binfmt.d/qemu-x86_64.conf", "/var/lib/qemu-persist/removed", "/config.toml.d/90-enabled.toml"];
    for (said, path) in said.iter().zip(paths) {
        assert!(said.contains(path) && said.contains("Read-only file system"), "{said}");
    }
    assert!(image.listing() == before, "{:#?}", image.changes_since(&before));
}

#[test]
fn a_full_or_foreign_directory_leaves_no_temporary_file() {
    // A directory in the place of the file: the rename at the end fails.
    let image = Image::without_fragment();
    std::fs::create_dir_all(image.at(OURS)).unwrap();
    let before = image.listing();
    assert_eq!(image.apply().code, 2);
    assert!(image.listing() == before, "{:#?}", image.changes_since(&before));
}

#[test]
fn files_are_readable_by_all_whatever_the_umask() {
    for umask in ["000", "077"] {
        let image = Image::without_fragment();
        let script = format!("umask {umask}; exec \"$@\"");
        let command = image.command(&["apply"]);
        let mut shell = std::process::Command::new("sh");
        shell.args(["-ec", &script, "sh"]).arg(command.get_program()).args(command.get_args());
        assert_eq!(tree::run(&mut shell).code, 0);
        let listing = image.listing();
        assert_eq!((listing["/etc/binfmt.d"].1, listing[OURS].1), (0o755, 0o644), "umask {umask}");
    }
}

#[test]
fn debian_13_for_armhf_is_refused_before_anything_is_changed() {
    let image = Image::without_fragment();
    image.write("/etc/os-release", "ID=debian\nVERSION_ID=\"13\"\nPRETTY_NAME=\"Debian GNU/Linux 13 (trixie)\"\n");
    for program in ["/usr/bin/dpkg", QEMU, "/usr/lib/systemd/systemd"] {
        image.program(program, "arm");
    }
    let before = image.listing();
    let said = image.expect(&["unsupported-host", "not-persistent"], 2, 2, 2);
    assert!(said.advice("unsupported-host").contains("64-bit"));
    assert!(image.listing() == before);
    let refused = image.run(&["apply"]);
    assert!(refused.out.contains("nothing was changed"), "{refused:?}");
    // Debian 12 still had a QEMU for it.
    image.write("/etc/os-release", "ID=debian\nVERSION_ID=\"12\"\n");
    image.expect(&["not-persistent"], 2, 1, 0);
}

#[test]
fn an_image_without_systemd_is_told() {
    let image = Image::new();
    image.remove("/usr/lib/systemd/systemd");
    image.expect(&["no-systemd"], 1, 0, 0);
}

#[test]
fn what_is_no_system_is_refused() {
    let image = Image::new();
    image.remove("/usr/bin/dpkg");
    let before = image.listing();
    let said = image.status();
    assert!(said.ids().contains(&"unknown-architecture".to_owned()), "{}", said.out);
    assert!(said.out.contains("not for this system, whose architecture is not known"), "{}", said.out);
    assert_eq!((said.code, image.apply().code), (2, 2));
    assert!(image.listing() == before);
    let nothing = tree::run(image.command(&["status"]).args(["--root", "/nonexistent"]));
    assert_eq!(nothing.code, 64, "{nothing:?}");
}

#[test]
fn a_fragment_that_captures_the_images_own_programs_is_critical() {
    let image = Image::new();
    let magic = r"\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00";
    let mask = r"\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff";
    let path = "/etc/binfmt.d/qemu-aarch64.conf";
    let text = format!(":qemu-aarch64:M::{magic}:{mask}:/usr/bin/qemu-aarch64-static:F\n");
    image.write(path, &text);
    let said = image.expect(&["fragment-captures-native"], 2, 0, 2);
    assert_eq!(image.read(path), text);
    assert!(said.advice("fragment-captures-native").contains(image.at(path).to_str().unwrap()), "{}", said.out);

    // 32-bit programs, which a kernel with pages of 4 KiB runs by itself: slow then, and no more.
    let image = Image::new();
    image
        .write("/etc/binfmt.d/qemu-arm.conf", text.replace(r"\x02\x01\x01", r"\x01\x01\x01").replace(r"\xb7", r"\x28"));
    image.expect(&["fragment-captures-native"], 1, 0, 0);
}

#[test]
fn a_bad_rule_in_a_file_of_another_name_is_told_by_its_file() {
    let image = Image::new();
    let path = "/etc/binfmt.d/zz-local.conf";
    image.write(path, rule(QEMU, "").replace("qemu-x86_64:", "local:"));
    let said = image.expect(&["no-fix-binary", "not-persistent"], 2, 2, 2);
    image.follow(&said.advice("not-persistent"));
    image.expect_good();
}

#[test]
fn handlers_of_the_configuration_get_a_fragment_too() {
    let image = Image::new();
    image.program("/opt/toy", "arm64");
    let handler =
        "platforms = []\n[[handler]]\nname = \"toy\"\nmagic = '\\x54\\x4f\\x59'\ninterpreter = \"/opt/toy\"\n";
    image.write("/etc/qemu-persist/config.toml", handler);
    image.expect(&["not-persistent"], 2, 1, 0);
    assert!(image.read("/etc/binfmt.d/toy.conf").ends_with("\n:toy:M::\\x54\\x4f\\x59:\\xff\\xff\\xff:/opt/toy:F\n"));
    image.expect_good();
    image.mode("/opt/toy", 0o777);
    let said = image.status();
    assert_eq!((said.code, said.ids()), (2, vec!["interpreter-writable".to_owned(), "not-persistent".to_owned()]));
}

#[test]
fn a_broken_configuration_stops_apply_and_is_critical_in_status() {
    let image = Image::without_fragment();
    image.write("/etc/qemu-persist/config.toml", "platform = [\"linux/amd64\"]\n");
    let before = image.listing();
    let said = image.status();
    assert_eq!(said.code, 2);
    assert!(said.ids().contains(&"config-invalid".to_owned()), "{}", said.out);
    for verb in [&["apply"][..], &["apply", "--check"], &["enable", "riscv64"], &["disable", "386"]] {
        let ran = image.run(verb);
        assert_eq!(ran.code, 78, "{ran:?}");
        assert!(ran.err.contains("config.toml:1:1"), "{ran:?}");
    }
    assert!(image.listing() == before, "{:#?}", image.changes_since(&before));
    assert_eq!(image.run(&["remove"]).code, 0, "a broken configuration is no reason to stay");
}

#[test]
fn a_good_image_is_told_in_words() {
    let image = Image::new();
    let text = image.run(&["status"]).out;
    assert!(text.contains("linux/amd64 ok") && text.contains(QEMU_P) && text.contains(VENDORS), "{text}");
    assert!(!text.contains("handler      none"), "{text}");
}

#[test]
fn owners_that_a_user_namespace_cannot_see_are_not_trusted() {
    if !tree::is_root() {
        return;
    }
    let image = Image::without_fragment();
    for path in ["/", "/usr", "/usr/bin", QEMU] {
        std::os::unix::fs::chown(image.at(path), Some(1234), None).unwrap();
    }
    let script = format!("exec {} apply --check --json --root \"$1\"", env!("CARGO_BIN_EXE_qemu-persist"));
    let ran = tree::in_namespace(&script, &[image.path().as_os_str()]);
    if ran.err.contains("unshare") {
        eprintln!("skipped: {}", ran.err.trim());
        return;
    }
    assert_eq!(ran.code, 2, "{ran:?}");
    assert_eq!(ran.json()["unmet"][0]["id"], "interpreter-unverified", "{ran:?}");
}

/// What the running kernel has must make no difference, and is not touched.
#[test]
fn the_running_kernel_is_not_asked() {
    let script = r#"
        mount -t binfmt_misc binfmt_misc /proc/sys/fs/binfmt_misc
        for rule in "$3" "$4"; do
            if [ "$rule" ]; then printf %s "$rule" >/proc/sys/fs/binfmt_misc/register; fi
        done
        ls -l --time-style=full-iso /proc/sys/fs/binfmt_misc >"$5"
        for verb in status 'apply --check' apply status remove; do "$1" $verb --json --root "$2"; echo "exit $?"; done
        ls -l --time-style=full-iso /proc/sys/fs/binfmt_misc | cmp - "$5"
    "#;
    let script = format!("set +e\n{script}");
    let rules = [String::new(), rule("/bin/true", "F"), rule(QEMU_P, "").replace("qemu-x86_64:", "persist-x86_64:")];
    let mut said = Vec::new();
    for (first, second) in [(0, 0), (1, 0), (2, 1)] {
        // amd64 is this host's own: these rules are for something else here.
        let harmless = |text: &String| text.trim_end().replace(r"\x3e\x00:", r"\x3f\x00:");
        let image = Image::without_fragment();
        let before = tempfile::NamedTempFile::new().unwrap();
        let (first, second) = (harmless(&rules[first]), harmless(&rules[second]));
        let program = OsStr::new(env!("CARGO_BIN_EXE_qemu-persist"));
        let arguments = [program, image.path().as_os_str(), first.as_ref(), second.as_ref(), before.path().as_os_str()];
        let ran = tree::in_namespace(&script, &arguments);
        if ran.err.contains("unshare") || ran.err.contains("mount") {
            eprintln!("skipped: {}", ran.err.trim());
            return;
        }
        assert_eq!(ran.code, 0, "the table was changed: {ran:?}");
        said.push(ran.out.replace(image.path().to_str().unwrap(), "IMAGE"));
    }
    assert!(said[0].contains("exit 2") && said[0].contains("not-persistent"), "{}", said[0]);
    assert_eq!(said[0], said[1]);
    assert_eq!(said[0], said[2]);
}
