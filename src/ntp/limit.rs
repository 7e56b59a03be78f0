//! How often one client is answered: a bucket of tokens for each, in a table of fixed size. Pure, and
//! without allocation once it is made.
//!
//! A client is an IPv4 address or an IPv6 /64: whoever has one has all of it. The table forgets who has
//! been silent longest; a flood of made-up addresses makes it forget more, and whoever is forgotten
//! begins with a full bucket.

use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;

use refclocks::time::{Raw, Timestamp};

/// Clients in a table, unless told otherwise: 1 MiB.
pub const USUAL_CLIENTS: usize = 1 << 16;

/// Clients that share a place: what fits a cache line.
const WAYS: usize = 4;

/// How often a client is answered.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Limits {
    /// How requests are counted.
    pub counting: Counting,
    /// A reply takes a token from the client's bucket, and one comes back in this time, s.
    pub interval: f64,
    /// Tokens in a full bucket: replies that may follow each other at once.
    pub burst: u8,
    /// Requests that follow each other sooner than this are not answered, s; ntpd's `discard minimum`.
    pub minimum: f64,
    /// Of the requests that come too often, one in 2^leak is answered all the same, at random: somebody who
    /// sends requests in a client's name cannot make us silent to it. `None`: none is.
    pub leak: Option<u8>,
    /// Of those, who is told to ask less.
    pub kiss: Kiss,
}

/// How requests are counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Counting {
    /// By a bucket of tokens, which replies take (chrony, classic ntpd).
    #[default]
    Replies,
    /// By a score, which decays by e in `burst` seconds and which every request raises by 1/`burst`, answered
    /// or not: requests a second. It may be 1/`interval` (NTPsec's `limit`). Whoever goes on asking too
    /// often is not answered at all.
    Requests,
}

/// Which requests too many get a kiss code instead of nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kiss {
    /// None.
    Never,
    /// One in so many powers of two, at random (chrony's `ratelimit kod`).
    OneIn(u8),
    /// Those that come too soon after another while there are tokens left, which they take; then
    /// nothing (ntpd).
    WhileTokensLast,
    /// Those by which a score is not further over the limit than this, in hundredths of a request a second:
    /// whoever asks much more often is a flood in somebody's name, who had better not be told (NTPsec).
    NotFarOver(u16),
}

impl Limits {
    /// chrony's `ratelimit`, with its defaults.
    pub const CHRONY: Self =
        Self { counting: Counting::Replies, interval: 8.0, burst: 8, minimum: 0.0, leak: Some(2), kiss: Kiss::Never };
    /// ntpd's `discard`, with its defaults.
    pub const NTPD: Self = Self {
        counting: Counting::Replies,
        interval: 8.0,
        burst: 8,
        minimum: 2.0,
        leak: None,
        kiss: Kiss::WhileTokensLast,
    };
    /// NTPsec's `limit`, with its defaults.
    pub const NTPSEC: Self = Self {
        counting: Counting::Requests,
        interval: 1.0,
        burst: 20,
        minimum: 0.0,
        leak: None,
        kiss: Kiss::NotFarOver(50),
    };
}

impl Default for Limits {
    /// Three times what a client that begins with a burst and is polled every 8 s needs; whoever asks too often is told
    /// now and then.
    fn default() -> Self {
        Self {
            counting: Counting::Replies,
            interval: 2.0,
            burst: 16,
            minimum: 0.0,
            leak: Some(2),
            kiss: Kiss::OneIn(3),
        }
    }
}

/// What becomes of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admit {
    /// It is answered.
    Answer,
    /// It is answered with the kiss code RATE.
    Kiss,
    /// It is not.
    Drop,
}

/// One client: 16 octets.
#[derive(Clone, Copy, Debug)]
struct Client {
    /// Of the hash of the address; nought: nobody.
    tag: u32,
    /// Tokens in the bucket, or the score.
    tokens: f32,
    /// When it asked last.
    last: Units,
}

/// An instant in units of 2^-20 s.
type Units = u64;

const UNITS: f64 = 1_048_576.0;

