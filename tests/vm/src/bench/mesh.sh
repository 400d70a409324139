# Makes one end of a WireGuard link by hand, over the wire between two guests: number of this end, of the other, key of the other.
set -e
own=$1 other=$2 key=$3
wire=$(grep -l '^52:54:00:4d:45:' /sys/class/net/*/address | cut -d/ -f5)
ip address add "192.0.2.$own/24" dev "$wire"
ip link add wg9 type wireguard
wg set wg9 private-key /run/bench-key listen-port 51900 \
	peer "$key" endpoint "192.0.2.$other:51900" allowed-ips "198.51.100.$other/32"
ip address add "198.51.100.$own/24" dev wg9
ip link set wg9 mtu 1420 up
