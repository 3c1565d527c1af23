#!/usr/bin/env bash
# The day's photos, each scored against the bank of the week. Ends with 1 when parts are flagged, with 3 when the bank was
# made from too few photos, with another status when the inspection has not run.
#
#   examples/nightly.sh PHOTOS [BANK] [RESULTS]
#
# As a line of a crontab, with a mail when something is flagged:
#   0 22 * * *  /opt/inspection/nightly.sh /photos/today || mail -s "parts flagged" line@example.org < /dev/null
set -uo pipefail

photos=${1:?usage: nightly.sh PHOTOS [BANK] [RESULTS]}
bank=${2:-$HOME/inspection/parts.safetensors}
results=${3:-$HOME/inspection/$(date +%F)}

codegraph inspect "$bank" "$photos" --out="$results" --exit-code
status=$?
case $status in
  0) echo "nothing flagged" ;;
  1) echo "flagged parts: $results/report.html" ;;
  3) echo "undecided: the bank has too few photographs, see $results/report.html" ;;
  *) echo "the inspection has not run (status $status)" >&2 ;;
esac
exit $status
