/*
 * Steers the frames of owned addresses to the AF_XDP socket of their queue; the kernel gets the
 * rest.
 *
 * One screen per protocol. Every frame is counted once, under the rule that decided it (enum
 * verdict). A rule that says "ours" still answers XDP_PASS when no socket is bound to the queue.
 *
 *   ours:  TCP to an owned address and one of its port ranges
 *          ICMP and ICMPv6 echo requests to an owned address
 *          ICMP and ICMPv6 errors to an owned address that quote a TCP segment from it and from one
 *          of its ports
 *          ARP that asks for or claims an owned address; neighbour solicitations and
 *          advertisements about one, and advertisements sent to one
 *          UDP to the cluster endpoint
 *
 * Left to the kernel on purpose: fragments (they may have no ports, and a client that honours our
 * MSS sends none), VLAN-tagged frames (attach to the VLAN interface instead), IPv6 extension
 * headers (hardly any path carries them in front of TCP; IPv4 options are skipped, they cost one
 * addition), other ICMP. Checksums are not looked at.
 *
 * The destination MAC is looked at where a node listens to what clients say to another one
 * (`hears`): TCP that is sent elsewhere is dropped if nobody here could use it, so that it costs no
 * poll core anything. Everywhere else the socket's reader looks at it.
 *
 * Plain C without libbpf's headers: <linux/bpf.h> is enough.
 */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/tcp.h>
#include <linux/udp.h>

#define SEC(name) __attribute__((section(name), used))
#define INLINE static inline __attribute__((always_inline))
#define MAP_TYPE(value) int (*type)[value]
#define MAP_ENTRIES(value) int (*max_entries)[value]
#define HOST16(value) __builtin_bswap16(value)

static void *(*const map_lookup)(void *map, const void *key) = (void *)BPF_FUNC_map_lookup_elem;
static long (*const redirect_map)(void *map, __u64 key,
				  __u64 flags) = (void *)BPF_FUNC_redirect_map;

#define RANGES_MAX 8 /* port ranges of one address; as RANGES_MAX in xdp_program.rs */
#define ADDRESSES_MAX 1024
#define QUEUES_MAX 64
#define MACS_MAX 128

/* The order is that of `Verdict` in xdp_program.rs. */
enum verdict {
	TO_SOCKET_TCP,
	TO_SOCKET_ECHO,
	TO_SOCKET_ERROR,
	TO_SOCKET_ARP,
	TO_SOCKET_NEIGHBOR,
	TO_SOCKET_CLUSTER,
	PASS_NO_SOCKET,	 /* ours, but nothing is bound to this queue */
	PASS_OTHER,	 /* not ours by any rule */
	PASS_OTHER_PORT, /* TCP to an owned address, outside its port ranges */
	PASS_FRAGMENT,	 /* to an owned address */
	PASS_EXTENSION,	 /* IPv6 extension header, to an owned address */
	PASS_MALFORMED,	 /* the headers that a rule needs are not there */
	DROP_OVERHEARD,	 /* TCP to another host, for a service that is not followed here */
	DROP_IDLE,	 /* TCP to another host, for a service that is followed: brings nothing */
	VERDICTS,
};

struct address {
	__u32 word[4]; /* network order; IPv4 as ::ffff:a.b.c.d */
};

/* What is taken of the TCP that is sent to another host; as `Hears` in xdp_program.rs. */
enum hears {
	HEARS_ALL,   /* the service is served here, or nobody listens */
	HEARS_NEWS,  /* it is followed here: what a copy may miss */
	HEARS_NOTHING,
};

struct service {
	__u16 ranges;
	__u16 hears;
	struct {
		__u16 first, last; /* host order, both included */
	} range[RANGES_MAX];
};

struct endpoint {
	struct address address;
	__u16 port; /* host order */
	__u16 reserved;
};

struct {
	MAP_TYPE(BPF_MAP_TYPE_HASH);
	MAP_ENTRIES(ADDRESSES_MAX);
	struct address *key;
	struct service *value;
} SERVICES SEC(".maps");

/* This host's hardware addresses: the interface's and those of services. */
struct {
	MAP_TYPE(BPF_MAP_TYPE_HASH);
	MAP_ENTRIES(MACS_MAX);
	__u64 *key; /* six bytes, then zeros */
	__u32 *value; /* 1: the interface's own; 0: a service's, at which others may listen as well */
} MACS SEC(".maps");

