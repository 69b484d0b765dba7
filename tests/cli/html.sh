#!/bin/bash
# mi-inspect html as a user meets it, on the report of a search of the tiny model.
# usage: html.sh MI-INSPECT DATA_FOLDER MI-SEARCH
set -euo pipefail
inspect=$1
tool=("$inspect" html)
data=$(cd "$2" && pwd)
search=$3
# shellcheck source=tests/cli/expect.sh
source "$(dirname "$0")/expect.sh"
for ((i = 0; i < 2048; ++i)); do echo $(((i * i + 7 * i) % 200)); done >ids.txt

"$search" --model "$data/tiny-llama.gguf" --tokens ids.txt --lengths 1024 --budget 50% -o one.yaml \
  >out 2>err

# Of a config file, and of a budget: the same heads, but no certificate.
expect 0 one.report.h5 one.yaml -o file.html
is_empty out
is_empty err
expect 0 one.report.h5 --budget 50% -o budget.html
has file.html 'same top token'
has budget.html 'Not certified'
has file.html '<th scope="row">this config</th>'
[[ $(head -n1 file.html) == '<!DOCTYPE html>' ]]
diff <(grep -o '<title>L[^<]*' file.html) <(grep -o '<title>L[^<]*' budget.html)
expect 0 one.report.h5 one.yaml -o again.html
cmp file.html again.html
expect 0 one.report.h5 one.yaml --heads 0.1,1.3 -o again.html

# Every head's title says what `heads` says.
"$inspect" heads one.yaml | while IFS=' .' read -r layer head zero recall pattern _; do
  [[ $layer =~ ^[0-9]+$ ]] || continue
  recall=$zero.$recall
  has file.html "<title>L$layer H$head $pattern, recall $recall,"
done

# What cannot be drawn is one error, and leaves no file.
expect 2 one.report.h5 -o x.html
has err 'config: found none, expected one of a head-config and options to allocate one'
expect 2 one.report.h5 one.yaml --budget 50% -o x.html
has err 'config: found one.yaml and --budget 50%'
expect 2 one.report.h5 one.yaml --heads 0.9 -o x.html
has err 'heads: found 0.9, expected LAYER.HEAD from 0.0 to 1.3'
expect 2 one.report.h5 one.yaml --heads x -o x.html
expect 2 one.report.h5 one.yaml
expect 3 one.yaml one.yaml -o x.html
has err 'one.yaml: found another kind of file, expected a score report'
expect 3 one.report.h5 "$data/config_v1.yaml" -o x.html
has err 'config_v1.yaml: model: found '
sed '0,/source: /s//source: other /' one.yaml >other.yaml
expect 3 one.report.h5 other.yaml -o x.html
has err 'other.yaml: calibration sample 0: found '
has err ' as in one.report.h5'
expect 3 one.report.h5 one.yaml -o absent/x.html
expect 2 one.report.h5 --budget 50% --objective square -o x.html
has err 'objective: one.report.h5 has no squares of lost mass'
[[ ! -e x.html ]]
