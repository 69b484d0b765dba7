#!/bin/bash
# Every header says all that it needs. usage: ... ROOT CXX [COMPILER FLAGS...]
# One that its own source includes first has compiled alone in the build; the others do so here.
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
headers=()
while read -r header; do
  source=${header%.h}.cpp
  if [[ ! -f $source || $(grep -m1 '^#include' "$source") != "#include \"$header\"" ]]; then
    headers+=("$header")
  fi
done < <(find "${folders[@]}" -name '*.h' ! -name '*-inl.h' | sort)
[[ ${#headers[@]} -gt 0 ]] || exit 0
printf '%s\0' "${headers[@]}" |
  xargs -0 -P 2 -I {} "$cxx" -std=c++20 -fopenmp -fsyntax-only -Wall -Wextra -Werror -I . "$@" \
    -include {} -x c++ /dev/null
