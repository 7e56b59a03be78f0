//! Instants, spans and frequencies, with their scale in the type.
//!
//! A [`Timestamp`] holds seconds in Q64.64 fixed point: exact for NTP's 2^-32 s, better than a
//! nanosecond everywhere, and differences never lose precision before they become `f64`.

use std::fmt;
use std::marker::PhantomData;
use std::ops::{Add, AddAssign, Neg, Sub, SubAssign};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Ticks of 2^-64 s in a second.
const TICKS_PER_SECOND: f64 = 18_446_744_073_709_551_616.0;
const NANOS_PER_SECOND: u128 = 1_000_000_000;

/// A time scale. Mixing two of them does not compile:
///
/// ```compile_fail
/// use refclocks::time::{Timestamp, Tai, Utc};
/// let a = Timestamp::<Utc>::from_parts(0, 0);
/// let b = Timestamp::<Tai>::from_parts(0, 0);
/// let _ = a - b;
/// ```
pub trait Scale: Copy + Eq + Ord + fmt::Debug + std::hash::Hash + 'static {
    /// The scale's name, for messages.
    const NAME: &'static str;
}

macro_rules! scale {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name {}
        impl Scale for $name {
            const NAME: &'static str = stringify!($name);
        }
    };
}

scale! {
    /// The free-running oscillator: CLOCK_MONOTONIC_RAW, seconds since boot. Nobody steers it.
    Raw
}
scale! {
    /// The kernel's CLOCK_REALTIME, whatever it happens to say. Scale of all kernel stamps.
    Realtime
}
scale! {
    /// True UTC, counted as POSIX does (no leap seconds), since 1970-01-01.
    Utc
}
scale! {
    /// Continuous atomic time, counted in seconds since 1970-01-01T00:00:00 TAI.
    Tai
}

/// An instant on the scale `S`: seconds since the scale's epoch, Q64.64.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp<S: Scale> {
    ticks: i128,
    scale: PhantomData<S>,
}

impl<S: Scale> Timestamp<S> {
    /// The scale's epoch.
    pub const EPOCH: Self = Self { ticks: 0, scale: PhantomData };

    /// Whole seconds since the epoch and nanoseconds after them. Nanoseconds beyond a second carry.
    pub const fn from_parts(seconds: i64, nanos: u32) -> Self {
        let fraction = ((nanos as u128) << 64) / NANOS_PER_SECOND;
        Self { ticks: ((seconds as i128) << 64) + fraction as i128, scale: PhantomData }
    }

    /// Nanoseconds since the epoch.
    pub const fn from_nanos(nanos: i64) -> Self {
        Self::from_parts(nanos.div_euclid(1_000_000_000), nanos.rem_euclid(1_000_000_000) as u32)
    }

    /// Whole seconds (rounded down to the nanosecond nearest) and nanoseconds `0..1_000_000_000`.
    pub const fn to_parts(self) -> (i64, u32) {
        let seconds = (self.ticks >> 64) as i64;
        let fraction = self.ticks as u64;
        let nanos = ((fraction as u128 * NANOS_PER_SECOND) + (1 << 63)) >> 64;
        if nanos == NANOS_PER_SECOND { (seconds.saturating_add(1), 0) } else { (seconds, nanos as u32) }
    }

    /// Nanoseconds since the epoch, rounded to the nearest; saturates beyond the years 1677 and 2262.
    pub const fn to_nanos(self) -> i64 {
        let (seconds, nanos) = self.to_parts();
        seconds.saturating_mul(1_000_000_000).saturating_add(nanos as i64)
    }

    /// Seconds since the epoch as a float. For display and coarse comparison only: at today's dates
    /// it resolves no better than 0.2 us.
    pub fn seconds(self) -> f64 {
        self.ticks as f64 / TICKS_PER_SECOND
    }

    /// The whole second at or before this instant.
    pub const fn floor(self) -> Self {
        Self { ticks: (self.ticks >> 64) << 64, scale: PhantomData }
    }

