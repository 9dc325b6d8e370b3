# shellcheck shell=bash
# Sourced by the other scripts from the project's root: a virtual environment in .venv with the
# project installed, made once and brought up to date where setup.cfg changed.
#   . launch/environment.sh [EXTRA,...]
# EXTRA is one of setup.cfg's, or auto for that of the accelerator which this machine has.

extras="${1:-}"
# CUDA 13 wants a driver of 580 or newer and a GPU of compute capability 7.5 or newer.
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
  for candidate in "${PYTHON:-python3}" python3.13 python3.12 python3.11 python3.14; do
    if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
      echo "$candidate"
      return
    fi
  done
  echo "error: Python 3.11 or newer is needed; install it, or name one: PYTHON=/path/to/python" >&2
  return 1
}

if [ "$extras" = auto ]; then
  extras="$(found_extra)"
  echo "accelerator: ${extras:-none found, so the CPU}"
fi
if [ ! -x .venv/bin/python ]; then
  python="$(find_python)"
  echo "making a virtual environment in .venv"
  # Some systems, such as Colab, split off the part of venv that brings pip; their own pip serves.
  if ! "$python" -m venv .venv >/dev/null 2>&1 &&
    ! { "$python" -m venv --clear --without-pip .venv &&
      "$python" -m pip --python .venv/bin/python install --quiet --disable-pip-version-check pip; }; then
    rm -rf .venv
    echo "error: $python cannot make virtual environments; on Debian: apt install python3-venv" >&2
    exit 1
  fi
fi
# A stamp for the project and one for each extra, so that a call for fewer extras installs nothing.
wanted="$(cat setup.cfg pyproject.toml)"
stale=""
for part in project ${extras//,/ }; do
  [ "$(cat ".venv/installed-$part" 2>/dev/null)" = "$wanted" ] || stale=yes
done
if [ -n "$stale" ]; then
  echo "installing ssagan_jax${extras:+ with $extras} and what it needs (a minute or more)"
  .venv/bin/python -m pip install --quiet --disable-pip-version-check -e ".${extras:+[$extras]}"
  for part in project ${extras//,/ }; do
    printf '%s' "$wanted" > ".venv/installed-$part"
  done
fi
export PATH="$PWD/.venv/bin:$PATH"
