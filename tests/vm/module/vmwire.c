// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * vmwire: two Ethernet cards with a wire between them, each with a PTP hardware clock that stamps what leaves and
 * what comes, so that two network namespaces of the guest can talk as over real cards.
 *
 * A frame that is sent waits in its card (tx_latency_ns, exponential), begins on the wire, is wholly there after its
 * length by the link's speed, takes way_ns, and waits at the other end until the kernel looks (rx_latency_ns): so the
 * kernel's stamps are late on both ends, and the cards' are not. As real cards do they stamp where the frame begins,
 * after its preamble; the wait for the kernel begins where it ends.
 *
 * wire1's clock keeps true time, vmpulse's, which the server at its end may so tell exactly. wire0's is a crystal of
 * its own (phc_ppb against CLOCK_MONOTONIC_RAW), may be set and steered, and begins phc_offset_s from nowhere.
 *
 * withhold_tx and withhold_rx: wire0 stops stamping while they are set, and does not say so.
 */
#include <linux/bitops.h>
#include <linux/etherdevice.h>
#include <linux/ethtool.h>
#include <linux/hrtimer.h>
#include <linux/module.h>
#include <linux/net_tstamp.h>
#include <linux/netdevice.h>
#include <linux/ptp_clock_kernel.h>
#include <linux/spinlock.h>
#include <linux/timekeeping.h>
#include <net/busy_poll.h>

#define SECOND ((s64)NSEC_PER_SEC)

s64 vmpulse_true_at(u64 raw);

static int speed = 1000;
module_param(speed, int, 0444);
MODULE_PARM_DESC(speed, "of the link, Mbit/s");

static long way_ns = 5000;
module_param(way_ns, long, 0644);
MODULE_PARM_DESC(way_ns, "how long the wire is");

static long tx_latency_ns;
module_param(tx_latency_ns, long, 0644);
MODULE_PARM_DESC(tx_latency_ns, "how long a frame waits in its card before it leaves: mean");

static long rx_latency_ns;
module_param(rx_latency_ns, long, 0644);
MODULE_PARM_DESC(rx_latency_ns, "how long a frame that came waits for the kernel: mean");

static long phc_ppb;
module_param(phc_ppb, long, 0444);
MODULE_PARM_DESC(phc_ppb, "how much faster wire0's clock runs than the guest's crystal");

static long phc_offset_s = 1000;
module_param(phc_offset_s, long, 0444);
MODULE_PARM_DESC(phc_offset_s, "what wire0's clock reads when the module is loaded");

static bool withhold_tx;
module_param(withhold_tx, bool, 0644);
MODULE_PARM_DESC(withhold_tx, "what leaves wire0 is not stamped");

static bool withhold_rx;
module_param(withhold_rx, bool, 0644);
MODULE_PARM_DESC(withhold_rx, "what comes to wire0 is not stamped");

static bool ptp_only;
module_param(ptp_only, bool, 0444);
MODULE_PARM_DESC(ptp_only, "of what comes the cards can stamp PTP alone");

static ulong seed = 1;
module_param(seed, ulong, 0444);
MODULE_PARM_DESC(seed, "the same seed gives the same waits");

struct card {
	struct net_device *dev;
	struct card *peer;
	struct hwtstamp_config stamping;
	/* The clock: a line over the raw counter, or true time. */
	struct ptp_clock_info info;
	struct ptp_clock *clock;
	spinlock_t clock_lock;
	bool is_true;
	u64 knot_raw;
	s64 knot_at;
	s64 rate;		/* ppb */
	/* What is on its way: first until it has left, then until it is there. */
	spinlock_t lock;
	struct sk_buff_head leaving, coming;
	struct napi_struct napi;
	struct hrtimer timer;
	u64 planned;		/* when it wakes; 0: not at all */
	u64 busy_until, last_arrival;
	u64 random;
};

/* When a frame's turn comes, and when it began here, both on the raw counter. */
struct moment {
	u64 due, began;
};

#define MOMENT(skb) ((struct moment *)(skb)->cb)

static struct card *cards[2];

static s64 device_at(struct card *card, u64 raw)
{
	unsigned long flags;
	s64 elapsed, at;

	if (card->is_true)
		return vmpulse_true_at(raw);
	spin_lock_irqsave(&card->clock_lock, flags);
	elapsed = (s64)(raw - card->knot_raw);
	at = card->knot_at + elapsed + div64_s64(elapsed, SECOND) * card->rate +
		div64_s64((elapsed % SECOND) * card->rate, SECOND);
	spin_unlock_irqrestore(&card->clock_lock, flags);
	return at;
}

