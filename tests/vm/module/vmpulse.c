// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * vmpulse: the true time of the guest, and the pulse of a receiver that knows it.
 *
 * True time is a straight line over CLOCK_MONOTONIC_RAW, which no process can steer, so neither the
 * daemon under test nor anything else in the guest can move it:
 *
 *     true(raw) = knot_true + (raw - knot_raw) * (1 + rate_ppb / 1e9)
 *
 * rate_ppb may be written while it runs: the line then bends at that instant, without a step, as
 * when a crystal warms up. A positive rate means that the guest's crystal loses time.
 *
 * The pulse comes as a PPS device of its own, stamped exactly (no interrupt delay of the emulator is
 * in the stamp, only the jitter that was asked for), or, with line=ttyS1, as an edge on the DCD
 * input of that serial port, where the kernel's own line discipline stamps it; or, with io=0x378, as an
 * interrupt of the parallel port there, where the kernel's pps_parport does.
 *
 * A machine can lose time without noticing: pause_ms lets true time pass while the guest's counter
 * stands, as when a hypervisor pauses it. suspend_ms does the same by putting the kernel's timekeeping
 * to sleep, which then asks the RTC how long it slept, as when a lid is closed.
 *
 * clock_err_ns is the judge: CLOCK_REALTIME minus true UTC, both out of one snapshot of the kernel's
 * timekeeper, so that reading it adds no noise.
 */
#include <linux/delay.h>
#include <linux/hrtimer.h>
#include <linux/io.h>
#include <linux/module.h>
#include <linux/pps_kernel.h>
#include <linux/serial_core.h>
#include <linux/spinlock.h>
#include <linux/syscore_ops.h>
#include <linux/timekeeping.h>
#include <linux/tty.h>
#include <asm/tsc.h>

#define SECOND ((s64)NSEC_PER_SEC)
/* How long after a pulse its stamp is handed over; also how early the DCD edge is woken for. */
#define AFTER_NS 30000
#define BEFORE_NS 300000
/* How long the DCD line stays up. */
#define WIDTH_NS (100 * (s64)NSEC_PER_MSEC)

static long utc_s;
module_param(utc_s, long, 0444);
MODULE_PARM_DESC(utc_s, "true UTC when the module is loaded, s since 1970");

static char *line;
module_param(line, charp, 0444);
MODULE_PARM_DESC(line, "pulse on DCD of this serial port, which must be open, instead of a device");

static ushort io;
module_param(io, ushort, 0444);
MODULE_PARM_DESC(io, "pulse by the parallel port at this address, whose driver is loaded, instead of a device");

static long leap_at;
module_param(leap_at, long, 0444);
MODULE_PARM_DESC(leap_at, "the midnight (UTC, s since 1970) before which a leap second falls; 0: none");

static int leap_by;
module_param(leap_by, int, 0444);
MODULE_PARM_DESC(leap_by, "1: a second is inserted there, -1: one is left out");

static long jitter_ns;
module_param(jitter_ns, long, 0644);
MODULE_PARM_DESC(jitter_ns, "standard deviation of the pulse");

static ulong seed = 1;
module_param(seed, ulong, 0444);
MODULE_PARM_DESC(seed, "the same seed gives the same pulses");

static bool silent;
module_param(silent, bool, 0644);
MODULE_PARM_DESC(silent, "no pulses while this is set");

static DEFINE_SPINLOCK(lock);	/* knot_*, rate */
static u64 knot_raw;
static s64 knot_true;
static long rate;

static struct pps_device *device;
static struct uart_port *port;
static struct hrtimer timer;
static s64 next_second;		/* the continuous second that the next pulse begins */
static u64 next_raw;		/* its instant, jitter included */
static bool line_is_up;
static u64 random;

static s64 utc_of(s64 count);

/* a * parts / 1e9 without overflow for spans of years. */
static s64 scaled(s64 a, long parts)
{
	s64 whole = div64_s64(a, SECOND);

	return whole * parts + div64_s64((a - whole * SECOND) * parts, SECOND);
}

/* The continuous count: UTC as if there had been no leap second since loading. */
static s64 count_at(u64 raw)
{
	unsigned long flags;
	s64 elapsed, count;

	spin_lock_irqsave(&lock, flags);
	elapsed = (s64)(raw - knot_raw);
	count = knot_true + elapsed + scaled(elapsed, rate);
	spin_unlock_irqrestore(&lock, flags);
	return count;
}

/* True UTC for other modules: as the kernel counts it. */
s64 vmpulse_true_at(u64 raw);
s64 vmpulse_true_at(u64 raw)
{
	return utc_of(count_at(raw));
}
EXPORT_SYMBOL_GPL(vmpulse_true_at);

static u64 raw_of(s64 count)
{
	unsigned long flags;
	s64 elapsed, guess;
	u64 raw;

	spin_lock_irqsave(&lock, flags);
	elapsed = count - knot_true;
	/* Twice is enough: the rate is below 1e-2, so what is left is below 1e-6 of 1e-2. */
	guess = elapsed - scaled(elapsed, rate);
	guess = elapsed - scaled(guess, rate);
	guess = elapsed - scaled(guess, rate);
	raw = knot_raw + guess;
	spin_unlock_irqrestore(&lock, flags);
	return raw;
}

