#!/usr/bin/env bash
# Finds the package of a kernel for the scripts that source this: `kernel_package 6.12` prints the newest of that series, fetched once by
# apt into the directory $cache; the path of a .deb is printed as it is.
: "${cache:?where kernels are kept}"

kernel_package() {
  case $1 in *.deb) echo "$1"; return ;; esac
  local meta=linux-image-$1-amd64 package
  # Debian 12's own has no package of that form.
  [ "$1" != 6.1 ] || meta=linux-image-amd64
  package=$(apt-cache depends "$meta" | grep -o "linux-image-$1\.[0-9][^ ]*" | head -n 1)
  [ -n "$package" ] || { echo "apt knows no kernel $1" >&2; return 1; }
  mkdir -p "$cache"
  compgen -G "$cache/${package}_*.deb" >/dev/null || (cd "$cache" && apt-get download -qq "$package")
  compgen -G "$cache/${package}_*.deb" | head -n 1
}
