#!/bin/sh
# system_package.sh WHAT PACKAGE...: install Debian or Ubuntu packages, as root or by sudo without a
# password. Where that cannot be, say in one line what to install, and fail.
what=$1
shift

if [ "$(id -u)" = 0 ]; then
  as_root=
elif command -v sudo >/dev/null && sudo -n true 2>/dev/null; then
  as_root="sudo -n"
else
  as_root=none
fi

install() {
  $as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >&2
}

if [ "$as_root" != none ] && command -v apt-get >/dev/null; then
  echo "Installing $*, for $what" >&2
  # A fresh machine has no package lists yet, or old ones.
  install "$@" 2>/dev/null || { $as_root apt-get update -qq >&2 && install "$@"; } && exit 0
fi
[ $# = 1 ] && packages="the package $1" || packages="the packages $*"
echo "$what is missing: install $packages (apt-get install $*, as root) and try again" >&2
exit 1
