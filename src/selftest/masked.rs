// SPDX-License-Identifier: MIT OR Apache-2.0
//! Whether a failure comes from handlers of the engine's own user namespace, which hide those of the host.

use nix::unistd::Uid;

use super::Request;
use super::as_user::RanAs;
use super::builtin;
use super::depth::Depth;
use super::expect::Expectation;
use super::judge::Verdict;
use super::report::RunResult;
use super::token::nonce;
use super::user_namespace::{Holder, UserNamespace};
use crate::host::engines::Kind;

/// The name of this finding, and of the cause in the table that `explain` uses.
pub const ID: &str = "handlers-masked";

/// What shows it.
enum Evidence {
    /// The namespace's own table is mounted, where this process sees it.
    Mounted(Holder),
    /// The probe was started in the namespace and not by an engine, and no handler took it; outside one does.
    NotTaken,
    /// The probe runs outside; in the namespace it could not be tried without the engine.
    OutsideOnly,
}

/// Looks into `namespace`, in which `kind` of engine runs its containers, where the kernel took no handler for the probe
/// of `expectation`, and says so in `result` where handlers of its own are the reason.
pub(super) async fn look(
    result: &mut RunResult,
    kind: Kind,
    namespace: &UserNamespace,
    expectation: &Expectation,
    request: &Request,
) {
    let Some(evidence) = find(namespace, expectation, request).await else { return };
    let handler = expectation.handler.name().unwrap_or_default();
    let (certainty, shown) = match &evidence {
        Evidence::Mounted(Holder { pid, name }) => ("", format!("process {pid} ({name}) has it mounted")),
        Evidence::NotTaken => ("", "a probe without the engine fails there as well, and runs outside".to_owned()),
        Evidence::OutsideOnly => ("probably ", "a probe without the engine runs outside".to_owned()),
    };
    result.reason = format!(
        "the user namespace in which {kind} runs containers {certainty}has a binfmt_misc of its own, which hides this \
         host's handler {handler}: {shown}"
    );
    result.advice = cure(kind, namespace.root);
    result.cause = Some(ID);
}

async fn find(namespace: &UserNamespace, expectation: &Expectation, request: &Request) -> Option<Evidence> {
    if let Some(holder) = namespace.holder_of_table() {
        return Some(Evidence::Mounted(holder));
    }
    let run = async |inside: Option<&UserNamespace>| {
        builtin::run(expectation, &nonce().ok()?, Depth::Quick, request.limit, inside).await.ok()
    };
    let outside = run(None).await?.judgement;
    if !matches!(outside.verdict, Verdict::Pass | Verdict::Unseen) {
        return None;
    }
    let inside = run(Some(namespace)).await?.judgement;
    match inside.verdict {
        Verdict::Fail if inside.is_not_taken => Some(Evidence::NotTaken),
        Verdict::Unknown => Some(Evidence::OutsideOnly),
        // It is the engine that makes the difference.
        _ => None,
    }
}

/// What ends such a namespace, in which `root` is root. An engine of the host's root has one only where it runs in a
/// namespace as a whole.
fn cure(kind: Kind, root: Option<u32>) -> String {
    let Some(user) = root.filter(|uid| *uid != 0) else {
        return "Start the engine outside of that namespace, or run `qemu-persist apply` inside it.".to_owned();
    };
    let end = match kind {
        Kind::Podman => "`podman system migrate`, which stops this user's containers",
        Kind::Docker => "`systemctl --user restart docker`",
        Kind::Nerdctl => "`systemctl --user restart containerd`",
    };
    format!(
        "End that namespace, as {}: {end}. Let no container mount binfmt_misc in it, as those do that register handlers \
         (tonistiigi/binfmt): the host's are enough.",
        RanAs::of(Uid::from_raw(user))
    )
}
