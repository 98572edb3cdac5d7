#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# A bare Debian 12 gets heddle as deploy/README.md tells an operator to install it, and lives: packages, build, install target, units
# verified, doctor, scheduler and two workers from the units' ExecStart lines as their user, a request, a drain, clean exits. By name
# only: it needs root, debootstrap and a mirror, and takes some minutes.
#
#   tests/deploy/chroot.sh [FOLDER]     FOLDER: a root made by debootstrap, kept; else one is made and removed
#
# The clone's committed state is what is installed. The last line counts.
set -euo pipefail
repo=$(cd "$(dirname "$0")/../.." && pwd)
mirror=${DEBIAN_MIRROR:-http://deb.debian.org/debian}

if [ "${1:-}" = --inside ]; then
    passed=0
    fail() { echo "FAILED: $*" >&2; echo "$passed passed, 1 failed, 0 skipped"; exit 1; }
    ok() { passed=$((passed + 1)); echo "ok: $*"; }
    cd /srv/heddle

    deploy/packages.sh build
    apt-get install -y -qq --no-install-recommends systemd >/dev/null
    { cmake --preset release && cmake --build --preset release --target heddle heddle-scheduler heddle-worker; } >/tmp/build.log 2>&1 ||
        { tail -20 /tmp/build.log; fail "the build"; }
    cmake --install build/release --prefix /usr >/tmp/install.log || fail "the install target"
    ok "installed $(wc -l </tmp/install.log) files"

    systemd-sysusers
    install -d -m 750 -g heddle /etc/heddle
    install -Dm640 -g heddle /usr/share/doc/heddle/{scheduler,worker}.yaml -t /etc/heddle
    said=$(systemd-analyze verify --man=no heddle-scheduler.service heddle-worker@0.service 2>&1) || fail "units: $said"
    [ -z "$said" ] || fail "units: $said"
    ok "systemd-analyze verify says nothing"
    for unit in heddle-scheduler.service heddle-worker@.service; do
        level=$(systemd-analyze security --offline=true --no-pager "/usr/lib/systemd/system/$unit" | sed -n 's/.*exposure level for [^:]*: \([0-9.]*\).*/\1/p')
        awk -v x="$level" 'BEGIN {exit !(x != "" && x < 2)}' || fail "$unit: exposure $level, 2.0 at most"
        ok "$unit: exposure $level"
    done

    heddle doctor --config /etc/heddle/scheduler.yaml || fail "heddle doctor"
    ok "heddle doctor finds no fault"

    # RuntimeDirectory=, StateDirectory= of the units
    install -d -m 700 -o heddle -g heddle /run/heddle /var/lib/heddle
    start() { # unit log
        local line
        line=$(sed -n 's/^ExecStart=//p' "/usr/lib/systemd/system/$1")
        # shellcheck disable=SC2086
        WORKER_ARGS= setpriv --reuid heddle --regid heddle --init-groups --no-new-privs ${line/ \$WORKER_ARGS/} >"/tmp/$2.log" 2>&1 &
        pid=$!
    }
    start heddle-scheduler.service scheduler; scheduler=$pid
    start heddle-worker@.service worker0; workers=("$pid")
    start heddle-worker@.service worker1; workers+=("$pid")
    answer=$(heddle run http://127.0.0.1:8080 "What is 12 plus 30?" --wait 60) || { cat /tmp/scheduler.log; fail "a request"; }
    case $answer in *42*) ok "a request: $answer" ;; *) fail "a request: $answer" ;; esac
    heddle cluster status --scheduler unix:/run/heddle/workers.sock || fail "heddle cluster status"

    heddle run http://127.0.0.1:8080 "What can you do?" >/tmp/last 2>&1 & asking=$!
    heddle cluster drain --scheduler unix:/run/heddle/workers.sock || fail "heddle cluster drain"
    wait "$asking" || true # admitted or refused; both are right
    kill -TERM "$scheduler" 2>/dev/null || true
    wait "$scheduler" || { tail /tmp/scheduler.log; fail "the scheduler ended with $?"; }
    ok "a drain, then exit code 0"
    for w in "${workers[@]}"; do
        kill -TERM "$w" 2>/dev/null || true
        wait "$w" || { tail /tmp/worker*.log; fail "a worker ended with $?"; }
    done
    ok "workers: exit code 0"
    echo "$passed passed, 0 failed, 0 skipped"
    exit 0
fi

[ "$(id -u)" -eq 0 ] || { echo "this needs root, for chroot and mount; run it as root" >&2; exit 1; }
root=${1:-}
temporary=
if [ -z "$root" ]; then
    command -v debootstrap >/dev/null || { echo "debootstrap is missing; install it, or name a folder that it made" >&2; exit 1; }
    root=$(mktemp -d) temporary=$root
    echo "Debian 12 into $root"
    debootstrap --variant=minbase bookworm "$root" "$mirror" >"$root.log" 2>&1 || { tail -5 "$root.log" >&2; exit 1; }
fi
leave() {
    local m
    for m in run sys dev proc; do
        ! mountpoint -q "$root/$m" || umount -l "$root/$m"
    done
    [ -z "$temporary" ] || rm -rf --one-file-system "$temporary" "$temporary.log"
}
trap leave EXIT
mount -t proc proc "$root/proc"
mount --rbind /dev "$root/dev"
mount --make-rslave "$root/dev"
mount -t sysfs -o ro sys "$root/sys"
mount -t tmpfs run "$root/run"
cp /etc/resolv.conf "$root/etc/resolv.conf"
find /etc/apt/apt.conf.d -name '*proxy*' -exec cp {} "$root/etc/apt/apt.conf.d/" \;
rm -rf "$root/srv/heddle"
git clone -q "$repo" "$root/srv/heddle"
chroot "$root" /usr/bin/env -i HOME=/tmp PATH=/usr/sbin:/usr/bin:/sbin:/bin bash /srv/heddle/tests/deploy/chroot.sh --inside