/// A set of clients of which each may be at any of its places.
#[derive(Clone, Copy, Debug)]
#[repr(align(64))]
struct Set([Client; WAYS]);

/// The clients of one worker.
#[derive(Clone, Debug)]
pub struct Limiter<S = RandomState> {
    limits: Limits,
    sets: Box<[Set]>,
    hasher: S,
    random: u64,
}

impl Limiter {
    /// A table for that many clients, which nobody can predict.
    pub fn new(limits: Limits, clients: usize) -> Self {
        let hasher = RandomState::new();
        let seed = hasher.hash_one(clients);
        Self::seeded(limits, clients, hasher, seed)
    }
}

impl<S: BuildHasher> Limiter<S> {
    /// A table for that many clients; `hasher` and `seed` settle all that is random about it.
    pub fn seeded(limits: Limits, clients: usize, hasher: S, seed: u64) -> Self {
        let nobody = Client { tag: 0, tokens: 0.0, last: 0 };
        let sets = clients.div_ceil(WAYS).next_power_of_two();
        // Written here, so that no page is first touched while a client waits.
        let sets = vec![Set([nobody; WAYS]); sets].into_boxed_slice();
        Self { limits, sets, hasher, random: seed }
    }

    /// The limits.
    pub fn limits(&self) -> Limits {
        self.limits
    }

    /// Other limits from now on. Nobody is forgotten.
    pub fn set_limits(&mut self, limits: Limits) {
        self.limits = limits;
    }

    /// A request came.
    pub fn admit(&mut self, source: IpAddr, now: Timestamp<Raw>) -> Admit {
        let now = (now - Timestamp::EPOCH).seconds().max(0.0) * UNITS;
        let Limits { counting, interval, burst, minimum, leak, kiss } = self.limits;
        let burst = f32::from(burst.max(1));
        let hash = self.hasher.hash_one(client_of(source));
        let (place, tag) = (hash as usize & (self.sets.len() - 1), (hash >> 32) as u32 | 1);
        let chance = self.draw();
        let Some(Set(clients)) = self.sets.get_mut(place) else { return Admit::Answer };
        let known = clients.iter().position(|client| client.tag == tag);
        // Of strangers, whoever has been silent longest makes room.
        let silent = || clients.iter().enumerate().min_by_key(|(_, client)| client.last).map(|(at, _)| at);
        let Some(client) = known.or_else(silent).and_then(|at| clients.get_mut(at)) else { return Admit::Answer };
        if known.is_none() {
            let tokens = match counting {
                Counting::Replies => burst - 1.0,
                Counting::Requests => burst.recip(),
            };
            *client = Client { tag, tokens, last: now as Units };
            return Admit::Answer;
        }
        // A packet that was stamped before the last one counts as one with it.
        let elapsed = (now - client.last as f64).max(0.0) / UNITS;
        client.last = client.last.max(now as Units);
        let too_soon = elapsed < minimum;
        // How far a score is over its limit, requests a second.
        let mut over = 0.0;
        match counting {
            Counting::Replies => {
                let tokens = (f64::from(client.tokens) + elapsed / interval).min(f64::from(burst));
                client.tokens = tokens as f32;
                if client.tokens >= 1.0 && !too_soon {
                    client.tokens -= 1.0;
                    return Admit::Answer;
                }
            }
            Counting::Requests => {
                client.tokens = client.tokens * libm::expf(-elapsed as f32 / burst) + burst.recip();
                over = f64::from(client.tokens) - interval.recip();
                if over < 0.0 && !too_soon {
                    return Admit::Answer;
                }
            }
        }
        let one_in = |power: u8, bits: u64| bits & ((1 << power.min(31)) - 1) == 0;
        if leak.is_some_and(|power| one_in(power, chance)) {
            return Admit::Answer;
        }
        let told = match kiss {
            Kiss::Never => false,
            Kiss::OneIn(power) => one_in(power, chance >> 32),
            Kiss::WhileTokensLast => client.tokens >= 1.0,
            Kiss::NotFarOver(hundredths) => over <= f64::from(hundredths) / 100.0,
        };
        if kiss == Kiss::WhileTokensLast && told {
            client.tokens -= 1.0;
        }
        if told { Admit::Kiss } else { Admit::Drop }
    }