/* The line goes on from here, by so much, at that rate. */
static int bend(struct card *card, s64 by, const s64 *to, const s64 *rate)
{
	u64 now = ktime_get_raw_ns();
	s64 at = to ? *to : device_at(card, now) + by;
	unsigned long flags;

	if (card->is_true)
		return -EOPNOTSUPP;
	spin_lock_irqsave(&card->clock_lock, flags);
	card->knot_raw = now;
	card->knot_at = at;
	if (rate)
		card->rate = *rate;
	spin_unlock_irqrestore(&card->clock_lock, flags);
	return 0;
}

#define CARD_OF(clock) container_of(clock, struct card, info)

static int clock_get(struct ptp_clock_info *info, struct timespec64 *at, struct ptp_system_timestamp *system)
{
	u64 raw;

	ptp_read_system_prets(system);
	raw = ktime_get_raw_ns();
	ptp_read_system_postts(system);
	*at = ns_to_timespec64(device_at(CARD_OF(info), raw));
	return 0;
}

static int clock_set(struct ptp_clock_info *info, const struct timespec64 *at)
{
	s64 to = timespec64_to_ns(at);

	return bend(CARD_OF(info), 0, &to, NULL);
}

static int clock_adjust(struct ptp_clock_info *info, s64 by)
{
	return bend(CARD_OF(info), by, NULL, NULL);
}

static int clock_steer(struct ptp_clock_info *info, long scaled_ppm)
{
	s64 rate = phc_ppb + div64_s64((s64)scaled_ppm * 1000, 65536);

	return bend(CARD_OF(info), 0, NULL, &rate);
}

static int clock_enable(struct ptp_clock_info *info, struct ptp_clock_request *request, int on)
{
	return -EOPNOTSUPP;
}

static u64 draw(struct card *card)
{
	u64 z = (card->random += 0x9e3779b97f4a7c15ULL);

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ULL;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebULL;
	return z ^ (z >> 31);
}

/* Near enough to exponential: doublings are geometric, what lies between is even; ln 2 / 1.04 makes the mean right. */
static u64 wait(struct card *card, long mean)
{
	u64 bits = draw(card), halvings = __ffs64(bits | BIT_ULL(20));

	return mean <= 0 ? 0 : ((u64)mean * ((halvings << 16) + (bits >> 48)) / 65536) * 667 / 1000;
}

/* How long a frame takes to pass a point of the wire, check sequence included. */
static u64 length_ns(const struct sk_buff *skb)
{
	return div_u64((u64)(max_t(u32, skb->len, ETH_ZLEN) + ETH_FCS_LEN) * 8000, speed);
}

static void has_left(struct card *card, struct sk_buff *skb)
{
	struct skb_shared_hwtstamps stamp = { .hwtstamp = ns_to_ktime(device_at(card, MOMENT(skb)->began)) };

	if ((skb_shinfo(skb)->tx_flags & SKBTX_IN_PROGRESS) && !(withhold_tx && !card->is_true))
		skb_tstamp_tx(skb, &stamp);
	consume_skb(skb);
}

static void has_come(struct card *card, struct sk_buff *skb)
{
	if (card->stamping.rx_filter != HWTSTAMP_FILTER_NONE && !ptp_only &&
	    !(withhold_rx && !card->is_true))
		skb_hwtstamps(skb)->hwtstamp = ns_to_ktime(device_at(card, MOMENT(skb)->began));
	card->dev->stats.rx_packets++;
	if (__dev_forward_skb(card->dev, skb))
		return;
	/* By this the kernel tells of a stamp which card's it is. */
	skb_mark_napi_id(skb, &card->napi);
	netif_rx(skb);
}

/* The first of a queue whose turn has come; when the next one's does. */
static struct sk_buff *due(struct sk_buff_head *queue, u64 now, u64 *next)
{
	struct sk_buff *skb = skb_peek(queue);

	if (skb && MOMENT(skb)->due <= now)
		return __skb_dequeue(queue);
	if (skb)
		*next = min(*next, MOMENT(skb)->due);
	return NULL;
}

static enum hrtimer_restart wake(struct hrtimer *timer)
{
	struct card *card = container_of(timer, struct card, timer);
	struct sk_buff *left, *came;
	unsigned long flags;
	u64 now, next;

	do {
		now = ktime_get_raw_ns();
		next = U64_MAX;
		spin_lock_irqsave(&card->lock, flags);
		left = due(&card->leaving, now, &next);
		came = due(&card->coming, now, &next);
		card->planned = next == U64_MAX ? 0 : next;
		spin_unlock_irqrestore(&card->lock, flags);
		if (left)
			has_left(card, left);
		if (came)
			has_come(card, came);
	} while (left || came);
	if (next == U64_MAX)
		return HRTIMER_NORESTART;
	hrtimer_forward_now(timer, ns_to_ktime(max_t(s64, next - now, 500)));
	return HRTIMER_RESTART;
}

