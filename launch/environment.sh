# shellcheck shell=bash
# Sourced by the other scripts from the project's root: creates a virtual environment in .venv with
# the project installed, and updates it when setup.cfg changes.
#   . launch/environment.sh [EXTRA,...]
# EXTRA is one of the extras in setup.cfg, or auto: the extra for this machine's accelerator.
# LATEST=1 installs the newest allowed versions, not those in launch/constraints.txt; CONSTRAINTS=FILE
# those of another file. VENV=DIR names another folder than .venv. Commands that follow use tcmalloc
# if the machine has it, see docs/launch.md. Ends the shell if something cannot be installed.

unset CDPATH # With it, cd prints and searches folders.
extras="${1:-}"
venv="${VENV:-.venv}"
# CUDA 13 requires driver 580 or newer and a GPU of compute capability 7.5 or newer.
found_extra() {
  local gpus driver capability
  if gpus="$(nvidia-smi --query-gpu=driver_version,compute_cap --format=csv,noheader 2>/dev/null)"; then
    IFS=', ' read -r driver capability <<< "$gpus"
    [ "${driver%%.*}" -ge 580 ] && [ "${capability/./}" -ge 75 ] && echo cuda13 || echo cuda12
  elif compgen -G '/dev/accel[0-9]*' >/dev/null || compgen -G '/dev/vfio/[0-9]*' >/dev/null; then
    echo tpu
  fi
}
find_python() {
  local candidate
  # TensorFlow has no version for Python 3.14 yet.
  for candidate in "${PYTHON:-python3}" python3.13 python3.12 python3.11; do
    if "$candidate" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null; then
      echo "$candidate"
      return
    fi
  done
  echo "error: Python 3.11, 3.12 or 3.13 not found; install it, or set PYTHON=/path/to/python" >&2
  return 1
}

if [ "$extras" = auto ]; then
  extras="$(found_extra)"
  echo "accelerator: ${extras:-none found, using the CPU}"
fi
# Without pip it was interrupted, or Python has been upgraded.
if ! "$venv/bin/python" -c 'import pip' >/dev/null 2>&1; then
  python="$(find_python)" || exit 1
  echo "creating a virtual environment in $venv"
  mkdir -p "$venv" || exit 1
  # Colab and Debian package ensurepip separately; without it, the system's pip installs pip.
  if ! "$python" -m venv --clear "$venv" >/dev/null 2>&1 &&
    ! { "$python" -m venv --clear --without-pip "$venv" &&
      "$python" -m pip --python "$venv/bin/python" install --quiet --disable-pip-version-check pip; }; then
    rm -rf "$venv"
    echo "error: $python cannot create a virtual environment in $venv" >&2
    "$python" -c 'import ensurepip' 2>/dev/null || echo "on Debian: apt install python3-venv" >&2
    exit 1
  fi
fi
# One stamp file for the project and for each extra, so that a subset of extras installs nothing.
constraints="${CONSTRAINTS:-launch/constraints.txt}"
pip_options=(--quiet --disable-pip-version-check)
if [ -n "${LATEST:-}" ]; then
  constraints=/dev/null
  pip_options+=(--upgrade --upgrade-strategy eager)
fi
wanted="$(cat setup.cfg pyproject.toml "$constraints" && "$venv/bin/python" -c 'import sys; print(sys.version)')"
stale=""
for part in project ${extras//,/ }; do
  [ "$(cat "$venv/installed-$part" 2>/dev/null)" = "$wanted" ] || stale=yes
done
if [ -n "$stale" ]; then
  echo "installing ssagan_jax${extras:+ with $extras} and its dependencies (a minute or more)"
  PIP_USER=0 "$venv/bin/python" -m pip install "${pip_options[@]}" -c "$constraints" \
    -e ".${extras:+[$extras]}" || exit 1
  for part in project ${extras//,/ }; do
    printf '%s' "$wanted" > "$venv/installed-$part"
  done
fi
export PATH="$(cd "$venv" && pwd)/bin:$PATH"
tcmalloc="$(PATH="$PATH:/sbin:/usr/sbin" ldconfig -p 2>/dev/null |
  sed -n 's/.*libtcmalloc\(_minimal\)\?\.so\.[0-9]* .*=> //p' | head -n 1)" || true
if [ -n "$tcmalloc" ] && [[ "${LD_PRELOAD:-}" != *malloc* ]]; then
  export LD_PRELOAD="${LD_PRELOAD:+$LD_PRELOAD:}$tcmalloc"
fi
