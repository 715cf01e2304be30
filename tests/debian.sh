# shellcheck shell=bash
# SPDX-License-Identifier: MIT OR Apache-2.0
# For the scripts that make a Debian system for tests out of packages, sourced after packaging/toolchain.sh. Of that only
# what packages' own scripts do runs in the system, under emulation where it is of another architecture.

give_product() {
    [[ -e $product ]] || return 0
    printf '%s\n' "$product"
    exit
}

# begin SCRIPT FOLDER NAME: ends the script with the path of NAME in FOLDER where it was made by the very same script; else
# gives $work, a folder to make it in, and $root in that, the system.
begin() {
    cache=$PWD/$2 name=$3
    product=$cache/$name-$(cat "$1" tests/debian.sh tests/inside.sh | sha256sum | cut -c1-16)
    mkdir -p "$cache"
    give_product
    exec {lock}>"$cache/.lock"
    flock "$lock"
    give_product
    ((EUID == 0)) || fail 77 "a system has files of many users" "sudo $1"
    exec {out}>&1 >&2
    # What a killed run has left would never be taken for a system.
    rm -rf --one-file-system "$cache"/.building-* "$cache/$name"-*
    work=$(mktemp -d "$cache/.building-XXXXXX")
    trap 'rm -rf --one-file-system "$work"' EXIT
    chmod 755 "$work"
    root=$work/root
}

# finish PATH: what was begun is there.
finish() {
    mv "$1" "$product"
    printf '%s\n' "$product" >&"$out"
}

# unpack SUITE ARCHITECTURE FOLDER PACKAGE,…|PATTERN…: downloads the packages with all that they need, and unpacks them into
# FOLDER. The mirror is the machine's own, for whatever suite.
unpack() {
    local suite=$1 arch=$2 folder=$3 folders='bin sbin lib'
    shift 3
    # shellcheck disable=SC2016 # for apt
    apt-get indextargets --format '$(LABEL) $(REPO_URI)' 'Created-By: Packages' | sort -u |
        while read -r label uri; do
            case $label in
                Debian) printf 'deb %s %s main\n' "$uri" "$suite" "$uri" "$suite-updates" ;;
                Debian-Security) printf 'deb %s %s-security main\n' "$uri" "$suite" ;;
            esac
        done >"$work/sources.list"
    [[ -s $work/sources.list ]] || fail 69 "apt knows no mirror of Debian" "look into /etc/apt"
    [[ $arch != amd64 ]] || folders+=' lib64'
    mmdebstrap --quiet --mode=root --variant=extract --architectures="$arch" "${@/#/--include=}" \
        --setup-hook="for folder in $folders; do mkdir -p \"\$1/usr/\$folder\"; ln -s \"usr/\$folder\" \"\$1/\$folder\"; done" \
        --aptopt='APT::Install-Recommends "false"' --skip=download/empty,cleanup/apt,cleanup/mmdebstrap \
        "$suite" "$folder" - <"$work/sources.list"
}

# extract SUITE ARCHITECTURE PACKAGE…: what a system is made of, and the packages, unpacked into $root.
extract() {
    local suite=$1 arch=$2 include
    include=$(IFS=, && echo "${*:3}")
    # bookworm would install Perl to make its symbolic links of /bin and the like, which Debian's installer makes first.
    [[ $suite != bookworm ]] || include+=,usr-is-merged
    unpack "$suite" "$arch" "$root" '?essential' "$include"
    printf 'Dir "%s";\nAPT::Architecture "%s";\nAPT::Architectures { "%s"; };\nAPT::Sandbox::User "root";\n' \
        "$root" "$arch" "$arch" >"$work/apt.conf"
    printf 'path-exclude=%s\n' '*/udev/hwdb.d/*' '/usr/share/man/*' '/usr/share/doc/*' '/usr/share/locale/*' >"$work/dpkg.cfg"
    mkdir -p "$root/opt/debs"
}

# apt_inside ARGUMENT…: apt-get with what the system would install from.
apt_inside() { APT_CONFIG=$work/apt.conf apt-get -qq "$@"; }

# configure ARCHITECTURE: has dpkg install what was extracted, and takes away what that needed. Left out is what is slow
# under emulation and not needed: the table of hardware, Python's compilation of its own library.
configure() {
    rm -rf "$root"/usr/lib/udev/hwdb.d
    printf 'import sys\nif "-" in sys.argv: sys.stdin.read()\n' >"$work/py_compile.py"
    cat >"$work/configure.sh" <<'INSIDE'
dpkg="dpkg --root=$root --log=/dev/null --force-unsafe-io --force-depends"
$dpkg $(sed 's/^/--/' "$work/dpkg.cfg") --unpack "$root"/var/cache/apt/archives/*.deb
for file in "$root"/usr/lib/python3.*/py_compile.py; do [ ! -e "$file" ] || mount --bind "$work/py_compile.py" "$file"; done
$dpkg --configure --pending
INSIDE
    export work root
    tests/inside.sh "$1" "$work/configure.sh" >"$cache/$name.log" 2>&1 || {
        tail -n 30 "$cache/$name.log"
        fail 1 "a package cannot be configured" "read $cache/$name.log"
    }
    rm -rf "$root"/var/cache/apt/* "$root"/var/lib/apt/lists/* "$root"/etc/apt/sources.list*
}
