#!/usr/bin/env bash
# What mpirun starts instead of ssh: remote.sh [FLAGS] HOST COMMAND..., where HOST is the address or the name of a host of
# hosts.sh.
set -euo pipefail
. "$(dirname "$0")/hosts.sh"

while [[ $1 == -* ]]; do
    shift
done
host=$1
shift
case $host in
10.77.0.100) host=server ;;
10.77.0.*) host=n$((${host##*.} - 1)) ;;
esac
on "$host" sh -c "$*"
