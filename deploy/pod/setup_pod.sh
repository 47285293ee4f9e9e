#!/bin/sh
# Makes a machine into a worker: Blender as a Python package, the worker's scripts, and a rendered image as proof.
#   PREFIX   where to (default /opt/posefactory)
#   PYTHON   a Python 3.11 (default python3.11)
#   DIFFUSERS  anything: the packages of the extra `diffusers` too, for machines that make variants
set -eu
SOURCE=$(cd "$(dirname "$0")/../.." && pwd)
PREFIX=${PREFIX:-/opt/posefactory}
PYTHON=${PYTHON:-python3.11}

if command -v apt-get >/dev/null 2>&1 && [ "$(id -u)" -eq 0 ]; then
  apt-get update -qq
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends ca-certificates python3-venv \
    libegl1 libegl-mesa0 libgl1 libgl1-mesa-dri libgomp1 libxkbcommon0 libsm6 libxi6 libxrender1 libxxf86vm1 libxfixes3 >/dev/null
fi
"$PYTHON" -m venv "$PREFIX/venv"
"$PREFIX/venv/bin/python" -m pip install --quiet --disable-pip-version-check -c "$SOURCE/constraints.txt" \
  bpy "numpy<2" dagster-pipes runpod
if [ -n "${DIFFUSERS:-}" ]; then
  # The versions stand in pyproject.toml; an image with others is refused.
  "$PYTHON" -c 'import sys, tomllib
print("\n".join(tomllib.load(open(sys.argv[1], "rb"))["project"]["optional-dependencies"]["diffusers"]))' \
    "$SOURCE/pyproject.toml" >"$PREFIX/diffusers.txt"
  "$PREFIX/venv/bin/python" -m pip install --quiet --disable-pip-version-check -c "$SOURCE/constraints.txt" \
    -r "$PREFIX/diffusers.txt" pillow
fi
rm -rf "$PREFIX/app"
mkdir -p "$PREFIX/app" "${WORKSPACE_ROOT:-$PREFIX/workspace}"
cp -R "$SOURCE/blender_scripts" "$PREFIX/app/"
mkdir -p "$PREFIX/app/posefactory_dagster"
cp "$SOURCE/posefactory_dagster/__init__.py" "$PREFIX/app/posefactory_dagster/"
cp -R "$SOURCE/posefactory_dagster/diffusion" "$PREFIX/app/posefactory_dagster/"
cd "$PREFIX/app"
"$PREFIX/venv/bin/python" -m blender_scripts.worker.selfcheck \
  "$SOURCE/assets_data/characters/ada_walk.glb" "$SOURCE/assets_data/rigs/mixamo.json"
