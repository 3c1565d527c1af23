#!/usr/bin/env bash
# The week's photos scored together, with last week's verdicts, and a bank for the days to come.
#
#   examples/weekly.sh PHOTOS [HOME_OF_THE_INSPECTION] [FLAGS...]
set -euo pipefail

photos=${1:?usage: weekly.sh PHOTOS [HOME_OF_THE_INSPECTION] [FLAGS...]}
home=${2:-$HOME/inspection}
shift $(($# > 1 ? 2 : 1))

# what a person has said of the groups of earlier weeks
review=()
if [ -f "$home/review.json" ]; then
  review=(--config.review="$home/review.json")
fi
mkdir -p "$home"
codegraph detect "$photos" --out="$home/week" --config.data.cache="$home/cache" \
  --config.bank.save="$home/parts.safetensors" "${review[@]}" "$@"
echo "say what recurs in $home/week/report.html, and save review.json into $home"