struct {
	MAP_TYPE(BPF_MAP_TYPE_HASH);
	MAP_ENTRIES(2); /* the old and the new one while it changes */
	struct endpoint *key;
	__u32 *value;
} CLUSTER SEC(".maps");

struct {
	MAP_TYPE(BPF_MAP_TYPE_XSKMAP);
	MAP_ENTRIES(QUEUES_MAX);
	int (*key_size)[4];
	int (*value_size)[4];
} SOCKETS SEC(".maps");

struct {
	MAP_TYPE(BPF_MAP_TYPE_PERCPU_ARRAY);
	MAP_ENTRIES(VERDICTS);
	__u32 *key;
	__u64 *value;
} COUNTERS SEC(".maps");

INLINE void count(__u32 verdict)
{
	__u64 *counter = map_lookup(&COUNTERS, &verdict);
	if (counter)
		(*counter)++;
}

INLINE int pass(__u32 verdict)
{
	count(verdict);
	return XDP_PASS;
}

INLINE int drop(__u32 verdict)
{
	count(verdict);
	return XDP_DROP;
}

INLINE int to_socket(struct xdp_md *context, __u32 verdict)
{
	long action = redirect_map(&SOCKETS, context->rx_queue_index, XDP_PASS);
	count(action == XDP_REDIRECT ? verdict : PASS_NO_SOCKET);
	return action;
}

/* `pass` for a frame that only an owned address makes interesting. */
INLINE int pass_if_owned(const struct address *address, __u32 verdict)
{
	return pass(map_lookup(&SERVICES, address) ? verdict : PASS_OTHER);
}

INLINE struct address mapped(const void *ipv4)
{
	struct address address;
	address.word[0] = address.word[1] = 0;
	address.word[2] = 0xffff0000; /* little-endian hosts only, as the object is */
	__builtin_memcpy(&address.word[3], ipv4, 4);
	return address;
}

INLINE int owns_port(const struct service *service, __u16 port)
{
	for (int i = 0; i < RANGES_MAX && i < service->ranges; i++)
		if (service->range[i].first <= port && port <= service->range[i].last)
			return 1;
	return 0;
}

/*
 * Hearing. A peer that listens receives every frame of the clients of a service twice over: as
 * records and as they are. Of the latter only what its copies might miss may reach it: a segment
 * with payload, SYN, FIN or RST. `length` is that of the TCP header and what follows.
 */

INLINE int brings_news(const struct tcphdr *segment, __u16 length)
{
	return segment->syn || segment->fin || segment->rst || length > segment->doff * 4;
}

INLINE int overheard(struct xdp_md *context, const struct service *service,
		     const struct tcphdr *segment, __u16 length)
{
	struct ethhdr *ethernet = (void *)(long)context->data;
	__u64 mac = 0;
	if ((void *)(ethernet + 1) > (void *)(long)context->data_end)
		return pass(PASS_MALFORMED);
	__builtin_memcpy(&mac, ethernet->h_dest, ETH_ALEN);
	__u32 *own = map_lookup(&MACS, &mac);
	if (own && *own)
		return to_socket(context, TO_SOCKET_TCP);
	if (service->hears == HEARS_NEWS)
		return brings_news(segment, length) ? to_socket(context, TO_SOCKET_TCP)
						    : drop(DROP_IDLE);
	return own ? to_socket(context, TO_SOCKET_TCP) : drop(DROP_OVERHEARD);
}

/* TCP and UDP of both IP versions; `head` is the transport header, `length` says the packet. */

INLINE int tcp(struct xdp_md *context, void *head, const struct address *destination, __u16 length)
{
	struct tcphdr *segment = head;
	struct service *service = map_lookup(&SERVICES, destination);
	if (!service)
		return pass(PASS_OTHER);
	if ((void *)(segment + 1) > (void *)(long)context->data_end)
		return pass(PASS_MALFORMED);
	if (!owns_port(service, HOST16(segment->dest)))
		return pass(PASS_OTHER_PORT);
	if (service->hears != HEARS_ALL)
		return overheard(context, service, segment, length);
	return to_socket(context, TO_SOCKET_TCP);
}

INLINE int udp(struct xdp_md *context, void *head, const struct address *destination)
{
	struct udphdr *datagram = head;
	if ((void *)(datagram + 1) > (void *)(long)context->data_end)
		return pass(PASS_MALFORMED);
	struct endpoint endpoint = {.address = *destination, .port = HOST16(datagram->dest)};
	if (!map_lookup(&CLUSTER, &endpoint))
		return pass(PASS_OTHER);
	return to_socket(context, TO_SOCKET_CLUSTER);
}

