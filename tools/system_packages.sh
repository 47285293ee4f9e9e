#!/bin/sh
# Makes sure that the Debian packages in $PACKAGES are installed: installs them when root, else prints
# the command and stops (with OPTIONAL=1 it goes on). On systems without dpkg there is nothing to do.
set -eu
command -v dpkg-query >/dev/null 2>&1 || exit 0
missing=""
for package in $PACKAGES; do
  # A package may have been renamed (libglib2.0-0t64 on newer releases); apt resolves that.
  dpkg-query -W -f='${Status}\n' "$package" "${package}t64" 2>/dev/null | grep -q 'ok installed' || missing="$missing $package"
done
[ -n "$missing" ] || exit 0
if [ "$(id -u)" -eq 0 ]; then
  echo "installing:$missing"
  apt-get update -qq
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing >/dev/null
  exit 0
fi
echo "These packages are missing. Install them, then run make again:"
echo "  sudo apt-get install -y --no-install-recommends$missing"
[ "${OPTIONAL:-0}" = 1 ] || exit 1
