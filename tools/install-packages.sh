#!/bin/sh
# Installs the Debian packages that building, testing and the demo need: only what is missing, and says what.
# Without root, or where everything is present, it changes nothing.
set -eu

# package:file that shows that it is there
needed="
iproute2:ip
ethtool:ethtool
curl:curl
nftables:nft
tcpdump:tcpdump
clang-14:clang-14
valgrind:valgrind
llvm-14:llvm-strip-14
procps:sysctl
nginx:nginx
libnginx-mod-stream:/usr/lib/nginx/modules/ngx_stream_module.so
haproxy:haproxy
keepalived:keepalived
conntrackd:conntrackd
redis-server:redis-server
redis-tools:redis-cli
openssh-server:sshd
openssh-client:ssh
websocketd:websocketd
wrk:wrk
linux-libc-dev:/usr/include/linux/bpf.h
"

PATH="$PATH:/usr/sbin:/sbin"
missing=""
for pair in $needed; do
    package=${pair%%:*}
    proof=${pair#*:}
    case $proof in
    /*) [ -e "$proof" ] || missing="$missing $package" ;;
    *) command -v "$proof" >/dev/null 2>&1 || missing="$missing $package" ;;
    esac
done

if [ -z "$missing" ]; then
    exit 0
fi
if [ "$(id -u)" -ne 0 ]; then
    echo "Missing Debian packages:$missing" >&2
    echo "Install them as root: apt-get install --no-install-recommends$missing" >&2
    exit 1
fi
if ! command -v apt-get >/dev/null 2>&1; then
    echo "Missing:$missing; this is not a Debian system, install their like by hand." >&2
    exit 1
fi
echo "Installing Debian packages:$missing"
export DEBIAN_FRONTEND=noninteractive

# The demo starts servers of its own: none of these shall start now, on the machine itself, nor at its next boot.
policy=/usr/sbin/policy-rc.d
if [ ! -e $policy ]; then
    trap 'rm -f $policy' EXIT
    printf '#!/bin/sh\nexit 101\n' >$policy
    chmod 755 $policy
fi
# The lists may be fresh enough already; if not, fetch them and try once more.
# shellcheck disable=SC2086
apt-get install -y -qq --no-install-recommends $missing || {
    apt-get update -qq
    apt-get install -y -qq --no-install-recommends $missing
}
for pair in nginx:nginx haproxy:haproxy keepalived:keepalived conntrackd:conntrackd redis-server:redis-server openssh-server:ssh; do
    case " $missing " in
    *" ${pair%%:*} "*) systemctl --quiet disable "${pair#*:}" 2>/dev/null || true ;;
    esac
done