static void queue(struct card *card, struct sk_buff_head *queue, struct sk_buff *skb, u64 now)
{
	u64 due = MOMENT(skb)->due;
	unsigned long flags;
	bool sooner;

	spin_lock_irqsave(&card->lock, flags);
	__skb_queue_tail(queue, skb);
	sooner = !card->planned || due < card->planned;
	if (sooner)
		card->planned = due;
	spin_unlock_irqrestore(&card->lock, flags);
	if (sooner)
		hrtimer_start(&card->timer, ns_to_ktime(max_t(s64, due - now, 500)), HRTIMER_MODE_REL_SOFT);
}

static netdev_tx_t card_xmit(struct sk_buff *skb, struct net_device *dev)
{
	struct card *card = *(struct card **)netdev_priv(dev), *peer = card->peer;
	u64 now = ktime_get_raw_ns(), length = length_ns(skb), began, there;
	struct sk_buff *copy = skb_copy(skb, GFP_ATOMIC);

	if (card->stamping.tx_type == HWTSTAMP_TX_ON && (skb_shinfo(skb)->tx_flags & SKBTX_HW_TSTAMP))
		skb_shinfo(skb)->tx_flags |= SKBTX_IN_PROGRESS;
	skb_tx_timestamp(skb);
	began = max(now + wait(card, tx_latency_ns), card->busy_until);
	card->busy_until = began + length;
	*MOMENT(skb) = (struct moment){ .due = began + length, .began = began };
	queue(card, &card->leaving, skb, now);
	dev->stats.tx_packets++;
	if (!copy)
		return NETDEV_TX_OK;
	if (!netif_running(peer->dev)) {
		kfree_skb(copy);
		return NETDEV_TX_OK;
	}
	/* Frames do not pass each other. */
	there = max(began + length + way_ns + wait(card, rx_latency_ns), peer->last_arrival);
	peer->last_arrival = there;
	*MOMENT(copy) = (struct moment){ .due = there, .began = began + way_ns };
	queue(peer, &peer->coming, copy, now);
	return NETDEV_TX_OK;
}

static int card_ioctl(struct net_device *dev, struct ifreq *request, int command)
{
	struct card *card = *(struct card **)netdev_priv(dev);
	struct hwtstamp_config wanted;

	if (command == SIOCGHWTSTAMP)
		return copy_to_user(request->ifr_data, &card->stamping, sizeof(wanted)) ? -EFAULT : 0;
	if (command != SIOCSHWTSTAMP)
		return -EOPNOTSUPP;
	if (copy_from_user(&wanted, request->ifr_data, sizeof(wanted)))
		return -EFAULT;
	if (wanted.tx_type != HWTSTAMP_TX_OFF && wanted.tx_type != HWTSTAMP_TX_ON)
		return -ERANGE;
	/* Like many cards it stamps all or nothing. */
	if (wanted.rx_filter != HWTSTAMP_FILTER_NONE)
		wanted.rx_filter = ptp_only ? HWTSTAMP_FILTER_PTP_V2_EVENT : HWTSTAMP_FILTER_ALL;
	card->stamping = wanted;
	return copy_to_user(request->ifr_data, &wanted, sizeof(wanted)) ? -EFAULT : 0;
}

static int card_open(struct net_device *dev)
{
	netif_start_queue(dev);
	netif_carrier_on(dev);
	return 0;
}

static int card_stop(struct net_device *dev)
{
	struct card *card = *(struct card **)netdev_priv(dev);
	unsigned long flags;

	netif_stop_queue(dev);
	hrtimer_cancel(&card->timer);
	spin_lock_irqsave(&card->lock, flags);
	__skb_queue_purge(&card->leaving);
	__skb_queue_purge(&card->coming);
	card->planned = 0;
	spin_unlock_irqrestore(&card->lock, flags);
	return 0;
}

static const struct net_device_ops card_ops = {
	.ndo_open = card_open,
	.ndo_stop = card_stop,
	.ndo_start_xmit = card_xmit,
	.ndo_eth_ioctl = card_ioctl,
	.ndo_set_mac_address = eth_mac_addr,
	.ndo_validate_addr = eth_validate_addr,
};

