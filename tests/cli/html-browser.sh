#!/bin/bash
# The page in a browser: its script runs without a complaint and shows the config's heads.
# usage: html-browser.sh MI-INSPECT DATA_FOLDER MI-SEARCH
set -euo pipefail
tool=$1
data=$(cd "$2" && pwd)
search=$3
browser=$(command -v chromium || command -v chromium-browser || true)
if [[ -z $browser ]]; then
  echo 'skipped: no chromium (Debian package chromium)'
  exit 77
fi
# shellcheck source=tests/cli/expect.sh
source "$(dirname "$0")/expect.sh"
for ((i = 0; i < 2048; ++i)); do echo $(((i * i + 7 * i) % 200)); done >ids.txt
"$search" --model "$data/tiny-llama.gguf" --tokens ids.txt --lengths 512,1024 --budget 60% \
  -o one.yaml >out 2>err
"$tool" html one.report.h5 one.yaml -o page.html

# page HASH OUT: the document after its script ran.
page() {
  HOME=$work timeout 120 "$browser" --headless --no-sandbox --disable-gpu \
    --user-data-dir="$work/profile" --enable-logging=stderr --dump-dom "file://$work/page.html$1" \
    >"$2" 2>browser.err || {
    echo "$browser failed:"
    cat browser.err
    exit 1
  }
  if grep 'CONSOLE' browser.err; then
    echo 'the page complained'
    exit 1
  fi
}

page '' dom.html
has dom.html 'No budget up to 50 % can be kept'
[[ $(grep -o 'role="gridcell"' dom.html | wc -l) == 24 ]]
[[ $(grep -o 'role="row"' dom.html | wc -l) == 6 ]]
[[ $(grep -o 'role="gridcell" aria-label="L0 H0 [^"]*" tabindex="0"' dom.html | wc -l) == 3 ]]

# The details of single heads, by their links.
heads=0
while IFS=' .' read -r layer head zero recall pattern _; do
  recall=$zero.$recall
  [[ $layer =~ ^[0-9]+$ && $((layer + head)) -lt 3 ]] || continue
  page "#L$layer.H$head" head.html
  has head.html "Layer $layer, head $head</h2>"
  has head.html "aria-label=\"L$layer H$head $pattern, recall $recall,"
  grep -o 'id="detail-pattern">[^<]*' head.html >pattern.txt
  has pattern.txt "id=\"detail-pattern\">$pattern"
  has pattern.txt "Recall $recall"
  [[ $(grep -o '<svg class="chart cloud"' head.html | wc -l) == 2 ]]
  [[ $(grep -o '<canvas class="mass"' head.html | wc -l) == 3 ]]
  has head.html "<title>Recall by position of layer $layer, head $head</title>"
  heads=$((heads + 1))
done < <("$tool" heads one.yaml)
[[ $heads == 5 ]]
