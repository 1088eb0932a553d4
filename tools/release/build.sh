#!/usr/bin/env bash
# Makes everything that a release consists of from a clean clone, and tests it.
#
#   tools/release/build.sh [FOLDER [ARCH]]
#
# FOLDER (target/artefacts by default) is emptied and gets, for the architecture of this machine: an archive with the statically linked
# program, the wheel made from it, the sdist, the crate, a Debian package, an image for containers (with buildah), the list of all parts
# (CycloneDX), and checksums. test.sh is run on them.
#
# With the ARCH of another machine (x86_64, aarch64) the program is built with a cross compiler, and FOLDER gets the archive, the wheel, the
# Debian package, the list and the checksums. The program is started with qemu, which lacks system calls that a measurement needs:
# that it measures has to be tested on a machine of that architecture. This needs ARCH-linux-gnu-gcc and qemu-ARCH-static.
#
# Needs Rust with the target ARCH-unknown-linux-musl, musl-gcc, git, python3 with venv, and dpkg-deb, and what test.sh needs; as root on
# Debian it installs musl-tools. The folder must be a clone without changes; another one is refused before anything is built.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
cd "$here/../.."
export CARGO_TERM_COLOR=never
folder=${1:-target/artefacts}
host=$(uname -m)
arch=${2:-$host}
target=$arch-unknown-linux-musl
# What starts a program of that architecture.
runner=()

fail() {
    echo "release: $1" >&2
    exit 1
}

timings=()
step() {
    local name=$1 start=$SECONDS
    shift
    echo "=== $name"
    "$@"
    timings+=("$(printf '%5d s  %s' $((SECONDS - start)) "$name")")
}

# `cargo package` would refuse it too, but only after the long build.
check_clone() {
    local changes
    changes=$(git status --porcelain) || fail "this folder is not a clone of the repository"
    [ -z "$changes" ] || fail "the clone has changes; commit or remove them:"$'\n'"$changes"
}

# Compilers for another architecture. Rust has musl and the start of a program for the target.
set_up_cross_build() {
    case $arch in
        x86_64 | aarch64) ;;
        *) fail "the architecture $arch is not supported: x86_64 or aarch64" ;;
    esac
    local compiler=$arch-linux-gnu-gcc package=gcc-${arch/_/-}-linux-gnu name=${target//-/_}
    if ! command -v "$compiler" >/dev/null && command -v apt-get >/dev/null && [ "$(id -u)" = 0 ]; then
        .ci/packages "$package" qemu-user-static
    fi
    command -v "$compiler" >/dev/null || fail "$compiler is missing: install $package"
    command -v "qemu-$arch-static" >/dev/null || fail "qemu-$arch-static is missing: install qemu-user-static"
    runner=("qemu-$arch-static")
    # The checked functions of glibc are not in musl, nor are those for large files, which are the usual ones on these machines.
    export "CC_$name=$compiler" "AR_$name=$arch-linux-gnu-ar" "CFLAGS_$name=-U_FORTIFY_SOURCE -DSQLITE_DISABLE_LFS"
    export "CARGO_TARGET_${name^^}_LINKER=rust-lld"
}

