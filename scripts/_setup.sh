# Sourced by the other scripts. Functions that make the virtual environment, the native core and the guest image if they are missing.
set -eu
cd "$(dirname "$0")/.."
# Without bytecode each process compiles all that it imports: the tests take half as long again.
unset PYTHONDONTWRITEBYTECODE
say() { printf '== %s\n' "$*" >&2; }
die() { say "$*"; exit 1; }

need_venv() {
    # A stamp of everything that the environment depends on: without it a moved checkout or a new Python would use a broken environment.
    python=${PYTHON:-python3}
    command -v "$python" >/dev/null || die "$python is missing: apt-get install python3 python3-venv"
    "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
        die "$("$python" --version) is too old, 3.11 or newer is needed: set PYTHON to one"
    stamp=$({ pwd; "$python" -c 'import sys; print(sys.version, sys.prefix)'; cat pyproject.toml; } | cksum)
    [ "$stamp" = "$(cat .venv/stamp 2>/dev/null)" ] && return
    "$python" -c 'import ensurepip, venv' 2>/dev/null || die "Python cannot make virtual environments: apt-get install python3-venv"
    say "making the virtual environment .venv (once)"
    "$python" -m venv --clear .venv
    .venv/bin/python -m pip install -q --disable-pip-version-check --upgrade 'pip>=25.1'
    .venv/bin/python -m pip install -q --disable-pip-version-check --editable . --group dev
    echo "$stamp" > .venv/stamp
}

c_files() { find wasm runtime tests -name '*.[ch]'; }

need_docs() {
    # Apart from need_venv, and its stamp inside what need_venv clears: only those who build the pages wait for these packages.
    [ -e .venv/docs ] && return
    say "installing what builds the documentation (once)"
    .venv/bin/python -m pip install -q --disable-pip-version-check --group docs
    touch .venv/docs
}

need_ray() {
    # An environment of its own: the other tests run as for people who have no Ray.
    [ "$(cat .venv/stamp)" = "$(cat build/ray/stamp 2>/dev/null)" ] && return
    say "making the virtual environment build/ray (once)"
    .venv/bin/python -m venv --clear build/ray
    build/ray/bin/python -m pip install -q --disable-pip-version-check --upgrade 'pip>=25.1'
    build/ray/bin/python -m pip install -q --disable-pip-version-check --editable '.[numpy,ray]' --group ray-tests
    cp .venv/stamp build/ray/stamp
}

need_core() {
    .venv/bin/python runtime/native/build.py > /dev/null
}

need_image() {
    need_core
    .venv/bin/cloche image build --quiet
    .venv/bin/cloche image prepare --quiet
}
