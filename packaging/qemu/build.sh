#!/usr/bin/env bash
# SPDX-License-Identifier: MIT OR Apache-2.0
# Builds the package qemu-persist-emulator into target/debian, and the source that goes with it: Debian's QEMU with the
# patches that are here, of which the user emulators, static:
#   packaging/qemu/build.sh [--arch amd64|arm64] [--suite SUITE | --dsc FILE.dsc] [--check]
# --suite names the Debian release whose source is taken through apt, the running one otherwise; --dsc takes a source
# package that is there already; --check ends when the patches have been applied.
set -euo pipefail
called_in=$PWD
cd "$(dirname "$0")/../.."
. packaging/toolchain.sh

# What compiler and linker are told, and what QEMU's configure is; all else about speed is in `build`.
flags=(-O2 -fzero-call-used-regs=skip -ftrivial-auto-var-init=uninitialized)
options=(--enable-lto --enable-stack-protector)

name=qemu-persist-emulator
own=(packaging/qemu/{build.sh,control,README,lintian-overrides})
revision=1 # the N of +persistN in its version
native=$(dpkg --print-architecture)
arch=$native suite='' dsc='' check=''
usage="$0 [--arch amd64|arm64] [--suite SUITE | --dsc FILE.dsc] [--check]"
while (($#)); do
    case $1${2:+ given} in
        --check*) check=yes && shift ;;
        '--arch given') arch=$2 && shift 2 ;;
        '--suite given') suite=$2 && shift 2 ;;
        '--dsc given') dsc=$(cd "$called_in" && realpath -m -- "$2") && shift 2 ;;
        *) fail 64 "unknown arguments: $*" "$usage" ;;
    esac
done
case $arch in
    amd64) gnu=x86_64-linux-gnu guests=(aarch64) ;;
    arm64) gnu=aarch64-linux-gnu guests=(x86_64 i386) ;;
    *) fail 64 "cannot build for $arch" "$usage" ;;
esac
[[ $suite =~ ^[a-z0-9-]*$ ]] || fail 64 "not the name of a release: $suite" "$usage"
[[ -z $suite || -z $dsc ]] || fail 64 "--suite and --dsc exclude each other" "$usage"
[[ -z $dsc || -f $dsc ]] || fail 64 "no such file: $dsc" "$usage"

cross=''
packages=(gcc "libc6-dev:$native" ninja-build "pkg-config:$native" python3-venv)
packages+=({libglib2.0,libpcre2,zlib1g}"-dev:$arch")
[[ $arch == "$native" ]] || packages+=("gcc-${gnu/_/-}" "libc6-dev-$arch-cross") cross=$gnu-
[[ $(release) == 12 ]] || packages+=(meson)

extra_list=/etc/apt/sources.list.d/qemu-source.list
cache=$PWD/target/qemu output=$PWD/target/debian
work=$cache/building-$arch