# SQLite's crate links libdl, which is empty with musl, and which Rust does not bring along.
add_empty_library() {
    local name=${target//-/_}
    mkdir -p "$parts/lib-$arch"
    rm -f "$parts/lib-$arch/libdl.a"
    "$arch-linux-gnu-ar" crs "$parts/lib-$arch/libdl.a"
    export "CARGO_TARGET_${name^^}_RUSTFLAGS=-L native=$parts/lib-$arch"
}

check_tools() {
    [ "$arch" = "$host" ] || set_up_cross_build
    if [ "$arch" = "$host" ] && ! command -v musl-gcc >/dev/null && command -v apt-get >/dev/null && [ "$(id -u)" = 0 ]; then
        .ci/packages musl-tools
    fi
    [ "$arch" != "$host" ] || command -v musl-gcc >/dev/null || fail "musl-gcc is missing: install musl-tools"
    command -v dpkg-deb >/dev/null || fail "dpkg-deb is missing: install dpkg"
    [ -d "$(rustc --print sysroot)/lib/rustlib/$target" ] || rustup target add "$target" ||
        fail "the standard library for $target is missing: rustup target add $target"
    python3 -c 'import ensurepip, venv' || fail "python3 cannot make virtual environments: install python3-venv"
}

# What is installed is kept beside the build.
install_tools() {
    if ! "$parts/python/bin/maturin" --version >/dev/null 2>&1; then
        python3 -m venv "$parts/python"
        "$parts/python/bin/python" -m pip install --quiet --disable-pip-version-check 'maturin>=1.7,<2' 'wheel>=0.45'
    fi
}

build_program() {
    cargo build --locked --profile dist --target "$target" --bin ringmark
    mkdir -p "$stage/share"
    cp "$build/$target/dist/ringmark" "$stage/ringmark"
    cp README.md CHANGELOG.md LICENSE "$stage/share"
    mkdir "$stage/share/man" "$stage/share/completions"
    "${runner[@]}" "$stage/ringmark" man >"$stage/share/man/ringmark.1"
    for command in $("${runner[@]}" "$stage/ringmark" --help | sed -n '/^Commands:/,/^$/s/^  \([a-z]\+\) .*/\1/p'); do
        [ "$command" = help ] || "${runner[@]}" "$stage/ringmark" man "$command" >"$stage/share/man/ringmark-$command.1"
    done
    for shell in bash zsh fish; do
        "${runner[@]}" "$stage/ringmark" completions "$shell" >"$stage/share/completions/ringmark.$shell"
    done
}

# The same bytes from the same commit, whenever it is made.
make_archive() {
    local name=ringmark-$version-$target
    mkdir "$stage/$name"
    cp -R "$stage/ringmark" "$stage/share/." "$stage/$name"
    tar -C "$stage" --sort=name --mtime="@$SOURCE_DATE_EPOCH" --owner=0 --group=0 --numeric-owner --mode=u+rwX,go+rX,go-w -cf - "$name" |
        gzip -9n >"$folder/$name.tar.gz"
}

# A statically linked program runs with every libc, so the wheel has the tags of glibc and of musl.
make_wheel() {
    local bin=$parts/python/bin
    (cd tools/python && "$bin/maturin" build --locked --profile dist --target "$target" --compatibility linux --out "$stage/wheel")
    "$bin/python" -m wheel tags --remove --platform-tag "manylinux_2_17_$arch.manylinux2014_$arch.musllinux_1_1_$arch" \
        "$stage"/wheel/ringmark-*.whl
    mv "$stage"/wheel/ringmark-*.whl "$folder"
}

# What `pip` calls. `maturin sdist` does the same, but has an error of cargo about a manifest that it does not need.
make_sdist() {
    (cd tools/python && "$parts/python/bin/maturin" pep517 write-sdist --sdist-directory "$folder")
}

make_crate() {
    cargo package --locked
    cp "$build/package/ringmark-$version.crate" "$folder"
}

make_deb() {
    local root=$stage/deb
    local doc=$root/usr/share/doc/ringmark
    local deb_arch
    case $arch in
        x86_64) deb_arch=amd64 ;;
        aarch64) deb_arch=arm64 ;;
        *) deb_arch=$(dpkg --print-architecture) ;;
    esac
    install -D -m 755 "$stage/ringmark" "$root/usr/bin/ringmark"
    mkdir -p "$root/usr/share/man/man1" "$doc"
    for page in "$stage"/share/man/*; do
        gzip -9nc "$page" >"$root/usr/share/man/man1/$(basename "$page").gz"
    done
    install -D -m 644 "$stage/share/completions/ringmark.bash" "$root/usr/share/bash-completion/completions/ringmark"
    install -D -m 644 "$stage/share/completions/ringmark.zsh" "$root/usr/share/zsh/vendor-completions/_ringmark"
    install -D -m 644 "$stage/share/completions/ringmark.fish" "$root/usr/share/fish/vendor_completions.d/ringmark.fish"
    install -m 644 README.md "$doc/README.md"
    install -m 644 LICENSE "$doc/copyright"
    gzip -9nc CHANGELOG.md >"$doc/changelog.gz"
    mkdir "$root/DEBIAN"
    cat >"$root/DEBIAN/control" <<END
Package: ringmark
Version: $version
Architecture: $deb_arch
Maintainer: The ringmark developers <ringmark@users.noreply.github.com>
Section: utils
Priority: optional
Recommends: ca-certificates
Homepage: $homepage
Installed-Size: $(du -sk "$root/usr" | cut -f1)
Description: load generator for LLM inference servers
 Measures the latency and throughput of OpenAI-compatible and other inference
 servers. Token arrivals are timestamped in the kernel, and each run reports
 its own error.
END
    chmod -R u+rwX,go+rX,go-w "$root"
    dpkg-deb --root-owner-group --build "$root" "$folder/ringmark_${version}_$deb_arch.deb"
}

# Images of its own, so that nothing is left on this machine.
buildah_here() {
    buildah --storage-driver vfs --root "$stage/storage" --runroot "$stage/run" "$@"
}

# The image is saved in the format of `docker save`, which docker, podman and skopeo read.
make_image() {
    if ! command -v buildah >/dev/null; then
        echo "buildah is missing: no image is made"
        return
    fi
    tools/cluster/image.sh --folder "$stage/image" "$stage/ringmark"
    local image=localhost/ringmark:$version
    buildah_here build --isolation chroot --timestamp "$SOURCE_DATE_EPOCH" --file "$stage/image/Containerfile" --tag "$image" "$stage/image"
    buildah_here push "$image" "docker-archive:$stage/image.tar:ringmark:$version"
    gzip -9nc "$stage/image.tar" >"$folder/ringmark-$version-$arch-image.tar.gz"
}

make_parts_list() {
    python3 "$here/parts.py" "$target" >"$folder/ringmark-$version-$target.cdx.json"
}

make_checksums() {
    (cd "$folder" && sha256sum -- * >"$stage/sums" && mv "$stage/sums" "SHA256SUMS-$arch")
}

check_clone
check_tools
metadata() {
    cargo metadata --locked --no-deps --format-version 1 | python3 -c "import json, sys; print(json.load(sys.stdin)$1)"
}
version=$(metadata "['packages'][0]['version']")
homepage=$(metadata "['packages'][0]['repository']")
build=$(metadata "['target_directory']")
parts=$build/release-parts
stage=$(mktemp -d)
trap 'rm -rf "$stage"' EXIT
SOURCE_DATE_EPOCH=$(git log -1 --format=%ct)
export SOURCE_DATE_EPOCH
rm -rf "$folder"
mkdir -p "$folder" "$parts"
folder=$(cd "$folder" && pwd)
[ "$arch" = "$host" ] || add_empty_library

step "tools" install_tools
step "program" build_program
step "archive" make_archive
step "wheel" make_wheel
# The same for every architecture, and made from what this machine can run.
if [ "$arch" = "$host" ]; then
    step "sdist" make_sdist
    step "crate" make_crate
fi
step "Debian package" make_deb
[ "$arch" != "$host" ] || step "image" make_image
step "list of parts" make_parts_list
step "checksums" make_checksums
step "tests" "$here/test.sh" "$folder" "$arch"

echo "=== time"
printf '%s\n' "${timings[@]}"
echo "=== artefacts in $folder"
ls -l "$folder"