    /// The whole second nearest to this instant; halves go up.
    pub const fn round(self) -> Self {
        Self { ticks: ((self.ticks.saturating_add(1 << 63)) >> 64) << 64, scale: PhantomData }
    }

    /// Whole seconds since the epoch, rounded down.
    pub const fn whole_seconds(self) -> i64 {
        (self.ticks >> 64) as i64
    }

    /// The same count of seconds, on another scale. Only the room that knows how the two scales
    /// relate (time base, leap table, clocks) has reason to call this.
    pub const fn reinterpret<T: Scale>(self) -> Timestamp<T> {
        Timestamp { ticks: self.ticks, scale: PhantomData }
    }

    /// Seconds since the epoch, rounded down, and the 64 bits of fraction after them.
    pub const fn to_bits(self) -> (i64, u64) {
        ((self.ticks >> 64) as i64, self.ticks as u64)
    }

    /// The inverse of [`Timestamp::to_bits`].
    pub const fn from_bits(seconds: i64, fraction: u64) -> Self {
        Self { ticks: ((seconds as i128) << 64) | fraction as i128, scale: PhantomData }
    }
}

impl<S: Scale> fmt::Debug for Timestamp<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (seconds, nanos) = self.to_parts();
        write!(f, "{}({seconds}.{nanos:09})", S::NAME)
    }
}

impl<S: Scale> Sub for Timestamp<S> {
    type Output = Span;
    fn sub(self, other: Self) -> Span {
        Span(self.ticks.saturating_sub(other.ticks))
    }
}

impl<S: Scale> Add<Span> for Timestamp<S> {
    type Output = Self;
    fn add(self, span: Span) -> Self {
        Self { ticks: self.ticks.saturating_add(span.0), scale: PhantomData }
    }
}

impl<S: Scale> Sub<Span> for Timestamp<S> {
    type Output = Self;
    fn sub(self, span: Span) -> Self {
        Self { ticks: self.ticks.saturating_sub(span.0), scale: PhantomData }
    }
}

impl<S: Scale> AddAssign<Span> for Timestamp<S> {
    fn add_assign(&mut self, span: Span) {
        *self = *self + span;
    }
}

/// A signed length of time: Q64.64 seconds; arithmetic saturates.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Span(i128);

impl Span {
    /// No time at all.
    pub const ZERO: Self = Self(0);
    /// The longest span there is: "unknown" where a bound is asked for.
    pub const MAX: Self = Self(i128::MAX);

    /// Whole seconds.
    pub const fn from_whole_seconds(seconds: i64) -> Self {
        Self((seconds as i128) << 64)
    }

    /// Seconds; saturates, and NaN becomes zero.
    pub fn from_seconds(seconds: f64) -> Self {
        Self((seconds * TICKS_PER_SECOND) as i128)
    }

    /// Nanoseconds.
    pub const fn from_nanos(nanos: i64) -> Self {
        Self(((nanos as i128) << 64) / NANOS_PER_SECOND as i128)
    }

    /// Milliseconds.
    pub const fn from_millis(millis: i64) -> Self {
        Self(((millis as i128) << 64) / 1000)
    }

    /// Seconds.
    #[inline]
    pub fn seconds(self) -> f64 {
        // Processors convert words, not i128.
        let ticks = self.0.unsigned_abs();
        let seconds = (ticks >> 64) as u64 as f64 + ticks as u64 as f64 / TICKS_PER_SECOND;
        if self.0 < 0 { -seconds } else { seconds }
    }

    /// Nanoseconds, rounded to the nearest; saturates beyond 292 years.
    pub const fn nanos(self) -> i64 {
        Timestamp::<Raw> { ticks: self.0, scale: PhantomData }.to_nanos()
    }

    /// The span without its sign.
    pub const fn abs(self) -> Self {
        Self(self.0.saturating_abs())
    }