# use_apt deb|deb-src SUITE: from now on `apt_get` knows the suite's packages or sources and nothing else, on the
# mirrors that this machine takes Debian from, signed by Debian.
use_apt() {
    local label uri of
    apt=$cache/apt-$1-$2
    mkdir -p "$apt"/{lists,cache}
    # shellcheck disable=SC2016 # for apt
    apt-get indextargets --format '$(REPO_URI) $(LABEL)' | sort -u | while read -r uri label; do
        of="$1 [arch=$native signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $uri $2"
        # Others have a label that begins as these do: `Debian Backports`.
        case $label/$2 in
            Debian-Security/*-* | Debian-Security/sid | Debian-Security/unstable | Debian-Security/experimental) ;;
            Debian-Security/*) printf '%s-security main\n' "$of" ;;
            Debian/*) printf '%s main\n' "$of" ;;
        esac
    done >"$apt/sources.list"
    [[ -s $apt/sources.list ]] || fail 69 "apt knows no mirror of Debian: no source of QEMU can be had" "write \
\`deb-src URL-OF-A-MIRROR $2 main\` to $extra_list and run apt-get update; or $0 --dsc FILE.dsc"
    cat >"$apt/apt.conf" <<CONFIGURATION
Dir::Etc::SourceList "$apt/sources.list";
Dir::Etc::SourceParts "/dev/null";
Dir::State::Lists "$apt/lists";
Dir::Cache "$apt/cache";
Acquire::AllowInsecureRepositories "false";
APT::Get::AllowUnauthenticated "false";
APT::Update::Error-Mode "any";
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
CONFIGURATION
    ((EUID != 0)) || echo 'APT::Sandbox::User "root";' >>"$apt/apt.conf"
    apt_get update
}

# apt_get ARGUMENT…: writes to a file; where it fails, this is the end, with the reason.
apt_get() {
    apt-get -q -y -c "$apt/apt.conf" "$@" >"$apt/log" 2>&1 || {
        grep '^[EW]:' "$apt/log" >&2 || tail -n 5 "$apt/log" >&2
        fail 69 "what QEMU is built from cannot be had: apt-get $1 fails; nothing was built or changed" "enable a \
mirror that has it in $extra_list (asked: \`$(sed 's/ \[[^]]*\]//;q' "$apt/sources.list")\`); or $0 --dsc FILE.dsc"
    }
}

# Downloads Debian's newest source of the suite, which becomes `dsc`.
fetch() {
    if [[ -z $suite && $(release) == 12 ]]; then
        suite=trixie
        step "QEMU of trixie: bookworm's is older than 10.0; being static, it runs on bookworm as well"
    fi
    [[ -n $suite ]] || suite=$(. /etc/os-release && printf '%s' "${VERSION_CODENAME:-}")
    [[ -n $suite ]] || fail 64 "this system does not say which release it is" "$usage"
    step "source of QEMU in $suite"
    use_apt deb-src "$suite"
    apt_get source --only-source --print-uris qemu
    dsc=$cache/source/$(grep -o ' qemu_[^ ]*\.dsc ' "$apt/log" | tr -d ' ')
    mkdir -p "$cache/source"
    (cd "$cache/source" && apt_get source --only-source --download-only qemu)
}

# What a package is called that was built of all that is as it is now.
key() {
    # shellcheck disable=SC2016 # for dpkg-query
    { dpkg-query -Wf '${Package} ${Version}\n' "${packages[@]}" 2>/dev/null || true; } |
        cat - packaging/toolchain.sh "${own[@]}" "${patches[@]}" "$dsc" | sha256sum | cut -c1-16
}

# Unpacks Debian's source, with Debian's patches, and applies ours.
unpack() {
    local patch said
    step "QEMU $source: patches"
    said=$(dpkg-source -x "$dsc" "$work/source" 2>&1) ||
        fail 65 "$dsc cannot be unpacked: ${said##*$'\n'}" "get it, and the files that it names, once more"
    for patch in "${patches[@]}"; do
        said=$(patch -d "$work/source" -p1 --fuzz=0 --batch --forward <"$patch" 2>&1) || {
            sed '/succeeded at/d' <<<"$said" >&2
            fail 1 "QEMU $source: ${patch##*/} does not apply" \
                "take a source that it is for (--suite, --dsc); a package built or installed before goes on working"
        }
    done
}

# All that compiling needs. QEMU asks for a newer meson than bookworm's; trixie's, being Python alone, runs there too.
prepare() {
    if [[ -n $cross ]] && ! dpkg --print-foreign-architectures | grep -qx "$arch"; then
        ((EUID == 0)) || fail 77 "packages for $arch are needed" "sudo dpkg --add-architecture $arch"
        dpkg --add-architecture "$arch"
    fi
    install_missing "${packages[@]}"
    if [[ $(release) == 12 ]]; then
        step "meson of trixie"
        use_apt deb trixie
        (cd "$work" && apt_get download meson)
        dpkg -x "$work"/meson_*.deb "$work/meson"
        export PYTHONPATH=$work/meson/usr/lib/python3/dist-packages
    fi
}