/* ARP for IPv4 on Ethernet (RFC 826), gratuitous ones included (RFC 5227). */

struct arp {
	__be16 hardware, protocol;
	__u8 hardware_length, protocol_length;
	__be16 operation;
	__u8 sender_mac[ETH_ALEN], sender[4];
	__u8 target_mac[ETH_ALEN], target[4];
} __attribute__((packed));

INLINE int arp(struct xdp_md *context, void *head)
{
	struct arp *arp = head;
	if ((void *)(arp + 1) > (void *)(long)context->data_end)
		return pass(PASS_MALFORMED);
	if (arp->hardware != HOST16(1) || arp->protocol != HOST16(ETH_P_IP) ||
	    arp->hardware_length != ETH_ALEN || arp->protocol_length != 4)
		return pass(PASS_OTHER);
	struct address target = mapped(arp->target), sender = mapped(arp->sender);
	if (!map_lookup(&SERVICES, &target) && !map_lookup(&SERVICES, &sender))
		return pass(PASS_OTHER);
	return to_socket(context, TO_SOCKET_ARP);
}

/* IPv4 (RFC 791): options are skipped, fragments passed. */

#define ICMP_UNREACHABLE 3
#define ICMP_ECHO_REQUEST 8
#define ICMP_TIME_EXCEEDED 11
#define ICMP_PARAMETER_PROBLEM 12
#define IPV4_FRAGMENT HOST16(0x3fff) /* more-fragments flag and offset */

/* The head of the packet that an error is about, as far as its ports; ours have no IP options. */
INLINE int quoted_ipv4(struct xdp_md *context, void *head, const struct address *destination)
{
	struct iphdr *ip = head;
	__be16 *ports = (void *)(ip + 1);
	if ((void *)(ports + 2) > (void *)(long)context->data_end)
		return pass(PASS_MALFORMED);
	struct address source = mapped(&ip->saddr);
	struct service *service = map_lookup(&SERVICES, &source);
	if (!service || source.word[3] != destination->word[3] || ip->version != 4 || ip->ihl != 5 ||
	    ip->protocol != IPPROTO_TCP || !owns_port(service, HOST16(ports[0])))
		return pass(PASS_OTHER);
	return to_socket(context, TO_SOCKET_ERROR);
}

INLINE int icmp(struct xdp_md *context, void *head, const struct address *destination)
{
	__u8 *message = head;
	if (!map_lookup(&SERVICES, destination))
		return pass(PASS_OTHER);
	if ((void *)(message + 8) > (void *)(long)context->data_end)
		return pass(PASS_MALFORMED);
	switch (message[0]) {
	case ICMP_ECHO_REQUEST:
		return to_socket(context, TO_SOCKET_ECHO);
	case ICMP_UNREACHABLE:
	case ICMP_TIME_EXCEEDED:
	case ICMP_PARAMETER_PROBLEM:
		return quoted_ipv4(context, message + 8, destination);
	default:
		return pass(PASS_OTHER);
	}
}

INLINE int ipv4(struct xdp_md *context, void *head)
{
	struct iphdr *ip = head;
	if ((void *)(ip + 1) > (void *)(long)context->data_end || ip->version != 4 || ip->ihl < 5)
		return pass(PASS_MALFORMED);
	struct address destination = mapped(&ip->daddr);
	if (ip->frag_off & IPV4_FRAGMENT)
		return pass_if_owned(&destination, PASS_FRAGMENT);
	head += ip->ihl * 4;
	if (ip->protocol == IPPROTO_TCP)
		return tcp(context, head, &destination, HOST16(ip->tot_len) - ip->ihl * 4);
	if (ip->protocol == IPPROTO_UDP)
		return udp(context, head, &destination);
	if (ip->protocol == IPPROTO_ICMP)
		return icmp(context, head, &destination);
	return pass(PASS_OTHER);
}

/* IPv6 (RFC 8200) without extension headers, and neighbour discovery (RFC 4861). */

#define ICMPV6_ERROR_LAST 4 /* unreachable, too big, time exceeded, parameter problem: 1 to 4 */
#define ICMPV6_ECHO_REQUEST 128
#define NEIGHBOR_SOLICITATION 135
#define NEIGHBOR_ADVERTISEMENT 136
#define EXTENSION_HOP_BY_HOP 0
#define EXTENSION_ROUTING 43
#define EXTENSION_FRAGMENT 44
#define EXTENSION_DESTINATION 60

