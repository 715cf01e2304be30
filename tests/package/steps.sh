# shellcheck shell=bash disable=SC2154
# SPDX-License-Identifier: MIT OR Apache-2.0
# The steps of check.sh, run by inside.sh: $root is the system, $suite and $arch say which.

units=(qemu-persist.service qemu-persist-selftest.timer qemu-persist-selftest.path)
wants=(sysinit.target.wants/qemu-persist.service timers.target.wants/qemu-persist-selftest.timer
    paths.target.wants/qemu-persist-selftest.path)
case $suite-$arch in
    bookworm-*) fragments='' ;; # QEMU's own package has the rules
    *-amd64) fragments='qemu-aarch64.conf qemu-arm.conf qemu-riscv64.conf' ;;
    *-arm64) fragments='qemu-i386.conf qemu-x86_64.conf' ;;
esac

# Those verbs of the program that may end with 2 do so since nothing works in a system that may not register.
step() { printf '    %s %s: %s\n' "$suite" "$arch" "$current"; }
die() {
    printf '%s %s: %s: %s\n' "$suite" "$arch" "$current" "$*" >&2
    [[ ! -s $root/run/said ]] || sed 's/^/    | /' "$root/run/said" >&2
    exit 1
}
inside() { chroot "$root" "$@"; }
# do_dpkg ARGUMENT…: dpkg has to succeed, and no script may complain.
do_dpkg() {
    inside dpkg --force-unsafe-io "$@" >"$root/run/said" 2>&1 || die "dpkg $* failed"
    ! grep -iE 'error|warning|cannot|failed|No such|not found' "$root/run/said" || die "dpkg $* complained"
}
install() { do_dpkg -i "/opt/debs/$1"; }
table() { { grep -rs . /proc/sys/fs/binfmt_misc || true; } | sort; }
# All but what dpkg and the linker keep of everything, and systemd's catalogue of messages, which is made anew.
tree() {
    (cd "$root" && find . -xdev \( -path ./var/lib/dpkg -o -path ./var/log -o -path ./var/cache -o -path ./opt \
        -o -path ./var/lib/systemd/catalog -o -path ./run -o -path ./dev \) -prune \
        -o \( -type f -printf '%p %m %u:%g %s %T@\n' -o -type l -printf '%p -> %l\n' -o -printf '%p %m %u:%g\n' \)) | sort
}
# No name of ours outside of dpkg's logs.
traces() {
    find "$root"/{etc,usr,var,run} -xdev -name '*qemu-persist*' ! -path '*/var/log/*' | sed "s,^$root,,"
    grep -rlsi 'qemu-persist' "$root/etc" || true
    inside dpkg-query -W 'qemu-persist*' 2>/dev/null || true
}
expect_fragments() {
    local found
    found=$(cd "$root/etc/binfmt.d" && find . -type f -printf '%P\n' | sort | xargs)
    [[ $found == "$1" ]] || die "fragments: '$found', not '$1'"
    for file in $found; do
        grep -q '^# Written by `\{0,1\}qemu-persist' "$root/etc/binfmt.d/$file" || die "$file does not say who wrote it"
    done
}
expect_enabled() {
    local link
    for link in "${wants[@]}"; do
        [[ -L $root/etc/systemd/system/$link ]] || die "$link is not there"
    done
}
expect_table() { diff <(echo "$table") <(table) || die "the kernel's table was changed"; }
expect_as_before() {
    diff <(echo "$tree") <(tree) || die "the tree is not as before"
    [[ -z $(traces) ]] || die "left behind: $(traces)"
}

# The system shows the table of the machine that it is built on.
mount -t binfmt_misc binfmt_misc "$root/proc/sys/fs/binfmt_misc"
table=$(table)
tree=$(tree)
inside test -e /proc/sys/fs/binfmt_misc/register || die "the system does not see the table"

current=installation && step
install this.deb
expect_fragments "$fragments"
expect_enabled
inside qemu-persist --version >/dev/null
inside systemd-analyze verify --man=no "${units[@]}" qemu-persist-selftest.service >"$root/run/said" 2>&1 || die "systemd-analyze verify"
inside test ! -e /run/qemu-persist || die "something was started"
expect_table

current="installation again" && step
install this.deb
expect_fragments "$fragments"
expect_table

current="upgrade, with a unit that the administrator disabled" && step
inside systemctl disable qemu-persist-selftest.timer >"$root/run/said" 2>&1
install next.deb
expect_fragments "$fragments"
[[ ! -L $root/etc/systemd/system/${wants[1]} ]] || die "it was enabled again"
inside systemctl enable qemu-persist-selftest.timer >"$root/run/said" 2>&1
expect_enabled
expect_table