/*
 * As the kernel counts: an inserted second repeats 23:59:59, so the clock goes back at midnight; one
 * that is left out is 23:59:59, so the clock goes ahead a second before it.
 */
static s64 utc_of(s64 count)
{
	s64 midnight = leap_at * SECOND;

	if (!leap_at)
		return count;
	if (leap_by > 0 && count >= midnight)
		return count - SECOND;
	if (leap_by < 0 && count >= midnight - SECOND)
		return count + SECOND;
	return count;
}

/* splitmix64: any seed is good, neighbours too. */
static u64 draw(void)
{
	u64 z = (random += 0x9e3779b97f4a7c15ULL);

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ULL;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebULL;
	return z ^ (z >> 31);
}

/* Near enough to a normal deviate: a sum of twelve uniform ones has variance 1. */
static s64 normal(long sigma)
{
	s64 sum = -6 * 65536;
	int i;

	for (i = 0; i < 12; i++)
		sum += draw() & 0xffff;
	return div_s64(sum * sigma, 65536);
}

static void raise_line(bool up)
{
	unsigned long flags;

	spin_lock_irqsave(&port->lock, flags);
	uart_handle_dcd_change(port, up);
	spin_unlock_irqrestore(&port->lock, flags);
	line_is_up = up;
}

/*
 * What stands for the line at the receiver's end of a parallel port: QEMU raises its interrupt when the
 * strobe falls while interrupts are on.
 */
static void strobe(void)
{
	outb(0x1d, io + 2);
	outb(0x1c, io + 2);
}

static void stamp_pulse(void)
{
	struct system_time_snapshot now;
	struct pps_event_time event = { };
	s64 ago;

	ktime_get_snapshot(&now);
	ago = ktime_to_ns(now.raw) - (s64)next_raw;
	event.ts_real = ktime_to_timespec64(ktime_sub_ns(now.real, ago));
	pps_event(device, &event, PPS_CAPTUREASSERT, NULL);
}

static void plan_pulse(void)
{
	s64 second = div64_s64(count_at(ktime_get_raw_ns()), SECOND) + 1;

	/* An early pulse leaves us before its second: that one must not come twice. */
	next_second = max(next_second + 1, second);
	next_raw = raw_of(next_second * SECOND) + normal(jitter_ns);
}

/* The timer runs on the steered clock, so a long wait ends early or late: come back until it is time. */
static enum hrtimer_restart wake(struct hrtimer *t)
{
	s64 aim = (s64)next_raw + (port ? (line_is_up ? WIDTH_NS : -BEFORE_NS) : io ? -BEFORE_NS : AFTER_NS);
	s64 left = aim - (s64)ktime_get_raw_ns();

	if (left <= 0) {
		if (port && line_is_up) {
			raise_line(false);
			plan_pulse();
		} else if (port) {
			while ((s64)(next_raw - ktime_get_raw_ns()) > 0)
				cpu_relax();
			if (silent)
				plan_pulse();
			else
				raise_line(true);
		} else if (io) {
			while ((s64)(next_raw - ktime_get_raw_ns()) > 0)
				cpu_relax();
			if (!silent)
				strobe();
			plan_pulse();
		} else {
			if (!silent)
				stamp_pulse();
			plan_pulse();
		}
		aim = (s64)next_raw + (port ? (line_is_up ? WIDTH_NS : -BEFORE_NS) : io ? -BEFORE_NS : AFTER_NS);
		left = aim - (s64)ktime_get_raw_ns();
	}
	/* All but the last part of a wait, since the two clocks may differ by 2e-2 over a leap second. */
	if (left > NSEC_PER_MSEC)
		left -= max_t(s64, left >> 5, 100000);
	hrtimer_forward_now(t, ns_to_ktime(max_t(s64, left, 1000)));
	return HRTIMER_RESTART;
}

static int set_rate(const char *text, const struct kernel_param *param)
{
	unsigned long flags;
	u64 now;
	s64 elapsed;
	long wish;
	int error = kstrtol(text, 0, &wish);

	if (error)
		return error;
	if (abs(wish) > 1000000)
		return -ERANGE;
	now = ktime_get_raw_ns();
	spin_lock_irqsave(&lock, flags);
	if (knot_raw) {
		elapsed = (s64)(now - knot_raw);
		knot_true += elapsed + scaled(elapsed, rate);
		knot_raw = now;
	}
	rate = wish;
	spin_unlock_irqrestore(&lock, flags);
	return 0;
}

static int get_rate(char *text, const struct kernel_param *param)
{
	return sysfs_emit(text, "%ld\n", rate);
}

static const struct kernel_param_ops rate_ops = { .set = set_rate, .get = get_rate };
module_param_cb(rate_ppb, &rate_ops, NULL, 0644);
MODULE_PARM_DESC(rate_ppb, "how much faster than the guest's crystal true time runs");