    /// The span as a [`std::time::Duration`]; negative spans become zero.
    pub fn to_duration(self) -> std::time::Duration {
        std::time::Duration::from_nanos(u64::try_from(self.nanos()).unwrap_or(0))
    }
}

impl fmt::Debug for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:+.9}s", self.seconds())
    }
}

impl Add for Span {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

impl Sub for Span {
    type Output = Self;
    fn sub(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }
}

impl AddAssign for Span {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

impl SubAssign for Span {
    fn sub_assign(&mut self, other: Self) {
        *self = *self - other;
    }
}

impl Neg for Span {
    type Output = Self;
    fn neg(self) -> Self {
        Self(self.0.saturating_neg())
    }
}

/// A rate against true time in s/s; positive = the local clock gains. Printed as ppm.
#[derive(Clone, Copy, PartialEq, PartialOrd, Default)]
pub struct Frequency(pub f64);

impl Frequency {
    /// Parts per million.
    pub const fn from_ppm(ppm: f64) -> Self {
        Self(ppm * 1e-6)
    }

    /// Parts per million.
    pub const fn ppm(self) -> f64 {
        self.0 * 1e6
    }
}

impl fmt::Debug for Frequency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:+.6}ppm", self.ppm())
    }
}

/// Seconds from the NTP epoch (1900-01-01) to the POSIX epoch (1970-01-01).
pub const NTP_TO_UNIX: i64 = 2_208_988_800;

/// NTP's 64-bit timestamp format (RFC 5905 section 6): 32 bits of seconds since 1900 modulo 2^32
/// (the era is lost), 32 bits of fraction. Zero means "unknown".
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub struct NtpTimestamp(pub u64);

impl NtpTimestamp {
    /// The value that means "unknown".
    pub const UNKNOWN: Self = Self(0);

    /// The nearest NTP timestamp at or before `at`.
    pub const fn from_utc(at: Timestamp<Utc>) -> Self {
        let (seconds, fraction) = at.to_bits();
        let seconds = seconds.wrapping_add(NTP_TO_UNIX) as u32;
        Self(((seconds as u64) << 32) | (fraction >> 32))
    }

    /// The instant this timestamp names, in the era that puts it nearest to `pivot`.
    pub const fn to_utc(self, pivot: Timestamp<Utc>) -> Timestamp<Utc> {
        let pivot_seconds = pivot.whole_seconds().wrapping_add(NTP_TO_UNIX);
        let seconds = (self.0 >> 32) as u32;
        let ahead = seconds.wrapping_sub(pivot_seconds as u32) as i32;
        Timestamp::from_bits(pivot_seconds.wrapping_add(ahead as i64).wrapping_sub(NTP_TO_UNIX), self.0 << 32)
    }
}

impl fmt::Debug for NtpTimestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Ntp({:08x}.{:08x})", self.0 >> 32, self.0 as u32)
    }
}

/// To the last bit: whole seconds, and the 64 bits of fraction after them.
impl<S: Scale> Serialize for Timestamp<S> {
    fn serialize<Z: Serializer>(&self, to: Z) -> Result<Z::Ok, Z::Error> {
        self.to_bits().serialize(to)
    }
}

impl<'de, S: Scale> Deserialize<'de> for Timestamp<S> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let (seconds, fraction) = Deserialize::deserialize(from)?;
        Ok(Self::from_bits(seconds, fraction))
    }
}

/// Spans to the last bit, as a [`Timestamp`] is: for `#[serde(with)]`.
pub mod exact {
    use super::{Deserialize, Deserializer, Raw, Serialize, Serializer, Span, Timestamp};

    /// Writes it.
    ///
    /// # Errors
    ///
    /// The writer's.
    pub fn serialize<Z: Serializer>(span: &Span, to: Z) -> Result<Z::Ok, Z::Error> {
        (Timestamp::<Raw>::EPOCH + *span).serialize(to)
    }