# build FOLDER FLAG…: configures and compiles the programs in a folder of `work`. Wherever that is, the same comes out:
# without a seed, gcc's link-time optimisation makes names up.
build() {
    local folder=$work/$1 log=$cache/$arch.log
    shift
    step "programs for $arch: $*"
    mkdir -p "$folder"
    (
        cd "$folder" &&
            unset CC CFLAGS CPPFLAGS LDFLAGS MAKEFLAGS PKG_CONFIG_PATH &&
            export PKG_CONFIG=pkg-config PKG_CONFIG_LIBDIR=/usr/lib/$gnu/pkgconfig:/usr/share/pkgconfig &&
            AR=${cross}gcc-ar RANLIB=${cross}gcc-ranlib ../source/configure --cross-prefix="$cross" \
                --python=/usr/bin/python3 --prefix=/usr --target-list="$(printf '%s-linux-user ' "${guests[@]}")" \
                --static --without-default-features --enable-linux-user --enable-tcg --disable-system --disable-tools \
                --disable-docs --disable-plugins --disable-install-blobs --disable-debug-info --disable-relocatable \
                --disable-containers --disable-download --with-pkgversion="Debian $source, $name $version" \
                --extra-cflags="$* -DPROVIDE_STUBS_FOR_STATIC -ffile-prefix-map=$work=. -frandom-seed=$name" \
                --extra-ldflags="$* -Wl,-Map=%.map,--no-print-map-discarded" "${options[@]}" &&
            ninja -j "$(nproc)" "${guests[@]/#/qemu-}"
    ) >"$log" 2>&1 || {
        tail -n 20 "$log" >&2
        fail 1 "QEMU $source cannot be compiled" "read $log"
    }
}

# fill FILE: the file, with what is to be filled in.
fill() {
    sed -e "s|@VERSION@|$version|g;s|@FILE_VERSION@|${version#*:}|g;s|@ARCH@|$arch|g;s|@SOURCE@|$source|g" \
        -e "s|@SIZE@|${size-}|;s|@USED@|$used|g;s|@MAINTAINER@|$maintainer|g" "packaging/qemu/$1"
}

