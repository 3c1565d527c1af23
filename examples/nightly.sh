#!/usr/bin/env bash
# Scores the day's photos with the bank of the week. The exit status is 1 if parts are flagged, 3 if the bank was made
# from too few photos, and 2 or another one if the inspection has not run.
#
#   examples/nightly.sh PHOTOS [BANK] [RESULTS]
#
# In a crontab, with a mail that says which of the three it was:
#   PATH=/opt/inspection/env/bin:/usr/bin:/bin
#   0 22 * * *  /opt/inspection/nightly.sh /photos/today >night.txt 2>&1 || tail -1 night.txt | mail -s parts me@a.org
set -uo pipefail

photos=${1:?usage: nightly.sh PHOTOS [BANK] [RESULTS]}
bank=${2:-$HOME/inspection/parts.safetensors}
results=${3:-$HOME/inspection/$(date +%F)}

codegraph inspect "$bank" "$photos" --out="$results" --exit-code
status=$?
case $status in
  0) echo "nothing flagged" ;;
  1) echo "flagged parts: $results/report.html" ;;
  3) echo "parts that are not flagged are unknown, as the bank was made from too few photos: $results/report.html" ;;
  *) echo "the inspection has not run (status $status)" >&2 ;;
esac
exit $status