    /// SplitMix64 (Steele, Lea, Flood 2014).
    fn draw(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

/// What of an address is one client.
fn client_of(address: IpAddr) -> u64 {
    match address.to_canonical() {
        // No /64 begins like this: ::/32 is not routed.
        IpAddr::V4(ip) => u64::from(u32::from(ip)),
        IpAddr::V6(ip) => (u128::from(ip) >> 64) as u64,
    }
}

#[cfg(test)]
mod tests {
    use std::hash::{BuildHasherDefault, DefaultHasher};
    use std::net::Ipv4Addr;

    use super::*;
    use proptest::prelude::*;
    use refclocks::time::Span;

    fn limiter(limits: Limits, clients: usize) -> Limiter<BuildHasherDefault<DefaultHasher>> {
        Limiter::seeded(limits, clients, BuildHasherDefault::default(), 1)
    }

    fn at(seconds: f64) -> Timestamp<Raw> {
        Timestamp::from_parts(1000, 0) + Span::from_seconds(seconds)
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn an_entry_has_16_octets_and_a_set_one_cache_line() {
        assert_eq!(size_of::<Client>(), 16);
        assert_eq!((size_of::<Set>(), align_of::<Set>()), (64, 64));
    }

    /// What becomes of requests at these times, one letter each.
    fn story(limits: Limits, times: &[f64]) -> String {
        let mut limiter = limiter(limits, 64);
        let letter = |time: &f64| match limiter.admit(ip("192.0.2.1"), at(*time)) {
            Admit::Answer => 'a',
            Admit::Kiss => 'k',
            Admit::Drop => '-',
        };
        times.iter().map(letter).collect()
    }

    #[test]
    fn the_meaning_of_the_numbers() {
        let strict = Limits { leak: None, ..Limits::CHRONY };
        let every = |interval: f64, count: usize| (0..count).map(|i| i as f64 * interval).collect::<Vec<_>>();
        // A burst of eight, then one in eight seconds.
        assert_eq!(story(strict, &every(1.0, 26)), "aaaaaaaaa-------a-------a-");
        // Whoever keeps to the interval is always answered; also after a burst.
        assert_eq!(story(strict, &every(8.0, 40)), "a".repeat(40));
        assert_eq!(story(strict, &[0.0, 0.1, 0.2, 0.3, 64.0, 128.0]), "aaaaaa");
        // ntpd: two seconds between packets, or a kiss that takes a token; then nothing.
        assert_eq!(story(Limits::NTPD, &every(2.0, 9)), "a".repeat(9));
        assert_eq!(story(Limits::NTPD, &every(0.5, 12)), "akkkkkkk----");
        assert_eq!(story(Limits { minimum: 0.0, ..Limits::NTPD }, &every(0.0, 10)), "aaaaaaaa--");
        // Time that goes backwards gives nothing.
        assert_eq!(story(Limits { burst: 1, ..strict }, &[100.0, 1.0, 100.5]), "a--");
    }

    #[test]
    fn a_score_counts_requests_answered_or_not() {
        let every = |interval: f64, count: usize| (0..count).map(|i| i as f64 * interval).collect::<Vec<_>>();
        // Fewer than one a second: always; a burst of nineteen as well, and of those beyond the first few are told.
        assert_eq!(story(Limits::NTPSEC, &every(1.1, 200)), "a".repeat(200));
        assert_eq!(story(Limits::NTPSEC, &every(0.0, 40)), "a".repeat(19) + &"k".repeat(11) + &"-".repeat(10));
        // Whoever goes on gets nothing; whoever rests is heard again.
        let story =
            story(Limits::NTPSEC, &[every(0.1, 1000), every(100.0, 1).iter().map(|t| t + 200.0).collect()].concat());
        assert_eq!(&story[..22], "aaaaaaaaaaaaaaaaaaaaak");
        assert!(story[200..1000].bytes().all(|letter| letter == b'-') && story.ends_with('a'), "{story}");
    }

    #[test]
    fn one_in_four_leaks_and_some_are_told() {
        let limits = Limits { kiss: Kiss::OneIn(3), ..Limits::CHRONY };
        let said = story(limits, &vec![0.0; 4008]);
        let share = |letter| said[8..].chars().filter(|c| *c == letter).count() as f64 / 4000.0;
        assert!((share('a') - 0.25).abs() < 0.03, "{}", share('a'));
        assert!((share('k') - 0.75 / 8.0).abs() < 0.02, "{}", share('k'));
    }

    #[test]
    fn a_client_is_an_address_or_a_64() {
        let mut limiter = limiter(Limits { burst: 1, leak: None, ..Limits::CHRONY }, 64);
        let mut asks = |address| limiter.admit(ip(address), at(0.0)) == Admit::Answer;
        assert!(asks("192.0.2.1") && asks("192.0.2.2") && asks("2001:db8:0:1::1") && asks("2001:db8:0:2::1"));
        assert!(!asks("192.0.2.1") && !asks("::ffff:192.0.2.1") && !asks("2001:db8:0:1::2"));
    }

    /// The bar of the issue: 200 clients ask 250 times a second each; those beside them that keep to the
    /// rules lose no reply, whatever becomes of the 200.
    #[test]
    fn well_behaved_clients_lose_nothing_under_a_flood() {
        let mut limiter = limiter(Limits::default(), USUAL_CLIENTS);
        let flooding = |i: u32| IpAddr::V4(Ipv4Addr::from(0x0a00_0000 | i));
        let good = |i: u32| IpAddr::V4(Ipv4Addr::from(0xc0a8_0000 | i));
        let (mut answered, mut asked) = (0u64, 0u64);
        for millis in 0..60_000u32 {
            let now = at(f64::from(millis) / 1000.0);
            if millis % 4 == 0 {
                for client in 0..200 {
                    asked += 1;
                    answered += u64::from(limiter.admit(flooding(client), now) == Admit::Answer);
                }
            }
            // A thousand that begin with four requests, 2 s apart, and then ask every 16 s.
            let client = millis % 1000;
            let second = millis / 1000;
            if matches!(second, 0 | 2 | 4 | 6 | 22 | 38 | 54) {
                assert_eq!(limiter.admit(good(client), now), Admit::Answer, "client {client} at {second} s");
            }
        }
        // The flood leaks, and no more.
        let share = answered as f64 / asked as f64;
        assert!((0.24..0.27).contains(&share), "{share}");
    }

    #[test]
    fn a_flood_from_everywhere_fills_a_table_that_stays_as_it_is() {
        let mut limiter = limiter(Limits::default(), 1024);
        let sets = limiter.sets.len();
        for i in 0..100_000u32 {
            limiter.admit(IpAddr::V4(Ipv4Addr::from(i.wrapping_mul(2_654_435_761))), at(f64::from(i) * 1e-5));
        }
        assert_eq!(limiter.sets.len(), sets);
        // Whoever was forgotten is answered.
        assert_eq!(limiter.admit(ip("192.0.2.1"), at(2.0)), Admit::Answer);
    }

    proptest! {
        /// Never more replies than the bucket and the time allow, with nothing leaking.
        #[test]
        fn replies_are_bounded(gaps in proptest::collection::vec(0.0f64..20.0, 1..200), burst in 1u8..20, log2 in -4i32..5) {
            let interval = f64::from(log2).exp2();
            let limits = Limits { interval, burst, minimum: 0.0, leak: None, kiss: Kiss::Never, ..Limits::CHRONY };
            let mut limiter = limiter(limits, 16);
            let mut now = 0.0;
            let mut answered = 0;
            for gap in gaps {
                now += gap;
                answered += u32::from(limiter.admit(ip("192.0.2.1"), at(now)) == Admit::Answer);
                prop_assert!(f64::from(answered) <= f64::from(burst) + now / interval + 0.01);
            }
        }
    }
}
