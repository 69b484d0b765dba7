#!/bin/bash
# Each rule passes on a clean tree and fails on a seeded violation. usage: ... CXX NM AR
set -euo pipefail
cxx=$1
nm=$2
ar=$3
rules=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# must pass|fail RULE ARGS...
must() {
  local want=$1 rule=$2 got=pass
  shift 2
  "$rules/$rule.sh" "$@" >"$work/log" 2>&1 || got=fail
  if [[ $got != "$want" ]]; then
    echo "$rule: $got, expected $want, on: $*"
    cat "$work/log"
    exit 1
  fi
}

tree() {
  rm -rf "$work/tree"
  mkdir -p "$work/tree"/{kernels,libruntime,libsearch,tools}
  cd "$work/tree"
  echo '#pragma once' | tee kernels/a.h libruntime/b.h libsearch/c.h >/dev/null
  echo '#include "kernels/a.h"' >libruntime/b.cpp
  printf '#include "libruntime/b.h"\n#include <yaml-cpp/yaml.h>\n' >libsearch/c.cpp
}
# seed FILE LINE: the clean tree with one line added.
seed() {
  tree
  echo "$2" >>"$1"
}

tree
must pass include_direction "$work/tree"
must pass headers_compile_alone "$work/tree" "$cxx"
must pass top_level "$work/tree"

seed kernels/a.h '#include "libruntime/b.h"' && must fail include_direction "$work/tree"
seed kernels/a.cpp '  #  include "libsearch/c.h"' && must fail include_direction "$work/tree"
seed libruntime/b.cpp '#include "libsearch/c.h"' && must fail include_direction "$work/tree"
seed libsearch/c.cpp '#include "tools/t.h"' && must fail include_direction "$work/tree"
seed libsearch/c.h '#include <yaml-cpp/yaml.h>' && must fail include_direction "$work/tree"
seed libsearch/c.h '#include <H5Cpp.h>' && must fail include_direction "$work/tree"
seed libruntime/b.h '#include <CLI/CLI.hpp>' && must fail include_direction "$work/tree"
seed libsearch/c.h '#include <dnnl.hpp>' && must fail include_direction "$work/tree"
seed kernels/a.h '#include <cuda_runtime.h>' && must fail include_direction "$work/tree"
seed libruntime/b.cpp '#include <hdf5.h>' && must fail include_direction "$work/tree"

seed libsearch/c.h 'std::string needs_an_include();' && must fail headers_compile_alone "$work/tree" "$cxx"
echo '#include "libsearch/c.h"' >libsearch/c.cpp && must pass headers_compile_alone "$work/tree" "$cxx"
seed LICENSES 'x' && must fail top_level "$work/tree"
tree && git init -q . && must pass top_level "$work/tree"
echo x >notes.txt && must fail top_level "$work/tree"

# archive SOURCE: a static archive of one file.
archive() {
  cd "$work"
  rm -f lib.a
  echo "$1" >lib.cpp
  "$cxx" -std=c++20 -c lib.cpp -o lib.o
  "$ar" rc lib.a lib.o
}
archive '#include <vector>
int f(std::vector<int> v) { if (v.empty()) throw 1; v.push_back(2); return v.at(0); }'
must pass no_abort_no_stdout "$nm" "$work/lib.a"
for body in 'std::abort();' 'std::exit(1);' 'std::printf("x%d", n);' 'std::puts("x");' \
  'std::cout << n;' 'std::cerr << n;' 'std::fprintf(stderr, "%d", n);'; do
  archive "#include <cstdio>
#include <cstdlib>
#include <iostream>
void f(int n) { (void)n; $body }"
  must fail no_abort_no_stdout "$nm" "$work/lib.a"
done
must fail no_abort_no_stdout "$nm" "$work/absent.a"
echo 'every rule can fail'
