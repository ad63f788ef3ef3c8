# Shared by the scripts: installs what is missing, quickly when nothing is. Source it from the root of the
# project. Works as root, and as a user with sudo.

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
VENV=$ROOT/.venv
BASE_PACKAGES="libfuse3-dev fuse3 pkg-config gcc libc6-dev ca-certificates"
TEST_PACKAGES="vim nano sqlite3 git rsync fio attr acl tar zip unzip make procps util-linux strace patch libglib2.0-bin python3-gi zsh fish mandoc groff man-db"

say() { printf '%s\n' "$*" >&2; }
die() { say "$0: $*"; exit 1; }

as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"
    elif command -v sudo >/dev/null; then sudo "$@"
    else die "needs root for: $*; install sudo, or run it as root yourself"
    fi
}

# Prints those of the named Debian packages that are not installed.
missing_packages() {
    local name
    for name in "$@"; do
        dpkg-query -W -f '${db:Status-Status}' "$name" 2>/dev/null | grep -qx installed || printf '%s ' "$name"
    done
}

install_packages() {
    local missing
    missing=$(missing_packages "$@")
    [ -z "$missing" ] && return
    command -v apt-get >/dev/null || die "install these packages first: $missing"
    say "installing Debian packages: $missing"
    as_root env DEBIAN_FRONTEND=noninteractive apt-get update -qq
    # shellcheck disable=SC2086 # a list of words
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing >/dev/null
}

# Prints the first interpreter that is new enough and can make a virtual environment with headers.
usable_python() {
    local name
    for name in "${PYTHON:-python3}" python3.13 python3.12 python3.11; do
        command -v "$name" >/dev/null || continue
        "$name" - <<'PY' 2>/dev/null && { command -v "$name"; return 0; }
import os, sys, sysconfig
import ensurepip, venv
header = os.path.join(sysconfig.get_path("include"), "Python.h")
sys.exit(0 if sys.version_info >= (3, 11) and os.path.exists(header) else 1)
PY
    done
    return 1
}

find_python() {
    usable_python && return
    install_packages python3 python3-dev python3-venv
    usable_python || die "Python 3.11 or later is needed; Debian 12 has it"
}

# Makes .venv with everything that requirements.lock names, and the project itself.
install_venv() {
    local python wanted
    wanted=$(cat "$ROOT/requirements.lock" "$ROOT/pyproject.toml" | sha256sum | cut -c1-40)
    [ "$(cat "$VENV/.installed" 2>/dev/null)" = "$wanted" ] && return
    python=$(find_python) || exit 1
    say "installing Python packages into .venv"
    [ -x "$VENV/bin/python" ] || "$python" -m venv "$VENV"
    "$VENV/bin/python" -m pip install -q --disable-pip-version-check -r "$ROOT/requirements.lock"
    "$VENV/bin/python" -m pip install -q --disable-pip-version-check --no-deps --no-build-isolation -e "$ROOT"
    printf '%s\n' "$wanted" >"$VENV/.installed"
}

# Runs a step under its name and tells how long it took.
step() {
    local name=$1 began=$SECONDS code=0
    shift
    say "== $name"
    "$@" || code=$?
    say "== $name: $([ $code = 0 ] && echo ok || echo "failed ($code)"), $((SECONDS - began)) s"
    return $code
}
