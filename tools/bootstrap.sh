# Sourced by ./quickstart and ./test: makes .venv with exactly the packages of a lock, and does nothing when it is there.
# Usage: bootstrap LOCK. Needs python3 >= 3.11 with venv; everything else comes from the package index.

say() { printf '%s\n' "$*"; }
die() { printf '%s\n' "$*" >&2; exit 1; }

fits() { "$1" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null; }

find_python() {
  local candidate
  if [ -n "${PYTHON:-}" ]; then
    fits "$PYTHON" || die "PYTHON=$PYTHON is no Python 3.11, 3.12 or 3.13, which Headrace needs: set it to one, or leave it unset."
    printf '%s' "$PYTHON"
    return
  fi
  # A pyenv without one of these as its default has only shims on PATH, which name none.
  for candidate in python3 python3.13 python3.12 python3.11 "${PYENV_ROOT:-${HOME:-}/.pyenv}"/versions/3.1[123].*/bin/python3; do
    if fits "$candidate"; then
      printf '%s' "$candidate"
      return
    fi
  done
  die "Headrace needs Python 3.11, 3.12 or 3.13, and none was found: install python3 (Debian: apt install python3 python3-venv), or set PYTHON to one."
}

bootstrap() {
  local lock=$1 venv=$2 python stamp want base made
  python=$(find_python) || exit 1
  stamp="$venv/.lock"
  base="$("$python" -c 'import os, platform, sys; print(platform.python_version(), os.path.realpath(sys.executable))') $PWD"
  want="$(cat "$lock" pyproject.toml | sha256sum | cut -c1-64) $base"
  made=$(cat "$stamp" 2>/dev/null || true)
  if [ "$made" = "$want" ] && "$venv/bin/python" -c '' 2>/dev/null; then
    return
  fi
  "$python" -c 'import ensurepip, venv' 2>/dev/null ||
    die "$python has no venv module: install it (Debian: apt install python3-venv) and run this again."
  say "Setting up $venv (first time only)"
  rm -f "$stamp"
  # Another interpreter, or another folder: what is in there does not fit.
  if [ "${made#* }" != "$base" ] || ! "$venv/bin/uv" --version >/dev/null 2>&1; then
    "$python" -m venv --clear "$venv" || die "Could not make a virtual environment in $venv: see the lines above."
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check "$(grep -oE '^uv==[^ ]+' "$lock")" ||
      die "Could not install uv: is the package index reachable from here? (pip's message is above.)"
  fi
  translate_pip_settings
  "$venv/bin/uv" pip sync --quiet --python "$venv/bin/python" --require-hashes "$lock" ||
    die "Could not install the packages of $lock: is the package index reachable from here? (uv's message is above.)"
  "$venv/bin/uv" pip install --quiet --python "$venv/bin/python" --no-deps --editable . ||
    die "Could not install Headrace itself: see the lines above."
  printf '%s' "$want" >"$stamp"
}

# uv does not read pip's settings: a mirror or certificate that is set for pip is meant for us too.
translate_pip_settings() {
  [ -n "${PIP_INDEX_URL:-}" ] && [ -z "${UV_DEFAULT_INDEX:-}" ] && export UV_DEFAULT_INDEX="$PIP_INDEX_URL"
  [ -n "${PIP_EXTRA_INDEX_URL:-}" ] && [ -z "${UV_INDEX:-}" ] && export UV_INDEX="$PIP_EXTRA_INDEX_URL"
  [ -n "${PIP_CERT:-}" ] && [ -z "${SSL_CERT_FILE:-}" ] && export SSL_CERT_FILE="$PIP_CERT"
  # Trust what the machine trusts, as pip does: behind a company's own certificate nothing else works.
  [ -f /etc/ssl/certs/ca-certificates.crt ] && export UV_SYSTEM_CERTS="${UV_SYSTEM_CERTS:-true}"
  return 0
}