if [[ $suite != bookworm ]]; then
    current="rules of the distribution come and go" && step
    spare=$(cd "$root/opt/debs" && echo qemu-user-binfmt_*.deb)
    install "$spare"
    expect_fragments ''
    do_dpkg --purge qemu-user-binfmt
    expect_fragments "$fragments"
    expect_table
fi

current="removal" && step
echo '# the administrator'"'"'s own' >"$root/etc/binfmt.d/own.conf"
do_dpkg -r qemu-persist
rm "$root/etc/binfmt.d/own.conf" || die "the administrator's own file is gone"
expect_fragments ''
[[ ! -e $root/var/lib/qemu-persist/removed ]] || die "it notes that nothing is wanted"
expect_table

current="installation after removal" && step
install this.deb
expect_fragments "$fragments"
expect_enabled

current="upgrade after the verb remove" && step
inside qemu-persist remove >"$root/run/said" 2>&1 || die "qemu-persist remove"
expect_fragments ''
install next.deb
expect_fragments ''
do_dpkg -r qemu-persist
install this.deb
expect_fragments ''
inside qemu-persist apply >"$root/run/said" 2>&1 || true
expect_fragments "$fragments"

current="purge, with a configuration that the program wrote" && step
inside qemu-persist disable linux/riscv64 linux/386 >"$root/run/said" 2>&1 || true
[[ -n $(find "$root/etc/qemu-persist" -type f) ]] || die "qemu-persist disable"
mkdir -p "$root/var/lib/qemu-persist" && echo '{}' >"$root/var/lib/qemu-persist/proofs.json"
expect_table
do_dpkg --purge qemu-persist
expect_as_before

# From here on systemd seems to run. The stand-in for systemctl notes what it is asked to do.
mkdir -p "$root/run/systemd/system"
cat >"$root/usr/local/sbin/systemctl" <<'STANDIN'
#!/bin/sh
case " $* " in
    *" is-active "*) exit 3 ;;
    *" start "* | *" stop "* | *"restart "* | *"reload "*) echo "$*" >>/run/asked ;;
    *) exec /usr/bin/systemctl "$@" ;;
esac
STANDIN
chmod 755 "$root/usr/local/sbin/systemctl"
asked() { grep -E "$1" "$root/run/asked" | grep qemu-persist; }
forget() { : >"$root/run/asked"; }

current="with systemd, where policy-rc.d forbids to start anything" && step
forget
printf '#!/bin/sh\nexit 101\n' >"$root/usr/sbin/policy-rc.d"
chmod 755 "$root/usr/sbin/policy-rc.d"
install this.deb
expect_enabled
install next.deb
inside dpkg-trigger --by-package=qemu-user /usr/bin/qemu-x86_64
do_dpkg --triggers-only qemu-persist
do_dpkg --purge qemu-persist
! asked '(start|stop|reload)' || die "policy-rc.d was not respected"
rm "$root/usr/sbin/policy-rc.d"

current="with systemd" && step
forget
install this.deb
for unit in "${units[@]}"; do asked "start.*$unit" >/dev/null || die "$unit was not started: $(cat "$root/run/asked")"; done
# What has to be written and registered is the service's business.
expect_fragments ''
forget
install next.deb
for unit in "${units[@]}"; do asked "restart.*$unit" >/dev/null || die "$unit was not restarted: $(cat "$root/run/asked")"; done
! asked stop || die "the service was stopped for an upgrade"
forget
inside dpkg-trigger --by-package=qemu-user /usr/bin/qemu-x86_64
do_dpkg --triggers-only qemu-persist
asked 'try-reload-or-restart' >/dev/null || die "the service was not told of an upgrade of QEMU: $(cat "$root/run/asked")"
expect_table
forget
do_dpkg -r qemu-persist
for unit in "${units[@]}" qemu-persist-selftest.service; do asked "stop.*$unit" >/dev/null || die "$unit was not stopped"; done
do_dpkg --purge qemu-persist
expect_table
rm -r "$root/usr/local/sbin/systemctl" "$root/run/systemd"
expect_as_before

# That the table is as before says something only if it could have become another.
if [[ $arch == "$(dpkg --print-architecture)" ]]; then
    current="the kernel's table can be changed from the system" && step
    install this.deb
    inside qemu-persist apply --force >"$root/run/said" 2>&1 || true
    [[ $(table) != "$table" ]] || die "apply --force did not"
fi