static int card_abilities(struct net_device *dev, struct ethtool_ts_info *info)
{
	struct card *card = *(struct card **)netdev_priv(dev);

	info->so_timestamping = SOF_TIMESTAMPING_TX_SOFTWARE | SOF_TIMESTAMPING_RX_SOFTWARE |
		SOF_TIMESTAMPING_SOFTWARE | SOF_TIMESTAMPING_TX_HARDWARE | SOF_TIMESTAMPING_RX_HARDWARE |
		SOF_TIMESTAMPING_RAW_HARDWARE;
	info->phc_index = ptp_clock_index(card->clock);
	info->tx_types = BIT(HWTSTAMP_TX_OFF) | BIT(HWTSTAMP_TX_ON);
	info->rx_filters = BIT(HWTSTAMP_FILTER_NONE) |
		(ptp_only ? BIT(HWTSTAMP_FILTER_PTP_V2_EVENT) : BIT(HWTSTAMP_FILTER_ALL));
	return 0;
}

static int card_link(struct net_device *dev, struct ethtool_link_ksettings *link)
{
	link->base.speed = speed;
	link->base.duplex = DUPLEX_FULL;
	return 0;
}

static const struct ethtool_ops card_tools = {
	.get_link = ethtool_op_get_link,
	.get_ts_info = card_abilities,
	.get_link_ksettings = card_link,
};

/* Frames are handed over as they come. */
static int card_poll(struct napi_struct *napi, int budget)
{
	napi_complete_done(napi, 0);
	return 0;
}

static struct card *make_card(int number)
{
	const u8 address[ETH_ALEN] = { 0x02, 0, 0, 0, 0, number + 1 };
	struct card *card = kzalloc(sizeof(*card), GFP_KERNEL);

	if (!card)
		return NULL;
	card->dev = alloc_etherdev(sizeof(struct card *));
	if (!card->dev) {
		kfree(card);
		return NULL;
	}
	*(struct card **)netdev_priv(card->dev) = card;
	spin_lock_init(&card->lock);
	spin_lock_init(&card->clock_lock);
	__skb_queue_head_init(&card->leaving);
	__skb_queue_head_init(&card->coming);
	hrtimer_init(&card->timer, CLOCK_MONOTONIC, HRTIMER_MODE_REL_SOFT);
	card->timer.function = wake;
	card->random = seed * 2 + number;
	card->is_true = number == 1;
	card->knot_raw = ktime_get_raw_ns();
	card->knot_at = phc_offset_s * SECOND;
	card->rate = phc_ppb;
	card->info = (struct ptp_clock_info){
		.owner = THIS_MODULE,
		.max_adj = 100000000,
		.adjfine = clock_steer,
		.adjtime = clock_adjust,
		.gettimex64 = clock_get,
		.settime64 = clock_set,
		.enable = clock_enable,
	};
	snprintf(card->info.name, sizeof(card->info.name), "vmwire%d", number);
	card->dev->netdev_ops = &card_ops;
	card->dev->ethtool_ops = &card_tools;
	eth_hw_addr_set(card->dev, address);
	netif_napi_add(card->dev, &card->napi, card_poll);
	snprintf(card->dev->name, IFNAMSIZ, "wire%d", number);
	return card;
}

static void free_card(struct card *card)
{
	if (!card)
		return;
	free_netdev(card->dev);
	kfree(card);
}

static int start_card(struct card *card)
{
	int error;

	card->clock = ptp_clock_register(&card->info, NULL);
	if (IS_ERR(card->clock))
		return PTR_ERR(card->clock);
	error = register_netdev(card->dev);
	if (error)
		ptp_clock_unregister(card->clock);
	return error;
}

static void end_card(struct card *card)
{
	unregister_netdev(card->dev);
	hrtimer_cancel(&card->timer);
	ptp_clock_unregister(card->clock);
}

static int __init vmwire_init(void)
{
	int error = -ENOMEM;

	cards[0] = make_card(0);
	cards[1] = make_card(1);
	if (!cards[0] || !cards[1])
		goto free;
	cards[0]->peer = cards[1];
	cards[1]->peer = cards[0];
	error = start_card(cards[0]);
	if (error)
		goto free;
	error = start_card(cards[1]);
	if (!error)
		return 0;
	end_card(cards[0]);
free:
	free_card(cards[0]);
	free_card(cards[1]);
	return error;
}

static void __exit vmwire_exit(void)
{
	end_card(cards[0]);
	end_card(cards[1]);
	free_card(cards[0]);
	free_card(cards[1]);
}

module_init(vmwire_init);
module_exit(vmwire_exit);
MODULE_DESCRIPTION("Two network cards with hardware clocks for the tests of refclockd");
MODULE_LICENSE("Dual MIT/GPL");
