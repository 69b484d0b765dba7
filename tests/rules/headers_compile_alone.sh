#!/bin/bash
# Every header says all that it needs. usage: ... ROOT CXX [COMPILER FLAGS...]
# -inl.h files are parts of a target region and not meant to stand alone.
set -euo pipefail
root=$1
cxx=$2
shift 2

cd "$root"
folders=()
for folder in kernels libruntime libsearch tools; do
  if [[ -d $folder ]]; then folders+=("$folder"); fi
done
find "${folders[@]}" -name '*.h' ! -name '*-inl.h' -print0 | sort -z |
  xargs -0 -P 2 -I {} "$cxx" -std=c++20 -fopenmp -fsyntax-only -Wall -Wextra -Werror -I . "$@" \
    -include {} -x c++ /dev/null
