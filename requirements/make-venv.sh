# Makes the virtual environment named by $1 with the first Python that is new enough, or says in one line what is missing.
# PYTHON=/path/to/python chooses another one. What is made only in part is removed again.
set -eu

fail() {
    echo "headwater: $1" >&2
    exit 1
}

found=
for python in ${PYTHON:-python3 python3.14 python3.13 python3.12 python3.11}; do
    if "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
        found=$python
        break
    fi
done
if [ -z "$found" ]; then
    fail "Python 3.11 or newer is needed; ${PYTHON:-python3} is $("${PYTHON:-python3}" --version 2>&1 || true)"
fi

# Debian ships venv without ensurepip until python3-venv is installed.
if ! "$found" -c 'import venv, ensurepip' 2>/dev/null; then
    version=$("$found" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
    fail "the venv module of Python $version is missing; install it with: apt install python$version-venv"
fi

trap 'rm -rf "$1"' EXIT
trap 'exit 1' INT TERM
"$found" -m venv --clear "$1" || fail "$found could not make a virtual environment in $1"
# Python 3.11 brings an old setuptools too. Nothing here needs it; dev.txt pins one for the tools that do.
"$1/bin/python" -m pip uninstall --quiet --yes --disable-pip-version-check setuptools 2>/dev/null
trap - EXIT
