#!/bin/bash
# The top level holds the owner's list, dotfiles and CMakePresets.json, and nothing else that git
# does not ignore. usage: ... ROOT
set -euo pipefail
cd "$1"
allowed=' CMakeLists.txt CMakePresets.json README.md tools libsearch libruntime kernels calib_data configs tests '

if git rev-parse --git-dir >/dev/null 2>&1 && [[ $(git rev-parse --show-prefix) == '' ]]; then
  mapfile -t names < <(git ls-files --cached --others --exclude-standard | cut -d/ -f1 | sort -u)
else
  mapfile -t names < <(find . -mindepth 1 -maxdepth 1 ! -name build -printf '%f\n' | sort)
fi
failed=0
for name in "${names[@]}"; do
  if [[ $name != .* && $allowed != *" $name "* && -e $name ]]; then
    echo "$name: not on the owner's list for the top level"
    failed=1
  fi
done
exit "$failed"
