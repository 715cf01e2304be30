// SPDX-License-Identifier: MIT OR Apache-2.0
//! What programs say, made fit for one sentence of a report.

/// `bytes` of standard error on one line: without the log lines of engines and their preliminaries
/// where they say besides what the error is, and without what they put before it.
pub fn error_line(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let plain: Vec<_> = text.lines().filter(|line| !line.starts_with("time=") && !line.trim().is_empty()).collect();
    let from_error = plain.iter().position(|line| line.starts_with("Error: ") || line.starts_with("docker: "));
    let lines = match from_error {
        Some(first) => &plain[first..],
        None => &plain[..],
    };
    if lines.is_empty() {
        return one_line(bytes);
    }
    let line = one_line(lines.join("\n").as_bytes());
    let mut rest = line.as_str();
    while let Some(behind) =
        ["docker: ", "Error: ", "Error response from daemon: "].iter().find_map(|lead| rest.strip_prefix(lead))
    {
        rest = behind;
    }
    rest.trim_end_matches(" See 'docker run --help'.").to_owned()
}

/// `bytes` as text on one line of 300 characters at most.
pub fn one_line(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match words.char_indices().nth(299) {
        Some((end, _)) => format!("{}…", &words[..end]),
        None => words,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_error_is_told_without_what_stands_around_it() {
        let docker =
            "time=\"2026\" level=error msg=\"x\"\ndocker: Error response from daemon: no.\nSee 'docker run --help'.\n";
        assert_eq!(error_line(docker.as_bytes()), "no.");
        assert_eq!(error_line(b"Trying to pull x...\nError: it is not there\n"), "it is not there");
        assert_eq!(error_line(b"time=\"2026\" msg=only\n"), "time=\"2026\" msg=only");
        assert_eq!(error_line(b"exec /p: exec format error\n"), "exec /p: exec format error");
    }

    #[test]
    fn one_line_is_short() {
        assert_eq!(one_line(b" a\n\nb\t c "), "a b c");
        assert_eq!(one_line(&[b'x'; 5000]).chars().count(), 300);
    }
}
