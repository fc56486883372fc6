# shellcheck shell=bash
# Sourced by the scripts beside it, from the root of the repository. Needs Python 3.11 or newer.
# `environment [group...]` makes or renews .venv, adds dependency groups, and puts it on the PATH.

say() { printf '== %s\n' "$*" >&2; }

find_python() {
  local candidate
  for candidate in "${PYTHON:-python3}" python3.11 python3.12 python3.13 python3.14; do
    if "$candidate" -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))' \
      2>/dev/null; then printf '%s\n' "$candidate" && return; fi
  done
  say "needs Python 3.11 or newer with its venv module (Debian: apt-get install python3-venv)"
  return 1
}

install() { .venv/bin/python -m pip install -qq --disable-pip-version-check --no-input "$@"; }

environment() {
  local python group stamp=.venv/.installed
  # A changed pyproject.toml, a moved directory or a removed Python make the old one stale.
  if ! .venv/bin/python -c '' 2>/dev/null \
    || [ "$(head -n 1 "$stamp" 2>/dev/null)" != "$(cksum <pyproject.toml) $PWD" ]; then
    python=$(find_python) || return 1
    say "making .venv with $("$python" --version)"
    "$python" -m venv --clear .venv && install --upgrade 'pip>=25.1' || return 1
    say "installing rendezvous-raft[all]"
    install --editable '.[all]' || return 1
    printf '%s\n' "$(cksum <pyproject.toml) $PWD" >"$stamp"
  fi
  for group in "$@"; do
    if ! grep -qx "$group" "$stamp"; then
      say "installing the dependency group '$group'"
      install --group "$group" || return 1
      printf '%s\n' "$group" >>"$stamp"
    fi
  done
  export PATH="$PWD/.venv/bin:$PATH"
}

# Tests that need a Redis of their own find `redis-server` on the PATH, or skip and say so.
redis_server() { program redis-server; }

# Tests that end programs at a system call, or read their calls, find `strace` on the PATH.
strace_program() { program strace; }

# Installs the Debian package of a program's name if it is missing and that is possible.
program() {
  command -v "$1" >/dev/null && return
  if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    say "installing $1"
    apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -qq -y \
      --no-install-recommends "$1" >/dev/null && return
  fi
  say "$1 is missing: tests that need it will not run"
}
