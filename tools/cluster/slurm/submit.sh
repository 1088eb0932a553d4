#!/usr/bin/env bash
# Submits a load and the job that merges its shards when it has ended, however it has ended.
#
#   tools/cluster/slurm/submit.sh [FLAGS OF SBATCH] -- [FLAGS OF ringmark perf]
#   tools/cluster/slurm/submit.sh --nodes=4 --time=30 -- --url http://server:8000/v1/chat/completions --parallel 4000 -n 100000
#
# The flags of sbatch are those of the load; the merge takes partition and account from SBATCH_PARTITION and SBATCH_ACCOUNT.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
options=()
while [ $# -gt 0 ] && [ "$1" != -- ]; do
    options+=("$1")
    shift
done
[ $# -gt 1 ] || { sed -n '2,7s/^# \{0,1\}//p' "$0" >&2; exit 2; }
shift

# With several clusters, the number is followed by the name of the cluster.
job=$(sbatch --parsable "${options[@]}" "$here/perf.sbatch" "$@")
job=${job%%;*}
folder=${RINGMARK_OUTPUTS:-outputs}/slurm-$job
merge=$(sbatch --parsable --dependency="afterany:$job" "$here/merge.sbatch" "$folder")
echo "load: job $job, results in $folder"
echo "merge: job ${merge%%;*}, tables in ringmark-${merge%%;*}.log, figures in $folder/merged.json and merged.html"
