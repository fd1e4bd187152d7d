"""pycos.config: the names, for programs that read them. Setting one changes nothing."""

from discoro.peers.options import UDP_PORT

PickleProtocolVersion = None
MsgTimeout = 10
MaxConnectionErrors = 10
IPV4_MULTICAST_GROUP = "239.255.97.5"
IPV6_MULTICAST_GROUP = "ff05::674f:48ba:b409:3171:9705"
NetPort = UDP_PORT
MinPulseInterval = MsgTimeout
MaxPulseInterval = 10 * MinPulseInterval