# package FOLDER: makes the package of the programs compiled in FOLDER.
package() {
    local root=$work/root doc=$work/root/usr/share/doc/$name guest library libraries patch used size maintainer
    step "package for $arch"
    mkdir -p "$work/done" "$doc"/{patches,libraries} "$root/DEBIAN"
    for guest in "${guests[@]}"; do
        install -D -m 755 "$work/$1/qemu-$guest" -t "$root/usr/libexec/qemu-persist"
        "${cross}strip" --strip-all --remove-section=.comment "$root/usr/libexec/qemu-persist/qemu-$guest"
    done
    # As Debian's own rules find out what is linked in: the linker has written it down.
    mapfile -t libraries < <(grep -hoP '^/usr/[^(]+(?=\()' "$work/$1"/qemu-*.map | sort -u | xargs realpath |
        xargs dpkg-query -S | sed 's/: .*//' | sort -u)
    ((${#libraries[@]})) || fail 1 "the linker does not say which libraries it took" "read $work/$1/*.map"
    for library in "${libraries[@]}"; do
        cp -L "/usr/share/doc/${library%%:*}/copyright" "$doc/libraries/${library%%:*}"
    done
    # Those for a cross compiler are made from the source of others, which they name.
    # shellcheck disable=SC2016 # for dpkg-query
    used=$({
        dpkg-query -Wf '${source:Package} (= ${source:Version})\n' "${libraries[@]}"
        dpkg-query -Wf '${Built-Using}\n' "${libraries[@]}" | sed 's/, */\n/g' | sed -nE '/^(glibc|gcc-[0-9]+) /p'
    } | sort -u | sed 's/^/, /' | tr -d '\n')
    used="qemu (= $source)$used"
    maintainer=$(sed -n 's/^Maintainer: //p' packaging/qemu/control)
    install -m 644 packaging/toolchain.sh packaging/qemu/build.sh "$work/source/debian/copyright" "$doc/"
    install -m 644 "${patches[@]}" "$doc/patches/"
    fill README | sed '/^    qemu (= /s/, /\n    /g' >"$doc/README"
    {
        printf '%s (%s) unstable; urgency=medium\n\n' "$name" "$version"
        printf "  * Debian's QEMU, only the user emulators, with:\n"
        for patch in "${patches[@]}"; do
            sed -nE '/^Subject: /{:a;N;s/\n / /;ta;s/\n.*//;s/^Subject: (\[[^]]*\] )*//p;q}' "$patch" |
                fold -s -w 70 | sed -E '1s/^/    - /;2,$s/^/      /;s/ $//'
        done
        printf '\n -- %s  %s\n\n' "$maintainer" "$(date -uRd "@$SOURCE_DATE_EPOCH")"
        cat "$work/source/debian/changelog"
    } | gzip -9n >"$doc/changelog.Debian.gz"
    install -D -m 644 packaging/qemu/lintian-overrides "$root/usr/share/lintian/overrides/$name"
    size=$(du -sk --apparent-size "$root/usr" | cut -f1)
    fill control >"$root/DEBIAN/control"
    (cd "$root" && find usr -type f -print0 | sort -z | xargs -0 md5sum) >"$root/DEBIAN/md5sums"
    chmod -R u=rwX,go=rX "$root"
    dpkg-deb --root-owner-group -Zxz --build "$root" "$work/done" >/dev/null
}

# package_source: makes the source that goes with the package: Debian's, and all of ours that it was built with.
package_source() {
    local folder=$work/${name}_${version#*:}_source
    mkdir -p "$folder/packaging/qemu/patches"
    cp "$dsc" "$folder/"
    # The lines below Files: of a .dsc are a checksum, a size and a name.
    sed -n '/^Files:/,/^[^ F]/ s/^ [0-9a-f]\{32\} [0-9]* //p' "$dsc" | while read -r file; do
        cp "${dsc%/*}/$file" "$folder/"
    done
    cp packaging/toolchain.sh "$folder/packaging/"
    cp "${own[@]}" "$folder/packaging/qemu/"
    cp "${patches[@]}" "$folder/packaging/qemu/patches/"
    tar -C "$work" --sort=name --mtime="@$SOURCE_DATE_EPOCH" --owner=0 --group=0 --numeric-owner --mode=u=rwX,go=rX \
        -cf "$work/done/${folder##*/}.tar" "${folder##*/}"
}

# Puts what is in FOLDER into the output, each file whole or not at all, in the place of what was built before.
deliver() {
    local file
    mkdir -p "$output"
    for file in "$1"/*; do
        if ! cmp -s "$file" "$output/${file##*/}"; then
            cp "$file" "$output/.${file##*/}.new"
            mv "$output/.${file##*/}.new" "$output/${file##*/}"
        fi
        step "target/debian/${file##*/}"
    done
    for file in "$output/$name"_*_"$arch.deb"; do
        [[ -e $1/${file##*/} ]] || rm -f "$file"
    done
    # The source is that of the other architecture's package as well, while there is one.
    for file in "$output/$name"_*_source.tar; do
        compgen -G "${file%_source.tar}_*.deb" >/dev/null || rm -f "$file"
    done
    ((${SUDO_UID:-0} == 0)) || chown -R "$SUDO_UID:$SUDO_GID" target
}

install_missing dpkg-dev patch debian-archive-keyring ca-certificates
mkdir -p "$cache"
exec {lock}>"$cache/.lock"
flock "$lock"
[[ -n $dsc ]] || fetch
[[ $(sed -n '/^Source: /{s///p;q}' "$dsc") == qemu ]] || fail 65 "$dsc is not a source package of QEMU" "$usage"
source=$(sed -n '/^Version: /{s///p;q}' "$dsc") patches=(packaging/qemu/patches/*.patch)
version=$source+persist$revision
if [[ -z $check && -d $cache/$arch-$(key) ]]; then
    deliver "$cache/$arch-$(key)"
    exit
fi

# What a killed run has left is not taken for anything.
rm -rf "$work"
trap 'rm -rf "$work"' EXIT
mkdir "$work"
unpack
[[ -z $check ]] || exit 0
prepare
# One second after the newest of Debian's change and ours.
SOURCE_DATE_EPOCH=$({
    dpkg-parsechangelog -l "$work/source/debian/changelog" -SDate
    sed -n 's/^Date: //p' "${patches[@]}"
} | date -f - +%s | sort -n | tail -n 1)
export SOURCE_DATE_EPOCH=$((SOURCE_DATE_EPOCH + 1))
build programs "${flags[@]}"
package programs
package_source
rm -rf "$cache/$arch"-*
product=$cache/$arch-$(key)
mv "$work/done" "$product"
deliver "$product"
