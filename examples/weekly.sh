#!/usr/bin/env bash
# Scores all photos of the week together, with the decisions of earlier weeks, and saves a bank for the following days.
#
#   examples/weekly.sh PHOTOS [HOME_OF_THE_INSPECTION] [FLAGS...]
set -euo pipefail

photos=${1:?usage: weekly.sh PHOTOS [HOME_OF_THE_INSPECTION] [FLAGS...]}
home=${2:-$HOME/inspection}
shift $(($# > 1 ? 2 : 1))

# decisions on the groups of earlier weeks
review=()
if [ -f "$home/review.json" ]; then
  review=(--review="$home/review.json")
fi
mkdir -p "$home"
codegraph detect "$photos" --out="$home/week" --config.data.cache="$home/cache" \
  --save-bank="$home/parts.safetensors" "${review[@]}" "$@"
echo "decide what each group is in $home/week/report.html, and save review.json in $home"
