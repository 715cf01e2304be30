// SPDX-License-Identifier: MIT OR Apache-2.0
//! config.txt: what of it says which kernel is started, and our lines in it. Pure.
//!
//! The firmware reads it line by line; a line `[pi5]` limits what follows to that model, and `[all]` ends
//! that. Of several settings that apply the last one counts.

use super::SMALL;

/// The first and the last of our lines.
const BEGIN: &str = "# Begin of what `qemu-persist fix page-size` wrote (--undo takes it back).";
const END: &str = "# End of what `qemu-persist fix page-size` wrote.";
/// The kernel that is started on a Raspberry Pi 5 where nothing is said.
const LARGE: &str = "kernel_2712.img";
/// The most of a line that the firmware reads, in bytes.
const LONGEST: usize = 98;

/// A change of the text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Edit {
    /// The whole text afterwards.
    pub text: String,
    /// The lines that come or go.
    pub lines: Vec<String>,
    /// Whether they go.
    pub takes_back: bool,
}

/// Whether what stands under the filter `name` counts on a Raspberry Pi 5.
fn applies(name: &str) -> bool {
    // Others (by serial number, GPIO, HDMI) may or may not: what they say is no obstacle and no help.
    ["all", "pi5", "pi500", "cm5", "board-type=0x17"].contains(&name)
}

/// The settings that count on a Raspberry Pi 5: number of the line, from 1, key, value.
fn settings(text: &str) -> impl Iterator<Item = (usize, &str, &str)> {
    let mut counts = true;
    text.lines().enumerate().filter_map(move |(index, line)| {
        let line = line.trim();
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            counts = applies(&name.to_ascii_lowercase());
            return None;
        }
        let (key, value) = line.split_once('=').filter(|_| counts && !line.starts_with('#'))?;
        Some((index + 1, key.trim(), value.trim()))
    })
}

/// The kernel that is chosen, and in which line.
pub fn kernel(text: &str) -> Option<(usize, &str)> {
    settings(text).filter(|(_, key, _)| *key == "kernel").last().map(|(line, _, value)| (line, value))
}

/// What somebody has set that ours would go against or could not help with: its line, and what that says.
pub fn obstacle(text: &str) -> Option<(usize, &str)> {
    let other = settings(text).find(|(_, key, value)| match *key {
        "kernel" => ![LARGE, SMALL].contains(value),
        "os_prefix" | "arm_64bit" => !value.is_empty() && *value != "1",
        _ => false,
    })?;
    text.lines().nth(other.0 - 1).map(|line| (other.0, line.trim()))
}

/// Whether our lines are in it.
pub fn has_ours(text: &str) -> bool {
    text.lines().any(|line| line.trim_end() == BEGIN)
}

/// The change that adds our lines, at the end, where they win.
pub fn add(text: &str) -> Edit {
    let ending = if text.contains("\r\n") { "\r\n" } else { "\n" };
    let lines = [BEGIN.to_owned(), "[pi5]".into(), format!("kernel={SMALL}"), "[all]".into(), END.to_owned()];
    debug_assert!(lines.iter().all(|line| line.len() <= LONGEST));
    let gap = if text.is_empty() || text.ends_with('\n') { "" } else { ending };
    let ours = lines.join(ending);
    Edit { text: format!("{text}{gap}{ours}{ending}"), lines: lines.into(), takes_back: false }
}

/// The change that takes our lines out; none where they are not there, or not from their begin to their end.
pub fn remove(text: &str) -> Option<Edit> {
    let (mut kept, mut gone) = (String::new(), Vec::new());
    let mut inside = false;
    for line in text.split_inclusive('\n') {
        let bare = line.trim_end();
        inside |= bare == BEGIN;
        if inside {
            gone.push(bare.to_owned());
        } else {
            kept.push_str(line);
        }
        inside &= bare != END;
    }
    (!inside && !gone.is_empty()).then_some(Edit { text: kept, lines: gone, takes_back: true })
}

