#!/usr/bin/env bash
# One shard of a load on each host of an MPI job, then their merge. For Open MPI, MPICH and Intel MPI.
#
#   tools/cluster/mpi/run.sh [FLAGS OF mpirun] -- [FLAGS OF ringmark perf]
#   tools/cluster/mpi/run.sh -np 2 --host node1,node2 -- --url http://server:8000/v1/chat/completions --parallel 400 -n 10000
#
# The flags of ringmark state the load of all hosts together. The hosts share the current folder. In the environment:
#
#   RINGMARK             the program on the hosts [default: ringmark]
#   RINGMARK_OUTPUTS     the shared folder for results [default: outputs]
#   RINGMARK_RENDEZVOUS  dir:PATH or tcp:HOST:PORT, with HOST an address of the first host; pmi with MPICH and Intel MPI
#                        [default: pmi with these, else a directory beside the results]
#   RINGMARK_INTERFACE   a network interface of the hosts, such as eth0: its address is the --shard-address of each shard, so that
#                        they compare their clocks over UDP; by default only tcp: does that
set -euo pipefail

options=()
while [ $# -gt 0 ] && [ "$1" != -- ]; do
    options+=("$1")
    shift
done
[ $# -gt 1 ] || { sed -n '2,15s/^# \{0,1\}//p' "$0" >&2; exit 2; }
shift

ringmark=${RINGMARK:-ringmark}
mkdir -p "${RINGMARK_OUTPUTS:-outputs}"
folder=$(mktemp -d "$(cd "${RINGMARK_OUTPUTS:-outputs}" && pwd)/mpi-XXXXXX")
rendezvous=${RINGMARK_RENDEZVOUS:-}
version=$(mpirun --version 2>&1)
case $version in
*"Open MPI"* | *OpenRTE* | *PRRTE*)
    is_open_mpi=true
    options+=(--map-by ppr:1:node --bind-to none)
    ;;
*)
    is_open_mpi=false
    options+=(-ppn 1)
    ;;
esac
if [ -z "$rendezvous" ]; then
    if $is_open_mpi; then rendezvous=dir:$folder/rendezvous; else rendezvous=pmi; fi
fi
case $rendezvous in
tcp:*)
    [ -n "${RINGMARK_JOB_TOKEN:-}" ] || RINGMARK_JOB_TOKEN=$(od -An -N16 -tx1 /dev/urandom | tr -d ' \n')
    export RINGMARK_JOB_TOKEN
    # The others pass the environment on by themselves.
    ! $is_open_mpi || options+=(-x RINGMARK_JOB_TOKEN)
    ;;
esac
if [ -n "${RINGMARK_INTERFACE:-}" ]; then
    export RINGMARK_INTERFACE
    ! $is_open_mpi || options+=(-x RINGMARK_INTERFACE)
fi

# mpirun ends all processes when one has a status other than 0. Status 1 (a missed objective) and 3 (a void run) are results
# of a shard that the merge shows, and no reason to end the others.
# In an allocation of Slurm, they also have the variables of the step that started them, which number the hosts differently.
shard='
[ -z "${OMPI_COMM_WORLD_RANK:-}" ] || unset SLURM_PROCID SLURM_STEP_NUM_TASKS
if [ -n "${RINGMARK_INTERFACE:-}" ]; then
    address=$(ip -4 -o addr show dev "$RINGMARK_INTERFACE" scope global | sed -n "1s|.* inet \([^/ ]*\).*|\1|p")
    set -- "$@" --shard-address "$address"
fi
"$@"; status=$?; case $status in 1|3) exit 0;; esac; exit $status'
mpirun "${options[@]}" sh -c "$shard" sh \
    "$ringmark" perf --shard auto --rendezvous "$rendezvous" --outputs-dir "$folder" "$@"
exec "$ringmark" merge "$folder" --json "$folder/merged.json" --html "$folder/merged.html"