    /// Reads it.
    ///
    /// # Errors
    ///
    /// The reader's.
    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Span, D::Error> {
        Ok(Timestamp::<Raw>::deserialize(from)? - Timestamp::EPOCH)
    }

    /// The same of one that there may not be.
    pub mod option {
        use super::{Deserialize, Deserializer, Raw, Serialize, Serializer, Span, Timestamp};

        /// Writes it.
        ///
        /// # Errors
        ///
        /// The writer's.
        pub fn serialize<Z: Serializer>(span: &Option<Span>, to: Z) -> Result<Z::Ok, Z::Error> {
            span.map(|span| Timestamp::<Raw>::EPOCH + span).serialize(to)
        }

        /// Reads it.
        ///
        /// # Errors
        ///
        /// The reader's.
        pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Span>, D::Error> {
            Ok(Option::<Timestamp<Raw>>::deserialize(from)?.map(|at| at - Timestamp::EPOCH))
        }
    }
}

impl Serialize for Span {
    /// Seconds.
    fn serialize<Z: Serializer>(&self, to: Z) -> Result<Z::Ok, Z::Error> {
        to.serialize_f64(self.seconds())
    }
}

impl Serialize for Frequency {
    /// Parts per million.
    fn serialize<Z: Serializer>(&self, to: Z) -> Result<Z::Ok, Z::Error> {
        to.serialize_f64(self.ppm())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn nanos_round_trip(nanos in any::<i64>()) {
            prop_assert_eq!(Timestamp::<Utc>::from_nanos(nanos).to_nanos(), nanos);
        }

        #[test]
        fn spans_of_nanos_round_trip(nanos in any::<i64>()) {
            prop_assert_eq!(Span::from_nanos(nanos).nanos(), nanos);
        }

        #[test]
        fn adding_a_difference_gives_the_other(a in any::<i64>(), b in any::<i64>()) {
            let (a, b) = (Timestamp::<Utc>::from_nanos(a), Timestamp::<Utc>::from_nanos(b));
            prop_assert_eq!(a + (b - a), b);
        }

        #[test]
        fn ntp_round_trips_within_half_an_era(seconds in -60_000_000_000i64..60_000_000_000, fraction in any::<u32>(), away in -2_000_000_000i64..2_000_000_000) {
            let at = Timestamp::<Utc>::from_bits(seconds, u64::from(fraction) << 32);
            let pivot = at + Span::from_whole_seconds(away);
            prop_assert_eq!(NtpTimestamp::from_utc(at).to_utc(pivot), at);
        }
    }

    #[test]
    fn ntp_epoch_and_era() {
        let unix = Timestamp::<Utc>::EPOCH;
        assert_eq!(NtpTimestamp::from_utc(unix).0, 0x83aa_7e80_0000_0000);
        // 2036-02-07T06:28:16Z is the first second of era 1.
        let era1 = Timestamp::<Utc>::from_parts(2_085_978_496, 0);
        assert_eq!(NtpTimestamp::from_utc(era1).0, 0);
        assert_eq!(NtpTimestamp(1 << 32).to_utc(era1), era1 + Span::from_whole_seconds(1));
    }

    #[test]
    fn rounding_is_to_the_nearest_second() {
        let at = Timestamp::<Utc>::from_nanos(-1_600_000_000);
        assert_eq!(at.floor().whole_seconds(), -2);
        assert_eq!(at.round().whole_seconds(), -2);
        assert_eq!(Timestamp::<Utc>::from_nanos(-1_400_000_000).round().whole_seconds(), -1);
    }

    #[test]
    fn absurd_spans_saturate() {
        assert_eq!(Span::from_seconds(f64::INFINITY), Span::MAX);
        assert_eq!(Span::from_seconds(f64::NAN), Span::ZERO);
        assert!(Span::MAX + Span::from_whole_seconds(1) == Span::MAX);
    }
}