struct neighbor {
	__u8 type, code;
	__be16 checksum;
	__be32 flags;
	struct address target;
};

/* As quoted_ipv4; our packets have no extension headers. */
INLINE int quoted_ipv6(struct xdp_md *context, void *head)
{
	struct ipv6hdr *ip = head;
	struct address source;
	__be16 *ports = (void *)(ip + 1);
	if ((void *)(ports + 2) > (void *)(long)context->data_end)
		return pass(PASS_MALFORMED);
	__builtin_memcpy(&source, &ip->saddr, sizeof(source));
	struct service *service = map_lookup(&SERVICES, &source);
	if (!service || ip->version != 6 || ip->nexthdr != IPPROTO_TCP ||
	    !owns_port(service, HOST16(ports[0])))
		return pass(PASS_OTHER);
	return to_socket(context, TO_SOCKET_ERROR);
}

INLINE int icmpv6(struct xdp_md *context, void *head, const struct address *destination)
{
	struct neighbor *message = head;
	void *end = (void *)(long)context->data_end;
	if ((void *)&message->target > end)
		return pass(PASS_MALFORMED);
	if (message->type == ICMPV6_ECHO_REQUEST && map_lookup(&SERVICES, destination))
		return to_socket(context, TO_SOCKET_ECHO);
	if (message->type && message->type <= ICMPV6_ERROR_LAST && map_lookup(&SERVICES, destination))
		return quoted_ipv6(context, &message->target);
	if (message->type != NEIGHBOR_SOLICITATION && message->type != NEIGHBOR_ADVERTISEMENT)
		return pass(PASS_OTHER);
	if ((void *)(message + 1) > end)
		return pass(PASS_MALFORMED);
	struct address target = message->target;
	if (map_lookup(&SERVICES, &target))
		return to_socket(context, TO_SOCKET_NEIGHBOR);
	if (message->type == NEIGHBOR_ADVERTISEMENT && map_lookup(&SERVICES, destination))
		return to_socket(context, TO_SOCKET_NEIGHBOR);
	return pass(PASS_OTHER);
}

INLINE int ipv6(struct xdp_md *context, void *head)
{
	struct ipv6hdr *ip = head;
	struct address destination;
	if ((void *)(ip + 1) > (void *)(long)context->data_end || ip->version != 6)
		return pass(PASS_MALFORMED);
	__builtin_memcpy(&destination, &ip->daddr, sizeof(destination));
	switch (ip->nexthdr) {
	case IPPROTO_TCP:
		return tcp(context, ip + 1, &destination, HOST16(ip->payload_len));
	case IPPROTO_UDP:
		return udp(context, ip + 1, &destination);
	case IPPROTO_ICMPV6:
		return icmpv6(context, ip + 1, &destination);
	case EXTENSION_FRAGMENT:
		return pass_if_owned(&destination, PASS_FRAGMENT);
	case EXTENSION_HOP_BY_HOP:
	case EXTENSION_ROUTING:
	case EXTENSION_DESTINATION:
		return pass_if_owned(&destination, PASS_EXTENSION);
	default:
		return pass(PASS_OTHER);
	}
}

INLINE int decide(struct xdp_md *context)
{
	struct ethhdr *ethernet = (void *)(long)context->data;
	if ((void *)(ethernet + 1) > (void *)(long)context->data_end)
		return pass(PASS_MALFORMED);
	switch (ethernet->h_proto) {
	case HOST16(ETH_P_IP):
		return ipv4(context, ethernet + 1);
	case HOST16(ETH_P_IPV6):
		return ipv6(context, ethernet + 1);
	case HOST16(ETH_P_ARP):
		return arp(context, ethernet + 1);
	default:
		return pass(PASS_OTHER);
	}
}

/*
 * Frames may lie in several buffers (jumbo MTU); the headers are in the first. Kernels before 5.18
 * and some drivers take the other one only, and with it no frame longer than a buffer.
 */
SEC("xdp.frags") int steer(struct xdp_md *context)
{
	return decide(context);
}

SEC("xdp") int steer_single(struct xdp_md *context)
{
	return decide(context);
}

/* The helpers used here need no GPL, but the kernel wants to be told something. */
char LICENSE[] SEC("license") = "Apache-2.0";
