// SPDX-License-Identifier: MIT OR Apache-2.0
//! Every state of the kernel's table and of the files beside it, on a real binfmt_misc.

mod sandbox;

use sandbox::{QEMU, QEMU_P, Sandbox, TABLE, rule};

#[test]
fn an_empty_table_is_filled_and_programs_run() {
    let host = sandbox!();
    assert_eq!(host.status().ids(), ["not-registered"]);
    assert_eq!(host.status().code, 2);
    assert!(host.run_foreign().code != 0);
    let report = host.apply(&[], 0);
    assert_eq!(report["changed"], true, "{report:#}");
    let ran = host.run_foreign();
    assert_eq!((ran.code, ran.out.as_str()), (0, "qemu-persist-probe 1 aarch64 nonce\n"), "{}", ran.err);
    assert_eq!(host.status().ids(), ["unproven"]);
    assert_eq!(host.apply(&[], 0)["changed"], false);
    let _ = (QEMU, QEMU_P, TABLE, rule("a", "b", "c"));
    let _: &Sandbox = &host;
}
