#!/usr/bin/env bash
# Installs the Debian packages of one kind (build, test) that are missing here; asks for nothing when all are there.
#   deploy/packages.sh build [test]
set -euo pipefail
cd "$(dirname "$0")"

missing=()
for kind in "$@"; do
    while read -r package; do
        dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing+=("$package")
    done < <(awk -v kind="$kind" '$1 == kind {print $2}' packages.txt)
done
[ ${#missing[@]} -eq 0 ] && exit 0

as_root=()
if [ "$(id -u)" -ne 0 ]; then
    command -v sudo >/dev/null || {
        echo "packages are missing: ${missing[*]}; this user cannot install them; run as root: apt-get install ${missing[*]}" >&2
        exit 1
    }
    as_root=(sudo)
fi
command -v apt-get >/dev/null || {
    echo "packages are missing: ${missing[*]}; there is no apt-get here; install their equivalents and run again" >&2
    exit 1
}
echo "Installing ${#missing[@]} packages: ${missing[*]}"
log=$(mktemp)
trap 'rm -f "$log"' EXIT
if ! { "${as_root[@]}" apt-get update -qq &&
       DEBIAN_FRONTEND=noninteractive "${as_root[@]}" apt-get install -y -qq --no-install-recommends "${missing[@]}"; } >"$log" 2>&1; then
    tail -20 "$log" >&2
    echo "packages could not be installed; apt-get failed as shown above; mend that and run again" >&2
    exit 1
fi
