# Hosts in network namespaces, for scripts that have a network, mount and PID namespace of their own (source it). All
# addresses are in 10.77.0.0/24: this script's own 254, the server 100, the hosts n0, n1, ... from 1 on.

make_hosts() {
    local name
    # Names of namespaces that end with this script's mount namespace.
    mkdir -p /run/netns
    mount -t tmpfs hosts /run/netns
    cat /proc/sys/kernel/random/uuid >/run/netns/boot_id
    ip link set lo up
    ip link add hosts type bridge
    ip addr add 10.77.0.254/24 dev hosts
    ip link set hosts up
    for name in server "$@"; do
        make_host "$name" "$(address_of "$name")"
    done
}

address_of() {
    case $1 in
    server) echo 10.77.0.100 ;;
    n*) echo "10.77.0.$((${1#n} + 1))" ;;
    *) return 1 ;;
    esac
}

make_host() {
    local name=$1 address=$2
    ip netns add "$name"
    ip link add "to-$name" type veth peer name eth0 netns "$name"
    ip link set "to-$name" master hosts up
    ip -n "$name" addr add "$address/24" dev eth0
    ip -n "$name" link set eth0 up
    ip -n "$name" link set lo up
    ip -n "$name" route add default via 10.77.0.254
}

# Runs a command on a host: in its network namespace, with its name. `ip netns exec` would mount another /sys, in which Slurm
# does not find its control groups. All hosts have one kernel and so one clock; n1 shows the id of another boot, so that programs
# take its clock for another one.
on() {
    local name=$1
    shift
    nsenter --net="/run/netns/$name" unshare --uts --mount sh -c '
        hostname "$1"
        [ "$1" != n1 ] || mount --bind /run/netns/boot_id /proc/sys/kernel/random/boot_id
        shift
        exec "$@"' sh "$name" "$@"
}