/* True time passes, and the counter that it hangs on did not. */
static void lose(s64 ns)
{
	unsigned long flags;

	spin_lock_irqsave(&lock, flags);
	knot_true += ns + scaled(ns, rate);
	spin_unlock_irqrestore(&lock, flags);
	/* The pulses that fell into the gap are not made up for. */
	plan_pulse();
}

static int set_pause(const char *text, const struct kernel_param *param)
{
	long ms;
	int error = kstrtol(text, 0, &ms);

	if (error)
		return error;
	hrtimer_cancel(&timer);
	lose(ms * NSEC_PER_MSEC);
	hrtimer_start(&timer, ns_to_ktime(NSEC_PER_MSEC), HRTIMER_MODE_REL_HARD);
	return 0;
}

static const struct kernel_param_ops pause_ops = { .set = set_pause };
module_param_cb(pause_ms, &pause_ops, NULL, 0200);
MODULE_PARM_DESC(pause_ms, "the machine is paused for so long, and does not notice");

static int set_suspend(const char *text, const struct kernel_param *param)
{
	u64 before, cycles;
	s64 stood;
	long ms;
	int error = kstrtol(text, 0, &ms);

	if (error)
		return error;
	hrtimer_cancel(&timer);
	local_irq_disable();
	before = rdtsc_ordered();
	stood = ktime_get_raw_ns();
	error = syscore_suspend();
	if (!error) {
		mdelay(ms);
		syscore_resume();
	}
	cycles = rdtsc_ordered() - before;
	stood = ktime_get_raw_ns() - stood;
	local_irq_enable();
	/* The counter runs on the TSC, but for the time that it stood. */
	if (!error)
		lose(mul_u64_u64_div_u64(cycles, NSEC_PER_MSEC, tsc_khz) - stood);
	hrtimer_start(&timer, ns_to_ktime(NSEC_PER_MSEC), HRTIMER_MODE_REL_HARD);
	return error;
}

static const struct kernel_param_ops suspend_ops = { .set = set_suspend };
module_param_cb(suspend_ms, &suspend_ops, NULL, 0200);
MODULE_PARM_DESC(suspend_ms, "the kernel's timekeeping sleeps for so long");

static int get_clock_err(char *text, const struct kernel_param *param)
{
	struct system_time_snapshot now;

	ktime_get_snapshot(&now);
	return sysfs_emit(text, "%lld\n",
			  ktime_to_ns(now.real) - utc_of(count_at(ktime_to_ns(now.raw))));
}

static const struct kernel_param_ops clock_err_ops = { .get = get_clock_err };
module_param_cb(clock_err_ns, &clock_err_ops, NULL, 0444);
MODULE_PARM_DESC(clock_err_ns, "CLOCK_REALTIME - true UTC now");

static int get_line(char *text, const struct kernel_param *param)
{
	unsigned long flags;
	int length;

	spin_lock_irqsave(&lock, flags);
	length = sysfs_emit(text, "%llu %lld %ld %ld %d\n", knot_raw, knot_true, rate, leap_at, leap_by);
	spin_unlock_irqrestore(&lock, flags);
	return length;
}

static const struct kernel_param_ops true_line_ops = { .get = get_line };
module_param_cb(true_line, &true_line_ops, NULL, 0444);
MODULE_PARM_DESC(true_line, "knot_raw knot_true rate_ppb leap_at leap_by: true time for other programs");

static struct pps_source_info source = {
	.name = "vmpulse",
	.mode = PPS_CAPTUREASSERT | PPS_OFFSETASSERT | PPS_CANWAIT | PPS_TSFMT_TSPEC,
	.owner = THIS_MODULE,
};

static int __init vmpulse_init(void)
{
	random = seed;
	knot_raw = ktime_get_raw_ns();
	knot_true = utc_s * SECOND;

	if (line) {
		struct tty_struct *tty;
		dev_t number;
		int error = tty_dev_name_to_number(line, &number);

		if (error)
			return error;
		tty = tty_kopen_shared(number);
		if (IS_ERR(tty))
			return PTR_ERR(tty);
		if (!tty)
			return -ENOTCONN;
		/* The port stays when the tty is closed and opened again. */
		port = ((struct uart_state *)tty->driver_data)->uart_port;
		tty_kref_put(tty);
	} else if (!io) {
		device = pps_register_source(&source, PPS_CAPTUREASSERT | PPS_OFFSETASSERT);
		if (IS_ERR(device))
			return PTR_ERR(device);
	}
	plan_pulse();
	hrtimer_init(&timer, CLOCK_MONOTONIC, HRTIMER_MODE_REL_HARD);
	timer.function = wake;
	hrtimer_start(&timer, ns_to_ktime(NSEC_PER_MSEC), HRTIMER_MODE_REL_HARD);
	return 0;
}

static void __exit vmpulse_exit(void)
{
	hrtimer_cancel(&timer);
	if (device)
		pps_unregister_source(device);
}

module_init(vmpulse_init);
module_exit(vmpulse_exit);
MODULE_DESCRIPTION("True time and a receiver's pulse for the tests of refclockd");
MODULE_LICENSE("Dual MIT/GPL");