/// How large the pages of the kernel are whose file begins with `head`, in bytes: none for a compressed file, or one
/// that does not say (Documentation/arch/arm64/booting.rst, "flags").
pub fn page_size_of_kernel(head: &[u8; 64]) -> Option<u64> {
    let is_image = &head[56..60] == b"ARM\x64";
    match (head[24] >> 1 & 3, is_image) {
        (1, true) => Some(4096),
        (2, true) => Some(16384),
        (3, true) => Some(65536),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// As Raspberry Pi OS has it, shortened.
    const USUAL: &str = "# For more options and information see\n# http://rptl.io/configtxt\n\n\
        dtparam=audio=on\narm_64bit=1\n\n[cm4]\notg_mode=1\n\n[all]\n";

    #[test]
    fn the_last_setting_that_applies_counts() {
        assert_eq!(kernel(USUAL), None);
        assert_eq!(kernel(&format!("{USUAL}kernel=a\n kernel = b \n")), Some((12, "b")));
        assert_eq!(kernel("[pi4]\nkernel=a\n"), None);
        assert_eq!(kernel("[pi4]\nkernel=a\n[PI5]\nkernel=b\n[none]\nkernel=c\n"), Some((4, "b")));
        assert_eq!(kernel("#kernel=a\nkernel8=b\n[all]\r\nkernel=kernel8.img\r\n"), Some((4, SMALL)));
    }

    #[test]
    fn what_somebody_has_chosen_is_an_obstacle() {
        for good in [USUAL, "", "kernel=kernel_2712.img\n", "[pi4]\nkernel=mine.img\n", "os_prefix=\n"] {
            assert_eq!(obstacle(good), None, "{good}");
        }
        assert_eq!(obstacle("kernel=mine.img\n"), Some((1, "kernel=mine.img")));
        assert_eq!(obstacle("\n[pi5]\n os_prefix=six/"), Some((3, "os_prefix=six/")));
        assert_eq!(obstacle("arm_64bit=0\n"), Some((1, "arm_64bit=0")));
    }

    #[test]
    fn ours_wins_is_added_once_and_goes_without_a_trace() {
        for text in [USUAL, "", "no newline", "[pi4]\nkernel=kernel_2712.img", "a=1\r\n[cm4]\r\n"] {
            let edit = add(text);
            assert_eq!(kernel(&edit.text).map(|(_, value)| value), Some(SMALL), "{text}");
            assert!(has_ours(&edit.text) && !has_ours(text));
            let back = remove(&edit.text).unwrap();
            assert_eq!(back.text.trim_end(), text.trim_end());
            assert_eq!((back.lines, back.takes_back), (edit.lines, true));
            assert_eq!(edit.text.contains('\r'), text.contains('\r'));
        }
        assert_eq!(remove(USUAL), None);
        // Somebody has cut it: what ends where is not known.
        assert_eq!(remove(&add(USUAL).text.replace(END, "")), None);
    }

    #[test]
    fn the_kernel_says_how_large_its_pages_are() {
        let mut head = [0; 64];
        assert_eq!(page_size_of_kernel(&head), None);
        head[56..60].copy_from_slice(b"ARM\x64");
        for (flags, size) in [(0b0011, Some(4096)), (0b0100, Some(16384)), (0b0110, Some(65536)), (0, None)] {
            head[24] = flags;
            assert_eq!(page_size_of_kernel(&head), size);
        }
    }

    proptest! {
        #[test]
        fn whatever_is_there_stays(text in "([a-z=\\[\\]#]{0,12}\r?\n){0,8}[a-z]{0,3}") {
            let edit = add(&text);
            prop_assert!(edit.text.starts_with(&text));
            let back = remove(&edit.text).unwrap();
            prop_assert_eq!(back.text.trim_end_matches(['\r', '\n']), text.trim_end_matches(['\r', '\n']));
            prop_assert_eq!(kernel(&edit.text).map(|(_, value)| value), Some(SMALL));
        }
    }
}
